//! What outlives the actor, and by which each request is answered.

use std::{path::PathBuf, sync::Arc};

use axum::extract::FromRef;

use super::{Places, access::Access, token::Token};
use crate::{
    config,
    net::TcpListeners,
    role::{Keep, PrepareError, Roster},
    telemetry::Metrics,
};

/// What outlives the actor.
#[derive(Clone)]
pub struct Kept {
    pub(super) listeners: TcpListeners,
    pub(super) places: Arc<Places>,
    pub(super) rules: Arc<Rules>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) roster: Roster,
}

/// What a reload may change.
pub(super) struct Rules {
    pub(super) connections: config::ConnectionLimits,
    pub(super) fault_injection: bool,
    pub(super) access: Arc<Access>,
    pub(super) token_file: Option<PathBuf>,
    /// What the file held when the configuration was loaded.
    pub(super) loaded: Option<Token>,
}

impl Rules {
    pub(super) fn new(config: &config::Http) -> Result<Self, PrepareError> {
        let token = match &config.token_file {
            Some(file) => {
                let token = Token::read(file);
                Some(token.map_err(|problem| PrepareError::new("http.token_file", problem))?)
            }
            None => None,
        };
        Ok(Self {
            loaded: token.as_ref().map(Token::as_it_is),
            connections: config.connections,
            fault_injection: config.fault_injection,
            access: Arc::new(Access {
                hosts: config.hosts.clone(),
                token,
                protect_reads: config.protect_reads,
            }),
            token_file: config.token_file.clone(),
        })
    }
}

/// Each request is answered by what is kept then: a reload changes the rules under a connection.
impl FromRef<Keep<Kept>> for Kept {
    fn from_ref(keep: &Keep<Kept>) -> Self {
        keep.get()
    }
}
