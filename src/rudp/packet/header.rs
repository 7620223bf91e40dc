//! What the first bytes of a packet say.

use std::ops::Range;

use super::{
    ACCEPT, COOKIE, Cid, DATA, HELLO, MAX_NUMBER, Malformed, RESET, VERSIONS, varint::Reader,
};

/// The types of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// A client asks for a connection.
    Hello,
    /// The server wants the client's address proven.
    Cookie,
    /// The server does not speak the client's version.
    Versions,
    /// The other side knows nothing of the connection.
    Reset,
    /// The server has made the connection.
    Accept,
    /// Frames of a connection.
    Data,
}

impl PacketType {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Hello,
        Self::Cookie,
        Self::Versions,
        Self::Reset,
        Self::Accept,
        Self::Data,
    ];

    /// The type of the packet that a datagram is, by its first byte.
    #[inline]
    pub fn of(datagram: &[u8]) -> Result<Self, Malformed> {
        match *datagram.first().ok_or(Malformed::Truncated)? {
            DATA => Ok(Self::Data),
            HELLO => Ok(Self::Hello),
            COOKIE => Ok(Self::Cookie),
            VERSIONS => Ok(Self::Versions),
            RESET => Ok(Self::Reset),
            ACCEPT => Ok(Self::Accept),
            other => Err(Malformed::PacketType(other)),
        }
    }

    /// The word in lower case: a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Cookie => "cookie",
            Self::Versions => "versions",
            Self::Reset => "reset",
            Self::Accept => "accept",
            Self::Data => "data",
        }
    }
}

/// What can be told of a packet without opening it: enough to find its connection. Nothing of it
/// is proven yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its type.
    pub packet: PacketType,
    /// The connection id of the destination, by which its connection is found. But for a HELLO it
    /// is the sender's, since the destination has none yet, and for a RESET the sender's, too:
    /// the one that it does not know.
    pub cid: Cid,
    /// The version of a HELLO, COOKIE or ACCEPT; the other types have none.
    pub version: Option<u32>,
}

impl Header {
    /// Reads the first bytes of a datagram.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        let packet = PacketType::of(datagram)?;
        let versioned = match packet {
            PacketType::Hello | PacketType::Cookie | PacketType::Accept => true,
            PacketType::Versions | PacketType::Reset | PacketType::Data => false,
        };
        let mut reader = Reader::new(datagram);
        reader.u8()?;
        Ok(Self {
            packet,
            version: versioned.then(|| reader.u32()).transpose()?,
            cid: Cid(reader.u64()?),
        })
    }
}

/// Appends the header of a DATA packet; frames follow, then [`Keys::seal`](super::Keys::seal).
#[inline]
pub fn encode_data_header(destination: Cid, number: u64, out: &mut Vec<u8>) {
    out.push(DATA);
    out.extend_from_slice(&destination.0.to_be_bytes());
    out.extend_from_slice(&(number as u32).to_be_bytes());
}

/// To which connection id a DATA packet goes, and the lower half of its number: both stand in clear,
/// however the rest is protected.
pub fn read_number(datagram: &[u8]) -> Option<(u64, u32)> {
    let header = Header::parse(datagram).ok()?;
    let number = datagram.get(1 + 8..)?.first_chunk()?;
    (header.packet == PacketType::Data).then(|| (header.cid.0, u32::from_be_bytes(*number)))
}

/// The packet number whose low 32 bits are `truncated` and that is nearest to `expected`, the
/// largest number opened so far plus one (RFC 9000 appendix A.3).
pub fn expand(expected: u64, truncated: u32) -> u64 {
    const WINDOW: u64 = 1 << 32;
    let candidate = (expected & !(WINDOW - 1)) | u64::from(truncated);
    if candidate.saturating_add(WINDOW / 2) <= expected && candidate <= MAX_NUMBER - WINDOW {
        candidate + WINDOW
    } else if candidate > expected.saturating_add(WINDOW / 2) && candidate >= WINDOW {
        candidate - WINDOW
    } else {
        candidate
    }
}

/// A DATA packet whose integrity is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its whole number. Whether it came before is for the connection to tell.
    pub number: u64,
    /// Where its frames lie in the datagram; never empty.
    pub payload: Range<usize>,
}
