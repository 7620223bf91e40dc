//! The streams of a connection and its flow control (RFC 9000 sections 2 to 4).
//!
//! All streams are bidirectional and opened by the client, which numbers them from 0.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;

use super::{assembler::Assembler, send_buffer::SendBuffer};
use crate::rudp::packet::ErrorCode;

/// Names a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Why a stream can't be used so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer allows no more of them now.
    #[error("the peer allows no more streams at a time")]
    Exhausted,
    /// It is finished, or never was.
    #[error("the stream is not open")]
    Closed,
}

/// What came out of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Bytes.
    Data(Bytes),
    /// No more for now.
    Blocked,
    /// All were read.
    Finished,
    /// The peer gave it up, with this code.
    Reset(u64),
}

/// What the application should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The peer opened it.
    Opened(StreamId),
    /// It has bytes to read, or its end.
    Readable(StreamId),
    /// Less than [`Streams::LOW`] bytes of it wait to be sent for the first time.
    Writable(StreamId),
    /// Everything written, its end included, has arrived.
    Delivered(StreamId),
    /// The peer wants no more of it, for this reason.
    Stopped(StreamId, u64),
    /// More streams may be opened.
    Available,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendBuffer,
    /// The peer reads up to here.
    pub(super) send_limit: u64,
    /// The stream's length, once known.
    fin: Option<Fin>,
    /// We gave it up, with this code, after so many bytes.
    pub(super) reset: Option<Reset>,
    queued: bool,
    /// The application was told that it is full and wants to hear when it isn't.
    wants_room: bool,
    /// Where the walk back from the end stands that sends the last pieces twice, and how far it
    /// has come.
    tail: Tail,

    receive: Assembler,
    /// We have told the peer that it may send up to here.
    receive_limit: u64,
    /// The length, once the peer told.
    final_size: Option<u64>,
    receive_end: ReceiveEnd,
    /// The application wants no more.
    pub(super) stopped: Option<u64>,
    readable_told: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    before: Option<u64>,
    sent: u64,
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    Pending,
    Sent,
    Acked,
}

/// A stream given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) code: u64,
    pub(super) final_size: u64,
    acked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReceiveEnd {
    Open,
    /// The peer gave it up; the application has not heard yet.
    Reset(u64),
    Done,
}

impl Stream {
    fn has_tail(&self) -> bool {
        !self.tail.done
            && self.fin == Some(Fin::Sent)
            && self.reset.is_none()
            && !self.send.has_retransmissions()
            && self.send.unsent() == 0
            && self.send.unacked() > 0
    }
}

/// The limits that one side sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connection: u64,
    pub(super) stream: u64,
    pub(super) streams: u64,
}

/// All streams of a connection.
#[derive(Debug)]
pub struct Streams {
    client: bool,
    open: BTreeMap<u64, Stream>,
    /// Streams below were opened at some time.
    next: u64,
    /// Streams below may be opened: by us if we are the client.
    pub(super) max_streams: u64,
    /// Streams with something to send, in turn.
    queue: VecDeque<u64>,
    ours: Limits,
    theirs: Limits,
    /// Bytes sent for the first time, of all streams.
    sent: u64,
    /// The peer lets us send so many.
    pub(super) send_limit: u64,
    /// Bytes that the peer has used of its limit, and what it may.
    received: u64,
    pub(super) receive_limit: u64,
    /// Bytes that the application has read or that will never be.
    consumed: u64,
    pub(super) events: VecDeque<StreamEvent>,
    /// Control frames due.
    pub(super) max_data_due: bool,
    pub(super) max_streams_due: bool,
    pub(super) control: VecDeque<Control>,
    control_set: HashSet<Control>,
    finished_streams: u64,
}

/// A control frame about one stream that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Control {
    MaxStreamData(u64),
    Reset(u64),
    Stop(u64),
}

/// A piece of a stream to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) fin: bool,
    pub(super) again: bool,
}

type Violation = (ErrorCode, &'static str);

impl Streams {
    /// Below so many unsent bytes a stream asks for more.
    pub const LOW: u64 = 256 << 10;

    pub(super) fn new(client: bool, ours: Limits, theirs: Limits) -> Self {
        Self {
            client,
            open: BTreeMap::new(),
            next: 0,
            max_streams: if client { theirs.streams } else { ours.streams },
            queue: VecDeque::new(),
            ours,
            theirs,
            sent: 0,
            send_limit: theirs.connection,
            received: 0,
            receive_limit: ours.connection,
            consumed: 0,
            events: VecDeque::new(),
            max_data_due: false,
            max_streams_due: false,
            control: VecDeque::new(),
            control_set: HashSet::new(),
            finished_streams: 0,
        }
    }

    /// Takes the peer's limits, which the client learns with the handshake's end.
    pub(super) fn set_theirs(&mut self, theirs: Limits) {
        self.theirs = theirs;
        self.send_limit = theirs.connection;
        if self.client {
            self.max_streams = theirs.streams;
        }
        for stream in self.open.values_mut() {
            stream.send_limit = theirs.stream;
        }
    }

    fn fresh(&self) -> Stream {
        Stream {
            send: SendBuffer::new(),
            send_limit: self.theirs.stream,
            fin: None,
            reset: None,
            queued: false,
            wants_room: false,
            tail: Tail::default(),
            receive: Assembler::new(),
            receive_limit: self.ours.stream,
            final_size: None,
            receive_end: ReceiveEnd::Open,
            stopped: None,
            readable_told: false,
        }
    }

    /// Opens one more.
    pub(super) fn open(&mut self) -> Result<StreamId, StreamError> {
        if !self.client || self.next >= self.max_streams {
            return Err(StreamError::Exhausted);
        }
        let id = self.next;
        self.next += 1;
        let stream = self.fresh();
        self.open.insert(id, stream);
        Ok(StreamId(id))
    }

    /// Adds bytes to what is to be sent.
    pub(super) fn write(&mut self, id: StreamId, data: Bytes) -> Result<(), StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if stream.fin.is_some() || stream.reset.is_some() {
            return Err(StreamError::Closed);
        }
        stream.send.write(data);
        stream.wants_room = stream.send.unsent() >= Self::LOW;
        Self::enqueue(&mut self.queue, id.0, stream);
        Ok(())
    }

    /// Bytes written to it and not yet acknowledged, and of these not yet sent.
    pub(super) fn held(&self, id: StreamId) -> (u64, u64) {
        self.open.get(&id.0).map_or((0, 0), |stream| {
            (stream.send.unacked(), stream.send.unsent())
        })
    }

    /// Bytes written to all streams and not yet acknowledged.
    pub(super) fn held_by_all(&self) -> u64 {
        self.open.values().map(|stream| stream.send.unacked()).sum()
    }

    /// Ends our side of it after what was written.
    pub(super) fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if stream.fin.is_some() || stream.reset.is_some() {
            return Err(StreamError::Closed);
        }
        stream.fin = Some(Fin::Pending);
        Self::enqueue(&mut self.queue, id.0, stream);
        Ok(())
    }

    /// Gives up our side of it.
    pub(super) fn reset(&mut self, id: StreamId, code: u64) -> Result<(), StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if stream.reset.is_some() || stream.fin == Some(Fin::Acked) {
            return Err(StreamError::Closed);
        }
        stream.reset = Some(Reset {
            code,
            final_size: stream.send.sent_end(),
            acked: false,
        });
        stream.send = SendBuffer::new();
        self.push_control(Control::Reset(id.0));
        Ok(())
    }

    /// Wants no more of the peer's side of it.
    pub(super) fn stop(&mut self, id: StreamId, code: u64) -> Result<(), StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if stream.stopped.is_none() && stream.receive_end == ReceiveEnd::Open {
            stream.stopped = Some(code);
            // What nobody reads does not hold up the other streams.
            self.consumed += stream.receive.received_end() - stream.receive.offset();
            stream.receive.discard();
            self.push_control(Control::Stop(id.0));
            self.renew_max_data();
            // Its end may have come before.
            self.finish_stopped(id.0);
        }
        Ok(())
    }

    /// Takes at most `max` bytes that arrived in order.
    pub(super) fn read(&mut self, id: StreamId, max: usize) -> Result<Read, StreamError> {
        let stream = self.open.get_mut(&id.0).ok_or(StreamError::Closed)?;
        if let ReceiveEnd::Reset(code) = stream.receive_end {
            stream.receive_end = ReceiveEnd::Done;
            self.reap(id.0);
            return Ok(Read::Reset(code));
        }
        if stream.stopped.is_some() || stream.receive_end == ReceiveEnd::Done {
            return Err(StreamError::Closed);
        }
        if let Some(bytes) = stream.receive.read(max) {
            self.consumed += bytes.len() as u64;
            // Half of the window is the room that keeps the sender going until this arrives.
            let limit = stream.receive.offset() + self.ours.stream;
            if limit >= stream.receive_limit + self.ours.stream / 2 && stream.final_size.is_none() {
                self.push_control(Control::MaxStreamData(id.0));
            }
            self.renew_max_data();
            return Ok(Read::Data(bytes));
        }
        stream.readable_told = false;
        if stream.final_size == Some(stream.receive.offset()) {
            stream.receive_end = ReceiveEnd::Done;
            self.reap(id.0);
            return Ok(Read::Finished);
        }
        Ok(Read::Blocked)
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
        let stream = self.open.get_mut(&id)?;
        if stream.final_size.is_some() || stream.stopped.is_some() {
            return None;
        }
        stream.receive_limit = stream.receive_limit.max(stream.receive.offset() + window);
        Some(stream.receive_limit)
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
        if self.control_set.insert(control) {
            self.control.push_back(control);
        }
    }

    pub(super) fn pop_control(&mut self) -> Option<Control> {
        let control = self.control.pop_front()?;
        self.control_set.remove(&control);
        Some(control)
    }

    fn enqueue(queue: &mut VecDeque<u64>, id: u64, stream: &mut Stream) {
        if !stream.queued {
            stream.queued = true;
            queue.push_back(id);
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
                let stream = self.fresh();
                self.open.insert(self.next, stream);
                self.events
                    .push_back(StreamEvent::Opened(StreamId(self.next)));
                self.next += 1;
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
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end < 1 << 62)
            .ok_or((ErrorCode::FLOW_CONTROL_ERROR, "an offset beyond 2^62"))?;
        let (received, receive_limit) = (self.received, self.receive_limit);
        let Some(stream) = self.of_peer(id)? else {
            return Ok(());
        };
        if stream
            .final_size
            .is_some_and(|size| end > size || fin && end != size)
            || fin && end < stream.receive.received_end()
        {
            return Err((ErrorCode::FINAL_SIZE_ERROR, "the stream's length changed"));
        }
        if end > stream.receive_limit {
            return Err((ErrorCode::FLOW_CONTROL_ERROR, "beyond the stream's limit"));
        }
        let new = end.saturating_sub(stream.receive.received_end());
        if received + new > receive_limit {
            return Err((
                ErrorCode::FLOW_CONTROL_ERROR,
                "beyond the connection's limit",
            ));
        }
        let was_end = stream.receive.offset() + stream.receive.readable();
        if fin {
            stream.final_size = Some(end);
        }
        if stream.receive_end != ReceiveEnd::Open {
            return Ok(());
        }
        if stream.stopped.is_some() {
            stream.receive.note_end(end);
            self.received += new;
            self.consumed += new;
            self.finish_stopped(id);
            self.renew_max_data();
            return Ok(());
        }
        stream
            .receive
            .insert(offset, data)
            .map_err(|_| (ErrorCode::FLOW_CONTROL_ERROR, "too many gaps"))?;
        let readable = stream.receive.offset() + stream.receive.readable();
        let finished = stream.final_size == Some(readable) && fin;
        if (readable > was_end || finished || stream.final_size == Some(readable))
            && !stream.readable_told
        {
            stream.readable_told = true;
            self.events.push_back(StreamEvent::Readable(StreamId(id)));
        }
        self.received += new;
        Ok(())
    }

    fn finish_stopped(&mut self, id: u64) {
        if let Some(stream) = self.open.get_mut(&id)
            && stream.stopped.is_some()
            && stream.final_size == Some(stream.receive.received_end())
        {
            stream.receive_end = ReceiveEnd::Done;
            self.reap(id);
        }
    }

    /// RESET_STREAM
    pub(super) fn on_reset(&mut self, id: u64, code: u64, size: u64) -> Result<(), Violation> {
        let (received, receive_limit) = (self.received, self.receive_limit);
        let Some(stream) = self.of_peer(id)? else {
            return Ok(());
        };
        if stream.final_size.is_some_and(|known| known != size)
            || size < stream.receive.received_end()
        {
            return Err((ErrorCode::FINAL_SIZE_ERROR, "the stream's length changed"));
        }
        let new = size - stream.receive.received_end();
        if size > stream.receive_limit || received + new > receive_limit {
            return Err((ErrorCode::FLOW_CONTROL_ERROR, "reset beyond the limit"));
        }
        if stream.receive_end != ReceiveEnd::Open {
            return Ok(());
        }
        // What a stopped stream received was given up before.
        let given_up = match stream.stopped {
            Some(_) => stream.receive.received_end(),
            None => stream.receive.offset(),
        };
        let stopped = stream.stopped.is_some();
        stream.final_size = Some(size);
        stream.receive.note_end(size);
        stream.receive.discard();
        stream.receive_end = if stopped {
            ReceiveEnd::Done
        } else {
            ReceiveEnd::Reset(code)
        };
        self.received += new;
        self.consumed += size - given_up;
        if stopped {
            self.reap(id);
        } else {
            self.events.push_back(StreamEvent::Readable(StreamId(id)));
        }
        self.renew_max_data();
        Ok(())
    }

    /// STOP_SENDING
    pub(super) fn on_stop(&mut self, id: u64, code: u64) -> Result<(), Violation> {
        let Some(stream) = self.of_peer(id)? else {
            return Ok(());
        };
        if stream.reset.is_none() && stream.fin != Some(Fin::Acked) {
            self.events
                .push_back(StreamEvent::Stopped(StreamId(id), code));
            // Cannot fail: the stream is open and was not given up.
            let _ = self.reset(StreamId(id), code);
        }
        Ok(())
    }

    /// MAX_DATA
    pub(super) fn on_max_data(&mut self, limit: u64) {
        if limit > self.send_limit {
            self.send_limit = limit;
        }
    }

    /// MAX_STREAM_DATA
    pub(super) fn on_max_stream_data(&mut self, id: u64, limit: u64) -> Result<(), Violation> {
        let Some(stream) = self.of_peer(id)? else {
            return Ok(());
        };
        if limit > stream.send_limit {
            stream.send_limit = limit;
            let pending = stream.send.has_pending(limit);
            if pending && let Some(stream) = self.open.get_mut(&id) {
                Self::enqueue(&mut self.queue, id, stream);
            }
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
        let room = self.send_limit > self.sent;
        self.queue.iter().any(|id| {
            self.open.get(id).is_some_and(|stream| {
                stream.reset.is_none()
                    && (stream.send.has_retransmissions()
                        || stream.fin == Some(Fin::Pending) && stream.send.unsent() == 0
                        || room && stream.send.has_pending(stream.send_limit))
            })
        })
    }

    /// Whether the next piece was sent before.
    pub(super) fn is_repeating(&self) -> bool {
        let next = self.queue.front().and_then(|id| self.open.get(id));
        next.is_some_and(|stream| stream.send.has_retransmissions())
    }

    /// The next piece to send, of at most `room(id, offset)` bytes.
    pub(super) fn next_piece(&mut self, room: impl Fn(u64, u64) -> usize) -> Option<Piece> {
        for _ in 0..self.queue.len() {
            let id = *self.queue.front()?;
            let piece = self.piece_of(id, &room);
            match piece {
                // Each in turn, a packet at a time.
                Some(piece) => {
                    if self.queue.len() > 1 {
                        self.queue.rotate_left(1);
                    }
                    return Some(piece);
                }
                None => {
                    self.queue.pop_front();
                    let blocked = self.open.get_mut(&id).is_some_and(|stream| {
                        stream.queued = false;
                        stream.reset.is_none()
                            && stream.send.unsent() > 0
                            && stream.send.sent_end() < stream.send_limit
                    });
                    // Held up by the connection's limit alone: its turn comes with MAX_DATA.
                    if blocked && let Some(stream) = self.open.get_mut(&id) {
                        Self::enqueue(&mut self.queue, id, stream);
                    }
                }
            }
        }
        None
    }

    fn piece_of(&mut self, id: u64, room: &impl Fn(u64, u64) -> usize) -> Option<Piece> {
        let connection_room = self.send_limit - self.sent;
        let stream = self.open.get_mut(&id)?;
        if stream.reset.is_some() {
            return None;
        }
        let before = stream.send.sent_end();
        let limit = stream
            .send_limit
            .min(before.saturating_add(connection_room));
        let most = room(id, before);
        if most == 0 {
            return None;
        }
        if let Some(range) = stream.send.next(most, limit) {
            let again = range.end <= before;
            self.sent += stream.send.sent_end() - before;
            let last = stream.send.unsent() == 0 && range.end == stream.send.offset();
            let fin = last && stream.fin.is_some();
            if fin && stream.fin == Some(Fin::Pending) {
                stream.fin = Some(Fin::Sent);
            }
            if stream.wants_room && stream.send.unsent() < Self::LOW {
                stream.wants_room = false;
                self.events.push_back(StreamEvent::Writable(StreamId(id)));
            }
            return Some(Piece {
                id,
                offset: range.start,
                length: usize::try_from(range.end - range.start).unwrap_or(0),
                fin,
                again,
            });
        }
        if stream.fin == Some(Fin::Pending) && stream.send.unsent() == 0 {
            stream.fin = Some(Fin::Sent);
            return Some(Piece {
                id,
                offset: stream.send.offset(),
                length: 0,
                fin: true,
                again: false,
            });
        }
        None
    }

    /// Appends the bytes of a piece.
    pub(super) fn copy_piece(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        if let Some(stream) = self.open.get_mut(&piece.id) {
            let range = piece.offset..piece.offset + piece.length as u64;
            stream.send.copy_into(range, out);
        }
    }

    /// A piece arrived.
    pub(super) fn on_acked(&mut self, id: u64, offset: u64, length: u64, fin: bool) {
        let Some(stream) = self.open.get_mut(&id) else {
            return;
        };
        if stream.reset.is_some() {
            return;
        }
        stream.send.on_ack(offset..offset + length);
        if fin {
            stream.fin = Some(Fin::Acked);
        }
        if stream.fin == Some(Fin::Acked) && stream.send.is_drained() {
            self.events.push_back(StreamEvent::Delivered(StreamId(id)));
            self.reap(id);
        }
    }

    /// A piece is lost: it is sent again.
    pub(super) fn on_lost(&mut self, id: u64, offset: u64, length: u64, fin: bool) {
        let Some(stream) = self.open.get_mut(&id) else {
            return;
        };
        if stream.reset.is_some() {
            return;
        }
        stream.send.on_lost(offset..offset + length);
        if fin && stream.fin == Some(Fin::Sent) {
            stream.fin = Some(Fin::Pending);
        }
        Self::enqueue(&mut self.queue, id, stream);
    }

    /// RESET_STREAM arrived.
    pub(super) fn on_reset_acked(&mut self, id: u64) {
        if let Some(Reset { acked, .. }) = self.open.get_mut(&id).and_then(|s| s.reset.as_mut()) {
            *acked = true;
            self.reap(id);
        }
    }

    /// Whether a stream has been sent to its end, so that its last pieces may be sent twice.
    pub(super) fn has_tail(&self) -> bool {
        self.open.values().any(Stream::has_tail)
    }

    /// The next piece, from the end backwards, of a stream that has been sent to its end; no more
    /// than `most` bytes of each stream.
    pub(super) fn tail_piece(&mut self, room: usize, most: u64) -> Option<Piece> {
        let (id, stream) = self.open.iter_mut().find(|(_, stream)| stream.has_tail())?;
        let before = stream.tail.before.unwrap_or(u64::MAX);
        let range = (stream.tail.sent < most)
            .then(|| stream.send.tail_unacked(before, room as u64))
            .flatten();
        let Some(range) = range else {
            stream.tail.done = true;
            return None;
        };
        stream.tail.before = Some(range.start);
        stream.tail.sent += range.end - range.start;
        Some(Piece {
            id: *id,
            offset: range.start,
            length: usize::try_from(range.end - range.start).unwrap_or(0),
            fin: range.end == stream.send.offset(),
            again: false,
        })
    }

    /// Whether the peer has yet to acknowledge a piece.
    pub(super) fn is_unacked(&self, piece: &Piece) -> bool {
        let end = piece.offset + piece.length as u64;
        self.open.get(&piece.id).is_some_and(|stream| {
            stream.reset.is_none()
                && piece.length > 0
                && stream.send.tail_unacked(end, piece.length as u64) == Some(piece.offset..end)
        })
    }

    /// Forgets a stream whose two sides are over.
    fn reap(&mut self, id: u64) {
        let over = self.open.get(&id).is_some_and(|stream| {
            let sent = match stream.reset {
                Some(reset) => reset.acked,
                None => stream.fin == Some(Fin::Acked) && stream.send.is_drained(),
            };
            sent && stream.receive_end == ReceiveEnd::Done
        });
        if over {
            self.open.remove(&id);
            if self.open.is_empty() {
                // An empty map keeps the room of its last eleven.
                self.open = BTreeMap::new();
            }
            self.finished_streams += 1;
            if !self.client {
                let limit = self.ours.streams + self.finished_streams;
                // Not each end is worth a frame.
                self.max_streams_due |= limit >= self.max_streams + self.ours.streams.div_ceil(4);
            }
        }
    }

    /// Streams open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}
