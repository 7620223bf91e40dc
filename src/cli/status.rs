//! `labnet status`: the components of a running lab.

use std::process::ExitCode;

use super::api::{Target, ago, table};
use crate::role::api::Status;

/// Arguments of `labnet status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the components, and below them what each of them lacks.
pub(super) fn run(args: Args) -> ExitCode {
    args.target.show("/api/v1/status", describe)
}

fn describe(status: Status) -> String {
    let wrong = status.components.iter().flat_map(|component| {
        let reasons = component.reasons.iter();
        reasons.map(|reason| format!("\n{} is {}: {reason}", component.name, component.state))
    });
    let wrong = wrong.collect::<Vec<_>>().join("");
    let rows = status.components.into_iter().map(|component| {
        [
            component.name,
            component.state,
            ago(component.state_seconds),
            component.restarts.to_string(),
            component.listens.join(" "),
            component.last_failure.unwrap_or_default(),
        ]
    });
    let file = status
        .config_file
        .unwrap_or_else(|| "(built in)".to_owned());
    format!(
        "labnet {}, up {}, configuration {} of {file}\n\n{}{}{wrong}",
        status.version,
        ago(status.uptime_seconds),
        status.generation,
        table(
            [
                "COMPONENT",
                "STATE",
                "FOR",
                "RESTARTS",
                "LISTENS",
                "LAST FAILURE"
            ],
            rows
        ),
        if wrong.is_empty() { "" } else { "\n" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::api;

    #[test]
    fn what_a_component_lacks_is_said() {
        let component = |name: &str, state: &str, reasons: &[&str]| api::Component {
            name: name.to_owned(),
            state: state.to_owned(),
            reasons: reasons.iter().map(ToString::to_string).collect(),
            restarts: 0,
            last_failure: None,
            state_seconds: 1.0,
            listens: Vec::new(),
        };
        let status = Status {
            version: "1".to_owned(),
            generation: 1,
            config_file: None,
            uptime_seconds: 1.0,
            components: vec![
                component("dhcp", "degraded", &["no disk", "no interface"]),
                component("dns", "up", &[]),
            ],
        };
        let said = describe(status);
        let wrong = "\n\ndhcp is degraded: no disk\ndhcp is degraded: no interface";
        assert!(said.ends_with(wrong), "{said}");
    }
}
