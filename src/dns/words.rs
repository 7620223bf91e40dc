//! DNS messages in plain words.

use std::fmt::Write;

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{DNSClass, Name, RData},
};

use super::RecordType;
use crate::watch::{
    event::packet::{Carrier, Packet},
    words::{Read, Reading},
};

/// A reader of DNS messages.
pub fn reader() -> Box<dyn Read> {
    Box::new(Reader)
}

struct Reader;

impl Read for Reader {
    fn read(&mut self, packet: &Packet<'_>) -> Reading {
        match packet.place.carrier {
            Carrier::Udp => read(packet.payload),
            Carrier::Tcp => read_stream(packet.payload),
        }
    }
}

/// Messages, each after its length (RFC 1035 section 4.2.2): the words are those of the first.
fn read_stream(bytes: &[u8]) -> Reading {
    let message = bytes.split_first_chunk::<2>().and_then(|(length, rest)| {
        let length = usize::from(u16::from_be_bytes(*length));
        Some((rest.get(..length)?, rest.len() > length))
    });
    let Some((message, more)) = message else {
        return Reading::unreadable("a part of a message over TCP");
    };
    let mut reading = read(message);
    let more = if more { ", and more" } else { "" };
    reading.meaning = format!("over TCP, {}{more}", reading.meaning);
    reading
}

fn read(bytes: &[u8]) -> Reading {
    let Ok(message) = Message::from_vec(bytes) else {
        return Reading::unreadable("no DNS message");
    };
    let question = message.queries.first();
    let (name, text) = if message.metadata.message_type == MessageType::Query {
        let text = question.map_or_else(
            || "query: without a question".to_owned(),
            |question| {
                let name = short(question.name(), LONG);
                match RecordType(question.query_type().into()) {
                    RecordType::A => format!("query: what is {name}'s IPv4 address?"),
                    RecordType::AAAA => format!("query: what is {name}'s IPv6 address?"),
                    other => format!("query: what is the {other} record of {name}?"),
                }
            },
        );
        ("query", text)
    } else {
        ("answer", meaning(bytes))
    };
    let mut reading =
        Reading::message(name, text).with("id", format!("{:#06x}", message.metadata.id));
    if let Some(question) = question {
        let rtype = RecordType(question.query_type().into());
        reading = reading
            .with("name", question.name().to_ascii())
            .with("type", rtype.to_string());
    }
    if name == "answer" {
        let code = message.metadata.response_code;
        reading = reading
            .with("rcode", format!("{code:?}").to_uppercase())
            .with("answers", message.answers.len());
    }
    reading
}

/// What an answer means, in a few words for a student: "answer: example.com is at 127.0.0.10".
///
/// Takes its time: for when somebody watches.
pub fn meaning(answer: &[u8]) -> String {
    let Ok(message) = Message::from_vec(answer) else {
        return "an answer that cannot be read".to_owned();
    };
    let Some(question) = message.queries.first() else {
        return match message.metadata.response_code {
            ResponseCode::NotImp => "refused: I only answer questions",
            _ => "refused: I cannot read the question",
        }
        .to_owned();
    };
    let name = short(question.name(), LONG);
    let rtype = RecordType(question.query_type().into());
    match message.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain if message.answers.is_empty() => {
            return format!("answer: there is no name {name}");
        }
        ResponseCode::NXDomain => {
            return format!("answer: {name} leads to a name that is not there");
        }
        ResponseCode::Refused if matches!(rtype, RecordType::AXFR | RecordType::IXFR) => {
            return "refused: I hand out no whole zones".to_owned();
        }
        ResponseCode::Refused if question.query_class() != DNSClass::IN => {
            return "refused: I only know the class IN".to_owned();
        }
        ResponseCode::Refused => return format!("refused: {name} is in none of my zones"),
        ResponseCode::FormErr => return "refused: I cannot read the question".to_owned(),
        // The number is that of BADVERS, too.
        ResponseCode::BADVERS | ResponseCode::BADSIG => {
            return "refused: I do not speak this version of EDNS".to_owned();
        }
        other => return format!("refused: {other}"),
    }
    if message.metadata.truncation {
        return format!("answer about {name} is too long: ask again over TCP");
    }
    let beside = |other: &Name| (short(question.name(), SHORT), short(other, SHORT));
    if message.answers.is_empty() {
        if let Some(RData::NS(server)) = message.authorities.first().map(|record| &record.data) {
            let (name, server) = beside(&server.0);
            return format!("referral: ask {server} about {name}");
        }
        return format!("answer: {name} has no {rtype} record");
    }
    let mut addresses = message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr());
    if let Some(first) = addresses.next() {
        let mut text = format!("answer: {name} is at {first}");
        for address in addresses.by_ref().take(2) {
            let _ = write!(text, ", {address}");
        }
        if addresses.next().is_some() {
            text.push_str(", ...");
        }
        return text;
    }
    let [record] = &message.answers[..] else {
        return format!("answer: {} records of {name}", message.answers.len());
    };
    let (target, verb) = match &record.data {
        RData::CNAME(target) => (&target.0, "is another name of"),
        RData::MX(mx) => (&mx.exchange, "gets its mail at"),
        RData::NS(server) => (&server.0, "is served by"),
        RData::PTR(target) => (&target.0, "belongs to"),
        RData::SOA(soa) => return format!("answer: {name} is a zone, version {}", soa.serial),
        _ => return format!("answer: the {rtype} record of {name}"),
    };
    let (name, target) = beside(target);
    format!("answer: {name} {verb} {target}")
}

/// Room for a name in a line, alone or beside another.
const LONG: usize = 30;
const SHORT: usize = 20;

/// A name without its final dot, cut to what fits in a line.
fn short(name: &Name, room: usize) -> String {
    let text = name.to_ascii();
    let text = text
        .strip_suffix('.')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(&text);
    match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
