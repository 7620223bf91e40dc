//! Files on their way to HTTP clients, and what the kernel measures of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntGauge;

use crate::{
    http::Wire,
    net::TcpInfo,
    role::api,
    statistic::{Series, Statistic, Unit, Value, fields, sample, series},
    telemetry::{Metrics, OpenSeries, SessionKind, TRANSFER as PREFIX},
};

/// Their kind, where they are told beside RUDP's sessions.
const KIND: &str = "http";

/// Files on their way.
pub(super) struct Transfers {
    under_way: Mutex<BTreeMap<u64, Arc<Transfer>>>,
    next: AtomicU64,
    kind: SessionKind,
    metrics: Arc<Metrics>,
}

/// What is known of a file on its way.
struct Transfer {
    client: SocketAddr,
    wire: Wire,
    file: String,
    length: u64,
    congestion: String,
    began: Instant,
    sent: AtomicU64,
}

/// A file on its way, until it is dropped.
pub(super) struct Sending {
    transfers: Arc<Transfers>,
    transfer: Arc<Transfer>,
    number: u64,
    by: IntGauge,
    _series: Option<OpenSeries>,
}

/// How a transfer stands.
pub struct Standing {
    file: String,
    length: u64,
    sent: u64,
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

impl Transfers {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            next: AtomicU64::new(0),
            kind: metrics.session_series.kind(KIND, PREFIX, series(TRANSFER)),
            metrics: Arc::clone(metrics),
        })
    }

    /// A file begins its way over `wire`.
    pub(super) fn begin(
        self: &Arc<Self>,
        client: SocketAddr,
        wire: Wire,
        congestion: String,
        (file, length): (String, u64),
    ) -> Sending {
        let by = (self.metrics.origin_transfers).with_label_values(&[&congestion]);
        by.inc();
        let transfer = Arc::new(Transfer {
            client,
            wire,
            file,
            length,
            congestion,
            began: Instant::now(),
            sent: AtomicU64::new(0),
        });
        let read = Arc::clone(&transfer);
        let series = self
            .kind
            .open(client.ip().to_string(), client.to_string(), move || {
                sample(TRANSFER, &read.stands()).collect()
            });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.under_way().insert(number, Arc::clone(&transfer));
        Sending {
            transfers: Arc::clone(self),
            transfer,
            number,
            by,
            _series: series,
        }
    }

    /// Those under way, in the order of their beginnings.
    pub(super) fn list(&self) -> Vec<api::Session> {
        let under_way: Vec<Arc<Transfer>> = self.under_way().values().cloned().collect();
        let described = under_way.iter().map(|transfer| api::Session {
            kind: KIND.to_owned(),
            client: transfer.client,
            name: String::new(),
            connection_id: None,
            statistics: fields(TRANSFER, &transfer.stands()),
        });
        described.collect()
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Transfer>>> {
        // Whole between any two calls.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    fn stands(&self) -> Standing {
        Standing {
            file: self.file.clone(),
            length: self.length,
            sent: self.sent.load(Ordering::Relaxed),
            congestion: self.congestion.clone(),
            age: self.began.elapsed(),
            info: self.wire.info().ok(),
        }
    }
}

impl Sending {
    /// Counts bytes that went on their way.
    pub(super) fn sent(&self, bytes: usize) {
        self.transfer
            .sent
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.by.dec();
        self.transfers.under_way().remove(&self.number);
    }
}
