use std::{
    collections::BTreeMap,
    mem,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::v4::{CLIENT_PORT, MessageType, SERVER_PORT};

use super::{
    drop_reason::DropReason,
    lease::{ClientKey, Counts, Hardware, LeaseNote, Record, State, StoredLease, StoredState},
    message::Message,
    reply::{Reply, ReplyKind},
    subnet::{Requester, Served, bound},
    table::Table,
};
use crate::config;

/// A place where the server is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The server's addresses there, the one that clients know it by (option 54) first. Empty for a
    /// socket on 0.0.0.0: there it is the address that a packet was sent to.
    pub addresses: Vec<Ipv4Addr>,
    /// Where answers go.
    pub replies: Replies,
}

/// Where answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// To the address and port that the packet came from: for clients that already have one, on the
    /// loopback interface.
    ToSender,
    /// Where RFC 2131 section 4.1 says, to ports 67 and 68.
    Standard,
}

/// How a packet came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub source: SocketAddrV4,
    /// The address that it was sent to.
    pub destination: Ipv4Addr,
    /// Where: an index into the links that the server was made with.
    pub link: usize,
}

/// What a packet was, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The message's type; `None` if it was no message.
    pub message: Option<MessageType>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This answer is due, once the records are stored.
    Reply(Reply),
    /// Done, and none is (RELEASE, DECLINE).
    Silent,
    /// None is, for this reason.
    Dropped(DropReason),
}

/// One address, for showing.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// Its client's key.
    pub client: &'a ClientKey,
    /// Its client's hardware address.
    pub hardware: Hardware,
    /// Its client's host name.
    pub hostname: Option<&'a str>,
    /// `offered`, `bound`, `released`, `expired` or `declined`.
    pub state: &'static str,
    /// When that ends or did: seconds since 1970.
    pub until: u64,
    /// Its subnet.
    pub subnet: config::Ipv4Network,
    /// Whether it is reserved for its client.
    pub reserved: bool,
}

/// How long an address that somebody else was found to use is left alone. Kea's day would let one
/// misbehaving client drain a classroom's pool for the whole day.
pub const QUARANTINE: u64 = 3600;

/// The decisions of a DHCP server (RFC 2131 section 4.3).
///
/// The order of use, for each batch of packets: [`handle`](Self::handle) each; store what
/// [`take_records`](Self::take_records) gives; then [`commit`](Self::commit) and send the answers,
/// or [`roll_back`](Self::roll_back) and send none.
pub struct DhcpServer {
    links: Vec<Attachment>,
    subnets: Vec<Served>,
    /// Subnets by their network address; none overlap.
    by_network: BTreeMap<Ipv4Addr, usize>,
    records: Vec<Record>,
    notes: Vec<LeaseNote>,
}

impl DhcpServer {
    /// A server without leases.
    pub fn new(config: &config::Dhcp, links: Vec<Attachment>) -> Self {
        let own: Vec<_> = links
            .iter()
            .flat_map(|link| link.addresses.clone())
            .collect();
        let networks = config.subnets.iter().map(|subnet| subnet.network.address);
        let server = Self {
            links,
            by_network: networks.zip(0..).collect(),
            subnets: config
                .subnets
                .iter()
                .map(|subnet| Served::new(subnet, &own))
                .collect(),
            records: Vec::new(),
            notes: Vec::new(),
        };
        for link in &server.links {
            let missing = link.addresses.is_empty();
            if link.replies == Replies::Standard && !missing && server.attached(link).is_none() {
                tracing::warn!(
                    addresses = ?link.addresses,
                    "no [[dhcp.subnet]] holds this interface's address: only clients behind a \
                     relay will get an answer there",
                );
            }
        }
        server
    }

    /// Takes up stored leases. Those of networks that are not served stay in the store alone; their
    /// number is the answer.
    pub fn restore(&mut self, stored: impl IntoIterator<Item = StoredLease>, now: u64) -> usize {
        let mut elsewhere = 0;
        for lease in stored {
            match self.subnet_of(lease.address) {
                Some(index) => self.subnets[index].table.restore(lease, now),
                None => elsewhere += 1,
            }
        }
        self.expire(now);
        self.commit();
        elsewhere
    }

    /// Decides about one packet at the wall time `now` (seconds since 1970). The bytes of an answer
    /// replace what `reply` held.
    pub fn handle(
        &mut self,
        packet: &[u8],
        received: Received,
        now: u64,
        reply: &mut Vec<u8>,
    ) -> Decision {
        let message = match Message::parse(packet) {
            Ok(message) => message,
            Err(fault) => {
                tracing::debug!(source = %received.source, %fault, "no DHCP message");
                return Decision {
                    message: None,
                    outcome: Outcome::Dropped(DropReason::Malformed),
                };
            }
        };
        let outcome = match self.decide(&message, received, now, reply) {
            Ok(Some(reply)) => Outcome::Reply(reply),
            Ok(None) => Outcome::Silent,
            Err(reason) => {
                tracing::debug!(
                    source = %received.source,
                    client = %message.hardware(),
                    kind = ?message.kind,
                    reason = reason.label(),
                    "no answer",
                );
                Outcome::Dropped(reason)
            }
        };
        let kind = message.kind;
        Decision {
            message: Some(kind),
            outcome,
        }
    }

    /// What must be on disk before the answers of this batch leave, in order.
    pub fn take_records(&mut self) -> Vec<Record> {
        mem::take(&mut self.records)
    }

    /// The records are stored: what was decided since the last commit stands.
    pub fn commit(&mut self) {
        for subnet in &mut self.subnets {
            subnet.table.commit(&mut self.notes);
        }
    }

    /// What has become of leases, in order, since this was asked last. Only what is committed.
    pub fn take_notes(&mut self) -> Vec<LeaseNote> {
        mem::take(&mut self.notes)
    }

    /// Moves every date by so many seconds, as the wall clock was moved. Between commits.
    pub fn shift(&mut self, seconds: i64) {
        for subnet in &mut self.subnets {
            subnet.table.shift(seconds);
        }
    }

    /// The same server under another configuration or at other addresses: with the stored leases,
    /// those of networks that are served only now among them, and with the offers that are out.
    pub fn reconfigured(
        &self,
        config: &config::Dhcp,
        links: Vec<Attachment>,
        stored: impl IntoIterator<Item = StoredLease>,
        now: u64,
    ) -> Self {
        let mut server = Self::new(config, links);
        server.restore(stored, now);
        for (address, lease) in self.subnets.iter().flat_map(|subnet| subnet.table.iter()) {
            let Some(index) = server.subnet_of(address) else {
                continue;
            };
            server.subnets[index].adopt(address, lease);
        }
        server.commit();
        server
    }

    /// The records could not be stored: nothing of what was decided since the last commit has
    /// happened, and none of the answers may leave.
    pub fn roll_back(&mut self) {
        self.records.clear();
        for subnet in &mut self.subnets {
            subnet.table.roll_back();
        }
    }

    /// Ends offers, leases and quarantines whose time has come. [`handle`](Self::handle) does it
    /// for what it looks at; this is for who looks at the whole. Commit after it.
    pub fn expire(&mut self, now: u64) {
        for subnet in &mut self.subnets {
            subnet.table.expire(now);
        }
    }

    /// Every address that has a client, subnet by subnet, in order.
    pub fn leases(&self) -> impl Iterator<Item = LeaseView<'_>> {
        self.subnets.iter().flat_map(|subnet| {
            subnet.table.iter().map(|(address, lease)| {
                let (state, until) = lease.state.name_and_end();
                LeaseView {
                    address,
                    client: &lease.client.key,
                    hardware: lease.client.hardware,
                    hostname: lease.client.hostname.as_deref(),
                    state,
                    until,
                    subnet: subnet.config.network,
                    reserved: subnet.table.pool().is_reserved(address),
                }
            })
        })
    }

    /// Each subnet, its number of addresses for leasing, and what has become of them.
    pub fn counts(&self) -> impl Iterator<Item = (config::Ipv4Network, u64, Counts)> {
        self.subnets.iter().map(|subnet| {
            let size = subnet.table.pool().len();
            (subnet.config.network, size, subnet.table.counts())
        })
    }

    fn decide(
        &mut self,
        message: &Message<'_>,
        received: Received,
        now: u64,
        reply: &mut Vec<u8>,
    ) -> Result<Option<Reply>, DropReason> {
        let server = self.server_address(received).ok_or(DropReason::NotForUs)?;
        let for_us = message.server.is_none_or(|named| {
            // Whichever of our addresses it learned (RFC 2131 section 4.1).
            named == server
                || self
                    .links
                    .iter()
                    .any(|link| link.addresses.contains(&named))
        });
        match message.kind {
            MessageType::Release | MessageType::Decline if !for_us => {
                return Err(DropReason::NotForUs);
            }
            MessageType::Release => return self.release(message, now),
            MessageType::Decline => return self.decline(message, now),
            MessageType::Discover | MessageType::Request | MessageType::Inform => {}
            _ => return Err(DropReason::Malformed),
        }
        let index = self
            .select_subnet(message, received)
            .ok_or(DropReason::NoSubnet)?;
        let subnet = &mut self.subnets[index];
        subnet.table.expire(now);
        let client = Requester::new(message);
        let kind = match message.kind {
            MessageType::Discover => subnet.discover(&client, message.requested, now)?,
            MessageType::Inform => subnet.inform(message, received.source)?,
            _ => subnet.request(&client, message, for_us, now, &mut self.records)?,
        };
        if let Err(error) = kind.encode(message, &subnet.config, server, reply) {
            tracing::error!(%error, "a reply could not be encoded");
            return Err(DropReason::Malformed);
        }
        let destination = match self.links[received.link].replies {
            Replies::ToSender => received.source,
            Replies::Standard => destination(message, kind),
        };
        Ok(Some(Reply {
            destination,
            server,
            kind,
        }))
    }

    /// The address that the client knows the server by.
    fn server_address(&self, received: Received) -> Option<Ipv4Addr> {
        let link = self.links.get(received.link)?;
        let heard = received.destination;
        let unicast = !heard.is_broadcast() && !heard.is_multicast() && !heard.is_unspecified();
        let heard = unicast.then_some(heard);
        match link.replies {
            Replies::ToSender => heard.or(link.addresses.first().copied()),
            Replies::Standard => link.addresses.first().copied(),
        }
    }

    fn subnet_of(&self, address: Ipv4Addr) -> Option<usize> {
        let (_, index) = self.by_network.range(..=address).next_back()?;
        let network = self.subnets[*index].config.network;
        network.contains(address).then_some(*index)
    }

    /// The network that the client is attached to, if it is served.
    fn select_subnet(&self, message: &Message<'_>, received: Received) -> Option<usize> {
        if let Some(address) = message.link_selection().or(message.giaddr()) {
            return self.subnet_of(address);
        }
        // A renewal may come from behind any number of routers. A broadcast comes from the link,
        // whatever address the client believes to have.
        if !received.destination.is_broadcast()
            && let Some(index) = message.ciaddr().and_then(|own| self.subnet_of(own))
        {
            return Some(index);
        }
        let link = self.links.get(received.link)?;
        match link.replies {
            Replies::Standard => self.attached(link),
            // Addresses of the loopback interface are of no network that one would lease from.
            Replies::ToSender => self
                .attached(link)
                .or((!self.subnets.is_empty()).then_some(0)),
        }
    }

    /// The served network that the server itself has an address in.
    fn attached(&self, link: &Attachment) -> Option<usize> {
        link.addresses.iter().find_map(|own| self.subnet_of(*own))
    }

    fn release(&mut self, message: &Message<'_>, now: u64) -> Result<Option<Reply>, DropReason> {
        let address = message.ciaddr().ok_or(DropReason::Malformed)?;
        let (table, lease) = self.owned(message, address, now)?;
        table.release(address, now);
        self.records.push(Record::Keep(StoredLease {
            state: StoredState::Released,
            until: now,
            ..lease
        }));
        Ok(None)
    }

    fn decline(&mut self, message: &Message<'_>, now: u64) -> Result<Option<Reply>, DropReason> {
        let address = message.requested.ok_or(DropReason::Malformed)?;
        let (table, lease) = self.owned(message, address, now)?;
        let until = now.saturating_add(QUARANTINE);
        table.decline(address, until);
        tracing::warn!(
            %address,
            client = %message.hardware(),
            "a client found its address in use by another host; it is in quarantine for an hour",
        );
        self.records.push(Record::Keep(StoredLease {
            state: StoredState::Declined,
            until,
            ..lease
        }));
        Ok(None)
    }

    /// The table of `address` and what would be stored of it, if it is bound to the sender.
    fn owned(
        &mut self,
        message: &Message<'_>,
        address: Ipv4Addr,
        now: u64,
    ) -> Result<(&mut Table, StoredLease), DropReason> {
        let index = self.subnet_of(address).ok_or(DropReason::NoSubnet)?;
        let table = &mut self.subnets[index].table;
        table.expire(now);
        let lease = table.get(address).ok_or(DropReason::UnknownClient)?;
        match lease.state {
            State::Bound { until, .. } if lease.client.key == message.client_key() => {
                let stored = bound(address, &lease.client, until);
                Ok((table, stored))
            }
            _ => Err(DropReason::UnknownClient),
        }
    }
}

/// Where RFC 2131 section 4.1 sends an answer.
fn destination(message: &Message<'_>, kind: ReplyKind) -> SocketAddrV4 {
    let broadcast = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
    // A client that asks for parameters has an address that works.
    if let ReplyKind::Inform { address } = kind {
        return SocketAddrV4::new(address, CLIENT_PORT);
    }
    if let Some(relay) = message.giaddr() {
        return SocketAddrV4::new(relay, SERVER_PORT);
    }
    if let ReplyKind::Nak(_) = kind {
        // Even to a client that gave an address: it is the one it may not use.
        return broadcast;
    }
    match message.ciaddr() {
        Some(own) => SocketAddrV4::new(own, CLIENT_PORT),
        // Without the broadcast flag the client could take a frame to its hardware address and its
        // future IP address. That needs a raw socket; broadcasting instead is allowed (section 4.1:
        // "if unicasting is not possible").
        None => broadcast,
    }
}
