//! A role's accept loops.

use std::{io, net::TcpListener, sync::Arc};

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, fut::wrap_future};

use super::{Failure, Role};

/// One loop for each listener of a role, run by its actor.
#[derive(Default)]
pub struct Accepting(Vec<(Arc<TcpListener>, SpawnHandle)>);

impl Accepting {
    /// Runs a loop, made by `serve`, on each of `listeners`. Those that run already run on; those of
    /// other listeners end, and their connections finish what they are at.
    pub fn follow<R, F>(
        &mut self,
        ctx: &mut Context<R>,
        listeners: &[Arc<TcpListener>],
        serve: impl Fn(Arc<TcpListener>) -> F,
    ) where
        R: Role,
        F: Future<Output = io::Result<()>> + 'static,
    {
        self.0.retain(|(running, handle)| {
            let stays = listeners.iter().any(|wanted| Arc::ptr_eq(wanted, running));
            if !stays {
                ctx.cancel_future(*handle);
            }
            stays
        });
        for listener in listeners.iter() {
            let runs = self
                .0
                .iter()
                .any(|(running, _)| Arc::ptr_eq(running, listener));
            if runs {
                continue;
            }
            let serving = wrap_future::<_, R>(serve(Arc::clone(listener)));
            let serving = serving.map(|served, _, _| Err(Failure::of_listener(served)));
            let handle = R::run(ctx, serving);
            self.0.push((Arc::clone(listener), handle));
        }
    }
}
