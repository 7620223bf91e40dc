//! Whatever comes, an answer is bounded and the next good question is answered.

use hickory_proto::op::Message;
use labnet::dns::{Authority, Outcome, Transport, meaning};
use proptest::prelude::*;

use super::{authority, question, with_opt};

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
