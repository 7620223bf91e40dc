//! The whole trace on demand: the steps of the transport's connections, and what the link did to their
//! packets, as `--events` writes them, held against each other, against what the client and the API
//! counted, and against captures.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use pcap_file::pcapng::{Block, PcapNgReader, blocks::enhanced_packet::EnhancedPacketOption};
use serde_json::Value;

use crate::support::{Lab, loopback, probe::Addresses, wait_for};

/// A lab with a file of 1 MB, a bad network before its proxy and `more`, whose events are written.
fn lab(addresses: &Addresses, link: &str, more: &str) -> Lab {
    let ip = addresses.0;
    let more = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n[link.down]\n{link}\n{more}"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let zone = addresses.zone();
    let lab = Lab::start_observed(&config, &[("example.com.zone", &zone)]);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    lab
}

/// Downloads the file, and gives what the client says of it and its events.
fn download(addresses: &Addresses, folder: &Path) -> (Value, Vec<Value>) {
    let file = folder.join("client.jsonl");
    let server = addresses.at(49152).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--name", "Tal", "--server", &server])
        .args(["--via", "rudp", "--json", "--events"])
        .arg(&file)
        .args(["get", "--discard", "1MB.zip"])
        .env_remove("RUST_LOG")
        .output()
        .expect("labnet starts");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut told = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let summary = told.find(|line| line["client"]["packets_received"].is_u64());
    (summary.unwrap_or_else(|| panic!("{said}")), events(&file))
}

fn events(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("written");
    let events: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert!(events.iter().all(|event| event["event"] != "lost"));
    events
}

/// The steps of this name that one side told.
fn steps<'a>(events: &'a [Value], role: &str, step: &str) -> Vec<&'a Value> {
    let steps = events
        .iter()
        .filter(|event| event["event"] == "step" && event["role"] == role && event["step"] == step);
    steps.collect()
}

fn numbers(steps: &[&Value]) -> BTreeSet<u64> {
    let numbers = steps
        .iter()
        .map(|step| step["number"].as_u64().expect("a number"));
    numbers.collect()
}

/// What the link did to the packets that go to this connection id, by their numbers.
fn verdicts<'a>(events: &'a [Value], destination: &Value) -> BTreeMap<u64, &'a Value> {
    let verdicts = events
        .iter()
        .filter(|event| event["event"] == "verdict" && event["ids"]["cid"] == *destination);
    verdicts
        .map(|verdict| {
            (
                verdict["ids"]["number"].as_u64().expect("a number"),
                verdict,
            )
        })
        .collect()
}

#[test]
fn steps_verdicts_and_totals_tell_one_story() {
    let addresses = Addresses(loopback());
    let mut lab = lab(
        &addresses,
        "rate = \"20mbit\"\ndelay = \"10ms\"\nqueue = \"15kB\"\nloss = 1",
        "",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (summary, client) = download(&addresses, folder.path());
    let ended = wait_for("the session's end", || {
        let ended = lab.json("/api/v1/sessions?ended");
        let ended = ended.as_array().expect("a list");
        ended
            .iter()
            .find(|session| session["name"] == "Tal")
            .cloned()
    });
    let samples = lab.json("/api/v1/sessions/Tal/samples?points=10000");
    let dropped = lab.metric("labnet_watch_dropped_total{observer=\"events\"}");
    assert!(dropped.abs() < 0.5, "{dropped}");
    assert_eq!(lab.terminate(), Some(0));
    let server = events(&lab.dir().join(Lab::EVENTS));

    // Both ends tell of one connection.
    let opened = steps(&server, "rudp", "opened");
    let [opened] = opened[..] else {
        panic!("{opened:?}");
    };
    let connected = steps(&client, "client", "connected");
    assert_eq!(connected.len(), 1, "{connected:?}");
    assert_eq!(connected[0]["connection"], opened["destination"]);
    assert_eq!(connected[0]["destination"], opened["connection"]);
    assert_eq!(
        (&opened["name"], &opened["congestion"]),
        (&"Tal".into(), &"cubic".into())
    );
    for (events, role) in [(&server, "rudp"), (&client, "client")] {
        assert_eq!(steps(events, role, "ended").len(), 1);
    }

    // The client's totals are of a moment before its last words.
    let received = numbers(&steps(&client, "client", "received"));
    let counted = summary["client"]["packets_received"]
        .as_u64()
        .expect("counted");
    let more = received.len() as u64 - counted;
    assert!(more < 20, "{more} of {counted}");
    let lost = steps(&server, "rudp", "lost");
    let probes = steps(&server, "rudp", "sent");
    let probes = probes.into_iter().filter(|sent| sent["probe"] == true);
    let probes = numbers(&probes.collect::<Vec<_>>());
    let counted = lost.iter().filter(|lost| {
        let number = lost["number"].as_u64().expect("a number");
        !probes.contains(&number)
    });
    assert_eq!(Value::from(counted.count()), ended["lost"], "{ended}");
    // By the seed, whatever the machine's speed makes of the queue.
    assert!(!lost.is_empty());

    // What the link lost did not come, and what it delivered did, but for the last.
    let verdicts = verdicts(&server, &opened["destination"]);
    let sent = numbers(&steps(&server, "rudp", "sent"));
    assert_eq!(sent, verdicts.keys().copied().collect());
    let delivered: BTreeSet<u64> = (verdicts.iter())
        .filter(|(_, verdict)| verdict["outcome"] == "delivered")
        .map(|(number, _)| *number)
        .collect();
    assert!(received.is_subset(&delivered));
    let last = received.last().expect("some");
    assert!(delivered.difference(&received).all(|number| number > last));
    // Nothing overtakes here: whatever was declared lost was lost, for one of two reasons.
    let mut reasons = BTreeMap::<&str, u64>::new();
    for number in numbers(&lost) {
        let verdict = verdicts[&number];
        let outcome = verdict["outcome"].as_str().expect("a word");
        *reasons.entry(outcome).or_default() += 1;
        if outcome == "lost_queue" {
            let bytes = |key: &str| verdict[key].as_u64().expect("bytes");
            assert!(bytes("queued_bytes") + bytes("bytes") > bytes("queue_limit"));
        }
    }
    let known: Vec<&str> = reasons.keys().copied().collect();
    assert!(!known.is_empty());
    assert!(
        known
            .iter()
            .all(|reason| ["lost_queue", "lost_random"].contains(reason)),
        "{reasons:?}"
    );
    // A cut is of packets just declared lost.
    let cuts = steps(&server, "rudp", "window");
    let cut = (cuts.iter())
        .find(|cut| cut["cause"] == "loss")
        .expect("a cut");
    let number = cut["number"].as_u64().expect("a number");
    let behind = (lost.iter())
        .find(|lost| lost["number"] == number)
        .expect("lost");
    assert_eq!(
        (&behind["rule"], &behind["steady"]),
        (&cut["rule"], &cut["steady"])
    );

    // Each packet that was handed to the link is there, and leads to its verdict.
    let packets = server.iter().filter(|event| {
        event["event"] == "packet"
            && event["ids"]["cid"] == opened["destination"]
            && event["ids"]["number"].is_u64()
    });
    let mut crossed = 0;
    for packet in packets {
        let number = packet["ids"]["number"].as_u64().expect("a number");
        let verdict = verdicts[&number];
        for key in ["link", "way", "number"] {
            assert_eq!(packet["crossing"][key], verdict[key], "{packet} {verdict}");
        }
        crossed += 1;
    }
    assert_eq!(crossed, sent.len());

    check_samples(&samples, &server);
}

/// The ring's samples are the trace's, as far as both tell.
fn check_samples(samples: &Value, server: &[Value]) {
    let [samples] = &samples.as_array().expect("a list")[..] else {
        panic!("{samples}");
    };
    let list = |key: &str| samples[key].as_array().expect(key).clone();
    let states = steps(server, "rudp", "state");
    let time = list("time");
    // The ring begins when the client has confirmed the connection.
    assert!(time.len() > 20 && time.len() <= states.len());
    let states = &states[states.len() - time.len()..];
    for (key, of) in [
        ("window", "window"),
        ("ssthresh", "ssthresh"),
        ("in_flight_max", "in_flight_max"),
        ("pacing_rate", "pacing_rate"),
        ("phase", "phase"),
    ] {
        let told: Vec<Value> = states.iter().map(|state| state[of].clone()).collect();
        assert_eq!(list(key), told, "{key}");
    }
    let seconds = |value: &Value| value.as_f64().expect("a time");
    let begin = seconds(&states[0]["steady"]) - seconds(&time[0]);
    for (at, state) in time.iter().zip(states) {
        assert!((seconds(&state["steady"]) - begin - seconds(at)).abs() < 1e-6);
        let rtt = list("rtt").len();
        assert_eq!(rtt, time.len());
    }
    for (rtt, state) in list("rtt").iter().zip(states) {
        // Both are null until a round trip has been measured: of a HELLO that was sent again none is.
        match (rtt.as_f64(), state["rtt_smoothed"].as_f64()) {
            (Some(told), Some(traced)) => assert!((told - traced).abs() < 2e-6),
            (told, traced) => assert_eq!(told, traced),
        }
    }
    assert!(list("rtt").last().is_some_and(Value::is_f64));
    let cuts = |changes: Vec<(Value, Value)>| -> Vec<(Value, Value)> {
        let cuts = changes.into_iter();
        cuts.filter(|(before, after)| after.as_u64() < before.as_u64())
            .collect()
    };
    let pair = |value: &Value, keys: [&str; 2]| (value[keys[0]].clone(), value[keys[1]].clone());
    let told = list("changes");
    let told = told
        .iter()
        .map(|change| pair(change, ["before_bytes", "after_bytes"]));
    let traced = steps(server, "rudp", "window");
    let traced = traced
        .iter()
        .map(|change| pair(change, ["before", "after"]));
    assert_eq!(cuts(told.collect()), cuts(traced.collect()));
}

#[test]
fn a_capture_says_what_the_link_did_to_each_packet() {
    let addresses = Addresses(loopback());
    let link = "rate = \"20mbit\"\ndelay = \"10ms\"\nqueue = \"15kB\"\nloss = 1\nreorder = 3\n\
                reorder_by = \"5ms\"\nduplicate = 2\ncorrupt = 1";
    let capture = "[capture]\nfile = \"lab.pcapng\"\nroles = [\"rudp\"]\n";
    let mut lab = lab(&addresses, link, capture);
    let folder = tempfile::tempdir().expect("a folder");
    download(&addresses, folder.path());
    assert_eq!(lab.terminate(), Some(0));
    let server = events(&lab.dir().join(Lab::EVENTS));

    let file = File::open(lab.dir().join("lab.pcapng")).expect("written");
    let mut reader = PcapNgReader::new(file).expect("pcapng");
    let mut told = BTreeMap::<&str, usize>::new();
    let mut packets = 0;
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.expect("a block") else {
            continue;
        };
        packets += 1;
        let comments = packet.options.iter().filter_map(|option| match option {
            EnhancedPacketOption::Comment(comment) => Some(comment.to_string()),
            _ => None,
        });
        let comment: String = comments.collect();
        let words = [
            "; the link lost it by chance",
            "; the link dropped it because its queue was full (",
            "; the link delivered it, ",
            "; the link damaged byte ",
        ];
        let word = words.iter().find(|words| comment.contains(**words));
        *told.entry(word.copied().unwrap_or("nothing")).or_default() += 1;
        for word in [
            ", and a copy with it",
            " and overtaken by ",
            ", held back by ",
        ] {
            if comment.contains(word) {
                *told.entry(word).or_default() += 1;
            }
        }
    }
    // What each packet's event leads to says the same.
    let key = |event: &Value| {
        (
            event["link"].to_string(),
            event["way"].to_string(),
            event["number"].to_string(),
        )
    };
    let of = |name: &str| -> BTreeMap<_, &Value> {
        let named = server.iter().filter(|event| event["event"] == name);
        named.map(|event| (key(event), event)).collect()
    };
    let (verdicts, overtaken) = (of("verdict"), of("overtaken"));
    let mut expected = BTreeMap::<&str, usize>::new();
    let mut crossed = 0;
    let passed = server.iter().filter(|event| {
        event["event"] == "packet"
            && event["role"] == "rudp"
            && ["sent", "resent", "received"].contains(&event["fate"].as_str().expect("a word"))
    });
    for packet in passed {
        if packet["crossing"].is_null() {
            *expected.entry("nothing").or_default() += 1;
            continue;
        }
        crossed += 1;
        let verdict = verdicts[&key(&packet["crossing"])];
        let word = match verdict["outcome"].as_str().expect("a word") {
            "lost_random" => "; the link lost it by chance",
            "lost_queue" => "; the link dropped it because its queue was full (",
            "delivered" if !verdict["corrupted"].is_null() => "; the link damaged byte ",
            "delivered" => "; the link delivered it, ",
            other => panic!("{other}"),
        };
        *expected.entry(word).or_default() += 1;
        if word == "; the link delivered it, " {
            if verdict["duplicated"] == true {
                *expected.entry(", and a copy with it").or_default() += 1;
            }
            if verdict["held_back"].as_f64() > Some(0.0) {
                *expected.entry(", held back by ").or_default() += 1;
            }
        }
    }
    // It may be written before it comes out.
    let overtaken_told = told.remove(" and overtaken by ").unwrap_or(0);
    assert!(overtaken_told <= overtaken.len());
    // One write to a TCP connection may be several of the made-up packets.
    assert!(told.remove("nothing") >= expected.remove("nothing"));
    assert_eq!(told, expected);
    assert!(
        packets > 500 && crossed > 500 && expected.len() > 4,
        "{expected:?}"
    );
}
