//! What observers are told of packets, beside the packets themselves.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    process::{Command, Stdio},
    time::Duration,
};

use labnet::rudp::packet::{Cid, encode_data_header};
use serde_json::Value;

use crate::support::{Lab, loopback, probe::Addresses, wait_for};

/// By protocol, source, destination: how many, and how many bytes.
type Sums = BTreeMap<(String, String, String), (u64, u64)>;

fn sums<'a>(packets: impl Iterator<Item = &'a Value>, by_datagram: bool) -> Sums {
    let mut sums = Sums::new();
    for packet in packets {
        let text = |key: &str| packet[key].as_str().expect(key).to_owned();
        let way = (text("protocol"), text("source"), text("destination"));
        let (count, bytes) = sums.entry(way).or_default();
        *count += u64::from(by_datagram);
        *bytes += packet["bytes"].as_u64().expect("bytes");
    }
    sums
}

#[test]
fn every_packet_that_one_end_has_sent_the_other_has_received() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["demo", "--json", "--events"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    assert!(output.status.success());
    let events = fs::read_to_string(&file).expect("written");
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    for event in &events {
        // None is lost, and each has words.
        assert_eq!(event["event"], "packet", "{event}");
        assert!(
            !event["meaning"].as_str().expect("text").is_empty(),
            "{event}"
        );
        assert_ne!(event["message"], "unreadable", "{event}");
    }
    // Both ends of everything are this process's.
    for carrier in ["udp", "tcp"] {
        let of = |direction: &str| {
            let packets = events.iter().filter(|event| {
                event["carrier"] == carrier
                    && event["direction"] == direction
                    && event["fate"] != "refused"
            });
            sums(packets, carrier == "udp")
        };
        let (sent, received) = (of("sent"), of("received"));
        assert!(sent.len() >= 6, "{sent:?}");
        assert_eq!(sent, received);
    }
    // Causes stand before what they cause: nothing has been received before it was sent.
    let mut under_way = BTreeMap::new();
    for event in &events {
        let way = (
            event["source"].to_string(),
            event["destination"].to_string(),
        );
        let bytes = event["bytes"].as_i64().expect("bytes");
        let sum: &mut i64 = under_way.entry(way).or_default();
        *sum += if event["direction"] == "sent" {
            bytes
        } else {
            -bytes
        };
        assert!(*sum >= 0, "{event}");
    }
    let names = |protocol: &str| -> Vec<&str> {
        let sent = events
            .iter()
            .filter(|event| event["protocol"] == protocol && event["direction"] == "sent");
        sent.filter_map(|event| event["message"].as_str()).collect()
    };
    assert_eq!(
        names("DHCP"),
        ["DISCOVER", "OFFER", "REQUEST", "ACK", "RELEASE"]
    );
    assert_eq!(names("DNS"), ["query", "answer"]);
}

#[test]
fn the_log_has_each_packet_both_ways_and_everything_else_too() {
    let ip = loopback();
    let config = format!(
        "[log]\nlevel = \"info,labnet::packet=trace\"\n[dns]\nlisten = [\"{ip}:5300\"]\n\
         [[dns.zone]]\nname = \"lab.test.\"\nfile = \"lab.test.zone\"\n"
    );
    let zone = "$TTL 1h\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    let lab = Lab::start_with(&config, &[("lab.test.zone", zone)], None);
    let client = UdpSocket::bind((ip, 0)).expect("loopback");
    client.connect((ip, 5300)).expect("connected");
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let mut buffer = [0; 600];
    let count = 50_u16;
    for id in 0..count {
        let mut query = id.to_be_bytes().to_vec();
        query.extend(
            b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ns\x03lab\x04test\x00\x00\x01\x00\x01",
        );
        client.send(&query).expect("sent");
        client.recv(&mut buffer).expect("answered");
    }
    // No answer to an answer.
    client.send(&buffer[..40]).expect("sent");
    let refused = wait_for("the last packet's line", || {
        let log = lab.log();
        let mut lines = log.lines().map(str::to_owned);
        lines.find(|line| line.contains("fate=\"refused\""))
    });
    assert!(refused.contains("reason=\"response\""), "{refused}");
    let log = lab.log();
    let own = client.local_addr().expect("bound").to_string();
    for id in 0..count {
        let id = format!("id=\\\"{id:#06x}\\\"");
        let of = |fate: &str, from: &str, to: &str| {
            let lines = log.lines().filter(|line| {
                line.contains(&id)
                    && line.contains(fate)
                    && line.contains(from)
                    && line.contains(to)
            });
            lines.count()
        };
        let server = format!("{ip}:5300");
        let (source, destination) = (format!("source={own}"), format!("destination={server}"));
        assert_eq!(
            of("fate=\"received\"", &source, &destination),
            1,
            "{id}\n{log}"
        );
        let (source, destination) = (format!("source={server}"), format!("destination={own}"));
        assert_eq!(of("fate=\"sent\"", &source, &destination), 1, "{id}\n{log}");
    }
    assert!(log.contains("INFO") && log.contains("serving:"), "{log}");
}

#[test]
fn a_variable_that_asks_for_packets_leaves_the_rest_of_the_log_as_it_is() {
    let log = |variable: &str| {
        let ip = loopback();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("labnet.toml");
        let text = format!("[http]\nlisten = \"{ip}:9167\"\n");
        fs::write(&file, text).expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["serve", "-c"])
            .arg(&file)
            .env("RUST_LOG", variable)
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        wait_for("the lab", || {
            let (code, _) = crate::support::request((ip, 9167).into(), "GET", "/-/ready");
            (code == 200).then_some(())
        });
        crate::support::signal(child.id(), "TERM");
        let output = child.wait_with_output().expect("ends");
        String::from_utf8(output.stderr).expect("text")
    };
    let packets = log("labnet::packet=trace");
    for part in ["GET /-/ready", "200 OK", "INFO", "serving:"] {
        assert!(packets.contains(part), "{part}: {packets}");
    }
    let quiet = log("error");
    assert!(
        !quiet.contains("INFO") && !quiet.contains("GET /"),
        "{quiet}"
    );
}

#[test]
fn what_nobody_takes_is_raised_by_the_reason_that_the_metrics_count() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n");
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    // A stranger gets little.
    let strict = "[rudp]\ntrust_loopback = false\namplification = 1\n";
    let config = config.replace("[rudp]\n", strict);
    let zone = addresses.zone();
    let mut lab = Lab::start_observed(&config, &[("example.com.zone", &zone)]);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    let proxy = addresses.at(49152);
    let client = UdpSocket::bind((ip, 0)).expect("loopback");
    client.connect(proxy).expect("connected");
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let send = |datagram: &[u8]| {
        client.send(datagram).expect("sent");
    };
    let ask = |signal: &str| {
        send(signal.as_bytes());
        let mut buffer = [0; 2000];
        let length = client.recv(&mut buffer).expect("answered");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // No session, no signal at all, no connection.
    send(b"SIGNECHO:290;1");
    send(b"hello?");
    let mut unknown = Vec::new();
    encode_data_header(Cid(7), 1, &mut unknown);
    unknown.extend([0; 40]);
    send(&unknown);
    let mut reset = [0; 100];
    client.recv(&mut reset).expect("it is told");
    assert_eq!(ask("SIGNEW:Tal"), "SIGNACK");
    assert_eq!(ask("SIGNECHO:290;1"), "ECHOREPLY:290;1");
    // Before the first one.
    send(b"SIGNECHO:200;1");
    // The same answer again, until it is more than a stranger may have.
    for _ in 0..300 {
        send(b"SIGNSTAT:291");
    }
    wait_for("enough", || {
        (lab.metric("labnet_rudp_dropped_total{reason=\"amplification\"}") > 0.0).then_some(())
    });
    // A download over a network that damages some packets both ways.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--server", &proxy.to_string(), "--via", "rudp"])
        .args(["--corrupt", "5", "--seed", "1", "--events"])
        .arg(&file)
        .args(["get", "--discard", "1MB.zip"])
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    let reasons = [
        "malformed",
        "no_session",
        "too_old",
        "no_connection",
        "integrity",
    ];
    let counted: BTreeMap<&str, u64> = (reasons.iter().chain(&["amplification"]))
        .map(|reason| {
            let series = format!("labnet_rudp_dropped_total{{reason=\"{reason}\"}}");
            (*reason, lab.metric(&series) as u64)
        })
        .collect();
    assert_eq!(lab.terminate(), Some(0));
    let read = |file: &std::path::Path| -> Vec<Value> {
        let text = fs::read_to_string(file).expect("written");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    };
    let events = read(&lab.dir().join(Lab::EVENTS));
    let mut told = BTreeMap::<&str, u64>::new();
    for (at, event) in events.iter().enumerate() {
        let reason = event["reason"].as_str().unwrap_or_default();
        match event["fate"].as_str() {
            Some("refused") => {
                let is_it = |before: &Value| {
                    before["fate"] == "received"
                        && before["source"] == event["source"]
                        && before["bytes"] == event["bytes"]
                };
                assert!(events[..at].iter().any(is_it), "{event}");
                assert_ne!(reason, "amplification");
            }
            // Only here an answer of the server's own is not sent.
            Some("withheld") => assert_eq!(reason, "amplification"),
            _ => continue,
        }
        *told.entry(reason).or_default() += 1;
    }
    assert!(counted.values().all(|count| *count > 0), "{counted:?}");
    assert_eq!(told, counted);
    // The client has its own.
    let own = read(&file);
    let refused = own.iter().filter(|event| event["fate"] == "refused");
    let refused: Vec<&Value> = refused.collect();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|event| event["role"] == "client"));
    assert!(refused.iter().any(|event| event["reason"] == "integrity"));
}
