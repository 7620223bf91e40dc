//! The DNS server's core: raw questions in, answers read by another implementation.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Record, RecordType as T},
};
use labnet::dns::{Authority, Ignored, Name, Outcome, Rcode, Transport, Zone, meaning};
use proptest::prelude::*;

const ZONE: &str = include_str!("zones/lab.test.zone");

fn zone(name: &str, text: &str) -> Arc<Zone> {
    let name: Name = name.parse().expect("a name");
    let zone = Zone::load(&name, Path::new("zone"), &|_| Ok(text.as_bytes().to_vec()));
    Arc::new(zone.expect("a zone"))
}

fn authority() -> Authority {
    [zone("lab.test.", ZONE)].into_iter().collect()
}

/// A question's bytes: ID 0x1234, RD.
fn question(name: &str, rtype: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name: Name = name.parse().expect("a name");
    message.extend_from_slice(name.as_wire());
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Adds an OPT record.
fn with_opt(
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

fn edns(message: Vec<u8>, payload: u16) -> Vec<u8> {
    with_opt(message, payload, 0, 0, &[])
}

/// The answer's bytes, behind something that was in the buffer before.
fn raw(message: &[u8], transport: Transport) -> (Outcome, Vec<u8>) {
    let mut out = b"before".to_vec();
    let outcome = authority().answer(message, transport, &mut out);
    assert!(out.starts_with(b"before"));
    (outcome, out.split_off(6))
}

fn udp(message: &[u8]) -> Message {
    let (_, answer) = raw(message, Transport::Udp);
    Message::from_vec(&answer).expect("an answer that can be read")
}

fn tcp(message: &[u8]) -> Message {
    let (_, answer) = raw(message, Transport::Tcp);
    Message::from_vec(&answer).expect("an answer that can be read")
}

fn ask(name: &str, rtype: T) -> Message {
    udp(&question(name, rtype.into()))
}

fn lines(records: &[Record]) -> Vec<String> {
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

const SOA: &str =
    "lab.test. 300 SOA ns1.lab.test. host\\.master.lab.test. 2026112201 3600 600 604800 300";

/// AA, RCODE, and the sections but for OPT.
#[track_caller]
fn check(message: &Message, aa: bool, rcode: ResponseCode, sections: [&[&str]; 3]) {
    assert_eq!(message.metadata.authoritative, aa, "AA: {message}");
    assert_eq!(message.metadata.response_code, rcode, "{message}");
    assert!(!message.metadata.truncation, "TC: {message}");
    assert_eq!(lines(&message.answers), sections[0], "answer");
    assert_eq!(lines(&message.authorities), sections[1], "authority");
    assert_eq!(lines(&message.additionals), sections[2], "additional");
}

const OK: ResponseCode = ResponseCode::NoError;
const NX: ResponseCode = ResponseCode::NXDomain;

// --- The header ---------------------------------------------------------------------------------

#[test]
fn what_is_shorter_than_a_header_gets_no_answer() {
    let message = question("lab.test", 1);
    for length in 0..12 {
        let (outcome, answer) = raw(&message[..length], Transport::Udp);
        assert_eq!(
            (outcome, answer.len()),
            (Outcome::Ignored(Ignored::Short), 0)
        );
    }
}

#[test]
fn a_response_gets_no_answer() {
    let mut message = question("lab.test", 1);
    for flags in [0x80, 0x81, 0xf9] {
        message[2] = flags;
        let (outcome, answer) = raw(&message, Transport::Udp);
        assert_eq!(
            (outcome, answer.len()),
            (Outcome::Ignored(Ignored::Response), 0)
        );
    }
}

#[test]
fn another_opcode_is_not_implemented_whatever_follows() {
    for opcode in 1..16 {
        let mut message = question("lab.test", 1);
        message[2] = opcode << 3 | 1;
        for message in [edns(message.clone(), 4096), message[..12].to_vec(), {
            let mut broken = message.clone();
            broken.extend([0xff; 40]);
            broken
        }] {
            let (_, answer) = raw(&message, Transport::Udp);
            // Header alone: no AA, no OPT; the opcode and RD are the question's.
            let expected = [
                0x12,
                0x34,
                0x80 | opcode << 3 | 1,
                4,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            assert_eq!(answer, expected);
        }
    }
}

#[test]
fn a_question_with_a_response_code_is_malformed() {
    let mut message = question("lab.test", 1);
    message[3] = 3;
    assert_eq!(udp(&message).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn there_is_exactly_one_question() {
    for count in [0u16, 2, 3, 65535] {
        let mut message = question("lab.test", 1);
        message[4..6].copy_from_slice(&count.to_be_bytes());
        let (outcome, answer) = raw(&message, Transport::Udp);
        assert_eq!(answer, [0x12, 0x34, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(
            outcome,
            Outcome::Answered {
                rcode: Rcode::FormErr,
                qtype: None,
                ..
            }
        ));
    }
    // Twelve bytes that promise 65535 of everything.
    let (_, answer) = raw(
        &[0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
        Transport::Udp,
    );
    assert_eq!(answer, [0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_question_carries_no_answers_and_only_ixfr_authorities() {
    let record = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    for (rtype, section, rcode) in [
        (1, 7, ResponseCode::FormErr),
        (1, 9, ResponseCode::FormErr),
        (251, 7, ResponseCode::FormErr),
        (251, 9, ResponseCode::Refused),
        (1, 11, OK),
    ] {
        let mut message = question("lab.test", rtype);
        message[section] = 1;
        message.extend(record);
        let answer = udp(&message);
        assert_eq!(
            answer.metadata.response_code, rcode,
            "type {rtype} section {section}"
        );
        assert_eq!(answer.queries.len(), 1, "the question could be read");
    }
    // More promised than there is.
    let mut message = question("lab.test", 1);
    message[11] = 1;
    assert_eq!(udp(&message).metadata.response_code, ResponseCode::FormErr);
    message[10..12].copy_from_slice(&[255, 255]);
    assert_eq!(udp(&message).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn id_rd_and_cd_are_copied_and_nothing_else() {
    for (flags, more) in [(0, 0), (1, 0), (1, 0x10), (7, 0xf0), (0, 0x60)] {
        let mut message = question("web.lab.test", 1);
        message[2..4].copy_from_slice(&[flags, more]);
        let (_, answer) = raw(&message, Transport::Udp);
        assert_eq!(answer[..2], [0x12, 0x34]);
        // QR and AA; no TC, no RA, no Z, no AD.
        assert_eq!(
            answer[2..4],
            [0x84 | flags & 1, more & 0x10],
            "{flags:x} {more:x}"
        );
    }
}

// --- Names --------------------------------------------------------------------------------------

#[test]
fn a_broken_question_name_is_malformed() {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let long = [
        &[63u8; 64][..],
        &[63; 64],
        &[63; 64],
        &[63; 64],
        &[0, 0, 1, 0, 1],
    ]
    .concat();
    for name in [
        &[0xc0, 12, 0, 1, 0, 1][..],      // to itself
        &[0xc0, 0, 0, 1, 0, 1],           // into the header
        &[0xc0, 40, 0, 1, 0, 1],          // forward
        &[1, b'a', 0xc0, 12, 0, 1, 0, 1], // to its own start
        &[0x40, 1, 0, 1, 0, 1],
        &[0x80, 1, 0, 1, 0, 1],
        &[63, b'a', 0, 0, 1, 0, 1], // past the end
        &[3, b'a', b'b'],
        &[1, b'a'],
        &[],
        &[0],
        &[0, 0, 1, 0], // half a class
        &long,
    ] {
        let message = [&header[..], name].concat();
        let (_, answer) = raw(&message, Transport::Udp);
        assert_eq!(
            answer,
            [0x12, 0x34, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            "{name:?}"
        );
    }
}

#[test]
fn the_question_comes_back_byte_by_byte() {
    let message = question("wEb.LaB.tEsT", 1);
    let (_, answer) = raw(&message, Transport::Udp);
    assert_eq!(answer[12..message.len()], message[12..]);
    let answer = ask("mixed.lab.TEST", T::A);
    assert_eq!(
        lines(&answer.answers),
        ["mixed.lab.TEST. 3600 A 192.0.2.99"]
    );
    let longest = format!(
        "{}.{}lab.test",
        "x".repeat(48),
        format!("{}.", "y".repeat(63)).repeat(3)
    );
    let answer = ask(&longest, T::A);
    assert_eq!(answer.metadata.response_code, NX);
}

#[test]
fn other_classes_and_transfers_are_refused() {
    for class in [0u16, 2, 3, 4, 254, 255] {
        let mut message = question("lab.test", 16);
        let end = message.len();
        message[end - 2..].copy_from_slice(&class.to_be_bytes());
        check(&udp(&message), false, ResponseCode::Refused, [&[]; 3]);
    }
    for rtype in [T::AXFR, T::IXFR] {
        for answer in [udp, tcp].map(|ask| ask(&question("lab.test", rtype.into()))) {
            check(&answer, false, ResponseCode::Refused, [&[]; 3]);
        }
    }
}

// --- Zones --------------------------------------------------------------------------------------

#[test]
fn records_are_answered_with_the_addresses_of_their_targets() {
    check(
        &ask("web.lab.test", T::A),
        true,
        OK,
        [
            &[
                "web.lab.test. 60 A 192.0.2.80",
                "web.lab.test. 60 A 192.0.2.81",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("web.lab.test", T::AAAA),
        true,
        OK,
        [&["web.lab.test. 3600 AAAA 2001:db8::80"], &[], &[]],
    );
    check(
        &ask("1.lab.test", T::PTR),
        true,
        OK,
        [&["1.lab.test. 3600 PTR web.lab.test."], &[], &[]],
    );
    check(
        &ask("lab.test", T::MX),
        true,
        OK,
        [
            &[
                "lab.test. 3600 MX 10 mail.lab.test.",
                "lab.test. 3600 MX 20 mail2.lab.test.",
                "lab.test. 3600 MX 30 mx.elsewhere.test.",
            ],
            &[],
            &[
                "mail.lab.test. 3600 A 192.0.2.25",
                "mail2.lab.test. 600 A 192.0.2.26",
                "mail2.lab.test. 3600 AAAA 2001:db8::26",
            ],
        ],
    );
    check(
        &ask("lab.test", T::NS),
        true,
        OK,
        [
            &[
                "lab.test. 3600 NS ns1.lab.test.",
                "lab.test. 3600 NS ns2.elsewhere.test.",
            ],
            &[],
            &[
                "ns1.lab.test. 3600 A 192.0.2.53",
                "ns1.lab.test. 3600 AAAA 2001:db8::53",
            ],
        ],
    );
    // Two services on one host: its addresses once.
    let answer = ask("_sip._udp.lab.test", T::SRV);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 3));
    check(
        &ask("lab.test", T::SOA),
        true,
        OK,
        [
            &[&SOA.replace("lab.test. 300 SOA", "lab.test. 3600 SOA")],
            &[],
            &[],
        ],
    );
    let text = ask("lab.test", T::TXT);
    assert_eq!(
        lines(&text.answers),
        ["lab.test. 3600 TXT v=spf1 -allsecond; string"]
    );
    for rtype in [
        T::HINFO,
        T::NAPTR,
        T::SSHFP,
        T::TLSA,
        T::Unknown(17),
        T::Unknown(65280),
    ] {
        assert_eq!(ask("rare.lab.test", rtype).answers.len(), 1, "{rtype}");
    }
    assert_eq!(ask(r"esc\.aped.lab.test", T::A).answers.len(), 1);
    assert_eq!(ask("esc.aped.lab.test", T::A).metadata.response_code, NX);
    assert_eq!(ask(r"bin\000\255.lab.test", T::A).answers.len(), 1);
}

#[test]
fn null_targets_end_there() {
    check(
        &ask("nullmx.lab.test", T::MX),
        true,
        OK,
        [&["nullmx.lab.test. 3600 MX 0 ."], &[], &[]],
    );
    check(
        &ask("_none._tcp.lab.test", T::SRV),
        true,
        OK,
        [&["_none._tcp.lab.test. 3600 SRV 0 0 0 ."], &[], &[]],
    );
}

#[test]
fn what_is_not_there_is_denied_with_the_negative_ttl() {
    check(&ask("nothing.lab.test", T::A), true, NX, [&[], &[SOA], &[]]);
    check(
        &ask("a.b.c.web.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(&ask("text.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    check(
        &ask("text.lab.test", T::Unknown(1000)),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    // The SOA record's own TTL, where it is less than MINIMUM.
    let short: Authority = [zone("short.", "@ 7 SOA a b 1 2 3 4 5m\n@ NS a")]
        .into_iter()
        .collect();
    let mut out = Vec::new();
    short.answer(&question("x.short", 1), Transport::Udp, &mut out);
    assert_eq!(
        Message::from_vec(&out).expect("reads").authorities[0].ttl,
        7
    );
}

#[test]
fn outside_of_the_zones_is_refused() {
    for name in [
        ".",
        "test",
        "example.org",
        "notlab.test",
        "lab.test.example",
    ] {
        check(&ask(name, T::A), false, ResponseCode::Refused, [&[]; 3]);
    }
    let mut out = Vec::new();
    Authority::default().answer(&question("lab.test", 1), Transport::Udp, &mut out);
    assert_eq!(out[3], 5, "no zones at all");
}

#[test]
fn an_empty_non_terminal_exists() {
    for name in [
        "b.ent.lab.test",
        "ent.lab.test",
        "_udp.lab.test",
        "star.lab.test",
    ] {
        check(&ask(name, T::A), true, OK, [&[], &[SOA], &[]]);
    }
    check(&ask("c.ent.lab.test", T::A), true, NX, [&[], &[SOA], &[]]);
}

#[test]
fn wildcards_stand_in_for_names_that_do_not_exist() {
    let wild = |name: &str| format!("{name}. 3600 A 192.0.2.42");
    for name in [
        "x.wild.lab.test",
        "x.y.wild.lab.test",
        "*.wild.lab.test",
        "x.*.y.wild.lab.test",
    ] {
        check(&ask(name, T::A), true, OK, [&[&wild(name)], &[], &[]]);
    }
    // NODATA of a wildcard.
    check(
        &ask("x.wild.lab.test", T::TXT),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    // The wildcard's own parent.
    check(&ask("wild.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    // Blocked by a name that exists, whatever its types; by an empty non-terminal; below both.
    check(
        &ask("exists.wild.lab.test", T::A),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("x.exists.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("node.wild.lab.test", T::A),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("x.node.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    // Below the wildcard itself, no wildcard applies.
    check(
        &ask("x.*.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    // An interior asterisk is a label like any other, and an empty wildcard at the end.
    check(
        &ask("foo.*.star.lab.test", T::A),
        true,
        OK,
        [&["foo.*.star.lab.test. 3600 A 192.0.2.44"], &[], &[]],
    );
    check(
        &ask("bar.*.star.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(&ask("x.star.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    let mail = ask("x.wild.lab.test", T::MX);
    assert_eq!(
        lines(&mail.additionals),
        ["mail.lab.test. 3600 A 192.0.2.25"]
    );
}

#[test]
fn aliases_are_followed_in_the_zone() {
    let web = [
        "web.lab.test. 60 A 192.0.2.80",
        "web.lab.test. 60 A 192.0.2.81",
    ];
    check(
        &ask("www.lab.test", T::A),
        true,
        OK,
        [
            &["www.lab.test. 3600 CNAME web.lab.test.", web[0], web[1]],
            &[],
            &[],
        ],
    );
    check(
        &ask("www.lab.test", T::CNAME),
        true,
        OK,
        [&["www.lab.test. 3600 CNAME web.lab.test."], &[], &[]],
    );
    // In the order of the chain, with nothing of it in the additional section.
    check(
        &ask("chain1.lab.test", T::A),
        true,
        OK,
        [
            &[
                "chain1.lab.test. 3600 CNAME chain2.lab.test.",
                "chain2.lab.test. 3600 CNAME Chain3.lab.test.",
                "Chain3.lab.test. 3600 CNAME web.lab.test.",
                web[0],
                web[1],
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("x.cwild.lab.test", T::A),
        true,
        OK,
        [
            &["x.cwild.lab.test. 3600 CNAME web.lab.test.", web[0], web[1]],
            &[],
            &[],
        ],
    );
    check(
        &ask("into-wild.lab.test", T::A),
        true,
        OK,
        [
            &[
                "into-wild.lab.test. 3600 CNAME anything.wild.lab.test.",
                "anything.wild.lab.test. 3600 A 192.0.2.42",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("outside.lab.test", T::A),
        true,
        OK,
        [&["outside.lab.test. 3600 CNAME www.example.org."], &[], &[]],
    );
    // RFC 6604: the code is the last name's.
    check(
        &ask("dangling.lab.test", T::A),
        true,
        NX,
        [
            &["dangling.lab.test. 3600 CNAME not.there.lab.test."],
            &[SOA],
            &[],
        ],
    );
    check(
        &ask("alias-nodata.lab.test", T::A),
        true,
        OK,
        [
            &["alias-nodata.lab.test. 3600 CNAME text.lab.test."],
            &[SOA],
            &[],
        ],
    );
    // AA is about the first name, the referral about the last.
    let answer = ask("into-sub.lab.test", T::A);
    assert!(answer.metadata.authoritative);
    assert_eq!(
        lines(&answer.answers),
        ["into-sub.lab.test. 3600 CNAME host.sub.lab.test."]
    );
    assert_eq!(answer.authorities.len(), 4);
}

#[test]
fn loops_of_aliases_end() {
    check(
        &ask("loop1.lab.test", T::A),
        true,
        OK,
        [
            &[
                "loop1.lab.test. 3600 CNAME loop2.lab.test.",
                "loop2.lab.test. 3600 CNAME loop1.lab.test.",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("self.lab.test", T::A),
        true,
        OK,
        [&["self.lab.test. 3600 CNAME self.lab.test."], &[], &[]],
    );
    check(
        &ask("y.loopwild.lab.test", T::A),
        true,
        OK,
        [
            &[
                "y.loopwild.lab.test. 3600 CNAME x.loopwild.lab.test.",
                "x.loopwild.lab.test. 3600 CNAME x.loopwild.lab.test.",
            ],
            &[],
            &[],
        ],
    );
    // A chain without a loop ends too.
    let mut text = "$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\n".to_owned();
    for n in 0..100 {
        text += &format!("c{n} CNAME c{}\n", n + 1);
    }
    let authority: Authority = [zone("long.", &text)].into_iter().collect();
    let mut out = Vec::new();
    authority.answer(&question("c0.long", 1), Transport::Tcp, &mut out);
    assert_eq!(Message::from_vec(&out).expect("reads").answers.len(), 16);
}

#[test]
fn a_child_zone_is_referred_to_with_its_glue() {
    let servers: [&str; 4] = [
        "sub.lab.test. 3600 NS ns.sub.lab.test.",
        "sub.lab.test. 3600 NS ns.sub2.lab.test.",
        "sub.lab.test. 3600 NS ns1.lab.test.",
        "sub.lab.test. 3600 NS ns.elsewhere.test.",
    ];
    // Addresses below the cut first: nobody can go on without them.
    let glue = [
        "ns.sub.lab.test. 3600 A 192.0.2.60",
        "ns.sub.lab.test. 3600 AAAA 2001:db8::60",
        "ns.sub2.lab.test. 3600 A 192.0.2.61",
        "ns1.lab.test. 3600 A 192.0.2.53",
        "ns1.lab.test. 3600 AAAA 2001:db8::53",
    ];
    for (name, rtype) in [
        ("sub.lab.test", T::A),
        ("sub.lab.test", T::NS),
        ("sub.lab.test", T::ANY),
        ("host.sub.lab.test", T::A),
        ("ns.sub.lab.test", T::A),
        ("x.y.sub.lab.test", T::DS),
    ] {
        check(&ask(name, rtype), false, OK, [&[], &servers, &glue]);
    }
    check(
        &ask("x.lame.lab.test", T::A),
        false,
        OK,
        [&[], &["lame.lab.test. 3600 NS ns.lame.lab.test."], &[]],
    );
    // DS belongs to the parent.
    let answer = ask("sub.lab.test", T::DS);
    assert!(answer.metadata.authoritative);
    assert_eq!((answer.answers.len(), answer.authorities.len()), (1, 0));
    check(&ask("sub2.lab.test", T::DS), true, OK, [&[], &[SOA], &[]]);
}

#[test]
fn between_parent_and_child_the_closer_zone_answers_except_for_ds() {
    let child = "$TTL 5\n@ SOA a b 1 2 3 4 5\n@ NS a\na A 192.0.2.7\n";
    let both: Authority = [zone("lab.test.", ZONE), zone("sub.lab.test.", child)]
        .into_iter()
        .collect();
    let ask = |name, rtype: T| {
        let mut out = Vec::new();
        both.answer(&question(name, rtype.into()), Transport::Udp, &mut out);
        Message::from_vec(&out).expect("reads")
    };
    assert_eq!(
        lines(&ask("a.sub.lab.test", T::A).answers),
        ["a.sub.lab.test. 5 A 192.0.2.7"]
    );
    assert_eq!(ask("sub.lab.test", T::DS).answers.len(), 1, "the parent's");
    assert_eq!(ask("sub.lab.test", T::SOA).answers[0].ttl, 5, "the child's");
    // Its parent is not ours: the zone itself denies.
    let answer = ask("lab.test", T::DS);
    assert_eq!(lines(&answer.authorities), [SOA]);
}

#[test]
fn any_is_answered_with_one_set_over_udp_and_all_over_tcp() {
    let any = question("lab.test", T::ANY.into());
    assert_eq!(lines(&udp(&any).answers), ["lab.test. 3600 A 192.0.2.1"]);
    assert_eq!(tcp(&any).answers.len(), 10);
    let alias = ask("www.lab.test", T::ANY);
    assert_eq!(
        lines(&alias.answers),
        ["www.lab.test. 3600 CNAME web.lab.test."]
    );
    check(&ask("ent.lab.test", T::ANY), true, OK, [&[], &[SOA], &[]]);
    check(
        &ask("nothing.lab.test", T::ANY),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
}

// --- EDNS and size ------------------------------------------------------------------------------

#[test]
fn opt_is_answered_with_opt_and_only_then() {
    assert!(ask("web.lab.test", T::A).edns.is_none());
    for (flags, dnssec_ok) in [(0, false), (0x8000, true), (0xffff, true), (0x7fff, false)] {
        // Unknown options are not repeated.
        let message = with_opt(
            question("web.lab.test", 1),
            4096,
            0,
            flags,
            &[0xfd, 0xe9, 0, 1, 7],
        );
        let (_, answer) = raw(&message, Transport::Udp);
        let flags = if dnssec_ok { 0x80 } else { 0 };
        assert_eq!(
            answer[answer.len() - 11..],
            [0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 0]
        );
        assert_eq!(answer[10..12], [0, 1]);
    }
    // Refusals carry it too.
    let answer = udp(&edns(question("example.org", 1), 4096));
    assert!(answer.edns.is_some());
}

#[test]
fn another_edns_version_is_told_ours() {
    let (outcome, answer) = raw(
        &with_opt(question("web.lab.test", 1), 4096, 1, 0x8000, &[]),
        Transport::Udp,
    );
    assert!(matches!(
        outcome,
        Outcome::Answered {
            rcode: Rcode::BadVers,
            ..
        }
    ));
    assert_eq!(
        answer[2..4],
        [0x81, 0],
        "no AA, the low half of the code is 0"
    );
    assert_eq!(answer[6..12], [0, 0, 0, 0, 0, 1], "no answer");
    assert_eq!(
        answer[answer.len() - 11..],
        [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 0]
    );
}

#[test]
fn broken_edns_is_malformed() {
    let plain = question("web.lab.test", 1);
    let two = edns(edns(plain.clone(), 4096), 4096);
    let mut owned = plain.clone();
    owned[11] = 1;
    owned.extend([1, b'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let option_too_long = with_opt(plain.clone(), 4096, 0, 0, &[0, 10, 0, 9, 1]);
    let half_option = with_opt(plain.clone(), 4096, 0, 0, &[0, 10, 0]);
    let mut cut = edns(plain.clone(), 4096);
    cut.pop();
    let mut authority = edns(question("web.lab.test", 251), 4096);
    authority.swap(9, 11);
    for message in [two, owned, option_too_long, half_option, cut, authority] {
        let answer = udp(&message);
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::FormErr,
            "{message:?}"
        );
        assert!(answer.answers.is_empty() && answer.edns.is_none());
    }
}

#[test]
fn an_answer_is_as_long_as_the_asker_takes_and_never_over_1232() {
    let big = question("big.lab.test", 16);
    let huge = question("huge.lab.test", 16);
    let length = |message: &[u8], transport| raw(message, transport).1.len();
    // Four records of 146 bytes each.
    let whole = 12 + 18 + 4 * 146;
    assert_eq!(length(&big, Transport::Tcp), whole);
    for (message, truncated) in [
        (big.clone(), true),
        (edns(big.clone(), 0), true),
        (edns(big.clone(), 511), true),
        (edns(big.clone(), 512), true),
        (edns(big.clone(), whole as u16 + 10), true),
        (edns(big.clone(), whole as u16 + 11), false),
        (edns(big.clone(), 1232), false),
        (edns(huge.clone(), 4096), true),
        (edns(huge.clone(), 65535), true),
    ] {
        let answer = udp(&message);
        assert_eq!(answer.metadata.truncation, truncated);
        assert_eq!(
            answer.answers.is_empty(),
            truncated,
            "a set is whole or absent"
        );
        assert_eq!(answer.edns.is_some(), message[11] == 1, "OPT stays");
        assert!(!tcp(&message).metadata.truncation);
    }
    // What stands before the set that does not fit is kept.
    let answer = udp(&question("bigalias.lab.test", 16));
    assert!(answer.metadata.truncation);
    assert_eq!(
        lines(&answer.answers),
        ["bigalias.lab.test. 3600 CNAME huge.lab.test."]
    );
    assert_eq!(tcp(&question("bigalias.lab.test", 16)).answers.len(), 7);
}

#[test]
fn a_referral_without_all_glue_is_incomplete_but_an_answer_without_additions_is_not() {
    let wide = question("x.wide.lab.test", 1);
    let answer = udp(&wide);
    assert!(answer.metadata.truncation);
    assert_eq!(answer.authorities.len(), 5);
    let answer = udp(&edns(wide, 1232));
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.additionals.len(), 10);
    let mut text = "$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\n".to_owned();
    for n in 10..30 {
        text += &format!("@ MX 1 m{n}\nm{n} A 192.0.2.{n}\n");
    }
    let mail: Authority = [zone("mail.", &text)].into_iter().collect();
    let mut out = Vec::new();
    let outcome = mail.answer(&question("mail", 15), Transport::Udp, &mut out);
    let answer = Message::from_vec(&out).expect("reads");
    assert!(matches!(
        outcome,
        Outcome::Answered {
            truncated: false,
            ..
        }
    ));
    assert_eq!(answer.answers.len(), 20);
    assert!(out.len() <= 512 && out.len() > 480, "{}", out.len());
}

#[test]
fn an_answer_of_many_names_stays_a_message() {
    let mut text = "$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\n".to_owned();
    for n in 0..3000 {
        text += &format!("many PTR host-{n}.some.where.else\n");
    }
    let authority: Authority = [zone("names.", &text)].into_iter().collect();
    let mut out = Vec::new();
    authority.answer(&question("many.names", 12), Transport::Tcp, &mut out);
    let answer = Message::from_vec(&out).expect("reads");
    // Over 64 kB even compressed once the pointers run out of reach.
    assert_eq!(answer.metadata.truncation, answer.answers.is_empty());
    let few: String = text
        .lines()
        .take(1000)
        .map(|line| format!("{line}\n"))
        .collect();
    let authority: Authority = [zone("names.", &few)].into_iter().collect();
    let mut out = Vec::new();
    authority.answer(&question("many.names", 12), Transport::Tcp, &mut out);
    let answer = Message::from_vec(&out).expect("reads");
    assert_eq!(answer.answers.len(), 997);
    assert!(
        lines(&answer.answers)
            .contains(&"many.names. 1 PTR host-996.some.where.else.names.".to_owned())
    );
}

// --- What students read -------------------------------------------------------------------------

#[test]
fn an_answer_is_told_in_plain_words() {
    let told = |name: &str, rtype: u16| meaning(&raw(&question(name, rtype), Transport::Udp).1);
    assert_eq!(told("lab.test", 1), "answer: lab.test is at 192.0.2.1");
    assert_eq!(
        told("web.lab.test", 1),
        "answer: web.lab.test is at 192.0.2.80, 192.0.2.81"
    );
    assert_eq!(
        told("www.lab.test", 28),
        "answer: www.lab.test is at 2001:db8::80"
    );
    assert_eq!(
        told("www.lab.test", 5),
        "answer: www.lab.test is another name of web.lab.test"
    );
    assert_eq!(
        told("nullmx.lab.test", 15),
        "answer: mail for nullmx.lab.test goes to ."
    );
    assert_eq!(told("lab.test", 15), "answer: 3 records of lab.test");
    assert_eq!(
        told("text.lab.test", 1),
        "answer: text.lab.test has no A record"
    );
    assert_eq!(
        told("no.lab.test", 1),
        "answer: there is no name no.lab.test"
    );
    assert_eq!(
        told("x.sub.lab.test", 1),
        "referral: ask ns.sub.lab.test about x.sub.lab.test"
    );
    assert_eq!(
        told("example.org", 1),
        "refused: example.org is not for this server to answer"
    );
    assert_eq!(
        told("big.lab.test", 16),
        "answer about big.lab.test is too long: ask again over TCP"
    );
    assert_eq!(
        meaning(&[0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        "refused: the question cannot be read"
    );
    assert_eq!(meaning(&[0]), "an answer that cannot be read");
}

// --- Hostile input ------------------------------------------------------------------------------

/// Whatever came before, an answer is bounded and a good question is answered after it.
fn survives(authority: &Authority, message: &[u8], out: &mut Vec<u8>) -> Result<(), TestCaseError> {
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
        out.clear();
        match authority.answer(message, transport, out) {
            Outcome::Ignored(_) => prop_assert!(out.is_empty()),
            Outcome::Answered { .. } => {
                prop_assert!((12..=limit).contains(&out.len()));
                prop_assert_eq!(&out[..2], &message[..2]);
                prop_assert!(Message::from_vec(out).is_ok(), "{:?}", out);
                meaning(out);
            }
        }
    }
    out.clear();
    authority.answer(&question("web.lab.test", 1), Transport::Udp, out);
    prop_assert_eq!(out[7], 2);
    Ok(())
}

fn good_questions() -> impl Strategy<Value = Vec<u8>> {
    let names = proptest::sample::select(vec![
        "lab.test",
        "web.lab.test",
        "chain1.lab.test",
        "loop1.lab.test",
        "x.wild.lab.test",
        "x.sub.lab.test",
        "huge.lab.test",
        "wide.lab.test",
        "bin\\000\\255.lab.test",
        "org",
    ]);
    let types = proptest::sample::select(vec![1u16, 2, 5, 6, 12, 15, 16, 28, 33, 43, 252, 255, 0]);
    (names, types, proptest::option::of((any::<u16>(), 0..2u8))).prop_map(|(name, rtype, opt)| {
        let message = question(name, rtype);
        match opt {
            Some((payload, version)) => {
                with_opt(message, payload, version, 0, &[0, 10, 0, 2, 1, 2])
            }
            None => message,
        }
    })
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(message in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives(&authority(), &message, &mut Vec::new())?;
    }

    #[test]
    fn random_bytes_behind_a_good_header_do_no_harm(
        counts in proptest::array::uniform8(0u8..4),
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let message = [&[0, 1, 0, 0][..], &counts, &body].concat();
        survives(&authority(), &message, &mut Vec::new())?;
    }

    #[test]
    fn mutated_questions_do_no_harm(
        message in good_questions(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut message = message;
        for (at, with) in changes {
            let at = at.index(message.len());
            message[at] = with;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        survives(&authority(), &message, &mut Vec::new())?;
    }
}
