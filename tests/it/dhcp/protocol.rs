//! RFC 2131's exchanges, one behaviour a test.

use std::net::{Ipv4Addr, SocketAddrV4};

use labnet::dhcp::{DropReason, OFFER_HOLD, Outcome, QUARANTINE, Replies};

use super::{
    LEASE, Lab, OTHER_SERVER, SERVER, ip, rebooting, renewing, reserve, selecting, subnet,
};
use crate::support::dhcp::{ACK, DECLINE, DISCOVER, INFORM, NAK, OFFER, Packet, RELEASE, REQUEST};

#[test]
fn discover_offer_request_ack() {
    let mut lab = Lab::small(20);
    let offer = lab.ask(&Packet::new(DISCOVER, 7));
    assert_eq!(offer.kind(), OFFER);
    assert_eq!(offer.yiaddr(), ip(10));
    assert_eq!(offer.seconds(51), Some(LEASE as u32));
    assert_eq!(offer.option(54), Some(&SERVER.octets()[..]));
    assert!(lab.disk.is_empty(), "an offer is no lease");
    let ack = lab.ask(&selecting(7, ip(10)));
    assert_eq!(ack.kind(), ACK);
    assert_eq!(ack.yiaddr(), ip(10));
    assert_eq!(lab.disk.len(), 1);
    assert_eq!(lab.disk[0].until, lab.now + LEASE);
}

#[test]
fn another_servers_offer_taken_frees_ours_in_silence() {
    let mut lab = Lab::small(10);
    let address = lab.offer(1);
    assert_eq!(
        lab.dropped(&Packet::new(DISCOVER, 2)),
        DropReason::NoAddress
    );
    let taken = Packet::new(REQUEST, 1)
        .requested(ip(99))
        .server(OTHER_SERVER);
    assert_eq!(lab.dropped(&taken), DropReason::NotForUs);
    assert_eq!(lab.offer(2), address);
}

#[test]
fn an_offer_refused_leaves_the_client_its_former_lease() {
    let mut lab = Lab::small(10);
    lab.lease(1);
    lab.pass(LEASE);
    lab.offer(1);
    lab.dropped(&selecting(1, ip(10)).server(OTHER_SERVER));
    let refused = Packet::new(REQUEST, 1)
        .requested(ip(10))
        .server(OTHER_SERVER);
    lab.dropped(&refused);
    assert_eq!(lab.state(ip(10)), Some("expired"));
}

#[test]
fn selecting_an_address_that_is_taken_gets_a_nak() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    lab.nak(&selecting(2, address));
    lab.nak(&selecting(2, ip(5)));
    lab.nak(&selecting(2, Ipv4Addr::new(192, 168, 0, 1)));
}

#[test]
fn a_late_request_is_granted_while_the_address_is_free() {
    let mut lab = Lab::small(20);
    let address = lab.offer(1);
    lab.pass(OFFER_HOLD + 1);
    assert_eq!(lab.state(address), None);
    lab.take(1, address);
}

#[test]
fn init_reboot_is_confirmed_corrected_or_met_with_silence() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    lab.lease(2);
    let ack = lab.ask(&rebooting(1, address));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
    // A wrong address: its own network, another client's, another network.
    lab.nak(&rebooting(1, ip(15)));
    lab.nak(&rebooting(1, ip(11)));
    lab.nak(&rebooting(1, Ipv4Addr::new(10, 9, 9, 9)));
    // A stranger: the wrong network is certain, all else is another server's business.
    lab.nak(&rebooting(9, Ipv4Addr::new(10, 9, 9, 9)));
    assert_eq!(
        lab.dropped(&rebooting(9, ip(15))),
        DropReason::UnknownClient
    );
    assert_eq!(
        lab.dropped(&rebooting(9, address)),
        DropReason::UnknownClient
    );
    // An offer alone makes nobody known.
    lab.offer(8);
    assert_eq!(
        lab.dropped(&rebooting(8, ip(19))),
        DropReason::UnknownClient
    );
}

#[test]
fn init_reboot_after_a_restart_gets_the_lease_and_nobody_else_does() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    let mut lab = lab.restarted(vec![subnet(0, 20)]);
    assert_ne!(lab.offer(2), address);
    let ack = lab.ask(&rebooting(1, address));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
}

#[test]
fn renewing_goes_by_ciaddr_and_extends_the_lease() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    lab.pass(LEASE / 2);
    let renewal = renewing(1, address).requested(ip(19));
    let (decision, reply) = lab.hear_from(&renewal, address, SERVER);
    let Outcome::Reply(sent) = decision.outcome else {
        panic!("{decision:?}")
    };
    assert_eq!(sent.destination, SocketAddrV4::new(address, 68));
    let ack = crate::support::dhcp::Answer::parse(&reply);
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
    assert_eq!(ack.ciaddr(), address);
    lab.pass(LEASE - 1);
    assert_eq!(lab.state(address), Some("bound"));
    lab.pass(1);
    assert_eq!(lab.state(address), Some("expired"));
    // Late, but nobody has it yet.
    assert_eq!(lab.ask(&renewing(1, address)).kind(), ACK);
}

#[test]
fn renewing_what_is_anothers_gets_a_nak_and_what_is_unknown_silence() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    lab.nak(&renewing(2, address));
    assert_eq!(lab.dropped(&renewing(2, ip(15))), DropReason::UnknownClient);
    // On the wire of 10.0.0.0/24 nobody can go on with an address of elsewhere.
    lab.nak(&renewing(2, Ipv4Addr::new(10, 9, 9, 9)));
    assert_eq!(lab.state(address), Some("bound"));
}

#[test]
fn a_nak_is_broadcast_and_bare() {
    let mut lab = Lab::small(20);
    lab.lease(1);
    let request = renewing(2, ip(10)).option(55, &[1, 3, 6, 51]).id(b"two");
    let (decision, reply) = lab.hear_from(&request, ip(10), SERVER);
    let Outcome::Reply(sent) = decision.outcome else {
        panic!("{decision:?}")
    };
    assert_eq!(sent.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    let nak = crate::support::dhcp::Answer::parse(&reply);
    assert_eq!(nak.kind(), NAK);
    assert_eq!(nak.codes(), [53, 54, 56, 61]);
    for field in [12, 16, 20] {
        assert_eq!(nak.address(field), Ipv4Addr::UNSPECIFIED);
    }
}

#[test]
fn a_relayed_nak_asks_the_relay_to_broadcast() {
    let mut lab = Lab::small(20);
    lab.lease(1);
    let request = rebooting(1, ip(99)).giaddr(ip(254));
    let (decision, reply) = lab.hear_from(&request, ip(254), SERVER);
    let Outcome::Reply(sent) = decision.outcome else {
        panic!("{decision:?}")
    };
    assert_eq!(sent.destination, SocketAddrV4::new(ip(254), 67));
    assert_eq!(reply[10] & 0x80, 0x80);
}

#[test]
fn answers_go_where_the_standard_says() {
    let mut lab = Lab::small(20);
    let mut destination = |packet: &Packet| match lab.hear(packet).0.outcome {
        Outcome::Reply(reply) => reply.destination,
        other => panic!("{other:?}"),
    };
    let broadcast = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
    let discover = Packet::new(DISCOVER, 1);
    assert_eq!(
        destination(&discover.clone().giaddr(ip(254)).broadcast()),
        SocketAddrV4::new(ip(254), 67)
    );
    assert_eq!(destination(&discover.clone().broadcast()), broadcast);
    assert_eq!(destination(&discover), broadcast);
    assert_eq!(
        destination(&Packet::new(INFORM, 1).ciaddr(ip(77)).giaddr(ip(254))),
        SocketAddrV4::new(ip(77), 68)
    );
}

#[test]
fn on_loopback_every_answer_goes_to_its_sender() {
    let mut lab = Lab::with(vec![subnet(0, 20)], Replies::ToSender, vec![], 1000);
    let sender = Ipv4Addr::new(127, 0, 0, 9);
    let heard_on = Ipv4Addr::new(127, 0, 0, 1);
    let mut destination = |packet: &Packet| {
        let (decision, reply) = lab.hear_from(packet, sender, heard_on);
        let Outcome::Reply(sent) = decision.outcome else {
            panic!("{decision:?}")
        };
        assert_eq!(sent.destination, SocketAddrV4::new(sender, 68));
        assert_eq!(sent.server, heard_on);
        crate::support::dhcp::Answer::parse(&reply).kind()
    };
    assert_eq!(destination(&Packet::new(DISCOVER, 1).broadcast()), OFFER);
    assert_eq!(destination(&renewing(1, ip(10))), ACK);
    // Whichever of the server's addresses the client names.
    for server in [heard_on, SERVER] {
        let request = Packet::new(REQUEST, 1).requested(ip(10)).server(server);
        assert_eq!(destination(&request), ACK);
    }
    assert_eq!(destination(&renewing(1, Ipv4Addr::new(9, 9, 9, 9))), NAK);
}

#[test]
fn the_relay_selects_the_subnet_and_link_selection_overrides_it() {
    let mut lab = Lab::new(vec![subnet(0, 20), subnet(5, 20), subnet(6, 20)]);
    let relayed = |relay: Ipv4Addr| Packet::new(DISCOVER, 1).giaddr(relay);
    let five = Ipv4Addr::new(10, 0, 5, 254);
    assert_eq!(lab.offer(1), ip(10));
    assert_eq!(
        lab.ask(&relayed(five)).yiaddr(),
        Ipv4Addr::new(10, 0, 5, 10)
    );
    let selected = relayed(five).option(82, &[1, 2, 9, 9, 5, 4, 10, 0, 6, 0]);
    assert_eq!(lab.ask(&selected).yiaddr(), Ipv4Addr::new(10, 0, 6, 10));
    assert_eq!(
        lab.dropped(&relayed(Ipv4Addr::new(10, 0, 7, 254))),
        DropReason::NoSubnet
    );
    let nowhere = relayed(five).option(82, &[5, 4, 10, 0, 7, 0]);
    assert_eq!(lab.dropped(&nowhere), DropReason::NoSubnet);
}

#[test]
fn a_routed_renewal_is_known_by_ciaddr_alone() {
    let mut lab = Lab::new(vec![subnet(0, 20), subnet(5, 20)]);
    let relay = Ipv4Addr::new(10, 0, 5, 254);
    let address = lab.ask(&Packet::new(DISCOVER, 1).giaddr(relay)).yiaddr();
    lab.ask(&selecting(1, address).giaddr(relay));
    let renewal = renewing(1, address);
    assert_eq!(lab.ask_from(&renewal, address).kind(), ACK);
    // The same broadcast on the server's own link: the client has moved.
    assert_eq!(lab.ask(&renewal).kind(), NAK);
}

#[test]
fn an_interface_without_a_subnet_serves_nobody() {
    let mut lab = Lab::new(vec![subnet(5, 20)]);
    assert_eq!(lab.dropped(&Packet::new(DISCOVER, 1)), DropReason::NoSubnet);
}

#[test]
fn a_client_is_its_identifier() {
    let mut lab = Lab::small(20);
    let lease = |lab: &mut Lab, id: &[u8]| {
        let address = lab.ask(&Packet::new(DISCOVER, 1).id(id)).yiaddr();
        let ack = lab.ask(&selecting(1, address).id(id));
        assert_eq!(ack.kind(), ACK);
        assert_eq!(ack.option(61), Some(id));
        address
    };
    let first = lease(&mut lab, b"\x00one");
    let second = lease(&mut lab, b"\x00two");
    assert_ne!(first, second);
    // The same identifier from another card is the same client.
    let moved = lab.ask(&Packet::new(DISCOVER, 2).id(b"\x00one"));
    assert_eq!(moved.yiaddr(), first);
    // RELEASE and DECLINE by who does not own it change nothing.
    for thief in [
        Packet::new(RELEASE, 1).ciaddr(first).id(b"\x00two"),
        Packet::new(RELEASE, 1).ciaddr(first),
        Packet::new(DECLINE, 1).requested(first).id(b"\x00two"),
    ] {
        assert_eq!(
            lab.dropped(&thief.server(SERVER)),
            DropReason::UnknownClient
        );
    }
    assert_eq!(lab.state(first), Some("bound"));
}

#[test]
fn a_declined_address_rests_and_its_client_gets_another() {
    let mut lab = Lab::small(11);
    let address = lab.lease(1);
    let decline = Packet::new(DECLINE, 1).requested(address).server(SERVER);
    lab.silent(&decline);
    assert_eq!(lab.state(address), Some("declined"));
    assert_eq!(lab.lease(1), ip(11));
    assert_eq!(
        lab.dropped(&Packet::new(DISCOVER, 2).requested(address)),
        DropReason::NoAddress
    );
    lab.nak(&selecting(2, address));
    // A restart doesn't end it, time does.
    let mut lab = lab.restarted(vec![subnet(0, 11)]);
    assert_eq!(
        lab.dropped(&Packet::new(DISCOVER, 2)),
        DropReason::NoAddress
    );
    lab.pass(QUARANTINE);
    assert_eq!(lab.offer(2), address);
}

#[test]
fn decline_and_release_for_another_server_are_not_ours() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    let decline = Packet::new(DECLINE, 1)
        .requested(address)
        .server(OTHER_SERVER);
    assert_eq!(lab.dropped(&decline), DropReason::NotForUs);
    let release = Packet::new(RELEASE, 1).ciaddr(address).server(OTHER_SERVER);
    assert_eq!(lab.dropped(&release), DropReason::NotForUs);
    assert_eq!(lab.state(address), Some("bound"));
}

#[test]
fn a_released_address_waits_for_its_client() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    lab.silent(&Packet::new(RELEASE, 1).ciaddr(address).server(SERVER));
    assert_eq!(lab.state(address), Some("released"));
    assert_ne!(lab.lease(2), address);
    let mut lab = lab.restarted(vec![subnet(0, 20)]);
    assert_eq!(lab.state(address), Some("released"));
    assert_eq!(lab.lease(1), address);
}

#[test]
fn inform_tells_parameters_and_leases_nothing() {
    let mut lab = Lab::small(20);
    let inform = Packet::new(INFORM, 1)
        .ciaddr(ip(77))
        .option(55, &[1, 51, 58, 6]);
    let ack = lab.ask(&inform);
    assert_eq!(ack.kind(), ACK);
    assert_eq!(ack.codes(), [53, 54, 1, 6]);
    assert_eq!(ack.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(ack.ciaddr(), ip(77));
    assert!(lab.disk.is_empty());
    assert_eq!(lab.state(ip(77)), None);
}

#[test]
fn a_reservation_is_its_owners_whatever_it_asks_for() {
    let mut reserved = subnet(0, 20);
    reserve(&mut reserved, 7, ip(15));
    reserve(&mut reserved, 8, ip(200));
    let mut lab = Lab::new(vec![reserved]);
    assert_eq!(lab.lease(8), ip(200));
    let offer = lab.ask(&Packet::new(DISCOVER, 7).requested(ip(12)));
    assert_eq!(offer.yiaddr(), ip(15));
    // Known by its reservation, before any lease.
    assert_eq!(lab.ask(&rebooting(7, ip(15))).kind(), ACK);
    lab.nak(&rebooting(7, ip(16)));
    // Nobody else gets it.
    let offer = lab.ask(&Packet::new(DISCOVER, 1).requested(ip(15)));
    assert_eq!(offer.yiaddr(), ip(10));
    lab.nak(&selecting(1, ip(15)));
}

#[test]
fn a_new_reservation_moves_both_clients_at_their_next_renewal() {
    let mut lab = Lab::small(20);
    let mine = lab.lease(1);
    let theirs = lab.lease(2);
    let mut reserved = subnet(0, 20);
    reserve(&mut reserved, 1, theirs);
    let mut lab = lab.restarted(vec![reserved]);
    // It is in use: the owner keeps what it has.
    assert_eq!(lab.ask(&renewing(1, mine)).kind(), ACK);
    lab.nak(&renewing(2, theirs));
    assert_eq!(lab.state(theirs), None);
    assert_eq!(lab.lease(2), ip(12));
    lab.nak(&renewing(1, mine));
    assert_eq!(lab.lease(1), theirs);
    assert_eq!(lab.state(mine), None);
    let addresses: Vec<_> = lab.disk.iter().map(|lease| lease.address).collect();
    assert_eq!(addresses, [ip(12), theirs]);
}

#[test]
fn a_lease_outside_of_a_smaller_pool_is_refused_at_its_renewal() {
    let mut lab = Lab::small(20);
    lab.lease(1);
    lab.lease(2);
    let address = lab.lease(3);
    let mut lab = lab.restarted(vec![subnet(0, 11)]);
    assert_eq!(lab.state(address), Some("bound"));
    lab.nak(&renewing(3, address));
    assert_eq!(lab.state(address), None);
}

#[test]
fn leases_of_other_networks_stay_on_disk_and_are_not_served() {
    let mut lab = Lab::small(20);
    let address = lab.lease(1);
    let mut lab = lab.restarted(vec![subnet(5, 20)]);
    assert_eq!(lab.state(address), None);
    let mut lab = lab.restarted(vec![subnet(0, 20)]);
    assert_eq!(lab.state(address), Some("bound"));
}

#[test]
fn a_client_that_selects_another_address_gives_up_its_first() {
    let mut lab = Lab::small(20);
    let first = lab.lease(1);
    lab.take(1, ip(15));
    assert_eq!(lab.state(first), None);
    assert_eq!(lab.disk.len(), 1);
    assert_eq!(lab.offer(2), first);
}

#[test]
fn what_was_not_stored_has_not_happened() {
    let mut lab = Lab::small(20);
    let kept = lab.lease(1);
    let heard = |lab: &mut Lab, packet: &Packet| {
        let from = Ipv4Addr::UNSPECIFIED;
        lab.hear_uncommitted(packet, from, Ipv4Addr::BROADCAST);
    };
    let release = Packet::new(RELEASE, 1).ciaddr(kept).server(SERVER);
    heard(&mut lab, &release);
    heard(&mut lab, &Packet::new(DISCOVER, 2));
    heard(&mut lab, &selecting(2, ip(11)));
    heard(&mut lab, &selecting(3, kept));
    assert_eq!(lab.state_uncommitted(kept), Some("bound"));
    lab.server.roll_back();
    assert!(lab.server.take_records().is_empty());
    assert_eq!(lab.state(kept), Some("bound"));
    assert_eq!(lab.state(ip(11)), None);
    assert_eq!(lab.ask(&rebooting(1, kept)).kind(), ACK);
    assert_eq!(lab.offer(2), ip(11));
}

impl Lab {
    fn state_uncommitted(&self, address: Ipv4Addr) -> Option<&'static str> {
        let mut leases = self.server.leases();
        let lease = leases.find(|lease| lease.address == address)?;
        Some(lease.state)
    }
}
