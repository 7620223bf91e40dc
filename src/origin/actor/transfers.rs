//! Files on their way to HTTP clients, and the last that were.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prometheus::IntGauge;

use super::{
    ended::{Ended, EndedTransfers},
    transfer::{KIND, TRANSFER, Transfer},
};
use crate::{
    http::Wire,
    role::api,
    statistic::{fields, sample, series},
    telemetry::{Metrics, OpenSeries, SessionKind, TRANSFER as PREFIX},
};

/// Files on their way, and the last that were.
pub(super) struct Transfers {
    under_way: Mutex<BTreeMap<u64, Arc<Transfer>>>,
    ended: EndedTransfers,
    next: AtomicU64,
    kind: SessionKind,
    metrics: Arc<Metrics>,
}

/// A file on its way, until it is dropped.
pub(super) struct Sending {
    transfers: Arc<Transfers>,
    transfer: Arc<Transfer>,
    number: u64,
    by: IntGauge,
    _series: Option<OpenSeries>,
}

impl Transfers {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            ended: EndedTransfers::default(),
            next: AtomicU64::new(0),
            kind: metrics.session_series.kind(KIND, PREFIX, series(TRANSFER)),
            metrics: Arc::clone(metrics),
        })
    }

    /// A file begins its way over `wire`.
    pub(super) fn begin(
        self: &Arc<Self>,
        client: SocketAddr,
        wire: Wire,
        congestion: String,
        (file, length): (String, u64),
    ) -> Sending {
        let by = (self.metrics.origin_transfers).with_label_values(&[&congestion]);
        by.inc();
        self.ended.another_on(client);
        let before = wire.passed().map(|(passed, _)| passed);
        let transfer = Arc::new(Transfer {
            client,
            wire,
            file,
            length,
            congestion,
            began: Instant::now(),
            before,
            sent: AtomicU64::new(0),
        });
        let read = Arc::clone(&transfer);
        let series = self
            .kind
            .open(client.ip().to_string(), client.to_string(), move || {
                sample(TRANSFER, &read.stands()).collect()
            });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.under_way().insert(number, Arc::clone(&transfer));
        Sending {
            transfers: Arc::clone(self),
            transfer,
            number,
            by,
            _series: series,
        }
    }

    /// Those under way, in the order of their beginnings.
    pub(super) fn list(&self) -> Vec<api::SessionEntry> {
        let under_way: Vec<Arc<Transfer>> = self.under_way().values().cloned().collect();
        let described = under_way.iter().map(|transfer| api::SessionEntry {
            kind: KIND.to_owned(),
            client: transfer.client,
            name: String::new(),
            connection_id: None,
            statistics: fields(TRANSFER, &transfer.stands()),
        });
        described.collect()
    }

    /// The last that are over, the last first.
    pub(super) fn ended(&self) -> Vec<api::EndedTransfer> {
        self.ended.list()
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Transfer>>> {
        // Whole between any two calls.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// Counts bytes that went on their way.
    pub(super) fn sent(&self, bytes: usize) {
        self.transfer
            .sent
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.by.dec();
        self.transfers.under_way().remove(&self.number);
        let ended = Ended::now(Arc::clone(&self.transfer));
        self.transfers.ended.note(ended);
    }
}
