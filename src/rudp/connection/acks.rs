//! What has been received, and when to say so (RFC 9000 section 13.2).

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::ranges::RangeSet;

/// Ranges of received numbers kept to tell duplicates. Beyond, the oldest are taken for seen.
const REMEMBERED: usize = 4096;
/// Ranges told in acknowledgements. Beyond, the oldest are no longer told.
const TOLD: usize = 256;
/// Of so many packets that only acknowledge, one must be acknowledged itself: it lets the ranges be
/// forgotten.
const UNANSWERED: u32 = 16;
/// The first ack-eliciting packets are acknowledged one by one: a young sender learns its path from
/// them.
const QUICK: u32 = 16;

/// The receiving side of the packet numbers.
#[derive(Debug)]
pub(super) struct Acks {
    /// Everything received.
    seen: RangeSet,
    /// Every number below counts as received.
    floor: u64,
    /// What acknowledgements tell.
    told: RangeSet,
    largest_at: Option<Instant>,
    /// Ack-eliciting packets since the last acknowledgement.
    waiting: u32,
    /// When an acknowledgement is due.
    due: Option<Instant>,
    now: bool,
    /// An acknowledgement comes after so many ack-eliciting packets.
    pub(super) every: u32,
    /// Or after so long.
    pub(super) delay: Duration,
    unanswered: u32,
    /// How many more are acknowledged at once.
    quick: u32,
    /// Packets received by ECN mark: ECT(0), ECT(1), CE.
    pub(super) ecn: [u64; 3],
}

impl Acks {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            seen: RangeSet::new(),
            floor: 0,
            told: RangeSet::new(),
            largest_at: None,
            waiting: 0,
            due: None,
            now: false,
            every: 2,
            delay,
            unanswered: 0,
            quick: QUICK,
            ecn: [0; 3],
        }
    }

    /// The largest number received.
    pub(super) fn largest(&self) -> Option<u64> {
        self.seen.max()
    }

    /// The number after the largest received one.
    pub(super) fn expected(&self) -> u64 {
        self.seen.max().map_or(self.floor, |largest| largest + 1)
    }

    /// Notes a received number; false: it is a duplicate, or so old that nobody can tell.
    pub(super) fn receive(&mut self, number: u64) -> bool {
        if number < self.floor || !self.seen.insert_one(number) {
            return false;
        }
        while self.seen.len() > REMEMBERED {
            if let Some(oldest) = self.seen.pop_front() {
                self.floor = oldest.end;
            }
        }
        self.told.insert_one(number);
        while self.told.len() > TOLD {
            self.told.pop_front();
        }
        true
    }

    /// Decides when to acknowledge a packet whose number was just noted; `previous` is the largest
    /// number before it.
    pub(super) fn elicit(
        &mut self,
        number: u64,
        previous: Option<u64>,
        congested: bool,
        now: Instant,
    ) {
        self.waiting += 1;
        // Out of order: the sender wants to know at once, to send again or to see that it need not.
        let in_order = previous.is_none_or(|previous| number == previous + 1);
        let quick = self.quick > 0;
        self.quick = self.quick.saturating_sub(1);
        if self.waiting >= self.every || !in_order || congested || quick {
            self.now = true;
        } else if self.due.is_none() {
            self.due = Some(now + self.delay);
        }
    }

    /// Notes when the largest number came, for the delay that acknowledgements tell.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.largest_at = Some(now);
    }

    /// Whether an acknowledgement is to be sent by itself.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.now || self.due.is_some_and(|due| due <= now)
    }

    /// Whether there is news that a packet which goes anyway should carry.
    pub(super) fn has_news(&self) -> bool {
        self.waiting > 0
    }

    /// When [`is_due`](Self::is_due) turns true by itself.
    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.now { None } else { self.due }
    }

    /// How long ago the largest number came.
    pub(super) fn held(&self, now: Instant) -> Duration {
        self.largest_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// The ranges to tell, the newest first.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.told.iter().rev()
    }

    /// Whether there is anything to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Whether the next packet that carries an acknowledgement should ask for one itself.
    pub(super) fn wants_answer(&self) -> bool {
        self.unanswered + 1 >= UNANSWERED && self.told.len() > 1
    }

    /// Notes that an acknowledgement is sent, in a packet that asks for one itself or not.
    pub(super) fn sent(&mut self, ack_eliciting: bool) {
        self.waiting = 0;
        self.now = false;
        self.due = None;
        self.unanswered = match ack_eliciting {
            true => 0,
            false => self.unanswered.saturating_add(1),
        };
    }

    /// What was told has not left.
    pub(super) fn repeat(&mut self) {
        self.now = true;
    }

    /// Notes that the sender has got an acknowledgement that told of packets up to `largest`.
    pub(super) fn confirmed(&mut self, largest: u64) {
        // The largest itself stays: an acknowledgement must name one.
        self.told.remove(0..largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once_however_many_came_since() {
        let mut acks = Acks::new(Duration::from_millis(25));
        assert!(acks.receive(0));
        for number in (2..40_000).step_by(2) {
            assert!(acks.receive(number));
            assert!(!acks.receive(number));
        }
        // Forgotten is as good as seen.
        assert!(!acks.receive(1));
        assert!(acks.receive(39_999));
        assert!(acks.seen.len() <= REMEMBERED && acks.told.len() <= TOLD);
    }

    #[test]
    fn one_acknowledgement_in_sixteen_asks_for_one_itself() {
        let mut acks = Acks::new(Duration::from_millis(25));
        let mut asked = 0;
        // Each leaves a gap, so that there is always something to be forgotten.
        for number in (0..1600).step_by(2) {
            assert!(acks.receive(number));
            let asks = acks.wants_answer();
            acks.sent(asks);
            asked += u32::from(asks);
        }
        assert_eq!(asked, 800 / UNANSWERED);
    }

    #[test]
    fn every_second_packet_is_acknowledged_or_one_after_a_while_or_a_gap_at_once() {
        let now = Instant::now();
        let delay = Duration::from_millis(25);
        let mut acks = Acks::new(delay);
        acks.quick = 0;
        let take = |acks: &mut Acks, number| {
            let previous = acks.largest();
            assert!(acks.receive(number));
            acks.elicit(number, previous, false, now);
            acks.is_due(now)
        };
        assert!(!take(&mut acks, 0));
        assert_eq!(acks.timeout(), Some(now + delay));
        assert!(acks.is_due(now + delay));
        assert!(take(&mut acks, 1));
        acks.sent(false);
        assert_eq!((acks.timeout(), acks.is_due(now)), (None, false));
        assert!(take(&mut acks, 3));
        acks.sent(false);
        assert!(take(&mut acks, 2));
    }
}
