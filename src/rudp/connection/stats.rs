use std::time::Duration;

use super::send_buffer::Why;

/// What a connection has counted, and how it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Packets sent, acknowledgements and probes included.
    pub packets_sent: u64,
    /// Of these, packets that carried pieces of streams.
    pub data_packets_sent: u64,
    /// Their UDP payload bytes.
    pub bytes_sent: u64,
    /// Packets received whole and for the first time.
    pub packets_received: u64,
    /// Their UDP payload bytes.
    pub bytes_received: u64,
    /// Bytes of streams that the peer has acknowledged, each once, each stream's up to its first gap: what
    /// goodput is made of.
    pub stream_bytes_acknowledged: u64,
    /// Bytes of streams received, each once, as flow control counts them.
    pub stream_bytes_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that were acknowledged later.
    pub spurious_losses: u64,
    /// Packets that carried bytes of a stream again, of those that a capture shows: the sum of the next three.
    pub packets_retransmitted: u64,
    /// Because a packet that had carried it was declared lost.
    pub sent_again_lost: u64,
    /// Because no acknowledgement came in time: a probe carries what has waited longest (RFC 9002 section
    /// 6.2.4), lost or not.
    pub sent_again_probing: u64,
    /// At a transfer's end over a lossy path, to be sure, though nothing says that it got lost.
    pub sent_again_tail: u64,
    /// Packets besides that never left: the kernel refused them, for their size. What was in them went into
    /// smaller ones.
    pub packets_unsent: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets whose integrity tag was wrong.
    pub corrupted: u64,
    /// Packets that made no sense although their tag was right.
    pub malformed: u64,
    /// Probe timeouts.
    pub probe_timeouts: u64,
    /// Path-MTU probes that got lost.
    pub mtu_probes_lost: u64,
    /// Congestion events: losses and marks, those of a round trip together (RFC 9002 section 7.3).
    pub congestion_events: u64,
    /// Of these undone.
    pub spurious_congestion_events: u64,
    /// Times the path was given up for another.
    pub path_changes: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_variation: Duration,
    /// The least round trip on this path.
    pub min_rtt: Duration,
    /// The newest sample.
    pub latest_rtt: Duration,
    /// The congestion window, bytes.
    pub window: u64,
    /// The slow-start threshold, bytes.
    pub ssthresh: Option<u64>,
    /// Bytes in flight.
    pub in_flight: u64,
    /// The pacing rate, bytes a second.
    pub pacing_rate: u64,
    /// The delivery rate last measured, bytes a second.
    pub delivery_rate: u64,
    /// The largest datagram, UDP payload bytes.
    pub mtu: u16,
    /// The congestion controller's phase.
    pub phase: &'static str,
}

impl Stats {
    /// Packets sent and received: whether anything has happened.
    pub fn packets(&self) -> u64 {
        self.packets_sent + self.packets_received
    }

    /// Where packets that carry bytes again for this reason are counted, if they do.
    pub(super) fn again(&mut self, why: Option<Why>) -> Option<&mut u64> {
        match why? {
            Why::Lost => Some(&mut self.sent_again_lost),
            Why::ProbeTimeout => Some(&mut self.sent_again_probing),
            Why::Tail => Some(&mut self.sent_again_tail),
            Why::NotSent => None,
        }
    }
}
