//! A role's place in the tree: it holds the running child, if there is one, and carries out what a
//! configuration means for it in two steps, of which only the first can fail.

use std::{future::Future, pin::Pin, time::Instant};

use actix::Addr;

use super::{
    child::{Child, Reports},
    policy::{Limits, Restart},
};
use crate::{
    config::Config,
    role::{PrepareError, Resources, Role},
    telemetry::{Member, Roster, State},
};

pub(super) type Pending = Pin<Box<dyn Future<Output = ()>>>;

/// What a configuration means for a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    Start,
    Change,
    Stop,
    /// It neither runs nor shall.
    Absent,
}

impl Action {
    /// The word for it in the answer to a reload; none for a role that isn't there.
    pub(super) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Keep => Some("kept"),
            Self::Start => Some("started"),
            Self::Change => Some("changed"),
            Self::Stop => Some("stopped"),
            Self::Absent => None,
        }
    }
}

/// A slot without its role's type.
pub(super) trait Slot {
    fn name(&self) -> &'static str;
    /// Does all that can fail. Nothing has changed for the running role when it returns.
    fn prepare(&mut self, config: &Config, resources: &Resources) -> Result<Action, PrepareError>;
    /// Forgets what was prepared.
    fn discard(&mut self);
    /// Carries out what was prepared. The future ends when a stopped role is gone.
    fn commit(
        &mut self,
        limits: Limits,
        reports: &Reports,
        roster: &Roster,
    ) -> Result<Pending, String>;
    /// Stops the role.
    fn stop(&mut self, roster: &Roster) -> Pending;
}

/// The slot of one role.
pub(super) struct RoleSlot<R: Role> {
    /// The role's table of a configuration.
    table: fn(&Config) -> Option<R::Config>,
    /// Tells the roster whom to ask, beyond what all roles answer.
    introduce: fn(&Roster, Option<&Addr<R>>),
    running: Option<(R::Config, Child<R>)>,
    prepared: Option<(Action, Option<(R::Config, R::Kept)>)>,
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
        })
    }
}

impl<R: Role> Slot for RoleSlot<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn prepare(&mut self, config: &Config, resources: &Resources) -> Result<Action, PrepareError> {
        let running = self.running.as_ref();
        let prepared = match ((self.table)(config), running) {
            (None, None) => (Action::Absent, None),
            (None, Some(_)) => (Action::Stop, None),
            (Some(table), Some((current, child)))
                if table == *current && R::up_to_date(&child.keep.get()) =>
            {
                (Action::Keep, None)
            }
            (Some(table), Some((_, child))) => {
                let kept = R::prepare(&table, Some(&child.keep.get()), resources)?;
                (Action::Change, Some((table, kept)))
            }
            (Some(table), None) => {
                let kept = R::prepare(&table, None, resources)?;
                (Action::Start, Some((table, kept)))
            }
        };
        let action = prepared.0;
        self.prepared = Some(prepared);
        Ok(action)
    }

    fn discard(&mut self) {
        self.prepared = None;
    }

    fn commit(
        &mut self,
        limits: Limits,
        reports: &Reports,
        roster: &Roster,
    ) -> Result<Pending, String> {
        if let Some((_, child)) = &self.running {
            child.set_limits(limits);
        }
        match self.prepared.take() {
            Some((Action::Start, Some((table, kept)))) => {
                let listens = R::listens(&kept);
                let child = Child::<R>::start(kept, Restart::Permanent, limits, reports.clone())
                    .map_err(|cause| format!("{}: {cause}", R::NAME))?;
                roster.write().members.push(Member {
                    name: R::NAME,
                    state: State::Up,
                    since: Instant::now(),
                    restarts: 0,
                    last_failure: None,
                    listens,
                    crash: child.address.clone().recipient(),
                });
                (self.introduce)(roster, Some(&child.address));
                self.running = Some((table, child));
            }
            Some((Action::Change, Some((table, kept)))) => {
                if let Some((current, child)) = &mut self.running {
                    if let Some(member) = roster.write().member_mut(R::NAME) {
                        member.listens = R::listens(&kept);
                    }
                    child.renew(kept);
                    *current = table;
                }
            }
            Some((Action::Stop, _)) => return Ok(self.stop(roster)),
            _ => {}
        }
        Ok(Box::pin(async {}))
    }

    fn stop(&mut self, roster: &Roster) -> Pending {
        let Some((_, child)) = self.running.take() else {
            return Box::pin(async {});
        };
        (self.introduce)(roster, None);
        roster
            .write()
            .members
            .retain(|member| member.name != R::NAME);
        Box::pin(child.stop())
    }
}
