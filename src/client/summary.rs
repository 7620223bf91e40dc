//! What the downloads of one request came to, all together.

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    download::Downloaded,
    failure::FetchError,
    units::{Latency, count},
};
use crate::text::{SHORT, printable};
use crate::{
    rudp::{
        congestion::Algorithm,
        exchange::Statistics,
        statistics::{Standing, TRANSPORT},
    },
    statistic::fields,
};

/// Files that were asked for at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How many they are.
    pub files: usize,
    /// Whether all are there, to the last byte.
    pub complete: bool,
    /// Their bytes.
    pub bytes: u64,
    /// Of these the bytes that came over the network now.
    pub received: u64,
    /// From the first request sent to the last byte.
    pub took: Duration,
    /// How they were carried; `None`: over HTTP.
    pub carried: Option<Carried>,
}

/// The binary transport's part.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// What the client wished to control the proxy's sending.
    pub wish: Option<Algorithm>,
    /// How packets were protected.
    pub protection: &'static str,
    /// Connections that it took: more than one if one was lost.
    pub connections: u32,
    /// What the proxy counted of the last of them.
    pub server: Option<Statistics>,
    /// What the client counted.
    pub client: Option<Box<Standing>>,
}

impl Summary {
    /// Adds up what came of each file.
    pub fn new(files: &[Result<Downloaded, FetchError>], carried: Option<Carried>) -> Self {
        let came = || files.iter().flatten();
        let fetched = || {
            came()
                .filter(|file| file.received > 0)
                .map(|file| file.between)
        };
        let (from, to) = (
            fetched().map(|(from, _)| from).min(),
            fetched().map(|(_, to)| to).max(),
        );
        Self {
            files: files.len(),
            complete: files.iter().all(Result::is_ok),
            bytes: came().map(|file| file.bytes).sum(),
            received: came().map(|file| file.received).sum(),
            took: from.zip(to).map_or(Duration::ZERO, |(from, to)| to - from),
            carried,
        }
    }

    /// Megabits of files a second.
    fn goodput_mbps(&self) -> f64 {
        // A microsecond is the least that is worth the name of a time.
        self.received as f64 * 8e-6 / self.took.as_secs_f64().max(1e-6)
    }

    /// One object, for scripts. What is not known is null.
    pub fn as_json(&self) -> Value {
        let mut object = json!({
            "type": "summary",
            "via": if self.carried.is_some() { "rudp" } else { "http" },
            "files": self.files,
            "complete": self.complete,
            "bytes": self.bytes,
            "received": self.received,
            "seconds": self.took.as_secs_f64(),
            "goodput_mbps": self.goodput_mbps(),
        });
        if let (Some(object), Some(carried)) = (object.as_object_mut(), &self.carried) {
            object.extend(carried.fields());
        }
        object
    }
}

impl Carried {
    /// An object, for scripts. What is not known is null.
    pub fn as_json(&self) -> Value {
        Value::Object(self.fields())
    }

    fn fields(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let server = self.server.as_ref().map(json_statistics);
        let of_server = |key: &str| {
            let value = server.as_ref().and_then(|server| server.get(key));
            value.cloned().unwrap_or(Value::Null)
        };
        for key in ["packets_sent", "packets_lost", "packets_retransmitted"] {
            object.insert(key.to_owned(), of_server(key));
        }
        let wish = self.wish.map(|wish| json!(wish.name()));
        let congestion = match of_server("congestion") {
            Value::Null => wish.unwrap_or_default(),
            told => told,
        };
        object.insert("congestion".to_owned(), congestion);
        for (key, told) in [("rtt_ms", "rtt_seconds"), ("min_rtt_ms", "min_rtt_seconds")] {
            let seconds = of_server(told).as_f64();
            object.insert(key.to_owned(), seconds.map(|seconds| seconds * 1e3).into());
        }
        object.insert("protection".to_owned(), self.protection.into());
        object.insert("connections".to_owned(), self.connections.into());
        let client = self.client.as_deref().map(json_standing);
        object.insert("client".to_owned(), client.unwrap_or_default());
        object.insert("server".to_owned(), server.unwrap_or_default());
        object
    }
}

/// `14120 packets from the proxy, 12 lost, 12 sent again; round trip 51 ms; bbr, checksum`
impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |key| self.server.as_ref().and_then(|server| server.get(key));
        let number = |key| told(key).and_then(|value| value.parse::<u64>().ok());
        match number("packets_sent") {
            Some(sent) => {
                write!(f, "{} from the proxy", count(sent, "packet"))?;
                let lost = number("packets_lost").unwrap_or_default();
                let again = number("packets_retransmitted").unwrap_or_default();
                write!(f, ", {lost} lost, {again} sent again")?;
                // What one packet carried may go again in two, beside other bytes.
                let in_parts = number("sent_again_lost").is_some_and(|packets| packets > lost);
                let for_lost = match in_parts {
                    true => "for what was lost, some of it in two parts",
                    false => "for what was lost",
                };
                let reasons = [
                    ("sent_again_lost", for_lost),
                    (
                        "sent_again_probing",
                        "as probes when no answer came in time",
                    ),
                    ("sent_again_tail", "at the end to be sure"),
                ];
                let reasons = reasons.map(|(key, why)| (number(key).unwrap_or_default(), why));
                let told: u64 = reasons.iter().map(|(packets, _)| packets).sum();
                // One reason is none to be named, if it is the plain one.
                if told == again && (again > reasons[0].0 || again > lost) {
                    let reasons = reasons.iter().filter(|(packets, _)| *packets > 0);
                    let reasons = reasons.map(|(packets, why)| format!("{packets} {why}"));
                    write!(f, " ({})", reasons.collect::<Vec<_>>().join(", "))?;
                }
                if let Some(late) = number("spurious_losses").filter(|late| *late > 0) {
                    write!(f, ", {late} called lost came late")?;
                }
                f.write_str("; ")?;
            }
            None => f.write_str("the proxy does not tell of it; ")?,
        }
        if let Some(rtt) = told("rtt_seconds").and_then(|rtt| rtt.parse::<f64>().ok())
            && let Ok(rtt) = Duration::try_from_secs_f64(rtt)
        {
            write!(f, "round trip {}; ", Latency(rtt))?;
        }
        if let Some(congestion) = told("congestion").or(self.wish.map(Algorithm::name)) {
            write!(f, "{}, ", printable(congestion, SHORT))?;
        }
        f.write_str(self.protection)?;
        match self.connections {
            0 | 1 => Ok(()),
            more => write!(f, "; {more} connections"),
        }
    }
}

/// What the proxy tells: numbers as numbers.
pub fn json_statistics(statistics: &Statistics) -> Value {
    let fields = statistics.iter().map(|(key, value)| {
        let number = value.parse::<u64>().map(Value::from).ok();
        let number = number.or_else(|| {
            let float = value.parse::<f64>().ok()?;
            serde_json::Number::from_f64(float).map(Value::Number)
        });
        (key.to_owned(), number.unwrap_or_else(|| value.into()))
    });
    Value::Object(fields.collect())
}

/// How the client's side stands, and what it has counted, under the names that the proxy uses for its own.
pub fn json_standing(standing: &Standing) -> Value {
    json!(fields(TRANSPORT, standing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lost: u64, [for_lost, probing, tail]: [u64; 3]) -> String {
        let mut server = Statistics::new();
        for (key, value) in [
            ("packets_sent", 1000),
            ("packets_lost", lost),
            ("packets_retransmitted", for_lost + probing + tail),
            ("sent_again_lost", for_lost),
            ("sent_again_probing", probing),
            ("sent_again_tail", tail),
        ] {
            server.set(key, value);
        }
        let carried = Carried {
            wish: None,
            protection: "checksum",
            connections: 1,
            server: Some(server),
            client: None,
        };
        carried.to_string()
    }

    #[test]
    fn whatever_is_more_than_what_was_lost_has_its_reason() {
        for (lost, again, said) in [
            (0, [0, 0, 0], "0 lost, 0 sent again; "),
            (30, [30, 0, 0], "30 lost, 30 sent again; "),
            (
                41,
                [45, 0, 0],
                "45 sent again (45 for what was lost, some of it in two parts); ",
            ),
            (
                30,
                [30, 10, 5],
                "(30 for what was lost, 10 as probes when no answer came in time, 5 at the end to be sure); ",
            ),
            (
                3,
                [0, 3, 0],
                "3 sent again (3 as probes when no answer came in time); ",
            ),
        ] {
            let told = told(lost, again);
            assert!(told.contains(said), "{told}");
        }
    }
}
