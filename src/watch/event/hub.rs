//! Who raises packets meets who observes them.
//!
//! A process has one hub. A role's sockets raise; several observers may [`subscribe`], each with a
//! queue of its own that is bounded: who is slow loses events and has them counted, and never holds
//! up a role. With nobody subscribed, raising costs one atomic load.
//!
//! **The order of causes.** Every queue has the events of all threads in one order, in which a packet
//! stands before all that it causes: what is sent is [`announce`]d before the kernel gets it, and
//! counts once the kernel has taken it. An observer never sees what the kernel refused.

use std::{
    collections::BTreeSet,
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::packet::{Carrier, Fate, Packet, Place, Protocol, Role, When};

/// No more is kept of one write to a TCP connection, which may be of any length; a datagram is
/// shorter.
const MOST_KEPT: usize = 65_535;

static WATCHED: AtomicBool = AtomicBool::new(false);
static QUEUES: RwLock<Vec<Arc<Queue>>> = RwLock::new(Vec::new());

/// Whether anybody looks at packets.
#[inline]
pub fn watched() -> bool {
    WATCHED.load(Ordering::Relaxed)
}

/// What an observer wants.
#[derive(Debug, Clone)]
pub struct Wants {
    /// So many bytes are kept of a packet that carries a file's data.
    pub data_bytes: usize,
    /// And so many of every other: those that say something.
    pub message_bytes: usize,
    /// The queue's bound, bytes. An event takes its kept payload and about 200 bytes more.
    pub queue_bytes: usize,
    /// How long events gather before they are handed over: fewer hand-overs cost less.
    pub linger: Duration,
    /// Only of these roles; empty: of all.
    pub roles: BTreeSet<Role>,
    /// Only with these peers, or with `hosts`; both empty: with all.
    pub peers: BTreeSet<SocketAddr>,
    /// Only with these hosts, or with `peers`.
    pub hosts: BTreeSet<IpAddr>,
}

impl Default for Wants {
    /// Everything whole, at once.
    fn default() -> Self {
        Self {
            data_bytes: usize::MAX,
            message_bytes: usize::MAX,
            queue_bytes: 16 << 20,
            linger: Duration::ZERO,
            roles: BTreeSet::new(),
            peers: BTreeSet::new(),
            hosts: BTreeSet::new(),
        }
    }
}

impl Wants {
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

/// Whether most of a packet is a file's data, or padding.
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
    let queue = Arc::new(Queue {
        wants,
        state: Mutex::default(),
        changed: Condvar::new(),
        lost: AtomicU64::new(0),
    });
    let mut queues = QUEUES.write().unwrap_or_else(PoisonError::into_inner);
    queues.push(Arc::clone(&queue));
    WATCHED.store(true, Ordering::Relaxed);
    Subscription(queue)
}

/// Tells observers of one packet that has come or was lost on purpose.
pub fn raise(place: &Place, fate: Fate, payload: &[u8]) {
    if let Some(announced) = announce(place, fate, payload, payload.len()) {
        announced.passed();
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
            queue.push(state, when, place, fate, &[IoSlice::new(payload)]);
        }
    })
}

/// The same of what is about to be written to a TCP connection.
#[must_use = "dropped, it was never written"]
pub fn announce_write(place: &Place, parts: &[IoSlice<'_>]) -> Option<Announced> {
    if !watched() {
        return None;
    }
    Announced::new(place, |queue, state, when| {
        queue.push(state, when, place, Fate::Sent, parts);
    })
}

/// What is about to be sent. Dropped, it never was.
pub struct Announced {
    tickets: Vec<Ticket>,
}

/// Where it stands in one queue.
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
            // In the lock, so that times go the way of the order; once for all of a system call.
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

    /// The kernel has taken it.
    pub fn passed(self) {
        self.settle(|record| record.is_settled = true);
    }

    /// The kernel has taken the first `bytes` of it.
    pub fn passed_partly(self, bytes: usize) {
        self.settle(|record| {
            record.is_settled = bytes > 0;
            record.length = record.length.min(bytes);
            record.kept = record.kept.min(bytes);
        });
    }

    fn settle(mut self, settle: impl Fn(&mut Record)) {
        for ticket in self.tickets.drain(..) {
            ticket.settle(&settle);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        for ticket in self.tickets.drain(..) {
            ticket.settle(&|_: &mut Record| {});
        }
    }
}

impl Ticket {
    fn settle(&self, settle: &dyn Fn(&mut Record)) {
        let state = &mut *self.queue.lock();
        let count = self.end - self.first;
        let batch = if state.number == self.batch {
            &mut state.open
        } else {
            // The one before: it is not handed over until all of it is settled.
            &mut state.sealed
        };
        if let Some(records) = batch.records.get_mut(self.first..self.end) {
            records.iter_mut().for_each(settle);
        }
        batch.pending = batch.pending.saturating_sub(count);
        if state.is_awaited {
            self.queue.changed.notify_all();
        }
    }
}

struct Queue {
    wants: Wants,
    state: Mutex<State>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Takes events.
    open: Batch,
    /// The open one's number.
    number: u64,
    /// The one before, while some of it is not settled yet.
    sealed: Batch,
    is_awaited: bool,
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts and lengths are right between any two statements that change them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(
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
        let taken = state.open.size() + state.sealed.size();
        if taken + kept + size_of::<Record>() > self.wants.queue_bytes {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let batch = &mut state.open;
        let offset = batch.bytes.len();
        for part in parts {
            let room = kept - (batch.bytes.len() - offset);
            batch.bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        batch.records.push(Record {
            when,
            place: *place,
            fate,
            offset,
            kept,
            length,
            is_settled: false,
        });
    }
}

/// Events that are handed over together, in their order.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
    bytes: Vec<u8>,
    /// Records of which it is not known yet whether they are sent.
    pending: usize,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    when: When,
    place: Place,
    fate: Fate,
    offset: usize,
    kept: usize,
    length: usize,
    /// It is known to have passed.
    is_settled: bool,
}

impl Batch {
    /// What it takes of memory.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Record>()
    }

    /// Takes no more memory than that: for who keeps it.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.records.shrink_to_fit();
    }

    /// The packets.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let passed = self.records.iter().filter(|record| record.is_settled);
        passed.map(|record| Packet {
            when: record.when,
            place: record.place,
            fate: record.fate,
            payload: &self.bytes[record.offset..record.offset + record.kept],
            length: record.length,
        })
    }

    fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
    }
}

/// An observer's end of its queue.
pub struct Subscription(Arc<Queue>);

impl Subscription {
    /// Waits until there are events, and puts them into `batch` in place of what it held. `false`: there
    /// is none within `patience`, or (see [`is_closed`](Self::is_closed)) there will be none.
    pub fn read(&self, batch: &mut Batch, patience: Duration) -> bool {
        batch.clear();
        let queue = &*self.0;
        let give_up = Instant::now() + patience;
        let mut state = queue.lock();
        while state.open.records.is_empty() {
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
            // As long as a system call takes.
            state = wait(queue, state, Duration::from_secs(1));
        }
        *batch = std::mem::take(&mut state.sealed);
        true
    }

    /// Events that the queue had no room for.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Whether nothing more comes than what is already there.
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// A handle to end it from another thread.
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
    /// Ends it.
    pub fn close(&self) {
        close(&self.0);
    }

    /// Whether the observer has seen all that has happened, and waits for more.
    pub fn is_drained(&self) -> bool {
        let state = self.0.lock();
        state.is_awaited && state.open.records.is_empty() && state.sealed.records.is_empty()
    }
}

fn close(queue: &Arc<Queue>) {
    {
        let mut queues = QUEUES.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        WATCHED.store(!queues.is_empty(), Ordering::Relaxed);
    }
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

#[cfg(test)]
mod tests {
    use super::{
        super::packet::{Again, Label},
        *,
    };

    /// The hub is the process's: each test has a port of its own.
    fn place(port: u16, protocol: Protocol) -> Place {
        Place {
            label: Label::new(Role::Rudp, protocol),
            carrier: Carrier::Udp,
            local: ([127, 0, 0, 1], port).into(),
            remote: ([127, 0, 0, 2], port).into(),
        }
    }

    fn wants(place: &Place) -> Wants {
        Wants {
            peers: BTreeSet::from([place.remote]),
            ..Wants::default()
        }
    }

    fn read(subscription: &Subscription) -> Vec<(Fate, Vec<u8>, usize)> {
        let mut batch = Batch::default();
        subscription.read(&mut batch, Duration::ZERO);
        let packets = batch.packets();
        packets
            .map(|packet| (packet.fate, packet.payload.to_vec(), packet.length))
            .collect()
    }

    #[test]
    fn all_observers_see_what_passed_in_the_order_of_causes_and_nothing_else() {
        let place = place(1, Protocol::Rudp);
        let (one, two) = (subscribe(wants(&place)), subscribe(wants(&place)));
        assert!(watched());
        let question = announce(&place, Fate::Sent, b"onetwo!", 3).expect("watched");
        // The answer is there before the sender's system call returns.
        raise(&place, Fate::Received, b"");
        question.passed();
        drop(announce(&place, Fate::Sent, b"refused by the kernel", 99));
        let again = Fate::SentAgain(Again::Unanswered);
        let partly = announce(&place, again, b"partly", 99).expect("watched");
        partly.passed_partly(4);
        for observer in [one, two] {
            assert_eq!(
                read(&observer),
                [
                    (Fate::Sent, b"one".to_vec(), 3),
                    (Fate::Sent, b"two".to_vec(), 3),
                    (Fate::Sent, b"!".to_vec(), 1),
                    (Fate::Received, Vec::new(), 0),
                    (again, b"part".to_vec(), 4),
                ]
            );
            assert_eq!(observer.lost(), 0);
        }
    }

    #[test]
    fn a_batch_waits_for_what_is_announced_in_it_and_not_for_what_comes_after() {
        let place = place(2, Protocol::Rudp);
        let observer = subscribe(wants(&place));
        let announced = announce(&place, Fate::Sent, b"slow", 9).expect("watched");
        let (read, later) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut batch = Batch::default();
                assert!(observer.read(&mut batch, Duration::from_secs(60)));
                batch
                    .packets()
                    .map(|p| p.payload.to_vec())
                    .collect::<Vec<_>>()
            });
            while observer.0.lock().number == 0 {
                std::thread::yield_now();
            }
            let later = announce(&place, Fate::Sent, b"later", 9).expect("watched");
            announced.passed();
            (reader.join().expect("read"), later)
        });
        assert_eq!(read, [b"slow"]);
        later.passed();
        assert_eq!(self::read(&observer), [(Fate::Sent, b"later".to_vec(), 5)]);
    }

    #[test]
    fn a_slow_observer_loses_events_and_counts_them() {
        let place = place(3, Protocol::Dns);
        let observer = subscribe(Wants {
            queue_bytes: 10_000,
            ..wants(&place)
        });
        for _ in 0..100 {
            raise(&place, Fate::Received, &[7; 1000]);
        }
        let kept = read(&observer).len() as u64;
        assert!((5..10).contains(&kept), "{kept}");
        assert_eq!(observer.lost(), 100 - kept);
        // There is room again.
        raise(&place, Fate::Received, b"now");
        assert_eq!(read(&observer).len(), 1);
    }

    #[test]
    fn data_is_cut_and_messages_are_kept() {
        let (rudp, http) = (place(4, Protocol::Rudp), place(4, Protocol::Http));
        let observer = subscribe(Wants {
            data_bytes: 4,
            message_bytes: 100,
            ..wants(&rudp)
        });
        raise(&rudp, Fate::Received, b"SIGNECHO:290;0");
        raise(&rudp, Fate::Received, &[0x80; 1200]);
        raise(&http, Fate::Received, b"PK\x03\x04 a file");
        let head: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        let parts = [IoSlice::new(head), IoSlice::new(&[7; 900])];
        announce_write(&http, &parts).expect("watched").passed();
        let kept: Vec<(usize, usize)> = read(&observer)
            .into_iter()
            .map(|(_, payload, length)| (payload.len(), length))
            .collect();
        assert_eq!(kept, [(14, 14), (4, 1200), (4, 11), (100, 919)]);
    }

    #[test]
    fn who_closes_reads_what_is_there_and_hears_no_more() {
        let place = place(5, Protocol::Rudp);
        let observer = subscribe(wants(&place));
        raise(&place, Fate::Received, b"before");
        observer.closer().close();
        raise(&place, Fate::Received, b"after");
        assert_eq!(read(&observer), [(Fate::Received, b"before".to_vec(), 6)]);
        assert!(observer.is_closed());
        assert!(!observer.read(&mut Batch::default(), Duration::from_secs(60)));
    }

    #[test]
    fn an_observer_has_only_the_roles_that_it_wants() {
        let place = place(6, Protocol::Rudp);
        let of = |role| {
            subscribe(Wants {
                roles: BTreeSet::from([role]),
                ..wants(&place)
            })
        };
        let (rudp, dhcp) = (of(Role::Rudp), of(Role::Dhcp));
        raise(&place, Fate::Received, b"hello");
        assert_eq!((read(&rudp).len(), read(&dhcp).len()), (1, 0));
    }
}
