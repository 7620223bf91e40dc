//! Trials: what takes minutes to show. `tests/trial NAME` runs one at full length, `tests/run` the
//! short form of each.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod gauges;
mod load;
mod reloads;
mod shapes;
mod soak;
mod stuck;

/// Whether this is the trial at its full length.
fn in_full() -> bool {
    std::env::var_os("TRIAL").is_some()
}
