//! `labnet doctor`: whether this machine can run the lab, and what to do about what it lacks.

mod dhcp;
mod machine;
mod ports;

use std::{fmt, process::ExitCode};

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::{
    WRONG_USE,
    api::Target,
    check,
    configuration::{self, Configuration},
    output,
};
use crate::{config::Config, role::api::Status, telemetry::complain};

/// Arguments of `labnet doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How it stands with what was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// The lab runs, but not as somebody may expect.
    Warning,
    /// The lab, or a part of it, can't run.
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// What: `lab`, `interfaces`, `ports`, `dhcp`, `clock`, `descriptors`, `disk`.
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    message: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            message: message.into(),
            advice: None,
        }
    }

    fn warning(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            advice: Some(advice.into()),
            ..Self::ok(check, message)
        }
    }

    fn problem(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::warning(check, message, advice)
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether there is no problem.
    ok: bool,
    configuration: String,
    findings: Vec<Finding>,
}

/// Looks, and prints what was found: 0 without a problem, 1 with one, 2 if the configuration is wrong.
pub(super) fn run(args: Args) -> ExitCode {
    let config = match args.configuration.load() {
        Ok(config) => config,
        Err(problems) => {
            complain(problems);
            return ExitCode::from(WRONG_USE);
        }
    };
    let findings: Vec<Finding> = std::iter::once(lab(&config))
        .chain(interfaces(&config))
        .chain(ports::look(&config))
        .chain(dhcp::look(&config))
        .chain(machine::look(&config))
        .collect();
    let report = Report {
        ok: findings
            .iter()
            .all(|finding| finding.verdict != Verdict::Problem),
        configuration: configuration::origin(&config),
        findings,
    };
    let text = if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text,
            Err(error) => {
                complain(format_args!("no JSON: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        report.describe()
    };
    let printed = output((text + "\n").as_bytes());
    if report.ok {
        printed
    } else {
        ExitCode::FAILURE
    }
}

impl Report {
    fn describe(&self) -> String {
        let mut text = format!("configuration: {}\n", self.configuration);
        for finding in &self.findings {
            let Finding {
                check,
                verdict,
                message,
                advice,
            } = finding;
            text += &format!("\n{verdict:<8} {check:<12} {message}");
            if let Some(advice) = advice {
                text += &format!("\n{:22}-> {advice}", "");
            }
        }
        text
    }
}

/// Whether the lab runs already.
fn lab(config: &Config) -> Finding {
    let Some(http) = &config.http else {
        return Finding::warning(
            "lab",
            "without [http] nobody can see how it is",
            "add [http] to the configuration",
        );
    };
    let target = http
        .listen
        .first()
        .and_then(|address| Target::of(*address, http.token_file.clone()));
    let answer = target.map(|target| target.ask(Method::GET, "/api/v1/status"));
    let Some(Ok((status, body))) = answer else {
        return Finding::ok("lab", "does not run now");
    };
    let parsed = serde_json::from_slice::<Status>(&body);
    match parsed {
        Ok(lab) if status.is_success() => {
            let ill = lab
                .components
                .iter()
                .filter(|component| component.state != "up");
            let ill: Vec<String> = ill
                .map(|component| format!("{} is {}", component.name, component.state))
                .collect();
            if ill.is_empty() {
                Finding::ok("lab", format!("runs (labnet {})", lab.version))
            } else {
                Finding::problem(
                    "lab",
                    format!("runs, but {}", ill.join(", ")),
                    "`labnet status` and the log tell why",
                )
            }
        }
        _ if status == StatusCode::UNAUTHORIZED => Finding::ok("lab", "runs, and wants its token"),
        _ => Finding::warning(
            "lab",
            format!("something else answers at its HTTP address: {status}"),
            "stop that, or give [http] another address",
        ),
    }
}

fn interfaces(config: &Config) -> Vec<Finding> {
    let missing = check::warnings(config);
    if missing.is_empty() {
        let message = "all addresses and interfaces of the configuration are here";
        return vec![Finding::ok("interfaces", message)];
    }
    missing
        .into_iter()
        .map(|problem| {
            Finding::warning(
                "interfaces",
                format!("{}: {}", problem.key, problem.message),
                "`ip address` shows what is here; labnet takes it up by itself when it comes",
            )
        })
        .collect()
}
