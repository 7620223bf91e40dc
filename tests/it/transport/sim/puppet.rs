//! A server's connection and a client moved by hand, packet by packet: it can lie.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use labnet::rudp::{
    connection::{Admission, Arrival, CloseReason, Config, Connection, Event, StreamId},
    listener::{Listener, Reply, Shard, Welcome},
    packet::{
        Agreement, Cid, CookieReply, ErrorCode, Frame, Frames, HandshakeKey, Hello, Keys,
        Parameters, Protection, Side, Token, VERSION, encode_data_header,
        frame::{Stream, encode_ack},
    },
};

use super::{CLIENT, address};

/// The client's connection id and the token of its resets.
pub(crate) const CID: Cid = Cid(0x11);
pub(crate) const TOKEN: [u8; 16] = [5; 16];

/// A datagram that the server sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) to: SocketAddr,
    pub(crate) size: usize,
    /// Its packet number.
    pub(crate) number: u64,
    pub(crate) payload: Vec<u8>,
}

impl Seen {
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        Frames::new(&self.payload).map(|frame| frame.expect("well-formed"))
    }

    pub(crate) fn is_ack_eliciting(&self) -> bool {
        self.frames().any(|frame| frame.is_ack_eliciting())
    }

    pub(crate) fn challenge(&self) -> Option<[u8; 8]> {
        self.frames().find_map(|frame| match frame {
            Frame::PathChallenge(data) => Some(data),
            _ => None,
        })
    }
}

pub(crate) struct Puppet {
    pub(crate) server: Connection,
    keys: Keys,
    pub(crate) now: Instant,
    /// Of the next packet.
    pub(crate) number: u64,
    pub(crate) from: SocketAddr,
    /// Everything the server sent.
    pub(crate) seen: Vec<Seen>,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn listener() -> Listener {
    Listener::new(&[7; 32], &Protection::Checksum, Shard::ONLY, 1)
}

pub(crate) fn hello(cookie: &[u8], parameters: Parameters) -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello {
        cid: CID,
        nonce: [1; 16],
        cookie,
        parameters,
    }
    .encode(&HandshakeKey::Checksum, &mut bytes);
    bytes
}

/// The cookie that the server gives to `from`.
pub(crate) fn cookie(listener: &mut Listener, from: SocketAddr, unix: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let first = hello(&[], Parameters::default());
    let welcome = listener.handle_hello(VERSION, &first, from, unix, &mut out);
    assert_eq!(welcome, Welcome::Reply(Reply::Cookie));
    let reply = CookieReply::open(&out, &HandshakeKey::Checksum).expect("a COOKIE");
    reply.cookie.to_vec()
}

impl Puppet {
    /// A server that has made a connection; the client has said nothing since.
    pub(crate) fn unconfirmed(config: Config, parameters: Parameters) -> Self {
        let now = Instant::now();
        let (from, mut listener) = (address(CLIENT), listener());
        let cookie = cookie(&mut listener, from, 1000);
        let parameters = Parameters {
            reset_token: Some(Token::new(TOKEN)),
            ..parameters
        };
        let second = hello(&cookie, parameters);
        let mut out = Vec::new();
        let welcome = listener.handle_hello(VERSION, &second, from, 1000, &mut out);
        let Welcome::Admit(hello) = welcome else {
            panic!("{welcome:?}");
        };
        let credentials = listener.credentials(|_| false);
        let admission = Admission {
            hello: &hello,
            arrival: arrival(from),
            cid: credentials.cid,
            nonce: credentials.nonce,
            reset_token: credentials.reset_token,
        };
        let server = Connection::accept(Arc::new(config), &admission, 1, now);
        let agreement = Agreement {
            client: CID,
            server: credentials.cid,
            client_nonce: [1; 16],
            server_nonce: credentials.nonce,
        };
        let mut puppet = Self {
            server,
            keys: Protection::Checksum.keys(Side::Client, &agreement),
            now,
            number: 0,
            from,
            seen: Vec::new(),
            events: Vec::new(),
        };
        puppet.drain();
        puppet
    }

    /// Both sides are connected, everything is acknowledged, and stream 0 is open: the server can
    /// write to it. A round trip has taken `rtt`.
    pub(crate) fn connected(config: Config, rtt: Duration) -> Self {
        let parameters = Parameters {
            initial_max_data: 1 << 30,
            initial_max_stream_data: 1 << 30,
            ..Parameters::default()
        };
        let mut puppet = Self::unconfirmed(config, parameters);
        puppet.now += rtt;
        puppet.ack_all();
        puppet.send(&[stream(0, 0, b"x")]);
        // What this has drawn, probes of the datagram's size too.
        for _ in 0..20 {
            puppet.server.handle_timeout(puppet.now);
            puppet.drain();
            puppet.now += rtt;
            puppet.ack_all();
        }
        assert_eq!(puppet.server.stats().in_flight, 0);
        puppet
    }

    /// Takes what the server has to send.
    pub(crate) fn drain(&mut self) -> usize {
        let before = self.seen.len();
        while let Some(event) = self.server.poll_event() {
            self.events.push(event);
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut buffer, 10) {
            for bytes in buffer.chunks_mut(transmit.segment) {
                let size = bytes.len();
                if bytes[0] != 0x80 {
                    continue;
                }
                let expected = self.seen.last().map_or(0, |last| last.number + 1);
                let opened = self.keys.open(bytes, expected).expect("whole");
                self.seen.push(Seen {
                    to: transmit.remote,
                    size,
                    number: opened.number,
                    payload: bytes[opened.payload].to_vec(),
                });
            }
            buffer.clear();
        }
        self.seen.len() - before
    }

    /// Hands the server a packet with these bytes as its frames, then takes what it sends.
    pub(crate) fn send_raw(&mut self, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_data_header(self.server.cid(), self.number, &mut bytes);
        bytes.extend_from_slice(payload);
        self.keys.seal(&mut bytes, 0, self.number);
        self.number += 1;
        let arrival = arrival(self.from);
        self.server.handle_datagram(&arrival, &mut bytes, self.now);
        self.drain();
    }

    pub(crate) fn send(&mut self, frames: &[Frame<'_>]) {
        let mut payload = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut payload));
        self.send_raw(&payload);
    }

    /// Acknowledges these numbers, the largest range first.
    pub(crate) fn ack(&mut self, ranges: &[std::ops::RangeInclusive<u64>], delay: Duration) {
        let mut payload = Vec::new();
        encode_ack(
            ranges.iter().cloned(),
            delay,
            None,
            usize::MAX,
            &mut payload,
        );
        self.send_raw(&payload);
    }

    /// Acknowledges all that came, and only that.
    pub(crate) fn ack_all(&mut self) {
        self.ack_if(|_| true);
    }

    /// Acknowledges what of it did not get lost.
    pub(crate) fn ack_if(&mut self, arrived: impl Fn(&Seen) -> bool) {
        let mut ranges: Vec<std::ops::RangeInclusive<u64>> = Vec::new();
        for seen in self.seen.iter().rev().filter(|seen| arrived(seen)) {
            match ranges.last_mut() {
                Some(last) if *last.start() == seen.number + 1 => {
                    *last = seen.number..=*last.end();
                }
                _ => ranges.push(seen.number..=seen.number),
            }
        }
        self.ack(&ranges, Duration::ZERO);
    }

    /// The server writes so much to stream 0 and sends what it may.
    pub(crate) fn write(&mut self, length: usize) -> Vec<u64> {
        let bytes = Bytes::from(vec![7; length]);
        let written = self.server.write(StreamId(0), bytes);
        assert!(written.is_ok(), "{:?}", self.closed());
        let before = self.seen.len();
        self.drain();
        self.seen[before..].iter().map(|seen| seen.number).collect()
    }

    /// Lets time pass, timeouts at their times.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
            self.drain();
            steps += 1;
            assert!(steps < 10_000, "time stands still");
        }
        self.now = end;
    }

    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    pub(crate) fn assert_violation(&self, wanted: ErrorCode) {
        let closed = self.closed();
        assert!(
            matches!(closed, Some(CloseReason::Violation { code, .. }) if *code == wanted),
            "{closed:?}"
        );
    }
}

pub(crate) fn arrival(remote: SocketAddr) -> Arrival {
    Arrival {
        remote,
        local: None,
        ecn: None,
    }
}

pub(crate) fn stream(id: u64, offset: u64, data: &[u8]) -> Frame<'_> {
    Frame::Stream(Stream {
        id,
        offset,
        fin: false,
        data,
    })
}
