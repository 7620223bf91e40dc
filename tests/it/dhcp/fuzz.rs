//! Bytes that no client would send.

use std::net::Ipv4Addr;

use labnet::dhcp::{DhcpServer, DropReason, Outcome, Received};
use proptest::prelude::*;

use super::{Lab, ip, rebooting, renewing, selecting};
use crate::support::dhcp::{Answer, DISCOVER, OFFER, Packet};

fn feed(server: &mut DhcpServer, bytes: &[u8], now: u64) -> (Outcome, Vec<u8>) {
    let mut reply = Vec::new();
    let received = Received {
        source: "0.0.0.0:68".parse().expect("an address"),
        destination: Ipv4Addr::BROADCAST,
        link: 0,
    };
    let decision = server.handle(bytes, received, now, &mut reply);
    server.take_records();
    server.commit();
    (decision.outcome, reply)
}

fn seeds() -> Vec<Vec<u8>> {
    let rich = |packet: Packet| {
        packet
            .option(55, &[1, 3, 6, 15, 28, 51, 58, 59])
            .option(57, &[5, 220])
            .option(12, b"host")
            .id(b"\x01identifier")
            .option(82, &[1, 4, 9, 9, 9, 9, 5, 4, 10, 0, 0, 0])
            .option(52, &[3])
            .bytes()
    };
    vec![
        rich(Packet::new(DISCOVER, 1)),
        rich(selecting(1, ip(10))),
        rich(rebooting(1, ip(10))),
        rich(renewing(1, ip(10))),
        rich(Packet::new(4, 1).requested(ip(10))),
        rich(Packet::new(7, 1).ciaddr(ip(10))),
        rich(Packet::new(8, 1).ciaddr(ip(10))),
    ]
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..400_usize;
    // Half of the changes where the options are.
    let at = prop_oneof![at.clone(), 236..400_usize];
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => at.clone().prop_map(Mutation::Cut),
        2 => (at.clone(), proptest::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at, 1..60_usize, 1..40_u8).prop_map(|(at, len, n)| Mutation::Repeat(at, len, n)),
    ]
}

fn apply(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        match mutation {
            Mutation::Set(at, byte) => {
                if let Some(slot) = bytes.get_mut(*at) {
                    *slot = *byte;
                }
            }
            Mutation::Cut(at) => bytes.truncate(*at),
            Mutation::Insert(at, more) => {
                let at = (*at).min(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Mutation::Repeat(at, len, times) => {
                let at = (*at).min(bytes.len());
                let end = (at + len).min(bytes.len());
                let part = bytes[at..end].repeat(usize::from(*times));
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_makes_it_panic_and_the_next_discover_is_answered(
        seed in 0..7_usize,
        mutations in proptest::collection::vec(mutation(), 1..8),
        noise in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut lab = Lab::small(20);
        lab.lease(1);
        for bytes in [apply(seeds()[seed].clone(), &mutations), noise] {
            let (outcome, reply) = feed(&mut lab.server, &bytes, lab.now);
            match outcome {
                Outcome::Reply(_) => {
                    let answer = Answer::parse(&reply);
                    prop_assert_eq!(&answer.bytes[4..8], &bytes[4..8]);
                }
                Outcome::Silent | Outcome::Dropped(_) => {}
            }
            prop_assert_eq!(lab.ask(&Packet::new(DISCOVER, 9)).kind(), OFFER);
        }
    }
}

#[test]
fn seeds_are_understood() {
    let mut lab = Lab::small(20);
    for seed in seeds() {
        let (outcome, _) = feed(&mut lab.server, &seed, lab.now);
        assert_ne!(outcome, Outcome::Dropped(DropReason::Malformed));
    }
}

#[test]
fn the_largest_datagram_of_one_option_is_refused_or_answered_in_size() {
    let mut lab = Lab::small(20);
    for code in [12, 50, 53, 54, 55, 57, 61, 82] {
        let mut packet = Packet::new(DISCOVER, 1);
        while packet.options.len() < 65_000 {
            packet = packet.option(code, &[1; 255]);
        }
        let (outcome, reply) = feed(&mut lab.server, &packet.bytes(), lab.now);
        if let Outcome::Reply(_) = outcome {
            assert!(reply.len() <= 1472, "option {code}: {} bytes", reply.len());
        }
    }
}
