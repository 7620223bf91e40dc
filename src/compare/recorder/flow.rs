//! One flow: the steps of its sender, and the bytes that its receiver has read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    asked::{Counts, Sample},
    line::Line,
    loss,
    samples::Samples,
};
use crate::{
    compare::{
        files::Files,
        outcome::{Cut, Loss, LossCause, Phase, Totals, Trace},
        series::Series,
    },
    watch::{
        event::transport::{Limit, Observer, Spent, State, Step},
        fates::Fates,
        ring::{About, Recorder, Rings},
        why::Why,
    },
};

/// What a full packet of 1500 bytes carries of a file by TCP: the same yardstick for all, so that
/// what a transport's own heads cost is seen, too.
pub const PAYLOAD: u64 = 1448;
/// Cuts that are kept of a sender that has no ring.
const MOST_CUTS: usize = 4_000;
/// Phases that are kept.
const MOST_PHASES: usize = 4_000;
/// Memory for what changes of the window are told from.
const RING: u64 = 16 << 20;
/// A point of the goodput's series for so long, at the least.
const BIN: Duration = Duration::from_millis(50);

/// What is known of a flow so far. Clones share it.
#[derive(Debug, Clone)]
pub struct FlowRecord(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// What comes later is not of the experiment.
    until: Option<Instant>,
    /// The sender's last state.
    state: Option<(Instant, State)>,
    window: Line,
    ssthresh: Line,
    in_flight: Line,
    pacing: Line,
    rtt: Line,
    /// Every round trip that the sender measured.
    rtts: Samples,
    /// What a sender said last that was asked.
    sample: Option<Sample>,
    /// What it has counted.
    counts: Option<Counts>,
    /// What held it back, if that is seen from outside.
    spent: Option<Spent>,
    /// Cuts of a window that is no ring's.
    cuts: Vec<Cut>,
    data_packets: u64,
    again_bytes: u64,
    lost: u64,
    spurious: u64,
    losses: Vec<Loss>,
    phases: Vec<Phase>,
    rings: Rings,
    fates: Option<(Fates, u64)>,
    /// What the receiver has read, and when that was looked at.
    delivered: Vec<(Instant, u64)>,
    /// When the receiver's first byte came.
    first_byte: Option<Instant>,
    /// If it has several files.
    files: Option<Files>,
}

/// A moment of a flow, for whoever looks at it while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Bytes of the file that have come.
    pub received: u64,
    /// Packets that the sender took for lost, if it tells.
    pub lost: Option<u64>,
    /// Its congestion window, bytes.
    pub window: Option<u64>,
    /// Its last round trip.
    pub rtt: Option<Duration>,
    /// The controller's phase, if it tells.
    pub phase: Option<&'static str>,
}

/// Hears the sender's steps.
#[derive(Debug)]
struct Steps {
    record: FlowRecord,
    ring: Recorder,
}

impl FlowRecord {
    /// Nothing is known yet; times count from `start`, and what is later than `until` is not heard.
    pub fn new(start: Instant, until: Option<Instant>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            start,
            until,
            state: None,
            window: Line::default(),
            ssthresh: Line::default(),
            in_flight: Line::default(),
            pacing: Line::default(),
            rtt: Line::default(),
            rtts: Samples::default(),
            sample: None,
            counts: None,
            spent: None,
            cuts: Vec::new(),
            data_packets: 0,
            again_bytes: 0,
            lost: 0,
            spurious: 0,
            losses: Vec::new(),
            phases: Vec::new(),
            rings: Rings::new(RING),
            fates: None,
            delivered: Vec::new(),
            first_byte: None,
            files: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is to watch the sender's connection. `fates` is what the link tells of its packets.
    pub fn observer(&self, about: About, fates: Fates, now: Instant) -> Box<dyn Observer> {
        let mut inner = self.lock();
        inner.fates = Some((fates.clone(), about.destination));
        let ring = inner.rings.begin(about, Some(fates), now);
        drop(inner);
        Box::new(Steps {
            record: self.clone(),
            ring,
        })
    }

    /// The receiver has read so many bytes in all.
    pub fn delivered(&self, at: Instant, bytes: u64) {
        let mut inner = self.lock();
        if inner.is_over(at) {
            return;
        }
        if bytes > 0 && inner.first_byte.is_none() {
            inner.first_byte = Some(at);
        }
        // What came since the last point that is kept is told by the newest.
        let kept = inner.delivered.len();
        match inner.delivered[..] {
            [.., (before, _), (last, _)] if last < before + BIN => {
                inner.delivered[kept - 1] = (at, bytes);
            }
            _ => inner.delivered.push((at, bytes)),
        }
    }

    /// The sender was asked how it stands.
    pub fn sample(&self, at: Instant, sample: Sample) {
        let mut inner = self.lock();
        if inner.is_over(at) {
            return;
        }
        let before = inner.sample.replace(sample);
        let at = inner.seconds(at);
        if before.is_some_and(|before| sample.window < before.window) {
            // It fell at once, not on a slope.
            let before = before.map_or(0, |before| before.window);
            inner.window.push(at, before as f64);
        }
        inner.window.push(at, sample.window as f64);
        let ssthresh = sample.ssthresh.map(|bytes| bytes as f64);
        inner.ssthresh.push_some(at, ssthresh);
        let in_flight = sample.in_flight.map(|bytes| bytes as f64);
        inner.in_flight.push_some(at, in_flight);
        inner.pacing.push_some(at, sample.pacing);
        inner.on_rtt(at, sample.rtt);
        if let Some(phase) = sample.phase {
            inner.on_phase(at, phase);
        }
    }

    /// The sender was asked what it has counted.
    pub fn counts(&self, at: Instant, counts: Counts) {
        let mut inner = self.lock();
        if !inner.is_over(at) {
            inner.counts = Some(counts);
        }
    }

    /// This has held the sender back for so long, up to `at`.
    pub fn held_back(&self, at: Instant, by: Limit, time: Duration) {
        let mut inner = self.lock();
        if !inner.is_over(at) {
            inner.spent.get_or_insert_default().add(by, time);
        }
    }

    /// The sender cut its window from the first to the second number of bytes.
    pub fn cut(&self, at: Instant, (before, after): (u64, u64), why: &str) {
        let mut inner = self.lock();
        if inner.is_over(at) || inner.cuts.len() >= MOST_CUTS {
            return;
        }
        let at_seconds = inner.seconds(at);
        let [from, to] = [before, after].map(|bytes| bytes as f64 / 1e3);
        inner.cuts.push(Cut {
            at_seconds,
            before_bytes: before,
            after_bytes: after,
            words: format!(
                "at {at_seconds:.3} s it cut the window from {from:.1} to {to:.1} kB: {why}"
            ),
        });
    }

    /// The receiver's first byte came then.
    pub fn first_byte(&self, at: Instant) {
        self.lock().first_byte.get_or_insert(at);
    }

    /// What it receives are files.
    pub fn begin_files(&self, files: Files) {
        self.lock().files = Some(files);
    }

    /// A piece of a file was read; `whole`: it was the last one.
    pub fn file(&self, at: Instant, file: usize, whole: bool) {
        let mut inner = self.lock();
        if !inner.is_over(at)
            && let Some(files) = &mut inner.files
        {
            files.came(file, at, whole);
        }
    }

    /// How it stands.
    pub fn now(&self) -> Now {
        let inner = self.lock();
        let state = inner.state.map(|(_, state)| state);
        Now {
            received: inner.delivered.last().map_or(0, |(_, bytes)| *bytes),
            lost: match (state, inner.counts) {
                (None, Some(counts)) => counts.lost,
                _ => Some(inner.lost),
            },
            window: state
                .map(|state| state.window)
                .or(inner.sample.map(|sample| sample.window)),
            rtt: match state {
                Some(state) => Some(state.latest_rtt),
                None => inner.rtts.last(),
            },
            phase: match state {
                Some(state) => Some(state.phase),
                None => inner.sample.and_then(|sample| sample.phase),
            },
        }
    }

    /// What was reached between `began` and `ended`, as far as the sender and the receiver know it: the
    /// link's part is missing.
    pub fn totals(&self, began: Instant, ended: Instant) -> Totals {
        let inner = self.lock();
        let bytes = inner.delivered.last().map_or(0, |(_, bytes)| *bytes);
        let seconds = ended.saturating_duration_since(began).as_secs_f64();
        let limits = inner.state.map(|(_, state)| state.spent).or(inner.spent);
        let watched = inner.state.is_some();
        let asked = inner.counts.unwrap_or_default();
        let first = inner
            .first_byte
            .map(|at| at.saturating_duration_since(began));
        Totals {
            goodput_bytes: bytes,
            goodput_bits_per_second: bytes as f64 * 8.0 / seconds.max(1e-9),
            sent_again_bytes: asked.again_bytes.or(watched.then_some(inner.again_bytes)),
            packets_sent: asked.packets.or(watched.then_some(inner.data_packets)),
            packets_needed: Some(bytes.div_ceil(PAYLOAD)),
            packets_lost_seen: asked.lost.or(watched.then_some(inner.lost)),
            packets_spurious: watched.then_some(inner.spurious),
            rtt_seconds: inner.rtts.spread(),
            first_byte_seconds: first.map(|first| first.as_secs_f64()),
            limited_seconds: limits.map_or_else(BTreeMap::new, |spent| {
                let by = |limit: Limit| (limit.name().to_owned(), spent.by(limit).as_secs_f64());
                Limit::ALL.map(by).into()
            }),
            files: inner.files.as_ref().map(|files| files.fared(began)),
            ..Totals::default()
        }
    }

    /// How it went until `ended`, as far as the sender and the receiver know it.
    pub fn trace(&self, ended: Instant) -> Trace {
        let inner = self.lock();
        let seconds = |at| inner.seconds(at);
        let mut phases = inner.phases.clone();
        if let Some(last) = phases.last_mut() {
            last.until_seconds = seconds(ended).max(last.from_seconds);
        }
        let cuts = inner.rings.each(|record| {
            let offset = seconds(record.began);
            let why = Why::of(record, usize::MAX, ended);
            let cuts = why.changes.into_iter();
            let cuts = cuts.filter(|change| change.after_bytes < change.before_bytes);
            let cuts = cuts.map(|change| Cut {
                at_seconds: offset + change.at_seconds,
                before_bytes: change.before_bytes,
                after_bytes: change.after_bytes,
                words: change.words,
            });
            Some(cuts.collect::<Vec<_>>())
        });
        let goodput = inner.delivered.windows(2).filter_map(|pair| {
            let &[(from, before), (to, after)] = pair else {
                return None;
            };
            let time = to.saturating_duration_since(from).as_secs_f64();
            Some((
                seconds(to),
                after.saturating_sub(before) as f64 * 8.0 / time,
            ))
        });
        Trace {
            window_bytes: inner.window.finish(),
            ssthresh_bytes: inner.ssthresh.finish(),
            in_flight_bytes: inner.in_flight.finish(),
            rtt_seconds: inner.rtt.finish(),
            goodput_bits_per_second: Series::new(goodput),
            pacing_bits_per_second: inner.pacing.finish(),
            losses: inner.losses.clone(),
            marks_at_seconds: Vec::new(),
            cuts: match inner.state {
                Some(_) => cuts.into_iter().flatten().collect(),
                None => inner.cuts.clone(),
            },
            phases,
        }
    }
}

impl Inner {
    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    fn is_over(&self, at: Instant) -> bool {
        self.until.is_some_and(|until| at > until)
    }

    fn on_step(&mut self, now: Instant, step: &Step) {
        if self.is_over(now) {
            return;
        }
        match step {
            Step::Sent(sent) if sent.data => {
                self.data_packets += 1;
                if sent.again {
                    self.again_bytes += u64::from(sent.size);
                }
            }
            Step::Unsent {
                size,
                data: true,
                again,
                ..
            } => {
                self.data_packets -= 1;
                if *again {
                    self.again_bytes -= u64::from(*size);
                }
            }
            Step::Lost(lost) => {
                self.lost += 1;
                let fate = self.fates.as_ref();
                let fate = fate.and_then(|(fates, to)| fates.of(*to, lost.number));
                let cause = fate.map_or(LossCause::Unknown, |fate| loss::cause(fate.outcome));
                let at = self.seconds(now);
                loss::keep(&mut self.losses, at, Some(lost.number), cause);
            }
            Step::Spurious(spurious) => {
                self.spurious += 1;
                let mut losses = self.losses.iter_mut().rev();
                let loss = losses.find(|loss| loss.packet == Some(spurious.number));
                if let Some(loss) = loss {
                    loss.spurious = true;
                    loss.cause = LossCause::Late;
                }
            }
            Step::State(state) => self.on_state(now, state),
            Step::Window(change) => {
                let at = self.seconds(now);
                self.window.push(at, change.before as f64);
                self.window.push(at, change.after as f64);
                let ssthresh = change.ssthresh.map(|bytes| bytes as f64);
                self.ssthresh.push_some(at, ssthresh);
                self.on_phase(at, change.phase);
            }
            _ => {}
        }
    }

    fn on_state(&mut self, now: Instant, state: &State) {
        let at = self.seconds(now);
        let fresh = self
            .state
            .is_none_or(|(_, before)| before.latest_rtt != state.latest_rtt);
        self.state = Some((now, *state));
        self.window.push(at, state.window as f64);
        let ssthresh = state.ssthresh.map(|bytes| bytes as f64);
        self.ssthresh.push_some(at, ssthresh);
        self.in_flight.push(at, state.in_flight_max as f64);
        self.pacing.push(at, state.pacing_rate as f64 * 8.0);
        // Or it is told again.
        if fresh {
            self.on_rtt(at, state.latest_rtt);
        }
        self.on_phase(at, state.phase);
    }

    /// A round trip; zero: none was measured.
    fn on_rtt(&mut self, at: f64, rtt: Duration) {
        if !rtt.is_zero() {
            self.rtt.push(at, rtt.as_secs_f64());
            self.rtts.push(rtt);
        }
    }

    fn on_phase(&mut self, at: f64, name: &str) {
        let is_full = self.phases.len() >= MOST_PHASES;
        if let Some(last) = self.phases.last_mut() {
            if last.name == name || is_full {
                return;
            }
            last.until_seconds = at;
        }
        self.phases.push(Phase {
            name: name.to_owned(),
            from_seconds: at,
            until_seconds: at,
        });
    }
}

impl Observer for Steps {
    fn on_step(&mut self, now: Instant, step: &Step) {
        self.ring.on_step(now, step);
        self.record.lock().on_step(now, step);
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_told_once_in_its_time() {
        let start = Instant::now();
        let record = FlowRecord::new(start, None);
        for millis in 0..1000 {
            record.delivered(start + Duration::from_millis(millis), millis * 125);
        }
        let series = record.trace(start).goodput_bits_per_second;
        // 125 bytes a millisecond are a megabit a second, however they are cut into points.
        assert!((15..=21).contains(&series.values.len()), "{series:?}");
        assert!(
            series.values.iter().all(|rate| (rate - 1e6).abs() < 1.0),
            "{series:?}"
        );
        let totals = record.totals(start, start + Duration::from_secs(1));
        assert_eq!(totals.goodput_bytes, 999 * 125);
        assert_eq!(totals.first_byte_seconds, Some(0.001));
        assert_eq!(totals.packets_sent, None);
    }
}
