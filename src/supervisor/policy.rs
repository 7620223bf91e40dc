//! When a child is restarted, how often, and how soon: pure decisions, time and seed passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::RngExt;
use rand_pcg::Pcg32;

/// When a child that ended is started again (OTP's restart types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only after a failure: a panic.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself.
    Normal,
    /// It panicked.
    Panic,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after so long.
    RestartAfter(Duration),
    /// Leave it; that is how it is meant to be.
    Leave,
    /// It fails too often to be worth another try: its supervisor fails with it.
    Escalate,
}

/// The restarts a child may have, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
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

impl Limits {
    /// Limits of `max_restarts` restarts in `within`, with pauses of 100 ms to 10 s.
    pub fn new(max_restarts: u32, within: Duration) -> Self {
        Self {
            max_restarts,
            within,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The restart history of one child.
#[derive(Debug)]
pub struct Policy {
    restart: Restart,
    limits: Limits,
    /// Restarts within the window, oldest first; never more than `max_restarts`.
    recent: VecDeque<Instant>,
    /// Failures since it was last stable.
    streak: u32,
    started: Instant,
    random: Pcg32,
}

impl Policy {
    /// The policy of a child that starts at `now`. `seed` decides the jitter.
    pub fn new(restart: Restart, limits: Limits, now: Instant, seed: u64) -> Self {
        Self {
            restart,
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
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The child ended at `now`: what shall be done?
    pub fn on_exit(&mut self, exit: Exit, now: Instant) -> Verdict {
        let again = match self.restart {
            Restart::Permanent => true,
            Restart::Transient => exit == Exit::Panic,
            Restart::Temporary => false,
        };
        if !again {
            return Verdict::Leave;
        }
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

    fn limits() -> Limits {
        Limits::new(3, Duration::from_secs(30))
    }

    fn policy(restart: Restart, now: Instant) -> Policy {
        Policy::new(restart, limits(), now, 7)
    }

    fn pause(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::RestartAfter(pause) => pause,
            other => panic!("no restart: {other:?}"),
        }
    }

    #[test]
    fn restart_types_are_otps() {
        let now = Instant::now();
        for (restart, normal, panic) in [
            (Restart::Permanent, true, true),
            (Restart::Transient, false, true),
            (Restart::Temporary, false, false),
        ] {
            for (exit, again) in [(Exit::Normal, normal), (Exit::Panic, panic)] {
                let verdict = policy(restart, now).on_exit(exit, now);
                assert_eq!(
                    verdict != Verdict::Leave,
                    again,
                    "{restart:?} after {exit:?}"
                );
            }
        }
    }

    #[test]
    fn more_restarts_than_allowed_in_the_window_escalate() {
        let start = Instant::now();
        let mut policy = policy(Restart::Permanent, start);
        for second in 0..3 {
            pause(policy.on_exit(Exit::Panic, start + Duration::from_secs(second)));
        }
        assert_eq!(
            policy.on_exit(Exit::Panic, start + Duration::from_secs(29)),
            Verdict::Escalate
        );
    }

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let mut policy = policy(Restart::Permanent, start);
        for n in 0..100 {
            // Three in any 30 seconds, for ever.
            pause(policy.on_exit(Exit::Panic, start + Duration::from_secs(n * 10)));
        }
    }

    #[test]
    fn pauses_double_with_jitter_and_stop_growing() {
        let start = Instant::now();
        let mut policy = Policy::new(
            Restart::Permanent,
            Limits::new(u32::MAX, Duration::from_secs(30)),
            start,
            7,
        );
        let mut nominal = Duration::from_millis(100);
        for _ in 0..40 {
            let pause = pause(policy.on_exit(Exit::Panic, start));
            assert!(
                pause <= nominal && pause >= nominal / 2,
                "{pause:?} of {nominal:?}"
            );
            nominal = (nominal * 2).min(Duration::from_secs(10));
        }
    }

    #[test]
    fn a_stable_time_resets_the_pause() {
        let start = Instant::now();
        let mut policy = policy(Restart::Permanent, start);
        pause(policy.on_exit(Exit::Panic, start));
        pause(policy.on_exit(Exit::Panic, start));
        let later = start + Duration::from_secs(60);
        policy.on_started(later);
        let pause = pause(policy.on_exit(Exit::Panic, later + Duration::from_secs(10)));
        assert!(pause <= Duration::from_millis(100));
    }

    #[test]
    fn the_seed_decides_the_jitter() {
        let now = Instant::now();
        let first = |seed| {
            pause(Policy::new(Restart::Permanent, limits(), now, seed).on_exit(Exit::Panic, now))
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
