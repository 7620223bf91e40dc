use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Far, Network, QuicConfig, QuicStats, Server,
    addresses::{QUIC_SERVER, SERVER, client_of, flow_of},
    arrival::{Closed, HearPiece},
    ends::{Client, End, Senders},
    quic::{QuicHost, QuicUpload},
    transfer::{Arriving, Upload},
};
use crate::{
    link::{Counters, Link, LinkOptions, Way},
    rudp::{
        congestion::{Algorithm, Controllers},
        connection::{Admission, Config, Connection, Stats},
        packet::Cid,
    },
    watch::event::{link, transport},
};

/// Senders behind one bad link, each of which sends to a client of its own: the link's queue, rate and
/// wire are shared by all, and by their acknowledgements on the way back.
///
/// ```
/// use std::time::{Duration, Instant};
/// use labnet::{
///     link::LinkOptions,
///     rudp::congestion::Algorithm,
///     simulation::{Simulation, Flow, Observers},
/// };
///
/// let mut link = LinkOptions::default();
/// link.set_list("rate=10mbit,delay=25ms,queue=62kB").expect("options of a link");
/// let mut simulation = Simulation::new(link, link);
/// simulation.time = Duration::from_secs(5);
/// simulation.flows = Algorithm::ALL.map(Flow::new).to_vec();
/// let outcome = simulation.run(Instant::now(), Observers::default()).expect("a link that takes time");
/// let received: u64 = outcome.flows.iter().map(|flow| flow.received).sum();
/// // 5 s at 10 Mbit/s are 6.25 MB, headers and the beginning included.
/// assert!((5_000_000..6_250_000).contains(&received), "{received}");
/// ```
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The senders, each by its place in here from 0.
    pub flows: Vec<Flow>,
    /// From the clients to the senders: requests and acknowledgements.
    pub up: LinkOptions,
    /// From the senders to the clients.
    pub down: LinkOptions,
    /// When the link becomes another one, in any order.
    pub changes: Vec<LinkChange>,
    /// The end; before that, when every flow is done.
    pub time: Duration,
    /// How far apart the values of [`SimulatedFlow::delivered`] are, which take memory: not zero. A run has
    /// 100,000 of a flow at the most, those of a longer one lie further apart.
    pub sample_every: Duration,
    /// In how many files of one size a flow's bytes come, each on a stream of its own; not zero.
    pub files: u64,
    /// For all that is left to chance: the link's dice, the connections' ids and random numbers.
    pub seed: u64,
    /// How the clients' side of connections behaves. Theirs is the flow control.
    pub client: Config,
    /// How the senders' side behaves, the controller apart.
    pub server: Config,
    /// What controls a flow's sending instead of the flow's algorithm, by the flow's place. The run ends
    /// when nothing but failed ones is left.
    pub controllers: BTreeMap<usize, Arc<dyn Controllers>>,
    /// The flows, by their places, that QUIC carries, and how: their algorithm says nothing.
    pub quic: BTreeMap<usize, QuicConfig>,
}

/// A transfer from the server to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// What controls its sending.
    pub congestion: Algorithm,
    /// When its client says HELLO.
    pub starts: Duration,
    /// How much is wanted; `None`: without end.
    pub size: Option<u64>,
    /// How far the client is from the link, each way.
    pub away: Duration,
}

impl Flow {
    /// One from the start on, without end.
    pub fn new(congestion: Algorithm) -> Self {
        Self {
            congestion,
            starts: Duration::ZERO,
            size: None,
            away: Duration::ZERO,
        }
    }
}

/// The link is another one from some time on: see [`Link::set_options`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkChange {
    /// From then on.
    pub at: Duration,
    /// From the clients to the senders.
    pub up: LinkOptions,
    /// From the senders to the clients.
    pub down: LinkOptions,
}

/// Why a simulation cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// Nothing would keep senders from sending for ever at one moment.
    #[error("a link without rate and delay takes no time: virtual time would stand still")]
    Timeless,
    /// See [`Simulation::sample_every`].
    #[error("samples have to be some time apart")]
    NoInterval,
}

/// Gives who is to watch a sender's connection.
pub type Watch = Box<dyn FnMut(&Sender) -> Vec<Box<dyn transport::Observer>> + Send>;

/// Who watches a run.
#[derive(Default)]
pub struct Observers {
    /// Hears the link's verdict on each packet. [`Verdict::peer`](link::Verdict::peer) is the flow's
    /// client: [`Simulation::flow_of`].
    pub link: Option<Arc<dyn link::Observer>>,
    /// Is asked when a flow's sender gets to know its client. QUIC is not watched so, but by its controller.
    pub senders: Option<Watch>,
    /// Hears of each piece of a file that a client reads.
    pub pieces: Option<HearPiece>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A flow's sender, when its connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Which one.
    pub flow: usize,
    /// What controls it, by its name.
    pub congestion: &'static str,
    /// Its own connection id.
    pub connection: Cid,
    /// The client's: with it begin the packets that the sender sends, and with it and their numbers the
    /// link's verdicts on them are found ([`Fates::of`](crate::watch::fates::Fates::of)).
    pub destination: Cid,
    /// The client.
    pub client: SocketAddr,
    /// Now.
    pub now: Instant,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// How long it was, in virtual time.
    pub elapsed: Duration,
    /// Whether it ended before its time because it took more events than a machine has patience for: 50
    /// million between two samples, or 50,000 at one moment.
    pub cut_short: bool,
    /// In the order of [`Simulation::flows`].
    pub flows: Vec<SimulatedFlow>,
    /// What the link did from the clients to the senders.
    pub up: Counters,
    /// And from the senders to the clients.
    pub down: Counters,
}

/// What a flow came to. All times are since the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedFlow {
    /// When its client was connected, which is a round trip or two after it started.
    pub connected_at: Option<Duration>,
    /// When the client read the first byte.
    pub first_byte_at: Option<Duration>,
    /// When the client had read all.
    pub completed_at: Option<Duration>,
    /// Bytes of the stream that the client has read.
    pub received: u64,
    /// The same over time, from the start of the run to its end.
    pub delivered: Vec<Delivered>,
    /// What the sender counted; `None`: it never heard of its client, or is QUIC's.
    pub sender: Option<Stats>,
    /// What a QUIC sender counted; `None`: it never heard of its client, or is none.
    pub quic: Option<QuicStats>,
    /// What the client counted; nothing of QUIC's.
    pub client: Stats,
    /// Why the connection ended before the run did, on the client's side.
    pub closed: Option<Closed>,
}

/// How much a client had read at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Since the start of the run.
    pub at: Duration,
    /// Bytes of the stream, from its beginning.
    pub bytes: u64,
}

/// The most values of a flow.
const MOST_SAMPLES: u32 = 100_000;
/// A client's flow control is not to be what limits a flow: more than any queue and wire hold.
const WINDOW: u64 = 128 << 20;
/// The most events between two samples.
const PATIENCE: u64 = 50_000_000;
/// The most events at one moment: fewer than those at which a network says that its time stands still.
const AT_ONCE: u64 = 50_000;

impl Simulation {
    /// One minute of this link without flows, a value each 100 ms, seed 0, connections as the product
    /// has them, but for the flow control: it limits no flow.
    pub fn new(up: LinkOptions, down: LinkOptions) -> Self {
        Self {
            flows: Vec::new(),
            up,
            down,
            changes: Vec::new(),
            time: Duration::from_secs(60),
            sample_every: Duration::from_millis(100),
            files: 1,
            seed: 0,
            client: Config {
                keep_alive: Some(Duration::from_secs(2)),
                stream_window: WINDOW,
                connection_window: WINDOW,
                ..Config::default()
            },
            server: Config::default(),
            controllers: BTreeMap::new(),
            quic: BTreeMap::new(),
        }
    }

    /// The address of a flow's client.
    pub fn client_of(flow: usize) -> SocketAddr {
        client_of(flow)
    }

    /// The flow whose client is at this address.
    pub fn flow_of(client: SocketAddr) -> Option<usize> {
        flow_of(client)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), SimulationError> {
        let changes = self.changes.iter().map(|change| (change.up, change.down));
        let takes_time =
            |link: &LinkOptions| link.rate.is_some() || link.delay + link.jitter > Duration::ZERO;
        for (up, down) in changes.chain([(self.up, self.down)]) {
            if !takes_time(&up) && !takes_time(&down) {
                return Err(SimulationError::Timeless);
            }
        }
        if self.sample_every.is_zero() {
            return Err(SimulationError::NoInterval);
        }
        Ok(())
    }

    /// Runs it, from `start` on: an observer's times count from there, the outcome does not depend on it.
    ///
    /// # Errors
    /// See [`check`](Self::check).
    pub fn run(&self, start: Instant, observers: Observers) -> Result<Simulated, SimulationError> {
        self.check()?;
        let mut network = self.network(start, observers);
        let every = self.sample_every.max(self.time / MOST_SAMPLES);
        let mut delivered = vec![Vec::new(); self.flows.len()];
        let mut cut_short = false;
        loop {
            let at = network.elapsed();
            sample(&network, &mut delivered);
            let over = |network: &Network<Client, Senders>| {
                let all = network.clients.len() == self.flows.len();
                let mut clients = network.clients.iter();
                all && clients.all(|client| client.is_over() || self.has_failed(client.flow))
            };
            if at >= self.time || over(&network) || cut_short {
                break;
            }
            let mut events = 0_u64;
            let (mut moment, mut at_once) = (network.now(), 0_u64);
            let until = (at + every).min(self.time);
            network.at(until, |_| {});
            network.run_until(until - at, |network| {
                events += 1;
                at_once = if network.now() == moment {
                    at_once + 1
                } else {
                    0
                };
                moment = network.now();
                cut_short = events > PATIENCE || at_once > AT_ONCE;
                cut_short || network.elapsed() >= until || over(network)
            });
        }
        Ok(self.outcome(&network, delivered, cut_short))
    }

    fn has_failed(&self, flow: usize) -> bool {
        let controllers = self.controllers.get(&flow);
        controllers.is_some_and(|controllers| controllers.has_failed())
    }

    fn network(&self, start: Instant, observers: Observers) -> Network<Client, Senders> {
        let Observers {
            link: heard,
            mut senders,
            pieces,
        } = observers;
        let mut link = Link::new(self.up, self.down, self.seed, start);
        if let Some(heard) = heard {
            link.watch(heard);
        }
        let controllers = self.controllers.clone();
        let serve = move |connection: &mut Connection, _: &Admission<'_>, now: Instant| {
            let client = connection.remote();
            let flow = Self::flow_of(client);
            if let Some(given) = flow.and_then(|flow| controllers.get(&flow)) {
                connection.control(Arc::clone(given), now);
            }
            if let (Some(senders), Some(flow)) = (&mut senders, flow) {
                let sender = Sender {
                    flow,
                    congestion: connection.congestion(),
                    connection: connection.cid(),
                    destination: connection.peer_cid(),
                    client,
                    now,
                };
                for observer in senders(&sender) {
                    connection.observe(observer, now);
                }
            }
            Upload::new()
        };
        let config = Arc::new(self.server.clone());
        let server = Server::new(SERVER, config, self.seed ^ 1, start, Box::new(serve));
        let configs = self.quic.clone();
        let accept = move |client| {
            let config = configs.get(&Self::flow_of(client)?)?;
            Some((Arc::clone(&config.server), QuicUpload::new()))
        };
        let any = self.quic.values().next();
        let senders = Senders {
            rudp: server,
            quic: QuicHost::server(
                QUIC_SERVER,
                any.map(|config| Arc::clone(&config.server)),
                self.seed ^ 2,
                Box::new(accept),
            ),
        };
        let mut network = Network::new(senders, link, start);
        for change in &self.changes {
            let LinkChange { at, up, down } = *change;
            network.at(at, move |network| {
                let now = network.now();
                network.path.set_options(Way::Up, up, now);
                network.path.set_options(Way::Down, down, now);
            });
        }
        for (number, flow) in self.flows.iter().enumerate() {
            let flow = *flow;
            let quic = self.quic.get(&number).cloned();
            let config = Arc::new(Config {
                congestion: flow.congestion,
                ..self.client.clone()
            });
            let seed = self.seed;
            let files = Arriving::new(number, flow.size, self.files, pieces.clone());
            network.at(flow.starts, move |network| {
                let now = network.now();
                let end = match quic {
                    Some(quic) => End::quic(number, files, &quic, seed, now),
                    None => End::rudp(number, files, config, seed, now),
                };
                let end = Far::new(end, flow.away);
                network.clients.push(Client { flow: number, end });
            });
        }
        network
    }

    fn outcome(
        &self,
        network: &Network<Client, Senders>,
        delivered: Vec<Vec<Delivered>>,
        cut_short: bool,
    ) -> Simulated {
        let since = |at: Instant| at.saturating_duration_since(network.start());
        let flows = delivered.into_iter().enumerate().map(|(flow, delivered)| {
            let of_flow = |client: &&Client| client.flow == flow;
            let client = network.clients.iter().find(of_flow);
            let mut senders = network.server.rudp.all();
            let sender =
                senders.find(|sender| Self::flow_of(sender.connection.remote()) == Some(flow));
            let mut quic = network.server.quic.counted();
            let quic = quic.find(|(client, _)| Self::flow_of(*client) == Some(flow));
            let progress = client.map(|client| client.end.host.progress());
            let progress = progress.unwrap_or_default();
            SimulatedFlow {
                connected_at: progress.connected_at.map(since),
                first_byte_at: progress.first_byte_at.map(since),
                completed_at: progress.completed_at.map(since),
                received: progress.received,
                delivered,
                sender: sender.map(|sender| sender.connection.stats()),
                quic: quic.map(|(_, stats)| (&stats).into()),
                client: match client.map(|client| &client.end.host) {
                    Some(End::Rudp(peer)) => peer.connection.stats(),
                    _ => Stats::default(),
                },
                closed: progress.closed,
            }
        });
        Simulated {
            elapsed: network.elapsed(),
            cut_short,
            flows: flows.collect(),
            up: network.path.direction(Way::Up).counters(),
            down: network.path.direction(Way::Down).counters(),
        }
    }
}

fn sample(network: &Network<Client, Senders>, delivered: &mut [Vec<Delivered>]) {
    let at = network.elapsed();
    let mut received = vec![0; delivered.len()];
    for client in &network.clients {
        received[client.flow] = client.end.host.received();
    }
    for (values, bytes) in delivered.iter_mut().zip(received) {
        values.push(Delivered { at, bytes });
    }
}
