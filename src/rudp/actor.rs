//! The proxy's endpoint as an actor: owns the sockets' receive side, gives each session and each
//! connection what a receive brought for it in one message.
//!
//! | file | |
//! |---|---|
//! | `receiver`, `door` | sorts what one socket receives; who gets a new connection |
//! | `session`, `connection` | one client each: of the signals, of the binary transport |
//! | `pump` | from a connection to the kernel; the client's end has the same |
//! | `source`, `origin`, `answer` | a file on its way from the HTTP origin |
//! | `shared` | what those of one socket have in common, and who there is |
//! | `workers` | the threads of the sockets beyond the first |
//! | `ended` | those that are over |
//! | `gate` | turns at the origin and the scraper |
//! | `settings`, `key`, `link` | what the configuration means for them |

mod answer;
mod clock;
mod connection;
mod counters;
mod door;
pub mod ecn;
mod ended;
mod gate;
mod key;
mod link;
mod origin;
pub mod pump;
mod receiver;
mod session;
mod settings;
mod shared;
mod source;
mod workers;

use std::{
    io,
    net::SocketAddr,
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use actix::{AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseFuture};
use futures_util::future::join_all;

pub use self::{connection::RudpConnection, link::link_options, session::RudpSession};
use self::{
    counters::Counters,
    ended::EndedSessions,
    receiver::Receiver,
    session::Describe,
    settings::Settings,
    shared::{Busy, Gates, Shared, SharedTable},
    workers::{Running, Workers},
};
use super::{
    allowance::Allowance, connections::Crowd, listener, packet::Protection, session::Limits,
};
use crate::{
    config,
    net::{Side, SocketLink, UdpSocket, drive, interface::missing_addresses, link::LinkOptions},
    role::{Crash, Failure, Keep, LeaseEvent, Leases, PrepareError, Resources, Role, role_actor},
    telemetry::api::{self, CrashSession, DescribeLink, ListEndedSessions, ListSessions},
};

/// How long the sessions may take to describe themselves.
const DESCRIBE: Duration = Duration::from_secs(3);
/// The first byte of the packets that go to the socket that their connection id tells: DATA.
const STEERED: [u8; 1] = [0x80];

/// The proxy's endpoint.
pub struct RudpEndpoint {
    keep: Keep<Kept>,
    kept: Kept,
    /// The receivers of the sockets beyond the first.
    running: Option<Running>,
}

/// What outlives the actor: the sessions go on while it restarts.
#[derive(Clone)]
pub struct Kept {
    config: config::Rudp,
    settings: Settings,
    /// What cookies and resets are made with.
    key: [u8; 32],
    local: SocketAddr,
    shards: Vec<Shard>,
    workers: Arc<Workers>,
    /// Who holds an address by DHCP.
    leases: Leases,
    /// Who is known to be where it says.
    allowance: Arc<Mutex<Allowance>>,
    gates: Gates,
    ended: EndedSessions,
    /// The network before it, which does nothing unless `[link]` says so.
    link: SocketLink,
}

/// One of the sockets on the endpoint's address.
#[derive(Clone)]
struct Shard {
    socket: Arc<std::net::UdpSocket>,
    table: Arc<SharedTable>,
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
        let settings =
            Settings::new(config).map_err(|error| PrepareError::new("rudp.secret", error))?;
        let config = config.clone();
        if let Some(previous) = previous
            && previous.config.listen == config.listen
        {
            if previous.config.transport.shards != config.transport.shards {
                let problem = "the sockets of an address are as many as there were when it was \
                               bound; restart the program, or change `rudp.listen`, too";
                return Err(PrepareError::new("rudp.shards", problem));
            }
            return Ok(Kept {
                config,
                settings,
                ..previous.clone()
            });
        }
        let count = NonZeroU16::from(config.transport.shards);
        let (sockets, local) = resources
            .sockets
            .udp_group(config.listen, count, &STEERED)
            .and_then(|sockets| {
                let first = sockets.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
                let local = first.local_addr()?;
                Ok((sockets, local))
            })
            .map_err(|error| PrepareError::new("rudp.listen", error))?;
        let key = key::load(&resources.state_dir)
            .map_err(|error| PrepareError::new("state_dir", format!("rudp.key: {error}")))?;
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
        let crowd = Arc::new(Mutex::new(Crowd::default()));
        let busy = Busy::default();
        let allowance = Arc::new(Mutex::new(Allowance::new(Instant::now())));
        let ended =
            previous.map_or_else(|| EndedSessions::new(Instant::now()), |p| p.ended.clone());
        let gates = Gates::new(&config.shares, &counters);
        let shards = sockets.into_iter().map(|socket| Shard {
            socket,
            table: Arc::new(SharedTable::new(
                Arc::clone(&counters),
                Arc::clone(&crowd),
                busy.clone(),
                Arc::clone(&allowance),
                gates.clone(),
                ended.clone(),
            )),
        });
        Ok(Kept {
            config,
            settings,
            key,
            local,
            shards: shards.collect(),
            workers: Arc::new(Workers::new(usize::from(count.get()) - 1)),
            leases: resources.leases.clone(),
            allowance,
            gates,
            ended,
            link,
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        vec![format!("udp {}", kept.local)]
    }

    fn missing(kept: &Kept) -> Vec<String> {
        missing_addresses([kept.config.listen])
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            kept: keep.get(),
            keep,
            running: None,
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        link::configure(&self.kept.link, self.kept.config.link.as_ref());
        for shard in &self.kept.shards {
            shard.table.lock().scraper = self.kept.config.scraper;
        }
        self.kept.allowance().trust_loopback = self.kept.config.shares.trust_loopback;
        self.kept.gates.configure(&self.kept.config.shares);
        self.kept.leases.subscribe(ctx.address().recipient());
        let mut receiver = self
            .kept
            .receiver(0)
            .map_err(|error| Failure::socket("taking over the proxy's socket", error))?;
        self.running = Some(self.kept.workers.start(&self.kept, &ctx.address()));
        let local = self.kept.local;
        let receiving = drive(move |_: &mut Self, _, task| {
            let error = std::task::ready!(receiver.poll(task));
            let tried = format_args!("receiving at udp {local}");
            Poll::Ready(Err(Failure::socket(tried, error)))
        });
        Self::run(ctx, receiving);
        Ok(())
    }
}

impl Kept {
    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        // Counts: whole enough whatever a thread died of while it held the lock.
        self.allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver of the socket `number`, in the current thread.
    fn receiver(&self, number: usize) -> io::Result<Receiver> {
        let shard = self
            .shards
            .get(number)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = UdpSocket::adopt(&shard.socket)?.unfragmented()?;
        let shared = Shared::new(
            socket.behind(&self.link, number),
            self.local,
            &shard.table,
            self.settings.send_memory,
            *self.settings.protection() == Protection::Checksum,
        )?;
        let place = listener::Shard {
            // As many as the configuration allows fit.
            index: u8::try_from(number).unwrap_or_default(),
            count: self.config.transport.shards.get(),
        };
        let limits = Limits::from(&self.config);
        let table = Arc::clone(&shard.table);
        Ok(Receiver::new(
            shared,
            table,
            self.settings.clone(),
            limits,
            self.config
                .shares
                .half_open
                .div_ceil(self.shards.len().max(1)),
            &self.key,
            place,
        ))
    }
}

role_actor!(RudpEndpoint);

/// A receiver in another thread has failed; all of them start anew.
#[derive(Message)]
#[rtype(result = "()")]
struct WorkerFailed(Failure);

impl Handler<WorkerFailed> for RudpEndpoint {
    type Result = ();

    fn handle(&mut self, WorkerFailed(failure): WorkerFailed, ctx: &mut Self::Context) {
        self.fail(ctx, failure);
    }
}

impl Handler<LeaseEvent> for RudpEndpoint {
    type Result = ();

    fn handle(&mut self, event: LeaseEvent, _: &mut Self::Context) {
        let mut allowance = self.kept.allowance();
        match event {
            LeaseEvent::Bound { address, .. } => allowance.leased(address),
            LeaseEvent::Ended { address } => allowance.lease_ended(address),
        }
    }
}

impl Handler<ListSessions> for RudpEndpoint {
    type Result = ResponseFuture<Vec<api::Session>>;

    fn handle(&mut self, _: ListSessions, _: &mut Self::Context) -> Self::Result {
        let mut asked: Vec<Recipient<Describe>> = Vec::new();
        let mut half_open = Vec::new();
        let limits = Limits::from(&self.kept.config);
        let now = Instant::now();
        for shard in &self.kept.shards {
            let table = shard.table.lock();
            let described = table.endpoint.half_open().map(|(client, half_open)| {
                session::describe_half_open(*client, half_open, limits, now)
            });
            half_open.extend(described);
            let open = table.endpoint.iter().filter(|(open, _)| *open);
            asked.extend(open.map(|(_, session)| session.clone().recipient()));
            let connections = table.connections.iter();
            asked.extend(connections.map(|(_, connection)| connection.clone().recipient()));
        }
        // All at once: where hundreds send as fast as they can, each answers only when its turn comes.
        let asked = asked
            .into_iter()
            .map(|whom| whom.send(Describe).timeout(DESCRIBE));
        let answers = join_all(asked);
        Box::pin(async move {
            // One that ends meanwhile, or has no turn in all that time, is not listed.
            let answers = answers.await.into_iter().flatten();
            let mut listed: Vec<api::Session> = answers.chain(half_open).collect();
            listed.sort_by_key(api::Session::client);
            listed
        })
    }
}

impl Handler<ListEndedSessions> for RudpEndpoint {
    type Result = Vec<api::EndedSession>;

    fn handle(&mut self, _: ListEndedSessions, _: &mut Self::Context) -> Self::Result {
        self.kept.ended.list()
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

    /// A client's session of the signals, or else its connection.
    fn handle(&mut self, CrashSession(client): CrashSession, _: &mut Self::Context) -> bool {
        self.kept.shards.iter().any(|shard| {
            let table = shard.table.lock();
            if let Some(session) = table.endpoint.get(client) {
                session.do_send(Crash);
                return true;
            }
            let mut connections = table.connections.iter();
            let connection = connections.find(|(at, _)| *at == client);
            connection
                .inspect(|(_, address)| address.do_send(Crash))
                .is_some()
        })
    }
}
