use std::time::{Duration, Instant};

/// Why a signal is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No answer in time.
    Timeout,
    /// The server asked for it: SIGNLOST.
    Lost,
    /// The server had refused it: SIGNFULL.
    Full,
}

/// How a signal's sending stands.
pub(super) struct Flight {
    pub(super) state: State,
    pub(super) attempts: u32,
    pub(super) timeouts: u32,
    pub(super) first_sent: Instant,
    pub(super) last_sent: Instant,
    /// A signal before this one was sent again meanwhile: the answer may have waited for it.
    pub(super) held_up: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never sent.
    New,
    /// Sent; again at this time.
    Sent { resend_at: Instant },
    /// To be sent again at once.
    Due(Why),
    /// Refused with SIGNFULL.
    Refused,
}

impl Flight {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::New,
            attempts: 0,
            timeouts: 0,
            first_sent: now,
            last_sent: now,
            held_up: false,
        }
    }

    pub(super) fn under_way(&self) -> bool {
        matches!(self.state, State::Sent { .. } | State::Due(_))
    }

    pub(super) fn resend_at(&self) -> Option<Instant> {
        match self.state {
            State::Sent { resend_at } => Some(resend_at),
            State::New | State::Due(_) | State::Refused => None,
        }
    }

    /// Notes that it is sent; says why again.
    pub(super) fn send(&mut self, now: Instant, resend_at: Instant) -> Option<Why> {
        let why = match self.state {
            State::New | State::Sent { .. } => None,
            State::Due(why) => Some(why),
            State::Refused => Some(Why::Full),
        };
        if self.attempts == 0 {
            self.first_sent = now;
        }
        self.attempts += 1;
        self.last_sent = now;
        self.state = State::Sent { resend_at };
        why
    }

    /// Notes a timeout if there is one; says whether there was.
    pub(super) fn time_out(&mut self, now: Instant) -> bool {
        let out = self.resend_at().is_some_and(|at| at <= now);
        if out {
            self.timeouts += 1;
            self.state = State::Due(Why::Timeout);
        }
        out
    }

    /// The round trip, if this is it: of a signal sent twice nobody knows which copy was answered.
    pub(super) fn rtt(&self, now: Instant) -> Option<Duration> {
        (self.attempts == 1 && !self.held_up).then(|| self.took(now))
    }

    pub(super) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.first_sent)
    }
}
