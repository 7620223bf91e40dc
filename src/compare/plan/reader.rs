//! What was said, as it is read, and what is found wrong with it.

use std::ops::RangeInclusive;

use crate::compare::experiment::{Experiment, Problem, Said};

/// Reads an experiment's keys, and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn problem(&mut self, place: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            place: place.to_owned(),
            message: message.into(),
        });
    }

    /// Where that of these keys was said that was said, the first of them.
    pub(super) fn place(&self, keys: &[&str]) -> String {
        let said = keys.iter().find_map(|key| self.experiment.said(key));
        said.map_or_else(String::new, |said| said.place.clone())
    }

    /// Whether it is to be in virtual time.
    pub(super) fn simulates(&self) -> bool {
        self.experiment.said("simulate").is_some()
    }

    /// The one value of a key, made something of.
    pub(super) fn one<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let said = self.experiment.said(key)?;
        let read = only(said).and_then(parse);
        read.map_err(|message| self.problem(&said.place, message))
            .ok()
    }

    /// The value of a key in which a comma is no end of it.
    pub(super) fn one_list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let said = self.experiment.said(key)?;
        parse(&said.values.join(","))
            .map_err(|message| self.problem(&said.place, message))
            .ok()
    }

    /// A list's items, whether they were said in a list or with commas.
    pub(super) fn items(&self, key: &str) -> Option<(&'a Said, Vec<&'a str>)> {
        let said = self.experiment.said(key)?;
        let items = said.values.iter().flat_map(|value| value.split(','));
        let items = items.map(str::trim).filter(|item| !item.is_empty());
        Some((said, items.collect()))
    }
}

/// The value of a key that has one.
pub(super) fn only(said: &Said) -> Result<&str, String> {
    match &said.values[..] {
        [value] => Ok(value),
        _ => Err("one value is needed".to_owned()),
    }
}

pub(super) fn whole(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
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
