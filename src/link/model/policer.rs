use std::time::Instant;

use crate::config::Policer;

/// A token bucket that lets through what conforms, and has no queue (RFC 2475 section 2.3.3.4, "policer").
///
/// Tokens are counted in billionths of a bit: at a whole number of bits a second that is exact to the
/// nanosecond, over any time.
#[derive(Debug)]
pub(super) struct TokenBucket {
    policer: Policer,
    tokens: u128,
    filled: Instant,
}

/// Tokens of a byte.
const BYTE: u128 = 8 * 1_000_000_000;

impl TokenBucket {
    /// A full one.
    pub(super) fn new(policer: Policer, now: Instant) -> Self {
        Self {
            policer,
            tokens: Self::most(policer),
            filled: now,
        }
    }

    fn most(policer: Policer) -> u128 {
        policer.burst as u128 * BYTE
    }

    /// Takes the tokens of a packet of so many bytes.
    ///
    /// # Errors
    /// What the bucket holds, whole bytes, if that is too little: it keeps them.
    pub(super) fn take(&mut self, size: usize, now: Instant) -> Result<(), u64> {
        let nanoseconds = now.saturating_duration_since(self.filled).as_nanos();
        self.filled = self.filled.max(now);
        let fresh = nanoseconds.saturating_mul(self.policer.rate.get().into());
        let most = Self::most(self.policer);
        self.tokens = self.tokens.saturating_add(fresh).min(most);
        match self.tokens.checked_sub(size as u128 * BYTE) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            // No more than the burst, which is a usize.
            None => Err((self.tokens / BYTE) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;

    fn bucket(rate: u64, burst: usize, now: Instant) -> TokenBucket {
        let rate = NonZeroU64::new(rate).expect("some");
        TokenBucket::new(Policer { rate, burst }, now)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_to_the_byte() {
        let start = Instant::now();
        // 3 bits a second: a byte in 2.666... s.
        let mut bucket = bucket(3, 2, start);
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Err(0));
        let at = |nanoseconds: u64| start + Duration::from_nanos(nanoseconds);
        assert_eq!(bucket.take(1, at(2_666_666_666)), Err(0));
        assert_eq!(bucket.take(1, at(2_666_666_667)), Ok(()));
        // Three bytes are 8 s, without a rest.
        assert_eq!(bucket.take(2, at(8_000_000_000)), Ok(()));
        assert_eq!(bucket.take(1, at(8_000_000_000)), Err(0));
        // What is too much leaves the tokens, of which there are never more than the burst.
        assert_eq!(bucket.take(3, at(100_000_000_000)), Err(2));
        assert_eq!(bucket.take(2, at(100_000_000_000)), Ok(()));
    }

    #[test]
    fn in_the_long_run_it_lets_the_rate_through_and_one_burst() {
        let start = Instant::now();
        let mut bucket = bucket(8_000_000, 30_000, start);
        let (mut passed, mut time) = (0, Duration::ZERO);
        // Offered 12 Mbit/s, in packets of uneven sizes.
        for n in 0..100_000_usize {
            let size = 40 + (n * 7919) % 1461;
            time += Duration::from_nanos(size as u64 * 8 * 1000 / 12);
            if bucket.take(size, start + time).is_ok() {
                passed += size as u64;
            }
        }
        let allowed = time.as_nanos() as u64 / 1000 + 30_000;
        // What is left in the bucket is less than a packet.
        assert!(
            (allowed - 1501..=allowed).contains(&passed),
            "{passed} of {allowed}"
        );
    }
}
