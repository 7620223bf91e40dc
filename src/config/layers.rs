//! The file's text and the environment over it, and where each key stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use config::{Environment, Map, Value, ValueKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{Form, Keys},
    problem::Problem,
    source::Source,
};

/// What every environment variable of the configuration begins with.
pub(super) const PREFIX: &str = "LABNET_";
/// Variables with the prefix that are the command line's, not the configuration's.
const OTHERS: &[&str] = &["LABNET_SECRET", "LABNET_URL", "LABNET_TOKEN_FILE"];
/// The merged values, and what tells where each came from.
pub(super) struct Layers {
    /// The merged tree; always a table.
    pub(super) values: serde_json::Value,
    /// The file's values alone.
    alone: serde_json::Value,
    file: String,
    /// The line of each key of the file.
    lines: BTreeMap<String, usize>,
    /// The variable of each key of the environment.
    variables: BTreeMap<String, String>,
    /// Problems found on the way: of syntax, and of names that cannot be keys.
    problems: Vec<Problem>,
    /// Lines on which the syntax is broken.
    broken: BTreeSet<usize>,
}

impl Layers {
    /// Parses `text`, going on after a mistake, and lays the variables of `environment` that
    /// begin with `LABNET_` over it; how they are read, the `keys` say.
    pub(super) fn new(
        text: &str,
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        keys: &Keys,
    ) -> Self {
        let mut this = Self {
            values: serde_json::Value::Object(serde_json::Map::new()),
            alone: serde_json::Value::Null,
            file: path.display().to_string(),
            lines: BTreeMap::new(),
            variables: BTreeMap::new(),
            problems: Vec::new(),
            broken: BTreeSet::new(),
        };
        let index = LineIndex::new(text);
        let (document, mut errors) = DeTable::parse_recoverable(text);
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        let table = this.table("", document.get_ref(), &index);
        this.syntax(text, &index, &errors);
        let file = table
            .into_iter()
            .try_fold(config::Config::builder(), |builder, (key, value)| {
                builder.set_default(key, value)
            });
        if let Ok(file) = &file {
            let alone = file.build_cloned();
            // What is wrong with it shows below, too.
            let alone = alone.and_then(config::Config::try_deserialize);
            this.alone = alone.unwrap_or_default();
        }
        let merged = file
            .and_then(|builder| {
                let forms: Vec<(String, Form)> = keys
                    .variables()
                    .filter(|(_, form)| *form != Form::Text)
                    .collect();
                let (typed, text): (Map<_, _>, Map<_, _>) = this
                    .accept(environment)
                    .into_iter()
                    .partition(|(name, _)| forms.iter().any(|(key, _)| *key == key_of(name)));
                let layer = |variables| {
                    Environment::with_prefix(PREFIX.trim_end_matches('_'))
                        .prefix_separator("_")
                        .separator("__")
                        .source(Some(variables))
                };
                let lists = forms.iter().filter(|(_, form)| *form == Form::List);
                let typed = lists.fold(
                    layer(typed).try_parsing(true).list_separator(","),
                    |layer, (key, _)| layer.with_list_parse_key(key),
                );
                builder.add_source(layer(text)).add_source(typed).build()
            })
            .and_then(config::Config::try_deserialize);
        match merged {
            Ok(values) => this.values = values,
            Err(error) => this.problem(None, "", error.to_string()),
        }
        this
    }

    /// What the configuration is made from.
    pub(super) fn source(&self) -> Source {
        Source::new(
            self.alone.clone(),
            self.values.clone(),
            self.variables.clone(),
        )
    }

    /// The problems of the syntax and those of `found` (key and message), in the order of the file.
    pub(super) fn into_problems(mut self, found: Vec<(String, String)>) -> Vec<Problem> {
        for (key, message) in found {
            if let Some(variable) = self.variable(&key) {
                let file = variable.to_owned();
                self.problems.push(Problem {
                    file,
                    line: None,
                    key,
                    message,
                });
                continue;
            }
            let own = self.lines.get(&key);
            // Where the syntax is broken, what the rest seems to say means nothing.
            let follows = match own {
                Some(line) => self.broken.contains(line),
                None => !self.broken.is_empty(),
            };
            if !follows {
                let line = ways_up(&key).find_map(|key| self.lines.get(key)).copied();
                self.problem(line, &key, message);
            }
        }
        self.problems
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.problems.dedup();
        self.problems
    }

    /// The variable that holds the key, or that alone made the table which lacks it.
    fn variable(&self, key: &str) -> Option<&str> {
        let below = |table: &str| {
            self.variables
                .iter()
                .find(|(key, _)| ways_up(key).skip(1).any(|above| above == table))
                .map(|(_, variable)| variable)
        };
        ways_up(key)
            .find_map(|key| self.variables.get(key))
            .or_else(|| below(key))
            .or_else(|| {
                ways_up(key)
                    .take_while(|key| !self.lines.contains_key(*key))
                    .find_map(below)
            })
            .map(String::as_str)
    }

    /// Whether the layers alone have problems.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Tells the errors of the syntax: one a line, and of a list that is left open only the first.
    fn syntax(&mut self, text: &str, index: &LineIndex, errors: &[toml::de::Error]) {
        let mut open_list = None;
        for error in errors {
            let Some(line) = error.span().map(|span| index.line(span.start)) else {
                self.problem(None, "", format!("TOML syntax: {}", error.message()));
                continue;
            };
            let follows = open_list.is_some_and(|last| line <= last + 1);
            let again = !self.broken.insert(line);
            if follows {
                open_list = Some(line);
            }
            if follows || again {
                continue;
            }
            let mut message = format!("TOML syntax: {}", error.message());
            if error.message().starts_with("missing comma between array") {
                open_list = Some(line);
                message = "TOML syntax: a `,` or the `]` of the list before it is missing".into();
            } else if error.message().starts_with("invalid") {
                message += "; text needs a quote before and after it";
            }
            let key = self.key_on(line, text);
            self.problem(Some(line), &key, message);
        }
    }

    /// The key that stands on a line, as well as it can be told where the syntax is broken.
    fn key_on(&self, line: usize, text: &str) -> String {
        let known = self.lines.iter().filter(|(_, at)| **at == line);
        // Of a list and its elements on one line, the list.
        if let Some((key, _)) = known.min_by_key(|(key, _)| key.len()) {
            return key.clone();
        }
        let line = text.lines().nth(line - 1).unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default().trim();
        let key = key.trim_matches(['[', ']']);
        if is_plain(key) {
            key.to_owned()
        } else {
            String::new()
        }
    }

    fn problem(&mut self, line: Option<usize>, key: &str, message: String) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line,
            key: key.into(),
            message,
        });
    }

    fn table(&mut self, at: &str, table: &DeTable<'_>, index: &LineIndex) -> Map<String, Value> {
        let mut values = Map::new();
        for (key, value) in table {
            let name = key.get_ref();
            let line = index.line(key.span().start);
            // The config crate would take such a name for a path, `[9]` for an index.
            if name.contains('.') || !is_plain(name) {
                let message = "no such key; keys are plain words".to_owned();
                self.problem(Some(line), &name.escape_debug().to_string(), message);
                continue;
            }
            let at = if at.is_empty() {
                name.to_string()
            } else {
                format!("{at}.{name}")
            };
            self.lines.insert(at.clone(), line);
            let value = self.value(&at, value, index);
            values.insert(name.to_string(), value);
        }
        values
    }

    fn value(&mut self, at: &str, value: &Spanned<DeValue<'_>>, index: &LineIndex) -> Value {
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::I64),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::Float),
            DeValue::Boolean(value) => ValueKind::Boolean(*value),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Array(elements) => ValueKind::Array(
                elements
                    .iter()
                    .enumerate()
                    .map(|(number, element)| {
                        let at = format!("{at}[{number}]");
                        self.lines
                            .insert(at.clone(), index.line(element.span().start));
                        self.value(&at, element, index)
                    })
                    .collect(),
            ),
            DeValue::Table(table) => ValueKind::Table(self.table(at, table, index)),
        };
        Value::new(None, kind)
    }

    /// The variables that set a key; the names that cannot become problems.
    fn accept(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Map<String, String> {
        let mut accepted = Map::new();
        for (name, value) in environment {
            // An empty variable is an unset one.
            if !name.starts_with(PREFIX) || OTHERS.contains(&name.as_str()) || value.is_empty() {
                continue;
            }
            let key = key_of(&name);
            if is_plain(&key) {
                self.variables.insert(key, name.clone());
                accepted.insert(name, value);
            } else {
                self.problems.push(Problem {
                    file: name.escape_debug().to_string(),
                    line: None,
                    key: String::new(),
                    message: "names no key; a variable of labnet is named as LABNET_STATE_DIR or \
                              LABNET_HTTP__LISTEN"
                        .into(),
                });
            }
        }
        accepted
    }
}

/// Whether a key is of plain words, with dots between them.
fn is_plain(key: &str) -> bool {
    key.split('.').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    })
}

/// `LABNET_HTTP__LISTEN` -> `http.listen`
fn key_of(variable: &str) -> String {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable);
    name.to_lowercase().replace("__", ".")
}

/// `a.b[0]`, `a.b`, `a`
fn ways_up(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| {
        key.rfind(['.', '[']).map(|end| &key[..end])
    })
}

/// The starts of a text's lines.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, of the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|newline| *newline < offset)
    }
}
