//! What a ring holds of one session, as arrays over one axis of time: for plots.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{
    ring::{Record, Rings, Sample},
    why::{LostBy, MOST, WindowChange, changes_after},
};

/// So many points are told of a session unless more or fewer are asked for.
pub const POINTS: usize = 1000;
/// Nobody is told of more points than these.
pub const MOST_POINTS: usize = 10_000;
/// Of so many connections it is told, the newest, where a name fits more.
const TOLD: usize = 16;

/// One session's samples. All arrays are of one length: what stands at the same place belongs together.
/// A point covers the time up to the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The server's connection id, 16 hexadecimal digits.
    pub connection_id: String,
    /// The client's connection id, in the same form.
    pub client_connection_id: String,
    /// The client's name; empty if it gave none.
    pub name: String,
    /// The client's address and port, where it was seen last.
    pub client: std::net::SocketAddr,
    /// What controls the sending.
    pub congestion: String,
    /// When the session began, seconds since 1970: where the axis of time is 0.
    pub began_unix: f64,
    /// Whether the session is over.
    pub ended: bool,
    /// How long the session has lasted, or did.
    pub seconds: f64,
    /// When each point begins, seconds after the session's beginning.
    pub time: Vec<f64>,
    /// The congestion window at each point's end, bytes.
    pub window: Vec<u64>,
    /// The least window during each point.
    pub window_min: Vec<u64>,
    /// The largest window during each point.
    pub window_max: Vec<u64>,
    /// The slow-start threshold at each point's end, bytes; null: there is none.
    pub ssthresh: Vec<Option<u64>>,
    /// The most bytes that were in flight during each point.
    pub in_flight_max: Vec<u64>,
    /// The pace at each point's end, bytes a second.
    pub pacing_rate: Vec<u64>,
    /// The smoothed round trip at each point's end, seconds. This and the next two are null until a round trip has
    /// been measured.
    pub rtt: Vec<Option<f64>>,
    /// The shortest round trip during each point.
    pub rtt_min: Vec<Option<f64>>,
    /// The longest round trip during each point.
    pub rtt_max: Vec<Option<f64>>,
    /// The controller's phase at each point's end.
    pub phase: Vec<String>,
    /// The changes of the window besides growing with what is acknowledged, with their causes; the last
    /// thousand at most.
    pub changes: Vec<WindowChange>,
    /// Packets declared lost as a sign of congestion, since the session began.
    pub lost: u64,
    /// What the link did to the lost packets, as far as it had told when they were declared lost.
    pub fates: Vec<LostBy>,
    /// How many packets were declared lost and arrived after all.
    pub spurious: u64,
}

impl Samples {
    /// Of each connection that this is a name, ADDRESS:PORT or id of, over or not, the newest first, 16 of
    /// them at most: what its ring holds of the time after `since` seconds, in `points` at most. It is `wall`
    /// now. A session waits only while what is told of is copied.
    pub fn all(
        rings: &Rings,
        who: &str,
        (since, points): (f64, usize),
        (now, wall): (Instant, SystemTime),
    ) -> Vec<Self> {
        let mut left = TOLD;
        let found = rings.each(|record| {
            let wanted = left > 0 && record.is(who);
            left -= usize::from(wanted);
            wanted.then(|| record.excerpt(later(record, since), record.last(MOST)))
        });
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let told = found.iter().map(|record| {
            let began = wall.saturating_sub(now.saturating_duration_since(record.began));
            Self::of(record, since, points, now, began.as_secs_f64())
        });
        told.collect()
    }

    /// What a record holds of the time after `since` seconds, in `points` at most.
    fn of(record: &Record, since: f64, points: usize, now: Instant, began_unix: f64) -> Self {
        let seconds = |at: Instant| seconds(record, at);
        let later = later(record, since);
        let many = later.len().div_ceil(points.clamp(1, MOST_POINTS)).max(1);
        let joined: Vec<Sample> = later.chunks(many).filter_map(join).collect();
        let of = |value: fn(&Sample) -> u64| joined.iter().map(value).collect();
        let time = |value: fn(&Sample) -> u64| {
            let micros = joined.iter().map(value);
            micros
                .map(|micros| (micros > 0).then(|| micros as f64 / 1e6))
                .collect()
        };
        Self {
            connection_id: format!("{:016x}", record.about.connection),
            client_connection_id: format!("{:016x}", record.about.destination),
            name: record.about.name.clone(),
            client: record.about.client,
            congestion: record.about.congestion.to_owned(),
            began_unix,
            ended: record.ended.is_some(),
            seconds: seconds(record.ended.unwrap_or(now)),
            time: joined.iter().map(|sample| seconds(sample.from)).collect(),
            window: of(|sample| sample.window),
            window_min: of(|sample| sample.window_min),
            window_max: of(|sample| sample.window_max),
            ssthresh: joined.iter().map(|sample| sample.ssthresh).collect(),
            in_flight_max: of(|sample| sample.in_flight_max),
            pacing_rate: of(|sample| sample.pacing_rate),
            rtt: time(|sample| sample.rtt_us),
            rtt_min: time(|sample| sample.rtt_min_us),
            rtt_max: time(|sample| sample.rtt_max_us),
            phase: joined
                .iter()
                .map(|sample| sample.phase.to_owned())
                .collect(),
            changes: changes_after(record, since),
            lost: record.lost,
            fates: LostBy::of(record),
            spurious: record.spurious_count,
        }
    }
}

/// When that was, seconds after the session's beginning.
fn seconds(record: &Record, at: Instant) -> f64 {
    at.saturating_duration_since(record.began).as_secs_f64()
}

/// The samples of the time after `since` seconds.
fn later(record: &Record, since: f64) -> &[Sample] {
    let samples = &record.samples;
    let later = samples.partition_point(|sample| seconds(record, sample.from) <= since);
    &samples[later..]
}

/// Several samples in one, which has the extremes of all.
fn join(samples: &[Sample]) -> Option<Sample> {
    let (first, rest) = samples.split_first()?;
    Some(
        rest.iter()
            .fold(*first, |joined, sample| joined.join(sample)),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::{
        event::transport::{Limit, Observer as _, Spent, State, Step},
        ring::{About, Rings},
        why::Why,
    };

    fn state(n: u64) -> State {
        State {
            window: 1000 + n,
            ssthresh: n.is_multiple_of(2).then_some(n),
            in_flight: n,
            in_flight_max: 7 * n % 100,
            pacing_rate: n,
            latest_rtt: Duration::from_micros(500 + n),
            longest_rtt: Duration::from_micros(900 + n),
            smoothed_rtt: Duration::from_micros(700),
            min_rtt: Duration::from_micros(500),
            phase: "slow_start",
            limit: Limit::Window,
            spent: Spent::default(),
        }
    }

    #[test]
    fn points_keep_extremes_and_only_what_is_new_is_told() {
        let rings = Rings::new(64 << 20);
        let about = About {
            connection: 1,
            destination: 2,
            name: "Tal".to_owned(),
            client: ([127, 0, 0, 1], 9).into(),
            congestion: "cubic",
        };
        let began = Instant::now();
        let mut recorder = rings.begin(about, None, began);
        for n in 0..100 {
            let at = began + Duration::from_millis(10 * n);
            let measured = state(n);
            let assumed = State {
                latest_rtt: Duration::ZERO,
                longest_rtt: Duration::ZERO,
                smoothed_rtt: Duration::from_millis(333),
                ..measured
            };
            let state = if n == 0 { assumed } else { measured };
            recorder.on_step(at, &Step::State(state));
        }
        let told = |since, points| {
            let mut all = rings.each(|record| {
                let now = began + Duration::from_secs(2);
                Some(Samples::of(record, since, points, now, 0.0))
            });
            all.pop().expect("one")
        };
        let whole = told(-1.0, POINTS);
        assert_eq!((whole.time.len(), whole.seconds), (100, 2.0));
        assert_eq!((whole.time[99], whole.window[99]), (0.99, 1099));
        // What is assumed before the first round trip is measured is no measurement.
        let rtts = |of: &Samples, n: usize| (of.rtt[n], of.rtt_min[n], of.rtt_max[n]);
        assert_eq!(rtts(&whole, 0), (None, None, None));
        let measured = (Some(0.0007), Some(0.000_501), Some(0.000_901));
        assert_eq!(rtts(&whole, 1), measured);
        let coarse = told(-1.0, 7);
        assert_eq!(coarse.time.len(), 7);
        assert_eq!((coarse.time[0], coarse.window[0]), (0.0, 1014));
        assert_eq!(coarse.rtt_min[0], Some(0.000_501));
        assert_eq!((coarse.window_min[1], coarse.window_max[1]), (1015, 1029));
        assert_eq!(
            coarse.in_flight_max.iter().max(),
            whole.in_flight_max.iter().max()
        );
        assert_eq!(coarse.rtt_max.last(), whole.rtt_max.last());
        // Asked again with the last time heard, it tells what came after that.
        let later = told(0.5, POINTS);
        assert_eq!((later.time.len(), later.time[0]), (49, 0.51));
        assert!(told(0.99, POINTS).time.is_empty());
    }

    #[test]
    fn where_a_name_fits_many_the_newest_are_told_of() {
        let rings = Rings::new(64 << 20);
        let began = Instant::now();
        let about = |connection| About {
            connection,
            destination: 1000 + connection,
            name: "Tal".to_owned(),
            client: ([127, 0, 0, 1], 9).into(),
            congestion: "cubic",
        };
        for connection in 0..100 {
            let mut recorder = rings.begin(about(connection), None, began);
            recorder.on_step(began, &Step::State(state(1)));
        }
        let now = (began, SystemTime::now());
        let told = Samples::all(&rings, "Tal", (-1.0, POINTS), now);
        let ids = told.iter().map(|samples| samples.connection_id.clone());
        let newest = (84..100).rev().map(|id: u64| format!("{id:016x}"));
        assert!(ids.eq(newest), "{}", told.len());
        let told = Why::all(&rings, "Tal", 1000, began);
        let ids = told.iter().map(|why| why.connection_id.clone());
        let newest = (36..100).rev().map(|id: u64| format!("{id:016x}"));
        assert!(ids.eq(newest), "{}", told.len());
        let others: Vec<String> = (92..99).rev().map(|id| format!("{id:016x}")).collect();
        assert_eq!(told[0].others[..7], others[..]);
        assert_eq!(told[1].others[0], format!("{:016x}", 99));
        // By its own id each is found, the oldest, too.
        for connection in 0..100 {
            let id = format!("{connection:016x}");
            assert_eq!(Why::all(&rings, &id, 8, began).len(), 1);
        }
    }
}
