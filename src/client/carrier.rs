//! One connection of the binary transport from the client's side: questions go out on streams, the
//! heads and bodies of their answers come back. Decisions only.
//!
//! The shell calls `handle_datagram` and `handle_timeout` with what happens and [`Carrier::ask`]
//! with what is wanted, then drains [`Carrier::poll_event`], reads the answers that are readable,
//! and drains its [`connection`](Carrier::connection) before it waits for [`Carrier::poll_timeout`]. A body that
//! nobody reads is held up by flow control.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;

use crate::rudp::{
    connection::{
        Arrival, CloseReason, Config, Connection, Event as Happened, Introduction, Read,
        StreamEvent, StreamId, Unreadable,
    },
    exchange::{
        self, Answer, Head, LineReader, MAX_LINE, MAX_LIST, MAX_STATISTICS, Malformed, Question,
    },
    packet::{ErrorCode, frame::MAX_REASON},
    signal::MAX_TEXT,
};
use crate::text::{LONG, printable};
use crate::watch::event::transport::Observer;

/// Why a question is not answered, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The server says no.
    #[error("{code}{}{text}", if .text.is_empty() { "" } else { ": " })]
    Refused {
        /// Its code.
        code: exchange::ErrorCode,
        /// Its words, for people.
        text: String,
    },
    /// Not the format.
    #[error("the proxy's answer makes no sense: {0}")]
    Malformed(#[from] Malformed),
    /// More bytes than the head said, or than any such answer has.
    #[error("the proxy's answer is longer than it may be, {0} bytes")]
    TooLong(u64),
    /// Fewer than the head said.
    #[error("the proxy's answer ends {0} bytes too early")]
    TooShort(u64),
    /// The server gave it up.
    #[error("the proxy broke off: {0}")]
    BrokenOff(ErrorCode),
    /// The connection is over.
    #[error("the connection is lost: {0}")]
    Lost(CloseReason),
}

/// Names a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What the shell should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Connected,
    /// The server has this answer; its body follows.
    Head(Ticket, Head),
    /// [`Carrier::read`] has something.
    Readable(Ticket),
    /// There is no answer, or no more of it.
    Failed(Ticket, AnswerError),
    /// The server is not heard, see [`Happened::Unheard`].
    Unheard,
    /// It is over. The failures of what was under way have come before.
    Closed(CloseReason),
}

/// What came out of reading a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// No more for now: [`Event::Readable`] will tell.
    Blocked,
    /// All were read.
    End,
}

/// A connection with its questions.
#[derive(Debug)]
pub struct Carrier {
    connection: Connection,
    asked: BTreeMap<Ticket, Asked>,
    by_stream: BTreeMap<StreamId, Ticket>,
    /// Lines that wait for a stream.
    waiting: VecDeque<(Ticket, String)>,
    tickets: u64,
    events: VecDeque<Event>,
    /// Why it is over.
    over: Option<CloseReason>,
}

/// A question under way.
#[derive(Debug)]
struct Asked {
    stream: Option<StreamId>,
    line: LineReader,
    /// Of a body that came with its head.
    rest: Bytes,
    /// The body's length, if the head tells.
    length: Option<u64>,
    /// The longest body to take.
    most: u64,
    received: u64,
}

impl Carrier {
    /// Begins the handshake with the server at `remote`. `seed` is the connection's.
    pub fn connect(
        config: Arc<Config>,
        introduction: &Introduction,
        remote: SocketAddr,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            connection: Connection::connect(config, introduction, remote, seed, now),
            asked: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            events: VecDeque::new(),
            over: None,
        }
    }

    /// Has somebody watch its connection.
    pub fn observe(&mut self, observer: Box<dyn Observer>, now: Instant) {
        self.connection.observe(observer, now);
    }

    /// Asks, as soon as the handshake is done and the server allows one more stream.
    ///
    /// # Errors
    /// If the question can't be spelled.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<Ticket, Malformed> {
        let line = question.encode()?;
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        if let Some(reason) = &self.over {
            let lost = AnswerError::Lost(reason.clone());
            self.events.push_back(Event::Failed(ticket, lost));
            return Ok(ticket);
        }
        let most = match question {
            Question::List => MAX_LIST as u64,
            Question::Stat => MAX_STATISTICS as u64,
            Question::Echo(_) => MAX_TEXT as u64,
            Question::Get { .. } => u64::MAX,
        };
        let asked = Asked {
            stream: None,
            line: LineReader::new(),
            rest: Bytes::new(),
            length: None,
            most,
            received: 0,
        };
        self.asked.insert(ticket, asked);
        self.waiting.push_back((ticket, line));
        self.open_streams();
        Ok(ticket)
    }

    fn open_streams(&mut self) {
        while let Some((ticket, line)) = self.waiting.front() {
            // Not connected yet, or no more at a time: an event will tell.
            let Ok(stream) = self.connection.open() else {
                return;
            };
            // It is open.
            let _ = self
                .connection
                .write(stream, Bytes::copy_from_slice(line.as_bytes()));
            let _ = self.connection.finish(stream);
            if let Some(asked) = self.asked.get_mut(ticket) {
                asked.stream = Some(stream);
            }
            self.by_stream.insert(stream, *ticket);
            self.waiting.pop_front();
        }
    }

    /// Wants no more of an answer.
    pub fn give_up(&mut self, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.forget(ticket);
    }

    /// Drops a question; its stream, if it is still open, is stopped.
    fn forget(&mut self, ticket: Ticket) {
        if let Some(stream) = self.asked.remove(&ticket).and_then(|asked| asked.stream) {
            self.by_stream.remove(&stream);
            // It may have ended by itself.
            let _ = self.connection.stop(stream, ErrorCode::CANCELLED);
        }
    }

    /// Takes at most `max` bytes of an answer's body.
    ///
    /// # Errors
    /// Nothing more comes of it. It is as if the ticket had never been.
    pub fn read(&mut self, ticket: Ticket, max: usize) -> Result<Piece, AnswerError> {
        let Some(asked) = self.asked.get_mut(&ticket) else {
            return Ok(Piece::End);
        };
        let piece = asked.read(&mut self.connection, max);
        if !matches!(piece, Ok(Piece::Data(_) | Piece::Blocked)) {
            self.forget(ticket);
        }
        piece
    }

    /// Ends the connection.
    pub fn close(&mut self, now: Instant) {
        self.connection.close(ErrorCode::NO_ERROR, "", now);
        self.drain();
    }

    /// Takes a datagram that came from the server, as [`Connection::handle_datagram`].
    pub fn handle_datagram(
        &mut self,
        arrival: &Arrival,
        datagram: &mut [u8],
        now: Instant,
    ) -> Option<Unreadable> {
        self.connection.handle_datagram(arrival, datagram, now)
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) told, or later.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.drain();
        }
        self.events.pop_front()
    }

    fn drain(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Happened::Connected => {
                    self.events.push_back(Event::Connected);
                    self.open_streams();
                }
                Happened::Stream(StreamEvent::Readable(stream)) => self.on_readable(stream),
                Happened::Stream(StreamEvent::Available) => self.open_streams(),
                // The question was refused unread: the answer, or its reset, says why.
                Happened::Stream(_) | Happened::Moved { .. } => {}
                Happened::Unheard => self.events.push_back(Event::Unheard),
                Happened::Closed(reason) => self.end(reason),
            }
        }
    }

    fn on_readable(&mut self, stream: StreamId) {
        let Some(ticket) = self.by_stream.get(&stream).copied() else {
            return;
        };
        let Some(asked) = self.asked.get_mut(&ticket) else {
            return;
        };
        if asked.line.line().is_ok() {
            self.events.push_back(Event::Readable(ticket));
            return;
        }
        match asked.read_head(&mut self.connection, stream) {
            Ok(None) => {}
            Ok(Some(head)) => {
                self.events.push_back(Event::Head(ticket, head));
                self.events.push_back(Event::Readable(ticket));
            }
            Err(error) => {
                self.forget(ticket);
                self.events.push_back(Event::Failed(ticket, error));
            }
        }
    }

    fn end(&mut self, reason: CloseReason) {
        let reason = match reason {
            // The server's own words.
            CloseReason::Peer { code, reason } => CloseReason::Peer {
                code,
                reason: printable(&reason, MAX_REASON),
            },
            reason => reason,
        };
        self.over = Some(reason.clone());
        self.waiting.clear();
        self.by_stream.clear();
        for (ticket, _) in std::mem::take(&mut self.asked) {
            let lost = AnswerError::Lost(reason.clone());
            self.events.push_back(Event::Failed(ticket, lost));
        }
        self.events.push_back(Event::Closed(reason));
    }

    /// The connection, for whoever sends what it has to send.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    /// Whether it is over, its last words said.
    pub fn is_over(&self) -> bool {
        self.connection.is_over()
    }
}

impl Asked {
    /// Reads the answer's first line, and keeps what came with it.
    fn read_head(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
    ) -> Result<Option<Head>, AnswerError> {
        loop {
            let mut bytes = match connection.read(stream, MAX_LINE) {
                Ok(Read::Data(bytes)) => bytes,
                Ok(Read::Blocked) => return Ok(None),
                Ok(Read::Reset(code)) => return Err(AnswerError::BrokenOff(ErrorCode(code))),
                // A closed one was read to its end before, its line not whole.
                Ok(Read::Finished) | Err(_) => return Err(Malformed::Truncated.into()),
            };
            let Some(taken) = self.line.feed(&bytes)? else {
                continue;
            };
            self.rest = bytes.split_off(taken);
            return match Answer::parse(self.line.line()?)? {
                Answer::Ok(head) => {
                    self.length = head.length;
                    match head.length {
                        Some(length) if length > self.most => Err(AnswerError::TooLong(length)),
                        _ => Ok(Some(head)),
                    }
                }
                Answer::Error { code, text } => {
                    let text = printable(&text, LONG);
                    Err(AnswerError::Refused { code, text })
                }
            };
        }
    }

    fn read(&mut self, connection: &mut Connection, max: usize) -> Result<Piece, AnswerError> {
        let Some(stream) = self.stream.filter(|_| self.line.line().is_ok()) else {
            return Ok(Piece::Blocked);
        };
        let bytes = if self.rest.is_empty() {
            match connection.read(stream, max) {
                Ok(Read::Data(bytes)) => bytes,
                Ok(Read::Blocked) => return Ok(Piece::Blocked),
                Ok(Read::Reset(code)) => return Err(AnswerError::BrokenOff(ErrorCode(code))),
                Ok(Read::Finished) | Err(_) => {
                    return match self.length {
                        Some(length) if length > self.received => {
                            Err(AnswerError::TooShort(length - self.received))
                        }
                        _ => Ok(Piece::End),
                    };
                }
            }
        } else {
            self.rest.split_to(max.min(self.rest.len()))
        };
        self.received += bytes.len() as u64;
        if self.received > self.length.unwrap_or(u64::MAX).min(self.most) {
            return Err(AnswerError::TooLong(self.received));
        }
        Ok(Piece::Data(bytes))
    }
}

#[cfg(test)]
mod tests;
