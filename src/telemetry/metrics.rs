use std::{collections::HashMap, sync::LazyLock};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use super::{
    dropped_total::DroppedTotal, link_packets::LinkPackets, link_queue::LinkQueue,
    process::Process, session_series::SessionSeries,
};
use crate::watch::{
    dropped::{self, Dropped},
    event::{FailureKind, State},
};

/// What the names of the series of RUDP's sessions begin with; the rest are the keys of
/// `rudp::statistics`.
pub const SESSION: &str = "labnet_rudp_session_";
/// What the names of the series of the origin's transfers begin with; the rest are the keys of
/// `origin::TRANSFER`.
pub const TRANSFER: &str = "labnet_origin_transfer_";

/// Makes the struct and what registers it: `field: Type = how(name, help, ...);`, once each.
macro_rules! metrics {
    ($($(#[$more:meta])* $field:ident: $type:ty = $make:ident($name:literal, $help:literal $(, $argument:expr)* $(,)?);)*) => {
        /// Every metric of the program, by name, once.
        ///
        /// Label values that are known beforehand are exported as zero from the start: here, or by the
        /// role whose words they are. On a hot path take a counter out of its vector once
        /// (`with_label_values`) and keep it.
        pub struct Metrics {
            registry: Registry,
            $(
                #[doc = concat!("`", $name, "`: ", $help, ".")]
                ///
                $(#[$more])*
                pub $field: $type,
            )*
        }

        impl Metrics {
            /// Registers everything in a registry of its own: two labs in one process share nothing but
            /// the process's log.
            pub fn new() -> Self {
                let register = Register(Registry::new());
                let this = Self {
                    $($field: register.$make($name, $help $(, $argument)*),)*
                    registry: register.with_the_process_s(),
                };
                this.build_info
                    .with_label_values(&[env!("CARGO_PKG_VERSION")])
                    .set(1.0);
                this
            }
        }
    };
}

metrics! {
    component_up: IntGaugeVec = gauges(
        "labnet_component_up",
        "1 while the component runs",
        &["component"],
    );
    component_state: IntGaugeVec = gauges(
        "labnet_component_state",
        "1 for the state that the component is in",
        &["component", "state"],
    );
    /// Reasons as [`FailureKind`] has them.
    component_restarts: IntCounterVec = counters(
        "labnet_component_restarts_total",
        "Restarts of a component by reason",
        &["component", "reason"],
    );
    config_last_reload_successful: IntGauge = gauge(
        "labnet_config_last_reload_successful",
        "1 if the last reload of the configuration succeeded",
    );
    config_last_reload_success_timestamp: Gauge = float(
        "labnet_config_last_reload_success_timestamp_seconds",
        "When the running configuration was loaded",
    );
    config_reload_failures: IntCounter = counter(
        "labnet_config_reload_failures_total",
        "Reloads that were refused",
    );
    config_generation: IntGauge = gauge(
        "labnet_config_generation",
        "Number of the running configuration, 1 at the start",
    );
    dhcp_messages: IntCounterVec = counters_by(
        "labnet_dhcp_messages_total",
        "DHCP messages by direction and type",
        &["direction", "type"],
        &[("received", &DHCP_RECEIVED), ("sent", &DHCP_SENT)],
    );
    dhcp_dropped: IntCounterVec = counters_of(
        "labnet_dhcp_dropped_total",
        "DHCP packets that got no answer, by reason",
        "reason",
        &["malformed", "no_subnet", "not_for_us", "no_address", "store", "unknown_client"],
    );
    dhcp_leases: IntGaugeVec = gauges(
        "labnet_dhcp_leases",
        "Addresses by subnet and state",
        &["subnet", "state"],
    );
    dhcp_pool_addresses: IntGaugeVec = gauges(
        "labnet_dhcp_pool_addresses",
        "Addresses that the pools hold",
        &["subnet"],
    );
    dns_queries: IntCounterVec = counters(
        "labnet_dns_queries_total",
        "DNS queries by transport and type; rare types are `other`",
        &["transport", "type"],
    );
    dns_responses: IntCounterVec = counters(
        "labnet_dns_responses_total",
        "DNS answers by rcode",
        &["rcode"],
    );
    /// The reasons are the role's own, which shows all of them from its start.
    dns_dropped: IntCounterVec = counters(
        "labnet_dns_dropped_total",
        "DNS messages that got no answer, by reason",
        &["reason"],
    );
    dns_truncated: IntCounter = counter(
        "labnet_dns_truncated_total",
        "DNS answers over UDP that did not fit and were sent with TC",
    );
    dns_tcp_connections: IntGauge = gauge("labnet_dns_tcp_connections", "DNS connections over TCP");
    dns_zone_records: IntGaugeVec = gauges(
        "labnet_dns_zone_records",
        "Resource records by zone",
        &["zone"],
    );
    rudp_sessions: IntGauge = gauge("labnet_rudp_sessions", "RUDP sessions open now");
    rudp_draining: IntGauge = gauge(
        "labnet_rudp_draining_sessions",
        "RUDP sessions that go on at an address where the proxy listens no more",
    );
    rudp_fetches: IntGaugeVec = gauges(
        "labnet_rudp_fetches",
        "Files that connections fetch from the origin: running, or waiting for a turn",
        &["state"],
    );
    /// `signals`, sessions that no numbered signal has come for since SIGNEW; `transport`,
    /// handshakes that the client has not confirmed.
    rudp_half_open: IntGaugeVec = gauges(
        "labnet_rudp_half_open",
        "Clients that were answered once and have said nothing since that shows that they heard it",
        &["protocol"],
    );
    rudp_sessions_opened: IntCounter = counter(
        "labnet_rudp_sessions_total",
        "RUDP sessions ever opened",
    );
    /// `end`, `idle`, `crash`, `replaced`, `shutdown`, `displaced` (half-open, it made room
    /// for another address's), `reset` (the client had lost it), `violation` (the client
    /// broke the rules).
    rudp_sessions_ended: IntCounterVec = counters_of(
        "labnet_rudp_sessions_ended_total",
        "RUDP sessions ended, by reason",
        "reason",
        &["end", "idle", "crash", "replaced", "displaced", "shutdown", "reset", "violation"],
    );
    /// The kinds of signals are the role's own, which shows all of them from its start.
    rudp_signals: IntCounterVec = counters(
        "labnet_rudp_signals_total",
        "RUDP signals by direction and type",
        &["direction", "type"],
    );
    rudp_packets: IntCounterVec = counters_of(
        "labnet_rudp_packets_total",
        "RUDP datagrams by direction",
        "direction",
        &["received", "sent"],
    );
    /// `network`: packets of the transport declared lost on the way to a client. `gap`: a
    /// client's signal that was missing when a later one came. `mailbox`: a session too
    /// busy to take what had come. `send`: the kernel did not take it (datagrams).
    rudp_lost: IntCounterVec = counters_of(
        "labnet_rudp_lost_total",
        "RUDP signals and packets lost: of the clients' signals by gap and mailbox, of what the \
         proxy sent by network and send",
        "reason",
        &["gap", "mailbox", "send", "network"],
    );
    /// To be taken off `labnet_rudp_lost_total{reason="network"}`, to know what was really
    /// lost.
    rudp_spurious: IntCounter = counter(
        "labnet_rudp_spurious_losses_total",
        "Packets of the transport that were declared lost and arrived after all",
    );
    /// What losses of `network` are a share of: `sent`. Counted ten times a second,
    /// together with these.
    rudp_connection_packets: IntCounterVec = counters_of(
        "labnet_rudp_connection_packets_total",
        "Packets of the RUDP transport by direction",
        "direction",
        &["received", "sent"],
    );
    rudp_retransmitted: IntCounterVec = counters_of(
        "labnet_rudp_retransmitted_total",
        "RUDP signals that came again; packets of the transport that carried data again",
        "protocol",
        &["signals", "transport"],
    );
    /// Of reasons as of `labnet_rudp_signals_total`.
    rudp_dropped: IntCounterVec = counters(
        "labnet_rudp_dropped_total",
        "RUDP datagrams that got no answer, by reason",
        &["reason"],
    );
    rudp_window: Histogram = histogram(
        "labnet_rudp_window_signals",
        "Congestion window at each answer, in signals",
        &whole_numbers(),
    );
    /// Of the binary transport: `cookie` and `versions` were answered so, `accepted` made a
    /// connection, which was `confirmed` by the client or `expired`.
    rudp_handshakes: IntCounterVec = counters(
        "labnet_rudp_handshakes_total",
        "Handshakes of the RUDP transport, by what became of the client's packet",
        &["result"],
    );
    rudp_bytes: IntCounterVec = counters_of(
        "labnet_rudp_bytes_total",
        "UDP payload bytes of the RUDP transport by direction",
        "direction",
        &["received", "sent"],
    );
    /// What goodput is made of: what was sent again counts once, headers not at all.
    rudp_stream_bytes: IntCounterVec = counters_of(
        "labnet_rudp_stream_bytes_total",
        "Bytes of the RUDP transport's streams, each once: received, or acknowledged by the client",
        "direction",
        &["received", "acknowledged"],
    );
    /// Buckets are a tenth apart where labs live: a quantile is right within a twentieth.
    rudp_rtt: Histogram = histogram(
        "labnet_rudp_rtt_seconds",
        "Smoothed round trip of busy connections, ten times a second",
        &round_trips(),
    );
    /// Buckets are a quarter apart: a quantile is right within an eighth.
    rudp_window_bytes: Histogram = histogram(
        "labnet_rudp_window_bytes",
        "Congestion window of busy connections, ten times a second",
        &steps(1e3, 10, 1e8),
    );
    /// The series of sessions and transfers: `client` and `connection` name each, the
    /// prefix its kind; see [`SESSION`] and [`TRANSFER`].
    session_series: SessionSeries = session_series(
        "labnet_sessions_without_series_total",
        "Sessions and transfers that have no series of their own, as many had one, by kind",
        &["signals", "transport", "http"],
    );
    /// Direction `up` (to the proxy) or `down`, fate `sent`, `delivered`, `lost_random`,
    /// ...
    link_packets: LinkPackets = link_packets(
        "labnet_link_packets_total",
        "Packets on the network before the proxy by direction and fate",
    );
    link_queue: LinkQueue = link_queue(
        "labnet_link_queued_bytes",
        "Bytes that wait for the rate of the network before the proxy, by direction",
    );
    watch_dropped: Vec<DroppedTotal> = dropped_by(
        "labnet_watch_dropped_total",
        "Events of the process that an observer has not told of, being too slow or at the end of its file or disk",
        &dropped::OF_EVENTS,
    );
    capture_dropped: DroppedTotal = dropped(
        "labnet_capture_dropped_total",
        "Packets of the process that a capture has missed because it was too slow",
        &dropped::CAPTURES,
    );
    scrap_files: IntGauge = gauge("labnet_scrap_files", "Files in the scraper's catalog");
    scrap_fetches: IntCounterVec = counters_of(
        "labnet_scrap_fetches_total",
        "Fetches of the index page by result",
        "result",
        &["ok", "not_modified", "error"],
    );
    scrap_last_success_timestamp: Gauge = float(
        "labnet_scrap_last_success_timestamp_seconds",
        "When the index page was last fetched or confirmed",
    );
    scrap_requests: IntCounterVec = counters_of(
        "labnet_scrap_requests_total",
        "Requests of the proxy by type",
        "type",
        &["signget", "signurl", "invalid", "timeout"],
    );
    origin_requests: IntCounterVec = counters_of(
        "labnet_origin_requests_total",
        "HTTP requests to the built-in origin by status code",
        "code",
        &["200", "206", "304", "404", "416"],
    );
    origin_sent_bytes: IntCounter = counter(
        "labnet_origin_sent_bytes_total",
        "Bytes of files that the built-in origin sent",
    );
    origin_transfers: IntGaugeVec = gauges(
        "labnet_origin_transfers",
        "Files on their way over HTTP, by the kernel's congestion control that sends them",
        &["congestion"],
    );
    connections: IntGaugeVec = gauges(
        "labnet_connections",
        "TCP connections open now",
        &["component"],
    );
    /// TCP connections that were refused or closed against their peer's will:
    /// `address_full` (its address has its share in use), `full` (all are in use),
    /// `descriptors` (the process has none left to spare), `made_room` (for another one),
    /// `slow` (it took next to nothing of its answer), `timeout` (it asked too slowly, or
    /// nothing for too long).
    connections_closed: IntCounterVec = counters(
        "labnet_connections_closed_total",
        "TCP connections refused, or closed against their peer's will, by reason",
        &["component", "reason"],
    );
    http_requests: IntCounterVec = counters_of(
        "labnet_http_requests_total",
        "HTTP requests to the admin endpoints by status code",
        "code",
        &["200", "400", "401", "403", "404", "421"],
    );
    build_info: GaugeVec = floats("labnet_build_info", "The running version", &["version"]);
}

/// `labnet_log_lines_dropped_total`: lines that were lost, because nobody made room for them or
/// because they could not be written. The log is the process's, so that all labs in it show the same.
#[allow(clippy::expect_used)]
pub(super) static LOG_LINES_DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let lost = IntCounter::new(
        "labnet_log_lines_dropped_total",
        "Lines of the log that nobody took or that could not be written",
    );
    lost.expect("a literal name, see Register")
});

/// DHCP's message types as metric labels (RFC 2132 section 9.6).
const DHCP_RECEIVED: [&str; 5] = ["discover", "request", "decline", "release", "inform"];
const DHCP_SENT: [&str; 3] = ["offer", "ack", "nak"];

/// Takes the series with the label `component` out of a vector.
fn forget<T: MetricVecBuilder>(vector: &MetricVec<T>, component: &str)
where
    MetricVec<T>: Collector,
{
    for family in vector.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|label| (label.name(), label.value()))
                .collect();
            if labels.get("component") == Some(&component) {
                // An error means that it is gone already.
                let _ = vector.remove(&labels);
            }
        }
    }
}

impl Metrics {
    /// Shows the state of a component, and its restarts as zeros from the start.
    pub fn show_component(&self, component: &str, state: State) {
        let runs = matches!(state, State::Up | State::Degraded);
        self.component_up
            .with_label_values(&[component])
            .set(runs.into());
        for other in State::ALL {
            self.component_state
                .with_label_values(&[component, other.as_str()])
                .set((other == state).into());
        }
        for kind in FailureKind::ALL {
            self.component_restarts
                .with_label_values(&[component, kind.as_str()]);
        }
    }

    /// Takes away the series of a component that is no more.
    pub fn forget_component(&self, component: &str) {
        forget(&self.component_up, component);
        forget(&self.component_state, component);
        forget(&self.component_restarts, component);
        forget(&self.connections, component);
        forget(&self.connections_closed, component);
    }

    /// The text exposition format, for `GET /metrics`.
    pub fn render(&self) -> String {
        // Encoding fails only for metrics without a name or a value; all have both.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Bounds from `first` to `last`, `a_decade` to each power of ten, with three digits each.
fn steps(first: f64, a_decade: u32, last: f64) -> Vec<f64> {
    let decades = (last / first).log10().round();
    let steps = (decades * f64::from(a_decade)).round() as u32;
    let bound = |step| {
        let bound = first * 10_f64.powf(f64::from(step) / f64::from(a_decade));
        let unit = 10_f64.powf(bound.log10().floor() - 2.0);
        // By way of its digits: 0.0516, not 0.051600000000000005.
        format!("{:.6e}", (bound / unit).round() * unit)
            .parse()
            .unwrap_or(bound)
    };
    (0..=steps).map(bound).collect()
}

/// Bounds for windows in signals: each small number is in the middle of its bucket, where a quantile
/// looks for it; from 16 on they are a tenth apart.
fn whole_numbers() -> Vec<f64> {
    let mut bounds: Vec<f64> = (0..=16).map(|n| f64::from(n) + 0.5).collect();
    let mut last = 16.5_f64;
    while last < 1024.0 {
        last = (last * 1.1).floor() + 0.5;
        bounds.push(last);
    }
    bounds
}

/// Bounds for round trips: a tenth apart from 1 ms to 1 s, where labs live.
fn round_trips() -> Vec<f64> {
    let mut bounds = vec![0.0001, 0.0002, 0.0003, 0.0005, 0.0007];
    bounds.extend(steps(0.001, 25, 1.0));
    bounds.extend([1.5, 2.0, 3.0, 5.0, 10.0]);
    bounds
}

/// Makes metrics and registers them. Every name and label is a literal of this file, valid
/// and used once: the test beside it makes them all, so none of these can fail at run time.
struct Register(Registry);

#[allow(clippy::expect_used)]
impl Register {
    fn add<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("literal name and labels, see Register");
        self.0
            .register(Box::new(metric.clone()))
            .expect("registered once, see Register");
        metric
    }

    /// The registry, with what is the process's and not one lab's.
    fn with_the_process_s(self) -> Registry {
        let process = Process::new().expect("literal names, see Register");
        self.0
            .register(Box::new(process))
            .expect("registered once, see Register");
        self.add(Ok(LOG_LINES_DROPPED.clone()));
        self.0
    }

    fn dropped(&self, name: &str, help: &str, of: &'static Dropped) -> DroppedTotal {
        self.add(DroppedTotal::new(Opts::new(name, help), of))
    }

    /// The same by observer.
    fn dropped_by(&self, name: &str, help: &str, all: &[&'static Dropped]) -> Vec<DroppedTotal> {
        let of = |of: &&'static Dropped| {
            let opts = Opts::new(name, help).const_label("observer", of.observer());
            self.add(DroppedTotal::new(opts, of))
        };
        all.iter().map(of).collect()
    }

    fn link_queue(&self, name: &str, help: &str) -> LinkQueue {
        self.add(LinkQueue::new(name, help))
    }

    fn link_packets(&self, name: &str, help: &str) -> LinkPackets {
        self.add(LinkPackets::new(name, help))
    }

    /// The series of sessions, and the counter of those that have none, by kind.
    fn session_series(&self, name: &str, help: &str, kinds: &[&str]) -> SessionSeries {
        let without = self.counters_of(name, help, "kind", kinds);
        self.add(Ok(SessionSeries::new(without)))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// Counters of two labels, with zeros for the values that are known of the first and the second.
    fn counters_by(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        known: &[(&str, &[&str])],
    ) -> IntCounterVec {
        let counters = self.counters(name, help, labels);
        for (first, values) in known {
            for second in *values {
                counters.with_label_values(&[first, second]);
            }
        }
        counters
    }

    fn counters_of(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let counters = self.counters(name, help, &[label]);
        for value in values {
            counters.with_label_values(&[value]);
        }
        counters
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_known_labels_start_at_zero() {
        let text = Metrics::new().render();
        assert!(
            text.contains("labnet_dhcp_messages_total{direction=\"received\",type=\"discover\"} 0")
        );
        assert!(text.contains("labnet_rudp_lost_total{reason=\"gap\"} 0"));
        assert!(text.contains("labnet_rudp_sessions 0"));
        assert!(text.contains("labnet_log_lines_dropped_total "));
        assert!(text.contains("labnet_capture_dropped_total "));
        for observer in ["events", "log", "qlog"] {
            let name = format!("labnet_watch_dropped_total{{observer=\"{observer}\"}} ");
            assert!(text.contains(&name), "{name}");
        }
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {line:?}");
        }
        assert!(text.contains("labnet_link_packets_total{direction=\"up\",fate=\"sent\"} 0"));
    }
}
