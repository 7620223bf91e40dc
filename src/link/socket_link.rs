use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use quinn_udp::RecvMeta;

use super::{
    Damage, Link, LinkControl, LinkCounters, LinkOptions, Packet, Way, control::Controlled,
    first_links::FirstLinks,
};
use crate::{
    net::{Ecn, Outgoing, ReceiveBatch, Timer, UdpSocket, is_too_large, too_large},
    watch::event::{
        hub,
        link::{Crossing, LinkPlace, Observer, Overtaken, Verdict},
    },
};

/// A bad link around the UDP sockets of one server, or of one client: what they receive has come
/// over it, what they send goes over it. Several sockets share one link with its queue and rate, as
/// the machines behind one uplink do.
///
/// It outlives the sockets: a restarted actor's new socket, put
/// [behind](super::LinkedSocket::behind) the same link, gets what was under way to the one before it.
///
/// As long as its options do nothing and nothing is under way, packets pass it by uncounted, and
/// cost one look at a flag. Rate and queue count a datagram's IP and UDP headers, too; corruption
/// changes one byte of the payload under a correct checksum; ECN marks are carried. A path's MTU is
/// the real one: what the interface does not take in one piece is refused before it gets onto the
/// link, as it is without one.
#[derive(Clone)]
pub struct SocketLink(Arc<Shared>);

/// On which end of a link its sockets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// They send up and receive what comes down.
    Client,
    /// They receive what comes up and send down.
    Server,
}

struct Shared {
    place: LinkPlace,
    inbound: Way,
    active: AtomicBool,
    state: Mutex<State>,
}

struct State {
    link: Link<Datagram>,
    seed: u64,
    ports: Vec<Lane>,
    /// Ports ever made.
    serials: u64,
    undelivered: u64,
}

/// What has come through the link for one socket.
#[derive(Default)]
struct Lane {
    inbound: VecDeque<Datagram>,
    outbound: VecDeque<Datagram>,
    /// Who waits to receive there: the port's serial and its task.
    waiting: Option<(u64, Waker)>,
    /// When that one will look again by itself.
    due: Option<Instant>,
    first_links: FirstLinks,
}

/// One socket's place at a link.
pub(super) struct Port {
    shared: Arc<Shared>,
    number: usize,
    /// Tells it from others of its number.
    serial: u64,
    timer: Mutex<Option<Timer>>,
}

#[derive(Debug, Clone)]
struct Datagram {
    port: usize,
    peer: SocketAddr,
    local: Option<IpAddr>,
    interface: Option<u32>,
    ecn: Option<Ecn>,
    whole: bool,
    crossing: Crossing,
    payload: Box<[u8]>,
}

/// Raises a link's verdicts for who observes the process.
#[derive(Debug)]
struct Raising(LinkPlace);

impl Observer for Raising {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        hub::raise_verdict(self.0, verdict);
    }

    fn on_overtaken(&self, overtaken: &Overtaken<'_>) {
        hub::raise_overtaken(self.0, overtaken);
    }
}

impl Packet for Datagram {
    fn size(&self) -> usize {
        // IP's header without options, and UDP's.
        let headers = if self.peer.is_ipv4() { 20 } else { 40 } + 8;
        headers + self.payload.len()
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn peer(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    fn is_ect(&self) -> bool {
        self.ecn.is_some()
    }

    fn set_ce(&mut self) {
        self.ecn = Some(Ecn::Ce);
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        damage.strike(&mut self.payload).map(|(place, _)| place)
    }
}

impl SocketLink {
    /// A link with its sockets on one `side`. Who observes the process hears its verdicts.
    pub fn new(side: Side, up: LinkOptions, down: LinkOptions, seed: u64) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let place = LinkPlace {
            link: MADE.fetch_add(1, Ordering::Relaxed),
            is_servers: side == Side::Server,
        };
        let mut link = Link::new(up, down, seed, Instant::now());
        link.watch(Arc::new(Raising(place)));
        let state = State {
            link,
            seed,
            ports: Vec::new(),
            serials: 0,
            undelivered: 0,
        };
        Self(Arc::new(Shared {
            place,
            inbound: match side {
                Side::Client => Way::Down,
                Side::Server => Way::Up,
            },
            active: AtomicBool::new(state.is_needed()),
            state: Mutex::new(state),
        }))
    }

    /// A handle for whoever counts and changes options.
    pub fn control(&self) -> LinkControl {
        LinkControl::new(self.0.clone())
    }

    /// Changes the options from now on, and has the dice begin anew if the seed is another one.
    /// What is under way arrives all the same.
    pub fn configure(&self, up: LinkOptions, down: LinkOptions, seed: u64) {
        {
            let state = &mut *self.0.lock();
            if state.seed != seed {
                state.seed = seed;
                state.link.reseed(seed);
            }
        }
        self.0.set_options(up, down);
    }

    pub(super) fn port(&self, number: usize) -> Port {
        let state = &mut *self.0.lock();
        if state.ports.len() <= number {
            state.ports.resize_with(number + 1, Lane::default);
        }
        state.serials += 1;
        Port {
            shared: Arc::clone(&self.0),
            number,
            serial: state.serials,
            timer: Mutex::new(None),
        }
    }
}

impl Port {
    /// Whether packets have to go through the link.
    pub(super) fn is_active(&self) -> bool {
        self.shared.active.load(Ordering::Relaxed)
    }

    /// Has `task` woken when the link has something for the socket. For a socket that waits for the
    /// kernel alone: the link may become a bad one meanwhile.
    pub(super) fn wake_later(&self, task: &Context<'_>) {
        if let Some(lane) = self.shared.lock().ports.get_mut(self.number) {
            lane.wait(self.serial, task, None);
        }
    }

    /// Puts datagrams onto the link, and sends what comes through at once. Tells which one of the
    /// link's the first of them is.
    ///
    /// # Errors
    /// `EMSGSIZE`, of what the kernel would not send unfragmented; nothing has got onto the link.
    pub(super) fn send(&self, socket: &UdpSocket, outgoing: &Outgoing<'_>) -> io::Result<Crossing> {
        let now = Instant::now();
        let state = &mut *self.shared.lock();
        if outgoing.whole
            && socket.is_unfragmented()
            && let Some(lane) = state.ports.get_mut(self.number)
        {
            let largest = outgoing.segment_size.min(outgoing.contents.len());
            let links = &mut lane.first_links;
            if links.refuse(largest, outgoing.destination, outgoing.source) {
                return Err(too_large());
            }
        }
        // An empty datagram is one datagram too; chunks() would give none.
        let empty = outgoing.contents.is_empty().then_some(outgoing.contents);
        let segments = outgoing.contents.chunks(outgoing.segment_size.max(1));
        let first = self.shared.crossing(state, self.shared.outbound());
        for payload in segments.chain(empty) {
            let datagram = Datagram {
                port: self.number,
                peer: outgoing.destination,
                local: outgoing.source,
                interface: None,
                ecn: outgoing.ecn,
                whole: outgoing.whole,
                crossing: self.shared.crossing(state, self.shared.outbound()),
                payload: payload.into(),
            };
            state
                .link
                .handle_input(self.shared.outbound(), datagram, now);
        }
        state.hand_out(self.shared.inbound, now, |way, number| {
            number == self.number && way != self.shared.inbound
        });
        self.flush(state, socket);
        state.wake_keeper();
        // Whoever found it idle may have switched it off after we looked.
        if state.is_needed() {
            self.shared.active.store(true, Ordering::Relaxed);
        }
        Ok(first)
    }

    /// Takes what the kernel has received onto the link, sends and receives what has come through.
    pub(super) fn poll_receive(
        &self,
        socket: &UdpSocket,
        task: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        let received = match socket.poll_receive(task, batch) {
            Poll::Ready(received) => {
                received?;
                true
            }
            Poll::Pending => false,
        };
        let (now, inbound) = (Instant::now(), self.shared.inbound);
        let state = &mut *self.shared.lock();
        self.take_in(state, batch, now);
        state.hand_out(inbound, now, |_, number| number == self.number);
        self.flush(state, socket);
        if let Some(lane) = state.ports.get_mut(self.number) {
            while !batch.is_full()
                && let Some(datagram) = lane.inbound.pop_front()
            {
                batch.push(&datagram.payload, datagram.meta(), datagram.crossing);
            }
        }
        if !batch.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if received {
            // The kernel may have more; others come first.
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !state.is_needed() {
            self.shared.active.store(false, Ordering::Relaxed);
        }
        let is_keeper = state
            .ports
            .iter()
            .position(|lane| lane.waiting.is_some())
            .is_none_or(|keeper| keeper >= self.number);
        let due = state.link.poll_timeout().filter(|_| is_keeper);
        if let Some(lane) = state.ports.get_mut(self.number) {
            lane.wait(self.serial, task, due);
        }
        state.wake_keeper();
        self.poll_timer(task, due)
    }

    /// Wakes the task when it is `due`.
    fn poll_timer(&self, task: &mut Context<'_>, due: Option<Instant>) -> Poll<io::Result<()>> {
        let slot = &mut *self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = match slot {
            Some(timer) => timer,
            None if due.is_none() => return Poll::Pending,
            None => slot.insert(Timer::new()?),
        };
        timer.set(due)?;
        if let Poll::Ready(expired) = timer.poll_expired(task) {
            expired?;
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Puts onto the link what the kernel has received.
    fn take_in(&self, state: &mut State, batch: &mut ReceiveBatch, now: Instant) {
        for (bytes, meta) in batch.filled() {
            let empty = bytes.is_empty().then_some(bytes);
            for payload in bytes.chunks(meta.stride.max(1)).chain(empty) {
                let datagram = Datagram {
                    port: self.number,
                    peer: meta.addr,
                    local: meta.dst_ip,
                    interface: meta.interface_index,
                    ecn: meta.ecn.map(Into::into),
                    whole: false,
                    crossing: self.shared.crossing(state, self.shared.inbound),
                    payload: payload.into(),
                };
                state.link.handle_input(self.shared.inbound, datagram, now);
            }
        }
        batch.clear();
    }

    /// Sends what has come through for the socket.
    fn flush(&self, state: &mut State, socket: &UdpSocket) {
        let Some(lane) = state.ports.get_mut(self.number) else {
            return;
        };
        while let Some(datagram) = lane.outbound.pop_front() {
            let mut outgoing = Outgoing {
                contents: &datagram.payload,
                segment_size: datagram.payload.len(),
                destination: datagram.peer,
                source: datagram.local,
                ecn: datagram.ecn,
                whole: datagram.whole,
            };
            let mut sent = socket.send(&outgoing);
            if outgoing.whole && sent.as_ref().is_err_and(is_too_large) {
                // The interface has become narrower since. Had the link been a real one, the datagram
                // would have passed the interface before: it arrives, and the next one is refused.
                lane.first_links.forget(datagram.peer, datagram.local);
                outgoing.whole = false;
                sent = socket.send(&outgoing);
            }
            state.undelivered += u64::from(sent.is_err());
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        if let Some(lane) = state.ports.get_mut(self.number)
            && lane
                .waiting
                .as_ref()
                .is_some_and(|(serial, _)| *serial == self.serial)
        {
            lane.waiting = None;
        }
        // It may have been the one to keep the time.
        state.ports.iter_mut().for_each(Lane::wake);
    }
}

impl Datagram {
    fn meta(&self) -> RecvMeta {
        let mut meta = RecvMeta::default();
        meta.addr = self.peer;
        meta.dst_ip = self.local;
        meta.interface_index = self.interface;
        meta.ecn = self.ecn.map(Into::into);
        meta
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which one of the link's the next packet is that goes `way`.
    fn crossing(&self, state: &State, way: Way) -> Crossing {
        let number = state.link.direction(way).next_number();
        self.place.crossing(way, number)
    }

    fn outbound(&self) -> Way {
        match self.inbound {
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }
}

impl State {
    /// Whether packets have to go through it.
    fn is_needed(&self) -> bool {
        let idle = |way| {
            let direction = self.link.direction(way);
            *direction.options() == LinkOptions::default() && direction.counters().under_way == 0
        };
        let waits = |lane: &Lane| !lane.inbound.is_empty() || !lane.outbound.is_empty();
        !Way::BOTH.into_iter().all(idle) || self.ports.iter().any(waits)
    }

    /// Hands what has come through to its socket, and wakes that one unless it is `known` there.
    fn hand_out(&mut self, inbound: Way, now: Instant, known: impl Fn(Way, usize) -> bool) {
        while let Some((way, datagram)) = self.link.poll_output(now) {
            let number = datagram.port;
            let Some(lane) = self.ports.get_mut(number) else {
                continue;
            };
            if way == inbound {
                lane.inbound.push_back(datagram);
            } else {
                lane.outbound.push_back(datagram);
            }
            if !known(way, number) {
                lane.wake();
            }
        }
    }

    /// The first socket that waits keeps the time for all. It is woken if it would be late.
    fn wake_keeper(&mut self) {
        let Some(next) = self.link.poll_timeout() else {
            return;
        };
        let keeper = self.ports.iter_mut().find(|lane| lane.waiting.is_some());
        if let Some(lane) = keeper
            && lane.due.is_none_or(|due| next < due)
        {
            lane.due = Some(next);
            lane.wake();
        }
    }
}

impl Lane {
    fn wait(&mut self, serial: u64, task: &Context<'_>, due: Option<Instant>) {
        self.due = due;
        match &mut self.waiting {
            Some((waiting, waker)) if waker.will_wake(task.waker()) => *waiting = serial,
            waiting => *waiting = Some((serial, task.waker().clone())),
        }
    }

    fn wake(&mut self) {
        if let Some((_, waker)) = &self.waiting {
            waker.wake_by_ref();
        }
    }
}

impl Controlled for Shared {
    fn watch(&self, observer: Arc<dyn Observer>) {
        self.lock().link.watch(observer);
    }

    fn unwatch(&self, observer: &Arc<dyn Observer>) {
        self.lock().link.unwatch(observer);
    }

    fn counters(&self) -> LinkCounters {
        let state = self.lock();
        LinkCounters {
            clients: None,
            undelivered: state.undelivered,
            up: state.link.direction(Way::Up).counters(),
            down: state.link.direction(Way::Down).counters(),
        }
    }

    fn options(&self, way: Way) -> LinkOptions {
        *self.lock().link.direction(way).options()
    }

    fn set_options(&self, up: LinkOptions, down: LinkOptions) {
        let now = Instant::now();
        let state = &mut *self.lock();
        state.link.set_options(Way::Up, up, now);
        state.link.set_options(Way::Down, down, now);
        if state.is_needed() {
            self.active.store(true, Ordering::Relaxed);
        }
        // What waits for the rate may be due earlier now.
        state.ports.iter_mut().for_each(Lane::wake);
    }
}

#[cfg(test)]
mod tests;
