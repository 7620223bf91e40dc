//! Counts what becomes of TCP connections.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::{Observer, Places, Refusal};
use crate::{config, net::Purpose, telemetry::Metrics};

/// A component's counters.
struct Counters {
    open: IntGauge,
    address_full: IntCounter,
    full: IntCounter,
    descriptors: IntCounter,
    made_room: IntCounter,
    slow: IntCounter,
    timeout: IntCounter,
}

impl Metrics {
    /// The places for a component's TCP connections, counted from zero on.
    pub fn places(
        &self,
        component: &str,
        limits: config::ConnectionLimits,
        purpose: Purpose,
    ) -> Arc<Places> {
        let closed = |reason| {
            self.connections_closed
                .with_label_values(&[component, reason])
        };
        let counters = Counters {
            open: self.connections.with_label_values(&[component]),
            address_full: closed("address_full"),
            full: closed("full"),
            descriptors: closed("descriptors"),
            made_room: closed("made_room"),
            slow: closed("slow"),
            timeout: closed("timeout"),
        };
        Places::new(limits, purpose, Arc::new(counters))
    }
}

impl Observer for Counters {
    fn opened(&self) {
        self.open.inc();
    }

    fn closed(&self) {
        self.open.dec();
    }

    fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::AddressFull { .. } => self.address_full.inc(),
            Refusal::Full { .. } => self.full.inc(),
            Refusal::Descriptors => self.descriptors.inc(),
        }
    }

    fn made_room(&self) {
        self.made_room.inc();
    }

    fn slow(&self) {
        self.slow.inc();
    }

    fn timed_out(&self) {
        self.timeout.inc();
    }
}
