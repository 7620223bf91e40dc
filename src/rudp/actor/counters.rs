//! The role's metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounter, IntGauge};

use crate::rudp::{
    endpoint::Reason,
    output::{Output, Reply},
    signal::{AnswerKind, Name, SignalKind},
};
use crate::telemetry::Metrics;

/// Clients with a series of their own in `labnet_rudp_session_window`.
const NAMED_WINDOWS: usize = 64;

/// Counts, with what is hot taken out of its vector.
pub(super) struct Counters {
    pub(super) packets_received: IntCounter,
    pub(super) lost_send: IntCounter,
    pub(super) lost_mailbox: IntCounter,
    lost_gap: IntCounter,
    packets_sent: IntCounter,
    signals_received: [IntCounter; SignalKind::ALL.len()],
    signals_sent: [IntCounter; AnswerKind::ALL.len()],
    malformed: IntCounter,
    binary: IntCounter,
    no_session: IntCounter,
    sessions_full: IntCounter,
    too_old: IntCounter,
    /// Clients that have a series in `labnet_rudp_session_window`, with the number of their
    /// sessions.
    named: Mutex<HashMap<Name, usize>>,
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
            malformed: dropped("malformed"),
            binary: dropped("binary"),
            no_session: dropped("no_session"),
            sessions_full: dropped("sessions_full"),
            too_old: dropped("too_old"),
            named: Mutex::default(),
            metrics,
        }
    }

    /// Counts what a session has done.
    pub(super) fn add(&self, output: &Output) {
        for (counter, n) in self.signals_received.iter().zip(output.received) {
            counter.inc_by(n);
        }
        self.malformed.inc_by(output.malformed);
        self.lost_gap.inc_by(output.gaps);
        self.metrics.rudp_retransmitted.inc_by(output.repeated);
        self.too_old.inc_by(output.too_old);
        self.no_session.inc_by(output.after_end);
    }

    /// Counts an answer that was sent.
    pub(super) fn sent(&self, reply: &Reply<'_>) {
        self.packets_sent.inc();
        self.signals_sent[reply.kind as usize].inc();
        if let Some(window) = reply.window {
            self.metrics.rudp_window.observe(window.into());
        }
    }

    /// Counts a datagram that no session gets.
    pub(super) fn dropped(&self, reason: Reason) {
        match reason {
            Reason::Malformed => self.malformed.inc(),
            Reason::Binary => self.binary.inc(),
            Reason::SessionsFull => {
                self.signals_received[SignalKind::New as usize].inc();
                self.sessions_full.inc();
            }
            Reason::NoSession(kind) => {
                self.signals_received[kind as usize].inc();
                self.no_session.inc();
            }
        }
    }

    /// Counts a new session.
    pub(super) fn opened(&self) {
        self.metrics.rudp_sessions_opened.inc();
        self.metrics.rudp_sessions.inc();
    }

    /// Counts the end of an open session.
    pub(super) fn ended(&self, reason: &str) {
        let ended = &self.metrics.rudp_sessions_ended;
        ended.with_label_values(&[reason]).inc();
        self.metrics.rudp_sessions.dec();
    }

    fn named(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's series in `labnet_rudp_session_window`: sessions of the same name share one, and the
/// last of them removes it. Beyond [`NAMED_WINDOWS`] names a client has none.
pub(super) struct WindowSeries {
    name: Name,
    gauge: IntGauge,
    counters: Arc<Counters>,
}

impl WindowSeries {
    /// The series of `name`, if it may have one.
    pub(super) fn of(name: &Name, counters: &Arc<Counters>) -> Option<Self> {
        let mut named = counters.named();
        if named.len() >= NAMED_WINDOWS && !named.contains_key(name) {
            return None;
        }
        *named.entry(name.clone()).or_default() += 1;
        let series = &counters.metrics.rudp_session_window;
        Some(Self {
            name: name.clone(),
            gauge: series.with_label_values(&[name.as_str()]),
            counters: Arc::clone(counters),
        })
    }

    /// Shows the window, in signals.
    pub(super) fn set(&self, window: u32) {
        self.gauge.set(window.into());
    }
}

impl Drop for WindowSeries {
    fn drop(&mut self) {
        let mut named = self.counters.named();
        let Some(sessions) = named.get_mut(&self.name) else {
            return;
        };
        *sessions -= 1;
        if *sessions == 0 {
            named.remove(&self.name);
            let series = &self.counters.metrics.rudp_session_window;
            // An error would mean that it is gone already.
            let _ = series.remove_label_values(&[self.name.as_str()]);
        }
    }
}
