//! What is sent again because nothing else is left to send.

use std::collections::VecDeque;

use super::{Connection, send_buffer::Why, sending::MOST_WALKS, stream::Piece};
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
    /// Notes a piece that has left, if it is a retransmission.
    pub(super) fn note_retransmission(&mut self, piece: Piece) {
        let repeats = piece.again.is_some_and(|why| why != Why::Tail);
        if repeats && self.tail.again.len() < TWICE && self.tail_walks() > 0 {
            self.tail.again.push_back(piece);
        }
    }

    fn tail_walks(&self) -> u8 {
        walks(self.stats.packets_lost, self.stats.packets_sent)
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
                    again: Some(Why::Tail),
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

/// How often a transfer's last packets are worth being sent again. Half a round trip of 50 ms holds 200 of
/// them at 100 Mbit/s. Where one of 2,000 gets lost, each tenth transfer loses one of them; where one of 200
/// does, two of three; and where one of twenty does, two of five lose both packets of a piece, for which
/// there is a second walk.
fn walks(lost: u64, sent: u64) -> u8 {
    if lost * 200 >= sent {
        MOST_WALKS
    } else {
        u8::from(lost * 2000 >= sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_gets_lost_the_more_often_the_end_is_sent_again() {
        let of_10_000 = [0, 4, 5, 49, 50, 500].map(|lost| walks(lost, 10_000));
        assert_eq!(of_10_000, [0, 0, 1, 1, 2, 2]);
    }
}
