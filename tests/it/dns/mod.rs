//! The DNS server's core: raw questions in, answers read by another implementation.

mod header;
mod hostile;
mod size;
mod words;
mod zones;

use std::{path::Path, sync::Arc};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Record, RecordType as T},
};
use labnet::dns::{Authority, Name, Outcome, Transport, Zone};

pub(crate) const ZONE: &str = include_str!("../../zones/lab.test.zone");

pub(crate) fn zone(name: &str, text: &str) -> Arc<Zone> {
    let name: Name = name.parse().expect("a name");
    let zone = Zone::load(&name, Path::new("zone"), &|_| Ok(text.as_bytes().to_vec()));
    Arc::new(zone.expect("a zone"))
}

pub(crate) fn authority() -> Authority {
    [zone("lab.test.", ZONE)].into_iter().collect()
}

/// A question's bytes: ID 0x1234, RD.
pub(crate) fn question(name: &str, rtype: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name: Name = name.parse().expect("a name");
    message.extend_from_slice(name.as_wire());
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Adds an OPT record.
pub(crate) fn with_opt(
    mut message: Vec<u8>,
    payload: u16,
    version: u8,
    flags: u16,
    options: &[u8],
) -> Vec<u8> {
    message[11] += 1;
    message.extend([0, 0, 41]);
    message.extend(payload.to_be_bytes());
    message.extend([0, version]);
    message.extend(flags.to_be_bytes());
    message.extend(u16::try_from(options.len()).expect("short").to_be_bytes());
    message.extend(options);
    message
}

pub(crate) fn edns(message: Vec<u8>, payload: u16) -> Vec<u8> {
    with_opt(message, payload, 0, 0, &[])
}

/// The answer's bytes, behind something that was in the buffer before.
pub(crate) fn raw(message: &[u8], transport: Transport) -> (Outcome, Vec<u8>) {
    let mut out = b"before".to_vec();
    let outcome = authority().answer(message, transport, &mut out);
    assert!(out.starts_with(b"before"));
    (outcome, out.split_off(6))
}

pub(crate) fn udp(message: &[u8]) -> Message {
    let (_, answer) = raw(message, Transport::Udp);
    Message::from_vec(&answer).expect("an answer that can be read")
}

pub(crate) fn tcp(message: &[u8]) -> Message {
    let (_, answer) = raw(message, Transport::Tcp);
    Message::from_vec(&answer).expect("an answer that can be read")
}

pub(crate) fn ask(name: &str, rtype: T) -> Message {
    udp(&question(name, rtype.into()))
}

pub(crate) fn lines(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| {
            let Record {
                name, ttl, data, ..
            } = record;
            format!("{name} {ttl} {} {data}", data.record_type())
        })
        .collect()
}

pub(crate) const SOA: &str =
    "lab.test. 300 SOA ns1.lab.test. host\\.master.lab.test. 2026112201 3600 600 604800 300";

/// AA, RCODE, and the sections but for OPT.
#[track_caller]
pub(crate) fn check(message: &Message, aa: bool, rcode: ResponseCode, sections: [&[&str]; 3]) {
    assert_eq!(message.metadata.authoritative, aa, "AA: {message}");
    assert_eq!(message.metadata.response_code, rcode, "{message}");
    assert!(!message.metadata.truncation, "TC: {message}");
    assert_eq!(lines(&message.answers), sections[0], "answer");
    assert_eq!(lines(&message.authorities), sections[1], "authority");
    assert_eq!(lines(&message.additionals), sections[2], "additional");
}

pub(crate) const OK: ResponseCode = ResponseCode::NoError;
pub(crate) const NX: ResponseCode = ResponseCode::NXDomain;
