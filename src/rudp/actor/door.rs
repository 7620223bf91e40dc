//! Whose a packet of the binary transport is, and who gets a new connection.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::{
    connection::{RudpConnection, TRANSPORT},
    counters::{Dropped, Step},
    message::Displaced,
    settings::Settings,
    shared::Shared,
    table::{SharedTable, Table},
};
use crate::net::process::since_boot;
use crate::rudp::{
    connection::{Admission, Arrival, Connection},
    connection_table::{Bounds, RateLimit},
    listener::{Listener, Reply, Shard, Unwelcome, Welcome},
    packet::{Cid, ErrorCode, Header, Hello, PacketType},
};

/// How many a second are told that their connection is lost, or refused one.
const REFUSALS: u32 = 1000;

/// What new connections pass through.
pub(super) struct Door {
    listener: Listener,
    settings: Settings,
    refusals: RateLimit,
    reply: Vec<u8>,
}

/// Where connections are.
pub(super) struct Place<'a> {
    pub(super) shared: &'a Rc<Shared>,
    pub(super) all: &'a SharedTable,
    /// Its own, locked.
    pub(super) table: &'a mut Table,
    /// Of a run of packets the size of each but the last.
    pub(super) stride: usize,
}

impl Door {
    /// `key` is what cookies and resets are made with; `shard` is the socket's place among those on
    /// its address.
    pub(super) fn new(settings: Settings, key: &[u8; 32], shard: Shard) -> Self {
        Self {
            listener: Listener::new(key, settings.protection(), shard, rand::random()),
            settings,
            refusals: RateLimit::new(REFUSALS, Instant::now()),
            reply: Vec::new(),
        }
    }

    /// How many sessions and connections there may be.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    /// The connection that a packet, or a run of a connection's packets, is for. `None`: it has been
    /// answered, has made a connection, or nobody wants it.
    pub(super) fn pass(
        &mut self,
        header: &Header,
        run: &[u8],
        arrival: &Arrival,
        place: Place<'_>,
        now: Instant,
    ) -> Option<Cid> {
        let connections = &place.table.connections;
        match header.packet {
            PacketType::Data if connections.get(header.cid).is_some() => Some(header.cid),
            PacketType::Data => {
                let shared = place.shared;
                shared.refuse_run(Dropped::NoConnection, run, place.stride, arrival);
                self.reply.clear();
                if self.refusals.take(now)
                    && self.listener.reset(header.cid, run.len(), &mut self.reply)
                {
                    self.answer(arrival, place.shared);
                }
                None
            }
            PacketType::Hello => {
                self.hello(header.version.unwrap_or_default(), run, arrival, place, now)
            }
            PacketType::Reset => connections.greeted(arrival.remote, header.cid),
            PacketType::Cookie | PacketType::Versions | PacketType::Accept => {
                place.shared.refuse(Dropped::Malformed, run, arrival);
                None
            }
        }
    }

    fn hello(
        &mut self,
        version: u32,
        datagram: &[u8],
        arrival: &Arrival,
        place: Place<'_>,
        now: Instant,
    ) -> Option<Cid> {
        // Without such a clock all cookies are of one epoch, and good for ever.
        let seconds = since_boot().unwrap_or_default().as_secs();
        self.reply.clear();
        let welcome =
            self.listener
                .handle_hello(version, datagram, arrival.remote, seconds, &mut self.reply);
        let counters = &place.shared.counters;
        let hello = match welcome {
            Welcome::Admit(hello) => hello,
            Welcome::Reply(reply) => {
                let step = match reply {
                    Reply::Cookie => Step::Cookie,
                    Reply::Versions => Step::Versions,
                };
                counters.handshake(step).inc();
                self.answer(arrival, place.shared);
                return None;
            }
            Welcome::Drop(why) => {
                let reason = match why {
                    Unwelcome::Malformed => Dropped::Malformed,
                    Unwelcome::Integrity => Dropped::Integrity,
                    Unwelcome::ForgedCookie => Dropped::ForgedCookie,
                };
                place.shared.refuse(reason, datagram, arrival);
                return None;
            }
        };
        // A connection that is there already: its client has not seen our ACCEPT.
        let known = place.table.connections.greeted(arrival.remote, hello.cid);
        if known.is_some() {
            return known;
        }
        let bounds = &self.settings.bounds;
        let room = (place.all.crowd()).has_room_for_handshake(arrival.remote.ip(), bounds);
        let peer = hello.cid;
        if let Err(full) = room {
            tracing::debug!(client = %arrival.remote, ?full, "refused");
            place.shared.refuse(full.into(), datagram, arrival);
            if self.refusals.take(now) {
                let connection = self.accept(*hello, arrival, place.table, now);
                let name = connection.peer().name;
                let name = name.as_deref().unwrap_or("");
                (place.shared.ended).refused(TRANSPORT, arrival.remote, name, full.words());
                self.refuse(connection, full.words(), arrival, place.shared, now);
            }
            return None;
        }
        counters.handshake(Step::Accepted).inc();
        let mut connection = self.accept(*hello, arrival, place.table, now);
        place.shared.attend(&mut connection, hello.cid, now);
        let cid = connection.cid();
        let address = RudpConnection::start(connection, Rc::clone(place.shared), now);
        let displaced = {
            let mut crowd = place.all.crowd();
            let bounds = &self.settings.bounds;
            let displaced = crowd.begin(
                cid,
                arrival.remote.ip(),
                address.clone().recipient(),
                bounds,
            );
            counters.handshakes_under_way(crowd.handshakes());
            displaced
        };
        if let Some(displaced) = displaced {
            counters.handshake(Step::Displaced).inc();
            displaced.do_send(Displaced);
        }
        let connections = &mut place.table.connections;
        connections.insert(cid, arrival.remote, peer, address);
        None
    }

    fn accept(
        &mut self,
        mut hello: Hello<'_>,
        arrival: &Arrival,
        table: &Table,
        now: Instant,
    ) -> Connection {
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
        Connection::accept(config, &admission, credentials.seed, now)
    }

    /// Accepts and closes at once: who has proven its address shall know why there is no more. Kept
    /// is nothing.
    fn refuse(
        &mut self,
        mut connection: Connection,
        reason: &'static str,
        arrival: &Arrival,
        shared: &Shared,
        now: Instant,
    ) {
        let mut send = |connection: &mut Connection| {
            self.reply.clear();
            if connection.poll_transmit(now, &mut self.reply, 1).is_some() {
                self.answer(arrival, shared);
            }
        };
        send(&mut connection);
        connection.close(ErrorCode::CONNECTION_REFUSED, reason, now);
        send(&mut connection);
    }

    /// Sends the reply: to whoever it may be, so it is not waited for.
    fn answer(&self, arrival: &Arrival, shared: &Shared) {
        let (to, local) = (arrival.remote, arrival.local);
        match shared.socket.try_send(&self.reply, to, local) {
            Ok(()) => shared.counters.packets_sent(1),
            Err(error) => {
                tracing::debug!(%to, %error, "an answer could not be sent");
                shared.counters.lost_send.inc();
            }
        }
    }
}
