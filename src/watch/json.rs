//! Every packet as a line of JSON: `--events FILE`.
//!
//! Its shapes are written down in `docs/events.md`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::{Instant, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::{
    event::{hub::Wants, packet::Packet},
    log::{Observer, Seen},
    words::{Reading, Words},
};

/// Writes every packet from now on to `file`, which is made anew.
///
/// # Errors
/// The file can't be made.
pub fn start(file: &Path) -> io::Result<Observer> {
    let mut out = BufWriter::new(File::create(file)?);
    let shown = file.display().to_string();
    let mut words = Words::default();
    let mut first = None;
    let mut failed = false;
    Observer::start("packet-events", Wants::default(), move |seen| {
        let written = match seen {
            Seen::Packet(packet) => {
                let began = *first.get_or_insert(packet.when.steady);
                let reading = words.read(packet);
                writeln!(out, "{}", packet_line(packet, &reading, began))
            }
            Seen::Pause { lost: 0 } => out.flush(),
            Seen::Pause { lost } => {
                let line = json!({ "event": "lost", "packets": lost });
                writeln!(out, "{line}").and_then(|()| out.flush())
            }
        };
        if let Err(error) = written
            && !std::mem::replace(&mut failed, true)
        {
            tracing::error!("{shown}: events are missing from here on: {error}");
        }
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
    if let (Some(reason), Some(line)) = (packet.fate.reason(), line.as_object_mut()) {
        line.insert("reason".to_owned(), reason.into());
    }
    line
}
