//! DNS messages on the wire (RFC 1035 section 4, RFC 6891): questions read, answers written.

use super::{name::LowerName, rdata::RecordType, zone::RecordSet};

/// ID, flags and four counts.
const HEADER: usize = 12;
/// An OPT record without options.
const OPT_LEN: usize = 11;
/// What every path carries without fragments (dnsflagday.net/2020): the largest UDP answer, and
/// what we say that we take.
const MAX_UDP: u16 = 1232;
/// The largest UDP answer to those who do not speak EDNS (RFC 1035 section 2.3.4).
const PLAIN_UDP: u16 = 512;
/// Compression pointers have 14 bits.
const MAX_POINTER: usize = 0x3fff;

const QR: u8 = 0x80;
const AA: u8 = 0x04;
const TC: u8 = 0x02;
const RD: u8 = 0x01;
const DO: u8 = 0x80;
const CLASS_IN: u16 = 1;

/// A response code (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rcode {
    /// Answered; perhaps there is no such record.
    NoError = 0,
    /// The question cannot be read.
    FormErr = 1,
    /// There is no such name.
    NxDomain = 3,
    /// An operation other than a query.
    NotImp = 4,
    /// A name outside of our zones, or a question that we do not answer.
    Refused = 5,
    /// An EDNS version that we do not speak.
    BadVers = 16,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is limited in size.
    Udp,
    /// On a connection: answers up to 65535 bytes.
    Tcp,
}

/// Why a message gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It has no whole header, so no ID to answer with.
    Short,
    /// It is a response: answering it could make two servers talk for ever.
    Response,
}

impl Ignored {
    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Response => "response",
        }
    }
}

/// A question that can be answered.
pub(super) struct Query<'m> {
    /// The question section, as it came.
    pub(super) question: &'m [u8],
    pub(super) name: LowerName,
    pub(super) qtype: RecordType,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// What the asker's OPT record says.
#[derive(Clone, Copy)]
pub(super) struct Edns {
    payload: u16,
    version: u8,
    dnssec_ok: bool,
}

/// Why a message is no question that can be answered.
#[derive(Clone, Copy)]
pub(super) enum Fault<'m> {
    Ignored(Ignored),
    /// Answered with this code and the question, as far as it could be read.
    Rejected(Rcode, &'m [u8]),
}

impl<'m> Query<'m> {
    /// Reads a message. The order of the checks is the one in which a broken message is told what
    /// is wrong: NOTIMP before anything that only queries have to keep to (RFC 8906 section 8.1.4).
    pub(super) fn read(message: &'m [u8]) -> Result<Self, Fault<'m>> {
        let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
            return Err(Fault::Ignored(Ignored::Short));
        };
        let [_, _, flags, more, counts @ ..] = header;
        if flags & QR != 0 {
            return Err(Fault::Ignored(Ignored::Response));
        }
        if flags & 0x78 != 0 {
            return Err(Fault::Rejected(Rcode::NotImp, &[]));
        }
        let (counts, _) = counts.as_chunks::<2>();
        let [questions, answers, authorities, additionals] =
            [0, 1, 2, 3].map(|index| u16::from_be_bytes(counts[index]));
        // One question, no more (RFC 9619).
        let name = (questions == 1).then(|| LowerName::read(body)).flatten();
        let Some((name, fields)) = name.and_then(|name| {
            let fields = body.get(name.wire_len()..)?.first_chunk::<4>()?;
            Some((name, fields))
        }) else {
            return Err(Fault::Rejected(Rcode::FormErr, &[]));
        };
        let (question, rest) = body.split_at(name.wire_len() + fields.len());
        let [a, b, c, d] = *fields;
        let mut query = Self {
            question,
            name,
            qtype: RecordType(u16::from_be_bytes([a, b])),
            class: u16::from_be_bytes([c, d]),
            edns: None,
        };
        let malformed = Fault::Rejected(Rcode::FormErr, question);
        // IXFR carries the asker's SOA (RFC 1995 section 3).
        let surplus = answers > 0 || (authorities > 0 && query.qtype != RecordType::IXFR);
        if surplus || more & 0x0f != 0 {
            return Err(malformed);
        }
        let mut rest = rest;
        for index in 0..u32::from(authorities) + u32::from(additionals) {
            let Some(record) = Record::read(&mut rest) else {
                return Err(malformed);
            };
            if record.rtype != RecordType::OPT {
                continue;
            }
            // One OPT, additional, owned by the root (RFC 6891 section 6.1.1).
            if query.edns.is_some() || !record.root || index < u32::from(authorities) {
                return Err(malformed);
            }
            query.edns = Some(record.edns().ok_or(malformed)?);
        }
        Ok(query)
    }

    pub(super) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// Whether the asker speaks an EDNS version that we do not.
    pub(super) fn bad_version(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version > 0)
    }
}

/// A record of a question's message, seen from outside.
struct Record<'m> {
    root: bool,
    rtype: RecordType,
    class: u16,
    ttl: [u8; 4],
    data: &'m [u8],
}

impl<'m> Record<'m> {
    fn read(rest: &mut &'m [u8]) -> Option<Self> {
        let root = matches!(rest, [0, ..]);
        // Only the name's end matters, so that pointers need not be followed.
        loop {
            let (&length, tail) = rest.split_first()?;
            *rest = match length {
                0 => tail,
                1..=63 => tail.get(usize::from(length)..)?,
                0xc0.. => tail.get(1..)?,
                _ => return None,
            };
            if length == 0 || length >= 0xc0 {
                break;
            }
        }
        let ([a, b, c, d, ttl @ .., high, low], tail) = rest.split_first_chunk::<10>()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (data, tail) = tail.split_at_checked(length)?;
        *rest = tail;
        Some(Self {
            root,
            rtype: RecordType(u16::from_be_bytes([*a, *b])),
            class: u16::from_be_bytes([*c, *d]),
            ttl: *ttl,
            data,
        })
    }

    /// The record as an OPT (RFC 6891 section 6.1.2); `None` if its options do not fit.
    fn edns(&self) -> Option<Edns> {
        let mut options = self.data;
        while !options.is_empty() {
            let ([_, _, high, low], tail) = options.split_first_chunk::<4>()?;
            options = tail.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
        }
        let [_, version, flags, _] = self.ttl;
        Some(Edns {
            payload: self.class,
            version,
            dnssec_ok: flags & DO != 0,
        })
    }
}

/// A section of the answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// The message has no room for a record set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full;

/// An answer being written to the end of a buffer.
pub(super) struct Response<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    /// The message may be so long, its OPT record not counted.
    limit: usize,
    edns: Option<Edns>,
    counts: [u16; 3],
    names: Names,
}

impl<'o> Response<'o> {
    /// Starts the answer to the message that begins with `query`, at least a header, and repeats
    /// its question byte by byte.
    pub(super) fn new(
        out: &'o mut Vec<u8>,
        query: &[u8],
        question: &[u8],
        transport: Transport,
        edns: Option<Edns>,
    ) -> Self {
        let limit = match (transport, edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_UDP, MAX_UDP),
        };
        let start = out.len();
        let [id @ .., flags] = *query.first_chunk::<3>().unwrap_or(&[0; 3]);
        out.extend(id);
        // The opcode is copied too: 0, or the one of which we say NOTIMP. AD and CD are clear in
        // answers of an authority (RFC 4035 section 3.1.6).
        out.extend([QR | flags & (0x78 | RD), 0]);
        out.extend([0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(question);
        let mut this = Self {
            out,
            start,
            limit: usize::from(limit) - edns.map_or(0, |_| OPT_LEN),
            edns,
            counts: [0; 3],
            names: Names::default(),
        };
        if !question.is_empty() {
            this.remember_labels(HEADER);
        }
        this
    }

    /// Appends a whole record set with `ttl` for each, or nothing.
    pub(super) fn push(
        &mut self,
        section: Section,
        owner: &[u8],
        set: &RecordSet,
        ttl: u32,
    ) -> Result<(), Full> {
        let (length, names) = (self.out.len(), self.names.count);
        for rdata in &set.rdatas {
            self.name(owner);
            self.out.extend(set.rtype.0.to_be_bytes());
            self.out.extend(CLASS_IN.to_be_bytes());
            self.out.extend(ttl.to_be_bytes());
            self.rdata(set.rtype, rdata);
            if self.out.len() - self.start > self.limit {
                self.out.truncate(length);
                self.names.count = names;
                return Err(Full);
            }
        }
        // Each record has at least eleven bytes, so that no count of 65535 bytes overflows.
        self.counts[section as usize] += set.rdatas.len() as u16;
        Ok(())
    }

    /// Marks the answer as cut off (RFC 2181 section 9).
    pub(super) fn truncated(&mut self) {
        self.out[self.start + 2] |= TC;
    }

    /// Marks the answer as authoritative.
    pub(super) fn authoritative(&mut self) {
        self.out[self.start + 2] |= AA;
    }

    /// Completes the message. Says whether it was cut off.
    pub(super) fn finish(self, rcode: Rcode) -> bool {
        let rcode = rcode as u8;
        let [answers, authorities, additionals] = self.counts;
        let mut additionals = additionals;
        if let Some(edns) = self.edns {
            additionals += 1;
            let [high, low] = MAX_UDP.to_be_bytes();
            let flags = if edns.dnssec_ok { DO } else { 0 };
            self.out
                .extend([0, 0, 41, high, low, rcode >> 4, 0, flags, 0, 0, 0]);
        }
        let header = &mut self.out[self.start..self.start + HEADER];
        header[3] |= rcode & 0x0f;
        for (count, bytes) in [answers, authorities, additionals]
            .iter()
            .zip(header[6..].chunks_exact_mut(2))
        {
            bytes.copy_from_slice(&count.to_be_bytes());
        }
        header[2] & TC != 0
    }

    fn rdata(&mut self, rtype: RecordType, rdata: &[u8]) {
        let at = self.out.len();
        self.out.extend([0, 0]);
        match rtype.compressible() {
            None => self.out.extend_from_slice(rdata),
            Some((before, names)) => {
                let (before, mut rest) = rdata.split_at(before.min(rdata.len()));
                self.out.extend_from_slice(before);
                for _ in 0..names {
                    let length = wire_len(rest);
                    self.name(&rest[..length]);
                    rest = &rest[length..];
                }
                self.out.extend_from_slice(rest);
            }
        }
        // Data in wire form has at most 65535 bytes, see rdata, and compression makes it shorter.
        let length = (self.out.len() - at - 2) as u16;
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes an uncompressed name, its end as a pointer to where the message has it already
    /// (RFC 1035 section 4.1.4).
    fn name(&mut self, name: &[u8]) {
        let begin = self.out.len() - self.start;
        let mut rest = name;
        while let [length, tail @ ..] = rest
            && *length > 0
        {
            if let Some(at) = self.known(rest) {
                self.out.extend((0xc000 | at).to_be_bytes());
                self.remember_labels(begin);
                return;
            }
            let (label, after) = tail.split_at(tail.len().min(usize::from(*length)));
            self.out.push(*length);
            self.out.extend_from_slice(label);
            rest = after;
        }
        self.out.push(0);
        self.remember_labels(begin);
    }

    /// Where the message has `name`.
    fn known(&self, name: &[u8]) -> Option<u16> {
        let message = &self.out[self.start..];
        self.names
            .iter()
            .find(|&at| same_name(message, usize::from(at), name))
    }

    /// Remembers where the labels begin of the name at `at`, up to its end or its pointer.
    fn remember_labels(&mut self, mut at: usize) {
        while let Some(&length @ 1..=63) = self.out.get(self.start + at)
            && at <= MAX_POINTER
        {
            self.names.push(at as u16);
            at += 1 + usize::from(length);
        }
    }
}

/// Where in a message names begin that a pointer may lead to. Bounded, so that an answer of many
/// names takes no quadratic time (RUSTSEC-2026-0119).
struct Names {
    at: [u16; 128],
    count: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            at: [0; 128],
            count: 0,
        }
    }
}

impl Names {
    fn push(&mut self, at: u16) {
        if let Some(slot) = self.at.get_mut(self.count) {
            *slot = at;
            self.count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        self.at[..self.count].iter().copied()
    }
}

/// Whether the message that we wrote has `name` at `at`, whatever its case.
fn same_name(message: &[u8], mut at: usize, mut name: &[u8]) -> bool {
    loop {
        match message.get(at) {
            Some(&high @ 0xc0..) => {
                // Our own pointers lead backwards, so that this ends.
                let low = message.get(at + 1).copied().unwrap_or(0);
                at = usize::from(u16::from_be_bytes([high & 0x3f, low]));
            }
            Some(&length) => {
                let end = at + 1 + usize::from(length);
                let (Some(ours), Some(theirs)) = (message.get(at..end), name.get(..end - at))
                else {
                    return false;
                };
                if !ours.eq_ignore_ascii_case(theirs) {
                    return false;
                }
                if length == 0 {
                    return true;
                }
                name = &name[end - at..];
                at = end;
            }
            None => return false,
        }
    }
}

/// The length of the valid uncompressed name at the start of `wire`.
fn wire_len(wire: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&length @ 1..) = wire.get(at) {
        at += 1 + usize::from(length);
    }
    (at + 1).min(wire.len())
}
