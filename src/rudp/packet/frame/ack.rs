//! ACK frames: which packets have arrived.

use std::{ops::RangeInclusive, time::Duration};

use super::{ACK, ACK_ECN, Malformed, Reader, micros, varint};

/// The bytes that [`encode_ack`] takes for the count of ranges, whatever it is: it is known only
/// once they are written.
const COUNT_LEN: usize = 2;
/// The largest count in these bytes.
const MAX_COUNT: usize = 0x3fff;

/// An ACK frame whose ranges are known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The largest packet number that arrived.
    pub largest: u64,
    /// How long the receiver held the acknowledgement of [`largest`](Self::largest) back; whole
    /// microseconds.
    pub delay: Duration,
    /// The ECN marks counted so far, if the receiver can read them.
    pub ecn: Option<EcnCounts>,
    first: u64,
    /// The varints of the ranges after the first, gap and length in turn.
    more: &'a [u8],
}

/// How many packets arrived with each ECN mark, from the connection's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EcnCounts {
    /// ECT(0).
    pub ect0: u64,
    /// ECT(1).
    pub ect1: u64,
    /// CE: congestion experienced.
    pub ce: u64,
}

impl EcnCounts {
    fn encoded_len(self) -> usize {
        varint::len(self.ect0) + varint::len(self.ect1) + varint::len(self.ce)
    }

    fn encode(self, out: &mut Vec<u8>) {
        for count in [self.ect0, self.ect1, self.ce] {
            varint::put(count, out);
        }
    }
}

impl<'a> Ack<'a> {
    /// The ranges of packet numbers that arrived, the largest first. They neither touch nor overlap.
    pub fn ranges(&self) -> AckRanges<'a> {
        AckRanges {
            next: Some((self.largest, self.first)),
            more: Reader::new(self.more),
        }
    }

    pub(super) fn parse(reader: &mut Reader<'a>, ecn: bool) -> Result<Self, Malformed> {
        let largest = reader.varint()?;
        let delay = Duration::from_micros(reader.varint()?);
        let count = reader.varint()?;
        let first = reader.varint()?;
        let mut smallest = largest.checked_sub(first).ok_or(Malformed::Ranges)?;
        let start = reader.rest();
        // A count beyond the packet's end fails at that end: no need to bound it.
        for _ in 0..count {
            let gap = reader.varint()?;
            let length = reader.varint()?;
            smallest = below(smallest, gap)
                .and_then(|largest| largest.checked_sub(length))
                .ok_or(Malformed::Ranges)?;
        }
        let more = &start[..start.len() - reader.rest().len()];
        let ecn = if ecn {
            Some(EcnCounts {
                ect0: reader.varint()?,
                ect1: reader.varint()?,
                ce: reader.varint()?,
            })
        } else {
            None
        };
        Ok(Self {
            largest,
            delay,
            ecn,
            first,
            more,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_ack(self.ranges(), self.delay, self.ecn, usize::MAX, out);
    }
}

/// The largest number of the range that follows `gap` after a range that ends at `smallest`.
fn below(smallest: u64, gap: u64) -> Option<u64> {
    smallest.checked_sub(gap)?.checked_sub(2)
}

/// The ranges of an ACK, descending.
#[derive(Debug, Clone)]
pub struct AckRanges<'a> {
    /// The largest number of the next range and how many more it has.
    next: Option<(u64, u64)>,
    more: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (largest, length) = self.next.take()?;
        let smallest = largest.checked_sub(length)?;
        if !self.more.is_empty() {
            let gap = self.more.varint().ok()?;
            let length = self.more.varint().ok()?;
            self.next = below(smallest, gap).map(|largest| (largest, length));
        }
        Some(smallest..=largest)
    }
}

/// Appends an ACK of as many `ranges` as fit into `budget` bytes, and tells how many. The ranges
/// come largest first and neither touch nor overlap; what does not follow this ends the list.
/// Nothing is appended if not even the first fits.
pub fn encode_ack(
    ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    delay: Duration,
    ecn: Option<EcnCounts>,
    budget: usize,
    out: &mut Vec<u8>,
) -> usize {
    let mut ranges = ranges
        .into_iter()
        .map(RangeInclusive::into_inner)
        .filter(|(smallest, largest)| smallest <= largest);
    let Some((mut smallest, largest)) = ranges.next() else {
        return 0;
    };
    let delay = micros(delay);
    let first = largest - smallest;
    let fixed = 1
        + varint::len(largest)
        + varint::len(delay)
        + COUNT_LEN
        + varint::len(first)
        + ecn.map_or(0, EcnCounts::encoded_len);
    let Some(mut room) = budget.checked_sub(fixed) else {
        return 0;
    };
    out.push(if ecn.is_some() { ACK_ECN } else { ACK });
    varint::put(largest, out);
    varint::put(delay, out);
    let count_at = out.len();
    out.extend_from_slice(&[0; COUNT_LEN]);
    varint::put(first, out);
    let mut count = 0;
    for (low, high) in ranges.take(MAX_COUNT) {
        let Some(gap) = smallest
            .checked_sub(high)
            .and_then(|gap| gap.checked_sub(2))
        else {
            break;
        };
        let length = high - low;
        let Some(left) = room.checked_sub(varint::len(gap) + varint::len(length)) else {
            break;
        };
        room = left;
        varint::put(gap, out);
        varint::put(length, out);
        smallest = low;
        count += 1;
    }
    // At most MAX_COUNT.
    let field = count as u16 | 0x4000;
    out[count_at..count_at + COUNT_LEN].copy_from_slice(&field.to_be_bytes());
    if let Some(ecn) = ecn {
        ecn.encode(out);
    }
    1 + count
}
