//! `[reload]`: when a changed configuration is taken.

use super::table::Table;

/// How a changed configuration is noticed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reload {
    /// Whether a reload follows when the file, or one that it names, has changed. Default false.
    pub watch: bool,
}

impl Reload {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        Self {
            watch: table.flag("watch", default.watch),
        }
    }
}
