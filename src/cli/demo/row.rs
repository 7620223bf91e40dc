//! The packets of the story, each in its place, and what they add up to.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::json;

use super::seen::{Print, Seen};
use crate::watch::{
    event::packet::{self, Direction, Fate, Protocol, Role},
    words::{Reading, What, Words},
};

/// The chapters of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chapter {
    /// The servers start; the scraper reads the page.
    Start,
    /// DHCP.
    Address,
    /// DNS.
    Name,
    /// RUDP.
    Signals,
    /// The list of files.
    List,
    /// Downloads over HTTP.
    Files,
    /// In its place: downloads over RUDP.
    Carried,
    /// Goodbye.
    End,
    /// After the story: what others make of the lab.
    After,
}

impl Chapter {
    /// Its number.
    pub(super) fn number(self) -> u8 {
        let place = self as u8;
        if self > Self::Files { place - 1 } else { place }
    }

    /// What it tells.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Start => "The lab starts: the scraper reads the download page",
            Self::Address => "DHCP: the client is new and asks for an address",
            Self::Name => "DNS: where is the proxy, example.com?",
            Self::Signals => "RUDP: signals to the proxy, numbered, over plain UDP",
            Self::List => "The list of files: the proxy asks the scraper",
            Self::Files => "The files: the proxy says where, the origin sends them by HTTP",
            Self::Carried => {
                "The files: the proxy gets them from the origin and carries them itself"
            }
            Self::End => "The end: the session is closed, the address goes back",
            Self::After => "Your turn: the lab's answers to whoever asks appear here",
        }
    }
}

/// One packet, as it left its sender.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packet {
    /// Who sent it.
    pub(super) role: Role,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// Address and port.
    pub(super) source: SocketAddr,
    /// Address and port.
    pub(super) destination: SocketAddr,
    /// Of the payload.
    pub(super) bytes: u64,
    /// What became of it.
    pub(super) fate: Fate,
    /// What it says.
    pub(super) reading: Reading,
    /// What it is known by at both ends.
    pub(super) print: Print,
    /// How it came out of a NAT.
    pub(super) seen: Option<Seen>,
}

impl Packet {
    /// A packet that is sent; what is received is the same once more.
    pub(super) fn sent(packet: &packet::Packet<'_>, words: &mut Words) -> Option<Self> {
        let reading = words.read(packet);
        let place = &packet.place;
        (packet.fate.direction() == Direction::Sent).then(|| Self {
            role: place.label.role,
            protocol: place.label.protocol,
            source: place.local,
            destination: place.remote,
            bytes: packet.length as u64,
            fate: packet.fate,
            reading,
            print: Print::of(packet),
            seen: None,
        })
    }
}

/// A packet in its place in the story.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// From 1.
    pub(super) number: u64,
    /// Since the story began.
    pub(super) time: Duration,
    /// Where in the story.
    pub(super) chapter: Chapter,
    /// The packet.
    pub(super) packet: Packet,
}

/// What the whole story counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows, lost packets included.
    pub(super) packets: u64,
    /// By protocol.
    pub(super) protocols: BTreeMap<String, u64>,
    /// Sent by the client.
    pub(super) by_client: u64,
    /// Lost on purpose.
    pub(super) lost: u64,
    /// SIGNLOST that the proxy sent.
    pub(super) signlost: u64,
    /// The last packet's time.
    pub(super) time: Duration,
    /// How often the proxy saw the transport's connection move.
    pub(super) moves: u64,
}

impl Tally {
    /// Counts one more row.
    pub(super) fn count(&mut self, packet: &Packet, time: Duration) {
        self.packets += 1;
        self.time = self.time.max(time);
        let protocol = packet.protocol.name().to_owned();
        *self.protocols.entry(protocol).or_default() += 1;
        self.by_client += u64::from(packet.role == Role::Client);
        self.lost += u64::from(packet.fate == Fate::LostOnPurpose);
        self.signlost += u64::from(packet.reading.what == What::Message("SIGNLOST"));
    }
}

impl Row {
    /// As a line of JSON.
    pub(super) fn as_json(&self) -> String {
        let packet = &self.packet;
        let mut object = json!({
            "type": "packet",
            "number": self.number,
            "time": self.time.as_secs_f64(),
            "chapter": self.chapter.number(),
            "role": packet.role.name(),
            "protocol": packet.protocol.name(),
            "source": packet.source,
            "destination": packet.destination,
            "bytes": packet.bytes,
            "fate": packet.fate.name(),
            "reason": packet.fate.reason(),
            "meaning": packet.reading.meaning,
        });
        if let Some(seen) = &packet.seen {
            object["seen_source"] = json!(seen.source);
            object["seen_destination"] = json!(seen.destination);
        }
        object.to_string()
    }
}
