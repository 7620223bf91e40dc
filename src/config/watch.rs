//! `[watch]`: what is remembered of sessions.

use super::table::Table;

/// What is remembered of each session, so that it can be told why its window is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Bytes for all sessions together, those that are over included: 10 kB for each under way, or the
    /// largest forget what was before. Default 64 MiB.
    pub memory: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { memory: 64 << 20 }
    }
}

/// What the rings of all sessions may take: below the least, not one session fits.
const MEMORY: (u64, u64) = (1 << 20, 1 << 40);

impl Watch {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        Self {
            memory: table.bytes("memory", MEMORY, default.memory),
        }
    }
}
