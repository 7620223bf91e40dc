//! The story as it happens: numbers the packets, counts them, prints them.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    ending::{self, Ending},
    fold::Fold,
    manner::Manner,
    row::{Chapter, Packet, Row, Tally},
    table::Table,
};
use crate::{
    client::units::{Latency, Rate, Size},
    watch::{event::packet::Protocol, words::What},
};

/// As long as something is under way, nobody hears nothing for longer.
const SILENCE: Duration = Duration::from_secs(1);

/// What the roles and the client tell of themselves.
#[derive(Debug)]
pub(super) enum Happening {
    /// A chapter begins.
    Chapter(Chapter),
    /// A packet is sent.
    Packet(Instant, Packet),
    /// A file has arrived at the client.
    Arrived(Transfer),
    /// Lines that are no part of the table.
    Text(String),
    /// The client is home.
    Ending(Ending),
    /// Nothing more will happen.
    End,
}

/// A file that has come, as a whole.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    /// Its name.
    pub(super) name: String,
    /// Bytes that came.
    pub(super) bytes: u64,
    /// While they came.
    pub(super) took: Duration,
}

/// How the story is told.
pub(super) enum Telling {
    /// A table for people.
    Table(Table),
    /// One JSON object a line.
    Json,
}

/// Tells the story until its end, in a thread of its own: a slow terminal slows no role.
pub(super) fn tell(
    happenings: &Receiver<Happening>,
    telling: &Telling,
    manner: &mut Manner,
    began: Instant,
    mut out: impl Write,
) {
    let mut tally = Tally::default();
    let mut chapter = None;
    let mut announced = Chapter::Start;
    // The lines of a table that nobody reads any more (`demo | head`) are no failure.
    let mut say = |text: &str| -> io::Result<()> {
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    };
    let mut fold = Fold::default();
    let mut spoke = Instant::now();
    loop {
        let happening = match happenings.recv_timeout(SILENCE.saturating_sub(spoke.elapsed())) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if spoke.elapsed() >= SILENCE {
            spoke = Instant::now();
            if let Some(folded) = fold.say(true)
                && matches!(telling, Telling::Table(_))
            {
                let _ = say(&folded);
            }
        }
        let Some(happening) = happening else {
            continue;
        };
        let is_packet = matches!(happening, Happening::Packet(..) | Happening::Chapter(_));
        if !is_packet && let Some(folded) = fold.say(false) {
            let _ = say(&folded);
        }
        let said = match happening {
            Happening::End => break,
            Happening::Chapter(next) => {
                announced = next;
                continue;
            }
            Happening::Text(text) => say(&text),
            Happening::Arrived(transfer) => match telling {
                Telling::Table(_) => say(&transfer.in_words()),
                Telling::Json => say(&transfer.as_json()),
            },
            Happening::Ending(ending) => match telling {
                Telling::Table(table) => say(&ending::describe(table, &ending, &tally)),
                Telling::Json => say(&ending::json_lines(&ending, &tally)),
            },
            Happening::Packet(at, packet) => {
                let time = at.saturating_duration_since(began);
                let mut row = Row {
                    number: 0,
                    time,
                    chapter: announced,
                    packet,
                };
                // A body over HTTP is a transfer: how the kernel was given it is no packet.
                let is_body =
                    row.packet.protocol == Protocol::Http && row.packet.reading.what == What::Data;
                if !is_body {
                    tally.count(&row.packet, time);
                    row.number = tally.packets;
                }
                if (is_body || matches!(telling, Telling::Table(_))) && fold.takes(&row) {
                    continue;
                }
                if let Some(folded) = fold.say(false)
                    && matches!(telling, Telling::Table(_))
                {
                    let _ = say(&folded);
                }
                if matches!(telling, Telling::Table(_)) && !manner.pause() {
                    break;
                }
                spoke = Instant::now();
                // A chapter is headed by its first packet: none is told that stays empty.
                if chapter != Some(announced) {
                    chapter = Some(announced);
                    if let Telling::Table(table) = telling {
                        let _ = say(&table.heading(announced));
                    }
                }
                match telling {
                    Telling::Table(table) => {
                        let lines = [vec![table.row(&row)], manner.explain(&row.packet)];
                        say(&lines.concat().join("\n"))
                    }
                    Telling::Json => say(&row.as_json()),
                }
            }
        };
        if let Err(error) = said {
            tracing::debug!(%error, "standard output");
        }
    }
}

impl Transfer {
    fn in_words(&self) -> String {
        format!(
            "    ⋮  that was {}: {} in {}, {}",
            self.name,
            Size(self.bytes),
            Latency(self.took),
            Rate::new(self.bytes, self.took)
        )
    }

    fn as_json(&self) -> String {
        json!({
            "type": "transfer",
            "name": self.name,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{
        super::ending::{Arrived, Outcome},
        *,
    };
    use crate::{
        client::session::Counts,
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
            }),
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
            let happening =
                (0..20).map(|n| data(if n % 4 == 0 { Role::Client } else { Role::Rudp }));
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
}
