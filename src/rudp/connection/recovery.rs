//! What was acknowledged, what was lost and by which rule, and when to ask (RFC 9002 sections 5 and
//! 6, 7.6).
//!
//! [`Recovery`] holds the packets sent, takes acknowledgements and timeouts, and hands out its
//! verdicts one by one, to be applied to streams, paths and the congestion controller by whoever
//! asked: it knows none of them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Violation,
    rtt::Rtt,
    sent::{Fate, SentFrame, SentPacket, SentPackets},
};
use crate::{
    rudp::packet::{ErrorCode, frame},
    watch::event::transport::{Event, Rule},
};

/// kPacketThreshold: so many later packets acknowledged mean that one is lost.
const PACKET_THRESHOLD: u64 = 3;
/// The most that reordering may raise it to.
const MAX_PACKET_THRESHOLD: u64 = 4096;
/// kTimeThreshold, in eighths of a round trip.
const TIME_THRESHOLD: u32 = 9;
const EIGHTHS: u32 = 8;
/// The most that reordering may raise it to.
const MAX_TIME_THRESHOLD: u32 = 16;
/// Round trips without a spurious loss after which the thresholds come down.
const CALM: u32 = 16;
/// kPersistentCongestionThreshold
const PERSISTENT: u32 = 3;
/// However often it has doubled, the probe timeout is no longer, unless the path itself is slow: a
/// student waits for the network to come back.
const LONGEST_PTO: Duration = Duration::from_secs(1);
/// After so many in vain it doubles again: nobody is there, and is not to be probed each second.
const SOON: u32 = 10;
/// Packets sent on a probe timeout.
pub(super) const PROBES: u8 = 2;
/// Numbers left out that are remembered.
const SKIPPED: usize = 16;

/// The path that packets take now, as far as loss detection depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// Which of the connection's paths it is.
    pub(super) path: u32,
    pub(super) rtt: Rtt,
    /// How long the peer may hold back an acknowledgement.
    pub(super) max_ack_delay: Duration,
}

/// Who applies what becomes of packets.
pub(super) trait Verdicts {
    /// A packet is newly acknowledged. `frames` are what it carried.
    fn acknowledged(&mut self, acked: &Acked, frames: impl Iterator<Item = SentFrame>);

    /// A packet is declared lost. `frames` are what it carried.
    fn lost(&mut self, lost: &LostPacket, frames: impl Iterator<Item = SentFrame>);
}

/// A packet newly acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    pub(super) number: u64,
    pub(super) packet: SentPacket,
    /// The packet counted as in flight until now.
    pub(super) was_in_flight: bool,
    /// The packet had been declared lost.
    pub(super) spurious: Option<Spurious>,
}

/// A loss that was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spurious {
    /// How many numbers it is below the largest that is acknowledged with it.
    pub(super) distance: u64,
    /// How long after it was declared lost its acknowledgement came.
    pub(super) late: Duration,
    /// With it every loss of the last congestion event was one too many, all on the present path.
    pub(super) undoes: bool,
}

/// A packet declared lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct LostPacket {
    pub(super) number: u64,
    pub(super) packet: SentPacket,
    pub(super) rule: Rule,
    /// Whether it is a sign of congestion on the present path: probes of the datagram's size and
    /// packets of other paths are not.
    pub(super) congestion: bool,
}

/// What one acknowledgement newly acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Bytes that were in flight on the present path.
    pub(super) bytes: u64,
    /// The largest number newly acknowledged, and when it was sent.
    pub(super) largest: Option<(u64, Instant)>,
    /// The smallest.
    pub(super) smallest: Option<u64>,
    /// Whether any of it asked for an acknowledgement.
    pub(super) eliciting: bool,
    /// Packets sent on the present path with an ECN mark.
    pub(super) marked: u64,
    /// The acknowledgement reaches further than any before it.
    pub(super) newer: bool,
}

/// What was found lost at once, of the present path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) bytes: u64,
    /// The largest number, and when it was sent.
    pub(super) largest: Option<(u64, Instant)>,
    /// The losses span more than the persistent-congestion period (RFC 9002 section 7.6).
    pub(super) persistent: bool,
    /// The same for who watches; `None`: nothing was lost.
    pub(super) event: Option<Event>,
}

impl Losses {
    fn add(&mut self, lost: &LostPacket, until: u64) {
        self.bytes += u64::from(lost.packet.size);
        self.largest = Some((lost.number, lost.packet.sent_at));
        self.event = Some(Event {
            packets: self
                .event
                .map_or(1, |event| event.packets.saturating_add(1)),
            bytes: self.bytes,
            largest: lost.number,
            until,
            rule: lost.rule,
        });
    }
}

/// What the peer reports of congestion marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// Nothing new.
    None,
    /// Congestion marks don't get through as they were sent.
    Broken,
    /// More packets than before were marked by the network.
    Congestion,
}

/// What a timeout was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// Packets are lost by now.
    Losses(Losses),
    /// Nothing was heard: the peer is to be asked. Nothing is declared lost.
    Probe,
}

/// Loss detection of one connection, over all of its paths.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) sent: SentPackets,
    largest_acked: Option<u64>,
    packet_threshold: u64,
    time_threshold: u32,
    /// The last spurious loss, or when the thresholds were lowered after it.
    reordered_at: Option<Instant>,
    loss_timer: Option<Instant>,
    pto_count: u32,
    pub(super) probes: u8,
    /// When the last ack-eliciting packet left.
    eliciting_sent_at: Option<Instant>,
    eliciting_in_flight: u64,
    /// Which congestion event this is, what it has lost, and what came of it all the same.
    event: u32,
    event_lost: u64,
    event_spurious: u64,
    /// Packets sent from here on belong to another congestion event.
    event_end: u64,
    /// When the first of the packets lost in a row was sent.
    lost_run: Option<Instant>,
    skipped: VecDeque<u64>,
    /// Packets sent with an ECN mark, and what the peer has reported of them: over all paths, as
    /// the peer counts.
    marks_sent: u64,
    marks_reported: frame::EcnCounts,
}

impl Recovery {
    /// Nothing is sent yet; the first packet will have this number.
    pub(super) fn new(first: u64) -> Self {
        Self {
            sent: SentPackets::new(first),
            largest_acked: None,
            packet_threshold: PACKET_THRESHOLD,
            time_threshold: TIME_THRESHOLD,
            reordered_at: None,
            loss_timer: None,
            pto_count: 0,
            probes: 0,
            eliciting_sent_at: None,
            eliciting_in_flight: 0,
            event: 0,
            event_lost: 0,
            event_spurious: 0,
            event_end: 0,
            lost_run: None,
            skipped: VecDeque::new(),
            marks_sent: 0,
            marks_reported: frame::EcnCounts::default(),
        }
    }

    /// Notes an ack-eliciting packet, with an ECN mark or without.
    pub(super) fn on_sent(&mut self, marked: bool, now: Instant) {
        self.eliciting_sent_at = Some(now);
        self.eliciting_in_flight += 1;
        self.marks_sent += u64::from(marked);
    }

    /// Whether anything is under way that will be acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        self.eliciting_in_flight > 0
    }

    /// Whether the last probe was in vain, too.
    pub(super) fn is_insisting(&self) -> bool {
        self.pto_count > 1
    }

    /// Notes a number that is left out on purpose.
    pub(super) fn on_skipped(&mut self, number: u64) {
        if self.skipped.len() == SKIPPED {
            self.skipped.pop_front();
        }
        self.skipped.push_back(number);
    }

    /// A packet has not left after all, unless something became of it meanwhile.
    pub(super) fn take_back(&mut self, number: u64) -> Option<SentPacket> {
        let packet = self.sent.get_mut(number)?;
        if packet.fate != Fate::UnderWay {
            return None;
        }
        packet.fate = Fate::Skipped;
        self.eliciting_in_flight -= u64::from(packet.in_flight);
        Some(*packet)
    }

    /// Takes an ACK frame. [`detect_losses`](Self::detect_losses) is to follow once its round-trip
    /// sample is taken, then [`settle`](Self::settle).
    ///
    /// # Errors
    /// If it acknowledges what was never sent.
    pub(super) fn on_ack(
        &mut self,
        ack: &frame::Ack<'_>,
        present: &Present,
        now: Instant,
        verdicts: &mut impl Verdicts,
    ) -> Result<News, Violation> {
        if ack.largest >= self.sent.next() {
            return Err((
                ErrorCode::PROTOCOL_VIOLATION,
                "acknowledges what was never sent",
            ));
        }
        let mut news = News::default();
        let remembered = self.sent.remembered();
        let oldest_skipped = self.skipped.front().copied().unwrap_or(u64::MAX);
        let lowest = remembered.start.min(oldest_skipped);
        for range in ack.ranges() {
            if *range.end() < lowest {
                break;
            }
            if *range.end() >= oldest_skipped && self.skipped.iter().any(|n| range.contains(n)) {
                return Err((
                    ErrorCode::PROTOCOL_VIOLATION,
                    "acknowledges a number that was left out",
                ));
            }
            for number in (*range.start()).max(remembered.start)..=*range.end() {
                self.acknowledge(number, ack.largest, present, now, &mut news, verdicts);
            }
        }
        if news.largest.is_some() {
            news.newer = self.largest_acked.is_none_or(|known| ack.largest > known);
            if news.newer {
                self.largest_acked = Some(ack.largest);
            }
        }
        Ok(news)
    }

    fn acknowledge(
        &mut self,
        number: u64,
        largest: u64,
        present: &Present,
        now: Instant,
        news: &mut News,
        verdicts: &mut impl Verdicts,
    ) {
        let Some(packet) = self.sent.get_mut(number) else {
            return;
        };
        let fate = packet.fate;
        match fate {
            Fate::Acked | Fate::Skipped => return,
            Fate::UnderWay | Fate::Lost { .. } => packet.fate = Fate::Acked,
        }
        let packet = *packet;
        let here = packet.path == present.path;
        news.largest = news.largest.max(Some((number, packet.sent_at)));
        news.smallest = Some(news.smallest.map_or(number, |least| least.min(number)));
        news.eliciting |= packet.ack_eliciting;
        news.marked += u64::from(packet.ecn && here);
        let was_in_flight = packet.in_flight && fate == Fate::UnderWay;
        if was_in_flight {
            self.eliciting_in_flight -= 1;
            if here {
                news.bytes += u64::from(packet.size);
            }
        }
        let spurious = match fate {
            Fate::Lost { event, after } => {
                let lost_at = packet.sent_at + Duration::from_micros(u64::from(after));
                Some(self.on_spurious(
                    &packet,
                    event,
                    largest - number,
                    now.saturating_duration_since(lost_at),
                    present,
                    now,
                ))
            }
            _ => None,
        };
        let acked = Acked {
            number,
            packet,
            was_in_flight,
            spurious,
        };
        verdicts.acknowledged(&acked, self.sent.frames(&packet));
    }

    fn on_spurious(
        &mut self,
        packet: &SentPacket,
        event: u32,
        distance: u64,
        late: Duration,
        present: &Present,
        now: Instant,
    ) -> Spurious {
        let took = now.saturating_duration_since(packet.sent_at);
        let rtt = present.rtt.smoothed().max(present.rtt.latest());
        self.learn(distance, took, rtt, now);
        let mut undoes = false;
        if event == self.event && packet.path == present.path {
            self.event_spurious += 1;
            undoes = self.event_spurious == self.event_lost;
        }
        Spurious {
            distance,
            late,
            undoes,
        }
    }

    /// Learns from a packet that was called lost and came all the same, `distance` packets and
    /// `late` after its like.
    fn learn(&mut self, distance: u64, late: Duration, rtt: Duration, now: Instant) {
        self.reordered_at = Some(now);
        self.packet_threshold =
            (distance + distance / 4 + 1).clamp(self.packet_threshold, MAX_PACKET_THRESHOLD);
        let eighths = late.as_nanos() * u128::from(EIGHTHS) / rtt.as_nanos().max(1) + 1;
        let eighths = u32::try_from(eighths).unwrap_or(u32::MAX);
        self.time_threshold = eighths.clamp(self.time_threshold, MAX_TIME_THRESHOLD);
    }

    fn calm_down(&mut self, rtt: Duration, now: Instant) {
        if let Some(at) = self.reordered_at
            && now.saturating_duration_since(at) > rtt * CALM
        {
            self.packet_threshold = (self.packet_threshold / 2).max(PACKET_THRESHOLD);
            self.time_threshold = (self.time_threshold - 1).max(TIME_THRESHOLD);
            let settled =
                self.packet_threshold == PACKET_THRESHOLD && self.time_threshold == TIME_THRESHOLD;
            self.reordered_at = (!settled).then_some(now);
        }
    }

    /// Whether marks come back as they were sent; whether the network reports congestion.
    pub(super) fn on_ecn(&mut self, ack: &frame::Ack<'_>, news: &News, failed: bool) -> Marks {
        if !news.newer || news.marked == 0 && !failed {
            return Marks::None;
        }
        let Some(counts) = ack.ecn else {
            return Marks::Broken;
        };
        let before = std::mem::replace(&mut self.marks_reported, counts);
        let more = counts.ect0.checked_sub(before.ect0);
        let more_ce = counts.ce.checked_sub(before.ce);
        let whole = more
            .zip(more_ce)
            .is_some_and(|(ect0, ce)| ect0.saturating_add(ce) >= news.marked)
            && counts.ect0.saturating_add(counts.ce) <= self.marks_sent
            && counts.ect1 == before.ect1;
        if failed || !whole {
            Marks::Broken
        } else if counts.ce > before.ce {
            Marks::Congestion
        } else {
            Marks::None
        }
    }

    /// Declares lost what the thresholds say, and arms the timer for what they don't say yet.
    pub(super) fn detect_losses(
        &mut self,
        present: &Present,
        now: Instant,
        verdicts: &mut impl Verdicts,
    ) -> Losses {
        let mut losses = Losses::default();
        self.loss_timer = None;
        let Some(largest_acked) = self.largest_acked else {
            return losses;
        };
        let delay = present.rtt.loss_delay((self.time_threshold, EIGHTHS));
        loop {
            let run = &mut self.lost_run;
            let oldest = self.sent.oldest_under_way(|passed| {
                if passed.fate == Fate::Acked && passed.ack_eliciting {
                    *run = None;
                }
            });
            let Some((number, packet)) = oldest else {
                break;
            };
            if number > largest_acked {
                break;
            }
            let rule = if largest_acked - number >= self.packet_threshold {
                Rule::PacketThreshold {
                    threshold: self.packet_threshold,
                    largest_acked,
                }
            } else if packet.sent_at + delay <= now {
                Rule::TimeThreshold {
                    delay,
                    largest_acked,
                }
            } else {
                self.loss_timer = Some(packet.sent_at + delay);
                break;
            };
            let lost = LostPacket {
                number,
                packet,
                rule,
                congestion: !packet.probe && packet.path == present.path,
            };
            self.declare_lost(&lost, now);
            if lost.congestion {
                losses.add(&lost, self.event_end);
                losses.persistent |= self.is_persistent(&packet, present);
            }
            verdicts.lost(&lost, self.sent.frames(&packet));
        }
        losses
    }

    fn declare_lost(&mut self, lost: &LostPacket, now: Instant) {
        // Which event it belongs to is known only now.
        if lost.number >= self.event_end {
            self.event = self.event.wrapping_add(1);
            self.event_end = self.sent.next();
            self.event_lost = 0;
            self.event_spurious = 0;
        }
        self.event_lost += u64::from(!lost.packet.probe);
        self.eliciting_in_flight -= 1;
        let event = self.event;
        let after = now.saturating_duration_since(lost.packet.sent_at);
        let after = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
        if let Some(packet) = self.sent.get_mut(lost.number) {
            packet.fate = Fate::Lost { event, after };
        }
    }

    /// Whether this loss makes it persistent congestion: two packets lost, none acknowledged
    /// between them, further apart than the period.
    fn is_persistent(&mut self, packet: &SentPacket, present: &Present) -> bool {
        let sampled = present.rtt.first_sample();
        if !packet.ack_eliciting || sampled.is_none_or(|first| first >= packet.sent_at) {
            return false;
        }
        let Some(first) = self.lost_run else {
            self.lost_run = Some(packet.sent_at);
            return false;
        };
        let period = present.rtt.pto_base(present.max_ack_delay) * PERSISTENT;
        let persistent = packet.sent_at.saturating_duration_since(first) > period;
        if persistent {
            self.lost_run = None;
        }
        persistent
    }

    /// An acknowledgement is dealt with: forgets what no later one can be about.
    pub(super) fn settle(&mut self, news: &News, present: &Present, now: Instant) {
        if news.eliciting {
            self.pto_count = 0;
        }
        self.calm_down(present.rtt.smoothed(), now);
        let keep = present.rtt.pto_base(present.max_ack_delay) * 3;
        self.sent.forget(now.checked_sub(keep));
    }

    /// When to look for losses, or to probe.
    pub(super) fn timeout(&self, rtt: &Rtt, max_ack_delay: Duration) -> Option<Instant> {
        if let Some(at) = self.loss_timer {
            return Some(at);
        }
        if self.eliciting_in_flight == 0 {
            return None;
        }
        self.eliciting_sent_at
            .map(|at| at + self.probe_timeout(rtt, max_ack_delay))
    }

    /// The probe timeout with its doublings.
    fn probe_timeout(&self, rtt: &Rtt, max_ack_delay: Duration) -> Duration {
        let base = rtt.pto_base(max_ack_delay);
        let silent = self.pto_count.saturating_sub(SOON).min(16);
        base.saturating_mul(1 << self.pto_count.min(16))
            .min(LONGEST_PTO.max(base * 4) * (1 << silent))
    }

    /// The [`timeout`](Self::timeout) has come.
    pub(super) fn on_timeout(
        &mut self,
        present: &Present,
        now: Instant,
        verdicts: &mut impl Verdicts,
    ) -> Expired {
        if self.loss_timer.is_some() {
            return Expired::Losses(self.detect_losses(present, now, verdicts));
        }
        self.pto_count = self.pto_count.saturating_add(1);
        self.probes = PROBES;
        // The next one counts from now, even if nothing can be sent.
        self.eliciting_sent_at = Some(now);
        Expired::Probe
    }

    /// How many probe timeouts there were in a row, without an acknowledgement in between.
    pub(super) fn probe_timeouts(&self) -> u32 {
        self.pto_count
    }

    /// When the last packet left that wants an acknowledgement, if one did.
    pub(super) fn asked_at(&self) -> Option<Instant> {
        self.eliciting_sent_at
    }

    /// What has waited longest for an acknowledgement, as many packets as probes are sent.
    pub(super) fn oldest(&self) -> [Option<SentPacket>; PROBES as usize] {
        let mut oldest = [None; PROBES as usize];
        for (slot, (_, packet)) in oldest.iter_mut().zip(self.sent.under_way()) {
            *slot = Some(*packet);
        }
        oldest
    }
}

#[cfg(test)]
mod tests;
