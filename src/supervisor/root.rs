//! The root of the tree: the actor that hears and decides.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, SpawnHandle,
    WrapFuture, fut,
};
use tokio::sync::{mpsc, watch};

use super::{
    child::{Report, Reports},
    files::FileWatch,
    policy::RestartLimits,
    service,
    slot::{Pulse, Surroundings},
    tree::Tree,
    watchdog::Watchdog,
};
use crate::{
    config::Config,
    net::interface::InterfaceWatch,
    role::{Failure, Lack, Resources},
    watch::{
        capture,
        event::{FailureKind, State},
    },
};

/// When a role that could not be prepared for changed interfaces is tried again.
const ADAPT_AGAIN: Duration = Duration::from_secs(5);

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

/// Stops everything.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Shutdown;

/// What the slots draw on, by `config`.
pub(super) fn surroundings(
    config: &Config,
    reports: &Reports,
    resources: &Resources,
) -> Surroundings {
    Surroundings {
        limits: RestartLimits::new(config.supervisor.max_restarts, config.supervisor.within),
        reports: reports.clone(),
        roster: resources.roster.clone(),
        metrics: Arc::clone(&resources.metrics),
    }
}

/// The root: hears how the roles fare, and decides what becomes of them.
pub(super) struct Supervisor {
    pub(super) tree: Tree,
    pub(super) resources: Resources,
    pub(super) config: Config,
    pub(super) reports: Reports,
    reported: Option<mpsc::UnboundedReceiver<(&'static str, Report)>>,
    watchdog: Watchdog,
    /// Tells what happens to the files; none if nobody wants to know.
    pub(super) files: Option<FileWatch>,
    /// Set while a role could not be prepared for the host's interfaces.
    adapting_again: Option<SpawnHandle>,
    end: watch::Sender<Option<Ended>>,
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.adopted(self.config.clone());
        self.watch_new_files(ctx);
        service::tell_status(&self.resources.roster.summary());
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
    pub(super) fn new(
        tree: Tree,
        resources: Resources,
        config: Config,
        (reports, reported): (Reports, mpsc::UnboundedReceiver<(&'static str, Report)>),
        end: watch::Sender<Option<Ended>>,
    ) -> Self {
        Self {
            tree,
            resources,
            config,
            reports,
            reported: Some(reported),
            watchdog: Watchdog::new(),
            files: None,
            adapting_again: None,
            end,
        }
    }

    pub(super) fn around(&self) -> Surroundings {
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
        service::tell_status(&self.resources.roster.summary());
        if self.resources.roster.heals() {
            self.watchdog.feed(now);
        }
    }

    fn feel(&mut self, component: &'static str, pulse: Pulse) -> Option<Ended> {
        match pulse {
            Pulse::Beats | Pulse::Held => None,
            Pulse::Stopped { thread, silence } => {
                let cause = format!("its thread {thread} has done nothing for {silence:.1?}");
                tracing::error!(component, thread, "stuck: {cause}");
                if let Some(member) = self.resources.roster.write().member_mut(component) {
                    member.last_failure = Some(cause);
                    member.enter(State::Stuck);
                }
                capture::crashed();
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

    /// Shows a component's state in the metrics.
    pub(super) fn show(&self, component: &str) {
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
                capture::crashed();
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
                capture::crashed();
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

impl Handler<Shutdown> for Supervisor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        self.files = None;
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
