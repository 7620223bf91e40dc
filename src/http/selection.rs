//! Which of the sessions are told, and in which order: `?filter=TEXT&sort=KEY&limit=N`.

use std::cmp::Ordering;

use serde_json::Value;
use url::form_urlencoded;

use crate::role::api::SessionEntry;

/// No more sessions than these are told where there is a limit.
const MOST: usize = 10_000;
/// So long a text to look for may be.
const LONGEST: usize = 256;

/// Which sessions somebody asks for. Without a word in the query: all, in the order of their clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// In lower case; empty: all.
    filter: String,
    sort: Option<Sort>,
    limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sort {
    /// A field of the API's object.
    key: String,
    descending: bool,
}

impl Selection {
    /// What a query asks for.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn of(query: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        for (word, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*word {
                "filter" if value.len() <= LONGEST => selection.filter = value.to_lowercase(),
                "filter" => return Err(format!("filter: {LONGEST} bytes at most")),
                "sort" => selection.sort = Some(Sort::of(&value)?),
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MOST) => selection.limit = Some(limit),
                    _ => return Err(format!("limit: a number from 1 to {MOST}")),
                },
                _ => {
                    return Err(
                        "only ?filter=TEXT, &sort=KEY (-KEY: the largest first) and &limit=N are known here, \
                         or ?ended alone"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(selection)
    }

    /// How many of the sessions fit, and those of them that are told.
    ///
    /// # Errors
    /// None of them has the field to sort by.
    pub(super) fn of_all(
        &self,
        mut sessions: Vec<SessionEntry>,
    ) -> Result<(usize, Vec<SessionEntry>), String> {
        if let Some(sort) = &self.sort {
            sort.check(&sessions)?;
        }
        if !self.filter.is_empty() {
            sessions.retain(|session| self.fits(session));
        }
        let fit = sessions.len();
        if let Some(sort) = &self.sort {
            sort.sort(&mut sessions);
        }
        if let Some(limit) = self.limit {
            sessions.truncate(limit);
        }
        Ok((fit, sessions))
    }

    fn fits(&self, session: &SessionEntry) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.filter);
        let word = |key: &str| session.statistics.get(key).and_then(Value::as_str);
        has(&session.name)
            || has(&session.kind)
            || has(&session.client.to_string())
            || session.connection_id.as_deref().is_some_and(has)
            || ["congestion", "file"].into_iter().filter_map(word).any(has)
    }
}

/// What is told of every session besides its statistics.
const FIXED: [&str; 4] = ["client", "kind", "name", "connection_id"];

impl Sort {
    fn of(text: &str) -> Result<Self, String> {
        let key = text.strip_prefix('-');
        let descending = key.is_some();
        let key = key.unwrap_or(text);
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if key.is_empty() || key.len() > 64 || !key.chars().all(plain) {
            return Err(
                "sort: a field of the sessions, as rtt_seconds, or with - before it for the largest first"
                    .to_owned(),
            );
        }
        Ok(Self {
            key: key.to_owned(),
            descending,
        })
    }

    /// A field that nobody has is a mistake, unless there is nobody.
    fn check(&self, sessions: &[SessionEntry]) -> Result<(), String> {
        let known = FIXED.contains(&&*self.key)
            || sessions.is_empty()
            || sessions
                .iter()
                .any(|session| session.statistics.contains_key(&self.key));
        if known {
            return Ok(());
        }
        let statistics = sessions
            .iter()
            .flat_map(|session| session.statistics.keys());
        let mut keys: Vec<&str> = statistics.map(String::as_str).chain(FIXED).collect();
        keys.sort_unstable();
        keys.dedup();
        Err(format!(
            "sort: no session has a field {}: there are {}",
            self.key,
            keys.join(", ")
        ))
    }

    /// Those that lack the field come last; those that are equal stay as they were.
    fn sort(&self, sessions: &mut [SessionEntry]) {
        match &*self.key {
            "client" => sessions.sort_by(|a, b| self.turn(a.client.cmp(&b.client))),
            "kind" => sessions.sort_by(|a, b| self.turn(a.kind.cmp(&b.kind))),
            "name" => sessions.sort_by(|a, b| self.turn(a.name.cmp(&b.name))),
            "connection_id" => sessions.sort_by(|a, b| {
                self.order(a.connection_id.as_ref(), b.connection_id.as_ref(), Ord::cmp)
            }),
            key => sessions.sort_by(|a, b| {
                self.order(
                    Field::of(a, key).as_ref(),
                    Field::of(b, key).as_ref(),
                    Field::cmp,
                )
            }),
        }
    }

    fn order<T: ?Sized>(
        &self,
        one: Option<&T>,
        other: Option<&T>,
        compare: impl FnOnce(&T, &T) -> Ordering,
    ) -> Ordering {
        match (one, other) {
            (Some(one), Some(other)) => self.turn(compare(one, other)),
            (one, other) => other.is_some().cmp(&one.is_some()),
        }
    }

    fn turn(&self, order: Ordering) -> Ordering {
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

/// A field as it is sorted: numbers before words.
enum Field<'a> {
    Number(f64),
    Word(&'a str),
}

impl<'a> Field<'a> {
    fn of(session: &'a SessionEntry, key: &str) -> Option<Self> {
        match session.statistics.get(key)? {
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::String(word) => Some(Self::Word(word)),
            _ => None,
        }
    }

    fn cmp(&self, other: &Field<'_>) -> Ordering {
        match (self, other) {
            (Self::Number(one), Field::Number(other)) => one.total_cmp(other),
            (Self::Word(one), Field::Word(other)) => one.cmp(other),
            (Self::Number(_), Field::Word(_)) => Ordering::Less,
            (Self::Word(_), Field::Number(_)) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str, port: u16, statistics: &[(&str, Value)]) -> SessionEntry {
        let statistics = statistics.iter();
        SessionEntry {
            kind: "transport".to_owned(),
            client: ([127, 0, 0, 1], port).into(),
            name: name.to_owned(),
            connection_id: Some(format!("{port:016x}")),
            statistics: statistics
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        }
    }

    fn all() -> Vec<SessionEntry> {
        let cubic = ("congestion", Value::from("cubic"));
        vec![
            session("Tal", 1, &[cubic.clone(), ("window_bytes", 5.into())]),
            session("Ada", 2, &[cubic, ("window_bytes", 70.into())]),
            session("", 3, &[("window_bytes", Value::Null)]),
            session("tall", 4, &[("window_bytes", 6.into())]),
        ]
    }

    fn told(query: &str) -> Result<(usize, Vec<u16>), String> {
        let (fit, told) = Selection::of(query)?.of_all(all())?;
        Ok((fit, told.iter().map(|told| told.client.port()).collect()))
    }

    #[test]
    fn a_query_selects_sorts_and_bounds() {
        assert_eq!(told(""), Ok((4, vec![1, 2, 3, 4])));
        assert_eq!(told("filter=TAL"), Ok((2, vec![1, 4])));
        assert_eq!(told("filter=Cub%69c&limit=1"), Ok((2, vec![1])));
        assert_eq!(told("filter=127.0.0.1%3A3"), Ok((1, vec![3])));
        assert_eq!(told("sort=name"), Ok((4, vec![3, 2, 1, 4])));
        assert_eq!(told("sort=window_bytes"), Ok((4, vec![1, 4, 2, 3])));
        // Who has none is last either way.
        assert_eq!(told("sort=-window_bytes"), Ok((4, vec![2, 4, 1, 3])));
        assert_eq!(told("sort=-client&limit=2"), Ok((4, vec![4, 3])));
        assert_eq!(told("sort=-connection_id&limit=1"), Ok((4, vec![4])));
        assert_eq!(told("sort=congestion"), Ok((4, vec![1, 2, 3, 4])));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, said) in [
            ("limit=0", "limit: a number from 1 to 10000"),
            ("limit=10001", "limit: a number"),
            ("limit=-1", "limit: a number"),
            ("sort=", "sort: a field"),
            ("sort=a%0Ab", "sort: a field"),
            (
                "sort=windows",
                "no session has a field windows: there are client, congestion,",
            ),
            ("page=2", "only ?filter=TEXT"),
            ("ended&limit=2", "or ?ended alone"),
        ] {
            let told = told(query);
            assert!(
                told.as_ref().is_err_and(|told| told.contains(said)),
                "{query}: {told:?}"
            );
        }
        assert!(told(&format!("filter={}", "x".repeat(257))).is_err());
        let nobody = Selection::of("sort=-anything").unwrap().of_all(Vec::new());
        assert_eq!(nobody, Ok((0, Vec::new())));
    }
}
