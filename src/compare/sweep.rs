//! One option of the link that takes several values, one after another.

use crate::config::LinkOptions;

/// What may be swept besides the options of a link.
pub(super) const INITIAL_WINDOW: &str = "initial_window";

/// The most values of a sweep.
pub const MOST: usize = 100;

/// An option and its values, as [`LinkOptions::set`] takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The option.
    pub key: String,
    /// Its values, in order.
    pub values: Vec<String>,
}

impl Sweep {
    /// Reads `loss=0..5` (0, 1, 2, 3, 4, 5), `delay=5ms..25ms/5ms` (every 5 ms) or
    /// `rate=1mbit,10mbit`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = text.escape_debug();
        let (key, values) = text
            .split_once('=')
            .ok_or_else(|| format!("`{shown}` names no values; write it as `loss=0..5`"))?;
        let key = key.trim().replace('-', "_");
        let values = match values.split_once("..") {
            Some((from, rest)) => range(from.trim(), rest.trim())
                .ok_or_else(|| format!("`{shown}` is no range; write it as `loss=0..5`, or with its step as `delay=5ms..25ms/5ms`"))?,
            None => values.split(',').map(|value| value.trim().to_owned()).collect(),
        };
        if values.len() > MOST {
            return Err(format!(
                "`{shown}` has {} values; at most {MOST} are taken",
                values.len()
            ));
        }
        for value in &values {
            check(&key, value)?;
        }
        Ok(Self { key, values })
    }
}

/// How many bandwidth-delay products: `1bdp`, `0.5bdp`.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn bdp(text: &str) -> Result<f64, String> {
    let number = text
        .strip_suffix("bdp")
        .and_then(|number| number.trim().parse().ok());
    number
        .filter(|number| (0.0..=1000.0).contains(number))
        .ok_or_else(|| {
            format!(
                "`{}` is no queue; write it as `625kB` or `1bdp`",
                text.escape_debug()
            )
        })
}

/// An initial window in packets: as much as a server's configuration takes.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn packets(text: &str) -> Result<u16, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| (2..=10_000).contains(number))
        .ok_or_else(|| {
            format!(
                "`{}` is no number of packets from 2 to 10000",
                text.escape_debug()
            )
        })
}

/// Whether an option takes a value. A queue may be given in bandwidth-delay products, too.
fn check(key: &str, value: &str) -> Result<(), String> {
    if key == "queue" && value.ends_with("bdp") {
        return bdp(value).map(drop);
    }
    if key == INITIAL_WINDOW {
        return packets(value).map(drop);
    }
    if key == "blackout" {
        return Err("a black-out is no number: it can't be swept".to_owned());
    }
    LinkOptions::default().set(key, value)
}

/// The values from one to another, in steps of the third; of one unit without it.
fn range(from: &str, rest: &str) -> Option<Vec<String>> {
    let (to, step) = rest.split_once('/').unwrap_or((rest, "1"));
    let (from, unit_from) = quantity(from)?;
    let (to, unit) = quantity(to.trim())?;
    let (step, unit_step) = quantity(step.trim())?;
    let same = |other: &str| other.is_empty() || other == unit;
    let steps = (to - from) / step;
    // Not a number fails here, too.
    if !(same(unit_from) && same(unit_step) && step > 0.0 && (0.0..1e6).contains(&steps)) {
        return None;
    }
    // What a binary fraction cannot hold does not cost the last value.
    let count = (steps + 1e-9).floor() as usize;
    let at = |n: usize| {
        let value = from + step * n as f64;
        // As it would have been written: 0.30000000000000004 is 0.3.
        let rounded = (value * 1e9).round() / 1e9;
        format!("{rounded}{unit}")
    };
    Some((0..=count).map(at).collect())
}

/// A number and its unit.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_its_ends() {
        for (text, key, values) in [
            ("loss=0..5", "loss", "0 1 2 3 4 5"),
            ("loss=0..0.5/0.1", "loss", "0 0.1 0.2 0.3 0.4 0.5"),
            ("delay=5ms..25ms/10ms", "delay", "5ms 15ms 25ms"),
            ("delay=5..25ms/10", "delay", "5ms 15ms 25ms"),
            ("rate=1mbit,10mbit", "rate", "1mbit 10mbit"),
            ("queue=1bdp..3bdp", "queue", "1bdp 2bdp 3bdp"),
            ("reorder-by=1ms", "reorder_by", "1ms"),
            ("initial-window=2,10,50", "initial_window", "2 10 50"),
            ("loss=2..2", "loss", "2"),
        ] {
            let sweep = Sweep::parse(text).expect(text);
            assert_eq!(
                (sweep.key.as_str(), sweep.values.join(" ").as_str()),
                (key, values)
            );
        }
        for (text, part) in [
            ("loss", "loss=0..5"),
            ("los=0..5", "no option of a link"),
            ("loss=5..0", "is no range"),
            ("loss=0..5/0", "is no range"),
            ("loss=..", "is no range"),
            ("loss=a,b", "percentage"),
            ("loss=0..200/100", "percentage"),
            ("delay=1ms..2s", "is no range"),
            ("loss=0..5/0.001", "at most 100"),
            ("queue=xbdp", "1bdp"),
            ("blackout=5s/2s", "can't be swept"),
            ("initial_window=1,10", "from 2 to 10000"),
        ] {
            let error = Sweep::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
