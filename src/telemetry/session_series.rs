use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use prometheus::{
    IntCounterVec,
    core::{AtomicU64, Collector, Desc, GenericCounter},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::statistic::{Described, Series};

/// Sessions of one kind that have series of their own at once.
const WITH_SERIES: usize = 64;

/// The series of sessions and transfers. Each is of one `client` and one `connection`: names repeat,
/// connections do not. They end with the session; beyond 64 of a kind a session has none, which is
/// counted.
#[derive(Clone)]
pub struct SessionSeries(Arc<Inner>);

struct Inner {
    /// What their roles hold: a role that is gone has no sessions.
    kinds: Mutex<Vec<Weak<Kind>>>,
    without: IntCounterVec,
}

/// The sessions of one kind.
pub struct SessionKind(Arc<Kind>);

struct Kind {
    /// Names and what they mean, in the order of the values.
    families: Vec<(String, Described)>,
    shown: Mutex<Shown>,
    without: GenericCounter<AtomicU64>,
}

#[derive(Default)]
struct Shown {
    next: u64,
    sessions: BTreeMap<u64, Session>,
}

struct Session {
    client: String,
    connection: String,
    read: Box<dyn Fn() -> Vec<f64> + Send>,
}

/// The series of one session, which end when it is dropped.
pub struct OpenSeries {
    kind: Weak<Kind>,
    number: u64,
}

impl SessionSeries {
    /// None yet; `without` counts those that get none.
    pub(super) fn new(without: IntCounterVec) -> Self {
        Self(Arc::new(Inner {
            kinds: Mutex::default(),
            without,
        }))
    }

    /// A kind of session whose series are told in `described`, named after `prefix`.
    pub fn kind(&self, kind: &str, prefix: &str, described: Vec<Described>) -> SessionKind {
        let named = |described: Described| (described.name(prefix), described);
        let made = Arc::new(Kind {
            families: described.into_iter().map(named).collect(),
            shown: Mutex::default(),
            without: self.0.without.with_label_values(&[kind]),
        });
        lock(&self.0.kinds).push(Arc::downgrade(&made));
        SessionKind(made)
    }
}

impl SessionKind {
    /// The series of a new session, if there is room for them: `read` gives the values in the order of
    /// what was described, NaN for what there is not.
    pub fn open(
        &self,
        client: String,
        connection: String,
        read: impl Fn() -> Vec<f64> + Send + 'static,
    ) -> Option<OpenSeries> {
        let mut shown = lock(&self.0.shown);
        if shown.sessions.len() >= WITH_SERIES {
            self.0.without.inc();
            return None;
        }
        let number = shown.next;
        shown.next += 1;
        let session = Session {
            client,
            connection,
            read: Box::new(read),
        };
        shown.sessions.insert(number, session);
        Some(OpenSeries {
            kind: Arc::downgrade(&self.0),
            number,
        })
    }
}

impl Drop for OpenSeries {
    fn drop(&mut self) {
        if let Some(kind) = self.kind.upgrade() {
            let ended = lock(&kind.shown).sessions.remove(&self.number);
            // What it reads from may end with it, which nobody has to wait for.
            drop(ended);
        }
    }
}

impl Kind {
    fn collect(&self) -> Vec<MetricFamily> {
        let shown = lock(&self.shown);
        let read = shown
            .sessions
            .values()
            .map(|session| (session, (session.read)()));
        let read: Vec<(&Session, Vec<f64>)> = read.collect();
        let families = self.families.iter().enumerate();
        families
            .map(|(at, (name, described))| {
                let values = read.iter().filter_map(|(session, values)| {
                    let value = values.get(at).copied().filter(|value| !value.is_nan())?;
                    Some(session.metric(described.series, value))
                });
                let mut family = MetricFamily::default();
                family.set_name(name.clone());
                family.set_help(described.help.to_owned());
                family.set_field_type(match described.series {
                    Series::Gauge => MetricType::GAUGE,
                    Series::Counter => MetricType::COUNTER,
                });
                family.set_metric(values.collect());
                family
            })
            .collect()
    }
}

impl Session {
    fn metric(&self, series: Series, value: f64) -> Metric {
        let label = |name: &str, value: &str| {
            let mut label = LabelPair::default();
            label.set_name(name.to_owned());
            label.set_value(value.to_owned());
            label
        };
        let mut metric = Metric::from_label(vec![
            label("client", &self.client),
            label("connection", &self.connection),
        ]);
        match series {
            Series::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Series::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
        }
        metric
    }
}

impl Collector for SessionSeries {
    /// None: what there is, roles say later.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut kinds = lock(&self.0.kinds);
        kinds.retain(|kind| kind.strong_count() > 0);
        let live: Vec<Arc<Kind>> = kinds.iter().filter_map(Weak::upgrade).collect();
        drop(kinds);
        live.iter().flat_map(|kind| kind.collect()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two statements that change it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn described(key: &'static str, series: Series) -> Described {
        let help = "what it says";
        Described { key, help, series }
    }

    #[test]
    fn two_of_one_name_are_two_and_each_ends_alone() {
        let metrics = Metrics::new();
        let described = vec![
            described("window_bytes", Series::Gauge),
            described("packets_lost", Series::Counter),
        ];
        let kind = metrics
            .session_series
            .kind("transport", "labnet_rudp_session_", described);
        let open = |connection: &str, values: [f64; 2]| {
            kind.open("Tal".into(), connection.into(), move || values.to_vec())
                .expect("there is room")
        };
        let first = open("1a", [14_728.0, 3.0]);
        let _second = open("2b", [72_010.0, f64::NAN]);
        let shown = metrics.render();
        for line in [
            "# TYPE labnet_rudp_session_packets_lost_total counter",
            "labnet_rudp_session_window_bytes{client=\"Tal\",connection=\"1a\"} 14728",
            "labnet_rudp_session_window_bytes{client=\"Tal\",connection=\"2b\"} 72010",
            "labnet_rudp_session_packets_lost_total{client=\"Tal\",connection=\"1a\"} 3",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        assert_eq!(shown.matches("connection=\"2b\"").count(), 1, "none of NaN");
        drop(first);
        assert!(!metrics.render().contains("connection=\"1a\""));
        drop(kind);
        assert!(!metrics.render().contains("labnet_rudp_session_"));
    }

    #[test]
    fn beyond_the_cap_they_are_counted() {
        let metrics = Metrics::new();
        let described = vec![described("window", Series::Gauge)];
        let kind = metrics
            .session_series
            .kind("signals", "labnet_rudp_session_", described);
        let open = |n: usize| kind.open("Tal".into(), n.to_string(), || vec![1.0]);
        let mut open_now: Vec<_> = (0..WITH_SERIES + 3).map(open).collect();
        let shown = metrics.render();
        assert_eq!(
            shown.matches("labnet_rudp_session_window{").count(),
            WITH_SERIES
        );
        assert!(shown.contains("labnet_sessions_without_series_total{kind=\"signals\"} 3"));
        assert!(shown.contains("labnet_sessions_without_series_total{kind=\"http\"} 0"));
        open_now.remove(0);
        assert!(open(100).is_some(), "one that ended has made room");
    }
}
