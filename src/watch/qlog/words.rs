//! A step of a connection in the words of the schema.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value, json};

use super::{About, Version};
use crate::watch::event::transport::{Cause, Rule, Step};

/// Probes of the datagram's size that may still be lost: one at a time is under way, and what is lost is
/// told within some round trips.
const PROBES: usize = 16;

/// Turns steps into the schema's events.
pub(super) struct Words {
    version: Version,
    began: Instant,
    /// Whole events that are not written yet.
    pub(super) out: Vec<u8>,
    /// The newest event's time, ms: no later event of the file is told with an earlier time.
    time: f64,
    phase: Option<&'static str>,
    /// A packet that came and what it acknowledges.
    received: Option<(f64, u64, u16)>,
    acknowledged: Vec<u64>,
    tuples: u64,
    /// The newest packets that tried a size of datagrams.
    probes: VecDeque<u64>,
}

impl Words {
    pub(super) fn new(version: Version, began: Instant) -> Self {
        Self {
            version,
            began,
            out: Vec::new(),
            time: 0.0,
            phase: None,
            received: None,
            acknowledged: Vec::new(),
            tuples: 0,
            probes: VecDeque::new(),
        }
    }

    pub(super) fn head(&mut self, about: &About) {
        let since = about.began.elapsed();
        let wall = SystemTime::now()
            .checked_sub(since)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let title = format!("labnet: {}", about.name);
        let description = format!(
            "labnet {}: RUDP with {}, sent by {}",
            env!("CARGO_PKG_VERSION"),
            about.remote,
            about.congestion
        );
        let group = format!("{:016x}", about.cid);
        let vantage = json!({ "name": "labnet", "type": about.side.name() });
        let head = match self.version {
            Version::Draft13 => json!({
                "file_schema": "urn:ietf:params:qlog:file:sequential",
                "serialization_format": "application/qlog+json-seq",
                "title": title,
                "description": description,
                "trace": {
                    "common_fields": {
                        "group_id": group,
                        "protocol_types": ["RUDP"],
                        "time_format": "relative_to_epoch",
                        "reference_time": {
                            "clock_type": "monotonic",
                            "epoch": "unknown",
                            "wall_clock_time": humantime::format_rfc3339_millis(wall).to_string(),
                        },
                    },
                    "vantage_point": vantage,
                    "event_schemas": [
                        "urn:ietf:params:qlog:events:quic-12",
                        "urn:ietf:params:qlog:events:loglevel-13",
                    ],
                },
            }),
            Version::V0_3 => json!({
                "qlog_version": "0.3",
                "qlog_format": "JSON-SEQ",
                "title": title,
                "description": description,
                "trace": {
                    "common_fields": {
                        "group_id": group,
                        "ODCID": group,
                        "protocol_type": ["RUDP"],
                        "time_format": "relative",
                        "reference_time": wall
                            .duration_since(SystemTime::UNIX_EPOCH)
                            .map_or(0.0, millis),
                    },
                    "vantage_point": vantage,
                },
            }),
        };
        self.record(&head);
    }

    fn record(&mut self, value: &Value) {
        self.out.push(0x1e);
        // Into memory, of values that all have a form in JSON.
        let _ = serde_json::to_writer(&mut self.out, value);
        self.out.push(b'\n');
    }

    /// An event by its names in both versions.
    fn event(&mut self, time: f64, names: (&str, &str), data: Value) {
        self.time = self.time.max(time);
        let name = match self.version {
            Version::Draft13 => names.0,
            Version::V0_3 => names.1,
        };
        self.record(&json!({ "time": self.time, "name": name, "data": data }));
    }

    fn info(&mut self, time: f64, message: String) {
        let data = json!({ "message": message });
        self.event(time, ("loglevel:info", "generic:info"), data);
    }

    pub(super) fn warn(&mut self, message: &str) {
        let data = json!({ "message": message });
        self.event(self.time, ("loglevel:warning", "generic:warning"), data);
    }

    pub(super) fn missing(&mut self, events: u64) {
        self.flush();
        self.warn(&format!(
            "{events} events are missing here: they could not be written"
        ));
    }

    /// Writes the packet that came last, with all that it acknowledged.
    pub(super) fn flush(&mut self) {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let received = self.received.take();
        let time = received.map_or(self.time, |(time, ..)| time);
        if let Some((time, number, size)) = received {
            let mut data = packet(number, size);
            if self.version == Version::V0_3 && !acknowledged.is_empty() {
                let ranges = ranges(&acknowledged);
                let ack = json!({ "frame_type": "ack", "acked_ranges": ranges });
                data.insert("frames".to_owned(), json!([ack]));
            }
            let names = ("quic:packet_received", "transport:packet_received");
            self.event(time, names, data.into());
        }
        if self.version == Version::Draft13 && !acknowledged.is_empty() {
            let data = json!({
                "packet_number_space": "application_data",
                "packet_numbers": acknowledged,
            });
            self.event(time, ("quic:packets_acked", ""), data);
        }
    }

    pub(super) fn step(&mut self, now: Instant, step: &Step) {
        let time = millis(now.saturating_duration_since(self.began));
        match *step {
            // The connection tells what a packet acknowledges right behind the packet itself.
            Step::Acknowledged { number, .. } => {
                self.acknowledged.push(number);
                return;
            }
            Step::Received { number, size } => {
                self.flush();
                self.received = Some((time, number, size));
                return;
            }
            _ => self.flush(),
        }
        match *step {
            Step::Acknowledged { .. } | Step::Received { .. } => {}
            Step::Sent(sent) => {
                let mut data = packet(sent.number, sent.size);
                if sent.probe {
                    if self.probes.len() == PROBES {
                        self.probes.pop_front();
                    }
                    self.probes.push_back(sent.number);
                    data.insert("is_mtu_probe_packet".to_owned(), true.into());
                }
                let names = ("quic:packet_sent", "transport:packet_sent");
                self.event(time, names, data.into());
            }
            Step::Lost(lost) => {
                let trigger = match lost.rule {
                    Rule::PacketThreshold { .. } => "reordering_threshold",
                    Rule::TimeThreshold { .. } => "time_threshold",
                };
                let mut data = packet(lost.number, lost.size);
                // The schema has no key for the packet's size in this event.
                data.remove("raw");
                data.insert("trigger".to_owned(), trigger.into());
                if self.probes.contains(&lost.number) {
                    data.insert("is_mtu_probe_packet".to_owned(), true.into());
                }
                let names = ("quic:packet_lost", "recovery:packet_lost");
                self.event(time, names, data.into());
            }
            Step::Unsent { number, size, .. } => self.info(
                time,
                format!("packet {number} of {size} bytes has not left: the first link is narrower"),
            ),
            Step::Spurious(late) => {
                self.info(time, format!("packet {} was late, not lost", late.number))
            }
            Step::ProbeTimeout { count } => self.metrics(time, json!({ "pto_count": count })),
            Step::State(state) => {
                let mut data = json!({
                    "min_rtt": millis(state.min_rtt),
                    "smoothed_rtt": millis(state.smoothed_rtt),
                    "latest_rtt": millis(state.latest_rtt),
                    "congestion_window": state.window,
                    "bytes_in_flight": state.in_flight,
                    // The schema counts rates in bits a second.
                    "pacing_rate": state.pacing_rate.saturating_mul(8),
                });
                if let Some(ssthresh) = state.ssthresh {
                    data["ssthresh"] = ssthresh.into();
                }
                self.metrics(time, data);
                self.phase(time, state.phase, None);
            }
            Step::Window(change) => {
                let mut data = json!({
                    "congestion_window": change.after,
                    "bytes_in_flight": change.in_flight,
                });
                if let Some(ssthresh) = change.ssthresh {
                    data["ssthresh"] = ssthresh.into();
                }
                self.metrics(time, data);
                let trigger = match change.cause {
                    Cause::Persistent(_) => Some("persistent_congestion"),
                    Cause::Marked { .. } => Some("ecn"),
                    _ => None,
                };
                self.phase(time, change.phase, trigger);
            }
            Step::Mtu { before, after } => match self.version {
                Version::Draft13 => {
                    let data = json!({ "old": before, "new": after });
                    self.event(time, ("quic:mtu_updated", ""), data);
                }
                Version::V0_3 => self.info(
                    time,
                    format!("datagrams have {after} bytes from here on, {before} before"),
                ),
            },
            Step::Address { to, .. } => match self.version {
                Version::Draft13 => {
                    self.tuples += 1;
                    let remote = match to {
                        SocketAddr::V4(to) => {
                            json!({ "ip_v4": to.ip().to_string(), "port_v4": to.port() })
                        }
                        SocketAddr::V6(to) => {
                            json!({ "ip_v6": to.ip().to_string(), "port_v6": to.port() })
                        }
                    };
                    let data =
                        json!({ "tuple_id": self.tuples.to_string(), "tuple_remote": remote });
                    self.event(time, ("quic:tuple_assigned", ""), data);
                }
                Version::V0_3 => self.info(time, format!("the peer is at {to} from here on")),
            },
        }
    }

    fn metrics(&mut self, time: f64, data: Value) {
        let names = ("quic:recovery_metrics_updated", "recovery:metrics_updated");
        self.event(time, names, data);
    }

    fn phase(&mut self, time: f64, phase: &'static str, trigger: Option<&str>) {
        let before = self.phase.replace(phase);
        if before == Some(phase) {
            return;
        }
        let mut data = json!({ "new": phase });
        if let Some(before) = before {
            data["old"] = before.into();
        }
        if let Some(trigger) = trigger {
            data["trigger"] = trigger.into();
        }
        let names = (
            "quic:congestion_state_updated",
            "recovery:congestion_state_updated",
        );
        self.event(time, names, data);
    }
}

fn packet(number: u64, size: u16) -> Map<String, Value> {
    let mut data = Map::new();
    let header = json!({ "packet_type": "1RTT", "packet_number": number });
    data.insert("header".to_owned(), header);
    data.insert("raw".to_owned(), json!({ "length": size }));
    data
}

/// Packet numbers in any order as ranges, both ends included.
fn ranges(numbers: &[u64]) -> Vec<[u64; 2]> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == number => *last = number,
            _ => ranges.push([number, number]),
        }
    }
    ranges
}

/// Milliseconds, whole microseconds of them.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
