//! What a connection tells of what it sent again, beside what the network saw of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm,
        connection::{Config, Stats},
        packet::{DATA_HEADER, Frame, Frames, Header, PacketType, read_number},
    },
    watch::event::transport::{Observer, Step},
};

use crate::transport::sim::{FirstLink, Sim, Wanted};

/// What one side has put on the network: found from its packets alone, and from which of them it has
/// declared lost.
#[derive(Debug, Default)]
struct Wire {
    /// Which bytes of each stream have left.
    left: BTreeMap<u64, Vec<bool>>,
    /// And which of them are owed again, for their packet was declared lost since.
    owed: BTreeMap<u64, Vec<bool>>,
    /// What each packet carried, by the lower half of its number.
    packets: BTreeMap<u32, Vec<(u64, Range<usize>)>>,
    /// Which packets with pieces of streams the connection tells to have left.
    told: BTreeSet<u32>,
    /// Packets with bytes that had left before.
    repeats: u64,
    /// Of these, those whose first such byte was owed.
    for_lost: u64,
}

fn grown(bytes: &mut BTreeMap<u64, Vec<bool>>, id: u64, end: usize) -> &mut Vec<bool> {
    let bytes = bytes.entry(id).or_default();
    bytes.resize(bytes.len().max(end), false);
    bytes
}

impl Wire {
    fn on_packet(&mut self, number: u32, frames: &[u8]) {
        let mut first = None;
        for frame in Frames::new(frames).flatten() {
            let Frame::Stream(stream) = frame else {
                continue;
            };
            let start = usize::try_from(stream.offset).expect("small");
            let range = start..start + stream.data.len();
            let left = grown(&mut self.left, stream.id, range.end);
            let owed = grown(&mut self.owed, stream.id, range.end);
            let repeated = range.clone().find(|at| left[*at]);
            first = first.or(repeated.map(|at| owed[at]));
            left[range.clone()].fill(true);
            owed[range.clone()].fill(false);
            let carried = self.packets.entry(number).or_default();
            carried.push((stream.id, range));
        }
        self.repeats += u64::from(first.is_some());
        self.for_lost += u64::from(first == Some(true));
    }
}

/// One side's, for who sees its packets and for who watches its connection.
#[derive(Debug, Clone, Default)]
struct Side(Arc<Mutex<Wire>>);

impl Observer for Side {
    fn on_step(&mut self, _: Instant, step: &Step) {
        let wire = &mut *self.0.lock().expect("whole");
        match step {
            Step::Lost(lost) => {
                let carried = wire.packets.get(&(lost.number as u32));
                for (id, range) in carried.into_iter().flatten() {
                    grown(&mut wire.owed, *id, range.end)[range.clone()].fill(true);
                }
            }
            Step::Sent(sent) if sent.data => {
                assert!(wire.told.insert(sent.number as u32), "{sent:?} twice");
            }
            Step::Unsent {
                number, data: true, ..
            } => {
                assert!(
                    wire.told.remove(&(*number as u32)),
                    "{step:?} was never told to be sent"
                );
            }
            _ => {}
        }
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

/// The statistics of a transfer's two sides, the client's first, and what the network saw of each.
fn transfer(
    link: &str,
    seed: u64,
    algorithm: Algorithm,
    first_link: Option<FirstLink>,
) -> [(Stats, Wire); 2] {
    let config = Config {
        max_datagram: first_link.map_or(1472, |_| 9000),
        congestion: algorithm,
        ..Config::default()
    };
    let mut sim = Sim::new(link, link, config.clone(), seed);
    sim.server.first_link = first_link;
    let wanted = [(400_000, 0), (150_000, 0), (10, 200_000)];
    let wanted = wanted.map(|(size, upload)| Wanted {
        size,
        upload,
        ..Wanted::default()
    });
    let client = sim.client_with(config, wanted.into());
    let sides: [Side; 2] = Default::default();
    let up = Box::new(sides[0].clone());
    let now = sim.now();
    sim.clients[client].peer.connection.observe(up, now);
    let down = sides[1].clone();
    sim.observe(move || Box::new(down.clone()));
    let seen = sides.clone();
    sim.path.tap = Some(Box::new(move |way, datagram, _| {
        let header = Header::parse(&datagram.bytes);
        if header.is_ok_and(|header| header.packet == PacketType::Data) {
            let (_, number) = read_number(&datagram.bytes).expect("DATA has one");
            // The checksum stands at the end.
            let frames = &datagram.bytes[DATA_HEADER..datagram.bytes.len() - 4];
            let mut wire = seen[way as usize].0.lock().expect("whole");
            wire.on_packet(number, frames);
        }
        true
    }));
    let arrived = sim.run_until(Duration::from_secs(600), |sim| {
        let settled = |client: &labnet::rudp::connection::Connection| client.held() == 0;
        let mut served = sim.server.served.values();
        sim.clients[0].is_done()
            && settled(&sim.clients[0].peer.connection)
            && served.all(|served| settled(&served.connection))
    });
    let client = sim.clients[0].peer.connection.stats();
    let served = sim.server.served.values().next().expect("one");
    let server = served.connection.stats();
    assert!(arrived, "{link} {algorithm} {seed}: {client:?} {server:?}");
    assert_eq!(Way::Up as usize, 0, "the client's are the first");
    let [up, down] = sides.map(|side| std::mem::take(&mut *side.0.lock().expect("whole")));
    [(client, up), (server, down)]
}

fn link_of(largest: u16, told: bool) -> FirstLink {
    FirstLink { largest, told }
}

#[test]
fn each_packet_that_repeats_has_one_reason_and_the_sum_is_what_the_network_saw() {
    let [mut lost, mut probing, mut tail, mut unsent] = [0; 4];
    for (link, first_link) in [
        ("rate=10mbit,delay=15ms,queue=37500B,loss=3", None),
        ("rate=10mbit,delay=15ms,loss=6,burst=3", None),
        (
            "rate=5mbit,delay=10ms,reorder=20,reorder_by=8ms,loss=1",
            None,
        ),
        ("rate=20mbit,delay=5ms,loss=15", None),
        // The kernel refuses what is too long for the first link.
        ("rate=20mbit,delay=5ms,loss=3", Some(link_of(1472, true))),
        ("rate=20mbit,delay=5ms,loss=3", Some(link_of(1300, false))),
    ] {
        for algorithm in Algorithm::ALL {
            for seed in 0..10 {
                for (stats, wire) in transfer(link, seed, algorithm, first_link) {
                    let told = format!("{link} {algorithm} {seed}: {stats:?}");
                    let sum = stats.sent_again_lost + stats.sent_again_probing;
                    let sum = sum + stats.sent_again_tail;
                    assert_eq!(sum, stats.packets_retransmitted, "{told}");
                    assert_eq!(sum, wire.repeats, "{told}");
                    // What is told to be sent has left, and what has left is told.
                    let left: BTreeSet<u32> = wire.packets.keys().copied().collect();
                    assert_eq!(wire.told, left, "{told}");
                    assert_eq!(stats.sent_again_lost, wire.for_lost, "{told}");
                    // A probe timeout repeats two packets, each in two at most.
                    let most = 4 * stats.probe_timeouts;
                    assert!(stats.sent_again_probing <= most, "{told}");
                    assert!(first_link.is_some() || stats.packets_unsent == 0, "{told}");
                    lost += stats.sent_again_lost;
                    probing += stats.sent_again_probing;
                    tail += stats.sent_again_tail;
                    unsent += stats.packets_unsent;
                }
            }
        }
    }
    let all = [lost, probing, tail, unsent];
    assert!(all.iter().all(|count| *count > 0), "{all:?}");
}

#[test]
fn where_nothing_is_lost_nothing_is_sent_again() {
    for algorithm in Algorithm::ALL {
        let link = "rate=10mbit,delay=15ms,queue=5MB";
        for (stats, wire) in transfer(link, 1, algorithm, None) {
            let counts = (stats.packets_retransmitted, stats.packets_lost);
            assert_eq!((counts, wire.repeats), ((0, 0), 0));
        }
    }
}
