//! Which keys the tables have, as their readers tell (see [`table`](super::table)).

/// The tables of a file and their keys, in the order in which they are read.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<TableKeys>);

/// The keys of one table.
#[derive(Debug)]
struct TableKeys {
    /// Where it stands; of an array of tables the first: `dhcp.subnet[0]`. Empty for the whole file.
    at: String,
    keys: Vec<Key>,
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) form: Form,
    /// Whether its value is never shown.
    pub(super) is_secret: bool,
}

/// How the environment variable of a key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Text,
    /// A number, or `true` or `false`.
    Typed,
    /// A list, its elements separated by commas.
    List,
    /// Not at all: the key holds a table, or an array of tables.
    Table,
}

impl Keys {
    /// Adds a table, without a key.
    pub(super) fn add_table(&mut self, at: &str) {
        let at = at.to_owned();
        self.0.push(TableKeys {
            at,
            keys: Vec::new(),
        });
    }

    /// Adds keys to the table that was added as `at`.
    pub(super) fn add_keys(&mut self, at: &str, keys: Vec<Key>) {
        if let Some(table) = self.0.iter_mut().find(|table| table.at == at) {
            table.keys.extend(keys);
        }
    }

    /// Whether these are the keys of the table at `at`.
    pub(super) fn are(&self, at: &str, keys: &[Key]) -> bool {
        self.table(at).is_some_and(|table| table.keys == keys)
    }

    /// Every key that has a variable, with its table before it, and how the variable is read. A key in an
    /// array of tables has none: it would not say which of them it is about.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, Form)> {
        let single = self.0.iter().filter(|table| !table.at.contains('['));
        single.flat_map(|table| {
            let keys = table.keys.iter().filter(|key| key.form != Form::Table);
            keys.map(|key| (below(&table.at, &key.name), key.form))
        })
    }

    /// Whether the value of the key at `at` is never shown.
    pub(super) fn is_secret(&self, at: &str) -> bool {
        let (table, name) = at.rsplit_once('.').unwrap_or(("", at));
        self.table(table).is_some_and(|table| {
            let mut keys = table.keys.iter();
            keys.any(|key| key.is_secret && key.name == name)
        })
    }

    /// What is wrong with a key of the table at `at`, with a guess at what was meant; `None`: the table has
    /// it.
    pub(super) fn refusal(&self, at: &str, key: &str) -> Option<String> {
        let here: Vec<&str> = self.table(at).map_or_else(Vec::new, TableKeys::names);
        if here.contains(&key) {
            return None;
        }
        let near = here
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known, key), known))
            .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
            .min();
        let elsewhere = self.0.iter().find(|table| table.names().contains(&key));
        let hint = match (near, elsewhere) {
            (Some((_, known)), _) => format!("did you mean `{known}`?"),
            (None, Some(table)) => format!("`{key}` belongs to {}", table.header()),
            (None, None) => format!("known here are `{}`", here.join("`, `")),
        };
        Some(format!("no such key; {hint}"))
    }

    fn table(&self, at: &str) -> Option<&TableKeys> {
        let at = without_indices(at);
        let mut tables = self.0.iter();
        tables.find(|table| without_indices(&table.at) == at)
    }
}

impl TableKeys {
    fn names(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.name.as_str()).collect()
    }

    /// How the table is headed in a file.
    fn header(&self) -> String {
        match without_indices(&self.at) {
            top if top.is_empty() => "the top of the file".to_owned(),
            at if self.at.ends_with(']') => format!("[[{at}]]"),
            at => format!("[{at}]"),
        }
    }
}

/// A key by its full name, `at` the table that holds it; of no key, the table.
pub(super) fn below(at: &str, key: &str) -> String {
    match (at, key) {
        ("", key) => key.to_owned(),
        (at, "") => at.to_owned(),
        (at, key) => format!("{at}.{key}"),
    }
}

/// `dhcp.subnet` of `dhcp.subnet[0]`
pub(super) fn without_indices(at: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::{super::keys, *};

    /// Every table's place without indices, and its keys.
    fn tables() -> impl Iterator<Item = (String, &'static [Key])> {
        let tables = keys().0.iter();
        tables.map(|table| (without_indices(&table.at), table.keys.as_slice()))
    }

    #[test]
    fn no_key_is_read_twice() {
        for (table, keys) in tables() {
            let names: BTreeSet<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            assert_eq!(names.len(), keys.len(), "{table}: {keys:?}");
            assert!(!keys.is_empty(), "{table}");
        }
    }

    #[test]
    fn each_table_is_one_key_of_the_one_above_it() {
        let known: BTreeSet<String> = tables().map(|(table, _)| table).collect();
        assert_eq!(known.len(), tables().count());
        let held = tables().flat_map(|(table, keys)| {
            let held = keys.iter().filter(|key| key.form == Form::Table);
            held.map(move |key| below(&table, &key.name))
        });
        let held: BTreeSet<String> = held.chain([String::new()]).collect();
        assert_eq!(known, held);
    }

    /// A key of the file's text, as it stands there or is shown in a comment.
    fn key_of(line: &str) -> Option<&str> {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let (key, _) = line.split_once(" = ")?;
        (!key.contains(' ')).then_some(key)
    }

    #[test]
    fn the_default_file_shows_every_key_of_every_table() {
        let file = include_str!("../../conf/labnet.toml");
        let mut shown = BTreeSet::new();
        let mut table = "";
        for line in file.lines() {
            let header = line.strip_prefix("# ").unwrap_or(line);
            if let Some(header) = header.strip_prefix('[') {
                table = header.trim_matches(['[', ']']);
                shown.insert(table.to_owned());
            } else if let Some(key) = key_of(line) {
                shown.insert(below(table, key));
            }
        }
        let link: BTreeSet<&str> = crate::config::LinkOptions::KEYS.into();
        let mut known = BTreeSet::new();
        for (table, keys) in tables() {
            for key in keys {
                // What [link] shows need not be shown again.
                let again = table.starts_with("link.") && link.contains(key.name.as_str());
                let key = below(&table, &key.name);
                assert!(again || shown.contains(&key), "{key} is not shown");
                known.insert(key);
            }
        }
        let unknown: Vec<_> = shown.difference(&known).collect();
        assert!(unknown.is_empty(), "no such keys: {unknown:?}");
    }

    /// What is wrong with the configuration that one variable makes.
    fn problems(key: &str, value: &str) -> Vec<(String, String)> {
        let name = format!("LABNET_{}", key.to_uppercase().replace('.', "__"));
        let path = Path::new("/lab/labnet.toml");
        match crate::config::parse("[http]\n[rudp]\n", path, [(name, value.to_owned())]) {
            Ok(_) => Vec::new(),
            Err(problems) => {
                let problems = problems.0.into_iter();
                problems.map(|one| (one.key, one.message)).collect()
            }
        }
    }

    #[test]
    fn every_variable_sets_its_key_and_is_read_as_the_key_is() {
        assert!(keys().variables().count() > 60);
        for (key, form) in keys().variables() {
            // What a key holds that a variable sets wrongly, and what it never is then.
            let (values, never): (&[&str], &[&str]) = match form {
                Form::Text | Form::Table => {
                    (&["1", "true", "x,y"], &["is the", "is `", "is a list"])
                }
                Form::Typed => (&["x,y"], &["is a list"]),
                Form::List => (&["x,y"], &["is the", "is `"]),
            };
            for value in values {
                for (at, message) in problems(&key, value) {
                    let told = format!("{key}={value}: {at}: {message}");
                    let is_other = never.iter().any(|never| message.starts_with(never));
                    assert!(!is_other, "{told}");
                    assert!(!message.contains("no such key"), "{told}");
                }
            }
            match form {
                // One of the two is of the right type, if it may be out of bounds.
                Form::Typed => {
                    let is_right = |value: &&str| {
                        let mut found = problems(&key, value).into_iter();
                        !found.any(|(at, message)| at == key && message.starts_with("is "))
                    };
                    assert!(["1", "true"].iter().any(is_right), "{key}");
                }
                Form::List => {
                    let second = format!("{key}[1]");
                    let mut found = problems(&key, "/,/").into_iter();
                    assert!(found.any(|(at, _)| at == second), "{key}");
                }
                Form::Text | Form::Table => {}
            }
        }
    }

    #[test]
    fn a_secret_is_known_by_its_full_name_alone() {
        for (at, is_secret) in [
            ("rudp.secret", true),
            ("rudp.congestion", false),
            ("http.secret", false),
            ("secret", false),
        ] {
            assert_eq!(keys().is_secret(at), is_secret, "{at}");
        }
    }

    #[test]
    fn a_name_s_indices_are_left_out() {
        for (name, plain) in [
            ("a.b[0].c[12]", "a.b.c"),
            ("a", "a"),
            ("", ""),
            ("a[1]", "a"),
        ] {
            assert_eq!(without_indices(name), plain);
        }
    }
}
