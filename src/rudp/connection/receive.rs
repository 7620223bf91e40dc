//! What comes in.

use std::time::Instant;

use super::{
    Arrival, CloseReason, Connection, Ecn, Event, State, Violation, limits,
    path::{Learned, Path, Proof},
    sent::SentPackets,
};
use crate::rudp::packet::{
    Accept, Agreement, CookieReply, ErrorCode, Frame, Frames, Header, Hello, OpenError, PacketType,
    Reset, Side, VERSION, Versions,
};
use rand::RngExt;

/// So often the peer is asked to acknowledge at the most: every so many packets.
const MAX_ACK_EVERY: u64 = 1 << 10;

impl Connection {
    /// Takes a datagram that is for this connection: by its connection id, or for a client by the
    /// server's address. Its content is undefined afterwards.
    pub fn handle_datagram(&mut self, arrival: &Arrival, datagram: &mut [u8], now: Instant) {
        let Ok(header) = Header::parse(datagram) else {
            self.stats.malformed += 1;
            return;
        };
        match (header.packet, self.side) {
            (PacketType::Data, _) => self.on_data(arrival, datagram, now),
            (PacketType::Hello, Side::Server) => self.on_hello(arrival, datagram),
            (PacketType::Cookie, Side::Client) => self.on_cookie(datagram),
            (PacketType::Accept, Side::Client) => self.on_accept(arrival, datagram, now),
            (PacketType::Versions, Side::Client) => self.on_versions(datagram),
            (PacketType::Reset, _) => self.on_reset(datagram),
            _ => self.stats.malformed += 1,
        }
    }

    /// The client has not seen our ACCEPT.
    fn on_hello(&mut self, arrival: &Arrival, datagram: &[u8]) {
        if let State::Open {
            accept: Some(greeted),
        } = &mut self.state
            && arrival.remote == self.path.remote
            && let Ok(hello) = Hello::open(datagram, &greeted.key)
            && hello.nonce == greeted.client_nonce
        {
            greeted.due = true;
        }
    }

    fn on_cookie(&mut self, datagram: &[u8]) {
        let State::Hello(greeting) = &mut self.state else {
            return;
        };
        match CookieReply::open(datagram, &greeting.key) {
            Ok(reply) if reply.nonce == greeting.nonce && reply.destination == self.cid => {
                // A stale cookie of ours draws a fresh one; the same one again is an echo.
                if greeting.cookie != reply.cookie {
                    greeting.cookie = reply.cookie.to_vec();
                    greeting.attempts = 0;
                    greeting.due = true;
                }
            }
            Ok(_) => self.stats.malformed += 1,
            Err(error) => self.on_bad(&error),
        }
    }

    fn on_accept(&mut self, arrival: &Arrival, datagram: &[u8], now: Instant) {
        let State::Hello(greeting) = &self.state else {
            return;
        };
        let accept = match Accept::open(datagram, &greeting.key) {
            Ok(accept) if accept.destination == self.cid => accept,
            Ok(_) => {
                self.stats.malformed += 1;
                return;
            }
            Err(error) => return self.on_bad(&error),
        };
        let agreement = Agreement {
            client: self.cid,
            server: accept.cid,
            client_nonce: greeting.nonce,
            server_nonce: accept.nonce,
        };
        // The answer to a HELLO that was sent once is a measurement.
        let rtt = greeting
            .sent_at
            .filter(|_| greeting.attempts == 1)
            .map(|at| now.saturating_duration_since(at));
        self.keys = self.config.protection.keys(Side::Client, &agreement);
        self.peer_cid = accept.cid;
        self.peer = accept.parameters;
        self.peer_reset = Some(accept.reset_token);
        self.streams.set_theirs(limits(&accept.parameters));
        let learned = Learned {
            config: &self.config,
            algorithm: self.config.congestion,
            max_datagram: self
                .config
                .max_datagram
                .min(accept.parameters.max_udp_payload_size),
            rtt,
            seed: self.rng.random(),
        };
        self.path = Path::new(
            0,
            self.path.remote,
            arrival.local,
            Proof::Given,
            &learned,
            now,
        );
        self.sent = SentPackets::new(0);
        self.state = State::Open { accept: None };
        self.heard_at = now;
        // The server must hear that we know.
        self.ping_due = true;
        self.events.push_back(Event::Connected);
    }

    fn on_versions(&mut self, datagram: &[u8]) {
        if let State::Hello(greeting) = &self.state
            && greeting.cookie.is_empty()
            && let Ok(versions) = Versions::open(datagram)
            && versions.destination == self.cid
            && versions.iter().all(|version| version != VERSION)
        {
            self.end(CloseReason::Version);
        }
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

    fn on_bad(&mut self, error: &OpenError) {
        match error {
            OpenError::Integrity | OpenError::Exhausted => self.stats.corrupted += 1,
            OpenError::Malformed(_) => self.stats.malformed += 1,
        }
    }

    fn on_data(&mut self, arrival: &Arrival, datagram: &mut [u8], now: Instant) {
        match &mut self.state {
            State::Open { .. } => {}
            State::Closing { heard, due, .. } => {
                *heard = heard.saturating_add(1);
                *due |= heard.is_power_of_two();
                return;
            }
            State::Hello(_) | State::Closed => return,
        }
        let size = datagram.len() as u64;
        let opened = match self.keys.open(datagram, self.acks.expected()) {
            Ok(opened) => opened,
            Err(error) => {
                self.on_bad(&error);
                if error == OpenError::Exhausted {
                    self.violate(
                        (ErrorCode::AEAD_LIMIT_REACHED, "too many forged packets"),
                        now,
                    );
                }
                return;
            }
        };
        let previous = self.acks.largest();
        if !self.acks.receive(opened.number) {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.packets_received += 1;
        self.stats.bytes_received += size;
        self.heard_at = now;
        self.spoke_at = None;
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
        let mut eliciting = false;
        for frame in Frames::new(&datagram[opened.payload]) {
            let outcome = match frame {
                Ok(frame) => {
                    eliciting |= frame.is_ack_eliciting();
                    self.on_frame(&frame, arrival, now)
                }
                Err(_) => Err((ErrorCode::FRAME_ENCODING_ERROR, "a malformed frame")),
            };
            if let Err(violation) = outcome {
                self.stats.malformed += 1;
                self.violate(violation, now);
                return;
            }
            if !self.is_open() {
                return;
            }
        }
        if eliciting {
            let congested = arrival.ecn == Some(Ecn::Ce);
            self.acks.elicit(opened.number, previous, congested, now);
        }
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
                // The newest alone: a flood of them draws one answer a packet.
                self.response = Some(*data);
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
