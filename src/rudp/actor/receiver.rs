//! The receiving half of one socket: sorts each batch by session and connection, opens the door to
//! new ones, and gives each its share in one message.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use actix::dev::SendError;
use bytes::BytesMut;

use super::{
    connection::{Packets, RudpConnection, Run},
    session::{Deliver, RudpSession},
    settings::Settings,
    shared::{Shared, SharedTable, Table},
};
use crate::rudp::{
    connection::{Admission, Arrival, Connection},
    connections::{Full, RateLimit},
    endpoint::Route,
    listener::{Listener, Reply, Shard, Unwelcome, Welcome},
    packet::{Cid, Header, Hello, PacketType},
    session::{Limits, Session},
    signal::is_binary,
};
use crate::{
    net::ReceiveBatch,
    telemetry::packets::{self, Fate},
};

/// What one allocation for received datagrams holds.
const POOL: usize = 16 * 1024;
/// RESETs a second: whoever has lost a connection hears it at its next packet.
const RESETS: u32 = 1000;
/// A DATA packet's type and connection id.
const DATA_PREFIX: usize = 9;

/// Receives for one socket.
pub(super) struct Receiver {
    shared: Rc<Shared>,
    table: Arc<SharedTable>,
    batch: ReceiveBatch,
    pool: BytesMut,
    door: Door,
    limits: Limits,
    /// What the current batch brought, by client.
    signals: Vec<(SocketAddr, Deliver)>,
    /// The same by connection.
    packets: Vec<(Cid, Packets)>,
}

/// What new connections pass through.
struct Door {
    listener: Listener,
    settings: Settings,
    resets: RateLimit,
    reply: Vec<u8>,
}

impl Receiver {
    /// `key` is what cookies and resets are made with; `shard` is the socket's place among those on
    /// its address.
    pub(super) fn new(
        shared: Rc<Shared>,
        table: Arc<SharedTable>,
        settings: Settings,
        limits: Limits,
        key: &[u8; 32],
        shard: Shard,
    ) -> Self {
        let seed = rand::random();
        Self {
            shared,
            table,
            batch: ReceiveBatch::new(),
            pool: BytesMut::with_capacity(POOL),
            limits,
            door: Door {
                listener: Listener::new(key, settings.protection(), shard, seed),
                settings,
                resets: RateLimit::new(RESETS, Instant::now()),
                reply: Vec::new(),
            },
            signals: Vec::new(),
            packets: Vec::new(),
        }
    }

    /// Takes one batch; ready only when the socket fails. The task is woken for the next one.
    pub(super) fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<std::io::Error> {
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

    /// Sorts the batch, opening what is to be opened.
    fn sort(&mut self) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let table = &mut *table;
        for buffer in self.batch.buffers_mut() {
            let arrival = Arrival {
                remote: buffer.source,
                local: buffer.destination,
                ecn: buffer.ecn.map(super::connection::mark),
            };
            let mut rest = buffer.bytes;
            // An empty datagram is one datagram, too.
            loop {
                let length = alike(rest, buffer.stride);
                let (run, later) = std::mem::take(&mut rest).split_at_mut(length);
                rest = later;
                let datagrams = run.len().div_ceil(buffer.stride).max(1);
                self.shared
                    .counters
                    .packets_received
                    .inc_by(datagrams as u64);
                if !is_binary(run) {
                    let signal = Signals {
                        shared: &self.shared,
                        limits: &self.limits,
                        max_sessions: self.door.settings.bounds.sessions,
                        deliveries: &mut self.signals,
                        pool: &mut self.pool,
                    };
                    signal.sort(run, &arrival, table, now);
                } else if let Some(cid) = self.door.pass(run, &arrival, table, &self.shared, now) {
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
                if rest.is_empty() {
                    break;
                }
            }
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

/// The bytes at the beginning of a received buffer that belong together: the packets of one
/// connection, or one datagram of any other kind.
fn alike(bytes: &[u8], stride: usize) -> usize {
    let first = stride.min(bytes.len());
    let data = Header::parse(&bytes[..first]).is_ok_and(|header| header.packet == PacketType::Data);
    let Some(prefix) = bytes.get(..DATA_PREFIX).filter(|_| data) else {
        return first;
    };
    let alike = bytes
        .chunks(stride)
        .take_while(|datagram| datagram.starts_with(prefix));
    alike.map(<[u8]>::len).sum()
}

/// Where signals go.
struct Signals<'a> {
    shared: &'a Rc<Shared>,
    limits: &'a Limits,
    max_sessions: usize,
    deliveries: &'a mut Vec<(SocketAddr, Deliver)>,
    pool: &'a mut BytesMut,
}

impl Signals<'_> {
    fn sort(self, datagram: &[u8], arrival: &Arrival, table: &mut Table, now: Instant) {
        let client = arrival.remote;
        let counters = &self.shared.counters;
        match table.endpoint.route(client, datagram, self.max_sessions) {
            Route::Drop(reason) => {
                tracing::debug!(%client, ?reason, "dropped");
                counters.dropped(reason);
                return;
            }
            Route::Session(_) => {}
            Route::Open(name) => {
                let window = counters.signal_window(&name);
                let session = Session::new(name, *self.limits, now);
                let serial = table.endpoint.next_serial();
                let shared = Rc::clone(self.shared);
                let before = table.endpoint.open();
                let address = RudpSession::start(client, serial, session, window, shared);
                table.endpoint.insert(client, address);
                counters.opened();
                if let Some(shared) = self.shared.table.upgrade() {
                    shared.recount(before, table.endpoint.open());
                }
            }
        }
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

impl Door {
    /// The connection that a packet, or a run of a connection's packets, is for; a new one perhaps.
    /// `None`: it has been answered, or nobody wants it.
    fn pass(
        &mut self,
        run: &[u8],
        arrival: &Arrival,
        table: &mut Table,
        shared: &Rc<Shared>,
        now: Instant,
    ) -> Option<Cid> {
        let Ok(header) = Header::parse(run) else {
            shared.counters.refused("malformed");
            return None;
        };
        match header.packet {
            PacketType::Data if table.connections.get(header.cid).is_some() => Some(header.cid),
            PacketType::Data => {
                shared.counters.refused("no_connection");
                self.reply.clear();
                if self.resets.take(now)
                    && self.listener.reset(header.cid, run.len(), &mut self.reply)
                {
                    self.answer(arrival, "RESET: I know nothing of this connection", shared);
                }
                None
            }
            PacketType::Hello => {
                let version = header.version.unwrap_or_default();
                self.hello(version, run, arrival, table, shared, now)
            }
            PacketType::Reset => table.connections.greeted(arrival.remote, header.cid),
            PacketType::Cookie | PacketType::Versions | PacketType::Accept => {
                shared.counters.refused("malformed");
                None
            }
        }
    }

    fn hello(
        &mut self,
        version: u32,
        datagram: &[u8],
        arrival: &Arrival,
        table: &mut Table,
        shared: &Rc<Shared>,
        now: Instant,
    ) -> Option<Cid> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix = unix.unwrap_or_default().as_secs();
        self.reply.clear();
        let welcome =
            self.listener
                .handle_hello(version, datagram, arrival.remote, unix, &mut self.reply);
        let counters = &shared.counters;
        let hello = match welcome {
            Welcome::Admit(hello) => hello,
            Welcome::Reply(reply) => {
                let (result, meaning) = match reply {
                    Reply::Cookie => ("cookie", "COOKIE: show me that you are where you say"),
                    Reply::Versions => ("versions", "VERSIONS: these are what I speak"),
                };
                counters.handshake(result);
                self.answer(arrival, meaning, shared);
                return None;
            }
            Welcome::Drop(why) => {
                counters.refused(match why {
                    Unwelcome::Malformed => "malformed",
                    Unwelcome::Integrity => "integrity",
                    Unwelcome::ForgedCookie => "forged_cookie",
                });
                return None;
            }
        };
        // It has not seen our ACCEPT.
        if let Some(cid) = table.connections.greeted(arrival.remote, hello.cid) {
            return Some(cid);
        }
        let entered = {
            let table = shared.table.upgrade()?;
            table
                .crowd()
                .enter(arrival.remote.ip(), &self.settings.bounds)
        };
        if let Err(full) = entered {
            tracing::debug!(client = %arrival.remote, ?full, "refused");
            counters.refused(match full {
                Full::Sessions => "sessions_full",
                Full::Address => "address_full",
                Full::Handshakes => "handshakes_full",
            });
            return None;
        }
        counters.handshake("accepted");
        self.admit(*hello, arrival, table, shared, now);
        None
    }

    fn admit(
        &mut self,
        mut hello: Hello<'_>,
        arrival: &Arrival,
        table: &mut Table,
        shared: &Rc<Shared>,
        now: Instant,
    ) {
        if !self.settings.client_choice {
            hello.parameters.congestion = None;
        }
        let credentials = self
            .listener
            .credentials(|cid| table.connections.get(cid).is_some());
        let admission = Admission {
            hello: &hello,
            arrival: *arrival,
            cid: credentials.cid,
            nonce: credentials.nonce,
            reset_token: credentials.reset_token,
        };
        let config = Arc::clone(self.settings.of(arrival.remote.ip()));
        let connection = Connection::accept(config, &admission, credentials.seed, now);
        let address = RudpConnection::start(connection, Rc::clone(shared), now);
        table
            .connections
            .insert(credentials.cid, arrival.remote, hello.cid, address);
    }

    /// Sends the reply: to whoever it may be, so it is not waited for.
    fn answer(&self, arrival: &Arrival, meaning: &'static str, shared: &Shared) {
        let (to, local) = (arrival.remote, arrival.local);
        if packets::watched() {
            let from = SocketAddr::new(local.unwrap_or(shared.local.ip()), shared.local.port());
            packets::sent(
                "rudp",
                "RUDP",
                from,
                to,
                self.reply.len(),
                Fate::Sent,
                meaning,
            );
        }
        match shared.socket.try_send(&self.reply, to, local) {
            Ok(()) => shared.counters.packets_sent(1),
            Err(error) => {
                tracing::debug!(%to, %error, "an answer could not be sent");
                shared.counters.lost_send.inc();
            }
        }
    }
}
