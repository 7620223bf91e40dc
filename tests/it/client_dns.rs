//! The client's DNS core against servers that lose, truncate and lie, in virtual time.

use std::{
    net::Ipv4Addr,
    str::FromStr,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use labnet::{
    client::{
        Exchange, Patience,
        dns::{DnsClient, DnsError, Lookup, Resolved},
    },
    watch::event::packet::{Again, Fate},
};
use proptest::prelude::*;

fn ask(host: &str, now: Instant) -> (DnsClient, Vec<u8>) {
    let mut client = DnsClient::new(host, Patience::LAN, 1, now).expect("a name");
    let query = client.poll_transmit().expect("a question").payload;
    (client, query)
}

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(Ipv4Addr::from(address).into()))
}

fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 30, RData::CNAME(CNAME(name(target))))
}

/// The answer to `query` after `change`.
fn answer(query: &[u8], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(query).expect("a question");
    message.metadata.message_type = MessageType::Response;
    change(&mut message);
    message.to_vec().expect("encodes")
}

fn outcome(host: &str, change: impl FnOnce(&mut Message)) -> Option<Result<Lookup, DnsError>> {
    let now = Instant::now();
    let (mut client, query) = ask(host, now);
    client.handle_datagram(&answer(&query, change), now);
    client.outcome()
}

#[test]
fn a_question_and_its_answer() {
    let now = Instant::now();
    let (mut client, query) = ask("example.com", now);
    let question = Message::from_vec(&query).expect("decodes");
    assert_eq!(question.queries.len(), 1);
    assert_eq!(question.queries[0].name(), &name("example.com."));
    assert_eq!(question.queries[0].query_type(), RecordType::A);
    assert_eq!(
        question.edns.as_ref().map(|edns| edns.max_payload()),
        Some(1232)
    );
    assert_eq!(client.outcome(), None);
    let reply = answer(&query, |message| {
        message.add_answer(a("example.com.", 300, [127, 0, 0, 10]));
        message.add_answer(a("EXAMPLE.com.", 60, [127, 0, 0, 11]));
        message.add_answer(a("other.test.", 1, [9, 9, 9, 9]));
    });
    client.handle_datagram(&reply, now);
    let Some(Ok(Lookup::Resolved(resolved))) = client.outcome() else {
        panic!("{:?}", client.outcome());
    };
    assert_eq!(resolved.address(), Ipv4Addr::new(127, 0, 0, 10));
    assert_eq!(resolved.addresses.len(), 2);
    assert_eq!(resolved.ttl, Duration::from_secs(60));
    assert_eq!(resolved.to_string(), "example.com is at 127.0.0.10");
    assert_eq!(client.deadline(), None);
}

#[test]
fn aliases_are_followed_and_loops_are_not() {
    let chased = outcome("www.example.com.", |message| {
        message.add_answer(alias("www.example.com.", "web.example.com."));
        message.add_answer(alias("web.example.com.", "example.com."));
        message.add_answer(a("example.com.", 300, [127, 0, 0, 10]));
    });
    assert!(
        matches!(&chased, Some(Ok(Lookup::Resolved(Resolved { ttl, .. }))) if ttl.as_secs() == 30),
        "{chased:?}"
    );
    let looped = outcome("a.test", |message| {
        message.add_answer(alias("a.test.", "b.test."));
        message.add_answer(alias("b.test.", "a.test."));
    });
    assert_eq!(looped, Some(Err(DnsError::NoAddress("a.test".to_owned()))));
}

#[test]
fn every_refusal_has_its_words() {
    let told = |code| {
        let result = outcome("example.com", |message| {
            message.metadata.response_code = code
        });
        let Some(Err(error)) = result else {
            panic!("{result:?}");
        };
        error.to_string()
    };
    assert_eq!(told(ResponseCode::NXDomain), "there is no name example.com");
    assert_eq!(
        told(ResponseCode::NoError),
        "example.com has no IPv4 address"
    );
    assert_eq!(
        told(ResponseCode::Refused),
        "the server answers Refused (Query Refused)"
    );
    assert!(told(ResponseCode::ServFail).contains("ServFail"));
}

#[test]
fn what_does_not_belong_to_the_question_is_ignored() {
    let now = Instant::now();
    let (mut client, query) = ask("example.com", now);
    let good = |message: &mut Message| {
        message.add_answer(a("example.com.", 300, [127, 0, 0, 10]));
    };
    let mut other_id = answer(&query, good);
    other_id[0] ^= 1;
    let mut many_questions = answer(&query, good);
    many_questions[4..6].copy_from_slice(&[0xff, 0xff]);
    let hostile = [
        query.clone(), // our own question, reflected
        other_id,
        many_questions,
        answer(&query, |message| {
            message.queries[0].set_name(name("example.org."));
            good(message);
        }),
        answer(&query, |message| {
            message.queries[0].set_query_type(RecordType::AAAA);
            good(message);
        }),
        answer(&query, good)[..40].to_vec(),
        query[..2].to_vec(),
        Vec::new(),
    ];
    for bytes in hostile {
        client.handle_datagram(&bytes, now);
        assert_eq!(client.outcome(), None, "{bytes:02x?}");
    }
    client.handle_datagram(&answer(&query, good), now);
    assert!(matches!(client.outcome(), Some(Ok(Lookup::Resolved(_)))));
}

#[test]
fn a_truncated_answer_sends_the_question_to_tcp() {
    let now = Instant::now();
    let (mut client, query) = ask("example.com", now);
    let truncated = answer(&query, |message| message.metadata.truncation = true);
    client.handle_datagram(&truncated, now);
    assert_eq!(client.outcome(), Some(Ok(Lookup::Truncated)));
    assert_eq!(client.query().payload, query);
    let whole = answer(&query, |message| {
        message.add_answer(a("example.com.", 300, [127, 0, 0, 10]));
    });
    let resolved = client.read_tcp(&whole).expect("an answer");
    assert_eq!(resolved.address(), Ipv4Addr::new(127, 0, 0, 10));
    assert_eq!(client.read_tcp(&truncated), Err(DnsError::Garbled));
    assert_eq!(client.read_tcp(b"nonsense"), Err(DnsError::Garbled));
}

#[test]
fn silence_is_an_error_after_three_questions() {
    let mut now = Instant::now();
    let (mut client, first) = ask("example.com", now);
    let mut asked = 1;
    while let Some(deadline) = client.deadline() {
        now = deadline;
        client.handle_timeout(now);
        if let Some(again) = client.poll_transmit() {
            assert_eq!(
                (again.payload, again.fate),
                (first.clone(), Fate::SentAgain(Again::Unanswered))
            );
            asked += 1;
        }
    }
    assert_eq!(asked, 3);
    let silence = DnsError::Silence { tries: 3 };
    assert_eq!(client.outcome(), Some(Err(silence)));
}

#[test]
fn a_name_that_is_none_is_refused_before_anything_is_sent() {
    for host in [
        "",
        ".",
        "a..b",
        &"x".repeat(64),
        &"abc.".repeat(80),
        "exämple.com",
    ] {
        let result = DnsClient::new(host, Patience::LAN, 1, Instant::now());
        assert!(matches!(result, Err(DnsError::BadName { .. })), "{host:?}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_survived(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        changes in proptest::collection::vec((0..200_usize, any::<u8>()), 0..6),
    ) {
        let now = Instant::now();
        let (mut client, query) = ask("example.com", now);
        client.handle_datagram(&noise, now);
        let mut bytes = answer(&query, |message| {
            message.add_answer(alias("example.com.", "web.example.com."));
            message.add_answer(a("web.example.com.", 300, [127, 0, 0, 10]));
        });
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        client.handle_datagram(&bytes, now);
        let _ = client.read_tcp(&bytes);
        let _ = client.read_tcp(&[&query[..2], &noise].concat());
        if let Some(Ok(Lookup::Resolved(resolved))) = client.outcome() {
            prop_assert!(!resolved.addresses.is_empty());
        }
    }
}
