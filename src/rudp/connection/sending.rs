//! Our half of a stream: what was written to it, and how far it has come.

use bytes::Bytes;

use super::{
    send_buffer::{SendBuffer, Why},
    stream::{LOW, Piece, StreamError},
};

/// The half that we send.
#[derive(Debug)]
pub(super) struct Sending {
    buffer: SendBuffer,
    /// The peer takes bytes up to here.
    limit: u64,
    /// Whether the stream's length is known to the peer, once it is to us.
    fin: Option<Fin>,
    /// We gave it up.
    reset: Option<Reset>,
    /// Has its place in the queue of streams with something to send.
    pub(super) queued: bool,
    /// The application was told that it is full and wants to hear when it isn't.
    wants_room: bool,
    tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    Pending,
    Sent,
    Acked,
}

/// A half given up: with which code, after how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) code: u64,
    pub(super) final_size: u64,
    acked: bool,
}

/// Walks back from the end that send the last pieces again, at most: a piece of which both packets got
/// lost waits a round trip for the third. (A second walk of half the length gains next to nothing,
/// simulated.)
pub(super) const MOST_WALKS: u8 = 2;

/// Where such a walk stands, how many bytes it has sent, and how many walks are over.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    before: Option<u64>,
    sent: u64,
    over: u8,
}

/// What a stream asks of the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Bytes written and not yet acknowledged.
    pub(super) held: u64,
    /// Something is to be sent that the connection's limit does not hold back.
    pub(super) urgent: bool,
    /// Bytes are to be sent for the first time, as far as the stream's own limit goes.
    pub(super) fresh: bool,
    /// Bytes are to be sent for the first time, but the stream's own limit is reached.
    pub(super) held_back: bool,
    /// The stream was sent to its end, and its last pieces may be sent again.
    pub(super) tail: bool,
}

impl Sending {
    /// Nothing is written yet; the peer takes bytes up to `limit`.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            buffer: SendBuffer::new(),
            limit,
            fin: None,
            reset: None,
            queued: false,
            wants_room: false,
            tail: Tail::default(),
        }
    }

    pub(super) fn load(&self) -> Load {
        if self.reset.is_some() {
            return Load::default();
        }
        let held = self.buffer.unacked();
        let all_sent = self.buffer.unsent() == 0;
        let urgent =
            self.buffer.has_retransmissions() || self.fin == Some(Fin::Pending) && all_sent;
        let fresh = self.buffer.has_unsent(self.limit);
        Load {
            held,
            urgent,
            fresh,
            held_back: !fresh && !all_sent,
            tail: self.tail.over < MOST_WALKS
                && self.fin == Some(Fin::Sent)
                && !urgent
                && all_sent
                && held > 0,
        }
    }

    /// Bytes written and never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.buffer.unsent()
    }

    /// Whether the next piece was sent before.
    pub(super) fn is_repeating(&self) -> bool {
        self.buffer.has_retransmissions()
    }

    pub(super) fn write(&mut self, data: Bytes) -> Result<(), StreamError> {
        self.check_open()?;
        self.buffer.write(data);
        self.wants_room = self.buffer.unsent() >= LOW;
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        self.check_open()?;
        self.fin = Some(Fin::Pending);
        Ok(())
    }

    fn check_open(&self) -> Result<(), StreamError> {
        if self.fin.is_some() || self.reset.is_some() {
            return Err(StreamError::Closed);
        }
        Ok(())
    }

    /// Gives it up; what is held is let go.
    pub(super) fn give_up(&mut self, code: u64) -> Result<(), StreamError> {
        if self.reset.is_some() || self.fin == Some(Fin::Acked) {
            return Err(StreamError::Closed);
        }
        self.reset = Some(Reset {
            code,
            final_size: self.buffer.sent_end(),
            acked: false,
        });
        self.buffer = SendBuffer::new();
        Ok(())
    }

    pub(super) fn reset(&self) -> Option<Reset> {
        self.reset
    }

    /// RESET_STREAM arrived.
    pub(super) fn on_reset_acked(&mut self) {
        if let Some(reset) = &mut self.reset {
            reset.acked = true;
        }
    }

    /// Takes a limit of the peer's, if it is higher than the one before.
    pub(super) fn on_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Whether it has new bytes that its own limit does not hold back.
    pub(super) fn waits_for_connection(&self) -> bool {
        self.reset.is_none() && self.buffer.has_unsent(self.limit)
    }

    /// How many bytes were sent for the first time; for the connection's limit.
    pub(super) fn sent_end(&self) -> u64 {
        self.buffer.sent_end()
    }

    /// The next piece of stream `id`, of at most `most` bytes, and of new ones no more than
    /// `connection_room`. It counts as sent.
    pub(super) fn next(&mut self, id: u64, most: usize, connection_room: u64) -> Option<Piece> {
        if self.reset.is_some() {
            return None;
        }
        let before = self.buffer.sent_end();
        let limit = self.limit.min(before.saturating_add(connection_room));
        let why = self.buffer.why(most);
        let range = match self.buffer.next(most, limit) {
            Some(range) => range,
            None if self.fin == Some(Fin::Pending) && self.buffer.unsent() == 0 => before..before,
            None => return None,
        };
        let last = self.buffer.unsent() == 0 && range.end == self.buffer.offset();
        let fin = last && self.fin.is_some();
        if fin && self.fin == Some(Fin::Pending) {
            self.fin = Some(Fin::Sent);
        }
        Some(Piece {
            id,
            offset: range.start,
            length: usize::try_from(range.end - range.start).unwrap_or(0),
            fin,
            again: why.filter(|_| !range.is_empty()),
        })
    }

    /// Whether the application is to hear now that there is room again.
    pub(super) fn take_room(&mut self) -> bool {
        let room = self.wants_room && self.buffer.unsent() < LOW;
        self.wants_room &= !room;
        room
    }

    /// Appends the bytes of a piece.
    pub(super) fn copy(&self, piece: &Piece, out: &mut Vec<u8>) {
        let range = piece.offset..piece.offset + piece.length as u64;
        self.buffer.copy_into(range, out);
    }

    /// A piece arrived; says whether everything has now, the end included.
    pub(super) fn on_acked(&mut self, offset: u64, length: u64, fin: bool) -> bool {
        if self.reset.is_some() || self.is_over() {
            return false;
        }
        self.buffer.on_ack(offset..offset + length);
        if fin {
            self.fin = Some(Fin::Acked);
        }
        self.is_over()
    }

    /// A piece is lost: it is sent again.
    pub(super) fn on_lost(&mut self, offset: u64, length: u64, fin: bool, why: Why) {
        if self.reset.is_some() {
            return;
        }
        self.buffer.on_lost(offset..offset + length, why);
        if fin && self.fin == Some(Fin::Sent) {
            self.fin = Some(Fin::Pending);
        }
    }

    /// The next piece from the end backwards, if it has been sent to its end; no more than `most`
    /// bytes in a walk, and no more than so many walks.
    pub(super) fn tail_piece(
        &mut self,
        id: u64,
        room: usize,
        most: u64,
        walks: u8,
    ) -> Option<Piece> {
        let range = loop {
            if self.tail.over >= walks {
                self.tail.over = MOST_WALKS;
                return None;
            }
            let before = self.tail.before.unwrap_or(u64::MAX);
            let range = (self.tail.sent < most)
                .then(|| self.buffer.tail_unacked(before, room as u64))
                .flatten();
            match range {
                Some(range) => break range,
                None => {
                    self.tail = Tail {
                        over: self.tail.over + 1,
                        ..Tail::default()
                    }
                }
            }
        };
        self.tail.before = Some(range.start);
        self.tail.sent += range.end - range.start;
        Some(Piece {
            id,
            offset: range.start,
            length: usize::try_from(range.end - range.start).unwrap_or(0),
            fin: range.end == self.buffer.offset(),
            again: Some(Why::Tail),
        })
    }

    /// Whether the peer has yet to acknowledge all of a piece.
    pub(super) fn is_unacked(&self, piece: &Piece) -> bool {
        let (length, end) = (piece.length as u64, piece.offset + piece.length as u64);
        self.reset.is_none()
            && length > 0
            && self.buffer.tail_unacked(end, length) == Some(piece.offset..end)
    }

    /// Whether the peer knows all of it, or that it was given up.
    pub(super) fn is_over(&self) -> bool {
        match self.reset {
            Some(reset) => reset.acked,
            None => self.fin == Some(Fin::Acked) && self.buffer.is_drained(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_acknowledged_of_the_end_goes_twice_more() {
        let written = || {
            let mut sending = Sending::new(u64::MAX);
            assert_eq!(sending.write(Bytes::from_static(&[7; 3000])), Ok(()));
            assert_eq!(sending.finish(), Ok(()));
            assert!(!sending.load().tail);
            while sending.next(4, 1000, u64::MAX).is_some() {}
            assert!(sending.load().tail);
            sending
        };
        let mut sending = written();
        let mut walk = |acked: Option<u64>| {
            if let Some(acked) = acked {
                sending.on_acked(acked, 1000, false);
            }
            let piece = sending.tail_piece(4, 1000, 2000, 2);
            (
                piece.map(|piece| (piece.offset, piece.fin)),
                sending.load().tail,
            )
        };
        assert_eq!(walk(None), (Some((2000, true)), true));
        assert_eq!(walk(None), (Some((1000, false)), true));
        assert_eq!(walk(Some(1000)), (Some((2000, true)), true));
        assert_eq!(walk(None), (Some((0, false)), true));
        assert_eq!(walk(None), (None, false));
        // Where one walk is enough, there is no more to come after it.
        let mut sending = written();
        let mut walk = || {
            sending
                .tail_piece(4, 1000, u64::MAX, 1)
                .map(|piece| piece.offset)
        };
        assert_eq!(
            [walk(), walk(), walk(), walk()],
            [Some(2000), Some(1000), Some(0), None]
        );
        assert!(!sending.load().tail);
    }
}
