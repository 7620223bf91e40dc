//! `[supervisor]`: when a component is given up.

use std::time::Duration;

use super::{table::Table, value::SECOND};

/// When a component that keeps failing is given up, and the process with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Supervisor {
    /// Restarts of one component allowed within `within`. Default 10.
    pub max_restarts: u32,
    /// The sliding window. Default 60 s.
    pub within: Duration,
    /// A component whose thread does nothing for so long is stuck, and replaced. Default 10 s.
    pub stuck_after: Duration,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            within: Duration::from_secs(60),
            stuck_after: Duration::from_secs(10),
        }
    }
}

/// A thread beats once a second: below this a busy one would be taken for stuck.
const STUCK_AFTER_LEAST: Duration = Duration::from_secs(3);

impl Supervisor {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let least = STUCK_AFTER_LEAST;
        Self {
            max_restarts: table.number("max_restarts", 0..=10_000, default.max_restarts),
            within: table.duration("within", SECOND.., default.within),
            stuck_after: table.duration("stuck_after", least.., default.stuck_after),
        }
    }
}
