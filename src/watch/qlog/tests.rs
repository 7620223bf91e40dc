#![allow(clippy::unwrap_used)]

use std::{io::BufReader, os::unix::fs::symlink};

use ::qlog::reader::{Event as Read, QlogSeqReader};

use serde_json::{Value, json};

use super::*;
use crate::watch::event::transport::{
    Cause, Change, Limit, Lost, Reaction, Rule, Sent, Spent, Spurious, State,
};

fn about(began: Instant, cid: u64) -> About {
    About {
        side: Side::Server,
        cid,
        name: "Tal".to_owned(),
        remote: "127.0.0.1:4000".parse().unwrap(),
        congestion: "cubic",
        began,
    }
}

fn sent(number: u64) -> Step {
    Step::Sent(Sent {
        number,
        size: 1200,
        ack_eliciting: true,
        data: true,
        again: false,
        probe: number == 2,
    })
}

/// A step of each kind, a millisecond apart.
fn all(began: Instant) -> Vec<(Instant, Step)> {
    let rule = Rule::PacketThreshold {
        threshold: 3,
        largest_acked: 9,
    };
    let state = State {
        window: 14_720,
        ssthresh: Some(9000),
        in_flight: 2400,
        in_flight_max: 3600,
        pacing_rate: 1_000_000,
        latest_rtt: Duration::from_micros(20_500),
        longest_rtt: Duration::from_millis(21),
        smoothed_rtt: Duration::from_millis(20),
        min_rtt: Duration::from_millis(19),
        phase: "slow_start",
        limit: Limit::Window,
        spent: Spent::default(),
    };
    let steps = [
        sent(1),
        sent(2),
        Step::Received {
            number: 0,
            size: 40,
        },
        Step::Acknowledged {
            number: 2,
            size: 1200,
            sent_at: began,
        },
        Step::Acknowledged {
            number: 1,
            size: 1200,
            sent_at: began,
        },
        Step::Acknowledged {
            number: 5,
            size: 1200,
            sent_at: began,
        },
        Step::Lost(Lost {
            number: 2,
            size: 1200,
            sent_at: began,
            rule,
            congestion: false,
        }),
        Step::Lost(Lost {
            number: 3,
            size: 1200,
            sent_at: began,
            rule,
            congestion: true,
        }),
        Step::Window(Change {
            before: 20_000,
            after: 14_000,
            ssthresh: Some(14_000),
            in_flight: 1200,
            phase: "recovery",
            cause: Cause::Marked {
                smallest: 9,
                largest: 9,
            },
            reaction: Reaction::Unsaid,
        }),
        Step::Spurious(Spurious {
            number: 3,
            sent_at: began,
            distance: 4,
            late: Duration::from_millis(3),
            undoes: true,
        }),
        Step::ProbeTimeout { count: 2 },
        Step::State(state),
        Step::Mtu {
            before: 1200,
            after: 1472,
        },
        Step::Address {
            from: "127.0.0.1:4000".parse().unwrap(),
            to: "[::1]:4001".parse().unwrap(),
            new_path: true,
        },
        Step::Received {
            number: 1,
            size: 41,
        },
    ];
    let times = (1..).map(|n| began + Duration::from_millis(n));
    times.zip(steps).collect()
}

/// The file's records, each a JSON text behind a record separator.
fn records(path: &Path) -> Vec<Value> {
    let bytes = fs::read(path).unwrap();
    let texts = bytes.split(|byte| *byte == 0x1e).skip(1);
    texts
        .map(|text| {
            assert_eq!(text.last(), Some(&b'\n'));
            serde_json::from_slice(text).unwrap()
        })
        .collect()
}

fn names(records: &[Value]) -> Vec<&str> {
    let names = records.iter().filter_map(|record| record["name"].as_str());
    names.collect()
}

fn written(version: Version) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let qlog = Qlog::new(folder.path(), version).unwrap();
    let began = Instant::now();
    let mut recorder = qlog.connection(about(began, 7));
    for (now, step) in all(began) {
        recorder.on_step(now, &step);
    }
    drop(recorder);
    drop(qlog);
    let path = folder.path().join("0000000000000007_server.sqlog");
    (folder, path)
}

#[test]
fn every_step_is_an_event_of_the_newest_schema() {
    let (_folder, path) = written(Version::Draft13);
    let records = records(&path);
    assert_eq!(
        names(&records),
        [
            "quic:packet_sent",
            "quic:packet_sent",
            "quic:packet_received",
            "quic:packets_acked",
            "quic:packet_lost",
            "quic:packet_lost",
            "quic:recovery_metrics_updated",
            "quic:congestion_state_updated",
            "loglevel:info",
            "quic:recovery_metrics_updated",
            "quic:recovery_metrics_updated",
            "quic:congestion_state_updated",
            "quic:mtu_updated",
            "quic:tuple_assigned",
            "quic:packet_received",
        ]
    );
    let lost = records
        .iter()
        .filter(|record| record["name"] == "quic:packet_lost");
    let probes: Vec<_> = lost
        .map(|lost| &lost["data"]["is_mtu_probe_packet"])
        .collect();
    assert_eq!(probes, [&Value::Bool(true), &Value::Null]);
    // The schema's own crate reads each of them as what it is.
    let file = BufReader::new(File::open(&path).unwrap());
    let reader = QlogSeqReader::new(Box::new(file)).unwrap();
    assert_eq!(reader.qlog.file_schema, ::qlog::QLOGFILESEQ_URI);
    let schemas = [::qlog::events::QUIC_URI, ::qlog::events::LOGLEVEL_URI];
    assert_eq!(reader.qlog.trace.event_schemas, schemas);
    let events: Vec<_> = reader
        .map(|event| match event {
            Read::Qlog(event) => event,
            Read::Json(event) => panic!("not of the schema: {event:?}"),
        })
        .collect();
    assert_eq!(events.len(), records.len() - 1);
    for (event, record) in events.iter().zip(&records[1..]) {
        // What the crate writes of it is what stands there: no field is unknown to it.
        let again = serde_json::to_value(event).unwrap();
        assert_eq!(again["data"], record["data"]);
    }
    let mut before = 0.0;
    for event in events {
        assert!(event.time >= before);
        before = event.time;
    }
}

#[test]
fn version_0_3_has_its_names_and_its_acknowledgements() {
    let (_folder, path) = written(Version::V0_3);
    let records = records(&path);
    assert_eq!(records[0]["qlog_version"], "0.3");
    let received = records
        .iter()
        .find(|record| record["name"] == "transport:packet_received")
        .unwrap();
    let frame = &received["data"]["frames"][0];
    assert_eq!(frame["frame_type"], "ack");
    assert_eq!(frame["acked_ranges"], json!([[1, 2], [5, 5]]));
    let names = names(&records);
    for name in [
        "transport:packet_sent",
        "recovery:packet_lost",
        "recovery:metrics_updated",
        "recovery:congestion_state_updated",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let of_today = names
        .iter()
        .find(|name| name.is_empty() || name.starts_with("quic:"));
    assert_eq!(of_today, None);
}

fn folder(path: &Path) -> Folder {
    Folder {
        file_bytes: 8192,
        files: 3,
        ..Folder::new(path, Version::Draft13)
    }
}

#[test]
fn a_full_file_says_so_and_stays_readable() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    let began = Instant::now();
    folder.begin(0, &about(began, 1));
    let steps: Vec<_> = (0..10).map(|n| (began, sent(n))).collect();
    for _ in 0..20 {
        folder.write(0, &steps, 0);
    }
    let trace = folder.open.remove(&0).unwrap();
    folder.end(trace);
    let path = place.path().join("0000000000000001_server.sqlog");
    assert!(fs::metadata(&path).unwrap().len() <= 8192);
    let records = records(&path);
    let names = names(&records);
    assert_eq!(names.last(), Some(&"loglevel:warning"));
    let kept = names
        .iter()
        .filter(|name| **name == "quic:packet_sent")
        .count() as u64;
    assert!(kept > 10);
    assert_eq!(folder.lost.load(Ordering::Relaxed), 200 - kept);
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    let began = Instant::now();
    folder.begin(0, &about(began, 1));
    folder.write(0, &[(began, sent(0))], 41);
    let trace = folder.open.remove(&0).unwrap();
    folder.end(trace);
    let records = records(&place.path().join("0000000000000001_server.sqlog"));
    let message = records[1]["data"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("41 events are missing here"),
        "{message}"
    );

    // A disk that takes nothing.
    symlink(
        "/dev/full",
        place.path().join("0000000000000002_server.sqlog"),
    )
    .unwrap();
    folder.begin(1, &about(began, 2));
    folder.write(1, &[(began, sent(0)), (began, sent(1))], 0);
    assert_eq!(folder.lost.load(Ordering::Relaxed), 2);
}

#[test]
fn the_oldest_file_of_a_run_makes_room() {
    let place = tempfile::tempdir().unwrap();
    let theirs = place.path().join("another.sqlog");
    fs::write(&theirs, "of another run").unwrap();
    let mut folder = folder(place.path());
    let began = Instant::now();
    for n in 0..5 {
        folder.begin(n, &about(began, n));
    }
    let kept: Vec<bool> = (0..5)
        .map(|n| place.path().join(format!("{n:016x}_server.sqlog")).exists())
        .collect();
    assert_eq!(kept, [false, false, true, true, true]);
    assert!(theirs.exists());
}

#[test]
fn files_are_closed_whose_end_found_no_room() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(place.path(), Version::Draft13);
    let (sender, messages) = mpsc::sync_channel(QUEUE);
    let qlog = Qlog(Arc::new(Inner {
        sender: Some(sender),
        writer: None,
        next: AtomicU64::new(0),
        lost: Arc::clone(&folder.lost),
        unclosed: Arc::clone(&folder.unclosed),
    }));
    // The writer does not run yet: most ends find the queue full.
    let began = Instant::now();
    let connections = QUEUE as u64 - 10;
    let mut recorders: Vec<_> = (0..connections)
        .map(|cid| qlog.connection(about(began, cid)))
        .collect();
    for recorder in &mut recorders[..10] {
        recorder.on_step(began, &sent(0));
        recorder.flush();
    }
    drop(recorders);
    assert_eq!(locked(&qlog.0.unclosed).len() as u64, connections);
    let writer = std::thread::spawn(move || folder.run(&messages));
    let held = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|to| to.starts_with(place.path())).count()
    };
    let patience = Instant::now() + Duration::from_secs(60);
    qlog.settle(Duration::from_secs(60));
    while held() > 0 {
        assert!(Instant::now() < patience, "{} are open", held());
        std::thread::sleep(Duration::from_millis(10));
    }
    // What had found room before is in the files.
    assert_eq!(qlog.lost(), 0);
    drop(qlog);
    writer.join().unwrap();
}
