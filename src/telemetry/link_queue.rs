use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::link::{LinkControl, Way};

/// `labnet_link_queued_bytes{direction}`, read from a link whenever somebody asks.
#[derive(Clone)]
pub struct LinkQueue(Arc<Shared>);

struct Shared {
    series: IntGaugeVec,
    watched: Mutex<Option<LinkControl>>,
}

impl LinkQueue {
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let this = Self(Arc::new(Shared {
            series: IntGaugeVec::new(Opts::new(name, help), &["direction"])?,
            watched: Mutex::new(None),
        }));
        this.set(0, 0);
        Ok(this)
    }

    /// Tells a new link's queue from now on.
    pub fn watch(&self, link: LinkControl) {
        *self.watched() = Some(link);
    }

    fn set(&self, up: u64, down: u64) {
        for (direction, bytes) in [("up", up), ("down", down)] {
            let series = self.0.series.with_label_values(&[direction]);
            series.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    fn watched(&self) -> MutexGuard<'_, Option<LinkControl>> {
        let watched = self.0.watched.lock();
        watched.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for LinkQueue {
    fn desc(&self) -> Vec<&Desc> {
        self.0.series.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(link) = &*self.watched() {
            let [up, down] = Way::BOTH.map(|way| link.queued_bytes(way));
            self.set(up, down);
        }
        self.0.series.collect()
    }
}
