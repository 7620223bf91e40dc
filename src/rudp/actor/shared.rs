//! What the sessions and connections of one endpoint have in common.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Instant,
};

use super::{
    clock::Clock,
    counters::{Counters, Dropped},
    ended::EndedSessions,
    gate::Gate,
    kept_connections::KeptConnections,
    message::Displaced,
    workers::Workers,
};
use crate::config::{self, Shares};
use crate::link::LinkedSocket;
use crate::role::{Resources, Steering};
use crate::rudp::{
    allowance::Allowance,
    connection::{Arrival, Connection},
    connection_table::{Crowd, share},
    endpoint::Serial,
    fetch,
    output::{Change, Output, Untaken},
    packet::{Cid, read_number},
    session::Query,
    turns,
};
use crate::watch::{
    event::{hub, packet::Role, transport::Traced},
    fates::Fates,
    qlog::{self, Qlog, Side},
    ring::{About, Rings},
    watcher::Watcher,
};
use actix::Recipient;

/// Questions to the scraper at once: it takes no more peers than its own bound, and
/// closes on the oldest beyond.
const QUESTIONS: turns::TurnLimits = turns::TurnLimits {
    most: 32,
    per_address: 16,
};

/// Who keeps the list of the sessions and connections: what they tell it of themselves. Once it is gone,
/// they end.
pub(super) trait Registry {
    /// Whom to ask for files.
    fn scraper(&self) -> Option<SocketAddr>;

    /// A turn in a session's life.
    fn turned(&self, client: SocketAddr, serial: Serial, change: Change);

    /// A session is gone; `reason` counts unless it had ended before.
    fn gone(&self, client: SocketAddr, serial: Serial, reason: &str);

    /// A connection's client has answered from this address.
    fn confirmed(&self, cid: Cid);

    /// A connection's client has another address.
    fn moved(&self, cid: Cid, to: SocketAddr);

    /// A connection is gone.
    fn closed(&self, cid: Cid, reason: &str);
}

/// Bounds of a [`Shared::portion`].
const LEAST_PORTION: u64 = 16 << 10;
const MOST_PORTION: u64 = 1 << 20;

/// What the sessions and connections of one endpoint have in common: they live in its thread.
pub(super) struct Shared {
    pub(super) socket: LinkedSocket,
    pub(super) local: SocketAddr,
    pub(super) registry: Weak<dyn Registry>,
    pub(super) counters: Arc<Counters>,
    pub(super) output: RefCell<Output>,
    /// The last list of files, so that sessions remember one copy of it.
    pub(super) list: RefCell<Arc<str>>,
    pub(super) clock: Rc<Clock>,
    /// Where a connection's datagrams are made.
    pub(super) burst: RefCell<Vec<u8>>,
    pub(super) origins: KeptConnections,
    /// Bytes that all connections together may hold.
    send_memory: u64,
    pub(super) busy: Busy,
    common: Common,
    pub(super) gates: Gates,
    pub(super) ended: EndedSessions,
    blocked: RefCell<Vec<Waker>>,
    waits: Cell<bool>,
    /// The threads of which one is theirs: it ends with the last of them, after it was replaced, too.
    _threads: Option<Arc<Workers>>,
}

impl Shared {
    pub(super) fn new(
        socket: LinkedSocket,
        local: SocketAddr,
        registry: Weak<dyn Registry>,
        common: &Common,
        send_memory: u64,
        threads: Option<Arc<Workers>>,
    ) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            socket,
            local,
            registry,
            counters: Arc::clone(&common.counters),
            output: RefCell::default(),
            list: RefCell::new(Arc::from("")),
            clock: Clock::start()?,
            burst: RefCell::default(),
            origins: KeptConnections::default(),
            send_memory,
            busy: common.busy.clone(),
            common: common.clone(),
            gates: common.gates.clone(),
            ended: common.ended.clone(),
            blocked: RefCell::default(),
            waits: Cell::new(false),
            _threads: threads,
        }))
    }

    /// Who is known to be where it says, and what others may get.
    pub(super) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.common.allowance()
    }

    /// Gives a new connection its controller, if it is to have another one, and has all that it goes through
    /// written down, if that is wanted.
    pub(super) fn attend(&self, connection: &mut Connection, client: Cid, now: Instant) {
        if let Some(steering) = &self.common.steering
            && let Some(controllers) = steering.controls(&about(connection))
        {
            connection.control(controllers, now);
        }
        if let Some(watcher) = &self.common.watcher
            && let Some(observer) = watcher.begins(about(connection), now)
        {
            connection.observe(observer, now);
        }
        let traced = || Traced {
            role: Role::Rudp,
            connection: connection.cid().0,
            destination: OnceLock::from(connection.peer_cid().0),
            name: connection.peer().name.as_deref().unwrap_or("").to_owned(),
            remote: connection.remote(),
            congestion: connection.congestion(),
        };
        if let Some(trace) = hub::trace(traced, now) {
            connection.observe(Box::new(trace), now);
        }
        let Some(qlog) = &self.common.qlog else {
            return;
        };
        let recorder = qlog.connection(qlog::About {
            side: Side::Server,
            cid: client.0,
            name: connection.peer().name.as_deref().unwrap_or("").to_owned(),
            remote: connection.remote(),
            congestion: connection.congestion(),
            began: now,
        });
        connection.observe(Box::new(recorder), now);
    }

    /// Has what a connection goes through remembered.
    pub(super) fn remember(&self, connection: &mut Connection, now: Instant) {
        let about = about(connection);
        let fates = Some(self.common.fates.clone());
        let recorder = self.common.rings.begin(about, fates, now);
        connection.observe(Box::new(recorder), now);
    }

    /// What one connection may hold in memory now.
    pub(super) fn share(&self) -> u64 {
        share(self.send_memory, self.busy.0.load(Ordering::Relaxed))
    }

    /// What one connection reads from its origin, or sends, before others have their turn: an eighth
    /// of what it may hold. One that is alone does it by the megabyte, so that the other end is woken
    /// seldom; where hundreds want something, a window that grew before they came is worth no more
    /// than theirs.
    pub(super) fn portion(&self) -> usize {
        (self.share() / 8).clamp(LEAST_PORTION, MOST_PORTION) as usize
    }

    /// Asks the scraper for a client, once it is its turn. `None`: it can't be reached. Without a scraper there
    /// are no files.
    pub(super) async fn ask_scraper(
        &self,
        from: IpAddr,
        client: IpAddr,
        query: &Query,
        most: usize,
    ) -> Option<String> {
        let registry = self.registry.upgrade();
        let scraper = registry.and_then(|registry| registry.scraper());
        let Some(scraper) = scraper else {
            return Some(String::new());
        };
        let _turn = self.gates.questions.turn(client).await;
        fetch::ask(scraper, from, query, most).await
    }

    /// Counts a datagram that nobody gets, by its reason, and tells who observes packets.
    pub(super) fn refuse(&self, reason: Dropped, datagram: &[u8], arrival: &Arrival) {
        self.refuse_run(reason, datagram, datagram.len(), arrival);
    }

    /// The same of datagrams that came one behind the other, each of `stride` bytes but the last.
    pub(super) fn refuse_run(&self, reason: Dropped, run: &[u8], stride: usize, arrival: &Arrival) {
        // An empty datagram is one datagram, too.
        let empty = run.is_empty().then_some(run);
        for datagram in run.chunks(stride.max(1)).chain(empty) {
            self.counters.dropped(reason).inc();
            self.tell_refused(reason, datagram, arrival.remote, arrival.local);
        }
    }

    /// Tells who observes packets of a datagram that nobody gets; it is counted elsewhere.
    pub(super) fn tell_refused(
        &self,
        reason: Dropped,
        datagram: &[u8],
        remote: SocketAddr,
        own: Option<IpAddr>,
    ) {
        let tap = self.socket.tap();
        tap.refused(datagram, remote, own, reason.label());
    }

    /// Tells who observes packets why a session has not taken a datagram: by what its output has counted
    /// `before` it and since.
    pub(super) fn tell_untaken(
        &self,
        [before, after]: [Untaken; 2],
        datagram: &[u8],
        client: SocketAddr,
        own: Option<IpAddr>,
    ) {
        let reasons = [
            (Dropped::Malformed, before.malformed, after.malformed),
            (Dropped::TooOld, before.too_old, after.too_old),
            (Dropped::NoSession, before.after_end, after.after_end),
        ];
        for (reason, before, after) in reasons {
            if after > before {
                self.tell_refused(reason, datagram, client, own);
            }
        }
    }

    /// Wakes a task when the kernel's queue may have room again. Many wait for the one socket, which
    /// itself wakes but one.
    pub(super) fn wake_when_sendable(self: &Rc<Self>, waker: &Waker) {
        self.blocked.borrow_mut().push(waker.clone());
        if self.waits.replace(true) {
            return;
        }
        let shared = Rc::clone(self);
        actix_rt::spawn(async move {
            // An error comes with the executor's end.
            let _ = poll_fn(|task| shared.socket.poll_send_ready(task)).await;
            shared.waits.set(false);
            for waker in shared.blocked.take() {
                waker.wake();
            }
        });
    }
}

/// What all sockets' clients take turns at.
#[derive(Clone)]
pub(super) struct Gates {
    /// Files from the origin.
    pub(super) fetches: Gate,
    /// Questions to the scraper.
    questions: Gate,
}

impl Gates {
    pub(super) fn new(shares: &Shares, counters: &Counters) -> Self {
        Self {
            fetches: Gate::new(fetches(shares), Some(counters.fetches())),
            questions: Gate::new(QUESTIONS, None),
        }
    }

    /// Goes by what may have changed.
    pub(super) fn configure(&self, shares: &Shares) {
        self.fetches.set_limits(fetches(shares));
    }
}

fn fetches(shares: &Shares) -> turns::TurnLimits {
    turns::TurnLimits {
        most: shares.fetches,
        per_address: shares.fetches_per_address,
    }
}

/// How many connections of all sockets carry something.
#[derive(Clone, Default)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Counts one more for as long as what it gives lives.
    pub(super) fn one_more(&self) -> BusyOne {
        self.0.fetch_add(1, Ordering::Relaxed);
        BusyOne(self.clone())
    }
}

/// One connection that carries something.
pub(super) struct BusyOne(Busy);

impl Drop for BusyOne {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whose connection it is.
fn about(connection: &Connection) -> About {
    About {
        connection: connection.cid().0,
        destination: connection.peer_cid().0,
        name: connection.peer().name.as_deref().unwrap_or("").to_owned(),
        client: connection.remote(),
        congestion: connection.congestion(),
    }
}

/// What the sockets of all addresses have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) crowd: Arc<Mutex<Handshakes>>,
    busy: Busy,
    allowance: Arc<Mutex<Allowance>>,
    pub(super) gates: Gates,
    pub(super) ended: EndedSessions,
    pub(super) counters: Arc<Counters>,
    qlog: Option<Qlog>,
    watcher: Option<Arc<dyn Watcher>>,
    steering: Option<Arc<dyn Steering>>,
    /// What is remembered of each connection, and what the link before them does to packets.
    pub(super) rings: Rings,
    pub(super) fates: Fates,
}

impl Common {
    /// Nobody is there yet.
    pub(super) fn new(
        shares: &Shares,
        counters: Counters,
        resources: &Resources,
        now: Instant,
    ) -> Self {
        Self {
            crowd: Arc::default(),
            busy: Busy::default(),
            allowance: Arc::new(Mutex::new(Allowance::new(now))),
            gates: Gates::new(shares, &counters),
            ended: EndedSessions::new(now),
            counters: Arc::new(counters),
            qlog: resources.qlog.clone(),
            watcher: resources.watcher.clone(),
            steering: resources.steering.clone(),
            rings: Rings::new(config::Watch::default().memory),
            fates: Fates::new(read_number),
        }
    }

    /// Whether no thread is in the middle of changing it.
    pub(super) fn is_free(&self) -> bool {
        is_free(&self.crowd) && is_free(&self.allowance)
    }

    /// Who is known to be where it says, and what others may get.
    pub(super) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        // Counts: whole enough whatever a thread died of while it held the lock.
        self.allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sessions and connections there are; one whose handshake is under way can be told to make room.
pub(super) type Handshakes = Crowd<Recipient<Displaced>>;

pub(super) fn is_free<T>(mutex: &Mutex<T>) -> bool {
    !matches!(mutex.try_lock(), Err(TryLockError::WouldBlock))
}
