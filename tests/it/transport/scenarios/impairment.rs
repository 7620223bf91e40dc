//! What the network does to single packets: losing, damaging, delaying, doubling and marking them.

use std::{cell::Cell, rc::Rc};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm::{self, Bbr, Vegas},
        connection::Config,
        packet::{DATA_HEADER, Frame, Frames, PacketType},
    },
};

use super::{
    LIMIT, MB, Outcome, RUNNER, RUNNER_RTT, each, file, link_time, nothing, reno_time, runner_time,
};
use crate::transport::sim::{Datagram, Sim};

#[test]
fn transfer_with_loss() {
    // An event takes two packets on average: one in a hundred begins one.
    let link = format!("{RUNNER},loss=2,burst=2");
    let bound = |algorithm| match algorithm {
        Bbr => link_time(2 * MB, 10.0) * 1.2 + 0.3,
        _ => reno_time(2 * MB, RUNNER_RTT, 0.01) * 1.4,
    };
    each("transfer loss", file(&link, 2 * MB), bound, nothing);
}

#[test]
fn transfer_with_corruption() {
    let link = format!("{RUNNER},corrupt=2");
    let bound = |algorithm| match algorithm {
        Bbr => link_time(2 * MB, 10.0) * 1.2 + 0.3,
        _ => reno_time(2 * MB, RUNNER_RTT, 0.02) * 1.4,
    };
    let seen = |_: Algorithm, outcome: &Outcome| {
        let client = outcome.sim.clients[0].peer.connection.stats();
        assert!(client.corrupted > 10, "{client:?}");
        assert!(client.malformed < 10, "{client:?}");
    };
    each("transfer corruption", file(&link, 2 * MB), bound, seen);
}

#[test]
fn blackout() {
    let link = format!("{RUNNER},blackout=5s/2s");
    // Two seconds of darkness, one until the next probe (the longest probe timeout), and the way back
    // up.
    let bound = |_| link_time(10 * MB, 10.0) + 2.0 + 1.0 + 0.7;
    each("blackout", file(&link, 10 * MB), bound, nothing);
}

#[test]
fn reordering() {
    let link = format!("{RUNNER},reorder=25,reorder_by=5ms");
    let bound = |_| link_time(10 * MB, 10.0) * 1.1 + 0.3;
    let undone = |_: Algorithm, outcome: &Outcome| {
        let stats = &outcome.server;
        assert!(stats.packets_lost < 600, "{stats:?}");
    };
    each("reordering", file(&link, 10 * MB), bound, undone);
}

/// What lets the receiver forget its ranges costs a packet that elicits an acknowledgement itself.
#[test]
fn of_the_acknowledgements_under_reordering_one_in_sixteen_asks_for_one_itself() {
    let link = format!("{RUNNER},reorder=25,reorder_by=5ms");
    let mut sim = Sim::new(&link, &link, Config::default(), 1);
    sim.client(Algorithm::Cubic, &[10 * MB]);
    let counts = Rc::new(Cell::new((0_u32, 0_u32)));
    let counted = Rc::clone(&counts);
    sim.path.tap = Some(Box::new(move |way, datagram: &mut Datagram, _| {
        let is_data = PacketType::of(&datagram.bytes) == Ok(PacketType::Data);
        if way == Way::Up && is_data {
            // A checksum of four bytes ends it.
            let end = datagram.bytes.len() - 4;
            let payload = &datagram.bytes[DATA_HEADER..end];
            let is =
                |what: fn(&Frame<'_>) -> bool| Frames::new(payload).flatten().any(|f| what(&f));
            let (acks, pings) = counted.get();
            let acknowledges = is(|frame| matches!(frame, Frame::Ack(_)));
            let asks = acknowledges && is(|frame| matches!(frame, Frame::Ping));
            counted.set((acks + u32::from(acknowledges), pings + u32::from(asks)));
        }
        true
    }));
    assert!(sim.download(LIMIT).is_some());
    let (acks, pings) = counts.get();
    assert!(acks > 1000, "{acks}");
    assert!(pings > 0 && pings <= acks / 16 + 1, "{pings} of {acks}");
}

#[test]
fn duplication() {
    let link = format!("{RUNNER},duplicate=20");
    let seen = |_: Algorithm, outcome: &Outcome| {
        assert!(outcome.sim.clients[0].peer.connection.stats().duplicates > 1000);
    };
    // A copy costs nothing.
    each("duplication", file(&link, 10 * MB), runner_time, seen);
}

/// Seconds that Vegas needs where `jitter` either way lengthens the round trip from `base` to `mean`.
///
/// It compares the least of a round's samples to the least of all. Of n round trips that vary by two
/// uniform shares of `2 * jitter` the least is `jitter * sqrt(2 * pi / n)` above the base on average,
/// and n is half the window. That it takes for a queue, and keeps three packets there:
/// `window * jitter * sqrt(4 * pi / window) / base = 3`. The window moves between two and four such.
fn vegas_jitter_time(bytes: u64, base: f64, mean: f64, jitter: f64) -> f64 {
    let window = (3.0 * base / jitter).powi(2) / (4.0 * std::f64::consts::PI);
    bytes as f64 * mean / (window * 1445.0) * 1.4
}

#[test]
fn jitter() {
    let link = "rate=10mbit,delay=25ms,jitter=10ms,queue=60kB";
    let bound = |algorithm| match algorithm {
        Vegas => vegas_jitter_time(10 * MB, 0.030, 0.050, 0.010),
        _ => link_time(10 * MB, 10.0) * 1.1 + 0.5,
    };
    each("jitter", file(link, 10 * MB), bound, nothing);
}

#[test]
fn marks_instead_of_losses() {
    let build = |algorithm, seed| {
        let link = "rate=10mbit,delay=15ms,queue=250kB";
        let mut sim = Sim::new(link, link, Config::default(), seed);
        sim.path.mark_above = Some(37_500);
        sim.client(algorithm, &[10 * MB]);
        sim
    };
    let marked = |algorithm: Algorithm, outcome: &Outcome| {
        let stats = &outcome.server;
        assert_eq!(stats.packets_lost, 0, "{algorithm}: {stats:?}");
        if algorithm != Vegas {
            assert!(stats.congestion_events > 0, "{algorithm}: {stats:?}");
        }
    };
    each(
        "ecn",
        build,
        |_| link_time(10 * MB, 10.0) * 1.1 + 0.3,
        marked,
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let fingerprint = |algorithm, seed| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let link = format!("{RUNNER},loss=3,burst=2,reorder=10,duplicate=3,jitter=3ms");
        let mut sim = Sim::new(&link, &link, Config::default(), seed);
        sim.client(algorithm, &[100_000; 5]);
        let hash = std::rc::Rc::new(std::cell::RefCell::new(DefaultHasher::new()));
        let (all, start) = (hash.clone(), sim.start());
        sim.path.tap = Some(Box::new(move |way, datagram: &mut Datagram, now| {
            let what = (way, now - start, &datagram.bytes);
            what.hash(&mut *all.borrow_mut());
            true
        }));
        assert!(sim.download(LIMIT).is_some());
        hash.borrow().finish()
    };
    for algorithm in Algorithm::ALL {
        let first = fingerprint(algorithm, 1);
        for _ in 0..5 {
            assert_eq!(fingerprint(algorithm, 1), first, "{algorithm}");
        }
        assert_ne!(fingerprint(algorithm, 2), first);
    }
}
