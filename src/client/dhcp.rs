//! The client's side of DHCP (RFC 2131 section 4.4): from nothing to a leased address.

use std::{
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use dhcproto::{
    Encodable, Encoder,
    v4::{self, DhcpOption, MessageType, OptionCode, borrowed},
};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::exchange::{Exchange, Patience, Transmit};
use crate::{
    config::MacAddress,
    text::{LONG, duration, printable},
    watch::event::packet::{Again, Fate},
};

/// Who the client says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its hardware address; with the type 1 (Ethernet) in front also its client identifier.
    pub mac: MacAddress,
    /// Option 12.
    pub host_name: String,
}

impl Identity {
    /// A hardware address out of `seed`: locally administered (`02:...`), so that it is nobody
    /// else's.
    pub fn from_seed(seed: u64, host_name: &str) -> Self {
        let mut mac = [0x02; 6];
        Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut mac[1..]);
        Self {
            mac: MacAddress(mac),
            host_name: host_label(host_name),
        }
    }
}

/// Makes a host name of the characters that RFC 952 allows.
fn host_label(name: &str) -> String {
    let label: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    match label.trim_matches('-') {
        "" => "client".to_owned(),
        label => label.to_owned(),
    }
}

/// A leased address and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLease {
    /// The client's address.
    pub address: Ipv4Addr,
    /// The server that leased it (option 54).
    pub server: Ipv4Addr,
    /// Option 51; `None` is for ever.
    pub time: Option<Duration>,
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub name_servers: Vec<Ipv4Addr>,
    /// Option 15, as the server wrote it.
    pub domain: Option<String>,
}

/// Why the client has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhcpError {
    /// Nobody answered.
    #[error("no answer after {tries} tries")]
    Silence {
        /// How often the message was sent.
        tries: u32,
        /// Whether it was a DISCOVER: a server that has no address for the client is silent, too.
        discovering: bool,
    },
    /// The kernel reports a closed port.
    #[error("nothing listens there (connection refused)")]
    NotThere,
    /// The server takes back what it offers.
    #[error("the server refused its own offers {times} times{}", said(.message))]
    Refused {
        /// Option 56 of the last refusal.
        message: Option<String>,
        /// How often.
        times: u32,
    },
}

fn said(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or_else(String::new, |message| format!(" and says: {message}"))
}

/// The DHCP client: DISCOVER, OFFER, REQUEST, ACK.
#[derive(Debug)]
pub struct DhcpClient {
    identity: Identity,
    patience: Patience,
    rng: Pcg64Mcg,
    started: Instant,
    xid: u32,
    state: State,
    transmit: Option<Transmit>,
    naks: u32,
    by_broadcast: bool,
}

#[derive(Debug)]
enum State {
    Selecting(Attempt),
    Requesting(Offer, Attempt),
    Bound(ClientLease),
    Failed(DhcpError),
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    tries: u32,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// So many NAKs in a row are no accident any more.
const MAX_NAKS: u32 = 4;

/// Subnet mask, router, name server, domain, broadcast address, lease time, server identifier, and
/// the times of renewal.
const ASKED_FOR: [OptionCode; 9] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::BroadcastAddr,
    OptionCode::AddressLeaseTime,
    OptionCode::ServerIdentifier,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

impl DhcpClient {
    /// A client without an address; its DISCOVER is ready to be sent. `seed` decides the
    /// transaction ids and the jitter.
    pub fn new(identity: Identity, patience: Patience, seed: u64, now: Instant) -> Self {
        let mut client = Self {
            identity,
            patience,
            rng: Pcg64Mcg::seed_from_u64(seed),
            started: now,
            xid: 0,
            state: State::Selecting(Attempt {
                tries: 0,
                deadline: now,
            }),
            transmit: None,
            naks: 0,
            by_broadcast: false,
        };
        client.discover(now);
        client
    }

    /// Asks for answers by broadcast from now on: until it has its address, its machine takes no others.
    pub fn hear_broadcasts(&mut self) {
        self.by_broadcast = true;
        // The first message is ready to be sent, without the wish.
        if self.transmit.is_some() {
            self.send(0, self.started);
        }
    }

    /// The RELEASE of a lease: sent once, never answered.
    pub fn release(identity: &Identity, lease: &ClientLease, seed: u64) -> Transmit {
        let mut message = request(identity, Pcg64Mcg::seed_from_u64(seed).next_u32());
        message.set_ciaddr(lease.address);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(MessageType::Release));
        options.insert(DhcpOption::ServerIdentifier(lease.server));
        Transmit {
            payload: encode(&message),
            fate: Fate::Sent,
        }
    }

    fn discover(&mut self, now: Instant) {
        self.xid = self.rng.next_u32();
        let attempt = self.attempt(0, now);
        self.state = State::Selecting(attempt);
        self.send(0, now);
    }

    fn attempt(&mut self, before: u32, now: Instant) -> Attempt {
        Attempt {
            tries: before + 1,
            deadline: now + self.patience.wait(before, &mut self.rng),
        }
    }

    /// Makes the message of the current state ready.
    fn send(&mut self, before: u32, now: Instant) {
        let mut message = request(&self.identity, self.xid);
        let secs = now.saturating_duration_since(self.started).as_secs();
        message.set_secs(u16::try_from(secs).unwrap_or(u16::MAX));
        if self.by_broadcast {
            message.set_flags(v4::Flags::default().set_broadcast());
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::Hostname(self.identity.host_name.clone()));
        options.insert(DhcpOption::ParameterRequestList(ASKED_FOR.to_vec()));
        match &self.state {
            State::Selecting(_) => {
                options.insert(DhcpOption::MessageType(MessageType::Discover));
            }
            State::Requesting(offer, _) => {
                options.insert(DhcpOption::MessageType(MessageType::Request));
                options.insert(DhcpOption::RequestedIpAddress(offer.address));
                options.insert(DhcpOption::ServerIdentifier(offer.server));
            }
            State::Bound(_) | State::Failed(_) => return,
        }
        self.transmit = Some(Transmit {
            payload: encode(&message),
            fate: if before == 0 {
                Fate::Sent
            } else {
                Fate::SentAgain(Again::Unanswered)
            },
        });
    }

    fn nak(&mut self, message: Option<String>, now: Instant) {
        self.naks += 1;
        if self.naks == MAX_NAKS {
            self.state = State::Failed(DhcpError::Refused {
                message,
                times: self.naks,
            });
        } else {
            self.discover(now);
        }
    }
}

impl Exchange for DhcpClient {
    type Answer = ClientLease;
    type Error = DhcpError;

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    fn handle_datagram(&mut self, payload: &[u8], now: Instant) {
        let Some(reply) = Reply::parse(payload, self.xid, self.identity.mac) else {
            tracing::debug!(bytes = payload.len(), "not a DHCP reply to this client");
            return;
        };
        match (&self.state, reply.kind) {
            (State::Selecting(_), MessageType::Offer) => {
                let (Some(address), Some(server)) = (reply.address, reply.server) else {
                    tracing::debug!("an offer without an address or a server");
                    return;
                };
                let attempt = self.attempt(0, now);
                self.state = State::Requesting(Offer { address, server }, attempt);
                self.send(0, now);
            }
            (State::Requesting(offer, _), MessageType::Ack)
                if reply.address == Some(offer.address)
                    && reply.server.is_none_or(|server| server == offer.server)
                    && reply.time.is_some() =>
            {
                self.state = State::Bound(ClientLease {
                    address: offer.address,
                    server: offer.server,
                    time: reply.time.filter(|time| *time != FOR_EVER).map(seconds),
                    mask: reply.mask,
                    routers: reply.routers,
                    name_servers: reply.name_servers,
                    domain: reply.domain,
                });
            }
            (State::Requesting(offer, _), MessageType::Nak)
                if reply.server.is_none_or(|server| server == offer.server) =>
            {
                self.nak(reply.message, now);
            }
            (_, kind) => tracing::debug!(?kind, "a DHCP reply that does not fit"),
        }
    }

    fn handle_refused(&mut self) {
        if self.deadline().is_some() {
            self.state = State::Failed(DhcpError::NotThere);
        }
    }

    fn tries(&self) -> u32 {
        match &self.state {
            State::Selecting(attempt) | State::Requesting(_, attempt) => attempt.tries,
            State::Bound(_) | State::Failed(_) => 0,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Selecting(attempt) | State::Requesting(_, attempt) => Some(attempt.deadline),
            State::Bound(_) | State::Failed(_) => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let before = match &self.state {
            State::Selecting(attempt) | State::Requesting(_, attempt)
                if attempt.deadline <= now =>
            {
                attempt.tries
            }
            _ => return,
        };
        if before >= self.patience.tries {
            self.state = State::Failed(DhcpError::Silence {
                tries: before,
                discovering: matches!(self.state, State::Selecting(_)),
            });
            return;
        }
        let next = self.attempt(before, now);
        if let State::Selecting(attempt) | State::Requesting(_, attempt) = &mut self.state {
            *attempt = next;
        }
        self.send(before, now);
    }

    fn outcome(&mut self) -> Option<Result<ClientLease, DhcpError>> {
        match &self.state {
            State::Bound(lease) => Some(Ok(lease.clone())),
            State::Failed(error) => Some(Err(error.clone())),
            State::Selecting(_) | State::Requesting(..) => None,
        }
    }
}

/// RFC 2132 section 9.2: this lease time never ends.
const FOR_EVER: u32 = u32::MAX;

fn seconds(time: u32) -> Duration {
    Duration::from_secs(time.into())
}

/// A BOOTREQUEST with what every message of the client carries.
fn request(identity: &Identity, xid: u32) -> v4::Message {
    let mut message = v4::Message::default();
    message.set_xid(xid).set_chaddr(&identity.mac.0);
    let mut id = vec![1];
    id.extend(identity.mac.0);
    message.opts_mut().insert(DhcpOption::ClientIdentifier(id));
    message
}

fn encode(message: &v4::Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(v4::MIN_PACKET_SIZE);
    if let Err(error) = message.encode(&mut Encoder::new(&mut bytes)) {
        // Only a field too long for its length byte fails, and none of the client's is.
        tracing::error!(%error, "a DHCP message was not encoded");
    }
    // BOOTP's minimum (RFC 1542 section 2.1): some relays drop what is shorter.
    bytes.resize(bytes.len().max(v4::MIN_PACKET_SIZE), 0);
    bytes
}

/// What a server's message says, read option by option so that one broken option hides no other.
struct Reply {
    kind: MessageType,
    address: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    time: Option<u32>,
    mask: Option<Ipv4Addr>,
    routers: Vec<Ipv4Addr>,
    name_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
    message: Option<String>,
}

/// Enough of any list that a server may send.
const MAX_LISTED: usize = 16;

impl Reply {
    /// The reply to transaction `xid` of the client `mac`, or `None` if it is anything else.
    fn parse(payload: &[u8], xid: u32, mac: MacAddress) -> Option<Self> {
        let message = borrowed::Message::new(payload).ok()?;
        // The length is compared before the address is touched: the codec does not check it.
        let ours = message.opcode() == v4::Opcode::BootReply
            && message.xid() == xid
            && message.hlen() == 6
            && message.chaddr() == mac.0;
        if !ours {
            return None;
        }
        let mut reply = Self {
            kind: MessageType::Unknown(0),
            address: Some(message.yiaddr()).filter(usable),
            server: None,
            time: None,
            mask: None,
            routers: Vec::new(),
            name_servers: Vec::new(),
            domain: None,
            message: None,
        };
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => reply.kind = MessageType::from(*data.first()?),
                OptionCode::ServerIdentifier => reply.server = address(data).filter(usable),
                OptionCode::AddressLeaseTime => {
                    reply.time = data
                        .try_into()
                        .ok()
                        .map(u32::from_be_bytes)
                        .filter(|time| *time > 0);
                }
                OptionCode::SubnetMask => reply.mask = address(data),
                OptionCode::Router => reply.routers = addresses(data),
                OptionCode::DomainNameServer => reply.name_servers = addresses(data),
                OptionCode::DomainName => reply.domain = text(data),
                OptionCode::Message => reply.message = text(data),
                _ => {}
            }
        }
        Some(reply)
    }
}

/// Whether a host can have the address. Loopback ones count: the lab lives there.
fn usable(address: &Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from)
}

fn addresses(data: &[u8]) -> Vec<Ipv4Addr> {
    data.chunks_exact(4)
        .filter_map(address)
        .take(MAX_LISTED)
        .collect()
}

/// Text of a server that may be shown on a terminal: nothing that could steer it.
fn text(data: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    let text = printable(text.trim_end_matches('\0'), LONG);
    (!text.is_empty()).then_some(text)
}

impl fmt::Display for ClientLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match self.time {
            Some(time) => write!(f, " for {}", duration(time)),
            None => write!(f, " for ever"),
        }
    }
}
