//! Folds the many packets that carry a file into one line.

use super::story::{Chapter, Row};
use crate::client::units::{Size, count};

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
}

impl Fold {
    /// Whether the row is one too many of its kind, and counted here instead of being shown.
    pub(super) fn takes(&mut self, row: &Row) -> bool {
        let packet = &row.packet;
        if !packet.meaning.starts_with("DATA ") {
            return false;
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
        self.by_client += u64::from(packet.role == "client");
        true
    }

    /// What was folded since it was last said, in one line.
    pub(super) fn say(&mut self) -> Option<String> {
        let (packets, bytes) = (std::mem::take(&mut self.packets), Size(self.bytes));
        let by_client = std::mem::take(&mut self.by_client);
        self.bytes = 0;
        (packets > 0).then(|| {
            let packets = count(packets, "more DATA packet");
            format!("    ⋮  {packets}, {bytes}; {by_client} of them the client's")
        })
    }
}
