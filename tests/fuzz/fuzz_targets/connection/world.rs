//! Two connections, the datagrams between them, and what must always hold.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::rudp::{
    congestion::Algorithm,
    connection::{Admission, Arrival, CloseReason, Config, Connection, Ecn, Introduction},
    listener::{Listener, Shard, Welcome},
    packet::{
        Agreement, Binding, Cid, ErrorCode, Header, Keys, PacketType, Protection, Text,
        encode_data_header,
    },
};

use crate::{Setting, Step, peer::Peer};

const CLIENT_CID: Cid = Cid(0x11);
/// Datagrams under way in a direction; the oldest is lost when there are more.
const UNDER_WAY: usize = 1000;
/// The time that a datagram takes once the network is whole.
const ROUND: Duration = Duration::from_millis(20);
#[derive(Debug, Clone)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<Ecn>,
    bytes: Vec<u8>,
}

/// The client is up's sender.
const UP: usize = 0;
const DOWN: usize = 1;

pub(crate) struct World {
    now: Instant,
    config: Arc<Config>,
    listener: Listener,
    client: Peer,
    server: Option<Peer>,
    wires: [VecDeque<Datagram>; 2],
    seen_as: SocketAddr,
    attackers: bool,
    /// What the checksums of the server's connection begin with.
    binding: Option<Binding>,
    /// Nobody but the network has touched a datagram so far.
    honest: bool,
    /// The server has lost a connection.
    lost_server: bool,
    /// Bytes that the server received from an address, and sent there.
    received: BTreeMap<SocketAddr, u64>,
    sent: BTreeMap<SocketAddr, u64>,
    proven: BTreeSet<SocketAddr>,
    buffer: Vec<u8>,
}

fn address(n: u8) -> SocketAddr {
    // Two hosts, each with two ports.
    ([10, 0, 1, n % 4 / 2], 1000 + u16::from(n % 2)).into()
}

fn server_address() -> SocketAddr {
    ([10, 0, 0, 1], 49152).into()
}

impl World {
    pub(crate) fn new(setting: &Setting) -> Self {
        let now = Instant::now();
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
        let introduction = Introduction {
            name: Text::new("Tal").expect("plain"),
            congestion: Some(algorithm(setting.algorithms[1])),
            cid: CLIENT_CID,
            nonce: [1; 16],
        };
        let client = Connection::connect(
            Arc::clone(&config),
            &introduction,
            server_address(),
            setting.seed,
            now,
        );
        let mut world = Self {
            now,
            listener: Listener::new(&[7; 32], &config.protection, Shard::ONLY, setting.seed),
            config,
            client: Peer::new(client, true),
            server: None,
            wires: [VecDeque::new(), VecDeque::new()],
            seen_as: address(0),
            attackers: setting.attackers,
            binding: None,
            honest: true,
            lost_server: false,
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            proven: BTreeSet::new(),
            buffer: Vec::new(),
        };
        world.drain();
        world
    }

    pub(crate) fn run(&mut self, step: Step) {
        match step {
            Step::Deliver { up, which } => {
                if let Some(datagram) = self.take(up, which) {
                    self.deliver(up, datagram);
                }
            }
            Step::DeliverSome { up, count } => {
                for _ in 0..count {
                    let Some(datagram) = self.take(up, 0) else {
                        break;
                    };
                    self.deliver(up, datagram);
                }
            }
            Step::Drop { up, which } => drop(self.take(up, which)),
            Step::Duplicate { up, which } => {
                if let Some(datagram) = self.take(up, which) {
                    self.put(up, datagram.clone());
                    self.deliver(up, datagram);
                }
            }
            Step::Mark { up, which } => {
                if let Some(mut datagram) = self.take(up, which) {
                    datagram.ecn = datagram.ecn.and(Some(Ecn::Ce));
                    self.deliver(up, datagram);
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
                    self.deliver(up, datagram);
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
            Step::Move(n) => self.seen_as = address(n),
            Step::TooBig { client, size } => {
                if let Some(peer) = self.peer(client) {
                    peer.first_link = size;
                }
            }
            Step::Call { client, call } => {
                let now = self.now;
                if let Some(peer) = self.peer(client) {
                    peer.call(&call, now);
                }
            }
        }
        self.drain();
    }

    fn peer(&mut self, client: bool) -> Option<&mut Peer> {
        if client {
            Some(&mut self.client)
        } else {
            self.server.as_mut()
        }
    }

    fn lie(&mut self) {
        self.honest = false;
        self.client.lied_to = true;
        if let Some(server) = &mut self.server {
            server.lied_to = true;
        }
    }

    /// An attacker's DATA.
    fn forge(&mut self, up: bool, from: u8, ahead: i8, frames: &[u8]) {
        self.lie();
        let cid = match &self.server {
            Some(server) if up => server.connection.cid(),
            _ => CLIENT_CID,
        };
        let expected = match &self.server {
            Some(server) if up => server.connection.stats().packets_received,
            _ => self.client.connection.stats().packets_received,
        };
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
        let binding = self.binding.filter(|_| data).unwrap_or_default();
        Keys::Checksum(binding).seal(bytes, 0, 0);
    }

    fn throw(&mut self, up: bool, from: u8, bytes: Vec<u8>) {
        let (from, to) = if up {
            (address(from), server_address())
        } else {
            (server_address(), self.seen_as)
        };
        let ecn = None;
        self.deliver(
            up,
            Datagram {
                from,
                to,
                ecn,
                bytes,
            },
        );
    }

    fn take(&mut self, up: bool, which: u8) -> Option<Datagram> {
        let wire = &mut self.wires[if up { UP } else { DOWN }];
        let at = usize::from(which) % wire.len().max(1);
        wire.remove(at)
    }

    fn put(&mut self, up: bool, datagram: Datagram) {
        let wire = &mut self.wires[if up { UP } else { DOWN }];
        if wire.len() == UNDER_WAY {
            wire.pop_front();
        }
        wire.push_back(datagram);
    }

    fn deliver(&mut self, up: bool, datagram: Datagram) {
        if up {
            self.deliver_to_server(datagram);
        } else if datagram.to == self.seen_as {
            let arrival = arrival(&datagram);
            let mut bytes = datagram.bytes;
            let connection = &mut self.client.connection;
            connection.handle_datagram(&arrival, &mut bytes, self.now);
        }
        self.drain();
    }

    fn deliver_to_server(&mut self, mut datagram: Datagram) {
        *self.received.entry(datagram.from).or_default() += datagram.bytes.len() as u64;
        let Ok(header) = Header::parse(&datagram.bytes) else {
            return;
        };
        let arrival = arrival(&datagram);
        match (header.packet, &mut self.server) {
            (PacketType::Hello, server) => {
                self.buffer.clear();
                let welcome = self.listener.handle_hello(
                    header.version.unwrap_or(0),
                    &datagram.bytes,
                    datagram.from,
                    1000,
                    &mut self.buffer,
                );
                match (welcome, server) {
                    (Welcome::Admit(_), Some(server)) => {
                        let mut bytes = datagram.bytes.clone();
                        let connection = &mut server.connection;
                        connection.handle_datagram(&arrival, &mut bytes, self.now);
                    }
                    (Welcome::Admit(hello), none) => {
                        let credentials = self.listener.credentials(|_| false);
                        let admission = Admission {
                            hello: &hello,
                            arrival,
                            cid: credentials.cid,
                            nonce: credentials.nonce,
                            reset_token: credentials.reset_token,
                        };
                        self.binding = Some(Binding::new(&Agreement {
                            client: hello.cid,
                            server: credentials.cid,
                            client_nonce: hello.nonce,
                            server_nonce: credentials.nonce,
                        }));
                        let config = Arc::clone(&self.config);
                        let connection =
                            Connection::accept(config, &admission, credentials.seed, self.now);
                        let mut server = Peer::new(connection, false);
                        server.lied_to = !self.honest;
                        *none = Some(server);
                        self.proven.insert(datagram.from);
                    }
                    (Welcome::Reply(_), _) => self.reply(&datagram),
                    (Welcome::Drop(_), _) => {}
                }
            }
            (PacketType::Data | PacketType::Reset, Some(server))
                if server.connection.cid() == header.cid =>
            {
                let connection = &mut server.connection;
                connection.handle_datagram(&arrival, &mut datagram.bytes, self.now);
            }
            (PacketType::Data, _) => {
                self.buffer.clear();
                let length = datagram.bytes.len();
                if self.listener.reset(header.cid, length, &mut self.buffer) {
                    self.reply(&datagram);
                }
            }
            _ => {}
        }
    }

    /// What is in the buffer, to whom it answers.
    fn reply(&mut self, to: &Datagram) {
        assert!(self.buffer.len() <= to.bytes.len());
        let bytes = self.buffer.clone();
        self.put(
            false,
            Datagram {
                from: to.to,
                to: to.from,
                ecn: None,
                bytes,
            },
        );
    }

    /// Takes what both sides have to say and to send.
    fn drain(&mut self) {
        let mut out = Vec::new();
        let seen_as = self.seen_as;
        self.client.events();
        drain(&mut self.client, self.now, |datagram| {
            out.push((
                true,
                Datagram {
                    from: seen_as,
                    ..datagram
                },
            ));
        });
        if let Some(server) = &mut self.server {
            self.proven.extend(server.events());
            assert!(server.connection.stream_count() as u64 <= self.config.max_streams);
            drain(server, self.now, |datagram| {
                let from = server_address();
                out.push((false, Datagram { from, ..datagram }));
            });
            if server.connection.is_over() {
                self.server = None;
                self.lost_server = true;
            }
        }
        for (up, datagram) in out {
            if !up {
                let sent = self.sent.entry(datagram.to).or_default();
                *sent += datagram.bytes.len() as u64;
                let received = self.received.get(&datagram.to).copied().unwrap_or(0);
                let bounded = *sent <= 3 * received || self.proven.contains(&datagram.to);
                assert!(bounded, "{sent} bytes for {received}");
            }
            self.put(up, datagram);
        }
        for peer in std::iter::once(&self.client).chain(&self.server) {
            let closed = peer.closed.as_ref();
            assert!(
                !self.honest || !matches!(closed, Some(CloseReason::Violation { .. })),
                "{closed:?} among the honest"
            );
            let told = matches!(
                closed,
                Some(CloseReason::Peer { code, .. }) if code.0 < 0x100 && *code != ErrorCode::NO_ERROR
            );
            assert!(!self.honest || !told, "{closed:?} among the honest");
            let reset = matches!(closed, Some(CloseReason::Reset));
            assert!(!self.honest || !reset || self.lost_server);
        }
    }

    /// When a side wants to be called.
    fn due(&self) -> Option<Instant> {
        let server = self.server.as_ref();
        [
            self.client.connection.poll_timeout(),
            server.and_then(|server| server.connection.poll_timeout()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut calls = (self.now, 0);
        while let Some(due) = self.due()
            && due <= end
        {
            self.now = self.now.max(due);
            if calls.0 == self.now {
                calls.1 += 1;
                assert!(calls.1 < 100, "time stands still");
            } else {
                calls = (self.now, 0);
            }
            for client in [true, false] {
                let now = self.now;
                if let Some(peer) = self.peer(client)
                    && peer.connection.poll_timeout().is_some_and(|at| at <= now)
                {
                    peer.connection.handle_timeout(now);
                }
            }
            self.drain();
        }
        self.now = end;
    }

    /// Where nobody lied and nobody closed, everything arrives now that the network is whole.
    pub(crate) fn settle(&mut self) {
        let all_is_well = |world: &Self| {
            let server = world.server.as_ref();
            world.honest
                && world.client.closed.is_none()
                && world.client.connection.is_open()
                && server.is_some_and(|s| s.closed.is_none() && s.connection.is_open())
        };
        if !all_is_well(self) || self.config.idle_timeout < Duration::from_secs(60) {
            return;
        }
        // Who only receives and says nothing by itself is not found at a new address.
        if self.config.keep_alive.is_none()
            && let Some(server) = &self.server
        {
            self.seen_as = server.connection.remote();
        }
        let pause = self.pause();
        let mut last = (self.progress(), 0);
        // A window of a byte gets nowhere soon, but it gets on.
        for round in 0..20_000 {
            for up in [true, false] {
                for _ in 0..self.wires[usize::from(!up)].len() {
                    if let Some(datagram) = self.take(up, 0) {
                        self.deliver(up, datagram);
                    }
                }
            }
            for client in [true, false] {
                if let Some(peer) = self.peer(client) {
                    let ids: Vec<_> = peer.streams.keys().copied().collect();
                    for id in ids {
                        while peer.read(id, usize::MAX) {}
                        peer.finish(id);
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
            let server = self.server.as_ref();
            assert!(
                ROUND * (round - last.1) < pause + self.patience(),
                "stuck: {:?} {:?}, {:?}, {:?}",
                self.client.streams,
                self.client.connection.stats(),
                server.map(|server| &server.streams),
                server.map(|server| server.connection.stats())
            );
        }
    }

    /// What is left of a probe timeout that doubled while nothing came through.
    fn pause(&self) -> Duration {
        let peers = std::iter::once(&self.client).chain(&self.server);
        let waits = peers.filter(|peer| peer.connection.stats().in_flight > 0);
        let due = waits.filter_map(|peer| peer.connection.poll_timeout());
        due.max()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(self.now))
    }

    /// So long nothing need happen: a few probe timeouts on what the connections take for the path.
    fn patience(&self) -> Duration {
        let peers = std::iter::once(&self.client).chain(&self.server);
        let probe = peers.map(|peer| {
            let stats = peer.connection.stats();
            stats.rtt + stats.rtt_variation * 4
        });
        Duration::from_secs(30) + probe.max().unwrap_or_default() * 8
    }

    /// What changes as long as there is something to do.
    fn progress(&self) -> Vec<u64> {
        let peers = std::iter::once(&self.client).chain(&self.server);
        peers
            .flat_map(|peer| {
                let read = peer.streams.values().map(|progress| progress.read).sum();
                [
                    read,
                    peer.connection.held(),
                    peer.connection.stream_count() as u64,
                ]
            })
            .collect()
    }

    fn is_settled(&self) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let quiet = |peer: &Peer| {
            peer.connection.held() == 0
                && peer.connection.stream_count() == 0
                && peer.connection.stats().in_flight == 0
        };
        let whole = |from: &Peer, to: &Peer| {
            from.streams.iter().all(|(id, sent)| {
                let got = to.streams.get(id);
                let given_up = sent.given_up || got.is_some_and(|got| got.given_up);
                given_up || got.is_some_and(|got| got.ended && got.read == sent.written)
            })
        };
        quiet(&self.client)
            && quiet(server)
            && whole(&self.client, server)
            && whole(server, &self.client)
    }
}

fn arrival(datagram: &Datagram) -> Arrival {
    Arrival {
        remote: datagram.from,
        local: Some(datagram.to.ip()),
        ecn: datagram.ecn,
    }
}

fn drain(peer: &mut Peer, now: Instant, mut send: impl FnMut(Datagram)) {
    let Peer {
        connection,
        first_link,
        ..
    } = peer;
    let mut buffer = Vec::new();
    let mut count = 0;
    while let Some(transmit) = connection.poll_transmit(now, &mut buffer, 10) {
        count += 1;
        assert!(count < 10_000, "datagrams without end");
        assert_eq!(transmit.length, buffer.len());
        if transmit.segment > usize::from(*first_link) {
            // Sent again in smaller ones, or lost.
            connection.on_too_big(&transmit, Some(*first_link));
            buffer.clear();
            continue;
        }
        for bytes in buffer.chunks(transmit.segment) {
            send(Datagram {
                from: transmit.remote,
                to: transmit.remote,
                ecn: transmit.ecn,
                bytes: bytes.to_vec(),
            });
        }
        buffer.clear();
    }
}
