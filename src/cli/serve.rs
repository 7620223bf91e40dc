//! `labnet serve`: the lab's servers in the foreground.

use std::{io, process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{
    WRONG_USE,
    configuration::{self, Configuration},
    observe::Observe,
    qlog::QlogOptions,
};
use crate::{
    config::{self, LogFormat},
    net::{Sockets, raise_descriptor_limit},
    supervisor::{Ended, Lab, service},
    telemetry::logging,
    watch::{capture, qlog::Qlog},
};

/// How often the service manager is told which sockets to keep for the next start.
const STORE: Duration = Duration::from_secs(1);
/// How long the end waits for the traces of connections to be written.
const QLOG_PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `labnet serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// How log lines look, whatever `log.format` says
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    qlog: QlogOptions,
    #[command(flatten)]
    observe: Observe,
}

/// Runs until SIGINT, SIGTERM or a component that fails too often.
pub(super) fn run(args: Args) -> ExitCode {
    logging::init(args.log_format, LevelFilter::INFO);
    let _observing = match args.observe.start() {
        Ok(observing) => observing,
        Err(problem) => {
            logging::say(&problem);
            return ExitCode::FAILURE;
        }
    };
    let config = match args.configuration.load() {
        Ok(config) => config,
        Err(problems) => {
            logging::say(&problems.to_string());
            return ExitCode::from(WRONG_USE);
        }
    };
    logging::set_level(&config.log);
    match capture::prepare(config.capture.as_ref()) {
        Ok(prepared) => prepared.commit(),
        Err(refused) => {
            logging::say(&format!("labnet can't start:\n{refused}"));
            return ExitCode::FAILURE;
        }
    }
    let _captures = Captures;
    for (key, by) in logging::masked() {
        tracing::debug!("{key} goes without effect: {by} goes over it");
    }
    tracing::info!("configuration: {}", configuration::origin(&config));
    tracing::info!("state: {}", config.state_dir.display());
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "no more files and sockets than the system's default");
    }
    let qlog = match args.qlog.open() {
        Ok(qlog) => qlog,
        Err(problem) => {
            logging::say(&format!("labnet can't start:\n{problem}"));
            return ExitCode::FAILURE;
        }
    };
    let system = actix::System::new();
    let code = system.block_on(async {
        match serve(config, qlog.clone()).await {
            Ok(code) => code,
            Err(error) => {
                tracing::error!("no signals: {error}");
                ExitCode::FAILURE
            }
        }
    });
    // A thread that is stuck may hold the folder for ever.
    if let Some(qlog) = qlog {
        qlog.settle(QLOG_PATIENCE);
        if qlog.lost() > 0 {
            tracing::warn!(events = qlog.lost(), "qlog: events were lost");
        }
        std::mem::forget(qlog);
    }
    tracing::info!("stopped");
    code
}

/// Ends the captures, so that their files are whole.
struct Captures;

impl Drop for Captures {
    fn drop(&mut self) {
        capture::end();
    }
}

async fn serve(config: config::Config, qlog: Option<Qlog>) -> io::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Also what a terminal sends that goes away: the lab stays.
    let mut hang_up = signal(SignalKind::hangup())?;
    // A log or a database that may not grow any more (`ulimit -f`) gets its error from the write.
    let _too_large = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let sockets = Sockets::inherited();
    let lab = match Lab::start_traced(config, sockets.clone(), qlog).await {
        Ok(lab) => lab,
        Err(error) => {
            logging::say(&format!("labnet can't start:\n{error}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    for component in lab.roster().status().components {
        tracing::info!("{:<7} {}", component.name, component.listens.join(", "));
    }
    tracing::info!("serving: SIGHUP reloads, SIGINT and SIGTERM stop");
    sockets.settle();
    sockets.store();
    service::tell_ready(&lab.roster().summary());
    let mut store = tokio::time::interval(STORE);
    let code = loop {
        tokio::select! {
            _ = interrupt.recv() => break ExitCode::SUCCESS,
            _ = terminate.recv() => break ExitCode::SUCCESS,
            _ = hang_up.recv() => {
                // The supervisor logs what came of it; a signal to stop is heard meanwhile.
                lab.request_reload();
            }
            // Reloads, and interfaces that come and go, change what is used.
            _ = store.tick() => sockets.store(),
            ended = lab.ended() => break match ended {
                Ended::Shutdown => ExitCode::SUCCESS,
                Ended::Failed { .. } => ExitCode::FAILURE,
            },
        }
    };
    tracing::info!("stopping");
    service::tell_stopping();
    lab.shutdown().await;
    Ok(code)
}
