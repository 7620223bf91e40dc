//! Who gets which address, for how long, and at what cost.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use labnet::{
    config::{AddressRange, Ipv4Network},
    dhcp::{DropReason, OFFER_HOLD, Record, Replies},
};
use proptest::prelude::*;

use super::{LEASE, Lab, SERVER, ip, rebooting, renewing, reserve, selecting, subnet};
use crate::support::dhcp::{ACK, Answer, DECLINE, DISCOVER, Packet, RELEASE, REQUEST};

#[test]
fn a_repeated_discover_gets_the_same_offer_and_others_get_others() {
    let mut lab = Lab::small(40);
    let offers: HashSet<_> = (0..20).map(|client| lab.offer(client)).collect();
    assert_eq!(offers.len(), 20);
    for client in 0..20 {
        assert_eq!(lab.offer(client), ip(10 + client));
    }
}

#[test]
fn an_unclaimed_offer_ends() {
    let mut lab = Lab::small(10);
    lab.offer(1);
    lab.pass(OFFER_HOLD - 1);
    assert_eq!(
        lab.dropped(&Packet::new(DISCOVER, 2)),
        DropReason::NoAddress
    );
    lab.pass(1);
    assert_eq!(lab.offer(2), ip(10));
}

#[test]
fn current_then_previous_then_requested_then_any() {
    let mut lab = Lab::small(20);
    let wish = |client, address| Packet::new(DISCOVER, client).requested(address);
    assert_eq!(lab.ask(&wish(1, ip(15))).yiaddr(), ip(15));
    lab.take(1, ip(15));
    assert_eq!(lab.ask(&wish(1, ip(16))).yiaddr(), ip(15), "current");
    lab.pass(LEASE);
    assert_eq!(lab.state(ip(15)), Some("expired"));
    assert_eq!(lab.ask(&wish(1, ip(16))).yiaddr(), ip(15), "previous");
    lab.take(1, ip(15));
    assert_eq!(lab.ask(&wish(2, ip(15))).yiaddr(), ip(10), "taken");
    assert_eq!(lab.ask(&wish(3, ip(5))).yiaddr(), ip(11), "not pooled");
    let far = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(lab.ask(&wish(4, far)).yiaddr(), ip(12), "elsewhere");
}

#[test]
fn a_discover_does_not_end_the_lease_that_it_forgot() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    assert_eq!(lab.offer(1), address);
    lab.pass(OFFER_HOLD + 1);
    assert_eq!(lab.state(address), Some("bound"));
    assert_eq!(lab.ask(&renewing(1, address)).kind(), ACK);
}

#[test]
fn the_address_longest_free_goes_first_when_no_other_is_left() {
    let mut lab = Lab::small(12);
    for client in 1..=3 {
        lab.lease(client);
        lab.pass(10);
    }
    lab.take(1, ip(10));
    lab.pass(LEASE);
    // Expired in the order 11, 12, 10.
    assert_eq!(lab.offer(4), ip(11));
    assert_eq!(lab.offer(5), ip(12));
    // Who comes in time still has its own.
    assert_eq!(lab.offer(1), ip(10));
    assert_eq!(
        lab.dropped(&Packet::new(DISCOVER, 2)),
        DropReason::NoAddress
    );
}

#[test]
fn counts_tell_what_became_of_the_pool() {
    let mut lab = Lab::small(20);
    for client in 1..=4 {
        lab.lease(client);
    }
    lab.hear(&Packet::new(RELEASE, 1).ciaddr(ip(10)).server(SERVER));
    lab.hear(&Packet::new(DECLINE, 2).requested(ip(11)).server(SERVER));
    lab.offer(5);
    let (network, size, counts) = lab.server.counts().next().expect("a subnet");
    assert_eq!(network.to_string(), "10.0.0.0/24");
    assert_eq!(size, 11);
    assert_eq!(
        counts.by_state(),
        [
            ("offered", 1),
            ("bound", 2),
            ("released", 1),
            ("expired", 0),
            ("declined", 1)
        ]
    );
}

/// 10.0.0.0/16, nearly all of it in the pool.
fn wide() -> Lab {
    let mut wide = subnet(0, 20);
    wide.network = Ipv4Network {
        address: ip(0),
        prefix_len: 16,
    };
    wide.pools = vec![AddressRange {
        first: ip(10),
        last: Ipv4Addr::new(10, 0, 255, 250),
    }];
    wide.routers = vec![];
    Lab::new(vec![wide])
}

#[test]
fn a_whole_slash_16_is_leased_and_refused_quickly() {
    let mut lab = wide();
    let size = 65_536 - 10 - 5;
    let mac = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        [2, 0, 0, a, b, c]
    };
    let discover = |n| Packet::from_mac(DISCOVER, mac(n));
    let started = std::time::Instant::now();
    for n in 0..size {
        let offer = lab.ask(&discover(n));
        let request = Packet::from_mac(REQUEST, mac(n))
            .requested(offer.yiaddr())
            .server(SERVER);
        let mut reply = Vec::new();
        let received = labnet::dhcp::Received {
            source: "0.0.0.0:68".parse().expect("an address"),
            destination: Ipv4Addr::BROADCAST,
            link: 0,
        };
        lab.server
            .handle(&request.bytes(), received, lab.now, &mut reply);
        assert_eq!(Answer::parse(&reply).kind(), ACK);
        let records = lab.server.take_records();
        assert!(matches!(records[..], [Record::Keep(_)]));
        lab.server.commit();
    }
    // Full: every refusal must be as cheap as a lease.
    for n in size..size + 20_000 {
        assert_eq!(lab.dropped(&discover(n)), DropReason::NoAddress);
    }
    // A scan of 65,000 leases for each of 150,000 packets would take hours.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    let (_, total, counts) = lab.server.counts().next().expect("a subnet");
    assert_eq!((total, counts.bound), (u64::from(size), u64::from(size)));
}

/// What a client may do to a server.
#[derive(Debug, Clone)]
enum Act {
    Discover(u8),
    Select(u8, u8),
    Reboot(u8, u8),
    Renew(u8, u8),
    Release(u8, u8),
    Decline(u8, u8),
    OtherServer(u8),
    Pass(u64),
    Restart,
    StoreFails(Box<Act>),
}

fn act() -> impl Strategy<Value = Act> {
    let client = 1..9_u8;
    let address = 8..20_u8;
    let both = (client.clone(), address);
    let plain = prop_oneof![
        4 => client.clone().prop_map(Act::Discover),
        6 => both.clone().prop_map(|(c, a)| Act::Select(c, a)),
        1 => both.clone().prop_map(|(c, a)| Act::Reboot(c, a)),
        2 => both.clone().prop_map(|(c, a)| Act::Renew(c, a)),
        2 => both.clone().prop_map(|(c, a)| Act::Release(c, a)),
        1 => both.prop_map(|(c, a)| Act::Decline(c, a)),
        1 => client.prop_map(Act::OtherServer),
        2 => (1..5000_u64).prop_map(Act::Pass),
    ];
    prop_oneof![
        12 => plain.clone(),
        1 => Just(Act::Restart),
        2 => plain.prop_map(|act| Act::StoreFails(Box::new(act))),
    ]
}

fn packet(act: &Act) -> Option<Packet> {
    Some(match *act {
        Act::Discover(client) => Packet::new(DISCOVER, client),
        Act::Select(client, last) => selecting(client, ip(last)),
        Act::Reboot(client, last) => rebooting(client, ip(last)),
        Act::Renew(client, last) => renewing(client, ip(last)),
        Act::Release(client, last) => Packet::new(RELEASE, client).ciaddr(ip(last)),
        Act::Decline(client, last) => Packet::new(DECLINE, client).requested(ip(last)),
        Act::OtherServer(client) => Packet::new(REQUEST, client)
            .requested(ip(10))
            .server(super::OTHER_SERVER),
        Act::Pass(_) | Act::Restart | Act::StoreFails(_) => return None,
    })
}

/// address -> (client, until), as the clients understood the ACKs.
type Held = HashMap<Ipv4Addr, (u8, u64)>;

fn give_up(held: &mut Held, address: Ipv4Addr, client: u8) {
    held.retain(|held, (holder, _)| *held != address || *holder != client);
}

type Row = (Ipv4Addr, String, &'static str, u64);

fn rows(lab: &Lab) -> Vec<Row> {
    let leases = lab.server.leases();
    leases
        .map(|lease| {
            let client = lease.hardware.to_string();
            (lease.address, client, lease.state, lease.until)
        })
        .collect()
}

fn subnets() -> Vec<labnet::config::Subnet> {
    let mut subnet = subnet(0, 15);
    reserve(&mut subnet, 3, ip(12));
    reserve(&mut subnet, 4, ip(18));
    vec![subnet]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: no address has two holders, no ACK is without its record, what was rolled
    /// back leaves no trace, and a restart forgets no lease.
    #[test]
    fn no_address_is_ever_leased_twice(acts in proptest::collection::vec(act(), 1..120)) {
        let mut lab = Lab::new(subnets());
        let mut held = Held::new();
        for act in acts {
            match &act {
                Act::Pass(seconds) => lab.pass(*seconds),
                Act::Restart => {
                    lab = lab.restarted(subnets());
                }
                Act::StoreFails(act) => {
                    let Some(packet) = packet(act) else { continue };
                    lab.server.expire(lab.now);
                    lab.server.commit();
                    let before = rows(&lab);
                    let counts: Vec<_> = lab.server.counts().collect();
                    lab.hear_uncommitted(&packet, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
                    lab.server.roll_back();
                    prop_assert_eq!(before, rows(&lab));
                    prop_assert_eq!(counts, lab.server.counts().collect::<Vec<_>>());
                }
                act => {
                    let packet = packet(act).expect("a message");
                    let client = packet.header[33];
                    let (_, reply) = lab.hear(&packet);
                    if let Act::Release(_, last) | Act::Decline(_, last) = act {
                        give_up(&mut held, ip(*last), client);
                    }
                    if reply.is_empty() {
                        continue;
                    }
                    let answer = Answer::parse(&reply);
                    match answer.kind() {
                        ACK => {
                            let address = answer.yiaddr();
                            if let Some((holder, until)) = held.get(&address) {
                                prop_assert!(*holder == client || *until <= lab.now, "{address}");
                            }
                            held.retain(|_, (holder, _)| *holder != client);
                            held.insert(address, (client, lab.now + LEASE));
                            let stored = lab.disk.iter().find(|lease| lease.address == address);
                            prop_assert_eq!(stored.map(|lease| lease.until), Some(lab.now + LEASE));
                            prop_assert!(address != ip(12) || client == 3);
                            prop_assert!(address != ip(18) || client == 4);
                        }
                        crate::support::dhcp::NAK => {
                            let refused = match act {
                                Act::Reboot(_, last) | Act::Renew(_, last) | Act::Select(_, last) => ip(*last),
                                _ => continue,
                            };
                            give_up(&mut held, refused, client);
                        }
                        _ => {
                            // An offer of what another client holds would end in a NAK.
                            if let Some((holder, until)) = held.get(&answer.yiaddr()) {
                                prop_assert!(*holder == client || *until <= lab.now);
                            }
                        }
                    }
                }
            }
            lab.server.expire(lab.now);
            lab.server.commit();
            let now = rows(&lab);
            let bound = |address: Ipv4Addr| now.iter().find(|row| row.0 == address);
            for (address, (client, until)) in &held {
                if *until > lab.now {
                    let row = bound(*address);
                    prop_assert!(
                        row.is_some_and(|row| row.2 == "bound" && row.1.ends_with(&format!("{client:02x}"))),
                        "{address} of {client}: {row:?}"
                    );
                }
            }
            let (_, _, counts) = lab.server.counts().next().expect("a subnet");
            for (state, count) in counts.by_state() {
                prop_assert_eq!(now.iter().filter(|row| row.2 == state).count() as u64, count);
            }
        }
    }
}

#[test]
fn whatever_the_clock_is_set_to_a_lease_has_the_seconds_that_are_left() {
    const YEARS: i64 = 400 * 86_400;
    let mut lab = Lab::with(
        vec![subnet(0, 20)],
        Replies::Standard,
        vec![],
        2_000_000_000,
    );
    let address = lab.lease(1);
    lab.take(2, ip(15));
    lab.silent(&Packet::new(RELEASE, 2).ciaddr(ip(15)));
    lab.pass(LEASE / 2);
    for seconds in [YEARS, -2 * YEARS, YEARS] {
        // As the actor does when it finds the clock changed.
        lab.now = lab.now.saturating_add_signed(seconds);
        lab.server.shift(seconds);
        assert_eq!(lab.state(address), Some("bound"), "{seconds}");
        assert_eq!(lab.state(ip(15)), Some("released"), "{seconds}");
    }
    lab.pass(LEASE / 2 - 1);
    assert_eq!(lab.state(address), Some("bound"));
    lab.pass(1);
    assert_eq!(lab.state(address), Some("expired"));
    // The order in which addresses are used again is as it was.
    let mut lab = Lab::small(11);
    for client in [1, 2] {
        let address = lab.lease(client);
        lab.silent(&Packet::new(RELEASE, client).ciaddr(address));
        lab.pass(10);
    }
    lab.now += 1;
    lab.server.shift(1);
    assert_eq!(lab.offer(3), ip(10));
}

fn told(lab: &mut Lab) -> Vec<(&'static str, Ipv4Addr)> {
    let notes = lab.server.take_notes().into_iter();
    notes
        .map(|note| (note.change.as_str(), note.address))
        .collect()
}

#[test]
fn what_becomes_of_a_lease_is_told_once_and_only_if_it_is_stored() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    assert_eq!(told(&mut lab), [("given", address)]);
    for _ in 0..3 {
        let ack = lab.ask_from(&renewing(1, address), address);
        assert_eq!(ack.kind(), ACK);
    }
    assert_eq!(told(&mut lab), [("renewed", address)]);
    lab.silent(&Packet::new(RELEASE, 1).ciaddr(address));
    assert_eq!(told(&mut lab), [("released", address)]);
    lab.take(1, address);
    lab.pass(LEASE);
    assert_eq!(lab.state(address), Some("expired"));
    assert_eq!(told(&mut lab), [("given", address), ("expired", address)]);
    lab.take(1, address);
    lab.silent(&Packet::new(DECLINE, 1).requested(address).server(SERVER));
    assert_eq!(told(&mut lab), [("given", address), ("declined", address)]);
    let lost = selecting(2, ip(15));
    lab.hear_uncommitted(&lost, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    lab.server.roll_back();
    lab.server.commit();
    assert_eq!(told(&mut lab), []);
}

#[test]
fn who_is_moved_to_another_address_leaves_the_old_one_free() {
    let mut lab = Lab::small(20);
    assert_eq!(lab.lease(1), ip(10));
    // The pool moves off its address.
    let mut moved = subnet(0, 30);
    moved.pools[0].first = ip(20);
    lab.reconfigure(vec![moved]);
    assert_eq!(
        lab.state(ip(10)),
        Some("bound"),
        "it may use it until it asks"
    );
    assert_eq!(lab.offer(1), ip(20));
    assert_eq!(
        lab.state(ip(10)),
        Some("bound"),
        "it has taken no other yet"
    );
    lab.take(1, ip(20));
    assert_eq!(lab.state(ip(10)), None);
    assert_eq!(lab.disk.len(), 1, "{:?}", lab.disk);
    // Who renews is told to ask anew.
    let mut away = subnet(0, 40);
    away.pools[0].first = ip(40);
    lab.reconfigure(vec![away]);
    lab.nak(&renewing(1, ip(20)));
    assert_eq!(lab.state(ip(20)), None);
    assert!(lab.disk.is_empty());
}

#[test]
fn an_offer_that_is_not_taken_leaves_the_client_its_lease() {
    let mut lab = Lab::small(20);
    assert_eq!(lab.lease(1), ip(10));
    let mut moved = subnet(0, 30);
    moved.pools[0].first = ip(20);
    lab.reconfigure(vec![moved]);
    assert_eq!(lab.offer(1), ip(20));
    lab.pass(OFFER_HOLD);
    assert_eq!(lab.state(ip(20)), None);
    lab.reconfigure(vec![subnet(0, 20)]);
    assert_eq!(lab.offer(1), ip(10), "its current address");
}

#[test]
fn offers_and_leases_outlive_a_change_of_the_configuration() {
    let mut lab = Lab::small(20);
    let leased = lab.lease(1);
    assert_eq!(
        lab.ask_from(&renewing(1, leased), leased).kind(),
        ACK,
        "renewed once"
    );
    let offered = lab.offer(2);
    told(&mut lab);
    let mut longer = subnet(0, 20);
    longer.lease_time *= 2;
    reserve(&mut longer, 7, ip(19));
    lab.reconfigure(vec![longer, subnet(5, 20)]);
    assert_eq!(told(&mut lab), []);
    assert_eq!(lab.state(leased), Some("bound"));
    assert_eq!(lab.state(offered), Some("offered"));
    lab.take(2, offered);
    let ack = lab.ask_from(&renewing(1, leased), leased);
    assert_eq!(ack.seconds(51), Some(2 * LEASE as u32));
    assert_eq!(
        told(&mut lab),
        [("given", offered)],
        "renewed before already"
    );
    assert_eq!(lab.lease(7), ip(19));
    // A network that comes back brings its leases.
    lab.reconfigure(vec![subnet(5, 20)]);
    assert_eq!(lab.state(leased), None);
    lab.reconfigure(vec![subnet(0, 20)]);
    assert_eq!(lab.state(leased), Some("bound"));
}
