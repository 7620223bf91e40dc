//! The simplest use of a connection: one stream, asked for by its size.

use std::time::Instant;

use bytes::Bytes;

use super::Application;
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

/// A client that asks for so many bytes and reads them as they come.
#[derive(Debug)]
pub(super) struct Download {
    size: u64,
    stream: Option<StreamId>,
    pub(super) progress: Progress<CloseReason>,
}

impl Download {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            stream: None,
            progress: Progress::default(),
        }
    }

    fn ask(&mut self, connection: &mut Connection) {
        if let Ok(stream) = connection.open() {
            let request = Bytes::copy_from_slice(&self.size.to_be_bytes());
            // What was opened just now takes both.
            let _ = connection.write(stream, request);
            let _ = connection.finish(stream);
            self.stream = Some(stream);
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId, now: Instant) {
        loop {
            match connection.read(stream, usize::MAX) {
                Ok(Read::Data(data)) => self.progress.came(data.len(), now),
                Ok(Read::Finished) => {
                    self.progress.completed_at = Some(now);
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
                    self.progress.connected_at = Some(now);
                    self.ask(connection);
                }
                Event::Stream(StreamEvent::Readable(stream)) if Some(stream) == self.stream => {
                    self.read(connection, stream, now);
                }
                Event::Closed(reason) => self.progress.closed = Some(reason),
                Event::Stream(_) | Event::Moved { .. } | Event::Unheard => {}
            }
        }
    }
}

/// A server's side of it.
#[derive(Debug)]
pub(super) struct Upload {
    stream: Option<StreamId>,
    request: Vec<u8>,
    /// Bytes still to be written.
    left: Option<u64>,
    chunk: Bytes,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            request: Vec::new(),
            left: None,
            chunk: Bytes::from(vec![0; CHUNK]),
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: StreamId) {
        while let Ok(Read::Data(data)) = connection.read(stream, usize::MAX) {
            self.request.extend_from_slice(&data);
        }
        if let Ok(size) = self.request[..].try_into() {
            self.left = Some(u64::from_be_bytes(size));
            self.request.clear();
        }
    }

    fn write(&mut self, connection: &mut Connection) {
        let (Some(stream), Some(left)) = (self.stream, &mut self.left) else {
            return;
        };
        while *left > 0 {
            if connection.unsent(stream) >= AHEAD {
                return;
            }
            let length = (*left).min(CHUNK as u64);
            let piece = self.chunk.slice(..length as usize);
            if connection.write(stream, piece).is_err() {
                break;
            }
            *left -= length;
        }
        self.left = None;
        // A connection that is over has ended it already.
        let _ = connection.finish(stream);
    }
}

impl Application for Upload {
    fn run(&mut self, connection: &mut Connection, _: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Stream(StreamEvent::Opened(stream)) => {
                    self.stream = Some(stream);
                    self.read(connection, stream);
                }
                Event::Stream(StreamEvent::Readable(stream)) => self.read(connection, stream),
                _ => {}
            }
        }
        self.write(connection);
    }
}
