//! The virtual-time network with what the tests put on top and in between: clients that fetch and send, a
//! server that answers, and a path that can be tapped.

mod app;
pub(crate) mod puppet;
mod wire;

use std::{
    cell::RefCell,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::{
    link::{Link, LinkOptions, Way},
    rudp::{
        congestion::Algorithm,
        connection::{Admission, Config, Connection, Introduction},
        packet::{Cid, ErrorCode, Text, read_number},
    },
    simulation::{Network, Peer, Server},
    watch::{
        event::transport::Observer,
        fates::Fates,
        ring::{About, Rings},
    },
};

pub(crate) use labnet::simulation::{Datagram, FirstLink};

pub(crate) use self::app::{Appetite, Client, Fetching, Served, Wanted};
use self::wire::Wire;

pub(crate) const SERVER: &str = "10.0.0.1:49152";
pub(crate) const CLIENT: &str = "10.0.1.1:1000";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn options(list: &str) -> LinkOptions {
    let mut options = LinkOptions::default();
    options.set_list(list).expect(list);
    options.check().expect(list);
    options
}

pub(crate) type Net = Network<Client, Server<Served>, Wire>;
type Observe = Box<dyn Fn() -> Box<dyn Observer>>;

pub(crate) struct Sim {
    net: Net,
    /// What is remembered of the server's connections, as the service does, and what the link does to
    /// their packets.
    pub(crate) rings: Rings,
    observe: Rc<RefCell<Option<Observe>>>,
    seed: u64,
}

impl Deref for Sim {
    type Target = Net;

    fn deref(&self) -> &Net {
        &self.net
    }
}

impl DerefMut for Sim {
    fn deref_mut(&mut self) -> &mut Net {
        &mut self.net
    }
}

impl Sim {
    pub(crate) fn new(up: &str, down: &str, config: Config, seed: u64) -> Self {
        let start = Instant::now();
        let fates = Fates::new(read_number);
        let mut link = Link::new(options(up), options(down), seed, start);
        link.watch(Arc::new(fates.clone()));
        let rings = Rings::new(64 << 20);
        let observe = Rc::<RefCell<Option<Observe>>>::default();
        let (begun, known, watched) = (rings.clone(), fates, Rc::clone(&observe));
        let serve = move |connection: &mut Connection, admission: &Admission<'_>, now| {
            let about = About {
                connection: connection.cid().0,
                destination: connection.peer_cid().0,
                name: admission
                    .hello
                    .parameters
                    .name
                    .map(|name| name.to_string())
                    .unwrap_or_default(),
                client: connection.remote(),
                congestion: connection.congestion(),
            };
            let recorder = begun.begin(about, Some(known.clone()), now);
            connection.observe(Box::new(recorder), now);
            if let Some(observe) = &*watched.borrow() {
                connection.observe(observe(), now);
            }
            Served::default()
        };
        let config = Arc::new(config);
        let server = Server::new(address(SERVER), config, seed ^ 1, start, Box::new(serve));
        Self {
            net: Network::new(server, Wire::new(link), start),
            rings,
            observe,
            seed,
        }
    }

    /// Has somebody watch each of the server's connections from now on, and the wire keep what arrives.
    pub(crate) fn observe(&mut self, observe: impl Fn() -> Box<dyn Observer> + 'static) {
        *self.observe.borrow_mut() = Some(Box::new(observe));
        self.path.arrived = Some(Default::default());
    }

    /// A client that will download so many bytes on each of so many streams. It grants a window
    /// that no link here needs.
    pub(crate) fn client(&mut self, congestion: Algorithm, sizes: &[u64]) -> usize {
        let config = Config {
            congestion,
            stream_window: 128 << 20,
            connection_window: 128 << 20,
            ..(*self.server.config).clone()
        };
        let wanted = sizes.iter().map(|size| Wanted {
            size: *size,
            ..Wanted::default()
        });
        self.client_with(config, wanted.collect())
    }

    pub(crate) fn client_with(&mut self, config: Config, wanted: Vec<Wanted>) -> usize {
        let n = self.clients.len() as u64;
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion: Some(config.congestion),
            cid: Cid(0x1111_0000 + n + (self.seed << 32)),
            nonce: [n as u8; 16],
        };
        let seed = self.seed.wrapping_mul(31).wrapping_add(n);
        let from = SocketAddr::new(address(CLIENT).ip(), 1000 + n as u16);
        let (to, now) = (address(SERVER), self.now());
        let connection = Connection::connect(Arc::new(config), &introduction, to, seed, now);
        let peer = Peer::new(connection, Fetching::new(wanted), from, Way::Up);
        self.clients.push(Client::new(peer));
        self.clients.len() - 1
    }

    /// A NAT gives a client another address at this time.
    pub(crate) fn rebind_at(&mut self, after: Duration, client: usize, to: SocketAddr) {
        self.at(after, move |net| net.clients[client].peer.seen_as = to);
    }

    /// Runs until every client has what it wants; says how long the longest took, from its request
    /// to its last byte.
    pub(crate) fn download(&mut self, limit: Duration) -> Option<Duration> {
        let done = self.run_until(limit, |net| net.clients.iter().all(Client::is_done));
        done.then(|| {
            self.clients
                .iter()
                .flat_map(|client| &client.peer.application.wanted)
                .filter_map(|wanted| Some(wanted.done_at? - wanted.asked_at?))
                .max()
                .unwrap_or_default()
        })
    }

    /// Runs until nothing is under way any more, then sees that nothing more is sent, closes, and
    /// sees that nothing is left.
    pub(crate) fn finish(&mut self, limit: Duration) {
        let settled = self.run_until(limit, |net| {
            connections(net).all(|connection| {
                connection.held() == 0
                    && connection.stream_count() == 0
                    && connection.stats().in_flight == 0
            })
        });
        let states = || connections(self).map(|c| (c.held(), c.stream_count(), c.stats()));
        assert!(
            settled,
            "something is left: {:#?}",
            states().collect::<Vec<_>>()
        );
        self.run_for(Duration::from_secs(3));
        let before = self.path.packets;
        self.run_for(Duration::from_secs(5));
        if self.server.config.keep_alive.is_none() {
            assert_eq!(self.path.packets, before, "a quiet connection sends");
        }
        let now = self.now();
        for client in &mut self.clients {
            let connection = &mut client.peer.connection;
            connection.close(ErrorCode::NO_ERROR, "done", now);
            client.peer.touch();
        }
        // A CLOSE that gets lost leaves the server waiting.
        let patience = self.server.config.idle_timeout + Duration::from_secs(10);
        let over = self.run_until(patience, |net| connections(net).all(Connection::is_over));
        assert!(over, "a connection does not end");
        self.send();
        assert!(self.server.is_quiet());
        let net = &mut self.net;
        let ended = net.server.ended.iter_mut().map(|s| &mut s.connection);
        let mut buffer = Vec::new();
        for connection in ended.chain(net.clients.iter_mut().map(|c| &mut c.peer.connection)) {
            assert_eq!((connection.held(), connection.stream_count()), (0, 0));
            assert_eq!(
                (connection.poll_timeout(), connection.poll_event()),
                (None, None)
            );
            assert_eq!(connection.poll_transmit(now, &mut buffer, 1), None);
        }
    }
}

fn connections(net: &Net) -> impl Iterator<Item = &Connection> {
    let clients = net.clients.iter().map(|client| &client.peer.connection);
    clients.chain(net.server.served.values().map(|served| &served.connection))
}
