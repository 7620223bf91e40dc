//! One stream as its user and the path see it: its name, what is read of it, what happens to it, and the
//! pieces in which it is sent.

use bytes::Bytes;

use super::send_buffer::Why;

/// Below so many unsent bytes a stream asks for more.
pub(super) const LOW: u64 = 256 << 10;

/// Names a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Why a stream can't be used so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer allows no more of them now.
    #[error("the peer allows no more streams at a time")]
    Exhausted,
    /// The stream is finished, or never was.
    #[error("the stream is not open")]
    Closed,
}

/// What came out of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Bytes.
    Data(Bytes),
    /// No more for now.
    Blocked,
    /// All were read.
    Finished,
    /// The peer gave it up, with this code.
    Reset(u64),
}

/// What the application should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The peer opened it.
    Opened(StreamId),
    /// The stream has bytes to read, or its end. Told once, and again only after a read has returned
    /// [`Read::Blocked`]: read on until then.
    Readable(StreamId),
    /// Less than [`Streams::LOW`](super::Streams::LOW) bytes of it wait to be sent for the first time.
    Writable(StreamId),
    /// Everything written, its end included, has arrived.
    Delivered(StreamId),
    /// The peer wants no more of it, for this reason.
    Stopped(StreamId, u64),
    /// More streams may be opened.
    Available,
}

/// A piece of a stream to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) fin: bool,
    /// Why it is sent again, if it is.
    pub(super) again: Option<Why>,
}
