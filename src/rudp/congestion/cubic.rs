//! CUBIC (RFC 9438): the window is a cubic function of the time since the last reduction.

use std::time::{Duration, Instant};

use super::{
    Ack, Congestion, Loss, MOST_MTU, Sent, Start,
    hystart::{Growth, HyStart},
    idle::Activity,
};

/// `C`: how steep the curve is, in packets a second cubed (RFC 9438 section 5.1).
const STEEPNESS: f64 = 0.4;

/// beta: what a reduction leaves of the window (section 4.6).
const KEPT: f64 = 0.7;

/// `alpha_cubic`: packets a round trip at which a sender that keeps beta is as fast as Reno
/// (section 4.3).
const RENO_GROWTH: f64 = 3.0 * (1.0 - KEPT) / (1.0 + KEPT);

/// The target is at most this many windows (section 4.2).
const MOST_TARGET: f64 = 1.5;

/// No window is larger: a terabyte. Every number below stays finite and exact.
const MOST_WINDOW: f64 = (1_u64 << 40) as f64;

/// CUBIC of RFC 9438, with HyStart++ in its first slow start.
///
/// All amounts are bytes, as floating point: an acknowledgement often earns less than a byte, and
/// none of that is lost.
#[derive(Debug)]
pub struct Cubic {
    state: State,
    /// `state` before the last reduction.
    before: Option<State>,
    initial_window: f64,
    mtu: f64,
    /// The last reduction answered the losses of all packets below this number.
    answered: u64,
    in_recovery: bool,
    activity: Activity,
}

/// What a reduction changes, and its undoing restores.
#[derive(Debug, Clone, Copy)]
struct State {
    window: f64,
    /// Infinite until the first loss.
    ssthresh: f64,
    /// `W_max`: the window before the last reduction, or less by fast convergence. 0: none that the
    /// curve should lead back to.
    highest: f64,
    /// `cwnd_prior`: the window before the last reduction.
    prior: f64,
    epoch: Option<Epoch>,
    /// In the first slow start only (RFC 9406 section 4.3).
    hystart: Option<HyStart>,
}

/// A stage of congestion avoidance.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    /// When it began, later by each time in which the application held the sender back.
    start: Instant,
    /// `K`: seconds from the start to the plateau.
    plateau_after: f64,
    /// The window at the plateau.
    plateau: f64,
    /// `W_est`: the window that Reno would have.
    reno: f64,
    region: Region,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    RenoFriendly,
    Concave,
    Convex,
}

impl Cubic {
    /// Begins in slow start.
    pub fn new(start: &Start) -> Self {
        let window = (start.window() as f64).min(MOST_WINDOW);
        Self {
            state: State {
                window,
                ssthresh: f64::INFINITY,
                highest: 0.0,
                prior: 0.0,
                epoch: None,
                hystart: Some(HyStart::default()),
            },
            before: None,
            initial_window: window,
            mtu: datagram(start.mtu),
            answered: 0,
            in_recovery: false,
            activity: Activity::new(start.now),
        }
    }

    fn least(&self) -> f64 {
        2.0 * self.mtu
    }

    /// Grows in slow start. How many of the bytes are left for congestion avoidance.
    fn slow_start(&mut self, ack: &Ack) -> u64 {
        let state = &mut self.state;
        let bytes = match state.hystart.as_mut().map(|hystart| hystart.on_ack(ack)) {
            None => ack.bytes,
            Some(Growth::By(bytes)) => bytes,
            Some(Growth::Over) => {
                state.ssthresh = state.window;
                state.hystart = None;
                return ack.bytes;
            }
        };
        if ack.app_limited {
            return 0;
        }
        let grown = (state.window + bytes as f64).min(state.ssthresh);
        let left = bytes as f64 - (grown - state.window);
        state.window = grown.min(MOST_WINDOW);
        if state.ssthresh.is_finite() {
            left as u64
        } else {
            0
        }
    }

    /// Sections 4.2 to 4.5.
    fn avoid(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        let (mtu, state) = (self.mtu, &mut self.state);
        let (window, prior) = (state.window, state.prior);
        let epoch = state
            .epoch
            .get_or_insert_with(|| Epoch::new(now, window, state.highest, mtu));
        // An acknowledgement of more than a window tells of one round trip, as one of a window.
        let share = (bytes as f64 / window).min(1.0);
        let growth = if epoch.reno >= prior {
            1.0
        } else {
            RENO_GROWTH
        };
        epoch.reno = (epoch.reno + growth * mtu * share).min(MOST_WINDOW);

        let elapsed = now.saturating_duration_since(epoch.start);
        let curve = epoch.curve(elapsed, mtu);
        if curve < epoch.reno {
            epoch.region = Region::RenoFriendly;
            state.window = window.max(epoch.reno);
        } else {
            epoch.region = if curve < epoch.plateau {
                Region::Concave
            } else {
                Region::Convex
            };
            let target = epoch
                .curve(elapsed.saturating_add(rtt), mtu)
                .clamp(window, MOST_TARGET * window);
            state.window = (window + (target - window) * share).min(MOST_WINDOW);
        }
    }

    /// A time in which the application held the sender back does not move it along the curve
    /// (section 5.8): the window would jump when it sends again.
    fn exclude(&mut self, now: Instant, time: Duration) {
        if let Some(epoch) = &mut self.state.epoch {
            epoch.start = epoch
                .start
                .checked_add(time)
                .map_or(now, |start| start.min(now));
        }
    }
}

impl Epoch {
    fn new(start: Instant, window: f64, highest: f64, mtu: f64) -> Self {
        // After slow start that no loss ended, and above the former maximum, the curve begins with
        // its plateau (sections 4.8 and 4.10).
        let plateau = highest.max(window);
        Self {
            start,
            plateau_after: ((plateau - window) / mtu / STEEPNESS).cbrt(),
            plateau,
            reno: window,
            region: Region::Concave,
        }
    }

    /// `W_cubic(t)` in bytes (section 4.2).
    fn curve(&self, elapsed: Duration, mtu: f64) -> f64 {
        let time = elapsed.as_secs_f64() - self.plateau_after;
        self.plateau + STEEPNESS * time * time * time * mtu
    }
}

fn datagram(mtu: u64) -> f64 {
    mtu.clamp(1, MOST_MTU) as f64
}

impl Congestion for Cubic {
    fn on_sent(&mut self, sent: &Sent) {
        let Some(silence) = self.activity.on_sent(sent) else {
            return;
        };
        self.exclude(sent.now, silence.length);
        if silence.outdates() {
            // Slow start leads back most of the way.
            let state = &mut self.state;
            let back = 0.75 * state.window;
            state.ssthresh = state.ssthresh.max(back);
            if let Some(epoch) = &mut state.epoch {
                epoch.reno = epoch.reno.min(back);
            }
            state.window = silence.decay(state.window as u64, self.initial_window as u64) as f64;
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        let since_last = self.activity.on_ack(ack);
        if ack.app_limited {
            self.exclude(ack.now, since_last);
        }
        if self.in_recovery {
            if ack.largest < self.answered {
                return;
            }
            self.in_recovery = false;
        }
        let bytes = if self.state.window < self.state.ssthresh {
            self.slow_start(ack)
        } else {
            ack.bytes
        };
        if bytes > 0 && !ack.app_limited {
            self.avoid(ack.now, bytes, ack.smoothed_rtt);
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        let least = self.least();
        if loss.largest >= self.answered {
            self.before = Some(self.state);
            self.answered = loss.next_packet;
            self.in_recovery = true;
            let state = &mut self.state;
            // Fast convergence (section 4.7): a flow that did not get back to where it was makes
            // room for the one that took the rest. The window itself is reduced once.
            state.highest = if state.window < state.highest {
                state.window * (1.0 + KEPT) / 2.0
            } else {
                state.window
            };
            state.prior = state.window;
            state.ssthresh = (state.window * KEPT).max(least);
            state.window = state.ssthresh;
            state.epoch = None;
            state.hystart = None;
        }
        if loss.persistent {
            let state = &mut self.state;
            state.window = least;
            state.highest = 0.0;
            state.epoch = None;
            self.in_recovery = false;
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        if let Some(before) = self.before.take()
            && self.state.window < before.window
        {
            self.state = before;
            self.in_recovery = false;
        }
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = datagram(mtu);
        self.state.window = self.state.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.state.window as u64
    }

    fn ssthresh(&self) -> Option<u64> {
        let ssthresh = self.state.ssthresh;
        ssthresh.is_finite().then_some(ssthresh as u64)
    }

    fn in_slow_start(&self) -> bool {
        self.phase() == "slow_start"
    }

    fn phase(&self) -> &'static str {
        let state = &self.state;
        if self.in_recovery {
            return "recovery";
        }
        if state.window < state.ssthresh {
            return match state.hystart {
                Some(hystart) if hystart.is_conservative() => "conservative_slow_start",
                _ => "slow_start",
            };
        }
        match state.epoch.map(|epoch| epoch.region) {
            Some(Region::RenoFriendly) => "reno_friendly",
            Some(Region::Convex) => "convex",
            Some(Region::Concave) | None => "concave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::congestion::simulation::{MTU, Outcome, Path, ack, loss, sent, start};

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(50);

    /// Just reduced from a window of so many packets, and out of recovery with the next
    /// acknowledgement.
    fn reduced(now: Instant, packets: u64) -> Cubic {
        let mut cubic = Cubic::new(&Start {
            initial_window: Some(packets * MTU),
            ..start(now)
        });
        cubic.initial_window = 10.0 * MTU as f64;
        cubic.on_congestion(&loss(now, 9, 10));
        cubic
    }

    fn packets(cubic: &Cubic) -> f64 {
        cubic.state.window / MTU as f64
    }

    /// Acknowledges a window each round trip, in ten pieces.
    fn round_trips(cubic: &mut Cubic, mut now: Instant, count: u32, app_limited: bool) -> Instant {
        for _ in 0..10 * count {
            now += RTT / 10;
            let mut ack = ack(now, 10, cubic.window() / 10);
            ack.app_limited = app_limited;
            cubic.on_ack(&ack);
        }
        now
    }

    fn close(a: f64, b: f64, by: f64) -> bool {
        (a / b - 1.0).abs() < by
    }

    #[test]
    fn a_loss_leaves_seven_tenths_once_a_round_trip() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        assert_eq!(cubic.window(), 70 * MTU);
        cubic.on_congestion(&loss(now, 9, 12));
        assert_eq!((cubic.window(), cubic.phase()), (70 * MTU, "recovery"));
        assert_eq!(cubic.ssthresh(), Some(70 * MTU));
    }

    #[test]
    fn the_window_is_back_at_its_maximum_after_k_and_flat_there() {
        let now = Instant::now();
        let mut cubic = reduced(now, 1000);
        // The target is a round trip ahead: the cubic is there at K = cbrt(300 / 0.4) = 9.09 s.
        let now = round_trips(&mut cubic, now, 90, false);
        // 0.4 (4.55 - 9.09)^3 + 1000
        assert!(close(packets(&cubic), 962.6, 0.002), "{}", packets(&cubic));
        assert_eq!(cubic.phase(), "concave");
        let now = round_trips(&mut cubic, now, 90, false);
        assert!(close(packets(&cubic), 1000.0, 0.001));
        let now = round_trips(&mut cubic, now, 20, false);
        assert!(close(packets(&cubic), 1000.4, 0.001));
        assert_eq!(cubic.phase(), "convex");
        round_trips(&mut cubic, now, 160, false);
        // 0.4 (18.05 - 9.09)^3 + 1000, less the window's lag behind the target.
        assert!(close(packets(&cubic), 1288.0, 0.01), "{}", packets(&cubic));
    }

    #[test]
    fn fast_convergence_lowers_the_maximum_and_not_the_window() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        assert_eq!(cubic.state.highest, 100.0 * MTU as f64);
        cubic.on_congestion(&loss(now, 10, 12));
        assert!(close(packets(&cubic), 49.0, 1e-9));
        assert!(close(cubic.state.highest, 59.5 * MTU as f64, 1e-9));
    }

    #[test]
    fn below_reno_it_grows_as_reno_does_and_by_a_packet_beyond_the_former_window() {
        let now = Instant::now();
        let mut cubic = reduced(now, 20);
        let now = round_trips(&mut cubic, now, 4, false);
        assert_eq!(cubic.phase(), "reno_friendly");
        assert!(close(packets(&cubic), 14.0 + 4.0 * 0.529, 0.01));
        let now = round_trips(&mut cubic, now, 7, false);
        assert!(packets(&cubic) < 20.0);
        let now = round_trips(&mut cubic, now, 2, false);
        let before = packets(&cubic);
        round_trips(&mut cubic, now, 4, false);
        assert!(close(packets(&cubic) - before, 4.0, 0.05));
    }

    #[test]
    fn the_window_grows_by_half_a_round_trip_at_most() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        let now = round_trips(&mut cubic, now, 1, false);
        let before = cubic.window();
        cubic.on_ack(&ack(now + Duration::from_secs(1000), 10, u64::MAX));
        assert!(cubic.window() <= before * 3 / 2);
        assert!(cubic.window() > before * 5 / 4);
    }

    #[test]
    fn growth_of_less_than_a_byte_adds_up() {
        let now = Instant::now();
        let (mut whole, mut pieces) = (reduced(now, 1000), reduced(now, 1000));
        let later = now + Duration::from_secs(1);
        for cubic in [&mut whole, &mut pieces] {
            cubic.on_ack(&ack(now, 10, 1));
        }
        whole.on_ack(&ack(later, 10, 100_000));
        for _ in 0..100_000 {
            pieces.on_ack(&ack(later, 10, 1));
        }
        let grown = |cubic: &Cubic| packets(cubic) - 700.0;
        assert!(grown(&whole) > 5.0);
        assert!(close(grown(&whole), grown(&pieces), 0.1));
    }

    #[test]
    fn time_in_which_the_application_limits_does_not_count() {
        let begin = Instant::now();
        let mut busy = reduced(begin, 1000);
        let now = round_trips(&mut busy, begin, 40, false);
        round_trips(&mut busy, now, 40, false);

        let mut lazy = reduced(begin, 1000);
        let now = round_trips(&mut lazy, begin, 40, false);
        let before = lazy.window();
        let now = round_trips(&mut lazy, now, 1200, true);
        assert_eq!(lazy.window(), before);
        round_trips(&mut lazy, now, 40, false);
        assert!(close(packets(&lazy), packets(&busy), 1e-9));
    }

    #[test]
    fn silence_does_not_count_and_time_between_packets_of_a_tiny_window_does() {
        let begin = Instant::now();
        let mut silent = reduced(begin, 1000);
        let now = round_trips(&mut silent, begin, 10, false);
        let elapsed = |cubic: &Cubic, now: Instant| now - cubic.state.epoch.unwrap().start;
        let before = elapsed(&silent, now);
        let later = now + 100 * MS;
        silent.on_sent(&sent(later, 0, true));
        assert_eq!(elapsed(&silent, later), before);
        // A window of two packets has nothing in flight whenever it is acknowledged: what is sent
        // at once excludes nothing, and neither does a sender that waits for its window.
        let later = later + 50 * MS;
        silent.on_ack(&ack(later, 10, MTU));
        silent.on_sent(&sent(later, 0, true));
        silent.on_sent(&sent(later + 50 * MS, 0, false));
        assert_eq!(elapsed(&silent, later), before + 50 * MS);
    }

    #[test]
    fn silence_halves_the_window_and_slow_start_leads_back() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        let now = round_trips(&mut cubic, now, 1, false);
        let before = cubic.window();
        cubic.on_sent(&sent(now + 550 * MS, 0, true));
        assert_eq!((cubic.window(), cubic.phase()), (before / 4, "slow_start"));
        round_trips(&mut cubic, now + 550 * MS, 2, false);
        assert!(close(packets(&cubic), 71.0, 0.02), "{}", packets(&cubic));
    }

    #[test]
    fn the_curve_begins_flat_after_slow_start_without_loss() {
        let begin = Instant::now();
        let mut cubic = Cubic::new(&start(begin));
        let mut next = 0;
        let mut now = begin;
        // Every round trip is longer than the one before.
        for round in 0..20 {
            now += RTT;
            let end = next + 10;
            for packet in next..end {
                let mut ack = ack(now, packet, MTU);
                ack.next_packet = end;
                ack.rtt = Some((50 + 10 * round) * MS);
                cubic.on_ack(&ack);
            }
            next = end;
        }
        let epoch = cubic.state.epoch.unwrap();
        assert_eq!(epoch.plateau_after, 0.0);
        assert_eq!(cubic.ssthresh(), Some(epoch.plateau as u64));
        assert!(cubic.state.hystart.is_none());
    }

    #[test]
    fn persistent_congestion_starts_again_from_two_datagrams() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        cubic.on_congestion(&Loss {
            persistent: true,
            ..loss(now, 30, 40)
        });
        assert_eq!((cubic.window(), cubic.phase()), (2 * MTU, "slow_start"));
        let now = round_trips(&mut cubic, now, 10, false);
        assert!(close(packets(&cubic), 49.0, 0.1), "{}", packets(&cubic));
        let epoch = cubic.state.epoch.unwrap();
        assert_eq!(
            (epoch.plateau_after, epoch.plateau),
            (0.0, cubic.state.ssthresh)
        );
        assert!(now > epoch.start);
    }

    #[test]
    fn a_spurious_loss_is_undone_while_the_window_is_below_the_former_one() {
        let now = Instant::now();
        let mut cubic = reduced(now, 100);
        cubic.on_spurious_loss(now);
        assert_eq!((cubic.window(), cubic.ssthresh()), (100 * MTU, None));
        assert_eq!(cubic.phase(), "slow_start");

        let mut cubic = reduced(now, 10);
        let now = round_trips(&mut cubic, now, 40, false);
        let window = cubic.window();
        assert!(window > 10 * MTU);
        cubic.on_spurious_loss(now);
        assert_eq!(cubic.window(), window);
    }

    fn run(loss: fn(Duration) -> f64, seconds: u64, bytes: u64, seed: u64) -> Outcome {
        let path = Path {
            rate: 12_500_000,
            rtt: RTT,
            queue: 625_000,
            loss,
            seed,
        };
        let mut cubic = Cubic::new(&start(Instant::now()));
        path.run(&mut cubic, Duration::from_secs(seconds), bytes)
    }

    #[test]
    fn it_recovers_from_a_third_lost_in_the_first_two_seconds() {
        for seed in 0..20 {
            let loss = |time| if time < 2000 * MS { 0.3 } else { 0.0 };
            let outcome = run(loss, 60, 10_000_000, seed);
            assert!(outcome.elapsed < Duration::from_secs(10), "{outcome:?}");
        }
    }

    #[test]
    fn a_clean_path_is_filled() {
        let outcome = run(|_| 0.0, 10, u64::MAX, 1);
        assert!(outcome.mbit() > 85.0, "{outcome:?}");
    }

    #[test]
    fn throughput_under_random_loss_is_that_of_reno_at_least() {
        for (loss, p) in [
            ((|_| 0.001) as fn(Duration) -> f64, 0.001),
            (|_| 0.01, 0.01),
        ] {
            let law = (1.5_f64 / p).sqrt() * MTU as f64 * 8e-6 / 0.05;
            let ratio = run(loss, 200, u64::MAX, 3).mbit() / law;
            assert!((0.85..1.5).contains(&ratio), "{p}: {ratio}");
        }
    }

    #[test]
    fn no_numbers_overflow() {
        let now = Instant::now();
        for (mtu, window) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX), (65_535, 0)] {
            let mut cubic = Cubic::new(&Start {
                mtu,
                initial_window: Some(window),
                ..start(now)
            });
            for (packet, years) in [(0, 0), (5, 1), (6, 100), (7, 0), (u64::MAX - 1, 100)] {
                let now = now + Duration::from_secs(years * 31_000_000);
                for bytes in [0, 1, u64::MAX] {
                    let mut ack = ack(now, packet, bytes);
                    ack.smoothed_rtt = Duration::MAX;
                    ack.rtt = Some(Duration::MAX);
                    cubic.on_ack(&ack);
                    ack.app_limited = true;
                    cubic.on_ack(&ack);
                }
                cubic.on_congestion(&loss(now, packet, packet + 1));
                cubic.on_mtu(mtu);
                cubic.on_sent(&sent(now, 0, true));
                assert!(cubic.state.window.is_finite() && cubic.window() >= 2);
            }
        }
    }
}
