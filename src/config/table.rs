//! A table of the file, while its keys are read.
//!
//! A table has the keys that its reader reads, and there is no other list of them: [`list`] runs the readers
//! over an empty file, into every table and into one of each array of tables. From this follow which keys
//! are refused, the hints at what was meant, and how environment variables are read. So a reader reads all its keys
//! whatever stands in them, in the order of `conf/labnet.toml`, before it gives up anything; tests fail for one that
//! does not.
//!
//! What is wrong is noted, and then read as if it were absent: the reader goes on and finds what else is wrong. A
//! configuration with problems is never used. Who compares two keys has to ask first whether both are right
//! ([`Table::is_clean`]).

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::{RangeFrom, RangeInclusive},
    path::Path,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    keys::{Form, Key, Keys, below, without_indices},
    kind::{self, Kind, Read},
    listeners::{Listeners, Protocol, both_families},
    value,
};

/// What a key that is listened on needs.
pub(super) const ADDRESSES: &str =
    "an address in quotes, as `\"127.0.0.1:5300\"`, or a list of them in brackets";

/// A key's full name and what is wrong with it.
pub(super) type Found = (String, String);

/// Elements that are right, each with its full name.
pub(super) type Named<T> = Vec<(String, T)>;

/// What is left once every element has been looked at by its name.
pub(super) fn values<T>(elements: Named<T>) -> Vec<T> {
    elements.into_iter().map(|(_, value)| value).collect()
}

/// A table that is being read.
pub(super) struct Table<'a> {
    /// Where it stands, `dhcp.subnet[0]`; empty for the whole file.
    at: String,
    /// `None`: it is absent.
    values: Option<&'a Map<String, Value>>,
    /// The keys that were read.
    read: Vec<Key>,
    base: &'a Path,
    /// The keys of all tables; `None`: they are being listed.
    known: Option<&'a Keys>,
    notes: &'a mut Notes,
}

/// What turns up while a file is read.
#[derive(Debug, Default)]
struct Notes {
    problems: Vec<Found>,
    listeners: Listeners,
    /// The keys, as far as they are listed.
    keys: Keys,
}

/// A table below another one, not read yet.
pub(super) struct Section<'a> {
    at: String,
    /// `None`: it is absent, or no table.
    values: Option<&'a Map<String, Value>>,
}

/// Reads a whole file of these `values`, whose relative paths are counted from `base`; and all that is wrong with
/// it.
pub(super) fn read<T>(
    values: &Value,
    base: &Path,
    known: &Keys,
    read: impl FnOnce(&mut Table<'_>) -> T,
) -> (T, Vec<Found>) {
    let mut notes = Notes::default();
    let file = Table {
        at: String::new(),
        values: values.as_object(),
        read: Vec::new(),
        base,
        known: Some(known),
        notes: &mut notes,
    };
    let value = file.run(read);
    notes.problems.extend(notes.listeners.conflicts());
    (value, notes.problems)
}

/// The keys that `read` reads, from a whole file.
pub(super) fn list<T>(read: impl FnOnce(&mut Table<'_>) -> T) -> Keys {
    let mut notes = Notes::default();
    notes.keys.add_table("");
    let file = Table {
        at: String::new(),
        values: None,
        read: Vec::new(),
        base: Path::new("/"),
        known: None,
        notes: &mut notes,
    };
    file.run(read);
    notes.keys
}

impl<'a> Table<'a> {
    /// Refuses the keys that the table does not have, and has its keys read.
    fn run<T>(mut self, read: impl FnOnce(&mut Table<'_>) -> T) -> T {
        if let (Some(known), Some(values)) = (self.known, self.values) {
            for key in values.keys() {
                if let Some(message) = known.refusal(&self.at, key) {
                    self.problem(key, message);
                }
            }
        }
        let value = read(&mut self);
        match self.known {
            None => self.notes.keys.add_keys(&self.at, self.read),
            Some(known) => debug_assert!(
                known.are(&self.at, &self.read),
                "the keys of `{}` that are read depend on their values: {:?}",
                self.at,
                self.read
            ),
        }
        value
    }

    /// The folder from which relative paths are counted.
    pub(super) fn base(&self) -> &'a Path {
        self.base
    }

    /// The full name of a key of the table.
    pub(super) fn name(&self, key: &str) -> String {
        below(&self.at, key)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.is_some_and(|values| values.contains_key(key))
    }

    /// The value of a key, if there is one that is right.
    pub(super) fn optional<T>(&mut self, key: &str, kind: Kind<impl Read<T>>) -> Option<T> {
        let value = self.value(key, kind.form, kind.is_secret)?;
        match (kind.read)(value) {
            Some(Ok(value)) => return Some(value),
            Some(Err(message)) => self.problem(key, message),
            None if kind.is_secret => self.wrong(key, "something else", kind.right),
            None => self.wrong(key, &kind::describe(value), kind.right),
        }
        None
    }

    /// The value of a key that must be there, as in `example`.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        kind: Kind<impl Read<T>>,
        example: &str,
    ) -> Option<T> {
        if !self.has(key) {
            self.problem(key, format!("missing; write it as `{example}`"));
        }
        self.optional(key, kind)
    }

    /// A text that `parse` understands.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> T {
        self.optional(key, kind::text(parse)).unwrap_or(default)
    }

    /// A whole number.
    pub(super) fn number<T>(&mut self, key: &str, allowed: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.optional(key, kind::number(allowed)).unwrap_or(default)
    }

    /// A duration, a year at most.
    pub(super) fn duration(
        &mut self,
        key: &str,
        allowed: RangeFrom<Duration>,
        default: Duration,
    ) -> Duration {
        let kind = kind::duration(allowed);
        self.optional(key, kind).unwrap_or(default)
    }

    /// A size in bytes, between two numbers of them.
    pub(super) fn bytes(&mut self, key: &str, allowed: (u64, u64), default: u64) -> u64 {
        self.optional(key, kind::bytes(allowed)).unwrap_or(default)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.optional(key, kind::flag()).unwrap_or(default)
    }

    /// How many there may be, and how many of one address: two keys. The second's default is `share` of what
    /// there may be.
    pub(super) fn total_and_share(
        &mut self,
        [total_key, share_key]: [&str; 2],
        most: usize,
        default: usize,
        share: impl FnOnce(usize) -> usize,
    ) -> (usize, usize) {
        let total = self.number(total_key, 1..=most, default);
        let own = self.number(share_key, 1..=most, share(total));
        if own > total && self.is_clean(total_key) {
            self.problem(
                share_key,
                format!("{own} of one address are more than there may be in all, {total}"),
            );
        }
        (total, own)
    }

    /// The elements of a list of texts that `parse` understands; `right` is what is needed instead of anything
    /// else. `None`: there is no list.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Named<T>> {
        let value = self.value(key, Form::List, false)?;
        self.elements(key, value, right, parse)
    }

    /// As [`list`](Self::list), where one text is as good as a list that holds it alone.
    pub(super) fn one_or_many<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Named<T>> {
        let value = self.value(key, Form::List, false)?;
        let Value::String(text) = value else {
            return self.elements(key, value, right, parse);
        };
        match parse(text) {
            Ok(value) => Some(vec![(self.name(key), value)]),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    fn elements<T>(
        &mut self,
        key: &str,
        value: &Value,
        right: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Named<T>> {
        let Value::Array(elements) = value else {
            self.wrong(key, &kind::describe(value), right);
            return None;
        };
        let kind = kind::text(parse);
        let mut found = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let key = format!("{key}[{index}]");
            match (kind.read)(element) {
                Some(Ok(value)) => found.push((self.name(&key), value)),
                Some(Err(message)) => self.problem(&key, message),
                None => self.wrong(&key, &kind::describe(element), kind.right),
            }
        }
        Some(found)
    }

    /// The addresses that a role listens on, by all of `protocols`; with `0.0.0.0` for each `[::]`, see
    /// [`both_families`].
    pub(super) fn listen(
        &mut self,
        key: &str,
        protocols: &[Protocol],
        default: SocketAddr,
    ) -> Vec<SocketAddr> {
        let addresses = match self.one_or_many(key, ADDRESSES, value::socket_address) {
            Some(addresses) => addresses,
            None if self.is_clean(key) => vec![(self.name(key), default)],
            None => return vec![default],
        };
        self.at_least_one(key, &addresses, "address");
        let addresses = both_families(addresses);
        for (at, address) in &addresses {
            for &protocol in protocols {
                self.claim(at, protocol, *address);
            }
        }
        values(addresses)
    }

    /// Notes what the key of this full name listens on: nothing else may.
    pub(super) fn claim(&mut self, at: &str, protocol: Protocol, address: SocketAddr) {
        self.notes.listeners.add(at, protocol, address);
    }

    /// A table below this one, to be read later: its place among the keys is here.
    pub(super) fn section(&mut self, key: &str) -> Section<'a> {
        let at = self.name(key);
        self.announce(&at);
        let values = match self.value(key, Form::Table, false) {
            Some(Value::Object(values)) => Some(values),
            Some(other) => {
                let right = format!("a table `[{at}]`");
                self.wrong(key, &kind::describe(other), &right);
                None
            }
            None => None,
        };
        Section { at, values }
    }

    /// What stands in a table that need not be there.
    pub(super) fn read<T>(
        &mut self,
        section: Section<'_>,
        read: impl FnOnce(&mut Table<'_>) -> T,
    ) -> Option<T> {
        let is_read = section.values.is_some() || self.known.is_none();
        is_read.then(|| self.open(section.at, section.values, read))
    }

    /// What stands in a table that need not be there.
    pub(super) fn optional_table<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Table<'_>) -> T,
    ) -> Option<T> {
        let section = self.section(key);
        self.read(section, read)
    }

    /// What stands in a table; where it is absent, all its defaults.
    pub(super) fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> T {
        let section = self.section(key);
        self.open(section.at, section.values, read)
    }

    /// What stands in each table of an array of them.
    pub(super) fn tables<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Table<'_>) -> T,
    ) -> Vec<T> {
        let first = format!("{}[0]", self.name(key));
        self.announce(&first);
        let value = self.value(key, Form::Table, false);
        if self.known.is_none() {
            return vec![self.open(first, None, read)];
        }
        let right = format!("a table under `[[{}]]`", without_indices(&self.name(key)));
        let elements = match value {
            Some(Value::Array(elements)) => elements.as_slice(),
            Some(other) => {
                self.wrong(key, &kind::describe(other), &right);
                &[]
            }
            None => &[],
        };
        let mut found = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let key = format!("{key}[{index}]");
            match element {
                Value::Object(values) => {
                    found.push(self.open(self.name(&key), Some(values), &mut read));
                }
                other => self.wrong(&key, &kind::describe(other), &right),
            }
        }
        found
    }

    /// Notes that nothing stands in a list, unless what stood there was wrong.
    pub(super) fn at_least_one<T>(&mut self, key: &str, list: &[T], noun: &str) {
        if list.is_empty() && self.is_clean(key) {
            self.problem(key, format!("at least one {noun} is needed"));
        }
    }

    /// Notes each element that stands before itself already.
    pub(super) fn no_repeats<T: PartialEq + Display>(&mut self, list: &[(String, T)], noun: &str) {
        for (index, (at, value)) in list.iter().enumerate() {
            if let Some((first, _)) = list[..index].iter().find(|(_, earlier)| earlier == value) {
                self.problem_at(
                    at,
                    format!("the {noun} `{value}` is at `{first}` already; each may stand once"),
                );
            }
        }
    }

    /// Whether nothing wrong has been noted at the key or below it; of no key, in the table.
    pub(super) fn is_clean(&self, key: &str) -> bool {
        let at = self.name(key);
        let mut problems = self.notes.problems.iter();
        !problems.any(|(key, _)| key.starts_with(&at))
    }

    /// Notes what is wrong with a key; of no key, with the table.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_at(&self.name(key), message);
    }

    /// Notes what is wrong with the key of this full name.
    pub(super) fn problem_at(&mut self, at: &str, message: impl Into<String>) {
        self.notes.problems.push((at.to_owned(), message.into()));
    }

    fn wrong(&mut self, key: &str, found: &str, right: &str) {
        self.problem(key, format!("is {found}; {right} is needed"));
    }

    fn value(&mut self, key: &str, form: Form, is_secret: bool) -> Option<&'a Value> {
        self.read.push(Key {
            name: key.to_owned(),
            form,
            is_secret,
        });
        self.values?.get(key)
    }

    /// Gives a table its place among the keys.
    fn announce(&mut self, at: &str) {
        if self.known.is_none() {
            self.notes.keys.add_table(at);
        }
    }

    fn open<T>(
        &mut self,
        at: String,
        values: Option<&Map<String, Value>>,
        read: impl FnOnce(&mut Table<'_>) -> T,
    ) -> T {
        let table = Table {
            at,
            values,
            read: Vec::new(),
            base: self.base,
            known: self.known,
            notes: &mut *self.notes,
        };
        table.run(read)
    }
}

#[cfg(test)]
mod tests;
