//! The role's metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use crate::rudp::{
    connection::Stats,
    connections::Full,
    endpoint::{Greeting, Reason},
    output::{Output, Reply},
    signal::{AnswerKind, Name, SignalKind},
};
use crate::telemetry::Metrics;

/// Clients with a series of their own in `labnet_rudp_session_window`, or in its like in bytes.
const NAMED_WINDOWS: usize = 64;

/// A metric's labels: an enum whose variants have one each, in the order of their discriminants.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name { $($variant,)* }

        impl $name {
            const ALL: [Self; [$($label),*].len()] = [$(Self::$variant,)*];

            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

labels! {
    /// Why nobody gets a datagram: `labnet_rudp_dropped_total`.
    Dropped {
        Malformed = "malformed",
        NoSession = "no_session",
        SessionsFull = "sessions_full",
        TooOld = "too_old",
        Integrity = "integrity",
        ForgedCookie = "forged_cookie",
        NoConnection = "no_connection",
        HandshakesFull = "handshakes_full",
        AddressFull = "address_full",
        Amplification = "amplification",
        Moved = "moved",
    }
}

labels! {
    /// What became of a HELLO: `labnet_rudp_handshakes_total`.
    Step {
        Cookie = "cookie",
        Versions = "versions",
        Accepted = "accepted",
        Confirmed = "confirmed",
        Expired = "expired",
        Displaced = "displaced",
    }
}

/// Counts, with what is hot taken out of its vector.
pub(super) struct Counters {
    pub(super) packets_received: IntCounter,
    pub(super) lost_send: IntCounter,
    pub(super) lost_mailbox: IntCounter,
    lost_gap: IntCounter,
    packets_sent: IntCounter,
    signals_received: [IntCounter; SignalKind::ALL.len()],
    signals_sent: [IntCounter; AnswerKind::ALL.len()],
    dropped: [IntCounter; Dropped::ALL.len()],
    handshakes: [IntCounter; Step::ALL.len()],
    signals_half_open: IntGauge,
    handshakes_half_open: IntGauge,
    lost_network: IntCounter,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
    signal_windows: WindowSeries,
    byte_windows: WindowSeries,
    metrics: Arc<Metrics>,
}

impl Counters {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let packets = |direction| metrics.rudp_packets.with_label_values(&[direction]);
        let lost = |reason| metrics.rudp_lost.with_label_values(&[reason]);
        let dropped = |reason| metrics.rudp_dropped.with_label_values(&[reason]);
        let signals = |direction, kind| metrics.rudp_signals.with_label_values(&[direction, kind]);
        Self {
            packets_received: packets("received"),
            packets_sent: packets("sent"),
            lost_send: lost("send"),
            lost_mailbox: lost("mailbox"),
            lost_gap: lost("gap"),
            signals_received: SignalKind::ALL.map(|kind| signals("received", kind.label())),
            signals_sent: AnswerKind::ALL.map(|kind| signals("sent", kind.label())),
            dropped: Dropped::ALL.map(|reason| dropped(reason.label())),
            handshakes: Step::ALL
                .map(|step| metrics.rudp_handshakes.with_label_values(&[step.label()])),
            signals_half_open: metrics.rudp_half_open.with_label_values(&["signals"]),
            handshakes_half_open: metrics.rudp_half_open.with_label_values(&["transport"]),
            lost_network: lost("network"),
            bytes_received: metrics.rudp_bytes.with_label_values(&["received"]),
            bytes_sent: metrics.rudp_bytes.with_label_values(&["sent"]),
            signal_windows: WindowSeries::new(metrics.rudp_session_window.clone()),
            byte_windows: WindowSeries::new(metrics.rudp_session_window_bytes.clone()),
            metrics,
        }
    }

    /// Counts what a SIGNEW has changed.
    pub(super) fn greeted(&self, greeting: Greeting) {
        match greeting {
            Greeting::Again => return,
            Greeting::New => self.half_open(1),
            Greeting::Displacing => self.ended("displaced"),
            Greeting::Replacing => self.ended("replaced"),
        }
        self.opened();
    }

    /// Counts one that is refused for want of room.
    pub(super) fn full(&self, full: Full) {
        let reason = match full {
            Full::Sessions => Dropped::SessionsFull,
            Full::Address => Dropped::AddressFull,
            Full::Handshakes => Dropped::HandshakesFull,
            Full::Moved => Dropped::Moved,
        };
        self.dropped(reason).inc();
    }

    /// Counts what a session has done.
    pub(super) fn add(&self, output: &Output) {
        for (counter, n) in self.signals_received.iter().zip(output.received) {
            counter.inc_by(n);
        }
        self.dropped(Dropped::Malformed).inc_by(output.malformed);
        self.lost_gap.inc_by(output.gaps);
        self.metrics.rudp_retransmitted.inc_by(output.repeated);
        self.dropped(Dropped::TooOld).inc_by(output.too_old);
        self.dropped(Dropped::NoSession).inc_by(output.after_end);
    }

    /// Counts an answer that was sent.
    pub(super) fn sent(&self, reply: &Reply<'_>) {
        self.packets_sent.inc();
        self.signals_sent[reply.kind as usize].inc();
        if let Some(window) = reply.window {
            self.metrics.rudp_window.observe(window.into());
        }
    }

    /// Counts a signal that no session gets.
    pub(super) fn no_session(&self, reason: Reason) {
        let (kind, reason) = match reason {
            Reason::Malformed => (None, Dropped::Malformed),
            Reason::Moved => (None, Dropped::Moved),
            Reason::NoSession(kind) => (Some(kind), Dropped::NoSession),
        };
        if let Some(kind) = kind {
            self.signals_received[kind as usize].inc();
        }
        self.dropped(reason).inc();
    }

    /// Of datagrams that nobody gets.
    pub(super) fn dropped(&self, reason: Dropped) -> &IntCounter {
        &self.dropped[reason as usize]
    }

    /// Of handshakes.
    pub(super) fn handshake(&self, step: Step) -> &IntCounter {
        &self.handshakes[step as usize]
    }

    /// Counts a new session.
    pub(super) fn opened(&self) {
        self.metrics.rudp_sessions_opened.inc();
        self.metrics.rudp_sessions.inc();
    }

    /// Counts the end of an open session.
    pub(super) fn ended(&self, reason: &str) {
        self.many_ended(reason, 1);
    }

    /// Counts the end of some open sessions.
    pub(super) fn many_ended(&self, reason: &str, count: usize) {
        if count > 0 {
            let ended = &self.metrics.rudp_sessions_ended;
            ended.with_label_values(&[reason]).inc_by(count as u64);
            self.metrics.rudp_sessions.sub(count as i64);
        }
    }

    /// Of files from the origin: those that are under way, and those that wait for their turn.
    pub(super) fn fetches(&self) -> [IntGauge; 2] {
        ["running", "waiting"].map(|state| self.metrics.rudp_fetches.with_label_values(&[state]))
    }

    /// Shows how many are left on sockets that take nobody new.
    pub(super) fn draining(&self, left: usize) {
        self.metrics.rudp_draining.set(left as i64);
    }

    /// Shows how many handshakes are under way.
    pub(super) fn handshakes_under_way(&self, count: usize) {
        self.handshakes_half_open.set(count as i64);
    }

    /// Counts half-open sessions that have come and gone.
    pub(super) fn half_open(&self, difference: i64) {
        self.signals_half_open.add(difference);
    }

    /// Counts datagrams of the transport that were sent.
    pub(super) fn packets_sent(&self, datagrams: usize) {
        self.packets_sent.inc_by(datagrams as u64);
    }

    /// Counts what a connection has done since `before`, and how it stands `now`.
    pub(super) fn connection(&self, before: &Stats, now: &Stats) {
        let since = |count: fn(&Stats) -> u64| count(now).saturating_sub(count(before));
        self.lost_network.inc_by(since(|stats| stats.packets_lost));
        let again = since(|stats| stats.packets_retransmitted);
        self.metrics.rudp_retransmitted.inc_by(again);
        self.bytes_received
            .inc_by(since(|stats| stats.bytes_received));
        self.bytes_sent.inc_by(since(|stats| stats.bytes_sent));
        self.metrics.rudp_rtt.observe(now.rtt.as_secs_f64());
        self.metrics.rudp_window_bytes.observe(now.window as f64);
    }

    /// The series of a session's window in signals, if its client may have one.
    pub(super) fn signal_window(&self, name: &Name) -> Option<Window> {
        self.signal_windows.of(name)
    }

    /// The series of a connection's window in bytes, if its client may have one.
    pub(super) fn byte_window(&self, name: &Name) -> Option<Window> {
        self.byte_windows.of(name)
    }
}

/// A window's gauge with one series a named client: those of the same name share one, and the last
/// of them removes it. Beyond [`NAMED_WINDOWS`] names a client has none.
struct WindowSeries(Arc<Series>);

struct Series {
    gauges: IntGaugeVec,
    /// Clients that have a series, with the number of their windows.
    named: Mutex<HashMap<Name, usize>>,
}

impl WindowSeries {
    fn new(gauges: IntGaugeVec) -> Self {
        let named = Mutex::default();
        Self(Arc::new(Series { gauges, named }))
    }

    fn of(&self, name: &Name) -> Option<Window> {
        let mut named = self.0.named();
        if named.len() >= NAMED_WINDOWS && !named.contains_key(name) {
            return None;
        }
        *named.entry(name.clone()).or_default() += 1;
        Some(Window {
            name: name.clone(),
            gauge: self.0.gauges.with_label_values(&[name.as_str()]),
            series: Arc::clone(&self.0),
        })
    }
}

impl Series {
    fn named(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's part in a series.
pub(super) struct Window {
    name: Name,
    gauge: IntGauge,
    series: Arc<Series>,
}

impl Window {
    /// Shows the window.
    pub(super) fn set(&self, window: u64) {
        self.gauge.set(i64::try_from(window).unwrap_or(i64::MAX));
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut named = self.series.named();
        let Some(windows) = named.get_mut(&self.name) else {
            return;
        };
        *windows -= 1;
        if *windows == 0 {
            named.remove(&self.name);
            // An error would mean that it is gone already.
            let _ = self
                .series
                .gauges
                .remove_label_values(&[self.name.as_str()]);
        }
    }
}
