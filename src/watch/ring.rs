//! What the last minutes of each session were like: a ring a session, always on.
//!
//! A [`Recorder`] is the observer of one connection. It keeps each change of the window with its
//! cause and what the link did to the packet behind it, and samples of the sender's state, the
//! older the coarser, with their extremes. All of a process share a budget: sessions that are over
//! go first, the oldest of them; then samples get coarser; then who takes most starts over, and says
//! since when its changes are known. Where even the least of each is too much, nothing is kept of the
//! sessions that came last.

mod record;
mod sample;

pub use self::{
    record::{About, Late, Noted, Record},
    sample::Sample,
};

use std::{
    collections::VecDeque,
    mem::size_of,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use self::record::{ALLOCATION, answered, grow};
use super::{
    event::transport::{Cause, Observer, Step},
    fates::{Fate, Fates},
};

/// A session has no more than this for its samples, however few there are.
const MOST_SAMPLES: usize = (1 << 20) / size_of::<Sample>();
/// And no fewer samples than these, however many sessions there are.
const LEAST_SAMPLES: usize = 8;
/// Changes of the window are worth more than the samples beyond these.
const FEW_SAMPLES: usize = 64;
/// Losses that were none are remembered one by one so many; all are counted.
const SPURIOUS: usize = 64;
/// Of a client that moves the addresses before the last so many are forgotten.
const ADDRESSES: usize = 8;
/// What a place takes: itself with its counts of references, and where it stands in the list, which may be
/// half empty; the record is an allocation, too.
const PLACE: usize = size_of::<Place>() + 4 * size_of::<usize>() + 2 * ALLOCATION;
/// More than a record takes that has started over: the longest name, all addresses, and a word for each
/// thing that a link does.
const BARE: usize = size_of::<Record>() + PLACE + 1024;

/// The rings of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Rings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: AtomicUsize,
    used: AtomicUsize,
    /// Sessions under way of which something is kept.
    kept: AtomicUsize,
    /// Sessions under way of which nothing is.
    unkept: AtomicUsize,
    /// All of which something is kept, the oldest first.
    places: Mutex<VecDeque<Arc<Place>>>,
}

/// Where a session's record is, as long as it has one.
#[derive(Debug)]
struct Place(Mutex<Option<Box<Record>>>);

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        // A step of a session changes counts and lists that hold by themselves: a holder that panicked has left a
        // record that can still be read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    /// No sessions yet. All sessions together are to take no more than `budget` bytes.
    pub fn new(budget: u64) -> Self {
        let rings = Self(Arc::new(Inner {
            budget: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            unkept: AtomicUsize::new(0),
            places: Mutex::default(),
        }));
        rings.set_budget(budget);
        rings
    }

    /// From now on all sessions together are to take no more than `budget` bytes.
    pub fn set_budget(&self, budget: u64) {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        self.0.budget.store(budget, Ordering::Relaxed);
        self.0.leave_out_the_last();
        self.0.make_room();
    }

    /// The bytes that all sessions take.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How many sessions are under way of which nothing is kept: there is no room for them.
    pub fn unkept(&self) -> usize {
        self.0.unkept.load(Ordering::Relaxed)
    }

    /// A session begins. `fates` is what the link before it tells, if there is one.
    pub fn begin(&self, about: About, fates: Option<Fates>, now: Instant) -> Recorder {
        let destination = about.destination;
        let place = Arc::new(Place(Mutex::new(None)));
        let recorder = |fates| Recorder {
            rings: Arc::clone(&self.0),
            place: Arc::clone(&place),
            destination,
            fates,
        };
        let mut places = self.0.places();
        if !self.0.fits(self.0.kept.load(Ordering::Relaxed) + 1) {
            self.0.leave_out();
            return recorder(None);
        }
        let mut record = Box::new(Record::new(about, fates.clone(), now));
        self.0.kept.fetch_add(1, Ordering::Relaxed);
        self.0.count(&mut record);
        *place.lock() = Some(record);
        places.push_back(Arc::clone(&place));
        drop(places);
        self.0.make_room();
        recorder(fates)
    }

    /// What `look` makes of each record, where it makes anything, the newest first. The session waits
    /// meanwhile.
    pub fn each<T>(&self, mut look: impl FnMut(&Record) -> Option<T>) -> Vec<T> {
        let places: Vec<_> = self.0.places().iter().cloned().collect();
        let newest_first = places.iter().rev();
        newest_first
            .filter_map(|place| place.lock().as_deref().and_then(&mut look))
            .collect()
    }
}

impl Inner {
    fn places(&self) -> MutexGuard<'_, VecDeque<Arc<Place>>> {
        // Sessions are added and removed in one call each: a holder that panicked has left the list whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something can be kept of so many sessions: half of the budget has room for the least of each.
    fn fits(&self, sessions: usize) -> bool {
        sessions * BARE <= self.budget.load(Ordering::Relaxed) / 2
    }

    /// Nothing is kept of one more.
    fn leave_out(&self) {
        if self.unkept.fetch_add(1, Ordering::Relaxed) == 0 {
            let kept = self.kept.load(Ordering::Relaxed);
            tracing::warn!(
                "[watch] memory has room for {kept} sessions: `labnet why` knows nothing of those that come \
                 after them"
            );
        }
    }

    /// How many samples one session may have.
    fn samples(&self) -> usize {
        let share = self.budget.load(Ordering::Relaxed) / 2;
        let kept = self.kept.load(Ordering::Relaxed).max(1);
        (share / kept / size_of::<Sample>()).clamp(LEAST_SAMPLES, MOST_SAMPLES)
    }

    /// Counts the memory that a record takes now with its place, instead of what it took before, among what all
    /// take; says whether all take too much.
    fn count(&self, record: &mut Record) -> bool {
        let takes = record.takes() + PLACE;
        let before = std::mem::replace(&mut record.counted, takes);
        if takes >= before {
            self.used.fetch_add(takes - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - takes, Ordering::Relaxed);
        }
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.budget.load(Ordering::Relaxed)
    }

    /// Whether less than a sixteenth of the budget is free. Room is made until so much is, so that not every step has
    /// to make room anew.
    fn is_nearly_full(&self) -> bool {
        let budget = self.budget.load(Ordering::Relaxed);
        self.used.load(Ordering::Relaxed) > budget - budget / 16
    }

    /// Forgets what there is no room for. The caller holds no record locked.
    fn make_room(&self) {
        if !self.is_full() {
            return;
        }
        let mut places = self.places();
        places.retain(|place| !self.is_nearly_full() || !self.forget(&mut place.lock(), true));
        let samples = self.samples();
        for most in [samples, samples.min(FEW_SAMPLES)] {
            for place in places.iter() {
                if !self.is_nearly_full() {
                    return;
                }
                if let Some(record) = &mut *place.lock() {
                    record.decimate(most);
                    self.count(record);
                }
            }
        }
        // Those under way alone are too much: those that take most start over.
        let takes = |place: &Arc<Place>| place.lock().as_ref().map_or(0, |record| record.counted);
        let mut largest_first: Vec<_> = places.iter().map(|place| (takes(place), place)).collect();
        largest_first.sort_unstable_by_key(|(takes, _)| std::cmp::Reverse(*takes));
        for (_, place) in largest_first {
            if !self.is_nearly_full() {
                return;
            }
            if let Some(record) = &mut *place.lock() {
                record.start_over();
                self.count(record);
            }
        }
    }

    /// Forgets the sessions that came last until there is room for the least of each.
    fn leave_out_the_last(&self) {
        let mut places = self.places();
        for at in (0..places.len()).rev() {
            if self.fits(self.kept.load(Ordering::Relaxed)) {
                break;
            }
            let record = &mut *places[at].lock();
            if self.forget(record, false) {
                self.kept.fetch_sub(1, Ordering::Relaxed);
                self.leave_out();
            }
        }
        places.retain(|place| place.lock().is_some());
    }

    /// Forgets one that is over, or one that is under way; says whether it was that.
    fn forget(&self, record: &mut Option<Box<Record>>, over: bool) -> bool {
        let is_it = |record: &mut Box<Record>| record.ended.is_some() == over;
        match record.take_if(is_it) {
            Some(record) => {
                self.used.fetch_sub(record.counted, Ordering::Relaxed);
                true
            }
            None => false,
        }
    }
}

/// Records what one connection goes through. Once the recorder is dropped, the session counts as over.
#[derive(Debug)]
pub struct Recorder {
    rings: Arc<Inner>,
    place: Arc<Place>,
    destination: u64,
    fates: Option<Fates>,
}

impl Recorder {
    /// What the link did to one of our packets.
    fn fate(&self, number: u64) -> Option<Fate> {
        self.fates.as_ref()?.of(self.destination, number)
    }

    /// The packet that the controller answered, and what the link did to it.
    fn answered(&self, cause: &Cause) -> Option<(u64, Fate)> {
        answered(self.fates.as_ref()?, self.destination, cause)
    }
}

impl Observer for Recorder {
    fn on_step(&mut self, now: Instant, step: &Step) {
        // The fate is looked up before the record is locked: nobody holds one lock while waiting for the other.
        let fate = match step {
            Step::Lost(lost) if lost.congestion => self.fate(lost.number),
            Step::Spurious(spurious) => self.fate(spurious.number),
            _ => None,
        };
        let answered = match step {
            Step::Window(change) => self.answered(&change.cause),
            _ => None,
        };
        let mut place = self.place.lock();
        let Some(record) = &mut *place else {
            return;
        };
        record.linked |= fate.is_some() || answered.is_some();
        match step {
            Step::State(state) => {
                let most = self.rings.samples();
                if record.samples.len() >= most {
                    record.decimate(most);
                }
                // No more room than the session's share of the budget allows.
                let room = most.saturating_sub(record.samples.len()).max(1);
                grow(&mut record.samples, room);
                record.samples.push(Sample::new(now, state));
                record.state = Some((now, *state));
            }
            Step::Window(change) => record.note(now, change, answered),
            Step::Lost(lost) if lost.congestion => {
                record.lost += 1;
                let word = fate.map_or("unknown", |fate| fate.name());
                match record.lost_by.iter_mut().find(|(known, _)| *known == word) {
                    Some((_, count)) => *count += 1,
                    None => record.lost_by.push((word, 1)),
                }
            }
            Step::Spurious(spurious) => {
                record.spurious_count += 1;
                if record.spurious.len() == SPURIOUS {
                    record.spurious.pop_front();
                }
                record.spurious.push_back(Late {
                    at: now,
                    spurious: *spurious,
                    fate,
                });
            }
            Step::Address { from, to, .. } => {
                if record.before.len() == ADDRESSES {
                    record.before.pop_front();
                }
                record.before.push_back(*from);
                record.about.client = *to;
            }
            Step::Lost(_)
            | Step::Sent(_)
            | Step::Unsent { .. }
            | Step::Received { .. }
            | Step::Acknowledged { .. }
            | Step::ProbeTimeout { .. }
            | Step::Mtu { .. } => return,
        }
        if self.rings.count(record) {
            drop(place);
            self.rings.make_room();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut place = self.place.lock();
        let Some(record) = &mut *place else {
            self.rings.unkept.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        self.rings.kept.fetch_sub(1, Ordering::Relaxed);
        let last = record.state.map_or(record.began, |(at, _)| at);
        record.ended.get_or_insert(last);
        record.samples.shrink_to_fit();
        record.changes.shrink_to_fit();
        self.rings.count(record);
    }
}

#[cfg(test)]
mod tests;
