use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Datagram;
use crate::link::{Link, Way};

/// What sends and receives datagrams, in virtual time: a core's contract, seen from the network.
pub trait Host {
    /// Takes a datagram that has come. What it answers at once, without a state of its own, it appends to
    /// `out`; the rest comes from [`send`](Self::send).
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>);

    /// The time has come that [`poll_timeout`](Self::poll_timeout) told; perhaps for another host.
    fn handle_timeout(&mut self, now: Instant);

    /// Appends everything that it has to send now. It costs next to nothing if nothing has come and no
    /// time was up since it was called last.
    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>);

    /// When it wants [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether a datagram to this address is for it.
    fn is_at(&self, address: SocketAddr) -> bool;
}

/// What is between the hosts: a [`Link`], or one with something before or behind it.
pub trait Path {
    /// Takes a datagram that leaves its host.
    fn handle_input(&mut self, datagram: Datagram, now: Instant);

    /// The next datagram that has arrived by `now`.
    fn poll_output(&mut self, now: Instant) -> Option<Datagram>;

    /// When to ask for output again; `None`: not before the next input.
    fn poll_timeout(&self) -> Option<Instant>;
}

impl Path for Link<Datagram> {
    fn handle_input(&mut self, datagram: Datagram, now: Instant) {
        Self::handle_input(self, datagram.way, datagram, now);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Datagram> {
        Self::poll_output(self, now).map(|(_, datagram)| datagram)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
}

type Step<C, S, P> = Box<dyn FnOnce(&mut Network<C, S, P>)>;

/// So many events at one and the same time are no progress: deadlines that lie in the past and never
/// move.
const STANDSTILL: u32 = 100_000;

/// Clients on one side of a path, a server on the other, and the time.
///
/// Hosts and path may be looked at and changed between any two steps: what they want to send or be woken
/// for is asked at each.
pub struct Network<C, S, P = Link<Datagram>> {
    /// In the order in which they act when they could at the same time. New ones go to the end.
    pub clients: Vec<C>,
    /// Who they talk to; it acts after them.
    pub server: S,
    /// What is in between.
    pub path: P,
    now: Instant,
    start: Instant,
    script: BTreeMap<(Instant, u64), Step<C, S, P>>,
    steps: u64,
    out: Vec<Datagram>,
}

impl<C: Host, S: Host, P: Path> Network<C, S, P> {
    /// A network without clients, at the time `start`, from which on the path works.
    pub fn new(server: S, path: P, start: Instant) -> Self {
        Self {
            clients: Vec::new(),
            server,
            path,
            now: start,
            start,
            script: BTreeMap::new(),
            steps: 0,
            out: Vec::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// When it began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.start)
    }

    /// Has something happen so long after the start; at once, if that has passed. What is for the same
    /// time happens in the order in which it was asked for, before anything that arrives then.
    pub fn at(&mut self, after: Duration, step: impl FnOnce(&mut Self) + 'static) {
        self.steps += 1;
        let key = (self.start + after, self.steps);
        self.script.insert(key, Box::new(step));
    }

    /// Puts what everybody has to send now on the path.
    pub fn send(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for client in &mut self.clients {
            client.send(self.now, &mut out);
        }
        self.server.send(self.now, &mut out);
        self.put(out);
    }

    /// Hands a host a datagram as if the path had brought it now. One for an address where nobody is
    /// gets lost.
    pub fn deliver(&mut self, datagram: Datagram) {
        let mut out = std::mem::take(&mut self.out);
        match datagram.way {
            Way::Up => self.server.handle_datagram(datagram, self.now, &mut out),
            Way::Down => {
                let mut clients = self.clients.iter_mut();
                if let Some(client) = clients.find(|client| client.is_at(datagram.to)) {
                    client.handle_datagram(datagram, self.now, &mut out);
                }
            }
        }
        self.put(out);
    }

    fn put(&mut self, mut out: Vec<Datagram>) {
        for datagram in out.drain(..) {
            self.path.handle_input(datagram, self.now);
        }
        self.out = out;
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(Host::poll_timeout);
        let script = self.script.first_key_value().map(|((at, _), _)| *at);
        clients
            .chain(self.server.poll_timeout())
            .chain(self.path.poll_timeout())
            .chain(script)
            .min()
    }

    /// Goes to the next event and has it happen, up to what everybody sends because of it; `false`: nothing
    /// will ever happen.
    pub fn step(&mut self) -> bool {
        self.send();
        let Some(next) = self.next() else {
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.script.first_entry()
            && entry.key().0 <= now
        {
            entry.remove()(self);
        }
        while let Some(datagram) = self.path.poll_output(now) {
            self.deliver(datagram);
        }
        for client in &mut self.clients {
            client.handle_timeout(now);
        }
        self.server.handle_timeout(now);
        self.send();
        true
    }

    /// Runs until `done`, or until nothing will ever happen, but for no longer than `limit`; tells
    /// whether it is done.
    ///
    /// # Panics
    /// If a host or the path asks again and again for a time that has passed: that is a mistake in it, and
    /// time would never go on.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        let mut steps = (self.now, 0_u32);
        while self.now < end {
            if done(self) {
                return true;
            }
            if !self.step() {
                return done(self);
            }
            if steps.0 == self.now {
                steps.1 += 1;
                assert!(steps.1 < STANDSTILL, "time stands still");
            } else {
                steps = (self.now, 0);
            }
        }
        done(self)
    }

    /// Runs for so long, and to that time even if nothing happens.
    ///
    /// # Panics
    /// As [`run_until`](Self::run_until).
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.at(end.saturating_duration_since(self.start), |_| {});
        self.run_until(time, |network| network.now >= end);
    }
}
