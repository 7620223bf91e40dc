//! What goes out.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::{
    Connection, Ecn, State,
    send_buffer::Why,
    sent::{Flags, SentFrame},
    stream::Piece,
    streams::Control,
};
use crate::{
    rudp::packet::{
        DATA_HEADER, ErrorCode, Frame, MIN_UDP_PAYLOAD, RESET_LEN, encode_data_header,
        frame::{self, encode_ack, encode_stream_header, fit_stream, stream_header_len},
    },
    watch::event::transport::{self, Cause, Limit, Step},
};

/// The largest UDP datagram over IPv4 carries so much; what the kernel cuts into segments is no
/// larger.
const MAX_BURST: usize = 65_507;
/// Below so much room a packet is filled up instead of one more piece put in.
const LEAST_ROOM: usize = 64;
/// A control frame: its type and at most three numbers.
const LONGEST_CONTROL: usize = 25;
/// The most that acknowledgements take of a packet that carries data, too.
const ACK_ROOM: usize = 400;
/// An acknowledgement each eighth of a window keeps the window moving smoothly.
const ACKS_A_WINDOW: u64 = 8;
/// Twice as rare are they if that lets each tell of so many packets: of a hundredth of what comes
/// towards them they fit the narrowest of ways back.
const SPARING: u64 = 5;
/// But not less often than every so many packets.
const MAX_ACK_EVERY: u64 = 64;

/// The frame that asks for nothing but an acknowledgement.
pub(super) const PING: u8 = 0x01;

/// Datagrams to one address, all but the last of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub remote: SocketAddr,
    /// From which of our addresses.
    pub local: Option<IpAddr>,
    /// The mark to send with.
    pub ecn: Option<Ecn>,
    /// Bytes in the buffer.
    pub length: usize,
    /// The size of each datagram but the last.
    pub segment: usize,
    /// The number of its first packet, and the one after its last.
    pub(super) numbers: [u64; 2],
}

/// Which packet may go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Any.
    Any,
    /// A packet that only acknowledges: the window is full, or the pacer wants to wait.
    AckOnly,
}

/// A number after `next` that will be left out: in each window there is one, so that whoever
/// acknowledges what it has not received is caught within a round trip or two.
pub(super) fn next_skip(next: u64, window: u64, rng: &mut Pcg64Mcg) -> u64 {
    let longest = (window / 2).clamp(64, 1024);
    next + rng.random_range(longest / 2..=longest)
}

impl Connection {
    /// Appends the next datagrams to `buffer`, which the caller has cleared: at most
    /// `max_segments`. They are sent as of `now`.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        max_segments: usize,
    ) -> Option<Transmit> {
        match &self.state {
            State::Hello(_) => self.poll_hello(now, buffer),
            State::Closing { .. } => self.poll_close(now, buffer),
            State::Closed => None,
            State::Open { accept } => {
                if accept.as_ref().is_some_and(|greeted| greeted.due) {
                    return self.poll_accept(buffer);
                }
                self.poll_data(now, buffer, max_segments)
            }
        }
    }

    /// What was put into the buffer from the packet `first` on.
    pub(super) fn transmit(
        &self,
        first: u64,
        length: usize,
        segment: usize,
        ecn: Option<Ecn>,
    ) -> Transmit {
        Transmit {
            remote: self.path.remote,
            local: self.path.local,
            ecn,
            length,
            segment,
            numbers: [first, self.recovery.sent.next()],
        }
    }

    fn poll_close(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let State::Closing {
            code, problem, due, ..
        } = &mut self.state
        else {
            return None;
        };
        if !*due {
            return None;
        }
        let (code, reason) = (*code, *problem);
        let start = buffer.len();
        let number = self.recovery.sent.next();
        encode_data_header(self.peer_cid, number, buffer);
        Frame::Close { code, reason }.encode(buffer);
        // An unproven address may have drawn it: then it waits until enough has come from there.
        let size = (buffer.len() - start + self.keys.tag_len()) as u64;
        if size > self.path.allowance() {
            buffer.truncate(start);
            return None;
        }
        *due = false;
        self.path.on_datagram_sent(size);
        self.keys.seal(buffer, start, number);
        let length = buffer.len() - start;
        let snapshot = self.path.estimator.snapshot(0);
        self.recovery.sent.skip(now, snapshot);
        self.trace.tell_packet(now, || {
            Step::Sent(transport::Sent {
                number,
                // No datagram is longer than 65,507 bytes.
                size: u16::try_from(length).unwrap_or(u16::MAX),
                ack_eliciting: false,
                data: false,
                again: false,
                probe: false,
            })
        });
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += length as u64;
        Some(self.transmit(number, length, length, None))
    }

    fn poll_data(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        max_segments: usize,
    ) -> Option<Transmit> {
        self.send_at = None;
        self.want_acks();
        if let Some(challenge) = self.poll_challenge(now, buffer) {
            return Some(challenge);
        }
        if let Some(probe) = self.poll_mtu_probe(now, buffer) {
            return Some(probe);
        }
        let (begin, first) = (buffer.len(), self.recovery.sent.next());
        let mtu = usize::from(self.path.mtu.current());
        let mut segment = 0;
        let mut ecn = None;
        for _ in 0..max_segments {
            let start = buffer.len();
            if start - begin + mtu > MAX_BURST {
                break;
            }
            let room = self.path.allowance().min(self.probe_room(mtu) as u64) as usize;
            if room < DATA_HEADER + LEAST_ROOM {
                break;
            }
            let leave = self.leave(now, mtu as u64);
            let Some(marked) = self.build(now, buffer, room, leave) else {
                break;
            };
            let length = buffer.len() - start;
            if segment == 0 {
                segment = length;
                ecn = marked.then_some(Ecn::Ect0);
            }
            // The kernel cuts a burst into equal segments: a shorter one is the last.
            if length < mtu {
                break;
            }
        }
        if buffer.len() > begin {
            return Some(self.transmit(first, buffer.len() - begin, segment, ecn));
        }
        if self.trace.is_on() {
            let limit = self.limit();
            self.trace.on_drained(limit, &self.path, now);
        }
        None
    }

    /// What keeps it from sending more, nothing being left that may be sent now.
    fn limit(&self) -> Limit {
        if self.streams.is_held_back() {
            Limit::FlowControl
        } else if !self.has_to_send() {
            Limit::Application
        } else if self.has_room() {
            self.trace.held_by
        } else {
            Limit::Amplification
        }
    }

    /// Whether the peer's address may be sent a packet worth the name.
    pub(super) fn has_room(&self) -> bool {
        self.path.allowance() >= (DATA_HEADER + LEAST_ROOM) as u64
    }

    /// A probe that follows one in vain is of a size that every path carries: it may be the size
    /// that gets lost.
    fn probe_room(&self, mtu: usize) -> usize {
        if self.recovery.probes > 0 && self.recovery.is_insisting() {
            mtu.min(usize::from(MIN_UDP_PAYLOAD))
        } else {
            mtu
        }
    }

    /// Whether the window and the pacer let a full packet go.
    pub(super) fn leave(&mut self, now: Instant, mtu: u64) -> Leave {
        if self.recovery.probes > 0 || self.path.challenge_due(now).is_some() {
            return Leave::Any;
        }
        if self.path.in_flight + mtu > self.path.congestion.window() {
            self.trace.held_by = Limit::Window;
            return Leave::AckOnly;
        }
        if !self.path.pacer.allows(now, mtu) {
            let room = self.path.congestion.window() - self.path.in_flight;
            self.send_at = self.path.pacer.next(now, room);
            self.trace.held_by = Limit::Pacing;
            return Leave::AckOnly;
        }
        Leave::Any
    }

    /// Whether the peer is to acknowledge more or less often than it was told.
    fn want_acks(&mut self) {
        let window = self.path.congestion.window() / u64::from(self.path.mtu.current());
        // In slow start the round trips of the window tell when to leave it (RFC 9406).
        let acks = ACKS_A_WINDOW << u32::from(self.path.congestion.in_slow_start());
        let packets = (window / acks)
            .max((window * 2 / acks).min(SPARING))
            .clamp(2, MAX_ACK_EVERY);
        let told = self.ack_frequency.packets.max(2);
        if packets * 4 >= told * 5 || packets * 5 <= told * 4 {
            // The peer may want none.
            let delay = (self.path.rtt.smoothed() / 4)
                .max(Duration::from_millis(1))
                .min(self.peer.max_ack_delay);
            self.ack_frequency.packets = packets;
            self.ack_frequency.delay = delay;
            self.ack_frequency.sequence += 1;
            self.ack_frequency_due = true;
        }
    }

    /// Appends one packet of at most `room` bytes; `None`: there is nothing to send. Says whether it
    /// goes with an ECN mark.
    fn build(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        room: usize,
        leave: Leave,
    ) -> Option<bool> {
        let acks_due = self.acks.is_due(now) && !self.acks.is_empty();
        let eliciting_due = leave == Leave::Any && self.has_to_send();
        if !acks_due && !eliciting_due {
            if leave == Leave::Any {
                self.on_nothing_to_send();
            } else if self.has_to_send() {
                // Held back by the window or the pacer: the path is used to the full.
                self.path.app_limited = false;
            }
            return None;
        }
        if self.recovery.sent.next() >= self.skip_at {
            let number = self.recovery.sent.next();
            let snapshot = self.path.estimator.snapshot(self.path.in_flight);
            self.recovery.sent.skip(now, snapshot);
            self.recovery.on_skipped(number);
            let window = self.path.congestion.window() / u64::from(self.path.mtu.current());
            self.skip_at = next_skip(self.recovery.sent.next(), window, &mut self.rng);
        }
        let start = buffer.len();
        let number = self.recovery.sent.next();
        let first_frame = self.recovery.sent.frame_count();
        encode_data_header(self.peer_cid, number, buffer);
        let end = start + room - self.keys.tag_len();
        let mut eliciting = false;
        let mut acked = None;
        // A piece that is sent again just fits if nothing else comes with it.
        let company = self.acks.has_news() && !self.streams.is_repeating();
        if (acks_due || company) && !self.acks.is_empty() {
            let budget = if eliciting_due {
                ACK_ROOM.min(end - buffer.len())
            } else {
                end - buffer.len()
            };
            if self.put_ack(now, budget, buffer) {
                acked = self.acks.largest();
            }
        }
        let mut data = Data::default();
        if eliciting_due {
            eliciting |= self.put_control(end, buffer);
            // Before the data: the last piece may reach to the packet's end.
            if buffer.len() < end && std::mem::take(&mut self.ping_due) {
                buffer.push(PING);
                eliciting = true;
            }
            data = self.put_data(end, buffer);
            eliciting |= data.any;
            if self.recovery.probes > 0 && !eliciting && buffer.len() < end {
                buffer.push(PING);
                eliciting = true;
            }
            self.recovery.probes = self.recovery.probes.saturating_sub(1);
        }
        if let Some(largest) = acked {
            let asks = !eliciting && leave == Leave::Any && self.acks.wants_answer();
            if asks && buffer.len() < end {
                buffer.push(PING);
                eliciting = true;
            }
            self.acks.sent(eliciting);
            self.recovery.sent.add_frame(SentFrame::Ack { largest });
        }
        if buffer.len() == start + DATA_HEADER {
            buffer.truncate(start);
            self.recovery.sent.drop_frames(first_frame);
            return None;
        }
        // A full burst is worth some bytes of padding: a shorter packet would end it.
        if data.more && buffer.len() < end {
            buffer.resize(end, 0);
        }
        // A server that has lost the connection answers with a RESET only what is longer than that.
        let least = start + RESET_LEN + 1 - self.keys.tag_len();
        if eliciting && buffer.len() < least {
            buffer.resize(least, 0);
        }
        self.keys.seal(buffer, start, number);
        let length = buffer.len() - start;
        Some(self.on_built(now, length, eliciting, first_frame, data))
    }

    pub(super) fn on_built(
        &mut self,
        now: Instant,
        length: usize,
        eliciting: bool,
        first_frame: u64,
        data: Data,
    ) -> bool {
        let size = length as u64;
        let marked = eliciting && !self.path.ecn_failed;
        let number = self.recovery.sent.next();
        let snapshot = if eliciting {
            let window = self.path.congestion.window();
            self.path
                .congestion
                .on_sent(&crate::rudp::congestion::Sent {
                    now,
                    packet: number,
                    bytes: size,
                    in_flight: self.path.in_flight,
                    app_limited: self.path.app_limited,
                });
            if self.path.in_flight == 0 && self.path.app_limited {
                self.trace
                    .on_controlled(window, &mut self.path, Cause::Idle, now);
            }
            self.path.pacer.on_sent(now, size);
            self.path.estimator.on_sent(now, size, self.path.in_flight)
        } else {
            self.path.estimator.snapshot(self.path.in_flight)
        };
        let flags = Flags {
            in_flight: eliciting,
            ack_eliciting: eliciting,
            ecn: marked,
            probe: self.path.mtu.is_probe(number),
        };
        // No datagram is longer than 65,507 bytes.
        let short = u16::try_from(length).unwrap_or(u16::MAX);
        self.recovery.sent.push(
            now,
            short,
            flags,
            self.path.generation,
            first_frame,
            snapshot,
        );
        if eliciting {
            self.path.in_flight += size;
            self.spoke_at.get_or_insert(now);
        }
        if eliciting {
            self.recovery.on_sent(marked, now);
        }
        self.trace.tell_packet(now, || {
            Step::Sent(transport::Sent {
                number,
                size: short,
                ack_eliciting: eliciting,
                data: data.any,
                again: data.again.is_some_and(|why| why != Why::NotSent),
                probe: flags.probe,
            })
        });
        self.path.on_datagram_sent(size);
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += size;
        self.stats.data_packets_sent += u64::from(data.any);
        if let Some(count) = self.stats.again(data.again) {
            *count += 1;
            self.stats.packets_retransmitted += 1;
        }
        marked
    }

    fn has_to_send(&self) -> bool {
        self.recovery.probes > 0
            || self.ping_due
            || self.response.is_some()
            || self.ack_frequency_due
            || self.streams.has_control()
            || self.streams.can_send()
            || self.tail_due()
    }

    fn on_nothing_to_send(&mut self) {
        self.path.app_limited = true;
        self.path.estimator.on_app_limited(self.path.in_flight);
    }

    fn put_ack(&mut self, now: Instant, budget: usize, buffer: &mut Vec<u8>) -> bool {
        let [ect0, ect1, ce] = self.acks.ecn;
        let ecn = (ect0 + ect1 + ce > 0).then_some(frame::EcnCounts { ect0, ect1, ce });
        let held = self.acks.held(now);
        let ranges = self.acks.ranges().map(|range| range.start..=range.end - 1);
        encode_ack(ranges, held, ecn, budget, buffer) > 0
    }

    /// Everything but acknowledgements and data; says whether there was anything.
    fn put_control(&mut self, end: usize, buffer: &mut Vec<u8>) -> bool {
        let before = buffer.len();
        // None of these is longer: even for an unproven address there is room for one.
        let fits = |buffer: &Vec<u8>| buffer.len() + LONGEST_CONTROL <= end;
        if fits(buffer)
            && let Some(response) = self.response.take()
        {
            Frame::PathResponse(response).encode(buffer);
        }
        if fits(buffer) && std::mem::take(&mut self.ack_frequency_due) {
            Frame::AckFrequency {
                sequence: self.ack_frequency.sequence,
                packets: self.ack_frequency.packets,
                max_delay: self.ack_frequency.delay,
            }
            .encode(buffer);
            self.recovery.sent.add_frame(SentFrame::AckFrequency);
        }
        if fits(buffer) && self.streams.max_data_due {
            Frame::MaxData(self.streams.grant_data()).encode(buffer);
            self.recovery.sent.add_frame(SentFrame::MaxData);
        }
        if fits(buffer) && self.streams.max_streams_due {
            Frame::MaxStreams(self.streams.grant_streams()).encode(buffer);
            self.recovery.sent.add_frame(SentFrame::MaxStreams);
        }
        while fits(buffer)
            && let Some(control) = self.streams.pop_control()
        {
            match control {
                Control::MaxStreamData(id) => {
                    if let Some(max) = self.streams.grant_stream_data(id) {
                        Frame::MaxStreamData { id, max }.encode(buffer);
                        self.recovery.sent.add_frame(SentFrame::MaxStreamData(id));
                    }
                }
                Control::Reset(id) => {
                    let reset = self.streams.get(id).and_then(|s| s.sending.reset());
                    if let Some(reset) = reset {
                        Frame::ResetStream {
                            id,
                            code: ErrorCode(reset.code),
                            final_size: reset.final_size,
                        }
                        .encode(buffer);
                        self.recovery.sent.add_frame(SentFrame::ResetStream(id));
                    }
                }
                Control::Stop(id) => {
                    let code = self.streams.get(id).and_then(|s| s.receiving.stopped());
                    if let Some(code) = code {
                        Frame::StopSending {
                            id,
                            code: ErrorCode(code),
                        }
                        .encode(buffer);
                        self.recovery.sent.add_frame(SentFrame::StopSending(id));
                    }
                }
            }
        }
        buffer.len() > before
    }

    fn put_data(&mut self, end: usize, buffer: &mut Vec<u8>) -> Data {
        let mut data = Data::default();
        while end.saturating_sub(buffer.len()) >= LEAST_ROOM {
            let left = end - buffer.len();
            let room = |id, offset| left.saturating_sub(stream_header_len(id, offset, None));
            let Some(piece) = self
                .streams
                .next_piece(room)
                .or_else(|| self.tail_piece(left))
            else {
                return data;
            };
            self.put_piece(&piece, end, buffer);
            data.any = true;
            data.again = Why::or(data.again, piece.again);
            self.note_retransmission(piece);
        }
        data.more = self.streams.can_send();
        data
    }

    fn put_piece(&mut self, piece: &Piece, end: usize, buffer: &mut Vec<u8>) {
        let left = end - buffer.len();
        // The piece was cut to what fits.
        let length =
            fit_stream(piece.id, piece.offset, piece.length, left).and_then(|(_, length)| length);
        if length.is_none() {
            // Without its length it reaches to the packet's end: what is over goes before it.
            let bare = stream_header_len(piece.id, piece.offset, None) + piece.length;
            buffer.resize(buffer.len() + left.saturating_sub(bare), 0);
        }
        encode_stream_header(piece.id, piece.offset, length, piece.fin, buffer);
        self.streams.copy_piece(piece, buffer);
        self.recovery.sent.add_frame(SentFrame::Stream {
            id: piece.id,
            offset: piece.offset,
            // No longer than a packet.
            length: piece.length as u32,
            fin: piece.fin,
            again: piece.again,
        });
    }
}

/// What data a packet got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Data {
    any: bool,
    /// Why it carries a piece of a stream again, if it does: the first such piece's reason.
    again: Option<Why>,
    /// There is more that did not fit.
    more: bool,
}
