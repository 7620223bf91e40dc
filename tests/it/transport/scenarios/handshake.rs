//! Getting to know each other through a bad network.

use std::time::Duration;

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm::{self, Cubic},
        packet::PacketType,
    },
};

use super::{LIMIT, Outcome, RUNNER, RUNNER_RTT, each, file, nothing};
use crate::transport::sim::Datagram;

#[test]
fn handshake() {
    let connected = |_: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let at = sim.clients[0]
            .peer
            .application
            .connected_at
            .expect("connected")
            - sim.start();
        // Two round trips, and 1.2 kB three times at 10 Mbit/s.
        assert!(at.as_secs_f64() < 2.0 * RUNNER_RTT + 0.004, "{at:?}");
    };
    // A round trip, and some bytes.
    each(
        "handshake",
        file(RUNNER, 1000),
        |_| RUNNER_RTT + 0.004,
        connected,
    );
}

#[test]
fn fifty_handshakes_with_30_percent_loss() {
    for (name, link) in [
        ("handshake loss", "loss=30,burst=2"),
        ("handshake corruption", "corrupt=30"),
    ] {
        for algorithm in Algorithm::ALL {
            let mut total = 0.0;
            for seed in 0..50 {
                let link = format!("{RUNNER},{link}");
                let mut sim = file(&link, 1000)(algorithm, seed);
                assert!(sim.download(Duration::from_secs(60)).is_some(), "{seed}");
                total += (sim.now() - sim.start()).as_secs_f64();
                sim.finish(Duration::from_secs(60));
            }
            println!("{name:24} {:9} {total:8.3} s of 300 s", algorithm.name());
            assert!(total < 300.0, "{algorithm}: {total}");
        }
    }
}

/// Nobody gives up: a handshake has 30 s, in which its client sends a dozen times.
#[test]
fn forty_eight_tries_with_30_percent_loss_both_ways() {
    for seed in 0..48 {
        let mut sim = file("rate=10mbit,delay=25ms,loss=30", 1000)(Cubic, seed);
        let took = sim.run_until(LIMIT, |sim| {
            sim.clients[0].peer.application.connected_at.is_some()
        });
        assert!(took, "{seed}");
        let at = sim.clients[0]
            .peer
            .application
            .connected_at
            .expect("connected")
            - sim.start();
        assert!(at < Duration::from_secs(30), "{seed}: {at:?}");
    }
}

#[test]
fn the_clients_second_to_seventh_packets_are_lost() {
    let build = |algorithm, seed| {
        let mut sim = file(RUNNER, 1000)(algorithm, seed);
        let mut sent = 0;
        sim.path.tap = Some(Box::new(move |way, _: &mut Datagram, _| {
            sent += u32::from(way == Way::Up);
            way == Way::Down || !(2..=7).contains(&sent)
        }));
        sim
    };
    let hellos = |_: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let at = (sim.now() - sim.start()).as_secs_f64();
        // The second HELLO goes again after 0.3, 0.6, 1.2, 2.4, 3 and 3 s.
        assert!(at < 10.5 + 3.0 * RUNNER_RTT + 0.1, "{at}");
    };
    each("lost client packets", build, |_| 2.0 * RUNNER_RTT, hellos);
}

#[test]
fn a_lost_question_is_missed_after_a_round_trip_and_an_eighth() {
    for lost_hello in [None, Some(2)] {
        let build = |algorithm, seed| {
            let mut sim = file(RUNNER, 1000)(algorithm, seed);
            let (mut sent, mut asked) = (0, false);
            sim.path.tap = Some(Box::new(move |way, datagram: &mut Datagram, _| {
                if way == Way::Down {
                    return true;
                }
                sent += 1;
                // The HELLOs have 1200 bytes, and a probe of the path's MTU has more.
                let asks = datagram.bytes.len() < 1200 && !std::mem::replace(&mut asked, true);
                !asks && lost_hello != Some(sent)
            }));
            sim
        };
        // The probe that goes after it is acknowledged.
        let bound = |_| 2.2 * RUNNER_RTT + 0.004;
        each("lost question", build, bound, nothing);
    }
}

#[test]
fn a_client_that_nobody_answers_gives_up() {
    let mut sim = file("loss=100", 1)(Cubic, 1);
    let mut hellos = 0;
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = count.clone();
    sim.path.tap = Some(Box::new(move |_, datagram: &mut Datagram, _| {
        let header = labnet::rudp::packet::Header::parse(&datagram.bytes).expect("a packet");
        hellos += u32::from(header.packet == PacketType::Hello);
        counted.set(hellos);
        true
    }));
    let over = sim.run_until(LIMIT, |sim| sim.clients[0].peer.connection.is_over());
    assert!(over);
    let took = sim.now() - sim.start();
    assert_eq!(took.as_secs(), 30);
    // 0.3, 0.6, 1.2 and 2.4 s after each other, then each 3 s.
    assert!((11..=14).contains(&count.get()), "{}", count.get());
}
