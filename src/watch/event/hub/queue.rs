//! An observer's queue of events.

use std::{
    io::IoSlice,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    super::packet::{Fate, Place, When},
    PACKETS, Wants,
    batch::{Batch, Record},
};

pub(super) struct Queue {
    pub(super) wants: Wants,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    lost: [AtomicU64; 3],
}

#[derive(Default)]
pub(super) struct State {
    /// The batch that takes events.
    pub(super) open: Batch,
    /// The number of the open batch.
    pub(super) number: u64,
    /// The batch before the open one, while some of its packets are not settled yet.
    pub(super) sealed: Batch,
    pub(super) is_awaited: bool,
    is_closed: bool,
}

/// Events that a queue had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Packets.
    pub packets: u64,
    /// What links told: verdicts, and packets that were overtaken.
    pub verdicts: u64,
    /// Steps of connections, with their beginnings and ends.
    pub steps: u64,
}

impl Lost {
    /// Events of every kind together.
    pub fn sum(self) -> u64 {
        self.packets + self.verdicts + self.steps
    }

    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            verdicts: self.verdicts + more.verdicts,
            steps: self.steps + more.steps,
        }
    }

    /// What was lost since the counts were as in `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            verdicts: self.verdicts - before.verdicts,
            steps: self.steps - before.steps,
        }
    }
}

impl Queue {
    pub(super) fn new(wants: Wants) -> Self {
        Self {
            wants,
            state: Mutex::default(),
            changed: Condvar::new(),
            lost: Default::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Counts and lengths agree between any two statements: a holder that panicked has left them right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event that is no packet.
    pub(super) fn push(&self, state: &mut State, record: Record) {
        if state.is_closed {
            return;
        }
        if !self.has_room(state, record.size()) {
            self.count_lost(record.kind());
            return;
        }
        state.open.add(record);
        if state.is_awaited {
            self.changed.notify_all();
        }
    }

    fn has_room(&self, state: &State, size: usize) -> bool {
        state.open.size() + state.sealed.size() + size <= self.wants.queue_bytes
    }

    fn count_lost(&self, kind: u8) {
        // A kind is a single bit; its number is the place among the counts: PACKETS, VERDICTS, STEPS.
        if let Some(count) = self.lost.get(kind.trailing_zeros() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn push_packet(
        &self,
        state: &mut State,
        when: When,
        place: &Place,
        fate: Fate,
        parts: &[IoSlice<'_>],
    ) {
        if state.is_closed {
            return;
        }
        let length = parts.iter().map(|part| part.len()).sum();
        let start = parts.first().map_or(&[][..], |part| part);
        let kept = self.wants.kept(place, start).min(length);
        if !self.has_room(state, kept + size_of::<Record>()) {
            self.count_lost(PACKETS);
            return;
        }
        state.open.add_packet(when, place, fate, parts, kept);
    }
}

/// An observer's end of its queue.
pub struct Subscription(Arc<Queue>);

impl Subscription {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }
}

impl Subscription {
    /// Waits until there are events, and puts them into `batch` in place of what it held. `false`: there
    /// is none within `patience`, or (see [`is_closed`](Self::is_closed)) there will be none.
    pub fn read(&self, batch: &mut Batch, patience: Duration) -> bool {
        batch.clear();
        let queue = &*self.0;
        let give_up = Instant::now() + patience;
        let mut state = queue.lock();
        while state.open.is_empty() {
            let left = give_up.saturating_duration_since(Instant::now());
            if state.is_closed || left.is_zero() {
                return false;
            }
            state = wait(queue, state, left);
        }
        if !queue.wants.linger.is_zero() && !state.is_closed {
            drop(state);
            std::thread::sleep(queue.wants.linger);
            state = queue.lock();
        }
        state.sealed = std::mem::replace(&mut state.open, std::mem::take(batch));
        state.number += 1;
        while state.sealed.pending > 0 {
            // The announced packets are settled once a system call has returned: that is soon.
            state = wait(queue, state, Duration::from_secs(1));
        }
        *batch = std::mem::take(&mut state.sealed);
        true
    }

    /// Events that the queue had no room for.
    pub fn lost(&self) -> Lost {
        let [packets, verdicts, steps] = &self.0.lost;
        Lost {
            packets: packets.load(Ordering::Relaxed),
            verdicts: verdicts.load(Ordering::Relaxed),
            steps: steps.load(Ordering::Relaxed),
        }
    }

    /// How many batches were handed over.
    #[cfg(test)]
    pub(super) fn batches(&self) -> u64 {
        self.0.lock().number
    }

    /// Whether nothing more comes than what is already there.
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// A handle to end the subscription from another thread.
    pub fn closer(&self) -> Closer {
        Closer(Arc::clone(&self.0))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        close(&self.0);
    }
}

/// Ends a [`Subscription`]: what has happened until now is still read.
pub struct Closer(Arc<Queue>);

impl Closer {
    /// Ends the subscription.
    pub fn close(&self) {
        close(&self.0);
    }

    /// Whether the observer has seen all that has happened, and waits for more.
    pub fn is_drained(&self) -> bool {
        let state = self.0.lock();
        state.is_awaited && state.open.is_empty() && state.sealed.is_empty()
    }
}

fn close(queue: &Arc<Queue>) {
    super::change(|queues| queues.retain(|other| !Arc::ptr_eq(other, queue)));
    queue.lock().is_closed = true;
    queue.changed.notify_all();
}

fn wait<'a>(
    queue: &Queue,
    mut state: MutexGuard<'a, State>,
    most: Duration,
) -> MutexGuard<'a, State> {
    state.is_awaited = true;
    let waited = queue.changed.wait_timeout(state, most);
    let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    state.is_awaited = false;
    state
}
