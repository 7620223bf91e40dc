//! What loss recovery's verdicts do to the rest of a connection: its streams, its paths, and the
//! congestion controller.

use std::time::Instant;

use super::{
    Connection, Event, Stats, Violation,
    acks::Acks,
    migration::{Previous, path_of},
    path::{Path, Proof},
    recovery::{Acked, Expired, Losses, LostPacket, Marks, News, Present, Spurious, Verdicts},
    send_buffer::Why,
    sent::{SentFrame, SentPacket},
    streams::{Control, Streams},
    trace::Trace,
};
use crate::{
    rudp::{
        congestion::{Ack, Loss, Lost},
        packet::{Side, frame},
    },
    watch::event::transport::{self, Cause, Step},
};

/// After so many in a row a client doubts that it can still be reached where it is.
const UNHEARD: u32 = 3;

/// What verdicts are applied to.
struct Outcome<'a> {
    now: Instant,
    path: &'a mut Path,
    previous: &'a mut Option<Previous>,
    streams: &'a mut Streams,
    acks: &'a mut Acks,
    ack_frequency_due: &'a mut bool,
    stats: &'a mut Stats,
    trace: &'a mut Trace,
}

impl Verdicts for Outcome<'_> {
    fn acknowledged(&mut self, acked: &Acked, frames: impl Iterator<Item = SentFrame>) {
        let packet = &acked.packet;
        let size = u64::from(packet.size);
        if packet.in_flight
            && let Some(path) = path_of(self.path, self.previous, packet.path)
        {
            if acked.was_in_flight {
                path.in_flight -= size;
            }
            path.estimator
                .on_acked(self.now, packet.sent_at, size, &packet.snapshot);
            let before = path.mtu.current();
            if let Some(after) = path.mtu.on_acked(acked.number, packet.size) {
                path.set_mtu(after);
                self.trace.tell(self.now, &Step::Mtu { before, after });
            }
        }
        self.trace.tell_packet(self.now, || Step::Acknowledged {
            number: acked.number,
            size: packet.size,
            sent_at: packet.sent_at,
        });
        if let Some(spurious) = acked.spurious {
            self.on_spurious(acked, &spurious);
        }
        for frame in frames {
            match frame {
                SentFrame::Stream {
                    id,
                    offset,
                    length,
                    fin,
                    ..
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

    fn lost(&mut self, lost: &LostPacket, frames: impl Iterator<Item = SentFrame>) {
        let packet = &lost.packet;
        let size = u64::from(packet.size);
        if self.trace.is_on() {
            let step = Step::Lost(transport::Lost {
                number: lost.number,
                size: packet.size,
                sent_at: packet.sent_at,
                rule: lost.rule,
                congestion: lost.congestion,
            });
            self.trace.tell(self.now, &step);
        }
        if let Some(path) = path_of(self.path, self.previous, packet.path) {
            path.in_flight -= size;
            if packet.probe {
                path.mtu.on_probe_lost(lost.number);
            } else {
                let before = path.mtu.current();
                if let Some(after) = path.mtu.on_non_probe_lost(lost.number, packet.size) {
                    path.set_mtu(after);
                    self.trace.tell(self.now, &Step::Mtu { before, after });
                }
                path.estimator.on_lost(size);
            }
        }
        frames.for_each(|frame| {
            send_again(frame, Why::Lost, self.streams, self.ack_frequency_due);
        });
        if packet.probe {
            self.stats.mtu_probes_lost += 1;
            return;
        }
        self.stats.packets_lost += 1;
        if !lost.congestion {
            return;
        }
        let (lost_bytes, delivered) = (self.path.estimator.lost(), self.path.estimator.delivered());
        self.path.congestion.on_packet_lost(&Lost {
            now: self.now,
            packet: lost.number,
            bytes: size,
            sent_at: packet.sent_at,
            tx_in_flight: packet.snapshot.tx_in_flight,
            lost_when_sent: packet.snapshot.lost,
            delivered_when_sent: packet.snapshot.delivered,
            lost: lost_bytes,
            delivered,
            app_limited: packet.snapshot.app_limited,
        });
    }
}

impl Outcome<'_> {
    fn on_spurious(&mut self, acked: &Acked, spurious: &Spurious) {
        self.stats.spurious_losses += 1;
        let number = acked.number;
        if self.trace.is_on() {
            let step = Step::Spurious(transport::Spurious {
                number,
                sent_at: acked.packet.sent_at,
                distance: spurious.distance,
                late: spurious.late,
                undoes: spurious.undoes,
            });
            self.trace.tell(self.now, &step);
        }
        if spurious.undoes {
            self.stats.spurious_congestion_events += 1;
            let before = self.path.congestion.window();
            self.path.congestion.on_spurious_loss(self.now);
            self.trace
                .on_controlled(before, self.path, Cause::Undone { number }, self.now);
        }
    }
}

/// What a packet carried goes into later ones once more, as far as it is still of use.
fn send_again(frame: SentFrame, why: Why, streams: &mut Streams, ack_frequency_due: &mut bool) {
    match frame {
        SentFrame::Stream {
            id,
            offset,
            length,
            fin,
            ..
        } => streams.on_lost(id, offset, u64::from(length), fin, why),
        SentFrame::Ack { .. } => {}
        SentFrame::MaxData => streams.max_data_due = true,
        SentFrame::MaxStreams => streams.max_streams_due = true,
        SentFrame::MaxStreamData(id) => streams.push_control(Control::MaxStreamData(id)),
        SentFrame::ResetStream(id) => streams.push_control(Control::Reset(id)),
        SentFrame::StopSending(id) => streams.push_control(Control::Stop(id)),
        SentFrame::AckFrequency => *ack_frequency_due = true,
    }
}

impl Connection {
    /// The present path, as loss recovery wants to know it.
    fn present(&self) -> Present {
        Present {
            path: self.path.generation,
            rtt: self.path.rtt,
            max_ack_delay: self.peer.max_ack_delay,
        }
    }

    /// Loss recovery, and what its verdicts are applied to.
    fn recover(&mut self, now: Instant) -> (&mut super::Recovery, Outcome<'_>) {
        let outcome = Outcome {
            now,
            path: &mut self.path,
            previous: &mut self.previous,
            streams: &mut self.streams,
            acks: &mut self.acks,
            ack_frequency_due: &mut self.ack_frequency_due,
            stats: &mut self.stats,
            trace: &mut self.trace,
        };
        (&mut self.recovery, outcome)
    }

    /// An ACK frame.
    pub(super) fn on_ack(&mut self, ack: &frame::Ack<'_>, now: Instant) -> Result<(), Violation> {
        let prior_in_flight = self.path.in_flight;
        let present = self.present();
        let (recovery, mut outcome) = self.recover(now);
        let news = recovery.on_ack(ack, &present, now, &mut outcome)?;
        let Some((largest, largest_sent_at)) = news.largest else {
            return Ok(());
        };
        let mut rtt = None;
        if largest == ack.largest && news.eliciting {
            let latest = now.saturating_duration_since(largest_sent_at);
            self.path
                .rtt
                .update(latest, ack.delay, true, self.peer.max_ack_delay, now);
            rtt = Some(latest);
        }
        self.on_ecn(ack, &news, now);
        let present = self.present();
        let (recovery, mut outcome) = self.recover(now);
        let losses = recovery.detect_losses(&present, now, &mut outcome);
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
                next_packet: self.recovery.sent.next(),
                prior_in_flight,
                in_flight: self.path.in_flight,
                lost: losses.bytes,
                app_limited: self.path.app_limited,
                rtt,
                smoothed_rtt: self.path.rtt.smoothed(),
                min_rtt: self.path.rtt.min(),
                delivery,
            };
            let before = self.path.congestion.window();
            self.path.congestion.on_ack(&ack);
            self.trace
                .on_controlled(before, &mut self.path, Cause::Acknowledged, now);
        }
        self.trace.on_ack(rtt, prior_in_flight);
        self.recovery.settle(&news, &present, now);
        self.path.pace();
        Ok(())
    }

    fn on_ecn(&mut self, ack: &frame::Ack<'_>, news: &News, now: Instant) {
        match self.recovery.on_ecn(ack, news, self.path.ecn_failed) {
            Marks::None => {}
            Marks::Broken => self.path.ecn_failed = true,
            Marks::Congestion => {
                let marked = Losses {
                    largest: news.largest,
                    ..Losses::default()
                };
                self.on_congestion(&marked, news.smallest, now);
            }
        }
    }

    fn on_losses(&mut self, losses: &Losses, now: Instant) {
        if losses.largest.is_some() && losses.persistent {
            self.path.rtt.reset_min();
        }
        self.on_congestion(losses, None, now);
    }

    /// `marked` is the smallest number that was acknowledged with the network's marks, if it is these that
    /// tell.
    fn on_congestion(&mut self, losses: &Losses, marked: Option<u64>, now: Instant) {
        let Some((largest, largest_sent_at)) = losses.largest else {
            return;
        };
        let next_packet = self.recovery.sent.next();
        // What was sent before the last event was answered is of the same one.
        if largest >= self.congested_until {
            self.congested_until = next_packet;
            self.stats.congestion_events += 1;
        }
        let before = self.path.congestion.window();
        self.path.congestion.on_congestion(&Loss {
            now,
            bytes: losses.bytes,
            largest,
            largest_sent_at,
            in_flight: self.path.in_flight,
            next_packet,
            persistent: losses.persistent,
            ecn: marked.is_some(),
        });
        let cause = match losses.event {
            Some(event) if losses.persistent => Cause::Persistent(event),
            Some(event) => Cause::Loss(event),
            None => Cause::Marked {
                smallest: marked.unwrap_or(largest),
                largest,
            },
        };
        self.trace.on_controlled(before, &mut self.path, cause, now);
        self.path.pace();
    }

    /// When to look for losses, or to probe.
    pub(super) fn loss_timeout(&self) -> Option<Instant> {
        self.recovery
            .timeout(&self.path.rtt, self.peer.max_ack_delay)
    }

    /// The time of [`loss_timeout`](Self::loss_timeout) has come.
    pub(super) fn on_loss_timeout(&mut self, now: Instant) {
        let present = self.present();
        let (recovery, mut outcome) = self.recover(now);
        match recovery.on_timeout(&present, now, &mut outcome) {
            Expired::Losses(losses) => self.on_losses(&losses, now),
            Expired::Probe => self.on_probe_timeout(now),
        }
    }

    fn on_probe_timeout(&mut self, now: Instant) {
        self.stats.probe_timeouts += 1;
        if self.trace.is_on() {
            let count = self.recovery.probe_timeouts();
            self.trace.tell(now, &Step::ProbeTimeout { count });
        }
        let unheard = self.recovery.probe_timeouts();
        if self.side == Side::Client && unheard.is_multiple_of(UNHEARD) {
            self.events.push_back(Event::Unheard);
        }
        if matches!(self.path.proof, Proof::Asked { .. }) {
            return;
        }
        // A probe carries what has waited longest for an answer: if that got lost, the probe mends
        // it. It is not declared lost: nothing is known.
        for packet in self.recovery.oldest().into_iter().flatten() {
            self.carry_again(&packet, Why::ProbeTimeout);
        }
    }

    /// What the packet carried goes into later ones once more.
    fn carry_again(&mut self, packet: &SentPacket, why: Why) {
        for frame in self.recovery.sent.frames(packet) {
            send_again(frame, why, &mut self.streams, &mut self.ack_frequency_due);
        }
    }

    /// What the packet was to carry goes into later ones instead, each piece for the reason that it was to
    /// go for.
    pub(super) fn carry_instead(&mut self, packet: &SentPacket) {
        for frame in self.recovery.sent.frames(packet) {
            let why = match frame {
                SentFrame::Stream { again, .. } => again.unwrap_or(Why::NotSent),
                _ => Why::NotSent,
            };
            send_again(frame, why, &mut self.streams, &mut self.ack_frequency_due);
        }
    }
}
