use std::{borrow::Cow, net::Ipv4Addr};

use dhcproto::v4::{MAGIC, MessageType, OptionCode, borrowed};

use super::lease::{ClientKey, Hardware};
use crate::config::MacAddress;

/// A packet that is no DHCP message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("shorter than a DHCP header")]
    Short,
    #[error("not a request (op is not 1)")]
    NotARequest,
    #[error("hardware address longer than 16 bytes")]
    HardwareLength,
    #[error("no magic cookie")]
    Cookie,
    #[error("an option is longer than its field")]
    Overrun,
    #[error("option {0} has a wrong length")]
    OptionLength(u8),
    #[error("no message type that a client sends")]
    MessageType,
    #[error("neither a hardware address nor a client identifier")]
    NoClient,
}

/// A client's message, checked as far as its meaning needs it.
///
/// dhcproto's header view does the fixed fields. The options are walked here, because the codec's
/// iterators end silently at the first fault, join only adjacent instances (RFC 3396 joins all) and
/// know no overloading (RFC 2132 section 9.3).
pub(crate) struct Message<'a> {
    header: borrowed::Message<'a>,
    chaddr: &'a [u8],
    /// Option 53.
    pub(crate) kind: MessageType,
    /// Option 50.
    pub(crate) requested: Option<Ipv4Addr>,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// Option 55.
    pub(crate) parameters: Option<Cow<'a, [u8]>>,
    /// Option 57.
    pub(crate) max_size: Option<u16>,
    /// Option 61, opaque (RFC 4361 leaves its form to the client).
    pub(crate) identifier: Option<Cow<'a, [u8]>>,
    /// Option 82, raw.
    pub(crate) relay: Option<Cow<'a, [u8]>>,
    hostname: Option<Cow<'a, [u8]>>,
}

/// `file` and `sname`, which option 52 may turn into option fields.
const FILE: std::ops::Range<usize> = 108..236;
const SNAME: std::ops::Range<usize> = 44..108;
const HEADER: usize = 240;
/// One whole option.
const MAX_IDENTIFIER: usize = 255;
/// Two: with everything else the answer still fits into an Ethernet frame.
const MAX_RELAY_INFORMATION: usize = 510;
const OP_REQUEST: u8 = 1;

impl<'a> Message<'a> {
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let header = borrowed::Message::new(packet).map_err(|_| Malformed::Short)?;
        if packet[0] != OP_REQUEST {
            return Err(Malformed::NotARequest);
        }
        // Before anything asks for chaddr: the codec trusts this byte.
        if header.hlen() > 16 {
            return Err(Malformed::HardwareLength);
        }
        if packet[236..HEADER] != MAGIC {
            return Err(Malformed::Cookie);
        }
        let mut fields = Fields::default();
        fields.walk(&packet[HEADER..])?;
        match fields.overload.as_deref() {
            None => {}
            Some([1]) => fields.walk(&packet[FILE])?,
            Some([2]) => fields.walk(&packet[SNAME])?,
            Some([3]) => {
                fields.walk(&packet[FILE])?;
                fields.walk(&packet[SNAME])?;
            }
            Some(_) => return Err(Malformed::OptionLength(52)),
        }
        let kind = match fields.kind.as_deref() {
            Some([kind]) => MessageType::from(*kind),
            _ => return Err(Malformed::MessageType),
        };
        let message = Self {
            chaddr: header.chaddr(),
            header,
            kind,
            requested: address(fields.requested, OptionCode::RequestedIpAddress)?,
            server: address(fields.server, OptionCode::ServerIdentifier)?,
            parameters: fields.parameters,
            max_size: fields
                .max_size
                .and_then(|data| <[u8; 2]>::try_from(&*data).ok())
                .map(u16::from_be_bytes),
            identifier: fields.identifier.filter(|id| !id.is_empty()),
            relay: fields.relay,
            hostname: fields.hostname,
        };
        // What is remembered of a client, and what is echoed, has a bound.
        let longer_than =
            |max, data: &Option<Cow<'_, [u8]>>| data.as_ref().is_some_and(|data| data.len() > max);
        if longer_than(MAX_IDENTIFIER, &message.identifier) {
            Err(Malformed::OptionLength(61))
        } else if longer_than(MAX_RELAY_INFORMATION, &message.relay) {
            Err(Malformed::OptionLength(82))
        } else if message.identifier.is_none() && message.chaddr.is_empty() {
            Err(Malformed::NoClient)
        } else {
            Ok(message)
        }
    }

    pub(crate) fn header(&self) -> &borrowed::Message<'a> {
        &self.header
    }

    /// The hardware address, `hlen` bytes.
    pub(crate) fn chaddr(&self) -> &'a [u8] {
        self.chaddr
    }

    pub(crate) fn ciaddr(&self) -> Option<Ipv4Addr> {
        specified(self.header.ciaddr())
    }

    pub(crate) fn giaddr(&self) -> Option<Ipv4Addr> {
        specified(self.header.giaddr())
    }

    pub(crate) fn hardware(&self) -> Hardware {
        Hardware::new(self.header.htype().into(), self.chaddr)
    }

    /// The Ethernet address, which reservations go by.
    pub(crate) fn mac(&self) -> Option<MacAddress> {
        self.hardware().mac()
    }

    /// What a lease is bound to: option 61 where there is one, else the hardware address (RFC 2131
    /// section 4.2).
    pub(crate) fn client_key(&self) -> ClientKey {
        match &self.identifier {
            Some(id) => ClientKey::identifier(id),
            None => ClientKey::hardware(self.header.htype().into(), self.chaddr),
        }
    }

    /// Option 12, if it can be shown and stored as it is.
    pub(crate) fn hostname(&self) -> Option<&str> {
        let name = self.hostname.as_deref()?;
        // Some clients count a final NUL in.
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        if name.is_empty() || name.len() > 255 || !name.iter().all(plain) {
            return None;
        }
        std::str::from_utf8(name).ok()
    }

    /// Option 82, sub-option 5 (RFC 3527): the link to lease from, if it is not the relay's.
    pub(crate) fn link_selection(&self) -> Option<Ipv4Addr> {
        let mut rest = self.relay.as_deref()?;
        while let [code, len, tail @ ..] = rest {
            let (data, next) = tail.split_at_checked(usize::from(*len))?;
            if *code == 5 {
                return <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
            }
            rest = next;
        }
        None
    }
}

fn specified(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}

/// An address option. One of the wrong length is no option to skip: without it the message would
/// mean something else.
fn address(data: Option<Cow<'_, [u8]>>, code: OptionCode) -> Result<Option<Ipv4Addr>, Malformed> {
    let Some(data) = data else { return Ok(None) };
    let octets =
        <[u8; 4]>::try_from(&*data).map_err(|_| Malformed::OptionLength(u8::from(code)))?;
    Ok(specified(octets.into()))
}

/// The options that decide anything, each joined from all its instances.
#[derive(Default)]
struct Fields<'a> {
    hostname: Option<Cow<'a, [u8]>>,
    requested: Option<Cow<'a, [u8]>>,
    overload: Option<Cow<'a, [u8]>>,
    kind: Option<Cow<'a, [u8]>>,
    server: Option<Cow<'a, [u8]>>,
    parameters: Option<Cow<'a, [u8]>>,
    max_size: Option<Cow<'a, [u8]>>,
    identifier: Option<Cow<'a, [u8]>>,
    relay: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    /// Reads one option field up to its End option. A missing End is forgiven, as everywhere.
    fn walk(&mut self, field: &'a [u8]) -> Result<(), Malformed> {
        let mut rest = field;
        loop {
            match rest {
                [] | [255, ..] => return Ok(()),
                [0, tail @ ..] => rest = tail,
                [_] => return Err(Malformed::Overrun),
                [code, len, tail @ ..] => {
                    let (data, next) = tail
                        .split_at_checked(usize::from(*len))
                        .ok_or(Malformed::Overrun)?;
                    self.add(OptionCode::from(*code), data);
                    rest = next;
                }
            }
        }
    }

    fn add(&mut self, code: OptionCode, data: &'a [u8]) {
        let field = match code {
            OptionCode::Hostname => &mut self.hostname,
            OptionCode::RequestedIpAddress => &mut self.requested,
            OptionCode::OptionOverload => &mut self.overload,
            OptionCode::MessageType => &mut self.kind,
            OptionCode::ServerIdentifier => &mut self.server,
            OptionCode::ParameterRequestList => &mut self.parameters,
            OptionCode::MaxMessageSize => &mut self.max_size,
            OptionCode::ClientIdentifier => &mut self.identifier,
            OptionCode::RelayAgentInformation => &mut self.relay,
            _ => return,
        };
        match field {
            None => *field = Some(Cow::Borrowed(data)),
            Some(joined) => joined.to_mut().extend_from_slice(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER];
        packet[..3].copy_from_slice(&[1, 1, 6]);
        packet[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        packet[236..].copy_from_slice(&MAGIC);
        packet.extend_from_slice(options);
        packet
    }

    fn fault(packet: &[u8]) -> Option<Malformed> {
        Message::parse(packet).err()
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = packet(&[53, 1, 1, 255]);
        assert_eq!(fault(&good), None);
        assert_eq!(fault(&good[..239]), Some(Malformed::Short));
        let with = |at: usize, value: u8| {
            let mut packet = good.clone();
            packet[at] = value;
            fault(&packet)
        };
        assert_eq!(with(0, 2), Some(Malformed::NotARequest));
        assert_eq!(with(2, 17), Some(Malformed::HardwareLength));
        assert_eq!(with(2, 0), Some(Malformed::NoClient));
        assert_eq!(with(236, 0), Some(Malformed::Cookie));
        assert_eq!(with(241, 3), Some(Malformed::Overrun));
        assert_eq!(fault(&packet(&[53])), Some(Malformed::Overrun));
        assert_eq!(fault(&packet(&[255])), Some(Malformed::MessageType));
        assert_eq!(
            fault(&packet(&[53, 1, 3, 50, 3, 1, 2, 3])),
            Some(Malformed::OptionLength(50))
        );
    }

    #[test]
    fn a_bad_option_does_not_hide_the_rest() {
        // Not UTF-8 in 12, ASCII in 81, a wrong length in 57; then the type.
        let packet = packet(&[
            12, 2, 0xff, 0xfe, 81, 3, 97, 98, 99, 57, 1, 9, 53, 1, 1, 255,
        ]);
        let message = Message::parse(&packet).expect("readable");
        assert_eq!(message.kind, MessageType::Discover);
        assert_eq!(message.hostname(), None);
        assert_eq!(message.max_size, None);
    }

    #[test]
    fn instances_join_across_overloaded_fields_in_order() {
        let mut packet = packet(&[61, 2, 1, 2, 52, 1, 3, 53, 1, 1, 61, 1, 3, 255]);
        packet[108..112].copy_from_slice(&[61, 1, 4, 255]);
        packet[44..48].copy_from_slice(&[61, 1, 5, 255]);
        let message = Message::parse(&packet).expect("readable");
        assert_eq!(message.identifier.as_deref(), Some(&[1, 2, 3, 4, 5][..]));
    }

    #[test]
    fn the_key_is_option_61_and_else_the_hardware_address() {
        let key = |options: &[u8]| {
            Message::parse(&packet(options))
                .expect("readable")
                .client_key()
        };
        let hardware = key(&[53, 1, 1, 255]);
        assert_eq!(hardware, key(&[53, 1, 1, 61, 0, 255]));
        // The identifier that equals the hardware address is still another client's.
        assert_ne!(hardware, key(&[53, 1, 1, 61, 7, 1, 2, 0, 0, 0, 0, 7, 255]));
    }

    #[test]
    fn link_selection_is_found_among_sub_options() {
        let packet = packet(&[53, 1, 1, 82, 9, 1, 1, 9, 5, 4, 10, 0, 0, 1, 255]);
        let message = Message::parse(&packet).expect("readable");
        assert_eq!(message.link_selection(), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..700),
            options in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for bytes in [noise, packet(&options)] {
                if let Ok(message) = Message::parse(&bytes) {
                    message.client_key();
                    message.hostname();
                    message.link_selection();
                    message.mac();
                }
            }
        }
    }
}
