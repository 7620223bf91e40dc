//! What a bad link does to packets: one vocabulary for the file, the command line, the API and the
//! client.
//!
//! It is here because a file says it and the link, which stands above, obeys it. How each option is
//! written stands in `words`, once.

mod words;

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

pub use words::{LINK_OPTIONS, LinkOption, duration};

/// What one direction of a link does to packets. The default does nothing.
///
/// In words it is a list like `loss=5,burst=3,delay=25ms,rate=10mbit`, in JSON an object with the
/// same keys and values; see [`LinkOptions::set`] for them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkOptions {
    /// Percent of the packets that are lost on the wire, after they have taken their place in the
    /// queue and their time at the rate.
    pub loss: f64,
    /// The mean number of packets lost in a row, at least 1 (Gilbert's model); `None`: each packet
    /// is lost or not whatever became of the one before.
    pub burst: Option<f64>,
    /// How long the wire is.
    pub delay: Duration,
    /// By how much the delay varies at most, up or down. It does not change the order: a packet
    /// waits for the one before it.
    pub jitter: Duration,
    /// Bits a second; `None`: no limit, and so no queue.
    pub rate: Option<NonZeroU64>,
    /// How many bytes may wait for the rate; `None`: what the rate sends in 100 ms, 30 kB at
    /// least.
    pub queue: Option<usize>,
    /// Lets no more through than a contract allows, before the queue; `None`: all.
    pub policer: Option<Policer>,
    /// What manages the queue before it is full; `None`: nothing, it drops what finds no room.
    pub aqm: Option<Aqm>,
    /// Whether `aqm` marks a packet whose sender understands that (RFC 3168: ECT) instead of dropping
    /// it.
    pub ecn: bool,
    /// Percent of the packets that come late by `reorder_by`, so that others overtake them.
    pub reorder: f64,
    /// See `reorder`; `None`: 5 ms.
    pub reorder_by: Option<Duration>,
    /// Percent of the packets that arrive twice.
    pub duplicate: f64,
    /// Percent of the packets that have one byte changed.
    pub corrupt: f64,
    /// Times when the wire loses everything.
    pub blackout: Option<Blackout>,
}

/// A token bucket that drops what does not conform (RFC 2475 section 2.3.3.4): it delays nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policer {
    /// Bits a second, in the long run.
    pub rate: NonZeroU64,
    /// How many bytes may come at once after a silence: the bucket's size.
    pub burst: usize,
}

/// Active queue management (RFC 7567).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aqm {
    /// CoDel (RFC 8289): target 5 ms, interval 100 ms.
    CoDel,
    /// Random early detection (Floyd and Jacobson 1993), the gentle form: from a sixth of the queue's
    /// size in the mean on it drops some, at half of it one in ten, and all at its whole.
    Red,
}

impl Aqm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CoDel, Self::Red];

    /// Its word: `codel`, `red`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoDel => "codel",
            Self::Red => "red",
        }
    }
}

/// Options that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mismatch {
    /// Which one is told of it.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A link that works for some time, then loses everything for some time, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blackout {
    /// How long it works.
    pub works: Duration,
    /// How long it is dark then.
    pub dark: Duration,
}

impl Blackout {
    /// Whether the link is dark at `now` when it began to work at `start`.
    pub(crate) fn is_dark(self, start: Instant, now: Instant) -> bool {
        let period = self.works.saturating_add(self.dark).as_nanos();
        let into = now.saturating_duration_since(start).as_nanos();
        // A period of nothing has no dark part.
        into.checked_rem(period)
            .is_some_and(|into| into >= self.works.as_nanos())
    }
}

/// No time of a link is longer: what is on the way an hour will not be waited for.
const MAX_TIME: Duration = Duration::from_secs(3600);
const DEFAULT_REORDER_BY: Duration = Duration::from_millis(5);
/// The longest queue: a tenth of a second of 5 Gbit/s.
const MAX_QUEUE: usize = 64 << 20;
/// Room for twenty full packets: less would be no queue.
const MIN_DEFAULT_QUEUE: u64 = 30_000;
/// RED's lower threshold is a sixth of it: a packet.
const MIN_RED_QUEUE: usize = 9_000;

impl LinkOptions {
    /// Whether the options go together.
    ///
    /// # Errors
    /// Which ones do not.
    pub fn check(&self) -> Result<(), Mismatch> {
        let no = |key, message: String| Err(Mismatch { key, message });
        // Even if each good packet is followed by a burst, one of `burst + 1` packets is good.
        if let Some(burst) = self.burst
            && self.loss * (burst + 1.0) > burst * 100.0
        {
            let message = format!(
                "a loss of {} % can't come in bursts of {burst} packets: longer bursts are needed, \
                 or none",
                self.loss
            );
            return no("burst", message);
        }
        if let Some(aqm) = self.aqm {
            let name = aqm.name();
            if self.rate.is_none() {
                let message = format!("{name} manages the queue before a rate: a rate is needed");
                return no("aqm", message);
            }
            let queue = self.queue_limit();
            if aqm == Aqm::Red && queue < MIN_RED_QUEUE {
                let message = format!(
                    "red needs a queue of {MIN_RED_QUEUE} bytes, so that a packet is within a sixth of \
                     it: this one has {queue}"
                );
                return no("aqm", message);
            }
        } else if self.ecn {
            let message = "what marks is the queue's management: aqm is needed, codel or red";
            return no("ecn", message.to_owned());
        }
        Ok(())
    }

    /// The probability that a packet is lost.
    pub(crate) fn chance_of_loss(&self, last_was_lost: bool) -> f64 {
        let share = self.loss / 100.0;
        match self.burst {
            Some(burst) if share < 1.0 => {
                let end = 1.0 / burst.max(1.0);
                if last_was_lost {
                    1.0 - end
                } else {
                    // As many bursts begin as end: share * end = (1 - share) * begin.
                    end * share / (1.0 - share)
                }
            }
            _ => share,
        }
    }

    /// How many bytes may wait for the rate.
    pub(crate) fn queue_limit(&self) -> usize {
        let default = || {
            let bits = self.rate.map_or(0, NonZeroU64::get) / 10;
            usize::try_from((bits / 8).max(MIN_DEFAULT_QUEUE)).unwrap_or(usize::MAX)
        };
        self.queue.unwrap_or_else(default).min(MAX_QUEUE)
    }

    /// How late a packet comes that others shall overtake.
    pub(crate) fn held_back_by(&self) -> Duration {
        self.reorder_by.unwrap_or(DEFAULT_REORDER_BY).min(MAX_TIME)
    }

    /// The wire's length for one packet, whose share of the jitter is `shift`, -1 to 1.
    pub(crate) fn travel_time(&self, shift: f64) -> Duration {
        let (delay, jitter) = (self.delay.min(MAX_TIME), self.jitter.min(MAX_TIME));
        let change = jitter.mul_f64(shift.abs().min(1.0));
        if shift < 0.0 {
            delay.saturating_sub(change)
        } else {
            delay + change
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blackout_comes_again() {
        let blackout = Blackout {
            works: Duration::from_secs(5),
            dark: Duration::from_secs(2),
        };
        let start = Instant::now();
        for (millis, dark) in [
            (0, false),
            (4999, false),
            (5000, true),
            (6999, true),
            (7000, false),
            (700_000, false),
            (705_000, true),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(blackout.is_dark(start, now), dark, "{millis} ms");
        }
        let never = Blackout {
            works: Duration::ZERO,
            dark: Duration::ZERO,
        };
        assert!(!never.is_dark(start, start));
    }
}
