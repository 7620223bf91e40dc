//! Who sends: at the same time, and who after whom.

use super::{amount::Amount, reader::Reader};
use crate::{
    compare::{
        experiment::Said,
        place::Place,
        sender::{QuicControl, Sender, Transport},
        sweep::INITIAL_WINDOW,
    },
    rudp::congestion::Algorithm,
};

/// Who is not the same every time, whatever the seed.
const UNSEEDED: Sender = Sender::Quic(QuicControl::Bbr);
/// Senders at once.
const MOST_SENDERS: usize = 64;
/// What names senders.
const NAMING: [&str; 3] = ["flows", "against", "congestion"];

/// A sender and its place.
pub(super) type Placed = (Sender, Place);

impl Reader<'_> {
    /// Who sends at the same time, and who after whom.
    pub(super) fn groups(&mut self) -> Vec<Vec<Placed>> {
        if let Some((said, items)) = self.items("flows") {
            for other in ["congestion", "against"] {
                if self.experiment.said(other).is_some() {
                    self.problem(&said.place, format!("names all senders: leave {other} out"));
                }
            }
            let mut senders = Vec::new();
            for item in items {
                match several(item, said.in_file) {
                    Ok((count, placed)) => senders.extend(std::iter::repeat_n(placed, count)),
                    Err(message) => self.problem(&said.place, message),
                }
            }
            self.bound(&said.place, senders.len());
            return vec![senders];
        }
        let own = self.own();
        let simulate = self.simulates();
        let mut senders: Vec<Sender> = own.clone();
        if let Some((said, items)) = self.items("against") {
            for item in items {
                let kind = match item {
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
                    None => self.named(said, item),
                };
                add(&mut senders, rivals);
            }
            if senders.len() == own.len() && self.problems.is_empty() {
                let names: Vec<String> = own.iter().map(ToString::to_string).collect();
                let why = match simulate {
                    true => " that can be simulated",
                    false => "",
                };
                let names = names.join(", ");
                self.problem(&said.place, format!("names no counterpart of {names}{why}"));
            }
            self.bound(&said.place, senders.len());
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
        let mut senders = Vec::new();
        for item in items {
            let named = match item {
                "all" => every(),
                name => self.named(said, name),
            };
            add(&mut senders, named);
        }
        self.bound(&said.place, senders.len());
        senders
    }

    /// The sender of this name; none, if there is something wrong with it.
    fn named(&mut self, said: &Said, name: &str) -> Vec<Sender> {
        match sender(name, said.in_file) {
            Ok(sender) => vec![sender],
            Err(message) => {
                self.problem(&said.place, message);
                Vec::new()
            }
        }
    }

    /// Holds places to what can be done.
    pub(super) fn places(&mut self, groups: &[Vec<Placed>], amount: Amount) {
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
    pub(super) fn initial_windows(&mut self, groups: &[Vec<Placed>]) {
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
    pub(super) fn programs(&mut self, groups: &[Vec<Placed>]) {
        let mut known: Vec<&Sender> = Vec::new();
        for (sender, _) in groups.iter().flatten() {
            let name = sender.to_string();
            let namesake = known.iter().find(|other| other.to_string() == name);
            if namesake.is_some_and(|other| *other != sender) {
                let place = self.place(&NAMING);
                self.problem(
                    &place,
                    format!("two programs are called {name}: name one of the files otherwise"),
                );
                return;
            }
            known.push(sender);
        }
    }

    /// Holds senders to what can be simulated.
    pub(super) fn simulated(&mut self, groups: &[Vec<Placed>]) {
        if !self.simulates() {
            return;
        }
        if let Some(place) = self.place_of(Transport::Tcp, groups) {
            self.problem(
                &place,
                "the kernel's TCP is real, and --simulate is not: leave one of them out",
            );
        }
        let mut senders = groups.iter().flatten();
        if senders.any(|(sender, _)| *sender == UNSEEDED) {
            let place = self.place_of(Transport::Quic, groups);
            self.problem(
                &place.unwrap_or_default(),
                format!(
                    "{UNSEEDED} can't be simulated: quinn's BBR has dice of its own that no seed reaches, so \
                     that no two runs would be the same; leave it out, or --simulate"
                ),
            );
        }
    }

    /// Where a sender of this kind was asked for, if one was.
    fn place_of(&self, transport: Transport, groups: &[Vec<Placed>]) -> Option<String> {
        let mut senders = groups.iter().flatten();
        senders.find(|(sender, _)| sender.transport() == transport)?;
        Some(self.place(&NAMING))
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
}

/// Adds those that are not among them yet.
fn add(senders: &mut Vec<Sender>, more: Vec<Sender>) {
    for sender in more {
        if !senders.contains(&sender) {
            senders.push(sender);
        }
    }
}

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
