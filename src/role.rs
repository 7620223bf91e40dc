//! The contract between a role's actor and the supervisor.
//!
//! An actor's state dies with it; what must outlive it (bound sockets, the lease store, caches, the
//! table of sessions) is its [`Role::Kept`], which the supervisor holds in a [`Keep`]. A restart
//! after a panic and a reload are the same act: the actor is made anew from what is kept.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::{Actor, Context, Handler, Message, Supervised};

use crate::{
    net::Sockets,
    telemetry::{Metrics, Roster},
};

/// A role of the lab, as its supervisor sees it.
///
/// [`Supervised::restarting`] of an implementor is always `*self = Self::new(self.keep.clone())`,
/// and `started` spawns what drives it; neither may panic, and neither may `stopping`/`stopped`,
/// which actix also runs while a panic unwinds.
pub trait Role: Actor<Context = Context<Self>> + Supervised + Handler<Crash> {
    /// The component's name in the configuration, in metrics and in the HTTP API.
    const NAME: &'static str;
    /// The role's compiled table of the configuration.
    type Config: Clone + PartialEq + Send + 'static;
    /// What outlives the actor. Cloning it is cheap: handles and `Arc`s.
    type Kept: Clone + Send + 'static;

    /// Does everything that can fail before the actor runs: binds, opens, loads.
    ///
    /// Called with what is kept of the running actor when a reload changed the role's table: what
    /// did not change (a socket on the same address, an open store) is taken over from it. Must not
    /// disturb the running actor: the reload may still be refused.
    fn prepare(
        config: &Self::Config,
        previous: Option<&Self::Kept>,
        resources: &Resources,
    ) -> Result<Self::Kept, PrepareError>;

    /// Where it listens, e.g. `udp 127.0.0.1:5300`.
    fn listens(kept: &Self::Kept) -> Vec<String>;

    /// Whether the files that `prepare` read besides the configuration (zone files) are still as
    /// they were: if not, a reload prepares the role again.
    fn up_to_date(_kept: &Self::Kept) -> bool {
        true
    }

    /// Makes the actor from what is kept. Called in the thread that it will run in.
    fn new(keep: Keep<Self::Kept>) -> Self;
}

/// What [`Role::prepare`] may draw on.
#[derive(Clone)]
pub struct Resources {
    /// Sockets bound beforehand; everything else is bound when it is asked for.
    pub sockets: Sockets,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The folder for state that survives the process. Made when first needed.
    pub state_dir: PathBuf,
    /// Who runs, and how: what the HTTP endpoints tell.
    pub roster: Roster,
}

impl Resources {
    /// Nothing reserved, fresh metrics, state under `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            sockets: Sockets::default(),
            metrics: Arc::new(Metrics::new()),
            state_dir,
            roster: Roster::default(),
        }
    }
}

/// The cell in which a supervisor keeps what outlives an actor.
pub struct Keep<K>(Arc<Mutex<K>>);

impl<K> Clone for Keep<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone> Keep<K> {
    /// A cell that holds `kept`.
    pub fn new(kept: K) -> Self {
        Self(Arc::new(Mutex::new(kept)))
    }

    /// A copy of what is kept.
    pub fn get(&self) -> K {
        self.lock().clone()
    }

    /// Replaces what is kept; the next restart works with it.
    pub fn set(&self, kept: K) {
        *self.lock() = kept;
    }

    fn lock(&self) -> MutexGuard<'_, K> {
        // A plain value is whole even if a thread died while it held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fault injection: the handler panics. Teachers send it through
/// `POST /api/v1/components/NAME/crash`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

/// Why a role could not be prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PrepareError {
    /// The configuration key to look at, e.g. `dhcp.listen`.
    pub key: String,
    /// What is wrong, in words.
    pub problem: String,
}

impl PrepareError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}
