//! HTTP in plain words: requests, answers, and bodies as the transfers that they are.

use std::{collections::HashMap, net::SocketAddr};

use serde_json::Value;

use crate::{
    text::{SHORT, printable},
    watch::{
        event::packet::{Direction, Packet, Role},
        words::{Read, Reading, What},
    },
};

/// A reader of HTTP/1.1.
pub fn reader() -> Box<dyn Read> {
    Box::new(Reader::default())
}

/// So many connections are followed; one more, and all are forgotten.
const FOLLOWED: usize = 4096;

/// One end of a connection: a process may see both.
type End = (Role, SocketAddr, SocketAddr);

#[derive(Default)]
struct Reader {
    exchanges: HashMap<End, Exchange>,
}

/// What goes on at one end of a connection.
#[derive(Debug, Clone, Default)]
struct Exchange {
    /// The path that was asked for last.
    path: String,
    is_head: bool,
    body: Option<Body>,
}

/// A body under way.
#[derive(Debug, Clone)]
struct Body {
    /// Its length, if the answer's head tells.
    length: Option<u64>,
    passed: u64,
}

impl Read for Reader {
    fn read(&mut self, packet: &Packet<'_>) -> Reading {
        if self.exchanges.len() >= FOLLOWED {
            self.exchanges.clear();
        }
        let place = &packet.place;
        let end = (place.label.role, place.local, place.remote);
        let exchange = self.exchanges.entry(end).or_default();
        if let Some(head) = Head::read(packet.payload) {
            return if head.first.starts_with("HTTP/") {
                exchange.answer(&head, packet)
            } else {
                exchange.request(&head, packet)
            };
        }
        exchange.body(packet)
    }
}

/// A message's first line and its fields, as far as they were kept.
struct Head<'a> {
    first: &'a str,
    fields: &'a str,
    /// With the empty line; `None`: it is cut.
    length: Option<usize>,
}

impl<'a> Head<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        const STARTS: [&[u8]; 6] = [
            b"HTTP/1.",
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"OPTIONS ",
        ];
        if !STARTS.iter().any(|start| payload.starts_with(start)) {
            return None;
        }
        let end = payload.windows(4).position(|four| four == b"\r\n\r\n");
        let text = str::from_utf8(&payload[..end.unwrap_or(payload.len())]).ok()?;
        let (first, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        Some(Self {
            first,
            fields,
            length: end.map(|end| end + 4),
        })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields.split("\r\n");
        fields.find_map(|field| {
            let (own, value) = field.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Exchange {
    /// The file's name, or what else the path is.
    fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        match name {
            "" => "the page".to_owned(),
            name => printable(name, SHORT),
        }
    }

    fn request(&mut self, head: &Head<'_>, packet: &Packet<'_>) -> Reading {
        let mut words = head.first.split(' ');
        let method = match words.next() {
            Some("GET") => "GET",
            Some("HEAD") => "HEAD",
            Some("POST") => "POST",
            Some("PUT") => "PUT",
            _ => "OPTIONS",
        };
        let path = words.next().unwrap_or_default();
        *self = Self {
            path: path.to_owned(),
            is_head: method == "HEAD",
            body: None,
        };
        let name = self.shown();
        let range = head.field("range").and_then(|range| {
            let range = range.strip_prefix("bytes=")?;
            range.split('-').next()?.parse::<u64>().ok()
        });
        let conditional =
            head.field("if-none-match").is_some() || head.field("if-modified-since").is_some();
        let is_page = path.ends_with('/');
        let path = printable(path, SHORT);
        let is_api = packet.place.label.role == Role::Http;
        let meaning = match (method, range) {
            _ if is_api => format!("{method} {path}"),
            ("GET", _) if is_page && conditional => {
                format!("GET {path}: send the page if it has changed")
            }
            ("GET", _) if is_page => format!("GET {path}: send the page with the links"),
            ("GET", Some(from)) if from > 0 => {
                format!("GET: please go on with {name} at byte {from}")
            }
            ("GET", _) => format!("GET: please send {name}"),
            ("HEAD", _) => format!("HEAD: has {name} changed? I have it"),
            _ => format!("{method} {path}"),
        };
        let reading = Reading::message(method, meaning).with("path", path);
        match head.field("range") {
            Some(range) => reading.with("range", printable(range, SHORT)),
            None => reading,
        }
    }

    fn answer(&mut self, head: &Head<'_>, packet: &Packet<'_>) -> Reading {
        let status = head.first.split_once(' ').map_or("", |(_, status)| status);
        let status = printable(status, SHORT);
        let code: u64 = status
            .get(..3)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let length = head.field("content-length").and_then(|l| l.parse().ok());
        let name = self.shown();
        let has_body = !(self.is_head || code == 304 || code == 204 || code < 200);
        // What came with the head.
        let passed = head
            .length
            .map_or(0, |head| packet.length.saturating_sub(head)) as u64;
        self.body = has_body.then_some(Body { length, passed });
        let size = length.map(grouped);
        let meaning = match (code, size) {
            (200, Some(size)) if self.is_head => format!("{status}: {name} has {size} bytes"),
            (200, Some(size)) => format!("{status}: here are {size} bytes of {name}"),
            (206, size) => {
                let range = head.field("content-range").unwrap_or_default();
                let part = range.strip_prefix("bytes ").and_then(|range| {
                    let (first, last) = range.split('/').next()?.split_once('-')?;
                    Some((first.parse().ok()?, last.parse().ok()?))
                });
                match (part, size) {
                    (Some((first, last)), _) => {
                        let (first, last) = (grouped(first), grouped(last));
                        format!("{status}: {name}, bytes {first} to {last}")
                    }
                    (None, Some(size)) => format!("{status}: {size} bytes of {name}"),
                    (None, None) => format!("{status}: a part of {name}"),
                }
            }
            (304, _) => format!("{status}: {name} is as you have it"),
            (404, _) => format!("{status}: there is no {name} here"),
            _ => format!("{status}: {name}"),
        };
        let mut reading = Reading::message("answer", meaning)
            .with("status", code)
            .with("path", printable(&self.path, SHORT));
        if let Some(length) = length {
            reading = reading.with("content_length", length);
        }
        if passed > 0 {
            reading = reading.with("body_bytes", passed);
        }
        reading
    }

    fn body(&mut self, packet: &Packet<'_>) -> Reading {
        let name = self.shown();
        let bytes = packet.length as u64;
        let Some(body) = &mut self.body else {
            // A body that a request brings, or the rest of a head.
            return Reading {
                what: What::Data,
                meaning: "more of the message before".to_owned(),
                fields: Vec::new(),
            };
        };
        body.passed += bytes;
        let sent = packet.fate.direction() == Direction::Sent;
        let of = match body.length {
            Some(length) => format!(" of {}", grouped(length)),
            None => String::new(),
        };
        let passed = body.passed;
        Reading {
            what: What::Data,
            meaning: format!(
                "{name}: {} bytes more, {}{of} {}",
                grouped(bytes),
                grouped(passed),
                if sent { "sent" } else { "received" }
            ),
            fields: vec![
                ("path", printable(&self.path, SHORT).into()),
                ("body_bytes", bytes.into()),
                ("passed", passed.into()),
                (
                    "content_length",
                    body.length.map_or(Value::Null, Value::from),
                ),
            ],
        }
    }
}

/// A number whose thousands are told apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
