//! Transfers over `labnet client` and `labnet serve` whose path changes under way: the interface's
//! MTU, the client's address.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::{
    io::Read,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use support::{Lab, Namespace, wait_for};

const LABNET: &str = env!("CARGO_BIN_EXE_labnet");

/// A proxy at `ip` before its own origin, in a namespace.
fn site(namespace: &Namespace, ip: &str, more: &str) -> Lab {
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:9167\"\n\
         [rudp]\nlisten = \"{ip}:49152\"\n{more}\n\
         [scrap]\nlisten = \"127.0.0.5:49153\"\n\
         [origin]\nlisten = \"127.0.0.1:8080\"\n"
    );
    Lab::start_with(&config, &[], Some(namespace))
}

/// A client that downloads a file and keeps nothing of it. Killed when dropped.
struct Download(Child);

impl Download {
    fn start(namespace: &Namespace, server: &str, more: &[&str], file: &str) -> Self {
        let server = format!("{server}:49152");
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, LABNET, "client"])
            .args(["--server", &server, "--via", "rudp", "--json"])
            .args(more)
            .args(["get", "--discard", file])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        Self(child)
    }

    /// Waits for its end; the summary's object.
    #[track_caller]
    fn summary(mut self) -> Value {
        let mut stdout = String::new();
        let mut stderr = String::new();
        let mut pipe = self.0.stdout.take().expect("piped");
        pipe.read_to_string(&mut stdout).expect("text");
        let mut pipe = self.0.stderr.take().expect("piped");
        pipe.read_to_string(&mut stderr).expect("text");
        let status = self.0.wait().expect("it ends");
        assert!(status.success(), "{stdout}{stderr}");
        let last = stdout.lines().last().expect("a summary");
        serde_json::from_str(last).expect("JSON")
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one connection as the proxy's API tells of it.
fn connection(namespace: &Namespace) -> Option<Value> {
    let url = "http://127.0.0.1:9167/api/v1/sessions";
    let answer = namespace.output("curl", &["--silent", "--max-time", "5", url]);
    let sessions: Value = serde_json::from_slice(&answer.stdout).ok()?;
    sessions.get(0).cloned()
}

/// Waits until the proxy has sent so many packets.
#[track_caller]
fn wait_for_packets(namespace: &Namespace, packets: u64) -> Value {
    wait_for("the transfer to be under way", || {
        let session = connection(namespace)?;
        (session["packets_sent"].as_u64()? > packets).then_some(session)
    })
}

#[test]
#[ignore = "needs root: a network namespace"]
fn an_interface_that_gets_narrower_costs_one_step() {
    let namespace = Namespace::new("narrow");
    let _lab = site(&namespace, "127.0.0.10", "");
    let download = Download::start(&namespace, "127.0.0.10", &[], "500MB.zip");
    let before = wait_for_packets(&namespace, 20_000);
    assert_eq!(before["datagram_bytes"], 1472);
    namespace.ip(&["link", "set", "lo", "mtu", "1280"]);
    let summary = download.summary();
    let server = &summary["server"];
    assert_eq!(
        (&server["datagram_bytes"], &server["probe_timeouts"]),
        (&1252.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(summary["complete"], true);
    let url = "http://127.0.0.1:9167/metrics";
    let metrics = namespace.output("curl", &["--silent", url]).stdout;
    let metrics = String::from_utf8_lossy(&metrics);
    let lost = "labnet_rudp_lost_total{reason=\"send\"} 0";
    assert!(metrics.lines().any(|line| line == lost), "{metrics}");
}
