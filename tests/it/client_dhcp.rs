//! The client's DHCP core against servers that lose, refuse and lie, in virtual time.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use labnet::{
    client::{
        Exchange, Patience, Transmit,
        dhcp::{ClientLease, DhcpClient, DhcpError, Identity},
    },
    config::MacAddress,
    watch::event::packet::{Again, Fate},
};
use proptest::prelude::*;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
const OFFERED: [u8; 4] = [127, 20, 30, 41];
const SERVER: [u8; 4] = [127, 0, 0, 1];

fn identity() -> Identity {
    Identity {
        mac: MAC,
        host_name: "tal".to_owned(),
    }
}

fn client(now: Instant) -> DhcpClient {
    DhcpClient::new(identity(), Patience::LAN, 1, now)
}

/// The value of one option of an encoded message.
fn option(message: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut rest = &message[240..];
    while let [code, length, tail @ ..] = rest {
        match code {
            0 => rest = &rest[1..],
            255 => return None,
            _ => {
                let (value, after) = tail.split_at(usize::from(*length));
                if *code == wanted {
                    return Some(value.to_vec());
                }
                rest = after;
            }
        }
    }
    None
}

/// A reply to `request`; `options` follow the type.
fn reply(request: &[u8], kind: u8, yiaddr: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = request[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&yiaddr);
    bytes.extend([53, 1, kind]);
    for (code, value) in options {
        bytes.extend([*code, u8::try_from(value.len()).expect("short")]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes
}

fn offer(request: &[u8]) -> Vec<u8> {
    reply(
        request,
        2,
        OFFERED,
        &[(54, &SERVER), (51, &[0, 1, 0x51, 0x80])],
    )
}

fn ack(request: &[u8]) -> Vec<u8> {
    reply(
        request,
        5,
        OFFERED,
        &[
            (54, &SERVER),
            (51, &[0, 1, 0x51, 0x80]),
            (1, &[255, 255, 255, 0]),
            (3, &[127, 20, 30, 101]),
            (6, &[127, 0, 0, 1, 127, 0, 0, 2]),
            (15, b"lab.test"),
        ],
    )
}

fn nak(request: &[u8], message: &str) -> Vec<u8> {
    reply(
        request,
        6,
        [0; 4],
        &[(54, &SERVER), (56, message.as_bytes())],
    )
}

fn next(client: &mut DhcpClient) -> Transmit {
    client.poll_transmit().expect("something to send")
}

fn kind(message: &Transmit) -> u8 {
    option(&message.payload, 53).expect("a type")[0]
}

#[test]
fn who_has_no_address_yet_asks_for_answers_by_broadcast() {
    // RFC 2131 section 2: the first bit of the flags.
    let flags = |message: &Transmit| message.payload[10..12].to_vec();
    let now = Instant::now();
    let mut usual = client(now);
    assert_eq!(flags(&next(&mut usual)), [0, 0]);
    let mut client = client(now);
    client.hear_broadcasts();
    let discover = next(&mut client);
    assert_eq!((kind(&discover), flags(&discover)), (1, vec![0x80, 0]));
    assert_eq!(client.poll_transmit(), None, "once");
    client.handle_datagram(&offer(&discover.payload), now);
    let request = next(&mut client);
    assert_eq!((kind(&request), flags(&request)), (3, vec![0x80, 0]));
}

/// Lets the client wait in vain once.
fn wait(client: &mut DhcpClient, now: &mut Instant) -> Duration {
    let deadline = client.deadline().expect("a deadline");
    let waited = deadline - *now;
    *now = deadline;
    client.handle_timeout(*now);
    waited
}

#[test]
fn four_messages_give_a_lease() {
    let now = Instant::now();
    let mut client = client(now);

    let discover = next(&mut client);
    assert_eq!(kind(&discover), 1);
    assert_eq!(discover.fate, Fate::Sent);
    assert!(discover.payload.len() >= 300, "BOOTP's minimum");
    assert_eq!(&discover.payload[28..34], &MAC.0);
    assert_eq!(
        option(&discover.payload, 61),
        Some(vec![1, 2, 0, 0, 0, 0, 7])
    );
    assert_eq!(option(&discover.payload, 12), Some(b"tal".to_vec()));
    assert!(option(&discover.payload, 55).is_some());
    assert_eq!(option(&discover.payload, 50), None);
    assert_eq!(client.poll_transmit(), None);

    client.handle_datagram(&offer(&discover.payload), now);
    let request = next(&mut client);
    assert_eq!(kind(&request), 3);
    assert_eq!(
        request.payload[4..8],
        discover.payload[4..8],
        "one transaction"
    );
    assert_eq!(option(&request.payload, 50), Some(OFFERED.to_vec()));
    assert_eq!(option(&request.payload, 54), Some(SERVER.to_vec()));
    assert_eq!(request.payload[12..16], [0; 4], "no ciaddr while selecting");

    assert_eq!(client.outcome(), None);
    client.handle_datagram(&ack(&request.payload), now);
    let lease = client.outcome().expect("an end").expect("a lease");
    assert_eq!(
        lease,
        ClientLease {
            address: OFFERED.into(),
            server: SERVER.into(),
            time: Some(Duration::from_secs(86_400)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![Ipv4Addr::new(127, 20, 30, 101)],
            name_servers: vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)],
            domain: Some("lab.test".to_owned()),
        }
    );
    assert_eq!(lease.to_string(), "127.20.30.41 for 1 day");
    assert_eq!(client.deadline(), None);

    let release = DhcpClient::release(&identity(), &lease, 3);
    assert_eq!(kind(&release), 7);
    assert_eq!(release.payload[12..16], OFFERED);
    assert_eq!(option(&release.payload, 54), Some(SERVER.to_vec()));
    assert_eq!(
        option(&release.payload, 61),
        Some(vec![1, 2, 0, 0, 0, 0, 7])
    );
    assert_eq!(option(&release.payload, 50), None);
    assert_eq!(option(&release.payload, 55), None);
}

#[test]
fn silence_is_met_with_waits_that_double_and_then_an_error() {
    let mut now = Instant::now();
    let mut client = client(now);
    let first = next(&mut client);
    let mut waits = Vec::new();
    for _ in 0..2 {
        waits.push(wait(&mut client, &mut now).as_secs_f64());
        let again = next(&mut client);
        assert_eq!(again.fate, Fate::SentAgain(Again::Unanswered));
        assert_eq!(kind(&again), 1);
        assert_eq!(again.payload[4..8], first.payload[4..8]);
    }
    waits.push(wait(&mut client, &mut now).as_secs_f64());
    for (wait, nominal) in waits.iter().zip([2.0, 4.0, 8.0]) {
        assert!((wait - nominal).abs() <= 0.5, "{wait} s for {nominal} s");
    }
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(
        client.outcome(),
        Some(Err(DhcpError::Silence {
            tries: 3,
            discovering: true
        }))
    );
}

#[test]
fn a_closed_port_is_told_at_once() {
    let mut client = client(Instant::now());
    client.handle_refused();
    let error = client.outcome().expect("an end").expect_err("nobody there");
    assert_eq!(error, DhcpError::NotThere);
    assert!(error.to_string().contains("nothing listens"), "{error}");
    assert_eq!(client.deadline(), None);
}

#[test]
fn the_seconds_field_counts_from_the_first_message() {
    let mut now = Instant::now();
    let mut client = client(now);
    assert_eq!(next(&mut client).payload[8..10], [0, 0]);
    let waited = wait(&mut client, &mut now);
    let secs = next(&mut client).payload[8..10].to_vec();
    assert_eq!(
        secs,
        u16::try_from(waited.as_secs())
            .expect("short")
            .to_be_bytes()
    );
}

#[test]
fn a_lost_ack_is_asked_for_again_and_a_second_one_changes_nothing() {
    let mut now = Instant::now();
    let mut client = client(now);
    let discover = next(&mut client);
    client.handle_datagram(&offer(&discover.payload), now);
    client.handle_datagram(&offer(&discover.payload), now);
    let request = next(&mut client);
    assert_eq!(client.poll_transmit(), None, "the second offer is ignored");
    wait(&mut client, &mut now);
    let again = next(&mut client);
    assert_eq!(
        (kind(&again), again.fate),
        (3, Fate::SentAgain(Again::Unanswered))
    );
    client.handle_datagram(&ack(&request.payload), now);
    let lease = client.outcome();
    client.handle_datagram(&ack(&request.payload), now);
    client.handle_datagram(&nak(&request.payload, "too late"), now);
    assert_eq!(client.outcome(), lease);
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn a_nak_starts_over_with_a_new_transaction_and_too_many_end_it() {
    let now = Instant::now();
    let mut client = client(now);
    let mut transactions = Vec::new();
    for round in 1..=4 {
        let discover = next(&mut client);
        assert_eq!(kind(&discover), 1);
        transactions.push(discover.payload[4..8].to_vec());
        client.handle_datagram(&offer(&discover.payload), now);
        let request = next(&mut client);
        client.handle_datagram(&nak(&request.payload, &format!("no {round}\x1b[2J")), now);
    }
    transactions.dedup();
    assert_eq!(transactions.len(), 4);
    let error = client.outcome().expect("an end").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the server refused its own offers 4 times and says: no 4\u{fffd}[2J"
    );
}

#[test]
fn replies_that_are_not_ours_are_ignored() {
    let now = Instant::now();
    let mut client = client(now);
    let discover = next(&mut client);
    let good = offer(&discover.payload);
    let spoil = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    let no_server = reply(&discover.payload, 2, OFFERED, &[]);
    let hostile = [
        spoil(0, 1),           // a request
        spoil(2, 16),          // another length of address
        spoil(2, 255),         // and one beyond the field
        spoil(4, good[4] ^ 1), // another transaction
        spoil(33, 0xff),       // another client
        spoil(236, 0),         // no cookie
        no_server,
        reply(&discover.payload, 2, [0; 4], &[(54, &SERVER)]),
        reply(&discover.payload, 2, [255; 4], &[(54, &SERVER)]),
        reply(&discover.payload, 2, [239, 1, 2, 3], &[(54, &SERVER)]),
        reply(&discover.payload, 5, OFFERED, &[(54, &SERVER)]), // ACK before REQUEST
        nak(&discover.payload, "before REQUEST"),
        good[..239].to_vec(),
        Vec::new(),
    ];
    for bad in hostile {
        client.handle_datagram(&bad, now);
        assert_eq!(client.poll_transmit(), None, "{bad:02x?}");
    }
    client.handle_datagram(&good, now);
    let request = next(&mut client);
    let other_server: &[(u8, &[u8])] = &[(54, &[127, 0, 0, 9]), (51, &[0, 0, 0, 9])];
    for bad in [
        reply(
            &request.payload,
            5,
            [127, 20, 30, 42],
            &[(54, &SERVER), (51, &[0, 0, 0, 9])],
        ),
        reply(&request.payload, 5, OFFERED, other_server),
        reply(&request.payload, 6, [0; 4], other_server),
        reply(&request.payload, 5, OFFERED, &[(54, &SERVER)]), // no lease time
        reply(
            &request.payload,
            5,
            OFFERED,
            &[(54, &SERVER), (51, &[0, 0, 0, 0])],
        ),
        reply(
            &request.payload,
            5,
            OFFERED,
            &[(54, &SERVER), (51, &[0, 0])],
        ),
    ] {
        client.handle_datagram(&bad, now);
        assert_eq!(client.outcome(), None, "{bad:02x?}");
        assert_eq!(client.poll_transmit(), None);
    }
    // A broken option hides none of the others: a host name that is no UTF-8, a domain that steers
    // a terminal, a list of name servers with half an address.
    client.handle_datagram(
        &reply(
            &request.payload,
            5,
            OFFERED,
            &[
                (12, &[0xff, 0xfe]),
                (15, b"lab\x1b]0;x\x07.test"),
                (6, &[127, 0, 0, 1, 9, 9]),
                (80, &[1]),
                (81, b"x"),
                (51, &[0xff; 4]),
            ],
        ),
        now,
    );
    let lease = client.outcome().expect("an end").expect("a lease");
    assert_eq!(lease.time, None);
    assert_eq!(lease.name_servers, [Ipv4Addr::LOCALHOST]);
    assert!(!lease.domain.expect("one").chars().any(char::is_control));
    assert_eq!(lease.server, Ipv4Addr::from(SERVER));
}

#[test]
fn an_identity_is_of_its_own_and_its_host_name_is_one() {
    let one = Identity::from_seed(1, "Tal");
    assert_eq!(one, Identity::from_seed(1, "Tal"));
    assert_ne!(one.mac, Identity::from_seed(2, "Tal").mac);
    assert_eq!(one.mac.0[0], 2, "locally administered, not multicast");
    assert_eq!(Identity::from_seed(1, "Łukasz B.").host_name, "ukasz-B");
    assert_eq!(Identity::from_seed(1, "").host_name, "client");
    assert_eq!(Identity::from_seed(1, &"x".repeat(300)).host_name.len(), 63);
}

#[derive(Debug, Clone)]
enum Event {
    Noise(Vec<u8>),
    /// An offer, ACK or NAK with a byte changed.
    Mutated(u8, usize, u8),
    Timeout,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600).prop_map(Event::Noise),
        (
            prop_oneof![Just(2_u8), Just(5), Just(6)],
            0..300_usize,
            any::<u8>()
        )
            .prop_map(|(kind, at, value)| Event::Mutated(kind, at, value)),
        Just(Event::Timeout),
    ]
}

proptest! {
    /// Whatever arrives: no panic, no wait without an end, never more than one message at a time.
    #[test]
    fn any_server_is_survived(events in proptest::collection::vec(event(), 0..60), seed: u64) {
        let mut now = Instant::now();
        let mut client = DhcpClient::new(identity(), Patience::LOOPBACK, seed, now);
        let mut last = Vec::new();
        let mut sent = 0;
        for event in events {
            while let Some(transmit) = client.poll_transmit() {
                last = transmit.payload;
                sent += 1;
            }
            match event {
                Event::Noise(bytes) => client.handle_datagram(&bytes, now),
                Event::Mutated(kind, at, value) => {
                    let mut bytes = match kind {
                        2 => offer(&last),
                        5 => ack(&last),
                        _ => nak(&last, "no"),
                    };
                    let at = at % bytes.len();
                    bytes[at] = value;
                    client.handle_datagram(&bytes, now);
                }
                Event::Timeout => {
                    if let Some(deadline) = client.deadline() {
                        now = now.max(deadline);
                        client.handle_timeout(now);
                    }
                }
            }
            prop_assert_eq!(client.deadline().is_none(), client.outcome().is_some());
        }
        prop_assert!(sent <= 40, "{} messages", sent);
        if let Some(Ok(lease)) = client.outcome() {
            prop_assert!(!lease.address.is_unspecified());
        }
    }
}
