use std::fmt::Write;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData},
};

/// What an answer means, in a few words for a student: "answer: example.com is at 127.0.0.10".
///
/// Takes its time: for when somebody watches.
pub fn meaning(answer: &[u8]) -> String {
    let Ok(message) = Message::from_vec(answer) else {
        return "an answer that cannot be read".to_owned();
    };
    let Some(question) = message.queries.first() else {
        return match message.metadata.response_code {
            ResponseCode::NotImp => "refused: this server only answers questions",
            _ => "refused: the question cannot be read",
        }
        .to_owned();
    };
    let name = short(question.name());
    let rtype = question.query_type();
    match message.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return format!("answer: there is no name {name}"),
        ResponseCode::Refused => {
            return format!("refused: {name} is not for this server to answer");
        }
        ResponseCode::FormErr => return "refused: the question cannot be read".to_owned(),
        other => return format!("refused: {other}"),
    }
    if message.metadata.truncation {
        return format!("answer about {name} is too long: ask again over TCP");
    }
    if message.answers.is_empty() {
        if let Some(RData::NS(server)) = message.authorities.first().map(|record| &record.data) {
            return format!("referral: ask {} about {name}", short(&server.0));
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
    match &message.answers[..] {
        [record] => match &record.data {
            RData::CNAME(target) => {
                format!("answer: {name} is another name of {}", short(&target.0))
            }
            RData::MX(mx) => format!("answer: mail for {name} goes to {}", short(&mx.exchange)),
            RData::NS(server) => format!("answer: {name} is served by {}", short(&server.0)),
            RData::PTR(target) => format!("answer: {name} belongs to {}", short(&target.0)),
            RData::SOA(soa) => format!("answer: {name} is a zone, version {}", soa.serial),
            _ => format!("answer: the {} record of {name}", record.record_type()),
        },
        records => format!("answer: {} records of {name}", records.len()),
    }
}

/// A name without its final dot, cut to what fits in a line.
fn short(name: &Name) -> String {
    const ROOM: usize = 28;
    let text = name.to_ascii();
    let text = text
        .strip_suffix('.')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(&text);
    match text.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
