//! The role's metrics.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{IntCounter, IntGauge};

use crate::rudp::{
    connection::Stats,
    connection_table::Full,
    endpoint::{Greeting, Reason},
    output::{Output, Reply},
    packet::Cid,
    session::Description,
    signal::{AnswerKind, Name, SignalKind},
    statistics::{SIGNALS, Standing, TRANSPORT},
};
use crate::{
    statistic::{Statistic, sample, series},
    telemetry::{Metrics, OpenSeries, SESSION, SessionKind, labels},
    text::{SHORT, printable},
};

labels! {
    /// Why nobody gets a datagram: `labnet_rudp_dropped_total`.
    pub(super) Dropped {
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

impl From<Full> for Dropped {
    fn from(full: Full) -> Self {
        match full {
            Full::Sessions => Self::SessionsFull,
            Full::Address => Self::AddressFull,
            Full::Handshakes => Self::HandshakesFull,
            Full::Moved => Self::Moved,
        }
    }
}

labels! {
    /// What became of a HELLO: `labnet_rudp_handshakes_total`.
    pub(super) Step {
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
    signals_again: IntCounter,
    sent_again: IntCounter,
    connection_packets_received: IntCounter,
    connection_packets_sent: IntCounter,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
    stream_bytes_received: IntCounter,
    stream_bytes_acknowledged: IntCounter,
    signals_shown: SessionKind,
    connections_shown: SessionKind,
    metrics: Arc<Metrics>,
}

impl Counters {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let packets = |direction| metrics.rudp_packets.with_label_values(&[direction]);
        let connection_packets =
            |direction| (metrics.rudp_connection_packets).with_label_values(&[direction]);
        let again = |protocol| (metrics.rudp_retransmitted).with_label_values(&[protocol]);
        let lost = |reason| metrics.rudp_lost.with_label_values(&[reason]);
        let stream_bytes = |direction| (metrics.rudp_stream_bytes).with_label_values(&[direction]);
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
            signals_again: again("signals"),
            sent_again: again("transport"),
            connection_packets_received: connection_packets("received"),
            connection_packets_sent: connection_packets("sent"),
            bytes_received: metrics.rudp_bytes.with_label_values(&["received"]),
            bytes_sent: metrics.rudp_bytes.with_label_values(&["sent"]),
            stream_bytes_received: stream_bytes("received"),
            stream_bytes_acknowledged: stream_bytes("acknowledged"),
            signals_shown: (metrics.session_series).kind("signals", SESSION, series(SIGNALS)),
            connections_shown: metrics
                .session_series
                .kind("transport", SESSION, series(TRANSPORT)),
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

    /// Counts what a session has done.
    pub(super) fn add(&self, output: &Output) {
        for (counter, n) in self.signals_received.iter().zip(output.received) {
            counter.inc_by(n);
        }
        self.dropped(Dropped::Malformed).inc_by(output.malformed);
        self.lost_gap.inc_by(output.gaps);
        self.signals_again.inc_by(output.repeated);
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

    /// Counts a signal that no session gets, but for the reason, which it gives.
    pub(super) fn no_session(&self, reason: Reason) -> Dropped {
        let (kind, reason) = match reason {
            Reason::Malformed => (None, Dropped::Malformed),
            Reason::Moved => (None, Dropped::Moved),
            Reason::NoSession(kind) => (Some(kind), Dropped::NoSession),
        };
        if let Some(kind) = kind {
            self.signals_received[kind as usize].inc();
        }
        reason
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
        let spurious = since(|stats| stats.spurious_losses);
        self.metrics.rudp_spurious.inc_by(spurious);
        self.connection_packets_received
            .inc_by(since(|stats| stats.packets_received));
        self.connection_packets_sent
            .inc_by(since(|stats| stats.packets_sent));
        let again = since(|stats| stats.packets_retransmitted);
        self.sent_again.inc_by(again);
        self.bytes_received
            .inc_by(since(|stats| stats.bytes_received));
        self.bytes_sent.inc_by(since(|stats| stats.bytes_sent));
        self.stream_bytes_received
            .inc_by(since(|stats| stats.stream_bytes_received));
        self.stream_bytes_acknowledged
            .inc_by(since(|stats| stats.stream_bytes_acknowledged));
        self.metrics.rudp_rtt.observe(now.rtt.as_secs_f64());
        self.metrics.rudp_window_bytes.observe(now.window as f64);
    }

    /// The series of a session of the signals: such a one is known by its client's address.
    pub(super) fn show_signals(
        &self,
        name: &Name,
        client: SocketAddr,
    ) -> Option<Shown<Description>> {
        let name = printable(name.as_str(), SHORT);
        let client = client.to_string();
        Shown::open(&self.signals_shown, SIGNALS, name, client)
    }

    /// The series of a connection; a client without a name is called by its address.
    pub(super) fn show_connection(
        &self,
        name: Option<&str>,
        client: SocketAddr,
        cid: Cid,
    ) -> Option<Shown<Standing>> {
        let name = match name {
            None | Some("") => client.ip().to_string(),
            Some(name) => printable(name, SHORT),
        };
        Shown::open(&self.connections_shown, TRANSPORT, name, cid.to_string())
    }
}

/// What a session shows in /metrics, where there is room for it.
pub(super) struct Shown<T: 'static> {
    table: &'static [Statistic<T>],
    values: Arc<[AtomicU64]>,
    _series: OpenSeries,
}

impl<T> Shown<T> {
    fn open(
        kind: &SessionKind,
        table: &'static [Statistic<T>],
        client: String,
        connection: String,
    ) -> Option<Self> {
        let nothing = || AtomicU64::new(f64::NAN.to_bits());
        let values: Arc<[AtomicU64]> = series(table).iter().map(|_| nothing()).collect();
        let shown = Arc::clone(&values);
        let read = move || {
            let shown = shown.iter();
            shown
                .map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)))
                .collect()
        };
        Some(Self {
            table,
            values,
            _series: kind.open(client, connection, read)?,
        })
    }

    /// Shows how it stands.
    pub(super) fn set(&self, subject: &T) {
        for (shown, value) in self.values.iter().zip(sample(self.table, subject)) {
            shown.store(value.to_bits(), Ordering::Relaxed);
        }
    }
}
