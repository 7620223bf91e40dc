//! Packets in words: what the bytes say, for logs, tables and captures.
//!
//! Each protocol's room has a reader of its bytes; the program [`register`]s them at its start, and
//! every observer that wants words makes its own [`Words`]. Nothing reads the words back: an observer
//! that decides by what a packet is looks at [`Reading::what`] and [`Reading::fields`].

use std::sync::OnceLock;

use serde_json::Value;

use super::event::packet::{Packet, Protocol};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A message of the protocol, by its name there: `DISCOVER`, `query`, `SIGNECHO`, `HELLO`, `GET`.
    Message(&'static str),
    /// A piece of a file under way, or an acknowledgement of such.
    Data,
    /// Bytes that are none of the protocol.
    Unreadable,
}

/// What the bytes of a packet say.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What it is.
    pub what: What,
    /// One plain sentence for a student, without a final stop.
    pub meaning: String,
    /// The protocol's own identifiers: a transaction's id, a name, a packet's number.
    pub fields: Vec<(&'static str, Value)>,
}

impl Reading {
    /// A message of that name.
    pub fn message(name: &'static str, meaning: impl Into<String>) -> Self {
        Self {
            what: What::Message(name),
            meaning: meaning.into(),
            fields: Vec::new(),
        }
    }

    /// Bytes that are no message.
    pub fn unreadable(meaning: impl Into<String>) -> Self {
        Self {
            what: What::Unreadable,
            meaning: meaning.into(),
            fields: Vec::new(),
        }
    }

    /// With an identifier more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// An identifier.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields.find(|(other, _)| *other == name).map(|(_, v)| v)
    }

    /// The name of a message.
    pub fn name(&self) -> &'static str {
        match self.what {
            What::Message(name) => name,
            What::Data => "data",
            What::Unreadable => "unreadable",
        }
    }
}

/// Reads the packets of one protocol, in their order: a piece of a stream is understood by what came
/// before it.
pub trait Read: Send {
    /// What a packet says. Its payload may be cut, and is anything at all.
    fn read(&mut self, packet: &Packet<'_>) -> Reading;
}

/// Makes a protocol's reader.
pub type Maker = fn() -> Box<dyn Read>;

static READERS: OnceLock<Vec<(Protocol, Maker)>> = OnceLock::new();

/// Says who reads which protocol, once for the process. Later calls change nothing.
pub fn register(readers: Vec<(Protocol, Maker)>) {
    // The same list each time: the program has but one.
    let _ = READERS.set(readers);
}

/// The readers of one observer.
pub struct Words(Vec<(Protocol, Box<dyn Read>)>);

impl Default for Words {
    fn default() -> Self {
        let readers = READERS.get().map_or(&[][..], Vec::as_slice);
        Self(readers.iter().map(|(of, make)| (*of, make())).collect())
    }
}

impl Words {
    /// What a packet says.
    pub fn read(&mut self, packet: &Packet<'_>) -> Reading {
        let mut readers = self.0.iter_mut();
        match readers.find(|(of, _)| *of == packet.place.label.protocol) {
            Some((_, reader)) => reader.read(packet),
            None => Reading::unreadable(""),
        }
    }
}
