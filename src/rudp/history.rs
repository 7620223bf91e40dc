use std::{collections::VecDeque, sync::Arc};

use super::{
    output::Output,
    signal::{Answer, AnswerKind},
};

/// What became of the last numbered signals, so that one that comes again gets the same answer,
/// byte for byte, and runs nothing twice.
///
/// Ids are consecutive: only the number of the next one is kept.
pub(super) struct History {
    next: u64,
    longest: usize,
    outcomes: VecDeque<Outcome>,
}

/// What became of one signal.
pub(super) enum Outcome {
    /// Answered with these bytes.
    Answered(AnswerKind, Box<[u8]>),
    /// Answered with the list of files, which many answers share.
    Listed(Arc<str>),
    /// The scraper was asked; the answer is still to come.
    Asked,
    /// The scraper could not be asked: as if the signal had never come.
    Dropped,
}

impl History {
    /// Remembers `longest` outcomes; the first is that of `first_id`.
    pub(super) fn new(first_id: u64, longest: usize) -> Self {
        Self {
            next: first_id,
            longest,
            outcomes: VecDeque::new(),
        }
    }

    /// The id that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Notes the next id's outcome; the oldest one is forgotten if need be.
    pub(super) fn push(&mut self, outcome: Outcome) {
        if self.outcomes.len() == self.longest {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
        self.next += 1;
    }

    /// What became of `id`: `None` if that is forgotten or never was.
    pub(super) fn get(&self, id: u64) -> Option<&Outcome> {
        self.outcomes.get(self.find(id)?)
    }

    /// Notes what became of a signal later; nothing if it is forgotten.
    pub(super) fn replace(&mut self, id: u64, outcome: Outcome) {
        if let Some(old) = self.find(id).and_then(|at| self.outcomes.get_mut(at)) {
            *old = outcome;
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        let back = usize::try_from(self.next.checked_sub(id)?).ok()?;
        self.outcomes.len().checked_sub(back)
    }
}

impl Outcome {
    /// Sends the answer once more; says whether there is one.
    pub(super) fn repeat(&self, id: u64, out: &mut Output) -> bool {
        match self {
            Self::Answered(kind, bytes) => out.repeat(*kind, bytes),
            Self::Listed(body) => {
                out.answer(Answer::Get { id, body }, true, None);
            }
            Self::Asked | Self::Dropped => return false,
        }
        true
    }
}
