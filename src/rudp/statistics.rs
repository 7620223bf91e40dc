//! What is told of sessions: one row a statistic.

use std::time::Duration;

use super::{
    connection::{Connection, Stats},
    session::Description,
};
use crate::statistic::{Series, Statistic, Unit, Value};

/// How a connection of the transport stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What it has counted.
    pub stats: Stats,
    /// What controls the sending to the client.
    pub congestion: &'static str,
    /// Streams open.
    pub streams: usize,
    /// Bytes of files in memory, unsent or not yet acknowledged.
    pub held: u64,
    /// Since the handshake.
    pub connected: Duration,
    /// Since its last packet; `None` for who asks over the connection itself.
    pub idle: Option<Duration>,
}

impl Standing {
    /// How `connection` stands, `connected` after its handshake and `idle` since its last packet.
    pub fn of(connection: &Connection, connected: Duration, idle: Option<Duration>) -> Self {
        Self {
            stats: connection.stats(),
            congestion: connection.congestion(),
            streams: connection.stream_count(),
            held: connection.held(),
            connected,
            idle,
        }
    }
}

/// A table's row: key, heading, unit, series, help, getter.
macro_rules! rows {
    ($subject:ty: $($key:literal $heading:expr, $unit:ident, $series:expr, $help:literal, $value:expr;)*) => {
        &[$(Statistic {
            key: $key,
            heading: $heading,
            help: $help,
            unit: Unit::$unit,
            series: $series,
            value: {
                const VALUE: fn(&$subject) -> Value = $value;
                VALUE
            },
        }),*]
    };
}

const GAUGE: Option<Series> = Some(Series::Gauge);
const COUNTER: Option<Series> = Some(Series::Counter);

fn whole(number: u64) -> Value {
    Value::Whole(number)
}

fn seconds(time: Duration) -> Value {
    Value::Seconds(time.as_secs_f64())
}

fn or_absent<T>(value: Option<T>, told: fn(T) -> Value) -> Value {
    value.map_or(Value::Absent, told)
}

/// What is told of a connection of the transport, as the proxy's side of it sees it; and, with the same keys, as
/// the client's does.
pub const TRANSPORT: &[Statistic<Standing>] = rows![Standing:
    "connected_seconds" Some("AGE"), Age, None, "Seconds since the handshake",
        |it| seconds(it.connected);
    "idle_seconds" Some("IDLE"), Age, None, "Seconds since the client's last packet",
        |it| or_absent(it.idle, seconds);
    "congestion" Some("CONGESTION"), Word, None, "What controls the sending to the client",
        |it| Value::Word(it.congestion.to_owned());
    "phase" Some("PHASE"), Word, None, "The controller's phase",
        |it| Value::Word(it.stats.phase.to_owned());
    "window_bytes" Some("WINDOW"), Bytes, GAUGE, "Congestion window",
        |it| whole(it.stats.window);
    "ssthresh_bytes" Some("SSTHRESH"), Bytes, GAUGE, "Slow-start threshold, once there is one",
        |it| or_absent(it.stats.ssthresh, whole);
    "in_flight_bytes" Some("IN FLIGHT"), Bytes, GAUGE, "Bytes sent and neither acknowledged nor lost",
        |it| whole(it.stats.in_flight);
    "pacing_bytes_per_second" None, BytesPerSecond, GAUGE, "The pace at which packets may leave",
        |it| whole(it.stats.pacing_rate);
    "delivery_bytes_per_second" None, BytesPerSecond, GAUGE, "The rate last measured at which packets arrived",
        |it| whole(it.stats.delivery_rate);
    "rtt_seconds" Some("RTT"), Latency, GAUGE, "Smoothed round trip",
        |it| seconds(it.stats.rtt);
    "rtt_variation_seconds" None, Latency, None, "Mean deviation of the round trip",
        |it| seconds(it.stats.rtt_variation);
    "min_rtt_seconds" Some("MIN RTT"), Latency, GAUGE, "Least round trip on this path",
        |it| seconds(it.stats.min_rtt);
    "latest_rtt_seconds" None, Latency, GAUGE, "Newest sample of the round trip",
        |it| seconds(it.stats.latest_rtt);
    "datagram_bytes" None, Bytes, None, "The largest datagram, UDP payload",
        |it| whole(it.stats.mtu.into());
    "packets_sent" Some("PACKETS"), Count, COUNTER, "Packets sent to the client",
        |it| whole(it.stats.packets_sent);
    "data_packets_sent" None, Count, None, "Of these, packets that carried pieces of streams",
        |it| whole(it.stats.data_packets_sent);
    "packets_received" None, Count, None, "Packets received, each once",
        |it| whole(it.stats.packets_received);
    "duplicates" None, Count, None, "Packets that came again",
        |it| whole(it.stats.duplicates);
    "corrupted" None, Count, None, "Packets whose integrity tag was wrong",
        |it| whole(it.stats.corrupted);
    "malformed" None, Count, None, "Packets that made no sense although their tag was right",
        |it| whole(it.stats.malformed);
    "packets_lost" Some("LOST"), Count, COUNTER, "Packets to the client that were declared lost",
        |it| whole(it.stats.packets_lost);
    "spurious_losses" Some("SPURIOUS"), Count, COUNTER, "Packets declared lost that arrived after all",
        |it| whole(it.stats.spurious_losses);
    "packets_retransmitted" Some("RESENT"), Count, COUNTER, "Packets that carried bytes of a stream again",
        |it| whole(it.stats.packets_retransmitted);
    "sent_again_lost" None, Count, COUNTER, "Of these for what was declared lost",
        |it| whole(it.stats.sent_again_lost);
    "sent_again_probing" None, Count, COUNTER, "Of these as probes, when no acknowledgement came in time",
        |it| whole(it.stats.sent_again_probing);
    "sent_again_tail" None, Count, COUNTER, "Of these at a transfer's end, to be sure",
        |it| whole(it.stats.sent_again_tail);
    "packets_unsent" None, Count, None, "Packets that never left: the kernel refused their size",
        |it| whole(it.stats.packets_unsent);
    "probe_timeouts" None, Count, None, "Times that nothing was heard for so long that the client was probed",
        |it| whole(it.stats.probe_timeouts);
    "congestion_events" None, Count, COUNTER, "Round trips with losses or marks",
        |it| whole(it.stats.congestion_events);
    "bytes_sent" None, Bytes, None, "UDP payload sent to the client",
        |it| whole(it.stats.bytes_sent);
    "bytes_received" None, Bytes, None, "UDP payload received",
        |it| whole(it.stats.bytes_received);
    "stream_bytes_acknowledged" None, Bytes, None, "Bytes of streams that the client has acknowledged, each once",
        |it| whole(it.stats.stream_bytes_acknowledged);
    "stream_bytes_received" None, Bytes, None, "Bytes of streams received, each once",
        |it| whole(it.stats.stream_bytes_received);
    "path_changes" None, Count, None, "Times that the client has changed its address",
        |it| whole(it.stats.path_changes);
    "streams" None, Count, None, "Streams open",
        |it| whole(it.streams as u64);
    "held_bytes" None, Bytes, None, "Bytes of files in memory, unsent or not yet acknowledged",
        |it| whole(it.held);
];

/// What is told of a session of the signals.
pub const SIGNALS: &[Statistic<Description>] = rows![Description:
    "connected_seconds" Some("AGE"), Age, None, "Seconds since SIGNEW",
        |it| seconds(it.connected);
    "idle_seconds" Some("IDLE"), Age, None, "Seconds since its last signal",
        |it| seconds(it.idle);
    "window" Some("WINDOW"), Count, GAUGE, "Congestion window, in signals",
        |it| whole(it.window.into());
    "max_window" Some("MAX WINDOW"), Count, None, "The window's limit, in signals",
        |it| whole(it.max_window.into());
    "received" Some("SIGNALS"), Count, None, "Numbered signals received since SIGNEW",
        |it| whole(it.received);
    "lost" Some("LOST"), Count, None, "Gaps seen in the numbers",
        |it| whole(it.lost);
    "early" None, Count, None, "Early signals kept until the gap before them is filled",
        |it| whole(it.early as u64);
    "repeated" Some("REPEATED"), Count, None, "Signals that came again after they had been answered",
        |it| whole(it.repeated);
    "expected_id" Some("NEXT ID"), Count, None, "The next id that the server expects",
        |it| whole(it.expected_id);
];
