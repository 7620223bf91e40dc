//! Rates from what the service has counted: the difference of two polls over the time between them.

use std::collections::HashMap;

use serde_json::Value;

use super::spark::{Piece, Trail};
use crate::role::api::SessionEntry;

/// What tells a session from the others: its kind, and its connection or, where it has none, its client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    kind: String,
    whose: String,
}

impl Identity {
    fn of(session: &SessionEntry) -> Self {
        let client = || session.client.to_string();
        Self {
            kind: session.kind.clone(),
            whose: session.connection_id.clone().unwrap_or_else(client),
        }
    }
}

/// A session as it stands, with what it did since the poll before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) identity: Identity,
    /// The client's name; of a file over HTTP the file's.
    pub(super) name: String,
    pub(super) client: String,
    /// By which the API knows a connection.
    pub(super) connection: Option<String>,
    /// `cubic`, `tcp-cubic`; of a session of the signals `signals`.
    pub(super) control: String,
    pub(super) phase: Option<String>,
    /// Bits a second that the client has acknowledged, each once; `None`: not known yet, or never of its kind.
    pub(super) goodput: Option<f64>,
    pub(super) window: Option<Window>,
    /// Bytes.
    pub(super) in_flight: Option<u64>,
    /// Seconds.
    pub(super) rtt: Option<f64>,
    pub(super) min_rtt: Option<f64>,
    pub(super) lost: Option<u64>,
    /// Packets that carried something again.
    pub(super) again: Option<u64>,
    /// Of these two, how many since the poll before.
    pub(super) lost_since: u64,
    pub(super) again_since: u64,
    /// Seconds since it began.
    pub(super) age: f64,
    /// Everything that is told of it.
    pub(super) session: SessionEntry,
}

/// How much may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Window {
    Signals(u64),
    Bytes(u64),
}

/// What the service as a whole has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    /// Bytes of the transport's streams that clients have acknowledged, each once.
    pub(super) rudp_out: f64,
    /// And that came from them.
    pub(super) rudp_in: f64,
    /// Bytes of files that the built-in origin has sent.
    pub(super) http_out: f64,
    /// Packets that the link before the proxy has lost, to the clients and from them.
    pub(super) link_lost: [u64; 2],
}

/// The same in bits a second; of the link packets since the poll before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TotalRates {
    pub(super) rudp_out: f64,
    pub(super) rudp_in: f64,
    pub(super) http_out: f64,
    pub(super) link_lost: [u64; 2],
}

/// What was counted at one time of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counted {
    /// By the service's clock, after the session's beginning.
    age: f64,
    acknowledged: Option<u64>,
    lost: Option<u64>,
    again: Option<u64>,
}

#[derive(Debug, Clone)]
struct Known {
    counted: Counted,
    goodput: Option<f64>,
    lost_since: u64,
    again_since: u64,
    trail: Trail,
}

/// Remembers of each session that is shown what it had counted, and its last minute; of others nothing.
#[derive(Debug, Default)]
pub(super) struct Meter {
    known: HashMap<Identity, Known>,
    /// With the time of that poll.
    totals: Option<(f64, Totals)>,
    total_rates: Option<TotalRates>,
}

impl Meter {
    /// Takes what a poll at `now` seconds (of any one clock) tells, and gives the rows in the same order. A rate
    /// is told anew where `least` seconds have passed.
    pub(super) fn rows(&mut self, sessions: Vec<SessionEntry>, now: f64, least: f64) -> Vec<Row> {
        let mut before = std::mem::take(&mut self.known);
        sessions
            .into_iter()
            .map(|session| {
                let identity = Identity::of(&session);
                let counted = Counted::of(&session);
                let known = match before.remove(&identity) {
                    Some(known) => known.then(counted, now, least),
                    None => Known::new(counted, now),
                };
                let row = Row::of(session, identity.clone(), &known);
                self.known.insert(identity, known);
                row
            })
            .collect()
    }

    /// The last minute's goodput of a session that the last poll told of.
    pub(super) fn trail(&self, identity: &Identity) -> Option<&Trail> {
        self.known.get(identity).map(|known| &known.trail)
    }

    /// Takes what the whole service has counted by `now`, as [`rows`](Self::rows) does; `None`: no rate is known
    /// yet, or the service began anew.
    pub(super) fn totals(&mut self, totals: Totals, now: f64, least: f64) -> Option<TotalRates> {
        let Some((at, before)) = self.totals else {
            self.totals = Some((now, totals));
            return None;
        };
        let seconds = now - at;
        if seconds < least {
            return self.total_rates;
        }
        self.totals = Some((now, totals));
        let fell = |count: fn(&Totals) -> f64| count(&totals) < count(&before);
        let anew = fell(|it| it.rudp_out) || fell(|it| it.rudp_in) || fell(|it| it.http_out);
        let rate = |count: fn(&Totals) -> f64| (count(&totals) - count(&before)) * 8.0 / seconds;
        let lost = |way: usize| totals.link_lost[way].saturating_sub(before.link_lost[way]);
        self.total_rates = (!anew).then(|| TotalRates {
            rudp_out: rate(|it| it.rudp_out),
            rudp_in: rate(|it| it.rudp_in),
            http_out: rate(|it| it.http_out),
            link_lost: [lost(0), lost(1)],
        });
        self.total_rates
    }
}

impl Counted {
    fn of(session: &SessionEntry) -> Self {
        let count = |keys: &[&str]| keys.iter().find_map(|key| whole(session, key));
        Self {
            age: seconds(session, "connected_seconds").unwrap_or(0.0),
            acknowledged: count(&["stream_bytes_acknowledged", "bytes_acknowledged"]),
            lost: count(&["packets_lost", "lost"]),
            again: count(&[
                "packets_retransmitted",
                "segments_retransmitted",
                "repeated",
            ]),
        }
    }

    /// Whether this can't have come after `before`: another session has its place.
    fn is_anew(&self, before: &Self) -> bool {
        self.age < before.age || self.acknowledged < before.acknowledged
    }
}

impl Known {
    /// A session is seen for the first time: its rate is its mean since its beginning, if that was of late.
    fn new(counted: Counted, now: f64) -> Self {
        let mut trail = Trail::default();
        let young = counted.age > 0.05 && counted.age <= YOUNG;
        let goodput = counted.acknowledged.filter(|_| young);
        let goodput = goodput.map(|bytes| bytes as f64 * 8.0 / counted.age);
        if let Some(value) = goodput {
            trail.push(Piece {
                from: now - counted.age,
                to: now,
                value,
            });
        }
        Self {
            counted,
            goodput,
            lost_since: 0,
            again_since: 0,
            trail,
        }
    }

    fn then(self, counted: Counted, now: f64, least: f64) -> Self {
        if counted.is_anew(&self.counted) {
            return Self::new(counted, now);
        }
        let elapsed = counted.age - self.counted.age;
        if elapsed < least {
            return self;
        }
        let since = |now: Option<u64>, before: Option<u64>| {
            now.unwrap_or(0).saturating_sub(before.unwrap_or(0))
        };
        let acknowledged = counted.acknowledged.zip(self.counted.acknowledged);
        let goodput = acknowledged.map(|(now, before)| (now - before) as f64 * 8.0 / elapsed);
        let mut trail = self.trail;
        if let Some(value) = goodput {
            trail.push(Piece {
                from: now - elapsed,
                to: now,
                value,
            });
        }
        Self {
            goodput,
            lost_since: since(counted.lost, self.counted.lost),
            again_since: since(counted.again, self.counted.again),
            counted,
            trail,
        }
    }
}

/// Of a session that is not older the mean since its beginning is told when it is seen first.
const YOUNG: f64 = 10.0;

impl Row {
    fn of(session: SessionEntry, identity: Identity, known: &Known) -> Self {
        let word = |key: &str| {
            let word = session.statistics.get(key).and_then(Value::as_str);
            word.map(str::to_owned)
        };
        let control = match &*session.kind {
            "http" => word("congestion").map(|name| format!("tcp-{name}")),
            "signals" => None,
            _ => word("congestion"),
        };
        let window = whole(&session, "window_bytes").map(Window::Bytes);
        let name = match word("file") {
            Some(file) if session.name.is_empty() => file,
            _ => session.name.clone(),
        };
        Self {
            identity,
            name,
            client: session.client.to_string(),
            connection: session.connection_id.clone(),
            control: control.unwrap_or_else(|| session.kind.clone()),
            phase: word("phase"),
            goodput: known.goodput,
            window: window.or_else(|| whole(&session, "window").map(Window::Signals)),
            in_flight: whole(&session, "in_flight_bytes"),
            rtt: seconds(&session, "rtt_seconds"),
            min_rtt: seconds(&session, "min_rtt_seconds"),
            lost: known.counted.lost,
            again: known.counted.again,
            lost_since: known.lost_since,
            again_since: known.again_since,
            age: known.counted.age,
            session,
        }
    }
}

fn whole(session: &SessionEntry, key: &str) -> Option<u64> {
    session.statistics.get(key)?.as_u64()
}

fn seconds(session: &SessionEntry, key: &str) -> Option<f64> {
    let seconds = session.statistics.get(key)?.as_f64()?;
    seconds.is_finite().then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, age: f64, acknowledged: u64, lost: u64) -> SessionEntry {
        serde_json::from_value(serde_json::json!({
            "kind": "transport", "client": "127.0.0.1:7", "name": "Tal", "connection_id": id,
            "connected_seconds": age, "congestion": "cubic", "phase": "concave",
            "stream_bytes_acknowledged": acknowledged, "packets_lost": lost,
            "packets_retransmitted": lost + 1, "rtt_seconds": 0.05, "min_rtt_seconds": 0.04,
            "window_bytes": 1000, "in_flight_bytes": 900,
        }))
        .expect("a session")
    }

    #[test]
    fn a_rate_is_a_difference_over_the_service_s_own_time() {
        let mut meter = Meter::default();
        let rows = meter.rows(vec![session("1", 100.0, 5_000_000, 3)], 7.0, 0.5);
        assert_eq!(
            (rows[0].goodput, rows[0].lost, rows[0].lost_since),
            (None, Some(3), 0)
        );
        // The answer was 0.3 s late on its way, which the rate does not hear of.
        let rows = meter.rows(vec![session("1", 101.0, 7_500_000, 5)], 8.3, 0.5);
        assert_eq!(rows[0].goodput, Some(20e6));
        assert_eq!(
            (rows[0].lost, rows[0].lost_since, rows[0].again_since),
            (Some(5), 2, 2)
        );
        assert_eq!(rows[0].window, Some(Window::Bytes(1000)));
        // Asked again at once, it tells what it knew.
        let rows = meter.rows(vec![session("1", 101.01, 7_600_000, 5)], 8.31, 0.5);
        assert_eq!(rows[0].goodput, Some(20e6));
        let rows = meter.rows(vec![session("1", 102.0, 7_500_000, 5)], 9.3, 0.5);
        assert_eq!((rows[0].goodput, rows[0].lost_since), (Some(0.0), 0));
        let trail = meter.trail(&rows[0].identity).expect("known");
        assert_eq!(trail.draw(9.3, 60, 20e6).trim_start(), "█▁");
    }

    #[test]
    fn a_young_session_has_its_mean_and_one_in_another_s_place_begins_anew() {
        let mut meter = Meter::default();
        let rows = meter.rows(vec![session("1", 2.0, 5_000_000, 0)], 7.0, 0.5);
        assert_eq!(rows[0].goodput, Some(20e6));
        let rows = meter.rows(vec![session("1", 1.0, 250_000, 0)], 8.0, 0.5);
        assert_eq!(rows[0].goodput, Some(2e6));
    }

    #[test]
    fn nothing_is_kept_of_what_is_not_shown() {
        let mut meter = Meter::default();
        let many = (0..1000).map(|n| session(&n.to_string(), 100.0, n, 0));
        assert_eq!(meter.rows(many.collect(), 1.0, 0.5).len(), 1000);
        meter.rows(vec![session("5", 101.0, 5, 0)], 2.0, 0.5);
        assert_eq!(meter.known.len(), 1);
    }

    #[test]
    fn other_kinds_have_what_they_have() {
        let mut meter = Meter::default();
        let told = serde_json::json!([
            { "kind": "http", "client": "127.0.0.1:8", "name": "", "file": "a.zip", "congestion": "bbr",
              "connected_seconds": 20.0, "bytes_acknowledged": 10, "segments_retransmitted": 4,
              "rtt_seconds": null },
            { "kind": "signals", "client": "[::1]:9", "name": "Ada", "window": 3, "lost": 1, "repeated": 2,
              "connected_seconds": 20.0 },
        ]);
        let sessions = serde_json::from_value(told).expect("sessions");
        let rows = meter.rows(sessions, 1.0, 0.5);
        let [http, signals] = &rows[..] else {
            panic!("{rows:?}")
        };
        assert_eq!(
            (&*http.name, &*http.control, http.again),
            ("a.zip", "tcp-bbr", Some(4))
        );
        assert_eq!((http.window, http.rtt, http.lost), (None, None, None));
        assert_eq!(
            (&*signals.control, signals.window),
            ("signals", Some(Window::Signals(3)))
        );
        assert_eq!(
            (signals.lost, signals.again, signals.goodput),
            (Some(1), Some(2), None)
        );
    }

    #[test]
    fn a_service_that_began_anew_has_no_rate_for_one_interval() {
        let mut meter = Meter::default();
        let totals = |out: f64, lost: u64| Totals {
            rudp_out: out,
            link_lost: [lost, 0],
            ..Totals::default()
        };
        assert_eq!(meter.totals(totals(1e6, 5), 1.0, 0.5), None);
        let rates = meter.totals(totals(3.5e6, 7), 2.0, 0.5).expect("rates");
        assert_eq!((rates.rudp_out, rates.link_lost), (20e6, [2, 0]));
        assert_eq!(meter.totals(totals(9e9, 7), 2.1, 0.5), Some(rates));
        assert_eq!(meter.totals(totals(100.0, 0), 3.0, 0.5), None);
    }
}
