//! The beginning of a connection: HELLO, COOKIE, ACCEPT.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{
    Arrival, CloseReason, Config, Connection, Event, Parts, State, Transmit,
    path::{Learned, Path, Proof},
    receive::Unreadable,
    sent::SentPackets,
    streams::FlowLimits,
};
use crate::rudp::{
    congestion::Algorithm,
    packet::{
        Accept, Agreement, Binding, Cid, CookieReply, HandshakeKey, Hello, Keys, Nonce, Parameters,
        Side, Text, Token, VERSION, Versions,
    },
};

/// How long a client's HELLO waits for an answer before it is sent again, at first.
const HELLO_TIMEOUT: Duration = Duration::from_millis(300);
/// However often it has doubled, it is no longer.
const HELLO_TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// So often a cookie is sent in vain before another one is asked for.
const COOKIE_ATTEMPTS: u32 = 4;
/// Cookies that a client takes: who makes them up does not have it shout HELLO for ever.
const COOKIES: u32 = 8;
/// So long a client tries to be heard.
pub const HANDSHAKE: Duration = Duration::from_secs(30);
/// So long a server waits for the first packet after its ACCEPT.
const CONFIRMATION: Duration = Duration::from_secs(10);

/// A client's attempt to be heard.
#[derive(Debug)]
pub(super) struct Greeting {
    key: HandshakeKey,
    nonce: Nonce,
    cookie: Vec<u8>,
    /// How many came.
    cookies: u32,
    /// The round trip that a cookie has measured.
    rtt: Option<Duration>,
    /// When the HELLO went out last, and how often since the last cookie.
    sent_at: Option<Instant>,
    attempts: u32,
    pub(super) due: bool,
    give_up_at: Instant,
    name: Text,
    wish: Option<Algorithm>,
}

/// A server's answer to the HELLO, as long as it may have to be repeated.
#[derive(Debug)]
pub(super) struct Greeted {
    key: HandshakeKey,
    accept: Accept,
    pub(super) due: bool,
    client_nonce: Nonce,
    pub(super) give_up_at: Instant,
}

impl Greeting {
    /// When the HELLO is sent again, or the attempt given up.
    pub(super) fn timeout(&self) -> Instant {
        self.again_at()
            .map_or(self.give_up_at, |at| at.min(self.give_up_at))
    }

    fn again_at(&self) -> Option<Instant> {
        let doubled = HELLO_TIMEOUT * (1 << self.attempts.saturating_sub(1).min(8));
        self.sent_at.map(|at| at + doubled.min(HELLO_TIMEOUT_MAX))
    }

    /// The round trip until now, if an answer is one to a HELLO that was sent once.
    fn measured(&self, now: Instant) -> Option<Duration> {
        let sent_at = self.sent_at.filter(|_| self.attempts == 1)?;
        Some(now.saturating_duration_since(sent_at))
    }

    /// Asks for another cookie, at once.
    pub(super) fn begin_anew(&mut self) {
        self.cookie.clear();
        self.due = true;
    }

    /// The time has come; says whether the attempt is given up.
    pub(super) fn on_timeout(&mut self, now: Instant) -> bool {
        if self.give_up_at <= now {
            return true;
        }
        if self.again_at().is_some_and(|at| at <= now) {
            self.due = true;
            // Behind another address of a NAT the cookie is of no use any more.
            if self.attempts >= COOKIE_ATTEMPTS {
                self.cookie.clear();
            }
        }
        false
    }
}

/// What a client says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Introduction {
    /// Its name.
    pub name: Text,
    /// What should control the server's sending.
    pub congestion: Option<Algorithm>,
    /// Its connection id: random.
    pub cid: Cid,
    /// Random.
    pub nonce: Nonce,
}

/// What a server's connection is made from.
#[derive(Debug)]
pub struct Admission<'a> {
    /// The client's HELLO, its cookie verified.
    pub hello: &'a Hello<'a>,
    /// How it came.
    pub arrival: Arrival,
    /// The connection id that the server chose: random.
    pub cid: Cid,
    /// Random.
    pub nonce: Nonce,
    /// With this the server will say that it has lost the connection.
    pub reset_token: Token,
}

impl Connection {
    /// A client's connection to the server at `remote`. `seed` is for the numbers left out and the
    /// congestion controller.
    pub fn connect(
        config: Arc<Config>,
        introduction: &Introduction,
        remote: SocketAddr,
        seed: u64,
        now: Instant,
    ) -> Self {
        let greeting = Greeting {
            key: config.protection.handshake_key(),
            nonce: introduction.nonce,
            cookie: Vec::new(),
            cookies: 0,
            rtt: None,
            sent_at: None,
            attempts: 0,
            due: true,
            give_up_at: now + HANDSHAKE,
            name: introduction.name,
            wish: introduction.congestion,
        };
        let arrival = Arrival {
            remote,
            local: None,
            ecn: None,
        };
        let parts = Parts {
            side: Side::Client,
            state: State::Hello(Box::new(greeting)),
            cid: introduction.cid,
            peer_cid: Cid(0),
            peer: Parameters::default(),
            // None until the server has said its part.
            keys: Keys::Checksum(Binding::default()),
            algorithm: config.congestion,
        };
        Self::new(config, parts, arrival, seed, now)
    }

    /// A server's connection to a client whose address is proven.
    pub fn accept(config: Arc<Config>, admission: &Admission<'_>, seed: u64, now: Instant) -> Self {
        let hello = admission.hello;
        let keys = config.protection.keys(
            Side::Server,
            &Agreement {
                client: hello.cid,
                server: admission.cid,
                client_nonce: hello.nonce,
                server_nonce: admission.nonce,
            },
        );
        let greeted = Greeted {
            key: config.protection.handshake_key(),
            accept: Accept {
                destination: hello.cid,
                cid: admission.cid,
                nonce: admission.nonce,
                reset_token: admission.reset_token,
                parameters: parameters(&config),
            },
            due: true,
            client_nonce: hello.nonce,
            give_up_at: now + CONFIRMATION,
        };
        let wish = hello.parameters.congestion.as_ref();
        let algorithm = wish.and_then(|name| name.as_str().parse().ok());
        let parts = Parts {
            side: Side::Server,
            state: State::Open {
                accept: Some(Box::new(greeted)),
            },
            cid: admission.cid,
            peer_cid: hello.cid,
            peer: hello.parameters,
            keys,
            algorithm: algorithm.unwrap_or(config.congestion),
        };
        let mut connection = Self::new(config, parts, admission.arrival, seed, now);
        connection.peer_reset = hello.parameters.reset_token;
        // Its acknowledgement is the first measurement of the path.
        connection.ping_due = true;
        connection
    }

    pub(super) fn poll_hello(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let State::Hello(greeting) = &mut self.state else {
            return None;
        };
        if !std::mem::take(&mut greeting.due) {
            return None;
        }
        greeting.attempts += 1;
        greeting.sent_at = Some(now);
        let wish = greeting.wish.map(|algorithm| algorithm.name());
        let hello = Hello {
            cid: self.cid,
            nonce: greeting.nonce,
            cookie: &greeting.cookie,
            parameters: Parameters {
                name: Some(greeting.name),
                congestion: wish.and_then(|name| Text::new(name).ok()),
                ..parameters(&self.config)
            },
        };
        let start = buffer.len();
        hello.encode(&greeting.key, buffer);
        let length = buffer.len() - start;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += length as u64;
        Some(self.transmit(self.recovery.sent.next(), length, length, None))
    }

    pub(super) fn poll_accept(&mut self, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let State::Open {
            accept: Some(greeted),
        } = &mut self.state
        else {
            return None;
        };
        greeted.due = false;
        let start = buffer.len();
        greeted.accept.encode(&greeted.key, buffer);
        let length = buffer.len() - start;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += length as u64;
        Some(self.transmit(self.recovery.sent.next(), length, length, None))
    }

    /// The client has not seen our ACCEPT.
    pub(super) fn on_hello(&mut self, arrival: &Arrival, datagram: &[u8]) {
        if let State::Open {
            accept: Some(greeted),
        } = &mut self.state
            && arrival.remote == self.path.remote
            && let Ok(hello) = Hello::open(datagram, &greeted.key)
            && hello.nonce == greeted.client_nonce
        {
            greeted.due = true;
        }
    }

    pub(super) fn on_cookie(&mut self, datagram: &[u8], now: Instant) -> Result<(), Unreadable> {
        let State::Hello(greeting) = &mut self.state else {
            return Ok(());
        };
        let reply = CookieReply::open(datagram, &greeting.key)?;
        if reply.nonce != greeting.nonce || reply.destination != self.cid {
            return Err(Unreadable::Malformed);
        }
        // A stale cookie of ours draws a fresh one; the same one again is an echo.
        if greeting.cookie != reply.cookie && greeting.cookies < COOKIES {
            greeting.rtt = greeting.measured(now).or(greeting.rtt);
            greeting.cookie = reply.cookie.to_vec();
            greeting.cookies += 1;
            greeting.attempts = 0;
            greeting.due = true;
        }
        Ok(())
    }

    pub(super) fn on_accept(
        &mut self,
        arrival: &Arrival,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), Unreadable> {
        let State::Hello(greeting) = &self.state else {
            return Ok(());
        };
        let accept = Accept::open(datagram, &greeting.key)?;
        if accept.destination != self.cid {
            return Err(Unreadable::Malformed);
        }
        let agreement = Agreement {
            client: self.cid,
            server: accept.cid,
            client_nonce: greeting.nonce,
            server_nonce: accept.nonce,
        };
        // Had the HELLO to be repeated, the cookie's time will do (RFC 9002 section 6.2.2).
        let rtt = greeting.measured(now).or(greeting.rtt);
        self.keys = self.config.protection.keys(Side::Client, &agreement);
        self.peer_cid = accept.cid;
        self.peer = accept.parameters;
        self.peer_reset = Some(accept.reset_token);
        self.streams.set_theirs(limits(&accept.parameters));
        let learned = Learned {
            config: &self.config,
            controllers: &self.config.congestion,
            max_datagram: self
                .config
                .max_datagram
                .min(accept.parameters.max_udp_payload_size),
            rtt,
            seed: self.rng.random(),
        };
        self.path = Path::new(
            0,
            self.path.remote,
            arrival.local,
            Proof::Given,
            &learned,
            now,
        );
        self.recovery.sent = SentPackets::new(0);
        self.state = State::Open { accept: None };
        self.heard_at = now;
        // The server must hear that we know.
        self.ping_due = true;
        self.events.push_back(Event::Connected);
        Ok(())
    }

    pub(super) fn on_versions(&mut self, datagram: &[u8]) {
        if let State::Hello(greeting) = &self.state
            && greeting.cookie.is_empty()
            && let Ok(versions) = Versions::open(datagram)
            && versions.destination == self.cid
            && versions.iter().all(|version| version != VERSION)
        {
            self.end(CloseReason::Version);
        }
    }
}

pub(super) fn limits(parameters: &Parameters) -> FlowLimits {
    FlowLimits {
        connection: parameters.initial_max_data,
        stream: parameters.initial_max_stream_data,
        streams: parameters.initial_max_streams,
    }
}

/// What we tell the peer of ourselves.
fn parameters(config: &Config) -> Parameters {
    Parameters {
        max_idle_timeout: config.idle_timeout,
        initial_max_data: config.connection_window,
        initial_max_stream_data: config.stream_window,
        initial_max_streams: config.max_streams,
        max_udp_payload_size: config.max_datagram,
        max_ack_delay: config.max_ack_delay,
        ..Parameters::default()
    }
}
