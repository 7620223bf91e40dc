//! When the next packets may go: a token bucket in virtual time.

use std::time::{Duration, Instant};

use super::rtt::INITIAL_RTT;

/// How much time's worth of data goes at once. Timers are coarser than the gap between packets, and
/// a batch costs the system less than its packets one by one.
const BURST_TIME: Duration = Duration::from_millis(1);

/// A burst below [`FAST`], at most.
const MOST_BURST: u64 = 64 << 10;

/// A burst from [`FAST`] on, at most.
const MOST_FAST_BURST: u64 = 256 << 10;

/// And where the path's round trip is short besides: what is in flight there bounds a burst, too.
const MOST_CLOSE_BURST: u64 = 1 << 20;

/// 4 Gbit/s: 64 KiB take less than three timer ticks here.
const FAST: u64 = 500_000_000;

/// A burst, at least: a receiver acknowledges every second packet.
const LEAST_BURST: u64 = 2;

/// A burst, at least, where timers are no finer than the path's round trip, and the first one
/// (RFC 9002 section 7.2).
const LEAST_CLOSE_BURST: u64 = 10;

/// Round trips below this are close to what timers can tell apart. It is the path's own one that
/// counts: where it has grown by waiting for a busy processor, sending by twos would keep that busier
/// still.
const CLOSE: Duration = Duration::from_millis(2);

/// A sender that comes late to a full bucket is credited this time too.
const MOST_LATE: Duration = Duration::from_millis(2);

/// A sender that comes as late as this was not late but had nothing to send: it gets a burst.
const IDLE: Duration = Duration::from_millis(10);

/// No bucket takes longer to fill.
const MOST_ELAPSED: Duration = Duration::from_secs(60);

/// The largest datagram that UDP can carry.
const MOST_MTU: u64 = 65_535;

const SECOND: i128 = 1_000_000_000;

/// Spreads what the window allows over the round trip.
///
/// Credit accrues at the rate up to a burst. A sender that asks for the time of its next burst with
/// [`next`](Self::next) and comes up to 2 ms later than that loses nothing: the rate is exact
/// however coarse its timers are.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: u64,
    burst: u64,
    mtu: u64,
    /// The path's round trip is below [`CLOSE`], or not known yet.
    close: bool,
    /// At `updated`, in billionths of a byte: any rate fills it without rounding.
    credit: i128,
    updated: Instant,
    /// When the bucket is full after what was last sent; `None`: to be computed when time moves on.
    full: Option<Instant>,
}

impl Pacer {
    /// A full bucket of ten datagrams of `mtu` bytes, which is also the rate: twice that in the
    /// initial round trip of RFC 9002, until [`update`](Self::update) or
    /// [`set_rate`](Self::set_rate) tells another.
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        let mtu = mtu.clamp(1, MOST_MTU);
        let mut pacer = Self {
            rate: 0,
            burst: 0,
            mtu,
            close: true,
            credit: 0,
            updated: now,
            full: Some(now),
        };
        pacer.set_rate(paced(LEAST_CLOSE_BURST * mtu, 200, INITIAL_RTT));
        pacer.credit = i128::from(pacer.burst) * SECOND;
        pacer
    }

    /// Sends at this rate from now on, in bytes a second; a datagram a second at least.
    pub(super) fn set_rate(&mut self, rate: u64) {
        self.rate = rate.max(self.mtu);
        let (least, most) = match (self.close, self.rate < FAST) {
            (true, true) => (LEAST_CLOSE_BURST, MOST_BURST),
            (true, false) => (LEAST_CLOSE_BURST, MOST_CLOSE_BURST),
            (false, true) => (LEAST_BURST, MOST_BURST),
            (false, false) => (LEAST_BURST, MOST_FAST_BURST),
        };
        let millisecond = self.rate / 1000 * BURST_TIME.as_millis() as u64;
        // Two of the largest datagrams are more than a burst at most.
        self.burst = millisecond.min(most).max(least * self.mtu);
    }

    /// Takes over what the congestion controller says: its own `pacing_rate`, or else 1.25 windows
    /// a round trip, 2 in slow start (RFC 9002 section 7.7).
    pub(super) fn update(
        &mut self,
        window: u64,
        smoothed_rtt: Duration,
        min_rtt: Duration,
        pacing_rate: Option<u64>,
        in_slow_start: bool,
        mtu: u64,
    ) {
        self.mtu = mtu.clamp(1, MOST_MTU);
        self.close = min_rtt < CLOSE;
        let percent = if in_slow_start { 200 } else { 125 };
        self.set_rate(pacing_rate.unwrap_or_else(|| paced(window, percent, smoothed_rtt)));
    }

    /// The rate in bytes a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Whether so many bytes may be sent now.
    pub(super) fn allows(&mut self, now: Instant, bytes: u64) -> bool {
        self.advance(now);
        self.credit >= i128::from(bytes) * SECOND
    }

    /// Takes what was sent from the budget. More than the budget, such as a probe, is owed, but not
    /// more than a burst.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        let burst = i128::from(self.burst) * SECOND;
        self.credit = (self.credit - i128::from(bytes) * SECOND).max(-burst);
        self.full = None;
    }

    /// Gives back what has not left after all.
    pub(super) fn on_taken_back(&mut self, bytes: u64) {
        let burst = i128::from(self.burst) * SECOND;
        self.credit = (self.credit + i128::from(bytes) * SECOND).min(burst);
        self.full = None;
    }

    /// When so many bytes, or a whole burst if that is less, may go; `None`: now.
    pub(super) fn next(&self, now: Instant, bytes_wanted: u64) -> Option<Instant> {
        let wanted = i128::from(bytes_wanted.min(self.burst)) * SECOND;
        let wait = self.time_for(wanted - self.credit_at(now));
        (!wait.is_zero()).then(|| now + wait)
    }

    fn advance(&mut self, now: Instant) {
        if now <= self.updated {
            return;
        }
        self.full = Some(self.full_at());
        self.credit = self.credit_at(now);
        self.updated = now;
    }

    fn full_at(&self) -> Instant {
        let burst = i128::from(self.burst) * SECOND;
        self.full
            .unwrap_or_else(|| self.updated + self.time_for(burst - self.credit))
    }

    fn credit_at(&self, now: Instant) -> i128 {
        if now <= self.updated {
            return self.credit;
        }
        let accrued = self.in_time(now.saturating_duration_since(self.updated));
        let late = now.saturating_duration_since(self.full_at());
        let credited = if late < IDLE {
            late.min(MOST_LATE)
        } else {
            Duration::ZERO
        };
        let most = i128::from(self.burst) * SECOND + self.in_time(credited);
        (self.credit + accrued).min(most)
    }

    /// What accrues in this time, in billionths of a byte.
    fn in_time(&self, time: Duration) -> i128 {
        i128::from(self.rate) * time.min(MOST_ELAPSED).as_nanos() as i128
    }

    /// How long so many billionths of a byte take to accrue, rounded up; nothing if negative.
    fn time_for(&self, amount: i128) -> Duration {
        let rate = i128::from(self.rate.max(1));
        let nanos = (amount.max(0) + rate - 1) / rate;
        u64::try_from(nanos).map_or(MOST_ELAPSED, |nanos| {
            Duration::from_nanos(nanos).min(MOST_ELAPSED)
        })
    }
}

/// So many percent of a window a round trip, in bytes a second.
fn paced(window: u64, percent: u128, rtt: Duration) -> u64 {
    let nanos = rtt.as_nanos().clamp(1_000, u128::from(u64::MAX));
    // 2^64 * 200 * 10^9 is less than 2^102.
    let rate = u128::from(window) * percent * 10_000_000 / nanos;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const MTU: u64 = 1200;
    const MBIT: u64 = 125_000;
    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(50);

    impl Pacer {
        /// How many bytes may be sent now.
        fn budget(&mut self, now: Instant) -> u64 {
            self.advance(now);
            u64::try_from(self.credit / SECOND).unwrap_or(0)
        }
    }

    fn pacer(now: Instant, rate: u64) -> Pacer {
        let mut pacer = Pacer::new(now, MTU);
        pacer.update(0, RTT, RTT, Some(rate), false, MTU);
        pacer
    }

    /// Sends whole datagrams for so long, coming late to each burst. Bytes a second.
    fn run(
        pacer: &mut Pacer,
        begin: Instant,
        time: Duration,
        late: impl FnMut() -> Duration,
    ) -> f64 {
        let mut late = late;
        let (mut now, mut bytes) = (begin, 0);
        while now < begin + time {
            let whole = pacer.budget(now) / MTU * MTU;
            pacer.on_sent(now, whole);
            bytes += whole;
            now = pacer.next(now, 1 << 20).unwrap() + late();
        }
        bytes as f64 / (now - begin).as_secs_f64()
    }

    #[test]
    fn a_new_connection_may_send_ten_datagrams_at_once() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now, MTU);
        assert_eq!(pacer.budget(now), 10 * MTU);
        assert_eq!(pacer.next(now, 1 << 20), None);
        pacer.on_sent(now, 10 * MTU);
        assert_eq!(pacer.budget(now), 0);
        assert!(pacer.next(now, MTU).unwrap() > now + 10 * MS);
    }

    #[test]
    fn the_rate_is_a_window_and_a_quarter_each_round_trip_and_two_in_slow_start() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now, MTU);
        pacer.update(100_000, RTT, RTT, None, false, MTU);
        assert_eq!(pacer.rate(), 2_500_000);
        pacer.update(100_000, RTT, RTT, None, true, MTU);
        assert_eq!(pacer.rate(), 4_000_000);
        pacer.update(100_000, RTT, RTT, Some(7_000), true, MTU);
        assert_eq!(pacer.rate(), 7_000);
    }

    #[test]
    fn a_burst_is_a_millisecond_within_its_bounds() {
        let now = Instant::now();
        for (mbit, rtt, burst) in [
            (1, RTT, 2 * MTU),
            (1, MS, 10 * MTU),
            (100, RTT, 12_500),
            (400, MS, 50_000),
            (1_000, RTT, 65_536),
            (3_900, RTT, 65_536),
            (4_100, RTT, 262_144),
            (100_000, RTT, 262_144),
            (4_100, MS, 512_500),
            (100_000, MS, 1_048_576),
        ] {
            let mut pacer = Pacer::new(now, MTU);
            pacer.update(0, 8 * rtt, rtt, Some(mbit * MBIT), false, MTU);
            assert_eq!(pacer.burst, burst, "{mbit} Mbit/s");
        }
    }

    #[test]
    fn any_rate_is_reached_however_late_the_timer_is() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        for round in 0..200 {
            let rate = (10_000.0 * 10_f64.powf(rng.random::<f64>() * 6.0)) as u64;
            let most_late = [0, 50, 1000][round % 3];
            let now = Instant::now();
            let mut pacer = pacer(now, rate);
            pacer.on_sent(now, 10 * MTU);
            // Long enough for the rounding to whole datagrams not to count.
            let time = Duration::from_secs_f64((1000.0 * MTU as f64 / rate as f64).max(0.3));
            let late = || Duration::from_micros(rng.random_range(0..=most_late));
            let ratio = run(&mut pacer, now, time, late) / rate as f64;
            assert!(
                (0.99..1.01).contains(&ratio),
                "{rate} B/s, {most_late} us: {ratio}"
            );
        }
    }

    #[test]
    fn a_sender_that_is_later_than_two_milliseconds_loses_what_is_beyond() {
        let now = Instant::now();
        let mut pacer = pacer(now, 100 * MBIT);
        pacer.on_sent(now, 12_500);
        let full = pacer.next(now, 1 << 20).unwrap();
        let budget = |pacer: &Pacer, late| pacer.credit_at(full + late) / SECOND;
        assert_eq!(budget(&pacer, Duration::ZERO), 12_500);
        assert_eq!(budget(&pacer, MS), 25_000);
        assert_eq!(budget(&pacer, 5 * MS), 37_500);
        assert_eq!(budget(&pacer, 11 * MS), 12_500);
    }

    #[test]
    fn silence_leaves_a_burst_and_no_more() {
        let now = Instant::now();
        let mut pacer = pacer(now, 100 * MBIT);
        pacer.on_sent(now, 12_500);
        // Asking doesn't help.
        for ms in 0..1000 {
            pacer.budget(now + ms * MS);
        }
        assert_eq!(pacer.budget(now + 1000 * MS), 12_500);
        assert_eq!(pacer.budget(now + Duration::from_secs(1 << 30)), 12_500);
    }

    #[test]
    fn next_is_when_the_wanted_bytes_are_in_the_budget() {
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let mut now = Instant::now();
        let mut pacer = pacer(now, 50 * MBIT);
        for _ in 0..10_000 {
            now += Duration::from_nanos(rng.random_range(0..300_000));
            let wanted = rng.random_range(1..20_000);
            let useful = wanted.min(pacer.burst);
            match pacer.next(now, wanted) {
                None => assert!(pacer.budget(now) >= useful),
                Some(next) => {
                    assert!(pacer.budget(next - Duration::from_nanos(200)) < useful);
                    assert!(pacer.budget(next) >= useful);
                    now = next;
                }
            }
            pacer.on_sent(now, useful);
            if rng.random_range(0..10) == 0 {
                let rate = rng.random_range(1..1000) * MBIT;
                pacer.update(0, RTT, RTT, Some(rate), false, MTU);
            }
        }
    }

    #[test]
    fn more_than_the_budget_is_owed_up_to_a_burst() {
        let now = Instant::now();
        let mut pacer = pacer(now, 100 * MBIT);
        pacer.budget(now);
        pacer.on_sent(now, 13_700);
        assert_eq!(pacer.budget(now), 0);
        assert_eq!(
            pacer.next(now, 1250),
            Some(now + Duration::from_micros(236))
        );
        pacer.on_sent(now, u64::MAX);
        assert_eq!(pacer.next(now, u64::MAX), Some(now + 2 * MS));
    }

    #[test]
    fn a_window_goes_each_round_trip_on_the_fastest_paths() {
        // 80 Gbit/s at 50 us. The sender hears of a window's first half half a round trip after it
        // went, and its timer is 50 us late.
        let begin = Instant::now();
        let (window, rtt) = (500_000, Duration::from_micros(50));
        let mut pacer = Pacer::new(begin, MTU);
        pacer.update(window, rtt, rtt, None, false, MTU);
        let (mut now, mut bytes, mut waits) = (begin, 0, 0);
        while now < begin + 20 * MS {
            if pacer.budget(now) < window / 2 {
                now = pacer.next(now, window / 2).unwrap_or(now) + Duration::from_micros(50);
                waits += 1;
            }
            pacer.on_sent(now, window / 2);
            bytes += window / 2;
            now += rtt / 2;
        }
        assert!(waits < 3, "{waits}");
        assert!(bytes as f64 / 0.02 > 9.8e9, "{bytes}");
    }

    #[test]
    fn no_numbers_overflow() {
        let now = Instant::now();
        for big in [0, 1, u64::MAX] {
            for rtt in [Duration::ZERO, Duration::MAX] {
                let mut pacer = Pacer::new(now, big);
                for rate in [None, Some(big), Some(u64::MAX - big)] {
                    pacer.update(big, rtt, rtt, rate, true, u64::MAX - big);
                    pacer.on_sent(now, u64::MAX);
                    pacer.budget(now + Duration::from_secs(1 << 32));
                    pacer.on_sent(now, big);
                    assert!(pacer.next(now, u64::MAX).is_none_or(|next| next > now));
                }
            }
        }
    }
}
