//! Vegas (Brakmo and Peterson 1995): holds two to four packets in the queue, seen by their delay.

use std::time::{Duration, Instant};

use super::{Ack, Congestion, Loss, MOST_MTU, Sent, Start, idle::Activity};

/// Fewer packets in the queue: the window grows.
const ALPHA: u64 = 2;
/// More packets in the queue: the window shrinks.
const BETA: u64 = 4;
/// More packets in the queue: slow start ends.
const GAMMA: u64 = 1;
/// A round with as few samples may have seen delayed acknowledgements only: it says nothing about
/// the queue.
const TOO_FEW_SAMPLES: u32 = 2;

/// Vegas with the rules of Linux: one decision each round trip, by the least round trip in it, and
/// Reno wherever delay tells nothing.
///
/// It knows the queue only as the difference to the least round trip it ever saw. A route that
/// becomes longer looks like a queue until the sender falls silent once, and beside a sender that
/// fills the queue it starves.
#[derive(Debug)]
pub struct Vegas {
    window: u64,
    /// `u64::MAX` until slow start ended once.
    ssthresh: u64,
    initial_window: u64,
    mtu: u64,
    /// `baseRTT`: the round trip without a queue.
    base: Option<Duration>,
    round: Round,
    /// Bytes acknowledged in Reno's avoidance since the window last grew.
    acked: u64,
    /// The last reduction answered the losses of all packets below this number.
    answered: u64,
    in_recovery: bool,
    before: Option<Before>,
    activity: Activity,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// It ends when this packet is acknowledged.
    end: u64,
    /// The window when it began.
    window: u64,
    /// The window when the first packet that it acknowledges was sent, a round trip earlier.
    sent_with: u64,
    least: Option<Duration>,
    samples: u32,
}

impl Round {
    /// One that the next acknowledgement ends.
    const fn fresh(window: u64) -> Self {
        Self {
            end: 0,
            window,
            sent_with: window,
            least: None,
            samples: 0,
        }
    }
}

/// What a reduction changed.
#[derive(Debug, Clone, Copy)]
struct Before {
    window: u64,
    ssthresh: u64,
}

impl Vegas {
    /// Begins in slow start.
    pub fn new(start: &Start) -> Self {
        let window = start.window();
        Self {
            window,
            ssthresh: u64::MAX,
            initial_window: window,
            mtu: start.mtu.clamp(1, MOST_MTU),
            base: None,
            round: Round::fresh(window),
            acked: 0,
            answered: 0,
            in_recovery: false,
            before: None,
            activity: Activity::new(start.now),
        }
    }

    fn least(&self) -> u64 {
        2 * self.mtu
    }

    fn sample(&mut self, rtt: Duration) {
        // A round trip of nothing would make any other one infinitely longer.
        let rtt = rtt.max(Duration::from_micros(1));
        self.base = Some(self.base.map_or(rtt, |base| base.min(rtt)));
        self.round.least = Some(self.round.least.map_or(rtt, |least| least.min(rtt)));
        self.round.samples = self.round.samples.saturating_add(1);
    }

    /// Begins the next round and returns the last.
    fn begin_round(&mut self, next_packet: u64, sent_with: u64) -> Round {
        std::mem::replace(
            &mut self.round,
            Round {
                end: next_packet,
                window: self.window,
                sent_with,
                least: None,
                samples: 0,
            },
        )
    }

    fn double(&mut self, ack: &Ack) {
        if !ack.app_limited {
            self.window = self.window.saturating_add(ack.bytes);
        }
    }

    fn reno(&mut self, ack: &Ack) {
        if self.window < self.ssthresh {
            self.double(ack);
        } else if !ack.app_limited {
            self.acked = self.acked.saturating_add(ack.bytes);
            if self.acked >= self.window {
                self.acked = (self.acked - self.window).min(self.window);
                self.window = self.window.saturating_add(self.mtu);
            }
        }
    }

    /// The decision of a round trip. `base` is the least of all samples, `rtt` of this round's.
    ///
    /// The least round trip is that of the round's first packets, and goes with the window that
    /// those were sent with. In slow start the window has doubled twice since then: it would take
    /// the path for so much longer, and stand in its queue for as many round trips as it has packets
    /// too many.
    fn decide(&mut self, ack: &Ack, sent_with: u64, base: Duration, rtt: Duration) {
        let expected = scale(sent_with, base, rtt);
        let queued = scale(sent_with, rtt.saturating_sub(base), base);
        let packets = |packets: u64| packets * self.mtu;
        if self.window < self.ssthresh {
            if queued > packets(GAMMA) {
                self.window = self.window.min(expected.saturating_add(self.mtu));
                self.end_slow_start();
            } else {
                self.double(ack);
            }
        } else if queued > packets(BETA) {
            self.window = self.window.saturating_sub(self.mtu);
            self.end_slow_start();
        } else if queued < packets(ALPHA) && !ack.app_limited {
            self.window = self.window.saturating_add(self.mtu);
        }
        self.window = self.window.max(self.least());
        if self.ssthresh != u64::MAX {
            self.ssthresh = self.ssthresh.max(self.window / 4 * 3);
        }
    }

    /// The window is above the threshold from now on.
    fn end_slow_start(&mut self) {
        self.ssthresh = self
            .ssthresh
            .min(self.window.saturating_sub(self.mtu))
            .max(self.mtu);
    }
}

/// `window * part / whole`, at most what fits.
fn scale(window: u64, part: Duration, whole: Duration) -> u64 {
    // A round trip has less than 2^64 nanoseconds, or is not one.
    let part = part.as_nanos().min(u128::from(u64::MAX));
    let scaled = u128::from(window) * part / whole.as_nanos().max(1);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

impl Congestion for Vegas {
    fn on_sent(&mut self, sent: &Sent) {
        let Some(silence) = self.activity.on_sent(sent) else {
            return;
        };
        // Its queue is empty now: the next sample is a fair base, and the route may be another.
        self.base = None;
        self.round = Round::fresh(self.window);
        if silence.outdates() {
            if self.ssthresh != u64::MAX {
                self.ssthresh = self.ssthresh.max(self.window / 4 * 3);
            }
            self.window = silence.decay(self.window, self.initial_window);
            self.acked = 0;
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.activity.on_ack(ack);
        if let Some(rtt) = ack.rtt {
            self.sample(rtt);
        }
        if self.in_recovery {
            if ack.largest < self.answered {
                return;
            }
            self.in_recovery = false;
            self.begin_round(ack.next_packet, self.window);
            return self.reno(ack);
        }
        if ack.largest < self.round.end {
            if self.window < self.ssthresh {
                self.double(ack);
            }
            return;
        }
        let round = self.begin_round(ack.next_packet, self.round.window);
        match (self.base, round.least) {
            (Some(base), Some(rtt)) if round.samples > TOO_FEW_SAMPLES => {
                self.decide(ack, round.sent_with, base, rtt);
            }
            _ => self.reno(ack),
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        if loss.largest >= self.answered {
            self.before = Some(Before {
                window: self.window,
                ssthresh: self.ssthresh,
            });
            self.answered = loss.next_packet;
            self.in_recovery = true;
            self.ssthresh = (self.window / 2).max(self.least());
            self.window = self.ssthresh;
            self.acked = 0;
        }
        if loss.persistent {
            self.window = self.least();
            self.in_recovery = false;
            self.round = Round::fresh(self.window);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if let Some(before) = self.before.take()
            && self.window < before.window
        {
            self.window = before.window;
            self.ssthresh = before.ssthresh;
            self.in_recovery = false;
            self.round = Round::fresh(self.window);
        }
    }

    fn on_idle_restart(&mut self, _now: Instant) {
        self.round = Round::fresh(self.window);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu.clamp(1, MOST_MTU);
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn ssthresh(&self) -> Option<u64> {
        (self.ssthresh != u64::MAX).then_some(self.ssthresh)
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.ssthresh && !self.in_recovery
    }

    fn phase(&self) -> &'static str {
        if self.in_recovery {
            "recovery"
        } else if self.in_slow_start() {
            "slow_start"
        } else {
            "avoidance"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::congestion::simulation::{MTU, Path, ack, loss, sent, start};

    const MS: Duration = Duration::from_millis(1);

    /// Acknowledges `acks` packets of a round with this round trip; the next round begins with the
    /// last of them.
    fn round(vegas: &mut Vegas, now: Instant, acks: u64, rtt: u64) {
        let first = vegas.round.end.saturating_sub(acks - 1);
        for packet in first..first + acks {
            let mut ack = ack(now, packet, MTU);
            ack.next_packet = first + 2 * acks - 1;
            ack.rtt = Some(Duration::from_millis(rtt));
            vegas.on_ack(&ack);
        }
    }

    /// In avoidance with a window of so many packets and a base of 100 ms.
    fn avoiding(now: Instant, packets: u64) -> Vegas {
        let mut vegas = Vegas::new(&Start {
            initial_window: Some(packets * MTU),
            ..start(now)
        });
        vegas.ssthresh = packets * MTU / 2;
        vegas.round.end = 100;
        vegas.round.window = packets * MTU;
        vegas.round.sent_with = packets * MTU;
        vegas.base = Some(100 * MS);
        vegas
    }

    #[test]
    fn two_to_four_packets_in_the_queue_keep_the_window() {
        let now = Instant::now();
        // With a window of 100 packets a millisecond more is a packet in the queue.
        for (rtt, window) in [
            (100, 101),
            (101, 101),
            (102, 100),
            (104, 100),
            (105, 99),
            (300, 99),
        ] {
            let mut vegas = avoiding(now, 100);
            round(&mut vegas, now, 20, rtt);
            assert_eq!(vegas.window(), window * MTU, "{rtt} ms");
        }
    }

    #[test]
    fn it_decides_once_a_round_by_the_least_round_trip() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        for packet in 90..100 {
            let mut ack = ack(now, packet, MTU);
            ack.rtt = Some(200 * MS);
            vegas.on_ack(&ack);
            assert_eq!(vegas.window(), 100 * MTU);
        }
        let mut ack = ack(now, 100, MTU);
        ack.rtt = Some(100 * MS);
        vegas.on_ack(&ack);
        assert_eq!(vegas.window(), 101 * MTU);
    }

    #[test]
    fn two_samples_decide_nothing_and_reno_takes_over() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        round(&mut vegas, now, 2, 300);
        assert_eq!((vegas.window(), vegas.acked), (100 * MTU, MTU));
        let mut vegas = avoiding(now, 100);
        round(&mut vegas, now, 3, 300);
        assert_eq!(vegas.window(), 99 * MTU);
    }

    #[test]
    fn slow_start_ends_with_a_packet_in_the_queue() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        vegas.ssthresh = u64::MAX;
        round(&mut vegas, now, 20, 101);
        assert_eq!((vegas.phase(), vegas.window()), ("slow_start", 120 * MTU));
        round(&mut vegas, now, 20, 200);
        // What fits the path without a queue, half of the 100 packets that the round was sent
        // with, and a packet.
        assert_eq!((vegas.phase(), vegas.window()), ("avoidance", 51 * MTU));
    }

    #[test]
    fn a_round_trip_below_the_base_is_the_new_base() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        round(&mut vegas, now, 20, 50);
        assert_eq!(vegas.base, Some(50 * MS));
        assert_eq!(vegas.window(), 101 * MTU);
        round(&mut vegas, now, 20, 0);
        assert_eq!(vegas.window(), 102 * MTU);
    }

    #[test]
    fn silence_forgets_the_base() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        vegas.on_sent(&sent(now + 10 * MS, 0, true));
        round(&mut vegas, now, 20, 300);
        assert_eq!(vegas.base, Some(300 * MS));
    }

    #[test]
    fn a_loss_halves_the_window_and_the_samples_of_before_are_forgotten() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        for packet in 90..99 {
            vegas.on_ack(&ack(now, packet, MTU));
        }
        vegas.on_congestion(&loss(now, 95, 110));
        vegas.on_congestion(&loss(now, 97, 110));
        assert_eq!((vegas.window(), vegas.phase()), (50 * MTU, "recovery"));
        vegas.on_ack(&ack(now, 109, MTU));
        assert_eq!(vegas.phase(), "recovery");
        vegas.on_ack(&ack(now, 110, MTU));
        assert_eq!((vegas.phase(), vegas.round.samples), ("avoidance", 0));
        vegas.on_spurious_loss(now);
        assert_eq!(vegas.window(), 100 * MTU);
    }

    #[test]
    fn a_probe_timeout_begins_a_new_round() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        for packet in 80..99 {
            vegas.on_ack(&ack(now, packet, MTU));
        }
        vegas.on_idle_restart(now);
        assert_eq!((vegas.round.samples, vegas.round.least), (0, None));
        assert!(vegas.base.is_some());
    }

    #[test]
    fn it_fills_the_path_and_leaves_the_queue_empty() {
        let path = Path {
            rate: 12_500_000,
            rtt: 50 * MS,
            queue: 3_000_000,
            loss: |_| 0.0,
            seed: 1,
        };
        let mut vegas = Vegas::new(&start(Instant::now()));
        let outcome = path.run(&mut vegas, Duration::from_secs(40), u64::MAX);
        assert!(outcome.mbit() > 75.0, "{outcome:?}");
        // Ten packets take a millisecond.
        assert!(outcome.late_rtt < 52 * MS, "{outcome:?}");
        assert_eq!(outcome.reductions, 0);
    }

    #[test]
    fn no_numbers_overflow() {
        let now = Instant::now();
        for (mtu, window) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX), (65_535, 0)] {
            let mut vegas = Vegas::new(&Start {
                mtu,
                initial_window: Some(window),
                ..start(now)
            });
            for packet in (0..60).chain([u64::MAX - 1]) {
                let mut ack = ack(now, packet, u64::MAX);
                ack.next_packet = packet.saturating_add(4);
                ack.rtt = Some([Duration::ZERO, Duration::MAX, MS][packet as usize % 3]);
                vegas.on_ack(&ack);
                if packet % 20 == 19 {
                    vegas.on_congestion(&loss(now, packet, packet + 1));
                    vegas.on_mtu(mtu);
                    vegas.on_sent(&sent(now + Duration::from_secs(1 << 30), 0, true));
                }
                assert!(vegas.window() >= 2);
            }
        }
    }
}
