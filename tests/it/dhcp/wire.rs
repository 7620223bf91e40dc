//! The bytes of messages and answers.

use std::net::Ipv4Addr;

use labnet::dhcp::{DropReason, Outcome};

use super::{LEASE, Lab, ip, selecting, subnet};
use crate::support::dhcp::{Answer, DISCOVER, INFORM, OFFER, Packet};

#[test]
fn the_header_is_copied_as_table_3_says() {
    let mut lab = Lab::small(20);
    let mut discover = Packet::new(DISCOVER, 7).giaddr(ip(254)).broadcast();
    discover.header[3] = 4; // hops
    discover.header[9] = 9; // secs
    discover.header[11] = 1; // reserved flags
    discover.header[44..50].copy_from_slice(b"server");
    discover.header[108..112].copy_from_slice(b"file");
    let offer = lab.ask(&discover);
    let header = &offer.bytes;
    assert_eq!(header[..4], [2, 1, 6, 0]);
    assert_eq!(header[4..8], discover.header[4..8]);
    assert_eq!(header[8..10], [0, 0]);
    assert_eq!(header[10..12], [0x80, 1]);
    assert_eq!(offer.ciaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(offer.address(24), ip(254));
    assert_eq!(header[28..44], discover.header[28..44]);
    assert!(header[44..236].iter().all(|byte| *byte == 0));
}

#[test]
fn every_hardware_type_comes_back() {
    let mut lab = Lab::small(200);
    for kind in 0..=255 {
        let mut discover = Packet::new(DISCOVER, 7).id(b"same");
        discover.header[1] = kind;
        assert_eq!(lab.ask(&discover).bytes[1], kind);
    }
}

#[test]
fn options_come_in_the_clients_order_with_the_mask_before_the_routers() {
    let mut lab = Lab::small(20);
    let ask = |lab: &mut Lab, list: &[u8]| lab.ask(&Packet::new(DISCOVER, 1).option(55, list));
    assert_eq!(
        ask(&mut lab, &[6, 15, 28, 3, 1]).codes(),
        [53, 54, 51, 6, 15, 28, 1, 3]
    );
    // Twice, unknown, already sent, and never to be sent: 50, 55, 57.
    assert_eq!(
        ask(&mut lab, &[15, 15, 200, 51, 54, 50, 55, 57, 3, 59, 58]).codes(),
        [53, 54, 51, 15, 3, 59, 58]
    );
    assert_eq!(
        lab.ask(&Packet::new(DISCOVER, 1)).codes(),
        [53, 54, 51, 1, 3, 6, 15, 28]
    );
}

#[test]
fn options_carry_the_subnets_values() {
    let mut lab = Lab::small(20);
    let list = [1, 3, 6, 15, 28, 58, 59];
    let offer = lab.ask(&Packet::new(DISCOVER, 1).option(55, &list));
    assert_eq!(offer.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(offer.option(3), Some(&ip(254).octets()[..]));
    assert_eq!(offer.option(6), Some(&[10, 0, 0, 3, 10, 0, 0, 4][..]));
    assert_eq!(offer.option(15), Some(&b"lab.test"[..]));
    assert_eq!(offer.option(28), Some(&ip(255).octets()[..]));
    assert_eq!(offer.seconds(58), Some(LEASE as u32 / 2));
    assert_eq!(offer.seconds(59), Some(LEASE as u32 / 8 * 7));
}

#[test]
fn what_is_not_configured_is_not_sent() {
    let mut bare = subnet(0, 20);
    bare.routers.clear();
    bare.name_servers.clear();
    bare.domain = None;
    let mut lab = Lab::new(vec![bare]);
    let offer = lab.ask(&Packet::new(DISCOVER, 1));
    assert_eq!(offer.codes(), [53, 54, 51, 1, 28]);
}

#[test]
fn relay_information_is_echoed_byte_for_byte_and_last() {
    let mut lab = Lab::small(20);
    // Sub-options out of order, one unknown, one cut short.
    let information = [9, 1, 7, 1, 3, 1, 2, 3, 200, 0, 6, 9];
    for packet in [
        Packet::new(DISCOVER, 1),
        selecting(1, ip(10)),
        selecting(1, ip(99)),
        Packet::new(INFORM, 1).ciaddr(ip(10)),
    ] {
        let relayed = packet.option(82, &information).id(b"id").giaddr(ip(254));
        let answer = lab.ask(&relayed);
        let last = answer.options.last().expect("options");
        assert_eq!(last, &(82, information.to_vec()));
        assert_eq!(answer.option(61), Some(&b"id"[..]));
    }
}

#[test]
fn an_answer_keeps_to_the_size_that_the_client_takes() {
    let mut large = subnet(0, 20);
    large.routers = (1..=60).map(ip).collect();
    large.name_servers = (61..=120).map(ip).collect();
    let mut lab = Lab::new(vec![large]);
    let size = |lab: &mut Lab, packet: Packet| {
        let offer = lab.ask(&packet.option(55, &[1, 3, 6, 28]));
        (offer.bytes.len(), offer.codes())
    };
    let discover = Packet::new(DISCOVER, 1);
    // 576 less the headers of IP and UDP. What does not fit is left out, what follows is not.
    let (len, codes) = size(&mut lab, discover.clone());
    assert!(len <= 548, "{len}");
    assert_eq!(codes, [53, 54, 51, 1, 3, 28]);
    for too_small in [0_u16, 100, 576] {
        let (len, _) = size(
            &mut lab,
            discover.clone().option(57, &too_small.to_be_bytes()),
        );
        assert!(len <= 548, "{len}");
    }
    let (len, codes) = size(
        &mut lab,
        discover.clone().option(57, &1500_u16.to_be_bytes()),
    );
    assert!(len <= 1472, "{len}");
    assert_eq!(codes, [53, 54, 51, 1, 3, 6, 28]);
    let information = [7; 250];
    let (len, codes) = size(&mut lab, discover.option(82, &information));
    assert!(len <= 548, "{len}");
    assert_eq!(codes.last(), Some(&82));
}

#[test]
fn requests_may_be_overloaded_and_split() {
    let mut lab = Lab::small(20);
    let mut discover = Packet::new(DISCOVER, 1)
        .option(52, &[3])
        .option(61, b"a")
        .option(82, &[1])
        .option(61, b"b")
        .option(82, &[1, 9]);
    discover.header[108..118].copy_from_slice(&[61, 1, b'c', 55, 2, 15, 1, 255, 0, 0]);
    discover.header[44..50].copy_from_slice(&[61, 1, b'd', 255, 0, 0]);
    let offer = lab.ask(&discover);
    assert_eq!(offer.option(61), Some(&b"abcd"[..]));
    assert_eq!(offer.option(82), Some(&[1, 1, 9][..]));
    assert_eq!(offer.codes(), [53, 54, 51, 15, 1, 61, 82]);
}

#[test]
fn hardware_addresses_of_any_length_but_too_long() {
    let mut lab = Lab::small(40);
    for len in 1..=16 {
        let mut discover = Packet::new(DISCOVER, 1);
        discover.header[2] = len;
        discover.header[28..44].fill(len);
        assert_eq!(lab.ask(&discover).kind(), OFFER, "hlen {len}");
    }
    let mut without = Packet::new(DISCOVER, 1);
    without.header[2] = 0;
    assert_eq!(lab.dropped(&without), DropReason::Malformed);
    assert_eq!(lab.ask(&without.clone().id(b"id")).kind(), OFFER);
    without.header[2] = 17;
    assert_eq!(lab.dropped(&without.id(b"id")), DropReason::Malformed);
}

#[test]
fn what_is_broken_is_dropped_and_the_next_discover_answered() {
    let mut lab = Lab::small(20);
    let good = Packet::new(DISCOVER, 1);
    let mut bad = vec![
        Packet {
            options: vec![53, 1],
            ..good.clone()
        },
        Packet {
            options: vec![61, 200, 1],
            ..good.clone()
        },
        Packet::new(0, 1),
        Packet::new(OFFER, 1),
        Packet::new(200, 1),
        good.clone().option(50, &[1, 2, 3]),
        good.clone().option(52, &[9]),
    ];
    for (at, value) in [(0, 2), (0, 0), (2, 17), (2, 255), (236, 1)] {
        let mut packet = good.clone();
        packet.header[at] = value;
        bad.push(packet);
    }
    for packet in bad {
        assert_eq!(lab.dropped(&packet), DropReason::Malformed);
        assert_eq!(lab.offer(1), ip(10));
    }
}

#[test]
fn options_that_others_stumble_over_don_t_matter() {
    let mut lab = Lab::small(20);
    // ASCII in 81, odd lengths of 80, 94, 152, 57; not UTF-8 in 12 and 15.
    let odd = Packet {
        options: vec![],
        ..Packet::new(DISCOVER, 1)
    }
    .option(81, b"host")
    .option(80, &[1])
    .option(94, &[1, 2])
    .option(152, &[1])
    .option(57, &[1])
    .option(12, &[0xff, 0xfe])
    .option(15, &[0xff])
    .option(53, &[DISCOVER]);
    assert_eq!(lab.ask(&odd).kind(), OFFER);
}

#[test]
fn host_names_are_kept_if_they_are_plain() {
    let mut lab = Lab::small(20);
    for (client, name, kept) in [
        (1, &b"alpha"[..], Some("alpha")),
        (2, b"beta\0", Some("beta")),
        (3, b"<b>", None),
        (4, b"\x1b[31m", None),
    ] {
        let address = lab.offer(client);
        lab.ask(&selecting(client, address).option(12, name));
        let shown = lab
            .server
            .leases()
            .find(|lease| lease.address == address)
            .expect("leased");
        assert_eq!(shown.hostname, kept);
    }
}

#[test]
fn the_meaning_is_in_plain_words() {
    let mut lab = Lab::small(20);
    let mut meaning = |packet: &Packet| {
        let (decision, bytes) = lab.hear(packet);
        Answer::parse(&bytes);
        match decision.outcome {
            Outcome::Reply(reply) => reply.kind.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        meaning(&Packet::new(DISCOVER, 1)),
        "offer: you can have 10.0.0.10 for 1 hour"
    );
    assert_eq!(
        meaning(&selecting(1, ip(10))),
        "ack: 10.0.0.10 is yours for 1 hour"
    );
    assert_eq!(
        meaning(&selecting(2, ip(10))),
        "nak: no, that address is not free for you"
    );
}
