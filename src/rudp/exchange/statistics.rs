//! The body that answers STAT.

use std::fmt;

use super::{Malformed, lines, tame};

/// The longest body, in bytes.
pub const MAX_STATISTICS: usize = 16 * 1024;

/// The longest key and the longest value, in bytes.
const MAX_STATISTIC: usize = 128;

/// Statistics in their order: the body that answers STAT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics(Vec<(String, String)>);

impl Statistics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, or replaces the one of this key. The key is of lower-case letters, digits and `_`,
    /// 1 to 128 of them; else nothing is added. In the value control characters become spaces; what
    /// is beyond 128 bytes is cut.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        let value = value.to_string();
        let value = tame(&value[..value.floor_char_boundary(MAX_STATISTIC)]);
        if !is_key(key) {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, value)| (known == key).then_some(value))
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The body; statistics beyond [`MAX_STATISTICS`] are left out.
    pub fn encode(&self) -> String {
        let mut body = String::new();
        for (key, value) in self.iter() {
            if body.len() + key.len() + value.len() + 2 <= MAX_STATISTICS {
                body.extend([key, " ", value, "\n"]);
            }
        }
        body
    }

    /// Reads a whole body.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut statistics = Self::new();
        for line in lines(body, MAX_STATISTICS)? {
            let (key, value) = line.split_once(' ').ok_or(Malformed::Shape)?;
            if !is_key(key) || value.len() > MAX_STATISTIC || value.chars().any(char::is_control) {
                return Err(Malformed::Text);
            }
            if statistics.get(key).is_some() {
                return Err(Malformed::Twice);
            }
            statistics.0.push((key.to_owned(), value.to_owned()));
        }
        Ok(statistics)
    }
}

fn is_key(key: &str) -> bool {
    let in_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_STATISTIC).contains(&key.len()) && key.bytes().all(in_key)
}
