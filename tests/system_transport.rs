//! The binary transport of `labnet serve`, spoken to by labnet's own core behind plain sockets.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use labnet::rudp::{
    connection::{CloseReason, Config},
    exchange::{Answer, ErrorCode as Why, Question, Range, Statistics, decode_list},
    packet::{Cid, CookieReply, ErrorCode, Hello, Parameters, Protection, Secret},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use support::{Lab, dial::Dialed, loopback, wait_for};

/// A lab with a proxy before its own origin; `more` are further keys of `[rudp]`.
fn site(more: &str, files: &[(&str, &str)]) -> (Lab, SocketAddr) {
    site_over(IpAddr::V4(loopback()), more, files)
}

/// The same with the proxy at an address of either family.
fn site_over(proxy: IpAddr, more: &str, files: &[(&str, &str)]) -> (Lab, SocketAddr) {
    let ip = loopback();
    // There is one address of IPv6's loopback, and others may be there.
    let port = if proxy.is_ipv4() { 49152 } else { 0 };
    let listen = SocketAddr::new(proxy, port);
    let config = format!(
        "[rudp]\nlisten = \"{listen}\"\n{more}\n\
         [scrap]\nlisten = \"{ip}:49153\"\n\
         [origin]\nlisten = \"{ip}:8080\"\nfiles = \"files\"\n"
    );
    let lab = Lab::start_with(&config, files, None);
    let server = lab.address("rudp", "udp");
    wait_for("the list", || {
        let mut client = Dialed::to(server, here(server), config_of(&lab));
        let (_, list) = client.body(&Question::List);
        client.close();
        (!list.is_empty()).then_some(())
    });
    (lab, server)
}

/// A client's address, of the server's family.
fn here(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Both families, with one socket and with several.
fn everywhere() -> [(IpAddr, u8); 4] {
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    [
        (loopback().into(), 1),
        (loopback().into(), 2),
        (six, 1),
        (six, 2),
    ]
}

/// The client's configuration for a lab: with its secret, if it has one.
fn config_of(lab: &Lab) -> Config {
    let text = std::fs::read_to_string(lab.config()).expect("there");
    let protection = if text.contains("\"psk\"") {
        Protection::Psk(Secret::new(SECRET).expect("long enough"))
    } else {
        Protection::Checksum
    };
    Config {
        protection,
        ..Config::default()
    }
}

const SECRET: &str = "correct horse battery staple";

/// Bytes that are nowhere the same.
fn text(length: usize) -> String {
    let mut random = Pcg32::seed_from_u64(length as u64);
    let letters = (0..length).map(|_| char::from(random.random_range(b'a'..=b'z')));
    letters.collect()
}

fn get(name: &str) -> Question<'_> {
    Question::Get {
        name,
        range: Range::default(),
        validator: None,
    }
}

#[test]
fn the_list_a_file_a_part_an_echo_and_the_statistics_come() {
    let long = text(3_000_000);
    for more in ["", &format!("protection = \"psk\"\nsecret = \"{SECRET}\"")] {
        let (lab, server) = site(more, &[("files/long.txt", &long), ("files/b.txt", "short")]);
        let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
        let (_, list) = client.body(&Question::List);
        assert_eq!(decode_list(&list).expect("names"), ["b.txt", "long.txt"]);
        let (head, body) = client.body(&get("long.txt"));
        assert!(body == long.as_bytes(), "{} bytes", body.len());
        assert_eq!((head.first, head.length), (0, Some(3_000_000)));
        assert!(head.digest.is_some());
        let (part, body) = client.body(&Question::Get {
            name: "long.txt",
            range: Range {
                first: 1_000_000,
                last: Some(1_000_099),
            },
            validator: head.validator.as_deref(),
        });
        assert_eq!((part.first, part.length), (1_000_000, Some(100)));
        assert_eq!(body, &long.as_bytes()[1_000_000..1_000_100]);
        // Who has it all hears that, and what it is to be.
        let validator = head.validator.as_deref();
        for validator in [validator, None] {
            let (end, body) = client.body(&Question::Get {
                name: "long.txt",
                range: Range::from(3_000_000),
                validator,
            });
            let lengths = (end.first, end.length, end.whole);
            assert_eq!(lengths, (3_000_000, Some(0), Some(3_000_000)));
            assert_eq!(
                (&end.validator, &end.digest),
                (&head.validator, &head.digest)
            );
            assert!(body.is_empty());
        }
        // Of another state of the file, all of it comes.
        let (whole, _) = client.body(&Question::Get {
            name: "b.txt",
            range: Range::from(3),
            validator: Some("\"another\""),
        });
        assert_eq!((whole.first, whole.length), (0, Some(5)));
        assert_eq!(client.body(&Question::Echo("123.45")).1, b"123.45");
        let (_, told) = client.body(&Question::Stat);
        let told = Statistics::decode(&told).expect("statistics");
        assert_eq!(told.get("congestion"), Some("cubic"));
        let (answer, _) = client.answer(&get("nothing.txt"));
        assert!(
            matches!(
                &answer,
                Answer::Error {
                    code: Why::NotFound,
                    ..
                }
            ),
            "{answer:?}"
        );
        let sessions = lab.json("/api/v1/sessions");
        let session = &sessions[0];
        assert_eq!(
            (&session["kind"], &session["name"]),
            (&"transport".into(), &"Tal".into())
        );
        assert!(session["packets_sent"].as_u64() > Some(2000), "{sessions}");
        client.close();
        wait_for("the end", || {
            (lab.metric("labnet_rudp_sessions") == 0.0).then_some(())
        });
    }
}

#[test]
fn many_files_come_at_once_over_several_sockets_of_one_address() {
    let names: Vec<(String, String)> = (0..12)
        .map(|n| (format!("files/{n}.txt"), text(200_000 + n)))
        .collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (lab, server) = site("shards = 3", &files);
    let mut clients: Vec<_> = (0..6)
        .map(|_| Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab)))
        .collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                let mut asked: Vec<_> = (0..12)
                    .map(|n| client.ask(&get(&format!("{n}.txt"))))
                    .collect();
                let mut whole = 0;
                client.run("all files", |client, _| {
                    asked.retain_mut(|one| match client.read(one) {
                        None => true,
                        Some((_, body)) => {
                            assert!(names.iter().any(|(_, text)| text.as_bytes() == body));
                            whole += 1;
                            false
                        }
                    });
                    (whole == 12).then_some(())
                });
            });
        }
    });
    assert_eq!(lab.metric("labnet_rudp_sessions"), 6.0);
}

#[test]
fn a_client_that_moves_in_mid_transfer_is_found() {
    let long = text(8_000_000);
    for (proxy, shards) in everywhere() {
        let more = format!("shards = {shards}");
        let (lab, server) = site_over(proxy, &more, &[("files/a.txt", &long)]);
        let mut client = Dialed::to(server, here(server), config_of(&lab));
        let mut asked = client.ask(&get("a.txt"));
        let mut moves = 0;
        let (_, body) = client.run("the file", |client, _| {
            let whole = client.read(&mut asked);
            if asked.received() > (moves + 1) * 1_000_000 && moves < 3 {
                moves += 1;
                // Another port, another port, another address if there is one.
                let ip = match here(server) {
                    IpAddr::V4(_) if moves == 3 => Ipv4Addr::new(127, 0, 0, 9).into(),
                    ip => ip,
                };
                client.socket = UdpSocket::bind((ip, 0)).expect("loopback");
            }
            whole
        });
        assert_eq!(moves, 3);
        assert!(body == long.as_bytes());
        let session = &lab.json("/api/v1/sessions")[0];
        assert!(session["path_changes"].as_u64() >= Some(3), "{session}");
    }
}

#[test]
fn a_slow_reader_makes_the_proxy_hold_its_window_and_no_more() {
    let long = text(30_000_000);
    let (lab, server) = site("send_memory = \"4MiB\"", &[("files/a.txt", &long)]);
    let slow = Config {
        stream_window: 100_000,
        connection_window: 100_000,
        ..config_of(&lab)
    };
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, slow);
    let warm = lab.resident();
    let asked = client.ask(&get("a.txt"));
    let start = Instant::now();
    client.run("two seconds", |_, _| {
        (start.elapsed() > Duration::from_secs(2)).then_some(())
    });
    let held = lab.json("/api/v1/sessions")[0]["held_bytes"].clone();
    assert!(held.as_u64() < Some(1_000_000), "{held}");
    let now = lab.resident();
    assert!(now < warm + (6 << 20), "{warm}, then {now}");
    // Nothing is lost of it.
    let mut asked = asked;
    let (_, body) = client.run("the file", |client, _| client.read(&mut asked));
    assert!(body == long.as_bytes());
}

#[test]
fn a_connection_that_crashes_ends_alone_and_its_client_hears_of_it() {
    let (lab, server) = site("", &[("files/a.txt", "a")]);
    let mut broken = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    let mut other = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    other.body(&get("a.txt"));
    broken.body(&get("a.txt"));
    let at = broken.socket.local_addr().expect("bound");
    let (code, body) = support::request(lab.http, "POST", &format!("/api/v1/sessions/{at}/crash"));
    assert_eq!(code, 202, "{body}");
    wait_for("the crash", || {
        (lab.metric("labnet_rudp_sessions_ended_total{reason=\"crash\"}") == 1.0).then_some(())
    });
    broken.ask(&get("a.txt"));
    broken
        .run("the reset", |client, _| client.closed.take())
        .eq(&CloseReason::Reset)
        .then_some(())
        .expect("a reset");
    assert_eq!(other.body(&get("a.txt")).1, b"a");
}

#[test]
fn a_proxy_that_was_killed_tells_its_clients_so() {
    let (mut lab, server) = site("", &[("files/a.txt", "a")]);
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    client.body(&get("a.txt"));
    lab.kill_and_restart();
    client.ask(&get("a.txt"));
    let closed = client.run("the reset", |client, _| client.closed.take());
    assert_eq!(closed, CloseReason::Reset);
    let mut again = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    assert_eq!(again.body(&get("a.txt")).1, b"a");
}

#[test]
fn connections_outlive_the_component_and_a_reload() {
    let long = text(20_000_000);
    for (proxy, shards) in everywhere() {
        let more = format!("shards = {shards}");
        let (lab, server) = site_over(proxy, &more, &[("files/a.txt", &long)]);
        let mut client = Dialed::to(server, here(server), config_of(&lab));
        let mut asked = client.ask(&get("a.txt"));
        let mut crashed = false;
        let mut reloaded = false;
        let (_, body) = client.run("the file", |client, _| {
            let whole = client.read(&mut asked);
            if asked.received() > 2_000_000 && !crashed {
                crashed = true;
                assert_eq!(
                    support::request(lab.http, "POST", "/api/v1/components/rudp/crash").0,
                    202
                );
            }
            if asked.received() > 8_000_000 && !reloaded {
                reloaded = true;
                let text = std::fs::read_to_string(lab.config()).expect("there");
                let text = text.replace("shards", "congestion = \"bbr\"\nshards");
                std::fs::write(lab.config(), text).expect("written");
                assert_eq!(support::request(lab.http, "POST", "/-/reload").0, 200);
            }
            whole
        });
        assert!(crashed && reloaded && body == long.as_bytes());
        let mut new = Dialed::to(server, here(server), config_of(&lab));
        let (_, told) = new.body(&Question::Stat);
        let told = Statistics::decode(&told).expect("statistics");
        assert_eq!(told.get("congestion"), Some("bbr"));
    }
}

#[test]
fn a_wrong_secret_is_met_with_silence() {
    let more = format!("protection = \"psk\"\nsecret = \"{SECRET}\"");
    let (lab, server) = site(&more, &[("files/a.txt", "a")]);
    let wrong = Secret::new("another horse battery staple").expect("long enough");
    for protection in [Protection::Checksum, Protection::Psk(wrong)] {
        let config = Config {
            protection,
            ..Config::default()
        };
        let mut client = Dialed::begin(server, Ipv4Addr::LOCALHOST, config, None);
        let start = Instant::now();
        client.run("a second", |_, _| {
            (start.elapsed() > Duration::from_secs(1)).then_some(())
        });
        assert!(!client.connection.is_open() && client.closed.is_none());
    }
    assert!(lab.metric("labnet_rudp_dropped_total{reason=\"integrity\"}") >= 2.0);
}

#[test]
fn who_asks_for_a_controller_gets_it_unless_the_lab_says_no() {
    use labnet::rudp::congestion::Algorithm;
    let classes = "[[rudp.class]]\nclients = [\"127.7.0.0/16\"]\ncongestion = \"vegas\"";
    for (more, wished, classed) in [
        (classes.to_owned(), "bbr", "bbr"),
        (
            format!("client_choice = false\n{classes}"),
            "cubic",
            "vegas",
        ),
    ] {
        let (lab, server) = site(&more, &[("files/a.txt", "a")]);
        for (ip, wish, is) in [
            ([127, 0, 0, 1], None, "cubic"),
            ([127, 0, 0, 1], Some(Algorithm::Bbr), wished),
            ([127, 7, 0, 1], None, "vegas"),
            ([127, 7, 0, 1], Some(Algorithm::Bbr), classed),
        ] {
            let ip = Ipv4Addr::from(ip);
            let mut client = Dialed::begin(server, ip, config_of(&lab), wish);
            client.run("the handshake", |client, _| {
                client.connection.is_open().then_some(())
            });
            let (_, told) = client.body(&Question::Stat);
            let told = Statistics::decode(&told).expect("statistics");
            assert_eq!(told.get("congestion"), Some(is), "{ip} {wish:?}");
            client.close();
        }
    }
}

#[test]
fn a_hello_that_is_repeated_finds_its_connection() {
    let (lab, server) = site("", &[("files/a.txt", "a")]);
    let accepted = || lab.metric("labnet_rudp_handshakes_total{result=\"accepted\"}");
    let before = accepted();
    let mut client = Dialed::begin(server, Ipv4Addr::LOCALHOST, config_of(&lab), None);
    client.run("the handshake", |client, _| {
        let open = client.connection.is_open();
        if !open {
            // As if no answer had come for a second: the same HELLO once more.
            client.settle();
            client.settle();
        }
        open.then_some(())
    });
    assert_eq!(client.body(&get("a.txt")).1, b"a");
    assert!(client.connection.stats().packets_sent > 4, "repeated");
    assert_eq!(accepted(), before + 1.0);
}

#[test]
fn who_is_refused_hears_why() {
    let (lab, server) = site("max_sessions = 2", &[("files/a.txt", "a")]);
    wait_for("the end of who asked for the list", || {
        (lab.metric("labnet_rudp_sessions") == 0.0).then_some(())
    });
    let [here, there] = [Ipv4Addr::new(127, 7, 0, 1), Ipv4Addr::new(127, 7, 0, 2)];
    let mut first = Dialed::to(server, here, config_of(&lab));
    let refused = |ip| {
        let mut client = Dialed::begin(server, ip, config_of(&lab), None);
        match client.run("the refusal", |client, _| client.closed.take()) {
            CloseReason::Peer { code, reason } => {
                assert_eq!(code, ErrorCode::CONNECTION_REFUSED);
                assert!(reason.contains("no more connections"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    };
    // One address has half of them.
    refused(here);
    let mut second = Dialed::to(server, there, config_of(&lab));
    refused(Ipv4Addr::new(127, 7, 0, 3));
    // Sessions of the signals and connections share the bound.
    let signals = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    signals.send_to(b"SIGNEW:Tal", server).expect("sent");
    signals.send_to(b"SIGNECHO:290;x", server).expect("sent");
    for (reason, count) in [("address_full", 1.0), ("sessions_full", 2.0)] {
        let series = format!("labnet_rudp_dropped_total{{reason=\"{reason}\"}}");
        wait_for(reason, || (lab.metric(&series) == count).then_some(()));
    }
    assert_eq!(
        lab.metric("labnet_rudp_sessions"),
        3.0,
        "one of them half open"
    );
    for client in [&mut first, &mut second] {
        assert_eq!(client.body(&get("a.txt")).1, b"a");
    }
}

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
        assert!(
            start.elapsed() < support::PATIENCE,
            "{}",
            fetches("waiting")
        );
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

/// A thousand that have shown their address and say no more keep nobody out.
#[test]
fn handshakes_that_nobody_confirms_leave_the_door_open() {
    let (lab, server) = site("max_handshakes = 40", &[("files/a.txt", "a")]);
    let key = Protection::Checksum.handshake_key();
    let begin = |n: u8| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, n), 0)).expect("loopback");
        socket.connect(server).expect("loopback");
        socket
            .set_read_timeout(Some(support::PATIENCE))
            .expect("a timeout");
        let (cid, nonce) = (Cid(rand::random()), rand::random());
        let mut cookie = Vec::new();
        for _ in 0..2 {
            let mut hello = Vec::new();
            let parameters = Parameters::default();
            Hello {
                cid,
                nonce,
                cookie: &cookie,
                parameters,
            }
            .encode(&key, &mut hello);
            socket.send(&hello).expect("loopback");
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer).expect("a cookie, then an ACCEPT");
            if let Ok(reply) = CookieReply::open(&buffer[..length], &key) {
                cookie = reply.cookie.to_vec();
            }
        }
        socket
    };
    let mut half_open = Vec::new();
    for n in 0..60 {
        half_open.push(begin(66 + n % 6));
    }
    let under_way = "labnet_rudp_half_open{protocol=\"transport\"}";
    wait_for("the table to be full", || {
        (lab.metric(under_way) >= 35.0).then_some(())
    });
    let mut fresh = Dialed::to(server, Ipv4Addr::new(127, 0, 0, 99), config_of(&lab));
    assert_eq!(fresh.body(&get("a.txt")).1, b"a");
    assert!(lab.metric("labnet_rudp_handshakes_total{result=\"displaced\"}") > 0.0);
}

#[test]
fn it_is_spoken_over_ipv6_too() {
    let ip = loopback();
    let long = text(1_000_000);
    let lab = Lab::start_with(
        &format!(
            "[rudp]\nlisten = \"[::1]:0\"\nshards = 2\n\
             [scrap]\nlisten = \"{ip}:49153\"\n\
             [origin]\nlisten = \"{ip}:8080\"\nfiles = \"files\"\n"
        ),
        &[("files/a.txt", &long)],
        None,
    );
    let server = lab.address("rudp", "udp");
    let mut client = Dialed::to(server, Ipv6Addr::LOCALHOST, config_of(&lab));
    wait_for("the list", || {
        let (_, list) = client.body(&Question::List);
        (!list.is_empty()).then_some(())
    });
    assert!(client.body(&get("a.txt")).1 == long.as_bytes());
    let datagram = client.connection.stats().mtu;
    assert!(datagram <= Config::ETHERNET_IPV6, "{datagram}");
}

/// Those who are there finish where they are; whoever comes goes where the proxy listens now.
#[test]
fn an_address_that_the_proxy_leaves_is_held_until_the_last_has_ended() {
    let long = text(6_000_000);
    let files = [("files/a.txt", long.as_str())];
    let (lab, server) = site("shards = 2", &files);
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    let mut asked = client.ask(&get("a.txt"));
    client.run("some of the file", |client, _| {
        let whole = client.read(&mut asked);
        (whole.is_some() || asked.received() > 100_000).then_some(())
    });
    let signals = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    signals.connect(server).expect("loopback");
    signals
        .set_read_timeout(Some(support::PATIENCE))
        .expect("a timeout");
    let ask = |socket: &UdpSocket, signal: &str| {
        socket.send(signal.as_bytes()).expect("loopback");
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(ask(&signals, "SIGNEW:Tal"), "SIGNACK");
    assert_eq!(ask(&signals, "SIGNECHO:290;x"), "ECHOREPLY:290;x");
    let moved = loopback();
    let config = std::fs::read_to_string(lab.config()).expect("there");
    let before = format!("listen = \"{server}\"");
    assert!(config.contains(&before), "{config}");
    let after = format!("listen = [\"{moved}:49152\", \"[::1]:0\"]");
    std::fs::write(lab.config(), config.replace(&before, &after)).expect("written");
    let (code, answer) = lab.post("/-/reload");
    assert_eq!(code, 200, "{answer}");
    let new = SocketAddr::from((moved, 49152));
    wait_for("the new address", || {
        (lab.address("rudp", "udp") == new).then_some(())
    });
    assert_eq!(lab.metric("labnet_rudp_draining_sessions"), 2.0);
    // Both go on where they are.
    let (_, body) = client.run("the rest of the file", |client, _| client.read(&mut asked));
    assert!(body == long.as_bytes(), "{} bytes", body.len());
    assert_eq!(ask(&signals, "SIGNECHO:291;y"), "ECHOREPLY:291;y");
    assert_eq!(
        lab.json("/api/v1/sessions").as_array().map(Vec::len),
        Some(2)
    );
    // Whoever is new is told so there, and served here, over IPv6 as well.
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    stranger.connect(server).expect("loopback");
    stranger
        .set_read_timeout(Some(support::PATIENCE))
        .expect("a timeout");
    let refused = ask(&stranger, "SIGNEW:Dan");
    assert!(
        refused.starts_with("SIGNREFUSED:the proxy listens at another"),
        "{refused}"
    );
    let mut late = Dialed::begin(server, Ipv4Addr::LOCALHOST, config_of(&lab), None);
    match late.run("the refusal", |client, _| client.closed.take()) {
        CloseReason::Peer { code, reason } => {
            assert_eq!(code, ErrorCode::CONNECTION_REFUSED);
            assert!(reason.contains("another address"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let status = lab.json("/api/v1/status").to_string();
    let six = status
        .split("udp [::1]:")
        .nth(1)
        .expect("listens over IPv6");
    let port: String = six.chars().take_while(char::is_ascii_digit).collect();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port.parse().expect("a port")));
    let mut fresh = [
        Dialed::to(new, Ipv4Addr::LOCALHOST, config_of(&lab)),
        Dialed::to(six, Ipv6Addr::LOCALHOST, config_of(&lab)),
    ];
    for client in &mut fresh {
        assert!(client.body(&get("a.txt")).1 == long.as_bytes());
    }
    assert!(UdpSocket::bind(server).is_err(), "still held");
    client.close();
    assert_eq!(ask(&signals, "SIGNEND:292;SIGNEND"), "ACKEND:292");
    wait_for("the old address to be free", || {
        UdpSocket::bind(server).ok()
    });
    assert_eq!(lab.metric("labnet_rudp_draining_sessions"), 0.0);
    for client in &mut fresh {
        assert_eq!(client.body(&Question::Echo("still")).1, b"still");
    }
}

#[test]
fn every_address_of_the_host_is_those_of_both_families() {
    let port = UdpSocket::bind("[::]:0")
        .and_then(|free| free.local_addr())
        .expect("free")
        .port();
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[rudp]\nlisten = \"[::]:{port}\"\nshards = 2\n[scrap]\nlisten = \"{ip}:49153\"\n\
         [origin]\nlisten = \"{ip}:8080\"\n"
    ));
    for (server, from) in [
        (
            (IpAddr::from(Ipv4Addr::LOCALHOST), port),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ),
        (
            (IpAddr::from(Ipv6Addr::LOCALHOST), port),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ),
        (
            (IpAddr::from([127, 3, 2, 1]), port),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ),
    ] {
        let server = SocketAddr::from(server);
        let signals = UdpSocket::bind((from, 0)).expect("loopback");
        signals.connect(server).expect("loopback");
        signals
            .set_read_timeout(Some(support::PATIENCE))
            .expect("a timeout");
        signals.send(b"SIGNEW:Tal").expect("sent");
        let mut buffer = [0; 100];
        let length = signals.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..length], b"SIGNACK", "{server}");
        let mut client = Dialed::to(server, from, config_of(&lab));
        assert_eq!(client.body(&Question::Echo("both")).1, b"both", "{server}");
    }
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

#[test]
fn a_client_that_breaks_the_rules_is_shown_the_door() {
    let (lab, server) = site("", &[("files/a.txt", "a")]);
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    let stream = client.connection.open().expect("a stream");
    let line = "x".repeat(5000);
    client.connection.write(stream, line.into()).expect("open");
    client.connection.finish(stream).expect("open");
    // A question that is none is answered on its stream; the connection lives.
    assert_eq!(client.body(&Question::Echo("still")).1, b"still");
    client
        .connection
        .close(ErrorCode::NO_ERROR, "", Instant::now());
    client.run("goodbye", |client, _| {
        client.connection.is_over().then_some(())
    });
}
