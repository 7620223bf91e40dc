//! The client and the demo as the system sees them: a capture, a full disk, a terminal.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{Lab, disk::Disk, loopback, probe::Addresses, run, signal, wait_for};

fn lab(samples: &str) -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [{samples}]\n");
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

#[test]
#[ignore = "needs root and tcpdump"]
fn everything_after_dhcp_really_leaves_from_the_leased_address() {
    let mut capture = Command::new("tcpdump")
        .args(["-i", "lo", "-nn", "-l", "-q", "--immediate-mode"])
        .arg("src net 127.20.30.0/24")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump starts");
    let mut ready = BufReader::new(capture.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("listening on") {
        assert_ne!(ready.read_line(&mut line).expect("text"), 0, "{line}");
    }
    let seen = capture.stdout.take().expect("piped");
    let reader = thread::spawn(move || {
        let lines = BufReader::new(seen).lines();
        lines.map_while(Result::ok).collect::<Vec<String>>()
    });
    let demo = crate::support::labnet(&["demo", "--json"]);
    assert!(demo.status.success());
    let text = String::from_utf8(demo.stdout).expect("text");
    // What the demo says of its ports, to be found in the capture.
    let told: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["role"] == "client" && line["fate"] == "sent")
        .filter(|line| {
            line["source"]
                .as_str()
                .expect("one")
                .starts_with("127.20.30.41")
        })
        .collect();
    assert!(told.len() > 15, "{told:?}");
    thread::sleep(Duration::from_secs(1));
    signal(capture.id(), "INT");
    capture.wait().expect("it ends");
    let seen = reader.join().expect("text");
    for packet in told {
        // tcpdump writes a port as a fifth number.
        let end = |field: &str| packet[field].as_str().expect("one").replace(':', ".");
        let pair = format!("{} > {}:", end("source"), end("destination"));
        assert!(
            seen.iter().any(|line| line.contains(&pair)),
            "{pair} ({}) was not captured",
            packet["meaning"]
        );
    }
}

#[test]
#[ignore = "needs root: mounts a small disk"]
fn a_full_disk_is_said_and_gone_on_from() {
    let (_lab, addresses) = lab("\"5MB.zip\"");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::mount(folder.path().to_owned(), "2m");
    let get = || {
        Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args([
                "client",
                "--dhcp",
                &addresses.at(6767).to_string(),
                "--json",
            ])
            .args(["--out", folder.path().to_str().expect("UTF-8"), "get", "1"])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .expect("labnet starts")
    };
    let full = get();
    assert_eq!(full.status.code(), Some(1));
    let said = String::from_utf8(full.stdout).expect("text");
    assert!(said.contains("no space left for"), "{said}");
    assert!(said.contains("the next try goes on from there"), "{said}");
    assert!(!folder.path().join("5MB.zip").exists());
    let kept = fs::metadata(folder.path().join("5MB.zip.part"))
        .expect("the part")
        .len();
    assert!(kept > 1_000_000, "{kept}");
    let path = disk.path().to_str().expect("UTF-8");
    run("mount", &["-o", "remount,size=20m", path]);
    let rest = get();
    assert!(
        rest.status.success(),
        "{}",
        String::from_utf8_lossy(&rest.stderr)
    );
    let said = String::from_utf8(rest.stdout).expect("text");
    let (file, _) = said.split_once('\n').expect("a line");
    let file: serde_json::Value = serde_json::from_str(file).expect("JSON");
    assert_eq!(file["verified"], true);
    assert_eq!(file["received"].as_u64().expect("one") + kept, 5_000_000);
}

#[test]
#[ignore = "needs script of bsdutils"]
fn a_person_at_a_terminal_completes_types_ahead_and_leaves_with_ctrl_d() {
    let (_lab, addresses) = lab("\"task2.pdf\", \"image-site.png\"");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let command = format!(
        "{} client --dhcp {} --out {}",
        env!("CARGO_BIN_EXE_labnet"),
        addresses.at(6767),
        folder.path().display()
    );
    let mut terminal = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--echo",
            "always",
            "--command",
            &command,
            "/dev/null",
        ])
        .env("XDG_STATE_HOME", folder.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    let mut keys = terminal.stdin.take().expect("piped");
    let mut screen = terminal.stdout.take().expect("piped");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = screen.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    // All at once: what a command is too busy to read has to wait for its turn.
    keys.write_all(b"li\t\rget ta\t\rSIGNE\t\x15ech\t2\r")
        .expect("typed");
    wait_for("the file", || {
        folder.path().join("task2.pdf").exists().then_some(())
    });
    thread::sleep(Duration::from_millis(500));
    keys.write_all(b"\x04").expect("typed");
    let status = wait_for("the end", || terminal.try_wait().expect("a child"));
    drop(keys);
    let screen = reader.join().expect("text");
    assert_eq!(status.code(), Some(0), "{screen}");
    for part in [
        "labnet> ",
        "1  task2.pdf",
        "SHA-256 verified",
        "back after",
        "ms min",
    ] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    let history = fs::read_to_string(folder.path().join("labnet/history")).expect("the history");
    assert!(history.contains("get task2.pdf"), "{history}");
}
