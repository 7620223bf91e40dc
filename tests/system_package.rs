//! The units for systemd, looked at by systemd's own tools.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// At most so much may be exposed, by systemd's count from 0 to 10.
const EXPOSURE: f64 = 1.6;

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> (Output, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .env("NO_COLOR", "1")
        .output()
        .expect("systemd-analyze runs");
    let text = [&output.stdout[..], &output.stderr].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs systemd"]
fn the_units_are_sound() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let names = ["labnet.service", "labnet.socket", "labnet-dhcp.socket"];
    let files = names.map(|name| {
        let text = fs::read_to_string(conf(name)).expect(name);
        // Where it will be installed there is nothing yet.
        let text = text.replace("/usr/bin/labnet", env!("CARGO_BIN_EXE_labnet"));
        let file = dir.path().join(name);
        fs::write(&file, text).expect("a file");
        file
    });
    let (output, text) = analyze(&["verify", "--man=no"], &files);
    assert!(output.status.success() && text.is_empty(), "{text}");
}

#[test]
#[ignore = "needs systemd"]
fn the_service_exposes_little() {
    let (_, text) = analyze(
        &["security", "--offline=true", "--no-pager"],
        &[conf("labnet.service")],
    );
    let level = text.rsplit_once("level for labnet.service: ");
    let level = level.and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= EXPOSURE), "{text}");
}
