//! The client's side of the text protocol: numbers the signals, sends again what got lost, waits
//! when the server's window is full.
//!
//! After any of `submit`, `handle` and `handle_timeout`: call [`Requester::poll_transmit`] until it
//! gives nothing and send each datagram, then [`Requester::poll_event`] until it gives nothing,
//! then wait for a datagram or for [`Requester::poll_timeout`], whichever comes first.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand_pcg::{Pcg32, rand_core::Rng};

use super::{
    REMEMBERED,
    flight::{Flight, State},
    rtt::Rtt,
    signal::{Answer, Malformed, Name, Signal},
};
pub use super::{
    flight::Why,
    request::{Reply, Request, Ticket},
};

/// A signal without an answer is given up after so many timeouts, some 14 s on a fast path.
const MAX_TIMEOUTS: u32 = 16;
/// A refused signal (SIGNFULL) waits at least so long, twice as long each time in a row.
const FULL_WAIT: Duration = Duration::from_millis(50);
/// The longest such wait.
const MAX_FULL_WAIT: Duration = Duration::from_secs(1);
/// A server may keep a client waiting, with SIGNFULL or SIGNLOST, for so long without any answer.
const HELD_PATIENCE: Duration = Duration::from_secs(30);
/// SIGNLOST sends a signal again at once, but a copy of it not within a round trip, or, as long as
/// that is not known, within this.
const LOST_SPACING: Duration = Duration::from_millis(100);
/// SIGNEND is sent again no earlier than this.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Its text can't be sent.
    #[error("{0}")]
    Text(#[from] Malformed),
    /// SIGNEND was submitted before, or the session has failed.
    #[error("the session is over")]
    Over,
}

/// One datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its payload.
    pub bytes: Vec<u8>,
    /// The signal's id; `None` for SIGNEW.
    pub id: Option<u64>,
    /// 1 for the first time, one more each time it is sent again.
    pub attempt: u32,
    /// Why it is sent again; `None` the first time.
    pub why: Option<Why>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// SIGNACK: the session is open.
    Connected {
        /// The round trip; `None` if SIGNEW was sent more than once (nobody knows which copy was
        /// answered).
        rtt: Option<Duration>,
        /// Since SIGNEW was first sent.
        took: Duration,
        /// How often SIGNEW was sent.
        attempts: u32,
    },
    /// A request has its answer. Once for each.
    Answered {
        /// The request.
        ticket: Ticket,
        /// Its signal's id.
        id: u64,
        /// The answer.
        reply: Reply,
        /// The round trip; `None` if the signal or one before it was sent more than once.
        rtt: Option<Duration>,
        /// Since the signal was first sent.
        took: Duration,
        /// How often the signal was sent.
        attempts: u32,
    },
    /// The server misses this id (SIGNLOST); it is sent again at once.
    Lost(u64),
    /// A signal is sent again.
    Resent {
        /// Its id; `None` for SIGNEW.
        id: Option<u64>,
        /// Why.
        why: Why,
    },
    /// The server's window is full (SIGNFULL): this id and what follows wait.
    Full(u64),
    /// The wait is over.
    GoingOn,
    /// The session has failed; nothing follows.
    Failed(Failure),
}

/// Why a session failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server said SIGNREFUSED, and why.
    #[error("the proxy refuses: {0}")]
    Refused(Box<str>),
    /// SIGNEW was not answered.
    #[error("no answer to {MAX_TIMEOUTS} SIGNEW")]
    NotThere,
    /// A numbered signal was not answered. The server may have restarted, or ended the session
    /// because it heard nothing for too long.
    #[error("no answer to signal {0}: the server is gone or has ended the session")]
    NoAnswer(u64),
    /// The same of a SIGNGET, for which the server asks its scraper: without that one's answer it has none.
    #[error(
        "no answer to SIGNGET {0}: its scraper does not tell the server what to answer, or the server is gone or \
         has ended the session"
    )]
    NoList(u64),
    /// The server is there, but says only that this signal is to wait, or to be sent again.
    #[error(
        "no answer to signal {0} in {seconds} s: the server only keeps the client waiting (SIGNFULL, SIGNLOST)",
        seconds = HELD_PATIENCE.as_secs()
    )]
    Held(u64),
    /// SIGNEND, and only that, was not answered: the server's answers were lost until it had
    /// forgotten the session, or it is gone. Nothing is missing.
    #[error("no answer to SIGNEND: the session is over all the same")]
    NoGoodbye,
}

/// What a session counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent, resends included.
    pub sent: u64,
    /// Datagrams sent again.
    pub resent: u64,
    /// Requests answered.
    pub answered: u64,
    /// SIGNLOST heard that named a signal under way.
    pub lost: u64,
    /// SIGNFULL heard.
    pub full: u64,
    /// Datagrams heard that answered nothing: repeats, late ones, strangers'.
    pub ignored: u64,
    /// The shortest round trip.
    pub rtt_min: Option<Duration>,
    /// The longest round trip.
    pub rtt_max: Option<Duration>,
    rtt_sum: Duration,
    rtt_count: u32,
}

impl Stats {
    /// The mean round trip.
    pub fn rtt_avg(&self) -> Option<Duration> {
        self.rtt_sum.checked_div(self.rtt_count)
    }

    fn rtt(&mut self, rtt: Duration) {
        self.rtt_min = Some(self.rtt_min.map_or(rtt, |min| min.min(rtt)));
        self.rtt_max = Some(self.rtt_max.map_or(rtt, |max| max.max(rtt)));
        self.rtt_sum += rtt;
        self.rtt_count += 1;
    }
}

/// One session of a client.
pub struct Requester {
    name: Name,
    /// SIGNEW, until it is answered.
    greeting: Option<Flight>,
    /// SIGNEND was submitted, or the session has failed: nothing more is taken.
    closed: bool,
    next_id: u64,
    /// Requests without an answer, by id: the ones never sent come last.
    pending: VecDeque<Pending>,
    /// How many signals may be under way: `max_window` until the server says SIGNFULL.
    window: usize,
    max_window: usize,
    gate: Gate,
    /// SIGNFULLs since the last answer, those to one burst counted once.
    full_in_a_row: u32,
    /// Since when the server has kept us waiting and answered nothing.
    held_since: Option<Instant>,
    rtt: Rtt,
    jitter: Pcg32,
    events: VecDeque<Event>,
    stats: Stats,
}

/// Whether signals may go out that the server has not taken yet.
enum Gate {
    Open,
    /// SIGNFULL was heard.
    Shut {
        until: Instant,
    },
    /// The wait is over, nothing was sent since.
    Ajar,
}

struct Pending {
    id: u64,
    request: Request,
    flight: Flight,
}

impl Requester {
    /// A session of `name` with at most `max_window` signals under way, 1 to 64: of more the server
    /// may forget the answers. `seed` spreads the resends of many clients.
    pub fn new(name: Name, max_window: u32, seed: u64, now: Instant) -> Self {
        let max_window = (max_window as usize).clamp(1, REMEMBERED);
        Self {
            next_id: name.first_id(),
            name,
            greeting: Some(Flight::new(now)),
            closed: false,
            pending: VecDeque::new(),
            window: max_window,
            max_window,
            gate: Gate::Open,
            full_in_a_row: 0,
            held_since: None,
            rtt: Rtt::default(),
            jitter: Pcg32::new(seed, 0),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes a request. It is sent when the session is open and the window allows.
    pub fn submit(&mut self, request: Request, now: Instant) -> Result<Ticket, SubmitError> {
        if self.closed {
            return Err(SubmitError::Over);
        }
        request.check()?;
        self.closed = request == Request::End;
        let id = self.next_id;
        self.next_id += 1;
        self.pending.push_back(Pending {
            id,
            request,
            flight: Flight::new(now),
        });
        Ok(Ticket(id))
    }

    /// Takes a datagram of the server's. What answers nothing is counted and ignored.
    pub fn handle(&mut self, datagram: &[u8], now: Instant) {
        let used = match Answer::parse(datagram) {
            Ok(Answer::Ack) => self.connected(now),
            Ok(Answer::Lost { id }) => self.lost(id, now),
            Ok(Answer::Full { id }) => self.full(id, now),
            Ok(Answer::Refused { id, why }) => self.refused(id, why),
            Ok(
                answer @ (Answer::Echo { id, .. }
                | Answer::Stat { id, .. }
                | Answer::Get { id, .. }
                | Answer::End { id: Some(id) }),
            ) => self.answered(id, answer, now),
            // Without an id it can only mean the one SIGNEND that there is.
            Ok(answer @ Answer::End { id: None }) => self
                .pending
                .back()
                .filter(|last| last.request == Request::End)
                .map(|last| last.id)
                .is_some_and(|id| self.answered(id, answer, now)),
            Err(error) => {
                tracing::debug!(%error, "not an answer");
                false
            }
        };
        if !used {
            self.stats.ignored += 1;
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(greeting) = &mut self.greeting {
            if greeting.resend_at().is_some() {
                return None;
            }
            let resend_at = resend_at(now, &self.rtt, &mut self.jitter);
            let why = greeting.send(now, resend_at);
            let attempt = greeting.attempts;
            let mut bytes = Vec::new();
            Signal::New(self.name.clone()).encode(&mut bytes);
            let id = None;
            self.note_sent(id, why);
            return Some(Outgoing {
                bytes,
                id,
                attempt,
                why,
            });
        }
        let due = |pending: &Pending| matches!(pending.flight.state, State::Due(_));
        let due = self.sent().position(due);
        if let Some(at) = due {
            return Some(self.send(at, now));
        }
        if matches!(self.gate, Gate::Shut { .. }) {
            return None;
        }
        let next = self.pending.iter().position(|p| !p.flight.under_way())?;
        // The server repeats the answers of so many ids: none under way may be further back.
        let reach = self.pending[next].id - self.pending[0].id;
        // Nor after SIGNEND: it says goodbye when everything else is answered.
        let too_soon = next > 0 && self.pending[next].request == Request::End;
        if self.under_way() >= self.window || reach >= self.max_window as u64 || too_soon {
            return None;
        }
        if matches!(self.gate, Gate::Ajar) {
            self.gate = Gate::Open;
            self.events.push_back(Event::GoingOn);
        }
        Some(self.send(next, now))
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gate = match self.gate {
            Gate::Shut { until } => Some(until),
            Gate::Open | Gate::Ajar => None,
        };
        self.sent()
            .map(|pending| &pending.flight)
            .chain(&self.greeting)
            .filter_map(Flight::resend_at)
            .chain(gate)
            .chain(self.held_since.map(|since| since + HELD_PATIENCE))
            .min()
    }

    /// Notes that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.gate, Gate::Shut { until } if until <= now) {
            self.gate = Gate::Ajar;
        }
        let greeting = self.greeting.iter_mut();
        let greeting = greeting.map(|flight| (Failure::NotThere, flight));
        let pending = self.pending.iter_mut().map(|pending| {
            let failure = match pending.request {
                Request::List | Request::Redirect(_) => Failure::NoList(pending.id),
                Request::Echo { .. } | Request::Stat | Request::End => {
                    Failure::NoAnswer(pending.id)
                }
            };
            (failure, &mut pending.flight)
        });
        let mut timed_out = false;
        let mut failure = None;
        for (unanswered, flight) in greeting.chain(pending) {
            timed_out |= flight.time_out(now);
            if flight.timeouts >= MAX_TIMEOUTS {
                failure.get_or_insert(unanswered);
            }
        }
        if timed_out {
            self.rtt.back_off();
        }
        if let (Some(since), Some(first)) = (self.held_since, self.pending.front())
            && now.saturating_duration_since(since) >= HELD_PATIENCE
        {
            failure.get_or_insert(Failure::Held(first.id));
        }
        if let Some(mut failure) = failure {
            if self.pending.len() == 1 && self.pending[0].request == Request::End {
                failure = Failure::NoGoodbye;
            }
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.closed = true;
        self.greeting = None;
        self.pending.clear();
        self.held_since = None;
        self.gate = Gate::Open;
        self.events.push_back(Event::Failed(failure));
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The name of the session.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many requests have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Whether the session has come to its end: SIGNEND and all before it answered, or failed.
    pub fn is_over(&self) -> bool {
        self.closed && self.pending.is_empty()
    }

    fn connected(&mut self, now: Instant) -> bool {
        let Some(greeting) = self.greeting.take_if(|greeting| greeting.attempts > 0) else {
            return false;
        };
        let rtt = greeting.rtt(now);
        self.measure(rtt);
        self.events.push_back(Event::Connected {
            rtt,
            took: greeting.took(now),
            attempts: greeting.attempts,
        });
        true
    }

    fn answered(&mut self, id: u64, answer: Answer<'_>, now: Instant) -> bool {
        let Some(at) = self.find(id) else {
            return false;
        };
        let Some(reply) = self.pending[at].request.answer(answer) else {
            return false;
        };
        let Some(Pending {
            request, flight, ..
        }) = self.pending.remove(at)
        else {
            return false;
        };
        let rtt = flight.rtt(now);
        if request.measures_the_path() {
            self.measure(rtt);
        }
        self.full_in_a_row = 0;
        self.held_since = None;
        self.window = (self.window + 1).min(self.max_window);
        if matches!(self.gate, Gate::Shut { .. }) {
            self.gate = Gate::Ajar;
        }
        self.stats.answered += 1;
        self.events.push_back(Event::Answered {
            ticket: Ticket(id),
            id,
            reply,
            rtt,
            took: flight.took(now),
            attempts: flight.attempts,
        });
        true
    }

    fn lost(&mut self, id: u64, now: Instant) -> bool {
        let Some(at) = self.find(id) else {
            return false;
        };
        let flight = &mut self.pending[at].flight;
        let spacing = self.rtt.mean().unwrap_or(LOST_SPACING);
        let again = match flight.state {
            // What the server says within a round trip of a resend, it may have said before it came.
            State::Sent { .. } => {
                flight.attempts == 1 || now.saturating_duration_since(flight.last_sent) >= spacing
            }
            State::Refused => true,
            State::New | State::Due(_) => false,
        };
        if again {
            flight.state = State::Due(Why::Lost);
            self.events.push_back(Event::Lost(id));
        }
        self.stats.lost += 1;
        self.held_since.get_or_insert(now);
        // The server lives: it can't answer what comes after the gap yet.
        for waiting in self.pending.range_mut(at..) {
            waiting.flight.timeouts = 0;
        }
        true
    }

    fn full(&mut self, id: Option<u64>, now: Instant) -> bool {
        let at = match id {
            Some(id) => self.find(id),
            // The original names no id: it refused what it heard last.
            None => self.sent().rposition(|pending| pending.flight.under_way()),
        };
        let Some(at) = at else {
            return false;
        };
        let Pending { id, flight, .. } = &mut self.pending[at];
        let id = *id;
        flight.timeouts = 0;
        flight.state = State::Refused;
        self.window = self.under_way().max(1);
        if !matches!(self.gate, Gate::Shut { .. }) {
            let wait = FULL_WAIT * (1 << self.full_in_a_row.min(8));
            self.full_in_a_row += 1;
            self.gate = Gate::Shut {
                until: now + wait.min(MAX_FULL_WAIT),
            };
        }
        self.stats.full += 1;
        self.held_since.get_or_insert(now);
        self.events.push_back(Event::Full(id));
        true
    }

    fn refused(&mut self, id: Option<u64>, why: &str) -> bool {
        let asked = match id {
            Some(id) => self.find(id).is_some(),
            None => (self.greeting.as_ref()).is_some_and(|greeting| greeting.attempts > 0),
        };
        if asked {
            self.fail(Failure::Refused(why.into()));
        }
        asked
    }

    fn measure(&mut self, rtt: Option<Duration>) {
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt);
            self.stats.rtt(rtt);
        }
    }

    /// Where the signal of this id is, if it was sent and has no answer.
    fn find(&self, id: u64) -> Option<usize> {
        let at = self.pending.binary_search_by_key(&id, |p| p.id).ok()?;
        (self.pending[at].flight.state != State::New).then_some(at)
    }

    /// The requests that were sent, under way or refused.
    fn sent(&self) -> impl DoubleEndedIterator<Item = &Pending> + ExactSizeIterator {
        let never = |pending: &Pending| pending.flight.state != State::New;
        self.pending.range(..self.pending.partition_point(never))
    }

    fn under_way(&self) -> usize {
        self.sent().filter(|p| p.flight.under_way()).count()
    }

    fn send(&mut self, at: usize, now: Instant) -> Outgoing {
        let resend_at = match self.pending[at].request {
            // No doubling: the server repeats its answer to this one only for a while.
            Request::End => now + self.rtt.base().max(END_TIMEOUT),
            _ => resend_at(now, &self.rtt, &mut self.jitter),
        };
        let Pending {
            id,
            request,
            flight,
        } = &mut self.pending[at];
        let why = flight.send(now, resend_at);
        let attempt = flight.attempts;
        let mut bytes = Vec::new();
        let ask = request.ask();
        Signal::Numbered { id: *id, ask }.encode(&mut bytes);
        let id = Some(*id);
        if why.is_some() {
            for later in self.pending.range_mut(at + 1..) {
                later.flight.held_up = later.flight.state != State::New;
            }
        }
        self.note_sent(id, why);
        Outgoing {
            bytes,
            id,
            attempt,
            why,
        }
    }

    fn note_sent(&mut self, id: Option<u64>, why: Option<Why>) {
        self.stats.sent += 1;
        if let Some(why) = why {
            self.stats.resent += 1;
            self.events.push_back(Event::Resent { id, why });
        }
    }
}

/// A timeout from now, and up to a tenth more.
fn resend_at(now: Instant, rtt: &Rtt, jitter: &mut Pcg32) -> Instant {
    let timeout = rtt.timeout();
    now + timeout + timeout * (jitter.next_u32() >> 24) / 2560
}
