//! The sockets on one of the proxy's addresses, with the sessions and connections of each.

use std::{io, net::SocketAddr, num::NonZeroU16, sync::Arc};

use super::{
    plan::Plan,
    receiver::Receiver,
    shared::Common,
    table::{SharedTable, Table},
    workers::{self, Workers},
};
use crate::{
    link::LinkedSocket,
    net::{Sockets, UdpSocket},
    rudp::{listener, packet::Protection},
    watch::event::packet::{Label, Protocol, Role},
};

/// The first byte of the packets that go to the socket that their connection id tells: DATA.
const STEERED: [u8; 1] = [0x80];

/// The sockets of one address.
#[derive(Clone)]
pub(super) struct Front {
    /// As it is configured; port 0 gets another when it is bound.
    pub(super) configured: SocketAddr,
    pub(super) local: SocketAddr,
    shards: Vec<Shard>,
    /// The threads of the sockets beyond the first.
    pub(super) workers: Arc<Workers>,
    /// The place of its first socket before the link; no other has it.
    pub(super) port: usize,
}

/// One of the sockets.
#[derive(Clone)]
struct Shard {
    socket: Arc<std::net::UdpSocket>,
    table: Arc<SharedTable>,
}

impl Front {
    pub(super) fn bind(
        configured: SocketAddr,
        workers: &Arc<Workers>,
        port: usize,
        sockets: &Sockets,
        common: &Common,
    ) -> io::Result<Self> {
        let count = NonZeroU16::MIN.saturating_add(workers.count());
        let sockets = sockets.udp_group(configured, count, &STEERED)?;
        let first = sockets.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = first.local_addr()?;
        let shards = sockets.into_iter().map(|socket| Shard {
            socket,
            table: Arc::new(SharedTable::new(common)),
        });
        Ok(Self {
            configured,
            local,
            shards: shards.collect(),
            workers: Arc::clone(workers),
            port,
        })
    }

    /// How many sockets.
    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// The tables of the sockets.
    pub(super) fn tables(&self) -> impl Iterator<Item = &SharedTable> {
        self.shards.iter().map(|shard| &*shard.table)
    }

    /// The table of the socket that is received from in the thread of that name.
    pub(super) fn table_of(&self, thread: &str) -> Option<&SharedTable> {
        let mut numbered = self.tables().enumerate();
        numbered.find_map(|(number, table)| (workers::name(number) == thread).then_some(table))
    }

    /// How many sessions and connections are left, whatever their state.
    pub(super) fn left(&self) -> usize {
        let left = |table: &Table| {
            let half_open = table.endpoint.half_open().count();
            table.endpoint.len() + half_open + table.connections.handles().count()
        };
        self.tables().map(|table| left(&table.lock())).sum()
    }

    /// Whether it is the very same, not one that was bound anew.
    pub(super) fn is(&self, other: &Self) -> bool {
        let first = |front: &Self| front.shards.first().map(|shard| Arc::as_ptr(&shard.table));
        first(self) == first(other)
    }

    /// A receiver of the socket `number`, in the current thread.
    pub(super) fn receiver(&self, plan: &Plan, number: usize) -> io::Result<Receiver> {
        let shard = self
            .shards
            .get(number)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = UdpSocket::adopt(&shard.socket)?.unfragmented()?;
        let sealed = *plan.settings.protection() != Protection::Checksum;
        let label = Label::new(Role::Rudp, Protocol::Rudp).sealed(sealed);
        let socket = LinkedSocket::behind(socket, &plan.link, self.port + number);
        let shared = shard.table.shared(
            socket.watched_as(label)?,
            self.local,
            plan.settings.send_memory,
            (number > 0).then(|| Arc::clone(&self.workers)),
        )?;
        let place = listener::Shard {
            // As many as the configuration allows fit.
            index: u8::try_from(number).unwrap_or_default(),
            count: u8::try_from(self.shards.len()).unwrap_or(1),
        };
        let table = Arc::clone(&shard.table);
        Ok(Receiver::new(shared, table, plan, place))
    }
}
