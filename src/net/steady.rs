use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Time since the machine was started, its sleep included: nobody can set it. (`Instant` stands
/// still while the machine sleeps; its clients' leases do not.)
pub fn steady_time() -> Duration {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => Duration::from(time),
        // It fails for unknown clocks alone, and Linux has had this one since 2.6.39.
        Err(_) => Duration::ZERO,
    }
}

/// Time since 1970 as the machine's wall clock has it; zero before.
pub fn wall_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Wall time and steady time of one moment: to within 100 ms, however long the thread was stopped
/// in between.
pub fn wall_and_steady_time() -> (Duration, Duration) {
    loop {
        let before = steady_time();
        let wall = wall_time();
        let after = steady_time();
        if after.saturating_sub(before) < Duration::from_millis(100) {
            return (wall, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_passes() {
        let before = steady_time();
        std::thread::sleep(Duration::from_millis(2));
        let passed = steady_time() - before;
        assert!(passed >= Duration::from_millis(2), "{passed:?}");
        assert!(before > Duration::ZERO);
    }
}
