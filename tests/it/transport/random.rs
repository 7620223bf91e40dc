//! Random networks, random transfers: every byte arrives, nothing gets stuck, nothing is left.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use labnet::rudp::{
    congestion::Algorithm,
    connection::{CloseReason, Config},
    packet::{Protection, protection::Secret},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::transport::sim::{Appetite, CLIENT, Sim, Wanted, address};

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("a secret for all the seeds").expect("long enough"));

/// One direction. No more is lost than what a handshake survives in thirty seconds.
fn direction(rng: &mut Pcg64Mcg) -> String {
    let mut list = Vec::new();
    let mut maybe = |chance: f64, item: &mut dyn FnMut(&mut Pcg64Mcg) -> String| {
        if rng.random::<f64>() < chance {
            list.push(item(rng));
        }
    };
    maybe(0.5, &mut |rng| match rng.random_range(0..3) {
        0 => format!("loss={}", rng.random_range(1..20)),
        _ => format!(
            "loss={},burst={}",
            rng.random_range(1..15),
            rng.random_range(1..4)
        ),
    });
    maybe(0.95, &mut |rng| {
        let delay: u64 = rng.random_range(0..3_u64).pow(2) * 50 + rng.random_range(0..50_u64);
        format!("delay={delay}ms")
    });
    maybe(0.3, &mut |rng| {
        format!("jitter={}ms", rng.random_range(1..20))
    });
    maybe(0.7, &mut |rng| {
        let rate = 300 * 4_u64.pow(rng.random_range(0..7));
        let queue = rng.random_range(6_000..200_000);
        format!("rate={rate}kbit,queue={queue}B")
    });
    maybe(0.2, &mut |rng| {
        let by = rng.random_range(1..20);
        format!("reorder={},reorder_by={by}ms", rng.random_range(1..40))
    });
    maybe(0.2, &mut |rng| {
        format!("duplicate={}", rng.random_range(1..30))
    });
    maybe(0.2, &mut |rng| {
        format!("corrupt={}", rng.random_range(1..10))
    });
    maybe(0.1, &mut |rng| {
        // Probes back off to seconds: most of them have to meet the light.
        let dark = rng.random_range(100..1000);
        format!("blackout={}ms/{dark}ms", rng.random_range(2000..5000))
    });
    list.join(",")
}

fn wanted(rng: &mut Pcg64Mcg) -> Wanted {
    let mut size = || match rng.random_range(0..4) {
        0 => rng.random_range(0..3_u64),
        1 => rng.random_range(0..3000),
        _ => rng.random_range(0..300_000),
    };
    let (size, upload) = (size(), size());
    Wanted {
        size,
        upload: if rng.random_range(0..4) == 0 {
            upload
        } else {
            0
        },
        give_up_after: (rng.random_range(0..8) == 0).then(|| size / 2 + 1),
        last: rng.random_range(0..4) == 0,
        ..Wanted::default()
    }
}

/// Says whether a connection came about: thirty seconds of HELLOs may all get lost.
fn run(seed: u64) -> bool {
    let rng = &mut Pcg64Mcg::seed_from_u64(seed);
    let algorithm = Algorithm::ALL[rng.random_range(0..4)];
    let (up, down) = (direction(rng), direction(rng));
    let server = Config {
        congestion: Algorithm::ALL[rng.random_range(0..4)],
        keep_alive: Some(Duration::from_secs(1)),
        protection: match rng.random_range(0..3) {
            0 => Protection::Psk(SECRET.clone()),
            _ => Protection::Checksum,
        },
        stream_window: 4096 << rng.random_range(0..9),
        connection_window: 8192 << rng.random_range(0..10),
        max_streams: rng.random_range(1..6),
        max_datagram: rng.random_range(1200..9000),
        max_ack_delay: Duration::from_millis(rng.random_range(0..50)),
        ..Config::default()
    };
    let client = Config {
        congestion: algorithm,
        stream_window: 4096 << rng.random_range(0..9),
        connection_window: 8192 << rng.random_range(0..10),
        max_datagram: rng.random_range(1200..9000),
        max_ack_delay: Duration::from_millis(rng.random_range(0..50)),
        ..server.clone()
    };
    let mut sim = Sim::new(&up, &down, server, seed);
    let streams = (0..rng.random_range(1..=5))
        .map(|_| wanted(rng))
        .collect::<Vec<_>>();
    let what = format!("seed {seed}: {algorithm}, up {up}, down {down}, {streams:?}");
    sim.client_with(client, streams);
    if rng.random_range(0..6) == 0 {
        sim.clients[0].peer.application.appetite = Some(Appetite {
            bytes: rng.random_range(1000..100_000),
            pause: Duration::from_millis(rng.random_range(1..30)),
        });
    }
    if rng.random_range(0..4) == 0 {
        for n in 0..rng.random_range(1..4_u16) {
            let mut to = SocketAddr::new(address(CLIENT).ip(), 3000 + n);
            if rng.random_range(0..2) == 0 {
                to = address(&format!("10.0.3.{n}:1000"));
            }
            let after = Duration::from_millis(rng.random_range(500..10_000));
            sim.rebind_at(after, 0, to);
        }
    }
    // A panic in between tells which one it was.
    let guard = Told(what);
    // The slowest: 15 % lost in bursts at half a second of round trip and small windows.
    let done = sim.download(Duration::from_secs(900));
    let client = &sim.clients[0];
    let server = sim.server.all().next();
    let unheard = client.closed() == Some(&CloseReason::Handshake);
    assert!(
        done.is_some() || unheard,
        "stuck: client {:?} {:?}, server {:?}",
        client.closed(),
        client.peer.connection.stats(),
        server.map(|served| (served.application.closed(), served.connection.stats()))
    );
    if !unheard {
        sim.finish(Duration::from_secs(300));
    }
    std::mem::forget(guard);
    !unheard
}

struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("{}", self.0);
    }
}

fn run_all(seeds: std::ops::Range<u64>) {
    let half = |offset| seeds.clone().skip(offset).step_by(2);
    let unheard = |offset| half(offset).filter(|seed| !run(*seed)).count();
    let unheard = std::thread::scope(|scope| {
        let other = scope.spawn(|| unheard(1));
        unheard(0) + other.join().expect("no panic")
    });
    println!("{unheard} were not heard");
    assert!(unheard as u64 * 500 <= seeds.end - seeds.start, "{unheard}");
}

#[test]
fn random_networks() {
    run_all(0..1000);
}

#[test]
#[ignore = "needs a minute or two"]
fn ten_thousand_random_networks() {
    run_all(1000..11_000);
}
