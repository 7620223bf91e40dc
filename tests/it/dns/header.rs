//! What a message has to be to be a question.

use hickory_proto::{op::ResponseCode, rr::RecordType as T};
use labnet::dns::{Ignored, Outcome, Rcode, Transport};

use super::{NX, OK, ask, check, edns, lines, question, raw, tcp, udp};

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
fn id_and_rd_are_copied_and_nothing_else() {
    for (flags, more) in [(0, 0), (1, 0), (1, 0x10), (7, 0xf0), (0, 0x60)] {
        let mut message = question("web.lab.test", 1);
        message[2..4].copy_from_slice(&[flags, more]);
        let (_, answer) = raw(&message, Transport::Udp);
        assert_eq!(answer[..2], [0x12, 0x34]);
        // QR and AA; no TC, no RA, no Z, no AD, no CD.
        assert_eq!(answer[2..4], [0x84 | flags & 1, 0], "{flags:x} {more:x}");
    }
}

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
