//! The fuzzer's world (`tests/fuzz`) under random schedules: it keeps compiling and holding without the
//! fuzzer and its compiler.

use arbitrary::{self, Arbitrary as _, Unstructured};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

#[path = "../fuzz/fuzz_targets/connection/app.rs"]
mod app;
#[path = "../fuzz/fuzz_targets/connection/schedule.rs"]
mod schedule;
#[path = "../fuzz/fuzz_targets/connection/world.rs"]
mod world;

use self::{
    schedule::{Setting, Step},
    world::World,
};

/// Says whether nobody was to lie.
fn run(seed: u64) -> bool {
    let mut bytes = vec![0; 4096];
    Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut bytes = Unstructured::new(&bytes);
    let setting = Setting::arbitrary(&mut bytes).expect("bytes enough");
    let steps = std::iter::from_fn(|| {
        let more = !bytes.is_empty();
        more.then(|| Step::arbitrary(&mut bytes).expect("it takes what there is"))
    });
    println!("seed {seed}: {setting:?}");
    World::new(&setting).run_all(steps);
    !setting.attackers
}

fn run_all(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let honest = seeds.filter(|seed| run(*seed)).count() as u64;
    assert!(honest > count / 3 && honest < count * 2 / 3, "{honest}");
}

#[test]
fn under_any_schedule_what_must_hold_does() {
    run_all(0..1000);
}

#[test]
#[ignore = "needs minutes"]
fn under_a_hundred_thousand_schedules_what_must_hold_does() {
    run_all(1000..101_000);
}
