//! `labnet why`: what a person is told of a transfer over a bad link, after it, by name, address or
//! connection.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    link::Link,
    support::{Lab, loopback, probe::Addresses, wait_for},
};

fn labnet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .output()
        .expect("labnet starts")
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(said).expect("text")
}

fn download(server: &str, name: &str, out: &Path) {
    let out = out.to_str().expect("UTF-8");
    let output = labnet(&[
        "client", "--name", name, "--out", out, "--server", server, "--via", "rudp", "get",
        "--force", "1MB.zip",
    ]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_person_is_told_why_the_window_was_cut_by_name_address_or_connection() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let more = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n\
         [link.down]\nrate = \"20mbit\"\ndelay = \"10ms\"\nqueue = \"15kB\"\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let zone = addresses.zone();
    let _lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    let out = tempfile::tempdir().expect("a folder");
    let server = addresses.at(49152).to_string();
    let url = format!("http://{}/", addresses.at(9167));
    let why = |who: &str, more: &[&str]| {
        let arguments = [&["why", who, "--url", &url][..], more].concat();
        let output = labnet(&arguments);
        (output.status.success(), said(&output))
    };

    let (found, text) = why("Tal", &[]);
    assert!(
        !found && text.contains("no connection of that name"),
        "{text}"
    );

    let (found, text) = why("Tal", &["--changes", "1001"]);
    assert!(!found && text.contains("1000 at most"), "{text}");

    download(&server, "Tal", out.path());
    let (found, text) = why("Tal", &["--changes", "1000"]);
    assert!(found, "{text}");
    let (found, text) = why("Tal", &[]);
    assert!(found, "{text}");
    for words in [
        "Tal at 127.",
        " CUBIC cut the window from ",
        "RFC 9438 4.6",
        "was declared lost by the ",
        "; the link dropped it because its queue was full (",
        " at 20 Mbit/s",
        "held back by: ",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    let (_, json) = why("Tal", &["--json", "--changes", "1"]);
    let told: Value = serde_json::from_str(&json).expect("JSON");
    let [one] = &told.as_array().expect("a list")[..] else {
        panic!("{told}");
    };
    assert_eq!(one["changes"].as_array().map(Vec::len), Some(1), "{one}");

    // The client asks it by itself.
    let asked = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args([
            "client", "--via", "rudp", "--server", &server, "--name", "Ada",
        ])
        .args(["get", "--discard", "1MB.zip", "--why"])
        .envs([("NO_COLOR", "1"), ("LABNET_URL", &url)])
        .output()
        .expect("labnet starts");
    let text = said(&asked);
    assert!(
        asked.status.success() && text.contains("Ada at 127."),
        "{text}"
    );
    assert!(text.contains(" CUBIC cut the window from "), "{text}");

    // Where the link is the client's own, it alone knows what that did.
    let asked = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args([
            "client", "--via", "rudp", "--server", &server, "--name", "Eve", "--loss", "3",
        ])
        .args(["--seed", "1", "get", "--discard", "1MB.zip", "--why"])
        .envs([("NO_COLOR", "1"), ("LABNET_URL", &url)])
        .output()
        .expect("labnet starts");
    let text = said(&asked);
    assert!(asked.status.success(), "{text}");
    assert!(
        text.contains(" the client's own link says: the link "),
        "{text}"
    );

    // What the client itself sent it knows by itself, and where the lab can't be asked, that alone is told.
    let ask = |url: &str, more: &[&str]| {
        let asked = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args([
                "client", "--via", "rudp", "--server", &server, "--name", "Joe",
            ])
            .args(more)
            .args(["get", "--discard", "1MB.zip", "--why"])
            .envs([("NO_COLOR", "1"), ("LABNET_URL", url)])
            .output()
            .expect("labnet starts");
        (asked.status.success(), said(&asked))
    };
    let (told, text) = ask(&url, &["--json"]);
    let both: Value = (text.lines())
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|line: &Value| line["client"]["connection_id"].is_string())
        .unwrap_or_else(|| panic!("{text}"));
    assert!(told, "{text}");
    let (proxy, client) = (&both["why"], &both["client"]);
    assert_eq!(
        (&proxy["connection_id"], &proxy["client"]),
        (&client["client_connection_id"], &client["client"])
    );
    assert_eq!(proxy["client_connection_id"], client["connection_id"]);
    assert_eq!(
        (&client["lost"], &client["ended"]),
        (&0.into(), &true.into())
    );
    let (told, text) = ask(&format!("http://{}/", addresses.at(9)), &[]);
    assert!(!told, "{text}");
    assert!(
        text.contains("what the client itself sent: Joe at 127."),
        "{text}"
    );

    // A second one of that name: both are listed, and each is found by what is its own.
    download(&server, "Tal", out.path());
    let (_, text) = why("Tal", &[]);
    assert!(text.starts_with("several fit"), "{text}");
    let connection = one["connection_id"].as_str().expect("an id");
    assert!(text.contains(connection), "{text}");
    for who in [connection, one["client"].as_str().expect("an address")] {
        let (found, text) = why(who, &[]);
        assert!(found && text.contains(connection), "{text}");
    }
    let (_, text) = why("Tal", &["--last"]);
    let (about, rest) = text.split_once('\n').expect("lines");
    assert!(
        about.starts_with("Tal at 127.") && !about.contains(connection),
        "{text}"
    );
    // Its other one is named there.
    assert!(rest.contains(connection), "{text}");
}

#[test]
fn a_transfer_that_went_on_over_another_connection_is_told_of_both() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let more = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n\
         [link.down]\nrate = \"2mbit\"\nqueue = \"15kB\"\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    let url = format!("http://{}/", addresses.at(9167));
    let server = addresses.at(49152).to_string();
    let out = tempfile::tempdir().expect("a folder");
    let download = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args([
            "client", "--via", "rudp", "--server", &server, "--name", "Tal",
        ])
        .arg("--out")
        .arg(out.path())
        .args(["get", "1MB.zip", "--why"])
        .envs([("NO_COLOR", "1"), ("LABNET_URL", &url)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    // The proxy's side of it crashes in mid-transfer.
    let (first, address) = wait_for("the transfer to be under way", || {
        let sessions = lab.json("/api/v1/sessions");
        let session = sessions.as_array()?.iter().find(|session| {
            session["kind"] == "transport" && session["bytes_sent"].as_u64() > Some(200_000)
        })?;
        let told = |key: &str| Some(session[key].as_str()?.to_owned());
        Some((told("connection_id")?, told("client")?))
    });
    assert_eq!(
        lab.post(&format!("/api/v1/sessions/{address}/crash")).0,
        202
    );
    let output = download.wait_with_output().expect("its end");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("it took 2 connections, the first one first:"),
        "{text}"
    );
    let connections: Vec<&str> = (text.split("(connection ").skip(1))
        .filter_map(|rest| rest.split(',').next())
        .collect();
    let [one, other] = connections[..] else {
        panic!("{text}");
    };
    assert!(one == first && other != first, "{first}: {text}");
    // And who asks later finds both by the name, each of which names the other.
    let why = |who: &str, more: &[&str]| {
        let arguments = [&["why", who, "--url", &url][..], more].concat();
        said(&labnet(&arguments))
    };
    let both = why("Tal", &[]);
    assert!(both.starts_with("several fit"), "{both}");
    for (connection, another) in [(one, other), (other, one)] {
        assert!(both.contains(connection), "{both}");
        let told = why(connection, &[]);
        assert!(told.starts_with("Tal at 127."), "{told}");
        let others =
            format!("other connections of Tal from 127.0.0.1, the newest first: {another}");
        assert!(told.contains(&others), "{told}");
    }
}

#[test]
fn a_mark_of_a_link_on_the_way_is_acknowledged_and_told() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let more = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n");
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let _lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    let url = format!("http://{}/", addresses.at(9167));
    // The first window is more than the path holds, and its queue more than the file.
    let link = Link::start(
        addresses.at(49152),
        &[
            "--delay",
            "5ms",
            "--down",
            "rate=5mbit,queue=2MB,aqm=codel,ecn=on",
        ],
    );
    let out = tempfile::tempdir().expect("a folder");
    download(&link.address.to_string(), "Tal", out.path());
    let counters = link.json("/counters");
    assert!(counters["down"]["marked"].as_u64() > Some(0), "{counters}");
    assert_eq!(counters["down"]["lost"]["codel"], 0, "{counters}");

    let text = said(&labnet(&["why", "Tal", "--url", &url]));
    for words in [
        " cut the window from ",
        ": the network marked packets as congested instead of dropping them (ECN CE, told with the acknowledgement of packet ",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    let json = said(&labnet(&["why", "Tal", "--url", &url, "--json"]));
    let told: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told[0]["lost"], 0, "{told}");
    let changes = told[0]["changes"].as_array().expect("a list");
    let marked = changes.iter().filter(|change| change["cause"] == "ecn");
    assert!(marked.clone().count() > 0, "{told}");
    // What stands between the two programs is not known to either.
    assert!(
        marked.clone().all(|change| change["link"].is_null()),
        "{told}"
    );
}
