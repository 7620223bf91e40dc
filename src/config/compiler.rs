//! How every table is compiled: values out of keys, and the problems that turn up.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    file::{Key, List, OneOrMany, TABLES, Table, Unknown},
    value,
};

/// What a key of text needs.
pub(super) const TEXT: &str = "a text in quotes";
pub(super) const NUMBER: &str = "a whole number without quotes";
pub(super) const ADDRESSES: &str =
    "an address in quotes, as `\"127.0.0.1:5300\"`, or a list of them in brackets";

/// What is left of a list once every element has been looked at by its key.
pub(super) fn values<T>(list: Vec<(String, T)>) -> Vec<T> {
    list.into_iter().map(|(_, value)| value).collect()
}

pub(super) struct Compiler<'a> {
    pub(super) base: &'a Path,
    pub(super) problems: Vec<(String, String)>,
    /// What the configuration listens on, by key.
    pub(super) listeners: Vec<(String, Transport, SocketAddr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

// The methods give `None` only after they have noted a problem, and go on after one to find the
// others too.
impl<'a> Compiler<'a> {
    /// A compiler that counts relative paths from `base`.
    pub(super) fn new(base: &'a Path) -> Self {
        Self {
            base,
            problems: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// No two listeners may want one port of one address. An unspecified address is all of its
    /// family (IPv6 sockets are IPv6 only here); port 0 is another port each time.
    pub(super) fn check_listeners(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        let mut told: Vec<&str> = Vec::new();
        for (index, (at, transport, address)) in listeners.iter().enumerate() {
            let taken = listeners[..index].iter().find(|(_, other, earlier)| {
                other == transport
                    && earlier.port() == address.port()
                    && earlier.is_ipv4() == address.is_ipv4()
                    && (earlier.ip() == address.ip()
                        || earlier.ip().is_unspecified()
                        || address.ip().is_unspecified())
            });
            if let Some((other, _, earlier)) = taken
                && address.port() != 0
                && !told.contains(&at.as_str())
            {
                told.push(at);
                let protocol = match transport {
                    Transport::Udp => "UDP",
                    Transport::Tcp => "TCP",
                };
                self.problem(
                    at,
                    format!(
                        "`{address}` is taken by `{other}` ({protocol} `{earlier}`); each needs \
                         an address or a port of its own"
                    ),
                );
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        at: &str,
        key: Key<String>,
        shortest: Duration,
    ) -> Option<Option<Duration>> {
        let right = "a duration in quotes, as `\"30s\"` or `\"24h\"`";
        self.scalar(at, key, right, |text: String| {
            value::duration(&text, shortest..=value::YEAR)
        })
    }

    /// The parsed value of a key: `Some(None)` if it is absent.
    pub(super) fn scalar<T, V>(
        &mut self,
        at: &str,
        key: Key<T>,
        right: &str,
        parse: impl FnOnce(T) -> Result<V, String>,
    ) -> Option<Option<V>> {
        let parsed = match key {
            Key::Absent => return Some(None),
            Key::Wrong(found) => Err(format!("is {found}; {right} is needed")),
            Key::Is(raw) => parse(raw),
        };
        parsed
            .map(Some)
            .map_err(|message| self.problem(at, message))
            .ok()
    }

    /// The parsed value of a key that must be there, as in `example`.
    pub(super) fn required<V>(
        &mut self,
        at: &str,
        key: Key<String>,
        example: &str,
        parse: impl FnOnce(String) -> Result<V, String>,
    ) -> Option<V> {
        let value = self.scalar(at, key, TEXT, parse)?;
        if value.is_none() {
            self.problem(at, format!("missing; write it as `{example}`"));
        }
        value
    }

    /// The elements of a list that are right, each with its key: `Some(None)` if it is absent.
    pub(super) fn list<T, V>(
        &mut self,
        at: &str,
        key: List<T>,
        right: &str,
        parse: impl Fn(T) -> Result<V, String>,
    ) -> Option<Option<Vec<(String, V)>>> {
        let Some(elements) = self.scalar(at, key, right, Ok)? else {
            return Some(None);
        };
        let mut found = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let at = format!("{at}[{index}]");
            if let Some(Some(value)) = self.scalar(&at, element, TEXT, &parse) {
                found.push((at, value));
            }
        }
        Some(Some(found))
    }

    /// The value of a key that takes one or a list, each with its key: `Some(None)` if it is absent.
    pub(super) fn one_or_many<T: DeserializeOwned, V>(
        &mut self,
        at: &str,
        key: Key<OneOrMany<T>>,
        right: &str,
        parse: impl Fn(T) -> Result<V, String>,
    ) -> Option<Option<Vec<(String, V)>>> {
        match key {
            Key::Absent => Some(None),
            Key::Wrong(found) => self.list(at, List::<T>::Wrong(found), right, parse),
            Key::Is(OneOrMany::Many(elements)) => self.list(at, Key::Is(elements), right, parse),
            Key::Is(OneOrMany::One(value)) => {
                let value = self.scalar(at, Key::Is(value), right, parse)?;
                Some(value.map(|value| vec![(at.to_owned(), value)]))
            }
        }
    }

    /// The addresses that a role listens on, `default` if the key is absent; with `0.0.0.0` for
    /// each `[::]`, see [`both_families`]. Nothing else may want their ports, by none of
    /// `transports`.
    pub(super) fn listen(
        &mut self,
        at: &str,
        key: Key<OneOrMany<String>>,
        transports: &[Transport],
        default: SocketAddr,
    ) -> Option<Vec<SocketAddr>> {
        let parse = |text: String| value::socket_address(&text);
        let addresses = self.one_or_many(at, key, ADDRESSES, parse)?;
        let addresses = addresses.unwrap_or_else(|| vec![(at.to_owned(), default)]);
        self.at_least_one(at, &addresses, "address");
        let addresses = both_families(addresses);
        for (at, address) in &addresses {
            for &transport in transports {
                self.listeners.push((at.clone(), transport, *address));
            }
        }
        Some(addresses.into_iter().map(|(_, address)| address).collect())
    }

    pub(super) fn tables<T>(&mut self, at: &str, key: List<T>) -> Option<Vec<(String, T)>> {
        let right = format!("a table under `[[{at}]]`", at = without_indices(at));
        let mut found = Vec::new();
        for (index, element) in self
            .scalar(at, key, &right, Ok)?
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            let at = format!("{at}[{index}]");
            if let Some(Some(table)) = self.scalar(&at, element, &right, Ok) {
                found.push((at, table));
            }
        }
        Some(found)
    }

    pub(super) fn table<T>(&mut self, at: &str, key: Key<T>) -> Option<T> {
        let right = format!("a table `[{at}]`");
        self.scalar(at, key, &right, Ok).flatten()
    }

    pub(super) fn at_least_one<T>(&mut self, at: &str, list: &[T], noun: &str) {
        // A list that holds only wrong elements has had its problems told.
        if list.is_empty() && self.is_clean(at) {
            self.problem(at, format!("at least one {noun} is needed"));
        }
    }

    /// Whether nothing wrong has been noted at the key or below it.
    pub(super) fn is_clean(&self, at: &str) -> bool {
        !self.problems.iter().any(|(key, _)| key.starts_with(at))
    }

    pub(super) fn no_repeats<T: PartialEq + std::fmt::Display>(
        &mut self,
        list: &[(String, T)],
        noun: &str,
    ) {
        for (index, (at, value)) in list.iter().enumerate() {
            if let Some((first, _)) = list[..index].iter().find(|(_, earlier)| earlier == value) {
                self.problem(
                    at,
                    format!("the {noun} `{value}` is at `{first}` already; each may stand once"),
                );
            }
        }
    }

    /// Refuses the keys that a table does not know, with a guess at what was meant.
    pub(super) fn unknown<T: Table>(&mut self, at: &str, unknown: &Unknown) {
        for key in unknown.keys() {
            let near = T::KEYS
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, key), known))
                .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
                .min();
            let elsewhere = TABLES
                .iter()
                .find(|(_, keys)| keys.contains(&key.as_str()))
                .map(|(table, _)| table);
            let hint = match (near, elsewhere) {
                (Some((_, known)), _) => format!("did you mean `{known}`?"),
                (None, Some(table)) => format!("`{key}` belongs to {table}"),
                (None, None) => format!("known here are `{}`", T::KEYS.join("`, `")),
            };
            let at = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            self.problem(&at, format!("no such key; {hint}"));
        }
    }

    pub(super) fn problem(&mut self, at: &str, message: impl Into<String>) {
        self.problems.push((at.into(), message.into()));
    }
}

/// Adds `0.0.0.0` behind each `[::]`: every address of the machine, as people mean it. The sockets
/// themselves are of one family each, so that an IPv4 peer has an IPv4 address everywhere. Who names
/// IPv4 addresses with the same port knows which ones they want; and an open port would become two
/// different ones.
fn both_families(addresses: Vec<(String, SocketAddr)>) -> Vec<(String, SocketAddr)> {
    let named: Vec<u16> = addresses
        .iter()
        .filter(|(_, address)| address.is_ipv4())
        .map(|(_, address)| address.port())
        .collect();
    let mut both = Vec::with_capacity(addresses.len());
    for (at, address) in addresses {
        let port = address.port();
        let everywhere = address.is_ipv6() && address.ip().is_unspecified();
        both.push((at.clone(), address));
        if everywhere && port != 0 && !named.contains(&port) {
            both.push((at, (Ipv4Addr::UNSPECIFIED, port).into()));
        }
    }
    both
}

fn without_indices(at: &str) -> String {
    let mut depth = 0;
    at.chars()
        .filter(|char| {
            depth += i32::from(*char == '[');
            let keep = depth == 0;
            depth -= i32::from(*char == ']');
            keep
        })
        .collect()
}
