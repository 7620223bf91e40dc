//! The root of the tree.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, Message,
    SpawnHandle, WrapFuture, fut,
};
use tokio::sync::{mpsc, watch};

use super::{
    child::{Report, Reports},
    policy::Limits,
    slot::{Pulse, Surroundings},
    tree::Tree,
    watchdog::Watchdog,
};
use crate::{
    config::{self, Config},
    net::{Sockets, interface::InterfaceWatch},
    role::{Failure, FailureKind, Lack, PrepareError, Resources},
    telemetry::{
        Metrics, Roster, State,
        api::{Reload, ReloadRefused, Reloaded},
        logging,
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
        cause: Failure,
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
        let around = surroundings(&config, &reports, &resources);
        let failures = tree.commit(&around).await;
        if !failures.is_empty() {
            for stopping in tree.stop(&around) {
                let _ = stopping.await;
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
            watchdog: Watchdog::new(),
            adapting_again: None,
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

/// When a role that could not be prepared for changed interfaces is tried again.
const ADAPT_AGAIN: Duration = Duration::from_secs(5);

#[derive(Message)]
#[rtype(result = "()")]
struct Shutdown;

fn surroundings(config: &Config, reports: &Reports, resources: &Resources) -> Surroundings {
    Surroundings {
        limits: Limits::new(config.supervisor.max_restarts, config.supervisor.within),
        reports: reports.clone(),
        roster: resources.roster.clone(),
        metrics: Arc::clone(&resources.metrics),
    }
}

struct Supervisor {
    tree: Tree,
    resources: Resources,
    config: Config,
    reports: Reports,
    reported: Option<mpsc::UnboundedReceiver<(&'static str, Report)>>,
    watchdog: Watchdog,
    /// Set while a role could not be prepared for the host's interfaces.
    adapting_again: Option<SpawnHandle>,
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
        ctx.run_interval(Watchdog::INTERVAL, |supervisor, _| supervisor.look());
        let supervisor = ctx.address();
        let following = async move {
            let mut interfaces = InterfaceWatch::new();
            loop {
                // The first time at once: something may have changed since the roles were prepared.
                supervisor.do_send(HostChanged);
                interfaces.changed().await;
            }
        };
        ctx.spawn(following.into_actor(self));
    }
}

impl Supervisor {
    fn around(&self) -> Surroundings {
        surroundings(&self.config, &self.reports, &self.resources)
    }

    /// Looks for roles whose threads do nothing, and feeds the system's watchdog unless it shall
    /// restart the program.
    fn look(&mut self) {
        let now = Instant::now();
        if !self
            .watchdog
            .is_in_time(now, self.config.supervisor.stuck_after)
        {
            return;
        }
        let around = self.around();
        let limit = self.config.supervisor.stuck_after;
        let pulses: Vec<_> = self
            .tree
            .slots()
            .map(|slot| (slot.name(), slot.watch(limit, now, &around)))
            .collect();
        for (component, pulse) in pulses {
            if let Some(ended) = self.feel(component, pulse) {
                self.end(ended);
            }
        }
        if self.resources.roster.heals() {
            self.watchdog.feed(now);
        }
    }

    fn feel(&mut self, component: &'static str, pulse: Pulse) -> Option<Ended> {
        match pulse {
            Pulse::Beats | Pulse::Held { .. } => None,
            Pulse::Stopped { thread, silence } => {
                let cause = format!("its thread {thread} has done nothing for {silence:.1?}");
                tracing::error!(component, thread, "stuck: {cause}");
                if let Some(member) = self.resources.roster.write().member_mut(component) {
                    member.last_failure = Some(cause);
                    member.enter(State::Stuck);
                }
                self.show(component);
                None
            }
            Pulse::Woke => {
                tracing::warn!(component, "its thread works again, before it was replaced");
                self.show(component);
                None
            }
            Pulse::Replaced(failure) => {
                let pause = Duration::ZERO;
                self.hear(component, Report::Down { failure, pause })
            }
            Pulse::GaveUp(failure) => self.hear(component, Report::GaveUp { failure }),
        }
    }

    fn show(&self, component: &str) {
        let state = {
            let mut entries = self.resources.roster.write();
            entries.member_mut(component).map(|member| member.state())
        };
        if let Some(state) = state {
            self.resources.metrics.show_component(component, state);
        }
    }

    fn end(&self, ended: Ended) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(ended);
            first
        });
    }

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
        logging::set_level(&config.log);
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
            return Err(vec![
                "the configuration runs that is built in, and no file: `labnet init` writes one, \
                 `labnet serve -c FILE` runs it"
                    .to_owned(),
            ]);
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
        let mut entries = self.resources.roster.write();
        // One that was removed has nothing more to say.
        let member = entries.member_mut(component)?;
        let ended = match report {
            Report::Up => {
                if member.restarts > 0 {
                    tracing::info!(component, restarts = member.restarts, "up again");
                }
                member.enter(State::Up);
                None
            }
            Report::Lack(Lack { subject, reason }) => {
                match &reason {
                    Some(reason) => tracing::warn!(component, subject, "degraded: {reason}"),
                    None => tracing::info!(component, subject, "no longer missing"),
                }
                member.lacks(subject, reason);
                None
            }
            Report::Down { failure, pause } => {
                let reason = failure.kind.as_str();
                self.resources
                    .metrics
                    .component_restarts
                    .with_label_values(&[component, reason])
                    .inc();
                tracing::warn!(
                    component,
                    reason,
                    ?pause,
                    "down, will be restarted: {failure}"
                );
                member.restarts += 1;
                member.last_failure = Some(failure.cause);
                member.enter(State::Restarting);
                None
            }
            Report::Ended => {
                member.enter(State::Stopped);
                None
            }
            Report::GaveUp { failure } => {
                tracing::error!(component, "failed too often, giving up: {failure}");
                member.last_failure = Some(failure.cause.clone());
                member.enter(State::Failed);
                let cause = failure;
                Some(Ended::Failed { component, cause })
            }
        };
        drop(entries);
        self.show(component);
        ended
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

    fn handle(&mut self, Heard { component, report }: Heard, ctx: &mut Self::Context) {
        if matches!(&report, Report::Down { failure, .. } if failure.kind == FailureKind::Socket) {
            // A socket that is no good any more is not to be kept over the restart.
            ctx.notify(HostChanged);
        }
        if let Some(ended) = self.hear(component, report) {
            self.end(ended);
        }
    }
}

/// The host's interfaces or addresses may have changed.
#[derive(Message)]
#[rtype(result = "()")]
struct HostChanged;

impl Handler<HostChanged> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: HostChanged, ctx: &mut Self::Context) {
        let around = self.around();
        let mut again = false;
        for slot in self.tree.slots() {
            let component = slot.name();
            match slot.adapt(&self.resources, &around) {
                Ok(None) => {}
                Ok(Some(adapted)) => {
                    let told = async move {
                        if let Err(failure) = adapted.await {
                            tracing::error!(component, "did not take its new sockets: {failure}");
                        }
                    };
                    ctx.spawn(fut::wrap_future::<_, Self>(told));
                }
                Err(_) => again = true,
            }
        }
        if let Some(waiting) = self.adapting_again.take() {
            ctx.cancel_future(waiting);
        }
        // Of what stands in the way (a busy port) the kernel sends no word.
        self.adapting_again = again.then(|| ctx.notify_later(HostChanged, ADAPT_AGAIN));
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
        let around = surroundings(&config, &self.reports, &self.resources);
        let committed = self.tree.commit(&around);
        self.adopted(config);
        let generation = self.resources.roster.read().generation;
        AtomicResponse::new(Box::pin(committed.into_actor(self).map(
            move |failures, supervisor, _| {
                if failures.is_empty() {
                    tracing::info!(generation, "reloaded");
                    return Ok(Reloaded {
                        generation,
                        changes,
                    });
                }
                // A role that failed as it took it: all others run by the new configuration.
                let metrics = &supervisor.resources.metrics;
                metrics.config_reload_failures.inc();
                metrics.config_last_reload_successful.set(0);
                for failure in &failures {
                    tracing::error!(
                        generation,
                        "reloaded, but a role did not take it: {failure}"
                    );
                }
                Err(ReloadRefused {
                    generation,
                    problems: failures,
                })
            },
        )))
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        let stopping = self.tree.stop(&self.around());
        AtomicResponse::new(Box::pin(
            async move {
                for stopped in stopping {
                    let _ = stopped.await;
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
