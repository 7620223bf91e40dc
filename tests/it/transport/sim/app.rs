//! What runs on top of the connections: clients that fetch and send, a server that answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use labnet::{
    rudp::{
        connection::{CloseReason, Connection, Event, Read, StreamEvent, StreamId},
        packet::ErrorCode,
    },
    simulation::{Application, Datagram, Host, Peer},
};

/// Bytes that tell where they belong.
pub(crate) fn pattern(offset: u64, length: usize) -> Vec<u8> {
    (offset..offset + length as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 11) as u8)
        .collect()
}

fn is_pattern(offset: u64, bytes: &[u8]) -> bool {
    (offset..)
        .zip(bytes)
        .all(|(at, byte)| (at.wrapping_mul(0x9e37_79b9) >> 11) as u8 == *byte)
}

/// How much is written at once.
const CHUNK: u64 = 64 << 10;
/// How many bytes of an answer may wait to be sent.
const AHEAD: u64 = 1 << 20;

/// Writes the pattern from `at` to `size` while less than `ahead` bytes wait to be sent, and the
/// stream's end; false: the stream takes nothing more.
fn write_on(
    connection: &mut Connection,
    id: StreamId,
    at: &mut u64,
    size: u64,
    ahead: u64,
) -> Result<bool, ()> {
    while *at < size {
        if connection.unsent(id) >= ahead {
            return Ok(false);
        }
        let length = (size - *at).min(CHUNK) as usize;
        let bytes = Bytes::from(pattern(*at, length));
        connection.write(id, bytes).map_err(|_| ())?;
        *at += length as u64;
    }
    connection.finish(id).map_err(|_| ())?;
    Ok(true)
}

/// A stream as the server sees it.
#[derive(Debug, Default)]
struct Answer {
    /// A big-endian u64: so many bytes are wanted.
    request: Vec<u8>,
    uploaded: u64,
    at: u64,
    size: Option<u64>,
    written: bool,
}

/// A server's streams of one connection. A request is a big-endian u64, then any number of bytes
/// of [`pattern`]; the answer is as many bytes of it as the number says.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// All events but those about streams.
    pub(crate) events: Vec<Event>,
    pub(crate) uploaded: u64,
    answers: BTreeMap<StreamId, Answer>,
}

impl Application for Served {
    fn run(&mut self, connection: &mut Connection, _: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Stream(StreamEvent::Opened(id)) => {
                    self.answers.insert(id, Answer::default());
                    self.read(connection, id);
                }
                Event::Stream(StreamEvent::Readable(id)) => self.read(connection, id),
                Event::Stream(StreamEvent::Stopped(id, _)) => {
                    if let Some(answer) = self.answers.get_mut(&id) {
                        answer.written = true;
                    }
                }
                Event::Stream(_) => {}
                other => self.events.push(other),
            }
        }
        self.answers.retain(|id, answer| {
            if let Some(size) = answer.size
                && !answer.written
            {
                let done = write_on(connection, *id, &mut answer.at, size, AHEAD);
                answer.written = done.unwrap_or(true);
            }
            !answer.written
        });
    }
}

impl Served {
    fn read(&mut self, connection: &mut Connection, id: StreamId) {
        let mut forgotten = Answer {
            written: true,
            ..Answer::default()
        };
        let answer = self.answers.get_mut(&id).unwrap_or(&mut forgotten);
        loop {
            match connection.read(id, usize::MAX) {
                Ok(Read::Data(data)) => {
                    if answer.written && answer.size.is_none() {
                        self.uploaded += data.len() as u64;
                        continue;
                    }
                    let missing = 8 - answer.request.len();
                    let (head, rest) = data.split_at(missing.min(data.len()));
                    answer.request.extend_from_slice(head);
                    if let Ok(size) = answer.request[..].try_into() {
                        answer.size = Some(u64::from_be_bytes(size));
                    }
                    assert!(
                        is_pattern(answer.uploaded, rest),
                        "wrong bytes up at {} len {} written {} size {:?} id {id:?} mismatch at {:?} got {:?} want {:?}",
                        answer.uploaded,
                        rest.len(),
                        answer.written,
                        answer.size,
                        rest.iter()
                            .zip(pattern(answer.uploaded, rest.len()))
                            .position(|(a, b)| *a != b),
                        &rest[rest.len() - 8..],
                        &pattern(answer.uploaded, rest.len())[rest.len() - 8..]
                    );
                    answer.uploaded += rest.len() as u64;
                    self.uploaded += rest.len() as u64;
                }
                Ok(Read::Reset(code)) => {
                    // The client has given up: so do we.
                    answer.written = true;
                    let _ = connection.reset(id, ErrorCode(code));
                    break;
                }
                Ok(Read::Finished | Read::Blocked) | Err(_) => break,
            }
        }
    }

    /// Where the client has been shown to be, in turn.
    pub(crate) fn moves(&self) -> Vec<(SocketAddr, SocketAddr)> {
        moves(&self.events)
    }

    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        closed(&self.events)
    }
}

fn moves(events: &[Event]) -> Vec<(SocketAddr, SocketAddr)> {
    let moved = events.iter().filter_map(|event| match event {
        Event::Moved { from, to } => Some((*from, *to)),
        _ => None,
    });
    moved.collect()
}

fn closed(events: &[Event]) -> Option<&CloseReason> {
    events.iter().find_map(|event| match event {
        Event::Closed(reason) => Some(reason),
        _ => None,
    })
}

/// What a client wants to do on one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// To receive so much.
    pub(crate) size: u64,
    /// To send so much.
    pub(crate) upload: u64,
    /// Not to go on after so many bytes.
    pub(crate) give_up_after: Option<u64>,
    /// Not to begin before the others are done.
    pub(crate) last: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) asked_at: Option<Instant>,
    pub(crate) done_at: Option<Instant>,
    pub(crate) id: Option<StreamId>,
    pub(crate) written: bool,
}

/// A client that reads at most so much at a time, once in such a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appetite {
    pub(crate) bytes: usize,
    pub(crate) pause: Duration,
}

/// What a client does.
pub(crate) struct Fetching {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) appetite: Option<Appetite>,
    /// All events but those about streams.
    pub(crate) events: Vec<Event>,
    pub(crate) connected_at: Option<Instant>,
    by_id: BTreeMap<StreamId, usize>,
    unopened: usize,
    readable: Vec<usize>,
    read_at: Option<Instant>,
    unheard: bool,
}

/// A client, who may take another address.
pub(crate) struct Client {
    pub(crate) peer: Peer<Fetching>,
    /// Where it binds anew once its probes are in vain.
    pub(crate) rebinds_to: Option<SocketAddr>,
}

impl Client {
    pub(super) fn new(peer: Peer<Fetching>) -> Self {
        Self {
            peer,
            rebinds_to: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        let mut wanted = self.peer.application.wanted.iter();
        wanted.all(|wanted| wanted.done_at.is_some())
    }

    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        closed(&self.peer.application.events)
    }
}

impl Host for Client {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        self.peer.handle_datagram(datagram, now, out);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if !self.peer.is_dirty() {
            return;
        }
        let Peer {
            connection,
            application,
            ..
        } = &mut self.peer;
        application.run(connection, now);
        if std::mem::take(&mut application.unheard)
            && let Some(to) = self.rebinds_to.take()
        {
            connection.rebound(true, now);
            (self.peer.address, self.peer.seen_as) = (to, to);
        }
        self.peer.drain(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peer.poll_timeout()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.peer.is_at(address)
    }
}

impl Application for Fetching {
    fn run(&mut self, connection: &mut Connection, now: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Connected => {
                    self.connected_at = Some(now);
                    self.events.push(event);
                }
                Event::Stream(StreamEvent::Readable(id)) => {
                    let at = self.by_id[&id];
                    if !self.readable.contains(&at) {
                        self.readable.push(at);
                    }
                }
                Event::Unheard => {
                    self.unheard = true;
                    self.events.push(event);
                }
                Event::Stream(_) => {}
                other => self.events.push(other),
            }
        }
        self.read_all(connection, now);
        while self.connected_at.is_some() && self.unopened < self.wanted.len() {
            let others_done = self.wanted[..self.unopened]
                .iter()
                .all(|wanted| wanted.done_at.is_some());
            let wanted = &mut self.wanted[self.unopened];
            if wanted.last && !others_done {
                break;
            }
            let Ok(id) = connection.open() else {
                break;
            };
            wanted.id = Some(id);
            wanted.asked_at = Some(now);
            self.by_id.insert(id, self.unopened);
            self.unopened += 1;
            let request = Bytes::copy_from_slice(&wanted.size.to_be_bytes());
            connection.write(id, request).expect("it is open");
        }
        for wanted in &mut self.wanted[..self.unopened] {
            if let Some(id) = wanted.id
                && !wanted.written
            {
                let (at, size) = (&mut wanted.sent, wanted.upload);
                let done = write_on(connection, id, at, size, CHUNK);
                wanted.written = done.unwrap_or(true);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.read_at.filter(|_| !self.readable.is_empty())
    }
}

impl Fetching {
    pub(super) fn new(wanted: Vec<Wanted>) -> Self {
        Self {
            wanted,
            appetite: None,
            events: Vec::new(),
            connected_at: None,
            by_id: BTreeMap::new(),
            unopened: 0,
            readable: Vec::new(),
            read_at: None,
            unheard: false,
        }
    }

    fn read_all(&mut self, connection: &mut Connection, now: Instant) {
        if self.read_at.is_some_and(|at| at > now) {
            return;
        }
        if self.readable.is_empty() {
            return;
        }
        self.read_at = self.appetite.map(|appetite| now + appetite.pause);
        let mut most = self.appetite.map_or(usize::MAX, |appetite| appetite.bytes);
        while let Some(at) = self.readable.first().copied() {
            let before = self.wanted[at].received;
            if !self.read(connection, at, most, now) {
                self.readable.remove(0);
            }
            most -= (self.wanted[at].received - before) as usize;
            if most == 0 {
                break;
            }
        }
    }

    /// Says whether there may be more.
    fn read(&mut self, connection: &mut Connection, at: usize, most: usize, now: Instant) -> bool {
        let wanted = &mut self.wanted[at];
        let Some(id) = wanted.id else {
            return false;
        };
        match connection.read(id, most) {
            Ok(Read::Data(data)) => {
                assert!(is_pattern(wanted.received, &data), "wrong bytes down");
                wanted.received += data.len() as u64;
                if wanted
                    .give_up_after
                    .is_some_and(|end| wanted.received >= end)
                {
                    wanted.done_at = Some(now);
                    wanted.written = true;
                    // Either may have ended by itself.
                    let _ = connection.stop(id, ErrorCode::CANCELLED);
                    let _ = connection.reset(id, ErrorCode::CANCELLED);
                    return false;
                }
                true
            }
            Ok(Read::Finished) => {
                assert_eq!(wanted.received, wanted.size, "the wrong end");
                wanted.done_at = Some(now);
                false
            }
            Ok(Read::Blocked) => false,
            // What it gave up ends as it likes.
            other => {
                assert!(wanted.give_up_after.is_some(), "{other:?}");
                false
            }
        }
    }
}
