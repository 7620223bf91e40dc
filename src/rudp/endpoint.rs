//! Which session a datagram belongs to, and who may open one.

use std::{
    collections::{HashMap, hash_map},
    net::SocketAddr,
};

use super::signal::{MAX_SIGNAL, Name, Signal, SignalKind};

/// The sessions by their client's address and port. `H` is what the shell reaches one by.
#[derive(Debug)]
pub struct Endpoint<H> {
    sessions: HashMap<SocketAddr, Entry<H>>,
    open: usize,
    next_serial: Serial,
}

/// Tells sessions apart that had the same address one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial(u64);

#[derive(Debug)]
struct Entry<H> {
    serial: Serial,
    /// Not yet ended by SIGNEND.
    open: bool,
    handle: H,
}

/// What to do with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a, H> {
    /// It is for this session.
    Session(&'a H),
    /// It is a SIGNEW: open a session and give it the datagram.
    Open(Name),
    /// Nothing.
    Drop(Reason),
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No signal.
    Malformed,
    /// A numbered signal from an address without a session.
    NoSession(SignalKind),
    /// A SIGNEW too many.
    SessionsFull,
}

impl<H> Default for Endpoint<H> {
    fn default() -> Self {
        Self {
            sessions: HashMap::new(),
            open: 0,
            next_serial: Serial(0),
        }
    }
}

impl<H> Endpoint<H> {
    /// Decides on one datagram that is no packet of the binary transport. At most `max_sessions` are open at a time; as many again may
    /// linger after their end.
    pub fn route(&self, source: SocketAddr, datagram: &[u8], max_sessions: usize) -> Route<'_, H> {
        if datagram.len() > MAX_SIGNAL {
            return Route::Drop(Reason::Malformed);
        }
        if let Some(entry) = self.sessions.get(&source) {
            return Route::Session(&entry.handle);
        }
        match Signal::parse(datagram) {
            Err(_) => Route::Drop(Reason::Malformed),
            Ok(signal @ Signal::Numbered { .. }) => Route::Drop(Reason::NoSession(signal.kind())),
            Ok(Signal::New(_))
                if self.open >= max_sessions
                    || self.sessions.len() >= max_sessions.saturating_mul(2) =>
            {
                Route::Drop(Reason::SessionsFull)
            }
            Ok(Signal::New(name)) => Route::Open(name),
        }
    }

    /// The serial that the next session inserted will have.
    pub fn next_serial(&self) -> Serial {
        self.next_serial
    }

    /// Notes a new, open session.
    pub fn insert(&mut self, client: SocketAddr, handle: H) {
        let serial = self.next_serial;
        self.next_serial = Serial(serial.0 + 1);
        let entry = Entry {
            serial,
            open: true,
            handle,
        };
        if let Some(old) = self.sessions.insert(client, entry) {
            self.open -= usize::from(old.open);
        }
        self.open += 1;
    }

    /// Notes that a session ended by SIGNEND and lingers, or that a SIGNEW opened it again.
    pub fn set_open(&mut self, client: SocketAddr, serial: Serial, open: bool) {
        if let Some(entry) = self.sessions.get_mut(&client)
            && entry.serial == serial
        {
            self.open += usize::from(open);
            self.open -= usize::from(entry.open);
            entry.open = open;
        }
    }

    /// Forgets a session; says whether it was there and open.
    pub fn remove(&mut self, client: SocketAddr, serial: Serial) -> bool {
        match self.sessions.entry(client) {
            hash_map::Entry::Occupied(entry) if entry.get().serial == serial => {
                let open = entry.remove().open;
                self.open -= usize::from(open);
                open
            }
            _ => false,
        }
    }

    /// The session of a client, open or lingering.
    pub fn get(&self, client: SocketAddr) -> Option<&H> {
        self.sessions.get(&client).map(|entry| &entry.handle)
    }

    /// All sessions: whether they are open, and their handles.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &H)> {
        self.sessions
            .values()
            .map(|entry| (entry.open, &entry.handle))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 20, 30, 41], port))
    }

    #[test]
    fn routes_by_address_and_admits_signew_alone() {
        let mut endpoint = Endpoint::default();
        assert_eq!(
            endpoint.route(client(1), b"SIGNSTAT:290", 8),
            Route::Drop(Reason::NoSession(SignalKind::Stat))
        );
        assert_eq!(
            endpoint.route(client(1), b"SIGNEW:", 8),
            Route::Drop(Reason::Malformed)
        );
        let name = Name::new("Tal").expect("plain");
        assert_eq!(
            endpoint.route(client(1), b"SIGNEW:Tal", 8),
            Route::Open(name)
        );
        endpoint.insert(client(1), "session");
        // What a known client sends is its session's business.
        for datagram in [&b"SIGNEW:Tal"[..], b"SIGNSTAT:290", b"", b"rubbish"] {
            assert_eq!(
                endpoint.route(client(1), datagram, 8),
                Route::Session(&"session")
            );
        }
        assert_eq!(
            endpoint.route(client(1), &[b'S'; MAX_SIGNAL + 1], 8),
            Route::Drop(Reason::Malformed)
        );
    }

    #[test]
    fn a_session_that_lingers_is_not_open_but_takes_room() {
        let mut endpoint = Endpoint::default();
        let full = Route::Drop(Reason::SessionsFull);
        let serial = endpoint.next_serial();
        endpoint.insert(client(1), ());
        assert_eq!(endpoint.route(client(2), b"SIGNEW:a", 1), full);
        endpoint.set_open(client(1), serial, false);
        assert_eq!(endpoint.open(), 0);
        assert!(matches!(
            endpoint.route(client(2), b"SIGNEW:a", 1),
            Route::Open(_)
        ));
        let second = endpoint.next_serial();
        endpoint.insert(client(2), ());
        endpoint.set_open(client(2), second, false);
        assert_eq!(endpoint.route(client(3), b"SIGNEW:a", 1), full);
        assert!(!endpoint.remove(client(1), serial));
        assert!(matches!(
            endpoint.route(client(3), b"SIGNEW:a", 1),
            Route::Open(_)
        ));
    }

    #[test]
    fn the_end_of_an_old_session_leaves_a_new_one_of_its_address_alone() {
        let mut endpoint = Endpoint::default();
        let old = endpoint.next_serial();
        endpoint.insert(client(1), "old");
        assert!(endpoint.remove(client(1), old));
        let new = endpoint.next_serial();
        endpoint.insert(client(1), "new");
        assert!(!endpoint.remove(client(1), old));
        endpoint.set_open(client(1), old, false);
        assert_eq!(
            (endpoint.open(), endpoint.get(client(1))),
            (1, Some(&"new"))
        );
        assert!(endpoint.remove(client(1), new));
        assert_eq!(endpoint.open(), 0);
    }
}
