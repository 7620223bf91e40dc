//! One scenario after the other, each with every congestion controller, and how long it may take.
//!
//! Where a bound comes from: a full datagram carries 1445 bytes of a stream in 1500 bytes of IPv4,
//! so that a link of R bit/s delivers 0.963 R at the most ([`link_time`]). Random loss of a share p
//! of the packets holds NewReno, and Vegas which falls back to it, to a window of sqrt(1.5 / p)
//! packets (Mathis 1997, [`reno_time`]); CUBIC does at least as well (RFC 9438 section 4.3). To
//! these come the round trips of slow start and a margin for chance, each named at its scenario.

mod handshake;
mod impairment;
mod path;
mod sharing;
mod wire;

use std::time::Duration;

use labnet::rudp::{
    congestion::Algorithm::{self, NewReno},
    connection::{Config, Stats},
};

use crate::transport::sim::Sim;

const MB: u64 = 1_000_000;
/// The interop runner's link: 10 Mbit/s, 15 ms each way, 25 packets.
const RUNNER: &str = "rate=10mbit,delay=15ms,queue=37500B";
const RUNNER_RTT: f64 = 0.030;
const LIMIT: Duration = Duration::from_secs(600);

/// Seconds that a link needs for so many bytes of a stream.
fn link_time(bytes: u64, mbit: f64) -> f64 {
    bytes as f64 * 8e-6 / mbit / 0.963
}

/// Seconds that NewReno needs where a congestion event strikes one of `1 / events` packets.
fn reno_time(bytes: u64, rtt: f64, events: f64) -> f64 {
    let window = (1.5 / events).sqrt() * 1445.0;
    bytes as f64 * rtt / window
}

/// Seconds for 10 MB over the runner's link: 9450 kbit/s of payload. NewReno halves its window to what
/// the path holds, and of these 26 packets five at a time wait for their acknowledgement: until it has
/// grown by five, 5 + 4 + 3 + 2 + 1 packets could have been sent more, of some 950 between two
/// reductions. That is 2 %, and three round trips of slow start.
fn runner_time(algorithm: Algorithm) -> f64 {
    match algorithm {
        NewReno => link_time(10 * MB, 10.0) * 1.02 + 3.0 * RUNNER_RTT,
        _ => 80.0 / 9.45,
    }
}

/// What the server counted in a run.
struct Outcome {
    seconds: f64,
    server: Stats,
    sim: Sim,
}

fn run(mut sim: Sim) -> Option<Outcome> {
    let Some(took) = sim.download(LIMIT) else {
        let now = sim.now() - sim.start();
        for s in sim.server.all() {
            println!(
                "server at {now:?}: {:?} {:?}",
                s.application.events,
                s.connection.stats()
            );
            println!(
                "due {:?}",
                s.connection.poll_timeout().map(|t| t - sim.now())
            );
        }
        let c = &sim.clients[0].peer;
        println!(
            "client: {:?} {:?} {}",
            c.application.events,
            c.connection.stats(),
            c.application.wanted[0].received
        );
        return None;
    };
    let served = sim.server.served.values().next();
    let server = served.map(|served| served.connection.stats())?;
    let seconds = took.as_secs_f64();
    Some(Outcome {
        seconds,
        server,
        sim,
    })
}

/// Runs a scenario with each controller, some seeds each; the median time is to be within the
/// bound. Then nothing must be left of the connections.
fn each(
    name: &str,
    build: impl Fn(Algorithm, u64) -> Sim,
    bound: impl Fn(Algorithm) -> f64,
    check: impl Fn(Algorithm, &Outcome),
) {
    let mut failures = Vec::new();
    for algorithm in Algorithm::ALL {
        let mut times = Vec::new();
        for seed in 1..=5 {
            let outcome = run(build(algorithm, seed));
            let mut outcome = outcome.unwrap_or_else(|| panic!("{name}, {algorithm}: stuck"));
            check(algorithm, &outcome);
            times.push(outcome.seconds);
            outcome.sim.finish(Duration::from_secs(60));
        }
        times.sort_by(f64::total_cmp);
        let (median, bound) = (times[times.len() / 2], bound(algorithm));
        let line = format!(
            "{name:24} {:9} {median:8.3} s of {bound:8.3} s ({:.3} to {:.3})",
            algorithm.name(),
            times[0],
            times[times.len() - 1],
        );
        println!("{line}");
        if median > bound {
            failures.push(line);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn nothing(_: Algorithm, _: &Outcome) {}

/// One file over the same link both ways.
fn file(link: &str, size: u64) -> impl Fn(Algorithm, u64) -> Sim {
    move |algorithm, seed| {
        let mut sim = Sim::new(link, link, Config::default(), seed);
        sim.client(algorithm, &[size]);
        sim
    }
}
