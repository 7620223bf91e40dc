//! What observers have missed because they were too slow.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, Opts};

/// The observers that are counted here. Captures have a counter of their own, in packets.
const OBSERVERS: [&str; 3] = [EVENTS, LOG, QLOG];

/// `--events FILE`.
pub const EVENTS: &str = "events";
/// The log's packets.
pub const LOG: &str = "log";
/// `--qlog FOLDER`.
pub const QLOG: &str = "qlog";

/// `labnet_watch_dropped_total`: by observer, the events that never came into what it writes.
pub static WATCH_DROPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new(
        "labnet_watch_dropped_total",
        "Events that an observer has missed because it was too slow, by observer",
    );
    // A fixed name, help and label make a counter.
    #[expect(clippy::expect_used, reason = "the name is valid")]
    let counter = IntCounterVec::new(opts, &["observer"]).expect("a valid name");
    for observer in OBSERVERS {
        counter.with_label_values(&[observer]);
    }
    counter
});

/// Counts what an observer has missed.
pub(super) fn count(observer: &str, events: u64) {
    if events > 0 && OBSERVERS.contains(&observer) {
        WATCH_DROPPED.with_label_values(&[observer]).inc_by(events);
    }
}
