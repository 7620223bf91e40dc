//! The streams of a connection and its flow control (RFC 9000 sections 2 to 4).
//!
//! All streams are bidirectional and opened by the client, which numbers them from 0.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    Violation,
    receiving::{Arrived, Receiving},
    send_buffer::Why,
    sending::{Load, Sending},
    stream::{LOW, Piece, Read, StreamError, StreamEvent, StreamId},
};
use crate::rudp::packet::ErrorCode;

/// A stream that is not over in both directions.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
}

/// The limits that one side sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlowLimits {
    pub(super) connection: u64,
    pub(super) stream: u64,
    pub(super) streams: u64,
}

/// What all streams together ask of the path: known without a walk over them for each packet.
#[derive(Debug, Default)]
struct Totals {
    held: u64,
    urgent: usize,
    fresh: usize,
    held_back: usize,
    tails: usize,
}

impl Totals {
    fn replace(&mut self, before: Load, after: Load) {
        // What is taken away was added before.
        self.held = self.held - before.held + after.held;
        for (total, before, after) in [
            (&mut self.urgent, before.urgent, after.urgent),
            (&mut self.fresh, before.fresh, after.fresh),
            (&mut self.held_back, before.held_back, after.held_back),
            (&mut self.tails, before.tail, after.tail),
        ] {
            *total = *total - usize::from(before) + usize::from(after);
        }
    }
}

/// All streams of a connection.
#[derive(Debug)]
pub struct Streams {
    client: bool,
    open: BTreeMap<u64, Stream>,
    totals: Totals,
    /// Streams below were opened at some time.
    next: u64,
    /// Streams below may be opened: by us if we are the client.
    max_streams: u64,
    /// Streams with something to send, in turn.
    queue: VecDeque<u64>,
    ours: FlowLimits,
    theirs: FlowLimits,
    /// Bytes sent for the first time, of all streams.
    sent: u64,
    /// Bytes that the peer has acknowledged, of all streams, each stream's up to its first gap.
    acknowledged: u64,
    /// The peer lets us send so many.
    send_limit: u64,
    /// Bytes that the peer has used of its limit, and what it may.
    received: u64,
    receive_limit: u64,
    /// Bytes that the application has read or that will never be.
    consumed: u64,
    pub(super) events: VecDeque<StreamEvent>,
    /// Control frames due.
    pub(super) max_data_due: bool,
    pub(super) max_streams_due: bool,
    /// About open streams alone, each once: three for each stream at most.
    control: VecDeque<Control>,
    finished_streams: u64,
}

/// A control frame about one stream that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    MaxStreamData(u64),
    Reset(u64),
    Stop(u64),
}

impl Control {
    fn stream(self) -> u64 {
        let (Self::MaxStreamData(id) | Self::Reset(id) | Self::Stop(id)) = self;
        id
    }
}

impl Streams {
    /// Below so many unsent bytes a stream asks for more.
    pub const LOW: u64 = LOW;

    pub(super) fn new(client: bool, ours: FlowLimits, theirs: FlowLimits) -> Self {
        Self {
            client,
            open: BTreeMap::new(),
            totals: Totals::default(),
            next: 0,
            max_streams: if client { theirs.streams } else { ours.streams },
            queue: VecDeque::new(),
            ours,
            theirs,
            sent: 0,
            acknowledged: 0,
            send_limit: theirs.connection,
            received: 0,
            receive_limit: ours.connection,
            consumed: 0,
            events: VecDeque::new(),
            max_data_due: false,
            max_streams_due: false,
            control: VecDeque::new(),
            finished_streams: 0,
        }
    }

    /// Takes the peer's limits, which the client learns with the handshake's end. No stream is open
    /// before.
    pub(super) fn set_theirs(&mut self, theirs: FlowLimits) {
        self.theirs = theirs;
        self.send_limit = theirs.connection;
        if self.client {
            self.max_streams = theirs.streams;
        }
    }

    fn insert_next(&mut self) -> StreamId {
        let id = self.next;
        self.next += 1;
        let stream = Stream {
            sending: Sending::new(self.theirs.stream),
            receiving: Receiving::new(self.ours.stream),
        };
        self.open.insert(id, stream);
        StreamId(id)
    }

    /// Opens one more.
    pub(super) fn open(&mut self) -> Result<StreamId, StreamError> {
        if !self.client || self.next >= self.max_streams {
            return Err(StreamError::Exhausted);
        }
        Ok(self.insert_next())
    }

    /// Does something with our half of a stream, if it is open, and keeps the totals.
    fn sending<R>(&mut self, id: u64, f: impl FnOnce(&mut Sending) -> R) -> Option<R> {
        let sending = &mut self.open.get_mut(&id)?.sending;
        let before = sending.load();
        let result = f(sending);
        self.totals.replace(before, sending.load());
        Some(result)
    }

    /// Adds bytes to what is to be sent.
    pub(super) fn write(&mut self, id: StreamId, data: Bytes) -> Result<(), StreamError> {
        self.sending(id.0, |sending| sending.write(data))
            .ok_or(StreamError::Closed)??;
        self.enqueue(id.0);
        Ok(())
    }

    /// Bytes written to it and not yet acknowledged, and of these not yet sent.
    pub(super) fn held(&self, id: StreamId) -> (u64, u64) {
        self.open.get(&id.0).map_or((0, 0), |stream| {
            (stream.sending.load().held, stream.sending.unsent())
        })
    }

    /// Bytes of all streams that the peer has acknowledged, each once, each stream's up to its first gap.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes of all streams that the peer has sent, each once, as flow control counts them.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes written to all streams and not yet acknowledged.
    pub(super) fn held_by_all(&self) -> u64 {
        self.totals.held
    }

    /// Ends our side of it after what was written.
    pub(super) fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.sending(id.0, Sending::finish)
            .ok_or(StreamError::Closed)??;
        self.enqueue(id.0);
        Ok(())
    }

    /// Gives up our side of it.
    pub(super) fn reset(&mut self, id: StreamId, code: u64) -> Result<(), StreamError> {
        self.sending(id.0, |sending| sending.give_up(code))
            .ok_or(StreamError::Closed)??;
        self.push_control(Control::Reset(id.0));
        Ok(())
    }

    /// Wants no more of the peer's side of it.
    pub(super) fn stop(&mut self, id: StreamId, code: u64) -> Result<(), StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if let Some(unread) = stream.receiving.stop(code) {
            // What nobody reads does not hold up the other streams.
            self.consumed += unread;
            self.push_control(Control::Stop(id.0));
            self.renew_max_data();
            self.reap(id.0);
        }
        Ok(())
    }

    /// Takes at most `max` bytes that arrived in order.
    pub(super) fn read(&mut self, id: StreamId, max: usize) -> Result<Read, StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        let read = stream.receiving.read(max)?;
        if let Read::Data(bytes) = &read {
            self.consumed += bytes.len() as u64;
            if stream.receiving.is_limit_due(self.ours.stream) {
                self.push_control(Control::MaxStreamData(id.0));
            }
            self.renew_max_data();
        } else {
            self.reap(id.0);
        }
        Ok(read)
    }

    fn renew_max_data(&mut self) {
        let limit = self.consumed + self.ours.connection;
        if limit >= self.receive_limit + self.ours.connection / 2 {
            self.max_data_due = true;
        }
    }

    /// The new MAX_DATA limit, to be sent now.
    pub(super) fn grant_data(&mut self) -> u64 {
        self.max_data_due = false;
        self.receive_limit = self.receive_limit.max(self.consumed + self.ours.connection);
        self.receive_limit
    }

    /// The new MAX_STREAM_DATA limit of one, to be sent now; `None`: not needed any more.
    pub(super) fn grant_stream_data(&mut self, id: u64) -> Option<u64> {
        let window = self.ours.stream;
        self.open.get_mut(&id)?.receiving.grant(window)
    }

    /// The new MAX_STREAMS limit, to be sent now.
    pub(super) fn grant_streams(&mut self) -> u64 {
        self.max_streams_due = false;
        self.max_streams = self.ours.streams + self.finished_streams;
        self.max_streams
    }

    pub(super) fn get(&self, id: u64) -> Option<&Stream> {
        self.open.get(&id)
    }

    pub(super) fn push_control(&mut self, control: Control) {
        if self.open.contains_key(&control.stream()) && !self.control.contains(&control) {
            self.control.push_back(control);
        }
    }

    pub(super) fn pop_control(&mut self) -> Option<Control> {
        self.control.pop_front()
    }

    /// Whether a control frame is due.
    pub(super) fn has_control(&self) -> bool {
        self.max_data_due || self.max_streams_due || !self.control.is_empty()
    }

    fn enqueue(&mut self, id: u64) {
        if let Some(stream) = self.open.get_mut(&id)
            && !std::mem::replace(&mut stream.sending.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    /// The stream that a frame of the peer is about: opened now if it is new; `None` if it is gone.
    fn of_peer(&mut self, id: u64) -> Result<Option<&mut Stream>, Violation> {
        if self.client {
            if id >= self.next {
                return Err((
                    ErrorCode::STREAM_STATE_ERROR,
                    "a stream that was never opened",
                ));
            }
        } else {
            if id >= self.max_streams {
                return Err((ErrorCode::STREAM_LIMIT_ERROR, "too many streams"));
            }
            // A stream opens all below it.
            while self.next <= id {
                let opened = self.insert_next();
                self.events.push_back(StreamEvent::Opened(opened));
            }
        }
        Ok(self.open.get_mut(&id))
    }

    /// STREAM
    pub(super) fn on_stream(
        &mut self,
        id: u64,
        offset: u64,
        fin: bool,
        data: &[u8],
    ) -> Result<(), Violation> {
        let room = self.receive_limit - self.received;
        if let Some(stream) = self.of_peer(id)? {
            let arrived = stream.receiving.on_stream(offset, fin, data, room)?;
            let over = stream.receiving.is_over();
            self.on_arrived(id, arrived, over);
        }
        Ok(())
    }

    /// RESET_STREAM
    pub(super) fn on_reset(&mut self, id: u64, code: u64, size: u64) -> Result<(), Violation> {
        let room = self.receive_limit - self.received;
        if let Some(stream) = self.of_peer(id)? {
            let arrived = stream.receiving.on_reset(code, size, room)?;
            let over = stream.receiving.is_over();
            self.on_arrived(id, arrived, over);
        }
        Ok(())
    }

    fn on_arrived(&mut self, id: u64, arrived: Arrived, over: bool) {
        self.received += arrived.new;
        if arrived.readable {
            self.events.push_back(StreamEvent::Readable(StreamId(id)));
        }
        if arrived.consumed > 0 {
            self.consumed += arrived.consumed;
            self.renew_max_data();
        }
        if over {
            self.reap(id);
        }
    }

    /// STOP_SENDING
    pub(super) fn on_stop(&mut self, id: u64, code: u64) -> Result<(), Violation> {
        self.of_peer(id)?;
        if self.reset(StreamId(id), code).is_ok() {
            self.events
                .push_back(StreamEvent::Stopped(StreamId(id), code));
        }
        Ok(())
    }

    /// MAX_DATA
    pub(super) fn on_max_data(&mut self, limit: u64) {
        self.send_limit = self.send_limit.max(limit);
    }

    /// MAX_STREAM_DATA
    pub(super) fn on_max_stream_data(&mut self, id: u64, limit: u64) -> Result<(), Violation> {
        self.of_peer(id)?;
        let pending = self.sending(id, |sending| {
            sending.on_limit(limit);
            sending.waits_for_connection()
        });
        if pending == Some(true) {
            self.enqueue(id);
        }
        Ok(())
    }

    /// MAX_STREAMS
    pub(super) fn on_max_streams(&mut self, limit: u64) {
        if self.client && limit > self.max_streams {
            self.max_streams = limit;
            self.events.push_back(StreamEvent::Available);
        }
    }

    /// Whether a piece could be sent if the path let it.
    pub(super) fn can_send(&self) -> bool {
        self.totals.urgent > 0 || self.totals.fresh > 0 && self.send_limit > self.sent
    }

    /// Whether there is something to send that the peer does not grant: nothing but flow control
    /// holds it back.
    pub(super) fn is_held_back(&self) -> bool {
        !self.can_send() && self.totals.fresh + self.totals.held_back > 0
    }

    /// Whether the next piece was sent before.
    pub(super) fn is_repeating(&self) -> bool {
        let next = self.queue.front().and_then(|id| self.open.get(id));
        next.is_some_and(|stream| stream.sending.is_repeating())
    }

    /// The next piece to send, of at most `room(id, offset)` bytes.
    pub(super) fn next_piece(&mut self, room: impl Fn(u64, u64) -> usize) -> Option<Piece> {
        if !self.can_send() {
            return None;
        }
        for _ in 0..self.queue.len() {
            let id = *self.queue.front()?;
            if let Some(piece) = self.piece_of(id, &room) {
                // Each in turn, a packet at a time.
                if self.queue.len() > 1 {
                    self.queue.rotate_left(1);
                }
                return Some(piece);
            }
            self.queue.pop_front();
            if let Some(stream) = self.open.get_mut(&id) {
                // Held up by the connection's limit alone: its turn comes with MAX_DATA.
                stream.sending.queued = stream.sending.waits_for_connection();
                if stream.sending.queued {
                    self.queue.push_back(id);
                }
            }
        }
        None
    }

    fn piece_of(&mut self, id: u64, room: &impl Fn(u64, u64) -> usize) -> Option<Piece> {
        let connection_room = self.send_limit - self.sent;
        let (piece, new, has_room) = self.sending(id, |sending| {
            let before = sending.sent_end();
            let piece = sending.next(id, room(id, before), connection_room);
            (piece, sending.sent_end() - before, sending.take_room())
        })?;
        self.sent += new;
        if has_room {
            self.events.push_back(StreamEvent::Writable(StreamId(id)));
        }
        piece
    }

    /// Appends the bytes of a piece.
    pub(super) fn copy_piece(&self, piece: &Piece, out: &mut Vec<u8>) {
        if let Some(stream) = self.open.get(&piece.id) {
            stream.sending.copy(piece, out);
        }
    }

    /// A piece arrived.
    pub(super) fn on_acked(&mut self, id: u64, offset: u64, length: u64, fin: bool) {
        let held = self.totals.held;
        let delivered = self.sending(id, |sending| sending.on_acked(offset, length, fin));
        // What is acknowledged is held no more.
        self.acknowledged += held - self.totals.held;
        if delivered == Some(true) {
            self.events.push_back(StreamEvent::Delivered(StreamId(id)));
            self.reap(id);
        }
    }

    /// A piece is lost: it is sent again.
    pub(super) fn on_lost(&mut self, id: u64, offset: u64, length: u64, fin: bool, why: Why) {
        let load = self.sending(id, |sending| {
            sending.on_lost(offset, length, fin, why);
            sending.load()
        });
        if load.is_some_and(|load| load.urgent) {
            self.enqueue(id);
        }
    }

    /// RESET_STREAM arrived.
    pub(super) fn on_reset_acked(&mut self, id: u64) {
        self.sending(id, Sending::on_reset_acked);
        self.reap(id);
    }

    /// Whether a stream has been sent to its end, so that its last pieces may be sent again.
    pub(super) fn has_tail(&self) -> bool {
        self.totals.tails > 0
    }

    /// The next piece, from the end backwards, of a stream that has been sent to its end; no more
    /// than `most` bytes of each stream in one walk, and no more than so many walks.
    pub(super) fn tail_piece(&mut self, room: usize, most: u64, walks: u8) -> Option<Piece> {
        if !self.has_tail() {
            return None;
        }
        let (&id, _) = self
            .open
            .iter()
            .find(|(_, stream)| stream.sending.load().tail)?;
        self.sending(id, |sending| sending.tail_piece(id, room, most, walks))?
    }

    /// Whether the peer has yet to acknowledge a piece.
    pub(super) fn is_unacked(&self, piece: &Piece) -> bool {
        let stream = self.open.get(&piece.id);
        stream.is_some_and(|stream| stream.sending.is_unacked(piece))
    }

    /// Forgets a stream whose two sides are over.
    fn reap(&mut self, id: u64) {
        let over = |stream: &Stream| stream.sending.is_over() && stream.receiving.is_over();
        if !self.open.get(&id).is_some_and(over) {
            return;
        }
        if let Some(stream) = self.open.remove(&id) {
            self.totals.replace(stream.sending.load(), Load::default());
        }
        if self.open.is_empty() {
            // An empty map keeps the room of its last eleven.
            self.open = BTreeMap::new();
        }
        self.control.retain(|control| control.stream() != id);
        self.finished_streams += 1;
        if !self.client {
            let limit = self.ours.streams + self.finished_streams;
            // Not each end is worth a frame.
            self.max_streams_due |= limit >= self.max_streams + self.ours.streams.div_ceil(4);
        }
    }

    /// Streams open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests;
