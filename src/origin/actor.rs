//! The origin's actor.

mod ended;
mod page_server;
mod transfer;
mod transfers;

use std::sync::{Arc, Mutex, PoisonError};

use actix::{Context, Handler};

use page_server::{Current, Site};
pub use transfer::{Standing, TRANSFER};
use transfers::Transfers;

use super::store::Store;
use crate::role::api::{self, ListEndedTransfers, ListTransfers};
use crate::{
    config::{self, OriginFiles},
    http::{Places, serve_http},
    net::{Purpose, TcpListeners, refuses_congestion},
    role::{Accepting, Failure, Keep, PrepareError, Resources, Role, role_actor},
    telemetry::Metrics,
    watch::event::packet,
};

/// Serves the built-in download page.
pub struct OriginActor {
    keep: Keep<Kept>,
    accepting: Accepting,
    /// What the connections are answered from, once it has started.
    current: Option<Current>,
}

/// What outlives the actor: the listener, the samples and the sums of the files.
#[derive(Clone)]
pub struct Kept {
    config: config::Origin,
    listeners: TcpListeners,
    places: Arc<Places>,
    store: Arc<Store>,
    transfers: Arc<Transfers>,
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
        if let Some(problem) = config.congestion.as_deref().and_then(refuses_congestion) {
            return Err(PrepareError::new("origin.congestion", problem));
        }
        let kept = previous.map(|kept| &kept.listeners);
        let listeners = TcpListeners::bind(&config.listen, kept, &resources.sockets)
            .map_err(|error| PrepareError::new("origin.listen", error))?;
        Ok(Kept {
            config: config.clone(),
            listeners,
            places: match previous {
                Some(kept) => Arc::clone(&kept.places),
                None => resources
                    .metrics
                    .places(Self::NAME, config.connections, Purpose::Peer),
            },
            store,
            transfers: match previous {
                Some(kept) => Arc::clone(&kept.transfers),
                None => Transfers::new(&resources.metrics),
            },
            metrics: Arc::clone(&resources.metrics),
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let bound = kept.listeners.addresses();
        bound.map(|bound| format!("http://{bound}/")).collect()
    }

    fn missing(kept: &Kept) -> Vec<String> {
        kept.listeners.missing()
    }

    fn fits_host(kept: &Kept) -> bool {
        kept.listeners.are_open()
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            keep,
            accepting: Accepting::default(),
            current: None,
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    /// The first time, and after each change. Connections live on and ask of the new files next; downloads under way are of the old ones.
    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let kept = self.keep.get();
        kept.places.set_limits(kept.config.connections);
        let site = Site {
            store: kept.store,
            congestion: kept.config.congestion,
            transfers: kept.transfers,
            metrics: kept.metrics,
        };
        let current = match &self.current {
            Some(current) => {
                *current.lock().unwrap_or_else(PoisonError::into_inner) = site;
                Arc::clone(current)
            }
            None => Arc::clone(self.current.insert(Arc::new(Mutex::new(site)))),
        };
        let router = page_server::router(current);
        self.accepting
            .follow(ctx, &kept.listeners.all(), |listener| {
                let places = Arc::clone(&kept.places);
                serve_http(listener, router.clone(), places, packet::Role::Origin)
            });
        Ok(())
    }

    fn unbind(kept: &mut Kept) {
        kept.listeners = TcpListeners::default();
    }
}

role_actor!(OriginActor);

impl Handler<ListTransfers> for OriginActor {
    type Result = Vec<api::SessionEntry>;

    fn handle(&mut self, _: ListTransfers, _: &mut Context<Self>) -> Self::Result {
        self.keep.get().transfers.list()
    }
}

impl Handler<ListEndedTransfers> for OriginActor {
    type Result = Vec<api::EndedTransfer>;

    fn handle(&mut self, _: ListEndedTransfers, _: &mut Context<Self>) -> Self::Result {
        self.keep.get().transfers.ended()
    }
}
