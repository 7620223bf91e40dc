//! Sets of numbers that come in runs: packet numbers, bytes of a stream.

use std::{collections::VecDeque, ops::Range};

/// A set of `u64`, kept as sorted half-open ranges that neither overlap nor touch.
///
/// Growing the last range or adding one behind it takes constant time, everything else a binary
/// search and a move of the ranges on the shorter side. Whoever fills it from outside bounds
/// [`len`](Self::len). `u64::MAX` is in no half-open range, so it cannot be a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: VecDeque<Range<u64>>,
}

impl RangeSet {
    /// The empty set.
    pub(super) const fn new() -> Self {
        Self {
            ranges: VecDeque::new(),
        }
    }

    /// Adds the numbers of a range; returns how many of them are new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        match self.ranges.back_mut() {
            Some(last) if range.start >= last.start && range.start <= last.end => {
                let new = range.end.saturating_sub(last.end);
                last.end += new;
                new
            }
            Some(last) if range.start < last.start => self.insert_within(range),
            _ => {
                let new = range.end - range.start;
                self.ranges.push_back(range);
                new
            }
        }
    }

    /// Adds a range that starts before the last one.
    fn insert_within(&mut self, range: Range<u64>) -> u64 {
        let first = self.ranges.partition_point(|known| known.end < range.start);
        let behind = self.behind(first, |known| known.start <= range.end);
        if first == behind {
            let new = range.end - range.start;
            self.ranges.insert(first, range);
            return new;
        }
        let known: u64 = self
            .ranges
            .range(first..behind)
            .map(|known| known.end - known.start)
            .sum();
        let merged =
            range.start.min(self.ranges[first].start)..range.end.max(self.ranges[behind - 1].end);
        let new = merged.end - merged.start - known;
        self.ranges[first] = merged;
        self.ranges.drain(first + 1..behind);
        new
    }

    /// Adds one number; whether it is new.
    pub(super) fn insert_one(&mut self, number: u64) -> bool {
        self.insert(number..number.saturating_add(1)) > 0
    }

    /// Takes the numbers of a range out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut first = self
            .ranges
            .partition_point(|known| known.end <= range.start);
        let Some(known) = self.ranges.get_mut(first) else {
            return;
        };
        if known.start < range.start {
            let rest = range.end..known.end;
            known.end = range.start;
            first += 1;
            if !rest.is_empty() {
                self.ranges.insert(first, rest);
                return;
            }
        }
        let mut behind = self.behind(first, |known| known.start < range.end);
        if behind > first && self.ranges[behind - 1].end > range.end {
            behind -= 1;
            self.ranges[behind].start = range.end;
        }
        self.ranges.drain(first..behind);
    }

    /// The first index from `first` on whose range is not `near`. A few steps forward find it in
    /// the usual case, where nothing or one neighbour is.
    fn behind(&self, first: usize, near: impl Fn(&Range<u64>) -> bool) -> usize {
        let steps = self.ranges.range(first..).take(2).take_while(|r| near(r));
        match steps.count() {
            2 => self.ranges.partition_point(near),
            few => first + few,
        }
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether no number is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The largest number.
    pub(super) fn max(&self) -> Option<u64> {
        self.ranges.back().map(|last| last.end - 1)
    }

    /// The ranges, ascending.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator {
        self.ranges.iter().cloned()
    }

    /// The lowest range.
    pub(super) fn front(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// Takes the lowest range out.
    pub(super) fn pop_front(&mut self) -> Option<Range<u64>> {
        self.ranges.pop_front()
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The parts of a range that are not in the set, ascending.
    pub(super) fn missing(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self
            .ranges
            .partition_point(|known| known.end <= within.start);
        let mut known = self.ranges.range(first..);
        let mut from = within.start;
        std::iter::from_fn(move || {
            while from < within.end {
                let (hole, next) = match known.next() {
                    Some(known) if known.start < within.end => (from..known.start, known.end),
                    _ => (from..within.end, within.end),
                };
                from = next;
                if !hole.is_empty() {
                    return Some(hole);
                }
            }
            None
        })
    }

    /// The last part of a range that is not in the set.
    pub(super) fn last_missing(&self, within: Range<u64>) -> Option<Range<u64>> {
        let mut at = self
            .ranges
            .partition_point(|known| known.start < within.end);
        let mut end = within.end;
        let mut before = at.checked_sub(1).and_then(|at| self.ranges.get(at));
        if let Some(last) = before
            && last.end >= end
        {
            end = last.start;
            at -= 1;
            before = at.checked_sub(1).and_then(|at| self.ranges.get(at));
        }
        let start = before.map_or(within.start, |known| known.end.max(within.start));
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(ranges: &[Range<u64>]) -> RangeSet {
        let mut set = RangeSet::new();
        for range in ranges {
            set.insert(range.clone());
        }
        set
    }

    fn listed(set: &RangeSet) -> Vec<Range<u64>> {
        set.iter().collect()
    }

    #[test]
    fn neighbours_become_one() {
        let mut set = of(&[0..2, 4..6, 8..9]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.insert(2..4), 2);
        assert_eq!(listed(&set), [0..6, 8..9]);
        assert_eq!(set.insert(0..20), 13);
        assert!(set.iter().eq(std::iter::once(0..20)));
    }

    #[test]
    fn a_number_is_new_once() {
        let mut set = RangeSet::new();
        assert!(set.insert_one(7));
        assert!(!set.insert_one(7));
        assert!(set.iter().eq(std::iter::once(7..8)));
        assert_eq!(set.max(), Some(7));
        assert!(!set.insert_one(u64::MAX));
        assert!(set.insert_one(u64::MAX - 1));
        assert_eq!(set.max(), Some(u64::MAX - 1));
    }

    #[test]
    fn removing_the_middle_leaves_two() {
        let mut set = RangeSet::new();
        set.insert(0..10);
        set.remove(3..5);
        assert_eq!(listed(&set), [0..3, 5..10]);
        set.remove(0..u64::MAX);
        assert!(set.is_empty());
        assert_eq!(set.max(), None);
    }

    #[test]
    fn what_is_missing_lies_between_the_ranges() {
        let set = of(&[2..4, 6..8]);
        assert_eq!(set.missing(0..10).collect::<Vec<_>>(), [0..2, 4..6, 8..10]);
        assert!(set.missing(3..7).eq(std::iter::once(4..6)));
        assert_eq!(set.missing(2..4).count(), 0);
        assert_eq!(set.last_missing(0..10), Some(8..10));
        assert_eq!(set.last_missing(0..7), Some(4..6));
        assert_eq!(set.last_missing(5..8), Some(5..6));
        assert_eq!(set.last_missing(2..3), None);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Range<u64>),
        Remove(Range<u64>),
        PopFront,
    }

    const UNIVERSE: u64 = 64;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..UNIVERSE, 0..12_u64).prop_map(|(start, length)| start..(start + length).min(UNIVERSE))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => range().prop_map(Step::Insert),
            2 => range().prop_map(Step::Remove),
            1 => Just(Step::PopFront),
        ]
    }

    proptest! {
        #[test]
        fn is_the_set_of_its_numbers(
            steps in prop::collection::vec(step(), 0..60),
            asked in range(),
        ) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(range) => {
                        let before = model.len();
                        model.extend(range.clone());
                        prop_assert_eq!(set.insert(range), (model.len() - before) as u64);
                    }
                    Step::Remove(range) => {
                        model.retain(|number| !range.contains(number));
                        set.remove(range);
                    }
                    Step::PopFront => {
                        prop_assert_eq!(set.front(), set.iter().next());
                        if let Some(range) = set.pop_front() {
                            model.retain(|number| !range.contains(number));
                        }
                    }
                }
                let ranges = listed(&set);
                prop_assert!(ranges.iter().all(|range| !range.is_empty()));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(ranges.iter().cloned().flatten().eq(model.iter().copied()));
                prop_assert!(set.iter().rev().eq(ranges.into_iter().rev()));
                prop_assert_eq!(set.max(), model.last().copied());
            }
            let missing: Vec<_> = set.missing(asked.clone()).collect();
            let numbers: Vec<_> = missing.iter().cloned().flatten().collect();
            let wanted: Vec<_> = asked.clone().filter(|number| !model.contains(number)).collect();
            prop_assert_eq!(numbers, wanted);
            prop_assert_eq!(set.last_missing(asked), missing.last().cloned());
        }
    }
}
