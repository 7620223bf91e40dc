//! `--qlog` of a real client and a real server, over a network that loses packets.

use std::{fs, path::Path, process::Command};

use ::qlog::reader::{Event, QlogSeqReader};
use serde_json::Value;

use crate::support::{loopback, signal, wait_for};

const LABNET: &str = env!("CARGO_BIN_EXE_labnet");

/// An event.
struct Found {
    time: f64,
    name: String,
    /// The bytes of a packet sent.
    sent: u64,
}

/// The only file of a folder, its events read by the schema's own crate or, of version 0.3, as JSON.
fn events(folder: &Path, version: &str) -> Vec<Found> {
    let mut files = fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").path());
    let path = files.next().expect("a file");
    assert_eq!(files.next(), None);
    let bytes = fs::read(&path).expect("a file");
    assert_eq!((bytes.first(), bytes.last()), (Some(&0x1e), Some(&b'\n')));
    let texts = bytes.split(|byte| *byte == 0x1e).skip(2);
    let found: Vec<Found> = texts
        .map(|text| {
            let event: Value = serde_json::from_slice(text).expect("JSON");
            let name = event["name"].as_str().expect("a name").to_owned();
            let sent = name.ends_with(":packet_sent");
            // Neither side counts a lost probe of the datagram's size among its losses.
            let probe =
                name.ends_with(":packet_lost") && event["data"]["is_mtu_probe_packet"] == true;
            let name = if probe { "probe lost".to_owned() } else { name };
            let length = event["data"]["raw"]["length"].as_u64();
            Found {
                time: event["time"].as_f64().expect("a time"),
                name,
                sent: length.filter(|_| sent).unwrap_or(0),
            }
        })
        .collect();
    assert!(found.is_sorted_by(|one, next| one.time <= next.time));
    if version == "13" {
        let reader = QlogSeqReader::with_file(&path).expect("its head");
        let read = reader
            .filter(|event| matches!(event, Event::Qlog(_)))
            .count();
        assert_eq!(read, found.len());
    }
    found
}

fn count(events: &[Found], end: &str) -> u64 {
    let named = events.iter().filter(|event| event.name.ends_with(end));
    named.count() as u64
}

#[test]
fn what_is_written_is_what_both_sides_counted() {
    for version in ["13", "0.3"] {
        let dir = tempfile::tempdir().expect("a folder");
        let ip = loopback();
        let config = format!(
            "state_dir = \"state\"\n[http]\nlisten = \"{ip}:9167\"\n[rudp]\nlisten = \"{ip}:49152\"\n\
             [scrap]\nlisten = \"{ip}:49153\"\n[origin]\nlisten = \"{ip}:8080\"\nfiles = \"files\"\n"
        );
        let at = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
        fs::create_dir(at("files")).expect("a folder");
        fs::write(at("files/a.bin"), vec![7; 2_000_000]).expect("written");
        fs::write(at("labnet.toml"), config).expect("written");
        let log = fs::File::create(at("log")).expect("a file");
        let mut serve = Command::new(LABNET)
            .args(["serve", "-c", &at("labnet.toml"), "--qlog", &at("server")])
            .args(["--qlog-version", version])
            .env("NO_COLOR", "1")
            .stderr(log)
            .spawn()
            .expect("labnet starts");
        wait_for("the list", || {
            let log = fs::read_to_string(at("log")).expect("a log");
            log.contains("has a new list").then_some(())
        });
        let output = Command::new(LABNET)
            .args([
                "client",
                "--server",
                &format!("{ip}:49152"),
                "--via",
                "rudp",
                "--json",
            ])
            .args(["--loss", "2", "--delay", "5ms", "--rate", "40mbit"])
            .args(["--qlog", &at("client"), "--qlog-version", version])
            .args(["get", "--discard", "a.bin"])
            .output()
            .expect("labnet starts");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{stdout}");
        let summary: Value =
            serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
        let url = format!("http://{ip}:9167/");
        let ended = wait_for("the session's end", || {
            let arguments = ["sessions", "--ended", "--json", "--url", &url];
            let output = Command::new(LABNET)
                .args(arguments)
                .output()
                .expect("labnet starts");
            let ended: Value = serde_json::from_slice(&output.stdout).ok()?;
            ended.get(0).cloned()
        });
        signal(serve.id(), "TERM");
        assert!(serve.wait().expect("its end").success());

        let client = events(Path::new(&at("client")), version);
        let server = events(Path::new(&at("server")), version);
        let told = |key: &str| summary["client"][key].as_u64().expect(key);
        // The client counts before it says goodbye; a packet or two may cross its goodbye.
        for (event, key, unnumbered) in [
            // Two HELLOs have no number.
            (":packet_sent", "packets_sent", 2),
            (":packet_received", "packets_received", 0),
            (":packet_lost", "packets_lost", 0),
        ] {
            let (found, told) = (count(&client, event) + unnumbered, told(key));
            assert!(
                (told..=told + 4).contains(&found),
                "{key}: {found}, {told} told"
            );
        }
        assert_eq!(Some(count(&server, ":packet_lost")), ended["lost"].as_u64());
        // An ACCEPT has no number, either.
        let bytes = ended["bytes_sent"].as_u64().expect("a number");
        let sent: u64 = server.iter().map(|event| event.sent).sum();
        assert!((60..200).contains(&(bytes - sent)), "{sent}: {ended}");
        for events in [&client, &server] {
            assert!(count(events, "metrics_updated") > 10);
            assert_eq!(count(events, ":warning"), 0);
        }
        assert!(count(&server, ":packet_lost") > 10);
    }
}

#[test]
fn a_folder_that_cannot_be_is_told_at_once() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let client = ["client", "--via", "rudp", "--qlog", path, "list"];
    let serve = ["serve", "--qlog", path];
    for arguments in [&client[..], &serve] {
        let output = crate::support::labnet(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains("--qlog ") && said.contains(path), "{said}");
    }
}
