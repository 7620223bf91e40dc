//! The root of the tree.

use std::{fmt, io, path::PathBuf, sync::Arc};

use actix::{Actor, Addr};
use tokio::sync::{mpsc, watch};

use super::{
    root::{Ended, Shutdown, Supervisor, surroundings},
    tree::{Committed, Tree},
};
use crate::{
    config::Config,
    net::Sockets,
    role::{PrepareError, Resources, Roster, Steering, api::Reload},
    telemetry::Metrics,
    watch::{qlog::Qlog, watcher::Watcher},
};

/// A running lab. Dropping it stops nothing: [`Lab::shutdown`] does.
pub struct Lab {
    supervisor: Addr<Supervisor>,
    ended: watch::Receiver<Option<Ended>>,
    roster: Roster,
    metrics: Arc<Metrics>,
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
        Self::begin(config, sockets, |_| {}).await
    }

    /// As [`start`](Self::start); what the connections of the transport go through is written to `qlog`.
    ///
    /// # Errors
    /// As there.
    pub async fn start_traced(
        config: Config,
        sockets: Sockets,
        qlog: Option<Qlog>,
    ) -> Result<Self, StartError> {
        Self::begin(config, sockets, |resources| resources.qlog = qlog).await
    }

    /// As [`start`](Self::start); connections of the transport are watched by who `watcher` names, and controlled
    /// by what `steering` gives them.
    ///
    /// # Errors
    /// As there.
    pub async fn start_attended(
        config: Config,
        sockets: Sockets,
        watcher: Arc<dyn Watcher>,
        steering: Arc<dyn Steering>,
    ) -> Result<Self, StartError> {
        Self::begin(config, sockets, |resources| {
            resources.watcher = Some(watcher);
            resources.steering = Some(steering);
        })
        .await
    }

    async fn begin(
        config: Config,
        sockets: Sockets,
        add: impl FnOnce(&mut Resources),
    ) -> Result<Self, StartError> {
        std::fs::create_dir_all(&config.state_dir)
            .map_err(|error| StartError::StateDir(config.state_dir.clone(), error))?;
        let mut resources = Resources::new(config.state_dir.clone());
        resources.sockets = sockets;
        add(&mut resources);
        let mut tree = Tree::new();
        let prepared = tree.prepare(&config, &resources);
        if !prepared.errors.is_empty() {
            return Err(StartError::Prepare(prepared.errors));
        }
        let (reports, reported) = mpsc::unbounded_channel();
        let around = surroundings(&config, &reports, &resources);
        let Committed {
            failing, failures, ..
        } = tree.commit(&around).await;
        for failure in failing {
            tracing::warn!("not up yet, will be tried again: {failure}");
        }
        if !failures.is_empty() {
            for stopping in tree.stop(&around) {
                let _ = stopping.await;
            }
            return Err(StartError::Role(failures.join("\n")));
        }
        let (end, ended) = watch::channel(None);
        let roster = resources.roster.clone();
        let metrics = Arc::clone(&resources.metrics);
        let supervisor = Supervisor::new(tree, resources, config, (reports, reported), end).start();
        roster.write().reload = Some(supervisor.clone().recipient());
        Ok(Self {
            supervisor,
            ended,
            roster,
            metrics,
        })
    }

    /// Has the configuration file read again; it runs by it, or goes on as before. What comes of it is
    /// logged.
    pub fn request_reload(&self) {
        self.supervisor.do_send(Reload { dry_run: false });
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
