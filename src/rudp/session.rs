//! The server's side of one session: order, repeats, losses, window and life.
//!
//! What the original leaves open is decided so:
//!
//! - **SIGNEW again** from a live session's address: with the same name, and before any numbered
//!   signal or within `DUPLICATE_NEW` of the last SIGNEW, it is a duplicate: SIGNACK again,
//!   nothing reset. Otherwise a fresh session takes the place of the old one.
//! - **An early id** (up to `max_window` beyond the expected one) is kept, and SIGNLOST sent for
//!   every missing id that was not asked for before; if there is none, one SIGNLOST for the
//!   expected id, like a duplicate ACK. Further ahead: one SIGNLOST for the expected id, not kept.
//!   Each missing id counts as lost once. Once the gap is filled the early ones are answered in
//!   order.
//! - **A repeated id** gets the same bytes again, from the outcomes of the last `2 * max_window`
//!   ids (at least `REMEMBERED`: a client doesn't know `max_window`); silence while its answer is
//!   still being made, and if it is older.
//! - **The window** is 1 and one more for each signal that waits for its answer: early ones, and
//!   SIGNGETs while the scraper is asked. At `max_window` a new signal gets SIGNFULL and is
//!   forgotten. The expected id is let in all the same if no answer is being made: then it alone
//!   can free the window.
//! - **SIGNGET** asks the scraper, one question at a time. If the scraper can't be reached, all that
//!   wait for it are dropped in silence: the client repeats them, and that asks anew.
//! - **SIGNEND**: for `LINGER` the answers are repeated if asked for, new signals get silence.
//!   SIGNEW opens a fresh session at once, which goes on repeating the old one's ACKEND.
//! - A session that hears nothing for `idle_timeout` ends.
//!
//! A session begins with its first numbered signal: until then its client has a place in the table
//! of [`endpoint`](super::endpoint), which answers SIGNEW.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    REMEMBERED,
    endpoint::HalfOpen,
    history::{History, Outcome},
    output::{Change, Output},
    signal::{Answer, Ask, Name, Signal, Statistics},
};
use crate::config;

/// A SIGNEW of the same name so soon after the last is taken for its duplicate: a client sends it
/// again until it is answered, and the last copy may come late.
const DUPLICATE_NEW: Duration = Duration::from_secs(3);
/// How long answers are repeated after SIGNEND.
const LINGER: Duration = Duration::from_secs(5);

/// No deadline lies further ahead: the clock's range is not endless.
const LONGEST_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a session may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Where the window is full; also how far ahead an id may be.
    pub max_window: u32,
    /// A session that hears nothing for so long ends.
    pub idle_timeout: Duration,
}

impl From<&config::Rudp> for SessionLimits {
    fn from(config: &config::Rudp) -> Self {
        Self {
            max_window: config.max_window,
            idle_timeout: config.idle_timeout.min(LONGEST_IDLE),
        }
    }
}

/// A question to the scraper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Which files are there?
    List,
    /// Where is this one?
    File(Box<str>),
}

/// What a session can tell of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The next id.
    pub expected_id: u64,
    /// The congestion window.
    pub window: u32,
    /// Its limit.
    pub max_window: u32,
    /// Numbered signals received, each once.
    pub received: u64,
    /// Ids found missing.
    pub lost: u64,
    /// Early signals kept.
    pub early: usize,
    /// Signals answered again.
    pub repeated: u64,
    /// Since SIGNEW.
    pub connected: Duration,
    /// Since the last signal.
    pub idle: Duration,
}

/// The session of one client, from its SIGNEW until [`Session::poll_timeout`] says that it is over.
pub struct Session {
    name: Name,
    limits: SessionLimits,
    opened: Instant,
    /// When SIGNEW came last.
    greeted: Instant,
    heard: Instant,
    phase: Phase,
    history: History,
    /// Signals beyond the expected id.
    early: BTreeMap<u64, Early>,
    /// Every id below was received or asked for with SIGNLOST.
    known: u64,
    /// Signals that wait for the scraper, each listed as [`Outcome::Asked`] or forgotten since.
    waiting: VecDeque<(u64, Query)>,
    /// Whether a question to the scraper is under way.
    asking: bool,
    received: u64,
    lost: u64,
    repeated: u64,
    /// The SIGNEND of the session before this one at the same address.
    farewell: Option<Farewell>,
}

#[derive(Clone, Copy)]
enum Phase {
    Open,
    /// SIGNEND was answered.
    Ended(Farewell),
}

/// A SIGNEND that was answered.
#[derive(Clone, Copy)]
struct Farewell {
    id: u64,
    until: Instant,
}

/// An [`Ask`] that outlives its datagram.
enum Early {
    Echo(Box<str>),
    Stat,
    List,
    Redirect(Box<str>),
    End,
}

impl From<Ask<'_>> for Early {
    fn from(ask: Ask<'_>) -> Self {
        match ask {
            Ask::Echo(timestamp) => Self::Echo(timestamp.into()),
            Ask::Stat => Self::Stat,
            Ask::List => Self::List,
            Ask::Redirect(file) => Self::Redirect(file.into()),
            Ask::End => Self::End,
        }
    }
}

impl Early {
    fn ask(&self) -> Ask<'_> {
        match self {
            Self::Echo(timestamp) => Ask::Echo(timestamp),
            Self::Stat => Ask::Stat,
            Self::List => Ask::List,
            Self::Redirect(file) => Ask::Redirect(file),
            Self::End => Ask::End,
        }
    }
}

impl Session {
    /// The session of a client whose SIGNEW was answered.
    pub fn new(client: HalfOpen, limits: SessionLimits) -> Self {
        let HalfOpen {
            name,
            opened,
            heard: greeted,
        } = client;
        let first_id = name.first_id();
        Self {
            history: History::new(first_id, REMEMBERED.max(2 * limits.max_window as usize)),
            known: first_id,
            name,
            limits,
            opened,
            greeted,
            heard: greeted,
            phase: Phase::Open,
            early: BTreeMap::new(),
            waiting: VecDeque::new(),
            asking: false,
            received: 0,
            lost: 0,
            repeated: 0,
            farewell: None,
        }
    }

    /// Takes a datagram of the client's.
    pub fn handle(&mut self, datagram: &[u8], now: Instant, out: &mut Output) {
        let signal = match Signal::parse(datagram) {
            Ok(signal) => signal,
            Err(error) => {
                tracing::debug!(name = %self.name, %error, "not a signal");
                out.malformed += 1;
                return;
            }
        };
        out.received[signal.kind() as usize] += 1;
        match signal {
            Signal::New(name) => self.greet(name, now, out),
            Signal::Numbered { id, ask } => self.number(id, ask, now, out),
        }
        self.heard = now;
    }

    /// What to ask the scraper now; [`Self::handle_scraper`] takes the answer.
    pub fn poll_query(&mut self) -> Option<Query> {
        if self.asking {
            return None;
        }
        let (_, query) = self.waiting.front()?;
        self.asking = true;
        Some(query.clone())
    }

    /// Takes the scraper's answer to `query`: the list as it came, or the file's URL, empty if
    /// there is no such file; `None` if it can't be asked.
    pub fn handle_scraper(&mut self, query: &Query, answer: Option<&Arc<str>>, out: &mut Output) {
        self.asking = false;
        let mut window = self.window();
        let (answered, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, asked)| answer.is_none() || asked == query);
        self.waiting = waiting;
        for (id, query) in answered {
            let outcome = match (answer, query) {
                (None, _) => Outcome::Dropped,
                (Some(body), query) => {
                    let answer = Answer::Get { id, body };
                    let bytes = out.answer(answer, false, Some(window));
                    match query {
                        Query::List => Outcome::Listed(Arc::clone(body)),
                        Query::File(_) => Outcome::Answered(answer.kind(), bytes.into()),
                    }
                }
            };
            window -= 1;
            self.history.replace(id, outcome);
        }
    }

    /// When the session is over, unless it hears something before.
    pub fn poll_timeout(&self) -> Instant {
        let idle = self.heard + self.limits.idle_timeout;
        match self.phase {
            Phase::Ended(farewell) => farewell.until,
            Phase::Open => idle,
        }
    }

    /// The name it was opened with.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The congestion window, in signals.
    pub fn window(&self) -> u32 {
        let waiting = 1 + self.early.len() + self.waiting.len();
        u32::try_from(waiting).map_or(self.limits.max_window, |n| n.min(self.limits.max_window))
    }

    /// How it stands.
    pub fn describe(&self, now: Instant) -> Description {
        Description {
            expected_id: self.history.next(),
            window: self.window(),
            max_window: self.limits.max_window,
            received: self.received,
            lost: self.lost,
            early: self.early.len(),
            repeated: self.repeated,
            connected: now.saturating_duration_since(self.opened),
            idle: now.saturating_duration_since(self.heard),
        }
    }

    fn greet(&mut self, name: Name, now: Instant, out: &mut Output) {
        let again = match self.phase {
            Phase::Open if name == self.name && (self.received == 0 || self.is_young(now)) => true,
            Phase::Open => {
                self.renew(name, None, now);
                out.changes.push(Change::Replaced);
                false
            }
            Phase::Ended(farewell) => {
                self.renew(name, Some(farewell), now);
                out.changes.push(Change::Reopened);
                false
            }
        };
        self.phase = Phase::Open;
        self.greeted = now;
        out.answer(Answer::Ack, again, None);
    }

    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.greeted) <= DUPLICATE_NEW
    }

    fn renew(&mut self, name: Name, farewell: Option<Farewell>, now: Instant) {
        let client = HalfOpen {
            name,
            opened: now,
            heard: now,
        };
        *self = Self {
            // One question at a time still holds: the answer to the old session's finds nobody.
            asking: self.asking,
            farewell,
            ..Self::new(client, self.limits)
        };
    }

    fn number(&mut self, id: u64, ask: Ask<'_>, now: Instant, out: &mut Output) {
        let expected = self.history.next();
        if id < expected {
            self.repeat(id, ask, now, out);
        } else if matches!(self.phase, Phase::Ended(_)) {
            out.after_end += 1;
        } else if self.says_farewell(id, ask, now) {
            out.answer(Answer::End { id: Some(id) }, true, None);
        } else if id > expected {
            self.keep(id, ask, out);
        } else if self.is_full() && !self.waiting.is_empty() {
            out.answer(Answer::Full { id: Some(id) }, false, None);
        } else {
            self.received += 1;
            self.run_in_order(ask, now, out);
            while let Some(early) = self.early.remove(&self.history.next()) {
                self.run_in_order(early.ask(), now, out);
            }
        }
    }

    /// A repeated SIGNEND of the session before, its ACKEND lost, and a late copy of a SIGNEW in
    /// between.
    fn says_farewell(&self, id: u64, ask: Ask<'_>, now: Instant) -> bool {
        self.received == 0
            && ask == Ask::End
            && self
                .farewell
                .is_some_and(|farewell| farewell.id == id && now < farewell.until)
    }

    fn repeat(&mut self, id: u64, ask: Ask<'_>, now: Instant, out: &mut Output) {
        match self.history.get(id) {
            None => out.too_old += 1,
            Some(Outcome::Dropped) if self.is_full() => {
                out.answer(Answer::Full { id: Some(id) }, false, None);
            }
            Some(Outcome::Dropped) => {
                let outcome = self.run(id, ask, now, out);
                self.history.replace(id, outcome);
            }
            Some(outcome) => {
                if outcome.repeat(id, out) {
                    self.repeated += 1;
                    out.repeated += 1;
                }
            }
        }
    }

    /// Takes an id beyond the expected one.
    fn keep(&mut self, id: u64, ask: Ask<'_>, out: &mut Output) {
        let expected = self.history.next();
        let in_reach = id - expected <= u64::from(self.limits.max_window);
        let new = in_reach && !self.early.contains_key(&id);
        if new && self.is_full() {
            out.answer(Answer::Full { id: Some(id) }, false, None);
            return;
        }
        // What is surely missing: all below a signal in reach, else the expected one alone.
        let missing_to = if in_reach { id } else { expected + 1 };
        let missing = self.known.max(expected)..missing_to;
        if missing.is_empty() {
            out.answer(Answer::Lost { id: expected }, false, None);
        }
        for id in missing {
            self.lost += 1;
            out.gaps += 1;
            out.answer(Answer::Lost { id }, false, None);
        }
        self.known = self.known.max(missing_to);
        if new {
            self.received += 1;
            self.early.insert(id, ask.into());
            self.known = self.known.max(id + 1);
        }
    }

    fn run_in_order(&mut self, ask: Ask<'_>, now: Instant, out: &mut Output) {
        let outcome = self.run(self.history.next(), ask, now, out);
        self.history.push(outcome);
    }

    /// Does what a signal asks.
    fn run(&mut self, id: u64, ask: Ask<'_>, now: Instant, out: &mut Output) -> Outcome {
        let answer = match ask {
            Ask::Echo(timestamp) => Answer::Echo { id, timestamp },
            Ask::Stat => Answer::Stat {
                id,
                statistics: Statistics {
                    sent: self.received,
                    lost: self.lost,
                    connected: now.saturating_duration_since(self.opened),
                },
            },
            Ask::End => {
                let until = now + LINGER;
                self.phase = Phase::Ended(Farewell { id, until });
                self.early.clear();
                out.changes.push(Change::Ended);
                Answer::End { id: Some(id) }
            }
            Ask::List => {
                self.waiting.push_back((id, Query::List));
                return Outcome::Asked;
            }
            Ask::Redirect(file) => {
                self.waiting.push_back((id, Query::File(file.into())));
                return Outcome::Asked;
            }
        };
        // This signal, too, is in the window until it is answered.
        let window = (self.window() + 1).min(self.limits.max_window);
        let bytes = out.answer(answer, false, Some(window));
        Outcome::Answered(answer.kind(), bytes.into())
    }

    fn is_full(&self) -> bool {
        self.window() >= self.limits.max_window
    }
}
