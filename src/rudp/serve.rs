//! What a server's connection does with its streams: it reads the question of each, answers some by
//! itself, has its shell ask for files, and passes on what the shell brings, as fast as the client
//! takes it and no faster.
//!
//! - **Back-pressure.** The next chunk of a body is wanted only while little of the stream is unsent
//!   and the connection holds less than its share of memory. However slow the client is, no more is
//!   held than that and one chunk a stream.
//! - **A question** must be whole within [`ServeLimits::question`], or it is refused.
//! - **A reader** that takes nothing of its stream for [`ServeLimits::patience`] loses it.
//! - At most [`ServeLimits::fetches`] questions to the shell are under way; others wait in turn.
//!
//! The shell calls [`FileServer::handle_event`] with the connection's events, carries out what
//! [`FileServer::poll_command`] tells, and brings the results to the other `handle_` methods. Results for
//! streams that are gone meanwhile are ignored.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::statistic::words;

use super::{
    connection::{Connection, Read, StreamEvent, StreamId},
    exchange::{
        Answer, ErrorCode as Why, Head, LineReader, Malformed, Question, Range, Statistics,
        encode_list,
    },
    packet::ErrorCode,
    statistics::{Standing, TRANSPORT},
};

/// What one connection may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Questions to the shell at once.
    pub fetches: usize,
    /// Bytes of one stream that wait to be sent for the first time, before no more are wanted.
    pub ahead: u64,
    /// So long a question may take.
    pub question: Duration,
    /// So long a reader may take nothing.
    pub patience: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            fetches: 16,
            ahead: 256 << 10,
            question: Duration::from_secs(10),
            patience: Duration::from_secs(60),
        }
    }
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ask for the names of the files: [`FileServer::handle_list`].
    List {
        /// For this stream.
        stream: StreamId,
    },
    /// Open a file: [`FileServer::handle_head`], or [`FileServer::handle_failure`].
    Fetch {
        /// For this stream.
        stream: StreamId,
        /// Its name, as the list spells it.
        file: Box<str>,
        /// The part that is wanted.
        range: Range,
        /// The state of the file that the range belongs to, as [`Head::validator`] spelled it.
        validator: Option<Box<str>>,
    },
    /// Nobody wants it any more.
    Cancel {
        /// The stream of the `Fetch` or `List`.
        stream: StreamId,
    },
}

/// The streams of one connection.
#[derive(Debug)]
pub struct FileServer {
    limits: ServeLimits,
    opened: Instant,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams whose question waits for its turn.
    waiting: VecDeque<StreamId>,
    /// Questions that the shell works at.
    fetching: usize,
    commands: VecDeque<Command>,
    /// When readers are looked at next.
    check_at: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    phase: Phase,
    /// Whether the client's half is not read to its end.
    reading: bool,
    /// Bytes written.
    written: u64,
    /// Of these, bytes that had been sent when it was last looked at, and since when.
    sent: u64,
    since: Instant,
}

#[derive(Debug)]
enum Phase {
    Question {
        line: LineReader,
        until: Instant,
    },
    Waiting(Asked),
    /// The shell works at it.
    Asked,
    /// The head is written; so many bytes are to come, if that is known.
    Body {
        left: Option<u64>,
    },
    /// All is written.
    Done,
}

#[derive(Debug)]
enum Asked {
    List,
    File {
        file: Box<str>,
        range: Range,
        validator: Option<Box<str>>,
    },
}

impl FileServer {
    /// For a connection that was made at `now`.
    pub fn new(limits: ServeLimits, now: Instant) -> Self {
        Self {
            limits,
            opened: now,
            streams: BTreeMap::new(),
            waiting: VecDeque::new(),
            fetching: 0,
            commands: VecDeque::new(),
            check_at: None,
        }
    }

    /// Takes an event of the connection's streams.
    pub fn handle_event(&mut self, event: StreamEvent, connection: &mut Connection, now: Instant) {
        match event {
            StreamEvent::Opened(id) => {
                let stream = Stream {
                    phase: Phase::Question {
                        line: LineReader::new(),
                        until: now + self.limits.question,
                    },
                    reading: true,
                    written: 0,
                    sent: 0,
                    since: now,
                };
                self.streams.insert(id, stream);
                self.read(id, connection, now);
            }
            StreamEvent::Readable(id) => self.read(id, connection, now),
            // The connection has given up our half already.
            StreamEvent::Stopped(id, _) => self.forget(id),
            StreamEvent::Delivered(id) => {
                if let Some(stream) = self.streams.get(&id)
                    && !stream.reading
                {
                    self.forget(id);
                }
            }
            StreamEvent::Writable(_) | StreamEvent::Available => {}
        }
    }

    /// The connection is over: everything under way is cancelled.
    pub fn handle_close(&mut self) {
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.forget(id);
        }
        self.check_at = None;
    }

    /// What to do now.
    pub fn poll_command(&mut self) -> Option<Command> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        while self.fetching < self.limits.fetches {
            let id = self.waiting.pop_front()?;
            // A question that waits has its stream still.
            let stream = self.streams.get_mut(&id)?;
            match std::mem::replace(&mut stream.phase, Phase::Asked) {
                Phase::Waiting(asked) => {
                    self.fetching += 1;
                    return Some(match asked {
                        Asked::List => Command::List { stream: id },
                        Asked::File {
                            file,
                            range,
                            validator,
                        } => Command::Fetch {
                            stream: id,
                            file,
                            range,
                            validator,
                        },
                    });
                }
                other => stream.phase = other,
            }
        }
        None
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let questions = self
            .streams
            .values()
            .filter_map(|stream| match &stream.phase {
                Phase::Question { until, .. } => Some(*until),
                _ => None,
            });
        questions.chain(self.check_at).min()
    }

    /// Refuses questions that take too long and gives up streams that nobody reads.
    pub fn handle_timeout(&mut self, connection: &mut Connection, now: Instant) {
        let late: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                matches!(&stream.phase, Phase::Question { until, .. } if *until <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.refuse(id, Why::Refused, "the question took too long", connection);
            self.read_no_more(id, ErrorCode::TOO_SLOW, connection);
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_readers(connection, now);
        }
    }

    fn check_readers(&mut self, connection: &mut Connection, now: Instant) {
        let patience = self.limits.patience;
        let mut slow = Vec::new();
        let mut any = false;
        for (id, stream) in &mut self.streams {
            if !matches!(stream.phase, Phase::Body { .. } | Phase::Done) {
                continue;
            }
            any = true;
            let unsent = connection.unsent(*id);
            let sent = stream.written.saturating_sub(unsent);
            if unsent == 0 || sent != stream.sent {
                (stream.sent, stream.since) = (sent, now);
            } else if now.saturating_duration_since(stream.since) >= patience {
                slow.push(*id);
            }
        }
        self.check_at = any.then(|| now + patience / 4);
        for id in slow {
            self.give_up(id, ErrorCode::TOO_SLOW, connection);
        }
    }

    /// Whether the next chunk of a stream's body should be fetched now; `share` is how much the
    /// connection may hold in memory.
    pub fn wants(&self, id: StreamId, connection: &Connection, share: u64) -> bool {
        matches!(self.phase(id), Some(Phase::Body { .. }))
            && connection.unsent(id) < self.limits.ahead
            // A stream that holds nothing always gets on: others may not block it.
            && (connection.held() < share || connection.held_by(id) == 0)
    }

    /// Takes the names of the files, or that nobody knows them now.
    pub fn handle_list<'a>(
        &mut self,
        id: StreamId,
        names: Option<impl IntoIterator<Item = &'a str>>,
        connection: &mut Connection,
        now: Instant,
    ) {
        if !self.is_asked(id) {
            return;
        }
        self.fetched();
        match names {
            Some(names) => self.answer(id, encode_list(names), connection, now),
            None => self.refuse(id, Why::Unavailable, "nobody tells the list", connection),
        }
    }

    /// Takes the head of a file; chunks follow.
    pub fn handle_head(
        &mut self,
        id: StreamId,
        head: Head,
        connection: &mut Connection,
        now: Instant,
    ) {
        if !self.is_asked(id) {
            return;
        }
        let left = head.length;
        match Answer::Ok(head).encode() {
            Ok(line) => {
                self.write(id, line.into(), connection);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.phase = Phase::Body { left };
                    stream.since = now;
                }
                self.watch(now);
            }
            Err(_) => {
                self.fetched();
                let text = "the origin contradicts itself";
                self.refuse(id, Why::Unavailable, text, connection);
                self.commands.push_back(Command::Cancel { stream: id });
            }
        }
    }

    /// Takes the next bytes of a file.
    pub fn handle_chunk(&mut self, id: StreamId, chunk: Bytes, connection: &mut Connection) {
        let Some(Stream {
            phase: Phase::Body { left },
            ..
        }) = self.streams.get_mut(&id)
        else {
            return;
        };
        if let Some(left) = left {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => *left = rest,
                None => return self.give_up(id, ErrorCode::SOURCE_FAILED, connection),
            }
        }
        self.write(id, chunk, connection);
    }

    /// Takes the end of a file.
    pub fn handle_end(&mut self, id: StreamId, connection: &mut Connection) {
        match self.phase(id) {
            Some(Phase::Body {
                left: None | Some(0),
            }) => {
                self.fetched();
                self.finish(id, connection);
            }
            Some(Phase::Body { .. }) => self.give_up(id, ErrorCode::SOURCE_FAILED, connection),
            _ => {}
        }
    }

    /// Takes that a file can't be had, and why; after its head, that it broke off.
    pub fn handle_failure(
        &mut self,
        id: StreamId,
        why: Why,
        text: &str,
        connection: &mut Connection,
    ) {
        match self.phase(id) {
            Some(Phase::Asked) => {
                self.fetched();
                self.refuse(id, why, text, connection);
            }
            Some(Phase::Body { .. }) => self.give_up(id, ErrorCode::SOURCE_FAILED, connection),
            _ => {}
        }
    }

    fn phase(&self, id: StreamId) -> Option<&Phase> {
        self.streams.get(&id).map(|stream| &stream.phase)
    }

    fn is_asked(&self, id: StreamId) -> bool {
        matches!(self.phase(id), Some(Phase::Asked))
    }

    /// Reads what has come of a question.
    fn read(&mut self, id: StreamId, connection: &mut Connection, now: Instant) {
        loop {
            let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.reading) else {
                return;
            };
            let line = match &mut stream.phase {
                Phase::Question { line, .. } => Some(line),
                _ => None,
            };
            match (connection.read(id, usize::MAX), line) {
                (Ok(Read::Data(data)), Some(line)) => match line.feed(&data) {
                    Ok(None) => {}
                    Ok(Some(taken)) if taken == data.len() => {
                        let question = std::mem::take(line);
                        self.ask(id, &question, connection, now);
                    }
                    Ok(Some(_)) | Err(_) => self.misunderstood(id, connection),
                },
                // Nothing belongs behind the question.
                (Ok(Read::Data(_)), None) => {
                    self.read_no_more(id, ErrorCode::MALFORMED_QUESTION, connection);
                }
                (Ok(Read::Blocked), _) => return,
                (Ok(Read::Finished), Some(_)) => {
                    stream.reading = false;
                    self.misunderstood(id, connection);
                }
                (Ok(Read::Reset(_)), Some(_)) => {
                    stream.reading = false;
                    self.give_up(id, ErrorCode::CANCELLED, connection);
                }
                (Ok(Read::Finished | Read::Reset(_)) | Err(_), _) => {
                    stream.reading = false;
                    self.forget_if_done(id, connection);
                }
            }
        }
    }

    fn forget_if_done(&mut self, id: StreamId, connection: &Connection) {
        if matches!(self.phase(id), Some(Phase::Done)) && connection.held_by(id) == 0 {
            self.forget(id);
        }
    }

    fn ask(&mut self, id: StreamId, line: &LineReader, connection: &mut Connection, now: Instant) {
        let Ok(question) = line.line().and_then(Question::parse) else {
            return self.misunderstood(id, connection);
        };
        let asked = match question {
            Question::Echo(timestamp) => {
                return self.answer(id, timestamp.to_owned(), connection, now);
            }
            Question::Stat => {
                let connected = now.saturating_duration_since(self.opened);
                let body = statistics(connection, connected).encode();
                return self.answer(id, body, connection, now);
            }
            Question::List => Asked::List,
            Question::Get {
                name,
                range,
                validator,
            } => Asked::File {
                file: name.into(),
                range,
                validator: validator.map(Into::into),
            },
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.phase = Phase::Waiting(asked);
            self.waiting.push_back(id);
        }
    }

    /// Answers with a whole body.
    fn answer(&mut self, id: StreamId, body: String, connection: &mut Connection, now: Instant) {
        let head = Answer::Ok(Head::of_body(body.len())).encode();
        self.write_all(id, head, connection);
        self.write(id, body.into(), connection);
        self.finish(id, connection);
        self.watch(now);
    }

    fn refuse(&mut self, id: StreamId, code: Why, text: &str, connection: &mut Connection) {
        let text = text.to_owned();
        self.write_all(id, Answer::Error { code, text }.encode(), connection);
        self.finish(id, connection);
    }

    fn misunderstood(&mut self, id: StreamId, connection: &mut Connection) {
        let text = "one line is a question: LIST, GET, ECHO or STAT";
        self.refuse(id, Why::Malformed, text, connection);
        self.read_no_more(id, ErrorCode::MALFORMED_QUESTION, connection);
    }

    fn read_no_more(&mut self, id: StreamId, code: ErrorCode, connection: &mut Connection) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.reading)
        {
            // What is there already, the end perhaps, is not to be asked for.
            while let Ok(Read::Data(_)) = connection.read(id, usize::MAX) {}
            // An error means that it has ended.
            let _ = connection.stop(id, code);
        }
    }

    fn write_all(
        &mut self,
        id: StreamId,
        line: Result<String, Malformed>,
        connection: &mut Connection,
    ) {
        // What is encoded here has no text of the client's in it.
        if let Ok(line) = line {
            self.write(id, line.into(), connection);
        }
    }

    fn write(&mut self, id: StreamId, bytes: Bytes, connection: &mut Connection) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !bytes.is_empty()
        {
            stream.written += bytes.len() as u64;
            // An error means that the client has stopped it: the event is under way.
            let _ = connection.write(id, bytes);
        }
    }

    fn finish(&mut self, id: StreamId, connection: &mut Connection) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.phase = Phase::Done;
            let _ = connection.finish(id);
        }
    }

    /// Gives up our half of a stream, and the client's.
    fn give_up(&mut self, id: StreamId, code: ErrorCode, connection: &mut Connection) {
        let _ = connection.reset(id, code);
        self.read_no_more(id, code, connection);
        self.forget(id);
    }

    fn forget(&mut self, id: StreamId) {
        let stream = self.streams.remove(&id);
        if self.streams.is_empty() {
            // An empty map keeps the room of its last eleven.
            self.streams = BTreeMap::new();
        }
        match stream.map(|stream| stream.phase) {
            Some(Phase::Asked | Phase::Body { .. }) => {
                self.fetched();
                self.commands.push_back(Command::Cancel { stream: id });
            }
            Some(Phase::Waiting(_)) => self.waiting.retain(|waiting| *waiting != id),
            _ => {}
        }
    }

    /// A question to the shell is answered to its end.
    fn fetched(&mut self) {
        self.fetching = self.fetching.saturating_sub(1);
    }

    fn watch(&mut self, now: Instant) {
        self.check_at.get_or_insert(now + self.limits.patience / 4);
    }
}

/// What STAT answers.
fn statistics(connection: &Connection, connected: Duration) -> Statistics {
    let standing = Standing::of(connection, connected, None);
    let mut told = Statistics::new();
    for (key, value) in words(TRANSPORT, &standing) {
        told.set(key, value);
    }
    told
}
