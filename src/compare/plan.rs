//! What is to be done, run by run.

mod amount;
mod change;
mod link;
mod reader;
mod run;
mod senders;

use self::reader::{Reader, whole};
pub use self::{amount::Amount, change::Change, run::Run};
use super::{
    experiment::{Experiment, Problem, Text},
    place::Place,
    sender::{Sender, Transport},
    sweep::{INITIAL_WINDOW, Sweep, packets},
};

const MOST_RUNS: u32 = 100;

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

impl Plan {
    /// Makes a plan of an experiment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(experiment: &Experiment) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            experiment,
            problems: Vec::new(),
        };
        match Self::read(&mut reader) {
            Some(plan) if reader.problems.is_empty() => Ok(plan),
            _ => Err(reader.problems),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let groups = reader.groups();
        let (amount, files) = reader.amount();
        reader.places(&groups, amount);
        reader.programs(&groups);
        let initial_window = reader.one(INITIAL_WINDOW, packets);
        reader.initial_windows(&groups);
        let runs = reader.one("runs", |text| whole(text, 1..=MOST_RUNS.into()));
        let seed = reader
            .one("seed", |text| whole(text, 0..=u64::MAX))
            .unwrap_or(1);
        let sweep = reader.one_list("sweep", Sweep::parse);
        let simulate = reader.simulates();
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
            let Some((up, down)) = reader.link(swept) else {
                // Each point would say the same again.
                break;
            };
            let changes = reader.changes(up, down, amount);
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
            if !reader.problems.is_empty() {
                break;
            }
        }
        reader.simulated(&groups);
        Some(Self {
            text: reader.experiment.text.clone(),
            simulate,
            sweep,
            runs: planned,
            repetitions,
            seed,
            command: reader.experiment.command(),
        })
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

#[cfg(test)]
mod tests;
