//! Who raises events meets who observes them.
//!
//! A process has one hub. A role's sockets raise packets, the links before them their verdicts, the
//! transport's connections their steps; several observers may [`subscribe`], each with a queue of its
//! own that is bounded: who is slow loses events and has them counted, and never holds up a role. With
//! nobody subscribed, raising costs one atomic load.
//!
//! **The order of causes.** Every queue has the events of all threads in one order, in which a packet
//! stands before all that it causes: what is sent is [`announce`]d before the kernel gets it, and
//! counts once the kernel has taken it. An observer never sees what the kernel refused.

mod batch;
mod queue;
mod steps;

use std::{
    collections::BTreeSet,
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

pub use self::{
    batch::{Batch, Event, Judged, Other},
    queue::{Closer, Lost, Subscription},
    steps::{Trace, trace},
};
use self::{
    batch::{Kept, Record},
    queue::{Queue, State},
};
use super::{
    link::{Crossing, LinkPlace, Overtaken, Verdict},
    packet::{Carrier, Fate, Place, Protocol, Role, When},
};

/// No more bytes are kept of one packet. A datagram is shorter, but a write to a TCP connection may be of any
/// length.
const MOST_KEPT: usize = 65_535;

/// The kinds of events that some observer wants: the sum of [`PACKETS`], [`VERDICTS`] and [`STEPS`].
static WATCHED: AtomicU8 = AtomicU8::new(0);
const PACKETS: u8 = 1;
const VERDICTS: u8 = 2;
const STEPS: u8 = 4;

static QUEUES: RwLock<Vec<Arc<Queue>>> = RwLock::new(Vec::new());

/// Whether anybody looks at packets.
#[inline]
pub fn watched() -> bool {
    are_watched(PACKETS)
}

#[inline]
fn are_watched(kind: u8) -> bool {
    WATCHED.load(Ordering::Relaxed) & kind != 0
}

/// What an observer wants.
#[derive(Debug, Clone)]
pub struct Wants {
    /// So many bytes are kept of a packet that carries a file's data.
    pub data_bytes: usize,
    /// So many bytes are kept of every other packet: of a message.
    pub message_bytes: usize,
    /// The bytes of memory that the observer's queue may take. An event takes its kept payload and about 200 bytes
    /// more.
    pub queue_bytes: usize,
    /// How long events gather before they are handed over: fewer hand-overs cost less.
    pub linger: Duration,
    /// Packets of these roles alone; empty: of all roles.
    pub roles: BTreeSet<Role>,
    /// Packets to and from these peers and those of `hosts` alone; both empty: of all peers.
    pub peers: BTreeSet<SocketAddr>,
    /// Packets to and from any port of these hosts, and those of `peers`.
    pub hosts: BTreeSet<IpAddr>,
    /// Whether links' verdicts are wanted, too: those of all links, whatever roles and peers are.
    pub verdicts: bool,
    /// Whether the steps of the transport's connections are wanted, too: of all connections that begin from now on.
    pub steps: bool,
}

impl Default for Wants {
    /// Every packet whole, at once, and nothing else.
    fn default() -> Self {
        Self {
            data_bytes: usize::MAX,
            message_bytes: usize::MAX,
            queue_bytes: 16 << 20,
            linger: Duration::ZERO,
            roles: BTreeSet::new(),
            peers: BTreeSet::new(),
            hosts: BTreeSet::new(),
            verdicts: false,
            steps: false,
        }
    }
}

impl Wants {
    fn kinds(&self) -> u8 {
        let wanted = |wants, kind| if wants { kind } else { 0 };
        PACKETS | wanted(self.verdicts, VERDICTS) | wanted(self.steps, STEPS)
    }

    fn takes(&self, place: &Place) -> bool {
        (self.roles.is_empty() || self.roles.contains(&place.label.role))
            && (self.peers.is_empty() && self.hosts.is_empty()
                || [place.local, place.remote]
                    .iter()
                    .any(|end| self.peers.contains(end) || self.hosts.contains(&end.ip())))
    }

    fn kept(&self, place: &Place, start: &[u8]) -> usize {
        let wanted = if carries_data(place, start) {
            self.data_bytes
        } else {
            self.message_bytes
        };
        wanted.min(MOST_KEPT)
    }
}

/// Whether the packet carries a file's data, or padding, rather than a message.
fn carries_data(place: &Place, start: &[u8]) -> bool {
    match (place.label.protocol, place.carrier) {
        (Protocol::Rudp, _) => start.first().is_some_and(|first| first & 0x80 != 0),
        (Protocol::Http, _) => {
            let heads: [&[u8]; 5] = [b"HTTP/", b"GET ", b"HEAD ", b"POST ", b"PUT "];
            !heads.iter().any(|head| start.starts_with(head))
        }
        (Protocol::Dhcp | Protocol::Dns | Protocol::List, Carrier::Udp | Carrier::Tcp) => false,
    }
}

/// Begins to observe.
pub fn subscribe(wants: Wants) -> Subscription {
    let queue = Arc::new(Queue::new(wants));
    change(|queues| queues.push(Arc::clone(&queue)));
    Subscription::new(queue)
}

/// Changes the list of observers' queues, and with it the kinds of events that are wanted.
fn change(change: impl FnOnce(&mut Vec<Arc<Queue>>)) {
    let mut queues = QUEUES.write().unwrap_or_else(PoisonError::into_inner);
    change(&mut queues);
    let kinds = queues.iter().map(|queue| queue.wants.kinds());
    WATCHED.store(kinds.fold(0, |all, of| all | of), Ordering::Relaxed);
}

/// Hands an event that is no packet to every observer that wants events of its `kind`.
fn tell(kind: u8, event: impl Fn() -> Kept) {
    let queues = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
    for queue in queues
        .iter()
        .filter(|queue| queue.wants.kinds() & kind != 0)
    {
        queue.push(&mut queue.lock(), Record::settled(event()));
    }
}

/// Tells observers what a link did to a packet.
pub fn raise_verdict(link: LinkPlace, verdict: &Verdict<'_>) {
    if are_watched(VERDICTS) {
        tell(VERDICTS, || Kept::verdict(link, verdict));
    }
}

/// Tells observers that a packet has come out of a link behind others.
pub fn raise_overtaken(link: LinkPlace, overtaken: &Overtaken<'_>) {
    if are_watched(VERDICTS) {
        tell(VERDICTS, || Kept::overtaken(link, overtaken));
    }
}

/// Tells observers of one packet that has come in, or that its sender has lost on purpose.
pub fn raise(place: &Place, fate: Fate, payload: &[u8]) {
    raise_crossed(place, fate, payload, None);
}

/// [`raise`] for a packet that may have crossed a link of this process: `crossing` is which of the link's packets
/// it was.
pub fn raise_crossed(place: &Place, fate: Fate, payload: &[u8], crossing: Option<Crossing>) {
    if let Some(announced) = announce(place, fate, payload, payload.len()) {
        announced.passed_over(crossing);
    }
}

/// Tells observers of datagrams that are about to be sent: `contents` in pieces of `segment` bytes, of
/// which the last may be shorter. `None` if nobody wants to know.
#[must_use = "dropped, it was never sent"]
pub fn announce(place: &Place, fate: Fate, contents: &[u8], segment: usize) -> Option<Announced> {
    if !watched() {
        return None;
    }
    // An empty datagram is one datagram too; chunks() would give none.
    let empty = contents.is_empty().then_some(contents);
    let segments = || contents.chunks(segment.max(1)).chain(empty);
    Announced::new(place, |queue, state, when| {
        for payload in segments() {
            queue.push_packet(state, when, place, fate, &[IoSlice::new(payload)]);
        }
    })
}

/// [`announce`] for what is about to be written to a TCP connection.
#[must_use = "dropped, it was never written"]
pub fn announce_write(place: &Place, parts: &[IoSlice<'_>]) -> Option<Announced> {
    if !watched() {
        return None;
    }
    Announced::new(place, |queue, state, when| {
        queue.push_packet(state, when, place, Fate::Sent, parts);
    })
}

/// Packets that observers know to be about to be sent. Dropped, they were never sent, and no observer sees them.
pub struct Announced {
    tickets: Vec<Ticket>,
}

/// Where the announced packets stand in one queue: records `first` to `end` of a batch.
struct Ticket {
    queue: Arc<Queue>,
    batch: u64,
    first: usize,
    end: usize,
}

impl Announced {
    fn new(place: &Place, push: impl Fn(&Queue, &mut State, When)) -> Option<Self> {
        let queues = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
        let mut tickets = Vec::new();
        for queue in queues.iter().filter(|queue| queue.wants.takes(place)) {
            let state = &mut *queue.lock();
            let first = state.open.records.len();
            // The clock is read while the queue is locked, so that an earlier event has no later time; and once, as
            // one system call sends all the packets.
            push(queue, state, When::now());
            let end = state.open.records.len();
            if end > first {
                state.open.pending += end - first;
                tickets.push(Ticket {
                    queue: Arc::clone(queue),
                    batch: state.number,
                    first,
                    end,
                });
            }
        }
        (!tickets.is_empty()).then_some(Self { tickets })
    }

    /// The kernel has taken the packets.
    pub fn passed(self) {
        self.passed_over(None);
    }

    /// The link before the socket has taken the packets; `first` is which of the link's packets the first of them
    /// is.
    pub fn passed_over(self, first: Option<Crossing>) {
        self.settle(|nth, record| {
            record.is_settled = true;
            record.cross(first.map(|first| first.later(nth)));
        });
    }

    /// The kernel has taken the first `bytes` of what was to be written.
    pub fn passed_partly(self, bytes: usize) {
        self.settle(|_, record| {
            record.is_settled = bytes > 0;
            record.cut(bytes);
        });
    }

    fn settle(mut self, settle: impl Fn(u64, &mut Record)) {
        for ticket in self.tickets.drain(..) {
            ticket.settle(&settle);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        for ticket in self.tickets.drain(..) {
            ticket.settle(&|_, _| {});
        }
    }
}

impl Ticket {
    fn settle(&self, settle: &dyn Fn(u64, &mut Record)) {
        let state = &mut *self.queue.lock();
        let count = self.end - self.first;
        let batch = if state.number == self.batch {
            &mut state.open
        } else {
            // The batch before the open one: no older batch is left, as a batch is handed over only once all its
            // packets are settled.
            &mut state.sealed
        };
        if let Some(records) = batch.records.get_mut(self.first..self.end) {
            (0..)
                .zip(records)
                .for_each(|(nth, record)| settle(nth, record));
        }
        batch.pending = batch.pending.saturating_sub(count);
        if state.is_awaited {
            self.queue.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
