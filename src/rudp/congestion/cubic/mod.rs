//! CUBIC (RFC 9438): the window is a cubic function of the time since the last reduction.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::{
    Ack, Congestion, Loss, MOST_MTU, Sent, Start,
    hystart::{Growth, HyStart},
    idle::Activity,
    multiplied,
};
use crate::watch::event::transport::Reaction;

/// `C`: how steep the curve is, in packets a second cubed (RFC 9438 section 5.1).
const STEEPNESS: f64 = 0.4;

/// beta: what a reduction leaves of the window (section 4.6).
const KEPT: f64 = 0.7;
/// The same in tenths.
const KEPT_TENTHS: u8 = 7;

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
    reaction: Option<Reaction>,
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
            reaction: None,
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
                self.reaction = Some(Reaction::SlowStartOver);
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
            self.reaction = Some(silence.reaction());
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
            // Of what can be in flight, `flight_size` (section 4.6): a window's odd bytes carry no
            // datagram, and of a window of six that is a tenth. TCP counts in whole ones, too.
            let flight = (state.window / self.mtu).floor() * self.mtu;
            self.reaction = Some(multiplied(KEPT_TENTHS, flight as u64, least as u64));
            state.ssthresh = (flight * KEPT).max(least);
            state.window = state.ssthresh;
            state.epoch = None;
            state.hystart = None;
        }
        if loss.persistent {
            let state = &mut self.state;
            state.window = least;
            self.reaction = Some(Reaction::Collapsed);
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
            self.reaction = Some(Reaction::Restored);
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

    fn take_reaction(&mut self) -> Option<Reaction> {
        self.reaction.take()
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
