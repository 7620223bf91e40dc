//! A file on its way to an HTTP client, and what the kernel measures of it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    http::{Passed, Wire},
    net::TcpInfo,
    statistic::{Series, Statistic, Unit, Value},
};

/// Their kind, where they are told beside RUDP's sessions.
pub(super) const KIND: &str = "http";

/// What is known of a file on its way.
pub(super) struct Transfer {
    pub(super) client: SocketAddr,
    pub(super) wire: Wire,
    pub(super) file: String,
    pub(super) length: u64,
    pub(super) congestion: String,
    pub(super) began: Instant,
    /// What had passed over the connection by then.
    pub(super) before: Option<Passed>,
    /// Bytes of the file that went on their way.
    pub(super) sent: AtomicU64,
}

/// How a transfer stands.
pub struct Standing {
    file: String,
    length: u64,
    sent: u64,
    /// `None`: the connection is gone.
    acknowledged: Option<u64>,
    congestion: String,
    age: Duration,
    /// `None`: the connection is gone.
    info: Option<TcpInfo>,
}

/// A row of which the kernel knows the value.
macro_rules! measured {
    ($value:expr) => {
        |it| {
            let value: fn(&TcpInfo) -> Value = $value;
            it.info.as_ref().map_or(Value::Absent, value)
        }
    };
}

const GAUGE: Option<Series> = Some(Series::Gauge);
const COUNTER: Option<Series> = Some(Series::Counter);

const fn row(
    (key, heading): (&'static str, Option<&'static str>),
    unit: Unit,
    series: Option<Series>,
    help: &'static str,
    value: fn(&Standing) -> Value,
) -> Statistic<Standing> {
    Statistic {
        key,
        heading,
        help,
        unit,
        series,
        value,
    }
}

fn whole(value: Option<u64>) -> Value {
    value.map_or(Value::Absent, Value::Whole)
}

fn seconds(time: Duration) -> Value {
    Value::Seconds(time.as_secs_f64())
}

/// What is told of a file on its way over HTTP: of the sending of the origin's kernel.
pub const TRANSFER: &[Statistic<Standing>] = &[
    row(
        ("connected_seconds", Some("AGE")),
        Unit::Age,
        None,
        "Seconds since the answer began",
        |it| seconds(it.age),
    ),
    row(("file", Some("FILE")), Unit::Word, None, "Its name", |it| {
        Value::Word(it.file.clone())
    }),
    row(
        ("bytes_sent", Some("SENT")),
        Unit::Bytes,
        None,
        "Bytes of the file that the kernel was given",
        |it| Value::Whole(it.sent),
    ),
    row(
        ("bytes_acknowledged", None),
        Unit::Bytes,
        None,
        "Of these, bytes that the client's kernel has acknowledged, the answer's head counted with them",
        |it| whole(it.acknowledged),
    ),
    row(
        ("length_bytes", Some("OF")),
        Unit::Bytes,
        None,
        "Bytes that were asked for",
        |it| Value::Whole(it.length),
    ),
    row(
        ("congestion", Some("CONGESTION")),
        Unit::Word,
        None,
        "The kernel's congestion control that the connection sends by",
        |it| Value::Word(it.congestion.clone()),
    ),
    row(
        ("window_bytes", Some("WINDOW")),
        Unit::Bytes,
        GAUGE,
        "Congestion window of a transfer's connection",
        measured!(|info| Value::Whole(info.window)),
    ),
    row(
        ("ssthresh_bytes", Some("SSTHRESH")),
        Unit::Bytes,
        GAUGE,
        "Slow-start threshold, once there is one",
        measured!(|info| whole(info.ssthresh)),
    ),
    row(
        ("in_flight_bytes", Some("IN FLIGHT")),
        Unit::Bytes,
        GAUGE,
        "Bytes sent and neither acknowledged nor lost",
        measured!(|info| Value::Whole(info.in_flight)),
    ),
    row(
        ("pacing_bytes_per_second", None),
        Unit::BytesPerSecond,
        GAUGE,
        "The pace at which segments may leave, if there is one",
        measured!(|info| whole(info.pacing_rate)),
    ),
    row(
        ("delivery_bytes_per_second", None),
        Unit::BytesPerSecond,
        GAUGE,
        "The rate last measured at which segments arrived",
        measured!(|info| Value::Whole(info.delivery_rate)),
    ),
    row(
        ("rtt_seconds", Some("RTT")),
        Unit::Latency,
        GAUGE,
        "Smoothed round trip",
        measured!(|info| seconds(info.rtt)),
    ),
    row(
        ("min_rtt_seconds", Some("MIN RTT")),
        Unit::Latency,
        GAUGE,
        "Least round trip of late",
        measured!(|info| info.min_rtt.map_or(Value::Absent, seconds)),
    ),
    row(
        ("segments_sent", Some("SEGMENTS")),
        Unit::Count,
        COUNTER,
        "Segments with data that the connection has sent",
        measured!(|info| Value::Whole(info.data_segments)),
    ),
    row(
        ("segments_retransmitted", Some("RESENT")),
        Unit::Count,
        COUNTER,
        "Of these, segments sent again",
        measured!(|info| Value::Whole(info.retransmitted)),
    ),
];

impl Transfer {
    /// How it stands now.
    pub(super) fn stands(&self) -> Standing {
        let passed = self.wire.passed().map(|(passed, _)| passed);
        Standing {
            file: self.file.clone(),
            length: self.length,
            sent: self.sent.load(Ordering::Relaxed),
            acknowledged: passed.map(|passed| self.acknowledged(&passed)),
            congestion: self.congestion.clone(),
            age: self.began.elapsed(),
            info: self.wire.info().ok(),
        }
    }

    /// Bytes written to the connection since it began, the answer's head included.
    pub(super) fn written(&self, passed: &Passed) -> u64 {
        let before = self.before.map_or(0, |before| before.written);
        passed.written.saturating_sub(before)
    }

    /// Of what it is long, so many bytes were acknowledged, the answer's head counted with them.
    pub(super) fn acknowledged(&self, passed: &Passed) -> u64 {
        let arrived = self.written(passed).saturating_sub(passed.unacknowledged);
        arrived.min(self.sent.load(Ordering::Relaxed))
    }
}
