//! What is to be done, run by run.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use super::{
    experiment::{DEFAULT_LINK, Experiment, Problem, Said, Text},
    files::Files,
    place::Place,
    recorder::FlowRecord,
    sender::{QuicControl, Sender, Transport},
    sweep::{INITIAL_WINDOW, Sweep, bdp, packets},
};
use crate::{
    config::{LinkOptions, bytes, link_options::duration},
    rudp::{congestion::Algorithm, connection::Config},
};

/// How much each sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Size(u64),
    /// As much as comes through in this time.
    Time(Duration),
}

/// From this time after the start the link is otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub after: Duration,
    /// How it was said: `loss=5`.
    pub words: String,
    /// To the sender.
    pub up: LinkOptions,
    /// From the sender.
    pub down: LinkOptions,
}

/// One run: senders over one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Who sends, at the same time.
    pub senders: Vec<Sender>,
    /// Where those of the senders are, by their number, that are not where the others are.
    pub places: BTreeMap<usize, Place>,
    /// So many packets are sent before the first acknowledgement; `None`: as each sender has it.
    pub initial_window: Option<u16>,
    /// What happens to packets to the sender: requests and acknowledgements.
    pub up: LinkOptions,
    /// What happens to packets from the sender.
    pub down: LinkOptions,
    /// How the link changes.
    pub changes: Vec<Change>,
    /// How much each sends.
    pub amount: Amount,
    /// In so many files of one size, at once.
    pub files: u64,
    /// Decides every packet's fate.
    pub seed: u64,
    /// The value of what is swept.
    pub point: Option<String>,
    /// The how-manieth time it is run, from 0.
    pub repetition: u32,
}

/// An experiment that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it says to its reader.
    pub text: Text,
    /// In virtual time.
    pub simulate: bool,
    /// What is swept.
    pub sweep: Option<Sweep>,
    /// All runs, in order: by what is swept, then by repetition, then by sender.
    pub runs: Vec<Run>,
    /// How often each is repeated.
    pub repetitions: u32,
    /// The first seed.
    pub seed: u64,
    /// The command line that says the same.
    pub command: Vec<String>,
}

const DEFAULT_TIME: Duration = Duration::from_secs(10);
/// Who is not the same every time, whatever the seed.
const UNSEEDED: Sender = Sender::Quic(QuicControl::Bbr);
const MOST_RUNS: u32 = 100;
/// Files at once: no transport lets its peer open more than a hundred streams, unless it is asked.
const MOST_FILES: u64 = 64;
/// Senders at once.
const MOST_SENDERS: usize = 64;
/// The most that one sends: the largest of the built-in sample files.
const MOST_BYTES: u64 = 4_000_000_000;
/// A queue has room for a full packet and what comes after it.
const LEAST_QUEUE: f64 = 3_000.0;

impl Plan {
    /// Makes a plan of an experiment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(experiment: &Experiment) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler {
            experiment,
            problems: Vec::new(),
        };
        let plan = compiler.plan();
        match plan {
            Some(plan) if compiler.problems.is_empty() => Ok(plan),
            _ => Err(compiler.problems),
        }
    }

    /// Whether a program of somebody's own controls a sender of it.
    pub fn has_program(&self) -> bool {
        let mut senders = self.runs.iter().flat_map(|run| &run.senders);
        senders.any(|sender| matches!(sender, Sender::Exec(_)))
    }

    /// Whether something of it is carried by this.
    pub fn has(&self, transport: Transport) -> bool {
        self.runs.iter().any(|run| run.has(transport))
    }
}

impl Run {
    /// Whether something of it is carried by this.
    pub fn has(&self, transport: Transport) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| sender.transport() == transport)
    }

    /// What is to be written down of its flow of this number; `start` is the run's.
    pub fn record(&self, number: usize, start: Instant, until: Option<Instant>) -> FlowRecord {
        let record = FlowRecord::new(start, until);
        if self.files > 1 {
            let away = self.place(number).away;
            let round_trip = self.up.delay + self.down.delay + 2 * away;
            let count = usize::try_from(self.files).unwrap_or(usize::MAX);
            record.begin_files(Files::new(count, round_trip));
        }
        record
    }

    /// Its time, if it has one.
    pub fn time(&self) -> Option<Duration> {
        match self.amount {
            Amount::Time(time) => Some(time),
            Amount::Size(_) => None,
        }
    }

    /// Where a sender's receiver is, and when it begins.
    pub fn place(&self, sender: usize) -> Place {
        self.places.get(&sender).copied().unwrap_or_default()
    }

    /// Each sender's name, with its place, and with a number if there are several of the kind.
    pub fn names(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let name = |(number, sender): (usize, &Sender)| {
            let name = format!("{sender}{}", self.place(number));
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            match *count {
                1 => name,
                count => format!("{name} {count}"),
            }
        };
        self.senders.iter().enumerate().map(name).collect()
    }

    /// The initial window in bytes of datagrams that fill an Ethernet's packets.
    pub fn initial_window_bytes(&self) -> Option<u64> {
        let packets = self.initial_window.map(u64::from);
        packets.map(|packets| packets * u64::from(Config::ETHERNET_IPV4))
    }
}

struct Compiler<'a> {
    experiment: &'a Experiment,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn problem(&mut self, place: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            place: place.to_owned(),
            message: message.into(),
        });
    }

    /// The one value of a key, made something of.
    fn one<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let said = self.experiment.said(key)?;
        let [value] = &said.values[..] else {
            self.problem(&said.place, "one value is needed");
            return None;
        };
        parse(value)
            .map_err(|message| self.problem(&said.place, message))
            .ok()
    }

    /// A list's items, whether they were said in a list or with commas.
    fn items(&self, key: &str) -> Option<(&Said, Vec<&str>)> {
        let said = self.experiment.said(key)?;
        let items = said.values.iter().flat_map(|value| value.split(','));
        let items = items.map(str::trim).filter(|item| !item.is_empty());
        Some((said, items.collect()))
    }

    fn plan(&mut self) -> Option<Plan> {
        let groups = self.groups();
        let (amount, files) = self.amount();
        self.places(&groups, amount);
        self.programs(&groups);
        let initial_window = self.one(INITIAL_WINDOW, packets);
        self.initial_windows(&groups);
        let runs = self.one("runs", |text| whole(text, 1..=MOST_RUNS.into()));
        let seed = self
            .one("seed", |text| whole(text, 0..=u64::MAX))
            .unwrap_or(1);
        let sweep = self.one_list("sweep", Sweep::parse);
        let simulate = self.experiment.said("simulate").is_some();
        let repetitions = u32::try_from(runs.unwrap_or(1)).unwrap_or(MOST_RUNS);
        let points: Vec<Option<&String>> = match &sweep {
            Some(sweep) => sweep.values.iter().map(Some).collect(),
            None => vec![None],
        };
        let mut planned = Vec::new();
        for point in points {
            let swept = sweep.as_ref().zip(point);
            let swept = swept.map(|(sweep, value)| (sweep.key.as_str(), value.as_str()));
            let (initial_window, swept) = match swept {
                // It was read before.
                Some((INITIAL_WINDOW, value)) => (packets(value).ok(), None),
                swept => (initial_window, swept),
            };
            let Some((up, down)) = self.link(swept) else {
                // Each point would say the same again.
                break;
            };
            let changes = self.changes(up, down, amount);
            for repetition in 0..repetitions {
                for flows in &groups {
                    let (senders, places): (Vec<_>, Vec<_>) = flows.iter().cloned().unzip();
                    let places = places.into_iter().enumerate();
                    planned.push(Run {
                        senders,
                        places: places
                            .filter(|(_, place)| *place != Place::default())
                            .collect(),
                        initial_window,
                        up,
                        down,
                        changes: changes.clone(),
                        amount,
                        files,
                        seed: seed.wrapping_add(repetition.into()),
                        point: point.cloned(),
                        repetition,
                    });
                }
            }
            if !self.problems.is_empty() {
                break;
            }
        }
        if simulate && let Some(place) = self.place_of(Transport::Tcp, &groups) {
            self.problem(
                &place,
                "the kernel's TCP is real, and --simulate is not: leave one of them out",
            );
        }
        let mut senders = groups.iter().flatten();
        if simulate && senders.any(|(sender, _)| *sender == UNSEEDED) {
            let place = self.place_of(Transport::Quic, &groups);
            self.problem(
                &place.unwrap_or_default(),
                format!(
                    "{UNSEEDED} can't be simulated: quinn's BBR has dice of its own that no seed reaches, so \
                     that no two runs would be the same; leave it out, or --simulate"
                ),
            );
        }
        Some(Plan {
            text: self.experiment.text.clone(),
            simulate,
            sweep,
            runs: planned,
            repetitions,
            seed,
            command: self.experiment.command(),
        })
    }

    /// The value of a key in which a comma is no end of it.
    fn one_list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let said = self.experiment.said(key)?;
        parse(&said.values.join(","))
            .map_err(|message| self.problem(&said.place, message))
            .ok()
    }

    /// Where a sender of this kind was asked for, if one was.
    fn place_of(&self, transport: Transport, groups: &[Vec<Placed>]) -> Option<String> {
        let mut senders = groups.iter().flatten();
        senders.find(|(sender, _)| sender.transport() == transport)?;
        let key = ["flows", "against", "congestion"];
        let said = key.into_iter().find_map(|key| self.experiment.said(key));
        Some(said.map_or_else(String::new, |said| said.place.clone()))
    }

    /// Who sends at the same time, and who after whom.
    fn groups(&mut self) -> Vec<Vec<Placed>> {
        if let Some((said, items)) = self.items("flows") {
            let (place, in_file) = (said.place.clone(), said.in_file);
            let items: Vec<String> = items.into_iter().map(str::to_owned).collect();
            for other in ["congestion", "against"] {
                if self.experiment.said(other).is_some() {
                    self.problem(&place, format!("names all senders: leave {other} out"));
                }
            }
            let mut senders = Vec::new();
            for item in items {
                match several(&item, in_file) {
                    Ok((count, placed)) => senders.extend(std::iter::repeat_n(placed, count)),
                    Err(message) => self.problem(&place, message),
                }
            }
            self.bound(&place, senders.len());
            return vec![senders];
        }
        let own = self.own();
        let simulate = self.experiment.said("simulate").is_some();
        let mut senders: Vec<Sender> = own.clone();
        if let Some((said, items)) = self.items("against") {
            let (place, in_file) = (said.place.clone(), said.in_file);
            let items: Vec<String> = items.into_iter().map(str::to_owned).collect();
            for item in items {
                let kind = match item.as_str() {
                    "tcp" => Some(Transport::Tcp),
                    "quic" => Some(Transport::Quic),
                    _ => None,
                };
                let rivals = match kind {
                    Some(transport) => own
                        .iter()
                        .filter_map(|sender| match sender {
                            Sender::Rudp(algorithm) => Sender::rival(transport, *algorithm),
                            _ => None,
                        })
                        .filter(|rival| !simulate || *rival != UNSEEDED)
                        .collect(),
                    None => match sender(&item, in_file) {
                        Ok(sender) => vec![sender],
                        Err(message) => {
                            self.problem(&place, message);
                            Vec::new()
                        }
                    },
                };
                for rival in rivals {
                    if !senders.contains(&rival) {
                        senders.push(rival);
                    }
                }
            }
            if senders.len() == own.len() && self.problems.is_empty() {
                let names: Vec<String> = own.iter().map(ToString::to_string).collect();
                let why = match simulate {
                    true => " that can be simulated",
                    false => "",
                };
                let names = names.join(", ");
                self.problem(&place, format!("names no counterpart of {names}{why}"));
            }
            self.bound(&place, senders.len());
        }
        let placed = senders.into_iter();
        let placed = placed.map(|sender| (sender, Place::default()));
        if self.experiment.said("together").is_some() {
            vec![placed.collect()]
        } else {
            placed.map(|placed| vec![placed]).collect()
        }
    }

    /// The senders of `congestion`.
    fn own(&mut self) -> Vec<Sender> {
        let every = || Algorithm::ALL.map(Sender::Rudp).to_vec();
        let Some((said, items)) = self.items("congestion") else {
            return every();
        };
        let (place, in_file) = (said.place.clone(), said.in_file);
        let items: Vec<String> = items.into_iter().map(str::to_owned).collect();
        let mut senders = Vec::new();
        for item in items {
            let named = match item.as_str() {
                "all" => every(),
                name => match sender(name, in_file) {
                    Ok(sender) => vec![sender],
                    Err(message) => {
                        self.problem(&place, message);
                        continue;
                    }
                },
            };
            for sender in named {
                if !senders.contains(&sender) {
                    senders.push(sender);
                }
            }
        }
        self.bound(&place, senders.len());
        senders
    }

    /// Holds places to what can be done.
    fn places(&mut self, groups: &[Vec<Placed>], amount: Amount) {
        let Some(said) = self.experiment.said("flows") else {
            return;
        };
        for (sender, place) in groups.iter().flatten() {
            if !place.away.is_zero() && sender.transport() != Transport::Rudp {
                self.problem(
                    &said.place,
                    format!("{sender}{place}: only labnet's own senders can be further away"),
                );
            }
            if matches!(amount, Amount::Time(time) if place.after >= time) {
                self.problem(&said.place, format!("{sender}{place} begins after the end"));
            }
        }
    }

    /// Whether all of them can be given an initial window, if one is asked for.
    fn initial_windows(&mut self, groups: &[Vec<Placed>]) {
        let swept = |said: &&Said| {
            let mut values = said.values.iter();
            values.any(|value| value.replace('-', "_").starts_with(INITIAL_WINDOW))
        };
        let said = self.experiment.said(INITIAL_WINDOW);
        let said = said.or_else(|| self.experiment.said("sweep").filter(swept));
        if let Some(said) = said
            && self.place_of(Transport::Quic, groups).is_some()
        {
            self.problem(
                &said.place,
                "quinn's senders keep their own initial window: leave one of them out",
            );
        }
    }

    /// Programs are told by their names, which leave folders out.
    fn programs(&mut self, groups: &[Vec<Placed>]) {
        let mut known: Vec<&Sender> = Vec::new();
        for (sender, _) in groups.iter().flatten() {
            let name = sender.to_string();
            let namesake = known.iter().find(|other| other.to_string() == name);
            if namesake.is_some_and(|other| *other != sender) {
                let mut keys = ["flows", "against", "congestion"].into_iter();
                let place = keys.find_map(|key| self.experiment.said(key));
                let place = place.map_or_else(String::new, |said| said.place.clone());
                self.problem(
                    &place,
                    format!("two programs are called {name}: name one of the files otherwise"),
                );
                return;
            }
            known.push(sender);
        }
    }

    fn bound(&mut self, place: &str, senders: usize) {
        match senders {
            0 if self.problems.is_empty() => self.problem(place, "names no sender"),
            0..=MOST_SENDERS => {}
            count => self.problem(
                place,
                format!("names {count} senders; at most {MOST_SENDERS} are taken"),
            ),
        }
    }

    /// How much each sends, in how many files.
    fn amount(&mut self) -> (Amount, u64) {
        let bytes = self.one("size", |text| {
            let bytes = bytes(text, (1_000, MOST_BYTES))?;
            Ok(Amount::Size(bytes))
        });
        let time = self.one("time", |text| {
            let time = duration(text)?;
            match time < Duration::from_millis(100) {
                true => Err(format!("`{text}` is too short; 100ms are the least")),
                false => Ok(Amount::Time(time)),
            }
        });
        if let (Some(said), Some(_)) = (self.experiment.said("size"), self.experiment.said("time"))
        {
            self.problem(&said.place, "size or time: each sends so much, or so long");
        }
        let amount = bytes.or(time).unwrap_or(Amount::Time(DEFAULT_TIME));
        let files = self.one("files", |text| whole(text, 1..=MOST_FILES));
        match (amount, files) {
            (Amount::Size(size), Some(files)) => (Amount::Size(size - size % files), files),
            (Amount::Time(_), Some(_)) => {
                let said = self.experiment.said("files");
                let place = said.map_or_else(String::new, |said| said.place.clone());
                self.problem(&place, "files are of a size: say which, as --size 8MB");
                (amount, 1)
            }
            (amount, None) => (amount, 1),
        }
    }

    /// The link with the value that is swept.
    fn link(&mut self, swept: Option<(&str, &str)>) -> Option<(LinkOptions, LinkOptions)> {
        let before = self.problems.len();
        let mut both = Shape::default();
        for (key, value) in DEFAULT_LINK {
            // These are right.
            let _ = both.set(key, value);
        }
        for (key, said) in self.experiment.link() {
            let set = match &said.values[..] {
                [value] => both.set(key, value),
                _ => Err("one value is needed".to_owned()),
            };
            if let Err(message) = set {
                self.problem(&said.place, message);
            }
        }
        let place = |key: &str| self.experiment.said(key).map(|said| said.place.clone());
        if let Some((key, value)) = swept
            && let Err(message) = both.set(key, value)
        {
            self.problem(&place("sweep").unwrap_or_default(), message);
        }
        let mut ways = [("up", both.clone()), ("down", both)];
        for (way, shape) in &mut ways {
            if let Some(said) = self.experiment.said(way)
                && let Err(message) = shape.set_list(&said.values.join(","))
            {
                self.problem(&said.place, message);
            }
        }
        let [(_, up), (_, down)] = ways;
        let round_trip = up.options.delay + down.options.delay;
        let mut finished = Vec::new();
        for (way, shape) in [("up", up), ("down", down)] {
            let finish = shape.finish(round_trip);
            let checked = finish
                .map_err(|message| ("queue", message))
                .and_then(|options| match options.check() {
                    Ok(()) => Ok(options),
                    Err(mismatch) => Err((mismatch.key, mismatch.message)),
                });
            match checked {
                Ok(options) => finished.push(options),
                Err((key, message)) => {
                    let said = [way, "sweep", key, "queue", "loss"];
                    let place = said.into_iter().find_map(place).unwrap_or_default();
                    self.problem(&place, message);
                }
            }
        }
        match (self.problems.len() == before, &finished[..]) {
            (true, &[up, down]) => Some((up, down)),
            _ => None,
        }
    }

    /// How the link changes, in the order of time.
    fn changes(&mut self, up: LinkOptions, down: LinkOptions, amount: Amount) -> Vec<Change> {
        let Some(said) = self.experiment.said("at") else {
            return Vec::new();
        };
        let mut parsed = Vec::new();
        for value in &said.values {
            match at(value) {
                Ok((after, _)) if matches!(amount, Amount::Time(time) if after >= time) => {
                    self.problem(&said.place, format!("`{value}` comes after the end"));
                }
                Ok(one) => parsed.push(one),
                Err(message) => self.problem(&said.place, message),
            }
        }
        parsed.sort_by_key(|(after, _)| *after);
        let (mut up, mut down) = (up, down);
        let mut changes = Vec::new();
        for (after, list) in parsed {
            let set = up.set_list(list).and_then(|()| down.set_list(list));
            let both = || up.check().and_then(|()| down.check());
            let checked = set.and_then(|()| both().map_err(|mismatch| mismatch.message));
            if let Err(message) = checked {
                self.problem(&said.place, message);
            }
            changes.push(Change {
                after,
                words: list.to_owned(),
                up,
                down,
            });
        }
        changes
    }
}

/// `10s loss=5,rate=5mbit`.
fn at(text: &str) -> Result<(Duration, &str), String> {
    let wrong = || {
        format!(
            "`{}` is no change; write it as `10s loss=5`",
            text.escape_debug()
        )
    };
    let (after, list) = text
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(wrong)?;
    LinkOptions::default().set_list(list)?;
    Ok((duration(after)?, list))
}

/// A sender and its place.
type Placed = (Sender, Place);

/// `2xcubic@50ms+5s`, or one.
fn several(item: &str, in_file: bool) -> Result<(usize, Placed), String> {
    let counted = item.split_once('x').and_then(|(count, name)| {
        let count = count.parse::<usize>().ok()?;
        Some((count, name))
    });
    let (count, name) = counted.unwrap_or((1, item));
    if !(1..=MOST_SENDERS).contains(&count) {
        return Err(format!("`{item}`: 1 to {MOST_SENDERS} of a kind are taken"));
    }
    let (name, place) = match Place::split(name) {
        // A file's name may have these marks.
        Err(_) if name.starts_with("exec:") => (name, Place::default()),
        split => split?,
    };
    Ok((count, (sender(name, in_file)?, place)))
}

/// A sender by its name. A file may come from anywhere, and runs no programs.
fn sender(name: &str, in_file: bool) -> Result<Sender, String> {
    match Sender::parse(name)? {
        Sender::Exec(_) if in_file => Err(format!(
            "`{}` runs a program, and a file may not ask for that: say it on the command line, --congestion exec:./mine.py",
            name.escape_debug()
        )),
        sender => Ok(sender),
    }
}

fn whole(text: &str, allowed: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| {
        format!(
            "`{}` is no whole number from {} to {}",
            text.escape_debug(),
            allowed.start(),
            allowed.end()
        )
    })
}

/// A direction's options, the queue of which may be told by what the path holds.
#[derive(Debug, Clone, Default)]
struct Shape {
    options: LinkOptions,
    /// Bandwidth-delay products, and whether somebody asked for them.
    products: Option<f64>,
}

impl Shape {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key == "queue" {
            self.products = None;
            if value.ends_with("bdp") {
                self.products = Some(bdp(value)?);
                self.options.queue = None;
                return Ok(());
            }
        }
        self.options.set(key, value)
    }

    fn set_list(&mut self, list: &str) -> Result<(), String> {
        let mut items = LinkOptions::items(list)?.into_iter();
        items.try_for_each(|(key, value)| self.set(&key.replace('-', "_"), &value))
    }

    fn finish(mut self, round_trip: Duration) -> Result<LinkOptions, String> {
        if let (Some(products), Some(rate)) = (self.products, self.options.rate) {
            let bytes = products * product(rate, round_trip);
            let bytes = bytes.max(LEAST_QUEUE).round();
            self.options.set("queue", &bytes.to_string())?;
        }
        Ok(self.options)
    }
}

/// The bandwidth-delay product in bytes.
pub(super) fn product(rate: NonZeroU64, round_trip: Duration) -> f64 {
    rate.get() as f64 / 8.0 * round_trip.as_secs_f64()
}

#[cfg(test)]
mod tests;
