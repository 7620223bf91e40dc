//! Numbers that are told of a session or a transfer. Each is a row of one table: the API's fields, the
//! columns of `labnet sessions`, the keys of STAT's answer and the series in /metrics are made from it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// One number, or word, that is told of a `T`.
pub struct Statistic<T: ?Sized> {
    /// Its name, with its unit if it has one: the API's field and STAT's key; in /metrics it follows
    /// the prefix of its kind of session.
    pub key: &'static str,
    /// The heading of its column in `labnet sessions`; `None`: it has no column.
    pub heading: Option<&'static str>,
    /// What it says.
    pub help: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Whether each session has a series of it in /metrics, and of which type.
    pub series: Option<Series>,
    /// Reads it.
    pub value: fn(&T) -> Value,
}

/// What a value is counted in, which says how people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A word.
    Word,
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Seconds of a round trip, told to the microsecond.
    Latency,
    /// Seconds that something has lasted.
    Age,
}

/// The type of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// It goes up and down.
    Gauge,
    /// It only grows; its name in /metrics ends in `_total`.
    Counter,
}

/// What a statistic says now.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none now: `null` in the API, no series, no key in STAT's answer.
    Absent,
    /// A word.
    Word(String),
    /// A whole number.
    Whole(u64),
    /// Seconds.
    Seconds(f64),
}

/// The fields of the API's object.
pub type Fields = BTreeMap<String, Json>;

/// The fields that a table makes of `subject`.
pub fn fields<T: ?Sized>(table: &[Statistic<T>], subject: &T) -> Fields {
    let field = |statistic: &Statistic<T>| {
        let value = match (statistic.value)(subject) {
            Value::Absent => Json::Null,
            Value::Word(word) => word.into(),
            Value::Whole(number) => number.into(),
            Value::Seconds(seconds) => seconds.into(),
        };
        (statistic.key.to_owned(), value)
    };
    table.iter().map(field).collect()
}

/// Keys and values in the words of STAT's answer, those that are absent left out.
pub fn words<T: ?Sized>(table: &[Statistic<T>], subject: &T) -> Vec<(&'static str, String)> {
    let word = |statistic: &Statistic<T>| {
        let text = match ((statistic.value)(subject), statistic.unit) {
            (Value::Absent, _) => return None,
            (Value::Word(word), _) => word,
            (Value::Whole(number), _) => number.to_string(),
            (Value::Seconds(seconds), Unit::Latency) => format!("{seconds:.6}"),
            (Value::Seconds(seconds), _) => format!("{seconds:.2}"),
        };
        Some((statistic.key, text))
    };
    table.iter().filter_map(word).collect()
}

/// A column of `labnet sessions`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// The API's field that it shows.
    pub key: &'static str,
    /// What that is counted in.
    pub unit: Unit,
}

/// The columns of a table.
pub fn columns<T: ?Sized>(table: &[Statistic<T>]) -> Vec<Column> {
    let column = |statistic: &Statistic<T>| {
        Some(Column {
            heading: statistic.heading?,
            key: statistic.key,
            unit: statistic.unit,
        })
    };
    table.iter().filter_map(column).collect()
}

/// What the series of a table are called, after their prefix, and what they are.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// The key.
    pub key: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its type.
    pub series: Series,
}

impl Described {
    /// Its name in /metrics.
    pub fn name(&self, prefix: &str) -> String {
        let suffix = match self.series {
            Series::Gauge => "",
            Series::Counter => "_total",
        };
        format!("{prefix}{}{suffix}", self.key)
    }
}

/// The statistics of a table that have series.
pub fn series<T: ?Sized>(table: &[Statistic<T>]) -> Vec<Described> {
    let described = |statistic: &Statistic<T>| {
        Some(Described {
            key: statistic.key,
            help: statistic.help,
            series: statistic.series?,
        })
    };
    table.iter().filter_map(described).collect()
}

/// What the series of a table show of `subject`, in the order of [`series`]; NaN where there is nothing.
pub fn sample<T: ?Sized>(table: &[Statistic<T>], subject: &T) -> impl Iterator<Item = f64> {
    let shown = table.iter().filter(|statistic| statistic.series.is_some());
    shown.map(move |statistic| match (statistic.value)(subject) {
        Value::Whole(number) => number as f64,
        Value::Seconds(seconds) => seconds,
        Value::Absent | Value::Word(_) => f64::NAN,
    })
}
