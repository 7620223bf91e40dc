//! The link's verdicts on all flows' packets.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{line::Line, loss, samples::Samples};
use crate::{
    compare::{
        outcome::{Loss, Spread},
        series::{MOST_POINTS, Series},
    },
    watch::{
        event::link::{self, Congestion, Outcome},
        fates::Fates,
    },
};

/// Marks that are kept one by one; all are counted.
const MOST_MARKS: usize = 20_000;

/// Tells to which flow a packet belongs, by the link's verdict on it.
pub type FlowOf = Box<dyn Fn(&link::Verdict<'_>) -> Option<usize> + Send + Sync>;

/// Hears the link's verdicts on all flows' packets.
pub struct LinkRecord {
    start: Instant,
    until: Option<Instant>,
    flow_of: FlowOf,
    fates: Fates,
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    queue: Queue,
    flows: Vec<OnLink>,
}

/// The queue over time. A packet that finds no room is told of at once, those before it in the queue
/// later: it waits here for its place in the order of time.
#[derive(Debug, Default)]
struct Queue {
    line: Line,
    early: VecDeque<(f64, f64)>,
}

impl Queue {
    fn push(&mut self, at: f64, bytes: f64, found_room: bool) {
        if !found_room {
            self.early.push_back((at, bytes));
            return;
        }
        while let Some(&(early, waiting)) = self.early.front()
            && early <= at
        {
            self.line.push(early, waiting);
            self.early.pop_front();
        }
        self.line.push(at, bytes);
    }

    fn finish(&self) -> Series {
        let mut series = self.line.finish();
        for (at, bytes) in &self.early {
            series.push(*at, *bytes);
        }
        series.decimate(MOST_POINTS);
        series
    }
}

/// What the link did to the packets of one flow, on the way of the data.
#[derive(Debug, Clone, Default)]
pub struct OnLink {
    queued: Samples,
    /// Packets that were handed to it.
    pub packets: u64,
    /// Packets that it lost.
    pub lost: u64,
    /// Packets that it damaged.
    pub corrupted: u64,
    /// When and why, of the first of both.
    pub losses: Vec<Loss>,
    /// Packets that its queue management marked.
    pub marked: u64,
    /// When they were handed to it; no more than so many are kept.
    pub marks_at_seconds: Vec<f64>,
}

impl OnLink {
    /// How long packets waited in the queue.
    pub fn queue_delay(&self) -> Option<Spread> {
        self.queued.spread()
    }
}

impl std::fmt::Debug for LinkRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkRecord").finish_non_exhaustive()
    }
}

impl LinkRecord {
    /// Nothing is known yet of so many flows; times count from the first time, packets that are handed
    /// in before it or after the second are not of the experiment. `fates` hears of every packet.
    pub fn new(
        (start, until): (Instant, Option<Instant>),
        flows: usize,
        flow_of: FlowOf,
        fates: Fates,
    ) -> Self {
        Self {
            start,
            until,
            flow_of,
            fates,
            state: Mutex::new(LinkState {
                queue: Queue::default(),
                flows: vec![OnLink::default(); flows],
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        // Whole between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that waited, on the way of the data.
    pub fn queue(&self) -> Series {
        self.lock().queue.finish()
    }

    /// What it did to one flow's packets.
    pub fn flow(&self, flow: usize) -> OnLink {
        self.lock().flows.get(flow).cloned().unwrap_or_default()
    }
}

impl link::Observer for LinkRecord {
    fn on_verdict(&self, verdict: &link::Verdict<'_>) {
        self.fates.on_verdict(verdict);
        let late = self.until.is_some_and(|until| verdict.offered > until);
        if verdict.way != link::Way::Down || late || verdict.offered < self.start {
            return;
        }
        let flow = (self.flow_of)(verdict);
        let at = verdict
            .offered
            .saturating_duration_since(self.start)
            .as_secs_f64();
        let mut state = self.lock();
        // Those are told of at once that do not get into it.
        let found_room = !matches!(
            verdict.outcome,
            Outcome::Lost(
                link::Loss::QueueFull
                    | link::Loss::Memory
                    | link::Loss::Policed { .. }
                    | link::Loss::Managed(Congestion::Red { .. })
            )
        );
        state.queue.push(at, verdict.queue.bytes as f64, found_room);
        let Some(flow) = flow.and_then(|flow| state.flows.get_mut(flow)) else {
            return;
        };
        flow.packets += 1;
        match verdict.outcome {
            Outcome::Delivered(passage) => {
                flow.queued.push(passage.queued);
                flow.corrupted += u64::from(passage.corrupted.is_some());
                flow.marked += u64::from(passage.marked.is_some());
                if passage.marked.is_some() && flow.marks_at_seconds.len() < MOST_MARKS {
                    flow.marks_at_seconds.push(at);
                }
                if passage.corrupted.is_none() {
                    return;
                }
            }
            Outcome::Lost(_) => flow.lost += 1,
        }
        loss::keep(&mut flow.losses, at, None, loss::cause(verdict.outcome));
    }
}
