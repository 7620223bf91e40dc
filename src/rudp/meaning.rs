//! Signals and answers in plain words, for whoever watches the packets.

use std::fmt::Write as _;

use super::{
    packet::{DATA_HEADER, Frame, Frames, Header, PacketType},
    signal::{self, Answer, Ask, Signal},
};

/// What fits a column of a terminal beside the addresses.
const LONGEST: usize = 60;

/// What a client's datagram says; empty if it is no signal.
pub fn of_signal(datagram: &[u8]) -> String {
    let text = match Signal::parse(datagram) {
        Ok(Signal::New(name)) => format!("SIGNEW: hello, I am {name}, open a session"),
        Ok(Signal::Numbered { id, ask }) => match ask {
            Ask::Echo(_) => format!("SIGNECHO {id}: send my timestamp back"),
            Ask::Stat => format!("SIGNSTAT {id}: how is my session doing?"),
            Ask::List => format!("SIGNGET {id}: which files are there?"),
            Ask::Redirect(file) => format!("SIGNGET {id}: where do I fetch {file}?"),
            Ask::End => format!("SIGNEND {id}: goodbye, end my session"),
        },
        Err(_) => String::new(),
    };
    shorten(text)
}

/// What the server's datagram says; empty if it is no answer.
pub fn of_answer(datagram: &[u8]) -> String {
    let text = match Answer::parse(datagram) {
        Ok(Answer::Ack) => "SIGNACK: hello, the session is open".to_owned(),
        Ok(Answer::Echo { id, .. }) => format!("ECHOREPLY {id}: here is your timestamp back"),
        Ok(Answer::Stat { id, statistics }) => format!(
            "STATREPLY {id}: {} received, {} lost, connected {:.2} s",
            statistics.sent,
            statistics.lost,
            statistics.connected.as_secs_f64()
        ),
        Ok(Answer::Get { id, body: "" }) => format!("ACKGET {id}: there is nothing"),
        Ok(Answer::Get { id, body }) if body.ends_with(';') => {
            let names: Vec<&str> = signal::files(body).collect();
            format!("ACKGET {id}: {} files: {}", names.len(), names.join(" "))
        }
        Ok(Answer::Get { id, body }) => format!("ACKGET {id}: fetch {body}"),
        Ok(Answer::End { id: Some(id) }) => format!("ACKEND {id}: goodbye"),
        Ok(Answer::End { id: None }) => "ACKEND: goodbye".to_owned(),
        Ok(Answer::Lost { id }) => format!("SIGNLOST {id}: it never came, send it again"),
        Ok(Answer::Full { id: Some(id) }) => {
            format!("SIGNFULL {id}: window full, wait, then send it again")
        }
        Ok(Answer::Full { id: None }) => {
            "SIGNFULL: window full, wait, then send it again".to_owned()
        }
        Ok(Answer::Refused { id: Some(id), why }) => format!("SIGNREFUSED {id}: {why}"),
        Ok(Answer::Refused { id: None, why }) => format!("SIGNREFUSED: {why}"),
        Err(_) => String::new(),
    };
    shorten(text)
}

/// What a packet of the binary transport says; of a DATA packet no more than its number, unless it
/// is `readable`: protected by a checksum alone.
pub fn of_packet(datagram: &[u8], readable: bool) -> String {
    let Ok(header) = Header::parse(datagram) else {
        return String::new();
    };
    let text = match header.packet {
        PacketType::Hello => "HELLO: I want a connection".to_owned(),
        PacketType::Cookie => "COOKIE: show me that you are where you say".to_owned(),
        PacketType::Versions => "VERSIONS: these are what I speak".to_owned(),
        PacketType::Reset => "RESET: I know nothing of this connection".to_owned(),
        PacketType::Accept => format!("ACCEPT: hello, write to me as {}", header.cid),
        PacketType::Data => of_data(datagram, readable),
    };
    shorten(text)
}

/// The checksum at a readable packet's end.
const CHECKSUM: usize = 4;

fn of_data(datagram: &[u8], readable: bool) -> String {
    let number = datagram.get(DATA_HEADER - 4..DATA_HEADER);
    let number = number.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
    let mut text = format!("DATA {}", number.unwrap_or_default());
    let end = datagram.len().saturating_sub(CHECKSUM);
    let frames = datagram.get(DATA_HEADER..end).filter(|_| readable);
    for (n, frame) in Frames::new(frames.unwrap_or_default())
        .flatten()
        .enumerate()
    {
        text.push_str(if n == 0 { ": " } else { ", " });
        // Writing to a string never fails.
        let _ = match frame {
            Frame::Padding(_) => write!(text, "padding"),
            Frame::Ping => write!(text, "ping"),
            Frame::Ack(ack) => write!(text, "got up to {}", ack.largest),
            Frame::Stream(stream) => {
                let (from, length) = (stream.offset, stream.data.len());
                let end = if stream.fin { ", its end" } else { "" };
                write!(
                    text,
                    "stream {} from {from}: {length} bytes{end}",
                    stream.id
                )
            }
            Frame::ResetStream { id, .. } => write!(text, "stream {id} is given up"),
            Frame::StopSending { id, .. } => write!(text, "no more of stream {id}"),
            Frame::MaxData(max) => write!(text, "send up to {max} bytes"),
            Frame::MaxStreamData { id, max } => write!(text, "stream {id} up to {max}"),
            Frame::MaxStreams(max) => write!(text, "up to {max} streams"),
            Frame::DataBlocked(at) => write!(text, "held up at {at} bytes"),
            Frame::StreamDataBlocked { id, .. } => write!(text, "stream {id} is held up"),
            Frame::PathChallenge(_) => write!(text, "are you there?"),
            Frame::PathResponse(_) => write!(text, "I am here"),
            Frame::AckFrequency { packets, .. } => write!(text, "acknowledge each {packets}"),
            Frame::Close { code, .. } => write!(text, "goodbye ({code})"),
        };
    }
    text
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
            of_signal(b"SIGNEW:Tal"),
            "SIGNEW: hello, I am Tal, open a session"
        );
        assert_eq!(
            of_answer(
                b"STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: 18.77 seconds"
            ),
            "STATREPLY 291: 2 received, 0 lost, connected 18.77 s"
        );
        assert_eq!(
            of_answer(b"ACKGET:292;50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;"),
            "ACKGET 292: 5 files: 50MB.zip 100MB.zip 500MB.zip image-sit…"
        );
        assert_eq!(of_signal(b"ACKEND"), "");
    }

    #[test]
    fn no_meaning_is_longer_than_its_column() {
        let long = format!("SIGNGET:1;{}", "x".repeat(500));
        assert_eq!(of_signal(long.as_bytes()).chars().count(), LONGEST);
    }
}
