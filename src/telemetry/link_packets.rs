use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    IntCounterVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::link::{Counters, LinkControl, LinkCounters};

/// `labnet_link_packets_total{direction,fate}`, read from a link whenever somebody asks.
#[derive(Clone)]
pub struct LinkPackets(Arc<Shared>);

struct Shared {
    series: IntCounterVec,
    watched: Mutex<Option<Watched>>,
}

struct Watched {
    link: LinkControl,
    /// What it had counted when it was last looked at.
    last: LinkCounters,
}

type Count = fn(&Counters) -> u64;

/// A packet may have several fates: all were `sent`.
const FATES: [(&str, Count); 13] = [
    ("sent", |counters| counters.sent),
    ("delivered", |counters| counters.delivered),
    ("duplicated", |counters| counters.duplicated),
    ("reordered", |counters| counters.reordered),
    ("corrupted", |counters| counters.corrupted),
    ("marked", |counters| counters.marked),
    ("lost_random", |counters| counters.lost.random),
    ("lost_queue", |counters| counters.lost.queue),
    ("lost_policer", |counters| counters.lost.policer),
    ("lost_codel", |counters| counters.lost.codel),
    ("lost_red", |counters| counters.lost.red),
    ("lost_blackout", |counters| counters.lost.blackout),
    ("lost_memory", |counters| counters.lost.memory),
];

impl LinkPackets {
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let opts = Opts::new(name, help);
        let this = Self(Arc::new(Shared {
            series: IntCounterVec::new(opts, &["direction", "fate"])?,
            watched: Mutex::new(None),
        }));
        let nothing = Counters::default();
        this.add("up", &nothing, &nothing);
        this.add("down", &nothing, &nothing);
        Ok(this)
    }

    /// Counts a new link's packets from now on, on top of those of the link before it.
    pub fn watch(&self, link: LinkControl) {
        self.look();
        let watched = Watched {
            last: link.counters(),
            link,
        };
        *self.watched() = Some(watched);
    }

    /// Adds what has happened since the last look.
    fn look(&self) {
        if let Some(Watched { link, last }) = &mut *self.watched() {
            let now = link.counters();
            self.add("up", &last.up, &now.up);
            self.add("down", &last.down, &now.down);
            *last = now;
        }
    }

    fn add(&self, direction: &str, last: &Counters, now: &Counters) {
        for (fate, count) in FATES {
            let news = count(now).saturating_sub(count(last));
            let series = self.0.series.with_label_values(&[direction, fate]);
            series.inc_by(news);
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        let watched = self.0.watched.lock();
        watched.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for LinkPackets {
    fn desc(&self) -> Vec<&Desc> {
        self.0.series.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.look();
        self.0.series.collect()
    }
}
