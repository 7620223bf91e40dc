use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix::{Actor, fut::ActorFuture};

/// A future that runs a function with its actor at hand: see [`drive`].
pub struct Driver<F>(F);

/// Makes a future for `ctx.spawn` out of a function that is polled with the actor, its context and
/// the task's waker. The hot path of a role is one such function: receive, decide, send, with no
/// message in between.
///
/// The function bounds its own work: after one batch it wakes itself and returns `Pending`, so that
/// the actor's mailbox is served between batches.
pub fn drive<A, F, T>(poll: F) -> Driver<F>
where
    A: Actor,
    F: FnMut(&mut A, &mut A::Context, &mut Context<'_>) -> Poll<T> + Unpin,
{
    Driver(poll)
}

impl<A, F, T> ActorFuture<A> for Driver<F>
where
    A: Actor,
    F: FnMut(&mut A, &mut A::Context, &mut Context<'_>) -> Poll<T> + Unpin,
{
    type Output = T;

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut Context<'_>,
    ) -> Poll<T> {
        (self.get_mut().0)(actor, ctx, task)
    }
}
