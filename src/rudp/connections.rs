//! Which connection a packet of the binary transport belongs to, and who may have one more.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::packet::Cid;

/// The connections of one socket by their connection ids. `H` is what the shell reaches one by.
#[derive(Debug)]
pub struct Connections<H> {
    open: HashMap<Cid, Entry<H>>,
    /// By the client's address and connection id at its HELLO.
    greeted: HashMap<(SocketAddr, Cid), Cid>,
}

#[derive(Debug)]
struct Entry<H> {
    client: SocketAddr,
    /// The client's own connection id.
    peer: Cid,
    /// Where the client was when it said HELLO.
    greeted_from: SocketAddr,
    confirmed: bool,
    handle: H,
}

impl<H> Default for Connections<H> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            greeted: HashMap::new(),
        }
    }
}

impl<H> Connections<H> {
    /// The connection with our id `cid`.
    pub fn get(&self, cid: Cid) -> Option<&H> {
        self.open.get(&cid).map(|entry| &entry.handle)
    }

    /// Our id of the connection that a HELLO or RESET from this address, with the client's own id,
    /// belongs to.
    pub fn greeted(&self, from: SocketAddr, peer: Cid) -> Option<Cid> {
        self.greeted.get(&(from, peer)).copied()
    }

    /// Notes a new connection that is not confirmed yet.
    pub fn insert(&mut self, cid: Cid, client: SocketAddr, peer: Cid, handle: H) {
        self.greeted.insert((client, peer), cid);
        self.open.insert(
            cid,
            Entry {
                client,
                peer,
                greeted_from: client,
                confirmed: false,
                handle,
            },
        );
    }

    /// Notes that the client has answered; says whether that is news.
    pub fn confirm(&mut self, cid: Cid) -> bool {
        self.open
            .get_mut(&cid)
            .is_some_and(|entry| !std::mem::replace(&mut entry.confirmed, true))
    }

    /// Notes that the client is at another address now.
    pub fn moved(&mut self, cid: Cid, to: SocketAddr) {
        if let Some(entry) = self.open.get_mut(&cid) {
            entry.client = to;
        }
    }

    /// Forgets a connection: whence it was opened, and whether it was confirmed.
    pub fn remove(&mut self, cid: Cid) -> Option<(IpAddr, bool)> {
        let entry = self.open.remove(&cid)?;
        let greeting = (entry.greeted_from, entry.peer);
        if self.greeted.get(&greeting) == Some(&cid) {
            self.greeted.remove(&greeting);
        }
        Some((entry.greeted_from.ip(), entry.confirmed))
    }

    /// The confirmed connections: where the client is, and the handle.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &H)> {
        self.open
            .values()
            .filter(|entry| entry.confirmed)
            .map(|entry| (entry.client, &entry.handle))
    }

    /// All handles.
    pub fn handles(&self) -> impl Iterator<Item = &H> {
        self.open.values().map(|entry| &entry.handle)
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Confirmed ones and open sessions of the signals, together.
    pub sessions: usize,
    /// Of one IP address, confirmed or not.
    pub per_address: usize,
    /// Not confirmed yet.
    pub handshakes: usize,
}

/// How many connections there are, over all sockets of a server.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Open sessions of the signals.
    pub signals: usize,
    confirmed: usize,
    handshakes: usize,
    addresses: HashMap<IpAddr, usize>,
}

/// Why there can't be one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many sessions and connections.
    Sessions,
    /// Too many connections of this address.
    Address,
    /// Too many handshakes under way.
    Handshakes,
}

impl Crowd {
    /// Counts one more handshake of `address`, if there may be one.
    ///
    /// # Errors
    /// Which bound is in the way.
    pub fn enter(&mut self, address: IpAddr, bounds: &Bounds) -> Result<(), Full> {
        let taken = self.signals + self.confirmed + self.handshakes;
        if taken >= bounds.sessions {
            return Err(Full::Sessions);
        }
        if self.handshakes >= bounds.handshakes {
            return Err(Full::Handshakes);
        }
        let own = self.addresses.get(&address).copied().unwrap_or(0);
        if own >= bounds.per_address {
            return Err(Full::Address);
        }
        self.addresses.insert(address, own + 1);
        self.handshakes += 1;
        Ok(())
    }

    /// One of the handshakes is done.
    pub fn confirm(&mut self) {
        self.handshakes = self.handshakes.saturating_sub(1);
        self.confirmed += 1;
    }

    /// A connection is gone, as [`Connections::remove`] told.
    pub fn leave(&mut self, address: IpAddr, confirmed: bool) {
        let count = if confirmed {
            &mut self.confirmed
        } else {
            &mut self.handshakes
        };
        *count = count.saturating_sub(1);
        if let Some(own) = self.addresses.get_mut(&address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Connections, confirmed or not.
    pub fn connections(&self) -> usize {
        self.confirmed + self.handshakes
    }
}

/// What each of `busy` connections may hold when all of them together may hold `memory` bytes. Those
/// that carry nothing hold nothing: however many they are, the others need not share with them.
pub fn share(memory: u64, busy: usize) -> u64 {
    (memory / busy.max(1) as u64).clamp(LEAST_SHARE, MOST_SHARE)
}

/// No connection gets on with less, bytes.
const LEAST_SHARE: u64 = 64 << 10;
/// No connection needs more: 80 ms at 800 Mbit/s, half a second at 128 Mbit/s.
const MOST_SHARE: u64 = 8 << 20;

/// Lets so many things happen a second, and no more.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    left: f64,
    filled_at: Instant,
}

impl RateLimit {
    /// Up to `per_second` at once, and as many in each second.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            left: per_second.into(),
            filled_at: now,
        }
    }

    /// Whether one more may happen now.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.filled_at);
        let most = f64::from(self.per_second);
        self.left = (self.left + passed.as_secs_f64() * most).min(most);
        self.filled_at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 20, 30, 41], port))
    }

    const BOUNDS: Bounds = Bounds {
        sessions: 3,
        per_address: 2,
        handshakes: 2,
    };

    #[test]
    fn a_connection_is_found_by_our_id_and_by_its_greeting() {
        let mut connections = Connections::default();
        connections.insert(Cid(7), client(1), Cid(1), "first");
        assert_eq!(connections.get(Cid(7)), Some(&"first"));
        assert_eq!(connections.greeted(client(1), Cid(1)), Some(Cid(7)));
        assert_eq!(connections.greeted(client(2), Cid(1)), None);
        assert_eq!(connections.iter().count(), 0, "not confirmed");
        assert!(connections.confirm(Cid(7)) && !connections.confirm(Cid(7)));
        connections.moved(Cid(7), client(9));
        assert_eq!(connections.iter().next(), Some((client(9), &"first")));
        // Its greeting is still the one that it was opened with.
        assert_eq!(connections.greeted(client(1), Cid(1)), Some(Cid(7)));
        assert_eq!(connections.remove(Cid(7)), Some((client(1).ip(), true)));
        assert_eq!(connections.remove(Cid(7)), None);
        assert_eq!(connections.greeted(client(1), Cid(1)), None);
        assert!(connections.open.is_empty() && connections.greeted.is_empty());
    }

    #[test]
    fn the_end_of_an_old_connection_leaves_a_new_one_of_the_same_greeting() {
        let mut connections = Connections::default();
        connections.insert(Cid(7), client(1), Cid(1), "old");
        connections.insert(Cid(8), client(1), Cid(1), "new");
        connections.remove(Cid(7));
        assert_eq!(connections.greeted(client(1), Cid(1)), Some(Cid(8)));
    }

    #[test]
    fn each_bound_holds() {
        let mut crowd = Crowd::default();
        let (here, there) = (client(1).ip(), IpAddr::from([127, 20, 30, 42]));
        assert_eq!(crowd.enter(here, &BOUNDS), Ok(()));
        crowd.confirm();
        assert_eq!(crowd.enter(here, &BOUNDS), Ok(()));
        assert_eq!(crowd.enter(here, &BOUNDS), Err(Full::Address));
        assert_eq!(crowd.enter(there, &BOUNDS), Ok(()));
        assert_eq!(crowd.enter(there, &BOUNDS), Err(Full::Sessions));
        let wide = Bounds {
            sessions: 9,
            ..BOUNDS
        };
        assert_eq!(crowd.enter(there, &wide), Err(Full::Handshakes));
        crowd.leave(here, false);
        assert_eq!(crowd.connections(), 2);
        crowd.signals = 1;
        assert_eq!(crowd.enter(here, &BOUNDS), Err(Full::Sessions));
        crowd.signals = 0;
        assert_eq!(crowd.enter(here, &BOUNDS), Ok(()));
        for (address, confirmed) in [(here, true), (here, false), (there, false)] {
            crowd.leave(address, confirmed);
        }
        assert_eq!(crowd.connections(), 0);
        assert!(crowd.addresses.is_empty(), "nothing is left behind");
    }

    #[test]
    fn memory_is_shared_evenly_within_its_bounds() {
        assert_eq!(share(256 << 20, 0), MOST_SHARE);
        assert_eq!(share(256 << 20, 1024), 256 << 10);
        assert_eq!(share(256 << 20, 1_000_000), LEAST_SHARE);
    }

    #[test]
    fn a_rate_is_held_after_a_burst() {
        let start = Instant::now();
        let mut limit = RateLimit::new(10, start);
        assert_eq!((0..100).filter(|_| limit.take(start)).count(), 10);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..100).filter(|_| limit.take(later)).count(), 2);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| limit.take(much_later)).count(), 10);
    }
}
