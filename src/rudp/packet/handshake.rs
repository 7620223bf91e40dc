//! The packets around a connection: HELLO, COOKIE, VERSIONS, RESET, ACCEPT.

use super::{
    ACCEPT, COOKIE, Cid, HELLO, HandshakeKey, MIN_HELLO, Malformed, Nonce, OpenError, Parameters,
    RESET, Token, VERSION, VERSIONS, varint::Reader,
};

/// The longest cookie, in bytes.
pub const MAX_COOKIE: usize = 255;
/// The most versions that a VERSIONS lists.
pub const MAX_VERSIONS: usize = 16;

/// HELLO: a client asks for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The client's connection id.
    pub cid: Cid,
    /// The client's nonce.
    pub nonce: Nonce,
    /// The cookie of the server's COOKIE, at most [`MAX_COOKIE`] bytes; empty the first time.
    pub cookie: &'a [u8],
    /// The client's transport parameters.
    pub parameters: Parameters,
}

impl<'a> Hello<'a> {
    /// Appends the packet, padded to [`MIN_HELLO`]. What is beyond [`MAX_COOKIE`] of the cookie is
    /// left out.
    pub fn encode(&self, key: &HandshakeKey, out: &mut Vec<u8>) {
        let start = out.len();
        begin(HELLO, self.cid, out);
        out.extend_from_slice(&self.nonce);
        put_cookie(self.cookie, out);
        put_parameters(&self.parameters, out);
        let end = start + MIN_HELLO - key.tag_len();
        if out.len() < end {
            out.resize(end, 0);
        }
        key.seal(out, start);
    }

    /// Checks the tag, then reads the packet. Allocates nothing.
    pub fn open(datagram: &'a [u8], key: &HandshakeKey) -> Result<Self, OpenError> {
        if datagram.len() < MIN_HELLO {
            return Err(Malformed::Truncated.into());
        }
        let (cid, mut reader) = open(HELLO, datagram, key)?;
        Ok(Self {
            cid,
            nonce: reader.array()?,
            cookie: cookie(&mut reader)?,
            parameters: parameters(&mut reader)?,
        })
    }
}

/// COOKIE: the server asks for the HELLO again, with this cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieReply<'a> {
    /// The client's connection id.
    pub destination: Cid,
    /// The client's nonce, so that nobody who did not see the HELLO can answer it.
    pub nonce: Nonce,
    /// The cookie, 1 to [`MAX_COOKIE`] bytes, of the server's own making.
    pub cookie: &'a [u8],
}

impl<'a> CookieReply<'a> {
    /// Appends the packet.
    pub fn encode(&self, key: &HandshakeKey, out: &mut Vec<u8>) {
        let start = out.len();
        begin(COOKIE, self.destination, out);
        out.extend_from_slice(&self.nonce);
        put_cookie(self.cookie, out);
        key.seal(out, start);
    }

    /// Checks the tag, then reads the packet.
    pub fn open(datagram: &'a [u8], key: &HandshakeKey) -> Result<Self, OpenError> {
        let (destination, mut reader) = open(COOKIE, datagram, key)?;
        let reply = Self {
            destination,
            nonce: reader.array()?,
            cookie: cookie(&mut reader)?,
        };
        if reply.cookie.is_empty() {
            return Err(Malformed::Empty.into());
        }
        finish(reader)?;
        Ok(reply)
    }
}

/// ACCEPT: the server has made the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// The client's connection id.
    pub destination: Cid,
    /// The server's connection id.
    pub cid: Cid,
    /// The server's nonce.
    pub nonce: Nonce,
    /// What a RESET for the server's connection id carries.
    pub reset_token: Token,
    /// The server's transport parameters.
    pub parameters: Parameters,
}

impl Accept {
    /// Appends the packet.
    pub fn encode(&self, key: &HandshakeKey, out: &mut Vec<u8>) {
        let start = out.len();
        begin(ACCEPT, self.destination, out);
        out.extend_from_slice(&self.cid.0.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.reset_token.to_bytes());
        put_parameters(&self.parameters, out);
        key.seal(out, start);
    }

    /// Checks the tag, then reads the packet.
    pub fn open(datagram: &[u8], key: &HandshakeKey) -> Result<Self, OpenError> {
        let (destination, mut reader) = open(ACCEPT, datagram, key)?;
        let accept = Self {
            destination,
            cid: Cid(reader.u64()?),
            nonce: reader.array()?,
            reset_token: Token::new(reader.array()?),
            parameters: parameters(&mut reader)?,
        };
        finish(reader)?;
        Ok(accept)
    }
}

/// VERSIONS: the server does not speak the HELLO's version, but these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions<'a> {
    /// The client's connection id.
    pub destination: Cid,
    list: &'a [u8],
}

impl<'a> Versions<'a> {
    /// Appends a packet that lists `versions`, the first [`MAX_VERSIONS`] of them.
    pub fn encode(destination: Cid, versions: &[u32], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(VERSIONS);
        out.extend_from_slice(&destination.0.to_be_bytes());
        for version in versions.iter().take(MAX_VERSIONS) {
            out.extend_from_slice(&version.to_be_bytes());
        }
        HandshakeKey::Checksum.seal(out, start);
    }

    /// Checks the checksum, which this packet has in every mode, then reads the packet.
    pub fn open(datagram: &'a [u8]) -> Result<Self, OpenError> {
        expect(VERSIONS, datagram)?;
        let mut reader = Reader::new(HandshakeKey::Checksum.verify(datagram)?);
        reader.u8()?;
        let destination = Cid(reader.u64()?);
        let list = reader.rest();
        if list.is_empty() {
            Err(Malformed::Empty.into())
        } else if !list.len().is_multiple_of(4) || list.len() > 4 * MAX_VERSIONS {
            Err(Malformed::Leftover.into())
        } else {
            Ok(Self { destination, list })
        }
    }

    /// The versions that the server speaks.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (versions, _) = self.list.as_chunks::<4>();
        versions.iter().map(|version| u32::from_be_bytes(*version))
    }
}

/// RESET: the sender knows nothing of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The connection id that is unknown: the one that the RESET's sender is addressed with.
    pub unknown: Cid,
    /// Proof that the sender chose that connection id.
    pub token: Token,
}

impl Reset {
    /// Appends the packet: [`RESET_LEN`](super::RESET_LEN) bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(RESET);
        out.extend_from_slice(&self.unknown.0.to_be_bytes());
        out.extend_from_slice(&self.token.to_bytes());
    }

    /// Reads the packet. It has no tag: compare the token.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        expect(RESET, datagram)?;
        let mut reader = Reader::new(datagram);
        reader.u8()?;
        let reset = Self {
            unknown: Cid(reader.u64()?),
            token: Token::new(reader.array()?),
        };
        finish(reader)?;
        Ok(reset)
    }
}

fn begin(first: u8, cid: Cid, out: &mut Vec<u8>) {
    out.push(first);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&cid.0.to_be_bytes());
}

fn expect(first: u8, datagram: &[u8]) -> Result<(), Malformed> {
    match datagram.first() {
        None => Err(Malformed::Truncated),
        Some(byte) if *byte == first => Ok(()),
        Some(byte) => Err(Malformed::PacketType(*byte)),
    }
}

/// The version comes before the tag: another version may have another tag.
fn open<'a>(
    first: u8,
    datagram: &'a [u8],
    key: &HandshakeKey,
) -> Result<(Cid, Reader<'a>), OpenError> {
    expect(first, datagram)?;
    let mut reader = Reader::new(datagram);
    reader.u8()?;
    let version = reader.u32()?;
    if version != VERSION {
        return Err(Malformed::Version(version).into());
    }
    let mut reader = Reader::new(key.verify(datagram)?);
    reader.bytes(1 + 4)?;
    Ok((Cid(reader.u64()?), reader))
}

fn finish(reader: Reader<'_>) -> Result<(), Malformed> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Leftover)
    }
}

fn put_cookie(cookie: &[u8], out: &mut Vec<u8>) {
    let len = cookie.len().min(MAX_COOKIE);
    out.push(len as u8);
    out.extend_from_slice(&cookie[..len]);
}

fn cookie<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = reader.u8()?;
    reader.bytes(len.into())
}

fn put_parameters(parameters: &Parameters, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    parameters.encode(out);
    // Nine parameters of at most 66 bytes each.
    let len = (out.len() - at - 2) as u16;
    out[at..at + 2].copy_from_slice(&len.to_be_bytes());
}

fn parameters(reader: &mut Reader<'_>) -> Result<Parameters, Malformed> {
    let len = reader.u16()?;
    Parameters::decode(reader.bytes(len.into())?)
}
