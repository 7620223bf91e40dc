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
    /// The word for it in the answer to a reload; none for a role that isn't there.
    fn as_str(&self) -> Option<&'static str> {
        match self {
            Self::Keep => Some("kept"),
            Self::Start(..) => Some("started"),
            Self::Change(..) => Some("changed"),
            Self::Stop => Some("stopped"),
            Self::Absent => None,
        }
    }
}

/// A slot without its role's type.
pub(super) trait Slot {
    fn name(&self) -> &'static str;
    /// Does all that can fail, and tells in a word what the configuration means for the role
    /// (nothing for one that isn't there). Nothing has changed for a running one when it returns.
    fn prepare(
        &mut self,
        config: &Config,
        resources: &Resources,
    ) -> Result<Option<&'static str>, PrepareError>;
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
    prepared: Option<Prepared<R>>,
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

    fn prepare(
        &mut self,
        config: &Config,
        resources: &Resources,
    ) -> Result<Option<&'static str>, PrepareError> {
        let prepared = match ((self.table)(config), &self.running) {
            (None, None) => Prepared::Absent,
            (None, Some(_)) => Prepared::Stop,
            (Some(table), Some((current, child)))
                if table == *current && R::up_to_date(&child.keep.get()) =>
            {
                Prepared::Keep
            }
            (Some(table), Some((_, child))) => {
                let kept = R::prepare(&table, Some(&child.keep.get()), resources)?;
                Prepared::Change(table, kept)
            }
            (Some(table), None) => {
                let kept = R::prepare(&table, None, resources)?;
                Prepared::Start(table, kept)
            }
        };
        let action = prepared.as_str();
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
            Some(Prepared::Start(table, kept)) => {
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
            Some(Prepared::Change(table, kept)) => {
                if let Some((current, child)) = &mut self.running {
                    if let Some(member) = roster.write().member_mut(R::NAME) {
                        member.listens = R::listens(&kept);
                    }
                    child.renew(kept);
                    *current = table;
                }
            }
            Some(Prepared::Stop) => return Ok(self.stop(roster)),
            Some(Prepared::Keep | Prepared::Absent) | None => {}
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
