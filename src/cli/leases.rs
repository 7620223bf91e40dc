//! `labnet leases`: who has which address.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use super::api::{Target, ago, table};
use crate::telemetry::api::Lease;

/// Arguments of `labnet leases`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the leases.
pub(super) fn run(args: Args) -> ExitCode {
    args.target.show("/api/v1/leases", |leases| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        describe(leases, now.unwrap_or_default().as_secs())
    })
}

fn describe(leases: Vec<Lease>, now: u64) -> String {
    if leases.is_empty() {
        return "no leases".to_owned();
    }
    let rows = leases.into_iter().map(|lease| {
        let left = lease.expires_unix.saturating_sub(now);
        [
            lease.address.to_string(),
            lease.state,
            if left == 0 {
                "-".to_owned()
            } else {
                ago(left as f64)
            },
            lease.hardware_address,
            lease.hostname.unwrap_or_default(),
            if lease.reserved { "yes" } else { "" }.to_owned(),
        ]
    });
    table(
        [
            "ADDRESS",
            "STATE",
            "LEFT",
            "HARDWARE ADDRESS",
            "HOST NAME",
            "RESERVED",
        ],
        rows,
    )
}
