//! Many at once, and those who ask for much.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use labnet::rudp::{
    connection::Config,
    exchange::Question,
    packet::{Cid, Hello, Parameters, Protection},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use super::{config_of, get, site, text};
use crate::support::{PATIENCE, dial::Dialed, request, wait_for};

/// Whoever asks for much and reads nothing of it keeps nobody from the origin, and may read on later.
#[test]
fn files_that_nobody_reads_leave_the_origin_to_others() {
    let long = text(3_000_000);
    let (lab, server) = site("max_fetches = 24", &[("files/a.txt", &long)]);
    let flooder = Ipv4Addr::new(127, 0, 0, 66);
    let mut flood: Vec<_> = (0..8)
        .map(|_| Dialed::to(server, flooder, config_of(&lab)))
        .collect();
    let mut asked: Vec<Vec<_>> = Vec::new();
    for client in &mut flood {
        asked.push((0..16).map(|_| client.ask(&get("a.txt"))).collect());
    }
    let turn = |client: &mut Dialed| {
        let mut turns = 0;
        client.run("a turn", |_, _| {
            turns += 1;
            (turns > 1).then_some(())
        });
    };
    let fetches = |state| lab.metric(&format!("labnet_rudp_fetches{{state=\"{state}\"}}"));
    let start = Instant::now();
    while fetches("waiting") < 60.0 {
        flood.iter_mut().for_each(turn);
        assert!(start.elapsed() < PATIENCE, "{}", fetches("waiting"));
    }
    assert!(fetches("running") <= 12.0, "an address has its share");
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                flood.iter_mut().for_each(turn);
            }
        });
        // Another address has what is left, and more of them than that take turns.
        let mut others: Vec<_> = (0..3)
            .map(|n| Dialed::to(server, Ipv4Addr::new(127, 0, 0, 99 + n), config_of(&lab)))
            .collect();
        for client in &mut others {
            assert!(client.body(&get("a.txt")).1 == long.as_bytes());
        }
        busy.store(false, Ordering::Relaxed);
    });
    // All of the flood's have had a turn, and given it back; what is read at last is whole.
    for (client, asked) in flood.iter_mut().zip(&mut asked) {
        let mut whole = 0;
        client.run("what nobody has read", |client, _| {
            asked.retain_mut(|one| match client.read(one) {
                None => true,
                Some((_, body)) => {
                    assert!(body == long.as_bytes(), "{} bytes", body.len());
                    whole += 1;
                    false
                }
            });
            (whole == 16).then_some(())
        });
    }
    assert_eq!((fetches("running"), fetches("waiting")), (0.0, 0.0));
}

/// 544 files of one address, of which nothing is read: nobody else's wait, and the page is there.
#[test]
fn hundreds_of_files_that_nobody_reads_disturb_nobody() {
    let long = text(3_000_000);
    let (lab, server) = site("", &[("files/a.txt", &long)]);
    let narrow = Config {
        stream_window: 100_000,
        connection_window: 100_000,
        ..config_of(&lab)
    };
    let flooder = Ipv4Addr::new(127, 0, 0, 66);
    let mut flood: Vec<_> = (0..34)
        .map(|_| Dialed::to(server, flooder, narrow.clone()))
        .collect();
    let mut asked = Vec::new();
    for client in &mut flood {
        asked.extend((0..16).map(|_| client.ask(&get("a.txt"))));
    }
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                for client in &mut flood {
                    let mut turns = 0;
                    client.run("a turn", |_, _| {
                        turns += 1;
                        (turns > 1).then_some(())
                    });
                }
            }
        });
        wait_for("the flood", || {
            let waiting = lab.metric("labnet_rudp_fetches{state=\"waiting\"}");
            (waiting > 200.0).then_some(())
        });
        let origin = lab.address("origin", "http");
        let mut other = Dialed::to(server, Ipv4Addr::new(127, 0, 0, 99), config_of(&lab));
        for _ in 0..16 {
            assert!(other.body(&get("a.txt")).1 == long.as_bytes());
            assert_eq!(request(origin, "GET", "/").0, 200);
        }
        busy.store(false, Ordering::Relaxed);
    });
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let more = "max_sessions = 25000\nidle_timeout = \"10m\"";
    let (lab, server) = site(more, &[("files/a.txt", "a")]);
    let open = |n: u32| {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 50, 0, 1).to_bits() + n);
        let mut client = Dialed::to(server, ip, config_of(&lab));
        assert_eq!(client.body(&Question::Echo("x")).1, b"x");
        // Its search for the path's MTU takes some round trips more.
        let mut heard = (Instant::now(), 0);
        client.run("silence", |client, _| {
            let packets = client.connection.stats().packets_received;
            if heard.1 != packets {
                heard = (Instant::now(), packets);
            }
            (heard.0.elapsed() > Duration::from_millis(200)).then_some(())
        });
        client.settle();
        // The socket goes, the connection stays.
    };
    let open_all = |numbers: std::ops::Range<u32>| {
        thread::scope(|scope| {
            for first in 0..100 {
                let numbers = numbers.clone();
                scope.spawn(move || numbers.skip(first).step_by(100).for_each(open));
            }
        });
    };
    open_all(0..200);
    let before = lab.resident();
    open_all(200..10_200);
    assert_eq!(lab.metric("labnet_rudp_sessions"), 10_200.0);
    let each = (lab.resident() - before) / 10_000;
    println!("{each} bytes each");
    assert!(each < 10_000, "{each} bytes each");
    // What the last handshakes have left to do is done within seconds.
    wait_for("idleness", || {
        let (cpu, second) = (lab.cpu(), Duration::from_secs(1));
        thread::sleep(second);
        (lab.cpu() - cpu < second / 50).then_some(())
    });
    assert_eq!(lab.metric("labnet_rudp_sessions"), 10_200.0);
}

#[test]
fn a_flood_of_forged_hellos_leaves_memory_flat_and_a_transfer_running() {
    const FLOOD: usize = 1_000_000;
    let long = text(20_000_000);
    let (lab, server) = site("", &[("files/a.txt", &long)]);
    let key = Protection::Checksum.handshake_key();
    let flood = |count: usize| {
        let mut random = Pcg32::seed_from_u64(1);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(server).expect("loopback");
        let mut hello = Vec::new();
        for n in 0..count {
            hello.clear();
            let cookie: [u8; 17] = random.random();
            Hello {
                cid: Cid(random.random()),
                nonce: random.random(),
                cookie: if n % 2 == 0 { &[] } else { &cookie },
                parameters: Parameters::default(),
            }
            .encode(&key, &mut hello);
            // A full buffer is the kernel's business.
            let _ = socket.send(&hello);
        }
    };
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    client.body(&get("a.txt"));
    flood(50_000);
    let warm = lab.resident();
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(FLOOD));
        while !flood.is_finished() {
            let (_, body) = client.body(&get("a.txt"));
            assert!(body == long.as_bytes());
        }
    });
    let after = lab.resident();
    assert!(after < warm + (8 << 20), "{warm} then {after}");
    assert_eq!(lab.metric("labnet_rudp_sessions"), 1.0);
    let forged = lab.metric("labnet_rudp_dropped_total{reason=\"forged_cookie\"}");
    let cookies = lab.metric("labnet_rudp_handshakes_total{result=\"cookie\"}");
    println!("{forged} forged cookies dropped, {cookies} cookies given");
    // A cookie that seems to be of another minute is answered by a fresh one.
    assert!(forged > 100.0 && cookies > 10_000.0);
}
