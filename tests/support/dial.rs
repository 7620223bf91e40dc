//! A client of the binary transport that waits for each answer: labnet's own core behind a plain
//! socket.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::rudp::{
    congestion::Algorithm,
    connection::{Arrival, CloseReason, Config, Connection, Event, Introduction, Read, StreamId},
    exchange::{Answer, Head, LineReader, Question},
    packet::{Cid, ErrorCode, Text},
};

use super::PATIENCE;

/// A connection and its socket.
pub struct Dialed {
    /// Where it sends from now: put another one here, and a NAT has changed its mind.
    pub socket: UdpSocket,
    /// The connection.
    pub connection: Connection,
    server: SocketAddr,
    /// Why it is over.
    pub closed: Option<CloseReason>,
}

impl Dialed {
    /// Connects from `ip`.
    pub fn to(server: SocketAddr, ip: impl Into<IpAddr>, config: Config) -> Self {
        let mut dialed = Self::begin(server, ip, config, None);
        dialed.run("the handshake", |dialed, _| {
            dialed.connection.is_open().then_some(())
        });
        dialed
    }

    /// Does not wait for the handshake's end.
    pub fn begin(
        server: SocketAddr,
        ip: impl Into<IpAddr>,
        config: Config,
        congestion: Option<Algorithm>,
    ) -> Self {
        let socket = UdpSocket::bind((ip.into(), 0)).expect("loopback");
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion,
            cid: Cid(rand::random()),
            nonce: rand::random(),
        };
        let now = Instant::now();
        let config = Arc::new(config);
        let connection = Connection::connect(config, &introduction, server, rand::random(), now);
        Self {
            socket,
            connection,
            server,
            closed: None,
        }
    }

    /// Runs it until `done` gives something; it is called after each datagram and each timeout, with
    /// the events since.
    #[track_caller]
    pub fn run<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self, &[Event]) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            let events = self.drain();
            let found = done(self, &events);
            self.drain_output();
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            self.wait();
        }
    }

    fn drain(&mut self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.connection.poll_event()).collect();
        for event in &events {
            if let Event::Closed(reason) = event {
                self.closed = Some(reason.clone());
            }
        }
        events
    }

    fn drain_output(&mut self) {
        let mut datagram = Vec::new();
        while let Some(transmit) = self
            .connection
            .poll_transmit(Instant::now(), &mut datagram, 1)
        {
            // A full buffer is a loss like any other.
            let _ = self.socket.send_to(&datagram, transmit.remote);
            datagram.clear();
        }
    }

    /// Waits for a datagram or the next timeout.
    fn wait(&mut self) {
        let now = Instant::now();
        let due = self.connection.poll_timeout();
        let patience = due.map_or(Duration::from_millis(100), |due| {
            due.saturating_duration_since(now)
        });
        let patience = patience.clamp(Duration::from_millis(1), Duration::from_millis(100));
        self.socket
            .set_read_timeout(Some(patience))
            .expect("a timeout");
        let mut buffer = [0; 65_536];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) if from == self.server => {
                let arrival = Arrival {
                    remote: from,
                    local: None,
                    ecn: None,
                };
                let datagram = &mut buffer[..length];
                (self.connection).handle_datagram(&arrival, datagram, Instant::now());
            }
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => panic!("{error}"),
        }
        let now = Instant::now();
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    /// Asks, and does not wait for the answer.
    pub fn ask(&mut self, question: &Question<'_>) -> Asked {
        let stream = self.connection.open().expect("a stream");
        let line = question.encode().expect("a question");
        self.connection.write(stream, line.into()).expect("open");
        self.connection.finish(stream).expect("open");
        Asked {
            stream,
            head: LineReader::new(),
            body: Vec::new(),
        }
    }

    /// Asks and waits for the whole answer.
    #[track_caller]
    pub fn answer(&mut self, question: &Question<'_>) -> (Answer, Vec<u8>) {
        let mut asked = self.ask(question);
        self.run("the answer", |dialed, _| dialed.read(&mut asked))
    }

    /// The same if it is to be a body.
    #[track_caller]
    pub fn body(&mut self, question: &Question<'_>) -> (Head, Vec<u8>) {
        match self.answer(question) {
            (Answer::Ok(head), body) => (head, body),
            (error, _) => panic!("{question:?}: {error:?}"),
        }
    }

    /// Reads what has come; the answer once it is whole.
    pub fn read(&mut self, asked: &mut Asked) -> Option<(Answer, Vec<u8>)> {
        assert!(self.closed.is_none(), "{:?}", self.closed);
        loop {
            match self.connection.read(asked.stream, 64 << 10).expect("open") {
                Read::Data(data) => {
                    let head = asked.head.feed(&data).expect("a line");
                    asked
                        .body
                        .extend_from_slice(&data[head.unwrap_or(data.len())..]);
                }
                Read::Blocked => return None,
                Read::Finished => {
                    let line = asked.head.line().expect("a whole line");
                    let answer = Answer::parse(line).expect("an answer");
                    return Some((answer, std::mem::take(&mut asked.body)));
                }
                Read::Reset(code) => panic!("given up: {}", ErrorCode(code)),
            }
        }
    }

    /// Sends what would be due within a second, as if it had passed: the peer waits for nothing then.
    pub fn settle(&mut self) {
        let later = Instant::now() + Duration::from_secs(1);
        let mut datagram = Vec::new();
        self.connection.handle_timeout(later);
        while let Some(transmit) = self.connection.poll_transmit(later, &mut datagram, 1) {
            let _ = self.socket.send_to(&datagram, transmit.remote);
            datagram.clear();
        }
    }

    /// Says goodbye.
    pub fn close(mut self) {
        (self.connection).close(ErrorCode::NO_ERROR, "", Instant::now());
        self.drain_output();
    }
}

/// A question under way.
pub struct Asked {
    /// Its stream.
    pub stream: StreamId,
    head: LineReader,
    body: Vec<u8>,
}

impl Asked {
    /// Bytes of the body so far.
    pub fn received(&self) -> usize {
        self.body.len()
    }
}
