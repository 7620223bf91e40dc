use std::{net::SocketAddr, time::Instant};

use super::{Datagram, Host};
use crate::{
    link::Way,
    rudp::connection::{Arrival, Connection},
};

/// What runs on top of a connection, on either side.
pub trait Application {
    /// Takes what the connection has to tell, and opens, reads and writes streams. It is called when
    /// something came or a time was up, before the connection sends.
    fn run(&mut self, connection: &mut Connection, now: Instant);

    /// When it wants to be called whatever happens.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// What the sender's own network interface carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstLink {
    /// The largest datagram, UDP payload bytes.
    pub largest: u16,
    /// Whether it tells so when it refuses a larger one (as the kernel does that knows the MTU).
    pub told: bool,
}

/// One side of a connection: its core, where it is, and what runs on top.
#[derive(Debug)]
pub struct Peer<A> {
    /// Its core.
    pub connection: Connection,
    /// What runs on top.
    pub application: A,
    /// Where it is.
    pub address: SocketAddr,
    /// Where a NAT makes it seem to be: what is sent there reaches it, and nothing else.
    pub seen_as: SocketAddr,
    /// What its interface carries; `None`: whatever the connection sends.
    pub first_link: Option<FirstLink>,
    way: Way,
    dirty: bool,
    due: Option<Instant>,
    buffer: Vec<u8>,
}

/// Datagrams of one size that leave in one go, as the kernel would cut them.
const SEGMENTS: usize = 10;
/// So many refusals at one time are no search for a size that fits.
const REFUSALS: u32 = 10_000;

impl<A: Application> Peer<A> {
    /// A peer at this address whose datagrams go `way`.
    pub fn new(connection: Connection, application: A, address: SocketAddr, way: Way) -> Self {
        Self {
            connection,
            application,
            address,
            seen_as: address,
            first_link: None,
            way,
            dirty: true,
            due: None,
            buffer: Vec::new(),
        }
    }

    /// Something was done to connection or application from outside: they are asked what to send.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// Takes a datagram for this connection.
    pub fn receive(&mut self, mut datagram: Datagram, now: Instant) {
        let arrival = Arrival {
            remote: datagram.from,
            local: Some(self.address.ip()),
            ecn: datagram.ecn,
        };
        self.connection
            .handle_datagram(&arrival, &mut datagram.bytes, now);
        self.dirty = true;
    }

    /// Has the connection send what it has, the application having run.
    pub fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let mut refused = 0;
        loop {
            self.buffer.clear();
            let transmit = self
                .connection
                .poll_transmit(now, &mut self.buffer, SEGMENTS);
            let Some(transmit) = transmit else {
                break;
            };
            debug_assert_eq!(transmit.length, self.buffer.len());
            if let Some(FirstLink { largest, told }) = self.first_link
                && transmit.segment > usize::from(largest)
            {
                self.connection
                    .on_too_big(&transmit, told.then_some(largest), now);
                refused += 1;
                assert!(refused < REFUSALS, "nothing smaller comes");
                continue;
            }
            out.extend(self.buffer.chunks(transmit.segment).map(|bytes| Datagram {
                way: self.way,
                from: self.seen_as,
                to: transmit.remote,
                ecn: transmit.ecn,
                bytes: bytes.to_vec(),
            }));
        }
        self.due = self.connection.poll_timeout();
        self.dirty = false;
    }

    /// Whether something happened since it sent last.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }
}

impl<A: Application> Host for Peer<A> {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, _: &mut Vec<Datagram>) {
        self.receive(datagram, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dirty |= self.poll_timeout().is_some_and(|at| at <= now);
        if self.due.is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if self.dirty {
            self.application.run(&mut self.connection, now);
            self.drain(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let application = self.application.poll_timeout();
        application.into_iter().chain(self.due).min()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.seen_as == address
    }
}
