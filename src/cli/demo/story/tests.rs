use std::sync::mpsc;

use super::{
    super::{
        ending::{Arrived, Ending, Outcome},
        happening::Transfer,
        row::Packet,
        seen::Print,
    },
    *,
};
use crate::{
    client::{session::Counts, units::Rate},
    watch::{
        event::packet::{Again, Fate, Role},
        words::Reading,
    },
};

fn packet(role: Role, fate: Fate, reading: Reading) -> Happening {
    Happening::Packet(
        Instant::now(),
        Packet {
            role,
            protocol: Protocol::Rudp,
            source: ([127, 20, 30, 41], 40_000).into(),
            destination: ([127, 0, 0, 10], 49_152).into(),
            bytes: 17,
            fate,
            reading,
            print: Print::default(),
            seen: None,
        },
    )
}

fn signal(role: Role, fate: Fate, name: &'static str, meaning: &str) -> Happening {
    packet(role, fate, Reading::message(name, meaning))
}

fn told(telling: &Telling) -> String {
    let (sender, happenings) = mpsc::channel();
    let file = |sha256| Arrived {
        name: "task2.pdf".to_owned(),
        outcome: Ok(Outcome {
            bytes: 2421,
            sha256,
            original: [7; 32],
            rate: Rate::new(2421, Duration::from_millis(1)),
        }),
    };
    let missing = Arrived {
        name: "1MB.zip".to_owned(),
        outcome: Err("the origin has no such file (404 Not Found)".to_owned()),
    };
    for happening in [
        Happening::Chapter(Chapter::Address),
        Happening::Chapter(Chapter::Signals),
        signal(
            Role::Client,
            Fate::LostOnPurpose,
            "SIGNECHO",
            "SIGNECHO 290: \"back\"",
        ),
        signal(
            Role::Rudp,
            Fate::Sent,
            "SIGNLOST",
            "SIGNLOST 290: send it again",
        ),
        signal(
            Role::Client,
            Fate::SentAgain(Again::Missing),
            "SIGNECHO",
            "SIGNECHO 290: back",
        ),
        Happening::Ending(Ending {
            files: vec![file([7; 32]), file([8; 32]), missing],
            downloading: Duration::from_millis(2),
            counts: Counts::default(),
            carried: None,
            interrupted: false,
            address: Some([127, 20, 30, 41].into()),
            dropped: None,
        }),
        // Of a server that does not know yet.
        signal(Role::Rudp, Fate::Sent, "ECHOREPLY", "after the ending"),
        Happening::End,
        signal(Role::Client, Fate::Sent, "SIGNECHO", "after the end"),
    ] {
        sender.send(happening).expect("it listens");
    }
    let mut out = Vec::new();
    tell(
        &happenings,
        telling,
        &mut Manner::default(),
        Instant::now(),
        &mut out,
    );
    String::from_utf8(out).expect("text")
}

#[test]
fn packets_are_numbered_counted_and_printed_as_json() {
    let text = told(&Telling::Json);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let types: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(
        types,
        [
            "packet", "packet", "packet", "file", "file", "file", "totals"
        ]
    );
    assert_eq!(lines[2]["number"], 3);
    assert_eq!(lines[2]["chapter"], 3);
    assert_eq!(lines[0]["meaning"], "SIGNECHO 290: \"back\"");
    assert_eq!(lines[3]["verified"], true);
    assert_eq!(lines[4]["verified"], false);
    assert_ne!(lines[4]["sha256"], lines[4]["origin_sha256"]);
    let totals = &lines[6];
    assert_eq!(
        (&totals["packets"], &totals["packets_of_the_client"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(totals["lost_on_purpose"], 1);
    assert_eq!(totals["signlost"], 1);
    assert_eq!(totals["protocols"]["RUDP"], 3);
    assert_eq!(
        (&totals["files"], &totals["verified"]),
        (&json!(3), &json!(1))
    );
}

#[test]
fn the_packets_of_a_file_are_folded_in_the_table_and_whole_in_json() {
    let told = |telling: &Telling| {
        let (sender, happenings) = mpsc::channel();
        let data = |role| {
            let reading = Reading {
                what: What::Data,
                meaning: "DATA 1: stream 0 from 0: 1449 bytes".to_owned(),
                fields: Vec::new(),
            };
            packet(role, Fate::Sent, reading)
        };
        let happening = (0..20).map(|n| data(if n % 4 == 0 { Role::Client } else { Role::Rudp }));
        let arrived = Happening::Arrived(Transfer {
            name: "1MB.zip".to_owned(),
            bytes: 1_000_000,
            took: Duration::from_millis(5),
        });
        for happening in [Happening::Chapter(Chapter::Carried)]
            .into_iter()
            .chain(happening)
            .chain([arrived, data(Role::Rudp)])
            .chain([Happening::Text("the end".to_owned()), Happening::End])
        {
            sender.send(happening).expect("it listens");
        }
        let mut out = Vec::new();
        tell(
            &happenings,
            telling,
            &mut Manner::default(),
            Instant::now(),
            &mut out,
        );
        String::from_utf8(out).expect("text")
    };
    let table = told(&Telling::Table(Table::new(Some(120), false)));
    assert_eq!(table.matches("DATA 1: ").count(), 12, "{table}");
    let folded = "⋮  8 more DATA packets, 136 B; 2 of them the client's\n";
    let (before, after) = table.split_once(folded).expect(folded);
    assert!(before.contains("DATA 1: ") && after.contains("that was 1MB.zip"));
    assert!(after.contains("⋮  1 more DATA packet, 17 B; 0 of them the client's\nthe end"));
    assert_eq!(told(&Telling::Json).matches("DATA 1: ").count(), 21);
    assert_eq!((Chapter::Carried.number(), Chapter::End.number()), (5, 6));
}

#[test]
fn a_chapter_without_packets_has_no_heading() {
    let text = told(&Telling::Table(Table::new(None, false)));
    assert!(!text.contains(Chapter::Address.title()));
    assert_eq!(text.matches(Chapter::Signals.title()).count(), 1);
    assert!(text.contains("1 of 3 files verified"), "{text}");
}

#[test]
fn the_ending_fits_the_terminal() {
    for width in [80, 100, 120] {
        let text = told(&Telling::Table(Table::new(Some(width), true)));
        for line in text.lines() {
            assert!(
                console::measure_text_width(line) <= width,
                "{width}: {line}"
            );
        }
        assert!(text.contains(&"07".repeat(32)), "digests are whole");
    }
}
