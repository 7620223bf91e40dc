//! What is sent again because nothing else is left to send.

use std::collections::VecDeque;

use super::{Connection, sending::MOST_WALKS, streams::Piece};
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
        if self.tail.again.len() < TWICE && self.tail_walks() > 0 {
            self.tail.again.push_back(piece);
        }
    }

    /// How often a transfer's last packets are worth being sent again. Of 200 packets, half a round trip
    /// of 50 ms at 100 Mbit/s, one of 2,000 gets lost in each tenth transfer; one of twenty loses both of
    /// its packets in two of five.
    fn tail_walks(&self) -> u8 {
        let (lost, sent) = (self.stats.packets_lost, self.stats.packets_sent);
        if lost * 200 >= sent {
            MOST_WALKS
        } else {
            u8::from(lost * 2000 >= sent)
        }
    }

    pub(super) fn tail_due(&self) -> bool {
        let any = !self.tail.again.is_empty() || self.streams.has_tail();
        any && self.tail_walks() > 0
    }

    /// At the end of a transfer over a lossy path there is room but nothing new to send. A loss among
    /// the last packets costs a whole round trip; sending them again, the last first, mostly saves
    /// it. No more than half a round trip's worth: what is older will be heard of sooner.
    pub(super) fn tail_piece(&mut self, left: usize) -> Option<Piece> {
        let walks = self.tail_walks();
        if walks == 0 {
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
            .tail_piece(room, u64::try_from(most).unwrap_or(u64::MAX), walks)
    }
}
