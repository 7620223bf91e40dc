//! The decision: a question's bytes in, the answer's bytes out.

use std::sync::Arc;

use super::{
    message::{Fault, Full, Ignored, Query, Rcode, Response, Section, Transport},
    name::LowerName,
    rdata::RecordType,
    zone::{Found, Node, RecordSet, Zone, Zones},
};

/// How many CNAMEs one answer follows.
const MAX_CHAIN: usize = 16;
/// How many targets of one set get their addresses added.
const MAX_TARGETS: usize = 32;

/// What the server is authoritative for: it answers questions from its zones alone.
#[derive(Debug, Default)]
pub struct Authority {
    zones: Zones,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It gets no answer; nothing was written.
    Ignored(Ignored),
    /// The answer was appended to the buffer.
    Answered {
        /// Its response code.
        rcode: Rcode,
        /// The type that was asked for; `None` if the question could not be read.
        qtype: Option<RecordType>,
        /// Whether it is cut off.
        truncated: bool,
    },
}

impl FromIterator<Arc<Zone>> for Authority {
    fn from_iter<T: IntoIterator<Item = Arc<Zone>>>(zones: T) -> Self {
        Self {
            zones: zones.into_iter().collect(),
        }
    }
}

impl Authority {
    /// The zones, in no order.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// Answers the message `query`: appends the answer to `out`, or nothing if there is none.
    ///
    /// An answer has at most 65535 bytes over TCP, 1232 over UDP, 512 without EDNS.
    pub fn answer(&self, query: &[u8], transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let message = query;
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Fault::Ignored(reason)) => return Outcome::Ignored(reason),
            Err(Fault::Rejected(rcode, question)) => {
                let truncated =
                    Response::new(out, message, question, transport, None).finish(rcode);
                return Outcome::Answered {
                    rcode,
                    qtype: None,
                    truncated,
                };
            }
        };
        let mut response = Response::new(out, message, query.question, transport, query.edns);
        let rcode = if query.bad_version() {
            Rcode::BadVers
        } else if let Some(zone) = self.zone_for(&query) {
            let mut resolution = Resolution {
                zone,
                query: &query,
                transport,
                response: &mut response,
            };
            // What does not fit is marked in the answer; its code is that of an answer.
            resolution.follow().unwrap_or(Rcode::NoError)
        } else {
            Rcode::Refused
        };
        Outcome::Answered {
            rcode,
            qtype: Some(query.qtype),
            truncated: response.finish(rcode),
        }
    }

    /// The zone that answers `query`; `None` if it is refused.
    fn zone_for(&self, query: &Query<'_>) -> Option<&Zone> {
        let transfer = matches!(query.qtype, RecordType::AXFR | RecordType::IXFR);
        if !query.is_internet() || transfer {
            return None;
        }
        let zone = self.zones.closest(&query.name, 0)?;
        // The DS records at a zone's apex are its parent's (RFC 4035 section 3.1.4.1).
        if query.qtype == RecordType::DS
            && query.name.labels_below(&zone.name().to_lower()) == Some(0)
        {
            return self.zones.closest(&query.name, 1).or(Some(zone));
        }
        Some(zone)
    }
}

/// One question on its way through one zone.
struct Resolution<'q, 'o> {
    zone: &'q Zone,
    query: &'q Query<'q>,
    transport: Transport,
    response: &'q mut Response<'o>,
}

impl Resolution<'_, '_> {
    /// RFC 1034 section 4.3.2 from step 3 on.
    fn follow(&mut self) -> Result<Rcode, Full> {
        let zone = self.zone;
        let qtype = self.query.qtype;
        let mut owner = self.query.question;
        let mut name = self.query.name.clone();
        // The owners of the CNAMEs so far: meeting one again is a loop.
        let mut chain = [&[][..]; MAX_CHAIN];
        for links in 0..MAX_CHAIN {
            let node = match zone.find(&name, qtype == RecordType::DS) {
                Found::Delegation { servers, below } => {
                    // AA is about the first owner name (RFC 1035 section 4.1.1): after a CNAME it
                    // stays set.
                    self.refer(servers, &name, below)?;
                    return Ok(Rcode::NoError);
                }
                Found::Nothing => {
                    self.response.authoritative();
                    self.deny();
                    return Ok(Rcode::NxDomain);
                }
                Found::Node(node) => node,
            };
            self.response.authoritative();
            let owner_wire = &owner[..name.wire_len()];
            if qtype == RecordType::ANY && !node.sets().is_empty() {
                self.everything(node, owner_wire)?;
                return Ok(Rcode::NoError);
            }
            if let Some(set) = node.set(qtype) {
                self.require(Section::Answer, owner_wire, set, set.ttl)?;
                self.add_targets(set);
                return Ok(Rcode::NoError);
            }
            let Some(alias) = node.set(RecordType::CNAME) else {
                self.deny();
                return Ok(Rcode::NoError);
            };
            self.require(Section::Answer, owner_wire, alias, alias.ttl)?;
            chain[links] = owner_wire;
            let target = alias.rdatas.first().map_or(&[][..], |rdata| rdata);
            let seen = chain[..=links]
                .iter()
                .any(|seen| seen.eq_ignore_ascii_case(target));
            match LowerName::read(target) {
                Some(next) if !seen && zone.covers(&next) => {
                    owner = target;
                    name = next;
                }
                // Whoever asked goes on elsewhere, or nowhere.
                _ => return Ok(Rcode::NoError),
            }
        }
        Ok(Rcode::NoError)
    }

    /// RFC 8482: over UDP one set is enough; over TCP, where no answer can be turned against a
    /// third, all there are.
    fn everything(&mut self, node: &Node, owner: &[u8]) -> Result<(), Full> {
        let sets = match self.transport {
            Transport::Udp => 1,
            Transport::Tcp => usize::MAX,
        };
        node.sets()
            .iter()
            .take(sets)
            .try_for_each(|set| self.require(Section::Answer, owner, set, set.ttl))
    }

    /// Names the servers of a child zone, with their addresses: glue.
    fn refer(&mut self, servers: &RecordSet, name: &LowerName, below: usize) -> Result<(), Full> {
        let cut = name.suffix(below);
        self.require(Section::Authority, cut, servers, servers.ttl)?;
        for inside in [true, false] {
            for target in servers.rdatas.iter().take(MAX_TARGETS) {
                let Some(name) = LowerName::read(target) else {
                    continue;
                };
                let Some(node) = self
                    .zone
                    .glue(&name)
                    .filter(|_| is_below(&name, cut) == inside)
                else {
                    continue;
                };
                if let Err(full) = push_addresses(self.response, target, node) {
                    // Without the addresses of servers inside of the child zone nobody can go on:
                    // the answer is incomplete (RFC 9471 section 3.1). All others are a service.
                    if inside {
                        self.response.truncated();
                    }
                    return Err(full);
                }
            }
        }
        Ok(())
    }

    /// Appends a set that the answer is not complete without.
    fn require(
        &mut self,
        section: Section,
        owner: &[u8],
        set: &RecordSet,
        ttl: u32,
    ) -> Result<(), Full> {
        self.response
            .push(section, owner, set, ttl)
            .inspect_err(|Full| self.response.truncated())
    }

    /// The SOA record that tells how long to remember that there is nothing (RFC 2308 section 3).
    fn deny(&mut self) {
        if let Some((soa, ttl)) = self.zone.negative() {
            let apex = self.zone.name().as_wire();
            // The code says it all; that the SOA is missing, `require` marks.
            let _ = self.require(Section::Authority, apex, soa, ttl);
        }
    }

    /// Adds the addresses that the asker of `set` will want next, as far as they are in the zone
    /// and fit.
    fn add_targets(&mut self, set: &RecordSet) {
        let rtype = set.rtype;
        for (index, rdata) in set.rdatas.iter().take(MAX_TARGETS).enumerate() {
            let Some(target) = rtype.target(rdata) else {
                return;
            };
            let mut before = set.rdatas[..index].iter();
            if before.any(|other| rtype.target(other) == Some(target)) {
                continue;
            }
            let Some(name) = LowerName::read(target) else {
                continue;
            };
            let node = match self.zone.find(&name, false) {
                Found::Node(node) => Some(node),
                Found::Delegation { .. } if rtype == RecordType::NS => self.zone.glue(&name),
                Found::Delegation { .. } | Found::Nothing => None,
            };
            if let Some(node) = node
                && push_addresses(self.response, target, node).is_err()
            {
                return;
            }
        }
    }
}

fn push_addresses(response: &mut Response<'_>, owner: &[u8], node: &Node) -> Result<(), Full> {
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|rtype| node.set(rtype))
        .try_for_each(|set| response.push(Section::Additional, owner, set, set.ttl))
}

/// Whether `name` is at or below the lower-case wire name `cut`.
fn is_below(name: &LowerName, cut: &[u8]) -> bool {
    (0..=name.labels()).any(|skip| name.suffix(skip) == cut)
}
