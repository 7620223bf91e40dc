//! What the last minutes of each session were like: a ring a session, always on.
//!
//! A [`Recorder`] is the observer of one connection. It keeps each change of the window with its
//! cause and what the link did to the packet behind it, and samples of the sender's state, the
//! older the coarser, with their extremes. All of a process share a budget: sessions that are over
//! go first, the oldest of them; then samples get coarser; then who takes most starts over, and says
//! since when its changes are known. Where even the least of each is too much, nothing is kept of the
//! sessions that came last.

use std::{
    collections::VecDeque,
    mem::size_of,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    event::transport::{Cause, Change, Observer, Spurious, State, Step},
    fates::{Fate, Fates},
};

/// A session has no more than this for its samples, however few there are.
const MOST_SAMPLES: usize = (1 << 20) / size_of::<Sample>();
/// And no fewer samples than these, however many sessions there are.
const LEAST_SAMPLES: usize = 8;
/// Changes of the window are worth more than the samples beyond these.
const FEW_SAMPLES: usize = 64;
/// So many packets of an acknowledgement are looked at for the one that was marked.
const MARKED: usize = 256;
/// Losses that were none are remembered one by one so many; all are counted.
const SPURIOUS: usize = 64;
/// Of a client that moves the addresses before the last so many are forgotten.
const ADDRESSES: usize = 8;
/// What an allocation takes besides what is asked for: glibc's header, and what it rounds up.
const ALLOCATION: usize = 16;
/// What a place takes: itself with its counts of references, and where it stands in the list, which may be
/// half empty; the record is an allocation, too.
const PLACE: usize = size_of::<Place>() + 4 * size_of::<usize>() + 2 * ALLOCATION;
/// More than a record takes that has started over: the longest name, all addresses, and a word for each
/// thing that a link does.
const BARE: usize = size_of::<Record>() + PLACE + 1024;
/// Changes that are the model's following the path are told as one, if no more lies between them.
const ONE_STEP: Duration = Duration::from_millis(100);

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
    counted: usize,
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

/// How the sender stood over a while. Times are microseconds: there are many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the while began.
    pub from: Instant,
    /// The window at its end.
    pub window: u64,
    /// The least window in it.
    pub window_min: u64,
    /// The largest window in it.
    pub window_max: u64,
    /// The slow-start threshold at its end.
    pub ssthresh: Option<u64>,
    /// The most bytes in flight in it.
    pub in_flight_max: u64,
    /// The pace at its end.
    pub pacing_rate: u64,
    /// The smoothed round trip at its end; zero until one was measured, as the next two.
    pub rtt_us: u64,
    /// The shortest round trip in it.
    pub rtt_min_us: u64,
    /// The longest round trip in it.
    pub rtt_max_us: u64,
    /// The controller's phase at its end.
    pub phase: &'static str,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Sample {
    fn new(from: Instant, state: &State) -> Self {
        Self {
            from,
            window: state.window,
            window_min: state.window,
            window_max: state.window,
            ssthresh: state.ssthresh,
            in_flight_max: state.in_flight_max,
            pacing_rate: state.pacing_rate,
            // Until a round trip has been measured, the smoothed one is an assumption, which is not kept.
            rtt_us: match state.latest_rtt {
                Duration::ZERO => 0,
                _ => micros(state.smoothed_rtt),
            },
            rtt_min_us: micros(state.latest_rtt),
            rtt_max_us: micros(state.longest_rtt),
            phase: state.phase,
        }
    }

    /// This sample and `later`, the next one, as one.
    pub(super) fn join(&self, later: &Self) -> Self {
        Self {
            from: self.from,
            window_min: self.window_min.min(later.window_min),
            window_max: self.window_max.max(later.window_max),
            in_flight_max: self.in_flight_max.max(later.in_flight_max),
            rtt_min_us: match (self.rtt_min_us, later.rtt_min_us) {
                (0, measured) | (measured, 0) => measured,
                (one, other) => one.min(other),
            },
            rtt_max_us: self.rtt_max_us.max(later.rtt_max_us),
            ..*later
        }
    }
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
        let mut record = Box::new(Record {
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
            fates: fates.clone(),
            boxed: 0,
            counted: 0,
        });
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

    /// Counts the memory that a record takes now, instead of what it took before, among what all take; says whether
    /// all take too much.
    fn count(&self, record: &mut Record) -> bool {
        let takes = record.takes();
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

/// The packet that a controller answered, and what the link did to it. Of marks only their number is
/// reported: it is the last packet acknowledged with the report that the link tells to have marked.
fn answered(fates: &Fates, destination: u64, cause: &Cause) -> Option<(u64, Fate)> {
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
fn grow<T>(list: &mut Vec<T>, most: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(8).min(most));
    }
}

impl Record {
    /// Whether `who` is this session's client, see [`About::is`]; by an earlier address, too.
    pub fn is(&self, who: &str) -> bool {
        let mut before = self.before.iter();
        self.about.is(who) || before.any(|address| address.to_string() == who)
    }

    /// A copy with these samples and changes alone: for who makes words of it while the session goes on.
    pub(super) fn excerpt(&self, samples: &[Sample], changes: &[Noted]) -> Self {
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
    pub(super) fn last(&self, most: usize) -> &[Noted] {
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

    /// The memory it takes with its place, bytes: what is allocated, used or not.
    fn takes(&self) -> usize {
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
        size_of::<Self>() + PLACE + lists.iter().sum::<usize>() + self.boxed
    }

    /// Makes the older half coarser until there are at most so many samples.
    fn decimate(&mut self, most: usize) {
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
    fn start_over(&mut self) {
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

    fn note(&mut self, at: Instant, change: &Change, fate: Option<(u64, Fate)>) {
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
        use super::event::transport::Reaction::{Model, Program};
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
