use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    IntCounter, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::watch::dropped::Dropped;

/// What observers of one kind have dropped, read whenever somebody asks.
#[derive(Clone)]
pub struct DroppedTotal(Arc<Shared>);

struct Shared {
    /// Held while it is brought up to date: several may ask at once.
    counter: Mutex<IntCounter>,
    desc: Vec<Desc>,
    of: &'static Dropped,
}

impl DroppedTotal {
    pub(super) fn new(opts: Opts, of: &'static Dropped) -> prometheus::Result<Self> {
        let counter = IntCounter::with_opts(opts)?;
        Ok(Self(Arc::new(Shared {
            desc: counter.desc().into_iter().cloned().collect(),
            counter: Mutex::new(counter),
            of,
        })))
    }
}

impl Collector for DroppedTotal {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counter = self.0.counter.lock();
        let counter = counter.unwrap_or_else(PoisonError::into_inner);
        counter.inc_by(self.0.of.count().saturating_sub(counter.get()));
        counter.collect()
    }
}
