//! The peer's half of a stream: what arrived of it, and how far it was read.

use super::{
    Violation,
    assembler::Assembler,
    stream::{Read, StreamError},
};
use crate::rudp::packet::ErrorCode;

/// The half that the peer sends.
#[derive(Debug)]
pub(super) struct Receiving {
    assembler: Assembler,
    /// We have told the peer that it may send up to here.
    limit: u64,
    /// The length, once the peer told.
    final_size: Option<u64>,
    end: End,
    /// The application wants no more, for this reason.
    stopped: Option<u64>,
    /// The application was told that there is something, and has not found the end of it yet.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The peer gave it up; the application has not heard yet.
    Reset(u64),
    Done,
}

/// What the connection has to know of what came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    /// So many bytes more count against the connection's limit.
    pub(super) new: u64,
    /// So many need not be read any more.
    pub(super) consumed: u64,
    /// The application is to be told.
    pub(super) readable: bool,
}

impl Receiving {
    /// Nothing has come yet; the peer was told that it may send up to `limit`.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            assembler: Assembler::new(),
            limit,
            final_size: None,
            end: End::Open,
            stopped: None,
            told: false,
        }
    }

    /// STREAM; the connection's limit allows `room` bytes more.
    pub(super) fn on_stream(
        &mut self,
        offset: u64,
        fin: bool,
        data: &[u8],
        room: u64,
    ) -> Result<Arrived, Violation> {
        // A frame reaches to 2^62 at the most.
        let end = offset.saturating_add(data.len() as u64);
        let received = self.assembler.received_end();
        if self
            .final_size
            .is_some_and(|size| end > size || fin && end != size)
            || fin && end < received
        {
            return Err((ErrorCode::FINAL_SIZE_ERROR, "the stream's length changed"));
        }
        let new = self.count(end, room)?;
        if fin {
            self.final_size = Some(end);
        }
        if self.end != End::Open {
            return Ok(Arrived::default());
        }
        if self.stopped.is_some() {
            self.assembler.note_end(end);
            self.end_if_stopped();
            return Ok(Arrived {
                new,
                consumed: new,
                readable: false,
            });
        }
        let before = self.ready_end();
        self.assembler
            .insert(offset, data)
            .map_err(|_| (ErrorCode::FLOW_CONTROL_ERROR, "too many gaps"))?;
        let ready = self.ready_end();
        let readable = !self.told && (ready > before || self.final_size == Some(ready));
        self.told |= readable;
        Ok(Arrived {
            new,
            consumed: 0,
            readable,
        })
    }

    /// RESET_STREAM; the connection's limit allows `room` bytes more.
    pub(super) fn on_reset(
        &mut self,
        code: u64,
        size: u64,
        room: u64,
    ) -> Result<Arrived, Violation> {
        let received = self.assembler.received_end();
        if self.final_size.is_some_and(|known| known != size) || size < received {
            return Err((ErrorCode::FINAL_SIZE_ERROR, "the stream's length changed"));
        }
        let new = self.count(size, room)?;
        if self.end != End::Open {
            return Ok(Arrived::default());
        }
        // What a stopped stream received was given up before.
        let stopped = self.stopped.is_some();
        let given_up = if stopped {
            received
        } else {
            self.assembler.offset()
        };
        self.final_size = Some(size);
        self.assembler.note_end(size);
        self.assembler.discard();
        self.end = if stopped { End::Done } else { End::Reset(code) };
        Ok(Arrived {
            new,
            consumed: size - given_up,
            readable: !stopped,
        })
    }

    /// How many bytes up to `end` are new to the limits.
    fn count(&self, end: u64, room: u64) -> Result<u64, Violation> {
        if end > self.limit {
            return Err((ErrorCode::FLOW_CONTROL_ERROR, "beyond the stream's limit"));
        }
        let new = end.saturating_sub(self.assembler.received_end());
        if new > room {
            return Err((
                ErrorCode::FLOW_CONTROL_ERROR,
                "beyond the connection's limit",
            ));
        }
        Ok(new)
    }

    /// Bytes up to here can be, or were, read.
    fn ready_end(&self) -> u64 {
        self.assembler.offset() + self.assembler.readable()
    }

    /// Takes at most `max` bytes that arrived in order.
    pub(super) fn read(&mut self, max: usize) -> Result<Read, StreamError> {
        if let End::Reset(code) = self.end {
            self.end = End::Done;
            return Ok(Read::Reset(code));
        }
        if self.stopped.is_some() || self.end == End::Done {
            return Err(StreamError::Closed);
        }
        if let Some(bytes) = self.assembler.read(max) {
            return Ok(Read::Data(bytes));
        }
        self.told = false;
        if self.final_size == Some(self.assembler.offset()) {
            self.end = End::Done;
            return Ok(Read::Finished);
        }
        Ok(Read::Blocked)
    }

    /// Wants no more of it. How many bytes that came need not be read any more; `None`: it has
    /// ended, or was stopped before.
    pub(super) fn stop(&mut self, code: u64) -> Option<u64> {
        if self.stopped.is_some() || self.end != End::Open {
            return None;
        }
        self.stopped = Some(code);
        let unread = self.assembler.received_end() - self.assembler.offset();
        self.assembler.discard();
        // Its end may have come before.
        self.end_if_stopped();
        Some(unread)
    }

    fn end_if_stopped(&mut self) {
        if self.stopped.is_some() && self.final_size == Some(self.assembler.received_end()) {
            self.end = End::Done;
        }
    }

    /// Why the application wants no more of it, if it does not.
    pub(super) fn stopped(&self) -> Option<u64> {
        self.stopped
    }

    /// Whether half of the window was read since the peer was last told of a limit: the other half
    /// keeps it going until it hears of the new one.
    pub(super) fn is_limit_due(&self, window: u64) -> bool {
        self.final_size.is_none() && self.assembler.offset() + window >= self.limit + window / 2
    }

    /// The new limit, to be told now; `None`: not needed any more.
    pub(super) fn grant(&mut self, window: u64) -> Option<u64> {
        if self.final_size.is_some() || self.stopped.is_some() {
            return None;
        }
        self.limit = self.limit.max(self.assembler.offset() + window);
        Some(self.limit)
    }

    /// Whether the application has heard of its end, or wants no more and the end has come.
    pub(super) fn is_over(&self) -> bool {
        self.end == End::Done
    }
}
