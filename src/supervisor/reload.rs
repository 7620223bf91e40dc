//! The reload in two phases: everything that can fail, then everything at once; or a look at what it
//! would do.

use std::time::{SystemTime, UNIX_EPOCH};

use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, WrapFuture};

use super::{
    files::FileWatch,
    root::{Supervisor, surroundings},
    service,
    tree::Committed,
};
use crate::{
    config::{self, Config},
    role::api::{Change, KeyChange, Reload, ReloadRefused, Reloaded},
    telemetry::logging,
    watch::capture,
};

/// What only waits to be carried out; the roles' part of it is in the tree.
struct Prepared {
    config: Config,
    reloaded: Reloaded,
    captures: capture::Prepared,
}

impl Handler<Reload> for Supervisor {
    type Result = AtomicResponse<Self, Result<Reloaded, ReloadRefused>>;

    fn handle(&mut self, Reload { dry_run }: Reload, ctx: &mut Self::Context) -> Self::Result {
        if !dry_run {
            service::tell_reloading();
        }
        let reload = match self.prepare() {
            Ok(mut prepared) if dry_run => {
                self.tree.discard();
                prepared.reloaded.dry_run = true;
                Ok(prepared.reloaded)
            }
            Ok(prepared) => return self.commit(prepared),
            Err(problems) if dry_run => Err(ReloadRefused {
                generation: self.resources.roster.read().generation,
                problems,
            }),
            Err(problems) => {
                let refused = self.refuse(problems);
                self.watch_files(ctx);
                service::tell_ready(&self.resources.roster.summary());
                Err(refused)
            }
        };
        AtomicResponse::new(Box::pin(async { reload }.into_actor(self)))
    }
}

impl Supervisor {
    /// Does all of a reload that can fail.
    fn prepare(&mut self) -> Result<Prepared, Vec<String>> {
        let config = self.read()?;
        let files = self.tree.changed_files();
        let prepared = self.tree.prepare(&config, &self.resources);
        let mut problems: Vec<String> = prepared.errors.iter().map(ToString::to_string).collect();
        let captures = capture::prepare(config.capture.as_ref())
            .map_err(|refused| problems.push(refused.to_string()));
        let Ok(captures) = captures else {
            self.tree.discard();
            return Err(problems);
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let keys = self.config.source.changes(&config.source).into_iter();
        let reloaded = Reloaded {
            generation: self.resources.roster.read().generation,
            dry_run: false,
            changes: prepared.changes,
            keys: keys.map(told).collect(),
            files: files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
        };
        Ok(Prepared {
            config,
            reloaded,
            captures,
        })
    }

    /// Carries out what was prepared.
    fn commit(
        &mut self,
        prepared: Prepared,
    ) -> AtomicResponse<Self, Result<Reloaded, ReloadRefused>> {
        let Prepared {
            config,
            mut reloaded,
            captures,
        } = prepared;
        let around = surroundings(&config, &self.reports, &self.resources);
        let committed = self.tree.commit(&around);
        logging::set_level(&config.log);
        captures.commit();
        self.adopted(config);
        let generation = self.resources.roster.read().generation;
        reloaded.generation = generation;
        let reload = committed.into_actor(self).map(
            move |committed: Committed, supervisor: &mut Self, ctx| {
                let Committed {
                    made_anew,
                    failing,
                    mut failures,
                } = committed;
                failures.extend(failing);
                supervisor.watch_new_files(ctx);
                // The reports of those that have just begun come after this answer.
                for Change { component, .. } in &reloaded.changes {
                    supervisor.show(component);
                }
                service::tell_ready(&supervisor.resources.roster.summary());
                if failures.is_empty() {
                    for change in &mut reloaded.changes {
                        supervisor.correct(change, &made_anew);
                    }
                    tracing::info!(generation, "reloaded{}", in_a_line(&reloaded));
                    return Ok(reloaded);
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
        );
        AtomicResponse::new(Box::pin(reload))
    }

    /// Notes that `config` runs now.
    pub(super) fn adopted(&mut self, config: Config) {
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

    /// Says what has happened, where it is not what was foreseen: a role has failed meanwhile, or was
    /// up again.
    fn correct(&self, change: &mut Change, made_anew: &[&str]) {
        let component = &change.component;
        match change.action.as_str() {
            "changed" if made_anew.contains(&component.as_str()) => {
                let mut entries = self.resources.roster.write();
                let member = entries.member_mut(component);
                let failure = member.and_then(|member| member.last_failure.as_deref());
                *change = Change::restarted(component, failure);
            }
            "restarted" if !made_anew.contains(&component.as_str()) => {
                *change = Change::new(component, "changed");
            }
            _ => {}
        }
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

    /// Watches the files of a configuration that has just been taken up.
    pub(super) fn watch_new_files(&mut self, ctx: &mut Context<Self>) {
        self.watch_files(ctx);
        if self.has_changed_again() {
            ctx.notify(Reload { dry_run: false });
        }
    }

    /// Whether a watched file has changed since it was read and before the watch began.
    fn has_changed_again(&self) -> bool {
        let watched = self.files.as_ref().and(self.config.file.as_ref());
        watched.is_some_and(|file| {
            let now = config::load(file);
            now.is_ok_and(|now| !self.config.source.changes(&now.source).is_empty())
                || !self.tree.changed_files().is_empty()
        })
    }

    /// Watches the files of the running configuration from now on, if it says so. What they hold now
    /// is known.
    fn watch_files(&mut self, ctx: &mut Context<Self>) {
        self.files = None;
        let Some(file) = self
            .config
            .file
            .clone()
            .filter(|_| self.config.reload.watch)
        else {
            return;
        };
        let files = [vec![file], self.tree.files()].concat();
        let supervisor = ctx.address();
        let changed = move || supervisor.do_send(Reload { dry_run: false });
        match FileWatch::start(files, changed) {
            Ok(watch) => self.files = Some(watch),
            Err(error) => tracing::error!("reload.watch: the files can't be watched: {error}"),
        }
    }
}

fn told(change: config::KeyChange) -> KeyChange {
    let config::KeyChange {
        key,
        from,
        to,
        masked_by,
    } = change;
    let mut masked = logging::masked().into_iter();
    let by_the_process = masked.find_map(|(masked, by)| (masked == key).then(|| by.to_owned()));
    KeyChange {
        key,
        from,
        to,
        masked_by: by_the_process.or(masked_by),
    }
}

/// What changed, for the log.
fn in_a_line(reloaded: &Reloaded) -> String {
    let keys = reloaded.keys.iter().map(|change| change.key.as_str());
    let all: Vec<&str> = keys
        .chain(reloaded.files.iter().map(String::as_str))
        .collect();
    if all.is_empty() {
        ", nothing had changed".to_owned()
    } else {
        format!(": {}", all.join(", "))
    }
}
