use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::{
    Encodable, Encoder,
    v4::{self, EncodeResult, Flags, MIN_PACKET_SIZE, MessageType, Opcode, OptionCode},
};

use super::message::Message;
use crate::config::Subnet;

/// One answer; its bytes are in the buffer that came with the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// The server identifier (option 54), which is also the address that it is sent from.
    pub server: Ipv4Addr,
    /// What it says.
    pub kind: ReplyKind,
}

/// What an answer says. Lease times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER
    Offer {
        /// The address offered.
        address: Ipv4Addr,
        /// For how long.
        lease: u32,
    },
    /// DHCPACK of a lease.
    Ack {
        /// The address leased.
        address: Ipv4Addr,
        /// For how long.
        lease: u32,
    },
    /// DHCPACK of a DHCPINFORM: parameters for a client that has an address of its own.
    Inform {
        /// The client's address.
        address: Ipv4Addr,
    },
    /// DHCPNAK
    Nak(Nak),
}

/// Why a client may not use the address it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nak {
    /// The address does not belong where the client is.
    WrongNetwork,
    /// The address is another client's, reserved, or not for leasing.
    Unavailable,
    /// The server knows the client by another address.
    OtherAddress,
}

impl fmt::Display for Nak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongNetwork => "that address is not of this network",
            Self::Unavailable => "that address is not free for you",
            Self::OtherAddress => "you have another address here",
        })
    }
}

impl fmt::Display for ReplyKind {
    /// In a student's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer { address, lease } => {
                write!(f, "offer: you can have {address} for {}", Humane(*lease))
            }
            Self::Ack { address, lease } => {
                write!(f, "ack: {address} is yours for {}", Humane(*lease))
            }
            Self::Inform { address } => write!(f, "ack: what {address} should know of the network"),
            Self::Nak(reason) => write!(f, "nak: no, {reason}"),
        }
    }
}

/// Seconds in the largest unit that divides them.
pub(super) struct Humane(pub(super) u32);

impl fmt::Display for Humane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(3600, "hour"), (60, "minute"), (1, "second")];
        for (size, name) in units {
            if self.0.is_multiple_of(size) {
                let count = self.0 / size;
                let plural = if count == 1 { "" } else { "s" };
                return write!(f, "{count} {name}{plural}");
            }
        }
        Ok(())
    }
}

impl ReplyKind {
    /// The message type on the wire.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Offer { .. } => MessageType::Offer,
            Self::Ack { .. } | Self::Inform { .. } => MessageType::Ack,
            Self::Nak(_) => MessageType::Nak,
        }
    }

    /// Encodes the answer to `message` into `out`, replacing what it held (RFC 2131 table 3).
    ///
    /// The codec writes the header alone: given the options it would sort them by code, and the
    /// client's order counts (RFC 2132 section 9.8).
    pub(crate) fn encode(
        &self,
        message: &Message<'_>,
        subnet: &Subnet,
        server: Ipv4Addr,
        out: &mut Vec<u8>,
    ) -> EncodeResult<()> {
        let header = message.header();
        let flags = header.flags();
        let (ciaddr, yiaddr, flags) = match *self {
            Self::Offer { address, .. } => (Ipv4Addr::UNSPECIFIED, address, flags),
            Self::Ack { address, .. } => (header.ciaddr(), address, flags),
            Self::Inform { .. } => (header.ciaddr(), Ipv4Addr::UNSPECIFIED, flags),
            Self::Nak(_) => {
                // The client can't be reached at an address that it does not have: its relay has to
                // broadcast (RFC 2131 section 4.3.2).
                let relayed = message.giaddr().is_some();
                let flags = if relayed {
                    flags.set_broadcast()
                } else {
                    flags
                };
                (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, flags)
            }
        };
        write_header(message, ciaddr, yiaddr, flags, out)?;

        let room = usize::from(message.max_size.unwrap_or(MIN_MAX_SIZE))
            .clamp(usize::from(MIN_MAX_SIZE), ETHERNET_MTU)
            - IP_AND_UDP;
        let echoed =
            |data: Option<&[u8]>| data.map_or(0, |data| data.len() + 2 * data.len().div_ceil(255));
        let identifier = message.identifier.as_deref();
        let relay = message.relay.as_deref();
        let mut options = Options {
            limit: room.saturating_sub(echoed(identifier) + echoed(relay) + 1),
            out,
            sent: [false; 256],
        };
        options.put(OptionCode::MessageType, &[self.message_type().into()]);
        options.put(OptionCode::ServerIdentifier, &server.octets());
        match *self {
            Self::Offer { lease, .. } | Self::Ack { lease, .. } => {
                options.put(OptionCode::AddressLeaseTime, &lease.to_be_bytes());
                options.parameters(message, subnet, Some(lease));
            }
            Self::Inform { .. } => options.parameters(message, subnet, None),
            Self::Nak(reason) => {
                options.put(OptionCode::Message, reason.to_string().as_bytes());
            }
        }
        // Unaltered, in every answer (RFC 6842 section 3).
        if let Some(identifier) = identifier {
            write_option(out, OptionCode::ClientIdentifier, identifier);
        }
        // Byte for byte, and last (RFC 3046 section 2.2).
        if let Some(relay) = relay {
            write_option(out, OptionCode::RelayAgentInformation, relay);
        }
        out.push(OptionCode::End.into());
        // BOOTP's size, below which old relays and clients drop a packet.
        if out.len() < MIN_PACKET_SIZE {
            out.resize(MIN_PACKET_SIZE, OptionCode::Pad.into());
        }
        Ok(())
    }
}

/// The message size that every client accepts, IP and UDP headers included (RFC 2131 section 2).
const MIN_MAX_SIZE: u16 = 576;
/// A client may allow more than its link carries in one piece.
const ETHERNET_MTU: usize = 1500;
const IP_AND_UDP: usize = 28;

fn write_header(
    message: &Message<'_>,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    flags: Flags,
    out: &mut Vec<u8>,
) -> EncodeResult<()> {
    let header = message.header();
    let mut reply = v4::Message::new_with_id(
        header.xid(),
        ciaddr,
        yiaddr,
        Ipv4Addr::UNSPECIFIED,
        header.giaddr(),
        message.chaddr(),
    );
    reply
        .set_opcode(Opcode::BootReply)
        .set_htype(header.htype())
        .set_flags(flags);
    out.clear();
    reply.encode(&mut Encoder::new(out))
}

/// Splits what is longer than one option holds (RFC 3396).
fn write_option(out: &mut Vec<u8>, code: OptionCode, data: &[u8]) {
    for part in data.chunks(255) {
        out.push(code.into());
        // At most 255, see chunks().
        out.push(part.len() as u8);
        out.extend_from_slice(part);
    }
}

/// Options being written, up to a size.
struct Options<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    sent: [bool; 256],
}

/// What a client is told that does not say what it wants to know.
const DEFAULT_PARAMETERS: [u8; 5] = [1, 3, 6, 15, 28];

impl Options<'_> {
    /// Writes an option once, if it has data and fits.
    fn put(&mut self, code: OptionCode, data: &[u8]) {
        let size = data.len() + 2 * data.len().div_ceil(255);
        let index = usize::from(u8::from(code));
        if !self.sent[index] && self.out.len() + size <= self.limit {
            write_option(self.out, code, data);
            self.sent[index] = true;
        }
    }

    /// Writes as many addresses as one option holds; the first ones are the preferred ones (RFC 2132
    /// section 3.5).
    fn put_addresses(&mut self, code: OptionCode, addresses: &[Ipv4Addr]) {
        let mut data = [0; 252];
        let mut len = 0;
        for (slot, address) in data.chunks_exact_mut(4).zip(addresses) {
            slot.copy_from_slice(&address.octets());
            len += 4;
        }
        self.put(code, &data[..len]);
    }

    /// Writes what the client asks for, in its order (RFC 2132 section 9.8).
    fn parameters(&mut self, message: &Message<'_>, subnet: &Subnet, lease: Option<u32>) {
        let wanted = message.parameters.as_deref().unwrap_or(&DEFAULT_PARAMETERS);
        for code in wanted {
            let code = OptionCode::from(*code);
            // The mask has to come before the routers (RFC 2132 section 3.3).
            if code == OptionCode::Router && wanted.contains(&OptionCode::SubnetMask.into()) {
                self.parameter(OptionCode::SubnetMask, subnet, lease);
            }
            self.parameter(code, subnet, lease);
        }
    }

    fn parameter(&mut self, code: OptionCode, subnet: &Subnet, lease: Option<u32>) {
        match code {
            OptionCode::SubnetMask => self.put(code, &subnet.network.mask().octets()),
            OptionCode::Router => self.put_addresses(code, &subnet.routers),
            OptionCode::DomainNameServer => self.put_addresses(code, &subnet.name_servers),
            OptionCode::DomainName => {
                self.put(code, subnet.domain.as_deref().unwrap_or("").as_bytes());
            }
            OptionCode::BroadcastAddr => self.put(code, &subnet.network.broadcast().octets()),
            OptionCode::Renewal => {
                if let Some(lease) = lease {
                    self.put(code, &(lease / 2).to_be_bytes());
                }
            }
            OptionCode::Rebinding => {
                if let Some(lease) = lease {
                    // 7/8 without an overflow.
                    self.put(code, &(lease - lease.div_ceil(8)).to_be_bytes());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_in_their_largest_unit() {
        let text = |seconds| Humane(seconds).to_string();
        assert_eq!(text(86_400), "24 hours");
        assert_eq!(text(3600), "1 hour");
        assert_eq!(text(5400), "90 minutes");
        assert_eq!(text(61), "61 seconds");
    }

    #[test]
    fn a_meaning_is_short() {
        let longest = Ipv4Addr::new(255, 255, 255, 255);
        for kind in [
            ReplyKind::Offer {
                address: longest,
                lease: 86_400,
            },
            ReplyKind::Ack {
                address: longest,
                lease: 86_400,
            },
            ReplyKind::Inform { address: longest },
            ReplyKind::Nak(Nak::WrongNetwork),
            ReplyKind::Nak(Nak::Unavailable),
        ] {
            assert!(kind.to_string().len() <= 60, "{kind}");
        }
    }
}
