//! What a connection tells of what it sent again, beside what the network saw of it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm,
        connection::{Config, Stats},
        packet::{DATA_HEADER, Frame, Frames, Header, PacketType},
    },
};

use crate::transport::sim::Sim;

/// The server's statistics of a download, and how many of its packets carried bytes again on the wire.
fn download(link: &str, seed: u64, algorithm: Algorithm) -> (Stats, u64) {
    let mut sim = Sim::new(link, link, Config::default(), seed);
    sim.client(algorithm, &[1_000_000, 300_000]);
    let again = Rc::new(Cell::new(0));
    let count = Rc::clone(&again);
    // How far each stream was sent.
    let ends: RefCell<BTreeMap<u64, u64>> = RefCell::default();
    sim.path.tap = Some(Box::new(move |way, datagram, _| {
        let header = Header::parse(&datagram.bytes);
        if way == Way::Up || !header.is_ok_and(|header| header.packet == PacketType::Data) {
            return true;
        }
        // The checksum stands at the end.
        let frames = &datagram.bytes[DATA_HEADER..datagram.bytes.len() - 4];
        let mut repeats = false;
        for frame in Frames::new(frames).flatten() {
            if let Frame::Stream(stream) = frame {
                let mut ends = ends.borrow_mut();
                let known = ends.entry(stream.id).or_default();
                let end = stream.offset + stream.data.len() as u64;
                repeats |= !stream.data.is_empty() && end <= *known;
                *known = end.max(*known);
            }
        }
        count.set(count.get() + u64::from(repeats));
        true
    }));
    let arrived = sim.download(Duration::from_secs(600));
    let served = sim.server.all().next();
    let server = served.map(|served| (served.connection.stats(), &served.application.events));
    let client = &sim.clients[0];
    let client = (
        client.peer.connection.stats(),
        &client.peer.application.events,
    );
    assert!(
        arrived.is_some(),
        "{link} {algorithm} {seed}: it does not arrive: {server:?} {client:?}"
    );
    let served = sim.server.served.values().next().expect("one");
    (served.connection.stats(), again.get())
}

#[test]
fn each_packet_that_repeats_has_one_reason_and_the_sum_is_what_the_network_saw() {
    let (mut probing, mut doubled) = (0, 0);
    for (n, link) in [
        "rate=10mbit,delay=15ms,queue=37500B,loss=3",
        "rate=10mbit,delay=15ms,loss=6,burst=3",
        "rate=5mbit,delay=10ms,reorder=20,reorder_by=8ms,loss=1",
    ]
    .iter()
    .enumerate()
    {
        for algorithm in Algorithm::ALL {
            for seed in 0..4 {
                let (stats, again) = download(link, seed + 10 * n as u64, algorithm);
                let reasons = [
                    stats.sent_again_lost,
                    stats.sent_again_probing,
                    stats.sent_again_unsent,
                ];
                let sum: u64 = reasons.iter().sum();
                assert_eq!(
                    sum, stats.packets_retransmitted,
                    "{link} {algorithm}: {stats:?}"
                );
                assert_eq!(
                    sum + stats.packets_doubled,
                    again,
                    "{link} {algorithm}: {stats:?}"
                );
                // A probe timeout repeats two packets, each in two at most.
                assert!(
                    stats.sent_again_probing <= 4 * stats.probe_timeouts,
                    "{stats:?}"
                );
                assert_eq!(stats.sent_again_unsent, 0, "this kernel takes everything");
                probing += stats.sent_again_probing;
                doubled += stats.packets_doubled;
            }
        }
    }
    assert!(probing > 0 && doubled > 0, "{probing} {doubled}");
}

#[test]
fn where_nothing_is_lost_nothing_is_sent_again() {
    for algorithm in Algorithm::ALL {
        let (stats, again) = download("rate=10mbit,delay=15ms,queue=5MB", 1, algorithm);
        assert_eq!(
            (stats.packets_retransmitted, stats.packets_lost, again),
            (0, 0, 0)
        );
    }
}
