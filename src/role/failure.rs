//! Why something under supervision ended.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context as Task, Poll},
};

use actix::{Actor, Context, Supervised, dev::ContextFut};

use crate::watch::event::FailureKind;

/// Why a role or a session failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    /// Of what kind: the metric's label.
    pub kind: FailureKind,
    /// What was tried and what is wrong, in words.
    pub cause: String,
}

impl Failure {
    /// A failure of that kind.
    pub fn new(kind: FailureKind, cause: impl fmt::Display) -> Self {
        Self {
            kind,
            cause: cause.to_string(),
        }
    }

    /// A socket's: what was tried with it, and what came of it.
    pub fn socket(tried: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Socket, format_args!("{tried}: {error}"))
    }

    /// A listener's that serves no more: it should never come to an end.
    pub fn of_listener(served: io::Result<()>) -> Self {
        match served {
            Ok(()) => Self::new(FailureKind::Ended, "it accepts no more connections"),
            Err(error) => Self::socket("accepting connections", error),
        }
    }

    /// Of a panic, with its words.
    pub fn panic(panic: &(dyn Any + Send)) -> Self {
        let words = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self::new(
            FailureKind::Panic,
            words.as_deref().unwrap_or("a panic without words"),
        )
    }
}

thread_local! {
    static CHILDREN: Cell<usize> = const { Cell::new(0) };
}

/// How many temporary children live in this thread.
pub fn children_here() -> usize {
    CHILDREN.get()
}

/// One of them.
struct Living;

impl Living {
    fn here() -> Self {
        CHILDREN.set(CHILDREN.get() + 1);
        Self
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        CHILDREN.set(CHILDREN.get() - 1);
    }
}

/// An actor that runs; what panics in it becomes a [`Failure`] of it alone.
///
/// Boxed: the futures around it would each hold a place for it.
pub struct Guarded<A>(Box<ContextFut<A, Context<A>>>)
where
    A: Actor<Context = Context<A>> + Unpin;

impl<A> Guarded<A>
where
    A: Actor<Context = Context<A>> + Unpin,
{
    /// `actor` in `context`.
    pub fn new(context: Context<A>, actor: A) -> Self {
        Self(Box::new(context.into_future(actor)))
    }

    /// The actor's context.
    pub fn context(&mut self) -> &mut Context<A> {
        self.0.ctx()
    }

    /// Runs it; ready when the actor has stopped, or panicked: then it must not be polled again
    /// before a [`restart`](Self::restart).
    pub fn poll(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Failure>> {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *self.0).poll(task)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(Failure::panic(panic.as_ref()))),
        }
    }

    /// Makes the actor anew, with its address and its queued messages kept.
    ///
    /// # Errors
    /// If it panicked as it was made: never to be polled again.
    pub fn restart(&mut self) -> Result<(), Failure>
    where
        A: Supervised,
    {
        catch_unwind(AssertUnwindSafe(|| self.0.restart()))
            .map(drop)
            .map_err(|panic| Failure::panic(panic.as_ref()))
    }

    /// Drops it. Dropping a context polls its actor once more: that may panic, too.
    ///
    /// # Errors
    /// The failure that a panic is.
    pub fn discard(self) -> Result<(), Failure> {
        catch_unwind(AssertUnwindSafe(move || drop(self.0)))
            .map_err(|panic| Failure::panic(panic.as_ref()))
    }

    /// Runs it to its end, as a temporary child (OTP's word: never restarted) of the role whose thread
    /// this is.
    ///
    /// # Errors
    /// How it failed.
    pub async fn run(mut self) -> Result<(), Failure> {
        let _living = Living::here();
        let ended = poll_fn(|task| self.poll(task)).await;
        ended.and(self.discard())
    }
}
