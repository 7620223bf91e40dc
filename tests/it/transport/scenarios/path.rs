//! Paths of every length, width and queue, and those that change.

use std::time::Duration;

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm::{self, Bbr, Cubic, NewReno, Vegas},
        connection::Config,
    },
};

use super::{MB, Outcome, RUNNER, each, file, link_time, nothing, reno_time, runner_time};
use crate::transport::sim::{CLIENT, Datagram, FirstLink, Sim, address, options};

#[test]
fn goodput() {
    // The queue is one bandwidth-delay product.
    each("goodput", file(RUNNER, 10 * MB), runner_time, nothing);
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
    let moves = sim
        .server
        .served
        .values()
        .next()
        .expect("one")
        .application
        .moves();
    let seconds = (sim.now() - sim.start()).as_secs();
    assert_eq!(moves.len() as u64, seconds / 5 + 1, "{moves:?}");
    assert_eq!(moves[moves.len() - 1].1, sim.clients[0].peer.seen_as);
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
        let at = sim.clients[0]
            .peer
            .application
            .connected_at
            .expect("connected")
            - sim.start();
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
        // A round trip for the request, doublings of 80 datagrams of 1200 bytes to the 18.75 MB that
        // the path holds, the rest of the file at the link's rate, and half a round trip for its
        // end. Losses, and acknowledgements that come 25 ms later, leave of a doubling 1.9.
        Bbr => {
            let (holds, lossless) = (18.75, 1.0 - 1.0 / 64.0);
            let doublings = (holds * 1e6 / 96e3_f64).ln() / 1.9_f64.ln();
            let rest = link_time((100.0 - holds) as u64 * MB, 250.0) / lossless;
            (0.6 * (1.0 + doublings + 0.5) + rest) * 1.1
        }
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
    // An acknowledgement takes 5 ms: those of slow start, every other of 62 packets, take 0.16 s. Then
    // five of the 22 packets that the path holds wait for theirs, until the window has grown.
    let bound = |_| link_time(10 * MB, 10.0) * 1.05 + 0.16;
    each("asymmetric", build, bound, nothing);
}

#[test]
fn bufferbloat() {
    // A queue of 0.8 s where a round trip takes 20 ms: 25 kB would do.
    let link = "rate=10mbit,delay=10ms,queue=1MB";
    let queue = |algorithm: Algorithm, outcome: &Outcome| {
        let down = outcome.sim.path.link.direction(Way::Down).counters();
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
                sim.path.link.set_options(way, options(to), sim.now());
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

/// The client's own address goes, and nobody tells it: its probes do.
#[test]
fn a_client_without_its_address_binds_anew() {
    binds_anew("bound anew", |datagram| {
        [datagram.from, datagram.to].contains(&address(CLIENT))
    });
}

/// The path carries one way alone: what the client hears of the proxy does not mean that it is heard.
#[test]
fn a_client_that_is_not_heard_binds_anew_whatever_it_hears() {
    binds_anew("not heard", |datagram| datagram.from == address(CLIENT));
    binds_anew("hears nothing", |datagram| datagram.to == address(CLIENT));
}

/// What `loses` of the client's datagrams is lost from the fourth second on, until it binds anew.
fn binds_anew(name: &str, loses: fn(&Datagram) -> bool) {
    let build = |algorithm, seed| {
        let config = Config {
            keep_alive: Some(Duration::from_secs(2)),
            ..Config::default()
        };
        let mut sim = Sim::new(RUNNER, RUNNER, config, seed);
        sim.client(algorithm, &[10 * MB]);
        sim.clients[0].rebinds_to = Some(address("10.0.3.1:1000"));
        let gone_at = sim.start() + Duration::from_secs(4);
        sim.path.tap = Some(Box::new(move |_, datagram: &mut Datagram, now| {
            now < gone_at || !loses(datagram)
        }));
        sim
    };
    // The keep-alive, three probe timeouts of 30 ms and what they vary by, and the way back up from
    // the initial window; at most.
    let bound = |_| link_time(10 * MB, 10.0) + 2.0 + 1.0 + 0.8;
    let moved = |algorithm: Algorithm, outcome: &Outcome| {
        let sim = &outcome.sim;
        let client = &sim.clients[0];
        assert_eq!(client.peer.seen_as, address("10.0.3.1:1000"), "{algorithm}");
        let connections = sim.server.all().count();
        assert_eq!(connections, 1, "{algorithm}: the same connection");
        assert_eq!(client.peer.connection.stats().path_changes, 1);
    };
    each(name, build, bound, moved);
}

/// The interface's MTU falls to 1280 in mid-transfer: the kernel refuses what is larger.
#[test]
fn the_first_link_gets_narrower() {
    for told in [true, false] {
        let build = |algorithm, seed| {
            let mut sim = file(RUNNER, 10 * MB)(algorithm, seed);
            sim.at(Duration::from_secs(4), move |sim| {
                sim.server.first_link = Some(FirstLink {
                    largest: 1252,
                    told,
                });
            });
            sim
        };
        // 28 of 1280 bytes are headers instead of 28 of 1500, and a search costs nothing.
        let bound = |algorithm| runner_time(algorithm) * 1.01 + 0.1;
        let one_step = |algorithm: Algorithm, outcome: &Outcome| {
            let stats = &outcome.server;
            assert_eq!(stats.probe_timeouts, 0, "{algorithm}: {stats:?}");
            match told {
                true => assert_eq!(stats.mtu, 1252),
                false => assert!((1233..=1252).contains(&stats.mtu), "{}", stats.mtu),
            }
            let bursts = outcome.sim.path.packets[Way::Down as usize] - stats.packets_sent;
            // COOKIE, ACCEPT
            assert!(bursts <= 2, "{bursts} more datagrams than packets");
        };
        each("narrow first link", build, bound, one_step);
    }
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
