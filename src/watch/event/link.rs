//! What a bad link did to a packet, and why.
//!
//! A link gives one [`Verdict`] on every packet that goes over it, as soon as it knows it: at once on
//! a packet that finds no room, on all others when they have been sent at the link's rate. By then
//! the time of arrival is certain, and the payload is still as it was handed in. Times are the
//! model's own, exact to the nanosecond: what a packet waits for, sent, travelled and was held back
//! adds up to the time from [`offered`](Verdict::offered) to [`Passage::arrives`].
//!
//! [`queue`](Verdict::queue) tells how the queue stood when the packet came: verdicts in the order of
//! `offered` are the queue over time.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Hears a link's verdicts. It is called while the link is locked: it is to be quick, and not to ask
/// the link anything.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The verdict on one packet.
    fn on_verdict(&self, verdict: &Verdict<'_>);

    /// A packet has come out behind others that were handed in after it. Its verdict could not say so, as it was
    /// given before.
    fn on_overtaken(&self, _overtaken: &Overtaken<'_>) {}
}

/// A packet that others have overtaken on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken<'a> {
    /// The direction in which the packet goes.
    pub way: Way,
    /// How many packets went that way before this one: [`Verdict::number`].
    pub number: u64,
    /// When the packet came out: [`Passage::arrives`] of its verdict.
    pub arrived: Instant,
    /// How many packets that were handed in later came out earlier. Copies do not count.
    pub packets: u64,
    /// The packet's payload as it came out, damage included.
    pub payload: &'a [u8],
    /// As [`Verdict::peer`].
    pub peer: Option<SocketAddr>,
}

/// One of a link's two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the client to the server, or from left to right.
    Up,
    /// Back.
    Down,
}

impl Way {
    /// Both, up first.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// One link of the process, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkPlace {
    /// Its number among the process's.
    pub link: u64,
    /// The end of the link at which this process's sockets are: [`Way::Up`] leads to the server's end.
    pub is_servers: bool,
}

impl LinkPlace {
    /// Names the packet before which `number` others went in the direction `way`.
    pub fn crossing(self, way: Way, number: u64) -> Crossing {
        Crossing {
            link: self.link,
            way,
            number,
        }
    }
}

/// Names one packet among those of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crossing {
    /// The link's number among the process's.
    pub link: u64,
    /// The direction in which the packet goes.
    pub way: Way,
    /// How many packets went that way before this one: [`Verdict::number`].
    pub number: u64,
}

impl Crossing {
    /// The packet that goes the same way `by` packets after this one.
    #[must_use]
    pub fn later(self, by: u64) -> Self {
        Self {
            number: self.number + by,
            ..self
        }
    }
}

/// What became of one packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict<'a> {
    /// The direction in which the packet goes.
    pub way: Way,
    /// How many packets went that way before this one.
    pub number: u64,
    /// When it was handed in.
    pub offered: Instant,
    /// The bytes that it takes on the link, headers included: what rate and queue count.
    pub size: usize,
    /// What it carries, as it was handed in: a datagram's UDP payload, or the whole IP packet of a
    /// tunnel.
    pub payload: &'a [u8],
    /// Who is at the far end: of a server's link the client, of a client's link the server, of a relay the client.
    /// A tunnel does not look into packets, and tells nobody.
    pub peer: Option<SocketAddr>,
    /// The queue as the packet found it.
    pub queue: Queue,
    /// What the link did to it.
    pub outcome: Outcome,
}

/// A queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Bytes that wait, without what is being sent.
    pub bytes: usize,
    /// How many bytes may wait.
    pub limit: usize,
    /// Bits a second that leave it; `None`: no limit, and so no queue.
    pub rate: Option<NonZeroU64>,
}

impl Queue {
    /// How long the rate takes for the bytes that wait.
    pub fn time(&self) -> Duration {
        let nanoseconds = |rate: NonZeroU64| {
            let bits = self.bytes as u128 * 8;
            u64::try_from(bits * 1_000_000_000 / u128::from(rate.get())).unwrap_or(u64::MAX)
        };
        Duration::from_nanos(self.rate.map_or(0, nanoseconds))
    }
}

/// What a link did to a packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The packet arrives.
    Delivered(Passage),
    /// The packet does not arrive.
    Lost(Loss),
}

impl Outcome {
    /// A word for it: `delivered`, or the loss's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Lost(loss) => loss.name(),
        }
    }
}

/// How a packet gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// When it comes out.
    pub arrives: Instant,
    /// How long it waited in the queue.
    pub queued: Duration,
    /// How long the rate took for it.
    pub sending: Duration,
    /// The wire's length, as it is configured.
    pub delay: Duration,
    /// How long it took on the wire: the delay, and its share of the jitter.
    pub travelled: Duration,
    /// How long the packet waited for the one before it, whose jitter was larger: jitter does not change the order.
    pub kept_behind: Duration,
    /// How long it was held back so that others overtake it.
    pub held_back: Duration,
    /// The queue's management marked it as "congestion experienced" (RFC 3168) instead of dropping it.
    pub marked: Option<Congestion>,
    /// The byte of its payload that the wire changed.
    pub corrupted: Option<usize>,
    /// It comes out twice.
    pub duplicated: bool,
}

impl Passage {
    /// From being handed in to coming out.
    pub fn total(&self) -> Duration {
        self.queued + self.sending + self.travelled + self.kept_behind + self.held_back
    }
}

/// Why a packet is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// By chance, on the wire, after its time in the queue and at the rate.
    Random,
    /// By chance, as the one before it: a burst goes on.
    Burst {
        /// The packet's place in the row of lost ones, from 2.
        nth: u32,
    },
    /// The queue had no room for it: see [`Verdict::queue`].
    QueueFull,
    /// The policer's bucket held fewer tokens than it has bytes.
    Policed {
        /// What the bucket held, whole bytes.
        tokens: u64,
    },
    /// The queue's management dropped it, though there was room.
    Managed(Congestion),
    /// It was on the wire in a black-out.
    Blackout,
    /// The link holds as many bytes as it may.
    Memory,
}

impl Loss {
    /// The packet's place in its burst of losses, from 2; `None`: no burst goes on with it.
    pub fn in_a_row(self) -> Option<u32> {
        match self {
            Self::Burst { nth } => Some(nth),
            _ => None,
        }
    }

    /// The loss as `labnet_link_packets_total{fate}` names it, where a loss in a burst is a random one, too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random | Self::Burst { .. } => "lost_random",
            Self::QueueFull => "lost_queue",
            Self::Policed { .. } => "lost_policer",
            Self::Managed(Congestion::CoDel { .. }) => "lost_codel",
            Self::Managed(Congestion::Red { .. }) => "lost_red",
            Self::Blackout => "lost_blackout",
            Self::Memory => "lost_memory",
        }
    }
}

/// Why active queue management (RFC 7567) takes its queue for congested, and drops or marks a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// CoDel (RFC 8289): packets have waited for too long since more than an interval.
    CoDel {
        /// How long this one waited.
        sojourn: Duration,
    },
    /// RED: the queue is too long in the mean.
    Red {
        /// The mean when the packet came, bytes.
        average: u64,
    },
}

impl Congestion {
    /// The algorithm's word: `codel`, `red`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoDel { .. } => "codel",
            Self::Red { .. } => "red",
        }
    }

    /// How long the packet waited, if that is what counted.
    pub fn sojourn(self) -> Option<Duration> {
        match self {
            Self::CoDel { sojourn } => Some(sojourn),
            Self::Red { .. } => None,
        }
    }

    /// The mean length of the queue in bytes, if that is what counted.
    pub fn average(self) -> Option<u64> {
        match self {
            Self::Red { average } => Some(average),
            Self::CoDel { .. } => None,
        }
    }
}
