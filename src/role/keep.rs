//! What outlives a role's actor, and what the actor tells its supervisor through it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Beats, Failure};

/// What a running role lacks, or has again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Of what: the same words for the same thing.
    pub subject: String,
    /// Why it is missing; `None`: it is there again.
    pub reason: Option<String>,
}

type Tell = Box<dyn Fn(Lack) + Send + Sync>;

/// The cell in which a supervisor keeps what outlives an actor.
pub struct Keep<K>(Arc<Cell<K>>);

struct Cell<K> {
    kept: Mutex<K>,
    lacks: Mutex<BTreeMap<String, String>>,
    failure: Mutex<Option<Failure>>,
    superseded: AtomicBool,
    beats: Beats,
    tell: Option<Tell>,
}

impl<K> Clone for Keep<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone> Keep<K> {
    /// A cell that holds `kept` for an actor without a supervisor.
    pub fn new(kept: K) -> Self {
        Self::with(kept, None)
    }

    /// A cell that holds `kept`; `tell` hears what the actor lacks.
    pub fn told(kept: K, tell: impl Fn(Lack) + Send + Sync + 'static) -> Self {
        Self::with(kept, Some(Box::new(tell)))
    }

    fn with(kept: K, tell: Option<Tell>) -> Self {
        Self(Arc::new(Cell {
            kept: Mutex::new(kept),
            lacks: Mutex::default(),
            failure: Mutex::default(),
            superseded: AtomicBool::new(false),
            beats: Beats::default(),
            tell,
        }))
    }

    /// A copy of what is kept.
    pub fn get(&self) -> K {
        lock(&self.0.kept).clone()
    }

    /// As [`get`](Self::get), but does not wait for a thread that was stopped in the middle of it.
    pub fn try_get(&self) -> Option<K> {
        match self.0.kept.try_lock() {
            Ok(kept) => Some(kept.clone()),
            Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner().clone()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Changes what is kept, whatever a reload has made of it meanwhile.
    pub fn update(&self, change: impl FnOnce(&mut K)) {
        change(&mut lock(&self.0.kept));
    }

    /// Replaces what is kept; the next restart works with it.
    pub fn set(&self, kept: K) {
        *lock(&self.0.kept) = kept;
    }
}

impl<K> Keep<K> {
    /// The role runs, but something that it needs is missing: `reason` says what, and why.
    /// The role's state is `degraded` until the subject has [`recovered`](Self::recovered).
    pub fn degraded(&self, subject: impl Into<String>, reason: impl fmt::Display) {
        let (subject, reason) = (subject.into(), reason.to_string());
        let before = lock(&self.0.lacks).insert(subject.clone(), reason.clone());
        if before.as_ref() != Some(&reason) {
            self.tell(subject, Some(reason));
        }
    }

    /// What was missing is there. Cheap if it never was missing.
    pub fn recovered(&self, subject: &str) {
        let before = lock(&self.0.lacks).remove(subject);
        if before.is_some() {
            self.tell(subject.to_owned(), None);
        }
    }

    /// A new actor begins with nothing missing, until it says so.
    pub fn forget_lacks(&self) {
        let lacks = std::mem::take(&mut *lock(&self.0.lacks));
        for (subject, _) in lacks {
            self.tell(subject, None);
        }
    }

    fn tell(&self, subject: String, reason: Option<String>) {
        if let Some(tell) = &self.0.tell {
            tell(Lack { subject, reason });
        }
    }

    /// Leaves word of why the actor is about to stop.
    pub fn fail(&self, failure: Failure) {
        lock(&self.0.failure).get_or_insert(failure);
    }

    /// Takes the word that was left.
    pub fn take_failure(&self) -> Option<Failure> {
        lock(&self.0.failure).take()
    }

    /// Another thread has taken over: whoever works with this cell must end.
    pub fn supersede(&self) {
        self.0.superseded.store(true, Ordering::Release);
    }

    /// Whether another thread has taken over.
    pub fn is_superseded(&self) -> bool {
        self.0.superseded.load(Ordering::Acquire)
    }

    /// The heartbeats of the role's threads.
    pub fn beats(&self) -> &Beats {
        &self.0.beats
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain values are whole even if a thread died while it held the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_told_when_it_changes_and_not_again() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&told);
        let keep = Keep::told((), move |lack: Lack| hear.lock().unwrap().push(lack.reason));
        keep.recovered("lab0");
        keep.degraded("lab0", "gone");
        keep.degraded("lab0", "gone");
        keep.degraded("lab0", "down");
        keep.recovered("lab0");
        keep.recovered("lab0");
        keep.degraded("lab1", "gone");
        keep.forget_lacks();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            *told.lock().unwrap(),
            [some("gone"), some("down"), None, some("gone"), None]
        );
    }
}
