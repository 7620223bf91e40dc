//! How the link changes while a run lasts.

use std::time::Duration;

use super::{amount::Amount, reader::Reader};
use crate::config::{LinkOptions, link_options::duration};

/// From this time after the start the link is otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub after: Duration,
    /// How it was said: `loss=5`.
    pub words: String,
    /// To the sender.
    pub up: LinkOptions,
    /// From the sender.
    pub down: LinkOptions,
}

impl Reader<'_> {
    /// How the link changes, in the order of time.
    pub(super) fn changes(
        &mut self,
        up: LinkOptions,
        down: LinkOptions,
        amount: Amount,
    ) -> Vec<Change> {
        let Some(said) = self.experiment.said("at") else {
            return Vec::new();
        };
        let mut parsed = Vec::new();
        for value in &said.values {
            match at(value) {
                Ok((after, _)) if matches!(amount, Amount::Time(time) if after >= time) => {
                    self.problem(&said.place, format!("`{value}` comes after the end"));
                }
                Ok(one) => parsed.push(one),
                Err(message) => self.problem(&said.place, message),
            }
        }
        parsed.sort_by_key(|(after, _)| *after);
        let (mut up, mut down) = (up, down);
        let mut changes = Vec::new();
        for (after, list) in parsed {
            let set = up.set_list(list).and_then(|()| down.set_list(list));
            let both = || up.check().and_then(|()| down.check());
            let checked = set.and_then(|()| both().map_err(|mismatch| mismatch.message));
            if let Err(message) = checked {
                self.problem(&said.place, message);
            }
            changes.push(Change {
                after,
                words: list.to_owned(),
                up,
                down,
            });
        }
        changes
    }
}

/// `10s loss=5,rate=5mbit`.
fn at(text: &str) -> Result<(Duration, &str), String> {
    let wrong = || {
        format!(
            "`{}` is no change; write it as `10s loss=5`",
            text.escape_debug()
        )
    };
    let (after, list) = text
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(wrong)?;
    LinkOptions::default().set_list(list)?;
    Ok((duration(after)?, list))
}
