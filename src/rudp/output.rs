//! What a session hands to the shell: datagrams to send, things to count.

use std::ops::Range;

use super::signal::{Answer, AnswerKind, SignalKind};

/// What sessions want sent and counted. The shell lends one to every call, acts on it and clears
/// it, so that a session at rest owns no buffers.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    replies: Vec<Packed>,
    /// Valid signals received, by [`SignalKind`].
    pub received: [u64; SignalKind::ALL.len()],
    /// Datagrams that are no signal.
    pub malformed: u64,
    /// Ids found missing.
    pub gaps: u64,
    /// Signals that came again and got their answer again.
    pub repeated: u64,
    /// Signals whose answer is no longer remembered, or that precede the session's first.
    pub too_old: u64,
    /// New signals after SIGNEND.
    pub after_end: u64,
    /// How the session's life went on, in order.
    pub changes: Vec<Change>,
}

/// Signals that a session has not taken, by the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Untaken {
    /// As [`Output::malformed`].
    pub malformed: u64,
    /// As [`Output::too_old`].
    pub too_old: u64,
    /// As [`Output::after_end`].
    pub after_end: u64,
}

/// A turn in a session's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// SIGNEND was answered: it is no longer open.
    Ended,
    /// SIGNEW came while it was open: another one has taken its place.
    Replaced,
    /// SIGNEW came after SIGNEND: another one has taken its place.
    Reopened,
}

/// One datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Its payload.
    pub bytes: &'a [u8],
    /// What it is.
    pub kind: AnswerKind,
    /// Whether it was sent before.
    pub again: bool,
    /// For the first answer to a numbered signal: the congestion window just before it shrinks.
    pub window: Option<u32>,
}

#[derive(Debug)]
struct Packed {
    range: Range<usize>,
    kind: AnswerKind,
    again: bool,
    window: Option<u32>,
}

impl Output {
    /// The datagrams to send, in order.
    pub fn replies(&self) -> impl Iterator<Item = Reply<'_>> {
        self.replies.iter().map(|packed| Reply {
            bytes: &self.bytes[packed.range.clone()],
            kind: packed.kind,
            again: packed.again,
            window: packed.window,
        })
    }

    /// What it has counted of signals that were not taken.
    pub fn untaken(&self) -> Untaken {
        Untaken {
            malformed: self.malformed,
            too_old: self.too_old,
            after_end: self.after_end,
        }
    }

    /// Empties it and keeps its memory for the next call.
    pub fn clear(&mut self) {
        let Self {
            bytes,
            replies,
            changes,
            ..
        } = std::mem::take(self);
        *self = Self {
            bytes,
            replies,
            changes,
            ..Self::default()
        };
        self.bytes.clear();
        self.replies.clear();
        self.changes.clear();
    }

    /// Adds an answer and gives its bytes.
    pub(super) fn answer(&mut self, answer: Answer<'_>, again: bool, window: Option<u32>) -> &[u8] {
        let start = self.bytes.len();
        answer.encode(&mut self.bytes);
        let range = start..self.bytes.len();
        self.replies.push(Packed {
            range: range.clone(),
            kind: answer.kind(),
            again,
            window,
        });
        &self.bytes[range]
    }

    /// Adds the bytes of an answer that was sent before.
    pub(super) fn repeat(&mut self, kind: AnswerKind, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.replies.push(Packed {
            range: start..self.bytes.len(),
            kind,
            again: true,
            window: None,
        });
    }
}
