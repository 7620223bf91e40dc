//! Where a proxy listens, and where its clients are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use labnet::rudp::{
    connection::{CloseReason, Config},
    exchange::Question,
    packet::ErrorCode,
};

use super::{config_of, everywhere, get, here, site, site_over, text};
use crate::support::{Lab, PATIENCE, dial::Dialed, loopback, wait_for};

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
    signals.set_read_timeout(Some(PATIENCE)).expect("a timeout");
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
        .set_read_timeout(Some(PATIENCE))
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
        signals.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        signals.send(b"SIGNEW:Tal").expect("sent");
        let mut buffer = [0; 100];
        let length = signals.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..length], b"SIGNACK", "{server}");
        let mut client = Dialed::to(server, from, config_of(&lab));
        assert_eq!(client.body(&Question::Echo("both")).1, b"both", "{server}");
    }
}
