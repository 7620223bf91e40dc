//! The packets sent and not yet forgotten: two rings, so that sending one allocates nothing.

use std::{collections::VecDeque, time::Instant};

use super::{delivery::Snapshot, send_buffer::Why};

/// What one packet carried that may have to be sent again, or that its acknowledgement tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentFrame {
    /// A piece of a stream, and whether it said where the stream ends.
    Stream {
        id: u64,
        offset: u64,
        length: u32,
        fin: bool,
        /// Why this packet carried it again, if it did.
        again: Option<Why>,
    },
    /// An ACK frame that told of packets up to this one.
    Ack {
        largest: u64,
    },
    MaxData,
    MaxStreamData(u64),
    MaxStreams,
    ResetStream(u64),
    StopSending(u64),
    AckFrequency,
}

/// What is known about a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its number was left out on purpose, or the kernel refused it: whoever acknowledges it, lies.
    Skipped,
    /// Nothing yet.
    UnderWay,
    Acked,
    /// Declared lost, in this congestion event, so many microseconds after it was sent.
    Lost {
        event: u32,
        after: u32,
    },
}

/// A packet sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentPacket {
    pub(super) sent_at: Instant,
    pub(super) fate: Fate,
    /// UDP payload bytes.
    pub(super) size: u16,
    /// Counts as in flight: all but those that only acknowledge.
    pub(super) in_flight: bool,
    pub(super) ack_eliciting: bool,
    pub(super) ecn: bool,
    /// The packet tries a size of datagrams: its loss is no sign of congestion.
    pub(super) probe: bool,
    /// Went out on the path of this generation: another path's losses are not this one's.
    pub(super) path: u32,
    frames: u16,
    first_frame: u64,
    pub(super) snapshot: Snapshot,
}

/// All of them, by number.
#[derive(Debug)]
pub(super) struct SentPackets {
    packets: VecDeque<SentPacket>,
    /// The number of the first in `packets`.
    first: u64,
    frames: VecDeque<SentFrame>,
    /// How many frames came before the first in `frames`.
    first_frame: u64,
    /// No packet below is under way.
    under_way: u64,
}

impl SentPackets {
    /// None yet; the first will have this number.
    pub(super) fn new(first: u64) -> Self {
        Self {
            packets: VecDeque::new(),
            first,
            frames: VecDeque::new(),
            first_frame: 0,
            under_way: first,
        }
    }

    /// The number that the next packet will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// Notes a frame of the packet that is being made.
    pub(super) fn add_frame(&mut self, frame: SentFrame) {
        self.frames.push_back(frame);
    }

    /// How many frames have been noted since the last packet was pushed is up to the caller to
    /// know; this is the count of all ever noted.
    pub(super) fn frame_count(&self) -> u64 {
        self.first_frame + self.frames.len() as u64
    }

    /// Forgets the frames noted after `count`: the packet was not sent.
    pub(super) fn drop_frames(&mut self, count: u64) {
        let keep = usize::try_from(count.saturating_sub(self.first_frame)).unwrap_or(usize::MAX);
        self.frames.truncate(keep);
    }

    /// Notes the next packet; the frames noted since `first_frame` are its own.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn push(
        &mut self,
        now: Instant,
        size: u16,
        flags: Flags,
        path: u32,
        first_frame: u64,
        snapshot: Snapshot,
    ) {
        // A datagram has fewer bytes than that.
        let frames = u16::try_from(self.frame_count() - first_frame).unwrap_or(u16::MAX);
        self.packets.push_back(SentPacket {
            sent_at: now,
            fate: Fate::UnderWay,
            size,
            in_flight: flags.in_flight,
            ack_eliciting: flags.ack_eliciting,
            ecn: flags.ecn,
            probe: flags.probe,
            path,
            frames,
            first_frame,
            snapshot,
        });
    }

    /// Leaves one number out.
    pub(super) fn skip(&mut self, now: Instant, snapshot: Snapshot) {
        let first_frame = self.frame_count();
        self.push(now, 0, Flags::default(), 0, first_frame, snapshot);
        if let Some(last) = self.packets.back_mut() {
            last.fate = Fate::Skipped;
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&SentPacket> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get(at)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut SentPacket> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get_mut(at)
    }

    /// The numbers that are remembered.
    pub(super) fn remembered(&self) -> std::ops::Range<u64> {
        self.first..self.next()
    }

    /// The frames of a packet that is not forgotten.
    pub(super) fn frames(&self, packet: &SentPacket) -> impl Iterator<Item = SentFrame> + '_ {
        let first = packet.first_frame.saturating_sub(self.first_frame);
        let first =
            usize::try_from(first).map_or(self.frames.len(), |at| at.min(self.frames.len()));
        let end = self.frames.len().min(first + usize::from(packet.frames));
        self.frames.range(first..end).copied()
    }

    /// The oldest packet under way, moving over those that are not. `passed` sees each of these
    /// once.
    pub(super) fn oldest_under_way(
        &mut self,
        mut passed: impl FnMut(&SentPacket),
    ) -> Option<(u64, SentPacket)> {
        self.under_way = self.under_way.max(self.first);
        while let Some(packet) = self.get(self.under_way) {
            if packet.fate == Fate::UnderWay && packet.in_flight {
                return Some((self.under_way, *packet));
            }
            passed(packet);
            self.under_way += 1;
        }
        None
    }

    /// Packets under way that count as in flight, oldest first.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (u64, &SentPacket)> {
        let from = self.under_way.max(self.first);
        let skip = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let rest = self.packets.range(skip.min(self.packets.len())..);
        (from..self.next())
            .zip(rest)
            .filter(|(_, packet)| packet.fate == Fate::UnderWay && packet.in_flight)
    }

    /// Forgets from the front what is acknowledged, what never counted, and what was lost before
    /// `lost_before`: later acknowledgements of that are of no use.
    pub(super) fn forget(&mut self, lost_before: Option<Instant>) {
        while let Some(packet) = self.packets.front() {
            let done = match packet.fate {
                Fate::Skipped | Fate::Acked => true,
                // A packet that only acknowledges is of interest for what it acknowledged, a while.
                Fate::UnderWay if packet.in_flight => false,
                Fate::UnderWay | Fate::Lost { .. } => {
                    lost_before.is_some_and(|before| packet.sent_at < before)
                }
            };
            if !done {
                break;
            }
            // A skipped number must stay known until all of its neighbours are gone: it may still
            // be acknowledged by a liar. Numbers below `first` are ignored, which harms nobody.
            for _ in 0..packet.frames {
                self.frames.pop_front();
                self.first_frame += 1;
            }
            self.packets.pop_front();
            self.first += 1;
        }
        // Memory of a burst is given back once the connection is quiet.
        if self.packets.is_empty() && self.packets.capacity() > 16 {
            self.packets = VecDeque::new();
            self.frames = VecDeque::new();
        }
    }
}

/// What kind of packet it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) in_flight: bool,
    pub(super) ack_eliciting: bool,
    pub(super) ecn: bool,
    pub(super) probe: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::connection::delivery::Estimator;

    #[test]
    fn each_packet_finds_its_own_frames_however_many_the_others_have() {
        let now = Instant::now();
        let snapshot = Estimator::new(now).snapshot(0);
        let flags = Flags {
            in_flight: true,
            ack_eliciting: true,
            ..Flags::default()
        };
        let mut sent = SentPackets::new(0);
        // A large datagram holds many small frames.
        for count in [1000, 1, 300, 2] {
            let first_frame = sent.frame_count();
            (0..count).for_each(|n| sent.add_frame(SentFrame::StopSending(count * 1000 + n)));
            sent.push(now, 9000, flags, 0, first_frame, snapshot);
        }
        for (number, count) in [(0, 1000), (1, 1), (2, 300), (3, 2)] {
            let packet = *sent.get(number).expect("it was pushed");
            let wanted = (0..count).map(|n| SentFrame::StopSending(count * 1000 + n));
            assert!(sent.frames(&packet).eq(wanted), "{number}");
            sent.get_mut(number).expect("it was pushed").fate = Fate::Acked;
            sent.forget(None);
        }
        assert_eq!(sent.remembered(), 4..4);
    }
}
