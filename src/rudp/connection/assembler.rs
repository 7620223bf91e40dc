//! The received bytes of one stream, put in order.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};

use super::ranges::RangeSet;

/// Bytes of the stream that share one allocation.
const BLOCK: u64 = 64 * 1024;
/// Gaps that any stream may have.
const GAPS: usize = 1024;
/// And one more for so many bytes between the first gap and the last byte: with a large window
/// and heavy loss, full packets alone leave more than [`GAPS`].
const BYTES_PER_GAP: u64 = 2048;

/// The pieces received leave more gaps than losses explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyGaps;

impl fmt::Display for TooManyGaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many gaps between the received pieces of a stream")
    }
}

impl std::error::Error for TooManyGaps {}

/// The reassembly of one stream.
///
/// Each byte is copied once, from its packet to its place in a block of the stream; reading gives
/// parts of the blocks away. Memory is bounded by the flow-control window, which the caller
/// checks, rounded up to blocks, and by the bound on gaps.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    blocks: Blocks,
    /// Everything below was received.
    contiguous: u64,
    /// What was received above `contiguous`.
    beyond: RangeSet,
    received_end: u64,
}

impl Assembler {
    /// A stream of which nothing was received.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes a received piece. Of bytes that come more than once, the first ones stay. The caller
    /// has checked that the piece ends within the flow-control window.
    ///
    /// # Errors
    ///
    /// The piece would open a gap too many. Nothing of it is kept.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8]) -> Result<(), TooManyGaps> {
        let end = offset.saturating_add(data.len() as u64);
        if end <= self.contiguous {
            return Ok(());
        }
        let start = offset.max(self.contiguous);
        let part = |range: &std::ops::Range<u64>| {
            &data[(range.start - offset) as usize..(range.end - offset) as usize]
        };
        if self.beyond.is_empty() && start == self.contiguous {
            self.blocks.write(start, part(&(start..end)));
            self.contiguous = end;
            self.received_end = self.received_end.max(end);
            return Ok(());
        }
        for hole in self.beyond.missing(start..end) {
            self.blocks.write(hole.start, part(&hole));
        }
        let gaps = self.beyond.len();
        self.beyond.insert(start..end);
        if self.beyond.len() > gaps && gaps >= self.most_gaps() {
            // The bytes touched no other range, or there would not be one more.
            self.beyond.remove(start..end);
            return Err(TooManyGaps);
        }
        self.received_end = self.received_end.max(end);
        if start == self.contiguous
            && let Some(first) = self.beyond.pop_front()
        {
            self.contiguous = first.end;
        }
        Ok(())
    }

    fn most_gaps(&self) -> usize {
        let span = self.received_end.saturating_sub(self.contiguous);
        GAPS.max(usize::try_from(span / BYTES_PER_GAP).unwrap_or(usize::MAX))
    }

    /// Takes up to `max` bytes that follow the last ones read; `None` if there are none. At most
    /// to the end of a block, so a caller that wants all asks until there are none. What is
    /// returned keeps its block's memory alive.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let most = self.readable().min(max as u64);
        (most > 0).then(|| self.blocks.read(most))
    }

    /// How many bytes are ready to be read.
    pub(super) fn readable(&self) -> u64 {
        self.contiguous - self.blocks.offset
    }

    /// How many bytes were read.
    pub(super) fn offset(&self) -> u64 {
        self.blocks.offset
    }

    /// The highest end of a piece received, whether or not everything below was.
    pub(super) fn received_end(&self) -> u64 {
        self.received_end
    }

    /// Notes that the stream reaches to `end` at least, without its bytes.
    pub(super) fn note_end(&mut self, end: u64) {
        self.received_end = self.received_end.max(end);
    }

    /// Gives the memory back: nobody will read on.
    pub(super) fn discard(&mut self) {
        self.blocks.blocks.clear();
        self.beyond.clear();
        self.contiguous = self.blocks.offset;
    }
}

/// The memory from the read position on, in blocks at multiples of [`BLOCK`]. It does not know
/// which bytes were received.
#[derive(Debug, Default)]
struct Blocks {
    /// The read position. The first block's buffer starts here, the others' at their block's
    /// start.
    offset: u64,
    /// Without an allocation until something is written to them.
    blocks: VecDeque<BytesMut>,
}

impl Blocks {
    /// Writes at an offset, which is not below the read position.
    fn write(&mut self, mut at: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let block = at / BLOCK;
            let start = self.offset.max(block * BLOCK);
            let index = (block - self.offset / BLOCK) as usize;
            let length = data.len().min((BLOCK - at % BLOCK) as usize);
            let (here, rest) = data.split_at(length);
            if index >= self.blocks.len() {
                self.blocks.resize_with(index + 1, BytesMut::new);
            }
            write_block(
                &mut self.blocks[index],
                block,
                start,
                (at - start) as usize,
                here,
            );
            at += length as u64;
            data = rest;
        }
    }

    /// Takes up to `most` bytes, all within one block. There are so many.
    fn read(&mut self, most: u64) -> Bytes {
        let to_end = BLOCK - self.offset % BLOCK;
        let bytes = if most < to_end {
            let block = self.blocks.front_mut();
            block.map(|block| block.split_to(most as usize))
        } else {
            self.blocks.pop_front()
        };
        self.offset += most.min(to_end);
        bytes.unwrap_or_default().freeze()
    }
}

/// Writes into the buffer of a block, which begins at the offset `start`, at `at` from there.
fn write_block(buffer: &mut BytesMut, block: u64, start: u64, at: usize, data: &[u8]) {
    let end = at + data.len();
    if end > buffer.capacity() {
        let before = start - block * BLOCK;
        // Most streams are short: the first block grows with them.
        let reach = match block {
            0 => (before + end as u64).next_power_of_two().min(BLOCK),
            _ => BLOCK,
        };
        buffer.reserve((reach - before) as usize - buffer.len());
    }
    if at > buffer.len() {
        buffer.resize(at, 0);
    }
    let (over, behind) = data.split_at(data.len().min(buffer.len() - at));
    buffer[at..at + over.len()].copy_from_slice(over);
    buffer.extend_from_slice(behind);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const B: usize = BLOCK as usize;

    fn byte(offset: usize) -> u8 {
        (offset % 251) as u8
    }

    fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
        range.map(byte).collect()
    }

    fn read_all(assembler: &mut Assembler) -> Vec<u8> {
        std::iter::from_fn(|| assembler.read(usize::MAX))
            .flatten()
            .collect()
    }

    fn memory(assembler: &Assembler) -> usize {
        assembler.blocks.blocks.iter().map(BytesMut::capacity).sum()
    }

    #[test]
    fn pieces_in_order_are_ready_at_once() {
        let mut assembler = Assembler::new();
        assembler.insert(0, b"abc").unwrap();
        assert_eq!(assembler.readable(), 3);
        assert_eq!(assembler.read(2).unwrap(), "ab");
        assembler.insert(3, b"de").unwrap();
        assert_eq!(assembler.read(9).unwrap(), "cde");
        assert_eq!(assembler.read(9), None);
        assert_eq!((assembler.offset(), assembler.received_end()), (5, 5));
    }

    #[test]
    fn a_gap_holds_back_what_comes_behind_it() {
        let mut assembler = Assembler::new();
        assembler.insert(2, b"cd").unwrap();
        assert_eq!((assembler.readable(), assembler.received_end()), (0, 4));
        assert_eq!(assembler.read(9), None);
        assembler.insert(0, b"ab").unwrap();
        assert_eq!(assembler.readable(), 4);
        assert_eq!(assembler.read(9).unwrap(), "abcd");
    }

    #[test]
    fn of_bytes_that_come_twice_the_first_stay() {
        let mut assembler = Assembler::new();
        assembler.insert(0, b"ab").unwrap();
        assembler.insert(4, b"ef").unwrap();
        assembler.insert(0, b"..cd..gh").unwrap();
        assert_eq!(read_all(&mut assembler), b"abcdefgh");
        assembler.insert(0, b"........").unwrap();
        assert_eq!(assembler.readable(), 0);
    }

    #[test]
    fn a_piece_may_span_blocks() {
        let mut assembler = Assembler::new();
        assembler
            .insert(B as u64 - 3, &bytes(B - 3..3 * B + 5))
            .unwrap();
        assembler.insert(0, &bytes(0..B - 3)).unwrap();
        assert_eq!(assembler.read(usize::MAX).unwrap(), bytes(0..B));
        assert_eq!(assembler.read(7).unwrap(), bytes(B..B + 7));
        assert_eq!(read_all(&mut assembler), bytes(B + 7..3 * B + 5));
    }

    #[test]
    fn a_short_stream_costs_little_memory() {
        let mut assembler = Assembler::new();
        assembler.insert(0, &bytes(0..100)).unwrap();
        assert!(memory(&assembler) <= 128, "{}", memory(&assembler));
    }

    #[test]
    fn a_block_is_allocated_once_and_given_away_when_read() {
        let mut assembler = Assembler::new();
        for at in (0..4 * B).step_by(1024) {
            assembler.insert(at as u64, &bytes(at..at + 1024)).unwrap();
            assert!(memory(&assembler) <= at / B * B + B);
        }
        assert_eq!(memory(&assembler), 4 * B);
        assert_eq!(read_all(&mut assembler), bytes(0..4 * B));
        assert_eq!(memory(&assembler), 0);
    }

    #[test]
    fn single_bytes_with_holes_end_in_an_error_and_change_nothing_more() {
        let mut assembler = Assembler::new();
        for gap in 0..GAPS as u64 {
            assembler.insert(1 + 2 * gap, b"x").unwrap();
        }
        let end = assembler.received_end();
        let next = 1 + 2 * GAPS as u64;
        assert_eq!(assembler.insert(next, b"x"), Err(TooManyGaps));
        assert_eq!(assembler.received_end(), end);
        assembler.insert(2, b"x").unwrap();
        assembler.insert(next, b"x").unwrap();
        assert_eq!(assembler.insert(next + 2, b"x"), Err(TooManyGaps));
    }

    #[test]
    fn every_second_packet_of_a_large_window_may_be_missing() {
        let mut assembler = Assembler::new();
        let window = 16 << 20;
        for at in (1170..window).step_by(2 * 1170) {
            assembler.insert(at, &[1; 1170]).unwrap();
        }
        assert!(assembler.beyond.len() > 2 * GAPS);
        for at in (0..window).step_by(2 * 1170) {
            assembler.insert(at, &[0; 1170]).unwrap();
        }
        assert_eq!(assembler.readable(), assembler.received_end());
    }

    #[test]
    fn a_piece_at_the_end_of_numbers_is_no_panic() {
        let mut assembler = Assembler::new();
        assert_eq!(assembler.insert(u64::MAX, b""), Ok(()));
        assert_eq!(assembler.readable(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert { offset: usize, length: usize },
        Read(usize),
    }

    const TOTAL: usize = 4 * B;

    /// Pieces near each other and near the blocks' borders, so that they overlap.
    fn step() -> impl Strategy<Value = Step> {
        let place = prop_oneof![0..600_usize, B - 300..B + 300, 2 * B - 300..2 * B + 300];
        let length = prop_oneof![4 => 0..300_usize, 1 => B - 600..B + 600];
        prop_oneof![
            4 => (place, length).prop_map(|(offset, length)| Step::Insert { offset, length }),
            1 => prop_oneof![0..400_usize, Just(usize::MAX)].prop_map(Step::Read),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_read_is_what_came_first(steps in prop::collection::vec(step(), 0..60)) {
            let mut assembler = Assembler::new();
            let mut model: Vec<Option<u8>> = vec![None; TOTAL];
            let mut read = 0;
            let mut end = 0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert { offset, length } => {
                        // Each piece claims other bytes, so that it shows which one stayed.
                        let data = vec![number as u8; length];
                        prop_assert_eq!(assembler.insert(offset as u64, &data), Ok(()));
                        for known in &mut model[offset..offset + length] {
                            known.get_or_insert(number as u8);
                        }
                        end = end.max(offset + length);
                    }
                    Step::Read(max) => {
                        let got = assembler.read(max).unwrap_or_default();
                        prop_assert!(got.len() <= max);
                        let wanted = &model[read..read + got.len()];
                        prop_assert!(got.iter().map(|&byte| Some(byte)).eq(wanted.iter().copied()));
                        read += got.len();
                    }
                }
                let contiguous = model.iter().position(Option::is_none).unwrap_or(TOTAL);
                prop_assert_eq!(assembler.readable(), (contiguous - read) as u64);
                prop_assert_eq!(assembler.offset(), read as u64);
                prop_assert_eq!(assembler.received_end(), end as u64);
            }
            let rest = read_all(&mut assembler);
            prop_assert_eq!(assembler.readable(), 0);
            let wanted = model[read..].iter().map_while(|byte| *byte);
            prop_assert!(rest.into_iter().eq(wanted));
        }
    }
}
