//! `labnet serve`: the lab's servers in the foreground.

use std::{io, path::PathBuf, process::ExitCode};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::WRONG_USE;
use crate::{
    config,
    net::{Sockets, raise_descriptor_limit},
    supervisor::{Ended, Lab},
    telemetry::logging::{self, Format},
};

/// Arguments of `labnet serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "conf/labnet.toml")]
    config: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// Runs until SIGINT, SIGTERM or a component that fails too often.
pub(super) fn run(args: Args) -> ExitCode {
    logging::init(args.log_format, "info");
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(WRONG_USE);
        }
    };
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "no more files and sockets than the system's default");
    }
    let system = actix::System::new();
    let code = system.block_on(async {
        match serve(config).await {
            Ok(code) => code,
            Err(error) => {
                tracing::error!("no signals: {error}");
                ExitCode::FAILURE
            }
        }
    });
    tracing::info!("stopped");
    code
}

async fn serve(config: config::Config) -> io::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let lab = match Lab::start(config, Sockets::default()).await {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("labnet can't start:\n{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    for component in lab.roster().status().components {
        tracing::info!("{:<7} {}", component.name, component.listens.join(", "));
    }
    tracing::info!("serving: SIGHUP reloads, SIGINT and SIGTERM stop");
    notify(&[NotifyState::Ready]);
    let code = loop {
        tokio::select! {
            _ = interrupt.recv() => break ExitCode::SUCCESS,
            _ = terminate.recv() => break ExitCode::SUCCESS,
            _ = hang_up.recv() => {
                notify(&[NotifyState::Reloading]);
                // The supervisor logs what came of it.
                let _ = lab.reload().await;
                notify(&[NotifyState::Ready]);
            }
            ended = lab.ended() => break match ended {
                Ended::Shutdown => ExitCode::SUCCESS,
                Ended::Failed { .. } => ExitCode::FAILURE,
            },
        }
    };
    tracing::info!("stopping");
    notify(&[NotifyState::Stopping]);
    lab.shutdown().await;
    Ok(code)
}

/// Tells systemd; does nothing without it.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
