//! One connection of the binary transport: bytes and the time come in, bytes come out.
//!
//! # The contract
//!
//! - `handle_datagram` and `handle_timeout` take input; `open`, `write`, `read`, `finish`, `reset`,
//!   `stop` and `close` are the application's.
//! - After any of them, drain in this order: [`poll_event`](Connection::poll_event) until `None` (an
//!   event may lead to more application calls), [`poll_transmit`](Connection::poll_transmit) until
//!   `None`, then [`poll_timeout`](Connection::poll_timeout) for the time of the next
//!   [`handle_timeout`](Connection::handle_timeout). Several inputs may come before one draining:
//!   a whole receive batch is acknowledged at once.
//!
//! # Where things are
//!
//! | file | |
//! |---|---|
//! | `handshake` | from HELLO to the first DATA |
//! | `receive`, `acks` | what comes in; what to acknowledge, and when |
//! | `transmit`, `pacing`, `tail` | what goes out, and when; what is sent again at the end |
//! | `recovery`, `sent`, `rtt` | RFC 9002: round trips, losses, probes |
//! | `outcome` | what that does to streams, paths and the congestion controller |
//! | `delivery` | how fast the path delivers |
//! | `streams`, `sending`, `receiving` | all streams and their flow control; each one's two halves |
//! | `send_buffer`, `assembler`, `ranges` | bytes not yet acknowledged, bytes put in order |
//! | `path`, `migration` | the peer's address and its proof |
//! | `mtu`, `probe` | the largest datagram, and how it is found |
//! | `trace` | all of that, told to whoever watches |

mod acks;
mod assembler;
mod config;
mod delivery;
mod event;
mod handshake;
mod migration;
mod mtu;
mod outcome;
mod pacing;
mod path;
mod probe;
mod ranges;
mod receive;
mod receiving;
mod recovery;
mod rtt;
mod send_buffer;
mod sending;
mod sent;
mod stats;
mod stream;
mod streams;
mod tail;
mod trace;
mod transmit;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use self::{
    acks::Acks,
    handshake::{Greeted, Greeting, limits},
    migration::Previous,
    path::{Learned, Path, Proof},
    recovery::Recovery,
    streams::FlowLimits,
};
pub use self::{
    config::Config,
    event::{Arrival, CloseReason, Ecn, Event},
    handshake::{Admission, HANDSHAKE, Introduction},
    receive::Unreadable,
    stats::Stats,
    stream::{Read, StreamError, StreamEvent, StreamId},
    streams::Streams,
    transmit::Transmit,
};
use super::{
    congestion::{Algorithm, Controllers, Start},
    packet::{Cid, ErrorCode, Keys, Parameters, Side, Token},
};
use crate::watch::event::transport::Observer;

type Violation = (ErrorCode, &'static str);

#[derive(Debug)]
enum State {
    /// A client that is not yet connected.
    Hello(Box<Greeting>),
    Open {
        /// A server's answer to the HELLO, as long as it may have to be repeated.
        accept: Option<Box<Greeted>>,
    },
    /// CLOSE was sent, and is again if the peer goes on.
    Closing {
        until: Instant,
        code: ErrorCode,
        problem: &'static str,
        due: bool,
        /// Packets received since: each power of two is answered.
        heard: u32,
    },
    Closed,
}

/// A connection, from either side.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    config: Arc<Config>,
    state: State,
    cid: Cid,
    peer_cid: Cid,
    /// With this the peer says that it has lost the connection.
    peer_reset: Option<Token>,
    peer: Parameters,
    keys: Keys,
    algorithm: Algorithm,
    /// What controls our sending instead of the algorithm.
    given: Option<Arc<dyn Controllers>>,
    path: Path,
    /// While the path is not proven.
    previous: Option<Previous>,
    generations: u32,
    acks: Acks,
    recovery: Recovery,
    /// Losses and marks of packets below are of the congestion event counted last.
    congested_until: u64,
    streams: Streams,
    /// PATH_RESPONSE to send.
    response: Option<[u8; 8]>,
    ack_frequency: AckFrequency,
    ack_frequency_due: bool,
    /// The next number that is left out.
    skip_at: u64,
    /// When the pacer lets the next packet go.
    send_at: Option<Instant>,
    ping_due: bool,
    heard_at: Instant,
    /// The first ack-eliciting packet sent since something was heard.
    spoke_at: Option<Instant>,
    tail: tail::Tail,
    rng: Pcg64Mcg,
    stats: Stats,
    trace: trace::Trace,
    events: VecDeque<Event>,
}

/// How often we have asked the peer to acknowledge, and what it asked of us.
#[derive(Debug, Clone, Copy, Default)]
struct AckFrequency {
    sequence: u64,
    packets: u64,
    delay: Duration,
    heard: Option<u64>,
}

impl Connection {
    fn new(config: Arc<Config>, parts: Parts, arrival: Arrival, seed: u64, now: Instant) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let learned = Learned {
            config: &config,
            controllers: &parts.algorithm,
            max_datagram: config.max_datagram.min(parts.peer.max_udp_payload_size),
            rtt: None,
            seed: rng.random(),
        };
        let path = Path::new(
            0,
            arrival.remote,
            arrival.local,
            Proof::Given,
            &learned,
            now,
        );
        let ours = FlowLimits {
            connection: config.connection_window,
            stream: config.stream_window,
            streams: config.max_streams,
        };
        let streams = Streams::new(parts.side == Side::Client, ours, limits(&parts.peer));
        Self {
            side: parts.side,
            state: parts.state,
            cid: parts.cid,
            peer_cid: parts.peer_cid,
            peer_reset: None,
            peer: parts.peer,
            keys: parts.keys,
            algorithm: parts.algorithm,
            given: None,
            path,
            previous: None,
            generations: 0,
            acks: Acks::new(config.max_ack_delay),
            recovery: Recovery::new(0),
            congested_until: 0,
            streams,
            response: None,
            ack_frequency: AckFrequency::default(),
            ack_frequency_due: false,
            skip_at: transmit::next_skip(0, 0, &mut rng),
            send_at: None,
            ping_due: false,
            heard_at: now,
            spoke_at: None,
            tail: tail::Tail::default(),
            rng,
            stats: Stats::default(),
            trace: trace::Trace::new(now),
            events: VecDeque::new(),
            config,
        }
    }

    /// Opens a stream: clients alone can.
    ///
    /// # Errors
    /// If the server allows no more at a time, or is not connected yet.
    pub fn open(&mut self) -> Result<StreamId, StreamError> {
        match self.state {
            State::Open { .. } => self.streams.open(),
            _ => Err(StreamError::Closed),
        }
    }

    /// Adds `data` to what is to be sent on a stream. Nothing bounds it here: the caller writes
    /// while [`unsent`](Self::unsent) and [`held`](Self::held) are small.
    ///
    /// # Errors
    /// If the stream is finished, reset or unknown.
    pub fn write(&mut self, id: StreamId, data: Bytes) -> Result<(), StreamError> {
        self.streams.write(id, data)
    }

    /// Ends our side of a stream after what was written.
    ///
    /// # Errors
    /// If it has ended.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.streams.finish(id)
    }

    /// Gives up our side of a stream: what is not sent yet never will be.
    ///
    /// # Errors
    /// If it has ended.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) -> Result<(), StreamError> {
        self.streams.reset(id, code.0)
    }

    /// Wants no more of the peer's side of a stream.
    ///
    /// # Errors
    /// If it has ended.
    pub fn stop(&mut self, id: StreamId, code: ErrorCode) -> Result<(), StreamError> {
        self.streams.stop(id, code.0)
    }

    /// Takes at most `max` of the bytes of a stream that arrived in order. Each opened stream is
    /// to be read to [`Read::Finished`] or [`Read::Reset`], or stopped.
    ///
    /// # Errors
    /// If it was read to its end before.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Read, StreamError> {
        self.streams.read(id, max)
    }

    /// Bytes written to a stream and never sent yet.
    pub fn unsent(&self, id: StreamId) -> u64 {
        self.streams.held(id).1
    }

    /// Bytes written to a stream and not yet acknowledged.
    pub fn held_by(&self, id: StreamId) -> u64 {
        self.streams.held(id).0
    }

    /// Bytes written to all streams and not yet acknowledged: what they take in memory.
    pub fn held(&self) -> u64 {
        self.streams.held_by_all()
    }

    /// Ends the connection. The peer hears of it; streams end where they are.
    pub fn close(&mut self, code: ErrorCode, reason: &'static str, now: Instant) {
        match self.state {
            State::Hello(_) => self.end(CloseReason::Local { code }),
            State::Open { .. } => {
                self.begin_closing(code, reason, now);
                self.events
                    .push_back(Event::Closed(CloseReason::Local { code }));
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn begin_closing(&mut self, code: ErrorCode, problem: &'static str, now: Instant) {
        self.state = State::Closing {
            until: now + self.path.rtt.pto_base(self.peer.max_ack_delay) * 3,
            code,
            problem,
            due: true,
            heard: 0,
        };
        self.forget();
    }

    /// The connection is over, without a word to the peer.
    fn end(&mut self, reason: CloseReason) {
        let told = matches!(self.state, State::Closing { .. } | State::Closed);
        self.state = State::Closed;
        self.forget();
        if !told {
            self.events.push_back(Event::Closed(reason));
        }
    }

    /// Gives back memory that a connection at its end has no use for.
    fn forget(&mut self) {
        let none = FlowLimits {
            connection: 0,
            stream: 0,
            streams: 0,
        };
        let events = std::mem::take(&mut self.streams.events);
        self.events.extend(events.into_iter().map(Event::Stream));
        self.streams = Streams::new(self.side == Side::Client, none, none);
        self.recovery = Recovery::new(self.recovery.sent.next());
        self.path.in_flight = 0;
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.streams.events.pop_front() {
            return Some(Event::Stream(event));
        }
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Hello(greeting) => Some(greeting.timeout()),
            State::Open { accept } => {
                let handshake = accept.as_ref().map(|greeted| greeted.give_up_at);
                [
                    handshake,
                    Some(self.idle_at()),
                    self.keep_alive_at(),
                    self.loss_timeout(),
                    // What an unproven address may not be sent is not waited for.
                    self.acks.timeout().filter(|_| self.has_room()),
                    self.send_at,
                    self.path.timeout(),
                    self.path.mtu.next_timeout(),
                ]
                .into_iter()
                .flatten()
                .min()
            }
            State::Closing { until, .. } => Some(*until),
            State::Closed => None,
        }
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) told, or later.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Hello(greeting) => {
                if greeting.on_timeout(now) {
                    self.end(CloseReason::Handshake);
                }
            }
            State::Open { accept } => {
                if accept.as_ref().is_some_and(|g| g.give_up_at <= now) {
                    self.end(CloseReason::Handshake);
                    return;
                }
                if self.idle_at() <= now {
                    self.end(CloseReason::Idle);
                    return;
                }
                if self.path.is_given_up(now) {
                    self.go_back(now);
                }
                if self.keep_alive_at().is_some_and(|at| at <= now) {
                    self.ping_due = true;
                }
                if self.loss_timeout().is_some_and(|at| at <= now) {
                    self.on_loss_timeout(now);
                }
            }
            State::Closing { until, .. } => {
                if *until <= now {
                    self.state = State::Closed;
                }
            }
            State::Closed => {}
        }
    }

    /// When it ends for want of a word from the peer.
    fn idle_at(&self) -> Instant {
        let idle = self.config.idle_timeout.min(self.peer.max_idle_timeout);
        let base = self
            .spoke_at
            .map_or(self.heard_at, |at| at.max(self.heard_at));
        // Before that the peer shall have had its chance to answer (RFC 9000 section 10.1).
        base + idle.max(self.path.rtt.pto_base(self.peer.max_ack_delay) * 3)
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        let interval = self.config.keep_alive?;
        if self.ping_due || self.recovery.is_waiting() {
            return None;
        }
        // Who only acknowledges has to ask now and then whether that arrives: what comes from the peer
        // shows the one way alone.
        let base = self.recovery.asked_at().unwrap_or(self.heard_at);
        Some(base + interval)
    }

    /// Whether it is over, its last words said: it can be dropped.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the handshake is done and it is not over.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Our connection id: what the peer writes to.
    pub fn cid(&self) -> Cid {
        self.cid
    }

    /// The peer's connection id: what it is written to by.
    pub fn peer_cid(&self) -> Cid {
        self.peer_cid
    }

    /// Where the peer is.
    pub fn remote(&self) -> SocketAddr {
        self.path.remote
    }

    /// What the peer said of itself.
    pub fn peer(&self) -> &Parameters {
        &self.peer
    }

    /// What controls our sending, by its name.
    pub fn congestion(&self) -> &'static str {
        match &self.given {
            Some(given) => given.name(),
            None => self.algorithm.name(),
        }
    }

    /// Has `controllers` control our sending from now on, on this path and on each next one, instead of
    /// the algorithm that configuration and peer have agreed on. To be called before anything is sent.
    pub fn control(&mut self, controllers: Arc<dyn Controllers>, now: Instant) {
        let start = Start {
            now,
            mtu: u64::from(self.path.mtu.current()),
            rtt: self.path.rtt.sample(),
            initial_window: self.config.initial_window,
            seed: self.rng.random(),
        };
        self.path.control(&*controllers, &start);
        self.given = Some(controllers);
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.count()
    }

    /// [`Stats::packets`] of its [`stats`](Self::stats), for who asks often.
    pub fn packets(&self) -> u64 {
        self.stats.packets()
    }

    /// Has somebody watch it. Its state so far is told at once, what follows as it happens.
    pub fn observe(&mut self, observer: Box<dyn Observer>, now: Instant) {
        self.trace.add(observer);
        self.trace.tell_state(&self.path, now);
    }

    /// What it has counted, and how it stands.
    pub fn stats(&self) -> Stats {
        let path = &self.path;
        Stats {
            rtt: path.rtt.smoothed(),
            rtt_variation: path.rtt.variation(),
            min_rtt: path.rtt.min(),
            latest_rtt: path.rtt.latest(),
            window: path.congestion.window(),
            ssthresh: path.congestion.ssthresh(),
            in_flight: path.in_flight,
            pacing_rate: path.pacer.rate(),
            mtu: path.mtu.current(),
            phase: path.congestion.phase(),
            stream_bytes_acknowledged: self.streams.acknowledged(),
            stream_bytes_received: self.streams.received(),
            ..self.stats
        }
    }
}

struct Parts {
    side: Side,
    state: State,
    cid: Cid,
    peer_cid: Cid,
    peer: Parameters,
    keys: Keys,
    algorithm: Algorithm,
}
