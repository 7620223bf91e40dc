//! Short texts kept in place, so that a packet is read without allocating.

use std::{fmt, ops::Deref, str};

use super::Malformed;
use crate::rudp::signal::{self, MAX_TEXT};

/// Printable ASCII without `;`, 1 to 64 bytes: the rules of a name in the text protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text {
    len: u8,
    bytes: [u8; MAX_TEXT],
}

impl Text {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        Self::parse(text.as_bytes())
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, Malformed> {
        signal::plain(text, MAX_TEXT).map_err(|_| Malformed::Text)?;
        let mut bytes = [0; MAX_TEXT];
        bytes[..text.len()].copy_from_slice(text);
        Ok(Self {
            len: u8::try_from(text.len()).map_err(|_| Malformed::Text)?,
            bytes,
        })
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        // Checked to be ASCII when it was made.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
