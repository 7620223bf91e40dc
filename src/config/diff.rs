/// What a new configuration means for one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diff {
    /// Its table is the same, or absent as before: nothing happens.
    Keep,
    /// Its table is new: the role starts.
    Start,
    /// Its table is gone: the role stops.
    Stop,
    /// Its table changed: the role goes on with the new one.
    Change,
}

/// Compares a role's tables, `None` where absent.
pub fn diff<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> Diff {
    match (old, new) {
        (None, None) => Diff::Keep,
        (None, Some(_)) => Diff::Start,
        (Some(_), None) => Diff::Stop,
        (Some(old), Some(new)) if old == new => Diff::Keep,
        (Some(_), Some(_)) => Diff::Change,
    }
}
