use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use actix::Recipient;

use super::Crash;
use super::api::{
    Component, CopyLeases, CrashSession, DescribeLink, FindRings, ListEndedSessions,
    ListEndedTransfers, ListLeases, ListSessions, ListTransfers, Reload, Status,
};
use crate::watch::event::State;

/// A component that is stuck for longer will not be replaced by itself.
const HEALS_WITHIN: Duration = Duration::from_secs(30);

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
    /// The same, for a copy of its database.
    pub copy_leases: Option<Recipient<CopyLeases>>,
    /// The RUDP endpoint.
    pub sessions: Option<Recipient<ListSessions>>,
    /// The built-in origin.
    pub transfers: Option<Recipient<ListTransfers>>,
    /// The same, of what is over.
    pub ended_transfers: Option<Recipient<ListEndedTransfers>>,
    /// The RUDP endpoint, of what is over.
    pub ended_sessions: Option<Recipient<ListEndedSessions>>,
    /// The RUDP endpoint, of its connections' rings.
    pub rings: Option<Recipient<FindRings>>,
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
    /// What it does, apart from what it lacks.
    state: State,
    /// What it needs and is missing: the reason by subject.
    lacks: BTreeMap<String, String>,
    /// Since when it is as [`Member::state`] says.
    since: Instant,
    /// Restarts after failures.
    pub restarts: u64,
    /// Why it failed last.
    pub last_failure: Option<String>,
    /// Where it listens.
    pub listens: Vec<String>,
    /// For fault injection.
    pub crash: Recipient<Crash>,
}

impl Default for Roster {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Entries {
            members: Vec::new(),
            generation: 0,
            config_file: None,
            reload: None,
            leases: None,
            copy_leases: None,
            sessions: None,
            transfers: None,
            ended_transfers: None,
            ended_sessions: None,
            rings: None,
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

    /// The components that are not as they should be, each with its state and the reason.
    pub fn not_ready(&self) -> Vec<String> {
        let entries = self.read();
        let not_up = entries
            .members
            .iter()
            .filter(|member| member.state() != State::Up);
        not_up.map(Member::complaint).collect()
    }

    /// How the lab is, in a line.
    pub fn summary(&self) -> String {
        let generation = self.read().generation;
        let wrong = self.not_ready();
        if wrong.is_empty() {
            format!("configuration {generation}, all components up")
        } else {
            format!("configuration {generation}; {}", wrong.join(", "))
        }
    }

    /// Whether all components run or come back by themselves.
    pub fn heals(&self) -> bool {
        let entries = self.read();
        entries.members.iter().all(|member| match member.state {
            State::Failed | State::Stopped => false,
            State::Stuck => member.since.elapsed() < HEALS_WITHIN,
            State::Up | State::Degraded | State::Restarting => true,
        })
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
    /// A component that is about to run.
    pub fn new(name: &'static str, listens: Vec<String>, crash: Recipient<Crash>) -> Self {
        Self {
            name,
            state: State::Up,
            lacks: BTreeMap::new(),
            since: Instant::now(),
            restarts: 0,
            last_failure: None,
            listens,
            crash,
        }
    }

    /// What it does now.
    pub fn state(&self) -> State {
        match self.state {
            State::Up if !self.lacks.is_empty() => State::Degraded,
            state => state,
        }
    }

    /// Notes a new state; says whether it is one.
    pub fn enter(&mut self, state: State) -> bool {
        self.turn(|member| member.state = state)
    }

    /// Notes what it lacks, or (`None`) has again; says whether its state is a new one.
    pub fn lacks(&mut self, subject: String, reason: Option<String>) -> bool {
        self.turn(|member| {
            match reason {
                Some(reason) => member.lacks.insert(subject, reason),
                None => member.lacks.remove(&subject),
            };
        })
    }

    fn turn(&mut self, change: impl FnOnce(&mut Self)) -> bool {
        let before = self.state();
        change(self);
        let new = self.state() != before;
        if new {
            self.since = Instant::now();
        }
        new
    }

    /// `dns (degraded: no interface has 10.0.0.1)`
    fn complaint(&self) -> String {
        let state = self.state();
        let reason = match state {
            State::Degraded => Some(self.reasons().join("; ")),
            _ => self.last_failure.clone(),
        };
        match reason {
            Some(reason) => format!("{} ({}: {reason})", self.name, state.as_str()),
            None => format!("{} ({})", self.name, state.as_str()),
        }
    }

    fn reasons(&self) -> Vec<String> {
        self.lacks.values().cloned().collect()
    }

    fn describe(&self) -> Component {
        Component {
            name: self.name.to_owned(),
            state: self.state().as_str().to_owned(),
            reasons: self.reasons(),
            restarts: self.restarts,
            last_failure: self.last_failure.clone(),
            state_seconds: self.since.elapsed().as_secs_f64(),
            listens: self.listens.clone(),
        }
    }
}
