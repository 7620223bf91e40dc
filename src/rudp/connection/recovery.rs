//! What was lost, and when to ask (RFC 9002).

use std::time::{Duration, Instant};

use super::{
    Connection, Event, Violation,
    path::Proof,
    sent::{Fate, SentFrame, SentPacket},
    streams::Control,
};
use crate::rudp::{
    congestion::{Ack, Loss, Lost},
    packet::{ErrorCode, Side, frame},
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
/// After so many in a row a client doubts that it can still be reached where it is.
const UNHEARD: u32 = 3;
/// Packets sent on a probe timeout.
const PROBES: u8 = 2;
/// Numbers left out that are remembered.
const SKIPPED: usize = 16;

/// Loss detection's own state.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) largest_acked: Option<u64>,
    packet_threshold: u64,
    time_threshold: u32,
    /// The last spurious loss, or when the thresholds were lowered after it.
    reordered_at: Option<Instant>,
    loss_timer: Option<Instant>,
    pto_count: u32,
    /// Probe timeouts since something was heard, and when the last one was.
    unheard: u32,
    unheard_at: Option<Instant>,
    pub(super) probes: u8,
    /// When the last ack-eliciting packet left.
    eliciting_sent_at: Option<Instant>,
    pub(super) eliciting_in_flight: u64,
    /// Which congestion event this is, what it has lost, and what came of it all the same.
    event: u32,
    event_lost: u64,
    event_spurious: u64,
    /// Packets sent from here on belong to another congestion event.
    event_end: u64,
    /// Losses and marks of packets below are of the congestion event counted last.
    congested_until: u64,
    /// When the first of the packets lost in a row was sent.
    lost_run: Option<Instant>,
    skipped: std::collections::VecDeque<u64>,
    /// Packets sent with an ECN mark, and what the peer has reported of them: over all paths, as
    /// the peer counts.
    marks_sent: u64,
    marks_reported: frame::Ecn,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self {
            largest_acked: None,
            packet_threshold: PACKET_THRESHOLD,
            time_threshold: TIME_THRESHOLD,
            reordered_at: None,
            loss_timer: None,
            pto_count: 0,
            unheard: 0,
            unheard_at: None,
            probes: 0,
            eliciting_sent_at: None,
            eliciting_in_flight: 0,
            event: 0,
            event_lost: 0,
            event_spurious: 0,
            event_end: 0,
            congested_until: 0,
            lost_run: None,
            skipped: std::collections::VecDeque::new(),
            marks_sent: 0,
            marks_reported: frame::Ecn::default(),
        }
    }

    /// Notes an ack-eliciting packet, with an ECN mark or without.
    pub(super) fn on_sent(&mut self, marked: bool, now: Instant) {
        self.eliciting_sent_at = Some(now);
        self.eliciting_in_flight += 1;
        self.marks_sent += u64::from(marked);
    }

    /// Whether the last probe was in vain, too.
    pub(super) fn is_insisting(&self) -> bool {
        self.pto_count > 1
    }

    /// Notes a probe timeout, with the time when something was last heard; says how many there were
    /// since.
    fn on_unheard(&mut self, heard_at: Instant, now: Instant) -> u32 {
        if self.unheard_at.is_none_or(|at| at < heard_at) {
            self.unheard = 0;
        }
        self.unheard = self.unheard.saturating_add(1);
        self.unheard_at = Some(now);
        self.unheard
    }

    pub(super) fn on_skipped(&mut self, number: u64) {
        if self.skipped.len() == SKIPPED {
            self.skipped.pop_front();
        }
        self.skipped.push_back(number);
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
}

/// What one acknowledgement newly acknowledged.
#[derive(Default)]
struct News {
    bytes: u64,
    /// The largest number, and when it was sent.
    largest: Option<(u64, Instant)>,
    eliciting: bool,
    /// Sent on the present path with an ECN mark.
    marked: u64,
}

/// What was found lost at once.
#[derive(Default)]
struct Losses {
    bytes: u64,
    largest: Option<(u64, Instant)>,
    persistent: bool,
}

impl Connection {
    /// An ACK frame.
    pub(super) fn on_ack(&mut self, ack: &frame::Ack<'_>, now: Instant) -> Result<(), Violation> {
        if ack.largest >= self.sent.next() {
            return Err((
                ErrorCode::PROTOCOL_VIOLATION,
                "acknowledges what was never sent",
            ));
        }
        let mut news = News::default();
        let prior_in_flight = self.path.in_flight;
        let remembered = self.sent.remembered();
        let oldest_skipped = self.recovery.skipped.front().copied().unwrap_or(u64::MAX);
        let lowest = remembered.start.min(oldest_skipped);
        for range in ack.ranges() {
            if *range.end() < lowest {
                break;
            }
            if *range.end() >= oldest_skipped
                && self.recovery.skipped.iter().any(|n| range.contains(n))
            {
                return Err((
                    ErrorCode::PROTOCOL_VIOLATION,
                    "acknowledges a number that was left out",
                ));
            }
            for number in (*range.start()).max(remembered.start)..=*range.end() {
                self.on_packet_acked(number, ack.largest, now, &mut news);
            }
        }
        let Some((largest, largest_sent_at)) = news.largest else {
            return Ok(());
        };
        let newer = self
            .recovery
            .largest_acked
            .is_none_or(|known| ack.largest > known);
        if newer {
            self.recovery.largest_acked = Some(ack.largest);
        }
        let sample = (largest == ack.largest && news.eliciting)
            .then(|| self.on_rtt_sample(largest_sent_at, ack.delay, now));
        self.on_ecn(ack, newer, &news, now);
        let losses = self.detect_losses(now);
        self.on_losses(&losses, now);
        if news.bytes > 0 {
            let delivery = self.path.estimator.take(self.path.rtt.min());
            if let Some(rate) = delivery.rate {
                self.stats.delivery_rate = rate;
            }
            let ack = Ack {
                now,
                bytes: news.bytes,
                largest,
                largest_sent_at,
                next_packet: self.sent.next(),
                prior_in_flight,
                in_flight: self.path.in_flight,
                lost: losses.bytes,
                app_limited: self.path.app_limited,
                rtt: sample,
                smoothed_rtt: self.path.rtt.smoothed(),
                min_rtt: self.path.rtt.min(),
                delivery,
            };
            self.path.congestion.on_ack(&ack);
        }
        if news.eliciting {
            self.recovery.pto_count = 0;
        }
        self.recovery.calm_down(self.path.rtt.smoothed(), now);
        let keep = self.path.rtt.pto_base(self.peer.max_ack_delay) * 3;
        self.sent.forget(now.checked_sub(keep));
        self.path.pace();
        Ok(())
    }

    fn on_packet_acked(&mut self, number: u64, largest: u64, now: Instant, news: &mut News) {
        let Some(packet) = self.sent.get_mut(number) else {
            return;
        };
        let fate = packet.fate;
        match fate {
            Fate::Acked | Fate::Skipped => return,
            Fate::UnderWay | Fate::Lost { .. } => packet.fate = Fate::Acked,
        }
        let packet = *packet;
        news.largest = news.largest.max(Some((number, packet.sent_at)));
        news.eliciting |= packet.ack_eliciting;
        news.marked += u64::from(packet.ecn && packet.path == self.path.generation);
        let size = u64::from(packet.size);
        if packet.in_flight {
            let mut counted = fate == Fate::UnderWay;
            if counted {
                self.recovery.eliciting_in_flight -= 1;
            }
            if let Some(path) = self.path_of(packet.path) {
                if counted {
                    path.in_flight -= size;
                }
                path.estimator
                    .on_acked(now, packet.sent_at, size, &packet.snapshot);
                if let Some(mtu) = path.mtu.on_acked(number, packet.size) {
                    path.set_mtu(mtu);
                }
                counted &= path.generation == packet.path;
            }
            if counted && packet.path == self.path.generation {
                news.bytes += size;
            }
        }
        if let Fate::Lost { event } = fate {
            self.on_spurious(&packet, event, largest - number, now);
        }
        for frame in self.sent.frames(&packet) {
            match frame {
                SentFrame::Stream {
                    id,
                    offset,
                    length,
                    fin,
                } => self.streams.on_acked(id, offset, u64::from(length), fin),
                SentFrame::Ack { largest } => self.acks.confirmed(largest),
                SentFrame::ResetStream(id) => self.streams.on_reset_acked(id),
                SentFrame::MaxData
                | SentFrame::MaxStreamData(_)
                | SentFrame::MaxStreams
                | SentFrame::StopSending(_)
                | SentFrame::AckFrequency => {}
            }
        }
    }

    fn on_spurious(&mut self, packet: &SentPacket, event: u32, distance: u64, now: Instant) {
        self.stats.spurious_losses += 1;
        let took = now.saturating_duration_since(packet.sent_at);
        let rtt = self.path.rtt.smoothed().max(self.path.rtt.latest());
        self.recovery.learn(distance, took, rtt, now);
        if event == self.recovery.event && packet.path == self.path.generation {
            self.recovery.event_spurious += 1;
            if self.recovery.event_spurious == self.recovery.event_lost {
                self.stats.spurious_congestion_events += 1;
                self.path.congestion.on_spurious_loss(now);
            }
        }
    }

    fn on_rtt_sample(&mut self, sent_at: Instant, delay: Duration, now: Instant) -> Duration {
        let latest = now.saturating_duration_since(sent_at);
        let max_ack_delay = self.peer.max_ack_delay;
        self.path
            .rtt
            .update(latest, delay, true, max_ack_delay, now);
        latest
    }

    /// Whether marks come back as they were sent; whether the network reports congestion.
    fn on_ecn(&mut self, ack: &frame::Ack<'_>, newer: bool, news: &News, now: Instant) {
        let path = &mut self.path;
        if !newer || news.marked == 0 && !path.ecn_failed {
            return;
        }
        let Some(counts) = ack.ecn else {
            path.ecn_failed = true;
            return;
        };
        let before = std::mem::replace(&mut self.recovery.marks_reported, counts);
        let more = counts.ect0.checked_sub(before.ect0);
        let more_ce = counts.ce.checked_sub(before.ce);
        let whole = more
            .zip(more_ce)
            .is_some_and(|(ect0, ce)| ect0.saturating_add(ce) >= news.marked)
            && counts.ect0.saturating_add(counts.ce) <= self.recovery.marks_sent
            && counts.ect1 == before.ect1;
        path.ecn_failed |= !whole;
        if path.ecn_failed {
            return;
        }
        if counts.ce > before.ce
            && let Some((largest, largest_sent_at)) = news.largest
        {
            self.on_congestion(&Loss {
                now,
                bytes: 0,
                largest,
                largest_sent_at,
                in_flight: self.path.in_flight,
                next_packet: self.sent.next(),
                persistent: false,
                ecn: true,
            });
        }
    }

    /// Declares lost what the thresholds say, and arms the timer for what they don't say yet.
    fn detect_losses(&mut self, now: Instant) -> Losses {
        let mut losses = Losses::default();
        self.recovery.loss_timer = None;
        let Some(largest_acked) = self.recovery.largest_acked else {
            return losses;
        };
        let delay = self
            .path
            .rtt
            .loss_delay((self.recovery.time_threshold, EIGHTHS));
        let persistent = self.path.rtt.pto_base(self.peer.max_ack_delay) * PERSISTENT;
        loop {
            let run = &mut self.recovery.lost_run;
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
            let by_count = largest_acked - number >= self.recovery.packet_threshold;
            let by_time = packet.sent_at + delay <= now;
            if !by_count && !by_time {
                self.recovery.loss_timer = Some(packet.sent_at + delay);
                break;
            }
            let counts = self.on_packet_lost(number, &packet, now, &mut losses);
            let first_sample = self.path.rtt.first_sample();
            if counts
                && packet.ack_eliciting
                && first_sample.is_some_and(|first| first < packet.sent_at)
            {
                match self.recovery.lost_run {
                    None => self.recovery.lost_run = Some(packet.sent_at),
                    Some(first) if packet.sent_at.saturating_duration_since(first) > persistent => {
                        losses.persistent = true;
                        self.recovery.lost_run = None;
                    }
                    Some(_) => {}
                }
            }
        }
        losses
    }

    /// Says whether it is a sign of congestion.
    fn on_packet_lost(
        &mut self,
        number: u64,
        packet: &SentPacket,
        now: Instant,
        losses: &mut Losses,
    ) -> bool {
        let size = u64::from(packet.size);
        // Which event it belongs to is known only now.
        if number >= self.recovery.event_end {
            self.recovery.event = self.recovery.event.wrapping_add(1);
            self.recovery.event_end = self.sent.next();
            self.recovery.event_lost = 0;
            self.recovery.event_spurious = 0;
        }
        let event = self.recovery.event;
        if let Some(packet) = self.sent.get_mut(number) {
            packet.fate = Fate::Lost { event };
        }
        self.recovery.eliciting_in_flight -= 1;
        let mut probe = false;
        if let Some(path) = self.path_of(packet.path) {
            path.in_flight -= size;
            probe = path.mtu.is_probe(number);
            if probe {
                path.mtu.on_probe_lost(number);
            } else {
                if let Some(mtu) = path.mtu.on_non_probe_lost(number, packet.size) {
                    path.set_mtu(mtu);
                }
                path.estimator.on_lost(size);
            }
        }
        self.send_again(packet);
        if probe {
            self.stats.mtu_probes_lost += 1;
            return false;
        }
        self.stats.packets_lost += 1;
        self.recovery.event_lost += 1;
        if packet.path != self.path.generation {
            return false;
        }
        losses.bytes += size;
        losses.largest = Some((number, packet.sent_at));
        let (lost, delivered) = (self.path.estimator.lost(), self.path.estimator.delivered());
        self.path.congestion.on_packet_lost(&Lost {
            now,
            packet: number,
            bytes: size,
            sent_at: packet.sent_at,
            tx_in_flight: packet.snapshot.tx_in_flight,
            lost_when_sent: packet.snapshot.lost,
            delivered_when_sent: packet.snapshot.delivered,
            lost,
            delivered,
            app_limited: packet.snapshot.app_limited,
        });
        true
    }

    /// What the packet carried goes into later ones once more, as far as it is still of use.
    pub(super) fn send_again(&mut self, packet: &SentPacket) {
        for frame in self.sent.frames(packet) {
            match frame {
                SentFrame::Stream {
                    id,
                    offset,
                    length,
                    fin,
                } => self.streams.on_lost(id, offset, u64::from(length), fin),
                SentFrame::Ack { .. } => {}
                SentFrame::MaxData => self.streams.max_data_due = true,
                SentFrame::MaxStreams => self.streams.max_streams_due = true,
                SentFrame::MaxStreamData(id) => {
                    self.streams.push_control(Control::MaxStreamData(id));
                }
                SentFrame::ResetStream(id) => self.streams.push_control(Control::Reset(id)),
                SentFrame::StopSending(id) => self.streams.push_control(Control::Stop(id)),
                SentFrame::AckFrequency => self.ack_frequency_due = true,
            }
        }
    }

    fn on_losses(&mut self, losses: &Losses, now: Instant) {
        let Some((largest, largest_sent_at)) = losses.largest else {
            return;
        };
        if losses.persistent {
            self.path.rtt.reset_min();
        }
        self.on_congestion(&Loss {
            now,
            bytes: losses.bytes,
            largest,
            largest_sent_at,
            in_flight: self.path.in_flight,
            next_packet: self.sent.next(),
            persistent: losses.persistent,
            ecn: false,
        });
    }

    fn on_congestion(&mut self, loss: &Loss) {
        // What was sent before the last event was answered is of the same one.
        if loss.largest >= self.recovery.congested_until {
            self.recovery.congested_until = loss.next_packet;
            self.stats.congestion_events += 1;
        }
        self.path.congestion.on_congestion(loss);
        self.path.pace();
    }

    /// When to look for losses, or to probe.
    pub(super) fn loss_timeout(&self) -> Option<Instant> {
        if let Some(at) = self.recovery.loss_timer {
            return Some(at);
        }
        if self.recovery.eliciting_in_flight == 0 {
            return None;
        }
        self.recovery
            .eliciting_sent_at
            .map(|at| at + self.probe_timeout())
    }

    /// The probe timeout with its doublings.
    pub(super) fn probe_timeout(&self) -> Duration {
        let base = self.path.rtt.pto_base(self.peer.max_ack_delay);
        let count = self.recovery.pto_count;
        let silent = count.saturating_sub(SOON).min(16);
        base.saturating_mul(1 << count.min(16))
            .min(LONGEST_PTO.max(base * 4) * (1 << silent))
    }

    /// Either timer has expired.
    pub(super) fn on_loss_timeout(&mut self, now: Instant) {
        if self.recovery.loss_timer.is_some() {
            let losses = self.detect_losses(now);
            self.on_losses(&losses, now);
            return;
        }
        self.recovery.pto_count = self.recovery.pto_count.saturating_add(1);
        self.recovery.probes = PROBES;
        // The next one counts from now, even if nothing can be sent.
        self.recovery.eliciting_sent_at = Some(now);
        self.stats.probe_timeouts += 1;
        let unheard = self.recovery.on_unheard(self.heard_at, now);
        if self.side == Side::Client && unheard.is_multiple_of(UNHEARD) {
            self.events.push_back(Event::Unheard);
        }
        if matches!(self.path.proof, Proof::Asked { .. }) {
            return;
        }
        // A probe carries what has waited longest for an answer: if that got lost, the probe mends
        // it. It is not declared lost: nothing is known.
        let mut oldest = [None; PROBES as usize];
        for (slot, (_, packet)) in oldest.iter_mut().zip(self.sent.under_way()) {
            *slot = Some(*packet);
        }
        for packet in oldest.into_iter().flatten() {
            self.send_again(&packet);
        }
    }
}
