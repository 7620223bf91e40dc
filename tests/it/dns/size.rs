//! EDNS, and how long an answer may be.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType as T,
};
use labnet::dns::{Authority, Outcome, Rcode, Transport};

use super::{ask, edns, lines, question, raw, tcp, udp, with_opt, zone};

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
