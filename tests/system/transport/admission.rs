//! Who gets a connection, and with what.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use labnet::rudp::{
    connection::{CloseReason, Config},
    exchange::{Question, Statistics},
    packet::{Cid, CookieReply, ErrorCode, Hello, Parameters, Protection, Secret},
};

use super::{SECRET, config_of, get, site};
use crate::support::{PATIENCE, dial::Dialed, wait_for};

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

/// A thousand that have shown their address and say no more keep nobody out.
#[test]
fn handshakes_that_nobody_confirms_leave_the_door_open() {
    let (lab, server) = site("max_handshakes = 40", &[("files/a.txt", "a")]);
    let key = Protection::Checksum.handshake_key();
    let begin = |n: u8| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, n), 0)).expect("loopback");
        socket.connect(server).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
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
