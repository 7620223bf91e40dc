//! `labnet client --via rudp`, against a running lab.

mod hostile;

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Lab, loopback, probe::Addresses, request, wait_for};

/// With what `[rudp]` says besides.
fn lab_with(rudp: &str) -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"20MB.zip\", \"image-site.png\", \"task2.pdf\"]\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let config = config.replace("[scrap]", &format!("{rudp}\n[scrap]"));
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

fn lab() -> (Lab, Addresses) {
    lab_with("")
}

/// Without DHCP and DNS.
fn command(server: SocketAddr, out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command.arg("client");
    if !arguments.contains(&"--via") {
        command.args(["--via", "rudp"]);
    }
    command
        .args(["--server", &server.to_string()])
        .args(["--out", out.to_str().expect("UTF-8")])
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", out)
        .env_remove("RUST_LOG")
        .env_remove("LABNET_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn client(server: SocketAddr, out: &Path, arguments: &[&str]) -> Output {
    let command = &mut command(server, out, arguments);
    command.output().expect("labnet starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[track_caller]
fn good(output: &Output) -> String {
    let (said, told) = (stdout(output), stderr(output));
    assert!(output.status.success(), "{:?}\n{said}{told}", output.status);
    said
}

/// What a client that fails says of it.
#[track_caller]
fn bad(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    stderr(output)
}

fn json(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[track_caller]
fn summary(text: &str) -> Value {
    let last = json(text).pop().expect("a line");
    assert_eq!(last["type"], "summary", "{last}");
    last
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// One client after another over each family, the proxy with several sockets on the address.
#[test]
fn every_verb_is_served_over_both_families_and_several_sockets() {
    let (addresses, out) = (Addresses(loopback()), folder());
    let (ip, free) = (addresses.0, "[::1]:0");
    let six = std::net::UdpSocket::bind(free).and_then(|socket| socket.local_addr());
    let six = six.expect("an IPv6 loopback");
    let lab = Lab::start(&format!(
        "[rudp]\nlisten = [\"{ip}:49152\", \"{six}\"]\nshards = 2\n\
         [scrap]\nlisten = \"{ip}:49153\"\n\
         [origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"task2.pdf\"]\n"
    ));
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    // The port decides which of the sockets has a client.
    for server in [six, addresses.at(49152)].into_iter().cycle().take(8) {
        let list = good(&client(server, out.path(), &["list"]));
        assert!(
            list.contains("1MB.zip") && list.contains("task2.pdf"),
            "{list}"
        );
        for via in ["rudp", "http"] {
            let got = client(
                server,
                out.path(),
                &["--via", via, "--json", "get", "--discard", "1MB.zip"],
            );
            assert_eq!(summary(&good(&got))["complete"], true);
        }
        good(&client(server, out.path(), &["echo"]));
        good(&client(server, out.path(), &["stat"]));
    }
    let dropped = lab.metric("labnet_rudp_lost_total{reason=\"send\"}");
    assert_eq!(dropped, 0.0);
}

/// Whether the file here is the origin's, asked for over HTTP.
#[track_caller]
fn is_the_origins(addresses: &Addresses, out: &Path, name: &str) {
    let here = Sha256::digest(fs::read(out.join(name)).expect(name));
    let there = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--server", &addresses.at(49152).to_string()])
        .args(["--out", there.path().to_str().expect("UTF-8"), "get", name])
        .output()
        .expect("labnet starts");
    good(&output);
    let there = Sha256::digest(fs::read(there.path().join(name)).expect(name));
    assert_eq!(here, there, "{name}");
    assert!(!out.join(format!("{name}.part")).exists());
    assert!(!out.join(format!("{name}.part.json")).exists());
}

/// Waits until so much of a file is on the disk.
fn wait_for_part(out: &Path, name: &str, bytes: u64) {
    let part = out.join(format!("{name}.part"));
    wait_for("a part of the file", || {
        let length = fs::metadata(&part).map_or(0, |metadata| metadata.len());
        (length >= bytes).then_some(())
    });
}

#[test]
fn the_whole_walk_goes_over_the_transport_from_the_leased_address() {
    let (lab, addresses) = lab();
    let out = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--dhcp", &addresses.at(6767).to_string()])
        .args(["--out", out.path().to_str().expect("UTF-8")])
        .args(["--via", "rudp", "--congestion", "bbr", "get", "--all"])
        .env("NO_COLOR", "1")
        .output()
        .expect("labnet starts");
    let said = good(&output);
    let names = ["1MB.zip", "20MB.zip", "image-site.png", "task2.pdf"];
    for (line, name) in said.lines().zip(names) {
        let path = out.path().join(name);
        assert!(line.ends_with(&format!("  {}", path.display())), "{line}");
        is_the_origins(&addresses, out.path(), name);
    }
    let told = stderr(&output);
    for part in [
        "address   127.20.30.41",
        "session   from 127.20.30.41:",
        "checksum, bbr wished",
        "file      20MB.zip: 20 MB in ",
        ", SHA-256 verified",
        "packets from the proxy, ",
        "bbr, checksum\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("failed"), "{told}");
    assert_eq!(lab.json("/api/v1/leases")[0]["state"], "released");
}

#[test]
fn questions_are_answered_and_printed_as_ever() {
    let (_lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    let ask = |arguments: &[&str]| good(&client(server, out.path(), arguments));
    assert_eq!(
        ask(&["list"]),
        "1MB.zip\n20MB.zip\nimage-site.png\ntask2.pdf\n"
    );
    assert_eq!(json(&ask(&["list", "--json"]))[2]["name"], "image-site.png");
    let echoes = json(&ask(&["--json", "echo", "-n", "100"]));
    assert_eq!(echoes.len(), 100);
    assert_eq!(echoes[99]["id"], 100);
    assert!(
        echoes
            .iter()
            .all(|echo| echo["rtt_ms"].as_f64() > Some(0.0))
    );
    assert!(ask(&["echo"]).starts_with("1  back after "));
    let stat = &json(&ask(&["--json", "--congestion", "vegas", "stat"]))[0];
    assert_eq!(
        (&stat["type"], &stat["congestion"]),
        (&"stat".into(), &"vegas".into())
    );
    assert!(stat["packets_sent"].as_u64() > Some(0), "{stat}");
    assert!(stat["client"]["packets_received"].as_u64() > Some(0));
    let said = ask(&["stat"]);
    assert!(said.contains("packets_lost               0\n"), "{said}");
    assert!(said.contains("here: "), "{said}");
}

#[test]
fn a_script_can_use_the_prompt() {
    let (_lab, addresses) = lab();
    let out = folder();
    let mut child = command(addresses.at(49152), out.path(), &[])
        .stdin(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let lines = "SIGNECHO 2\nlist\nstat\nget 1 task2.pdf\nSIGNEW\necho\n";
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(lines.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = good(&output);
    for part in [
        "2  back after",
        "   2  20MB.zip\n",
        "congestion                 cubic",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(stderr(&output).matches("session   from").count(), 2);
    is_the_origins(&addresses, out.path(), "1MB.zip");
    is_the_origins(&addresses, out.path(), "task2.pdf");
}

#[test]
fn the_json_ends_with_what_a_student_plots() {
    let (_lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    let get = ["--json", "--congestion", "new_reno", "get"];
    let fresh = good(&client(
        server,
        out.path(),
        &[&get[..], &["20MB.zip"]].concat(),
    ));
    let file = &json(&fresh)[0];
    assert_eq!(
        (&file["type"], &file["verified"]),
        (&"download".into(), &true.into())
    );
    let end = summary(&fresh);
    assert_eq!(end["bytes"], 20_000_000);
    assert_eq!(
        (
            &end["complete"],
            &end["via"],
            &end["congestion"],
            &end["protection"]
        ),
        (
            &true.into(),
            &"rudp".into(),
            &"new_reno".into(),
            &"checksum".into()
        )
    );
    let (seconds, goodput) = (end["seconds"].as_f64(), end["goodput_mbps"].as_f64());
    let (seconds, goodput) = (seconds.expect("known"), goodput.expect("known"));
    assert!((goodput * seconds - 160.0).abs() < 0.1, "{end}");
    // What the data needs, and little more.
    let sent = end["packets_sent"].as_u64().expect("known");
    assert!((13_700..20_000).contains(&sent), "{sent}");
    for key in [
        "packets_lost",
        "packets_retransmitted",
        "rtt_ms",
        "min_rtt_ms",
    ] {
        assert!(end[key].is_number(), "{key}: {end}");
    }
    // It is there already.
    let again = good(&client(
        server,
        out.path(),
        &[&get[..], &["20MB.zip"]].concat(),
    ));
    let end = summary(&again);
    assert_eq!(
        (&end["received"], &end["complete"]),
        (&0.into(), &true.into())
    );
    // Nothing is kept.
    let elsewhere = folder();
    let discard = [&get[..], &["--discard", "20MB.zip"]].concat();
    let discarded = good(&client(server, elsewhere.path(), &discard));
    assert_eq!(json(&discarded)[0]["path"], "/dev/null");
    assert_eq!(json(&discarded)[0]["sha256"], file["sha256"]);
    assert_eq!(summary(&discarded)["bytes"], 20_000_000);
    assert_eq!(fs::read_dir(elsewhere.path()).expect("there").count(), 0);
    // One that there isn't.
    let wrong = client(
        server,
        out.path(),
        &[&get[..], &["no.zip", "task2.pdf"]].concat(),
    );
    assert!(bad(&wrong).contains("the proxy knows no file no.zip"));
    let end = summary(&stdout(&wrong));
    assert_eq!(
        (&end["files"], &end["complete"]),
        (&2.into(), &false.into())
    );
    is_the_origins(&addresses, out.path(), "task2.pdf");
}

#[test]
fn a_bad_link_changes_the_time_and_not_a_byte() {
    let (_lab, addresses) = lab();
    let out = folder();
    let link = [
        "--delay",
        "5ms",
        "--jitter",
        "2ms",
        "--loss",
        "2",
        "--reorder",
        "2",
        "--duplicate",
        "2",
        "--corrupt",
        "1",
        "--seed",
        "5",
    ];
    let arguments = [
        &link[..],
        &["--congestion", "bbr", "--json", "get", "--all"],
    ]
    .concat();
    let said = good(&client(addresses.at(49152), out.path(), &arguments));
    let end = summary(&said);
    assert_eq!(end["complete"], true);
    assert!(end["packets_lost"].as_u64() > Some(100), "{end}");
    assert!(end["client"]["corrupted"].as_u64() > Some(0), "{end}");
    assert!(end["client"]["duplicates"].as_u64() > Some(0), "{end}");
    assert!(end["min_rtt_ms"].as_f64() >= Some(6.0), "{end}");
    for name in ["1MB.zip", "20MB.zip", "image-site.png", "task2.pdf"] {
        is_the_origins(&addresses, out.path(), name);
    }
}

/// Slow enough to be caught in the middle.
const SLOW: [&str; 4] = ["--down", "rate=40mbit", "--json", "get"];

#[test]
fn a_client_killed_in_the_middle_goes_on_where_it_was() {
    let (_lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    let arguments = [&SLOW[..], &["20MB.zip", "1MB.zip"]].concat();
    let mut child: Child = command(server, out.path(), &arguments)
        .spawn()
        .expect("labnet starts");
    wait_for_part(out.path(), "20MB.zip", 4_000_000);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let said = good(&client(server, out.path(), &arguments));
    let received = json(&said)[0]["received"].as_u64().expect("known");
    assert!((1..=16_000_000).contains(&received), "{received}");
    assert_eq!(summary(&said)["bytes"], 21_000_000);
    is_the_origins(&addresses, out.path(), "20MB.zip");
    is_the_origins(&addresses, out.path(), "1MB.zip");
}

#[test]
fn a_proxy_killed_in_the_middle_is_found_again() {
    let (mut lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    let arguments = [&SLOW[..], &["20MB.zip"]].concat();
    let child = command(server, out.path(), &arguments)
        .spawn()
        .expect("labnet starts");
    wait_for_part(out.path(), "20MB.zip", 4_000_000);
    lab.kill_and_restart();
    let output = child.wait_with_output().expect("it ends");
    let said = good(&output);
    let told = stderr(&output);
    assert!(
        told.contains("the peer has lost the connection; again in"),
        "{told}"
    );
    assert_eq!(json(&said)[0]["received"], 20_000_000, "no byte came twice");
    assert_eq!(summary(&said)["connections"], 2);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    is_the_origins(&addresses, out.path(), "20MB.zip");
}

#[test]
fn a_session_that_crashes_in_the_middle_is_opened_anew() {
    let (lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    let arguments = [&SLOW[..], &["20MB.zip"]].concat();
    let child = command(server, out.path(), &arguments)
        .spawn()
        .expect("labnet starts");
    wait_for_part(out.path(), "20MB.zip", 4_000_000);
    let sessions = lab.json("/api/v1/sessions");
    let session = sessions[0]["client"].as_str().expect("one");
    let crash = format!("/api/v1/sessions/{session}/crash");
    assert_eq!(request(lab.http, "POST", &crash).0, 202);
    let said = good(&child.wait_with_output().expect("it ends"));
    assert_eq!(summary(&said)["connections"], 2);
    is_the_origins(&addresses, out.path(), "20MB.zip");
    assert_eq!(
        lab.metric("labnet_rudp_sessions_ended_total{reason=\"crash\"}"),
        1.0
    );
}

#[test]
fn only_who_knows_the_secret_is_answered() {
    const SECRET: &str = "correct horse battery staple";
    let (_lab, addresses) = lab_with(&format!("protection = \"psk\"\nsecret = \"{SECRET}\"\n"));
    let (server, out) = (addresses.at(49152), folder());
    let file = out.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).expect("written");
    let file = file.to_str().expect("UTF-8");
    for secret in [["--secret", SECRET], ["--secret-file", file]] {
        let arguments = [&secret[..], &["--json", "get", "1MB.zip", "--force"]].concat();
        let said = good(&client(server, out.path(), &arguments));
        assert_eq!(summary(&said)["protection"], "psk");
    }
    let mut by_environment = command(server, out.path(), &["--protection", "psk", "list"]);
    let output = by_environment.env("LABNET_SECRET", SECRET).output();
    good(&output.expect("labnet starts"));
    is_the_origins(&addresses, out.path(), "1MB.zip");
    let began = Instant::now();
    let wrong = ["--secret", "incorrect horse battery"];
    for arguments in [&wrong[..], &["--protection", "checksum"]] {
        let arguments = [arguments, &["list"]].concat();
        let said = bad(&client(server, out.path(), &arguments));
        for part in [
            "no answer within 30 s",
            "secret",
            "another program may have that port",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_get_that_is_told_to_stop_prints_its_objects() {
    let (_lab, addresses) = lab();
    let (server, out) = (addresses.at(49152), folder());
    for via in ["rudp", "http"] {
        // A minute's work; over HTTP an origin that never ends stands in for a slow one.
        let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let page = format!("http://{}", silent.local_addr().expect("bound"));
        let arguments: &[&str] = match via {
            "rudp" => &["--rate", "2mbit", "get", "20MB.zip", "task2.pdf"],
            _ => &["--origin", &page, "get", "nowhere.bin", "nothing.bin"],
        };
        let arguments = [&["--json", "--via", via], arguments].concat();
        let mut child = command(server, out.path(), &arguments)
            .spawn()
            .expect("labnet starts");
        match via {
            "rudp" => wait_for("the part", || {
                let part = out.path().join("20MB.zip.part").metadata().ok()?;
                (part.len() > 0).then_some(())
            }),
            _ => drop(silent.accept().map(std::mem::forget)),
        }
        let began = Instant::now();
        crate::support::signal(child.id(), "TERM");
        let status = wait_for("the end", || child.try_wait().expect("a child"));
        assert!(began.elapsed() < Duration::from_secs(15));
        assert_eq!(status.code(), Some(1));
        let output = child.wait_with_output().expect("ended");
        let told = json(&stdout(&output));
        let [first, _, last] = &told[..] else {
            panic!("{told:?}{}", stderr(&output));
        };
        let error = first["error"].as_str().expect("what became of it");
        assert!(error.starts_with("interrupted"), "{first}");
        let kept = via == "rudp";
        assert_eq!(error.contains("20MB.zip.part"), kept, "{first}");
        assert_eq!(
            (&last["type"], &last["via"]),
            (&"summary".into(), &via.into())
        );
        let counts = (&last["files"], &last["complete"]);
        assert_eq!(counts, (&2.into(), &false.into()), "{last}");
    }
}

#[test]
fn wrong_use_exits_with_2() {
    let (nowhere, out) = (Addresses(loopback()).at(49152), folder());
    for (arguments, part) in [
        (&["--protection", "psk", "list"][..], "needs --secret-file"),
        (&["--secret", "short", "list"], "16 characters"),
        (&["--secret-file", "/nowhere", "list"], "/nowhere: "),
        (
            &[
                "--secret",
                "0123456789abcdef",
                "--protection",
                "checksum",
                "list",
            ],
            "of no use",
        ),
        (
            &["--congestion", "reno", "list"],
            "[possible values: new_reno",
        ),
        (&["--max-datagram", "100", "list"], "100"),
        (
            &["--via", "http", "--max-datagram", "1300", "list"],
            "with --via rudp only",
        ),
    ] {
        let mut command = command(nowhere, out.path(), arguments);
        if arguments[0] == "--via" {
            command = Command::new(env!("CARGO_BIN_EXE_labnet"));
            command.arg("client").args(arguments);
        }
        let output = command.output().expect("labnet starts");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_disk_has_its_own_errors() {
    let (_lab, addresses) = lab();
    let server = addresses.at(49152);
    let out = folder();
    let blocked = out.path().join("blocked");
    fs::write(&blocked, "").expect("written");
    let said = bad(&client(server, &blocked, &["get", "task2.pdf"]));
    assert!(said.contains("blocked"), "{said}");
    // As on a full disk: whatever is written to this is refused.
    let part = out.path().join("task2.pdf.part");
    std::os::unix::fs::symlink("/dev/full", &part).expect("linked");
    let said = bad(&client(
        server,
        out.path(),
        &["get", "task2.pdf", "1MB.zip"],
    ));
    assert!(said.contains("task2.pdf"), "{said}");
    is_the_origins(&addresses, out.path(), "1MB.zip");
    let closed = out.path().join("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("set");
    let output = client(server, &closed, &["get", "task2.pdf"]);
    // Root may write anywhere.
    if !output.status.success() {
        assert!(stderr(&output).contains("Permission denied"));
    }
}
