//! The sessions and connections of one socket.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use actix::Addr;

use super::{
    connection::RudpConnection,
    counters::{Counters, Step},
    message::Stop,
    session::RudpSession,
    shared::{Common, Handshakes, Registry, Shared, is_free},
    workers::Workers,
};
use crate::link::LinkedSocket;
use crate::rudp::{
    connection_table::ConnectionTable,
    endpoint::{Endpoint, HalfOpenLimits, Serial},
    output::Change,
    packet::Cid,
};

/// The sessions and connections of one socket, and what they have to know of the newest
/// configuration. When the last holder of the table drops it, the role is gone, and they end.
pub(super) struct SharedTable {
    table: Mutex<Table>,
    common: Common,
    pub(super) counters: Arc<Counters>,
}

pub(super) struct Table {
    pub(super) endpoint: Endpoint<Addr<RudpSession>>,
    pub(super) connections: ConnectionTable<Addr<RudpConnection>>,
    /// Whom to ask for files.
    pub(super) scraper: Option<SocketAddr>,
}

impl Table {
    /// Forgets the half-open sessions whose time has come.
    pub(super) fn expire(&mut self, limits: &HalfOpenLimits, counters: &Counters, now: Instant) {
        let expired = self.endpoint.expire(limits, now);
        if expired > 0 {
            counters.half_open(-(expired as i64));
            counters.many_ended("idle", expired);
        }
    }
}

impl SharedTable {
    pub(super) fn new(common: &Common) -> Self {
        let table = Mutex::new(Table {
            endpoint: Endpoint::default(),
            connections: ConnectionTable::default(),
            scraper: None,
        });
        Self {
            table,
            common: common.clone(),
            counters: Arc::clone(&common.counters),
        }
    }

    /// Whether no thread is in the middle of changing it.
    pub(super) fn is_free(&self) -> bool {
        is_free(&self.table)
    }

    /// Never lock it while [`crowd`](Self::crowd) is locked.
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Whole between any two calls, even if a thread died while it held the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn crowd(&self) -> MutexGuard<'_, Handshakes> {
        self.common
            .crowd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sessions and connections at `socket` have in common; they live in one of `threads`, if these
    /// are not the endpoint's own.
    pub(super) fn shared(
        self: &Arc<Self>,
        socket: LinkedSocket,
        local: SocketAddr,
        send_memory: u64,
        threads: Option<Arc<Workers>>,
    ) -> io::Result<Rc<Shared>> {
        let registry: Weak<Self> = Arc::downgrade(self);
        Shared::new(socket, local, registry, &self.common, send_memory, threads)
    }

    /// Gives up all that live in a thread that does nothing, how many they are: they end when it
    /// wakes. Their clients hear of it as soon as they send something, and begin anew.
    pub(super) fn abandon(&self) -> usize {
        let mut table = self.lock();
        let sessions = table.endpoint.abandon(Instant::now());
        let connections = table.connections.abandon();
        drop(table);
        let mut abandoned = sessions.len();
        let mut crowd = self.crowd();
        for (client, open, address) in sessions {
            if open {
                crowd.leave_signals(client.ip());
                self.counters.ended("crash");
            }
            address.do_send(Stop::Abandoned);
        }
        for (cid, from, confirmed, address) in connections {
            abandoned += 1;
            crowd.end(cid, from, confirmed);
            if confirmed {
                self.counters.ended("crash");
            } else {
                self.counters.handshake(Step::Expired).inc();
            }
            address.do_send(Stop::Abandoned);
        }
        self.counters.handshakes_under_way(crowd.handshakes());
        abandoned
    }

    fn set_open(&self, client: SocketAddr, serial: Serial, open: bool) {
        let mut table = self.lock();
        if table.endpoint.set_open(client, serial, open) {
            let mut crowd = self.crowd();
            if open {
                crowd.enter_signals(client.ip());
            } else {
                crowd.leave_signals(client.ip());
            }
        }
    }
}

impl Registry for SharedTable {
    fn scraper(&self) -> Option<SocketAddr> {
        self.lock().scraper
    }

    fn turned(&self, client: SocketAddr, serial: Serial, change: Change) {
        if !self.lock().endpoint.holds(client, serial) {
            // Abandoned: its end is counted.
            return;
        }
        let counters = &self.counters;
        match change {
            Change::Ended => {
                counters.ended("end");
                self.set_open(client, serial, false);
            }
            Change::Replaced => {
                counters.ended("replaced");
                counters.opened();
            }
            Change::Reopened => {
                counters.opened();
                self.set_open(client, serial, true);
            }
        }
    }

    fn gone(&self, client: SocketAddr, serial: Serial, reason: &str) {
        let mut table = self.lock();
        if table.endpoint.remove(client, serial) {
            self.counters.ended(reason);
            self.crowd().leave_signals(client.ip());
        }
    }

    fn confirmed(&self, cid: Cid) {
        if self.lock().connections.confirm(cid) {
            let mut crowd = self.crowd();
            crowd.confirm(cid);
            self.counters.handshakes_under_way(crowd.handshakes());
            drop(crowd);
            self.counters.opened();
            self.counters.handshake(Step::Confirmed).inc();
        }
    }

    fn closed(&self, cid: Cid, reason: &str) {
        let removed = self.lock().connections.remove(cid);
        if let Some((address, confirmed)) = removed {
            let mut crowd = self.crowd();
            crowd.end(cid, address, confirmed);
            self.counters.handshakes_under_way(crowd.handshakes());
            drop(crowd);
            if confirmed {
                self.counters.ended(reason);
            } else {
                self.counters.handshake(Step::Expired).inc();
            }
        }
    }

    fn moved(&self, cid: Cid, to: SocketAddr) {
        self.lock().connections.moved(cid, to);
    }
}

impl Drop for SharedTable {
    fn drop(&mut self) {
        let table = self.lock();
        let half_open = table.endpoint.half_open().count();
        self.counters.half_open(-(half_open as i64));
        self.counters.many_ended("shutdown", half_open);
        let mut crowd = self.crowd();
        for client in table.endpoint.open_clients() {
            crowd.leave_signals(client.ip());
        }
        for (cid, address, confirmed) in table.connections.counted() {
            crowd.end(cid, address, confirmed);
        }
        drop(crowd);
        for (open, address) in table.endpoint.iter() {
            if open {
                self.counters.ended("shutdown");
            }
            address.do_send(Stop::Shutdown);
        }
        for (_, _) in table.connections.iter() {
            self.counters.ended("shutdown");
        }
        for address in table.connections.handles() {
            address.do_send(Stop::Shutdown);
        }
    }
}
