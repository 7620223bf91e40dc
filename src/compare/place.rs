//! Where a flow's receiver is and when the flow begins, if not as with all others.

use std::{fmt, time::Duration};

use humantime::format_duration;

use crate::config::link_options::duration;

/// A flow's place in an experiment: `@50ms` is further away than the end of the link, `+5s` begins later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// By so much each way, beyond the link.
    pub away: Duration,
    /// So long after the start of the run.
    pub after: Duration,
}

impl Place {
    /// Splits `cubic@50ms+5s` into the sender's name and its place.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn split(text: &str) -> Result<(&str, Self), String> {
        let mut place = Self::default();
        let mut name = text;
        for (mark, time, what) in [
            ('+', &mut place.after, "begins: `cubic+5s`"),
            ('@', &mut place.away, "is away, each way: `cubic@50ms`"),
        ] {
            if let Some((before, said)) = name.rsplit_once(mark) {
                *time = duration(said).map_err(|error| {
                    format!("`{mark}` tells how late or far it {what}; {error}")
                })?;
                name = before;
            }
        }
        Ok((name, place))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.away.is_zero() {
            write!(f, "@{}", format_duration(self.away))?;
        }
        if !self.after.is_zero() {
            write!(f, "+{}", format_duration(self.after))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back() {
        for (text, away, after) in [
            ("cubic", 0, 0),
            ("cubic@50ms", 50, 0),
            ("tcp-reno+5s", 0, 5000),
            ("2xcubic@7ms+1s 500ms", 7, 1500),
        ] {
            let (name, place) = Place::split(text).expect(text);
            assert_eq!(place.away, Duration::from_millis(away), "{text}");
            assert_eq!(place.after, Duration::from_millis(after), "{text}");
            assert_eq!(format!("{name}{place}"), text);
        }
        for (wrong, part) in [
            ("cubic@far", "`cubic@50ms`"),
            ("cubic+", "`cubic+5s`"),
            ("cubic@5s+2h", "an hour"),
        ] {
            let error = Place::split(wrong).expect_err(wrong);
            assert!(error.contains(part), "{error}");
        }
    }
}
