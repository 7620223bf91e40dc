//! Signals and packets of the transport in plain words.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    packet::{DATA_HEADER, Frame, Frames, Header, PacketType},
    signal::{self, Answer, Ask, Signal},
};
use crate::{
    text::{SHORT, printable},
    watch::{
        event::packet::{Direction, Packet, Role},
        words::{Read, Reading, What},
    },
};

/// What fits a column of a terminal beside the addresses.
const LONGEST: usize = 60;

/// A reader of both dialects. Of DATA under a secret it says what stands in clear.
pub fn reader() -> Box<dyn Read> {
    Box::new(Reader)
}

struct Reader;

impl Read for Reader {
    fn read(&mut self, packet: &Packet<'_>) -> Reading {
        let label = packet.place.label;
        let by_client = label.role == Role::Client;
        let from_client = by_client == (packet.fate.direction() == Direction::Sent);
        let mut reading = match packet.payload.first() {
            Some(first) if first & 0x80 != 0 => transport(packet, label.sealed),
            _ if from_client => of_signal(packet.payload),
            _ => of_answer(packet.payload),
        };
        reading.meaning = shorten(reading.meaning);
        reading
    }
}

/// What a client's datagram says.
fn of_signal(datagram: &[u8]) -> Reading {
    let message = Reading::message;
    match Signal::parse(datagram) {
        Ok(Signal::New(name)) => {
            let name = name.to_string();
            let meaning = format!("SIGNEW: hello, I am {name}, open a session");
            message("SIGNEW", meaning).with("client", name)
        }
        Ok(Signal::Numbered { id, ask }) => {
            let (name, meaning) = match ask {
                Ask::Echo(_) => ("SIGNECHO", format!("SIGNECHO {id}: send my timestamp back")),
                Ask::Stat => (
                    "SIGNSTAT",
                    format!("SIGNSTAT {id}: how is my session doing?"),
                ),
                Ask::List => ("SIGNGET", format!("SIGNGET {id}: which files are there?")),
                Ask::Redirect(file) => {
                    ("SIGNGET", format!("SIGNGET {id}: where do I fetch {file}?"))
                }
                Ask::End => ("SIGNEND", format!("SIGNEND {id}: goodbye, end my session")),
            };
            message(name, meaning).with("id", id)
        }
        Err(_) => Reading::unreadable("no signal"),
    }
}

/// What the server's datagram says.
fn of_answer(datagram: &[u8]) -> Reading {
    let (name, id, meaning) = match Answer::parse(datagram) {
        Ok(Answer::Ack) => (
            "SIGNACK",
            None,
            "SIGNACK: hello, the session is open".to_owned(),
        ),
        Ok(Answer::Echo { id, .. }) => (
            "ECHOREPLY",
            Some(id),
            format!("ECHOREPLY {id}: here is your timestamp back"),
        ),
        Ok(Answer::Stat { id, statistics }) => (
            "STATREPLY",
            Some(id),
            format!(
                "STATREPLY {id}: {} received, {} lost, connected {:.2} s",
                statistics.sent,
                statistics.lost,
                statistics.connected.as_secs_f64()
            ),
        ),
        Ok(Answer::Get { id, body: "" }) => {
            ("ACKGET", Some(id), format!("ACKGET {id}: there is nothing"))
        }
        Ok(Answer::Get { id, body }) if body.ends_with(';') => {
            let names: Vec<&str> = signal::files(body).collect();
            let list = names.join(" ");
            let meaning = format!("ACKGET {id}: {} files: {list}", names.len());
            ("ACKGET", Some(id), meaning)
        }
        Ok(Answer::Get { id, body }) => ("ACKGET", Some(id), format!("ACKGET {id}: fetch {body}")),
        Ok(Answer::End { id: Some(id) }) => ("ACKEND", Some(id), format!("ACKEND {id}: goodbye")),
        Ok(Answer::End { id: None }) => ("ACKEND", None, "ACKEND: goodbye".to_owned()),
        Ok(Answer::Lost { id }) => (
            "SIGNLOST",
            Some(id),
            format!("SIGNLOST {id}: it never came, send it again"),
        ),
        Ok(Answer::Full { id }) => {
            let number = id.map(|id| format!(" {id}")).unwrap_or_default();
            let meaning = format!("SIGNFULL{number}: window full, wait, then send it again");
            ("SIGNFULL", id, meaning)
        }
        Ok(Answer::Refused { id, why }) => {
            let number = id.map(|id| format!(" {id}")).unwrap_or_default();
            ("SIGNREFUSED", id, format!("SIGNREFUSED{number}: {why}"))
        }
        Err(_) => return Reading::unreadable("no answer to a signal"),
    };
    let reading = Reading::message(name, meaning);
    match id {
        Some(id) => reading.with("id", id),
        None => reading,
    }
}

/// What a packet of the binary transport says; of a DATA packet no more than its number if it is
/// `sealed`.
fn transport(packet: &Packet<'_>, sealed: bool) -> Reading {
    let datagram = packet.payload;
    let Ok(header) = Header::parse(datagram) else {
        return Reading::unreadable("no packet of the transport");
    };
    let (name, meaning) = match header.packet {
        PacketType::Hello => ("HELLO", "HELLO: I want a connection".to_owned()),
        PacketType::Cookie => (
            "COOKIE",
            "COOKIE: show me that you are where you say".to_owned(),
        ),
        PacketType::Versions => ("VERSIONS", "VERSIONS: these are what I speak".to_owned()),
        PacketType::Reset => (
            "RESET",
            "RESET: I know nothing of this connection".to_owned(),
        ),
        PacketType::Accept => (
            "ACCEPT",
            format!("ACCEPT: hello, write to me as {}", header.cid),
        ),
        PacketType::Data => return data(packet, sealed).with("cid", header.cid.to_string()),
    };
    let reading = Reading::message(name, meaning).with("cid", header.cid.to_string());
    match header.version {
        Some(version) => reading.with("version", version),
        None => reading,
    }
}

/// The checksum at a readable packet's end.
const CHECKSUM: usize = 4;
/// So many ranges of an ACK are told.
const RANGES: usize = 4;

fn data(packet: &Packet<'_>, sealed: bool) -> Reading {
    let datagram = packet.payload;
    let number = datagram.get(DATA_HEADER - 4..DATA_HEADER);
    let number = number.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
    let number = number.unwrap_or_default();
    let mut text = format!("DATA {number}");
    let mut reading = Reading {
        what: What::Data,
        meaning: String::new(),
        fields: vec![("number", number.into())],
    };
    if sealed {
        text.push_str(": protected by the shared secret");
        reading.meaning = text;
        return reading;
    }
    // What was not kept of the packet is put back as zeros: a stream's data, as it is the last.
    let mut whole = datagram.to_vec();
    whole.resize(packet.length, 0);
    let end = whole.len().saturating_sub(CHECKSUM);
    let frames = whole.get(DATA_HEADER..end).unwrap_or_default();
    let kept = datagram.len();
    let mut names: Vec<Value> = Vec::new();
    let mut ranges: Option<String> = None;
    for frame in Frames::new(frames).flatten() {
        if packet.is_cut() && matches!(frame, Frame::Padding(_)) {
            break;
        }
        text.push_str(if names.is_empty() { ": " } else { ", " });
        // Writing to a string never fails.
        let (name, _) = match frame {
            Frame::Padding(_) => ("PADDING", write!(text, "padding")),
            Frame::Ping => ("PING", write!(text, "ping")),
            Frame::Ack(ack) => {
                let mut told = String::new();
                let mut left = 0;
                for (n, range) in ack.ranges().enumerate() {
                    if n < RANGES {
                        let comma = if n == 0 { "" } else { "," };
                        let (first, last) = (range.start(), range.end());
                        let _ = write!(told, "{comma}{first}-{last}");
                    } else {
                        left += 1;
                    }
                }
                if left > 0 {
                    let _ = write!(told, ",+{left}");
                }
                ranges = Some(told);
                ("ACK", write!(text, "got up to {}", ack.largest))
            }
            Frame::Stream(stream) => {
                let (from, length) = (stream.offset, stream.data.len());
                let end = if stream.fin { ", its end" } else { "" };
                // A question or an answer's head: a line of text.
                let line = stream.data.split(|byte| *byte == b'\n').next();
                let line = line.filter(|line| {
                    from == 0 && line.len() < stream.data.len() && line.len() <= kept
                });
                let line = line.and_then(|line| str::from_utf8(line).ok());
                let line =
                    line.filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
                let said = match line {
                    Some(line) => {
                        let line = printable(line, SHORT);
                        reading.what = What::Message("DATA");
                        reading.fields.push(("says", line.clone().into()));
                        write!(text, "on stream {}: {line}", stream.id)
                    }
                    None => write!(
                        text,
                        "stream {} from {from}: {length} bytes{end}",
                        stream.id
                    ),
                };
                reading.fields.push(("stream", stream.id.into()));
                reading.fields.push(("offset", from.into()));
                reading.fields.push(("data_bytes", length.into()));
                ("STREAM", said)
            }
            Frame::ResetStream { id, .. } => {
                ("RESET_STREAM", write!(text, "stream {id} is given up"))
            }
            Frame::StopSending { id, .. } => {
                ("STOP_SENDING", write!(text, "no more of stream {id}"))
            }
            Frame::MaxData(max) => ("MAX_DATA", write!(text, "send up to {max} bytes")),
            Frame::MaxStreamData { id, max } => {
                ("MAX_STREAM_DATA", write!(text, "stream {id} up to {max}"))
            }
            Frame::MaxStreams(max) => ("MAX_STREAMS", write!(text, "up to {max} streams")),
            Frame::DataBlocked(at) => ("DATA_BLOCKED", write!(text, "held up at {at} bytes")),
            Frame::StreamDataBlocked { id, .. } => (
                "STREAM_DATA_BLOCKED",
                write!(text, "stream {id} is held up"),
            ),
            Frame::PathChallenge(_) => ("PATH_CHALLENGE", write!(text, "are you there?")),
            Frame::PathResponse(_) => ("PATH_RESPONSE", write!(text, "I am here")),
            Frame::AckFrequency { packets, .. } => {
                ("ACK_FREQUENCY", write!(text, "acknowledge each {packets}"))
            }
            Frame::Close { code, reason } => {
                reading.what = What::Message("DATA");
                let reason = printable(reason, SHORT);
                let reason = if reason.is_empty() {
                    reason
                } else {
                    format!(": {reason}")
                };
                ("CLOSE", write!(text, "goodbye ({code}{reason})"))
            }
        };
        names.push(name.into());
    }
    reading.fields.push(("frames", names.into()));
    if let Some(ranges) = ranges {
        reading.fields.push(("acknowledges", ranges.into()));
    }
    reading.meaning = text;
    reading
}

fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        // One column for the ellipsis.
        let end = text[..end]
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_a_datagram_means() {
        assert_eq!(
            of_signal(b"SIGNEW:Tal").meaning,
            "SIGNEW: hello, I am Tal, open a session"
        );
        let stat = of_answer(
            b"STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: 18.77 seconds",
        );
        assert_eq!(
            stat.meaning,
            "STATREPLY 291: 2 received, 0 lost, connected 18.77 s"
        );
        assert_eq!(
            (stat.name(), stat.field("id")),
            ("STATREPLY", Some(&291.into()))
        );
        let list = of_answer(b"ACKGET:292;50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;");
        assert_eq!(
            shorten(list.meaning),
            "ACKGET 292: 5 files: 50MB.zip 100MB.zip 500MB.zip image-sit…"
        );
        assert_eq!(of_signal(b"ACKEND").what, What::Unreadable);
    }

    #[test]
    fn no_meaning_is_longer_than_its_column() {
        let long = format!("SIGNGET:1;{}", "x".repeat(500));
        let meaning = of_signal(long.as_bytes()).meaning;
        assert_eq!(shorten(meaning).chars().count(), LONGEST);
    }
}
