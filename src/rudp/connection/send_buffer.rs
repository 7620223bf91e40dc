//! The bytes of one stream that the peer may not have yet.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use super::ranges::RangeSet;

/// Why bytes are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The packet that carried them was declared lost.
    Lost,
    /// No acknowledgement came in time: a probe carries what has waited longest.
    ProbeTimeout,
    /// Nothing is known, but a loss at a transfer's end costs a round trip: it goes twice to be sure.
    Tail,
    /// The packet that was to carry them never left, for the kernel did not take it: they go for the first
    /// time.
    NotSent,
}

impl Why {
    /// Where a reason that proves no loss is kept.
    fn unproven(self) -> Option<usize> {
        match self {
            Self::Lost => None,
            Self::ProbeTimeout => Some(0),
            Self::Tail => Some(1),
            Self::NotSent => Some(2),
        }
    }

    /// The reason of a packet that carries pieces sent for both, or for one: the first that repeats.
    pub(super) fn or(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match one {
            None | Some(Self::NotSent) => other.or(one),
            Some(_) => one,
        }
    }
}

/// What was written to a stream and is not yet acknowledged up to there: sent or not.
///
/// ```text
///   freed          sent              written
///     |  acked  lost | acked |    |     |
///     v  ....   !!!  v ...   v    v     v
/// ----+---------------------------+-----+--> offset
///     | held, once sent           | new |
/// ```
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// What was written, in order. The first may have an acknowledged beginning.
    chunks: VecDeque<Chunk>,
    /// Everything below is acknowledged.
    freed: u64,
    /// Acknowledged above `freed`.
    acked: RangeSet,
    /// To be sent again.
    lost: RangeSet,
    /// Of this, what is not known to be lost, by the reason, each byte for one.
    unproven: [RangeSet; 3],
    /// Everything below was sent at least once.
    sent: u64,
    /// Everything below was written.
    written: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Bytes,
}

impl SendBuffer {
    /// A stream to which nothing was written.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends to the stream. The bytes are kept, not copied.
    pub(super) fn write(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let start = self.written;
        self.written += bytes.len() as u64;
        self.chunks.push_back(Chunk { start, bytes });
    }

    /// How many bytes were written.
    pub(super) fn offset(&self) -> u64 {
        self.written
    }

    /// The range to send now, at most `max_len` bytes: what was lost first, then what is new below
    /// the flow-control offset `limit`. It counts as sent.
    pub(super) fn next(&mut self, max_len: usize, limit: u64) -> Option<Range<u64>> {
        if max_len == 0 {
            return None;
        }
        if let Some(lost) = self.lost.front() {
            let end = lost.end.min(lost.start.saturating_add(max_len as u64));
            self.no_longer_lost(lost.start..end);
            return Some(lost.start..end);
        }
        let start = self.sent;
        let end = self
            .written
            .min(limit)
            .min(start.saturating_add(max_len as u64));
        if end <= start {
            return None;
        }
        self.sent = end;
        Some(start..end)
    }

    /// Appends the bytes of a range that [`next`](Self::next) or
    /// [`tail_unacked`](Self::tail_unacked) gave. What is no longer held is left out.
    pub(super) fn copy_into(&self, range: Range<u64>, out: &mut Vec<u8>) {
        let mut from = range.start;
        let first = self
            .chunks
            .partition_point(|chunk| chunk.end() <= range.start);
        for chunk in self.chunks.range(first..) {
            if from >= range.end {
                break;
            }
            let start = from.saturating_sub(chunk.start) as usize;
            let end = (chunk.end().min(range.end) - chunk.start) as usize;
            out.extend_from_slice(&chunk.bytes[start..end]);
            from = chunk.end();
        }
    }

    /// The peer has these bytes.
    pub(super) fn on_ack(&mut self, range: Range<u64>) {
        let range = range.start.max(self.freed)..range.end.min(self.sent);
        if range.is_empty() {
            return;
        }
        if !self.lost.is_empty() {
            self.no_longer_lost(range.clone());
        }
        if range.start > self.freed {
            self.acked.insert(range);
            return;
        }
        self.freed = range.end;
        while let Some(acked) = self.acked.front()
            && acked.start <= self.freed
        {
            self.freed = self.freed.max(acked.end);
            self.acked.pop_front();
        }
        while let Some(chunk) = self.chunks.front()
            && chunk.end() <= self.freed
        {
            self.chunks.pop_front();
        }
    }

    /// A packet with these bytes was lost, or may be: what of them is not acknowledged will be sent again.
    pub(super) fn on_lost(&mut self, range: Range<u64>, why: Why) {
        let range = range.start.max(self.freed)..range.end.min(self.sent);
        for piece in self.acked.missing(range) {
            match why.unproven() {
                Some(at) => {
                    for new in self.lost.missing(piece.clone()) {
                        self.unproven[at].insert(new);
                    }
                }
                None => self
                    .unproven
                    .iter_mut()
                    .for_each(|set| set.remove(piece.clone())),
            }
            self.lost.insert(piece);
        }
    }

    /// Why what is to be sent again next is, if that is anything: the reason of the first of its bytes, at
    /// most `max_len`, that have left before.
    pub(super) fn why(&self, max_len: usize) -> Option<Why> {
        let lost = self.lost.front()?;
        let mut next = lost.start..lost.end.min(lost.start.saturating_add(max_len as u64));
        let has = |why: Why, range: &Range<u64>| {
            let set = why.unproven().map(|at| &self.unproven[at]);
            set.is_some_and(|set| set.missing(range.clone()).next().is_none())
        };
        if has(Why::NotSent, &next) {
            return Some(Why::NotSent);
        }
        let unsent = Why::NotSent.unproven().map(|at| &self.unproven[at]);
        let left = unsent.and_then(|set| set.missing(next.clone()).next());
        next.start = left.map_or(next.start, |left| left.start);
        next.end = next.start + 1;
        let unproven = [Why::ProbeTimeout, Why::Tail];
        Some(
            unproven
                .into_iter()
                .find(|why| has(*why, &next))
                .unwrap_or(Why::Lost),
        )
    }

    fn no_longer_lost(&mut self, range: Range<u64>) {
        self.lost.remove(range.clone());
        for set in self.unproven.iter_mut().filter(|set| !set.is_empty()) {
            set.remove(range.clone());
        }
    }

    /// Whether bytes below this flow-control offset were never sent.
    pub(super) fn has_unsent(&self, limit: u64) -> bool {
        self.sent < self.written.min(limit)
    }

    /// Whether something waits to be sent again.
    pub(super) fn has_retransmissions(&self) -> bool {
        !self.lost.is_empty()
    }

    /// How many bytes were written and never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.written - self.sent
    }

    /// The end of what was sent at least once.
    pub(super) fn sent_end(&self) -> u64 {
        self.sent
    }

    /// How many bytes are held: from the first not acknowledged to the last written.
    pub(super) fn unacked(&self) -> u64 {
        self.written - self.freed
    }

    /// Whether everything written is acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.freed == self.written
    }

    /// The newest range sent and not acknowledged that ends at `before` or below, at most `max`
    /// bytes. Starting at `u64::MAX` and going on with the start of what came, a caller walks
    /// backwards over all of them. It does not count as sent again.
    pub(super) fn tail_unacked(&self, before: u64, max: u64) -> Option<Range<u64>> {
        let hole = self
            .acked
            .last_missing(self.freed..before.min(self.sent))
            .filter(|_| max > 0)?;
        Some(hole.start.max(hole.end.saturating_sub(max))..hole.end)
    }
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: u64 = u64::MAX;

    fn byte(offset: u64) -> u8 {
        (offset % 251) as u8
    }

    /// A buffer to which so many bytes were written in chunks of one size.
    fn written(total: u64, chunk: u64) -> SendBuffer {
        let mut buffer = SendBuffer::new();
        while buffer.offset() < total {
            let end = total.min(buffer.offset() + chunk);
            buffer.write((buffer.offset()..end).map(byte).collect());
        }
        buffer
    }

    fn copied(buffer: &SendBuffer, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        buffer.copy_into(range, &mut out);
        out
    }

    #[test]
    fn new_bytes_go_in_order_up_to_the_limit() {
        let mut buffer = written(100, 30);
        assert_eq!(buffer.next(40, 70), Some(0..40));
        assert_eq!(buffer.next(40, 70), Some(40..70));
        assert_eq!(buffer.next(40, 70), None);
        assert!(!buffer.has_unsent(70));
        assert!(buffer.has_unsent(71));
        assert_eq!(buffer.next(40, ALL), Some(70..100));
        assert_eq!((buffer.unsent(), buffer.sent_end()), (0, 100));
    }

    #[test]
    fn lost_bytes_go_before_new_ones_whatever_the_limit() {
        let mut buffer = written(100, 30);
        buffer.next(60, ALL);
        buffer.on_lost(10..40, Why::Lost);
        assert!(buffer.has_retransmissions());
        assert_eq!(buffer.next(20, 0), Some(10..30));
        assert_eq!(buffer.next(20, 0), Some(30..40));
        assert_eq!(buffer.next(20, ALL), Some(60..80));
    }

    #[test]
    fn what_was_acknowledged_meanwhile_is_not_sent_again() {
        let mut buffer = written(100, 30);
        buffer.next(100, ALL);
        buffer.on_ack(20..30);
        buffer.on_lost(10..40, Why::Lost);
        buffer.on_ack(35..40);
        assert_eq!(buffer.next(100, ALL), Some(10..20));
        assert_eq!(buffer.next(100, ALL), Some(30..35));
        assert_eq!(buffer.next(100, ALL), None);
    }

    #[test]
    fn what_is_sent_again_knows_why() {
        let mut buffer = written(100, 30);
        buffer.next(100, ALL);
        buffer.on_lost(10..40, Why::ProbeTimeout);
        buffer.on_lost(20..30, Why::Lost);
        buffer.on_lost(50..60, Why::NotSent);
        buffer.on_lost(50..60, Why::ProbeTimeout);
        let mut again = || {
            let why = buffer.why(10).expect("something");
            (why, buffer.next(10, ALL))
        };
        assert_eq!(again(), (Why::ProbeTimeout, Some(10..20)));
        assert_eq!(again(), (Why::Lost, Some(20..30)), "declared lost since");
        assert_eq!(again(), (Why::ProbeTimeout, Some(30..40)));
        assert_eq!(
            again(),
            (Why::NotSent, Some(50..60)),
            "the first reason stays"
        );
        buffer.on_lost(10..20, Why::Lost);
        assert_eq!(
            (buffer.why(10), buffer.next(10, ALL)),
            (Some(Why::Lost), Some(10..20))
        );
        // What has left and what has not, in one piece: it repeats.
        buffer.on_lost(60..70, Why::NotSent);
        buffer.on_lost(70..80, Why::Tail);
        assert_eq!(
            (buffer.why(10), buffer.why(11)),
            (Some(Why::NotSent), Some(Why::Tail))
        );
        assert_eq!(buffer.next(20, ALL), Some(60..80));
        assert_eq!(buffer.why(10), None);
        assert!(buffer.unproven.iter().all(RangeSet::is_empty));
    }

    #[test]
    fn chunks_are_let_go_once_everything_up_to_their_end_is_acknowledged() {
        let mut buffer = written(100, 30);
        buffer.next(100, ALL);
        buffer.on_ack(30..60);
        assert_eq!((buffer.chunks.len(), buffer.unacked()), (4, 100));
        buffer.on_ack(0..30);
        assert_eq!((buffer.chunks.len(), buffer.unacked()), (2, 40));
        buffer.on_ack(60..100);
        assert!(buffer.is_drained());
        assert!(buffer.chunks.is_empty());
    }

    #[test]
    fn bytes_never_sent_are_neither_acknowledged_nor_lost() {
        let mut buffer = written(100, 30);
        buffer.next(50, ALL);
        buffer.on_ack(0..ALL);
        assert_eq!(buffer.unacked(), 50);
        buffer.on_lost(0..ALL, Why::Lost);
        assert!(!buffer.has_retransmissions());
    }

    #[test]
    fn the_tail_is_walked_backwards_over_what_is_not_acknowledged() {
        let mut buffer = written(100, 30);
        buffer.next(80, ALL);
        buffer.on_ack(0..10);
        buffer.on_ack(50..60);
        let mut before = ALL;
        let walk = std::iter::from_fn(|| {
            let range = buffer.tail_unacked(before, 25)?;
            before = range.start;
            Some(range)
        });
        assert_eq!(walk.collect::<Vec<_>>(), [60..80, 25..50, 10..25]);
        assert_eq!(buffer.tail_unacked(ALL, 0), None);
    }

    #[test]
    fn thousands_of_small_chunks_are_not_scanned_from_the_front() {
        let mut buffer = written(8 << 20, 64);
        let mut out = Vec::new();
        let mut right = 0_u64;
        while let Some(range) = buffer.next(1200, ALL) {
            out.clear();
            buffer.copy_into(range.clone(), &mut out);
            right += out
                .iter()
                .zip(range)
                .filter(|&(&got, at)| got == byte(at))
                .count() as u64;
        }
        assert_eq!(right, 8 << 20);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize),
        Next(usize, u64),
        Ack(usize),
        Lose(usize),
        Tail(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..40_usize).prop_map(Step::Write),
            4 => (0..25_usize, 0..400_u64).prop_map(|(max, limit)| Step::Next(max, limit)),
            3 => any::<usize>().prop_map(Step::Ack),
            2 => any::<usize>().prop_map(Step::Lose),
            1 => (0..400_u64, 0..25_u64).prop_map(|(before, max)| Step::Tail(before, max)),
        ]
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum State {
        New,
        Sent,
        Lost,
        Acked,
    }

    proptest! {
        #[test]
        fn keeps_every_byte_until_it_is_acknowledged(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut buffer = SendBuffer::new();
            let mut model: Vec<State> = Vec::new();
            let mut packets = Vec::new();
            for step in steps {
                match step {
                    Step::Write(length) => {
                        let end = model.len() + length;
                        buffer.write((model.len()..end).map(|at| byte(at as u64)).collect());
                        model.resize(end, State::New);
                    }
                    Step::Next(max, limit) => {
                        let lost = model.iter().position(|&state| state == State::Lost);
                        let new = model.iter().position(|&state| state == State::New)
                            .filter(|&at| (at as u64) < limit);
                        let first = lost.or(new).filter(|_| max > 0);
                        let range = buffer.next(max, limit);
                        prop_assert_eq!(range.as_ref().map(|range| range.start as usize), first);
                        let Some(range) = range else { continue };
                        prop_assert!(!range.is_empty() && range.end - range.start <= max as u64);
                        let state = model[range.start as usize];
                        for at in range.clone() {
                            prop_assert_eq!(model[at as usize], state);
                            prop_assert!(state == State::Lost || at < limit);
                            model[at as usize] = State::Sent;
                        }
                        let bytes: Vec<_> = range.clone().map(byte).collect();
                        prop_assert_eq!(copied(&buffer, range.clone()), bytes);
                        packets.push(range);
                    }
                    Step::Ack(pick) if !packets.is_empty() => {
                        let range = packets[pick % packets.len()].clone();
                        model[range.start as usize..range.end as usize].fill(State::Acked);
                        buffer.on_ack(range);
                    }
                    Step::Lose(pick) if !packets.is_empty() => {
                        let range = packets[pick % packets.len()].clone();
                        for state in &mut model[range.start as usize..range.end as usize] {
                            if *state == State::Sent {
                                *state = State::Lost;
                            }
                        }
                        buffer.on_lost(range, Why::Lost);
                    }
                    Step::Tail(before, max) => {
                        let open = |at: &u64| {
                            matches!(model[*at as usize], State::Sent | State::Lost)
                        };
                        let newest = (0..before.min(model.len() as u64)).rev().find(open);
                        let tail = buffer.tail_unacked(before, max);
                        prop_assert_eq!(
                            tail.as_ref().map(|range| range.end - 1),
                            newest.filter(|_| max > 0)
                        );
                        if let Some(range) = tail {
                            prop_assert!(range.clone().all(|at| open(&at)));
                            let length = range.end - range.start;
                            prop_assert!(length <= max);
                            let longer = range.start.checked_sub(1);
                            prop_assert!(length == max || longer.is_none_or(|at| !open(&at)));
                        }
                    }
                    Step::Ack(_) | Step::Lose(_) => {}
                }
                let count = |wanted| model.iter().filter(|&&state| state == wanted).count() as u64;
                prop_assert_eq!(buffer.unsent(), count(State::New));
                prop_assert_eq!(buffer.sent_end(), model.len() as u64 - count(State::New));
                prop_assert_eq!(buffer.has_retransmissions(), count(State::Lost) > 0);
                prop_assert_eq!(buffer.is_drained(), count(State::Acked) == model.len() as u64);
                let held = model.iter().position(|&state| state != State::Acked);
                let held = held.map_or(0, |at| model.len() - at);
                prop_assert_eq!(buffer.unacked(), held as u64);
            }
        }
    }
}
