//! The story as it happens: numbers the packets, counts them, prints them.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    ending,
    fold::Fold,
    happening::Happening,
    join::Join,
    manner::Manner,
    row::{Chapter, Row, Tally},
    table::Table,
};
use crate::{
    cli::explain::arp::Arp,
    watch::{event::packet::Protocol, words::What},
};

/// As long as something is under way, nobody hears nothing for longer.
const SILENCE: Duration = Duration::from_secs(1);

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
    let mut is_over = false;
    // The lines of a table that nobody reads any more (`demo | head`) are no failure.
    let mut say = |text: &str| -> io::Result<()> {
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    };
    let mut fold = Fold::default();
    let mut spoke = Instant::now();
    let mut join = Join::new(manner.behind_nat);
    loop {
        let now = Instant::now();
        let happening = join.next(now);
        let patience = SILENCE.saturating_sub(spoke.elapsed());
        let happening = match happening {
            Some(happening) => Some(happening),
            None => match happenings.recv_timeout(patience.min(join.patience(now))) {
                Ok(happening) => {
                    join.put(happening, Instant::now());
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            },
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
                (announced, is_over) = (next, false);
                continue;
            }
            // What servers still send to a client that has gone is in no total any more.
            Happening::Packet(..) | Happening::Arp(..) if is_over => continue,
            Happening::Text(text) => say(&text),
            Happening::Arrived(transfer) => match telling {
                Telling::Table(_) => say(&transfer.in_words()),
                Telling::Json => say(&transfer.as_json()),
            },
            Happening::Ending(ending) => {
                is_over = true;
                match telling {
                    Telling::Table(table) => say(&ending::describe(table, &ending, &tally)),
                    Telling::Json => say(&ending::json_lines(&ending, &tally)),
                }
            }
            Happening::Arp(at, arp) => {
                let time = at.saturating_duration_since(began);
                match telling {
                    Telling::Table(table) => {
                        if !manner.pause() {
                            break;
                        }
                        let lines = [vec![table.arp(time, &arp)], manner.explain_arp(&arp)];
                        say(&lines.concat().join("\n"))
                    }
                    Telling::Json => say(&arp_as_json(time, &arp)),
                }
            }
            Happening::Forgot(at, after, ports) => {
                let time = at.saturating_duration_since(began);
                match telling {
                    Telling::Table(table) => say(&table.forgot(after, ports)),
                    Telling::Json => say(&json!({
                        "type": "forgot",
                        "time": time.as_secs_f64(),
                        "seconds": after.as_secs_f64(),
                        "ports": ports.to_string(),
                    })
                    .to_string()),
                }
            }
            Happening::Moved(at, from, to) => {
                tally.moves += 1;
                let time = at.saturating_duration_since(began);
                match telling {
                    Telling::Table(table) => say(&table.moved(time, from, to)),
                    Telling::Json => say(&json!({
                        "type": "moved",
                        "time": time.as_secs_f64(),
                        "from": from,
                        "to": to,
                    })
                    .to_string()),
                }
            }
            // The packet that it was waited for with has it.
            Happening::Seen(..) => continue,
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
                        let row_of = [vec![table.row(&row)], table.seen(&row.packet)];
                        let lines = [row_of.concat(), manner.explain(&row.packet)];
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

fn arp_as_json(time: Duration, arp: &Arp) -> String {
    json!({
        "type": "arp",
        "time": time.as_secs_f64(),
        "device": arp.device,
        "question": arp.asks,
        "sender_mac": arp.sender.0.to_string(),
        "sender": arp.sender.1,
        "target": arp.target.1,
        "meaning": arp.to_string(),
    })
    .to_string()
}

#[cfg(test)]
mod tests;
