//! The supervisor's own pulse: whether it may judge others, and what it tells the system's watchdog.

use std::time::{Duration, Instant};

use super::service;

/// When the supervisor looked last, and fed systemd's watchdog last.
#[derive(Debug)]
pub(super) struct Watchdog {
    looked: Instant,
    /// Until then nobody is judged.
    grace: Instant,
    /// How often systemd (`WatchdogSec=`) is told that all is well; `None`: it does not ask.
    period: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// How often the supervisor looks.
    pub(super) const INTERVAL: Duration = Duration::from_millis(500);

    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            looked: now,
            grace: now,
            // Half of it, as sd_watchdog_enabled(3) advises.
            period: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            fed: None,
        }
    }

    /// Whether this look, at `now`, comes in time. If the supervisor itself could not run (the process
    /// was stopped, the machine slept), the others get `allowance` to beat again.
    pub(super) fn is_in_time(&mut self, now: Instant, allowance: Duration) -> bool {
        let late = now.saturating_duration_since(self.looked) > 4 * Self::INTERVAL;
        self.looked = now;
        if late {
            self.grace = now + allowance;
        }
        now >= self.grace
    }

    /// All is well at `now`: tells systemd when it is time.
    pub(super) fn feed(&mut self, now: Instant) {
        let Some(period) = self.period else {
            return;
        };
        let due = self
            .fed
            .is_none_or(|fed| now.saturating_duration_since(fed) >= period);
        if due {
            self.fed = Some(now);
            service::feed_watchdog();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_could_not_look_judges_nobody_for_a_while() {
        let mut watchdog = Watchdog::new();
        let second = Duration::from_secs(1);
        let start = Instant::now();
        assert!(watchdog.is_in_time(start + second, 10 * second));
        assert!(!watchdog.is_in_time(start + 30 * second, 10 * second));
        for later in 31..40 {
            assert!(!watchdog.is_in_time(start + later * second, 10 * second));
        }
        assert!(watchdog.is_in_time(start + 40 * second, 10 * second));
    }
}
