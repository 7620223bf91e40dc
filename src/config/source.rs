//! What a configuration was read from, and what is different about another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

/// The values that a configuration was compiled from.
#[derive(Clone, Default)]
pub struct Source {
    /// Those of the file alone.
    file: Value,
    /// With the environment laid over them.
    merged: Value,
    /// The variable of each key that the environment sets.
    variables: BTreeMap<String, String>,
}

/// One key that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key, `dhcp.subnet[0].lease_time`.
    pub key: String,
    /// What it was; `None`: it was not there.
    pub from: Option<String>,
    /// What it is; `None`: it is not there.
    pub to: Option<String>,
    /// The environment variable that sets the key, whatever the file says.
    pub masked_by: Option<String>,
}

impl Source {
    pub(super) fn new(file: Value, merged: Value, variables: BTreeMap<String, String>) -> Self {
        Self {
            file,
            merged,
            variables,
        }
    }

    /// The keys that are different in `new`, sorted by name. A key that the environment sets in both
    /// and that is different in the file alone is among them, and says so.
    pub fn changes(&self, new: &Self) -> Vec<KeyChange> {
        let mut changes = difference(&self.merged, &new.merged);
        let seen: BTreeSet<String> = changes.iter().map(|change| change.key.clone()).collect();
        for mut change in difference(&self.file, &new.file) {
            let variable = new.variables.iter().find(|(key, _)| {
                let below = change.key.strip_prefix(key.as_str());
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            if let Some((_, variable)) = variable
                && !seen.contains(&change.key)
            {
                change.masked_by = Some(variable.clone());
                changes.push(change);
            }
        }
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    }
}

impl PartialEq for Source {
    /// Configurations that mean the same are equal, however they were written: [`Source::changes`]
    /// tells the difference.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Source {
    /// There may be a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

fn difference(old: &Value, new: &Value) -> Vec<KeyChange> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", old, &mut before);
    flatten("", new, &mut after);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let different = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    different
        .map(|key| {
            let shown = |values: &BTreeMap<String, String>| {
                let value = values.get(key)?;
                Some(
                    if super::keys().is_secret(key) {
                        "(hidden)"
                    } else {
                        value
                    }
                    .to_owned(),
                )
            };
            KeyChange {
                key: key.clone(),
                from: shown(&before),
                to: shown(&after),
                masked_by: None,
            }
        })
        .collect()
}

/// The values by key, as they could stand in the file. A list of plain values is one of them; an empty
/// table is, too: it may be what makes a role run.
fn flatten(at: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let at = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                flatten(&at, value, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (index, value) in list.iter().enumerate() {
                flatten(&format!("{at}[{index}]"), value, found);
            }
        }
        value if !at.is_empty() => {
            found.insert(at.to_owned(), value.to_string());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEFORE: &str = "[http]\n[rudp]\nprotection = \"psk\"\nsecret = \"correct horse battery\"\nmax_window = 8\n\
                          [supervisor]\nmax_restarts = 3\n[origin]\nsamples = [\"1MB.zip\"]\n";

    fn source(text: &str, environment: &[(&str, &str)]) -> Source {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = super::super::parse(text, Path::new("/lab/labnet.toml"), environment);
        config.expect("valid").source
    }

    fn told(before: &Source, after: &Source) -> Vec<String> {
        let changes = before.changes(after).into_iter();
        changes
            .map(|change| {
                let KeyChange {
                    key,
                    from,
                    to,
                    masked_by,
                } = change;
                let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
                format!(
                    "{key} {} {} {}",
                    of(from),
                    of(to),
                    of(masked_by).replace("LABNET_", "")
                )
            })
            .collect()
    }

    #[test]
    fn every_key_that_is_different_is_named_once() {
        let before = source(BEFORE, &[]);
        assert_eq!(told(&before, &before), [""; 0]);
        let after = BEFORE
            .replace("correct", "another")
            .replace("max_restarts = 3", "within = \"20s\"")
            .replace("\"1MB.zip\"", "\"1MB.zip\", \"2MB.zip\"")
            .replace("[http]\n", "");
        assert_eq!(
            told(&before, &source(&after, &[])),
            [
                "http {} - -",
                "origin.samples [\"1MB.zip\"] [\"1MB.zip\",\"2MB.zip\"] -",
                "rudp.secret (hidden) (hidden) -",
                "supervisor.max_restarts 3 - -",
                "supervisor.within - \"20s\" -",
            ]
        );
    }

    #[test]
    fn a_variable_that_masks_a_changed_key_is_named() {
        let variable = [("LABNET_RUDP__MAX_WINDOW", "16")];
        let before = source(BEFORE, &variable);
        let after = source(
            &BEFORE.replace("max_window = 8", "max_window = 9"),
            &variable,
        );
        assert_eq!(
            told(&before, &after),
            ["rudp.max_window 8 9 RUDP__MAX_WINDOW"]
        );
    }

    #[test]
    fn a_secret_is_not_in_what_is_printed_for_debugging() {
        assert!(!format!("{:?}", source(BEFORE, &[])).contains("horse"));
    }
}
