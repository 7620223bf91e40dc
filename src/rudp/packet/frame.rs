//! Frames: what DATA packets hold.

mod ack;

use std::{str, time::Duration};

pub use self::ack::{Ack, AckRanges, EcnCounts, encode_ack};
use super::{
    ErrorCode, Malformed,
    varint::{self, Reader},
};

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;
const RESET_STREAM: u8 = 0x04;
const STOP_SENDING: u8 = 0x05;
const STREAM: u8 = 0x08;
const STREAM_FIN: u8 = 0x01;
const STREAM_LENGTH: u8 = 0x02;
const STREAM_LAST: u8 = STREAM | STREAM_FIN | STREAM_LENGTH;
const MAX_DATA: u8 = 0x10;
const MAX_STREAM_DATA: u8 = 0x11;
const MAX_STREAMS: u8 = 0x12;
const DATA_BLOCKED: u8 = 0x14;
const STREAM_DATA_BLOCKED: u8 = 0x15;
const PATH_CHALLENGE: u8 = 0x1a;
const PATH_RESPONSE: u8 = 0x1b;
const CLOSE: u8 = 0x1c;
const ACK_FREQUENCY: u8 = 0x1f;

/// The longest reason of a CLOSE that is written, in bytes.
pub const MAX_REASON: usize = 256;

/// One frame. The data of a stream and the ranges of an ACK stay where they lie in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// So many bytes of padding in a row.
    Padding(usize),
    /// Asks for nothing but an acknowledgement.
    Ping,
    /// Tells which packets have arrived.
    Ack(Ack<'a>),
    /// The sender gives up its half of a stream.
    ResetStream {
        /// The stream.
        id: u64,
        /// Why.
        code: ErrorCode,
        /// How many bytes it had in all: flow control counts them.
        final_size: u64,
    },
    /// The receiver wants no more of the peer's half of a stream.
    StopSending {
        /// The stream.
        id: u64,
        /// Why.
        code: ErrorCode,
    },
    /// Data of a stream.
    Stream(Stream<'a>),
    /// So many bytes may be sent over all streams, from the connection's start.
    MaxData(u64),
    /// So many bytes may be sent on this stream, from its start.
    MaxStreamData {
        /// The stream.
        id: u64,
        /// The limit.
        max: u64,
    },
    /// So many streams may be opened, from the connection's start.
    MaxStreams(u64),
    /// The sender would send more over all streams but for this limit.
    DataBlocked(u64),
    /// The sender would send more on this stream but for this limit.
    StreamDataBlocked {
        /// The stream.
        id: u64,
        /// The limit.
        limit: u64,
    },
    /// Proves the path: to be answered with the same bytes.
    PathChallenge([u8; 8]),
    /// The answer.
    PathResponse([u8; 8]),
    /// The connection ends.
    Close {
        /// Why.
        code: ErrorCode,
        /// Why, for people.
        reason: &'a str,
    },
    /// How often the sender wants acknowledgements (draft-ietf-quic-ack-frequency).
    AckFrequency {
        /// Rises with each such frame: a lower one comes late and says nothing.
        sequence: u64,
        /// Acknowledge at once when so many ack-eliciting packets have come.
        packets: u64,
        /// Acknowledge after so long at the latest; whole microseconds.
        max_delay: Duration,
    },
}

/// Data of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The stream.
    pub id: u64,
    /// Where in the stream the data begins. Offset and length together never exceed 2^62 - 1.
    pub offset: u64,
    /// Whether the stream ends with it.
    pub fin: bool,
    /// The data; may be empty.
    pub data: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Whether the packet with it must be acknowledged.
    pub fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding(_) | Self::Ack(_) | Self::Close { .. })
    }

    /// Appends the frame. A stream's data is written with its length; a CLOSE's reason is cut after
    /// [`MAX_REASON`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Padding(count) => out.resize(out.len() + count, PADDING),
            Self::Ping => out.push(PING),
            Self::Ack(ack) => ack.encode(out),
            Self::ResetStream {
                id,
                code,
                final_size,
            } => put(RESET_STREAM, &[id, code.0, final_size], out),
            Self::StopSending { id, code } => put(STOP_SENDING, &[id, code.0], out),
            Self::Stream(stream) => {
                encode_stream_header(
                    stream.id,
                    stream.offset,
                    Some(stream.data.len()),
                    stream.fin,
                    out,
                );
                out.extend_from_slice(stream.data);
            }
            Self::MaxData(max) => put(MAX_DATA, &[max], out),
            Self::MaxStreamData { id, max } => put(MAX_STREAM_DATA, &[id, max], out),
            Self::MaxStreams(max) => put(MAX_STREAMS, &[max], out),
            Self::DataBlocked(limit) => put(DATA_BLOCKED, &[limit], out),
            Self::StreamDataBlocked { id, limit } => put(STREAM_DATA_BLOCKED, &[id, limit], out),
            Self::PathChallenge(data) => {
                out.push(PATH_CHALLENGE);
                out.extend_from_slice(&data);
            }
            Self::PathResponse(data) => {
                out.push(PATH_RESPONSE);
                out.extend_from_slice(&data);
            }
            Self::Close { code, reason } => {
                let reason = cut(reason);
                put(CLOSE, &[code.0, reason.len() as u64], out);
                out.extend_from_slice(reason.as_bytes());
            }
            Self::AckFrequency {
                sequence,
                packets,
                max_delay,
            } => put(ACK_FREQUENCY, &[sequence, packets, micros(max_delay)], out),
        }
    }

    fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let first = reader.u8()?;
        Ok(match first {
            STREAM..=STREAM_LAST => {
                let (id, offset) = (reader.varint()?, reader.varint()?);
                let data = if first & STREAM_LENGTH == 0 {
                    reader.bytes(reader.rest().len())?
                } else {
                    reader.counted()?
                };
                // Both are below 2^62.
                if offset + data.len() as u64 > varint::MAX {
                    return Err(Malformed::StreamTooLong);
                }
                Self::Stream(Stream {
                    id,
                    offset,
                    fin: first & STREAM_FIN != 0,
                    data,
                })
            }
            PADDING => {
                let rest = reader.rest();
                let more = rest.iter().position(|byte| *byte != PADDING);
                let more = more.unwrap_or(rest.len());
                reader.bytes(more)?;
                Self::Padding(1 + more)
            }
            PING => Self::Ping,
            ACK => Self::Ack(Ack::parse(reader, false)?),
            ACK_ECN => Self::Ack(Ack::parse(reader, true)?),
            RESET_STREAM => Self::ResetStream {
                id: reader.varint()?,
                code: ErrorCode(reader.varint()?),
                final_size: reader.varint()?,
            },
            STOP_SENDING => Self::StopSending {
                id: reader.varint()?,
                code: ErrorCode(reader.varint()?),
            },
            MAX_DATA => Self::MaxData(reader.varint()?),
            MAX_STREAM_DATA => Self::MaxStreamData {
                id: reader.varint()?,
                max: reader.varint()?,
            },
            MAX_STREAMS => Self::MaxStreams(reader.varint()?),
            DATA_BLOCKED => Self::DataBlocked(reader.varint()?),
            STREAM_DATA_BLOCKED => Self::StreamDataBlocked {
                id: reader.varint()?,
                limit: reader.varint()?,
            },
            PATH_CHALLENGE => Self::PathChallenge(reader.array()?),
            PATH_RESPONSE => Self::PathResponse(reader.array()?),
            CLOSE => Self::Close {
                code: ErrorCode(reader.varint()?),
                reason: str::from_utf8(reader.counted()?).map_err(|_| Malformed::Text)?,
            },
            ACK_FREQUENCY => Self::AckFrequency {
                sequence: reader.varint()?,
                packets: reader.varint()?,
                max_delay: Duration::from_micros(reader.varint()?),
            },
            unknown => return Err(Malformed::FrameType(unknown)),
        })
    }
}

/// The frames of a packet, in their order. After an error nothing more comes.
#[derive(Debug, Clone)]
pub struct Frames<'a>(Reader<'a>);

impl<'a> Frames<'a> {
    /// Of a DATA packet's payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Reader::new(payload))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let frame = Frame::parse(&mut self.0);
        if frame.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(frame)
    }
}

/// The bytes before a STREAM frame's data; `len`: the data's, if it is to be written.
#[inline]
pub const fn stream_header_len(id: u64, offset: u64, len: Option<usize>) -> usize {
    let len = match len {
        Some(len) => varint::len(len as u64),
        None => 0,
    };
    1 + varint::len(id) + varint::len(offset) + len
}

/// Appends what is before a STREAM frame's data. With `len`, that many bytes of data must follow;
/// without, they reach to the end of the packet and no other frame can follow.
#[inline]
pub fn encode_stream_header(
    id: u64,
    offset: u64,
    len: Option<usize>,
    fin: bool,
    out: &mut Vec<u8>,
) {
    let mut first = STREAM;
    if fin {
        first |= STREAM_FIN;
    }
    if len.is_some() {
        first |= STREAM_LENGTH;
    }
    out.push(first);
    varint::put(id, out);
    varint::put(offset, out);
    if let Some(len) = len {
        varint::put(len as u64, out);
    }
}

/// How much of `available` bytes fits into `room` bytes as one STREAM frame.
///
/// Gives how many bytes of data to write and the `len` for [`encode_stream_header`]: `None` if the
/// frame has to be the packet's last. Nothing if not even one byte fits (with nothing available:
/// not even the header).
pub fn fit_stream(
    id: u64,
    offset: u64,
    available: usize,
    room: usize,
) -> Option<(usize, Option<usize>)> {
    let open_ended = room.checked_sub(stream_header_len(id, offset, None))?;
    let with_length = room.checked_sub(stream_header_len(id, offset, Some(available)));
    if with_length.is_some_and(|room| room >= available) {
        return Some((available, Some(available)));
    }
    let data = available.min(open_ended);
    (data > 0 || available == 0).then_some((data, None))
}

fn put(first: u8, numbers: &[u64], out: &mut Vec<u8>) {
    out.push(first);
    for number in numbers {
        varint::put(*number, out);
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).map_or(varint::MAX, |micros| micros.min(varint::MAX))
}

#[cfg(test)]
mod tests;
