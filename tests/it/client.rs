//! `labnet client` against a running lab, as a person or a script uses it.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Lab, loopback, probe::Addresses, signal, wait_for};

fn lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"image-site.png\", \"task2.pdf\"]\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

fn command(addresses: &Addresses, out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command
        .args(["client", "--dhcp", &addresses.at(6767).to_string()])
        .args(["--out", out.to_str().expect("UTF-8")])
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", out)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn client(addresses: &Addresses, out: &Path, arguments: &[&str]) -> Output {
    command(addresses, out, arguments)
        .output()
        .expect("labnet starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{:?}\n{}{}",
        output.status,
        stdout(output),
        stderr(output)
    );
    stdout(output)
}

fn json(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_verbs_print_data_on_stdout_and_the_walk_on_stderr() {
    let (lab, addresses) = lab();
    let out = folder();
    let list = client(&addresses, out.path(), &["list"]);
    assert_eq!(good(&list), "1MB.zip\nimage-site.png\ntask2.pdf\n");
    let walk = stderr(&list);
    assert!(walk.contains("address   127.20.30.41 for 1 day"), "{walk}");
    assert!(
        walk.contains(&format!("example.com is at {}", addresses.0)),
        "{walk}"
    );
    assert!(walk.contains("session   from 127.20.30.41:"), "{walk}");

    let listed = json(&good(&client(&addresses, out.path(), &["list", "--json"])));
    assert_eq!(listed[1]["name"], "image-site.png");
    assert_eq!(listed[1]["number"], 2);

    let echoes = json(&good(&client(
        &addresses,
        out.path(),
        &["--json", "echo", "-n", "3"],
    )));
    let ids: Vec<_> = echoes.iter().map(|echo| echo["id"].as_u64()).collect();
    assert_eq!(ids, [Some(290), Some(291), Some(292)]);
    assert!(echoes[0]["rtt_ms"].as_f64() > Some(0.0));

    let stat = json(&good(&client(
        &addresses,
        out.path(),
        &["stat", "--json", "--name", "Ada"],
    )));
    assert_eq!(
        stat[0]["id"], 263,
        "A is 65, d 100, a 97: the first signal is 263"
    );
    assert_eq!(
        (&stat[0]["packets_sent"], &stat[0]["packets_lost"]),
        (&1.into(), &0.into())
    );

    let got = good(&client(&addresses, out.path(), &["get", "2", "task2.pdf"]));
    for (line, name) in got.lines().zip(["image-site.png", "task2.pdf"]) {
        let path = out.path().join(name);
        let digest = Sha256::digest(fs::read(&path).expect("it is there"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line, format!("{hex}  {}", path.display()));
    }
    let again = client(&addresses, out.path(), &["get", "--all", "--json"]);
    let mut files = json(&good(&again));
    let summary = files.pop().expect("all together");
    assert_eq!(
        (&summary["type"], &summary["via"], &summary["complete"]),
        (&"summary".into(), &"http".into(), &true.into())
    );
    assert_eq!(summary["received"], 1_000_000);
    let received: Vec<_> = files.iter().map(|file| file["received"].as_u64()).collect();
    assert_eq!(
        received,
        [Some(1_000_000), Some(0), Some(0)],
        "two were there"
    );
    assert!(files.iter().all(|file| file["verified"] == true));

    // Every client ended its session and gave its address back.
    let sessions = lab.json("/api/v1/sessions");
    assert_eq!(sessions, Value::Array(Vec::new()));
    let leases = lab.json("/api/v1/leases");
    let leases = leases.as_array().expect("a list");
    assert!(
        !leases.is_empty() && leases.iter().all(|lease| lease["state"] == "released"),
        "{leases:?}"
    );
}

#[test]
fn loss_is_survived_and_told() {
    let (_lab, addresses) = lab();
    let out = folder();
    let lossy = client(
        &addresses,
        out.path(),
        &["echo", "-n", "40", "--loss", "30", "--seed", "3"],
    );
    assert!(good(&lossy).lines().count() >= 40);
    let told = stderr(&lossy);
    for word in [
        "lost      signal",
        "SIGNLOST  the proxy misses signal",
        "resent    signal",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // What is lost depends on the seed alone.
    let lost = |output: &Output| -> Vec<String> {
        let text = stderr(output);
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("lost "))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let again = client(
        &addresses,
        out.path(),
        &["echo", "-n", "40", "--loss", "30", "--seed", "3"],
    );
    assert_eq!(lost(&lossy), lost(&again));
}

#[test]
fn a_script_can_use_the_prompt() {
    let (_lab, addresses) = lab();
    let out = folder();
    let mut child = command(&addresses, out.path(), &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let lines = "help\nSIGNECHO 2\nstat\nget\nget 3 image-site.png\nloss 0\nSIGNEW\nSIGNSTAT\n";
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(lines.as_bytes())
        .expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = good(&output);
    for part in [
        "SIGNEW     say hello",
        "290  back after",
        "292  the proxy received 3 signals, missed 0",
        "   1  1MB.zip\n",
        "   3  task2.pdf\n",
        "choose with `get 1 3`",
        "290  the proxy received 1 signal, missed 0",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(out.path().join("task2.pdf").exists() && out.path().join("image-site.png").exists());
    // A wrong line is an error of the script, but not its end.
    let mut child = command(&addresses, out.path(), &["--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let lines = "dance\nget nothing.zip\nSIGNECHO\nSIGNEND\n";
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(lines.as_bytes())
        .expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("\"dance\" is no command"),
        "{}",
        stderr(&output)
    );
    let lines = json(&stdout(&output));
    assert!(
        lines[0]["error"]
            .as_str()
            .expect("one")
            .contains("knows no file nothing.zip")
    );
    assert_eq!(lines[1]["complete"], false);
    assert_eq!(lines[2]["type"], "echo");
}

#[test]
fn an_interrupted_client_says_goodbye() {
    let (lab, addresses) = lab();
    let out = folder();
    let mut child = command(&addresses, out.path(), &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("labnet starts");
    let open = || {
        lab.json("/api/v1/sessions")
            .as_array()
            .expect("a list")
            .len()
    };
    wait_for("the session", || (open() == 1).then_some(()));
    signal(child.id(), "TERM");
    let status = wait_for("the client to end", || child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(1));
    wait_for("the session to end", || (open() == 0).then_some(()));
    let ended = "labnet_rudp_sessions_ended_total{reason=\"end\"}";
    assert_eq!(lab.metric(ended), 1.0);
    assert_eq!(lab.json("/api/v1/leases")[0]["state"], "released");
}

#[test]
fn nobody_there_is_said_within_seconds() {
    let nowhere = Addresses(loopback());
    let out = folder();
    let output = client(&nowhere, out.path(), &["list"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = format!(
        "labnet: no address from the DHCP server at {}: nothing listens there (connection refused); is `labnet serve` running",
        nowhere.at(6767)
    );
    assert!(said.contains(&expected), "{said}");
    let direct = client(
        &nowhere,
        out.path(),
        &["--server", &nowhere.at(49152).to_string(), "stat"],
    );
    assert_eq!(direct.status.code(), Some(1));
    assert!(
        stderr(&direct).contains("nothing listens there"),
        "{}",
        stderr(&direct)
    );
}

#[test]
fn wrong_use_exits_with_2() {
    let nowhere = Addresses(loopback());
    let out = folder();
    for arguments in [
        &["get"][..],
        &["get", "--all", "1"],
        &["dance"],
        &["--loss", "95"],
        &["--host", "a..b", "list"],
        &["--mac", "02:00", "list"],
        &["--origin", "ftp://h/", "list"],
        &["--server", "here", "list"],
        &["echo", "-n", "0"],
    ] {
        let output = client(&nowhere, out.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

/// A proxy of the first labnet's kind: no ids in ACKEND and SIGNFULL, and SIGNGET is always the
/// list; or, if it is `strict`, only with the one word that it knows.
fn original(socket: &UdpSocket, done: &AtomicBool, strict: bool) {
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("set");
    let mut buffer = [0; 2000];
    let mut refused = false;
    while !done.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (signal, rest) = text.split_once(':').expect("a signal");
        let id = rest.split(';').next().expect("an id");
        let answer = match signal {
            "SIGNEW" => "SIGNACK".to_owned(),
            "SIGNECHO" if !refused => {
                refused = true;
                "SIGNFULL".to_owned()
            }
            "SIGNECHO" => format!("ECHOREPLY:{rest}"),
            "SIGNSTAT" => {
                format!(
                    "STATREPLY:{id};Packets sent: 1\nPackets lost: 0\nConnected time: 0.10 seconds"
                )
            }
            "SIGNGET" if strict && !rest.ends_with(";SIGNGET") => continue,
            "SIGNGET" => format!("ACKGET:{id};1MB.zip;task2.pdf;"),
            "SIGNEND" => "ACKEND".to_owned(),
            other => panic!("{other}"),
        };
        socket.send_to(answer.as_bytes(), peer).expect("sent");
    }
}

#[test]
fn a_proxy_of_the_original_kind_is_enough() {
    let (_lab, addresses) = lab();
    let out = folder();
    let socket = UdpSocket::bind((loopback(), 49152)).expect("a socket");
    let server: SocketAddr = socket.local_addr().expect("one");
    let done = Arc::new(AtomicBool::new(false));
    let proxy = thread::spawn({
        let done = Arc::clone(&done);
        move || original(&socket, &done, false)
    });
    let server = server.to_string();
    let echo = client(
        &addresses,
        out.path(),
        &["--server", &server, "echo", "-n", "2"],
    );
    assert!(good(&echo).starts_with("290  back"), "{}", stdout(&echo));
    assert!(stderr(&echo).contains("SIGNFULL"), "{}", stderr(&echo));
    let list = client(&addresses, out.path(), &["--server", &server, "list"]);
    assert_eq!(good(&list), "1MB.zip\ntask2.pdf\n");
    let origin = format!("http://{}", addresses.at(8080));
    let get = client(
        &addresses,
        out.path(),
        &["--server", &server, "--origin", &origin, "get", "--all"],
    );
    assert_eq!(good(&get).lines().count(), 2);
    let lost = client(
        &addresses,
        out.path(),
        &["--server", &server, "get", "--all"],
    );
    assert_eq!(lost.status.code(), Some(1));
    let said = "the proxy has 1MB.zip on its list but gives no URL for it";
    assert!(stderr(&lost).contains(said), "{}", stderr(&lost));
    assert!(stderr(&lost).contains("--origin URL"), "{}", stderr(&lost));
    done.store(true, Ordering::Relaxed);
    proxy.join().expect("it did well");
}

#[test]
fn where_no_redirect_comes_the_list_and_the_named_page_serve() {
    let (_lab, addresses) = lab();
    let out = folder();
    let socket = UdpSocket::bind((loopback(), 49152)).expect("a socket");
    let server = socket.local_addr().expect("one").to_string();
    let done = Arc::new(AtomicBool::new(false));
    let proxy = thread::spawn({
        let done = Arc::clone(&done);
        move || original(&socket, &done, true)
    });
    let origin = format!("http://{}", addresses.at(8080));
    let get = client(
        &addresses,
        out.path(),
        &["--server", &server, "--origin", &origin, "get", "--all"],
    );
    assert_eq!(good(&get).lines().count(), 2);
    done.store(true, Ordering::Relaxed);
    proxy.join().expect("it did well");
}

#[test]
fn a_person_who_thinks_for_long_is_not_forgotten() {
    let nowhere = Addresses(loopback());
    let out = folder();
    let proxy = UdpSocket::bind((loopback(), 49152)).expect("a socket");
    proxy
        .set_read_timeout(Some(crate::support::PATIENCE))
        .expect("set");
    let server = proxy.local_addr().expect("one").to_string();
    let mut child = command(&nowhere, out.path(), &["--server", &server])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("labnet starts");
    let hear = |expected: &str, answer: &str| {
        let mut buffer = [0; 2000];
        let (length, peer) = proxy.recv_from(&mut buffer).expect("a signal");
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
        proxy.send_to(answer.as_bytes(), peer).expect("sent");
    };
    hear("SIGNEW:Tal", "SIGNACK");
    hear("SIGNECHO:290;keep-alive", "ECHOREPLY:290;keep-alive");
    drop(child.stdin.take());
    hear("SIGNEND:291;SIGNEND", "ACKEND:291");
    let status = wait_for("the end", || child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(0));
}
