//! The receiving half of one socket: sorts each batch by session and connection, has new ones
//! made, and gives each its share in one message.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
    time::Instant,
};

use actix::dev::SendError;
use bytes::BytesMut;
use tokio::time::{Sleep, sleep_until};

use super::{
    connection::{Packets, Run},
    counters::Dropped,
    door::{Door, Place},
    plan::Plan,
    session::{Deliver, RudpSession, SIGNALS},
    shared::Shared,
    table::{SharedTable, Table},
};
use crate::net::ReceiveBatch;
use crate::rudp::{
    connection::Arrival,
    connection_table::{Bounds, Full},
    endpoint::{HalfOpen, HalfOpenLimits, Route, refuse},
    listener::Shard,
    output::{Output, Untaken},
    packet::{Cid, Header, PacketType},
    session::{Session, SessionLimits},
    signal::is_binary,
};

/// What one allocation for received datagrams holds.
const POOL: usize = 16 * 1024;
/// A DATA packet's type and connection id.
const DATA_PREFIX: usize = 9;

/// Receives for one socket.
pub(super) struct Receiver {
    shared: Rc<Shared>,
    table: Arc<SharedTable>,
    batch: ReceiveBatch,
    pool: BytesMut,
    door: Door,
    limits: SessionLimits,
    half_open: HalfOpenLimits,
    /// Set while there is a half-open session.
    expiry: Option<Pin<Box<Sleep>>>,
    /// What the current batch brought, by client.
    signals: Vec<(SocketAddr, Deliver)>,
    /// The same by connection.
    packets: Vec<(Cid, Packets)>,
}

impl Receiver {
    /// `shard` is the socket's place among those on its address.
    pub(super) fn new(
        shared: Rc<Shared>,
        table: Arc<SharedTable>,
        plan: &Plan,
        shard: Shard,
    ) -> Self {
        Self {
            half_open: plan.half_open,
            expiry: None,
            shared,
            table,
            batch: ReceiveBatch::new(),
            pool: BytesMut::with_capacity(POOL),
            limits: plan.limits,
            door: Door::new(plan.settings.clone(), &plan.key, shard),
            signals: Vec::new(),
            packets: Vec::new(),
        }
    }

    /// Takes one batch; ready only when the socket fails. The task is woken for the next one.
    pub(super) fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<std::io::Error> {
        self.poll_expiry(task);
        match task::ready!(self.shared.socket.poll_receive(task, &mut self.batch)) {
            Ok(()) => {
                self.sort();
                self.deliver();
                // Others come first, then the next batch.
                task.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(error),
        }
    }

    /// Forgets half-open sessions when their time has come.
    fn poll_expiry(&mut self, task: &mut task::Context<'_>) {
        while let Some(expiry) = &mut self.expiry
            && expiry.as_mut().poll(task).is_ready()
        {
            let mut table = self.table.lock();
            table.expire(&self.half_open, &self.shared.counters, Instant::now());
            match table.endpoint.poll_timeout(&self.half_open) {
                Some(next) => expiry.as_mut().reset(next.into()),
                None => self.expiry = None,
            }
        }
    }

    /// Sorts the batch, opening what is to be opened.
    fn sort(&mut self) {
        let now = Instant::now();
        let counters = &self.shared.counters;
        let mut table = self.table.lock();
        let table = &mut *table;
        table.expire(&self.half_open, counters, now);
        for buffer in self.batch.buffers_mut() {
            let arrival = Arrival {
                remote: buffer.source,
                local: buffer.destination,
                ecn: buffer.ecn,
            };
            let mut rest = buffer.bytes;
            // An empty datagram is one datagram, too.
            loop {
                let first = &rest[..buffer.stride.min(rest.len())];
                let header = is_binary(first).then(|| Header::parse(first));
                let length = match header {
                    Some(Ok(header)) if header.packet == PacketType::Data => {
                        alike(rest, buffer.stride)
                    }
                    _ => first.len(),
                };
                let (run, later) = std::mem::take(&mut rest).split_at_mut(length);
                rest = later;
                let datagrams = run.len().div_ceil(buffer.stride).max(1);
                counters.packets_received.inc_by(datagrams as u64);
                match header {
                    None => {
                        let signal = Signals {
                            shared: &self.shared,
                            all: &self.table,
                            limits: &self.limits,
                            half_open: &self.half_open,
                            bounds: self.door.bounds(),
                            deliveries: &mut self.signals,
                            pool: &mut self.pool,
                        };
                        signal.sort(run, &arrival, table, now);
                    }
                    Some(Err(_)) => self.shared.refuse(Dropped::Malformed, run, &arrival),
                    Some(Ok(header)) => {
                        let place = Place {
                            shared: &self.shared,
                            all: &self.table,
                            table,
                            stride: buffer.stride,
                        };
                        if let Some(cid) = self.door.pass(&header, run, &arrival, place, now) {
                            let run = Run {
                                bytes: BytesMut::from(&*run),
                                stride: buffer.stride,
                                arrival,
                            };
                            match self.packets.iter_mut().find(|(to, _)| *to == cid) {
                                Some((_, packets)) => packets.more.push(run),
                                None => {
                                    let more = Vec::new();
                                    self.packets.push((cid, Packets { first: run, more }));
                                }
                            }
                        }
                    }
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        if self.expiry.is_none()
            && let Some(next) = table.endpoint.poll_timeout(&self.half_open)
        {
            self.expiry = Some(Box::pin(sleep_until(next.into())));
        }
    }

    /// One message a session. The table holds the one `Addr` of each: every clone would have a
    /// place of its own in the mailbox.
    fn deliver(&mut self) {
        let table = self.table.lock();
        let lost = &self.shared.counters.lost_mailbox;
        for (client, delivery) in self.signals.drain(..) {
            let Some(address) = table.endpoint.get(client) else {
                continue;
            };
            let datagrams = 1 + delivery.more.len() as u64;
            if let Err(SendError::Full(_) | SendError::Closed(_)) = address.try_send(delivery) {
                tracing::debug!(%client, datagrams, "the session is too busy");
                lost.inc_by(datagrams);
            }
        }
        for (cid, packets) in self.packets.drain(..) {
            let Some(address) = table.connections.get(cid) else {
                continue;
            };
            let datagrams = packets.count();
            if let Err(SendError::Full(_) | SendError::Closed(_)) = address.try_send(packets) {
                tracing::debug!(connection = %cid, datagrams, "the connection is too busy");
                lost.inc_by(datagrams);
            }
        }
    }
}

/// The bytes at the beginning of a received buffer that are DATA packets of one connection.
fn alike(bytes: &[u8], stride: usize) -> usize {
    let prefix = &bytes[..DATA_PREFIX.min(bytes.len())];
    let alike = bytes
        .chunks(stride)
        .take_while(|datagram| datagram.starts_with(prefix));
    alike.map(<[u8]>::len).sum()
}

/// Where signals go.
struct Signals<'a> {
    shared: &'a Rc<Shared>,
    all: &'a SharedTable,
    limits: &'a SessionLimits,
    half_open: &'a HalfOpenLimits,
    bounds: &'a Bounds,
    deliveries: &'a mut Vec<(SocketAddr, Deliver)>,
    pool: &'a mut BytesMut,
}

impl Signals<'_> {
    fn sort(self, datagram: &[u8], arrival: &Arrival, table: &mut Table, now: Instant) {
        let client = arrival.remote;
        let shared = self.shared;
        shared.allowance().receive(client.ip(), datagram.len(), now);
        let mut output = shared.output.borrow_mut();
        output.clear();
        let endpoint = &mut table.endpoint;
        let for_session = match endpoint.route(client, datagram, self.half_open, now, &mut output) {
            Route::Drop(reason) => {
                tracing::debug!(%client, ?reason, "dropped");
                let reason = shared.counters.no_session(reason);
                shared.refuse(reason, datagram, arrival);
                false
            }
            Route::Greeted(greeting) => {
                shared.counters.greeted(greeting);
                false
            }
            Route::Session => true,
            Route::Open(half_open) => self.open(datagram, arrival, half_open, table, &mut output),
        };
        shared.counters.add(&output);
        let told = [Untaken::default(), output.untaken()];
        shared.tell_untaken(told, datagram, client, arrival.local);
        for reply in output.replies() {
            shared.answer(&reply, client, arrival.local);
        }
        drop(output);
        if for_session {
            self.give(datagram, arrival);
        }
    }

    /// Starts a session, if there may be one more: says whether it has.
    fn open(
        &self,
        datagram: &[u8],
        arrival: &Arrival,
        half_open: HalfOpen,
        table: &mut Table,
        output: &mut Output,
    ) -> bool {
        let client = arrival.remote;
        let counters = &self.shared.counters;
        let mut crowd = self.all.crowd();
        let room = crowd.has_room(client.ip(), self.bounds).and_then(|()| {
            // Sessions that linger after their end take room, too.
            let lingering = table.endpoint.len() >= self.bounds.sessions.saturating_mul(2);
            if lingering {
                Err(Full::Sessions)
            } else {
                Ok(())
            }
        });
        if let Err(full) = room {
            tracing::debug!(%client, ?full, "refused");
            self.shared.refuse(full.into(), datagram, arrival);
            let name = half_open.name.as_str();
            (self.shared.ended).refused(SIGNALS, client, name, full.words());
            refuse(datagram, full.words(), output);
            return false;
        }
        crowd.enter_signals(client.ip());
        drop(crowd);
        let shown = counters.show_signals(&half_open.name, client);
        let session = Session::new(half_open, *self.limits);
        let serial = table.endpoint.next_serial();
        let shared = Rc::clone(self.shared);
        let address = RudpSession::start(client, serial, session, shown, shared);
        table.endpoint.insert(client, address);
        counters.half_open(-1);
        true
    }

    /// Puts it to what else the batch brings for the session.
    fn give(self, datagram: &[u8], arrival: &Arrival) {
        let client = arrival.remote;
        self.pool.extend_from_slice(datagram);
        let bytes = self.pool.split().freeze();
        match self.deliveries.iter_mut().find(|(to, _)| *to == client) {
            Some((_, delivery)) => {
                delivery.more.push(bytes);
                delivery.local = arrival.local;
            }
            None => {
                let delivery = Deliver {
                    first: bytes,
                    more: Vec::new(),
                    local: arrival.local,
                };
                self.deliveries.push((client, delivery));
            }
        }
    }
}
