use std::time::{Duration, Instant};

/// Controlled Delay (RFC 8289): tells which packets that leave a queue are to be dropped, or marked, so
/// that those behind wait for about [`TARGET`].
#[derive(Debug, Default)]
pub(super) struct CoDel {
    /// If they go on waiting for too long, the first is dropped then.
    first_above: Option<Instant>,
    /// It drops now and then, until packets wait for less.
    dropping: bool,
    /// When it drops the next one.
    drop_next: Option<Instant>,
    /// How many it has dropped since it began to.
    count: u32,
    /// `count` when it began last.
    last_count: u32,
}

/// A queue that is never shorter than this stands (section 4.4).
const TARGET: Duration = Duration::from_millis(5);
/// For so long: about a round trip of the slowest of most connections (section 4.3).
const INTERVAL: Duration = Duration::from_millis(100);
/// With no more than a packet waiting there is no queue (section 4.4).
const MAX_PACKET: usize = 1500;

impl CoDel {
    /// One leaves the queue, `sojourn` after it came, and leaves `waiting` bytes behind: whether it is to
    /// be dropped or marked. Every packet is to be told of, one that found no queue, too.
    ///
    /// This is `deque` of section 5.5, a packet at a time.
    pub(super) fn signals(&mut self, now: Instant, sojourn: Duration, waiting: usize) -> bool {
        let above = self.is_above(now, sojourn, waiting);
        if !above {
            self.dropping = false;
            return false;
        }
        if !self.dropping {
            self.begin(now);
            return true;
        }
        match self.drop_next {
            Some(next) if now >= next => {
                self.count = self.count.saturating_add(1);
                self.drop_next = Some(self.after(next));
                true
            }
            _ => false,
        }
    }

    /// Whether packets have waited for too long for too long (`ok_to_drop`).
    fn is_above(&mut self, now: Instant, sojourn: Duration, waiting: usize) -> bool {
        if sojourn < TARGET || waiting <= MAX_PACKET {
            self.first_above = None;
            return false;
        }
        let first = *self.first_above.get_or_insert(now + INTERVAL);
        now >= first
    }

    /// Begins to drop. If it ended not long ago, at about the rate that helped then.
    fn begin(&mut self, now: Instant) {
        self.dropping = true;
        let more = self.count.saturating_sub(self.last_count);
        let recent = self
            .drop_next
            .is_some_and(|next| now.saturating_duration_since(next) < 16 * INTERVAL);
        self.count = if more > 1 && recent { more } else { 1 };
        self.last_count = self.count;
        self.drop_next = Some(self.after(now));
    }

    /// The control law: the gaps between drops shrink with the root of their number.
    fn after(&self, time: Instant) -> Instant {
        time + INTERVAL.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_standing_queue_is_dropped_from_faster_and_faster() {
        let start = Instant::now();
        let mut codel = CoDel::default();
        // A packet a millisecond, each of which has waited for 20 ms.
        let signals: Vec<u64> = (0..1000)
            .filter(|at| codel.signals(start + ms(*at), ms(20), 20_000))
            .collect();
        // After an interval, then 100 ms / sqrt(1), / sqrt(2), / sqrt(3), ... later.
        assert_eq!(signals[..6], [100, 200, 271, 329, 379, 424]);
        assert!(
            signals
                .windows(3)
                .all(|of| of[2] - of[1] <= of[1] - of[0] + 1)
        );
        // A short wait ends it; it takes an interval to begin again, near the rate that it had.
        let count = signals.len() as u32;
        assert!(!codel.signals(start + ms(1000), ms(4), 20_000));
        let again: Vec<u64> = (1001..1300)
            .filter(|at| codel.signals(start + ms(*at), ms(20), 20_000))
            .collect();
        assert_eq!(again[0], 1101);
        let gap = ms(100).div_f64(f64::from(count - 1).sqrt()).as_millis() as u64;
        assert!(
            (gap..=gap + 1).contains(&(again[1] - again[0])),
            "{again:?}"
        );
    }

    #[test]
    fn bursts_and_single_packets_are_left_alone() {
        let start = Instant::now();
        let mut codel = CoDel::default();
        for at in 0..10_000 {
            // 90 ms of every 100 the queue is long.
            let sojourn = if at % 100 < 90 { ms(40) } else { ms(1) };
            assert!(!codel.signals(start + ms(at), sojourn, 20_000));
        }
        // On a slow link one packet takes longer than the target: it is no queue.
        for at in 10_000..20_000 {
            assert!(!codel.signals(start + ms(at), ms(400), 1500));
        }
    }
}
