//! What systemd is told, if it started the program: sd_notify(3). All of it does nothing elsewhere.

use std::sync::{Mutex, PoisonError};

use sd_notify::NotifyState;

/// The status told last: each is told once.
static STATUS: Mutex<String> = Mutex::new(String::new());

/// A reload begins.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no time for systemd"),
    }
}

/// It serves, for the first time or after a reload.
pub fn tell_ready(status: &str) {
    tell(&[NotifyState::Ready]);
    tell_status(status);
}

/// It is about to end.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How it is.
pub(super) fn tell_status(status: &str) {
    let mut last = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    if *last != status {
        status.clone_into(&mut last);
        tell(&[NotifyState::Status(status)]);
    }
}

/// All is well.
pub(super) fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
