//! Signals and answers in plain words, for whoever watches the packets.

use super::signal::{self, Answer, Ask, Signal};

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
        Err(_) => String::new(),
    };
    shorten(text)
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
