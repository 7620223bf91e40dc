//! The root of the tree.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, Message,
    WrapFuture,
};
use tokio::sync::{mpsc, watch};

use super::{
    child::{Report, Reports},
    policy::{Exit, Limits},
    slot::{Pending, RoleSlot, Slot},
};
use crate::{
    config::{self, Config},
    dhcp::DhcpActor,
    dns::DnsActor,
    net::Sockets,
    origin::OriginActor,
    role::{PrepareError, Resources},
    rudp::RudpEndpoint,
    scrap::ScrapActor,
    telemetry::{
        HttpActor, Metrics, Roster, State,
        api::{Change, Reload, ReloadRefused, Reloaded},
    },
};

/// A running lab. Dropping it stops nothing: [`Lab::shutdown`] does.
pub struct Lab {
    supervisor: Addr<Supervisor>,
    ended: watch::Receiver<Option<Ended>>,
    roster: Roster,
    metrics: Arc<Metrics>,
}

/// Why a lab ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Shutdown,
    /// A component failed too often.
    Failed {
        /// Which.
        component: &'static str,
        /// Its last failure.
        cause: String,
    },
}

/// Why a lab did not start. Nothing of it runs.
#[derive(Debug)]
pub enum StartError {
    /// The roles that could not be prepared, all of them.
    Prepare(Vec<PrepareError>),
    /// A role that ended as it started.
    Role(String),
    /// The state folder.
    StateDir(PathBuf, io::Error),
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(errors) => {
                for (n, error) in errors.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "\n" };
                    write!(f, "{separator}{error}")?;
                }
                Ok(())
            }
            Self::Role(cause) => f.write_str(cause),
            Self::StateDir(path, error) => write!(f, "state_dir: {}: {error}", path.display()),
        }
    }
}

impl Lab {
    /// Starts every role that `config` has a table for. `sockets` may hold some that were bound
    /// beforehand. Runs in an actix system.
    ///
    /// # Errors
    /// All the roles that can't be prepared; nothing runs then.
    pub async fn start(config: Config, sockets: Sockets) -> Result<Self, StartError> {
        std::fs::create_dir_all(&config.state_dir)
            .map_err(|error| StartError::StateDir(config.state_dir.clone(), error))?;
        let mut resources = Resources::new(config.state_dir.clone());
        resources.sockets = sockets;
        let mut tree = Tree::new();
        let prepared = tree.prepare(&config, &resources);
        if !prepared.errors.is_empty() {
            return Err(StartError::Prepare(prepared.errors));
        }
        let (reports, reported) = mpsc::unbounded_channel();
        let limits = limits(&config);
        let (_, failures) = tree.commit(limits, &reports, &resources.roster);
        if !failures.is_empty() {
            for stopping in tree.stop(&resources.roster) {
                stopping.await;
            }
            return Err(StartError::Role(failures.join("\n")));
        }
        let (end, ended) = watch::channel(None);
        let roster = resources.roster.clone();
        let metrics = Arc::clone(&resources.metrics);
        let supervisor = Supervisor {
            tree,
            resources,
            config,
            reports,
            reported: Some(reported),
            end,
        }
        .start();
        roster.write().reload = Some(supervisor.clone().recipient());
        Ok(Self {
            supervisor,
            ended,
            roster,
            metrics,
        })
    }

    /// Reads the configuration file again and runs by it, or goes on as before.
    pub async fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        let refused = |problem: &str| ReloadRefused {
            generation: self.roster.read().generation,
            problems: vec![problem.to_owned()],
        };
        self.supervisor
            .send(Reload)
            .await
            .unwrap_or_else(|_| Err(refused("the supervisor has ended")))
    }

    /// Stops every role, the last started first. Each gets five seconds.
    pub async fn shutdown(&self) {
        // An error means that the supervisor has ended, and everything with it.
        let _ = self.supervisor.send(Shutdown).await;
    }

    /// Waits until the lab has ended by itself or was shut down.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let outcome = ended.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|end| end.clone())
            .unwrap_or(Ended::Shutdown)
    }

    /// Who runs, and how.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The process's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

fn limits(config: &Config) -> Limits {
    Limits::new(config.supervisor.max_restarts, config.supervisor.within)
}

/// All roles' slots in the order of their start: whoever is asked starts before whoever asks.
struct Tree(Vec<Box<dyn Slot>>);

struct Prepared {
    changes: Vec<Change>,
    errors: Vec<PrepareError>,
}

impl Tree {
    fn new() -> Self {
        Self(vec![
            RoleSlot::<OriginActor>::boxed(|config| config.origin.clone(), |_, _| {}),
            RoleSlot::<ScrapActor>::boxed(|config| config.scrap.clone(), |_, _| {}),
            RoleSlot::<DnsActor>::boxed(|config| config.dns.clone(), |_, _| {}),
            RoleSlot::<DhcpActor>::boxed(
                |config| config.dhcp.clone(),
                |roster, address| {
                    roster.write().leases = address.map(|address| address.clone().recipient());
                },
            ),
            RoleSlot::<RudpEndpoint>::boxed(
                |config| config.rudp.clone(),
                |roster, address| {
                    let mut entries = roster.write();
                    entries.sessions = address.map(|address| address.clone().recipient());
                    entries.crash_session = address.map(|address| address.clone().recipient());
                    entries.link = address.map(|address| address.clone().recipient());
                },
            ),
            RoleSlot::<HttpActor>::boxed(|config| config.http.clone(), |_, _| {}),
        ])
    }

    fn prepare(&mut self, config: &Config, resources: &Resources) -> Prepared {
        let mut prepared = Prepared {
            changes: Vec::new(),
            errors: Vec::new(),
        };
        for slot in &mut self.0 {
            match slot.prepare(config, resources) {
                Ok(action) => prepared.changes.extend(action.map(|action| Change {
                    component: slot.name().to_owned(),
                    action: action.to_owned(),
                })),
                Err(error) => prepared.errors.push(error),
            }
        }
        if !prepared.errors.is_empty() {
            for slot in &mut self.0 {
                slot.discard();
            }
        }
        prepared
    }

    /// Carries out what was prepared, for every role even if one fails. Gives what is to be awaited,
    /// and what failed.
    fn commit(
        &mut self,
        limits: Limits,
        reports: &Reports,
        roster: &Roster,
    ) -> (Vec<Pending>, Vec<String>) {
        let (mut stopping, mut failures) = (Vec::new(), Vec::new());
        for slot in &mut self.0 {
            match slot.commit(limits, reports, roster) {
                Ok(stopped) => stopping.push(stopped),
                Err(cause) => failures.push(cause),
            }
        }
        (stopping, failures)
    }

    /// In reverse order: to be awaited one after the other.
    fn stop(&mut self, roster: &Roster) -> Vec<Pending> {
        self.0
            .iter_mut()
            .rev()
            .map(|slot| slot.stop(roster))
            .collect()
    }
}

struct Supervisor {
    tree: Tree,
    resources: Resources,
    config: Config,
    reports: Reports,
    reported: Option<mpsc::UnboundedReceiver<(&'static str, Report)>>,
    end: watch::Sender<Option<Ended>>,
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.adopted(self.config.clone());
        if let Some(mut reported) = self.reported.take() {
            let supervisor = ctx.address();
            ctx.spawn(
                async move {
                    while let Some((component, report)) = reported.recv().await {
                        supervisor.do_send(Heard { component, report });
                    }
                }
                .into_actor(self),
            );
        }
    }
}

impl Supervisor {
    /// Notes that `config` runs now.
    fn adopted(&mut self, config: Config) {
        let mut entries = self.resources.roster.write();
        entries.generation += 1;
        entries.config_file = config.file.as_ref().map(|file| file.display().to_string());
        let generation = entries.generation;
        drop(entries);
        let metrics = &self.resources.metrics;
        metrics
            .config_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        metrics.config_last_reload_successful.set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        metrics
            .config_last_reload_success_timestamp
            .set(now.unwrap_or_default().as_secs_f64());
        self.config = config;
    }

    fn refuse(&self, problems: Vec<String>) -> ReloadRefused {
        let metrics = &self.resources.metrics;
        metrics.config_reload_failures.inc();
        metrics.config_last_reload_successful.set(0);
        let generation = self.resources.roster.read().generation;
        for problem in &problems {
            tracing::error!(
                generation,
                "reload refused, running on as before: {problem}"
            );
        }
        ReloadRefused {
            generation,
            problems,
        }
    }

    fn read(&self) -> Result<Config, Vec<String>> {
        let Some(file) = &self.config.file else {
            return Err(vec!["there is no configuration file to reload".to_owned()]);
        };
        let config = config::load(file).map_err(|problems| {
            problems
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        })?;
        if config.state_dir != self.config.state_dir {
            return Err(vec![format!(
                "state_dir: {} can't become {} while it runs: restart labnet",
                self.config.state_dir.display(),
                config.state_dir.display()
            )]);
        }
        Ok(config)
    }

    fn hear(&mut self, component: &'static str, report: Report) -> Option<Ended> {
        let metrics = &self.resources.metrics;
        let up = metrics.component_up.with_label_values(&[component]);
        let mut entries = self.resources.roster.write();
        let member = entries.member_mut(component);
        match report {
            Report::Up => {
                up.set(1);
                // Zeros from the start, for rates over the first failure.
                for reason in ["panic", "failure"] {
                    metrics
                        .component_restarts
                        .with_label_values(&[component, reason]);
                }
                if let Some(member) = member {
                    if member.restarts > 0 {
                        tracing::info!(component, restarts = member.restarts, "up again");
                    }
                    member.enter(State::Up);
                }
                None
            }
            Report::Down { exit, cause, pause } => {
                up.set(0);
                let reason = match exit {
                    Exit::Panic => "panic",
                    Exit::Normal => "failure",
                };
                metrics
                    .component_restarts
                    .with_label_values(&[component, reason])
                    .inc();
                tracing::warn!(
                    component,
                    reason,
                    ?pause,
                    "down, will be restarted: {cause}"
                );
                if let Some(member) = member {
                    member.restarts += 1;
                    member.last_failure = Some(cause);
                    member.enter(State::Restarting);
                }
                None
            }
            Report::Ended => {
                up.set(0);
                if let Some(member) = member {
                    member.enter(State::Stopped);
                }
                None
            }
            Report::GaveUp { cause } => {
                up.set(0);
                tracing::error!(component, "failed too often, giving up: {cause}");
                if let Some(member) = member {
                    member.last_failure = Some(cause.clone());
                    member.enter(State::Failed);
                }
                Some(Ended::Failed { component, cause })
            }
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Heard {
    component: &'static str,
    report: Report,
}

impl Handler<Heard> for Supervisor {
    type Result = ();

    fn handle(&mut self, Heard { component, report }: Heard, _ctx: &mut Self::Context) {
        if let Some(ended) = self.hear(component, report) {
            self.end.send_if_modified(|end| {
                let first = end.is_none();
                end.get_or_insert(ended);
                first
            });
        }
    }
}

impl Handler<Reload> for Supervisor {
    type Result = AtomicResponse<Self, Result<Reloaded, ReloadRefused>>;

    fn handle(&mut self, _: Reload, _ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.read().and_then(|config| {
            let prepared = self.tree.prepare(&config, &self.resources);
            if prepared.errors.is_empty() {
                Ok((config, prepared.changes))
            } else {
                Err(prepared.errors.iter().map(ToString::to_string).collect())
            }
        });
        let (config, changes) = match outcome {
            Ok(prepared) => prepared,
            Err(problems) => {
                let refused = self.refuse(problems);
                return AtomicResponse::new(Box::pin(async { Err(refused) }.into_actor(self)));
            }
        };
        let (stopping, failures) =
            self.tree
                .commit(limits(&config), &self.reports, &self.resources.roster);
        self.adopted(config);
        let generation = self.resources.roster.read().generation;
        let outcome = if failures.is_empty() {
            tracing::info!(generation, "reloaded");
            Ok(Reloaded {
                generation,
                changes,
            })
        } else {
            // A role that panicked as it was made: all others run by the new configuration.
            let metrics = &self.resources.metrics;
            metrics.config_reload_failures.inc();
            metrics.config_last_reload_successful.set(0);
            for failure in &failures {
                tracing::error!(generation, "reloaded, but a role did not start: {failure}");
            }
            Err(ReloadRefused {
                generation,
                problems: failures,
            })
        };
        AtomicResponse::new(Box::pin(
            async move {
                for stopped in stopping {
                    stopped.await;
                }
                outcome
            }
            .into_actor(self),
        ))
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        let stopping = self.tree.stop(&self.resources.roster);
        AtomicResponse::new(Box::pin(
            async move {
                for stopped in stopping {
                    stopped.await;
                }
            }
            .into_actor(self)
            .map(|(), supervisor, _| {
                let ended = supervisor.end.borrow().clone();
                supervisor
                    .end
                    .send_replace(Some(ended.unwrap_or(Ended::Shutdown)));
            }),
        ))
    }
}
