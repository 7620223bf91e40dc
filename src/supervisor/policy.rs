//! When a child is restarted, how often, and how soon: pure decisions, time and seed passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::RngExt;
use rand_pcg::Pcg32;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after so long.
    RestartAfter(Duration),
    /// It fails too often to be worth another try: its supervisor fails with it.
    Escalate,
}

/// The restarts a child may have, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimits {
    /// Restarts allowed within `within` (OTP's intensity).
    pub max_restarts: u32,
    /// The sliding window (OTP's period).
    pub within: Duration,
    /// The pause before the first restart; doubles with each further one.
    pub backoff_first: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// A child that ran so long is stable: its next failure starts from `backoff_first` again.
    pub stable_after: Duration,
}

/// A longest pause beyond this would be felt more than the failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause before the first restart, if the longest is not shorter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl RestartLimits {
    /// Limits of `max_restarts` restarts in `within`. All pauses together take at most half of that
    /// time, so that a child that fails at once is given up within it.
    pub fn new(max_restarts: u32, within: Duration) -> Self {
        let backoff_max = (within / 2 / max_restarts.max(1)).min(LONGEST_PAUSE);
        Self {
            max_restarts,
            within,
            backoff_first: FIRST_PAUSE.min(backoff_max),
            backoff_max,
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The restart history of one child.
#[derive(Debug)]
pub struct Policy {
    limits: RestartLimits,
    /// Restarts within the window, oldest first; never more than `max_restarts`.
    recent: VecDeque<Instant>,
    /// Failures since it was last stable.
    streak: u32,
    started: Instant,
    random: Pcg32,
}

impl Policy {
    /// The policy of a child that starts at `now`. `seed` decides the jitter.
    pub fn new(limits: RestartLimits, now: Instant, seed: u64) -> Self {
        Self {
            limits,
            recent: VecDeque::new(),
            streak: 0,
            started: now,
            random: Pcg32::new(seed, 0x6c61_626e_6574),
        }
    }

    /// The child runs (again) from `now`.
    pub fn on_started(&mut self, now: Instant) {
        self.started = now;
    }

    /// Other limits from now on; the history stays.
    pub fn set_limits(&mut self, limits: RestartLimits) {
        self.limits = limits;
    }

    /// The child failed at `now`: what shall be done?
    pub fn on_failure(&mut self, now: Instant) -> Verdict {
        if now.duration_since(self.started) >= self.limits.stable_after {
            self.streak = 0;
        }
        while self
            .recent
            .front()
            .is_some_and(|then| now.duration_since(*then) >= self.limits.within)
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.limits.max_restarts as usize {
            return Verdict::Escalate;
        }
        self.recent.push_back(now);
        let pause = self
            .limits
            .backoff_first
            .saturating_mul(1 << self.streak.min(20))
            .min(self.limits.backoff_max);
        self.streak += 1;
        // Jitter of half the pause: children that failed together don't come back together.
        Verdict::RestartAfter(pause.mul_f64(self.random.random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(max_restarts: u32, now: Instant) -> Policy {
        Policy::new(RestartLimits::new(max_restarts, 30 * SECOND), now, 7)
    }

    fn pause(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::RestartAfter(pause) => pause,
            Verdict::Escalate => panic!("no restart"),
        }
    }

    #[test]
    fn more_restarts_than_allowed_in_the_window_escalate() {
        let start = Instant::now();
        let mut policy = policy(3, start);
        for second in 0..3 {
            pause(policy.on_failure(start + second * SECOND));
        }
        assert_eq!(policy.on_failure(start + 29 * SECOND), Verdict::Escalate);
    }

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let mut policy = policy(3, start);
        for n in 0..100 {
            // Three in any 30 seconds, for ever.
            pause(policy.on_failure(start + n * 10 * SECOND));
        }
    }

    /// How long a child lives that fails `run` after each start, if that has an end within a day.
    fn given_up_after(limits: RestartLimits, run: Duration) -> Option<Duration> {
        let start = Instant::now();
        let mut policy = Policy::new(limits, start, 7);
        let mut now = start;
        while now < start + 86_400 * SECOND {
            policy.on_started(now);
            now += run;
            match policy.on_failure(now) {
                Verdict::RestartAfter(pause) => now += pause,
                Verdict::Escalate => return Some(now - start),
            }
        }
        None
    }

    #[test]
    fn escalation_as_configured_is_reachable() {
        let defaults = crate::config::Supervisor::default();
        let limits = RestartLimits::new(defaults.max_restarts, defaults.within);
        // At its start; and soon after, as fast as somebody can look and crash it again.
        for run in [Duration::ZERO, SECOND, 3 * SECOND] {
            let after = given_up_after(limits, run).expect("given up");
            assert!(after <= 60 * SECOND, "{after:?} with {run:?} each");
        }
        for run in [30 * SECOND, 3600 * SECOND] {
            assert_eq!(given_up_after(limits, run), None, "once in {run:?}");
        }
        for max_restarts in [0, 1, 3, 100, 10_000] {
            for within in [SECOND, 30 * SECOND, 3600 * SECOND] {
                let after =
                    given_up_after(RestartLimits::new(max_restarts, within), Duration::ZERO);
                assert!(
                    after.is_some_and(|after| after <= within),
                    "{max_restarts} in {within:?}: {after:?}"
                );
            }
        }
    }

    #[test]
    fn pauses_double_with_jitter_and_stop_growing() {
        let start = Instant::now();
        let limits = RestartLimits {
            max_restarts: u32::MAX,
            ..RestartLimits::new(10, 60 * SECOND)
        };
        let mut policy = Policy::new(limits, start, 7);
        let mut nominal = FIRST_PAUSE;
        for _ in 0..40 {
            let pause = pause(policy.on_failure(start));
            assert!(
                pause <= nominal && pause >= nominal / 2,
                "{pause:?} of {nominal:?}"
            );
            nominal = (nominal * 2).min(LONGEST_PAUSE);
        }
    }

    #[test]
    fn a_stable_time_resets_the_pause() {
        let start = Instant::now();
        let mut policy = policy(3, start);
        pause(policy.on_failure(start));
        pause(policy.on_failure(start));
        let later = start + 60 * SECOND;
        policy.on_started(later);
        let pause = pause(policy.on_failure(later + 10 * SECOND));
        assert!(pause <= FIRST_PAUSE);
    }

    #[test]
    fn the_seed_decides_the_jitter() {
        let now = Instant::now();
        let first = |seed| {
            let mut policy = Policy::new(RestartLimits::new(3, 30 * SECOND), now, seed);
            pause(policy.on_failure(now))
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
