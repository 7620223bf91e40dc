//! The role's metrics.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::{
    dns::{Ignored, Outcome, Rcode, RecordType, Transport},
    telemetry::{Metrics, labels},
};

labels! {
    /// Why a message gets no answer: `labnet_dns_dropped_total`.
    pub(super) Dropped {
        Short = "short",
        Response = "response",
        PortZero = "port_zero",
        Send = "send",
        TcpTimeout = "tcp_timeout",
    }
}

impl From<Ignored> for Dropped {
    fn from(ignored: Ignored) -> Self {
        match ignored {
            Ignored::Short => Self::Short,
            Ignored::Response => Self::Response,
        }
    }
}

/// Counts, with what is hot taken out of its vector.
#[derive(Clone)]
pub(super) struct Counters {
    /// By transport, then by type in the order of [`TYPES`], the last for all others.
    queries: [[IntCounter; TYPES.len() + 1]; 2],
    /// In the order of [`RCODES`].
    responses: [IntCounter; RCODES.len()],
    dropped: [IntCounter; Dropped::ALL.len()],
    pub(super) metrics: Arc<Metrics>,
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
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let queries = |transport: &str| {
            std::array::from_fn(|index| {
                let rtype = TYPES.get(index).map_or("other", |(_, label)| label);
                metrics.dns_queries.with_label_values(&[transport, rtype])
            })
        };
        let dropped = |reason: Dropped| (metrics.dns_dropped).with_label_values(&[reason.label()]);
        Self {
            queries: [queries("udp"), queries("tcp")],
            responses: RCODES.map(|(_, label)| metrics.dns_responses.with_label_values(&[label])),
            dropped: Dropped::ALL.map(dropped),
            metrics,
        }
    }

    /// Of messages that get no answer.
    pub(super) fn dropped(&self, reason: Dropped) -> &IntCounter {
        &self.dropped[reason as usize]
    }

    pub(super) fn count(&self, transport: Transport, outcome: Outcome) {
        match outcome {
            Outcome::Ignored(reason) => self.dropped(reason.into()).inc(),
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
                    self.metrics.dns_truncated.inc();
                }
            }
        }
    }
}
