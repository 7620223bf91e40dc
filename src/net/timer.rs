use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

/// One timer, set again and again. It is exact to some microseconds; the executor's own are to a
/// millisecond, which is much beside the delay of a short link or the pace of a fast one.
pub struct Timer {
    io: AsyncFd<Fd>,
    due: Option<Instant>,
}

struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// A timer that isn't set.
    ///
    /// # Errors
    /// If there are no descriptors left.
    #[allow(unsafe_code)]
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: Fd owns its descriptor, always the same one, and closes it when dropped, not
        // before; nobody else registers it.
        let io = unsafe { AsyncFd::register_with_interest(Fd(fd), Interest::READABLE) }?;
        Ok(Self { io, due: None })
    }

    /// Sets it to `due`, or to never.
    ///
    /// # Errors
    /// None that the kernel has for a due time in this century.
    pub fn set(&mut self, due: Option<Instant>) -> io::Result<()> {
        if due == self.due {
            return Ok(());
        }
        let timer = &self.io.get_ref().0;
        match due {
            None => timer.unset()?,
            Some(due) => {
                // A time of nothing would stop it.
                let left = due
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_nanos(1));
                let left = Expiration::OneShot(TimeSpec::from_duration(left));
                timer.set(left, TimerSetTimeFlags::empty())?;
            }
        }
        self.due = due;
        Ok(())
    }

    /// Waits until it is due; for ever if it isn't set.
    ///
    /// # Errors
    /// Those of the executor's shutdown.
    pub async fn expired(&mut self) -> io::Result<()> {
        poll_fn(|task| self.poll_expired(task)).await
    }

    /// [`expired`](Self::expired) for who polls. Setting it anew does not lose the task.
    ///
    /// # Errors
    /// Those of the executor's shutdown.
    pub fn poll_expired(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.io.poll_read_ready(task))?;
            if let Ok(expired) = ready.try_io(|fd| Ok(fd.get_ref().0.wait()?)) {
                self.due = None;
                return Poll::Ready(expired);
            }
        }
    }
}

/// Calls `turn` at once, when the time that it told has come, and when `earlier` is notified.
///
/// # Errors
/// Those of the timer.
pub(crate) async fn keep_time(
    earlier: &Notify,
    mut turn: impl FnMut() -> Option<Instant>,
) -> io::Result<()> {
    let mut timer = Timer::new()?;
    loop {
        timer.set(turn())?;
        tokio::select! {
            expired = timer.expired() => expired?,
            () = earlier.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_due_when_it_was_last_set_to_and_never_early() {
        let start = Instant::now();
        let mut timer = Timer::new().expect("a timer");
        timer
            .set(Some(start + Duration::from_secs(3600)))
            .expect("set");
        for millis in [5, 0, 3] {
            let due = Instant::now() + Duration::from_millis(millis);
            timer.set(Some(due)).expect("set");
            timer.expired().await.expect("expired");
            assert!(Instant::now() >= due);
        }
        timer.set(Some(start)).expect("set");
        timer.set(None).expect("unset");
        let never = tokio::time::timeout(Duration::from_millis(20), timer.expired());
        never.await.expect_err("not set");
        timer.set(Some(start)).expect("set");
        timer.expired().await.expect("expired");
        assert!(start.elapsed() < Duration::from_secs(3000));
    }
}
