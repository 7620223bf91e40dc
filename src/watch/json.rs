//! What happens, as lines of JSON: `--events FILE`.
//!
//! The shapes are written down in `docs/events.md`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::{Instant, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::{
    dropped::EVENTS,
    event::{
        hub::{Judged, Lost, Other, Wants},
        link::Crossing,
        packet::{Packet, When},
        transport::Traced,
    },
    fates::Reader,
    log::{Observer, Seen},
    steps::{extended, life_json, step_json},
    verdicts::verdict_line,
    words::{Reading, Words},
};

/// Writes all events from now on to `file`, which is made anew. `read` knows the transport's packets.
///
/// # Errors
/// The file can't be made.
pub fn start(file: &Path, read: Reader) -> io::Result<Observer> {
    let mut out = BufWriter::new(File::create(file)?);
    let shown = file.display().to_string();
    let mut words = Words::default();
    let mut axis = Axis::default();
    // As far as the file does not tell of it yet.
    let (mut missing, mut failed) = (Lost::default(), false);
    let wants = Wants {
        verdicts: true,
        steps: true,
        ..Wants::default()
    };
    Observer::start("events", Some(&EVENTS), wants, move |seen| {
        let mut put = |line: &Value| out.write_all(format!("{line}\n").as_bytes());
        let written = match seen {
            Seen::Packet(packet) => {
                let began = axis.began(packet.when).steady;
                let reading = words.read(packet);
                let written = put(&packet_line(packet, &reading, began));
                written.inspect_err(|_| refused(&mut missing.packets))
            }
            Seen::Other(event) => {
                let count = match event {
                    Other::Verdict(_) | Other::Overtaken { .. } => &mut missing.verdicts,
                    Other::Step { .. } | Other::Life { .. } => &mut missing.steps,
                };
                put(&other_line(event, &mut axis, read)).inspect_err(|_| refused(count))
            }
            Seen::Pause { lost } => {
                missing = missing.and(lost);
                let told = match missing.sum() {
                    0 => Ok(()),
                    _ => put(&lost_line(missing)),
                };
                if told.is_ok() {
                    missing = Lost::default();
                }
                told.and_then(|()| out.flush())
            }
        };
        if let Err(error) = written
            && !std::mem::replace(&mut failed, true)
        {
            tracing::error!("{shown}: events are missing from here on: {error}");
        }
    })
}

/// The file's axes of time.
#[derive(Default)]
struct Axis(Option<When>);

impl Axis {
    /// When the first event happened, of which `when` is none earlier.
    fn began(&mut self, when: When) -> When {
        *self.0.get_or_insert(when)
    }

    /// A moment by the wall clock, seconds since 1970, and since the file's first event.
    fn times(&mut self, at: Instant) -> [f64; 2] {
        let began = self.began(When::now());
        let steady = at.saturating_duration_since(began.steady);
        let wall = match at >= began.steady {
            true => began.wall + steady,
            false => {
                let before = began.wall.checked_sub(began.steady.duration_since(at));
                before.unwrap_or(began.wall)
            }
        };
        let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        [since_1970.as_secs_f64(), steady.as_secs_f64()]
    }
}

/// Counts an event that the disk did not take.
fn refused(missing: &mut u64) {
    *missing += 1;
    EVENTS.add(1);
}

/// The line of what is missing.
fn lost_line(lost: Lost) -> Value {
    json!({
        "event": "lost",
        "packets": lost.packets,
        "verdicts": lost.verdicts,
        "steps": lost.steps,
    })
}

/// The line of what is no packet.
fn other_line(event: &Other<'_>, axis: &mut Axis, read: Reader) -> Value {
    match event {
        Other::Verdict(judged) => {
            let times = axis.times(judged.verdict.offered);
            extended(
                verdict_line(&judged.verdict, judged.length, times),
                verdict_more(judged, read),
            )
        }
        Other::Overtaken {
            crossing,
            arrived,
            packets,
        } => overtaken_line(crossing, *packets, axis.times(*arrived)),
        Other::Step { of, at, step } => extended(owner(of, axis.times(*at)), step_json(step, *at)),
        Other::Life { of, at, life } => extended(owner(of, axis.times(*at)), life_json(*life, of)),
    }
}

/// Whose step it is, and when.
fn owner(of: &Traced, [time, steady]: [f64; 2]) -> Value {
    let destination = of.destination.get();
    json!({
        "event": "step",
        "time": time,
        "steady": steady,
        "role": of.role.name(),
        "connection": cid(of.connection),
        "destination": destination.map(|destination| cid(*destination)),
    })
}

/// A connection id, as it stands everywhere else.
fn cid(cid: u64) -> String {
    format!("{cid:016x}")
}

fn verdict_more(judged: &Judged<'_>, read: Reader) -> Value {
    let ids = read(judged.verdict.payload)
        .map(|(destination, number)| json!({ "cid": cid(destination), "number": number }));
    json!({
        "link": judged.link.link,
        "side": if judged.link.is_servers { "server" } else { "client" },
        "ids": ids.unwrap_or_else(|| json!({})),
    })
}

fn overtaken_line(crossing: &Crossing, packets: u64, [time, steady]: [f64; 2]) -> Value {
    json!({
        "event": "overtaken",
        "time": time,
        "steady": steady,
        "link": crossing.link,
        "way": crossing.way,
        "number": crossing.number,
        "packets": packets,
    })
}

/// A packet's line.
pub fn packet_line(packet: &Packet<'_>, reading: &Reading, began: Instant) -> Value {
    let place = &packet.place;
    let since_1970 = packet.when.wall.duration_since(UNIX_EPOCH);
    let steady = packet.when.steady.saturating_duration_since(began);
    let ids = reading.fields.iter();
    let ids: Map<String, Value> = ids
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut line = json!({
        "event": "packet",
        "time": since_1970.unwrap_or_default().as_secs_f64(),
        "steady": steady.as_secs_f64(),
        "role": place.label.role.name(),
        "protocol": place.label.protocol.name(),
        "carrier": place.carrier.name(),
        "direction": packet.fate.direction().name(),
        "source": packet.source(),
        "destination": packet.destination(),
        "bytes": packet.length,
        "fate": packet.fate.name(),
        "message": reading.name(),
        "meaning": reading.meaning,
        "ids": ids,
    });
    if let Some(reason) = packet.fate.reason() {
        line["reason"] = reason.into();
    }
    if let Some(crossing) = packet.crossing {
        line["crossing"] = json!({
            "link": crossing.link,
            "way": crossing.way,
            "number": crossing.number,
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::event::{
        hub,
        packet::{Carrier, Fate, Label, Place, Protocol, Role},
    };

    #[test]
    fn what_a_full_disk_takes_none_of_is_counted() {
        let before = EVENTS.count();
        let observer = start(Path::new("/dev/full"), |_| None).expect("a device");
        let place = Place {
            label: Label::new(Role::Rudp, Protocol::Rudp),
            carrier: Carrier::Udp,
            local: ([127, 0, 0, 1], 79).into(),
            remote: ([127, 0, 7, 9], 79).into(),
        };
        for _ in 0..1000 {
            hub::raise(&place, Fate::Received, b"SIGNEW:Tal");
        }
        drop(observer);
        // Some wait in the buffer before the file.
        assert!(EVENTS.count() - before > 900, "{}", EVENTS.count());
    }
}
