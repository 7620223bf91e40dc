//! The threads of the sockets beyond the first: each receives for one, and its sessions and
//! connections live there.

use std::{io, thread};

use tokio::sync::mpsc;

use crate::watch::event::packet::Role;

/// The threads. They outlive the endpoint's actor, as the sessions in them do: each of these keeps them, too.
pub(super) struct Workers(Vec<Worker>);

/// Takes what shall be spawned in its thread, which ends with it.
type Worker = mpsc::UnboundedSender<Box<dyn FnOnce() + Send>>;

impl Workers {
    /// How many threads.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// As many threads.
    ///
    /// # Errors
    /// If there are no more to be had, or no executor in one.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        (1..=count).map(work).collect::<io::Result<_>>().map(Self)
    }

    /// Has something done in the thread `number`, from 1 on, until the thread ends.
    pub(super) fn start(&self, number: usize, start: impl FnOnce() + Send + 'static) {
        if let Some(worker) = self.0.get(number.wrapping_sub(1)) {
            // The thread lives as long as what is sent to, unless it has panicked, which the watchdog notices.
            let _ = worker.send(Box::new(start));
        }
    }
}

/// The name of the thread of an address's socket `number`, as it is shown.
pub(super) fn name(number: usize) -> String {
    match number {
        0 => Role::Rudp.name().to_owned(),
        _ => format!("{}/{number}", Role::Rudp.name()),
    }
}

/// Starts the thread `number`.
fn work(number: usize) -> io::Result<Worker> {
    let (worker, mut work) = mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    thread::Builder::new().name(name(number)).spawn(move || {
        let (told, runtime) = match actix_rt::Runtime::new() {
            Ok(runtime) => (Ok(()), Some(runtime)),
            Err(error) => (Err(error), None),
        };
        // Who started the thread waits for this.
        let _ = ready.send(told);
        let Some(runtime) = runtime else {
            return;
        };
        runtime.block_on(async {
            while let Some(start) = work.recv().await {
                start();
            }
        });
    })?;
    let died = |_| io::Error::other("its thread has ended");
    is_ready.recv().map_err(died)??;
    Ok(worker)
}
