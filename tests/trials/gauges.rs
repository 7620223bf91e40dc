//! What must not grow in a service that runs for long.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::in_full;
use crate::support::{Lab, wait_for};

const NAMES: [&str; 5] = [
    "bytes of memory",
    "descriptors",
    "threads",
    "series",
    "files",
];
/// What each may differ by, whatever its first value was: some questions and connections (a dozen series
/// each) more are under way, the allocator has taken another piece, a thread that reads files is kept for
/// ten seconds more.
const SLACK: [u64; 5] = [16 << 20, 24, 8, 48, 2];

/// What was measured, and when.
pub(crate) struct Gauges {
    began: Instant,
    samples: Vec<(Duration, [u64; 5])>,
}

impl Gauges {
    pub(crate) fn new() -> Self {
        let samples = Vec::new();
        Self {
            began: Instant::now(),
            samples,
        }
    }

    pub(crate) fn sample(&mut self, lab: &Lab) {
        let entries = |what| {
            let path = format!("/proc/{}/{what}", lab.pid());
            fs::read_dir(path).expect("it runs").count() as u64
        };
        // Its own role may just be down.
        let metrics = wait_for("/metrics", || {
            let (code, metrics) = lab.get("/metrics");
            (code == 200).then_some(metrics)
        });
        let series = metrics
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
        let sample = [
            lab.resident(),
            entries("fd"),
            entries("task"),
            series as u64,
            files(&lab.dir().join("state")),
        ];
        self.samples.push((self.began.elapsed(), sample));
    }

    /// Nothing has grown since it had run so long: the middle value of a sixth of the time after that
    /// against the one of the last.
    #[track_caller]
    pub(crate) fn assert_flat(&self, settled: Duration) {
        let after: Vec<&[u64; 5]> = self
            .samples
            .iter()
            .filter(|(at, _)| *at >= settled)
            .map(|(_, sample)| sample)
            .collect();
        assert!(
            after.len() >= 6,
            "{} samples after {settled:?}",
            after.len()
        );
        let part = after.len() / 6;
        let middle = |samples: &[&[u64; 5]], n: usize| {
            let mut values: Vec<u64> = samples.iter().map(|sample| sample[n]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let mut grown = Vec::new();
        for (n, name) in NAMES.into_iter().enumerate() {
            let first = middle(&after[..part], n);
            let last = middle(&after[after.len() - part..], n);
            println!("{name}: {first} after {settled:?}, {last} at the end");
            // What is bounded has not filled up yet in the short form.
            let slack = if in_full() { SLACK[n] } else { SLACK[n] * 2 };
            if last > first + slack {
                grown.push(name);
            }
        }
        assert!(grown.is_empty(), "these grow: {grown:?}");
    }
}

/// The files in a folder and its folders.
fn files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("the state folder").flatten();
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        _ => 1,
    };
    entries.map(count).sum()
}
