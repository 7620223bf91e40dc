//! The DHCP server: its decisions in virtual time, and its actor on the loopback interface.

mod actor;
mod allocation;
mod fuzz;
mod protocol;
mod wire;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use labnet::{
    config::{self, AddressRange, DhcpListen, Ipv4Network, MacAddress, Reservation, Subnet},
    dhcp::{
        Attachment, Decision, DhcpServer, DropReason, Outcome, Received, Record, Replies,
        StoredLease,
    },
};

use crate::support::dhcp::{ACK, Answer, DISCOVER, NAK, OFFER, Packet, REQUEST};

const LEASE: u64 = 3600;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// 10.0.0.`last`
fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn mac(client: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, client])
}

/// 10.0.`third`.0/24 with a pool from .10 to .`last`.
fn subnet(third: u8, last: u8) -> Subnet {
    Subnet {
        network: Ipv4Network {
            address: Ipv4Addr::new(10, 0, third, 0),
            prefix_len: 24,
        },
        pools: vec![AddressRange {
            first: Ipv4Addr::new(10, 0, third, 10),
            last: Ipv4Addr::new(10, 0, third, last),
        }],
        routers: vec![Ipv4Addr::new(10, 0, third, 254)],
        name_servers: vec![ip(3), ip(4)],
        domain: Some("lab.test".to_owned()),
        lease_time: Duration::from_secs(LEASE),
        reservations: vec![],
    }
}

fn reserve(subnet: &mut Subnet, client: u8, address: Ipv4Addr) {
    subnet.reservations.push(Reservation {
        mac: mac(client),
        address,
    });
}

fn config(subnets: Vec<Subnet>) -> config::Dhcp {
    config::Dhcp {
        listen: DhcpListen::Interfaces(vec!["lab0".to_owned()]),
        subnets,
    }
}

/// A server on one interface with the address 10.0.0.1, its clock, and what it stores.
struct Lab {
    server: DhcpServer,
    now: u64,
    disk: Vec<StoredLease>,
}

impl Lab {
    fn new(subnets: Vec<Subnet>) -> Self {
        Self::with(subnets, Replies::Standard, vec![], 1_000_000)
    }

    /// Pool 10.0.0.10 to 10.0.0.`last`.
    fn small(last: u8) -> Self {
        Self::new(vec![subnet(0, last)])
    }

    fn with(subnets: Vec<Subnet>, replies: Replies, disk: Vec<StoredLease>, now: u64) -> Self {
        let link = Attachment {
            addresses: vec![SERVER],
            replies,
        };
        let mut server = DhcpServer::new(&config(subnets), vec![link]);
        server.restore(disk.clone(), now);
        Self { server, now, disk }
    }

    /// The same disk, another process, maybe another configuration.
    fn restarted(self, subnets: Vec<Subnet>) -> Self {
        Self::with(subnets, Replies::Standard, self.disk, self.now)
    }

    /// A reload: the same process goes on with another configuration.
    fn reconfigure(&mut self, subnets: Vec<Subnet>) {
        let link = Attachment {
            addresses: vec![SERVER],
            replies: Replies::Standard,
        };
        let config = config(subnets);
        let stored = self.disk.clone();
        self.server = self
            .server
            .reconfigured(&config, vec![link], stored, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// A broadcast, as clients without an address send it.
    fn hear(&mut self, packet: &Packet) -> (Decision, Vec<u8>) {
        self.hear_from(packet, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
    }

    fn hear_from(
        &mut self,
        packet: &Packet,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> (Decision, Vec<u8>) {
        let heard = self.hear_uncommitted(packet, source, destination);
        self.commit();
        heard
    }

    fn hear_uncommitted(
        &mut self,
        packet: &Packet,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> (Decision, Vec<u8>) {
        let mut reply = Vec::new();
        let received = Received {
            source: SocketAddrV4::new(source, 68),
            destination,
            link: 0,
        };
        let decision = self
            .server
            .handle(&packet.bytes(), received, self.now, &mut reply);
        (decision, reply)
    }

    fn commit(&mut self) {
        for record in self.server.take_records() {
            let address = match &record {
                Record::Keep(lease) => lease.address,
                Record::Forget(address) => *address,
            };
            self.disk.retain(|lease| lease.address != address);
            if let Record::Keep(lease) = record {
                self.disk.push(lease);
            }
        }
        self.server.commit();
    }

    /// The answer to a broadcast, which there has to be.
    #[track_caller]
    fn ask(&mut self, packet: &Packet) -> Answer {
        let (decision, reply) = self.hear(packet);
        assert!(
            matches!(decision.outcome, Outcome::Reply(_)),
            "{decision:?}"
        );
        Answer::parse(&reply)
    }

    /// The same for a unicast from `source`.
    #[track_caller]
    fn ask_from(&mut self, packet: &Packet, source: Ipv4Addr) -> Answer {
        let (decision, reply) = self.hear_from(packet, source, SERVER);
        assert!(
            matches!(decision.outcome, Outcome::Reply(_)),
            "{decision:?}"
        );
        Answer::parse(&reply)
    }

    #[track_caller]
    fn dropped(&mut self, packet: &Packet) -> DropReason {
        match self.hear(packet).0.outcome {
            Outcome::Dropped(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn silent(&mut self, packet: &Packet) {
        assert_eq!(self.hear(packet).0.outcome, Outcome::Silent);
    }

    #[track_caller]
    fn offer(&mut self, client: u8) -> Ipv4Addr {
        let offer = self.ask(&Packet::new(DISCOVER, client));
        assert_eq!(offer.kind(), OFFER);
        offer.yiaddr()
    }

    /// SELECTING: takes an offer.
    #[track_caller]
    fn take(&mut self, client: u8, address: Ipv4Addr) {
        let ack = self.ask(&selecting(client, address));
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
    }

    /// DISCOVER to ACK.
    #[track_caller]
    fn lease(&mut self, client: u8) -> Ipv4Addr {
        let address = self.offer(client);
        self.take(client, address);
        address
    }

    #[track_caller]
    fn nak(&mut self, packet: &Packet) {
        assert_eq!(self.ask(packet).kind(), NAK);
    }

    /// The state of an address, if it has one.
    fn state(&mut self, address: Ipv4Addr) -> Option<&'static str> {
        self.server.expire(self.now);
        self.server.commit();
        let mut leases = self.server.leases();
        let lease = leases.find(|lease| lease.address == address)?;
        Some(lease.state)
    }
}

fn selecting(client: u8, address: Ipv4Addr) -> Packet {
    Packet::new(REQUEST, client)
        .requested(address)
        .server(SERVER)
}

fn rebooting(client: u8, address: Ipv4Addr) -> Packet {
    Packet::new(REQUEST, client).requested(address)
}

fn renewing(client: u8, address: Ipv4Addr) -> Packet {
    Packet::new(REQUEST, client).ciaddr(address)
}
