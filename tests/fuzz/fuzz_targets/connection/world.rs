//! Two connections, the datagrams between them, and what must always hold.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm,
        connection::{Admission, CloseReason, Config, Connection, Ecn, Introduction},
        packet::{
            Agreement, Binding, Cid, ErrorCode, Keys, PacketType, Protection, Text,
            encode_data_header,
        },
    },
    simulation::{Datagram, FirstLink, Network, Path, Peer, Server},
};

use super::{
    app::{App, Proven},
    schedule::{Setting, Step},
};

const CLIENT_CID: Cid = Cid(0x11);
/// Datagrams under way in a direction; the oldest is lost when there are more.
const UNDER_WAY: usize = 1000;
/// The time that a datagram takes once the network is whole.
const ROUND: Duration = Duration::from_millis(20);

/// Datagrams under way: they come out as the schedule has it, not by themselves.
struct Wires {
    wires: [VecDeque<Datagram>; 2],
    /// Bytes that the server received from an address, and sent there.
    received: BTreeMap<SocketAddr, u64>,
    sent: BTreeMap<SocketAddr, u64>,
    proven: Proven,
}

impl Wires {
    fn wire(&mut self, way: Way) -> &mut VecDeque<Datagram> {
        &mut self.wires[way as usize]
    }
}

impl Path for Wires {
    fn handle_input(&mut self, datagram: Datagram, _: Instant) {
        if datagram.way == Way::Down {
            let sent = self.sent.entry(datagram.to).or_default();
            *sent += datagram.bytes.len() as u64;
            let received = self.received.get(&datagram.to).copied().unwrap_or(0);
            let bounded = *sent <= 3 * received || self.proven.borrow().contains(&datagram.to);
            assert!(bounded, "{sent} bytes for {received}");
        }
        let wire = self.wire(datagram.way);
        if wire.len() == UNDER_WAY {
            wire.pop_front();
        }
        wire.push_back(datagram);
    }

    fn poll_output(&mut self, _: Instant) -> Option<Datagram> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

type Net = Network<Peer<App>, Server<App>, Wires>;

pub(crate) struct World {
    net: Net,
    attackers: bool,
    /// What the checksums of the server's connection begin with.
    binding: Rc<Cell<Option<Binding>>>,
    /// Nobody but the network has touched a datagram so far.
    honest: Rc<Cell<bool>>,
}

fn address(n: u8) -> SocketAddr {
    // Two hosts, each with two ports.
    ([10, 0, 1, n % 4 / 2], 1000 + u16::from(n % 2)).into()
}

fn server_address() -> SocketAddr {
    ([10, 0, 0, 1], 49152).into()
}

fn way(up: bool) -> Way {
    if up { Way::Up } else { Way::Down }
}

impl World {
    pub(crate) fn new(setting: &Setting) -> Self {
        let start = Instant::now();
        let algorithm = |n: u8| Algorithm::ALL[usize::from(n) % Algorithm::ALL.len()];
        let config = Config {
            congestion: algorithm(setting.algorithms[0]),
            idle_timeout: Duration::from_secs(if setting.idle { 5 } else { 86_400 }),
            keep_alive: setting.keep_alive.then_some(Duration::from_secs(1)),
            stream_window: 1 + u64::from(setting.stream_window),
            connection_window: 1 + u64::from(setting.connection_window),
            max_streams: 1 + u64::from(setting.streams % 70),
            max_datagram: 1200 + setting.max_datagram % 9000,
            protection: Protection::Checksum,
            ..Config::default()
        };
        let config = Arc::new(config);
        let max_streams = config.max_streams;
        let proven = Proven::default();
        let binding = Rc::<Cell<Option<Binding>>>::default();
        let honest = Rc::new(Cell::new(true));
        let serve = {
            let (binding, honest, proven) =
                (Rc::clone(&binding), Rc::clone(&honest), Rc::clone(&proven));
            move |_: &mut Connection, admission: &Admission<'_>, _: Instant| {
                binding.set(Some(Binding::new(&Agreement {
                    client: admission.hello.cid,
                    server: admission.cid,
                    client_nonce: admission.hello.nonce,
                    server_nonce: admission.nonce,
                })));
                proven.borrow_mut().insert(admission.arrival.remote);
                let mut app = App::new(false, max_streams, Rc::clone(&proven));
                app.lied_to = !honest.get();
                app
            }
        };
        let wires = Wires {
            wires: Default::default(),
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            proven: Rc::clone(&proven),
        };
        let server = Server::new(
            server_address(),
            Arc::clone(&config),
            setting.seed,
            start,
            Box::new(serve),
        );
        let mut net = Network::new(server, wires, start);
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion: Some(algorithm(setting.algorithms[1])),
            cid: CLIENT_CID,
            nonce: [1; 16],
        };
        let to = server_address();
        let client = Connection::connect(config, &introduction, to, setting.seed, start);
        let app = App::new(true, max_streams, proven);
        net.clients
            .push(Peer::new(client, app, address(0), Way::Up));
        let mut world = Self {
            net,
            attackers: setting.attackers,
            binding,
            honest,
        };
        world.drain();
        world
    }

    fn client(&self) -> &Peer<App> {
        &self.net.clients[0]
    }

    /// The server's side of the client's connection; before the client knows which that is, any.
    fn server(&self) -> Option<&Peer<App>> {
        server(&self.net)
    }

    /// Runs a schedule, not a longer one than this, and sees what comes of it.
    pub(crate) fn run_all(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps.into_iter().take(400) {
            self.run(step);
        }
        self.settle();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Deliver { up, which } => {
                if let Some(datagram) = self.take(up, which) {
                    self.deliver(datagram);
                }
            }
            Step::DeliverSome { up, count } => {
                for _ in 0..count {
                    let Some(datagram) = self.take(up, 0) else {
                        break;
                    };
                    self.deliver(datagram);
                }
            }
            Step::Drop { up, which } => drop(self.take(up, which)),
            Step::Duplicate { up, which } => {
                if let Some(datagram) = self.take(up, which) {
                    self.net.path.wire(way(up)).push_back(datagram.clone());
                    self.deliver(datagram);
                }
            }
            Step::Mark { up, which } => {
                if let Some(mut datagram) = self.take(up, which) {
                    datagram.ecn = datagram.ecn.and(Some(Ecn::Ce));
                    self.deliver(datagram);
                }
            }
            Step::Damage {
                up,
                which,
                at,
                with,
                reseal,
            } => {
                if let Some(mut datagram) = self.take(up, which) {
                    let at = usize::from(at) % datagram.bytes.len();
                    datagram.bytes[at] ^= with;
                    if reseal && self.attackers && with != 0 && datagram.bytes.len() > 4 {
                        self.lie();
                        datagram.bytes.truncate(datagram.bytes.len() - 4);
                        self.seal(&mut datagram.bytes);
                    }
                    self.deliver(datagram);
                }
            }
            Step::Forge {
                up,
                from,
                ahead,
                frames,
            } => {
                if self.attackers {
                    self.forge(up, from, ahead, &frames);
                }
            }
            Step::Throw {
                up,
                from,
                mut bytes,
                seal,
            } => {
                if self.attackers {
                    self.lie();
                    if seal {
                        self.seal(&mut bytes);
                    }
                    self.throw(up, from, bytes);
                }
            }
            Step::Wait(time) => self.wait(Duration::from_millis(u64::from(time % 5000))),
            Step::Move(n) => self.net.clients[0].seen_as = address(n),
            Step::TooBig { client, size } => {
                let narrow = Some(FirstLink {
                    // What takes less carries no connection (RFC 9000 section 14).
                    largest: size.max(1200),
                    told: true,
                });
                if client {
                    self.net.clients[0].first_link = narrow;
                } else {
                    self.net.server.first_link = narrow;
                }
            }
            Step::Call { client, call } => {
                let now = self.net.now();
                if let Some(peer) = self.peer(client) {
                    peer.application.call(&mut peer.connection, &call, now);
                }
            }
        }
        self.drain();
    }

    /// One of the two, which is asked what to send afterwards.
    fn peer(&mut self, client: bool) -> Option<&mut Peer<App>> {
        let peer = if client {
            &mut self.net.clients[0]
        } else {
            let cid = self.server()?.connection.cid();
            self.net.server.served.get_mut(&cid)?
        };
        peer.touch();
        Some(peer)
    }

    fn lie(&mut self) {
        self.honest.set(false);
        for client in &mut self.net.clients {
            client.application.lied_to = true;
        }
        for served in self.net.server.served.values_mut() {
            served.application.lied_to = true;
        }
    }

    /// An attacker's DATA.
    fn forge(&mut self, up: bool, from: u8, ahead: i8, frames: &[u8]) {
        self.lie();
        let to = if up { self.server() } else { None };
        let cid = to.map_or(CLIENT_CID, |server| server.connection.cid());
        let to = to.unwrap_or_else(|| self.client());
        let expected = to.connection.stats().packets_received;
        let number = expected.saturating_add_signed(ahead.into());
        let mut bytes = Vec::new();
        encode_data_header(cid, number, &mut bytes);
        bytes.extend_from_slice(frames);
        self.seal(&mut bytes);
        self.throw(up, from, bytes);
    }

    /// The checksum that makes it whole, for one who has seen the handshake.
    fn seal(&self, bytes: &mut Vec<u8>) {
        let data = PacketType::of(bytes) == Ok(PacketType::Data);
        let binding = self.binding.get().filter(|_| data).unwrap_or_default();
        Keys::Checksum(binding).seal(bytes, 0, 0);
    }

    fn throw(&mut self, up: bool, from: u8, bytes: Vec<u8>) {
        let (from, to) = if up {
            (address(from), server_address())
        } else {
            (server_address(), self.client().seen_as)
        };
        self.deliver(Datagram {
            way: way(up),
            from,
            to,
            ecn: None,
            bytes,
        });
    }

    fn take(&mut self, up: bool, which: u8) -> Option<Datagram> {
        let wire = self.net.path.wire(way(up));
        let at = usize::from(which) % wire.len().max(1);
        wire.remove(at)
    }

    fn deliver(&mut self, datagram: Datagram) {
        if datagram.way == Way::Up {
            let received = &mut self.net.path.received;
            *received.entry(datagram.from).or_default() += datagram.bytes.len() as u64;
        }
        self.net.deliver(datagram);
        self.drain();
    }

    /// Takes what both sides have to say and to send.
    fn drain(&mut self) {
        self.net.send();
        check(&self.net, self.honest.get());
    }

    fn wait(&mut self, time: Duration) {
        let end = self.net.elapsed() + time;
        self.net.at(end, |_| {});
        let (honest, mut calls) = (self.honest.get(), (self.net.now(), 0));
        self.net.run_until(time, |net| {
            check(net, honest);
            if calls.0 == net.now() {
                calls.1 += 1;
                assert!(calls.1 < 100, "time stands still");
            } else {
                calls = (net.now(), 0);
            }
            net.elapsed() >= end
        });
    }

    /// Where nobody lied and nobody closed, everything arrives now that the network is whole.
    fn settle(&mut self) {
        let all_is_well = |world: &Self| {
            let is_well =
                |peer: &Peer<App>| peer.application.closed.is_none() && peer.connection.is_open();
            world.honest.get() && is_well(world.client()) && world.server().is_some_and(is_well)
        };
        if !all_is_well(self) || self.net.server.config.idle_timeout < Duration::from_secs(60) {
            return;
        }
        let pause = self.pause();
        let mut last = (self.progress(), 0);
        // A window of a byte gets nowhere soon, but it gets on.
        for round in 0..20_000 {
            // Who only receives and says nothing by itself is not found at a new address, nor at the one to
            // which the server goes back when it could not make sure of a newer one.
            if self.net.server.config.keep_alive.is_none()
                && let Some(server) = self.server()
            {
                self.net.clients[0].seen_as = server.connection.remote();
            }
            for up in [true, false] {
                for _ in 0..self.net.path.wire(way(up)).len() {
                    if let Some(datagram) = self.take(up, 0) {
                        self.deliver(datagram);
                    }
                }
            }
            for client in [true, false] {
                if let Some(peer) = self.peer(client) {
                    let Peer {
                        connection,
                        application,
                        ..
                    } = peer;
                    let ids: Vec<_> = application.streams.keys().copied().collect();
                    for id in ids {
                        while application.read(connection, id, usize::MAX) {}
                        application.finish(connection, id);
                    }
                }
            }
            self.drain();
            if self.is_settled() {
                return;
            }
            self.wait(ROUND);
            // A handshake that was never confirmed may end.
            if !all_is_well(self) {
                return;
            }
            let progress = self.progress();
            if progress != last.0 {
                last = (progress, round);
            }
            let state = |peer: &Peer<App>| {
                let streams = format!("{:?}", peer.application.streams);
                (streams, peer.connection.stats())
            };
            assert!(
                ROUND * (round - last.1) < pause + self.patience(),
                "stuck: {:?}",
                self.peers().map(state).collect::<Vec<_>>()
            );
        }
    }

    fn peers(&self) -> impl Iterator<Item = &Peer<App>> {
        std::iter::once(self.client()).chain(self.server())
    }

    /// What is left of a probe timeout that doubled while nothing came through.
    fn pause(&self) -> Duration {
        let peers = self.peers();
        let waits = peers.filter(|peer| peer.connection.stats().in_flight > 0);
        let due = waits.filter_map(|peer| peer.connection.poll_timeout());
        due.max().map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(self.net.now())
        })
    }

    /// So long nothing need happen: a few probe timeouts on what the connections take for the path.
    fn patience(&self) -> Duration {
        let peers = self.peers();
        let probe = peers.map(|peer| {
            let stats = peer.connection.stats();
            stats.rtt + stats.rtt_variation * 4
        });
        Duration::from_secs(30) + probe.max().unwrap_or_default() * 8
    }

    /// What changes as long as there is something to do.
    fn progress(&self) -> Vec<u64> {
        let peers = self.peers();
        peers
            .flat_map(|peer| {
                let read = peer
                    .application
                    .streams
                    .values()
                    .map(|progress| progress.read)
                    .sum();
                [
                    read,
                    peer.connection.held(),
                    peer.connection.stream_count() as u64,
                ]
            })
            .collect()
    }

    fn is_settled(&self) -> bool {
        let (client, Some(server)) = (self.client(), self.server()) else {
            return false;
        };
        let quiet = |peer: &Peer<App>| {
            peer.connection.held() == 0
                && peer.connection.stream_count() == 0
                && peer.connection.stats().in_flight == 0
        };
        let whole = |from: &App, to: &App| {
            from.streams.iter().all(|(id, sent)| {
                let got = to.streams.get(id);
                let given_up = sent.given_up || got.is_some_and(|got| got.given_up);
                given_up || got.is_some_and(|got| got.ended && got.read == sent.written)
            })
        };
        quiet(client)
            && quiet(server)
            && whole(&client.application, &server.application)
            && whole(&server.application, &client.application)
    }
}

fn server(net: &Net) -> Option<&Peer<App>> {
    let served = &net.server.served;
    let chosen = served.get(&net.clients[0].connection.peer_cid());
    chosen.or_else(|| served.values().next())
}

/// What holds whenever both sides have said what they had to say.
fn check(net: &Net, honest: bool) {
    let client = &net.clients[0];
    let chosen = client.connection.peer_cid();
    let mut ended = net.server.ended.iter();
    let lost_server = ended.any(|ended| ended.connection.cid() == chosen);
    for peer in std::iter::once(client).chain(net.server.served.values()) {
        let closed = peer.application.closed.as_ref();
        assert!(
            !honest || !matches!(closed, Some(CloseReason::Violation { .. })),
            "{closed:?} among the honest"
        );
        let told = matches!(
            closed,
            Some(CloseReason::Peer { code, .. }) if code.0 < 0x100 && *code != ErrorCode::NO_ERROR
        );
        assert!(!honest || !told, "{closed:?} among the honest");
        let reset = matches!(closed, Some(CloseReason::Reset));
        assert!(!honest || !reset || lost_server);
    }
}
