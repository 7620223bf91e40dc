//! `labnet demo`, as a newcomer runs it: the built program, real sockets, no root.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{labnet, request, signal, wait_for};

fn demo(arguments: &[&str]) -> Output {
    labnet(&[&["demo"], arguments].concat())
}

/// Every line of `demo --json`, after it ended well.
fn told(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}\n{complaints}\n{text}",
        output.status
    );
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn of_type<'a>(lines: &'a [Value], wanted: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == wanted).collect()
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().expect(field)
}

#[track_caller]
fn five_files_verified(lines: &[Value]) {
    let files = of_type(lines, "file");
    let names: Vec<&str> = files.iter().map(|file| text(file, "name")).collect();
    assert_eq!(
        names,
        [
            "1MB.zip",
            "5MB.zip",
            "20MB.zip",
            "image-site.png",
            "task2.pdf"
        ]
    );
    for file in files {
        assert_eq!(file["verified"], true, "{file}");
        assert_eq!(file["sha256"], file["origin_sha256"]);
    }
    let totals = of_type(lines, "totals");
    assert_eq!(totals.len(), 1);
    assert_eq!(totals[0]["verified"], 5);
    assert_eq!(totals[0]["interrupted"], false);
    assert_eq!(totals[0]["packets"], of_type(lines, "packet").len());
}

#[test]
fn the_whole_story_is_told_in_order_and_from_the_leased_address() {
    let lines = told(&demo(&["--json"]));
    five_files_verified(&lines);
    let packets = of_type(&lines, "packet");
    for (n, packet) in packets.iter().enumerate() {
        assert_eq!(packet["number"], n + 1);
        assert!(!text(packet, "meaning").is_empty(), "{packet}");
        let _: SocketAddr = text(packet, "source").parse().expect("an address");
        let _: SocketAddr = text(packet, "destination").parse().expect("an address");
    }
    // The steps of the story, each after the one before it.
    let mut rest = packets.iter();
    for (role, protocol, meaning) in [
        ("scrap", "HTTP", "GET /"),
        ("client", "DHCP", "discover"),
        ("dhcp", "DHCP", "offer"),
        ("client", "DHCP", "request"),
        ("dhcp", "DHCP", "ack"),
        ("client", "DNS", "query"),
        ("dns", "DNS", "answer: example.com is at 127.0.0.10"),
        ("client", "RUDP", "SIGNEW"),
        ("rudp", "RUDP", "SIGNACK"),
        ("client", "RUDP", "SIGNECHO"),
        ("rudp", "RUDP", "ECHOREPLY"),
        ("client", "RUDP", "SIGNSTAT"),
        ("rudp", "RUDP", "STATREPLY"),
        ("client", "RUDP", "SIGNGET"),
        ("rudp", "TCP", ""),
        ("scrap", "TCP", "list"),
        ("rudp", "RUDP", "ACKGET"),
        ("client", "HTTP", "GET: please send 1MB.zip"),
        ("origin", "HTTP", "200 OK"),
        ("client", "RUDP", "SIGNEND"),
        ("rudp", "RUDP", "ACKEND"),
        ("client", "DHCP", "release"),
    ] {
        let found = rest.any(|packet| {
            packet["role"] == role
                && packet["protocol"] == protocol
                && text(packet, "meaning").starts_with(meaning)
        });
        assert!(found, "no {role} {protocol} {meaning:?} where it belongs");
    }
    let from_the_lease = packets
        .iter()
        .filter(|packet| packet["role"] == "client" && packet["protocol"] != "DHCP");
    for packet in from_the_lease {
        assert!(
            text(packet, "source").starts_with("127.20.30.41:"),
            "{packet}"
        );
    }
}

#[test]
fn a_body_is_told_as_a_transfer_and_no_piece_of_it_as_a_packet() {
    let lines = told(&demo(&["--json"]));
    let transfers: Vec<(&str, u64)> = of_type(&lines, "transfer")
        .into_iter()
        .map(|line| (text(line, "name"), line["bytes"].as_u64().expect("bytes")))
        .collect();
    assert_eq!(transfers.len(), 5, "{transfers:?}");
    assert!(
        transfers.contains(&("20MB.zip", 20_000_000)),
        "{transfers:?}"
    );
    for packet in of_type(&lines, "packet") {
        assert!(packet["bytes"].as_u64() < Some(100_000), "{packet}");
    }
}

#[test]
fn nothing_is_silent_for_long_while_files_come_over_a_slow_link() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["demo", "--via", "rudp", "--rate", "20mbit"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let folded = lines
        .map(|line| line.expect("text"))
        .filter(|line| line.contains(" more DATA packets, "))
        .count();
    assert!(child.wait().expect("ends").success());
    // 27 MB at 20 Mbit/s take eleven seconds: about a line a second, however slow this machine is.
    assert!(folded >= 9, "{folded}");
}

#[test]
fn the_same_seed_loses_the_same_signals() {
    let losses = |seed: &str| -> (Vec<String>, Value) {
        let lines = told(&demo(&["--json", "--loss", "20", "--seed", seed]));
        five_files_verified(&lines);
        let lost = of_type(&lines, "packet")
            .into_iter()
            .filter(|packet| packet["fate"] == "lost")
            .map(|packet| text(packet, "meaning").to_owned())
            .collect::<BTreeSet<_>>();
        (
            lost.into_iter().collect(),
            of_type(&lines, "totals")[0].clone(),
        )
    };
    let (first, totals) = losses("7");
    assert!(first.len() >= 3, "{first:?}");
    assert!(totals["signlost"].as_u64() > Some(0), "{totals}");
    assert!(
        totals["resent"].as_u64() >= totals["lost_on_purpose"].as_u64(),
        "{totals}"
    );
    let (second, _) = losses("7");
    assert_eq!(first, second);
    let (other, _) = losses("8");
    assert_ne!(first, other);
}

#[test]
fn the_proxy_can_carry_the_files_itself() {
    let carried = ["--via", "rudp", "--congestion", "bbr"];
    let lines = told(&demo(&[&carried[..], &["--json"]].concat()));
    five_files_verified(&lines);
    let packets = of_type(&lines, "packet");
    let mut rest = packets.iter();
    for (role, meaning) in [
        ("client", "SIGNEW"),
        ("client", "SIGNECHO"),
        ("client", "SIGNGET"),
        ("client", "HELLO"),
        ("rudp", "COOKIE"),
        ("client", "HELLO"),
        ("rudp", "ACCEPT"),
        ("client", "DATA"),
        ("rudp", "DATA"),
        ("client", "SIGNEND"),
        ("client", "release"),
    ] {
        let found = rest
            .any(|packet| packet["role"] == role && text(packet, "meaning").starts_with(meaning));
        assert!(found, "no {role} {meaning:?} where it belongs");
    }
    assert!(
        packets
            .iter()
            .all(|packet| packet["role"] != "client" || packet["protocol"] != "HTTP"),
        "the client asks no origin"
    );
    let asked = |packet: &&&Value| text(packet, "meaning").contains("GET 1MB.zip 0");
    assert_eq!(packets.iter().filter(asked).count(), 1, "one question");
    assert_eq!(of_type(&lines, "transfer").len(), 5);
    let totals = of_type(&lines, "totals")[0];
    assert_eq!(totals["transport"]["congestion"], "bbr", "{totals}");
    // For people, the files' thousands of packets are folded.
    let output = demo(&carried);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.lines().count() < 200, "{table}");
    assert!(table.contains(" more DATA packets, "), "{table}");
    assert!(
        table.contains("── 5 ── The files: the proxy gets them"),
        "{table}"
    );
    assert!(
        table.contains("✓ 5 files arrived at 127.20.30.41"),
        "{table}"
    );
}

#[test]
fn two_demos_at_once_and_one_after_the_other() {
    let spawn = || {
        Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["demo", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts")
    };
    let both = [spawn(), spawn()];
    for child in both {
        five_files_verified(&told(&child.wait_with_output().expect("it ends")));
    }
    five_files_verified(&told(&demo(&["--json"])));
}

#[test]
fn a_pipe_gets_plain_text() {
    let output = demo(&["--name", "Ada"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    assert!(
        text.contains("SIGNEW: hello, I am Ada, open a session"),
        "{text}"
    );
    assert!(text.contains("✓ 5 files arrived at 127.20.30.41"), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn who_slows_down_a_network_that_the_files_do_not_take_is_told() {
    for (arguments, told) in [
        (&["--json", "--rate", "1mbit"][..], true),
        (&["--json"], false),
        (&["--json", "--rate", "50mbit", "--via", "rudp"], false),
    ] {
        let output = demo(arguments);
        assert!(output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let about = said.contains("--rate is for the signals: the files come over TCP");
        assert_eq!(about, told, "{arguments:?}: {said}");
    }
}

#[test]
fn an_interrupted_demo_still_tells_what_was_done() {
    for (name, after, arrived) in [
        // Before the client has an address, and between two files.
        ("TERM", "packet", 0),
        ("INT", "transfer", 1),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["demo", "--json", "--via", "rudp", "--rate", "8mbit"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut packets = 0;
        let mut count = |line: &Value| packets += usize::from(line["type"] == "packet");
        loop {
            let line = next(&mut lines);
            count(&line);
            if line["type"] == after {
                break;
            }
        }
        signal(child.id(), name);
        let rest: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
            .collect();
        rest.iter().for_each(count);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "labnet demo: interrupted\n"
        );
        let totals = rest.last().expect("a last line");
        assert_eq!(totals["type"], "totals", "{totals}");
        assert_eq!(totals["interrupted"], true);
        assert_eq!(totals["packets"], packets);
        assert!(totals["verified"].as_u64() >= Some(arrived), "{totals}");
        let files = of_type(&rest, "file");
        assert_eq!(files.len(), 5);
        let verified = files.iter().filter(|file| file["verified"] == true).count();
        assert_eq!(totals["verified"], verified);
        assert!(verified < 5, "it was interrupted");
    }
}

#[test]
fn wrong_use_is_told_from_failure() {
    for arguments in [
        &["--loss", "101"][..],
        &["--loss", "x"],
        &["--seed", "-1"],
        &["--name", "a;b"],
        &["--nonsense"],
        &["--congestion", "nonsense"],
    ] {
        assert_eq!(demo(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

struct Kept {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    serving: Value,
}

/// Starts `demo --keep` and reads until it serves.
fn keep() -> Kept {
    let mut child = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["demo", "--keep", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let serving = loop {
        let line = next(&mut lines);
        if line["type"] == "serving" {
            break line;
        }
    };
    Kept {
        child,
        lines,
        serving,
    }
}

fn next(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    assert_ne!(
        lines.read_line(&mut line).expect("text"),
        0,
        "it ended early"
    );
    serde_json::from_str(&line).expect(&line)
}

#[test]
fn a_kept_lab_goes_on_until_it_is_told_to_stop() {
    let mut kept = keep();
    let http = text(&kept.serving, "http");
    let http: SocketAddr = http["http://".len()..]
        .trim_end_matches('/')
        .parse()
        .expect("one");
    assert_eq!(request(http, "GET", "/-/ready").0, 200);
    let (_, metrics) = request(http, "GET", "/metrics");
    assert!(
        metrics.contains("labnet_rudp_sessions_total 1"),
        "{metrics}"
    );
    // A question of ours is in the table.
    let dns = text(&kept.serving, "dns");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    socket.send_to(query, dns).expect("sent");
    let answered = loop {
        let line = next(&mut kept.lines);
        if line["protocol"] == "DNS" {
            break line;
        }
    };
    assert_eq!(
        answered["destination"],
        socket.local_addr().expect("one").to_string()
    );
    signal(kept.child.id(), "INT");
    let status = wait_for("the demo to end", || {
        kept.child.try_wait().expect("a child")
    });
    assert_eq!(status.code(), Some(0));
    let folder = format!("labnet-demo-{}-", kept.child.id());
    let left = std::fs::read_dir(std::env::temp_dir())
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .any(|name| name.starts_with(&folder));
    assert!(!left, "its folder is gone");
}

#[test]
fn the_story_is_explained_each_kind_of_message_once() {
    let output = demo(&["--explain"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = |start: &str| {
        let is = |line: &&str| line.trim_start().starts_with(start);
        text.lines().filter(is).count()
    };
    for kind in [
        "application  DHCP DISCOVER",
        "application  DNS query",
        "application  RUDP SIGNEW",
        "application  RUDP SIGNECHO",
        "application  RUDP ACKEND",
    ] {
        assert_eq!(lines(kind), 1, "{kind}: {text}");
    }
    // The scraper asks the origin, and so does the client: for them a NAT is not the same.
    assert_eq!(lines("application  HTTP GET"), 2, "{text}");
    let tables = lines("application");
    assert!(tables > 15, "{text}");
    for layer in ["transport", "network", "link", "why", "behind a NAT"] {
        assert_eq!(lines(layer), tables, "{layer}: {text}");
    }
}

#[test]
fn a_pace_is_kept_and_steps_want_a_terminal() {
    let began = std::time::Instant::now();
    let output = demo(&["--pace", "20ms"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let numbered = |line: &&str| {
        let first = line.split_whitespace().next();
        first.is_some_and(|first| first.parse::<u32>().is_ok())
    };
    let rows = text.lines().filter(numbered).count() as u32;
    assert!(rows > 40, "{text}");
    assert!(began.elapsed() >= std::time::Duration::from_millis(20) * rows);
    let output = demo(&["--step"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("needs a terminal"), "{said}");
}
