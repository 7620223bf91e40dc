use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Datagram, Host};

/// A host that is further away than the end of the path: each datagram takes so much longer, either way.
/// Between the two nothing gets lost, and nothing has to wait for a rate.
#[derive(Debug)]
pub struct Far<H> {
    /// The host.
    pub host: H,
    away: Duration,
    coming: VecDeque<(Instant, Datagram)>,
    going: VecDeque<(Instant, Datagram)>,
    buffer: Vec<Datagram>,
}

impl<H: Host> Far<H> {
    /// A host that is so far away, which may be nothing.
    pub fn new(host: H, away: Duration) -> Self {
        Self {
            host,
            away,
            coming: VecDeque::new(),
            going: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// What the host has just sent is under way; what has got to the path by now is put on it.
    fn pass(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let due = now + self.away;
        let sent = self.buffer.drain(..);
        self.going.extend(sent.map(|datagram| (due, datagram)));
        while let Some(datagram) = arrived(&mut self.going, now) {
            out.push(datagram);
        }
    }
}

/// The first of those under way, if its time has come.
fn arrived(under_way: &mut VecDeque<(Instant, Datagram)>, now: Instant) -> Option<Datagram> {
    let (due, _) = under_way.front()?;
    (*due <= now)
        .then(|| under_way.pop_front())
        .flatten()
        .map(|(_, datagram)| datagram)
}

impl<H: Host> Host for Far<H> {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        if self.away.is_zero() {
            self.host.handle_datagram(datagram, now, out);
        } else {
            self.coming.push_back((now + self.away, datagram));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(datagram) = arrived(&mut self.coming, now) {
            self.host.handle_datagram(datagram, now, &mut self.buffer);
        }
        self.host.handle_timeout(now);
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if self.away.is_zero() {
            self.host.send(now, out);
        } else {
            self.host.send(now, &mut self.buffer);
            self.pass(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let under_way = [self.coming.front(), self.going.front()];
        let due = under_way.into_iter().flatten().map(|(due, _)| *due);
        due.chain(self.host.poll_timeout()).min()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.host.is_at(address)
    }
}
