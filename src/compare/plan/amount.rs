//! How much each sends, in how many files.

use std::time::Duration;

use super::reader::{Reader, whole};
use crate::config::{bytes, link_options::duration};

const DEFAULT_TIME: Duration = Duration::from_secs(10);
/// Files at once: no transport lets its peer open more than a hundred streams, unless it is asked.
const MOST_FILES: u64 = 64;
/// The most that one sends: the largest of the built-in sample files.
const MOST_BYTES: u64 = 4_000_000_000;

/// How much each sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Size(u64),
    /// As much as comes through in this time.
    Time(Duration),
}

impl Reader<'_> {
    /// How much each sends, in how many files.
    pub(super) fn amount(&mut self) -> (Amount, u64) {
        let bytes = self.one("size", |text| {
            let bytes = bytes(text, (1_000, MOST_BYTES))?;
            Ok(Amount::Size(bytes))
        });
        let time = self.one("time", |text| {
            let time = duration(text)?;
            match time < Duration::from_millis(100) {
                true => Err(format!("`{text}` is too short; 100ms are the least")),
                false => Ok(Amount::Time(time)),
            }
        });
        if let (Some(said), Some(_)) = (self.experiment.said("size"), self.experiment.said("time"))
        {
            self.problem(&said.place, "size or time: each sends so much, or so long");
        }
        let amount = bytes.or(time).unwrap_or(Amount::Time(DEFAULT_TIME));
        let files = self.one("files", |text| whole(text, 1..=MOST_FILES));
        match (amount, files) {
            (Amount::Size(size), Some(files)) => (Amount::Size(size - size % files), files),
            (Amount::Time(_), Some(_)) => {
                let place = self.place(&["files"]);
                self.problem(&place, "files are of a size: say which, as --size 8MB");
                (amount, 1)
            }
            (amount, None) => (amount, 1),
        }
    }
}
