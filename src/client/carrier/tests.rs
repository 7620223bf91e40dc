use proptest::prelude::*;

use std::time::Duration;

use super::*;
use crate::rudp::connection::HANDSHAKE;
use crate::rudp::{
    connection::Admission,
    exchange::encode_list,
    listener::{Listener, Shard, Welcome},
    packet::{Cid, Header, PacketType, Protection, Text},
};

const SERVER: &str = "127.0.0.10:49152";
const CLIENT: &str = "127.20.30.41:1000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A carrier and a server that answers each question with what it is told to, over a network that
/// loses nothing.
struct World {
    carrier: Carrier,
    listener: Listener,
    served: Option<Connection>,
    questions: Vec<(StreamId, String)>,
    now: Instant,
    silent: bool,
    told: Vec<Event>,
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Instant::now();
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion: None,
            cid: Cid(7),
            nonce: [7; 16],
        };
        let config = Arc::new(config);
        Self {
            carrier: Carrier::connect(config, &introduction, address(SERVER), 1, now),
            listener: Listener::new(&[1; 32], &Protection::Checksum, Shard::ONLY, 2),
            served: None,
            questions: Vec::new(),
            now,
            silent: false,
            told: Vec::new(),
        }
    }

    fn arrival(from: &str) -> Arrival {
        Arrival {
            remote: address(from),
            local: None,
            ecn: None,
        }
    }

    /// Carries everything to and fro until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..100 {
            let mut buffer = Vec::new();
            let mut quiet = true;
            self.told
                .extend(std::iter::from_fn(|| self.carrier.poll_event()));
            while let Some(sent) = self
                .carrier
                .connection()
                .poll_transmit(self.now, &mut buffer, 1)
            {
                quiet = false;
                assert_eq!(sent.remote, address(SERVER));
                if !self.silent {
                    self.deliver(&mut buffer);
                }
                buffer.clear();
            }
            while let Some(served) = &mut self.served {
                if served.poll_transmit(self.now, &mut buffer, 1).is_none() {
                    break;
                }
                quiet = false;
                let arrival = Self::arrival(SERVER);
                self.carrier
                    .handle_datagram(&arrival, &mut buffer, self.now);
                buffer.clear();
            }
            let due = self.served.as_ref().and_then(Connection::poll_timeout);
            let due = due.into_iter().chain(self.carrier.poll_timeout()).min();
            if !quiet {
                continue;
            }
            if due.is_none_or(|due| due > self.now + Duration::from_millis(100)) {
                break;
            }
            self.now = due.map_or(self.now, |due| due.max(self.now));
            self.carrier.handle_timeout(self.now);
            if let Some(served) = &mut self.served {
                served.handle_timeout(self.now);
            }
        }
    }

    fn deliver(&mut self, datagram: &mut [u8]) {
        let header = Header::parse(datagram).expect("ours");
        let arrival = Self::arrival(CLIENT);
        if header.packet != PacketType::Hello {
            if let Some(served) = &mut self.served {
                served.handle_datagram(&arrival, datagram, self.now);
                self.hear();
            }
            return;
        }
        let mut reply = Vec::new();
        let version = header.version.unwrap_or_default();
        let (listener, from) = (&mut self.listener, arrival.remote);
        match listener.handle_hello(version, datagram, from, 1_800_000_000, &mut reply) {
            Welcome::Reply(_) => {
                let arrival = Self::arrival(SERVER);
                self.carrier.handle_datagram(&arrival, &mut reply, self.now);
            }
            Welcome::Admit(hello) => {
                let credentials = self.listener.credentials(|_| false);
                let admission = Admission {
                    hello: &hello,
                    arrival,
                    cid: credentials.cid,
                    nonce: credentials.nonce,
                    reset_token: credentials.reset_token,
                };
                let config = Arc::new(Config {
                    max_streams: 2,
                    ..Config::default()
                });
                let served = Connection::accept(config, &admission, 3, self.now);
                self.served = Some(served);
            }
            Welcome::Drop(reason) => panic!("{reason:?}"),
        }
    }

    /// Reads the questions that came.
    fn hear(&mut self) {
        let served = self.served.as_mut().expect("connected");
        while let Some(event) = served.poll_event() {
            if let Happened::Stream(StreamEvent::Opened(id) | StreamEvent::Readable(id)) = event {
                while let Ok(Read::Data(bytes)) = served.read(id, usize::MAX) {
                    let line = String::from_utf8(bytes.to_vec()).expect("text");
                    self.questions.push((id, line));
                }
            }
        }
    }

    fn connected() -> Self {
        let mut world = Self::new();
        world.settle();
        assert_eq!(world.events(), [Event::Connected]);
        world
    }

    fn events(&mut self) -> Vec<Event> {
        self.told
            .extend(std::iter::from_fn(|| self.carrier.poll_event()));
        std::mem::take(&mut self.told)
    }

    fn ask(&mut self, question: &Question<'_>) -> Ticket {
        let ticket = self.carrier.ask(question).expect("it is well formed");
        self.settle();
        ticket
    }

    /// The server says this to the last question.
    fn say(&mut self, text: &[u8], end: bool) {
        let (id, _) = *self.questions.last().expect("a question");
        let served = self.served.as_mut().expect("connected");
        let text = Bytes::copy_from_slice(text);
        served.write(id, text).expect("open");
        if end {
            served.finish(id).expect("open");
        }
        self.settle();
    }

    /// All of a body that is there, and how it ended.
    fn body(&mut self, ticket: Ticket) -> (Vec<u8>, Result<Piece, AnswerError>) {
        let mut body = Vec::new();
        loop {
            match self.carrier.read(ticket, 1000) {
                Ok(Piece::Data(bytes)) => body.extend_from_slice(&bytes),
                other => return (body, other),
            }
        }
    }

    fn streams(&self) -> usize {
        self.served.as_ref().map_or(0, Connection::stream_count)
    }
}

const GET: Question<'static> = Question::Get {
    name: "50MB.zip",
    range: exchange::Range {
        first: 5,
        last: None,
    },
    validator: Some("\"v\""),
};

#[test]
fn a_question_waits_for_the_handshake_and_its_answer_comes_in_pieces() {
    let mut world = World::new();
    let ticket = world.ask(&GET);
    assert_eq!(world.events(), [Event::Connected]);
    assert_eq!(world.questions[0].1, "GET 50MB.zip 5 \"v\"\n");
    world.say(b"OK 5 8 ", false);
    assert_eq!(world.events(), []);
    assert_eq!(world.carrier.read(ticket, 9), Ok(Piece::Blocked));
    world.say(b"13 \"v\"\nabc", false);
    let head = Head {
        first: 5,
        length: Some(8),
        whole: Some(13),
        validator: Some("\"v\"".to_owned()),
        digest: None,
    };
    let told = [Event::Head(ticket, head), Event::Readable(ticket)];
    assert_eq!(world.events(), told);
    assert_eq!(world.body(ticket), (b"abc".to_vec(), Ok(Piece::Blocked)));
    world.say(b"defgh", true);
    assert_eq!(world.events(), [Event::Readable(ticket)]);
    assert_eq!(world.body(ticket), (b"defgh".to_vec(), Ok(Piece::End)));
    world.settle();
    assert_eq!(world.streams(), 0);
}

#[test]
fn more_questions_than_streams_wait_in_turn() {
    let mut world = World::connected();
    let tickets: Vec<Ticket> = (0..4).map(|_| world.ask(&Question::Echo("1.5"))).collect();
    assert_eq!(world.questions.len(), 2, "the server allows two");
    for (n, ticket) in tickets.iter().enumerate() {
        let (id, _) = world.questions[n];
        let served = world.served.as_mut().expect("connected");
        let answer = Bytes::from_static(b"OK 0 3 3 -\n1.5");
        served.write(id, answer).expect("open");
        served.finish(id).expect("open");
        world.settle();
        assert!(world.events().contains(&Event::Readable(*ticket)));
        assert_eq!(world.body(*ticket), (b"1.5".to_vec(), Ok(Piece::End)));
        world.settle();
    }
    assert_eq!(world.questions.len(), 4);
}

#[test]
fn what_is_wrong_with_an_answer_is_said_and_its_stream_given_up() {
    let malformed = AnswerError::Malformed;
    for (question, answer, expected) in [
        (
            GET,
            "ERROR not_found no \u{202e}such",
            AnswerError::Refused {
                code: exchange::ErrorCode::NotFound,
                text: "no \u{fffd}such".to_owned(),
            },
        ),
        (GET, "SSH-2.0", malformed(Malformed::Word)),
        (GET, "OK 0 5 3 -", malformed(Malformed::Range)),
        (
            Question::List,
            "OK 0 4194305 - -",
            AnswerError::TooLong(4_194_305),
        ),
        (
            Question::Echo("1"),
            "OK 0 65 65 -",
            AnswerError::TooLong(65),
        ),
    ] {
        let mut world = World::connected();
        let ticket = world.ask(&question);
        world.say(format!("{answer}\nrest").as_bytes(), false);
        assert_eq!(
            world.events(),
            [Event::Failed(ticket, expected)],
            "{answer}"
        );
        assert_eq!(world.carrier.read(ticket, 9), Ok(Piece::End));
        let served = world.served.as_mut().expect("connected");
        assert_eq!(served.stream_count(), 0, "{answer}");
    }
    // A head without end.
    let mut world = World::connected();
    let ticket = world.ask(&Question::Stat);
    world.say(&[b'x'; 3000], false);
    let failed = Event::Failed(ticket, malformed(Malformed::TooLong));
    assert_eq!(world.events(), [failed]);
    // One that ends too early.
    let mut world = World::connected();
    let ticket = world.ask(&Question::Stat);
    world.say(b"OK 0", true);
    let failed = Event::Failed(ticket, malformed(Malformed::Truncated));
    assert_eq!(world.events(), [failed]);
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    for (body, expected) in [
        (&b"abcd"[..], Err(AnswerError::TooLong(4))),
        (b"abc", Ok(Piece::End)),
        (b"ab", Err(AnswerError::TooShort(1))),
        (b"", Err(AnswerError::TooShort(3))),
    ] {
        let mut world = World::connected();
        let ticket = world.ask(&GET);
        world.say(&[&b"OK 0 3 3 -\n"[..], body].concat(), true);
        assert!(world.events().len() >= 2);
        assert_eq!(world.body(ticket).1, expected);
        world.settle();
        assert_eq!(world.streams(), 0);
    }
    // Where the head does not say, a list has its own limit, and a file has none.
    let endless = [b"OK 0 - - -\n".to_vec(), vec![b'x'; 17 << 10]].concat();
    let mut world = World::connected();
    let ticket = world.ask(&Question::Stat);
    world.say(&endless, false);
    let (read, end) = world.body(ticket);
    assert!(read.len() <= MAX_STATISTICS, "{}", read.len());
    assert!(matches!(end, Err(AnswerError::TooLong(_))), "{end:?}");
    let ticket = world.ask(&GET);
    world.say(&endless, false);
    assert_eq!(world.body(ticket).1, Ok(Piece::Blocked));
}

#[test]
fn a_stream_that_the_server_gives_up_is_broken_off() {
    let mut world = World::connected();
    let ticket = world.ask(&GET);
    world.say(b"OK 0 9 9 -\nabc", false);
    assert_eq!(world.body(ticket).0, b"abc");
    let (id, _) = world.questions[0];
    let served = world.served.as_mut().expect("connected");
    served.reset(id, ErrorCode::SOURCE_FAILED).expect("open");
    world.settle();
    let broken = AnswerError::BrokenOff(ErrorCode::SOURCE_FAILED);
    assert_eq!(world.body(ticket).1, Err(broken));
}

#[test]
fn an_answer_that_nobody_wants_any_more_stops() {
    let mut world = World::connected();
    let ticket = world.ask(&GET);
    world.say(b"OK 0 - - -\nabc", false);
    world.carrier.give_up(ticket);
    world.settle();
    let served = world.served.as_mut().expect("connected");
    let stopped: Vec<_> = std::iter::from_fn(|| served.poll_event()).collect();
    assert_eq!(stopped, [], "heard already");
    assert_eq!(served.stream_count(), 0);
    // One that has not been asked yet is never asked.
    let mut world = World::new();
    let ticket = world.carrier.ask(&GET).expect("well formed");
    world.carrier.give_up(ticket);
    world.settle();
    assert!(world.questions.is_empty());
}

#[test]
fn silence_is_given_up_after_thirty_seconds() {
    let mut world = World::new();
    world.silent = true;
    let ticket = world.carrier.ask(&GET).expect("well formed");
    let began = world.now;
    while !world.carrier.is_over() {
        let mut buffer = Vec::new();
        while world
            .carrier
            .connection()
            .poll_transmit(world.now, &mut buffer, 1)
            .is_some()
        {}
        world.now = world.carrier.poll_timeout().expect("it waits");
        world.carrier.handle_timeout(world.now);
    }
    assert_eq!(world.now - began, HANDSHAKE);
    let lost = AnswerError::Lost(CloseReason::Handshake);
    let told = [
        Event::Failed(ticket, lost),
        Event::Closed(CloseReason::Handshake),
    ];
    assert_eq!(world.events(), told);
    assert_eq!(world.carrier.poll_timeout(), None);
    assert!(matches!(
        world.carrier.ask(&GET).map(|_| world.events()).as_deref(),
        Ok([Event::Failed(..)])
    ));
}

#[test]
fn a_lost_connection_fails_all_questions() {
    let mut world = World::connected();
    let first = world.ask(&GET);
    world.say(b"OK 0 9 9 -\n", false);
    let second = world.ask(&Question::List);
    let third = world.ask(&Question::Stat);
    world.events();
    let served = world.served.as_mut().expect("connected");
    served.close(ErrorCode::SHUTDOWN, "restart", world.now);
    world.settle();
    let events = world.events();
    assert_eq!(events.len(), 4, "{events:?}");
    for (event, ticket) in events.iter().zip([first, second, third]) {
        assert!(
            matches!(event, Event::Failed(failed, AnswerError::Lost(CloseReason::Peer { .. })) if *failed == ticket),
            "{event:?}"
        );
    }
}

#[test]
fn a_list_comes_whole() {
    let mut world = World::connected();
    let ticket = world.ask(&Question::List);
    let body = encode_list(["50MB.zip", "a%20b"]);
    let head = Answer::Ok(Head::of_body(body.len()));
    let head = head.encode().expect("right");
    world.say(format!("{head}{body}").as_bytes(), true);
    assert_eq!(world.body(ticket), (body.into_bytes(), Ok(Piece::End)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_server_says_is_survived(
        answer in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000),
            "(OK|ERROR) [0-9-]{1,3} [0-9-]{1,3} [0-9-]{1,3} [!-~]{1,9}\n.{0,20}".prop_map(String::into_bytes),
        ],
        end in any::<bool>(),
    ) {
        let mut world = World::connected();
        let ticket = world.ask(&GET);
        world.say(&answer, end);
        world.events();
        let (body, _) = world.body(ticket);
        prop_assert!(body.len() <= answer.len());
    }
}
