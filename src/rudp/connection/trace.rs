//! What a connection goes through, told to whoever watches it.
//!
//! Nobody watching, a step costs a look at an empty list. What is told of the sender's state goes
//! by time, not by packet: [`INTERVAL`] apart, with the extremes in between.

use std::time::{Duration, Instant};

use super::path::Path;
use crate::watch::event::transport::{
    Cause, Change, Limit, Observer, Reaction, Spent, State, Step,
};

/// The sender's state is told so often at the most, to who does not want every packet.
const INTERVAL: Duration = Duration::from_millis(5);

/// Who watches, and what to tell them next.
#[derive(Debug)]
pub(super) struct Trace {
    observers: Vec<Box<dyn Observer>>,
    /// One of the observers wants every packet.
    packets: bool,
    /// Something was acknowledged or lost since the state was told.
    news: bool,
    told_at: Instant,
    longest_rtt: Duration,
    in_flight_max: u64,
    /// What holds the sender back, since when, and how long each has before.
    limit: Limit,
    limit_since: Instant,
    spent: Spent,
    /// Which of window and pacer did not let the last packet go.
    pub(super) held_by: Limit,
}

impl Trace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            observers: Vec::new(),
            packets: false,
            news: false,
            told_at: now,
            longest_rtt: Duration::ZERO,
            in_flight_max: 0,
            limit: Limit::default(),
            limit_since: now,
            spent: Spent::default(),
            held_by: Limit::default(),
        }
    }

    pub(super) fn add(&mut self, observer: Box<dyn Observer>) {
        self.packets |= observer.wants_packets();
        self.observers.push(observer);
        self.news = true;
    }

    /// Whether anybody watches.
    pub(super) fn is_on(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Tells everybody.
    pub(super) fn tell(&mut self, now: Instant, step: &Step) {
        for observer in &mut self.observers {
            observer.on_step(now, step);
        }
    }

    /// Tells those who want packets of one.
    pub(super) fn tell_packet(&mut self, now: Instant, step: impl FnOnce() -> Step) {
        if self.packets {
            let step = step();
            for observer in &mut self.observers {
                if observer.wants_packets() {
                    observer.on_step(now, &step);
                }
            }
        }
    }

    /// Notes what an acknowledgement found.
    pub(super) fn on_ack(&mut self, latest_rtt: Option<Duration>, in_flight_before: u64) {
        self.news = true;
        self.in_flight_max = self.in_flight_max.max(in_flight_before);
        if let Some(rtt) = latest_rtt {
            self.longest_rtt = self.longest_rtt.max(rtt);
        }
    }

    /// Tells of what a controller did to its window, if it did more than let it grow.
    pub(super) fn on_controlled(
        &mut self,
        before: u64,
        path: &mut Path,
        cause: Cause,
        now: Instant,
    ) {
        if self.observers.is_empty() {
            return;
        }
        let reaction = path.congestion.take_reaction();
        let after = path.congestion.window();
        if reaction.is_none() && after >= before {
            return;
        }
        let change = Change {
            before,
            after,
            ssthresh: path.congestion.ssthresh(),
            in_flight: path.in_flight,
            phase: path.congestion.phase(),
            cause,
            reaction: reaction.unwrap_or(Reaction::Unsaid),
        };
        self.tell(now, &Step::Window(change));
    }

    /// Everything that may be sent is: notes what holds the sender back now, and tells how it
    /// stands if that is worth telling.
    pub(super) fn on_drained(&mut self, limit: Limit, path: &Path, now: Instant) {
        if self.observers.is_empty() {
            return;
        }
        let turned = limit != self.limit;
        if turned {
            self.spent
                .add(self.limit, now.saturating_duration_since(self.limit_since));
            self.limit = limit;
            self.limit_since = now;
        }
        let due = self.packets || now.saturating_duration_since(self.told_at) >= INTERVAL;
        // Nothing may follow for long where the sender has to wait for others.
        let rests = turned && !matches!(limit, Limit::Window | Limit::Pacing);
        if (self.news && due) || rests {
            self.tell_state(path, now);
        }
    }

    /// Tells how the sender stands.
    pub(super) fn tell_state(&mut self, path: &Path, now: Instant) {
        if self.observers.is_empty() {
            return;
        }
        self.news = false;
        self.told_at = now;
        let mut spent = self.spent;
        spent.add(self.limit, now.saturating_duration_since(self.limit_since));
        let latest_rtt = path.rtt.sample().unwrap_or_default();
        let state = State {
            window: path.congestion.window(),
            ssthresh: path.congestion.ssthresh(),
            in_flight: path.in_flight,
            in_flight_max: self.in_flight_max.max(path.in_flight),
            pacing_rate: path.pacer.rate(),
            latest_rtt,
            longest_rtt: self.longest_rtt.max(latest_rtt),
            smoothed_rtt: path.rtt.smoothed(),
            min_rtt: path.rtt.min(),
            phase: path.congestion.phase(),
            limit: self.limit,
            spent,
        };
        self.in_flight_max = 0;
        self.longest_rtt = Duration::ZERO;
        self.tell(now, &Step::State(state));
    }
}
