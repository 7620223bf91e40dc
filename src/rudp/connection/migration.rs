//! The peer at another address (RFC 9000 section 9).

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use rand::RngExt;

use super::{
    Arrival, CloseReason, Connection, Ecn, Event, State, Transmit,
    path::{Learned, Path, Proof},
    transmit::Data,
};
use crate::{
    rudp::congestion::Controllers,
    rudp::packet::{DATA_HEADER, Frame, encode_data_header},
    watch::event::transport::Step,
};

/// Where the peer was last when it had proven its address, to go back to.
#[derive(Debug)]
pub(super) enum Previous {
    /// Behind another port of the same host: what was learned is the present path's.
    Address {
        remote: SocketAddr,
        local: Option<IpAddr>,
    },
    /// At another host, with all that was learned of the way there.
    Path(Box<Path>),
}

impl Previous {
    fn remote(&self) -> SocketAddr {
        match self {
            Self::Address { remote, .. } => *remote,
            Self::Path(path) => path.remote,
        }
    }
}

impl Connection {
    /// The client writes from another address: a NAT in between has changed its mind, or somebody
    /// wants to make us believe so. It is asked to prove it.
    pub(super) fn move_to(&mut self, arrival: &Arrival, now: Instant) {
        let back = self.previous.as_ref().map(Previous::remote);
        if back == Some(arrival.remote) {
            // The peer is where it has proven to be.
            return self.go_back(now);
        }
        // A challenge of there is answered there or not at all.
        self.response = None;
        self.generations += 1;
        self.stats.path_changes += 1;
        let proof = Proof::Asked {
            challenge: self.rng.random(),
            asked: 0,
            again_at: now,
            received: 0,
            sent: 0,
        };
        let new_path = self.path.remote.ip() != arrival.remote.ip();
        self.tell_address(arrival.remote, new_path, now);
        if !new_path {
            // Another port of the same host is the same path behind its NAT: what was learned of it
            // stays true.
            self.previous.get_or_insert(Previous::Address {
                remote: self.path.remote,
                local: self.path.local,
            });
            self.path.remote = arrival.remote;
            self.path.local = arrival.local;
            self.path.proof = proof;
            return;
        }
        let path = self.unknown_path(arrival.remote, arrival.local, proof, now);
        let mut old = std::mem::replace(&mut self.path, path);
        // The last proven one is kept.
        self.previous = Some(match self.previous.take() {
            Some(Previous::Path(proven)) => Previous::Path(proven),
            Some(Previous::Address { remote, local }) => {
                old.return_to(remote, local);
                Previous::Path(Box::new(old))
            }
            None => Previous::Path(Box::new(old)),
        });
    }

    fn tell_address(&mut self, to: SocketAddr, new_path: bool, now: Instant) {
        let from = self.path.remote;
        let step = Step::Address { from, to, new_path };
        self.trace.tell(now, &step);
    }

    /// A path of which nothing is known.
    fn unknown_path(
        &mut self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        proof: Proof,
        now: Instant,
    ) -> Path {
        let controllers: &dyn Controllers = match &self.given {
            Some(given) => &**given,
            None => &self.algorithm,
        };
        let learned = Learned {
            config: &self.config,
            controllers,
            max_datagram: self.config.max_datagram.min(self.peer.max_udp_payload_size),
            rtt: None,
            seed: self.rng.random(),
        };
        Path::new(self.generations, remote, local, proof, &learned, now)
    }

    /// A client sends from another socket now: behind another port, or, if it has `moved`, from
    /// another address, from where the way is not known. The server hears of it at once.
    pub fn rebound(&mut self, moved: bool, now: Instant) {
        match &mut self.state {
            // The server takes its cookie from the address that it was given to alone.
            State::Hello(greeting) => greeting.begin_anew(),
            State::Open { .. } => {
                self.response = None;
                self.path.local = None;
                if moved {
                    self.generations += 1;
                    self.stats.path_changes += 1;
                    self.tell_address(self.path.remote, true, now);
                    self.path = self.unknown_path(self.path.remote, None, Proof::Given, now);
                }
                self.ping_due = true;
                self.recovery.probes = self.recovery.probes.max(1);
                self.acks.repeat();
            }
            State::Closing { due, .. } => *due = true,
            State::Closed => {}
        }
    }

    /// A challenge goes by itself: neither the window nor the pacer holds it back, and it is short
    /// enough for what any packet from a new address allows.
    pub(super) fn poll_challenge(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let challenge = self.path.challenge_due(now)?;
        // A challenge that the allowance forbids counts as one in vain: the path is given up in time.
        let patience = self.path.rtt.pto_base(self.peer.max_ack_delay) * 2;
        self.path.challenge_sent(now, patience);
        let size = DATA_HEADER + 1 + 8 + self.keys.tag_len();
        if self.path.allowance() < size as u64 {
            return None;
        }
        let start = buffer.len();
        let first_frame = self.recovery.sent.frame_count();
        let number = self.recovery.sent.next();
        encode_data_header(self.peer_cid, number, buffer);
        Frame::PathChallenge(challenge.to_be_bytes()).encode(buffer);
        self.keys.seal(buffer, start, number);
        let length = buffer.len() - start;
        let marked = self.on_built(now, length, true, first_frame, Data::default());
        Some(self.transmit(number, length, length, marked.then_some(Ecn::Ect0)))
    }

    /// PATH_RESPONSE
    pub(super) fn on_path_response(&mut self, response: u64, arrival: &Arrival) {
        let Proof::Asked { challenge, .. } = self.path.proof else {
            return;
        };
        if challenge != response || arrival.remote != self.path.remote {
            return;
        }
        self.path.proof = Proof::Given;
        let from = self.previous.take().map(|previous| previous.remote());
        self.events.push_back(Event::Moved {
            from: from.unwrap_or(self.path.remote),
            to: self.path.remote,
        });
    }

    /// Nobody answers at the new address, or the peer is back at the one before.
    pub(super) fn go_back(&mut self, now: Instant) {
        self.response = None;
        if let Some(previous) = &self.previous {
            let new_path = matches!(previous, Previous::Path(_));
            self.tell_address(previous.remote(), new_path, now);
        }
        match self.previous.take() {
            Some(Previous::Address { remote, local }) => self.path.return_to(remote, local),
            Some(Previous::Path(path)) => {
                self.path = *path;
                self.path.pace();
            }
            None => self.end(CloseReason::Idle),
        }
        self.send_at = Some(now);
    }

    /// The path that a packet went out on, unless it is forgotten.
    pub(super) fn path_of(&mut self, generation: u32) -> Option<&mut Path> {
        path_of(&mut self.path, &mut self.previous, generation)
    }
}

/// The path that a packet went out on, unless it is forgotten.
pub(super) fn path_of<'a>(
    path: &'a mut Path,
    previous: &'a mut Option<Previous>,
    generation: u32,
) -> Option<&'a mut Path> {
    if path.generation == generation {
        return Some(path);
    }
    match previous {
        Some(Previous::Path(path)) if path.generation == generation => Some(path),
        _ => None,
    }
}
