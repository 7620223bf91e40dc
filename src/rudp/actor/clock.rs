//! The time of all connections of one thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::poll_fn,
    io,
    rc::{Rc, Weak},
    task::{self, Poll, Waker},
    time::Instant,
};

use tokio::task::AbortHandle;

use crate::net::Timer;

/// One exact timer for any number of tasks, each with one due time. A connection paces by it: the
/// executor's own timers are to a millisecond. Ten thousand idle connections share one descriptor.
pub(super) struct Clock {
    state: RefCell<State>,
    keeper: RefCell<Option<AbortHandle>>,
}

struct State {
    timer: Timer,
    /// What the timer is set to, at most that late.
    set: Option<Instant>,
    due: BTreeMap<(Instant, u64), Waker>,
    next_key: u64,
}

impl Clock {
    /// Starts it on the current thread.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn start() -> io::Result<Rc<Self>> {
        let clock = Rc::new(Self {
            state: RefCell::new(State {
                timer: Timer::new()?,
                set: None,
                due: BTreeMap::new(),
                next_key: 0,
            }),
            keeper: RefCell::new(None),
        });
        let weak = Rc::downgrade(&clock);
        let keeper = actix_rt::spawn(poll_fn(move |task| Self::keep(&weak, task)));
        *clock.keeper.borrow_mut() = Some(keeper.abort_handle());
        Ok(clock)
    }

    /// Wakes whoever is due, for ever.
    fn keep(clock: &Weak<Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let Some(clock) = clock.upgrade() else {
            return Poll::Ready(());
        };
        loop {
            let polled = clock.state.borrow_mut().timer.poll_expired(task);
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => clock.ring(Instant::now()),
                Poll::Ready(Err(error)) => {
                    tracing::error!(%error, "the clock stands still");
                    return Poll::Ready(());
                }
            }
        }
    }

    fn ring(&self, now: Instant) {
        let due = {
            let mut state = self.state.borrow_mut();
            let later = state.due.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut state.due, later);
            let next = state.due.keys().next().map(|(at, _)| *at);
            state.set_timer(next);
            due
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.borrow_mut().take() {
            keeper.abort();
        }
    }
}

impl State {
    fn set_timer(&mut self, at: Option<Instant>) {
        self.set = at;
        if let Err(error) = self.timer.set(at) {
            tracing::error!(%error, "the clock can't be set");
        }
    }
}

/// One task's due time.
pub(super) struct Alarm {
    clock: Rc<Clock>,
    key: u64,
    /// When it rings; the clock has forgotten it when that has passed.
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(clock: &Rc<Clock>) -> Self {
        let mut state = clock.state.borrow_mut();
        state.next_key += 1;
        let key = state.next_key;
        drop(state);
        Self {
            clock: Rc::clone(clock),
            key,
            set: None,
        }
    }

    /// Has the task woken at `due`, or earlier: a due time that only moves on, as most do, costs
    /// nothing until the first has come.
    pub(super) fn set(&mut self, due: Instant, now: Instant, task: &task::Context<'_>) {
        match self.set {
            Some(at) if at > now && at <= due => return,
            _ => self.unset(),
        }
        let mut state = self.clock.state.borrow_mut();
        state.due.insert((due, self.key), task.waker().clone());
        if state.set.is_none_or(|at| due < at) {
            state.set_timer(Some(due));
        }
        self.set = Some(due);
    }

    fn unset(&mut self) {
        if let Some(at) = self.set.take() {
            self.clock.state.borrow_mut().due.remove(&(at, self.key));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn rings(alarm: &mut Alarm, due: Instant) {
        let mut set = false;
        poll_fn(|task| {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut set, true) {
                alarm.set(due, Instant::now(), task);
            }
            Poll::Pending
        })
        .await;
    }

    #[actix::test]
    async fn each_task_is_woken_at_its_own_time() {
        let clock = Clock::start().expect("a timer");
        let start = Instant::now();
        let mut tasks = Vec::new();
        for millis in [30, 10, 20, 10] {
            let mut alarm = Alarm::new(&clock);
            tasks.push(actix_rt::spawn(async move {
                let due = start + Duration::from_millis(millis);
                rings(&mut alarm, due).await;
                Instant::now().saturating_duration_since(due)
            }));
        }
        for task in tasks {
            let late = task.await.expect("no panic");
            assert!(late < Duration::from_millis(500), "{late:?}");
        }
        assert!(clock.state.borrow().due.is_empty());
    }

    #[actix::test]
    async fn a_later_time_waits_for_the_first_and_an_earlier_one_does_not() {
        let clock = Clock::start().expect("a timer");
        let mut alarm = Alarm::new(&clock);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        poll_fn(|task| {
            alarm.set(at(100), now, task);
            alarm.set(at(200), now, task);
            assert_eq!(clock.state.borrow().set, Some(at(100)));
            alarm.set(at(50), now, task);
            assert_eq!(clock.state.borrow().set, Some(at(50)));
            assert_eq!(clock.state.borrow().due.len(), 1);
            Poll::Ready(())
        })
        .await;
        drop(alarm);
        assert!(clock.state.borrow().due.is_empty());
    }
}
