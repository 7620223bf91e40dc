//! What several streams, flows and clients get of a link.

use std::time::Duration;

use labnet::rudp::{
    congestion::Algorithm::{self, Bbr, Cubic, NewReno, Vegas},
    connection::Config,
};

use super::{LIMIT, MB, Outcome, RUNNER, RUNNER_RTT, each, file, link_time, nothing, runner_time};
use crate::transport::sim::{Appetite, Sim, Wanted};

#[test]
fn transfer_of_three_files_on_one_connection() {
    let build = |algorithm, seed| {
        let mut sim = Sim::new(RUNNER, RUNNER, Config::default(), seed);
        sim.client(algorithm, &[2 * MB, 3 * MB, 5 * MB]);
        sim
    };
    let fair = |_: Algorithm, outcome: &Outcome| {
        // Each gets its turn: the first is done when all three have got as much.
        let wanted = &outcome.sim.clients[0].peer.application.wanted;
        let done = |n: usize| wanted[n].done_at.expect("done");
        let first = (done(0) - wanted[0].asked_at.expect("asked")).as_secs_f64();
        assert!(
            (first / link_time(6 * MB, 10.0) - 1.0).abs() < 0.1,
            "{first}"
        );
        assert!(done(0) < done(1) && done(1) < done(2));
    };
    each("transfer", build, runner_time, fair);
}

#[test]
fn multiplexing() {
    let build = |algorithm, seed| {
        let config = Config {
            max_streams: 1000,
            ..Config::default()
        };
        let mut sim = Sim::new(RUNNER, RUNNER, config, seed);
        sim.client(algorithm, &[32; 1999]);
        sim
    };
    // Some 50 bytes each way for each, begun with ten packets: a handful of round trips for each
    // half.
    each("multiplexing", build, |_| 12.0 * RUNNER_RTT, nothing);
}

#[test]
fn upload() {
    let build = |algorithm, seed| {
        let mut sim = Sim::new(RUNNER, RUNNER, Config::default(), seed);
        let config = Config {
            congestion: algorithm,
            ..Config::default()
        };
        sim.client_with(
            config,
            vec![Wanted {
                size: 10,
                upload: 10 * MB,
                ..Wanted::default()
            }],
        );
        // Its answer does not wait for the upload: the connection is done when it has settled.
        let done = sim.run_until(LIMIT, |sim| {
            sim.server
                .served
                .values()
                .any(|served| served.application.uploaded == 10 * MB)
        });
        assert!(done);
        let took = (sim.now() - sim.start()).as_secs_f64();
        // Three round trips of handshake and opening.
        assert!(
            took < runner_time(algorithm) + 5.0 * RUNNER_RTT,
            "{algorithm}: {took}"
        );
        sim
    };
    each("upload", build, |_| 2.0 * RUNNER_RTT, nothing);
}

#[test]
fn a_slow_reader_is_never_sent_more_than_its_window() {
    let build = |algorithm, seed| {
        let link = "rate=100mbit,delay=5ms";
        let mut sim = Sim::new(link, link, Config::default(), seed);
        let config = Config {
            congestion: algorithm,
            stream_window: 64 << 10,
            ..Config::default()
        };
        let wanted = Wanted {
            size: 2 * MB,
            ..Wanted::default()
        };
        let client = sim.client_with(config, vec![wanted]);
        // 1 MB a second.
        sim.clients[client].peer.application.appetite = Some(Appetite {
            bytes: 10_000,
            pause: Duration::from_millis(10),
        });
        sim
    };
    each("slow reader", build, |_| 2.0 * 1.05, nothing);
}

/// Jain's index of what two clients got between 5 s and 25 s, the second having begun 2 s later.
fn jain(algorithms: [Algorithm; 2], seed: u64) -> f64 {
    let link = "rate=20mbit,delay=20ms,queue=100kB";
    let mut sim = file(link, 100 * MB)(algorithms[0], seed);
    sim.run_for(Duration::from_secs(2));
    sim.client(algorithms[1], &[100 * MB]);
    sim.run_for(Duration::from_secs(3));
    let received =
        |sim: &Sim| [0, 1].map(|n: usize| sim.clients[n].peer.application.wanted[0].received);
    let before = received(&sim);
    sim.run_for(Duration::from_secs(20));
    let after = received(&sim);
    let [a, b] = [0, 1].map(|n: usize| (after[n] - before[n]) as f64);
    println!("{algorithms:?}: {a} and {b}");
    // And the link is used.
    assert!(
        a + b > 0.9 * 20.0 * 20e6 / 8.0 * 0.963,
        "{algorithms:?}: {}",
        a + b
    );
    (a + b) * (a + b) / (2.0 * (a * a + b * b))
}

/// The median of five runs.
fn fairness(algorithms: [Algorithm; 2]) -> f64 {
    let mut indices: Vec<_> = (1..=5).map(|seed| jain(algorithms, seed)).collect();
    indices.sort_by(f64::total_cmp);
    println!("{:24} {algorithms:?} {indices:.3?}", "two flows");
    indices[2]
}

#[test]
fn two_flows_share_a_link() {
    for algorithm in Algorithm::ALL {
        let least = match algorithm {
            NewReno | Cubic => 0.9,
            Vegas | Bbr => 0.8,
        };
        let index = fairness([algorithm; 2]);
        assert!(index >= least, "{algorithm}: {index}");
    }
}

#[test]
fn bbr_and_cubic_leave_each_other_room() {
    for algorithms in [[Bbr, Cubic], [Cubic, Bbr]] {
        let index = fairness(algorithms);
        assert!(index >= 0.8, "{algorithms:?}: {index}");
    }
}

#[test]
fn many_clients_share_a_link() {
    let build = |algorithm, seed| {
        let link = "rate=100mbit,delay=10ms,queue=250kB";
        let mut sim = Sim::new(link, link, Config::default(), seed);
        for _ in 0..50 {
            sim.client(algorithm, &[500_000]);
        }
        sim
    };
    // Twice 25 MB of acknowledgements and losses are in no proportion to the link's time.
    each(
        "50 clients",
        build,
        |_| link_time(25 * MB, 100.0) * 1.25 + 0.5,
        nothing,
    );
}
