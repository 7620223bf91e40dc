//! What a server's connection does with its streams: two connections side by side, in virtual time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::rudp::{
    connection::{Admission, Arrival, Config, Connection, Event, Introduction, Read, StreamId},
    exchange::{Answer, ErrorCode as Why, Head, LineReader, Question, Range},
    listener::{Listener, Shard, Welcome},
    packet::{Cid, ErrorCode, Header, Nonce, Protection, Text},
    serve::{Command, FileServer, ServeLimits},
};

const LIMITS: ServeLimits = ServeLimits {
    fetches: 2,
    ahead: 10_000,
    question: Duration::from_secs(10),
    patience: Duration::from_secs(60),
};
const NONCE: Nonce = [3; 16];
const WITHIN: u64 = 1 << 30;

struct Pair {
    client: Connection,
    server: Connection,
    serve: FileServer,
    now: Instant,
}

fn arrival(port: u16) -> Arrival {
    Arrival {
        remote: ([127, 0, 0, 1], port).into(),
        local: None,
        ecn: None,
    }
}

impl Pair {
    fn new() -> Self {
        Self::with(Config::default())
    }

    /// The client takes so much at a time.
    fn with(config: Config) -> Self {
        let now = Instant::now();
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion: None,
            cid: Cid(1),
            nonce: NONCE,
        };
        let to = arrival(2).remote;
        let mut client = Connection::connect(Arc::new(config), &introduction, to, 1, now);
        let mut listener = Listener::new(&[7; 32], &Protection::Checksum, Shard::ONLY, 1);
        let mut datagram = Vec::new();
        let server = loop {
            datagram.clear();
            client
                .poll_transmit(now, &mut datagram, 1)
                .expect("a HELLO");
            let version = Header::parse(&datagram).expect("whole").version;
            let mut reply = Vec::new();
            let from = arrival(1);
            let welcome = listener.handle_hello(
                version.expect("of a HELLO"),
                &datagram,
                from.remote,
                1000,
                &mut reply,
            );
            match welcome {
                Welcome::Reply(_) => {
                    client.handle_datagram(&arrival(2), &mut reply, now);
                }
                Welcome::Admit(hello) => {
                    let credentials = listener.credentials(|_| false);
                    let admission = Admission {
                        hello: &hello,
                        arrival: from,
                        cid: credentials.cid,
                        nonce: credentials.nonce,
                        reset_token: credentials.reset_token,
                    };
                    break Connection::accept(Arc::new(Config::default()), &admission, 2, now);
                }
                Welcome::Drop(why) => panic!("{why:?}"),
            }
        };
        let serve = FileServer::new(LIMITS, now);
        let mut pair = Self {
            client,
            server,
            serve,
            now,
        };
        pair.pass(Duration::from_secs(1));
        assert!(pair.client.is_open() && pair.server.is_open());
        pair
    }

    /// Carries all that is to be sent, at once.
    fn pump(&mut self) {
        let mut datagram = Vec::new();
        loop {
            while let Some(event) = self.server.poll_event() {
                if let Event::Stream(event) = event {
                    self.serve.handle_event(event, &mut self.server, self.now);
                }
            }
            while self.client.poll_event().is_some() {}
            datagram.clear();
            if self
                .client
                .poll_transmit(self.now, &mut datagram, 1)
                .is_some()
            {
                (self.server).handle_datagram(&arrival(1), &mut datagram, self.now);
            } else if self
                .server
                .poll_transmit(self.now, &mut datagram, 1)
                .is_some()
            {
                (self.client).handle_datagram(&arrival(2), &mut datagram, self.now);
            } else {
                return;
            }
        }
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.pump();
        loop {
            let due = [
                self.client.poll_timeout(),
                self.server.poll_timeout(),
                self.serve.poll_timeout(),
            ];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.serve.handle_timeout(&mut self.server, self.now);
            self.pump();
        }
        self.now = end;
    }

    fn say(&mut self, line: &str) -> StreamId {
        let stream = self.client.open().expect("a stream");
        let line = line.to_owned();
        self.client.write(stream, line.into()).expect("open");
        self.client.finish(stream).expect("open");
        self.pass(Duration::from_millis(100));
        stream
    }

    fn get(&mut self, name: &str) -> StreamId {
        let question = Question::Get {
            name,
            range: Range::default(),
            validator: None,
        };
        self.say(&question.encode().expect("a question"))
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.serve.poll_command()).collect()
    }

    fn head(&mut self, stream: StreamId, length: Option<u64>) {
        let head = Head {
            length,
            whole: length,
            ..Head::default()
        };
        (self.serve).handle_head(stream, head, &mut self.server, self.now);
    }

    fn chunk(&mut self, stream: StreamId, length: usize) {
        let chunk = vec![b'x'; length].into();
        self.serve.handle_chunk(stream, chunk, &mut self.server);
    }

    /// What has come of an answer, and how it ends so far.
    fn read(&mut self, stream: StreamId) -> (Vec<u8>, Read) {
        let mut bytes = Vec::new();
        loop {
            match self.client.read(stream, 1 << 20).expect("open") {
                Read::Data(data) => bytes.extend_from_slice(&data),
                end => return (bytes, end),
            }
            self.pass(Duration::from_millis(100));
        }
    }

    /// The head of a whole answer that has no body.
    fn error(&mut self, stream: StreamId) -> Why {
        let (bytes, end) = self.read(stream);
        assert_eq!(end, Read::Finished);
        let mut line = LineReader::new();
        assert_eq!(line.feed(&bytes), Ok(Some(bytes.len())));
        match Answer::parse(line.line().expect("whole")).expect("an answer") {
            Answer::Error { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }
}

fn fetched(command: &Command) -> &str {
    match command {
        Command::Fetch { file, .. } => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_has_ten_seconds_and_one_line() {
    let mut pair = Pair::new();
    // Slowloris: a byte now and then, and never an end.
    let slow = pair.client.open().expect("a stream");
    for _ in 0..11 {
        let _ = pair.client.write(slow, "G".into());
        pair.pass(Duration::from_secs(1));
    }
    assert_eq!(pair.error(slow), Why::Refused);
    assert!(pair.client.write(slow, "G".into()).is_err(), "stopped");
    for wrong in ["HELLO\n", "GET\n", "LIST", &"x".repeat(5000)] {
        let stream = pair.say(wrong);
        assert_eq!(pair.error(stream), Why::Malformed, "{wrong:.10}");
    }
    // What comes behind the line is no question.
    let stream = pair.say("ECHO 1\nECHO 2\n");
    assert_eq!(pair.error(stream), Why::Malformed);
    assert_eq!(pair.commands(), []);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.server.stream_count(), 0);
    assert_eq!(pair.serve.poll_timeout(), None, "nothing is left");
}

#[test]
fn questions_beyond_the_limit_wait_for_their_turn() {
    let mut pair = Pair::new();
    let streams: Vec<_> = ["a", "b", "c", "d"].map(|name| pair.get(name)).into();
    let first = pair.commands();
    assert_eq!(first.iter().map(fetched).collect::<Vec<_>>(), ["a", "b"]);
    // An end, and a failure, make room.
    pair.head(streams[0], Some(0));
    pair.serve.handle_end(streams[0], &mut pair.server);
    let unavailable = Why::Unavailable;
    (pair.serve).handle_failure(streams[1], unavailable, "gone", &mut pair.server);
    let next = pair.commands();
    assert_eq!(next.iter().map(fetched).collect::<Vec<_>>(), ["c", "d"]);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.error(streams[1]), Why::Unavailable);
    // So does a client that wants no more.
    pair.client
        .stop(streams[2], ErrorCode::CANCELLED)
        .expect("open");
    pair.pass(Duration::from_secs(1));
    let stream = streams[2];
    assert_eq!(pair.commands(), [Command::Cancel { stream }]);
    // What is brought for it late is ignored.
    pair.head(stream, Some(3));
    pair.chunk(stream, 3);
    pair.serve.handle_end(stream, &mut pair.server);
    assert_eq!(pair.server.held_by(stream), 0);
}

#[test]
fn streams_that_are_given_up_while_they_wait_leave_nothing() {
    let mut pair = Pair::new();
    pair.get("a");
    pair.get("b");
    assert_eq!(pair.commands().len(), 2);
    let mut size = 0;
    for round in 0..300 {
        let stream = pair.get("c");
        pair.client
            .stop(stream, ErrorCode::CANCELLED)
            .expect("open");
        pair.pass(Duration::from_millis(200));
        if round == 10 {
            size = format!("{:?}", pair.serve).len();
        }
    }
    assert_eq!(pair.commands(), []);
    let now = format!("{:?}", pair.serve).len();
    assert!(now < size + 100, "{size}, then {now}");
}

#[test]
fn a_body_is_as_long_as_its_head_says_or_is_given_up() {
    for (brought, ends) in [(vec![5, 6], false), (vec![5], true)] {
        let mut pair = Pair::new();
        let stream = pair.get("a");
        pair.commands();
        pair.head(stream, Some(10));
        for length in brought {
            pair.chunk(stream, length);
        }
        if ends {
            pair.serve.handle_end(stream, &mut pair.server);
        }
        pair.pass(Duration::from_secs(1));
        let (_, end) = pair.read(stream);
        assert_eq!(end, Read::Reset(ErrorCode::SOURCE_FAILED.0));
        let cancelled = Command::Cancel { stream };
        // It is told to the shell, which may still be at it.
        assert_eq!(pair.commands(), [cancelled]);
    }
    let mut pair = Pair::new();
    let stream = pair.get("a");
    pair.commands();
    pair.head(stream, None);
    pair.chunk(stream, 5);
    pair.serve.handle_end(stream, &mut pair.server);
    pair.pass(Duration::from_secs(1));
    let (bytes, end) = pair.read(stream);
    assert_eq!((bytes.ends_with(b"\nxxxxx"), end), (true, Read::Finished));
}

#[test]
fn no_more_is_wanted_than_the_client_takes() {
    let mut pair = Pair::with(Config {
        stream_window: 20_000,
        connection_window: 20_000,
        ..Config::default()
    });
    let stream = pair.get("a");
    pair.commands();
    pair.head(stream, None);
    let mut brought = 0;
    for _ in 0..100 {
        while pair.serve.wants(stream, &pair.server, WITHIN) {
            pair.chunk(stream, 1000);
            brought += 1000;
        }
        pair.pass(Duration::from_millis(100));
    }
    // The client's window, and what may wait.
    assert!((30_000..=31_000).contains(&brought), "{brought}");
    // Whoever holds nothing gets on, however little there is to share.
    let other = pair.get("b");
    pair.commands();
    pair.head(other, None);
    assert!(!pair.serve.wants(stream, &pair.server, 0));
    pair.pass(Duration::from_secs(1));
    pair.read(stream);
    assert!(pair.serve.wants(stream, &pair.server, WITHIN));
}

#[test]
fn who_reads_nothing_for_a_minute_loses_the_stream_and_no_other() {
    let mut pair = Pair::with(Config {
        stream_window: 20_000,
        connection_window: 100_000,
        keep_alive: Some(Duration::from_secs(5)),
        ..Config::default()
    });
    let (slow, quick) = (pair.get("a"), pair.get("b"));
    pair.commands();
    for stream in [slow, quick] {
        pair.head(stream, None);
        pair.chunk(stream, 50_000);
    }
    for second in 0..90 {
        pair.pass(Duration::from_secs(1));
        while let Ok(Read::Data(_)) = pair.client.read(quick, 1 << 20) {}
        if second % 10 == 0 {
            pair.chunk(quick, 1000);
        }
    }
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.commands(), [Command::Cancel { stream: slow }]);
    assert_eq!(pair.read(slow).1, Read::Reset(ErrorCode::TOO_SLOW.0));
    pair.serve.handle_end(quick, &mut pair.server);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.read(quick).1, Read::Finished);
}
