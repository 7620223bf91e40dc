//! How a run goes, in a terminal: a row a second for each flow, as iperf3 has them, and beside it the window as
//! a bar, where there is room for it.

use std::time::Duration;

use console::Term;

use crate::{
    compare::{plan::Run, real::Audience, recorder::Now},
    telemetry::complain,
};

/// Rows on standard error, if that is a terminal: what is printed on standard output stays data.
pub(super) struct Live {
    shown: bool,
    names: Vec<String>,
    /// Of their column.
    width: usize,
    /// What each flow had received at the last row.
    before: Vec<u64>,
    last: Duration,
    /// Columns for the window as a bar; 0: there is no room.
    columns: usize,
    /// Bytes that fill the bar: what path and queue hold. `None`: the link has no limit.
    full: Option<f64>,
}

const EVERY: Duration = Duration::from_secs(1);

impl Live {
    /// Nothing is shown yet.
    pub(super) fn new() -> Self {
        Self {
            shown: Term::stderr().is_term(),
            columns: 0,
            full: None,
            names: Vec::new(),
            width: LEAST_WIDTH,
            before: Vec::new(),
            last: Duration::ZERO,
        }
    }

    /// A run begins, the how-manieth of how many.
    pub(super) fn begin(&mut self, number: usize, of: usize, run: &Run) {
        self.names = run.names();
        let longest = self.names.iter().map(|name| name.chars().count()).max();
        self.width = longest.unwrap_or(0).max(LEAST_WIDTH);
        self.before = vec![0; self.names.len()];
        self.last = Duration::ZERO;
        let wide = usize::from(Term::stderr().size().1);
        self.columns = match wide.saturating_sub(self.before_bar()) {
            0..SHORTEST_BAR => 0,
            more => more.min(LONGEST_BAR),
        };
        let round_trip = run.up.delay + run.down.delay;
        self.full = run.down.rate.filter(|_| self.columns > 0).map(|rate| {
            rate.get() as f64 / 8.0 * round_trip.as_secs_f64() + run.down.queue_limit() as f64
        });
        if self.shown {
            complain(format_args!(
                "{number} of {of}: {} over {}, seed {}",
                self.names.join(", "),
                run.down,
                run.seed
            ));
            let (head, before) = (head(self.width), self.before_bar());
            complain(match self.full {
                Some(_) => format!("{head:<before$}window, of what path and queue hold"),
                None => head,
            });
        }
    }

    /// Columns of a row with the longest name of a phase.
    fn before_bar(&self) -> usize {
        self.width + AFTER_NAME
    }
}

/// Of the senders' column, where no name is longer.
const LEAST_WIDTH: usize = 12;

fn head(width: usize) -> String {
    format!(
        "{:<width$}  interval        Mbit/s   window kB   RTT ms      lost  phase",
        "sender"
    )
}

/// Columns behind the name, with the longest name of a phase.
const AFTER_NAME: usize = 80;
const SHORTEST_BAR: usize = 8;
const LONGEST_BAR: usize = 40;
/// Parts of a column, from an eighth to seven.
const PARTS: [&str; 7] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A part of so many columns, to an eighth of one; `+` at its end: it is more than the whole.
fn bar(part: f64, columns: usize) -> String {
    if part > 1.0 {
        return format!("{}+", "█".repeat(columns.saturating_sub(1)));
    }
    let eighths = (part.max(0.0) * columns as f64 * 8.0).round() as usize;
    let rest = (eighths % 8).checked_sub(1).map_or("", |rest| PARTS[rest]);
    "█".repeat(eighths / 8) + rest
}

/// One row.
fn row(
    (name, width): (&str, usize),
    (from, to): (Duration, Duration),
    bytes: u64,
    now: &Now,
) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let seconds = (to - from).as_secs_f64().max(1e-9);
    format!(
        "{name:<width$} {:>5.1}-{:<5.1} s {:>9.2} {:>11} {:>8} {:>9}  {}",
        from.as_secs_f64(),
        to.as_secs_f64(),
        bytes as f64 * 8.0 / seconds / 1e6,
        or_dash(
            now.window
                .map(|window| format!("{:.1}", window as f64 / 1e3))
        ),
        or_dash(now.rtt.map(|rtt| format!("{:.1}", rtt.as_secs_f64() * 1e3))),
        or_dash(now.lost.map(|lost| lost.to_string())),
        now.phase.unwrap_or("-"),
    )
}

impl Audience for Live {
    fn interval(&mut self, elapsed: Duration, flows: &[Now]) {
        let before_bar = self.before_bar();
        let names = self.names.iter().zip(&mut self.before);
        for ((name, before), now) in names.zip(flows) {
            let bytes = now.received.saturating_sub(*before);
            *before = now.received;
            if self.shown {
                let row = row((name, self.width), (self.last, elapsed), bytes, now);
                let part = self.full.zip(now.window);
                let part = part.map(|(full, window)| window as f64 / full);
                complain(match part {
                    Some(part) => format!("{row:<before_bar$}{}", bar(part, self.columns)),
                    None => row,
                });
            }
        }
        self.last = elapsed;
    }

    fn every(&self) -> Duration {
        EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        for (part, drawn) in [
            (0.0, ""),
            (0.5, "████"),
            (0.52, "████▏"),
            (0.99, "███████▉"),
            (1.0, "████████"),
            (1.01, "███████+"),
            (f64::NAN, ""),
        ] {
            assert_eq!(bar(part, 8), drawn, "{part}");
        }
    }

    #[test]
    fn a_row_stands_below_its_head() {
        let now = Now {
            received: 3_000_000,
            lost: Some(7),
            window: Some(125_300),
            rtt: Some(Duration::from_micros(61_240)),
            phase: Some("avoidance"),
        };
        let second = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(
            [
                head(LEAST_WIDTH),
                row(("cubic", LEAST_WIDTH), second, 2_400_000, &now)
            ],
            [
                "sender        interval        Mbit/s   window kB   RTT ms      lost  phase",
                "cubic          1.0-2.0   s     19.20       125.3     61.2         7  avoidance",
            ]
        );
        let silent = Now {
            lost: None,
            window: None,
            rtt: None,
            phase: None,
            ..now
        };
        assert!(
            row(("tcp-cubic", LEAST_WIDTH), second, 0, &silent)
                .ends_with("0.00           -        -         -  -")
        );
        let long = ("exec:python3 mine.py", 20);
        let (head, row) = (head(long.1), row(long, second, 0, &silent));
        assert_eq!(head.find("phase"), row.rfind('-'), "{head}\n{row}");
    }
}
