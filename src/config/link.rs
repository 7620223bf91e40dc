//! `[link]`: a bad network, in words and compiled.

use std::{num::NonZeroU64, time::Duration};

use serde::Deserialize;

use super::{
    Link, LinkDirection,
    compiler::{Compiler, NUMBER},
    file::{self, Key},
    value,
};

/// What an option may be written as: `5`, `0.5` or `"25ms"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

const RIGHT: &str = "a number, or a text in quotes";
/// No time of a link is longer: what is on the way an hour will not be waited for.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// The longest queue: a tenth of a second of 5 Gbit/s.
const MAX_QUEUE: usize = 64 << 20;

// As in compile: `None` only after a problem has been noted.
impl Compiler<'_> {
    pub(super) fn link(&mut self, table: file::Link) -> Option<Link> {
        self.unknown::<file::Link>("link", &table.unknown);
        let both = file::LinkWay {
            loss: table.loss,
            burst: table.burst,
            delay: table.delay,
            jitter: table.jitter,
            rate: table.rate,
            queue: table.queue,
            reorder: table.reorder,
            reorder_by: table.reorder_by,
            duplicate: table.duplicate,
            corrupt: table.corrupt,
            blackout: table.blackout,
            unknown: file::Unknown::new(),
        };
        let both = self.direction("link", LinkDirection::default(), both);
        if let Some(both) = &both {
            self.check_bursts("link", both);
        }
        let seed = self.scalar("link.seed", table.seed, NUMBER, |number| {
            value::number(number, 0..=i64::MAX as u64)
        });
        let [up, down] = [("link.up", table.up), ("link.down", table.down)].map(|(at, key)| {
            let own = self.table(at, key).unwrap_or_default();
            self.unknown::<file::LinkWay>(at, &own.unknown);
            let direction = self.direction(at, both.unwrap_or_default(), own)?;
            // What is wrong for both has been told.
            if both.is_some_and(|both| both != direction) {
                self.check_bursts(at, &direction);
            }
            Some(direction)
        });
        both?;
        Some(Link {
            up: up?,
            down: down?,
            seed: seed?.unwrap_or(1),
        })
    }

    fn direction(
        &mut self,
        at: &str,
        base: LinkDirection,
        own: file::LinkWay,
    ) -> Option<LinkDirection> {
        let loss = self.option(at, "loss", own.loss, (base.loss, 0.0), percent);
        let burst = self.option(at, "burst", own.burst, (base.burst, None), some(burst));
        let delay = (base.delay, Duration::ZERO);
        let delay = self.option(at, "delay", own.delay, delay, time);
        let jitter = (base.jitter, Duration::ZERO);
        let jitter = self.option(at, "jitter", own.jitter, jitter, time);
        let rate = self.option(at, "rate", own.rate, (base.rate, None), some(rate));
        let queue = self.option(at, "queue", own.queue, (base.queue, None), some(size));
        let reorder = self.option(at, "reorder", own.reorder, (base.reorder, 0.0), percent);
        let reorder_by = (base.reorder_by, None);
        let reorder_by = self.option(at, "reorder_by", own.reorder_by, reorder_by, some(time));
        let duplicate = (base.duplicate, 0.0);
        let duplicate = self.option(at, "duplicate", own.duplicate, duplicate, percent);
        let corrupt = self.option(at, "corrupt", own.corrupt, (base.corrupt, 0.0), percent);
        let blackout = (base.blackout, None);
        let blackout = self.option(at, "blackout", own.blackout, blackout, some(works_and_dark));
        Some(LinkDirection {
            loss: loss?,
            burst: burst?,
            delay: delay?,
            jitter: jitter?,
            rate: rate?,
            queue: queue?,
            reorder: reorder?,
            reorder_by: reorder_by?,
            duplicate: duplicate?,
            corrupt: corrupt?,
            blackout: blackout?,
        })
    }

    /// One option: its value without the key, and its value for `"off"`.
    fn option<V>(
        &mut self,
        at: &str,
        key: &str,
        own: Key<Scalar>,
        (absent, off): (V, V),
        parse: impl Fn(&str) -> Result<V, String>,
    ) -> Option<V> {
        let at = format!("{at}.{key}");
        let parsed = self.scalar(&at, own, RIGHT, |scalar: Scalar| {
            match scalar.into_text().as_str() {
                "off" => Ok(off),
                text => parse(text),
            }
        })?;
        Some(parsed.unwrap_or(absent))
    }

    /// Even if each good packet is followed by a burst, one of `burst + 1` packets is good.
    fn check_bursts(&mut self, at: &str, direction: &LinkDirection) {
        let loss = direction.loss;
        if let Some(burst) = direction.burst
            && loss * (burst + 1.0) > burst * 100.0
        {
            let message = format!(
                "a loss of {loss} % can't come in bursts of {burst} packets: longer bursts are \
                 needed, or none"
            );
            self.problem(&format!("{at}.burst"), message);
        }
    }
}

fn some<V>(
    parse: impl Fn(&str) -> Result<V, String>,
) -> impl Fn(&str) -> Result<Option<V>, String> {
    move |text| parse(text).map(Some)
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse();
    number
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("`{}` is no percentage from 0 to 100", text.escape_debug()))
}

fn burst(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|burst| (1.0..=1e6).contains(burst))
        .ok_or_else(|| {
            let shown = text.escape_debug();
            format!("`{shown}` is no number of packets from 1 to 1000000")
        })
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| {
            let shown = text.escape_debug();
            format!("`{shown}` is no time up to an hour; write it as `25ms` or `2s`")
        })
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    let lower = text.to_ascii_lowercase();
    let unit = lower
        .strip_suffix("/s")
        .or_else(|| lower.strip_suffix("ps"))
        .unwrap_or(&lower);
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    value::with_unit(unit, &units, 1e12)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| {
            let shown = text.escape_debug();
            format!("`{shown}` is no rate up to 1000gbit; write it as `10mbit` or `500kbit`")
        })
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = value::bytes(text, (0, MAX_QUEUE as u64))?;
    // As large as MAX_QUEUE at the most.
    Ok(usize::try_from(bytes).unwrap_or(MAX_QUEUE))
}

fn works_and_dark(text: &str) -> Result<(Duration, Duration), String> {
    let times = || {
        let (works, dark) = text.split_once('/')?;
        let works = time(works.trim()).ok()?;
        let dark = time(dark.trim()).ok()?;
        (!works.is_zero() && !dark.is_zero()).then_some((works, dark))
    };
    times().ok_or_else(|| {
        let shown = text.escape_debug();
        format!("`{shown}` is no black-out; write it as `5s/2s`: works for 5 s, dark for 2 s")
    })
}
