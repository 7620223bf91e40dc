//! One scenario after the other, each with every congestion controller, and how long it may take.
//!
//! Where a bound comes from: a full datagram carries 1445 bytes of a stream in 1500 bytes of IPv4,
//! so that a link of R bit/s delivers 0.963 R at the most ([`link_time`]). Random loss of a share p
//! of the packets holds NewReno, and Vegas which falls back to it, to a window of sqrt(1.5 / p)
//! packets (Mathis 1997, [`reno_time`]); CUBIC does at least as well (RFC 9438 section 4.3). To
//! these come the round trips of slow start and a margin for chance, each named at its scenario.

use std::time::Duration;

use labnet::{
    net::link::Way,
    rudp::{
        congestion::Algorithm::{self, Bbr, Cubic, NewReno, Vegas},
        connection::{Config, Stats},
        packet::PacketType,
    },
};

use crate::sim::{Appetite, Datagram, Sim, Wanted, address, options};

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

/// Who does not keep a bound yet, and the seconds that it takes instead: not to get worse.
const BEHIND: [(&str, Algorithm, f64); 19] = [
    ("10x slower", Vegas, 26.24),
    ("asymmetric", Bbr, 16.297),
    ("asymmetric", Cubic, 8.672),
    ("asymmetric", NewReno, 9.329),
    ("asymmetric", Vegas, 15.818),
    ("blackout", Vegas, 16.507),
    ("duplication", Bbr, 8.542),
    ("duplication", NewReno, 8.509),
    ("duplication", Vegas, 8.658),
    ("policer", Bbr, 9.639),
    ("goodput", Bbr, 8.542),
    ("goodput", NewReno, 8.509),
    ("goodput", Vegas, 8.658),
    ("jitter", Vegas, 55.745),
    ("long rtt, 1 MB", Bbr, 13.827),
    ("satellite", Bbr, 12.682),
    ("transfer", Bbr, 8.542),
    ("transfer", NewReno, 8.509),
    ("transfer", Vegas, 8.658),
];

/// What the server counted in a run.
struct Outcome {
    seconds: f64,
    server: Stats,
    sim: Sim,
}

fn run(mut sim: Sim) -> Option<Outcome> {
    let Some(took) = sim.download(LIMIT) else {
        let now = sim.now - sim.start;
        for s in sim.served.values().chain(&sim.ended) {
            println!(
                "server at {now:?}: {:?} {:?}",
                s.events,
                s.connection.stats()
            );
            println!("due {:?}", s.connection.poll_timeout().map(|t| t - sim.now));
        }
        let c = &sim.clients[0];
        println!(
            "client: {:?} {:?} {}",
            c.events,
            c.connection.stats(),
            c.wanted[0].received
        );
        return None;
    };
    let served = sim.served.values().next();
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
        let behind = BEHIND
            .iter()
            .find(|(of, who, _)| (*of, *who) == (name, algorithm));
        if median > behind.map_or(bound, |(_, _, seconds)| bound.max(seconds * 1.05)) {
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

#[test]
fn goodput() {
    // 9450 kbit/s of payload, the queue is one bandwidth-delay product.
    each("goodput", file(RUNNER, 10 * MB), |_| 80.0 / 9.45, nothing);
}

#[test]
fn transfer_of_three_files_on_one_connection() {
    let build = |algorithm, seed| {
        let mut sim = Sim::new(RUNNER, RUNNER, Config::default(), seed);
        sim.client(algorithm, &[2 * MB, 3 * MB, 5 * MB]);
        sim
    };
    let fair = |_: Algorithm, outcome: &Outcome| {
        // Each gets its turn: the first is done when all three have got as much.
        let wanted = &outcome.sim.clients[0].wanted;
        let done = |n: usize| wanted[n].done_at.expect("done");
        let first = (done(0) - wanted[0].asked_at.expect("asked")).as_secs_f64();
        assert!(
            (first / link_time(6 * MB, 10.0) - 1.0).abs() < 0.1,
            "{first}"
        );
        assert!(done(0) < done(1) && done(1) < done(2));
    };
    each("transfer", build, |_| 80.0 / 9.45, fair);
}

#[test]
fn handshake() {
    let connected = |_: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let at = sim.clients[0].connected_at.expect("connected") - sim.start;
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
                total += (sim.now - sim.start).as_secs_f64();
                sim.finish(Duration::from_secs(60));
            }
            println!("{name:24} {:9} {total:8.3} s of 300 s", algorithm.name());
            assert!(total < 300.0, "{algorithm}: {total}");
        }
    }
}

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
        let client = outcome.sim.clients[0].connection.stats();
        assert!(client.corrupted > 10, "{client:?}");
        assert!(client.malformed < 10, "{client:?}");
    };
    each("transfer corruption", file(&link, 2 * MB), bound, seen);
}

#[test]
fn blackout() {
    let link = format!("{RUNNER},blackout=5s/2s");
    // Two seconds of darkness, two until the next probe (the longest probe timeout), and the way
    // back up.
    let bound = |_| link_time(10 * MB, 10.0) + 2.0 + 2.0 + 1.0;
    each("blackout", file(&link, 10 * MB), bound, nothing);
}

fn rebinding(to: fn(u64) -> String) -> impl Fn(Algorithm, u64) -> Sim {
    move |algorithm, seed| {
        // Who only receives has to speak up now and then, or nobody learns its new address.
        let config = Config {
            keep_alive: Some(Duration::from_millis(500)),
            ..Config::default()
        };
        let mut sim = Sim::new(RUNNER, RUNNER, config, seed);
        sim.client(algorithm, &[10 * MB]);
        for n in 0..4 {
            let after = Duration::from_secs(1 + 5 * n);
            sim.rebind_at(after, 0, address(&to(n)));
        }
        sim
    }
}

fn all_moves_proven(_: Algorithm, outcome: &Outcome) {
    let sim = &outcome.sim;
    let moves = sim.served.values().next().expect("one").moves();
    let seconds = (sim.now - sim.start).as_secs();
    assert_eq!(moves.len() as u64, seconds / 5 + 1, "{moves:?}");
    assert_eq!(moves[moves.len() - 1].1, sim.clients[0].seen_as);
}

#[test]
fn rebinding_of_the_port() {
    let build = rebinding(|n| format!("10.0.1.1:{}", 2000 + n));
    // Two changes in that time: what was under way is lost, and found by a probe.
    let bound = |_| link_time(10 * MB, 10.0) + 2.0 * (0.5 + 0.4);
    each("rebind port", build, bound, all_moves_proven);
}

#[test]
fn rebinding_of_the_address() {
    let build = rebinding(|n| format!("10.0.2.{}:1000", 1 + n));
    // The same, and each time the new path is learned from the initial window on.
    let bound = |_| link_time(10 * MB, 10.0) + 2.0 * (0.5 + 0.8);
    each("rebind address", build, bound, all_moves_proven);
}

#[test]
fn long_round_trip() {
    let link = "rate=10mbit,delay=750ms,queue=2MB";
    let hellos = |_: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let at = sim.clients[0].connected_at.expect("connected") - sim.start;
        assert!(at.as_secs_f64() < 2.0 * 1.5 + 0.02, "{at:?}");
        assert!(outcome.server.rtt > Duration::from_millis(1500));
        assert!(outcome.server.packets_lost == 0 && outcome.server.spurious_losses == 0);
    };
    // One round trip.
    each("long rtt, 1 kB", file(link, 1000), |_| 1.5 + 0.02, hellos);
    // Slow start: ten packets, doubled each time, are 1 MB after seven round trips.
    each(
        "long rtt, 1 MB",
        file(link, MB),
        |_| 8.0 * 1.5 + 1.0,
        hellos,
    );
}

#[test]
fn satellite_with_every_64th_packet_lost() {
    let link = "rate=250mbit,delay=300ms,queue=20MB,loss=1.5625";
    let build = |algorithm, seed| {
        let size = if algorithm == Bbr { 100 * MB } else { MB };
        file(link, size)(algorithm, seed)
    };
    let bound = |algorithm| match algorithm {
        // What picoquic asserts for its own.
        Bbr => 8.0,
        _ => reno_time(MB, 0.6, 1.0 / 64.0) * 1.4,
    };
    each("satellite", build, bound, nothing);
}

#[test]
fn asymmetric_acknowledgement_path() {
    let build = |algorithm, seed| {
        let down = "rate=10mbit,delay=10ms,queue=37500B";
        let up = "rate=100kbit,delay=10ms,queue=10kB";
        let mut sim = Sim::new(up, down, Config::default(), seed);
        sim.client(algorithm, &[10 * MB]);
        sim
    };
    each("asymmetric", build, |_| 8.5, nothing);
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

#[test]
fn duplication() {
    let link = format!("{RUNNER},duplicate=20");
    let seen = |_: Algorithm, outcome: &Outcome| {
        assert!(outcome.sim.clients[0].connection.stats().duplicates > 1000);
    };
    // A copy costs nothing.
    each("duplication", file(&link, 10 * MB), |_| 80.0 / 9.45, seen);
}

#[test]
fn jitter() {
    let link = "rate=10mbit,delay=25ms,jitter=10ms,queue=60kB";
    let bound = |_| link_time(10 * MB, 10.0) * 1.1 + 0.5;
    each("jitter", file(link, 10 * MB), bound, nothing);
}

#[test]
fn bufferbloat() {
    // A queue of 0.8 s where a round trip takes 20 ms: 25 kB would do.
    let link = "rate=10mbit,delay=10ms,queue=1MB";
    let queue = |algorithm: Algorithm, outcome: &Outcome| {
        let down = outcome.sim.link.direction(Way::Down).counters();
        let most = match algorithm {
            // Those who look at the delay fill it while they start, and not for long.
            Vegas | Bbr => 150_000,
            NewReno | Cubic => 1_000_000,
        };
        let queued = down.queued_bytes_max;
        println!(
            "{:24} {:9} {queued} bytes queued",
            "bufferbloat",
            algorithm.name()
        );
        assert!(queued <= most, "{algorithm}: {queued}");
    };
    let bound = |_| link_time(10 * MB, 10.0) * 1.05 + 0.3;
    each("bufferbloat", file(link, 10 * MB), bound, queue);
}

fn step(from: &'static str, to: &'static str, size: u64) -> impl Fn(Algorithm, u64) -> Sim {
    move |algorithm, seed| {
        let mut sim = file(from, size)(algorithm, seed);
        sim.at(Duration::from_secs(5), move |sim| {
            for way in Way::BOTH {
                sim.link.set_options(way, options(to), sim.now);
            }
        });
        sim
    }
}

const SLOW: &str = "rate=5mbit,delay=20ms,queue=100kB";
const FAST: &str = "rate=50mbit,delay=20ms,queue=250kB";

#[test]
fn the_link_gets_ten_times_as_fast() {
    let size = 3 * MB + 40 * MB;
    // 5 s at the old rate, the rest at the new one; and up to there NewReno grows by a packet each
    // round trip: 170 of them and 40 to 75 ms each.
    let bound = |algorithm| {
        let rest = link_time(40 * MB, 50.0) + 5.0;
        match algorithm {
            NewReno | Vegas => rest + 5.0,
            Cubic | Bbr => rest + 2.5,
        }
    };
    each("10x faster", step(SLOW, FAST, size), bound, nothing);
}

#[test]
fn the_link_gets_ten_times_as_slow() {
    let size = 28 * MB + 3 * MB;
    let bound = |_| 5.0 + link_time(3 * MB, 5.0) * 1.1 + 1.5;
    each("10x slower", step(FAST, SLOW, size), bound, nothing);
}

#[test]
fn policer() {
    // 83 packets are a bandwidth-delay product, the queue holds 10.
    let link = "rate=20mbit,delay=25ms,queue=15kB";
    let bound = |algorithm| {
        let time = link_time(20 * MB, 20.0);
        match algorithm {
            // It saws between (83 + 10) / 2 and 83 + 10: three quarters on average.
            NewReno | Vegas => time / 0.75 * 1.1,
            // Between 0.7 of it and all.
            Cubic => time / 0.85 * 1.1,
            Bbr => time * 1.1 + 0.5,
        }
    };
    each("policer", file(link, 20 * MB), bound, nothing);
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
fn marks_instead_of_losses() {
    let build = |algorithm, seed| {
        let link = "rate=10mbit,delay=15ms,queue=250kB";
        let mut sim = Sim::new(link, link, Config::default(), seed);
        sim.mark_above = Some(37_500);
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
            sim.served.values().any(|served| served.uploaded == 10 * MB)
        });
        assert!(done);
        let took = (sim.now - sim.start).as_secs_f64();
        // Three round trips of handshake and opening.
        assert!(took < 80.0 / 9.45 + 5.0 * RUNNER_RTT, "{algorithm}: {took}");
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
        sim.clients[client].appetite = Some(Appetite {
            bytes: 10_000,
            pause: Duration::from_millis(10),
        });
        sim
    };
    each("slow reader", build, |_| 2.0 * 1.05, nothing);
}

/// Jain's index of what two clients got between 5 s and 25 s, the second having begun 2 s later.
fn jain(algorithm: Algorithm, seed: u64) -> f64 {
    let link = "rate=20mbit,delay=20ms,queue=100kB";
    let mut sim = file(link, 100 * MB)(algorithm, seed);
    sim.run_for(Duration::from_secs(2));
    sim.client(algorithm, &[100 * MB]);
    sim.run_for(Duration::from_secs(3));
    let received = |sim: &Sim| [0, 1].map(|n: usize| sim.clients[n].wanted[0].received);
    let before = received(&sim);
    sim.run_for(Duration::from_secs(20));
    let after = received(&sim);
    let [a, b] = [0, 1].map(|n: usize| (after[n] - before[n]) as f64);
    println!("{algorithm}: {a} and {b}");
    // And the link is used.
    assert!(
        a + b > 0.9 * 20.0 * 20e6 / 8.0 * 0.963,
        "{algorithm}: {}",
        a + b
    );
    (a + b) * (a + b) / (2.0 * (a * a + b * b))
}

#[test]
fn two_flows_share_a_link() {
    for algorithm in Algorithm::ALL {
        let mut indices: Vec<_> = (1..=5).map(|seed| jain(algorithm, seed)).collect();
        indices.sort_by(f64::total_cmp);
        let least = match algorithm {
            NewReno | Cubic => 0.9,
            Vegas | Bbr => 0.8,
        };
        println!("{:24} {:9} {indices:.3?}", "two flows", algorithm.name());
        assert!(indices[2] >= least, "{algorithm}: {indices:?}");
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

#[test]
fn the_clients_second_to_seventh_packets_are_lost() {
    let build = |algorithm, seed| {
        let mut sim = file(RUNNER, 1000)(algorithm, seed);
        let mut sent = 0;
        sim.tap = Some(Box::new(move |way, _: &mut Datagram, _| {
            sent += u32::from(way == Way::Up);
            way == Way::Down || !(2..=7).contains(&sent)
        }));
        sim
    };
    let hellos = |_: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let at = (sim.now - sim.start).as_secs_f64();
        // The second HELLO goes again after 0.3, 0.6, 1.2, 2.4, 3 and 3 s.
        assert!(at < 10.5 + 3.0 * RUNNER_RTT + 0.1, "{at}");
    };
    each("lost client packets", build, |_| 2.0 * RUNNER_RTT, hellos);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let fingerprint = |algorithm, seed| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let link = format!("{RUNNER},loss=3,burst=2,reorder=10,duplicate=3,jitter=3ms");
        let mut sim = Sim::new(&link, &link, Config::default(), seed);
        sim.client(algorithm, &[100_000; 5]);
        let hash = std::rc::Rc::new(std::cell::RefCell::new(DefaultHasher::new()));
        let (all, start) = (hash.clone(), sim.start);
        sim.tap = Some(Box::new(move |way, datagram: &mut Datagram, now| {
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

#[test]
fn a_client_that_nobody_answers_gives_up() {
    let mut sim = file("loss=100", 1)(Cubic, 1);
    let mut hellos = 0;
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = count.clone();
    sim.tap = Some(Box::new(move |_, datagram: &mut Datagram, _| {
        let header = labnet::rudp::packet::Header::parse(&datagram.bytes).expect("a packet");
        hellos += u32::from(header.packet == PacketType::Hello);
        counted.set(hellos);
        true
    }));
    let over = sim.run_until(LIMIT, |sim| sim.clients[0].connection.is_over());
    assert!(over);
    let took = sim.now - sim.start;
    assert_eq!(took.as_secs(), 30);
    // 0.3, 0.6, 1.2 and 2.4 s after each other, then each 3 s.
    assert!((11..=14).contains(&count.get()), "{}", count.get());
}
