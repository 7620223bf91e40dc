//! The client's side of DNS (RFC 1035): one question, asked until it is answered.

use std::{
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::exchange::{Exchange, Patience, Transmit};
use crate::watch::event::packet::{Again, Fate};

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The name that was asked for, without the final dot.
    pub name: String,
    /// Its addresses, in the server's order; at least one.
    pub addresses: Vec<Ipv4Addr>,
    /// How long the answer may be remembered.
    pub ttl: Duration,
}

impl Resolved {
    /// The address to use: the server's first.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses
            .first()
            .copied()
            .unwrap_or(Ipv4Addr::UNSPECIFIED)
    }
}

/// What came of the question over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The answer.
    Resolved(Resolved),
    /// The answer is too large for UDP: ask over TCP (RFC 7766 section 5).
    Truncated,
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Not a domain name.
    #[error("{name:?} is no domain name: {problem}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answered.
    #[error("no answer after {tries} tries")]
    Silence {
        /// How often the question was sent.
        tries: u32,
    },
    /// The kernel reports a closed port.
    #[error("nothing listens there (connection refused)")]
    NotThere,
    /// NXDOMAIN.
    #[error("there is no name {0}")]
    NoSuchName(String),
    /// NODATA.
    #[error("{0} has no IPv4 address")]
    NoAddress(String),
    /// Any other response code.
    #[error("the server answers {0}")]
    Failed(String),
    /// The answer over TCP is none.
    #[error("the answer over TCP cannot be read")]
    Garbled,
}

/// One question for the IPv4 address of a name.
#[derive(Debug)]
pub struct DnsClient {
    name: Name,
    id: u16,
    patience: Patience,
    rng: Pcg64Mcg,
    tries: u32,
    deadline: Instant,
    transmit: Option<Transmit>,
    outcome: Option<Result<Lookup, DnsError>>,
}

/// Whether `host` can be asked for at all.
pub fn check_name(host: &str) -> Result<(), DnsError> {
    parse_name(host).map(drop)
}

fn parse_name(host: &str) -> Result<Name, DnsError> {
    let bad = |problem: String| DnsError::BadName {
        name: host.to_owned(),
        problem,
    };
    let mut name = Name::from_ascii(host).map_err(|error| bad(error.to_string()))?;
    if name.num_labels() == 0 {
        return Err(bad("it is empty".to_owned()));
    }
    name.set_fqdn(true);
    Ok(name)
}

/// What fits into a datagram everywhere without fragments (the DNS flag day's figure).
const UDP_PAYLOAD: u16 = 1232;

/// So many aliases in a row are a loop.
const MAX_ALIASES: usize = 8;

impl DnsClient {
    /// A question whose first packet is ready to be sent. `seed` decides its id and the jitter.
    pub fn new(host: &str, patience: Patience, seed: u64, now: Instant) -> Result<Self, DnsError> {
        let name = parse_name(host)?;
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut client = Self {
            name,
            id: rng.random(),
            patience,
            rng,
            tries: 0,
            deadline: now,
            transmit: None,
            outcome: None,
        };
        client.send(now);
        Ok(client)
    }

    /// The question itself: the datagram, and what follows the length over TCP.
    pub fn query(&self) -> Transmit {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
        Transmit {
            payload: message.to_vec().unwrap_or_else(|error| {
                // A question of one valid name always fits.
                tracing::error!(%error, "a DNS question was not encoded");
                Vec::new()
            }),
            fate: if self.tries > 1 {
                Fate::SentAgain(Again::Unanswered)
            } else {
                Fate::Sent
            },
        }
    }

    /// Reads the answer that came over TCP.
    pub fn read_tcp(&self, answer: &[u8]) -> Result<Resolved, DnsError> {
        match self.read(answer) {
            Some(Ok(Lookup::Resolved(resolved))) => Ok(resolved),
            Some(Err(error)) => Err(error),
            Some(Ok(Lookup::Truncated)) | None => Err(DnsError::Garbled),
        }
    }

    fn host(&self) -> String {
        self.name.to_ascii().trim_end_matches('.').to_owned()
    }

    fn send(&mut self, now: Instant) {
        self.deadline = now + self.patience.wait(self.tries, &mut self.rng);
        self.tries += 1;
        self.transmit = Some(self.query());
    }

    /// `None`: not an answer to this question.
    fn read(&self, payload: &[u8]) -> Option<Result<Lookup, DnsError>> {
        // One question, looked at before the codec makes room for as many as the header claims.
        if payload.get(..2)? != self.id.to_be_bytes() || payload.get(4..6)? != [0, 1] {
            return None;
        }
        let message = Message::from_vec(payload).ok()?;
        let [question] = message.queries.as_slice() else {
            return None;
        };
        let ours = message.metadata.message_type == MessageType::Response
            && message.metadata.op_code == OpCode::Query
            && question.query_type() == RecordType::A
            && question.query_class() == hickory_proto::rr::DNSClass::IN
            && *question.name() == self.name;
        if !ours {
            return None;
        }
        if message.metadata.truncation {
            return Some(Ok(Lookup::Truncated));
        }
        Some(match message.metadata.response_code {
            ResponseCode::NoError => self.addresses(&message).map(Lookup::Resolved),
            ResponseCode::NXDomain => Err(DnsError::NoSuchName(self.host())),
            code => Err(DnsError::Failed(format!("{code:?} ({code})"))),
        })
    }

    fn addresses(&self, message: &Message) -> Result<Resolved, DnsError> {
        let mut owner = &self.name;
        let mut ttl = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            let records = || {
                message
                    .answers
                    .iter()
                    .filter(|record| record.name == *owner)
            };
            let mut addresses = Vec::new();
            for record in records() {
                if let RData::A(address) = &record.data {
                    addresses.push(address.0);
                    ttl = ttl.min(record.ttl);
                }
            }
            if !addresses.is_empty() {
                return Ok(Resolved {
                    name: self.host(),
                    addresses,
                    ttl: Duration::from_secs(ttl.into()),
                });
            }
            let alias = records().find_map(|record| match &record.data {
                RData::CNAME(target) => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else {
                break;
            };
            ttl = ttl.min(alias_ttl);
            owner = target;
        }
        Err(DnsError::NoAddress(self.host()))
    }
}

impl Exchange for DnsClient {
    type Answer = Lookup;
    type Error = DnsError;

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    fn handle_datagram(&mut self, payload: &[u8], _now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        self.outcome = self.read(payload);
        if self.outcome.is_none() {
            tracing::debug!(bytes = payload.len(), "not an answer to this DNS question");
        }
    }

    fn handle_refused(&mut self) {
        self.outcome.get_or_insert(Err(DnsError::NotThere));
    }

    fn tries(&self) -> u32 {
        self.tries
    }

    fn deadline(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.deadline)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_some() || now < self.deadline {
            return;
        }
        if self.tries >= self.patience.tries {
            self.outcome = Some(Err(DnsError::Silence { tries: self.tries }));
        } else {
            self.send(now);
        }
    }

    fn outcome(&mut self) -> Option<Result<Lookup, DnsError>> {
        self.outcome.clone()
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}", self.name, self.address())
    }
}
