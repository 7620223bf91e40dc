use std::{
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use actix::Recipient;

use super::api::{Component, CrashSession, DescribeLink, ListLeases, ListSessions, Reload, Status};
use crate::role::Crash;

/// Who runs, how, and whom to ask about it: written by the supervisor, read by the HTTP endpoints.
#[derive(Clone)]
pub struct Roster(Arc<RwLock<Entries>>);

/// What the roster holds.
pub struct Entries {
    /// The components in the order of their start.
    pub members: Vec<Member>,
    /// The number of the running configuration; 0 before the first.
    pub generation: u64,
    /// Its file.
    pub config_file: Option<String>,
    /// The supervisor.
    pub reload: Option<Recipient<Reload>>,
    /// The DHCP server.
    pub leases: Option<Recipient<ListLeases>>,
    /// The RUDP endpoint.
    pub sessions: Option<Recipient<ListSessions>>,
    /// The RUDP endpoint, too.
    pub crash_session: Option<Recipient<CrashSession>>,
    /// And for the network before it.
    pub link: Option<Recipient<DescribeLink>>,
    started: Instant,
}

/// One component.
pub struct Member {
    /// Its role's name.
    pub name: &'static str,
    /// What it does now.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Restarts after failures.
    pub restarts: u64,
    /// Why it failed last.
    pub last_failure: Option<String>,
    /// Where it listens.
    pub listens: Vec<String>,
    /// For fault injection.
    pub crash: Recipient<Crash>,
}

/// What a component does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Up,
    /// It failed and waits for its restart.
    Restarting,
    /// It failed too often.
    Failed,
    /// It ended and was meant to.
    Stopped,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Entries {
            members: Vec::new(),
            generation: 0,
            config_file: None,
            reload: None,
            leases: None,
            sessions: None,
            crash_session: None,
            link: None,
            started: Instant::now(),
        })))
    }
}

impl Roster {
    /// Reads it.
    pub fn read(&self) -> RwLockReadGuard<'_, Entries> {
        // Entries are whole between any two statements that change them.
        self.0
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes it.
    pub fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.0
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The names of the components that should run and don't.
    pub fn not_ready(&self) -> Vec<&'static str> {
        let entries = self.read();
        entries
            .members
            .iter()
            .filter(|member| member.state != State::Up)
            .map(|member| member.name)
            .collect()
    }

    /// The answer to `GET /api/v1/status`.
    pub fn status(&self) -> Status {
        let entries = self.read();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: entries.generation,
            config_file: entries.config_file.clone(),
            uptime_seconds: entries.started.elapsed().as_secs_f64(),
            components: entries.members.iter().map(Member::describe).collect(),
        }
    }
}

impl Entries {
    /// The member of that name.
    pub fn member_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.name == name)
    }
}

impl Member {
    /// Notes a new state.
    pub fn enter(&mut self, state: State) {
        self.state = state;
        self.since = Instant::now();
    }

    fn describe(&self) -> Component {
        Component {
            name: self.name.to_owned(),
            state: self.state.as_str().to_owned(),
            restarts: self.restarts,
            last_failure: self.last_failure.clone(),
            state_seconds: self.since.elapsed().as_secs_f64(),
            listens: self.listens.clone(),
        }
    }
}
