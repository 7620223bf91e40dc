//! Quantities as people read them.

use std::{fmt, time::Duration};

/// Bytes: `987 B`, `1.4 kB`, `20 MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0 as f64, "B"))
    }
}

/// Bytes a second: `95 MB/s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// `bytes` in `time`.
    pub fn new(bytes: u64, time: Duration) -> Self {
        // A microsecond is the least that is worth the name of a time.
        Self(bytes as f64 / time.as_secs_f64().max(1e-6))
    }

    /// In bytes a second.
    pub fn bytes_per_second(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0, "B/s"))
    }
}

/// Three digits at most, as SI prefixes allow.
fn scaled(mut value: f64, unit: &str) -> String {
    let mut prefix = "";
    for next in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    let tenths = (value * 10.0).round();
    let digits = usize::from(!prefix.is_empty() && tenths < 100.0 && tenths % 10.0 != 0.0);
    format!("{value:.digits$} {prefix}{unit}")
}

/// A latency: `0.21 ms`, `18 ms`, `1.20 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latency(pub Duration);

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_secs_f64() * 1e3;
        f.pad(&match ms {
            ms if ms < 10.0 => format!("{ms:.2} ms"),
            ms if ms < 999.5 => format!("{ms:.0} ms"),
            ms => format!("{:.2} s", ms / 1e3),
        })
    }
}

/// `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (987, "987 B"),
            (1000, "1 kB"),
            (1440, "1.4 kB"),
            (20_971_520, "21 MB"),
            (1_048_576, "1 MB"),
            (1_940_000, "1.9 MB"),
            (999_600, "1 MB"),
            (50_000_000_000, "50 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}|", Size(987)), "   987 B|");
        assert_eq!(
            Rate::new(95_000_000, Duration::from_secs(1)).to_string(),
            "95 MB/s"
        );
        assert!(Rate::new(1, Duration::ZERO).bytes_per_second().is_finite());
    }

    #[test]
    fn latencies_have_their_unit() {
        let said = |micros| Latency(Duration::from_micros(micros)).to_string();
        assert_eq!(said(214), "0.21 ms");
        assert_eq!(said(18_400), "18 ms");
        assert_eq!(said(1_200_000), "1.20 s");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
    }
}
