//! The actor that serves the HTTP endpoints: metrics, health, the state of the lab, and what changes
//! it.

use std::{path::PathBuf, sync::Arc};

use actix::Context;

use super::{
    kept::{Kept, Rules},
    routes, serve_http,
    token::Token,
};
use crate::{
    config,
    net::{Purpose, TcpListeners},
    role::{Accepting, Failure, Keep, PrepareError, Resources, Role, role_actor},
    watch::event::packet,
};

/// Serves the endpoints.
pub struct HttpActor {
    keep: Keep<Kept>,
    accepting: Accepting,
}

impl Role for HttpActor {
    const NAME: &'static str = "http";
    type Config = config::Http;
    type Kept = Kept;

    fn prepare(
        config: &config::Http,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        let rules = Rules::new(config)?;
        let kept = previous.map(|kept| &kept.listeners);
        let listeners = TcpListeners::bind(&config.listen, kept, &resources.sockets)
            .map_err(|error| PrepareError::new("http.listen", error))?;
        Ok(Kept {
            listeners,
            places: match previous {
                Some(kept) => Arc::clone(&kept.places),
                None => resources.metrics.places(
                    Self::NAME,
                    config.connections,
                    Purpose::Administration,
                ),
            },
            rules: Arc::new(rules),
            metrics: Arc::clone(&resources.metrics),
            roster: resources.roster.clone(),
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

    fn files(kept: &Kept) -> Vec<PathBuf> {
        kept.rules.token_file.iter().cloned().collect()
    }

    /// The token's file, if it holds another token than at the last reload, or can no longer be read: a
    /// reload tells of that.
    fn changed_files(kept: &Kept) -> Vec<PathBuf> {
        let rules = &kept.rules;
        let token_file = rules.token_file.iter();
        token_file
            .filter(|file| Token::read(file).ok() != rules.loaded)
            .cloned()
            .collect()
    }

    fn up_to_date(kept: &Kept) -> bool {
        Self::changed_files(kept).is_empty()
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            keep,
            accepting: Accepting::default(),
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    /// The first time, and after each change. Connections live on; what they ask next is answered by the new rules.
    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let kept = self.keep.get();
        kept.places.set_limits(kept.rules.connections);
        let router = routes::router(self.keep.clone());
        self.accepting
            .follow(ctx, &kept.listeners.all(), |listener| {
                let places = Arc::clone(&kept.places);
                serve_http(listener, router.clone(), places, packet::Role::Http)
            });
        Ok(())
    }

    fn unbind(kept: &mut Kept) {
        kept.listeners = TcpListeners::default();
    }
}

role_actor!(HttpActor);
