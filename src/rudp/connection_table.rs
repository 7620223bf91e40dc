//! Which connection a packet of the binary transport belongs to, and who may have one more.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    endpoint::MOVED,
    packet::Cid,
    places::{Places, Prefix},
};

/// The connections of one socket by their connection ids. `H` is what the shell reaches one by.
#[derive(Debug)]
pub struct ConnectionTable<H> {
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

impl<H> Default for ConnectionTable<H> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            greeted: HashMap::new(),
        }
    }
}

impl<H> ConnectionTable<H> {
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

    /// Forgets all: our id, whence each was opened, whether it is confirmed, and the handle.
    pub fn abandon(&mut self) -> impl Iterator<Item = (Cid, IpAddr, bool, H)> + use<H> {
        self.greeted.clear();
        let open = std::mem::take(&mut self.open).into_iter();
        open.map(|(cid, entry)| (cid, entry.greeted_from.ip(), entry.confirmed, entry.handle))
    }

    /// The confirmed connections: where the client is, and the handle.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &H)> {
        self.open
            .values()
            .filter(|entry| entry.confirmed)
            .map(|entry| (entry.client, &entry.handle))
    }

    /// All, as the crowd counts them: our id, whence it was opened, and whether it is confirmed.
    pub fn counted(&self) -> impl Iterator<Item = (Cid, IpAddr, bool)> {
        let counted =
            |(cid, entry): (&Cid, &Entry<H>)| (*cid, entry.greeted_from.ip(), entry.confirmed);
        self.open.iter().map(counted)
    }

    /// All handles.
    pub fn handles(&self) -> impl Iterator<Item = &H> {
        self.open.values().map(|entry| &entry.handle)
    }
}

/// How many sessions and connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Open sessions of the signals, and connections, confirmed or not.
    pub sessions: usize,
    /// Of these, those of one address.
    pub per_address: usize,
    /// Connections that are not confirmed yet; 0: nobody new is taken, as the server listens
    /// elsewhere.
    pub handshakes: usize,
    /// Of these, those of one address.
    pub handshakes_per_address: usize,
}

/// How many sessions and connections there are, over all sockets of a server. `H` is what the shell
/// reaches a connection by whose handshake is not done.
#[derive(Debug)]
pub struct Crowd<H> {
    signals: usize,
    confirmed: usize,
    handshakes: Places<Cid, H>,
    /// Sessions and connections by their address.
    addresses: HashMap<Prefix, usize>,
}

impl<H> Default for Crowd<H> {
    fn default() -> Self {
        Self {
            signals: 0,
            confirmed: 0,
            handshakes: Places::default(),
            addresses: HashMap::new(),
        }
    }
}

/// Why there can't be one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many sessions and connections.
    Sessions,
    /// Too many of this address.
    Address,
    /// Too many handshakes of this address under way.
    Handshakes,
    /// Nobody new is taken.
    Moved,
}

impl Full {
    /// The same for whom it concerns.
    pub fn words(self) -> &'static str {
        match self {
            Self::Sessions => "the proxy takes no more connections and sessions: it has all it may",
            Self::Address => {
                "the proxy takes no more connections and sessions from your address, which has its \
                 share"
            }
            Self::Handshakes => {
                "the proxy takes no more connections from your address until those that it has begun \
                 are confirmed"
            }
            Self::Moved => MOVED,
        }
    }
}

impl<H> Crowd<H> {
    /// Whether there may be one more session or connection of `address`.
    ///
    /// # Errors
    /// Which bound is in the way.
    pub fn has_room(&self, address: IpAddr, bounds: &Bounds) -> Result<(), Full> {
        if self.signals + self.connections() >= bounds.sessions {
            return Err(Full::Sessions);
        }
        let own = self.addresses.get(&Prefix::of(address));
        match own {
            Some(own) if *own >= bounds.per_address => Err(Full::Address),
            _ => Ok(()),
        }
    }

    /// Whether `address` may begin one more handshake.
    ///
    /// # Errors
    /// Which bound is in the way.
    pub fn has_room_for_handshake(&self, address: IpAddr, bounds: &Bounds) -> Result<(), Full> {
        if bounds.handshakes == 0 {
            return Err(Full::Moved);
        }
        self.has_room(address, bounds)?;
        if self.handshakes.held(Prefix::of(address)) >= bounds.handshakes_per_address {
            return Err(Full::Handshakes);
        }
        Ok(())
    }

    /// Counts one more session of the signals.
    pub fn enter_signals(&mut self, address: IpAddr) {
        self.signals += 1;
        self.enter(address);
    }

    /// A session of the signals is no longer open.
    pub fn leave_signals(&mut self, address: IpAddr) {
        self.signals = self.signals.saturating_sub(1);
        self.leave(address);
    }

    /// Counts one more handshake. With too many under way the oldest of the address that has most
    /// makes room: it is to be ended.
    pub fn begin(&mut self, cid: Cid, address: IpAddr, handle: H, bounds: &Bounds) -> Option<H> {
        self.enter(address);
        let prefix = Prefix::of(address);
        let displaced = self
            .handshakes
            .insert(cid, prefix, handle, bounds.handshakes);
        displaced.map(|(_, handle)| handle)
    }

    /// A handshake is done.
    pub fn confirm(&mut self, cid: Cid) {
        self.handshakes.remove(&cid);
        self.confirmed += 1;
    }

    /// A connection is gone, as [`ConnectionTable::remove`] told.
    pub fn end(&mut self, cid: Cid, address: IpAddr, confirmed: bool) {
        if confirmed {
            self.confirmed = self.confirmed.saturating_sub(1);
        } else {
            self.handshakes.remove(&cid);
        }
        self.leave(address);
    }

    /// Connections, confirmed or not.
    pub fn connections(&self) -> usize {
        self.confirmed + self.handshakes.len()
    }

    /// Handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    fn enter(&mut self, address: IpAddr) {
        *self.addresses.entry(Prefix::of(address)).or_default() += 1;
    }

    fn leave(&mut self, address: IpAddr) {
        let prefix = Prefix::of(address);
        if let Some(own) = self.addresses.get_mut(&prefix) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.addresses.remove(&prefix);
            }
        }
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

    #[test]
    fn a_connection_is_found_by_our_id_and_by_its_greeting() {
        let mut connections = ConnectionTable::default();
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
        let mut connections = ConnectionTable::default();
        connections.insert(Cid(7), client(1), Cid(1), "old");
        connections.insert(Cid(8), client(1), Cid(1), "new");
        connections.remove(Cid(7));
        assert_eq!(connections.greeted(client(1), Cid(1)), Some(Cid(8)));
    }

    const BOUNDS: Bounds = Bounds {
        sessions: 6,
        per_address: 3,
        handshakes: 3,
        handshakes_per_address: 2,
    };

    #[test]
    fn each_bound_holds() {
        let mut crowd = Crowd::default();
        let (here, there) = (client(1).ip(), IpAddr::from([127, 20, 30, 42]));
        let room = |crowd: &Crowd<()>, address| crowd.has_room_for_handshake(address, &BOUNDS);
        for n in 1..=2 {
            assert_eq!(room(&crowd, here), Ok(()));
            assert_eq!(crowd.begin(Cid(n), here, (), &BOUNDS), None);
        }
        assert_eq!(room(&crowd, here), Err(Full::Handshakes));
        assert_eq!(crowd.has_room(here, &BOUNDS), Ok(()), "for the signals");
        crowd.confirm(Cid(1));
        assert_eq!(room(&crowd, here), Ok(()));
        crowd.enter_signals(here);
        assert_eq!(room(&crowd, here), Err(Full::Address));
        for n in 3..=4 {
            assert_eq!(room(&crowd, there), Ok(()));
            crowd.begin(Cid(n), there, (), &BOUNDS);
            crowd.confirm(Cid(n));
        }
        crowd.enter_signals(there);
        let third = IpAddr::from([127, 20, 30, 43]);
        assert_eq!(room(&crowd, third), Err(Full::Sessions));
        crowd.leave_signals(here);
        assert_eq!(room(&crowd, third), Ok(()));
        crowd.leave_signals(there);
        for (cid, address, confirmed) in [
            (1, here, true),
            (2, here, false),
            (3, there, true),
            (4, there, true),
        ] {
            crowd.end(Cid(cid), address, confirmed);
        }
        assert_eq!((crowd.connections(), crowd.handshakes()), (0, 0));
        assert!(crowd.addresses.is_empty(), "nothing is left behind");
    }

    #[test]
    fn many_who_never_confirm_keep_nobody_out() {
        let mut crowd = Crowd::default();
        let (here, there) = (client(1).ip(), IpAddr::from([127, 20, 30, 42]));
        crowd.begin(Cid(1), there, "there", &BOUNDS);
        crowd.begin(Cid(2), here, "old", &BOUNDS);
        crowd.begin(Cid(3), here, "young", &BOUNDS);
        let late = IpAddr::from([127, 20, 30, 43]);
        assert_eq!(crowd.has_room_for_handshake(late, &BOUNDS), Ok(()));
        assert_eq!(crowd.begin(Cid(4), late, "late", &BOUNDS), Some("old"));
        // Whatever becomes of the one that made room, the counts agree.
        crowd.end(Cid(2), here, false);
        assert_eq!(
            (crowd.connections(), crowd.addresses[&Prefix::of(here)]),
            (3, 1)
        );
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
