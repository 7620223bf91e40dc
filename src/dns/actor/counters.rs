use prometheus::{IntCounter, IntGauge};

use crate::telemetry::Metrics;

use crate::dns::{Ignored, Outcome, Rcode, RecordType, Transport};

/// The DNS server's counters, looked up once: the hot path only adds.
#[derive(Clone)]
pub(super) struct Counters {
    /// By transport, then by type in the order of [`TYPES`], the last for all others.
    queries: [[IntCounter; TYPES.len() + 1]; 2],
    /// In the order of [`RCODES`].
    responses: [IntCounter; RCODES.len()],
    short: IntCounter,
    response: IntCounter,
    truncated: IntCounter,
    pub(super) port_zero: IntCounter,
    pub(super) send: IntCounter,
    pub(super) tcp_timeout: IntCounter,
    pub(super) tcp_connections: IntGauge,
}

const TYPES: [(RecordType, &str); 8] = [
    (RecordType::A, "a"),
    (RecordType::AAAA, "aaaa"),
    (RecordType::CNAME, "cname"),
    (RecordType::MX, "mx"),
    (RecordType::NS, "ns"),
    (RecordType::PTR, "ptr"),
    (RecordType::SOA, "soa"),
    (RecordType::TXT, "txt"),
];

const RCODES: [(Rcode, &str); 6] = [
    (Rcode::NoError, "noerror"),
    (Rcode::FormErr, "formerr"),
    (Rcode::NxDomain, "nxdomain"),
    (Rcode::NotImp, "notimp"),
    (Rcode::Refused, "refused"),
    (Rcode::BadVers, "badvers"),
];

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let queries = |transport: &str| {
            std::array::from_fn(|index| {
                let rtype = TYPES.get(index).map_or("other", |(_, label)| label);
                metrics.dns_queries.with_label_values(&[transport, rtype])
            })
        };
        let dropped = |reason: &str| metrics.dns_dropped.with_label_values(&[reason]);
        Self {
            queries: [queries("udp"), queries("tcp")],
            responses: RCODES.map(|(_, label)| metrics.dns_responses.with_label_values(&[label])),
            short: dropped("short"),
            response: dropped("response"),
            truncated: metrics.dns_truncated.clone(),
            port_zero: dropped("port_zero"),
            send: dropped("send"),
            tcp_timeout: dropped("tcp_timeout"),
            tcp_connections: metrics.dns_tcp_connections.clone(),
        }
    }

    pub(super) fn count(&self, transport: Transport, outcome: Outcome) {
        match outcome {
            Outcome::Ignored(Ignored::Short) => self.short.inc(),
            Outcome::Ignored(Ignored::Response) => self.response.inc(),
            Outcome::Answered {
                rcode,
                qtype,
                truncated,
            } => {
                let rtype = TYPES.iter().position(|(rtype, _)| Some(*rtype) == qtype);
                self.queries[transport as usize][rtype.unwrap_or(TYPES.len())].inc();
                let rcode = RCODES.iter().position(|(code, _)| *code == rcode);
                if let Some(counter) = rcode.and_then(|index| self.responses.get(index)) {
                    counter.inc();
                }
                if truncated {
                    self.truncated.inc();
                }
            }
        }
    }
}
