//! What a bad link does to packets: one vocabulary for the file, the command line, the API and the
//! client.
//!
//! It is here because a file says it and the link, which stands above, obeys it.

use std::{
    fmt,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use humantime::format_duration;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::value;

/// What one direction of a link does to packets. The default does nothing.
///
/// In words it is a list like `loss=5,burst=3,delay=25ms,rate=10mbit`, in JSON an object with the
/// same keys and values; see [`LinkOptions::set`] for them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkOptions {
    /// Percent of the packets that are lost on the wire, after they have taken their place in the
    /// queue and their time at the rate.
    pub loss: f64,
    /// The mean number of packets lost in a row, at least 1 (Gilbert's model); `None`: each packet
    /// is lost or not whatever became of the one before.
    pub burst: Option<f64>,
    /// How long the wire is.
    pub delay: Duration,
    /// By how much the delay varies at most, up or down. It does not change the order: a packet
    /// waits for the one before it.
    pub jitter: Duration,
    /// Bits a second; `None`: no limit, and so no queue.
    pub rate: Option<NonZeroU64>,
    /// How many bytes may wait for the rate; `None`: what the rate sends in 100 ms, 30 kB at
    /// least.
    pub queue: Option<usize>,
    /// Percent of the packets that come late by `reorder_by`, so that others overtake them.
    pub reorder: f64,
    /// See `reorder`; `None`: 5 ms.
    pub reorder_by: Option<Duration>,
    /// Percent of the packets that arrive twice.
    pub duplicate: f64,
    /// Percent of the packets that have one byte changed.
    pub corrupt: f64,
    /// Times when the wire loses everything.
    pub blackout: Option<Blackout>,
}

/// A link that works for some time, then loses everything for some time, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blackout {
    /// How long it works.
    pub works: Duration,
    /// How long it is dark then.
    pub dark: Duration,
}

impl Blackout {
    /// Whether the link is dark at `now` when it began to work at `start`.
    pub(crate) fn is_dark(self, start: Instant, now: Instant) -> bool {
        let period = self.works.saturating_add(self.dark).as_nanos();
        let into = now.saturating_duration_since(start).as_nanos();
        // A period of nothing has no dark part.
        into.checked_rem(period)
            .is_some_and(|into| into >= self.works.as_nanos())
    }
}

/// No time of a link is longer: what is on the way an hour will not be waited for.
const MAX_TIME: Duration = Duration::from_secs(3600);
const DEFAULT_REORDER_BY: Duration = Duration::from_millis(5);
/// The longest queue: a tenth of a second of 5 Gbit/s.
const MAX_QUEUE: usize = 64 << 20;
/// Room for twenty full packets: less would be no queue.
const MIN_DEFAULT_QUEUE: u64 = 30_000;

impl LinkOptions {
    /// The options' names.
    pub const KEYS: [&str; 11] = [
        "loss",
        "burst",
        "delay",
        "jitter",
        "rate",
        "queue",
        "reorder",
        "reorder_by",
        "duplicate",
        "corrupt",
        "blackout",
    ];

    /// Sets one option from text. The keys are the fields' names (`-` is as good as `_`);
    /// percentages and `burst` are numbers, times like `25ms`, rates like `10mbit`, sizes like
    /// `625kB`, and a black-out is `5s/2s`: works for 5 s, dark for 2 s. `off` puts an option back
    /// to its default.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let known = key.replace('-', "_");
        if Self::KEYS.contains(&known.as_str()) {
            self.put(&known, value)
                .map_err(|error| format!("{key}: {error}"))
        } else {
            self.put(key, value)
        }
    }

    /// [`set`](Self::set) for whoever tells the key of a mistake by other means.
    pub(super) fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        fn read<T>(
            value: &str,
            parse: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Option<T>, String> {
            if value == "off" {
                Ok(None)
            } else {
                parse(value).map(Some)
            }
        }
        match key {
            "loss" => self.loss = read(value, percent)?.unwrap_or_default(),
            "burst" => self.burst = read(value, burst)?,
            "delay" => self.delay = read(value, duration)?.unwrap_or_default(),
            "jitter" => self.jitter = read(value, duration)?.unwrap_or_default(),
            "rate" => self.rate = read(value, rate)?,
            "queue" => self.queue = read(value, size)?,
            "reorder" => self.reorder = read(value, percent)?.unwrap_or_default(),
            "reorder_by" => self.reorder_by = read(value, duration)?,
            "duplicate" => self.duplicate = read(value, percent)?.unwrap_or_default(),
            "corrupt" => self.corrupt = read(value, percent)?.unwrap_or_default(),
            "blackout" => self.blackout = read(value, blackout)?,
            _ => {
                return Err(format!(
                    "`{}` is no option of a link; those are {}",
                    key.escape_debug(),
                    Self::KEYS.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Sets the options of a list like `loss=5,delay=25ms`, and leaves the others.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn set_list(&mut self, list: &str) -> Result<(), String> {
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (key, value) = item.split_once('=').ok_or_else(|| {
                format!(
                    "`{}` has no value; write it as `loss=5`",
                    item.escape_debug()
                )
            })?;
            self.set(key.trim(), value.trim())?;
        }
        Ok(())
    }

    /// Sets the options of a JSON object, and leaves the others. `null` is `off`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn set_json(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        object.iter().try_for_each(|(key, value)| match value {
            Value::String(text) => self.set(key, text),
            Value::Number(number) => self.set(key, &number.to_string()),
            Value::Null => self.set(key, "off"),
            _ => Err(format!("{key}: a number or a text is needed")),
        })
    }

    /// Whether the options go together.
    ///
    /// # Errors
    /// Which ones do not.
    pub fn check(&self) -> Result<(), String> {
        // Even if each good packet is followed by a burst, one of `burst + 1` packets is good.
        match self.burst {
            Some(burst) if self.loss * (burst + 1.0) > burst * 100.0 => Err(format!(
                "a loss of {} % can't come in bursts of {burst} packets: longer bursts are needed, \
                 or none",
                self.loss
            )),
            _ => Ok(()),
        }
    }

    /// The probability that a packet is lost.
    pub(crate) fn chance_of_loss(&self, last_was_lost: bool) -> f64 {
        let share = self.loss / 100.0;
        match self.burst {
            Some(burst) if share < 1.0 => {
                let end = 1.0 / burst.max(1.0);
                if last_was_lost {
                    1.0 - end
                } else {
                    // As many bursts begin as end: share * end = (1 - share) * begin.
                    end * share / (1.0 - share)
                }
            }
            _ => share,
        }
    }

    /// How many bytes may wait for the rate.
    pub(crate) fn queue_limit(&self) -> usize {
        let default = || {
            let bits = self.rate.map_or(0, NonZeroU64::get) / 10;
            usize::try_from((bits / 8).max(MIN_DEFAULT_QUEUE)).unwrap_or(usize::MAX)
        };
        self.queue.unwrap_or_else(default).min(MAX_QUEUE)
    }

    /// How late a packet comes that others shall overtake.
    pub(crate) fn held_back_by(&self) -> Duration {
        self.reorder_by.unwrap_or(DEFAULT_REORDER_BY).min(MAX_TIME)
    }

    /// The wire's length for one packet, whose share of the jitter is `shift`, -1 to 1.
    pub(crate) fn travel_time(&self, shift: f64) -> Duration {
        let (delay, jitter) = (self.delay.min(MAX_TIME), self.jitter.min(MAX_TIME));
        let change = jitter.mul_f64(shift.abs().min(1.0));
        if shift < 0.0 {
            delay.saturating_sub(change)
        } else {
            delay + change
        }
    }

    /// Every option as JSON has it.
    fn entries(&self) -> [(&'static str, Value); 11] {
        let time = |time: Duration| json!(format_duration(time).to_string());
        let number = |number: f64| match number as u64 {
            whole if whole as f64 == number => json!(whole),
            _ => json!(number),
        };
        [
            ("loss", number(self.loss)),
            ("burst", self.burst.map_or(Value::Null, number)),
            ("delay", time(self.delay)),
            ("jitter", time(self.jitter)),
            (
                "rate",
                json!(
                    self.rate
                        .map(|rate| scaled(rate.get(), "bit", ["gbit", "mbit", "kbit"]))
                ),
            ),
            (
                "queue",
                json!(
                    self.queue
                        .map(|size| scaled(size as u64, "B", ["GB", "MB", "kB"]))
                ),
            ),
            ("reorder", number(self.reorder)),
            ("reorder_by", self.reorder_by.map_or(Value::Null, time)),
            ("duplicate", number(self.duplicate)),
            ("corrupt", number(self.corrupt)),
            (
                "blackout",
                json!(self.blackout.map(|Blackout { works, dark }| format!(
                    "{}/{}",
                    format_duration(works),
                    format_duration(dark)
                ))),
            ),
        ]
    }
}

/// As a list; `nothing` if no option is set.
impl fmt::Display for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<String> = self
            .entries()
            .into_iter()
            .zip(Self::default().entries())
            .filter(|(entry, default)| entry != default)
            .map(|((key, value), _)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            })
            .collect();
        f.write_str(if set.is_empty() { "nothing" } else { "" })?;
        f.write_str(&set.join(","))
    }
}

impl Serialize for LinkOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries())
    }
}

/// A number in the largest unit that takes it whole.
fn scaled(number: u64, unit: &str, larger: [&str; 3]) -> String {
    [1_000_000_000, 1_000_000, 1_000]
        .into_iter()
        .zip(larger)
        .find(|(factor, _)| number > 0 && number.is_multiple_of(*factor))
        .map_or_else(
            || format!("{number}{unit}"),
            |(factor, unit)| format!("{}{unit}", number / factor),
        )
}

/// A percentage.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse();
    number
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("`{}` is no percentage from 0 to 100", text.escape_debug()))
}

/// A mean number of packets.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn burst(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|burst| (1.0..=1e6).contains(burst))
        .ok_or_else(|| {
            format!(
                "`{}` is no number of packets from 1 to 1000000",
                text.escape_debug()
            )
        })
}

/// A time of an hour at most.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| {
            format!(
                "`{}` is no time up to an hour; write it as `25ms` or `2s`",
                text.escape_debug()
            )
        })
}

/// Bits a second.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn rate(text: &str) -> Result<NonZeroU64, String> {
    let lower = text.to_ascii_lowercase();
    let unit = lower
        .strip_suffix("/s")
        .or_else(|| lower.strip_suffix("ps"))
        .unwrap_or(&lower);
    value::with_unit(
        unit,
        &[("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)],
        1e12,
    )
    .and_then(NonZeroU64::new)
    .ok_or_else(|| {
        format!(
            "`{}` is no rate up to 1000gbit; write it as `10mbit` or `500kbit`",
            text.escape_debug()
        )
    })
}

/// Bytes.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn size(text: &str) -> Result<usize, String> {
    let bytes = value::bytes(text, (0, MAX_QUEUE as u64))?;
    // As large as MAX_QUEUE at the most.
    Ok(usize::try_from(bytes).unwrap_or(MAX_QUEUE))
}

/// `WORKS/DARK`, both longer than nothing.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn blackout(text: &str) -> Result<Blackout, String> {
    let times = || {
        let (works, dark) = text.split_once('/')?;
        let works = duration(works.trim()).ok()?;
        let dark = duration(dark.trim()).ok()?;
        (!works.is_zero() && !dark.is_zero()).then_some(Blackout { works, dark })
    };
    times().ok_or_else(|| {
        format!(
            "`{}` is no black-out; write it as `5s/2s`: works for 5 s, dark for 2 s",
            text.escape_debug()
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Result<LinkOptions, String> {
        let mut options = LinkOptions::default();
        options.set_list(text)?;
        options.check()?;
        Ok(options)
    }

    #[test]
    fn a_list_says_everything() {
        let text = "loss=5,burst=3,delay=25ms,jitter=5ms,rate=10mbit,queue=625kB,reorder=25,\
                    reorder-by=7ms,duplicate=1,corrupt=0.5,blackout=5s/2s";
        let options = list(text).expect(text);
        assert_eq!(
            options,
            LinkOptions {
                loss: 5.0,
                burst: Some(3.0),
                delay: Duration::from_millis(25),
                jitter: Duration::from_millis(5),
                rate: NonZeroU64::new(10_000_000),
                queue: Some(625_000),
                reorder: 25.0,
                reorder_by: Some(Duration::from_millis(7)),
                duplicate: 1.0,
                corrupt: 0.5,
                blackout: Some(Blackout {
                    works: Duration::from_secs(5),
                    dark: Duration::from_secs(2),
                }),
            }
        );
        // What it says of itself is read back, as a list and as JSON.
        assert_eq!(
            options.to_string(),
            text.replace("reorder-by", "reorder_by")
        );
        assert_eq!(list(&options.to_string()), Ok(options));
        let json = serde_json::to_value(options).expect("JSON");
        let mut read = LinkOptions::default();
        read.set_json(json.as_object().expect("an object"))
            .expect("its own");
        assert_eq!(read, options);
        let off: String = options
            .entries()
            .map(|(key, _)| format!("{key}=off,"))
            .concat();
        assert_eq!(options.entries().map(|(key, _)| key), LinkOptions::KEYS);
        read.set_list(&off).expect("off");
        assert_eq!(read, LinkOptions::default());
        assert_eq!(read.to_string(), "nothing");
    }

    #[test]
    fn quantities_have_their_units() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("2.5Mbit/s", 2_500_000),
            ("9600bit", 9600),
            ("1gbps", 0),
            ("1 Gbitps", 1_000_000_000),
            ("64kbit", 64_000),
            ("0mbit", 0),
            ("-1mbit", 0),
            ("10", 0),
            ("10MB", 0),
            ("nanmbit", 0),
            ("1e300gbit", 0),
        ] {
            assert_eq!(rate(text).ok(), NonZeroU64::new(bits), "{text}");
        }
        for (text, bytes) in [
            ("625kB", Some(625_000)),
            ("1500", Some(1500)),
            ("1500B", Some(1500)),
            ("64KiB", Some(65_536)),
            ("0", Some(0)),
            ("1.5MB", Some(1_500_000)),
            ("65MiB", None),
            ("kB", None),
            ("-1", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("loss=101", "percentage"),
            ("loss=NaN", "percentage"),
            ("lost=1", "no option of a link; those are loss, burst"),
            ("loss", "write it as `loss=5`"),
            ("burst=0.5", "packets"),
            ("delay=25", "25ms"),
            ("delay=2h", "hour"),
            ("rate=fast", "10mbit"),
            ("queue=big", "625kB"),
            ("blackout=5s", "5s/2s"),
            ("blackout=0s/2s", "5s/2s"),
            ("loss=80,burst=2", "bursts of 2"),
            ("loss=100,burst=2", "bursts of 2"),
        ] {
            let error = list(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(list("loss=75,burst=3").is_ok());
        assert!(list(" loss = 5 , , delay=1s,").is_ok());
    }

    #[test]
    fn a_blackout_comes_again() {
        let blackout = Blackout {
            works: Duration::from_secs(5),
            dark: Duration::from_secs(2),
        };
        let start = Instant::now();
        for (millis, dark) in [
            (0, false),
            (4999, false),
            (5000, true),
            (6999, true),
            (7000, false),
            (700_000, false),
            (705_000, true),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(blackout.is_dark(start, now), dark, "{millis} ms");
        }
        let never = Blackout {
            works: Duration::ZERO,
            dark: Duration::ZERO,
        };
        assert!(!never.is_dark(start, start));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[a-z_=,./0-9% -]{0,40}", key in "[a-z_]{0,10}", value in ".{0,10}") {
            let _ = list(&text);
            let _ = LinkOptions::default().set(&key, &value);
            let _ = list(&format!("queue={value},rate={value}mbit,blackout={value}"));
        }
    }
}
