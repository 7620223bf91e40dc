//! What is remembered of one session.

use std::{
    collections::VecDeque,
    mem::size_of,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::sample::Sample;
use crate::watch::{
    event::transport::{Cause, Change, Spurious, State},
    fates::{Fate, Fates},
};

/// So many packets of an acknowledgement are looked at for the one that was marked.
const MARKED: usize = 256;
/// What an allocation takes besides what is asked for: glibc's header, and what it rounds up.
pub(super) const ALLOCATION: usize = 16;
/// Changes that are the model's following the path are told as one, if no more lies between them.
const ONE_STEP: Duration = Duration::from_millis(100);

/// Whose ring it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Our connection id.
    pub connection: u64,
    /// The connection id that our packets carry: this id and the packets' numbers lead to the link's verdicts on them.
    pub destination: u64,
    /// The client's name; empty: it gave none.
    pub name: String,
    /// The client's address, where it was seen last.
    pub client: SocketAddr,
    /// What controls the sending.
    pub congestion: &'static str,
}

/// What is remembered of one session.
#[derive(Debug, Clone)]
pub struct Record {
    /// The connection that the record is of.
    pub about: About,
    /// The client's earlier addresses, the last one last: the client has moved, or a NAT on the way has changed.
    pub before: VecDeque<SocketAddr>,
    /// When it began.
    pub began: Instant,
    /// When it ended, if it has.
    pub ended: Option<Instant>,
    /// Changes of the window before this time are forgotten: they did not fit into the budget.
    pub since: Instant,
    /// Every change of the window since, the oldest first.
    pub changes: Vec<Noted>,
    /// The last packets that were declared lost and arrived after all.
    pub spurious: VecDeque<Late>,
    /// How the sender stood, the oldest first.
    pub samples: Vec<Sample>,
    /// How the sender stood last, and when that was.
    pub state: Option<(Instant, State)>,
    /// Packets declared lost that are a sign of congestion.
    pub lost: u64,
    /// How many of them met which fate on the link, by the fate's word, as far as the link had told when they were
    /// declared lost.
    pub lost_by: Vec<(&'static str, u64)>,
    /// How many packets were declared lost and arrived after all.
    pub spurious_count: u64,
    /// How many times the window was cut since the session began, forgotten cuts included.
    pub cuts: usize,
    /// Whether a link has told of any of the session's packets.
    pub linked: bool,
    fates: Option<Fates>,
    /// The memory that the boxes in the lists take, bytes.
    boxed: usize,
    /// The bytes that the budget counts for this record.
    pub(super) counted: usize,
}

/// A change of the window.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// When.
    pub at: Instant,
    /// When its last step was: a controller that follows a model takes many small ones, which are kept as one change.
    pub until: Instant,
    /// How many steps the change had.
    pub steps: u32,
    /// The change from before the first step to after the last.
    pub change: Change,
    /// The packet that the controller answered, and what the link did to it, if it told.
    pub fate: Option<Box<(u64, Fate)>>,
    /// The packet whose late acknowledgement showed that the change was wrong, so that it was undone; and when.
    pub undone: Option<Box<(Instant, Spurious)>>,
}

/// A packet that was declared lost and arrived after all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Late {
    /// When its acknowledgement came.
    pub at: Instant,
    /// Which packet it was, and how late its acknowledgement.
    pub spurious: Spurious,
    /// What the link did to the packet, if the link told.
    pub fate: Option<Fate>,
}

impl About {
    /// Whether `who` is this connection's client: by name, by ADDRESS:PORT, or by a connection id, the client's or
    /// ours.
    pub fn is(&self, who: &str) -> bool {
        let ids = [self.connection, self.destination];
        self.name == who
            || self.client.to_string() == who
            || ids
                .map(|id| format!("{id:016x}"))
                .contains(&who.to_ascii_lowercase())
    }

    /// Whether both are connections of one client, as far as that can be known: of one name, from one host.
    pub fn is_same_client(&self, other: &Self) -> bool {
        !self.name.is_empty() && self.name == other.name && self.client.ip() == other.client.ip()
    }
}

impl Record {
    /// Of a session that begins.
    pub(super) fn new(about: About, fates: Option<Fates>, now: Instant) -> Self {
        Self {
            about,
            before: VecDeque::new(),
            began: now,
            ended: None,
            since: now,
            changes: Vec::new(),
            spurious: VecDeque::new(),
            samples: Vec::new(),
            state: None,
            lost: 0,
            lost_by: Vec::new(),
            spurious_count: 0,
            cuts: 0,
            linked: false,
            fates,
            boxed: 0,
            counted: 0,
        }
    }

    /// Whether `who` is this session's client, see [`About::is`]; by an earlier address, too.
    pub fn is(&self, who: &str) -> bool {
        let mut before = self.before.iter();
        self.about.is(who) || before.any(|address| address.to_string() == who)
    }

    /// A copy with these samples and changes alone: for who makes words of it while the session goes on.
    pub(in crate::watch) fn excerpt(&self, samples: &[Sample], changes: &[Noted]) -> Self {
        Self {
            about: self.about.clone(),
            before: self.before.clone(),
            changes: changes.to_vec(),
            spurious: self.spurious.clone(),
            samples: samples.to_vec(),
            lost_by: self.lost_by.clone(),
            fates: self.fates.clone(),
            ..*self
        }
    }

    /// The last `most` changes of the window.
    pub(in crate::watch) fn last(&self, most: usize) -> &[Noted] {
        &self.changes[self.changes.len().saturating_sub(most)..]
    }

    /// A change with what the link has told until now of the packet that caused the change. A packet may be declared
    /// lost while it still waits in the link's queue or is on its wire, and the link tells of it later.
    pub fn with_fate(&self, noted: &Noted) -> Noted {
        let mut noted = noted.clone();
        let known = noted.fate.as_deref();
        if !known.is_some_and(|(_, fate)| fate.is_certain())
            && let Some(fates) = &self.fates
        {
            let answered = answered(fates, self.about.destination, &noted.change.cause);
            noted.fate = answered.map(Box::new).or(noted.fate);
        }
        noted
    }

    /// The memory it takes, bytes: what is allocated, used or not.
    pub(super) fn takes(&self) -> usize {
        let lists = [
            self.about.name.capacity(),
            self.changes.capacity() * size_of::<Noted>(),
            self.samples.capacity() * size_of::<Sample>(),
            self.spurious.capacity() * size_of::<Late>(),
            self.before.capacity() * size_of::<SocketAddr>(),
            self.lost_by.capacity() * size_of::<(&str, u64)>(),
        ];
        let lists = lists.map(|bytes| match bytes {
            0 => 0,
            bytes => bytes + ALLOCATION,
        });
        size_of::<Self>() + lists.iter().sum::<usize>() + self.boxed
    }

    /// Makes the older half coarser until there are at most so many samples.
    pub(super) fn decimate(&mut self, most: usize) {
        while self.samples.len() >= most.max(4) {
            let half = (self.samples.len() / 2) & !1;
            if half == 0 {
                break;
            }
            for pair in 0..half / 2 {
                let joined = self.samples[2 * pair].join(&self.samples[2 * pair + 1]);
                self.samples[pair] = joined;
            }
            self.samples.drain(half / 2..half);
        }
        self.samples.shrink_to(most);
    }

    /// Forgets everything but its counts and how the sender stands.
    pub(super) fn start_over(&mut self) {
        self.since = match (self.changes.last(), self.state) {
            (Some(last), _) => last.until,
            (None, Some((at, _))) => at,
            (None, None) => self.since,
        };
        self.changes = Vec::new();
        self.samples = Vec::new();
        self.spurious = VecDeque::new();
        self.boxed = 0;
    }

    pub(super) fn note(&mut self, at: Instant, change: &Change, fate: Option<(u64, Fate)>) {
        if let Cause::Undone { number } = change.cause
            && let Some(late) = self.spurious.back()
            && let Some(undone) = self.changes.iter_mut().rfind(|n| n.answers(number))
        {
            undone.undone = Some(Box::new((at, late.spurious)));
            self.boxed += size_of::<(Instant, Spurious)>() + ALLOCATION;
        }
        if let Some(last) = self.changes.last_mut()
            && last.goes_on(at, change)
        {
            last.until = at;
            last.steps = last.steps.saturating_add(1);
            let before = last.change.before;
            last.change = Change { before, ..*change };
            return;
        }
        self.cuts += usize::from(change.is_cut());
        self.boxed += fate.map_or(0, |_| size_of::<(u64, Fate)>() + ALLOCATION);
        grow(&mut self.changes, usize::MAX);
        self.changes.push(Noted {
            at,
            until: at,
            steps: 1,
            change: *change,
            fate: fate.map(Box::new),
            undone: None,
        });
    }
}

impl Noted {
    /// Whether the change answers the congestion event to which the packet of this number belongs.
    fn answers(&self, number: u64) -> bool {
        match self.change.cause {
            Cause::Loss(event) | Cause::Persistent(event) => number < event.until,
            _ => false,
        }
    }

    /// Whether `change` is another step of this change.
    fn goes_on(&self, at: Instant, change: &Change) -> bool {
        use crate::watch::event::transport::Reaction::{Model, Program};
        let is_same = match (&self.change.reaction, &change.reaction) {
            (Model { bound: one, .. }, Model { bound: other, .. }) => {
                std::mem::discriminant(one) == std::mem::discriminant(other)
            }
            (Program { later: one }, Program { later: other }) => {
                one.map(|(told, _)| told) == other.map(|(told, _)| told)
            }
            _ => return false,
        };
        is_same
            && self.change.phase == change.phase
            && self.change.cause == Cause::Acknowledged
            && change.cause == Cause::Acknowledged
            && at.saturating_duration_since(self.until) < ONE_STEP
            && change.after <= self.change.before
    }
}

/// The packet that a controller answered, and what the link did to it. Of marks only their number is
/// reported: it is the last packet acknowledged with the report that the link tells to have marked.
pub(super) fn answered(fates: &Fates, destination: u64, cause: &Cause) -> Option<(u64, Fate)> {
    let of = |number| Some((number, fates.of(destination, number)?));
    match *cause {
        Cause::Loss(event) | Cause::Persistent(event) => of(event.largest),
        Cause::Marked { smallest, largest } => {
            let mut last = (smallest..=largest).rev().take(MARKED);
            last.find_map(|number| of(number).filter(|(_, fate)| fate.mark().is_some()))
        }
        Cause::Undone { .. } | Cause::Acknowledged | Cause::Idle => None,
    }
}

/// Has the list make room for another element: for a quarter more than there are, eight at least, `most` at most.
pub(super) fn grow<T>(list: &mut Vec<T>, most: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(8).min(most));
    }
}
