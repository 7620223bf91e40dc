//! What the value of one key may be, and how it is read.

use std::{
    fmt::Display,
    ops::{RangeFrom, RangeInclusive},
    path::Path,
    str::FromStr,
    time::Duration,
};

use serde_json::Value;

use super::{keys::Form, value};

/// Values of one kind, and their reader.
pub(super) struct Kind<R> {
    /// What is needed, for whoever wrote something of another type.
    pub(super) right: &'static str,
    /// How the key's variable is read.
    pub(super) form: Form,
    /// Whether what is written is never shown.
    pub(super) is_secret: bool,
    /// See [`Read`].
    pub(super) read: R,
}

/// A value, or what is wrong with it; `None`: it is of another type.
pub(super) trait Read<T>: Fn(&Value) -> Option<Result<T, String>> {}

impl<T, F: Fn(&Value) -> Option<Result<T, String>>> Read<T> for F {}

/// A text that `parse` understands.
pub(super) fn text<T>(parse: impl Fn(&str) -> Result<T, String>) -> Kind<impl Read<T>> {
    Kind {
        right: "a text in quotes",
        form: Form::Text,
        is_secret: false,
        read: move |value: &Value| value.as_str().map(&parse),
    }
}

/// A text that is one of a type's own words.
pub(super) fn word<T: FromStr<Err: Display>>() -> Kind<impl Read<T>> {
    text(|text| text.parse().map_err(|error: T::Err| error.to_string()))
}

/// The path of a file or a folder, which need not be there; a relative one is counted from `base`.
pub(super) fn path(base: &Path) -> Kind<impl Read<std::path::PathBuf>> {
    text(move |text| value::path(base, text))
}

/// A duration, a year at most.
pub(super) fn duration(allowed: RangeFrom<Duration>) -> Kind<impl Read<Duration>> {
    Kind {
        right: "a duration in quotes, as `\"30s\"` or `\"24h\"`",
        ..text(move |text| value::duration(text, allowed.start..=value::YEAR))
    }
}

/// A size between two numbers of bytes.
pub(super) fn bytes((least, most): (u64, u64)) -> Kind<impl Read<u64>> {
    Kind {
        right: "a size in quotes, as `\"64kB\"`",
        ..text(move |text| value::bytes(text, (least, most)))
    }
}

/// A whole number.
pub(super) fn number<T>(allowed: RangeInclusive<T>) -> Kind<impl Read<T>>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    Kind {
        right: "a whole number without quotes",
        form: Form::Typed,
        is_secret: false,
        read: move |value: &Value| Some(value::number(value.as_i64()?, &allowed)),
    }
}

/// `true` or `false`.
pub(super) fn flag() -> Kind<impl Read<bool>> {
    Kind {
        right: "`true` or `false`",
        form: Form::Typed,
        is_secret: false,
        read: |value: &Value| value.as_bool().map(Ok),
    }
}

/// What `parse` understands, written as a text or, where it is one, as a number or a truth: `5`, `0.5`, `true`
/// or `"25ms"`.
pub(super) fn scalar<T>(parse: impl Fn(&str) -> Result<T, String>) -> Kind<impl Read<T>> {
    Kind {
        right: "a number, or a text in quotes",
        form: Form::Text,
        is_secret: false,
        read: move |value: &Value| match value {
            Value::String(text) => Some(parse(text)),
            Value::Bool(is_true) => Some(parse(&is_true.to_string())),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Some(parse(&number.to_string())),
                (None, Some(number)) => Some(parse(&number.to_string())),
                (None, None) => None,
            },
            _ => None,
        },
    }
}

/// What a value is, in words.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "something that is no number".into(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(value) => format!("the number `{value}`"),
        Value::String(value) => format!("the text `{}`", value.escape_debug()),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
    }
}
