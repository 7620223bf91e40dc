use std::sync::LazyLock;

use std::collections::HashMap;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use super::{link_packets::LinkPackets, link_queue::LinkQueue, process::Process};
use crate::watch::event::{FailureKind, State};

/// Every metric of the program, by name, once.
///
/// Label values that are known beforehand are exported as zero from the start. On a hot path take a
/// counter out of its vector once (`with_label_values`) and keep it.
pub struct Metrics {
    registry: Registry,
    /// `labnet_component_up{component}`: 1 while the component runs, `degraded` or not.
    pub component_up: IntGaugeVec,
    /// `labnet_component_state{component,state}`: 1 for the state that it is in, 0 for the others.
    pub component_state: IntGaugeVec,
    /// `labnet_component_restarts_total{component,reason}`: reasons as [`FailureKind`] has them.
    pub component_restarts: IntCounterVec,
    /// `labnet_config_last_reload_successful`
    pub config_last_reload_successful: IntGauge,
    /// `labnet_config_last_reload_success_timestamp_seconds`
    pub config_last_reload_success_timestamp: Gauge,
    /// `labnet_config_reload_failures_total`
    pub config_reload_failures: IntCounter,
    /// `labnet_config_generation`
    pub config_generation: IntGauge,
    /// `labnet_dhcp_messages_total{direction,type}`: direction `received` or `sent`, type `discover`,
    /// `offer`, ...
    pub dhcp_messages: IntCounterVec,
    /// `labnet_dhcp_dropped_total{reason}`
    pub dhcp_dropped: IntCounterVec,
    /// `labnet_dhcp_leases{subnet,state}`
    pub dhcp_leases: IntGaugeVec,
    /// `labnet_dhcp_pool_addresses{subnet}`
    pub dhcp_pool_addresses: IntGaugeVec,
    /// `labnet_dns_queries_total{transport,type}`: transport `udp` or `tcp`; rare types are `other`.
    pub dns_queries: IntCounterVec,
    /// `labnet_dns_responses_total{rcode}`
    pub dns_responses: IntCounterVec,
    /// `labnet_dns_dropped_total{reason}`
    pub dns_dropped: IntCounterVec,
    /// `labnet_dns_truncated_total`: UDP answers sent with TC.
    pub dns_truncated: IntCounter,
    /// `labnet_dns_tcp_connections`
    pub dns_tcp_connections: IntGauge,
    /// `labnet_dns_zone_records{zone}`
    pub dns_zone_records: IntGaugeVec,
    /// `labnet_rudp_sessions`: open now.
    pub rudp_sessions: IntGauge,
    /// `labnet_rudp_draining_sessions`: sessions and connections that go on at an address where the
    /// proxy listens no more.
    pub rudp_draining: IntGauge,
    /// `labnet_rudp_fetches{state}`: files from the origin, `running` or `waiting` for their turn.
    pub rudp_fetches: IntGaugeVec,
    /// `labnet_rudp_half_open{protocol}`: `signals`, sessions that no numbered signal has come for
    /// since SIGNEW; `transport`, handshakes that the client has not confirmed.
    pub rudp_half_open: IntGaugeVec,
    /// `labnet_rudp_sessions_total`: ever opened.
    pub rudp_sessions_opened: IntCounter,
    /// `labnet_rudp_sessions_ended_total{reason}`: `end`, `idle`, `crash`, `replaced`, `shutdown`,
    /// `displaced` (half-open, it made room for another address's), `reset` (the client had lost it), `violation` (the client broke the rules).
    pub rudp_sessions_ended: IntCounterVec,
    /// `labnet_rudp_signals_total{direction,type}`: direction `received` or `sent`, type `signew`,
    /// `signack`, `signecho`, ...
    pub rudp_signals: IntCounterVec,
    /// `labnet_rudp_packets_total{direction}`: datagrams `received` and `sent`.
    pub rudp_packets: IntCounterVec,
    /// `labnet_rudp_lost_total{reason}`: `network` (a packet of the transport), `gap` (an id that was missing when a later one came),
    /// `mailbox` (a session too busy to take it), `send` (the kernel did not take it; datagrams).
    pub rudp_lost: IntCounterVec,
    /// `labnet_rudp_retransmitted_total`: signals that came again with an id already answered.
    pub rudp_retransmitted: IntCounter,
    /// `labnet_rudp_dropped_total{reason}`: datagrams that are no valid signal, by reason.
    pub rudp_dropped: IntCounterVec,
    /// `labnet_rudp_window_signals`: the congestion window at each answer, in signals.
    pub rudp_window: Histogram,
    /// `labnet_rudp_handshakes_total{result}`: of the binary transport: `cookie` and `versions` were
    /// answered so, `accepted` made a connection, which was `confirmed` by the client or `expired`.
    pub rudp_handshakes: IntCounterVec,
    /// `labnet_rudp_bytes_total{direction}`: UDP payload of connections, `received` and `sent`.
    pub rudp_bytes: IntCounterVec,
    /// `labnet_rudp_rtt_seconds`: the smoothed round trip of busy connections.
    pub rudp_rtt: Histogram,
    /// `labnet_rudp_window_bytes`: the congestion window of busy connections.
    pub rudp_window_bytes: Histogram,
    /// `labnet_rudp_session_window_bytes{client}`: as `labnet_rudp_session_window`.
    pub rudp_session_window_bytes: IntGaugeVec,
    /// `labnet_rudp_session_window{client}`: one series a named client, capped, removed at its end.
    pub rudp_session_window: IntGaugeVec,
    /// `labnet_link_packets_total{direction,fate}`: direction `up` (to the proxy) or `down`, fate
    /// `sent`, `delivered`, `lost_random`, ...
    pub link_packets: LinkPackets,
    /// `labnet_link_queued_bytes{direction}`: what waits for the rate of the network before the proxy.
    pub link_queue: LinkQueue,
    /// `labnet_scrap_files`: files in the catalog.
    pub scrap_files: IntGauge,
    /// `labnet_scrap_fetches_total{result}`: `ok`, `not_modified`, `error`.
    pub scrap_fetches: IntCounterVec,
    /// `labnet_scrap_last_success_timestamp_seconds`
    pub scrap_last_success_timestamp: Gauge,
    /// `labnet_scrap_requests_total{type}`: `signget`, `signurl`, `invalid`, `timeout`.
    pub scrap_requests: IntCounterVec,
    /// `labnet_origin_requests_total{code}`
    pub origin_requests: IntCounterVec,
    /// `labnet_origin_sent_bytes_total`: bytes of file bodies.
    pub origin_sent_bytes: IntCounter,
    /// `labnet_connections{component}`: TCP connections open now.
    pub connections: IntGaugeVec,
    /// `labnet_connections_closed_total{component,reason}`: TCP connections that were refused or
    /// closed against their peer's will: `address_full` (its address has its share in use), `full`
    /// (all are in use), `descriptors` (the process has none left to spare), `made_room` (for another one), `slow` (it took next to nothing of its
    /// answer), `timeout` (it asked too slowly, or nothing for too long).
    pub connections_closed: IntCounterVec,
    /// `labnet_http_requests_total{code}`
    pub http_requests: IntCounterVec,
    /// `labnet_log_lines_dropped_total`: lines of the log that nobody took in time, or that could not be written.
    pub log_lines_dropped: IntCounter,
    /// `labnet_build_info{version}`
    pub build_info: GaugeVec,
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
const DNS_TYPES: [&str; 9] = [
    "a", "aaaa", "cname", "mx", "ns", "ptr", "soa", "txt", "other",
];
const DNS_RCODES: [&str; 7] = [
    "noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "badvers",
];
const SIGNALS_RECEIVED: [&str; 5] = ["signew", "signecho", "signstat", "signget", "signend"];
const SIGNALS_SENT: [&str; 8] = [
    "signack",
    "echoreply",
    "statreply",
    "ackget",
    "ackend",
    "signlost",
    "signfull",
    "signrefused",
];

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

    /// Registers everything in a registry of its own: two labs in one process share nothing but the
    /// process's log.
    pub fn new() -> Self {
        let metrics = Register(Registry::new());
        let dhcp_messages = metrics.counters(
            "labnet_dhcp_messages_total",
            "DHCP messages by direction and type",
            &["direction", "type"],
        );
        zero(&dhcp_messages, "received", &DHCP_RECEIVED);
        zero(&dhcp_messages, "sent", &DHCP_SENT);
        let dns_queries = metrics.counters(
            "labnet_dns_queries_total",
            "DNS queries by transport and type",
            &["transport", "type"],
        );
        zero(&dns_queries, "udp", &DNS_TYPES);
        zero(&dns_queries, "tcp", &DNS_TYPES);
        let rudp_signals = metrics.counters(
            "labnet_rudp_signals_total",
            "RUDP signals by direction and type",
            &["direction", "type"],
        );
        zero(&rudp_signals, "received", &SIGNALS_RECEIVED);
        zero(&rudp_signals, "sent", &SIGNALS_SENT);
        let this = Self {
            component_up: metrics.gauges(
                "labnet_component_up",
                "1 while the component runs",
                &["component"],
            ),
            component_state: metrics.gauges(
                "labnet_component_state",
                "1 for the state that the component is in",
                &["component", "state"],
            ),
            component_restarts: metrics.counters(
                "labnet_component_restarts_total",
                "Restarts of a component by reason",
                &["component", "reason"],
            ),
            config_last_reload_successful: metrics.gauge(
                "labnet_config_last_reload_successful",
                "1 if the last reload of the configuration succeeded",
            ),
            config_last_reload_success_timestamp: metrics.float(
                "labnet_config_last_reload_success_timestamp_seconds",
                "When the running configuration was loaded",
            ),
            config_reload_failures: metrics.counter(
                "labnet_config_reload_failures_total",
                "Reloads that were refused",
            ),
            config_generation: metrics.gauge(
                "labnet_config_generation",
                "Number of the running configuration, 1 at the start",
            ),
            dhcp_messages,
            dhcp_dropped: metrics.counters_of(
                "labnet_dhcp_dropped_total",
                "DHCP packets that got no answer, by reason",
                "reason",
                &[
                    "malformed",
                    "no_subnet",
                    "not_for_us",
                    "no_address",
                    "store",
                    "unknown_client",
                ],
            ),
            dhcp_leases: metrics.gauges(
                "labnet_dhcp_leases",
                "Addresses by subnet and state",
                &["subnet", "state"],
            ),
            dhcp_pool_addresses: metrics.gauges(
                "labnet_dhcp_pool_addresses",
                "Addresses that the pools hold",
                &["subnet"],
            ),
            dns_queries,
            dns_responses: metrics.counters_of(
                "labnet_dns_responses_total",
                "DNS answers by rcode",
                "rcode",
                &DNS_RCODES,
            ),
            dns_dropped: metrics.counters_of(
                "labnet_dns_dropped_total",
                "DNS messages that got no answer, by reason",
                "reason",
                &["short", "response", "port_zero", "send", "tcp_timeout"],
            ),
            dns_truncated: metrics.counter(
                "labnet_dns_truncated_total",
                "DNS answers over UDP that did not fit and were sent with TC",
            ),
            dns_tcp_connections: metrics
                .gauge("labnet_dns_tcp_connections", "DNS connections over TCP"),
            dns_zone_records: metrics.gauges(
                "labnet_dns_zone_records",
                "Resource records by zone",
                &["zone"],
            ),
            rudp_sessions: metrics.gauge("labnet_rudp_sessions", "RUDP sessions open now"),
            rudp_draining: metrics.gauge(
                "labnet_rudp_draining_sessions",
                "RUDP sessions that go on at an address where the proxy listens no more",
            ),
            rudp_fetches: metrics.gauges(
                "labnet_rudp_fetches",
                "Files that connections fetch from the origin: running, or waiting for a turn",
                &["state"],
            ),
            rudp_half_open: metrics.gauges(
                "labnet_rudp_half_open",
                "Clients that were answered once and have said nothing since that shows that they \
                 heard it",
                &["protocol"],
            ),
            rudp_sessions_opened: metrics
                .counter("labnet_rudp_sessions_total", "RUDP sessions ever opened"),
            rudp_sessions_ended: metrics.counters_of(
                "labnet_rudp_sessions_ended_total",
                "RUDP sessions ended, by reason",
                "reason",
                &[
                    "end",
                    "idle",
                    "crash",
                    "replaced",
                    "displaced",
                    "shutdown",
                    "reset",
                    "violation",
                ],
            ),
            rudp_signals,
            rudp_packets: metrics.counters_of(
                "labnet_rudp_packets_total",
                "RUDP datagrams by direction",
                "direction",
                &["received", "sent"],
            ),
            rudp_lost: metrics.counters_of(
                "labnet_rudp_lost_total",
                "RUDP signals and packets lost, by reason",
                "reason",
                &["gap", "mailbox", "send", "network"],
            ),
            rudp_retransmitted: metrics.counter(
                "labnet_rudp_retransmitted_total",
                "RUDP signals that came again, and packets that carried data again",
            ),
            rudp_dropped: metrics.counters_of(
                "labnet_rudp_dropped_total",
                "RUDP datagrams that got no answer, by reason",
                "reason",
                &[
                    "malformed",
                    "no_session",
                    "sessions_full",
                    "too_old",
                    "integrity",
                    "forged_cookie",
                    "no_connection",
                    "handshakes_full",
                    "address_full",
                    "amplification",
                    "moved",
                ],
            ),
            rudp_window: metrics.histogram(
                "labnet_rudp_window_signals",
                "Congestion window at each answer, in signals",
                &[
                    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0, 256.0,
                ],
            ),
            rudp_handshakes: metrics.counters_of(
                "labnet_rudp_handshakes_total",
                "Handshakes of the RUDP transport, by what became of the client's packet",
                "result",
                &[
                    "cookie",
                    "versions",
                    "accepted",
                    "confirmed",
                    "expired",
                    "displaced",
                ],
            ),
            rudp_bytes: metrics.counters_of(
                "labnet_rudp_bytes_total",
                "UDP payload bytes of the RUDP transport by direction",
                "direction",
                &["received", "sent"],
            ),
            rudp_rtt: metrics.histogram(
                "labnet_rudp_rtt_seconds",
                "Smoothed round trip of busy connections, ten times a second",
                &[
                    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0,
                ],
            ),
            rudp_window_bytes: metrics.histogram(
                "labnet_rudp_window_bytes",
                "Congestion window of busy connections, ten times a second",
                &[
                    3e3, 6e3, 12e3, 25e3, 50e3, 100e3, 200e3, 400e3, 800e3, 1.6e6, 3.2e6, 6.4e6,
                    12.8e6, 25.6e6,
                ],
            ),
            rudp_session_window_bytes: metrics.gauges(
                "labnet_rudp_session_window_bytes",
                "Congestion window of a client's connection, in bytes",
                &["client"],
            ),
            rudp_session_window: metrics.gauges(
                "labnet_rudp_session_window",
                "Congestion window of a client's session, in signals",
                &["client"],
            ),
            link_packets: metrics.add(LinkPackets::new()),
            link_queue: metrics.add(LinkQueue::new(
                "labnet_link_queued_bytes",
                "Bytes that wait for the rate of the network before the proxy, by direction",
            )),
            scrap_files: metrics.gauge("labnet_scrap_files", "Files in the scraper's catalog"),
            scrap_fetches: metrics.counters_of(
                "labnet_scrap_fetches_total",
                "Fetches of the index page by result",
                "result",
                &["ok", "not_modified", "error"],
            ),
            scrap_last_success_timestamp: metrics.float(
                "labnet_scrap_last_success_timestamp_seconds",
                "When the index page was last fetched or confirmed",
            ),
            scrap_requests: metrics.counters_of(
                "labnet_scrap_requests_total",
                "Requests of the proxy by type",
                "type",
                &["signget", "signurl", "invalid", "timeout"],
            ),
            origin_requests: metrics.counters_of(
                "labnet_origin_requests_total",
                "HTTP requests to the built-in origin by status code",
                "code",
                &["200", "206", "304", "404", "416"],
            ),
            origin_sent_bytes: metrics.counter(
                "labnet_origin_sent_bytes_total",
                "Bytes of files that the built-in origin sent",
            ),
            connections: metrics.gauges(
                "labnet_connections",
                "TCP connections open now",
                &["component"],
            ),
            connections_closed: metrics.counters(
                "labnet_connections_closed_total",
                "TCP connections refused, or closed against their peer's will, by reason",
                &["component", "reason"],
            ),
            http_requests: metrics.counters_of(
                "labnet_http_requests_total",
                "HTTP requests to the admin endpoints by status code",
                "code",
                &["200", "400", "401", "403", "404", "421"],
            ),
            log_lines_dropped: metrics.add(Ok(LOG_LINES_DROPPED.clone())),
            build_info: metrics.floats("labnet_build_info", "The running version", &["version"]),
            registry: metrics.with(Process::new()),
        };
        this.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        this
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

fn zero(counters: &IntCounterVec, first: &str, values: &[&str]) {
    for value in values {
        counters.with_label_values(&[first, value]);
    }
}

/// Makes metrics and registers them. Every name and label below is a literal of this file, valid
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

    /// The registry, with what nobody but it has to know.
    fn with(self, metrics: prometheus::Result<impl Collector + 'static>) -> Registry {
        let metrics = metrics.expect("literal names, see Register");
        self.0
            .register(Box::new(metrics))
            .expect("registered once, see Register");
        self.0
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
