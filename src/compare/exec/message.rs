//! The lines of both sides. Amounts are bytes, times seconds, rates bytes a second.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::word;
use crate::{
    congestion::{self, Start},
    watch::event::transport::Told,
};

/// The lines' version, told in the first of them. Keys may be added to what a program is told without a
/// new one.
const PROTOCOL: u32 = 1;
/// More than any path holds, and any path carries a second: 1 TiB.
const MOST: f64 = (1_u64 << 40) as f64;
/// So much of an answer that is none is told.
const QUOTED: usize = 60;

/// What a program is told. [`Sent`](Self::Sent) and [`Lost`](Self::Lost) are told to who wants them, and
/// not answered; all others are.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Message {
    Hello {
        protocol: u32,
        mtu: u64,
        initial_window: u64,
        rtt: Option<f64>,
        seed: u64,
        simulated: bool,
    },
    Sent(Sent),
    Idle(Sent),
    Lost {
        now: f64,
        packet: u64,
        bytes: u64,
        sent_at: f64,
        tx_in_flight: u64,
        lost_when_sent: u64,
        delivered_when_sent: u64,
        lost: u64,
        delivered: u64,
        app_limited: bool,
    },
    Congestion {
        now: f64,
        bytes: u64,
        largest: u64,
        largest_sent_at: f64,
        in_flight: u64,
        next_packet: u64,
        persistent: bool,
        ecn: bool,
    },
    Ack {
        now: f64,
        bytes: u64,
        largest: u64,
        largest_sent_at: f64,
        next_packet: u64,
        prior_in_flight: u64,
        in_flight: u64,
        lost: u64,
        app_limited: bool,
        rtt: Option<f64>,
        smoothed_rtt: f64,
        min_rtt: f64,
        delivery: Delivery,
    },
    Spurious {
        now: f64,
    },
    Mtu {
        mtu: u64,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Sent {
    now: f64,
    packet: u64,
    bytes: u64,
    in_flight: u64,
    app_limited: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Delivery {
    rate: Option<u64>,
    app_limited: bool,
    prior_delivered: u64,
    delivered: u64,
    interval_delivered: u64,
    lost: u64,
    tx_in_flight: u64,
    interval: f64,
}

/// Makes messages: times count from the connection's beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    start: Instant,
}

impl Teller {
    pub(super) fn new(start: &Start) -> Self {
        Self { start: start.now }
    }

    fn at(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    pub(super) fn hello(start: &Start, simulated: bool) -> Message {
        Message::Hello {
            protocol: PROTOCOL,
            mtu: start.mtu,
            initial_window: start.window(),
            rtt: start.rtt.map(|rtt| rtt.as_secs_f64()),
            seed: start.seed,
            simulated,
        }
    }

    fn sent_fields(&self, sent: &congestion::Sent) -> Sent {
        Sent {
            now: self.at(sent.now),
            packet: sent.packet,
            bytes: sent.bytes,
            in_flight: sent.in_flight,
            app_limited: sent.app_limited,
        }
    }

    pub(super) fn sent(&self, sent: &congestion::Sent) -> Message {
        Message::Sent(self.sent_fields(sent))
    }

    pub(super) fn idle(&self, sent: &congestion::Sent) -> Message {
        Message::Idle(self.sent_fields(sent))
    }

    pub(super) fn lost(&self, lost: &congestion::Lost) -> Message {
        Message::Lost {
            now: self.at(lost.now),
            packet: lost.packet,
            bytes: lost.bytes,
            sent_at: self.at(lost.sent_at),
            tx_in_flight: lost.tx_in_flight,
            lost_when_sent: lost.lost_when_sent,
            delivered_when_sent: lost.delivered_when_sent,
            lost: lost.lost,
            delivered: lost.delivered,
            app_limited: lost.app_limited,
        }
    }

    pub(super) fn congestion(&self, loss: &congestion::Loss) -> Message {
        Message::Congestion {
            now: self.at(loss.now),
            bytes: loss.bytes,
            largest: loss.largest,
            largest_sent_at: self.at(loss.largest_sent_at),
            in_flight: loss.in_flight,
            next_packet: loss.next_packet,
            persistent: loss.persistent,
            ecn: loss.ecn,
        }
    }

    pub(super) fn ack(&self, ack: &congestion::Ack) -> Message {
        let delivery = &ack.delivery;
        Message::Ack {
            now: self.at(ack.now),
            bytes: ack.bytes,
            largest: ack.largest,
            largest_sent_at: self.at(ack.largest_sent_at),
            next_packet: ack.next_packet,
            prior_in_flight: ack.prior_in_flight,
            in_flight: ack.in_flight,
            lost: ack.lost,
            app_limited: ack.app_limited,
            rtt: ack.rtt.map(|rtt| rtt.as_secs_f64()),
            smoothed_rtt: ack.smoothed_rtt.as_secs_f64(),
            min_rtt: ack.min_rtt.as_secs_f64(),
            delivery: Delivery {
                rate: delivery.rate,
                app_limited: delivery.app_limited,
                prior_delivered: delivery.prior_delivered,
                delivered: delivery.delivered,
                interval_delivered: delivery.interval_delivered,
                lost: delivery.lost,
                tx_in_flight: delivery.tx_in_flight,
                interval: delivery.interval.as_secs_f64(),
            },
        }
    }

    pub(super) fn spurious(&self, now: Instant) -> Message {
        Message::Spurious { now: self.at(now) }
    }
}

impl Message {
    /// In the words of the events.
    pub(super) fn told(&self) -> Told {
        match self {
            Self::Hello { .. } => Told::Hello,
            Self::Sent(_) => Told::Sent,
            Self::Idle(_) => Told::Idle,
            Self::Lost { .. } => Told::Lost,
            Self::Congestion { .. } => Told::Congestion,
            Self::Ack { .. } => Told::Acknowledged,
            Self::Spurious { .. } => Told::Spurious,
            Self::Mtu { .. } => Told::Mtu,
        }
    }

    /// Adds its line to `lines`.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        // Numbers and truths under keys that are words: there is nothing that JSON could not hold.
        let _ = serde_json::to_writer(&mut *lines, self);
        lines.push(b'\n');
    }
}

/// What a program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) window: u64,
    pub(super) ssthresh: Option<u64>,
    pub(super) pacing_rate: Option<u64>,
    pub(super) slow_start: bool,
    pub(super) phase: &'static str,
    /// It is told of each packet that is sent.
    pub(super) wants_sent: bool,
    /// It is told of each packet that is lost.
    pub(super) wants_lost: bool,
}

/// An answer as it is written. Python's `/` makes fractions of whole numbers: they are taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    window: f64,
    ssthresh: Option<f64>,
    pacing_rate: Option<f64>,
    #[serde(default)]
    slow_start: bool,
    phase: Option<String>,
    #[serde(default)]
    wants: Vec<Want>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Want {
    Sent,
    Lost,
}

impl Answer {
    /// What holds until the first answer comes.
    pub(super) fn before_the_first(start: &Start) -> Self {
        Self {
            window: start.window(),
            ssthresh: None,
            pacing_rate: None,
            slow_start: false,
            phase: "starting",
            wants_sent: false,
            wants_lost: false,
        }
    }

    /// Reads what is answered to `told`, where datagrams are of `mtu` bytes. `before` is the answer before:
    /// what is wanted is said once, to the greeting.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(line: &[u8], told: Told, mtu: u64, before: &Self) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(line).map_err(|error| {
            let error = error.to_string();
            // All answers are of one line.
            let what = error.split(" at line ").next();
            what.unwrap_or_default().to_owned()
        })?;
        if written.window < mtu as f64 {
            return Err(format!(
                "a window of {} bytes holds no datagram, which has up to {mtu}",
                written.window
            ));
        }
        let bounded = |name: &str, value: f64| match value {
            // There is no JSON for what is no number.
            value if value > MOST => Err(format!("{name} of {value} is beyond all paths")),
            value if value < 0.0 => Err(format!("{name} of {value} is below nothing")),
            value => Ok(value as u64),
        };
        let rate = written
            .pacing_rate
            .map(|rate| bounded("a pacing_rate", rate));
        let rate = rate.transpose()?;
        if rate == Some(0) {
            return Err("at a pacing_rate of 0 nothing would ever be sent".to_owned());
        }
        if !written.wants.is_empty() && told != Told::Hello {
            return Err("`wants` belongs into the answer to `hello`".to_owned());
        }
        let ssthresh = written.ssthresh.map(|bytes| bounded("a ssthresh", bytes));
        let wants = |want: Want, before: bool| before || written.wants.contains(&want);
        Ok(Self {
            window: bounded("a window", written.window)?,
            ssthresh: ssthresh.transpose()?,
            pacing_rate: rate,
            slow_start: written.slow_start,
            phase: match &written.phase {
                Some(phase) => {
                    word::phase(phase).map_err(|problem| format!("`phase`: {problem}"))?
                }
                None => "running",
            },
            wants_sent: wants(Want::Sent, before.wants_sent),
            wants_lost: wants(Want::Lost, before.wants_lost),
        })
    }
}

/// A line as it can be shown.
pub(super) fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let short: String = text.chars().take(QUOTED).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("`{}{more}`", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start() -> Start {
        Start {
            now: Instant::now(),
            mtu: 1200,
            rtt: None,
            initial_window: None,
            seed: 7,
        }
    }

    fn read(line: &str) -> Result<Answer, String> {
        let before = Answer::before_the_first(&start());
        Answer::read(line.as_bytes(), Told::Acknowledged, 1200, &before)
    }

    #[test]
    fn a_window_is_enough_of_an_answer() {
        let answer = read("{\"window\": 15000.75}").expect("an answer");
        assert_eq!((answer.window, answer.ssthresh), (15_000, None));
        assert_eq!((answer.phase, answer.slow_start), ("running", false));
        let all = "{\"window\":2400,\"ssthresh\":2400,\"pacing_rate\":1e6,\"slow_start\":true,\"phase\":\"up\"}\r\n";
        let answer = read(all).expect("an answer");
        assert_eq!(
            (answer.ssthresh, answer.pacing_rate),
            (Some(2400), Some(1_000_000))
        );
        assert_eq!((answer.phase, answer.slow_start), ("up", true));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (line, part) in [
            ("hello", "expected value"),
            ("", "EOF"),
            ("{}", "missing field `window`"),
            ("{\"window\":0}", "a window of 0 bytes holds no datagram"),
            (
                "{\"window\":-5000}",
                "a window of -5000 bytes holds no datagram",
            ),
            ("{\"window\":1199}", "up to 1200"),
            ("{\"window\":NaN}", "expected value"),
            ("{\"window\":1e300}", "beyond all paths"),
            ("{\"window\":\"many\"}", "invalid type"),
            ("{\"window\":2400,\"pacing\":3}", "unknown field `pacing`"),
            (
                "{\"window\":2400,\"pacing_rate\":0}",
                "nothing would ever be sent",
            ),
            ("{\"window\":2400,\"pacing_rate\":-1}", "below nothing"),
            ("{\"window\":2400,\"ssthresh\":1e300}", "beyond all paths"),
            (
                "{\"window\":2400,\"phase\":\"\\u001b[2J\"}",
                "a phase is a word",
            ),
            (
                "{\"window\":2400,\"wants\":[\"sent\"]}",
                "belongs into the answer to `hello`",
            ),
            ("{\"window\":2400} {\"window\":2400}", "trailing characters"),
        ] {
            let problem = read(line).expect_err(line);
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }

    #[test]
    fn what_is_wanted_is_said_once() {
        let before = Answer::before_the_first(&start());
        let hello = b"{\"window\":2400,\"wants\":[\"lost\"]}";
        let hello = Answer::read(hello, Told::Hello, 1200, &before).expect("an answer");
        assert_eq!((hello.wants_sent, hello.wants_lost), (false, true));
        let next = Answer::read(b"{\"window\":2400}", Told::Mtu, 1200, &hello);
        assert!(next.expect("an answer").wants_lost);
    }

    #[test]
    fn the_page_names_every_event_and_every_key() {
        fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
            for (key, value) in value.as_object().into_iter().flatten() {
                found.push(key.clone());
                keys(value, found);
            }
        }
        let page = include_str!("../../../docs/controllers.md");
        let start = start();
        let (now, rtt) = (start.now, Duration::from_millis(50));
        let teller = Teller::new(&start);
        let sent = congestion::Sent {
            now,
            packet: 1,
            bytes: 1200,
            in_flight: 0,
            app_limited: true,
        };
        let lost = congestion::Lost {
            now,
            packet: 1,
            bytes: 1200,
            sent_at: now,
            tx_in_flight: 1200,
            lost_when_sent: 0,
            delivered_when_sent: 0,
            lost: 1200,
            delivered: 0,
            app_limited: false,
        };
        let loss = congestion::Loss {
            now,
            bytes: 1200,
            largest: 1,
            largest_sent_at: now,
            in_flight: 0,
            next_packet: 2,
            persistent: false,
            ecn: false,
        };
        let ack = congestion::Ack {
            now,
            bytes: 1200,
            largest: 1,
            largest_sent_at: now,
            next_packet: 2,
            prior_in_flight: 1200,
            in_flight: 0,
            lost: 0,
            app_limited: false,
            rtt: Some(rtt),
            smoothed_rtt: rtt,
            min_rtt: rtt,
            delivery: congestion::Delivery::default(),
        };
        let messages = [
            Teller::hello(&start, true),
            teller.sent(&sent),
            teller.idle(&sent),
            teller.lost(&lost),
            teller.congestion(&loss),
            teller.ack(&ack),
            teller.spurious(now),
            Message::Mtu { mtu: 1472 },
        ];
        for message in messages {
            let value = serde_json::to_value(&message).expect("JSON");
            assert_eq!(value["event"], message.told().name());
            let mut words = vec![message.told().name().to_owned()];
            keys(&value, &mut words);
            for word in words.iter().filter(|word| *word != "event") {
                assert!(page.contains(&format!("`{word}`")), "{word}");
            }
        }
    }

    #[test]
    fn a_message_is_one_line_of_json() {
        let start = start();
        let mut lines = Vec::new();
        Teller::hello(&start, true).write(&mut lines);
        let teller = Teller::new(&start);
        teller
            .spurious(start.now + Duration::from_micros(1_500_000))
            .write(&mut lines);
        assert_eq!(
            String::from_utf8(lines).expect("text"),
            "{\"event\":\"hello\",\"protocol\":1,\"mtu\":1200,\"initial_window\":12000,\"rtt\":null,\"seed\":7,\
             \"simulated\":true}\n{\"event\":\"spurious\",\"now\":1.5}\n"
        );
    }
}
