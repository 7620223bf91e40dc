//! Folds the many packets that carry a file into one line.

use super::row::{Chapter, Row};
use crate::{
    client::units::{Size, count},
    watch::{
        event::packet::{Protocol, Role},
        words::What,
    },
};

/// So many of a chapter are shown: enough to see what they are like.
const SHOWN: u32 = 12;

/// What is folded.
#[derive(Debug, Default)]
pub(super) struct Fold {
    chapter: Option<Chapter>,
    shown: u32,
    packets: u64,
    bytes: u64,
    by_client: u64,
    /// Bytes of bodies over HTTP.
    body: u64,
}

impl Fold {
    /// Whether the row is one too many of its kind, and counted here instead of being shown.
    pub(super) fn takes(&mut self, row: &Row) -> bool {
        let packet = &row.packet;
        if packet.reading.what != What::Data {
            return false;
        }
        if packet.protocol == Protocol::Http {
            self.body += packet.bytes;
            return true;
        }
        if self.chapter != Some(row.chapter) {
            (self.chapter, self.shown) = (Some(row.chapter), 0);
        }
        self.shown += 1;
        if self.shown <= SHOWN {
            return false;
        }
        self.shown = SHOWN;
        self.packets += 1;
        self.bytes += packet.bytes;
        self.by_client += u64::from(packet.role == Role::Client);
        true
    }

    /// What was folded since it was last said, in one line. Of a body over HTTP only `midway`: at its
    /// end the whole transfer is told.
    pub(super) fn say(&mut self, midway: bool) -> Option<String> {
        let Self {
            packets,
            bytes,
            by_client,
            body,
            ..
        } = *self;
        (self.packets, self.bytes, self.by_client, self.body) = (0, 0, 0, 0);
        if packets > 0 {
            let packets = count(packets, "more DATA packet");
            let bytes = Size(bytes);
            return Some(format!(
                "    ⋮  {packets}, {bytes}; {by_client} of them the client's"
            ));
        }
        (midway && body > 0).then(|| format!("    ⋮  {} more over HTTP", Size(body)))
    }
}
