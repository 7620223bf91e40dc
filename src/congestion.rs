//! What a congestion controller is told, and who is told it.
//!
//! The connection calls its controller where these things happen. Amounts are bytes of UDP payload, times
//! those of the connection.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::watch::event::transport::Reaction;

/// Bytes a second.
pub type Rate = u64;

/// The largest datagram that UDP can carry: no controller computes with more.
pub const MOST_MTU: u64 = 65_535;

/// A congestion controller. Calls come in the order: [`on_sent`](Self::on_sent) for each packet
/// sent; for each acknowledgement that arrives, first [`on_packet_lost`](Self::on_packet_lost) for
/// each packet found lost by it, then [`on_congestion`](Self::on_congestion) once if there was one,
/// then [`on_ack`](Self::on_ack) once if it acknowledged anything new.
pub trait Congestion: fmt::Debug + Send {
    /// A packet that counts as in flight is sent.
    fn on_sent(&mut self, _sent: &Sent) {}

    /// Packets were acknowledged.
    fn on_ack(&mut self, ack: &Ack);

    /// One packet was declared lost.
    fn on_packet_lost(&mut self, _lost: &Lost) {}

    /// Packets were declared lost, or marked by ECN: once for all that one acknowledgement or timer
    /// brought to light. Losses of path-MTU probes do not come here.
    fn on_congestion(&mut self, loss: &Loss);

    /// Every packet of the last congestion event was late, not lost: the reaction to it was wrong.
    fn on_spurious_loss(&mut self, _now: Instant) {}

    /// The probe timeout expired, or sending resumes after nothing was in flight for a while.
    fn on_idle_restart(&mut self, _now: Instant) {}

    /// Datagrams may be of this size from now on, in bytes of UDP payload.
    fn on_mtu(&mut self, mtu: u64);

    /// The congestion window in bytes.
    fn window(&self) -> u64;

    /// The slow-start threshold in bytes, if it has one and knows it.
    fn ssthresh(&self) -> Option<u64> {
        None
    }

    /// At which rate to send; `None`: 1.25 windows a smoothed round trip, 2 in slow start
    /// (see [`in_slow_start`](Self::in_slow_start)).
    fn pacing_rate(&self) -> Option<Rate> {
        None
    }

    /// Whether the window still doubles each round trip.
    fn in_slow_start(&self) -> bool {
        false
    }

    /// What it did to its window since it was asked last, in its own terms, other than to let it
    /// grow with what is acknowledged. For those who watch.
    fn take_reaction(&mut self) -> Option<Reaction> {
        None
    }

    /// The phase it is in, for those who watch: `slow_start`, `recovery`, `probe_bw_up`, ...
    fn phase(&self) -> &'static str;
}

/// A packet that is sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Now.
    pub now: Instant,
    /// Its number.
    pub packet: u64,
    /// Its size: UDP payload bytes.
    pub bytes: u64,
    /// Bytes in flight before it.
    pub in_flight: u64,
    /// Whether nothing was in flight and the application had nothing to send: a restart from idle.
    pub app_limited: bool,
}

/// What one acknowledgement told.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// Now.
    pub now: Instant,
    /// Newly acknowledged bytes that were in flight.
    pub bytes: u64,
    /// The largest packet number newly acknowledged.
    pub largest: u64,
    /// When that was sent.
    pub largest_sent_at: Instant,
    /// The number that the next packet will have: a round trip ends when it is acknowledged.
    pub next_packet: u64,
    /// Bytes in flight before this acknowledgement and its losses.
    pub prior_in_flight: u64,
    /// Bytes in flight now.
    pub in_flight: u64,
    /// Bytes declared lost by this acknowledgement.
    pub lost: u64,
    /// Whether the sender was held back by its application or by flow control, not by the window
    /// (nor by pacing), while the acknowledged packets were sent: the window must not grow.
    pub app_limited: bool,
    /// The round-trip sample that it gave, acknowledgement delay subtracted.
    pub rtt: Option<Duration>,
    /// Smoothed round trip (RFC 9002 section 5.3).
    pub smoothed_rtt: Duration,
    /// The least round trip of the connection on this path.
    pub min_rtt: Duration,
    /// The delivery rate measured with it.
    pub delivery: Delivery,
}

/// A sample of the delivery rate (draft-ietf-ccwg-bbr section 4.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery {
    /// `rs.delivery_rate`; `None` if the interval is too short to tell.
    pub rate: Option<Rate>,
    /// `rs.is_app_limited`: the sender had too little to send, so that the path could do more.
    pub app_limited: bool,
    /// `rs.prior_delivered`: `delivered` when the newest acknowledged packet was sent.
    pub prior_delivered: u64,
    /// `C.delivered`: bytes delivered over the connection's life, this acknowledgement included.
    pub delivered: u64,
    /// `rs.delivered`: delivered between the two.
    pub interval_delivered: u64,
    /// `rs.lost`: bytes lost between the sending of the newest acknowledged packet and now.
    pub lost: u64,
    /// `rs.tx_in_flight`: in flight when that packet was sent, itself included.
    pub tx_in_flight: u64,
    /// `rs.interval`: the time over which that was delivered.
    pub interval: Duration,
}

/// A packet found lost.
#[derive(Debug, Clone, Copy)]
pub struct Lost {
    /// Now.
    pub now: Instant,
    /// Its number.
    pub packet: u64,
    /// Its size: UDP payload bytes.
    pub bytes: u64,
    /// When it was sent.
    pub sent_at: Instant,
    /// Bytes in flight when it was sent, itself included.
    pub tx_in_flight: u64,
    /// Bytes lost over the connection's life when it was sent.
    pub lost_when_sent: u64,
    /// Bytes delivered over the connection's life when it was sent.
    pub delivered_when_sent: u64,
    /// Bytes lost over the connection's life, this packet included.
    pub lost: u64,
    /// Bytes delivered over the connection's life.
    pub delivered: u64,
    /// Whether the sender was application-limited when it was sent.
    pub app_limited: bool,
}

/// A congestion event.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// Now.
    pub now: Instant,
    /// Bytes lost with it.
    pub bytes: u64,
    /// The largest lost (or marked) packet number.
    pub largest: u64,
    /// When that was sent.
    pub largest_sent_at: Instant,
    /// Bytes in flight now, the lost ones gone.
    pub in_flight: u64,
    /// The number that the next packet will have.
    pub next_packet: u64,
    /// The losses span more than the persistent-congestion period (RFC 9002 section 7.6): the path
    /// was down, start again from the minimum.
    pub persistent: bool,
    /// The peer reports congestion marks (ECN CE) instead of losses.
    pub ecn: bool,
}

/// What a controller starts with.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Now.
    pub now: Instant,
    /// The largest datagram, UDP payload bytes.
    pub mtu: u64,
    /// The round trip that the handshake measured.
    pub rtt: Option<Duration>,
    /// The initial window, if the configuration names one; else the algorithm's own default.
    pub initial_window: Option<u64>,
    /// For what the algorithm leaves to chance.
    pub seed: u64,
}

impl Start {
    /// The initial window of RFC 9002 section 7.2 unless configured: ten datagrams, at most 14,720
    /// bytes, but two datagrams in any case.
    pub fn window(&self) -> u64 {
        let mtu = self.mtu.clamp(1, MOST_MTU);
        self.initial_window
            .unwrap_or_else(|| (10 * mtu).min(14_720))
            .max(2 * mtu)
    }
}

/// Makes a connection's controllers: one for each path that it takes, of which nothing is known at first.
///
/// [`Algorithm`](crate::config::Algorithm) makes labnet's own. Others are not asked for by a client nor by
/// the configuration: who holds a connection gives them to it
/// ([`Connection::control`](crate::rudp::connection::Connection::control)).
pub trait Controllers: fmt::Debug + Send + Sync {
    /// What they are called.
    fn name(&self) -> &'static str;

    /// A controller for one path.
    fn start(&self, start: &Start) -> Box<dyn Congestion>;

    /// Whether they control no more, so that who runs their connection may as well end it.
    fn has_failed(&self) -> bool {
        false
    }
}
