//! Whether the machine had time for a test: what happens in real time says nothing of a program that did not
//! get a processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A thread that sleeps a millisecond over and over, and counts how often it is woken late.
pub struct Calm {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

/// Later than this by a scheduler that has processors to give is rare.
const LATE: Duration = Duration::from_millis(4);

impl Calm {
    /// From now on.
    pub fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let (mut all, mut late) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let asked = Instant::now() + Duration::from_millis(1);
                thread::sleep(Duration::from_millis(1));
                all += 1;
                late += u32::from(asked.elapsed() > LATE);
            }
            (all, late)
        });
        Self { over, thread }
    }

    /// Whether fewer than one in fifty were late until now. It says so if not.
    pub fn was(self) -> bool {
        self.over.store(true, Ordering::Relaxed);
        let (all, late) = self.thread.join().expect("it counts");
        let calm = late * 50 < all;
        if !calm {
            println!("the machine was busy: {late} of {all} sleeps were late");
        }
        calm
    }
}
