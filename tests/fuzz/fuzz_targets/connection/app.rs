//! What the two applications do with the connection, and what they may hear.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Instant,
};

use bytes::Bytes;
use labnet::{
    rudp::{
        connection::{CloseReason, Connection, Event, Read, StreamEvent, StreamId},
        packet::ErrorCode,
    },
    simulation::Application,
};

use super::schedule::Call;

/// Bytes of a stream that may wait to be sent.
const WAITING: u64 = 1 << 20;

/// What an application has done on a stream.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) finished: bool,
    /// It was given up, by either side.
    pub(crate) given_up: bool,
    /// Its other half was read to its end.
    pub(crate) ended: bool,
}

/// Addresses that clients have shown to be theirs.
pub(crate) type Proven = Rc<RefCell<BTreeSet<SocketAddr>>>;

/// One side's application.
pub(crate) struct App {
    is_client: bool,
    pub(crate) streams: BTreeMap<StreamId, Progress>,
    pub(crate) closed: Option<CloseReason>,
    /// An attacker had his say, or a checksum was made to fit.
    pub(crate) lied_to: bool,
    max_streams: u64,
    proven: Proven,
}

/// The byte of a stream at this offset, from this side.
fn byte(client: bool, id: StreamId, at: u64) -> u8 {
    let mixed = (at ^ (id.0 << 20) ^ (u64::from(client) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u8
}

impl App {
    pub(crate) fn new(is_client: bool, max_streams: u64, proven: Proven) -> Self {
        Self {
            is_client,
            streams: BTreeMap::new(),
            closed: None,
            lied_to: false,
            max_streams,
            proven,
        }
    }

    fn nth(&self, n: u8) -> Option<StreamId> {
        let n = usize::from(n) % self.streams.len().max(1);
        self.streams.keys().nth(n).copied()
    }

    pub(crate) fn call(&mut self, connection: &mut Connection, call: &Call, now: Instant) {
        match *call {
            Call::Open => {
                if let Ok(id) = connection.open() {
                    assert!(self.is_client);
                    self.streams.insert(id, Progress::default());
                }
            }
            Call::Write { stream, length } => {
                if let Some(id) = self.nth(stream)
                    && connection.unsent(id) < WAITING
                {
                    let at = self.streams[&id].written;
                    let end = at + u64::from(length);
                    let data: Bytes = (at..end).map(|at| byte(self.is_client, id, at)).collect();
                    if connection.write(id, data).is_ok()
                        && let Some(progress) = self.streams.get_mut(&id)
                    {
                        progress.written = end;
                    }
                }
            }
            Call::Finish(stream) => {
                if let Some(id) = self.nth(stream) {
                    self.finish(connection, id);
                }
            }
            Call::Reset(stream) => {
                if let Some(id) = self.nth(stream)
                    && connection.reset(id, ErrorCode::CANCELLED).is_ok()
                    && let Some(progress) = self.streams.get_mut(&id)
                {
                    progress.given_up = true;
                }
            }
            Call::Stop(stream) => {
                if let Some(id) = self.nth(stream)
                    && connection.stop(id, ErrorCode::CANCELLED).is_ok()
                    && let Some(progress) = self.streams.get_mut(&id)
                {
                    progress.given_up = true;
                }
            }
            Call::Read { stream, most } => {
                if let Some(id) = self.nth(stream) {
                    self.read(connection, id, most.into());
                }
            }
            Call::Close => connection.close(ErrorCode::NO_ERROR, "enough", now),
        }
    }

    pub(crate) fn finish(&mut self, connection: &mut Connection, id: StreamId) {
        if connection.finish(id).is_ok()
            && let Some(progress) = self.streams.get_mut(&id)
        {
            progress.finished = true;
        }
    }

    /// Says whether there may be more.
    pub(crate) fn read(&mut self, connection: &mut Connection, id: StreamId, most: usize) -> bool {
        let Some(progress) = self.streams.get_mut(&id) else {
            return false;
        };
        match connection.read(id, most) {
            Ok(Read::Data(data)) => {
                assert!(!data.is_empty() && data.len() <= most);
                for got in &data {
                    // An attacker who knows the checksum may write what he likes.
                    let right = byte(!self.is_client, id, progress.read);
                    assert!(*got == right || self.lied_to, "a wrong byte");
                    progress.read += 1;
                }
                true
            }
            Ok(Read::Reset(_)) => {
                progress.given_up = true;
                false
            }
            Ok(Read::Finished) => {
                assert!(!progress.ended);
                progress.ended = true;
                false
            }
            Ok(Read::Blocked) | Err(_) => false,
        }
    }
}

impl Application for App {
    fn run(&mut self, connection: &mut Connection, _: Instant) {
        let mut count = 0;
        while let Some(event) = connection.poll_event() {
            count += 1;
            assert!(count < 10_000, "events without end");
            match event {
                Event::Stream(StreamEvent::Opened(id)) => {
                    assert!(!self.is_client);
                    self.streams.insert(id, Progress::default());
                }
                Event::Stream(StreamEvent::Stopped(id, _)) => {
                    if let Some(progress) = self.streams.get_mut(&id) {
                        progress.given_up = true;
                    }
                }
                Event::Moved { to, .. } => {
                    self.proven.borrow_mut().insert(to);
                }
                Event::Closed(reason) => {
                    assert!(self.closed.is_none(), "closed twice");
                    self.closed = Some(reason);
                }
                Event::Stream(_) | Event::Connected | Event::Unheard => {}
            }
        }
        assert!(connection.stream_count() as u64 <= self.max_streams);
    }
}
