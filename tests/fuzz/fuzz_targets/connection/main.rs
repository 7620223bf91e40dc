//! A client and a server under any schedule. Nothing panics, no limit is left behind, every byte that is
//! read is right; and where nobody lied, everything arrives in the end.
//!
//! `tests/it/schedules.rs` runs the same world under random schedules, with any compiler.

#![no_main]

mod app;
mod schedule;
mod world;

use libfuzzer_sys::{arbitrary, fuzz_target};

use self::{
    schedule::{Setting, Step},
    world::World,
};

fuzz_target!(|input: (Setting, Vec<Step>)| {
    let (setting, steps) = input;
    World::new(&setting).run_all(steps);
});
