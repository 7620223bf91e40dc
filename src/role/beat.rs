//! Heartbeats: a thread that does not beat is stuck.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How often a thread beats.
const INTERVAL: Duration = Duration::from_secs(1);

/// The heartbeats of one role's threads.
#[derive(Clone)]
pub struct Beats {
    start: Instant,
    hearts: Arc<Mutex<Vec<Heart>>>,
}

struct Heart {
    thread: String,
    /// The last beat, milliseconds after `start`.
    last: Arc<AtomicU64>,
}

impl Default for Beats {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            hearts: Arc::default(),
        }
    }
}

impl Beats {
    /// Beats from now on for as long as the future runs: to be spawned in the thread, which is shown
    /// by the name `thread`.
    pub fn beat(&self, thread: impl Into<String>) -> impl Future<Output = ()> + 'static {
        let (start, hearts) = (self.start, Arc::clone(&self.hearts));
        let last = Arc::new(AtomicU64::new(millis(start.elapsed())));
        let heart = Heart {
            thread: thread.into(),
            last: Arc::clone(&last),
        };
        self.lock().push(heart);
        let beating = Beating { hearts, last };
        async move {
            loop {
                beating
                    .last
                    .store(millis(start.elapsed()), Ordering::Relaxed);
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// The thread that has been silent for the longest, if that is at least `limit` at `now`.
    pub fn silent(&self, limit: Duration, now: Instant) -> Option<(String, Duration)> {
        let now = now.saturating_duration_since(self.start);
        let hearts = self.lock();
        let silences = hearts.iter().map(|heart| {
            let last = Duration::from_millis(heart.last.load(Ordering::Relaxed));
            (&heart.thread, now.saturating_sub(last))
        });
        silences
            .max_by_key(|(_, silence)| *silence)
            .filter(|(_, silence)| *silence >= limit)
            .map(|(thread, silence)| (thread.clone(), silence))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Heart>> {
        self.hearts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A heart that beats; gone with its thread.
struct Beating {
    hearts: Arc<Mutex<Vec<Heart>>>,
    last: Arc<AtomicU64>,
}

impl Drop for Beating {
    fn drop(&mut self) {
        let mut hearts = self.hearts.lock().unwrap_or_else(PoisonError::into_inner);
        hearts.retain(|heart| !Arc::ptr_eq(&heart.last, &self.last));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_beat_is_named_until_it_is_gone() {
        let beats = Beats::default();
        let (a, b) = (beats.beat("a"), beats.beat("b"));
        let now = Instant::now();
        let limit = Duration::from_secs(10);
        assert_eq!(beats.silent(limit, now), None);
        let later = now + Duration::from_secs(11);
        let (_, silence) = beats.silent(limit, later).expect("silent");
        assert!(silence >= limit);
        drop(a);
        assert_eq!(
            beats.silent(limit, later).map(|(thread, _)| thread),
            Some("b".to_owned())
        );
        drop(b);
        assert_eq!(beats.silent(limit, later), None);
    }
}
