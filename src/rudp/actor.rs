//! The proxy's endpoint as an actor: owns the socket's receive side, gives each session what a
//! receive brought for it in one message.

mod counters;
mod link;
mod session;

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{self, Poll},
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture,
    Supervised, dev::SendError,
};
use bytes::BytesMut;

use self::counters::{Counters, WindowSeries};
use self::session::{Deliver, Describe, Shared, Stop};
pub use self::{link::link_options, session::RudpSession};
use super::{
    endpoint::{Endpoint, Route, Serial},
    output::Change,
    session::{Limits, Session},
};
use crate::{
    config,
    net::{ReceiveBatch, Side, SocketLink, UdpSocket, drive, link::LinkOptions},
    role::{Crash, Keep, PrepareError, Resources, Role},
    telemetry::api::{self, CrashSession, DescribeLink, ListSessions},
};

/// How long one session may take to describe itself.
const DESCRIBE: Duration = Duration::from_secs(1);
/// What one allocation for received datagrams holds.
const POOL: usize = 16 * 1024;

/// The proxy's endpoint.
pub struct RudpEndpoint {
    keep: Keep<Kept>,
    kept: Kept,
    batch: ReceiveBatch,
    pool: BytesMut,
    /// What the current batch brought, by client.
    deliveries: Vec<(SocketAddr, Deliver)>,
}

/// What outlives the actor: the sessions go on while it restarts.
#[derive(Clone)]
pub struct Kept {
    config: config::Rudp,
    socket: Arc<std::net::UdpSocket>,
    local: SocketAddr,
    /// The network before it, which does nothing unless `[link]` says so.
    link: SocketLink,
    table: Arc<SharedTable>,
    counters: Arc<Counters>,
}

impl Role for RudpEndpoint {
    const NAME: &'static str = "rudp";
    type Config = config::Rudp;
    type Kept = Kept;

    fn prepare(
        config: &config::Rudp,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        let config = config.clone();
        if let Some(previous) = previous
            && previous.config.listen == config.listen
        {
            let previous = previous.clone();
            return Ok(Kept { config, ..previous });
        }
        let (socket, local) = resources
            .sockets
            .udp(config.listen)
            .and_then(|socket| {
                let local = socket.local_addr()?;
                Ok((socket, local))
            })
            .map_err(|error| PrepareError::new("rudp.listen", error))?;
        let link = previous.map_or_else(
            || {
                let nothing = LinkOptions::default();
                let link = SocketLink::new(Side::Server, nothing, nothing, 0);
                resources.metrics.link_packets.watch(link.control());
                link
            },
            |previous| previous.link.clone(),
        );
        let counters = Arc::new(Counters::new(Arc::clone(&resources.metrics)));
        Ok(Kept {
            config,
            socket,
            local,
            link,
            table: Arc::new(SharedTable::new(Arc::clone(&counters))),
            counters,
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        vec![format!("udp {}", kept.local)]
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            kept: keep.get(),
            keep,
            batch: ReceiveBatch::new(),
            pool: BytesMut::with_capacity(POOL),
            deliveries: Vec::new(),
        }
    }
}

impl RudpEndpoint {
    fn poll_socket(
        &mut self,
        shared: &Rc<Shared>,
        ctx: &mut Context<Self>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        match task::ready!(shared.socket.poll_receive(task, &mut self.batch)) {
            Ok(()) => {
                self.sort(shared);
                self.deliver();
                // The mailbox comes first, then the next batch.
                task.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => {
                tracing::error!(%error, "the socket fails");
                ctx.stop();
                Poll::Ready(())
            }
        }
    }

    /// Sorts the batch by session, opening those that are to be opened.
    fn sort(&mut self, shared: &Rc<Shared>) {
        let counters = &self.kept.counters;
        let mut table = self.kept.table.lock();
        for datagram in self.batch.iter() {
            counters.packets_received.inc();
            let client = datagram.source;
            let max_sessions = self.kept.config.max_sessions;
            match table.endpoint.route(client, datagram.payload, max_sessions) {
                Route::Drop(reason) => {
                    tracing::debug!(%client, ?reason, "dropped");
                    counters.dropped(reason);
                    continue;
                }
                Route::Session(_) => {}
                Route::Open(name) => {
                    let window = WindowSeries::of(&name, counters);
                    let limits = Limits::from(&self.kept.config);
                    let session = Session::new(name, limits, Instant::now());
                    let serial = table.endpoint.next_serial();
                    let shared = Rc::clone(shared);
                    let address = RudpSession::start(client, serial, session, window, shared);
                    table.endpoint.insert(client, address);
                    counters.opened();
                }
            }
            self.pool.extend_from_slice(datagram.payload);
            let bytes = self.pool.split().freeze();
            let local = datagram.destination;
            match self.deliveries.iter_mut().find(|(to, _)| *to == client) {
                Some((_, delivery)) => {
                    delivery.more.push(bytes);
                    delivery.local = local;
                }
                None => {
                    let more = Vec::new();
                    let first = bytes;
                    self.deliveries
                        .push((client, Deliver { first, more, local }));
                }
            }
        }
    }

    /// One message a session. The table holds the one `Addr` of each: every clone would have a
    /// place of its own in the mailbox.
    fn deliver(&mut self) {
        let table = self.kept.table.lock();
        for (client, delivery) in self.deliveries.drain(..) {
            let Some(address) = table.endpoint.get(client) else {
                continue;
            };
            let datagrams = 1 + delivery.more.len() as u64;
            if let Err(SendError::Full(_) | SendError::Closed(_)) = address.try_send(delivery) {
                tracing::debug!(%client, datagrams, "the session is too busy");
                self.kept.counters.lost_mailbox.inc_by(datagrams);
            }
        }
    }
}

impl Actor for RudpEndpoint {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let socket = match UdpSocket::adopt(&self.kept.socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "the socket can't be used");
                ctx.stop();
                return;
            }
        };
        self.kept.table.lock().scraper = self.kept.config.scraper;
        link::configure(&self.kept.link, self.kept.config.link.as_ref());
        let shared = Rc::new(Shared {
            socket: socket.behind(&self.kept.link, 0),
            local: self.kept.local,
            table: Arc::downgrade(&self.kept.table),
            counters: Arc::clone(&self.kept.counters),
            output: RefCell::default(),
            list: RefCell::new(Arc::from("")),
        });
        ctx.spawn(drive(move |endpoint: &mut Self, ctx, task| {
            endpoint.poll_socket(&shared, ctx, task)
        }));
    }
}

impl Supervised for RudpEndpoint {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self::new(self.keep.clone());
    }
}

impl Handler<Crash> for RudpEndpoint {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("fault injection");
    }
}

impl Handler<ListSessions> for RudpEndpoint {
    type Result = ResponseFuture<Vec<api::Session>>;

    fn handle(&mut self, _: ListSessions, _: &mut Self::Context) -> Self::Result {
        let table = self.kept.table.lock();
        let open = table.endpoint.iter().filter(|(open, _)| *open);
        let addresses: Vec<_> = open.map(|(_, address)| address.clone()).collect();
        Box::pin(async move {
            let mut sessions = Vec::with_capacity(addresses.len());
            for address in addresses {
                // One that ends meanwhile is not listed.
                sessions.extend(address.send(Describe).timeout(DESCRIBE).await);
            }
            sessions.sort_by_key(|session| session.client);
            sessions
        })
    }
}

impl Handler<DescribeLink> for RudpEndpoint {
    type Result = MessageResult<DescribeLink>;

    fn handle(&mut self, _: DescribeLink, _: &mut Self::Context) -> Self::Result {
        MessageResult(api::Link::of(&self.kept.link.control()))
    }
}

impl Handler<CrashSession> for RudpEndpoint {
    type Result = bool;

    fn handle(&mut self, CrashSession(client): CrashSession, _: &mut Self::Context) -> bool {
        let table = self.kept.table.lock();
        let session = table.endpoint.get(client);
        session.inspect(|address| address.do_send(Crash)).is_some()
    }
}

/// The sessions, and what they have to know of the newest configuration. When the last holder of
/// the table drops it, the role is gone, and its sessions end.
pub(super) struct SharedTable {
    table: Mutex<Table>,
    counters: Arc<Counters>,
}

pub(super) struct Table {
    endpoint: Endpoint<Addr<RudpSession>>,
    /// Whom to ask for files.
    pub(super) scraper: Option<SocketAddr>,
}

impl SharedTable {
    fn new(counters: Arc<Counters>) -> Self {
        let table = Mutex::new(Table {
            endpoint: Endpoint::default(),
            scraper: None,
        });
        Self { table, counters }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Whole between any two calls, even if a thread died while it held the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a turn in a session's life.
    pub(super) fn turned(&self, client: SocketAddr, serial: Serial, change: Change) {
        let counters = &self.counters;
        match change {
            Change::Ended => {
                counters.ended("end");
                self.lock().endpoint.set_open(client, serial, false);
            }
            Change::Replaced => {
                counters.ended("replaced");
                counters.opened();
            }
            Change::Reopened => {
                counters.opened();
                self.lock().endpoint.set_open(client, serial, true);
            }
        }
    }

    /// Notes that a session is gone; `reason` counts unless it had ended before.
    pub(super) fn gone(&self, client: SocketAddr, serial: Serial, reason: &str) {
        if self.lock().endpoint.remove(client, serial) {
            self.counters.ended(reason);
        }
    }
}

impl Drop for SharedTable {
    fn drop(&mut self) {
        let table = self.lock();
        for (open, address) in table.endpoint.iter() {
            if open {
                self.counters.ended("shutdown");
            }
            address.do_send(Stop);
        }
    }
}
