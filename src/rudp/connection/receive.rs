//! What comes in.

use std::time::Instant;

use super::{Arrival, CloseReason, Connection, Ecn, Event, State, Violation};
use crate::{
    rudp::packet::{ErrorCode, Frame, Frames, OpenError, PacketType, Reset, Side},
    watch::event::transport::Step,
};

/// So often the peer is asked to acknowledge at the most: every so many packets.
const MAX_ACK_EVERY: u64 = 1 << 10;

/// What is wrong with a datagram that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Its integrity tag: it was damaged on the way, or is forged. Counted as [`Stats::corrupted`](super::Stats).
    Integrity,
    /// It makes no sense. Counted as [`Stats::malformed`](super::Stats).
    Malformed,
}

impl From<OpenError> for Unreadable {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Integrity | OpenError::Exhausted => Self::Integrity,
            OpenError::Malformed(_) => Self::Malformed,
        }
    }
}

impl Connection {
    /// Takes a datagram that is for this connection: by its connection id, or for a client by the
    /// server's address. Its content is undefined afterwards. Tells what was wrong with one that can't be read.
    pub fn handle_datagram(
        &mut self,
        arrival: &Arrival,
        datagram: &mut [u8],
        now: Instant,
    ) -> Option<Unreadable> {
        let read = match (PacketType::of(datagram), self.side) {
            (Ok(PacketType::Data), _) => self.on_data(arrival, datagram, now),
            (Ok(PacketType::Cookie), Side::Client) => self.on_cookie(datagram, now),
            (Ok(PacketType::Accept), Side::Client) => self.on_accept(arrival, datagram, now),
            (Ok(PacketType::Hello), Side::Server) => {
                self.on_hello(arrival, datagram);
                Ok(())
            }
            (Ok(PacketType::Versions), Side::Client) => {
                self.on_versions(datagram);
                Ok(())
            }
            (Ok(PacketType::Reset), _) => {
                self.on_reset(datagram);
                Ok(())
            }
            _ => Err(Unreadable::Malformed),
        };
        match read {
            Ok(()) => return None,
            Err(Unreadable::Integrity) => self.stats.corrupted += 1,
            Err(Unreadable::Malformed) => self.stats.malformed += 1,
        }
        read.err()
    }

    fn on_reset(&mut self, datagram: &[u8]) {
        if let State::Open { .. } = self.state
            && let Ok(reset) = Reset::parse(datagram)
            && reset.unknown == self.peer_cid
            && self.peer_reset == Some(reset.token)
        {
            self.end(CloseReason::Reset);
        }
    }

    fn on_data(
        &mut self,
        arrival: &Arrival,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<(), Unreadable> {
        match &mut self.state {
            State::Open { .. } => {}
            State::Closing { heard, due, .. } => {
                *heard = heard.saturating_add(1);
                *due |= heard.is_power_of_two();
                if arrival.remote == self.path.remote {
                    self.path.on_datagram_received(datagram.len() as u64);
                }
                return Ok(());
            }
            State::Hello(_) | State::Closed => return Ok(()),
        }
        let size = datagram.len() as u64;
        let opened = match self.keys.open(datagram, self.acks.expected()) {
            Ok(opened) => opened,
            Err(error) => {
                if error == OpenError::Exhausted {
                    self.violate(
                        (ErrorCode::AEAD_LIMIT_REACHED, "too many forged packets"),
                        now,
                    );
                }
                return Err(error.into());
            }
        };
        let previous = self.acks.largest();
        if !self.acks.receive(opened.number) {
            self.stats.duplicates += 1;
            return Ok(());
        }
        self.stats.packets_received += 1;
        self.stats.bytes_received += size;
        self.heard_at = now;
        self.spoke_at = None;
        self.trace.tell_packet(now, || Step::Received {
            number: opened.number,
            // A UDP datagram has fewer bytes.
            size: u16::try_from(size).unwrap_or(u16::MAX),
        });
        match arrival.ecn {
            Some(Ecn::Ect0) => self.acks.ecn[0] += 1,
            Some(Ecn::Ect1) => self.acks.ecn[1] += 1,
            Some(Ecn::Ce) => self.acks.ecn[2] += 1,
            None => {}
        }
        if let State::Open { accept } = &mut self.state
            && accept.take().is_some()
        {
            self.events.push_back(Event::Connected);
        }
        let newest = previous.is_none_or(|previous| opened.number > previous);
        if newest {
            self.acks.arrived(now);
        }
        if arrival.remote != self.path.remote {
            if self.side == Side::Server && newest {
                self.move_to(arrival, now);
            }
        } else {
            self.path.local = arrival.local.or(self.path.local);
        }
        if arrival.remote == self.path.remote {
            self.path.on_datagram_received(size);
        }
        let (mut eliciting, mut acknowledges) = (false, false);
        for frame in Frames::new(&datagram[opened.payload]) {
            let outcome = match frame {
                Ok(Frame::Ack(_)) if std::mem::replace(&mut acknowledges, true) => {
                    Err((ErrorCode::PROTOCOL_VIOLATION, "a second ACK in a packet"))
                }
                Ok(frame) => {
                    eliciting |= frame.is_ack_eliciting();
                    self.on_frame(&frame, arrival, now)
                }
                Err(_) => Err((ErrorCode::FRAME_ENCODING_ERROR, "a malformed frame")),
            };
            if let Err(violation) = outcome {
                self.violate(violation, now);
                return Err(Unreadable::Malformed);
            }
            if !self.is_open() {
                return Ok(());
            }
        }
        if eliciting {
            let congested = arrival.ecn == Some(Ecn::Ce);
            self.acks.elicit(opened.number, previous, congested, now);
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: &Frame<'_>,
        arrival: &Arrival,
        now: Instant,
    ) -> Result<(), Violation> {
        match frame {
            Frame::Stream(stream) => {
                self.streams
                    .on_stream(stream.id, stream.offset, stream.fin, stream.data)
            }
            Frame::Ack(ack) => self.on_ack(ack, now),
            Frame::Padding(_)
            | Frame::Ping
            | Frame::DataBlocked(_)
            | Frame::StreamDataBlocked { .. } => Ok(()),
            Frame::ResetStream {
                id,
                code,
                final_size,
            } => self.streams.on_reset(*id, code.0, *final_size),
            Frame::StopSending { id, code } => self.streams.on_stop(*id, code.0),
            Frame::MaxData(max) => {
                self.streams.on_max_data(*max);
                Ok(())
            }
            Frame::MaxStreamData { id, max } => self.streams.on_max_stream_data(*id, *max),
            Frame::MaxStreams(max) => {
                self.streams.on_max_streams(*max);
                Ok(())
            }
            Frame::PathChallenge(data) => {
                // The newest alone: a flood of them draws one answer a packet. And to where the
                // peer is alone: nobody else has a path to be proven.
                if arrival.remote == self.path.remote {
                    self.response = Some(*data);
                }
                Ok(())
            }
            Frame::PathResponse(data) => {
                self.on_path_response(u64::from_be_bytes(*data), arrival);
                Ok(())
            }
            Frame::Close { code, reason } => {
                self.end(CloseReason::Peer {
                    code: *code,
                    reason: (*reason).to_owned(),
                });
                Ok(())
            }
            Frame::AckFrequency {
                sequence,
                packets,
                max_delay,
            } => {
                if self
                    .ack_frequency
                    .heard
                    .is_none_or(|known| *sequence > known)
                {
                    self.ack_frequency.heard = Some(*sequence);
                    // No less than one: below MAX_ACK_EVERY it fits.
                    self.acks.every = (*packets).clamp(1, MAX_ACK_EVERY) as u32;
                    self.acks.delay = (*max_delay).min(self.config.max_ack_delay);
                }
                Ok(())
            }
        }
    }

    fn violate(&mut self, (code, problem): Violation, now: Instant) {
        self.begin_closing(code, problem, now);
        self.events
            .push_back(Event::Closed(CloseReason::Violation { code, problem }));
    }
}
