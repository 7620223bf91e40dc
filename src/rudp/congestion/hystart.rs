//! HyStart++ (RFC 9406): slow start ends when the round trip grows, before the queue overflows.

use std::time::Duration;

use super::Ack;

/// `MIN_RTT_THRESH`.
const LEAST_RISE: Duration = Duration::from_millis(4);
/// `MAX_RTT_THRESH`.
const MOST_RISE: Duration = Duration::from_millis(16);
/// `MIN_RTT_DIVISOR`: the rise that counts, as a part of the round trip.
const RISE_DIVISOR: u32 = 8;
/// `N_RTT_SAMPLE`: a round with fewer samples decides nothing.
const ENOUGH_SAMPLES: u32 = 8;
/// `CSS_GROWTH_DIVISOR`: conservative slow start grows by this part of slow start.
const CONSERVATIVE_DIVISOR: u64 = 4;
/// `CSS_ROUNDS`: conservative slow start ends after as many rounds.
const CONSERVATIVE_ROUNDS: u32 = 5;

/// Watches the rounds of the first slow start. The limit on growth per acknowledgement (`L`) is
/// infinite: the sender is paced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HyStart {
    /// The round ends when this packet is acknowledged.
    round_end: u64,
    /// `lastRoundMinRTT`.
    last_least: Option<Duration>,
    /// `currentRoundMinRTT`.
    least: Option<Duration>,
    /// `rttSampleCount`.
    samples: u32,
    conservative: Option<Conservative>,
}

/// Conservative slow start: the rise may have been a passing one.
#[derive(Debug, Clone, Copy)]
struct Conservative {
    /// `cssBaselineMinRtt`: a round below this resumes slow start.
    baseline: Duration,
    /// Rounds that are over, the one that it began in included.
    rounds: u32,
}

/// What an acknowledgement does to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Grow by as many bytes.
    By(u64),
    /// Slow start is over: congestion avoidance begins with this acknowledgement.
    Over,
}

impl HyStart {
    /// Whether the window grows by a quarter a round only.
    pub(super) fn is_conservative(&self) -> bool {
        self.conservative.is_some()
    }

    pub(super) fn on_ack(&mut self, ack: &Ack) -> Growth {
        if ack.largest >= self.round_end && self.end_round(ack.next_packet) {
            return Growth::Over;
        }
        if let Some(rtt) = ack.rtt {
            self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
            self.samples = self.samples.saturating_add(1);
        }
        self.judge();
        match self.conservative {
            Some(_) => Growth::By(ack.bytes / CONSERVATIVE_DIVISOR),
            None => Growth::By(ack.bytes),
        }
    }

    /// Begins the next round. Whether it was the last one of conservative slow start.
    fn end_round(&mut self, next_packet: u64) -> bool {
        self.round_end = next_packet;
        self.last_least = self.least.take().or(self.last_least);
        self.samples = 0;
        self.conservative.as_mut().is_some_and(|conservative| {
            conservative.rounds += 1;
            conservative.rounds >= CONSERVATIVE_ROUNDS
        })
    }

    fn judge(&mut self) {
        let (Some(least), true) = (self.least, self.samples >= ENOUGH_SAMPLES) else {
            return;
        };
        match (self.conservative, self.last_least) {
            (Some(conservative), _) if least < conservative.baseline => self.conservative = None,
            (None, Some(last)) => {
                let rise = (last / RISE_DIVISOR).clamp(LEAST_RISE, MOST_RISE);
                if least >= last.saturating_add(rise) {
                    self.conservative = Some(Conservative {
                        baseline: least,
                        rounds: 0,
                    });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::rudp::congestion::inputs::ack;

    /// Rounds of acknowledgements of one packet each.
    struct Rounds {
        hystart: HyStart,
        next: u64,
    }

    impl Rounds {
        fn new() -> Self {
            Self {
                hystart: HyStart::default(),
                next: 0,
            }
        }

        /// What the last of `acks` acknowledgements in a round did, all with this round trip.
        fn round(&mut self, acks: u64, rtt: u64) -> Growth {
            let end = self.next + acks;
            let mut growth = Growth::By(0);
            while self.next < end {
                let mut ack = ack(Instant::now(), self.next, 1000);
                ack.next_packet = end;
                ack.rtt = Some(Duration::from_millis(rtt));
                growth = self.hystart.on_ack(&ack);
                if growth == Growth::Over {
                    return growth;
                }
                self.next += 1;
            }
            growth
        }
    }

    #[test]
    fn a_round_trip_that_stays_lets_the_window_double() {
        let mut rounds = Rounds::new();
        for _ in 0..20 {
            assert_eq!(rounds.round(10, 50), Growth::By(1000));
        }
    }

    #[test]
    fn a_rise_by_an_eighth_slows_the_growth_to_a_quarter() {
        let mut rounds = Rounds::new();
        rounds.round(10, 80);
        assert_eq!(rounds.round(10, 89), Growth::By(1000));
        assert_eq!(rounds.round(10, 99), Growth::By(1000));
        assert_eq!(rounds.round(10, 112), Growth::By(250));
    }

    #[test]
    fn the_rise_that_counts_is_between_4_and_16_ms() {
        for (before, tolerated) in [(1, 3), (8, 3), (80, 9), (128, 15), (1_000, 15)] {
            let mut rounds = Rounds::new();
            rounds.round(10, before);
            assert_eq!(rounds.round(10, before + tolerated), Growth::By(1000));
            let mut rounds = Rounds::new();
            rounds.round(10, before);
            assert_eq!(rounds.round(10, before + tolerated + 1), Growth::By(250));
        }
    }

    #[test]
    fn fewer_than_eight_samples_decide_nothing() {
        let mut rounds = Rounds::new();
        rounds.round(10, 50);
        assert_eq!(rounds.round(7, 500), Growth::By(1000));
        let mut rounds = Rounds::new();
        rounds.round(10, 50);
        assert_eq!(rounds.round(8, 500), Growth::By(250));
    }

    #[test]
    fn slow_start_is_over_after_five_conservative_rounds() {
        let mut rounds = Rounds::new();
        rounds.round(10, 50);
        for _ in 0..5 {
            assert_eq!(rounds.round(10, 60), Growth::By(250));
        }
        assert_eq!(rounds.round(10, 60), Growth::Over);
    }

    #[test]
    fn a_passing_rise_resumes_slow_start() {
        let mut rounds = Rounds::new();
        rounds.round(10, 50);
        assert_eq!(rounds.round(10, 70), Growth::By(250));
        assert_eq!(rounds.round(10, 52), Growth::By(1000));
        assert!(!rounds.hystart.is_conservative());
    }
}
