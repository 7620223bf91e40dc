//! The simplest use of a connection: a stream for each file, asked for by its size.

use std::{collections::BTreeMap, fmt, time::Instant};

use bytes::Bytes;

use super::{
    Application,
    arrival::{HearPiece, Piece},
};
use crate::rudp::connection::{CloseReason, Connection, Event, Read, StreamEvent, StreamId};

/// How much is written at once.
pub(super) const CHUNK: usize = 64 << 10;
/// How many bytes may wait to be sent: a sender is never held back by what feeds it.
const AHEAD: u64 = 1 << 20;

/// How far a client is; `E` is why its connection ended.
#[derive(Debug)]
pub(super) struct Progress<E> {
    pub(super) received: u64,
    pub(super) connected_at: Option<Instant>,
    pub(super) first_byte_at: Option<Instant>,
    pub(super) completed_at: Option<Instant>,
    pub(super) closed: Option<E>,
}

impl<E> Default for Progress<E> {
    fn default() -> Self {
        Self {
            received: 0,
            connected_at: None,
            first_byte_at: None,
            completed_at: None,
            closed: None,
        }
    }
}

impl<E> Progress<E> {
    /// So many more bytes have come.
    pub(super) fn came(&mut self, bytes: usize, now: Instant) {
        self.first_byte_at.get_or_insert(now);
        self.received += bytes as u64;
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_over(&self) -> bool {
        self.completed_at.is_some() || self.closed.is_some()
    }

    /// The same, with why it ended told otherwise.
    pub(super) fn map<F>(&self, why: impl FnOnce(&E) -> F) -> Progress<F> {
        Progress {
            received: self.received,
            connected_at: self.connected_at,
            first_byte_at: self.first_byte_at,
            completed_at: self.completed_at,
            closed: self.closed.as_ref().map(why),
        }
    }
}

/// The files that a client wants, on a stream `S` each; `E` is why its connection ended.
pub(super) struct Files<S, E> {
    wanted: Arriving,
    /// In the order in which they were asked for.
    streams: Vec<S>,
    whole: usize,
    pub(super) progress: Progress<E>,
}

/// What a client wants, and who is to hear of it.
pub(super) struct Arriving {
    flow: usize,
    /// Bytes of each.
    size: u64,
    count: usize,
    heard: Option<HearPiece>,
}

impl Arriving {
    /// So many bytes in so many files.
    pub(super) fn new(
        flow: usize,
        size: Option<u64>,
        files: u64,
        heard: Option<HearPiece>,
    ) -> Self {
        let files = files.max(1);
        Self {
            flow,
            size: size.map_or(u64::MAX, |size| size / files),
            count: usize::try_from(files).unwrap_or(usize::MAX),
            heard,
        }
    }
}

impl<S, E> fmt::Debug for Files<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("count", &self.wanted.count)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}

impl<S: PartialEq + Copy, E> Files<S, E> {
    /// None has come.
    pub(super) fn new(wanted: Arriving) -> Self {
        Self {
            wanted,
            streams: Vec::new(),
            whole: 0,
            progress: Progress::default(),
        }
    }

    /// What to ask for on the next stream; `None`: all is asked for.
    pub(super) fn next(&self) -> Option<u64> {
        (self.streams.len() < self.wanted.count).then_some(self.wanted.size)
    }

    /// The next file comes on this stream.
    pub(super) fn asked(&mut self, stream: S) {
        self.streams.push(stream);
    }

    fn tell(&self, stream: S, at: Instant, whole: bool) {
        let file = self.streams.iter().position(|one| *one == stream);
        if let (Some(heard), Some(file)) = (&self.wanted.heard, file) {
            let flow = self.wanted.flow;
            heard(&Piece {
                flow,
                file,
                at,
                whole,
            });
        }
    }

    /// So many more bytes have come on a stream.
    pub(super) fn came(&mut self, stream: S, bytes: usize, now: Instant) {
        self.progress.came(bytes, now);
        self.tell(stream, now, false);
    }

    /// All has come on a stream.
    pub(super) fn ended(&mut self, stream: S, now: Instant) {
        self.tell(stream, now, true);
        self.whole += 1;
        if self.whole == self.wanted.count {
            self.progress.completed_at = Some(now);
        }
    }
}

/// A client that asks for files and reads them as they come.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) files: Files<StreamId, CloseReason>,
}

impl Download {
    pub(super) fn new(wanted: Arriving) -> Self {
        Self {
            files: Files::new(wanted),
        }
    }

    fn ask(&mut self, connection: &mut Connection) {
        while let Some(size) = self.files.next()
            && let Ok(stream) = connection.open()
        {
            let request = Bytes::copy_from_slice(&size.to_be_bytes());
            // What was opened just now takes both.
            let _ = connection.write(stream, request);
            let _ = connection.finish(stream);
            self.files.asked(stream);
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId, now: Instant) {
        loop {
            match connection.read(stream, usize::MAX) {
                Ok(Read::Data(data)) => self.files.came(stream, data.len(), now),
                Ok(Read::Finished) => {
                    self.files.ended(stream, now);
                    break;
                }
                Ok(Read::Blocked | Read::Reset(_)) | Err(_) => break,
            }
        }
    }
}

impl Application for Download {
    fn run(&mut self, connection: &mut Connection, now: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Connected => {
                    self.files.progress.connected_at = Some(now);
                    self.ask(connection);
                }
                Event::Stream(StreamEvent::Readable(stream)) => {
                    self.read(connection, stream, now);
                }
                Event::Closed(reason) => self.files.progress.closed = Some(reason),
                Event::Stream(_) | Event::Moved { .. } | Event::Unheard => {}
            }
        }
    }
}

/// What a server has still to do on one stream.
#[derive(Debug)]
pub(super) enum Answer {
    /// The request has not come but for these bytes.
    Asked(Vec<u8>),
    /// So many bytes are still to be written.
    Left(u64),
}

impl Answer {
    /// A piece of the request has come.
    pub(super) fn heard(&mut self, piece: &[u8]) {
        if let Self::Asked(request) = self {
            request.extend_from_slice(piece);
            if let Ok(size) = request[..].try_into() {
                *self = Self::Left(u64::from_be_bytes(size));
            }
        }
    }
}

/// A server's side of it.
#[derive(Debug)]
pub(super) struct Upload {
    answers: BTreeMap<StreamId, Answer>,
    chunk: Bytes,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self {
            answers: BTreeMap::new(),
            chunk: Bytes::from(vec![0; CHUNK]),
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId) {
        let Some(answer) = self.answers.get_mut(&stream) else {
            return;
        };
        while let Ok(Read::Data(data)) = connection.read(stream, usize::MAX) {
            answer.heard(&data);
        }
    }

    fn write(&mut self, connection: &mut Connection) {
        let chunk = &self.chunk;
        self.answers.retain(|stream, answer| {
            let Answer::Left(left) = answer else {
                return true;
            };
            while *left > 0 {
                if connection.unsent(*stream) >= AHEAD {
                    return true;
                }
                let length = (*left).min(CHUNK as u64);
                let piece = chunk.slice(..length as usize);
                if connection.write(*stream, piece).is_err() {
                    break;
                }
                *left -= length;
            }
            // A connection that is over has ended it already.
            let _ = connection.finish(*stream);
            false
        });
    }
}

impl Application for Upload {
    fn run(&mut self, connection: &mut Connection, _: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Stream(StreamEvent::Opened(stream)) => {
                    self.answers.insert(stream, Answer::Asked(Vec::new()));
                    self.read(connection, stream);
                }
                Event::Stream(StreamEvent::Readable(stream)) => self.read(connection, stream),
                _ => {}
            }
        }
        self.write(connection);
    }
}
