//! Vegas (Brakmo and Peterson 1995): holds two to four packets in the queue, seen by their delay.

use std::time::{Duration, Instant};

use super::{Ack, Congestion, Loss, NewReno, Sent, Start};
use crate::watch::event::transport::Reaction;

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
/// becomes longer looks like a queue until the sender falls silent once, jitter looks like one that
/// comes and goes, and beside a sender that fills the queue it starves.
///
/// # Where it departs from Linux
///
/// 1. *Slow start ends in the midst of a round trip*, not at its end, where the window would have
///    doubled once more and have overflowed the queue.
/// 2. *The window is then what fits the path*, told by the packets that are still under way: how
///    much was in flight with each, and the round trip that this made. Linux takes what the first
///    packets of the round were sent with; short of the path it grows from there by a packet each
///    round trip, for seconds.
/// 3. *Losses of what slow start sent are answered by its end* (Brakmo and Peterson section 3.2:
///    they say nothing of the window that is smaller by now).
/// 4. *What is sent at once queues behind itself*: beyond `ALPHA` packets that is not taken for a
///    queue that stands. A fast sender that is paced by timers sends more than `BETA` at once.
#[derive(Debug)]
pub struct Vegas {
    reno: NewReno,
    /// `baseRTT`: the round trip without a queue.
    base: Option<Duration>,
    round: Round,
    burst: Burst,
    settling: Settling,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// The round trip ends when this packet is acknowledged.
    end: u64,
    /// The window when it began.
    window: u64,
    /// The window when the first packet that it acknowledges was sent, a round trip earlier.
    sent_with: u64,
    least: Option<Duration>,
    samples: u32,
}

impl Round {
    /// A round trip that the next acknowledgement ends.
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

/// What is sent at once, but for one packet.
#[derive(Debug, Clone, Copy)]
struct Burst {
    at: Instant,
    /// Bytes.
    now: u64,
    /// Of the last eight, roughly.
    mean: u64,
}

impl Burst {
    fn on_sent(&mut self, sent: &Sent) {
        if self.at == sent.now {
            self.now = self.now.saturating_add(sent.bytes);
        } else {
            self.mean = self.mean / 8 * 7 + self.now / 8;
            self.now = 0;
            self.at = sent.now;
        }
    }
}

/// The end of slow start, until the last of what it sent is acknowledged.
#[derive(Debug, Clone, Copy, Default)]
struct Settling {
    /// Packets below this number were sent in slow start.
    until: u64,
    /// The window that slow start got to.
    most: u64,
}

impl Vegas {
    /// Begins in slow start.
    pub fn new(start: &Start) -> Self {
        let reno = NewReno::new(start);
        Self {
            base: None,
            round: Round::fresh(reno.window),
            burst: Burst {
                at: start.now,
                now: 0,
                mean: 0,
            },
            settling: Settling::default(),
            reno,
        }
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
                window: self.reno.window,
                sent_with,
                least: None,
                samples: 0,
            },
        )
    }

    fn in_doubling(&self) -> bool {
        self.reno.window < self.reno.ssthresh
    }

    /// What stood in the queue in a round, bursts aside; `None`: too few samples to tell.
    ///
    /// The least round trip is that of the round's first packets, and goes with the window that
    /// those were sent with: in slow start it has doubled twice since.
    fn standing(&self, round: &Round) -> Option<u64> {
        let (base, least) = (self.base?, round.least?);
        let queued = scale(round.sent_with, least.saturating_sub(base), base);
        let burst = self.burst.mean.saturating_sub(ALPHA * self.reno.mtu);
        (round.samples > TOO_FEW_SAMPLES).then(|| queued.saturating_sub(burst))
    }

    /// Ends slow start if the round shows a queue so far.
    fn leave_slow_start(&mut self, ack: &Ack) -> bool {
        let gamma = GAMMA * self.reno.mtu;
        if self
            .standing(&self.round)
            .is_none_or(|bytes| bytes <= gamma)
        {
            return false;
        }
        let (Some(base), Some(least)) = (self.base, self.round.least) else {
            return false;
        };
        let expected = scale(self.round.sent_with, base, least).saturating_add(self.reno.mtu);
        self.reno.reaction = Some(Reaction::Delay {
            standing: self.standing(&self.round).unwrap_or(0),
            least,
            base,
            slow_start: true,
        });
        self.settling = Settling {
            until: ack.next_packet,
            most: self.reno.window,
        };
        self.reno.window = self.reno.window.min(expected).max(self.reno.least());
        self.settle(ack);
        self.reno.answer(ack.next_packet);
        self.lower_threshold();
        self.begin_round(ack.next_packet, self.round.window);
        true
    }

    /// What was sent in slow start fills the path and its queue, so that its round trip tells what
    /// of it fits the path alone.
    fn settle(&mut self, ack: &Ack) {
        if let (Some(base), Some(rtt)) = (self.base, ack.rtt) {
            let fits = scale(ack.delivery.tx_in_flight, base, rtt.max(base));
            let fits = fits.saturating_add(self.reno.mtu).min(self.settling.most);
            self.reno.window = self.reno.window.max(fits);
        }
    }

    /// The decision of a round trip in which so much stood in the queue.
    fn decide(&mut self, ack: &Ack, standing: u64, least: Option<Duration>) {
        let reno = &mut self.reno;
        if standing > BETA * reno.mtu {
            let smaller = reno.window.saturating_sub(reno.mtu).max(reno.least());
            if smaller < reno.window {
                reno.window = smaller;
                reno.reaction = Some(Reaction::Delay {
                    standing,
                    least: least.unwrap_or_default(),
                    base: self.base.unwrap_or_default(),
                    slow_start: false,
                });
            }
            self.lower_threshold();
        } else if standing < ALPHA * reno.mtu && !ack.app_limited {
            reno.window = reno.window.saturating_add(reno.mtu);
        }
        self.raise_threshold();
    }

    /// The window is above the threshold from now on.
    fn lower_threshold(&mut self) {
        let reno = &mut self.reno;
        let below = reno.window.saturating_sub(reno.mtu);
        reno.ssthresh = reno.ssthresh.min(below).max(reno.mtu);
    }

    /// A later slow start gets most of the way to a window that proved right.
    fn raise_threshold(&mut self) {
        self.reno.ssthresh = self.reno.ssthresh.max(self.reno.window / 4 * 3);
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
        self.burst.on_sent(sent);
        if self.reno.restart(sent) {
            // Its queue is empty now: the next sample is a fair base, and the route may be another.
            self.base = None;
            self.round = Round::fresh(self.reno.window);
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        let recovering = self.reno.in_recovery;
        if let Some(rtt) = ack.rtt {
            self.sample(rtt);
        }
        if self.reno.recovers(ack) {
            return;
        }
        if recovering {
            self.begin_round(ack.next_packet, self.reno.window);
            return self.reno.grow(ack);
        }
        if ack.largest < self.settling.until {
            self.settle(ack);
        }
        if self.in_doubling() {
            if self.leave_slow_start(ack) {
                return;
            }
            self.reno.grow(ack);
        }
        if ack.largest < self.round.end {
            return;
        }
        let round = self.begin_round(ack.next_packet, self.round.window);
        match self.standing(&round) {
            _ if self.in_doubling() => {}
            Some(standing) => self.decide(ack, standing, round.least),
            None => self.reno.grow(ack),
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        if !self.reno.has_answered(loss.largest) {
            self.settling = Settling::default();
        }
        self.reno.on_congestion(loss);
        if loss.persistent {
            self.settling = Settling::default();
            self.round = Round::fresh(self.reno.window);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if self.reno.undo() {
            self.round = Round::fresh(self.reno.window);
        }
    }

    fn on_idle_restart(&mut self, _now: Instant) {
        self.round = Round::fresh(self.reno.window);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.reno.on_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.reno.window()
    }

    fn ssthresh(&self) -> Option<u64> {
        self.reno.ssthresh()
    }

    fn in_slow_start(&self) -> bool {
        self.reno.in_slow_start()
    }

    fn take_reaction(&mut self) -> Option<Reaction> {
        self.reno.take_reaction()
    }

    fn phase(&self) -> &'static str {
        self.reno.phase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::congestion::{
        inputs::{MTU, ack, loss, sent, start},
        simulator::{self, ENDLESS, Path, alone},
    };

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
        vegas.reno.ssthresh = packets * MTU / 2;
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
        assert_eq!((vegas.window(), vegas.reno.acked), (100 * MTU, MTU));
        let mut vegas = avoiding(now, 100);
        round(&mut vegas, now, 3, 300);
        assert_eq!(vegas.window(), 99 * MTU);
    }

    #[test]
    fn slow_start_ends_with_a_packet_in_the_queue() {
        let now = Instant::now();
        let mut vegas = avoiding(now, 100);
        vegas.reno.ssthresh = u64::MAX;
        round(&mut vegas, now, 20, 101);
        assert_eq!((vegas.phase(), vegas.window()), ("slow_start", 120 * MTU));
        round(&mut vegas, now, 3, 200);
        // What fits the path without a queue, half of the 100 packets that the round was sent
        // with, and a packet.
        assert_eq!((vegas.phase(), vegas.window()), ("avoidance", 51 * MTU));
    }

    /// Slow start has just ended with the acknowledgement of packet 121, and 240 were sent.
    fn settling(now: Instant) -> Vegas {
        let mut vegas = avoiding(now, 100);
        vegas.reno.ssthresh = u64::MAX;
        round(&mut vegas, now, 20, 100);
        for packet in 101..104 {
            let mut ack = ack(now, packet, 40 * MTU);
            ack.next_packet = 240;
            ack.rtt = Some(200 * MS);
            vegas.on_ack(&ack);
        }
        assert_eq!((vegas.phase(), vegas.window()), ("avoidance", 51 * MTU));
        vegas
    }

    #[test]
    fn what_slow_start_sent_tells_what_fits_the_path() {
        let now = Instant::now();
        let mut vegas = settling(now);
        for (packet, in_flight, rtt, window) in [
            (120, 140, 200, 71),
            (130, 160, 400, 71),
            (140, 900, 150, 200),
            (239, 900, 110, 200),
        ] {
            let mut ack = ack(now, packet, MTU);
            ack.next_packet = 300;
            ack.rtt = Some(Duration::from_millis(rtt));
            ack.delivery.tx_in_flight = in_flight * MTU;
            vegas.on_ack(&ack);
            assert_eq!(vegas.window(), window * MTU, "{packet}");
        }
    }

    #[test]
    fn a_loss_of_what_slow_start_sent_is_answered_by_its_end() {
        let now = Instant::now();
        let mut vegas = settling(now);
        vegas.on_congestion(&loss(now, 239, 250));
        assert_eq!((vegas.phase(), vegas.window()), ("avoidance", 51 * MTU));
        vegas.on_congestion(&loss(now, 240, 250));
        assert_eq!(vegas.phase(), "recovery");
        assert_eq!(vegas.window(), 51 * MTU / 2);
    }

    #[test]
    fn a_burst_that_queues_behind_itself_is_no_queue() {
        let now = Instant::now();
        for (packets, window) in [(1, 99), (3, 99), (5, 100), (8, 101)] {
            let mut vegas = avoiding(now, 100);
            for burst in 1..100 {
                for _ in 0..packets {
                    vegas.on_sent(&sent(now + burst * MS, MTU, false));
                }
            }
            // Five packets more than without a queue.
            round(&mut vegas, now, 20, 105);
            assert_eq!(vegas.window(), window * MTU, "{packets}");
        }
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
            queue: 3_000_000,
            ..Path::new(100, 50)
        };
        let vegas = Vegas::new(&Start {
            mtu: simulator::MTU,
            ..start(Instant::now())
        });
        let flow = alone(path, 1, vegas, ENDLESS, Duration::from_secs(40));
        let mbit = flow.delivered as f64 * 8e-6 / 40.0;
        assert!(mbit > 75.0, "{mbit}");
        // Ten packets take a millisecond.
        assert!(flow.smoothed < Some(52 * MS), "{:?}", flow.smoothed);
        assert_eq!(flow.lost, 0);
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
