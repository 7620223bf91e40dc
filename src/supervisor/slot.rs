//! A role's place in the tree: it holds the running child, if there is one, and carries out what a
//! configuration means for it in two steps, of which only the first can fail.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Addr;
use tokio::{sync::oneshot, time::timeout};

use super::{
    child::{Changed, Child, Going, Reports, tell_missing},
    policy::{Policy, RestartLimits, Verdict},
};
use crate::{
    config::Config,
    role::api::Change,
    role::{Failure, Member, PrepareError, Resources, Role, Roster},
    telemetry::Metrics,
    watch::event::{FailureKind, State},
};

/// How long a role may take to go on with a change before it is no longer waited for.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Of a role that can't go on with the host's interfaces as they are.
const HOST: &str = "interfaces";

/// Ends when a role has done what was committed, or with why it has not.
pub(super) type Pending = Pin<Box<dyn Future<Output = Result<Done, Failure>>>>;

/// How a role has done what was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// As it was prepared.
    AsPrepared,
    /// It did not run, and was made anew at once.
    MadeAnew,
    /// It failed as it began; its policy decides what follows.
    Failing(Failure),
}

fn at_once() -> Pending {
    Box::pin(async { Ok(Done::AsPrepared) })
}

/// What becomes of a role that begins to work; `anew` is said of one whose actor was made for it.
async fn begun(begins: oneshot::Receiver<Changed>, anew: Done) -> Result<Done, Failure> {
    Ok(match timeout(CHANGE_TIMEOUT, begins).await {
        Ok(Ok(Ok(Going::On))) => Done::AsPrepared,
        Ok(Ok(Ok(Going::Anew))) => anew,
        Ok(Ok(Err(failure))) => Done::Failing(failure),
        Ok(Err(_)) => Done::Failing(Failure::new(FailureKind::Ended, "it does not run")),
        Err(_) => {
            let cause = format!("it has not begun to work in {CHANGE_TIMEOUT:?}");
            Done::Failing(Failure::new(FailureKind::Stuck, cause))
        }
    })
}

/// What a configuration means for a role, with all that it needs at hand.
enum Prepared<R: Role> {
    Keep,
    Start(R::Config, R::Kept),
    Change(R::Config, R::Kept),
    Stop,
    /// It neither runs nor shall.
    Absent,
}

impl<R: Role> Prepared<R> {
    /// What the answer to a reload says of it, while the role fares as the `roster` says; nothing of a
    /// role that isn't there.
    fn told(&self, roster: &Roster) -> Option<Change> {
        let action = match self {
            Self::Keep => "kept",
            Self::Start(..) => "started",
            Self::Change(..) => return Some(changed(R::NAME, roster)),
            Self::Stop => "stopped",
            Self::Absent => return None,
        };
        Some(Change::new(R::NAME, action))
    }
}

/// What becomes of a role that a reload changes: one that runs takes the change while it runs.
fn changed(component: &str, roster: &Roster) -> Change {
    let mut entries = roster.write();
    match entries.member_mut(component) {
        Some(member) if member.state() == State::Restarting => {
            Change::restarted(component, member.last_failure.as_deref())
        }
        Some(member) if member.state() == State::Stuck => Change {
            reason: Some(
                "its thread does nothing: once that is replaced, or works again".to_owned(),
            ),
            ..Change::new(component, "changed")
        },
        _ => Change::new(component, "changed"),
    }
}

/// What a slot draws on when it acts.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) limits: RestartLimits,
    pub(super) reports: Reports,
    pub(super) roster: Roster,
    pub(super) metrics: Arc<Metrics>,
}

/// What a look at a role's heartbeats found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pulse {
    /// All is well, or there is nobody.
    Beats,
    /// It has been silent for too long since the look before.
    Stopped {
        /// The thread's name.
        thread: String,
        silence: Duration,
    },
    /// It is silent still, and holds what its successor needs.
    Held,
    /// It beats again before it could be replaced.
    Woke,
    /// Another thread has taken its place.
    Replaced(Failure),
    /// That has happened too often.
    GaveUp(Failure),
}

/// A slot without its role's type.
pub(super) trait Slot {
    fn name(&self) -> &'static str;
    /// Does all that can fail, and tells what the configuration means for the role (nothing for one
    /// that isn't there). Nothing has changed for a running one when it returns.
    fn prepare(
        &mut self,
        config: &Config,
        resources: &Resources,
    ) -> Result<Option<Change>, PrepareError>;
    /// Forgets what was prepared.
    fn discard(&mut self);
    /// Carries out what was prepared.
    fn commit(&mut self, around: &Surroundings) -> Pending;
    /// Stops the role. The future ends when it is gone.
    fn stop(&mut self, around: &Surroundings) -> Pending;
    /// Whether what the role read besides the configuration is still as it was.
    fn up_to_date(&self) -> bool;
    /// The host's interfaces or addresses may have changed: tells what the role lacks now, and has it
    /// go on with others if what it has does not go with them any more.
    ///
    /// # Errors
    /// Why it could not be prepared again; it goes on as before, `degraded`.
    fn adapt(
        &mut self,
        resources: &Resources,
        around: &Surroundings,
    ) -> Result<Option<Pending>, PrepareError>;
    /// The files that the role has read besides the configuration.
    fn files(&self) -> Vec<PathBuf>;
    /// Those of them that have changed since.
    fn changed_files(&self) -> Vec<PathBuf>;
    /// Looks whether the role's threads beat, at `now`, and has another thread take over from one that
    /// was silent for `limit`.
    fn watch(&mut self, limit: Duration, now: Instant, around: &Surroundings) -> Pulse;
}

/// The slot of one role.
pub(super) struct RoleSlot<R: Role> {
    /// The role's table of a configuration.
    table: fn(&Config) -> Option<R::Config>,
    /// Tells the roster whom to ask, beyond what all roles answer.
    introduce: fn(&Roster, Option<&Addr<R>>),
    running: Option<(R::Config, Child<R>)>,
    prepared: Option<Prepared<R>>,
    /// Of the replacements of stuck threads.
    replaced: Option<Policy>,
    stuck: bool,
}

impl<R: Role> RoleSlot<R> {
    pub(super) fn boxed(
        table: fn(&Config) -> Option<R::Config>,
        introduce: fn(&Roster, Option<&Addr<R>>),
    ) -> Box<dyn Slot> {
        Box::new(Self {
            table,
            introduce,
            running: None,
            prepared: None,
            replaced: None,
            stuck: false,
        })
    }

    fn start(
        &mut self,
        table: R::Config,
        kept: R::Kept,
        around: &Surroundings,
    ) -> Result<oneshot::Receiver<Changed>, Failure> {
        let listens = R::listens(&kept);
        let (child, begins) = Child::<R>::start(kept, around.limits, around.reports.clone())?;
        let mut entries = around.roster.write();
        let crash = child.address.clone().recipient();
        match entries.member_mut(R::NAME) {
            // A successor: the failures before are the component's, too.
            Some(member) => {
                member.listens = listens;
                member.crash = crash;
            }
            None => entries.members.push(Member::new(R::NAME, listens, crash)),
        }
        drop(entries);
        (self.introduce)(&around.roster, Some(&child.address));
        self.running = Some((table, child));
        Ok(begins)
    }

    /// What is kept of the running role; `None` also if a stopped thread holds it.
    fn kept(&self) -> Option<R::Kept> {
        self.running.as_ref()?.1.keep.try_get()
    }

    /// What the threads of the role's child have been silent for, beyond `limit`.
    fn silence(&self, limit: Duration, now: Instant) -> Option<(String, Duration)> {
        let (_, child) = self.running.as_ref()?;
        child.keep.beats().silent(limit, now)
    }

    /// Puts another thread in the place of one that is stuck; `None`: that one holds what is needed.
    fn replace(&mut self, thread: &str, around: &Surroundings) -> Option<Result<(), Failure>> {
        let (table, child) = self.running.as_ref()?;
        let kept = child.keep.try_get()?;
        if !R::can_take_over(&kept) {
            return None;
        }
        let stuck = child.keep.clone();
        let (table, kept) = (table.clone(), R::take_over(&kept, thread));
        // Its handle is dropped for the new one's: should it wake, it ends.
        let started = self.start(table, kept, around);
        Some(started.map(|_| stuck.supersede()))
    }
}

impl<R: Role> Slot for RoleSlot<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn prepare(
        &mut self,
        config: &Config,
        resources: &Resources,
    ) -> Result<Option<Change>, PrepareError> {
        let prepared = match ((self.table)(config), &self.running) {
            (None, None) => Prepared::Absent,
            (None, Some(_)) => Prepared::Stop,
            (Some(table), Some((current, _))) if table == *current && self.up_to_date() => {
                Prepared::Keep
            }
            (Some(table), Some((_, child))) => {
                let held =
                    "its thread was stopped while it held what a change needs: try again later";
                let kept = child.keep.try_get();
                let kept = kept.ok_or_else(|| PrepareError::new(R::NAME, held))?;
                Prepared::Change(table.clone(), R::prepare(&table, Some(&kept), resources)?)
            }
            (Some(table), None) => {
                let kept = R::prepare(&table, None, resources)?;
                Prepared::Start(table, kept)
            }
        };
        let told = prepared.told(&resources.roster);
        self.prepared = Some(prepared);
        Ok(told)
    }

    fn discard(&mut self) {
        self.prepared = None;
    }

    fn commit(&mut self, around: &Surroundings) -> Pending {
        if let Some((_, child)) = &self.running {
            child.set_limits(around.limits);
        }
        match self.prepared.take() {
            Some(Prepared::Start(table, kept)) => {
                let started = self.start(table, kept, around);
                Box::pin(async { begun(started?, Done::AsPrepared).await })
            }
            Some(Prepared::Change(table, kept)) => {
                let Some((current, child)) = &mut self.running else {
                    return at_once();
                };
                if let Some(member) = around.roster.write().member_mut(R::NAME) {
                    member.listens = R::listens(&kept);
                }
                let changed = child.change(kept);
                *current = table;
                if self.stuck {
                    // Its thread can't say that it goes on: its successor will.
                    return at_once();
                }
                Box::pin(begun(changed, Done::MadeAnew))
            }
            Some(Prepared::Stop) => self.stop(around),
            Some(Prepared::Keep | Prepared::Absent) | None => at_once(),
        }
    }

    fn stop(&mut self, around: &Surroundings) -> Pending {
        let Some((_, child)) = self.running.take() else {
            return at_once();
        };
        (self.introduce)(&around.roster, None);
        around
            .roster
            .write()
            .members
            .retain(|member| member.name != R::NAME);
        self.stuck = false;
        let around = around.clone();
        Box::pin(async move {
            child.stop().await;
            // Its last report may still be on its way: the supervisor has nobody by that name then.
            around.metrics.forget_component(R::NAME);
            R::retire(&around.metrics);
            Ok(Done::AsPrepared)
        })
    }

    fn up_to_date(&self) -> bool {
        self.kept()
            .is_none_or(|kept| R::up_to_date(&kept) && R::fits_host(&kept))
    }

    fn adapt(
        &mut self,
        resources: &Resources,
        around: &Surroundings,
    ) -> Result<Option<Pending>, PrepareError> {
        let Some((table, child)) = &self.running else {
            return Ok(None);
        };
        // A thread that was stopped in the middle of it is asked the next time.
        let Some(kept) = child.keep.try_get() else {
            return Ok(None);
        };
        tell_missing::<R>(&child.keep, &kept);
        if R::fits_host(&kept) {
            child.keep.recovered(HOST);
            return Ok(None);
        }
        let prepared = R::prepare(table, Some(&kept), resources)
            .inspect_err(|error| child.keep.degraded(HOST, error))?;
        child.keep.recovered(HOST);
        tracing::info!(
            component = R::NAME,
            listens = R::listens(&prepared).join(", "),
            "interfaces or addresses have changed: listening anew"
        );
        self.prepared = Some(Prepared::Change(table.clone(), prepared));
        Ok(Some(self.commit(around)))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.kept().map(|kept| R::files(&kept)).unwrap_or_default()
    }

    fn changed_files(&self) -> Vec<PathBuf> {
        let changed = self.kept().map(|kept| R::changed_files(&kept));
        changed.unwrap_or_default()
    }

    fn watch(&mut self, limit: Duration, now: Instant, around: &Surroundings) -> Pulse {
        let Some((thread, silence)) = self.silence(limit, now) else {
            if !std::mem::take(&mut self.stuck) {
                return Pulse::Beats;
            }
            if let Some(member) = around.roster.write().member_mut(R::NAME) {
                member.enter(State::Up);
            }
            return Pulse::Woke;
        };
        if !std::mem::replace(&mut self.stuck, true) {
            return Pulse::Stopped { thread, silence };
        }
        match self.replace(&thread, around) {
            None => Pulse::Held,
            // No thread to be had: the next look tries again.
            Some(Err(failure)) => {
                tracing::error!(component = R::NAME, "no successor: {failure}");
                Pulse::Held
            }
            Some(Ok(())) => {
                self.stuck = false;
                let limits = around.limits;
                let policy = self
                    .replaced
                    .get_or_insert_with(|| Policy::new(limits, now, 0));
                policy.set_limits(limits);
                let stuck = format!("its thread {thread} did nothing for {silence:.1?}");
                let failure = Failure::new(FailureKind::Stuck, stuck);
                match policy.on_failure(now) {
                    Verdict::Escalate => Pulse::GaveUp(failure),
                    // It has paused for long enough.
                    Verdict::RestartAfter(_) => Pulse::Replaced(failure),
                }
            }
        }
    }
}
