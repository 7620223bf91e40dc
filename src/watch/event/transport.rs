//! A connection of the reliable transport, step by step.
//!
//! The connection raises each [`Step`] where it happens, with the time it was given: its
//! [`Observer`] hears of the sender's state at each acknowledgement and of every change of its
//! window with the cause; one that [`wants_packets`](Observer::wants_packets) hears of each packet,
//! too. Amounts are bytes of UDP payload, rates bytes a second.

use std::{
    fmt,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::packet::Role;

/// Hears what a connection goes through.
pub trait Observer: fmt::Debug + Send {
    /// One step, at this time.
    fn on_step(&mut self, now: Instant, step: &Step);

    /// Whether it wants [`Step::Sent`], [`Step::Unsent`], [`Step::Received`] and [`Step::Acknowledged`], too.
    fn wants_packets(&self) -> bool {
        false
    }
}

/// Whose steps they are.
#[derive(Debug)]
pub struct Traced {
    /// On which side.
    pub role: Role,
    /// Its connection id, which the peer writes to.
    pub connection: u64,
    /// The peer's connection id, which this side's packets carry: this id and the packets' numbers lead to a link's
    /// verdicts on them. A client learns the id when it is connected.
    pub destination: OnceLock<u64>,
    /// The client's name.
    pub name: String,
    /// The peer, where it was at the beginning.
    pub remote: SocketAddr,
    /// What controls the sending.
    pub congestion: &'static str,
}

/// A turn in a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It begins.
    Opened,
    /// The handshake is done: both sides know each other's connection ids.
    Connected,
    /// The connection is over: no step follows.
    Ended,
}

impl Life {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Connected => "connected",
            Self::Ended => "ended",
        }
    }
}

/// A step of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A packet goes out.
    Sent(Sent),
    /// A packet has not gone out after all: it was larger than the first link carries, and the kernel refused
    /// it. What was in it goes into smaller ones.
    Unsent {
        /// Its number.
        number: u64,
        /// Its size.
        size: u16,
        /// It carried a piece of a stream.
        data: bool,
        /// It carried a piece of a stream that was sent before.
        again: bool,
    },
    /// A packet came, whole and for the first time.
    Received {
        /// Its number.
        number: u64,
        /// Its size.
        size: u16,
    },
    /// A packet was acknowledged.
    Acknowledged {
        /// Its number.
        number: u64,
        /// Its size.
        size: u16,
        /// When it was sent.
        sent_at: Instant,
    },
    /// A packet was declared lost.
    Lost(Lost),
    /// A packet that was declared lost had arrived: its acknowledgement came after all.
    Spurious(Spurious),
    /// The probe timeout expired: nothing was heard, the peer is asked (RFC 9002 section 6.2).
    ProbeTimeout {
        /// How many in a row, this one included.
        count: u32,
    },
    /// How the sender stands, after an acknowledgement.
    State(State),
    /// The congestion window or the slow-start threshold changed in another way than by growing
    /// with what is acknowledged.
    Window(Change),
    /// Datagrams may be of another size.
    Mtu {
        /// The largest so far.
        before: u16,
        /// The largest from now on.
        after: u16,
    },
    /// The peer is written to at another address.
    Address {
        /// So far.
        from: SocketAddr,
        /// From now on.
        to: SocketAddr,
        /// Whether the network between is another, of which nothing is known: then the controller
        /// starts afresh.
        new_path: bool,
    },
}

/// A packet that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub number: u64,
    /// Its size.
    pub size: u16,
    /// It asks for an acknowledgement, and counts as in flight.
    pub ack_eliciting: bool,
    /// It carries a piece of a stream.
    pub data: bool,
    /// It carries a piece of a stream that was sent before.
    pub again: bool,
    /// It tries whether the path carries datagrams of its size.
    pub probe: bool,
}

/// A packet declared lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Its number.
    pub number: u64,
    /// Its size.
    pub size: u16,
    /// When it was sent.
    pub sent_at: Instant,
    /// Why it is taken for lost.
    pub rule: Rule,
    /// Whether that is a sign of congestion: not of a probe of the datagram's size, nor of what
    /// went another path.
    pub congestion: bool,
}

/// Why a packet is taken for lost (RFC 9002 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One was acknowledged that was sent at least so many packets later.
    PacketThreshold {
        /// So many: three, more after reordering.
        threshold: u64,
        /// The largest number acknowledged.
        largest_acked: u64,
    },
    /// A later one was acknowledged, and since it was sent at least this time has passed.
    TimeThreshold {
        /// Nine eighths of a round trip, more after reordering.
        delay: Duration,
        /// The largest number acknowledged.
        largest_acked: u64,
    },
}

impl Rule {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PacketThreshold { .. } => "packet_threshold",
            Self::TimeThreshold { .. } => "time_threshold",
        }
    }
}

/// A loss that was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spurious {
    /// The packet's number.
    pub number: u64,
    /// When it was sent.
    pub sent_at: Instant,
    /// By how many numbers the packet is below the largest one that was acknowledged with it.
    pub distance: u64,
    /// The time from the packet's being declared lost to its acknowledgement.
    pub late: Duration,
    /// Whether no packet of the congestion event was lost, as is known with this acknowledgement, so that the
    /// controller is told to undo its answer.
    pub undoes: bool,
}

/// How the sender stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The congestion window.
    pub window: u64,
    /// The slow-start threshold, if there is one.
    pub ssthresh: Option<u64>,
    /// Bytes in flight.
    pub in_flight: u64,
    /// The most that was in flight since the last step of this kind.
    pub in_flight_max: u64,
    /// The rate at which packets may leave.
    pub pacing_rate: u64,
    /// The newest round trip; zero until one was measured.
    pub latest_rtt: Duration,
    /// The longest round trip since the last step of this kind; zero until one was measured.
    pub longest_rtt: Duration,
    /// The smoothed round trip (RFC 9002 section 5.3); until one was measured, what is assumed.
    pub smoothed_rtt: Duration,
    /// The least round trip on this path.
    pub min_rtt: Duration,
    /// The controller's phase.
    pub phase: &'static str,
    /// What keeps the sender from sending more.
    pub limit: Limit,
    /// For how long each limit has kept the sender from sending more, since the connection began.
    pub spent: Spent,
}

/// A change of the congestion window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The window before.
    pub before: u64,
    /// The window after.
    pub after: u64,
    /// The slow-start threshold after, if there is one.
    pub ssthresh: Option<u64>,
    /// Bytes in flight, those declared lost no longer included.
    pub in_flight: u64,
    /// The controller's phase after it.
    pub phase: &'static str,
    /// What the controller was told.
    pub cause: Cause,
    /// What it did about that, in its own terms.
    pub reaction: Reaction,
}

impl Change {
    /// Whether the window shrank.
    pub fn is_cut(&self) -> bool {
        self.after < self.before
    }
}

/// What made the controller change its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Packets were declared lost.
    Loss(Event),
    /// The peer reports packets that the network marked (ECN CE).
    Marked {
        /// The smallest number newly acknowledged with the report.
        smallest: u64,
        /// The largest. Of which of them the marks are is not told: a receiver acknowledges a marked
        /// packet at once, so that it is the last, or near it.
        largest: u64,
    },
    /// Packets were declared lost over so long a time that the path was down (RFC 9002 section 7.6).
    Persistent(Event),
    /// Every loss of the last congestion event was late, not lost.
    Undone {
        /// The packet whose late acknowledgement showed this.
        number: u64,
    },
    /// Packets were acknowledged.
    Acknowledged,
    /// Something is sent again after a silence.
    Idle,
}

impl Cause {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loss(_) => "loss",
            Self::Marked { .. } => "ecn",
            Self::Persistent(_) => "persistent_congestion",
            Self::Undone { .. } => "undone",
            Self::Acknowledged => "acknowledged",
            Self::Idle => "idle",
        }
    }
}

/// Losses that came to light at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// How many packets, only those that are a sign of congestion.
    pub packets: u32,
    /// Their bytes.
    pub bytes: u64,
    /// The largest of their numbers. This packet stands for the event, to which the controller answers.
    pub largest: u64,
    /// Losses of packets below this number are of the same congestion event, whenever they come to
    /// light.
    pub until: u64,
    /// Why the packet with the largest number is taken for lost.
    pub rule: Rule,
}

/// What a controller did to its window, in its own terms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Reaction {
    /// It does not say.
    #[default]
    Unsaid,
    /// It keeps a part of the window.
    Multiplied {
        /// The part, in tenths: 7 of CUBIC (RFC 9438 section 4.6), 5 of NewReno (RFC 9002
        /// section 7.3.2).
        tenths: u8,
        /// What it is a part of.
        of: u64,
        /// Two datagrams: no window is smaller, even if the part is.
        least: u64,
    },
    /// It falls to the least window (RFC 9002 section 7.6.2).
    Collapsed,
    /// It restores the window from before the last reduction.
    Restored,
    /// Slow start ends since the round trip grew (HyStart++, RFC 9406).
    SlowStartOver,
    /// Halved for each retransmission timeout of silence, down to the initial window at most
    /// (RFC 5681 section 4.1, RFC 2861).
    Decayed {
        /// So many timeouts.
        timeouts: u32,
        /// The silence since the last acknowledgement.
        silence: Duration,
    },
    /// By the delay (Vegas).
    Delay {
        /// The bytes that the controller takes to wait in the queue.
        standing: u64,
        /// The least round trip of the round.
        least: Duration,
        /// The least round trip ever, which is taken for one without a queue.
        base: Duration,
        /// Whether that ended slow start.
        slow_start: bool,
    },
    /// Down to what is in flight and one datagram more (BBR after persistent congestion).
    InFlight,
    /// By the model of the path (BBR).
    Model {
        /// The delivery rate that the path is taken to have.
        bandwidth: u64,
        /// The least round trip.
        min_rtt: Duration,
        /// What the window is now bound by.
        bound: Bound,
    },
    /// As a program answers that controls it from a process of its own.
    Program {
        /// What it answers, and how long that is ago; `None`: just what is the cause.
        later: Option<(Told, Duration)>,
    },
    /// The program that controlled it is no more: nothing more is sent.
    ProgramFailed,
}

/// What a program is told that controls a sender from a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// That there is a connection.
    Hello,
    /// Of a packet that is sent.
    Sent,
    /// That something is sent again after a silence.
    Idle,
    /// Of a packet that is lost.
    Lost,
    /// That packets were lost, or marked.
    Congestion,
    /// Of packets that were acknowledged.
    Acknowledged,
    /// That what was taken for lost was late.
    Spurious,
    /// Of the size of datagrams.
    Mtu,
}

impl Told {
    /// Its word, as the program reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Sent => "sent",
            Self::Idle => "idle",
            Self::Lost => "lost",
            Self::Congestion => "congestion",
            Self::Acknowledged => "ack",
            Self::Spurious => "spurious",
            Self::Mtu => "mtu",
        }
    }
}

impl Reaction {
    /// The reaction in one word; of one by a model, the word for what bounds the window.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unsaid => "unsaid",
            Self::Multiplied { .. } => "multiplied",
            Self::Collapsed => "collapsed",
            Self::Restored => "restored",
            Self::SlowStartOver => "slow_start_over",
            Self::Decayed { .. } => "decayed",
            Self::Delay { .. } => "delay",
            Self::InFlight => "in_flight",
            Self::Program { .. } => "program",
            Self::ProgramFailed => "program_failed",
            Self::Model { bound, .. } => match bound {
                Bound::Model { .. } => "model",
                Bound::LongTerm { .. } => "inflight_longterm",
                Bound::ShortTerm { .. } => "inflight_shortterm",
                Bound::ProbeRtt { .. } => "probe_rtt",
                Bound::Startup { .. } => "startup",
                Bound::Least { .. } => "least",
            },
        }
    }
}

/// What a BBR sender's window is bound by (draft-ietf-ccwg-bbr section 5.6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What the path holds by the model, times the gain of the phase.
    Model {
        /// That much.
        bytes: u64,
    },
    /// `inflight_longterm`: what a probe found to lose too much.
    LongTerm {
        /// That much, some of it left to others while it does not probe.
        bytes: u64,
    },
    /// `inflight_shortterm`: lowered by the losses of the last round trips.
    ShortTerm {
        /// That much.
        bytes: u64,
    },
    /// ProbeRTT holds back to see the round trip without a queue.
    ProbeRtt {
        /// That much.
        bytes: u64,
    },
    /// The rate of the bottleneck as Startup sees it in the spacing of acknowledgements.
    Startup {
        /// That much.
        bytes: u64,
    },
    /// Four datagrams, below which no window goes.
    Least {
        /// That much.
        bytes: u64,
    },
}

impl Bound {
    /// How much that is.
    pub fn bytes(&self) -> u64 {
        match *self {
            Self::Model { bytes }
            | Self::LongTerm { bytes }
            | Self::ShortTerm { bytes }
            | Self::ProbeRtt { bytes }
            | Self::Startup { bytes }
            | Self::Least { bytes } => bytes,
        }
    }
}

/// What keeps the sender from sending more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// The application has nothing more to send.
    #[default]
    Application,
    /// The congestion window is full.
    Window,
    /// The pacer lets the next packet go later.
    Pacing,
    /// The peer grants no more: flow control.
    FlowControl,
    /// The peer's address is not proven: no more than three times what came from there
    /// (RFC 9000 section 8.1).
    Amplification,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Application,
        Self::Window,
        Self::Pacing,
        Self::FlowControl,
        Self::Amplification,
    ];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Window => "congestion_window",
            Self::Pacing => "pacing",
            Self::FlowControl => "flow_control",
            Self::Amplification => "amplification",
        }
    }
}

/// How long each [`Limit`] has held a sender back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent([Duration; Limit::ALL.len()]);

impl Spent {
    /// Adds to the time of one limit.
    pub fn add(&mut self, limit: Limit, time: Duration) {
        self.0[limit as usize] = self.0[limit as usize].saturating_add(time);
    }

    /// For how long one limit has held the sender back.
    pub fn by(&self, limit: Limit) -> Duration {
        self.0[limit as usize]
    }
}
