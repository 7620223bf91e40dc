//! What the client tells when something is wrong or takes long: true, at once, and with what to do.

use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Lab, PATIENCE, loopback, probe::Addresses, signal, wait_for};
use serde_json::Value;

fn lab_with(more: &str) -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"12MB.zip\", \"image-site.png\"]\n{more}"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

fn command(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command
        .args(["client", "--out", out.to_str().expect("UTF-8")])
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn client(out: &Path, arguments: &[&str]) -> Output {
    command(out, arguments).output().expect("labnet starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn json(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_bad_network_that_a_download_goes_past_is_refused() {
    let out = folder();
    for option in [
        ["--rate", "1mbit"],
        ["--delay", "100ms"],
        ["--loss", "10"],
        ["--down", "loss=5"],
    ] {
        let get = client(
            out.path(),
            &[&option[..], &["get", "image-site.png"]].concat(),
        );
        assert_eq!(get.status.code(), Some(2));
        let said = stderr(&get);
        let first = format!("labnet: {} does nothing to a download over HTTP", option[0]);
        assert!(said.starts_with(&first), "{said}");
        let more = [
            &option[..],
            &["--jitter", "5ms", "get", "image-site.png", "--via", "http"],
        ]
        .concat();
        let said = stderr(&client(out.path(), &more));
        let names = said.split(" do nothing").next().expect("the options");
        assert!(
            names.contains(option[0]) && names.contains("--jitter"),
            "{said}"
        );
        assert!(
            said.contains("--via rudp") && said.contains("labnet link --netns"),
            "{said}"
        );
    }
}

#[test]
fn the_signals_of_other_verbs_go_through_the_bad_network() {
    let (_lab, addresses) = lab_with("");
    let out = folder();
    let dhcp = addresses.at(6767).to_string();
    let echo = client(
        out.path(),
        &[
            "--dhcp", &dhcp, "--delay", "40ms", "--json", "echo", "-n", "1",
        ],
    );
    let rtt = json(&echo)[0]["rtt_ms"].as_f64().expect("measured");
    assert!(rtt >= 80.0, "{rtt} ms over 40 ms each way");
}

#[test]
fn an_unknown_file_is_unknown_at_once_whatever_the_way() {
    let (lab, addresses) = lab_with("");
    let out = folder();
    let (dhcp, proxy) = (
        addresses.at(6767).to_string(),
        addresses.at(49152).to_string(),
    );
    for way in [
        &["--dhcp", &dhcp][..],
        &["--server", &proxy],
        &["--dhcp", &dhcp, "--via", "rudp"],
        &["--server", &proxy, "--via", "rudp"],
    ] {
        let asked = "labnet_scrap_requests_total{type=\"signurl\"}";
        let before = lab.metric(asked);
        let get = client(out.path(), &[way, &["get", "10MB.zip"]].concat());
        assert_eq!(get.status.code(), Some(1));
        let said = stderr(&get);
        assert!(
            said.contains("the proxy knows no file 10MB.zip: did you mean 12MB.zip or 1MB.zip?")
                || said.contains("did you mean 1MB.zip or 12MB.zip?"),
            "{way:?}: {said}"
        );
        // Nobody asked twice, so nobody took the answer for a silence.
        assert_eq!(lab.metric(asked) - before, 1.0, "{way:?}");
        assert!(!said.contains("resent"), "{way:?}: {said}");

        let before = lab.metric(asked);
        let get = client(out.path(), &[way, &["get", "99"]].concat());
        let said = stderr(&get);
        assert!(
            said.contains("no file 99: the list has 3 files"),
            "{way:?}: {said}"
        );
        assert_eq!(lab.metric(asked), before, "{way:?}: not even asked for");
    }
}

#[test]
fn a_full_pool_is_named_where_the_lab_can_be_asked() {
    let addresses = Addresses(loopback());
    let config = addresses.config(&format!("http://{}/", addresses.at(8080)), "");
    let config = config.replace("127.20.30.41-127.20.30.100", "127.20.30.41-127.20.30.41");
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    let out = folder();
    let dhcp = addresses.at(6767).to_string();
    let held = client(out.path(), &["--dhcp", &dhcp, "--keep-lease", "echo"]);
    assert!(held.status.success(), "{}", stderr(&held));
    let full = client(out.path(), &["--dhcp", &dhcp, "echo"]);
    assert_eq!(full.status.code(), Some(1));
    let said = stderr(&full);
    assert!(
        said.contains("it has no free address: its pool is used up (1 address of 127.20.30.0/24)"),
        "{said}"
    );
    assert!(
        said.contains("--no-dhcp") && !said.contains("is `labnet serve` running"),
        "{said}"
    );
    assert!(stderr(&held).contains(" for 1 day, "), "{}", stderr(&held));
    // And that is a way on.
    let dns = addresses.at(5300).to_string();
    let on = client(out.path(), &["--no-dhcp", "--dns", &dns, "echo"]);
    assert!(on.status.success(), "{}", stderr(&on));
    assert!(!stderr(&on).contains("by DHCP"), "{}", stderr(&on));
    drop(lab);
}

#[test]
fn a_subnet_for_reserved_clients_is_not_called_used_up() {
    let addresses = Addresses(loopback());
    let config = addresses.config(&format!("http://{}/", addresses.at(8080)), "");
    let reserved =
        "pools = []\nreservation = [{ mac = \"02:00:00:00:00:07\", address = \"127.20.30.50\" }]";
    let pools = config
        .lines()
        .find(|line| line.starts_with("pools"))
        .expect("a pool");
    let config = config.replace(pools, reserved);
    let zone = addresses.zone();
    let _lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    let out = folder();
    let dhcp = addresses.at(6767).to_string();
    let stranger = client(out.path(), &["--dhcp", &dhcp, "echo"]);
    let said = stderr(&stranger);
    assert_eq!(stranger.status.code(), Some(1));
    assert!(
        said.contains("for reserved clients only: 127.20.30.0/24 has no `pools`")
            && !said.contains("used up"),
        "{said}"
    );
    let known = client(
        out.path(),
        &["--dhcp", &dhcp, "--mac", "02:00:00:00:00:07", "echo"],
    );
    assert!(known.status.success(), "{}", stderr(&known));
}

#[test]
fn a_silent_dhcp_server_has_two_causes_and_both_are_told() {
    let out = folder();
    let silent = UdpSocket::bind((loopback(), 6767)).expect("a socket");
    let server = silent.local_addr().expect("one").to_string();
    let output = client(out.path(), &["--dhcp", &server, "list"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let both = "no DHCP server is there, or it has no free address";
    let (early, late) = said.split_once("labnet:").expect("an error");
    assert!(early.contains(both), "while it waits: {said}");
    assert!(late.contains(both) && late.contains("--server"), "{said}");
}

#[test]
fn closed_ports_are_told_at_once() {
    let out = folder();
    let nowhere = Addresses(loopback());
    let (dhcp, proxy) = (nowhere.at(6767).to_string(), nowhere.at(49152).to_string());
    for (arguments, role) in [
        (&["--dhcp", &dhcp, "list"][..], "[dhcp]"),
        (&["--server", &proxy, "list"], "[rudp]"),
        (&["--server", &proxy, "--via", "rudp", "list"], "[rudp]"),
    ] {
        let output = client(out.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains("nothing listens there"), "{said}");
        assert!(said.contains(role) && !said.contains("tries"), "{said}");
    }
}

#[test]
fn a_silent_proxy_is_told_after_a_few_tries_with_what_to_check() {
    let out = folder();
    let silent = UdpSocket::bind((loopback(), 49152)).expect("a socket");
    let server = silent.local_addr().expect("one").to_string();
    for way in ["http", "rudp"] {
        let mut child = command(out.path(), &["--server", &server, "--via", way, "list"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        let told = BufReader::new(child.stderr.take().expect("piped"));
        let hint = told
            .lines()
            .map(|line| line.expect("text"))
            .find(|line| line.starts_with("silence"))
            .expect("while it still waits");
        assert!(
            hint.contains("--port, --server ADDRESS:PORT name another"),
            "{hint}"
        );
        assert_eq!(child.try_wait().expect("a child"), None, "it goes on");
        signal(child.id(), "TERM");
        child.wait().expect("it ends");
    }
}

#[test]
fn an_interrupted_verb_still_prints_its_object() {
    let out = folder();
    for (verb, last) in [
        (&["list"][..], "error"),
        (&["echo", "-n", "2"], "error"),
        (&["stat"], "error"),
        (&["get", "1MB.zip"], "summary"),
    ] {
        let silent = UdpSocket::bind((loopback(), 49152)).expect("a socket");
        let server = silent.local_addr().expect("one").to_string();
        let child = command(
            out.path(),
            &[&["--json", "--server", &server], verb].concat(),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("labnet starts");
        // It has asked.
        silent.set_read_timeout(Some(PATIENCE)).expect("set");
        silent.recv_from(&mut [0; 2000]).expect("a signal");
        signal(child.id(), "TERM");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        let objects = json(&output);
        let object = objects.last().expect("an object");
        assert_eq!(object["type"], last, "{verb:?}");
        assert!(
            object["error"] == "interrupted" || object["complete"] == false,
            "{verb:?}"
        );
    }
}

#[test]
fn a_verb_that_fails_prints_an_object_too() {
    let out = folder();
    let server = Addresses(loopback()).at(49152).to_string();
    for verb in [&["list"][..], &["get", "1MB.zip"]] {
        let output = client(
            out.path(),
            &[&["--json", "--server", &server], verb].concat(),
        );
        let objects = json(&output);
        let error = objects[0]["error"].as_str().expect("an error");
        assert!(error.contains("nothing listens there"), "{error}");
    }
}

/// Megabytes a second that lines of progress tell.
fn rates(text: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.starts_with("going"));
    let rate = |line: &str| -> Option<f64> {
        let (before, _) = line.split_once(" MB/s")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    lines.filter_map(rate).collect()
}

#[test]
fn a_resumed_download_tells_the_rate_of_what_comes_now() {
    // 2 MB/s.
    let (_lab, addresses) = lab_with("[link]\nrate = \"16mbit\"\n");
    let out = folder();
    let server = addresses.at(49152).to_string();
    let arguments = ["--server", &server, "--via", "rudp", "get", "12MB.zip"];
    let mut child = command(out.path(), &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("labnet starts");
    let part = out.path().join("12MB.zip.part");
    wait_for("a third of it", || {
        let length = part.metadata().map_or(0, |part| part.len());
        (length >= 4_000_000).then_some(())
    });
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let began = Instant::now();
    let resumed = client(out.path(), &arguments);
    let took = began.elapsed();
    let said = stderr(&resumed);
    assert!(resumed.status.success(), "{said}");
    assert!(said.contains(" of it earlier)"), "{said}");
    let rates = rates(&said);
    // One about every two seconds, though nothing here is a terminal.
    assert!(
        !rates.is_empty() && rates.len() as u64 <= 1 + took.as_secs() / 2,
        "{said}"
    );
    for rate in rates {
        assert!(rate <= 2.6, "{rate} MB/s on a link of 2: {said}");
    }
}

#[test]
fn what_the_readme_says_of_lost_signals_can_be_watched() {
    let (_lab, addresses) = lab_with("");
    let out = folder();
    let readme = include_str!("../../README.md");
    let line = readme
        .lines()
        .find(|line| line.starts_with("labnet client") && line.contains("watch SIGNLOST"))
        .expect("the README has it");
    let (arguments, _) = line["labnet client".len()..]
        .split_once('#')
        .expect("a comment");
    let dhcp = addresses.at(6767).to_string();
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let echo = client(out.path(), &[&["--dhcp", &dhcp][..], &arguments].concat());
    assert!(echo.status.success(), "{}", stderr(&echo));
    assert!(
        stderr(&echo).contains("SIGNLOST  the proxy misses signal"),
        "{}",
        stderr(&echo)
    );
}

#[test]
fn what_tcp_sent_by_is_told() {
    let (_lab, addresses) = lab_with("");
    let out = folder();
    let dhcp = addresses.at(6767).to_string();
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control");
    let allowed = allowed.expect("Linux");
    for (wish, kernel) in [("new_reno", "reno"), ("cubic", "cubic")] {
        if !allowed.split_whitespace().any(|name| name == kernel) {
            continue;
        }
        let arguments = [
            "--dhcp",
            &dhcp,
            "--json",
            "--force",
            "--congestion",
            wish,
            "get",
            "1MB.zip",
        ];
        let output = client(out.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(json(&output)[0]["congestion"], kernel);
        assert!(
            stderr(&output).contains(&format!("TCP sent by {kernel}")),
            "{}",
            stderr(&output)
        );
    }
}
