use serde::Serialize;

/// What became of a direction's packets. `sent + duplicated = delivered + lost + under_way`, the
/// lost by all reasons together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Packets that were handed in.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that came out, copies included.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Packets that will never come out.
    pub lost: Losses,
    /// Copies that the wire made.
    pub duplicated: u64,
    /// Packets that came out after one that was handed in later (RFC 4737 section 3), copies not
    /// included.
    pub reordered: u64,
    /// Packets that had one byte changed.
    pub corrupted: u64,
    /// Packets that the queue's management marked as "congestion experienced", and that came through.
    pub marked: u64,
    /// Packets in the queue, at the rate and on the wire now.
    pub under_way: u64,
    /// Bytes in the queue now, without what is being sent.
    pub queued_bytes: u64,
    /// The most that were in the queue at once.
    pub queued_bytes_max: u64,
}

/// Packets lost, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Losses {
    /// By chance, on the wire.
    pub random: u64,
    /// Because the queue was full.
    pub queue: u64,
    /// Because they were more than the policer lets through.
    pub policer: u64,
    /// Dropped by CoDel.
    pub codel: u64,
    /// Dropped by RED.
    pub red: u64,
    /// In a black-out.
    pub blackout: u64,
    /// Because the model holds as much as it may.
    pub memory: u64,
}

impl Losses {
    /// All together.
    pub fn total(&self) -> u64 {
        self.random
            + self.queue
            + self.policer
            + self.codel
            + self.red
            + self.blackout
            + self.memory
    }
}
