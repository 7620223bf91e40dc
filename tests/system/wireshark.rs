//! What tshark says of labnet's packets with the dissector in conf/wireshark.

mod capture;
mod format;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use labnet::rudp::packet::{Agreement, Cid, Protection, Side};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg32;
use serde_json::Value;
use tempfile::TempDir;

use self::{
    capture::{Capture, Captured, DISSECTOR},
    format::samples,
};
use crate::support::{Lab, Namespace, wait_for};

const LABNET: &str = env!("CARGO_BIN_EXE_labnet");
const SECRET: &str = "correct horse battery staple";

/// The last line of what a command printed: a JSON object.
#[track_caller]
fn last_line(output: &std::process::Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON")
}

fn count(tally: &BTreeMap<String, u64>, value: &str) -> u64 {
    tally.get(value).copied().unwrap_or(0)
}

/// A proxy at an address before its own origin, in a namespace.
fn site(namespace: &Namespace, listen: &str, more: &str, files: &[(&str, &str)]) -> Lab {
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:9167\"\n\
         [rudp]\nlisten = \"{listen}\"\n{more}\n\
         [scrap]\nlisten = \"127.0.0.5:49153\"\n\
         [origin]\nlisten = \"127.0.0.1:8080\"\nfiles = \"files\"\n"
    );
    Lab::start_with(&config, files, Some(namespace))
}

/// Datagrams that the proxy has `received` or `sent`, as it tells.
#[track_caller]
fn counted(namespace: &Namespace, direction: &str) -> u64 {
    let url = "http://127.0.0.1:9167/metrics";
    let answer = namespace.output("curl", &["--silent", "--max-time", "5", url]);
    let series = format!("labnet_rudp_packets_total{{direction=\"{direction}\"}} ");
    let metrics = String::from_utf8_lossy(&answer.stdout).into_owned();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("the series").parse().expect("a number")
}

/// So many letters, nowhere the same.
fn text(length: usize) -> String {
    let mut random = Pcg32::seed_from_u64(length as u64);
    let letters = (0..length).map(|_| char::from(random.random_range(b'a'..=b'z')));
    letters.collect()
}

#[test]
#[ignore = "needs root: a network namespace; tshark"]
fn every_packet_of_the_demo_has_its_name() {
    for more in [
        &[][..],
        &["--via", "rudp"],
        &["--loss", "20"],
        &["--via", "rudp", "--loss", "3", "--rate", "100mbit"],
    ] {
        let namespace = Namespace::new("demo");
        let capture = Capture::start(&namespace, "lo");
        let arguments = [&["demo", "--json"], more].concat();
        let output = namespace.output(LABNET, &arguments);
        let totals = last_line(&output);
        let captured = capture.stop("127.0.0.1");
        captured.all_well(49152);
        let lost = totals["lost_on_purpose"].as_u64().expect("a number");
        // Both sides tell what they send, and the transport what it means to carry, in small letters.
        let stdout = String::from_utf8_lossy(&output.stdout);
        let told = stdout.lines().filter(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            let meaning = event["meaning"].as_str().unwrap_or("");
            let word = meaning.starts_with(char::is_uppercase);
            event["protocol"] == "RUDP" && event["fate"] == "sent" && word
        });
        let told = told.count() as u64;
        let seen = captured.packets("labnet");
        // The link of the demo stands between what is told and the wire.
        if !more.contains(&"--loss") {
            assert_eq!(seen, told, "{more:?}: {totals}");
        }
        let signals = captured.tally("labnet", "labnet.signal");
        let signlost = totals["signlost"].as_u64().expect("a number");
        assert_eq!(count(&signals, "SIGNLOST"), signlost, "{totals}");
        let warned = captured.fields("labnet.signal.missing", &["frame.number"]);
        assert_eq!(warned.len() as u64, signlost);
        assert_eq!(count(&signals, "SIGNEND"), count(&signals, "ACKEND"));
        // Each answer leads to its signal, as long as nothing comes again.
        if lost == 0 {
            let answers = captured.fields(
                "udp.srcport == 49152 && labnet.signal",
                &["labnet.signal.time"],
            );
            assert!(
                answers.iter().all(|answer| answer[0].len() == 1),
                "{answers:?}"
            );
        }
        let frames = captured.tally("labnet", "labnet.frame");
        if more.contains(&"rudp") {
            let files = captured.tally("labnet", "labnet.question.file");
            assert!(files.len() == 5, "{files:?}");
            assert!(count(&frames, "0x1c") >= 1, "{frames:?}");
            let digests = captured.tally("labnet", "labnet.answer.digest");
            assert_eq!(digests.len(), 5, "{digests:?}");
        } else {
            assert!(frames.is_empty(), "{frames:?}");
        }
    }
}

/// Wireshark has Lua 5.2 up to 4.2 and 5.4 from 4.4 on: the dissector runs in both.
#[test]
#[ignore = "needs lua5.4"]
fn the_dissector_runs_in_the_lua_of_later_wiresharks_too() {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/system/wireshark/lua54.lua"
    );
    let output = Command::new("lua5.4").args([script, DISSECTOR]).output();
    let output = output.expect("tests/run installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
#[ignore = "needs root: a network namespace; tshark"]
fn a_transfer_with_losses_is_counted_as_the_proxy_counts_it() {
    let secret = format!("protection = \"psk\"\nsecret = \"{SECRET}\"");
    let file = text(1_500_000);
    // The other port is found by what the packets look like.
    for (port, more) in [(49152, ""), (4433, ""), (49152, &*secret), (4433, &*secret)] {
        let namespace = Namespace::new("losses");
        let listen = format!("127.0.0.10:{port}");
        let lab = site(&namespace, &listen, more, &[("files/a.txt", &file)]);
        let before = (counted(&namespace, "received"), counted(&namespace, "sent"));
        let capture = Capture::start(&namespace, "lo");
        let mut arguments = vec!["client", "--server", &listen, "--via", "rudp", "--json"];
        arguments.extend(["--loss", "3", "--delay", "5ms", "--rate", "50mbit"]);
        if !more.is_empty() {
            arguments.extend(["--protection", "psk", "--secret", SECRET]);
        }
        arguments.extend(["get", "--discard", "a.txt"]);
        let summary = last_line(&namespace.output(LABNET, &arguments));
        let captured = capture.stop("127.0.0.1");
        captured.all_well(port);
        let received = captured.packets(&format!("udp.dstport == {port}"));
        let sent = captured.packets(&format!("udp.srcport == {port}"));
        let now = (counted(&namespace, "received"), counted(&namespace, "sent"));
        assert_eq!((received, sent), (now.0 - before.0, now.1 - before.1));
        assert_eq!(captured.tally("labnet", "labnet.connection").len(), 1);
        let modes = captured.tally("labnet", "labnet.mode");
        let repeated = summary["server"]["packets_retransmitted"].as_u64();
        assert!(repeated > Some(10), "{summary}");
        if more.is_empty() {
            assert_eq!(modes.keys().collect::<Vec<_>>(), ["checksum"]);
            // Each packet that carries bytes again is counted, on both sides, and each has its reason.
            let repeats = |from: &str| -> u64 {
                let again = captured.tally(&format!("udp.{from}port == {port}"), "labnet.again");
                again.values().sum()
            };
            let log = lab.log();
            let told = log.split("sent_again=").nth(1).expect("the session's end");
            let told = told.split_whitespace().next().expect("a number");
            let client = &summary["client"];
            let of_client = client["packets_retransmitted"].as_u64().expect("a number");
            let counts = [
                (told.parse().expect("a number"), repeats("src")),
                (of_client, repeats("dst")),
            ];
            for (told, seen) in counts {
                assert_eq!(told, seen, "{counts:?}: {summary}");
            }
            for side in [client, &summary["server"]] {
                let of = |reason: &str| side[reason].as_u64().expect("a number");
                let reasons = ["sent_again_lost", "sent_again_probing", "sent_again_tail"];
                let sum: u64 = reasons.iter().map(|reason| of(reason)).sum();
                assert_eq!(sum, of("packets_retransmitted"), "{summary}");
            }
            let frames = captured.tally("labnet", "labnet.frame");
            assert!(count(&frames, "0x1c") >= 1, "{frames:?}");
        } else {
            assert_eq!(modes.keys().collect::<Vec<_>>(), ["psk"]);
            assert!(captured.tally("labnet", "labnet.frame").is_empty());
            let data = captured.tally("labnet", "labnet.packet");
            let protected = captured.tally("labnet", "labnet.protected");
            assert_eq!(protected.values().sum::<u64>(), count(&data, "0x80"));
        }
        // Who comes late has seen no handshake: what is readable is found to be so.
        let late = captured.only(&format!("udp.port == {port} && frame.number > 40"));
        let decode_as = format!("udp.port=={port},labnet");
        let text = late.tshark(&[
            "-d",
            &decode_as,
            "-T",
            "fields",
            "-E",
            "aggregator=|",
            "-e",
            "labnet.integrity",
        ]);
        let states: Vec<&str> = text.lines().flat_map(|line| line.split('|')).collect();
        let good = states.iter().filter(|state| **state == "0").count();
        match more {
            // One packet of each direction is needed to find it out.
            "" => assert!(
                good + 2 >= states.len() && good > 500,
                "{good} of {}",
                states.len()
            ),
            _ => assert_eq!(good, 0),
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces; tshark"]
fn a_connection_is_one_whatever_address_its_client_has() {
    let (near, far) = (Namespace::new("near"), Namespace::new("far"));
    near.veth("lan", &far, "lan");
    near.ip(&["address", "add", "10.0.0.2/24", "dev", "lan"]);
    far.ip(&["address", "add", "10.0.0.1/24", "dev", "lan"]);
    let file = text(6_000_000);
    let _lab = site(&far, "10.0.0.1:49152", "", &[("files/a.txt", &file)]);
    let capture = Capture::start(&far, "lan");
    let before = counted(&far, "received");
    let mut arguments = vec!["netns", "exec", &near.name, LABNET, "client"];
    arguments.extend(["--server", "10.0.0.1:49152", "--via", "rudp", "--json"]);
    arguments.extend(["--rate", "10mbit", "get", "--discard", "a.txt"]);
    let download = Command::new("ip")
        .args(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip starts");
    wait_for("the transfer to be under way", || {
        (counted(&far, "sent") > 1000).then_some(())
    });
    near.ip(&["address", "del", "10.0.0.2/24", "dev", "lan"]);
    near.ip(&["address", "add", "10.0.0.3/24", "dev", "lan"]);
    let summary = last_line(&download.wait_with_output().expect("its end"));
    assert_eq!(summary["client"]["path_changes"], 1, "{summary}");
    let captured = capture.stop("10.0.0.3");
    captured.all_well(49152);
    assert_eq!(
        captured.packets("udp.dstport == 49152"),
        counted(&far, "received") - before
    );
    let connections = captured.tally("labnet", "labnet.connection");
    assert_eq!(connections.keys().collect::<Vec<_>>(), ["0"]);
    let moved = captured.fields("labnet.moved", &["ip.src", "labnet.connection"]);
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0][0], ["10.0.0.3"]);
    for client in ["10.0.0.2", "10.0.0.3"] {
        let filter = format!("labnet.connection == 0 && ip.addr == {client}");
        assert!(captured.packets(&filter) > 100);
    }
    let frames = captured.tally("labnet", "labnet.frame");
    assert!(
        count(&frames, "0x1a") >= 1 && count(&frames, "0x1b") >= 1,
        "{frames:?}"
    );
}

#[test]
#[ignore = "needs root: a network namespace; tshark"]
fn a_damaged_packet_is_shown_as_its_receiver_finds_it() {
    let namespace = Namespace::new("damage");
    let file = text(3_000_000);
    let link = "[link]\nseed = 5\n[link.down]\ncorrupt = 2\n";
    let _lab = site(
        &namespace,
        "127.0.0.10:49152",
        link,
        &[("files/a.txt", &file)],
    );
    let capture = Capture::start(&namespace, "lo");
    let mut arguments = vec![
        "client",
        "--server",
        "127.0.0.10:49152",
        "--via",
        "rudp",
        "--json",
    ];
    arguments.extend(["--rate", "50mbit", "get", "--discard", "a.txt"]);
    let summary = last_line(&namespace.output(LABNET, &arguments));
    let captured = capture.stop("127.0.0.1");
    let bad = captured.tally("labnet", "labnet.integrity");
    let corrupted = summary["client"]["corrupted"].as_u64().expect("a number");
    assert!(corrupted > 10, "{summary}");
    assert_eq!(count(&bad, "1"), corrupted, "{bad:?} {summary}");
    assert_eq!(
        captured.tshark(&["-Y", "_ws.malformed || _ws.lua.error"]),
        ""
    );
}

#[test]
#[ignore = "needs tshark"]
fn every_signal_and_answer_shows_its_id_and_what_it_says() {
    let told = [
        (
            false,
            "SIGNEW:Tal",
            "SIGNEW: hello, I am Tal, open a session",
        ),
        (true, "SIGNACK", "SIGNACK: hello, the session is open"),
        (
            false,
            "SIGNECHO:290;1682672342.80",
            "SIGNECHO 290: send my timestamp back",
        ),
        (
            true,
            "ECHOREPLY:290;1682672342.80",
            "ECHOREPLY 290: here is your timestamp back",
        ),
        (
            false,
            "SIGNSTAT:291",
            "SIGNSTAT 291: how is my session doing?",
        ),
        (
            false,
            "SIGNSTAT:291;again",
            "SIGNSTAT 291 (again): how is my session doing?",
        ),
        (
            true,
            "STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: 18.77 seconds",
            "STATREPLY 291: 2 received, 0 lost, connected 18.77 s",
        ),
        (
            false,
            "SIGNGET:292;SIGNGET",
            "SIGNGET 292: which files are there?",
        ),
        (
            true,
            "ACKGET:292;a.zip;b.pdf;",
            "ACKGET 292: 2 files: a.zip b.pdf",
        ),
        (
            false,
            "SIGNGET:293;a.zip\r\n",
            "SIGNGET 293: where do I fetch a.zip?",
        ),
        (
            true,
            "ACKGET:293;http://127.0.0.1/a.zip",
            "ACKGET 293: fetch http://127.0.0.1/a.zip",
        ),
        (true, "ACKGET:293;", "ACKGET 293: there is nothing"),
        (
            false,
            "SIGNECHO:18446744073709551615;x",
            "SIGNECHO 18446744073709551615: send my timestamp back",
        ),
        (
            true,
            "SIGNLOST:294",
            "SIGNLOST 294: it never came, send it again",
        ),
        (
            true,
            "SIGNFULL:295",
            "SIGNFULL 295: window full, wait, then send it again",
        ),
        (
            true,
            "SIGNFULL",
            "SIGNFULL: window full, wait, then send it again",
        ),
        (
            true,
            "SIGNREFUSED:296;the list is away",
            "SIGNREFUSED 296: the list is away",
        ),
        (true, "SIGNREFUSED:no room", "SIGNREFUSED: no room"),
        (
            false,
            "SIGNEND:297;SIGNEND",
            "SIGNEND 297: goodbye, end my session",
        ),
        (true, "ACKEND:297", "ACKEND 297: goodbye"),
        (true, "ACKEND", "ACKEND: goodbye"),
    ];
    let datagrams: Vec<_> = told
        .iter()
        .map(|(from, text, _)| (*from, text.as_bytes().to_vec()))
        .collect();
    let captured = Captured::of(&datagrams, usize::MAX - 28);
    captured.all_well(49152);
    let info = captured.tally("labnet", "_ws.col.Info");
    for (_, _, words) in told {
        assert_eq!(count(&info, words), 1, "{words}: {info:#?}");
    }
    let ids = captured.tally("labnet.signal == \"SIGNECHO\"", "labnet.signal.id");
    assert_eq!(
        ids.keys().collect::<Vec<_>>(),
        ["18446744073709551615", "290"]
    );
    for (expert, of) in [("missing", 1), ("full", 2), ("refused", 2), ("repeated", 1)] {
        let found = captured.fields(&format!("labnet.signal.{expert}"), &["frame.number"]);
        assert_eq!(found.len(), of, "{expert}");
    }
    let wrong = [
        "SIGNEW:",
        "SIGNEW:a;b",
        "SIGNECHO:290",
        "SIGNECHO:0;x",
        "SIGNECHO:01;x",
        "SIGNSTAT:x",
        "SIGNECHO:18446744073709551616;x",
        "SIGNEND:1;SIGNED",
        "SIGNACK:1",
        "ACKEND:x",
        "ECHOREPLY",
        "STATREPLY:1;Packets sent: x",
        "SIGNREFUSED",
        "SIGNLOST",
        "hello",
        "\u{7f}",
        "SIGNEW:T\u{e4}l",
    ];
    let datagrams: Vec<_> = wrong
        .iter()
        .map(|text| (true, text.as_bytes().to_vec()))
        .collect();
    let captured = Captured::of(&datagrams, usize::MAX - 28);
    let found = captured.fields("labnet.malformed", &["frame.number"]);
    assert_eq!(found.len(), wrong.len(), "{found:?}");
    no_lua_errors(&captured);
}

/// Every packet is dissected, shown or not, in one pass or two, and Lua never fails.
#[track_caller]
fn no_lua_errors(captured: &Captured) {
    for passes in [&["-V"][..], &["-V", "-2"], &[]] {
        let text = captured.tshark(passes);
        for sign in ["Lua Error", "Lua error", "this dissector failed"] {
            let found = text.lines().find(|line| line.contains(sign));
            assert_eq!(found, None);
        }
    }
}

#[test]
#[ignore = "needs tshark"]
fn whatever_comes_the_dissector_never_fails() {
    let mut random = Pcg32::seed_from_u64(11);
    let agreement = Agreement {
        client: Cid(0x0102_0304_0506_0708),
        server: Cid(0x1112_1314_1516_1718),
        client_nonce: *b"nonce of client.",
        server_nonce: *b"nonce of server.",
    };
    let mut keys = Protection::Checksum.keys(Side::Client, &agreement);
    let real = samples(&Protection::Checksum);
    let words = [
        "SIGNEW:",
        "SIGNECHO:",
        "SIGNSTAT:",
        "SIGNGET:",
        "SIGNEND:",
        "SIGNACK",
        "ECHOREPLY:",
        "STATREPLY:",
        "ACKGET:",
        "ACKEND:",
        "SIGNLOST:",
        "SIGNFULL:",
        "SIGNREFUSED:",
    ];
    let mut datagrams = real.clone();
    for n in 0..2000u64 {
        let (from_proxy, packet) = &real[random.random_range(0..real.len())];
        let mut bytes = packet.clone();
        match n % 6 {
            // Random bytes.
            0 => {
                bytes = vec![0; random.random_range(1..300)];
                random.fill_bytes(&mut bytes);
            }
            // A packet's first byte, then random ones.
            1 => random.fill_bytes(&mut bytes[1..]),
            // Flipped bits.
            2 => {
                for _ in 0..random.random_range(1..4) {
                    let end = bytes.len().min(120);
                    bytes[random.random_range(0..end)] ^= 1 << random.random_range(0..8);
                }
            }
            // Cut short.
            3 => bytes.truncate(random.random_range(1..=packet.len())),
            // What looks like frames, under a right checksum.
            4 => {
                bytes.clear();
                labnet::rudp::packet::encode_data_header(
                    agreement.server,
                    n << random.random_range(0..50),
                    &mut bytes,
                );
                for _ in 0..random.random_range(0..12) {
                    bytes.push(random.random_range(0..0x20));
                    for _ in 0..random.random_range(0..7) {
                        let edge = [0, 1, 2, 0x40, 0x80, 0xc0, 0xff, random.random()];
                        bytes.push(edge[random.random_range(0..edge.len())]);
                    }
                }
                keys.seal(&mut bytes, 0, n);
            }
            // A signal's word, then anything.
            _ => {
                bytes = words[random.random_range(0..words.len())].into();
                let tails = [
                    "",
                    "290",
                    "290;",
                    "290;a;b",
                    ";",
                    "0;1",
                    "290;\n\n",
                    "99999999999999999999999;x",
                ];
                bytes.extend_from_slice(tails[random.random_range(0..tails.len())].as_bytes());
                bytes.push(random.random());
            }
        }
        datagrams.push((*from_proxy, bytes));
    }
    for most in [usize::MAX - 28, 100, 20] {
        no_lua_errors(&Captured::of(&datagrams, most));
    }
    // Nothing of the first is missing: what the format calls malformed is called so.
    let captured = Captured::of(&datagrams[..real.len()], usize::MAX - 28);
    captured.all_well(49152);
}

#[test]
#[ignore = "needs tshark"]
fn wireshark_loads_the_dissector_from_its_folder_of_plugins() {
    let home = TempDir::new().expect("a folder");
    let plugins = home.path().join(".local/lib/wireshark/plugins");
    fs::create_dir_all(&plugins).expect("a folder");
    fs::copy(Path::new(DISSECTOR), plugins.join("labnet.lua")).expect("copied");
    let output = Command::new("tshark")
        .args(["-G", "protocols"])
        .env("HOME", home.path())
        .output()
        .expect("tshark starts (tests/run installs it)");
    let protocols = String::from_utf8_lossy(&output.stdout);
    assert!(
        protocols.lines().any(|line| line.ends_with("\tlabnet")),
        "{protocols}"
    );
}
