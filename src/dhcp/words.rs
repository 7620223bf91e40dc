//! DHCP messages in plain words.

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Decoder,
    v4::{DhcpOption, Message, MessageType, OptionCode},
};

use super::reply::Humane;
use crate::{
    text::{SHORT, printable},
    watch::{
        event::packet::Packet,
        words::{Read, Reading},
    },
};

/// A reader of DHCP messages.
pub fn reader() -> Box<dyn Read> {
    Box::new(Reader)
}

struct Reader;

impl Read for Reader {
    fn read(&mut self, packet: &Packet<'_>) -> Reading {
        let message = Message::decode(&mut Decoder::new(packet.payload));
        let read = message.ok().and_then(|message| read(&message));
        read.unwrap_or_else(|| Reading::unreadable("no DHCP message"))
    }
}

fn read(message: &Message) -> Option<Reading> {
    let options = message.opts();
    let kind = options.msg_type()?;
    let address = |code| match options.get(code)? {
        DhcpOption::RequestedIpAddress(address) | DhcpOption::ServerIdentifier(address) => {
            Some(*address)
        }
        _ => None,
    };
    let wanted = address(OptionCode::RequestedIpAddress);
    let own = Some(message.ciaddr()).filter(|address| !address.is_unspecified());
    let given = message.yiaddr();
    let lease = match options.get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) => Some(*seconds),
        _ => None,
    };
    let text = match options.get(OptionCode::Message) {
        Some(DhcpOption::Message(text)) => Some(printable(text, SHORT)),
        _ => None,
    };
    let shown = |address: Option<Ipv4Addr>| match address {
        Some(address) => address.to_string(),
        None => "an address".to_owned(),
    };
    let (name, meaning) = match kind {
        MessageType::Discover => (
            "DISCOVER",
            "discover: I am new, who has an address for me?".to_owned(),
        ),
        MessageType::Offer => {
            let time = lease.map(|lease| format!(" for {}", Humane(lease)));
            let time = time.unwrap_or_default();
            ("OFFER", format!("offer: you can have {given}{time}"))
        }
        MessageType::Request => {
            let meaning = match (wanted, own) {
                (None, Some(own)) => format!("request: may I keep {own}?"),
                (wanted, _) => format!("request: I would like {}, please", shown(wanted)),
            };
            ("REQUEST", meaning)
        }
        MessageType::Ack => {
            let meaning = match lease {
                Some(lease) => format!("ack: {given} is yours for {}", Humane(lease)),
                None => format!("ack: what {} should know of the network", shown(own)),
            };
            ("ACK", meaning)
        }
        MessageType::Nak => {
            let why = text.unwrap_or_else(|| "not that address".to_owned());
            ("NAK", format!("nak: no, {why}"))
        }
        MessageType::Decline => (
            "DECLINE",
            format!("decline: somebody else has {} already", shown(wanted)),
        ),
        MessageType::Release => (
            "RELEASE",
            format!("release: thank you, {} is free again", shown(own)),
        ),
        MessageType::Inform => (
            "INFORM",
            format!("inform: I have {}, what should I know?", shown(own)),
        ),
        _ => return None,
    };
    let hardware = message.chaddr().iter().map(|byte| format!("{byte:02x}"));
    let hardware = hardware.collect::<Vec<_>>().join(":");
    let mut reading = Reading::message(name, meaning)
        .with("xid", format!("{:#010x}", message.xid()))
        .with("type", name)
        .with("chaddr", hardware);
    for (field, address) in [
        (
            "yiaddr",
            Some(given).filter(|given| !given.is_unspecified()),
        ),
        ("ciaddr", own),
        ("requested", wanted),
        ("server", address(OptionCode::ServerIdentifier)),
    ] {
        if let Some(address) = address {
            reading = reading.with(field, address.to_string());
        }
    }
    if let Some(lease) = lease {
        reading = reading.with("lease_seconds", lease);
    }
    Some(reading)
}
