//! The proxy's endpoint as an actor: owns the sockets' receive side, gives each session and each
//! connection what a receive brought for it in one message.
//!
//! | file | |
//! |---|---|
//! | `receiver`, `door` | sorts what one socket receives; who gets a new connection |
//! | `session`, `connection` | one client each: of the signals, of the binary transport |
//! | `pump` | from a connection to the kernel; the client's end has the same |
//! | `source`, `origin`, `answer`, `kept_connections` | a file on its way from the HTTP origin |
//! | `shared`, `table` | what those of one socket have in common, and who there is |
//! | `message` | what sessions and connections are asked and told |
//! | `workers`, `running` | the threads of the sockets beyond the first, and the receivers in them |
//! | `front`, `plan` | the sockets of one address, and what their receivers are made with |
//! | `ended` | those that are over |
//! | `gate` | turns at the origin and the scraper |
//! | `settings`, `key` | what the configuration means for them |

mod answer;
mod clock;
mod connection;
mod counters;
mod door;
mod ended;
mod front;
mod gate;
mod kept_connections;
mod key;
mod message;
mod origin;
mod plan;
pub mod pump;
mod receiver;
mod running;
mod session;
mod settings;
mod shared;
mod source;
mod table;
mod workers;

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use actix::{
    AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseFuture, SpawnHandle,
};
use futures_util::future::join_all;

pub use self::{connection::RudpConnection, session::RudpSession};
use self::{
    counters::Counters, front::Front, message::Describe, plan::Plan, running::Running,
    settings::Settings, shared::Common, table::SharedTable, workers::Workers,
};
use super::{endpoint::HalfOpenLimits, session::SessionLimits};
use crate::{
    config::{self, BadLink},
    link::{LinkOptions, Side, SocketLink},
    net::{drive, interface::missing_addresses},
    role::api::{self, CrashSession, DescribeLink, FindRings, ListEndedSessions, ListSessions},
    role::{
        Beats, Crash, Failure, Keep, LeaseEvent, Leases, PrepareError, Resources, Role, role_actor,
    },
};

/// How long the sessions may take to describe themselves.
const DESCRIBE: Duration = Duration::from_secs(3);
/// How often the addresses where it listens no more are looked at, whether anybody is left there.
const DRAINED: Duration = Duration::from_secs(1);
/// Places before the link that the sockets of one address have, at most: see `rudp.shards`.
const PORTS: usize = 64;

/// The proxy's endpoint.
pub struct RudpEndpoint {
    keep: Keep<Kept>,
    kept: Kept,
    /// What receives at each address: at its first socket here, at the others in threads of their own.
    receiving: Vec<(SpawnHandle, Running)>,
    /// Where it listens no more, and what receives there.
    draining: Vec<(Front, SpawnHandle, Running)>,
}

/// What outlives the actor: the sessions go on while it restarts.
#[derive(Clone)]
pub struct Kept {
    config: config::Rudp,
    settings: Settings,
    /// What cookies and resets are made with.
    key: [u8; 32],
    /// Where it listens.
    fronts: Vec<Front>,
    /// Where it listens no more: those who are there finish there.
    draining: Vec<Front>,
    common: Common,
    /// Who holds an address by DHCP.
    leases: Leases,
    /// The network before it, which does nothing unless `[link]` says so.
    link: SocketLink,
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
        let (key, common, link) = match previous {
            Some(previous) => (previous.key, previous.common.clone(), previous.link.clone()),
            None => {
                let key = key::load(&resources.state_dir)
                    .map_err(|error| PrepareError::new("state_dir", error))?;
                let counters = Counters::new(Arc::clone(&resources.metrics));
                let common = Common::new(&config.shares, counters, resources, Instant::now());
                let nothing = LinkOptions::default();
                let link = SocketLink::new(Side::Server, nothing, nothing, 0);
                resources.metrics.link_packets.watch(link.control());
                resources.metrics.link_queue.watch(link.control());
                link.control().watch(Arc::new(common.fates.clone()));
                (key, common, link)
            }
        };
        let mut before: Vec<Front> = previous.map_or_else(Vec::new, |previous| {
            let all = previous.fronts.iter().chain(&previous.draining);
            all.cloned().collect()
        });
        let mut ports: Vec<usize> = before.iter().map(|front| front.port).collect();
        let count = usize::from(config.transport.shards.get());
        let alike = before.iter().find(|front| front.count() == count);
        let workers = match alike {
            Some(front) => Arc::clone(&front.workers),
            None => Workers::new(count - 1)
                .map(Arc::new)
                .map_err(|error| PrepareError::new("rudp.shards", error))?,
        };
        let mut fronts = Vec::new();
        for address in &config.listen {
            let known = before.iter().position(|front| front.configured == *address);
            let front = match known.map(|at| before.swap_remove(at)) {
                Some(front) if front.count() == count => front,
                Some(_) => {
                    let problem = "the sockets of an address are as many as there were when it was \
                                   bound; restart the program, or change `rudp.listen`, too";
                    return Err(PrepareError::new("rudp.shards", problem));
                }
                None => {
                    let free = (0..).map(|n| n * PORTS).find(|port| !ports.contains(port));
                    let port = free.unwrap_or_default();
                    ports.push(port);
                    Front::bind(*address, &workers, port, &resources.sockets, &common).map_err(
                        |error| {
                            PrepareError::new("rudp.listen", format_args!("{address}: {error}"))
                        },
                    )?
                }
            };
            fronts.push(front);
        }
        Ok(Kept {
            config,
            settings,
            key,
            fronts,
            draining: before,
            common,
            leases: resources.leases.clone(),
            link,
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let listens = |front: &Front| format!("udp {}", front.local);
        kept.fronts.iter().map(listens).collect()
    }

    fn missing(kept: &Kept) -> Vec<String> {
        missing_addresses(kept.config.listen.iter().copied())
    }

    fn can_take_over(kept: &Kept) -> bool {
        kept.tables().all(SharedTable::is_free) && kept.common.is_free()
    }

    /// Who lives in the stuck thread does not wait for it to wake.
    fn take_over(kept: &Kept, stuck: &str) -> Kept {
        let mut kept = kept.clone();
        let fronts = kept.fronts.iter().chain(&kept.draining);
        let tables = fronts.filter_map(|front| front.table_of(stuck));
        let abandoned: usize = tables.map(SharedTable::abandon).sum();
        if abandoned > 0 {
            tracing::warn!(
                thread = stuck,
                abandoned,
                "sessions are lost: their clients begin anew"
            );
        }
        if stuck != Self::NAME {
            // A worker has failed. The sessions that live in the workers' threads keep them for as long as they are
            // there.
            let count = kept.fronts.first().map_or(1, Front::count);
            match Workers::new(count - 1) {
                Ok(workers) => {
                    let workers = Arc::new(workers);
                    for front in kept.fronts.iter_mut().chain(&mut kept.draining) {
                        front.workers = Arc::clone(&workers);
                    }
                }
                Err(error) => tracing::error!(%error, "no new threads for the proxy"),
            }
        }
        kept
    }

    /// Sessions and connections end with the tables that they stand in.
    fn unbind(kept: &mut Kept) {
        kept.fronts.clear();
        kept.draining.clear();
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            kept: keep.get(),
            keep,
            receiving: Vec::new(),
            draining: Vec::new(),
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    /// The receivers are made anew by what is kept now; what waits in the sockets waits for them.
    fn change(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let before = std::mem::take(&mut self.receiving).into_iter();
        let draining = std::mem::take(&mut self.draining).into_iter();
        for (receiving, _) in before.chain(draining.map(|(_, handle, running)| (handle, running))) {
            ctx.cancel_future(receiving);
        }
        self.kept = self.keep.get();
        self.listen(ctx)
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.kept.leases.subscribe(ctx.address().recipient());
        ctx.run_interval(DRAINED, |endpoint, ctx| {
            if !endpoint.draining.is_empty() {
                endpoint.drain(ctx);
            }
        });
        self.listen(ctx)
    }
}

/// Receives for an address: for its first socket in this thread.
fn receive(
    front: &Front,
    plan: &Plan,
    ctx: &mut Context<RudpEndpoint>,
    beats: &Beats,
) -> Result<(SpawnHandle, Running), Failure> {
    let local = front.local;
    let mut receiver = front.receiver(plan, 0).map_err(|error| {
        Failure::socket(format_args!("taking over the socket at udp {local}"), error)
    })?;
    let running = Running::start(front, plan, &ctx.address(), beats);
    let receiving = drive(move |_: &mut RudpEndpoint, _, task| {
        let error = std::task::ready!(receiver.poll(task));
        let tried = format_args!("receiving at udp {local}");
        Poll::Ready(Err(Failure::socket(tried, error)))
    });
    Ok((RudpEndpoint::run(ctx, receiving), running))
}

impl RudpEndpoint {
    /// Works by what is kept: settings, and a receiver for each socket.
    fn listen(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let kept = self.kept.clone();
        let BadLink { up, down, seed } = kept.config.link.unwrap_or_default();
        kept.link.configure(up, down, seed);
        for table in kept.tables() {
            table.lock().scraper = kept.config.scraper;
        }
        let shares = &kept.config.shares;
        let mut allowance = kept.common.allowance();
        allowance.trust_loopback = shares.trust_loopback;
        allowance.factor = shares.amplification;
        drop(allowance);
        kept.common.gates.configure(&kept.config.shares);
        kept.common.rings.set_budget(kept.config.watch.memory);
        let plan = kept.plan();
        for front in &kept.fronts {
            let receiving = receive(front, &plan, ctx, self.keep.beats())?;
            self.receiving.push(receiving);
        }
        let plan = plan.draining();
        for front in kept.draining {
            let (receiving, running) = receive(&front, &plan, ctx, self.keep.beats())?;
            self.draining.push((front, receiving, running));
        }
        self.drain(ctx);
        Ok(())
    }

    /// Leaves the addresses where it listens no more and nobody is left.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        let mut left = 0;
        self.draining.retain(|(front, receiving, _)| {
            let here = front.left();
            left += here;
            if here == 0 {
                tracing::info!(address = %front.local, "nobody is left there, and nobody is heard");
                ctx.cancel_future(*receiving);
                let others = |kept: &mut Kept| kept.draining.retain(|other| !other.is(front));
                self.keep.update(others);
                others(&mut self.kept);
            }
            here > 0
        });
        self.kept.common.counters.draining(left);
    }
}

impl Kept {
    /// The tables of all sockets.
    fn tables(&self) -> impl Iterator<Item = &SharedTable> {
        let fronts = self.fronts.iter().chain(&self.draining);
        fronts.flat_map(Front::tables)
    }

    fn plan(&self) -> Plan {
        let sockets: usize = self.fronts.iter().map(Front::count).sum();
        let limits = SessionLimits::from(&self.config);
        Plan {
            settings: self.settings.clone(),
            key: self.key,
            limits,
            half_open: HalfOpenLimits {
                most: self.config.shares.half_open.div_ceil(sockets.max(1)),
                idle_timeout: limits.idle_timeout,
            },
            link: self.link.clone(),
        }
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
        let mut allowance = self.kept.common.allowance();
        match event {
            LeaseEvent::Bound { address, .. } => allowance.leased(address),
            LeaseEvent::Ended { address } => allowance.lease_ended(address),
        }
    }
}

impl Handler<ListSessions> for RudpEndpoint {
    type Result = ResponseFuture<Vec<api::SessionEntry>>;

    fn handle(&mut self, _: ListSessions, _: &mut Self::Context) -> Self::Result {
        let mut asked: Vec<Recipient<Describe>> = Vec::new();
        let mut half_open = Vec::new();
        let limits = SessionLimits::from(&self.kept.config);
        let now = Instant::now();
        for table in self.kept.tables() {
            let table = table.lock();
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
            // A session that ends meanwhile, or has no turn in all that time, is not listed.
            let answers = answers.await.into_iter().flatten();
            let mut listed: Vec<api::SessionEntry> = answers.chain(half_open).collect();
            listed.sort_by_key(|session| session.client);
            listed
        })
    }
}

impl Handler<ListEndedSessions> for RudpEndpoint {
    type Result = Vec<api::EndedSession>;

    fn handle(&mut self, _: ListEndedSessions, _: &mut Self::Context) -> Self::Result {
        self.kept.common.ended.list()
    }
}

impl Handler<FindRings> for RudpEndpoint {
    type Result = MessageResult<FindRings>;

    fn handle(&mut self, _: FindRings, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.kept.common.rings.clone())
    }
}

impl Handler<DescribeLink> for RudpEndpoint {
    type Result = MessageResult<DescribeLink>;

    fn handle(&mut self, _: DescribeLink, _: &mut Self::Context) -> Self::Result {
        MessageResult(api::LinkReport::of(&self.kept.link.control()))
    }
}

impl Handler<CrashSession> for RudpEndpoint {
    type Result = bool;

    /// A client's session of the signals, or else its connection.
    fn handle(&mut self, CrashSession(client): CrashSession, _: &mut Self::Context) -> bool {
        self.kept.tables().any(|table| {
            let table = table.lock();
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
