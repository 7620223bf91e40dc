//! `[link]`: a bad network before the proxy.

use super::{LinkOptions, kind::scalar, link_options::LINK_OPTIONS, table::Table};

/// A bad network before the proxy: `[link]`, or a client's own. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BadLink {
    /// What happens to packets on their way to the proxy.
    pub up: LinkOptions,
    /// What happens to packets on their way back.
    pub down: LinkOptions,
    /// Decides every packet's fate. Default of `[link]`: 1.
    pub seed: u64,
}

impl BadLink {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let both = options(table, LinkOptions::default());
        check(table, &both);
        let seed = table.number("seed", 0..=i64::MAX as u64, 1);
        let mut direction = |key| {
            table.table(key, |table| {
                let direction = options(table, both);
                // What is wrong for both has been told.
                if direction != both {
                    check(table, &direction);
                }
                direction
            })
        };
        Self {
            up: direction("up"),
            down: direction("down"),
            seed,
        }
    }
}

/// The options of `base`, with those of the table over them.
fn options(table: &mut Table<'_>, base: LinkOptions) -> LinkOptions {
    let mut options = base;
    for option in LINK_OPTIONS {
        let set = scalar(|text| {
            let mut set = options;
            set.put(option.key, text).map(|()| set)
        });
        options = table.optional(option.key, set).unwrap_or(options);
    }
    options
}

fn check(table: &mut Table<'_>, options: &LinkOptions) {
    const TOGETHER: [&str; 6] = ["loss", "burst", "rate", "queue", "aqm", "ecn"];
    if let Err(mismatch) = options.check()
        && TOGETHER.iter().all(|key| table.is_clean(key))
    {
        table.problem(mismatch.key, mismatch.message);
    }
}
