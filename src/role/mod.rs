//! The contract between a role's actor, the supervisor, and who asks about either ([`api`], [`Roster`]).
//!
//! An actor's state dies with it; what must outlive it (bound sockets, the lease store, caches, the
//! table of sessions) is its [`Role::Kept`], which the supervisor holds in a [`Keep`]. A restart
//! after a panic and a reload are the same act: the actor is made anew from what is kept.

mod accepting;
pub mod api;
mod beat;
mod failure;
mod keep;
mod lease_event;
mod roster;

use std::{fmt, path::PathBuf, sync::Arc};

use actix::{
    Actor, ActorContext, ActorFuture, ActorFutureExt, AsyncContext, Context, Handler, Message,
    Supervised,
};

pub use self::{
    accepting::Accepting,
    beat::Beats,
    failure::{Failure, Guarded, children_here},
    keep::{Keep, Lack},
    lease_event::{LeaseEvent, Leases},
    roster::{Member, Roster},
};

use crate::{
    congestion::Controllers,
    net::Sockets,
    telemetry::Metrics,
    watch::{qlog::Qlog, ring::About, watcher::Watcher},
};

/// A role of the lab, as its supervisor sees it.
///
/// `role_actor!` makes the actor of it. Neither [`new`](Role::new) nor
/// `stopping`/`stopped`, which actix also runs while a panic unwinds, may panic.
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

    /// What `prepare` could not get and the role does without until it comes, a sentence each: an
    /// address that no interface has. The role is `degraded` meanwhile.
    fn missing(_kept: &Self::Kept) -> Vec<String> {
        Vec::new()
    }

    /// The files that `prepare` read besides the configuration (zone files).
    fn files(_kept: &Self::Kept) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Those of them that are no longer as they were.
    fn changed_files(_kept: &Self::Kept) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether what `prepare` read besides the configuration (zone files) is still as it was: if not,
    /// a reload prepares the role again.
    fn up_to_date(_kept: &Self::Kept) -> bool {
        true
    }

    /// Whether what is kept goes with the host's interfaces and addresses as they are now: if not, the
    /// role is prepared again, at a reload and when they change.
    fn fits_host(_kept: &Self::Kept) -> bool {
        true
    }

    /// Whether another thread can take over what is kept from one that is stuck: false while that one
    /// holds what its successor needs.
    fn can_take_over(_kept: &Self::Kept) -> bool {
        true
    }

    /// What a thread takes over from the one of the name `stuck`, which is: the earlier owner's writes are refused from
    /// now on.
    fn take_over(kept: &Self::Kept, _stuck: &str) -> Self::Kept {
        kept.clone()
    }

    /// Makes the actor from what is kept. Called in the thread that it will run in.
    fn new(keep: Keep<Self::Kept>) -> Self;

    /// What it was made from.
    fn keep(&self) -> &Keep<Self::Kept>;

    /// Begins to work: spawns what drives it.
    ///
    /// # Errors
    /// Why it can't.
    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure>;

    /// Goes on with what is kept now, which a reload has changed. What can't be changed while it runs
    /// is refused by [`prepare`](Role::prepare).
    ///
    /// A role whose [`start`](Role::start) spawns nothing twice (see [`Accepting::follow`]) goes on by
    /// just that.
    ///
    /// # Errors
    /// Why it can't go on; it is made anew then, as after any failure.
    fn change(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.start(ctx)
    }

    /// Closes what it listens on, and lets go of the sessions: it was stopped, and connections that
    /// finish what they are at may hold what is kept for long.
    fn unbind(_kept: &mut Self::Kept) {}

    /// Takes away the series that tell of what the role has: it runs no more.
    fn retire(_metrics: &Metrics) {}

    /// Ends the role's actor with a failure.
    fn fail(&self, ctx: &mut Context<Self>, failure: Failure) {
        self.keep().fail(failure);
        ctx.stop();
    }

    /// Spawns what the role can't do without: its failure is the role's.
    fn run<F>(ctx: &mut Context<Self>, work: F) -> actix::SpawnHandle
    where
        F: ActorFuture<Self, Output = Result<(), Failure>> + 'static,
    {
        ctx.spawn(work.map(|ended, role: &mut Self, ctx| {
            if let Err(failure) = ended {
                role.fail(ctx, failure);
            }
        }))
    }
}

/// Makes actix's actor of a [`Role`]: it starts, is made anew, and fails on purpose like any other.
macro_rules! role_actor {
    ($role:ty) => {
        impl ::actix::Actor for $role {
            type Context = ::actix::Context<Self>;

            fn started(&mut self, ctx: &mut Self::Context) {
                if let Err(failure) = $crate::role::Role::start(self, ctx) {
                    $crate::role::Role::fail(self, ctx, failure);
                }
            }
        }

        impl ::actix::Supervised for $role {
            fn restarting(&mut self, _: &mut Self::Context) {
                *self = $crate::role::Role::new($crate::role::Role::keep(self).clone());
            }
        }

        impl ::actix::Handler<$crate::role::Crash> for $role {
            type Result = ();

            fn handle(&mut self, _: $crate::role::Crash, _: &mut Self::Context) {
                panic!("fault injection");
            }
        }
    };
}

pub(crate) use role_actor;

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
    /// Who holds an address of ours.
    pub leases: Leases,
    /// Where connections' traces go, if that is wanted.
    pub qlog: Option<Qlog>,
    /// Who watches connections besides, if somebody does.
    pub watcher: Option<Arc<dyn Watcher>>,
    /// Who gives connections controllers of its own, if somebody does.
    pub steering: Option<Arc<dyn Steering>>,
}

/// Is asked about each connection of the transport that begins, before anything of it is sent.
pub trait Steering: fmt::Debug + Send + Sync {
    /// What is to control the sending of this one, instead of what its client asked for and the configuration
    /// says.
    fn controls(&self, about: &About) -> Option<Arc<dyn Controllers>>;
}

impl Resources {
    /// Nothing reserved, fresh metrics, state under `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            sockets: Sockets::default(),
            metrics: Arc::new(Metrics::new()),
            state_dir,
            roster: Roster::default(),
            leases: Leases::default(),
            qlog: None,
            watcher: None,
            steering: None,
        }
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
