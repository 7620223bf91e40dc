//! What is sent again because nothing else is left to send.

use std::collections::VecDeque;

use super::{Connection, streams::Piece};
use crate::rudp::packet::frame::stream_header_len;

/// Retransmissions that are sent twice at a transfer's end.
const TWICE: usize = 64;

/// The end of a transfer over a lossy path.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Retransmissions, which are sent twice, too.
    again: VecDeque<Piece>,
}

impl Connection {
    /// Notes a retransmission.
    pub(super) fn note_retransmission(&mut self, piece: Piece) {
        if self.tail.again.len() < TWICE && self.is_lossy() {
            self.tail.again.push_back(piece);
        }
    }

    /// Whether so much gets lost that a transfer's last packets are worth being sent again.
    fn is_lossy(&self) -> bool {
        self.stats.packets_lost * 200 >= self.stats.packets_sent
    }

    pub(super) fn tail_due(&self) -> bool {
        self.is_lossy() && (!self.tail.again.is_empty() || self.streams.has_tail())
    }

    /// At the end of a transfer over a lossy path there is room but nothing new to send. A loss among
    /// the last packets costs a whole round trip; sending them again, the last first, mostly saves
    /// it. No more than half a round trip's worth: what is older will be heard of sooner.
    pub(super) fn tail_piece(&mut self, left: usize) -> Option<Piece> {
        if !self.is_lossy() {
            return None;
        }
        let header = stream_header_len(u64::from(u32::MAX), u64::from(u32::MAX), Some(left));
        let room = left.checked_sub(header + 1)?;
        while let Some(piece) = self.tail.again.pop_front() {
            if piece.length <= room && self.streams.is_unacked(&piece) {
                return Some(Piece {
                    again: false,
                    ..piece
                });
            }
        }
        let half = self.path.rtt.smoothed() / 2;
        let most = u128::from(self.stats.delivery_rate) * half.as_micros() / 1_000_000;
        self.streams
            .tail_piece(room, u64::try_from(most).unwrap_or(u64::MAX))
    }
}
