//! What an attacker can try, each with what must come of it.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm,
        connection::{CloseReason, Config, Connection, Introduction},
        listener::{Reply, Unwelcome, Welcome},
        packet::{
            Accept, Binding, CookieReply, ErrorCode, Frame, HandshakeKey, Hello, Keys, Parameters,
            RESET_LEN, Reset, Text, Token, VERSION, cookie, encode_data_header, frame::encode_ack,
        },
    },
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::transport::sim::{
    CLIENT, Datagram, SERVER, Sim, address,
    puppet::{self, CID, Puppet, Seen, TOKEN, arrival, stream},
};

const RTT: Duration = Duration::from_millis(50);

fn puppet() -> Puppet {
    Puppet::connected(Config::default(), RTT)
}

#[test]
fn acknowledging_what_was_never_sent_ends_the_connection() {
    let mut puppet = puppet();
    let sent = puppet.write(10_000);
    let last = sent[sent.len() - 1];
    puppet.ack(&[last + 1..=last + 1], Duration::ZERO);
    puppet.assert_violation(ErrorCode::PROTOCOL_VIOLATION);
}

#[test]
fn a_packet_full_of_acknowledgements_ends_the_connection() {
    let mut puppet = puppet();
    let sent = puppet.write(10_000);
    let mut one = Vec::new();
    encode_ack([sent[0]..=sent[0]], Duration::ZERO, None, 100, &mut one);
    puppet.send_raw(&one);
    assert_eq!(puppet.closed(), None);
    puppet.send_raw(&one.repeat(2));
    puppet.assert_violation(ErrorCode::PROTOCOL_VIOLATION);
}

#[test]
fn acknowledging_a_number_that_was_left_out_ends_the_connection() {
    let mut puppet = puppet();
    for round in 0.. {
        if puppet.closed().is_some() {
            puppet.assert_violation(ErrorCode::PROTOCOL_VIOLATION);
            // A few windows of the beginning.
            assert!(round < 60, "{round}");
            break;
        }
        puppet.write(100_000);
        let last = puppet.seen[puppet.seen.len() - 1].number;
        puppet.now += RTT;
        puppet.ack(&[0..=last], Duration::ZERO);
        puppet.wait(RTT);
    }
}

#[test]
fn numbers_are_left_out_as_long_as_packets_are_sent() {
    let mut puppet = puppet();
    for _ in 0..3000 {
        puppet.write(10_000);
        puppet.wait(RTT / 10);
        puppet.ack_all();
    }
    let gaps: Vec<_> = puppet
        .seen
        .windows(2)
        .filter(|pair| pair[1].number > pair[0].number + 1)
        .map(|pair| pair[0].number)
        .collect();
    let mut longest = gaps.windows(2).map(|pair| pair[1] - pair[0]).max();
    let last = puppet.seen[puppet.seen.len() - 1].number;
    longest = longest.max(Some(last - gaps[gaps.len() - 1]));
    assert!(
        gaps.len() > 20 && longest <= Some(2048),
        "{longest:?} {}",
        gaps.len()
    );
    assert_eq!(puppet.closed(), None);
}

/// A packet of the client's seems to come from elsewhere; then nothing more comes from there.
fn spoofed_rebind(from: &str) {
    let mut puppet = puppet();
    let home = puppet.from;
    puppet.write(200_000);
    let before = puppet.seen.len();
    puppet.from = address(from);
    puppet.send(&[Frame::Ping]);
    let received = 13 + 1 + 4;
    // Three challenges, each waited for twice a probe timeout; of another host's path nothing is
    // known yet: 1.02 s.
    puppet.wait(Duration::from_millis(6500));
    let there = |puppet: &Puppet, since: usize| {
        let sent = puppet.seen[since..].iter();
        sent.filter(|seen| seen.to == address(from))
            .map(|seen| seen.size)
            .sum::<usize>()
    };
    let sent = there(&puppet, before);
    assert!((1..=3 * received).contains(&sent), "{sent}");
    assert!(
        puppet.seen[before..]
            .iter()
            .any(|seen| seen.challenge().is_some())
    );
    // It went back, and stays.
    assert_eq!(puppet.server.remote(), home);
    let back = puppet.seen.len();
    puppet.from = home;
    puppet.ack_all();
    puppet.wait(RTT);
    puppet.ack_all();
    assert!(puppet.seen.len() > back + 5);
    assert_eq!(there(&puppet, back), 0);
    assert_eq!(puppet.closed(), None);
}

#[test]
fn a_spoofed_port_gets_three_times_its_bytes_and_is_given_up() {
    spoofed_rebind("10.0.1.1:6666");
}

#[test]
fn a_spoofed_address_gets_three_times_its_bytes_and_is_given_up() {
    spoofed_rebind("10.6.6.6:6666");
}

#[test]
fn only_the_right_answer_from_the_right_address_proves_a_path() {
    let mut puppet = puppet();
    let home = puppet.from;
    puppet.from = address("10.0.1.1:2000");
    puppet.send(&[Frame::Ping]);
    let challenge = puppet.seen.iter().rev().find_map(|seen| seen.challenge());
    let challenge = challenge.expect("a challenge");
    puppet.send(&[Frame::PathResponse([0; 8])]);
    let moved = |puppet: &Puppet| format!("{:?}", puppet.events).contains("Moved");
    assert!(!moved(&puppet));
    puppet.send(&[Frame::PathResponse(challenge)]);
    assert!(moved(&puppet));
    assert_ne!(puppet.server.remote(), home);
}

#[test]
fn a_stranger_who_repeats_the_clients_packets_does_not_stop_a_transfer() {
    for algorithm in Algorithm::ALL {
        let link = "rate=10mbit,delay=15ms,queue=37500B";
        let mut sim = Sim::new(link, link, Config::default(), 1);
        sim.client(algorithm, &[3_000_000]);
        for n in 1..60 {
            sim.at(Duration::from_millis(50 * n), move |sim| {
                // The client's next packet is seen first from elsewhere.
                let mut taken = false;
                sim.path.tap = Some(Box::new(move |way, datagram: &mut Datagram, _| {
                    if way == Way::Up && !taken && datagram.bytes[0] == 0x80 {
                        taken = true;
                        datagram.from = address("10.6.6.6:6666");
                    }
                    true
                }));
            });
        }
        let took = sim.download(Duration::from_secs(60)).expect("not stuck");
        // Each lie costs a new beginning at the worst; half of the link is left.
        assert!(took < Duration::from_secs(6), "{algorithm}: {took:?}");
        sim.path.tap = None;
        sim.finish(Duration::from_secs(60));
    }
}

#[test]
fn forged_hellos_leave_nothing_behind() {
    let mut listener = puppet::listener();
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut hello = puppet::hello(&[9; cookie::COOKIE_LEN], Parameters::default());
    let mut out = Vec::new();
    for n in 0..100_000_u32 {
        let from = std::net::SocketAddr::from((n.to_be_bytes(), rng.random()));
        if n == 50_000 {
            hello = puppet::hello(&[], Parameters::default());
        }
        out.clear();
        let welcome = listener.handle_hello(VERSION, &hello, from, 1000, &mut out);
        assert!(matches!(
            welcome,
            Welcome::Reply(Reply::Cookie) | Welcome::Drop(Unwelcome::ForgedCookie)
        ));
        assert!(out.len() <= hello.len());
        // The door has no room to keep anything in but this buffer.
        assert!(out.capacity() < 4096);
    }
}

#[test]
fn a_cookie_is_of_no_use_elsewhere_or_later() {
    let mut listener = puppet::listener();
    let from = address(CLIENT);
    let cookie = puppet::cookie(&mut listener, from, 1000);
    let hello = puppet::hello(&cookie, Parameters::default());
    let mut out = Vec::new();
    let mut welcome = |from, unix| {
        out.clear();
        let welcome = listener.handle_hello(VERSION, &hello, from, unix, &mut out);
        format!("{welcome:?}")
    };
    assert!(welcome(from, 1000).starts_with("Admit"));
    assert!(welcome(from, 1060).starts_with("Admit"));
    assert_eq!(welcome(from, 1140), "Reply(Cookie)");
    for other in ["10.0.1.1:1001", "10.0.1.2:1000"] {
        assert_eq!(welcome(address(other), 1000), "Drop(ForgedCookie)");
    }
}

#[test]
fn a_short_hello_draws_nothing() {
    let mut listener = puppet::listener();
    let hello = puppet::hello(&[], Parameters::default());
    let mut out = Vec::new();
    let short = &hello[..1199];
    let welcome = listener.handle_hello(VERSION, short, address(CLIENT), 1000, &mut out);
    assert_eq!(welcome, Welcome::Drop(Unwelcome::Malformed));
    assert!(out.is_empty());
}

#[test]
fn a_hello_of_another_version_draws_less_than_itself() {
    let mut listener = puppet::listener();
    let hello = puppet::hello(&[], Parameters::default());
    let mut out = Vec::new();
    let welcome = listener.handle_hello(9, &hello, address(CLIENT), 1000, &mut out);
    assert_eq!(welcome, Welcome::Reply(Reply::Versions));
    assert!(!out.is_empty() && out.len() < 64);
}

#[test]
fn only_the_right_token_resets_a_server() {
    let mut puppet = puppet();
    let mut reset = |token, unknown| {
        let mut bytes = Vec::new();
        Reset { unknown, token }.encode(&mut bytes);
        let (at, now) = (arrival(puppet.from), puppet.now);
        puppet.server.handle_datagram(&at, &mut bytes, now);
        puppet.drain();
        puppet.closed().cloned()
    };
    for bit in 0..128 {
        let mut wrong = TOKEN;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(reset(Token::new(wrong), CID), None);
    }
    assert_eq!(reset(Token::new(TOKEN), labnet::rudp::packet::Cid(1)), None);
    assert_eq!(reset(Token::new(TOKEN), CID), Some(CloseReason::Reset));
}

#[test]
fn a_client_hears_of_a_servers_restart_and_believes_nobody_else() {
    let link = "rate=10mbit,delay=15ms";
    let mut sim = Sim::new(link, link, Config::default(), 1);
    sim.client(Algorithm::Cubic, &[5_000_000]);
    sim.run_for(Duration::from_secs(1));
    let cid = *sim.server.served.keys().next().expect("one");
    let to = sim.clients[0].peer.seen_as;
    for token in [[0; 16], [255; 16]] {
        let mut bytes = Vec::new();
        Reset {
            unknown: cid,
            token: Token::new(token),
        }
        .encode(&mut bytes);
        sim.deliver(Datagram {
            way: Way::Down,
            from: address(SERVER),
            to,
            ecn: None,
            bytes,
        });
    }
    sim.run_for(Duration::from_millis(100));
    assert_eq!(sim.clients[0].closed(), None);
    sim.server.served.clear();
    sim.run_for(Duration::from_secs(3));
    assert_eq!(sim.clients[0].closed(), Some(&CloseReason::Reset));
}

#[test]
fn a_client_that_only_keeps_the_connection_alive_is_told_of_a_restart() {
    let config = Config {
        keep_alive: Some(Duration::from_secs(2)),
        ..Config::default()
    };
    let mut sim = Sim::new("delay=5ms", "delay=5ms", config, 1);
    sim.client(Algorithm::Cubic, &[100_000]);
    sim.download(Duration::from_secs(10)).expect("done");
    sim.run_for(Duration::from_secs(10));
    sim.server.served.clear();
    sim.run_for(Duration::from_secs(3));
    assert_eq!(sim.clients[0].closed(), Some(&CloseReason::Reset));
}

#[test]
fn a_reset_is_shorter_than_what_draws_it() {
    let listener = puppet::listener();
    for length in 0..1500 {
        let mut out = Vec::new();
        let sent = listener.reset(CID, length, &mut out);
        assert_eq!(sent, length > RESET_LEN);
        assert!(out.is_empty() || out.len() < length);
    }
}

#[test]
fn fragments_with_holes_are_bounded() {
    let mut puppet = puppet();
    let mut sent = 0;
    while puppet.closed().is_none() {
        sent += 1;
        puppet.send(&[stream(0, 1 + 2 * sent, b"y")]);
        assert!(sent < 3000);
    }
    puppet.assert_violation(ErrorCode::FLOW_CONTROL_ERROR);
    // Reordering on a fast path leaves hundreds.
    assert!(sent > 500, "{sent}");
}

#[test]
fn streams_and_bytes_beyond_the_limits_end_the_connection() {
    let config = Config {
        max_streams: 4,
        stream_window: 1000,
        connection_window: 1500,
        ..Config::default()
    };
    let with = |frames: &[Frame<'_>], code| {
        let mut puppet = Puppet::connected(config.clone(), RTT);
        puppet.send(frames);
        puppet.assert_violation(code);
        assert_eq!(puppet.server.stream_count(), 0);
    };
    let bytes = [0; 1001];
    with(&[stream(4, 0, b"")], ErrorCode::STREAM_LIMIT_ERROR);
    with(
        &[stream(u64::MAX >> 2, 0, b"")],
        ErrorCode::STREAM_LIMIT_ERROR,
    );
    with(&[stream(1, 0, &bytes)], ErrorCode::FLOW_CONTROL_ERROR);
    with(&[stream(1, 1000, b"x")], ErrorCode::FLOW_CONTROL_ERROR);
    let both = [stream(1, 0, &bytes[..900]), stream(2, 0, &bytes[..700])];
    with(&both, ErrorCode::FLOW_CONTROL_ERROR);
    let reset = Frame::ResetStream {
        id: 1,
        code: ErrorCode(1),
        final_size: 1501,
    };
    with(&[reset], ErrorCode::FLOW_CONTROL_ERROR);
}

#[test]
fn a_streams_length_does_not_change() {
    let end = |id, offset, data| {
        Frame::Stream(labnet::rudp::packet::frame::Stream {
            id,
            offset,
            fin: true,
            data,
        })
    };
    for second in [stream(1, 5, b"x"), end(1, 0, b"xx"), end(1, 7, b"")] {
        let mut puppet = puppet();
        puppet.send(&[end(1, 0, b"hello"), second]);
        puppet.assert_violation(ErrorCode::FINAL_SIZE_ERROR);
    }
}

#[test]
fn a_client_that_never_confirms_is_forgotten() {
    let mut puppet = Puppet::unconfirmed(Config::default(), Parameters::default());
    puppet.wait(Duration::from_millis(9900));
    assert!(!puppet.server.is_over());
    puppet.wait(Duration::from_millis(200));
    assert!(puppet.server.is_over());
    // It was proven, and got little all the same.
    assert!(puppet.seen.len() < 40, "{}", puppet.seen.len());
}

#[test]
fn an_idle_client_is_forgotten() {
    let mut puppet = puppet();
    // What the client wants: less than the server does.
    puppet.wait(Duration::from_secs(29));
    assert!(!puppet.server.is_over());
    puppet.wait(Duration::from_secs(2));
    assert_eq!(puppet.closed(), Some(&CloseReason::Idle));
    assert!(puppet.server.is_over());
}

#[test]
fn repeated_packets_change_nothing() {
    let mut puppet = puppet();
    puppet.send(&[Frame::Ping]);
    let received = puppet.server.stats().packets_received;
    for old in 0..puppet.number {
        let next = std::mem::replace(&mut puppet.number, old);
        puppet.send(&[stream(1, 0, b"again")]);
        puppet.number = next;
    }
    let stats = puppet.server.stats();
    assert_eq!(stats.packets_received, received);
    assert_eq!(puppet.server.stream_count(), 1);
}

#[test]
fn frames_of_random_bytes_never_panic() {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut violations = 0;
    for _ in 0..3000 {
        let mut puppet = Puppet::unconfirmed(Config::default(), Parameters::default());
        for _ in 0..20 {
            let mut payload = vec![0; rng.random_range(1..60)];
            payload.iter_mut().for_each(|byte| *byte = rng.random());
            // Mostly types that exist.
            payload[0] = rng.random_range(0..0x20);
            if rng.random_range(0..3) == 0 {
                payload[1..].iter_mut().for_each(|byte| *byte &= 0x07);
            }
            puppet.send_raw(&payload);
            puppet.wait(Duration::from_millis(rng.random_range(0..100)));
        }
        violations += u32::from(puppet.closed().is_some());
    }
    assert!(violations > 1000, "{violations}");
}

#[test]
fn parameters_at_their_limits_do_no_harm() {
    let (zero, most) = (Duration::ZERO, Duration::from_secs(16));
    for max_ack_delay in [zero, most] {
        for limit in [0, (1 << 62) - 1] {
            let parameters = Parameters {
                max_ack_delay,
                initial_max_data: limit,
                initial_max_stream_data: limit,
                initial_max_streams: limit,
                ..Parameters::default()
            };
            let mut puppet = Puppet::unconfirmed(Config::default(), parameters);
            puppet.send(&[stream(0, 0, b"x")]);
            for _ in 0..50 {
                puppet.write(10_000);
                puppet.wait(RTT);
                puppet.ack_all();
            }
            assert_eq!(puppet.closed(), None);
        }
    }
}

#[test]
fn a_client_takes_no_packet_of_another_connection() {
    let introduction = Introduction {
        name: Text::new("Tal").expect("plain"),
        congestion: None,
        cid: CID,
        nonce: [1; 16],
    };
    let now = std::time::Instant::now();
    let config = Arc::new(Config::default());
    let mut client = Connection::connect(config, &introduction, address(SERVER), 1, now);
    let mut bytes = Vec::new();
    encode_data_header(CID, 0, &mut bytes);
    Frame::Close {
        code: ErrorCode::NO_ERROR,
        reason: "",
    }
    .encode(&mut bytes);
    Keys::Checksum(Binding::default()).seal(&mut bytes, 0, 0);
    client.handle_datagram(&arrival(address(SERVER)), &mut bytes, now);
    // It has none yet.
    assert_eq!(client.poll_event(), None);
    assert!(!client.is_over());
}

/// Bytes that went to an address since so many datagrams were seen.
fn bytes_to(puppet: &Puppet, to: &str, since: usize) -> usize {
    let sent = puppet.seen[since..].iter();
    let there = sent.filter(|seen| seen.to == address(to));
    there.map(|seen| seen.size).sum()
}

/// A DATA packet of one PING.
const SHORTEST: usize = 13 + 1 + 4;

#[test]
fn the_end_of_a_connection_is_no_louder_than_what_drew_it() {
    let spoofed = "10.6.6.6:6666";
    let mut puppet = puppet();
    let since = puppet.seen.len();
    puppet.from = address(spoofed);
    puppet.send(&[Frame::Ping]);
    let reason =
        "a reason that is told at a length that its three times eighteen bytes do not hold";
    puppet.server.close(ErrorCode::SHUTDOWN, reason, puppet.now);
    puppet.drain();
    for n in 2..20 {
        puppet.send(&[Frame::Ping]);
        let sent = bytes_to(&puppet, spoofed, since);
        assert!(sent <= 3 * n * SHORTEST, "{sent}");
    }
    // At its length it comes once there is room for it.
    assert!(bytes_to(&puppet, spoofed, since) > reason.len());
}

#[test]
fn what_an_unproven_address_gets_does_not_depend_on_how_much_there_is_to_say() {
    let spoofed = "10.6.6.6:6666";
    for holes in 0..40 {
        let mut puppet = puppet();
        for _ in 0..holes {
            puppet.number += 1;
            puppet.send(&[Frame::Ping]);
        }
        puppet.write(200_000);
        let since = puppet.seen.len();
        puppet.from = address(spoofed);
        let mut received = 0;
        for n in 0..10 {
            // Draws limits, a RESET_STREAM, a PATH_RESPONSE and an acknowledgement.
            let mut payload = Vec::new();
            Frame::PathChallenge([1; 8]).encode(&mut payload);
            stream(0, 1 + 40_000 * n, &[0; 3]).encode(&mut payload);
            puppet.number += u64::from(n % 2 == 0);
            puppet.send_raw(&payload);
            received += 13 + payload.len() + 4;
            let sent = bytes_to(&puppet, spoofed, since);
            assert!(sent <= 3 * received, "{holes}: {sent} for {received}");
            puppet.wait(Duration::from_millis(30));
            let sent = bytes_to(&puppet, spoofed, since);
            assert!(sent <= 3 * received, "{holes}: {sent} for {received}");
        }
    }
}

#[test]
fn cookie_after_cookie_does_not_make_a_client_shout() {
    let introduction = Introduction {
        name: Text::new("Tal").expect("plain"),
        congestion: None,
        cid: CID,
        nonce: [1; 16],
    };
    let now = std::time::Instant::now();
    let config = Arc::new(Config::default());
    let mut client = Connection::connect(config, &introduction, address(SERVER), 1, now);
    let mut hellos = 0;
    for n in 0..100 {
        let mut buffer = Vec::new();
        hellos += u32::from(client.poll_transmit(now, &mut buffer, 1).is_some());
        buffer.clear();
        CookieReply {
            destination: CID,
            nonce: [1; 16],
            cookie: &[n; 17],
        }
        .encode(&HandshakeKey::Checksum, &mut buffer);
        client.handle_datagram(&arrival(address(SERVER)), &mut buffer, now);
    }
    assert!((3..10).contains(&hellos), "{hellos}");
}

#[test]
fn a_challenge_from_where_the_client_is_not_draws_nothing() {
    let mut puppet = puppet();
    let home = puppet.from;
    puppet.number += 1;
    puppet.send(&[Frame::Ping]);
    let since = puppet.seen.len();
    // Older than the last: no reason to move.
    puppet.number -= 2;
    puppet.from = address("10.6.6.6:6666");
    puppet.send(&[Frame::PathChallenge([1; 8])]);
    puppet.wait(RTT);
    assert_eq!(puppet.server.remote(), home);
    let answered = puppet.seen[since..].iter().flat_map(Seen::frames);
    let answers = answered.filter(|frame| matches!(frame, Frame::PathResponse(_)));
    assert_eq!(answers.count(), 0);
}

#[test]
fn a_hello_again_draws_the_same_accept_and_another_draws_nothing() {
    let mut puppet = Puppet::unconfirmed(Config::default(), Parameters::default());
    let (home, elsewhere) = (puppet.from, address("10.6.6.6:6666"));
    let accept = |puppet: &mut Puppet, nonce: [u8; 16], from| {
        let mut bytes = Vec::new();
        Hello {
            cid: CID,
            nonce,
            cookie: &[],
            parameters: Parameters::default(),
        }
        .encode(&HandshakeKey::Checksum, &mut bytes);
        let now = puppet.now;
        let server = &mut puppet.server;
        server.handle_datagram(&arrival(from), &mut bytes, now);
        bytes.clear();
        let drawn = server.poll_transmit(now, &mut bytes, 10);
        drawn.and_then(|_| Accept::open(&bytes, &HandshakeKey::Checksum).ok())
    };
    let first = accept(&mut puppet, [1; 16], home);
    assert!(first.is_some());
    assert_eq!(accept(&mut puppet, [1; 16], home), first);
    assert_eq!(accept(&mut puppet, [2; 16], home), None);
    assert_eq!(accept(&mut puppet, [1; 16], elsewhere), None);
    // The client has shown that it knows.
    puppet.send(&[Frame::Ping]);
    assert_eq!(accept(&mut puppet, [1; 16], home), None);
}

#[test]
fn nothing_of_a_connection_that_the_client_did_not_take_harms_the_one_it_took() {
    let link = "rate=10mbit,delay=15ms";
    let mut sim = Sim::new(link, link, Config::default(), 1);
    sim.client(Algorithm::Cubic, &[100_000]);
    // The first ACCEPT, and whatever else that connection says, comes late: the server has given
    // the connection up and made another one by then.
    let held = Rc::new(RefCell::new(Vec::new()));
    sim.path.tap = Some(Box::new({
        let (held, start) = (Rc::clone(&held), sim.start());
        move |way, datagram: &mut Datagram, now| {
            let early = now < start + Duration::from_secs(11);
            let hold = way == Way::Down && datagram.bytes[0] != 0xc1 && early;
            if hold {
                held.borrow_mut().push(datagram.clone());
            }
            !hold
        }
    }));
    sim.run_until(Duration::from_secs(20), |sim| {
        sim.clients[0].peer.application.connected_at.is_some()
    });
    for datagram in held.take() {
        sim.deliver(datagram);
    }
    sim.download(Duration::from_secs(10)).expect("not stuck");
    assert_eq!(sim.clients[0].closed(), None);
    sim.finish(Duration::from_secs(10));
}
