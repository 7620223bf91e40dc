//! What an experiment is described by: the same keys on the command line and in a file, as text,
//! with the place where each was said.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::{LinkOptions, link_options::LINK_OPTIONS};

/// One key of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in a file; an option's has `-` where this has `_`.
    pub name: &'static str,
    /// What stands for its value in a help text; empty: it is said or not, and has none.
    pub value: &'static str,
    /// It may be said several times.
    pub many: bool,
    /// What it means.
    pub help: &'static str,
    /// What holds where nothing is said of it; empty: nothing.
    pub default: &'static str,
}

impl Key {
    /// Its name as an option, without the dashes before it.
    pub fn option(&self) -> String {
        self.name.replace('_', "-")
    }

    /// What it means, and what holds without it.
    pub fn described(&self) -> String {
        match self.default {
            "" => self.help.to_owned(),
            default => format!("{} [default: {default}]", self.help),
        }
    }
}

const fn key(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    default: &'static str,
) -> Key {
    Key {
        name,
        value,
        many: false,
        help,
        default,
    }
}

/// What an experiment is made of, besides its link.
pub const KEYS: [Key; 13] = [
    key(
        "congestion",
        "all|LIST",
        "Compare labnet's own transport with these controllers: new_reno, cubic, vegas, bbr, or a program of your own, exec:./mine.py (docs/controllers.md)",
        "all",
    ),
    key(
        "against",
        "LIST",
        "Put them against tcp (this kernel's), quic (quinn's), or one of theirs: tcp-reno, quic-bbr",
        "",
    ),
    key(
        "flows",
        "LIST",
        "These senders at the same time, instead: 2xcubic,1xtcp-reno; cubic@50ms is so much further away each way, cubic+5s begins later",
        "",
    ),
    key(
        "together",
        "",
        "All at the same time over one link, not one after another",
        "",
    ),
    key(
        "size",
        "SIZE",
        "Each sends so many bytes (10MB), however long that takes",
        "",
    ),
    key(
        "files",
        "N",
        "That size in so many files, at once over the one connection of each: a stream for each file, or turns on TCP's only one",
        "1",
    ),
    key("time", "TIME", "Each sends for so long", "10s"),
    key(
        "initial_window",
        "PACKETS",
        "Each begins with so many packets, before the first acknowledgement; without it, as it would by itself",
        "",
    ),
    Key {
        name: "at",
        value: "TIME OPTIONS",
        many: true,
        help: "From this time on the link is otherwise: --at 10s loss=5,rate=5mbit; may be repeated",
        default: "",
    },
    key(
        "sweep",
        "OPTION=VALUES",
        "Repeat it all with each value of one of the link's options, or of initial_window: loss=0..5, delay=5ms..50ms/15ms, queue=1bdp,4bdp",
        "",
    ),
    key(
        "runs",
        "N",
        "Repeat it so often, each time with the next seed",
        "1",
    ),
    key(
        "seed",
        "NUMBER",
        "Decides every packet's fate: with the same seed the Nth packet has the same one",
        "1",
    ),
    key(
        "simulate",
        "",
        "In virtual time: the product's own senders, and quinn's but for its BBR, over the same model of a link, much faster than real, the same every time; there is no TCP in it",
        "",
    ),
];

/// What the link of an experiment is, as far as nothing else is said of it.
pub const DEFAULT_LINK: [(&str, &str); 3] =
    [("rate", "20mbit"), ("delay", "25ms"), ("queue", "1bdp")];

/// What the link of an experiment is made of: the options that every link has, and its two directions.
pub static LINK_KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let options = LINK_OPTIONS.iter().map(|option| {
        let mut defaults = DEFAULT_LINK.iter();
        let default = defaults.find(|(name, _)| *name == option.key);
        let default = default.map(|(_, value)| *value).or(option.without);
        Key {
            name: option.key,
            value: match option.key {
                // What the path holds is known here, and not to a link.
                "queue" => "SIZE|Nbdp",
                _ => option.value,
            },
            many: false,
            help: option.does,
            default: default.unwrap_or_default(),
        }
    });
    let ways = [
        key(
            "up",
            "LIST",
            "Other options for packets to the sender: loss=5,rate=1mbit",
            "",
        ),
        key(
            "down",
            "LIST",
            "Other options for packets from the sender",
            "",
        ),
    ];
    options.chain(ways).collect()
});

/// What a file says to its reader; none of it changes the experiment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// What the experiment is called.
    pub title: Option<String>,
    /// What it asks.
    pub question: Option<String>,
    /// What to look at in its outcome.
    pub look_for: Vec<String>,
    /// The answer.
    pub answer: Option<String>,
}

/// Something that is wrong with an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `--loss`, `FILE:3: loss`, `FILE:3`.
    pub place: String,
    /// What, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// What was said of one key, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Where.
    pub place: String,
    /// The values; none of a key that has none.
    pub values: Vec<String>,
    /// Whether it is in a file, which somebody else may have written.
    pub in_file: bool,
}

/// An experiment as it was written down, nothing of it checked but its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Experiment {
    /// What it says to its reader.
    pub text: Text,
    said: BTreeMap<&'static str, Said>,
}

impl Experiment {
    /// Reads a file's text; `name` is what problems call it.
    ///
    /// # Errors
    /// Everything that is no TOML, no key, or no value of its kind.
    pub fn read(name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let line = |at: usize| {
            let before = text.get(..at.min(text.len())).unwrap_or(text);
            1 + before.bytes().filter(|byte| *byte == b'\n').count()
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| Problem {
                place: match error.span() {
                    Some(span) => format!("{name}:{}", line(span.start)),
                    None => name.to_owned(),
                },
                message: error.message().to_owned(),
            })
            .collect();
        let mut this = Self::default();
        let mut entries: Vec<_> = document.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let word = key.get_ref().as_ref();
            let place = format!("{name}:{}: {word}", line(key.span().start));
            if let Err(message) = this.take(word, value, place.clone()) {
                problems.push(Problem { place, message });
            }
        }
        match problems.is_empty() {
            true => Ok(this),
            false => Err(problems),
        }
    }

    fn take(
        &mut self,
        word: &str,
        value: &Spanned<DeValue<'_>>,
        place: String,
    ) -> Result<(), String> {
        let text = || {
            let text = value.get_ref().as_str().map(str::to_owned);
            text.ok_or_else(|| "a text is needed".to_owned())
        };
        match word {
            "title" => self.text.title = Some(text()?),
            "question" => self.text.question = Some(text()?),
            "answer" => self.text.answer = Some(text()?),
            "look_for" => {
                self.text.look_for =
                    texts(value.get_ref()).ok_or("a text is needed, or a list of them")?;
            }
            _ => {
                let known = word.replace('-', "_");
                let key = find(&known).ok_or_else(|| {
                    let names = KEYS.iter().chain(LINK_KEYS.iter()).map(|key| key.name);
                    let names: Vec<&str> = names.collect();
                    format!(
                        "is no key of an experiment; those are title, question, look_for, answer, {}",
                        names.join(", ")
                    )
                })?;
                let values = if key.value.is_empty() {
                    match value.get_ref() {
                        DeValue::Boolean(true) => Vec::new(),
                        DeValue::Boolean(false) => return Ok(()),
                        _ => return Err("`true` or `false` is needed".to_owned()),
                    }
                } else {
                    let values = texts(value.get_ref());
                    values.ok_or("a text or a number is needed, or a list of them")?
                };
                let said = Said {
                    place,
                    values,
                    in_file: true,
                };
                self.said.insert(key.name, said);
            }
        }
        Ok(())
    }

    /// Says something of a key of [`KEYS`] or [`LINK_KEYS`], instead of what was said of it before, as a
    /// command line does. Any other is not heard.
    pub fn say(&mut self, name: &str, place: String, values: Vec<String>) {
        if let Some(key) = find(name) {
            let said = Said {
                place,
                values,
                in_file: false,
            };
            self.said.insert(key.name, said);
        }
    }

    /// What was said of a key.
    pub fn said(&self, name: &str) -> Option<&Said> {
        self.said.get(name)
    }

    /// Forgets what was said of a key.
    pub fn forget(&mut self, name: &str) {
        self.said.remove(name);
    }

    /// What was said of the link's options, both directions' in the order of their names.
    pub fn link(&self) -> impl Iterator<Item = (&'static str, &Said)> {
        let keys = LinkOptions::KEYS.into_iter();
        keys.filter_map(|key| Some((key, self.said.get(key)?)))
    }

    /// The command line that says the same.
    pub fn command(&self) -> Vec<String> {
        let mut words = Vec::new();
        for key in KEYS.iter().chain(LINK_KEYS.iter()) {
            let Some(said) = self.said.get(key.name) else {
                continue;
            };
            let option = format!("--{}", key.option());
            match (key.value.is_empty(), key.many) {
                (true, _) => words.push(option),
                (false, true) => {
                    for value in &said.values {
                        words.push(option.clone());
                        words.extend(value.split_whitespace().map(str::to_owned));
                    }
                }
                (false, false) => words.extend([option, said.values.join(",")]),
            }
        }
        words
    }
}

fn find(name: &str) -> Option<&'static Key> {
    let mut keys = KEYS.iter().chain(LINK_KEYS.iter());
    keys.find(|key| key.name == name)
}

/// A value, or a list of them, as text.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        value => scalar(value).map(|text| vec![text]),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.as_ref().to_owned()),
        // As it stands there, which is decimal unless it says otherwise: then no option takes it.
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(is_on) => Some(is_on.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_the_command_line_would() {
        let text = "title = \"A test\"\nlook_for = [\"this\", \"that\"]\n\
                    congestion = [\"cubic\", \"bbr\"]\nloss = 0.5\nreorder-by = \"7ms\"\n\
                    at = [\"5s loss=2\", \"8s loss=0\"]\ntogether = true\nsimulate = false\nruns = 3\n";
        let read = Experiment::read("x.toml", text).expect("right");
        assert_eq!(read.text.title.as_deref(), Some("A test"));
        assert_eq!(read.text.look_for, ["this", "that"]);
        assert_eq!(
            read.command().join(" "),
            "--congestion cubic,bbr --together --at 5s loss=2 --at 8s loss=0 --runs 3 --loss 0.5 \
             --reorder-by 7ms"
        );
        assert_eq!(
            read.said("loss").map(|said| said.place.as_str()),
            Some("x.toml:4: loss")
        );
        assert_eq!(read.said("simulate"), None);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "los = 5\nloss = [[1]]\ntogether = 1\nquestion = 3\nrate = \n";
        let problems = Experiment::read("x.toml", text).expect_err("wrong");
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        for part in [
            "x.toml:1: los: is no key",
            "x.toml:2: loss: a text or a number",
            "x.toml:3: together: `true`",
            "x.toml:4: question: a text",
            "x.toml:5",
        ] {
            assert!(
                told.iter().any(|line| line.starts_with(part)),
                "{part}: {told:?}"
            );
        }
    }

    #[test]
    fn defaults_are_those_that_hold() {
        let of = |name: &str| find(name).expect(name).described();
        assert!(of("queue").ends_with("[default: 1bdp]"), "{}", of("queue"));
        assert!(of("reorder_by").ends_with("[default: 5ms]"));
        assert!(!of("loss").contains("default"));
        for (name, value) in DEFAULT_LINK {
            assert_eq!(find(name).expect(name).default, value);
        }
    }
}
