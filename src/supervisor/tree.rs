//! All roles in the order of their start.

use std::path::PathBuf;

use super::slot::{Done, Pending, RoleSlot, Slot, Surroundings};
use crate::{
    config::Config,
    dhcp::DhcpActor,
    dns::DnsActor,
    http::HttpActor,
    origin::OriginActor,
    role::{Failure, Member, PrepareError, Resources, api::Change},
    rudp::RudpEndpoint,
    scrap::ScrapActor,
};

/// All roles' slots in the order of their start: whoever is asked starts before whoever asks.
pub(super) struct Tree(Vec<Box<dyn Slot>>);

pub(super) struct Prepared {
    pub(super) changes: Vec<Change>,
    pub(super) errors: Vec<PrepareError>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// Roles that did not run, and were made anew.
    pub(super) made_anew: Vec<&'static str>,
    /// Roles that failed as they began, and will be started again.
    pub(super) failing: Vec<String>,
    /// Roles that could not be started at all.
    pub(super) failures: Vec<String>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self(vec![
            RoleSlot::<OriginActor>::boxed(
                |config| config.origin.clone(),
                |roster, address| {
                    let mut entries = roster.write();
                    entries.transfers = address.map(|address| address.clone().recipient());
                    entries.ended_transfers = address.map(|address| address.clone().recipient());
                },
            ),
            RoleSlot::<ScrapActor>::boxed(|config| config.scrap.clone(), |_, _| {}),
            RoleSlot::<DnsActor>::boxed(|config| config.dns.clone(), |_, _| {}),
            RoleSlot::<DhcpActor>::boxed(
                |config| config.dhcp.clone(),
                |roster, address| {
                    let mut entries = roster.write();
                    entries.leases = address.map(|address| address.clone().recipient());
                    entries.copy_leases = address.map(|address| address.clone().recipient());
                },
            ),
            RoleSlot::<RudpEndpoint>::boxed(
                |config| config.rudp.clone(),
                |roster, address| {
                    let mut entries = roster.write();
                    entries.sessions = address.map(|address| address.clone().recipient());
                    entries.ended_sessions = address.map(|address| address.clone().recipient());
                    entries.rings = address.map(|address| address.clone().recipient());
                    entries.crash_session = address.map(|address| address.clone().recipient());
                    entries.link = address.map(|address| address.clone().recipient());
                },
            ),
            RoleSlot::<HttpActor>::boxed(|config| config.http.clone(), |_, _| {}),
        ])
    }

    pub(super) fn prepare(&mut self, config: &Config, resources: &Resources) -> Prepared {
        let mut prepared = Prepared {
            changes: Vec::new(),
            errors: Vec::new(),
        };
        for slot in &mut self.0 {
            match slot.prepare(config, resources) {
                Ok(change) => prepared.changes.extend(change),
                Err(error) => prepared.errors.push(error),
            }
        }
        if !prepared.errors.is_empty() {
            self.discard();
        }
        prepared
    }

    /// Forgets what was prepared.
    pub(super) fn discard(&mut self) {
        for slot in &mut self.0 {
            slot.discard();
        }
    }

    /// The files that roles have read besides the configuration.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.0.iter().flat_map(|slot| slot.files()).collect()
    }

    /// Those of them that have changed since.
    pub(super) fn changed_files(&self) -> Vec<PathBuf> {
        self.0
            .iter()
            .flat_map(|slot| slot.changed_files())
            .collect()
    }

    /// Carries out what was prepared, for every role even if one fails.
    pub(super) fn commit(
        &mut self,
        around: &Surroundings,
    ) -> impl Future<Output = Committed> + 'static {
        let committed: Vec<_> = self
            .0
            .iter_mut()
            .map(|slot| (slot.name(), slot.commit(around)))
            .collect();
        let order: Vec<_> = self.0.iter().map(|slot| slot.name()).collect();
        let roster = around.roster.clone();
        async move {
            let mut outcome = Committed::default();
            for (name, done) in committed {
                match done.await {
                    Ok(Done::MadeAnew) => outcome.made_anew.push(name),
                    Ok(Done::AsPrepared) => {}
                    Ok(Done::Failing(failure)) => outcome.failing.push(told(name, &failure)),
                    Err(failure) => outcome.failures.push(told(name, &failure)),
                }
            }
            // One that a reload has brought back has its old place again.
            let place = |member: &Member| order.iter().position(|name| *name == member.name);
            roster.write().members.sort_by_key(place);
            outcome
        }
    }

    /// Stops all in reverse order: to be awaited one after the other.
    pub(super) fn stop(&mut self, around: &Surroundings) -> Vec<Pending> {
        let slots = self.0.iter_mut().rev();
        slots.map(|slot| slot.stop(around)).collect()
    }

    /// The slots.
    pub(super) fn slots(&mut self) -> impl Iterator<Item = &mut Box<dyn Slot>> {
        self.0.iter_mut()
    }
}

fn told(name: &str, failure: &Failure) -> String {
    format!("{name}: {failure}")
}
