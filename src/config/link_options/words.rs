//! The options of a link in words: one table, from which the file, the command line, the API and every
//! list take them.

use std::{fmt, num::NonZeroU64, time::Duration};

use humantime::format_duration;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Aqm, Blackout, LinkOptions, MAX_QUEUE, MAX_TIME, Policer};
use crate::config::value;

/// One option: how it is called and written, and what it does.
#[derive(Debug)]
pub struct LinkOption {
    /// Its name, a field of [`LinkOptions`]; the command line has `-` for `_`.
    pub key: &'static str,
    /// What stands for its value where the command line explains it.
    pub value: &'static str,
    /// What it does, as the command line says it.
    pub does: &'static str,
    /// What holds where nothing is said of it, in words; `None`: the link does nothing of the kind.
    pub without: Option<&'static str>,
    /// Reads its value; `None` puts it back to its default.
    set: fn(&mut LinkOptions, Option<&str>) -> Result<(), String>,
    /// Its value as JSON has it; `null` where there is none.
    get: fn(&LinkOptions) -> Value,
}

/// Every option, in the order in which they are shown.
pub const LINK_OPTIONS: &[LinkOption] = &[
    LinkOption {
        key: "loss",
        value: "PERCENT",
        does: "Lose so many percent of them",
        without: None,
        set: |options, text| put(&mut options.loss, text, percent),
        get: |options| number(options.loss),
    },
    LinkOption {
        key: "burst",
        value: "N",
        does: "Lose so many in a row, on average",
        without: None,
        set: |options, text| put(&mut options.burst, text, some(burst)),
        get: |options| maybe(options.burst, number),
    },
    LinkOption {
        key: "delay",
        value: "TIME",
        does: "Take so long for each way",
        without: None,
        set: |options, text| put(&mut options.delay, text, duration),
        get: |options| time(options.delay),
    },
    LinkOption {
        key: "jitter",
        value: "TIME",
        does: "Vary the delay by up to so much; the order stays",
        without: None,
        set: |options, text| put(&mut options.jitter, text, duration),
        get: |options| time(options.jitter),
    },
    LinkOption {
        key: "rate",
        value: "RATE",
        does: "Carry so many bits a second (10mbit, 500kbit)",
        without: None,
        set: |options, text| put(&mut options.rate, text, some(rate)),
        get: |options| {
            maybe(options.rate, |rate| {
                json!(scaled(rate.get(), "bit", ["gbit", "mbit", "kbit"]))
            })
        },
    },
    LinkOption {
        key: "queue",
        value: "SIZE",
        does: "Let so many bytes wait for the rate, drop others",
        without: Some("those of 100 ms"),
        set: |options, text| put(&mut options.queue, text, some(size)),
        get: |options| {
            maybe(options.queue, |size| {
                json!(scaled(size as u64, "B", ["GB", "MB", "kB"]))
            })
        },
    },
    LinkOption {
        key: "policer",
        value: "RATE,BURST",
        does: "Drop what is more than so many bits a second, but for bursts of so many bytes (10mbit,30kB); no queue",
        without: None,
        set: |options, text| put(&mut options.policer, text, some(policer)),
        get: |options| {
            maybe(options.policer, |Policer { rate, burst }| {
                let rate = scaled(rate.get(), "bit", ["gbit", "mbit", "kbit"]);
                let burst = scaled(burst as u64, "B", ["GB", "MB", "kB"]);
                json!(format!("{rate},{burst}"))
            })
        },
    },
    LinkOption {
        key: "aqm",
        value: "codel|red",
        does: "Drop before the queue is full: CoDel when packets wait for more than 5 ms, RED the more the longer the queue is",
        without: None,
        set: |options, text| put(&mut options.aqm, text, some(aqm)),
        get: |options| maybe(options.aqm, |aqm| json!(aqm.name())),
    },
    LinkOption {
        key: "ecn",
        value: "on|off",
        does: "Have --aqm mark packets whose sender understands that (ECN), not drop them",
        without: Some("off"),
        set: |options, text| put(&mut options.ecn, text, switch),
        get: |options| maybe(options.ecn.then_some("on"), |on| json!(on)),
    },
    LinkOption {
        key: "reorder",
        value: "PERCENT",
        does: "Hold back so many percent, so that others overtake them",
        without: None,
        set: |options, text| put(&mut options.reorder, text, percent),
        get: |options| number(options.reorder),
    },
    LinkOption {
        key: "reorder_by",
        value: "TIME",
        does: "By how much they are held back",
        without: Some("5ms"),
        set: |options, text| put(&mut options.reorder_by, text, some(duration)),
        get: |options| maybe(options.reorder_by, time),
    },
    LinkOption {
        key: "duplicate",
        value: "PERCENT",
        does: "Deliver so many percent twice",
        without: None,
        set: |options, text| put(&mut options.duplicate, text, percent),
        get: |options| number(options.duplicate),
    },
    LinkOption {
        key: "corrupt",
        value: "PERCENT",
        does: "Change one byte of so many percent",
        without: None,
        set: |options, text| put(&mut options.corrupt, text, percent),
        get: |options| number(options.corrupt),
    },
    LinkOption {
        key: "blackout",
        value: "WORKS/DARK",
        does: "Work for some time, then lose everything for some time, over and over (5s/2s)",
        without: None,
        set: |options, text| put(&mut options.blackout, text, some(blackout)),
        get: |options| {
            maybe(options.blackout, |Blackout { works, dark }| {
                json!(format!(
                    "{}/{}",
                    format_duration(works),
                    format_duration(dark)
                ))
            })
        },
    },
];

impl LinkOption {
    /// Sets this one from text, which is not `off`.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    pub fn read(&self, options: &mut LinkOptions, text: &str) -> Result<(), String> {
        (self.set)(options, Some(text))
    }
}

impl LinkOptions {
    /// The options' names.
    pub const KEYS: [&'static str; LINK_OPTIONS.len()] = {
        let mut keys = [""; LINK_OPTIONS.len()];
        let mut index = 0;
        while index < keys.len() {
            keys[index] = LINK_OPTIONS[index].key;
            index += 1;
        }
        keys
    };

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
    pub(in crate::config) fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        let option = LINK_OPTIONS.iter().find(|option| option.key == key);
        let option = option.ok_or_else(|| {
            format!(
                "`{}` is no option of a link; those are {}",
                key.escape_debug(),
                Self::KEYS.join(", ")
            )
        })?;
        (option.set)(self, (value != "off").then_some(value))
    }

    /// Sets the options of a list like `loss=5,delay=25ms`, and leaves the others.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn set_list(&mut self, list: &str) -> Result<(), String> {
        Self::items(list)?
            .into_iter()
            .try_for_each(|(key, value)| self.set(key, &value))
    }

    /// The keys and values of such a list. A comma within a value is no end of it: what follows the one of
    /// `policer=10mbit,30kB` has no `=`.
    ///
    /// # Errors
    /// What has no value.
    pub fn items(list: &str) -> Result<Vec<(&str, String)>, String> {
        let mut items: Vec<(&str, String)> = Vec::new();
        let parts = list.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            let pair = part.split_once('=');
            if let Some((key, value)) = pair {
                items.push((key.trim(), value.trim().to_owned()));
            } else if let Some((key, value)) = items.last_mut()
                && LINK_OPTIONS
                    .iter()
                    .any(|option| option.key == *key && option.value.contains(','))
                && !value.contains(',')
            {
                value.push(',');
                value.push_str(part);
            } else {
                return Err(format!(
                    "`{}` has no value; write it as `loss=5`",
                    part.escape_debug()
                ));
            }
        }
        Ok(items)
    }

    /// Sets the options of a JSON object, and leaves the others. `null` is `off`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn set_json(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        object.iter().try_for_each(|(key, value)| match value {
            Value::String(text) => self.set(key, text),
            Value::Number(number) => self.set(key, &number.to_string()),
            Value::Bool(is_on) => self.set(key, &is_on.to_string()),
            Value::Null => self.set(key, "off"),
            _ => Err(format!("{key}: a number or a text is needed")),
        })
    }

    /// Every option as JSON has it.
    fn entries(&self) -> impl Iterator<Item = (&'static str, Value)> {
        LINK_OPTIONS
            .iter()
            .map(|option| (option.key, (option.get)(self)))
    }
}

/// As a list; `nothing` if no option is set.
impl fmt::Display for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<String> = self
            .entries()
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

/// Reads an option's value into its field; no text puts it back to its default.
fn put<T: Default>(
    field: &mut T,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<(), String> {
    *field = text.map(read).transpose()?.unwrap_or_default();
    Ok(())
}

/// The reader of a field that may hold no value.
fn some<T>(read: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| read(text).map(Some)
}

fn maybe<T>(field: Option<T>, write: impl Fn(T) -> Value) -> Value {
    field.map_or(Value::Null, write)
}

fn time(time: Duration) -> Value {
    json!(format_duration(time).to_string())
}

fn number(number: f64) -> Value {
    match number as u64 {
        whole if whole as f64 == number => json!(whole),
        _ => json!(number),
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
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse();
    number
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("`{}` is no percentage from 0 to 100", text.escape_debug()))
}

/// A mean number of packets.
fn burst(text: &str) -> Result<f64, String> {
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
fn rate(text: &str) -> Result<NonZeroU64, String> {
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
fn size(text: &str) -> Result<usize, String> {
    let bytes = value::bytes(text, (0, MAX_QUEUE as u64))?;
    // As large as MAX_QUEUE at the most.
    Ok(usize::try_from(bytes).unwrap_or(MAX_QUEUE))
}

/// `WORKS/DARK`, both longer than nothing.
fn blackout(text: &str) -> Result<Blackout, String> {
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

/// `RATE,BURST`; a burst has room for a full packet.
fn policer(text: &str) -> Result<Policer, String> {
    const FULL_PACKET: usize = 1500;
    let (first, second) = text.split_once(',').ok_or_else(|| {
        format!(
            "`{}` is no policer; write it as `10mbit,30kB`: 10 Mbit/s, and 30 kB at once",
            text.escape_debug()
        )
    })?;
    let (rate, burst) = (rate(first.trim())?, size(second.trim())?);
    match burst {
        FULL_PACKET.. => Ok(Policer { rate, burst }),
        _ => Err(format!(
            "a burst of {burst} bytes lets no full packet through: {FULL_PACKET} bytes are the least"
        )),
    }
}

fn aqm(text: &str) -> Result<Aqm, String> {
    let mut all = Aqm::ALL.into_iter();
    all.find(|aqm| aqm.name() == text).ok_or_else(|| {
        format!(
            "`{}` manages no queue here; codel and red do",
            text.escape_debug()
        )
    })
}

/// `on`, or `true` as files and JSON have it.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(format!("`{}` is neither on nor off", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Result<LinkOptions, String> {
        let mut options = LinkOptions::default();
        options.set_list(text)?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn a_list_says_everything() {
        let text = "loss=5,burst=3,delay=25ms,jitter=5ms,rate=10mbit,queue=625kB,\
                    policer=5mbit,30kB,aqm=red,ecn=on,reorder=25,\
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
                policer: NonZeroU64::new(5_000_000).map(|rate| Policer {
                    rate,
                    burst: 30_000,
                }),
                aqm: Some(Aqm::Red),
                ecn: true,
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
            .collect();
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
            ("policer=5mbit", "10mbit,30kB"),
            ("policer=5mbit,30kB,20kB", "has no value"),
            ("policer=30kB,5mbit", "no rate"),
            ("policer=5mbit,1kB", "no full packet"),
            ("aqm=pie,rate=1mbit", "codel and red"),
            ("aqm=codel", "a rate is needed"),
            ("aqm=red,rate=1mbit,queue=8kB", "queue of 9000 bytes"),
            ("ecn=on,rate=1mbit", "aqm is needed"),
            ("ecn=perhaps", "neither on nor off"),
            ("loss=80,burst=2", "bursts of 2"),
            ("loss=100,burst=2", "bursts of 2"),
        ] {
            let error = list(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(list("loss=75,burst=3").is_ok());
        assert!(list(" loss = 5 , , delay=1s,").is_ok());
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
