//! The origin's actor.

mod page_server;

use std::{net::TcpListener, sync::Arc};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture,
};

use super::store::Store;
use crate::{
    config::{self, OriginFiles},
    net::{HttpLimits, serve_http},
    role::{Crash, Keep, PrepareError, Resources, Role},
    telemetry::Metrics,
};

/// Serves the built-in download page.
pub struct OriginActor {
    keep: Keep<Kept>,
    kept: Kept,
}

/// What outlives the actor: the listener, the samples and the sums of the files.
#[derive(Clone)]
pub struct Kept {
    config: config::Origin,
    listener: Arc<TcpListener>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Role for OriginActor {
    const NAME: &'static str = "origin";
    type Config = config::Origin;
    type Kept = Kept;

    fn prepare(
        config: &config::Origin,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        let store = match (previous, &config.files) {
            (Some(kept), files) if kept.config.files == *files => Arc::clone(&kept.store),
            (_, OriginFiles::Folder(path)) => {
                Store::folder(path).map(Arc::new).map_err(|error| {
                    PrepareError::new("origin.files", format!("{}: {error}", path.display()))
                })?
            }
            (_, OriginFiles::Samples(names)) => {
                Store::samples(names).map(Arc::new).map_err(|name| {
                    PrepareError::new("origin.samples", format!("there is no sample `{name}`"))
                })?
            }
        };
        let listener = match previous {
            Some(kept) if kept.config.listen == config.listen => Arc::clone(&kept.listener),
            _ => resources.sockets.tcp(config.listen).map_err(|error| {
                PrepareError::new("origin.listen", format!("{}: {error}", config.listen))
            })?,
        };
        Ok(Kept {
            config: config.clone(),
            listener,
            store,
            metrics: Arc::clone(&resources.metrics),
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let bound = kept.listener.local_addr().unwrap_or(kept.config.listen);
        vec![format!("http://{bound}/")]
    }

    fn new(keep: Keep<Kept>) -> Self {
        let kept = keep.get();
        Self { keep, kept }
    }
}

impl Actor for OriginActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Kept {
            listener,
            store,
            metrics,
            ..
        } = self.kept.clone();
        let router = page_server::router(store, metrics);
        let serving = serve_http(listener, router, HttpLimits::default());
        ctx.spawn(serving.into_actor(self).map(|served, _, ctx| {
            if let Err(error) = served {
                tracing::error!(%error, "the origin's listener failed");
            }
            ctx.stop();
        }));
    }
}

impl Supervised for OriginActor {
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        *self = Self::new(self.keep.clone());
    }
}

impl Handler<Crash> for OriginActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _ctx: &mut Self::Context) {
        panic!("fault injection");
    }
}
