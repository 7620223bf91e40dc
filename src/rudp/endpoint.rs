//! Which session a datagram belongs to, and who may open one.
//!
//! A SIGNEW proves no address and says nothing of whether more will come. Until its first numbered
//! signal a client holds a place in a bounded table, in which the oldest of the address that holds
//! most makes room; then a session begins.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    output::Output,
    places::{Places, Prefix},
    signal::{Answer, MAX_SIGNAL, Malformed, Name, Signal, SignalKind},
};

/// What a SIGNEW is told whose name can't be one.
const BAD_NAME: &str = "a name is 1 to 64 characters of printable ASCII without semicolon";

/// What somebody new is told where nobody new is taken.
pub const MOVED: &str = "the proxy listens at another address now: ask for it again";

/// What a client is told whose session was in a thread that did nothing.
const ABANDONED: &str = "your session is lost, as a part of the proxy did nothing: begin again";

/// The sessions by their client's address and port. `H` is what the shell reaches one by.
#[derive(Debug)]
pub struct Endpoint<H> {
    sessions: HashMap<SocketAddr, Entry<H>>,
    open: usize,
    half_open: Places<SocketAddr, HalfOpen>,
    /// The clients that are to hear that their session is lost.
    abandoned: VecDeque<(Instant, HashSet<SocketAddr>)>,
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

/// A client whose SIGNEW was answered, and that has sent no numbered signal since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfOpen {
    /// The name it gave.
    pub name: Name,
    /// When it first said so.
    pub opened: Instant,
    /// When it last did.
    pub heard: Instant,
}

/// What half-open sessions may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfOpenLimits {
    /// So many at once; 0: nobody new is taken, as the server listens elsewhere.
    pub most: usize,
    /// A client that says nothing for so long is forgotten.
    pub idle_timeout: Duration,
}

/// What to do with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The datagram is for the client's session.
    Session,
    /// The datagram was a SIGNEW: its answer is in the output.
    Greeted(Greeting),
    /// The datagram is a client's first numbered signal: [`insert`](Endpoint::insert) a session and give it the
    /// datagram, or [`refuse`].
    Open(HalfOpen),
    /// Nothing. The output may hold a refusal.
    Drop(Reason),
}

/// What a SIGNEW has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// One more half-open session.
    New,
    /// A half-open session more, and another one that has made room for it.
    Displacing,
    /// Another name for the same client: a half-open session in the place of one.
    Replacing,
    /// Nothing: it came again.
    Again,
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No signal.
    Malformed,
    /// A numbered signal from an address without a session.
    NoSession(SignalKind),
    /// A SIGNEW where nobody new is taken.
    Moved,
}

/// Answers a signal that nothing is done about: why.
pub fn refuse(datagram: &[u8], why: &str, out: &mut Output) {
    let id = match Signal::parse(datagram) {
        Ok(signal) => {
            out.received[signal.kind() as usize] += 1;
            signal.id()
        }
        Err(_) => None,
    };
    out.answer(Answer::Refused { id, why }, false, None);
}

impl<H> Default for Endpoint<H> {
    fn default() -> Self {
        Self {
            sessions: HashMap::new(),
            open: 0,
            half_open: Places::default(),
            abandoned: VecDeque::new(),
            next_serial: Serial(0),
        }
    }
}

impl<H> Endpoint<H> {
    /// Decides on one datagram that is no packet of the binary transport. Call
    /// [`expire`](Self::expire) before.
    pub fn route(
        &mut self,
        source: SocketAddr,
        datagram: &[u8],
        limits: &HalfOpenLimits,
        now: Instant,
        out: &mut Output,
    ) -> Route {
        if datagram.len() > MAX_SIGNAL {
            return Route::Drop(Reason::Malformed);
        }
        if self.sessions.contains_key(&source) {
            return Route::Session;
        }
        match Signal::parse(datagram) {
            Err(Malformed::Text) if datagram.starts_with(b"SIGNEW:") => {
                out.answer(
                    Answer::Refused {
                        id: None,
                        why: BAD_NAME,
                    },
                    false,
                    None,
                );
                Route::Drop(Reason::Malformed)
            }
            Err(_) => Route::Drop(Reason::Malformed),
            Ok(signal @ Signal::Numbered { .. }) => match self.half_open.get(&source) {
                Some(half_open) => Route::Open(half_open.clone()),
                None => {
                    if self.abandoned.iter().any(|(_, of)| of.contains(&source)) {
                        refuse(datagram, ABANDONED, out);
                    }
                    Route::Drop(Reason::NoSession(signal.kind()))
                }
            },
            Ok(Signal::New(_)) if limits.most == 0 && self.half_open.get(&source).is_none() => {
                refuse(datagram, MOVED, out);
                Route::Drop(Reason::Moved)
            }
            Ok(Signal::New(name)) => Route::Greeted(self.greet(source, name, limits, now, out)),
        }
    }

    fn greet(
        &mut self,
        source: SocketAddr,
        name: Name,
        limits: &HalfOpenLimits,
        now: Instant,
        out: &mut Output,
    ) -> Greeting {
        out.received[SignalKind::New as usize] += 1;
        for (_, abandoned) in &mut self.abandoned {
            abandoned.remove(&source);
        }
        let known = self.half_open.renew(&source);
        let greeting = match known {
            Some(known) if known.name == name => {
                known.heard = now;
                Greeting::Again
            }
            known => {
                let replaces = known.is_some();
                let half_open = HalfOpen {
                    name,
                    opened: now,
                    heard: now,
                };
                let prefix = Prefix::of(source.ip());
                let displaced = self
                    .half_open
                    .insert(source, prefix, half_open, limits.most);
                match displaced {
                    Some(_) => Greeting::Displacing,
                    None if replaces => Greeting::Replacing,
                    None => Greeting::New,
                }
            }
        };
        out.answer(Answer::Ack, greeting == Greeting::Again, None);
        greeting
    }

    /// Forgets the half-open sessions that were not heard of for too long: how many they were.
    pub fn expire(&mut self, limits: &HalfOpenLimits, now: Instant) -> usize {
        let mut expired = 0;
        while let Some((client, half_open)) = self.half_open.oldest()
            && now.saturating_duration_since(half_open.heard) >= limits.idle_timeout
        {
            self.half_open.remove(&client);
            expired += 1;
        }
        while let Some((since, _)) = self.abandoned.front()
            && now.saturating_duration_since(*since) >= limits.idle_timeout
        {
            self.abandoned.pop_front();
        }
        expired
    }

    /// When to call [`expire`](Self::expire).
    pub fn poll_timeout(&self, limits: &HalfOpenLimits) -> Option<Instant> {
        let (_, oldest) = self.half_open.oldest()?;
        Some(oldest.heard + limits.idle_timeout)
    }

    /// The serial that the next session inserted will have.
    pub fn next_serial(&self) -> Serial {
        self.next_serial
    }

    /// Notes a new, open session, in the place of the half-open one.
    pub fn insert(&mut self, client: SocketAddr, handle: H) {
        self.half_open.remove(&client);
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

    /// Notes that a session ended by SIGNEND and lingers, or that a SIGNEW opened it again; says
    /// whether that is news.
    pub fn set_open(&mut self, client: SocketAddr, serial: Serial, open: bool) -> bool {
        let entry = self.sessions.get_mut(&client);
        let Some(entry) = entry.filter(|entry| entry.serial == serial && entry.open != open) else {
            return false;
        };
        self.open += usize::from(open);
        self.open -= usize::from(entry.open);
        entry.open = open;
        true
    }

    /// Whether the session is there, open or lingering.
    pub fn holds(&self, client: SocketAddr, serial: Serial) -> bool {
        let entry = self.sessions.get(&client);
        entry.is_some_and(|entry| entry.serial == serial)
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

    /// Forgets all sessions: each with its client, and whether it is open. Who sends a numbered signal to
    /// one of them is told, until a SIGNEW, or for as long as a session may be silent.
    pub fn abandon(&mut self, now: Instant) -> Vec<(SocketAddr, bool, H)> {
        self.open = 0;
        let sessions = std::mem::take(&mut self.sessions).into_iter();
        let sessions: Vec<_> = sessions
            .map(|(client, entry)| (client, entry.open, entry.handle))
            .collect();
        let open = sessions.iter().filter(|(_, open, _)| *open);
        let clients: HashSet<_> = open.map(|(client, ..)| *client).collect();
        if !clients.is_empty() {
            self.abandoned.push_back((now, clients));
        }
        sessions
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

    /// The clients whose session is open.
    pub fn open_clients(&self) -> impl Iterator<Item = &SocketAddr> {
        let open = self.sessions.iter().filter(|(_, entry)| entry.open);
        open.map(|(client, _)| client)
    }

    /// The clients of the half-open sessions.
    pub fn half_open(&self) -> impl Iterator<Item = (&SocketAddr, &HalfOpen)> {
        self.half_open.iter()
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// How many there are, open or lingering.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIMITS: HalfOpenLimits = HalfOpenLimits {
        most: 64,
        idle_timeout: Duration::from_secs(60),
    };

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 20, 30, 41], port))
    }

    /// What a datagram is answered with before there is a session.
    fn answers<H>(
        endpoint: &mut Endpoint<H>,
        source: SocketAddr,
        datagram: &str,
        now: Instant,
    ) -> Vec<String> {
        let mut out = Output::default();
        endpoint.expire(&LIMITS, now);
        endpoint.route(source, datagram.as_bytes(), &LIMITS, now, &mut out);
        let text = |reply: crate::rudp::output::Reply<'_>| {
            String::from_utf8_lossy(reply.bytes).into_owned()
        };
        out.replies().map(text).collect()
    }

    /// Whether a client's next numbered signal would open a session.
    fn opens<H>(endpoint: &mut Endpoint<H>, source: SocketAddr, now: Instant) -> bool {
        endpoint.expire(&LIMITS, now);
        let mut out = Output::default();
        let route = endpoint.route(source, b"SIGNSTAT:290", &LIMITS, now, &mut out);
        matches!(route, Route::Open(_))
    }

    #[test]
    fn a_signew_gets_a_place_and_the_first_numbered_signal_a_session() {
        let now = Instant::now();
        let mut endpoint = Endpoint::default();
        let mut out = Output::default();
        let mut route = |endpoint: &mut Endpoint<&'static str>, datagram: &[u8]| {
            let route = endpoint.route(client(1), datagram, &LIMITS, now, &mut out);
            format!("{route:?}")
        };
        let no_session = "Drop(NoSession(Stat))";
        assert_eq!(route(&mut endpoint, b"SIGNSTAT:290"), no_session);
        assert_eq!(route(&mut endpoint, b"rubbish"), "Drop(Malformed)");
        assert_eq!(route(&mut endpoint, b"SIGNEW:Tal"), "Greeted(New)");
        assert_eq!(route(&mut endpoint, b"SIGNEW:Tal"), "Greeted(Again)");
        assert_eq!(route(&mut endpoint, b"SIGNEW:Dan"), "Greeted(Replacing)");
        assert!(route(&mut endpoint, b"SIGNSTAT:279").starts_with("Open(HalfOpen"));
        assert_eq!((endpoint.open(), endpoint.half_open().count()), (0, 1));
        endpoint.insert(client(1), "session");
        assert_eq!((endpoint.open(), endpoint.half_open().count()), (1, 0));
        // What a known client sends is its session's business.
        for datagram in [&b"SIGNEW:Tal"[..], b"SIGNSTAT:290", b"", b"rubbish"] {
            assert_eq!(route(&mut endpoint, datagram), "Session");
        }
        let long = [b'S'; MAX_SIGNAL + 1];
        assert_eq!(route(&mut endpoint, &long), "Drop(Malformed)");
    }

    #[test]
    fn whose_session_was_given_up_is_told_for_as_long_as_it_might_have_been_silent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut endpoint = Endpoint::<&str>::default();
        for (n, seconds) in [(1, 0), (2, 50)] {
            endpoint.insert(client(n), "session");
            endpoint.abandon(at(seconds));
        }
        let told = [format!("SIGNREFUSED:290;{ABANDONED}")];
        for n in [1, 2] {
            let heard = answers(&mut endpoint, client(n), "SIGNSTAT:290", at(59));
            assert_eq!(heard, told, "{n}");
        }
        let stranger = answers(&mut endpoint, client(3), "SIGNSTAT:290", at(59));
        assert!(stranger.is_empty(), "{stranger:?}");
        for (n, heard) in [(1, &[][..]), (2, &told[..])] {
            let told = answers(&mut endpoint, client(n), "SIGNSTAT:290", at(60));
            assert_eq!(told, heard, "{n}");
        }
        // Who has begun anew is a client as any other.
        assert_eq!(
            answers(&mut endpoint, client(2), "SIGNEW:Tal", at(61)),
            ["SIGNACK"]
        );
        assert!(opens(&mut endpoint, client(2), at(61)));
        answers(&mut endpoint, client(4), "rubbish", at(110));
        assert!(endpoint.abandoned.is_empty());
    }

    #[test]
    fn a_user_may_think_until_the_idle_timeout() {
        let start = Instant::now();
        let mut endpoint = Endpoint::<()>::default();
        assert_eq!(
            answers(&mut endpoint, client(1), "SIGNEW:Tal", start),
            ["SIGNACK"]
        );
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(opens(&mut endpoint, client(1), at(11)));
        assert_eq!(endpoint.poll_timeout(&LIMITS), Some(at(60)));
        assert!(opens(&mut endpoint, client(1), at(59)));
        // SIGNEW again prolongs it.
        assert_eq!(
            answers(&mut endpoint, client(1), "SIGNEW:Tal", at(59)),
            ["SIGNACK"]
        );
        assert!(opens(&mut endpoint, client(1), at(118)));
        assert!(!opens(&mut endpoint, client(1), at(119)));
        assert_eq!(endpoint.poll_timeout(&LIMITS), None);
    }

    #[test]
    fn a_flood_of_signews_keeps_nobody_out() {
        let now = Instant::now();
        let mut endpoint = Endpoint::<()>::default();
        let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 99), 5000));
        answers(&mut endpoint, other, "SIGNEW:Tal", now);
        for n in 0..5000 {
            let name = format!("SIGNEW:x{n}");
            assert_eq!(
                answers(&mut endpoint, client(n + 1), &name, now),
                ["SIGNACK"]
            );
        }
        assert_eq!(endpoint.half_open().count(), LIMITS.most);
        assert!(opens(&mut endpoint, other, now));
        let late = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 98), 5000));
        assert_eq!(answers(&mut endpoint, late, "SIGNEW:Noa", now), ["SIGNACK"]);
        assert!(opens(&mut endpoint, late, now) && opens(&mut endpoint, other, now));
    }

    #[test]
    fn where_the_server_has_moved_from_nobody_new_is_taken() {
        let now = Instant::now();
        let mut endpoint = Endpoint::<()>::default();
        answers(&mut endpoint, client(1), "SIGNEW:Tal", now);
        let closed = HalfOpenLimits { most: 0, ..LIMITS };
        let mut out = Output::default();
        let route = endpoint.route(client(2), b"SIGNEW:Dan", &closed, now, &mut out);
        assert_eq!(route, Route::Drop(Reason::Moved));
        let refused = out.replies().next().expect("told");
        assert!(
            refused
                .bytes
                .starts_with(b"SIGNREFUSED:the proxy listens at another")
        );
        let route = endpoint.route(client(1), b"SIGNEW:Tal", &closed, now, &mut out);
        assert_eq!(route, Route::Greeted(Greeting::Again));
        assert!(opens(&mut endpoint, client(1), now));
    }

    #[test]
    fn a_name_that_can_be_none_is_refused_in_words() {
        let mut endpoint = Endpoint::<()>::default();
        for name in ["Zo\u{eb}", "\u{1b}[2J", "", "a;b"] {
            let heard = answers(
                &mut endpoint,
                client(1),
                &format!("SIGNEW:{name}"),
                Instant::now(),
            );
            assert_eq!(heard, [format!("SIGNREFUSED:{BAD_NAME}")], "{name:?}");
        }
    }

    #[test]
    fn the_end_of_an_old_session_leaves_a_new_one_of_its_address_alone() {
        let mut endpoint = Endpoint::default();
        let old = endpoint.next_serial();
        endpoint.insert(client(1), "old");
        assert!(endpoint.set_open(client(1), old, false));
        assert!(!endpoint.set_open(client(1), old, false), "no news");
        assert_eq!((endpoint.open(), endpoint.len()), (0, 1));
        assert!(!endpoint.remove(client(1), old), "it was not open");
        let new = endpoint.next_serial();
        endpoint.insert(client(1), "new");
        assert!(!endpoint.remove(client(1), old));
        assert!(!endpoint.set_open(client(1), old, false));
        assert_eq!(
            (endpoint.open(), endpoint.get(client(1))),
            (1, Some(&"new"))
        );
        assert!(endpoint.remove(client(1), new));
        assert_eq!(endpoint.open(), 0);
    }
}
