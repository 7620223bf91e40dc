//! A server's door and connections, clients, and the network between them. Time moves from one
//! event to the next; the same seed gives the same run.

mod app;
pub(crate) mod puppet;

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::{
    link::{Damage, Link, LinkOptions, Packet, Way},
    rudp::{
        congestion::Algorithm,
        connection::{Admission, Arrival, Config, Connection, Ecn, Introduction},
        listener::{Listener, Shard, Welcome},
        packet::{Cid, ErrorCode, Header, PacketType, Text, read_number},
    },
    watch::{
        event::transport::Observer,
        fates::Fates,
        ring::{About, Rings},
    },
};

pub(crate) use self::app::{Appetite, Client, Served, Wanted};

/// What the network carries: a UDP datagram in an IPv4 packet.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) bytes: Vec<u8>,
}

impl Packet for Datagram {
    fn size(&self) -> usize {
        self.bytes.len() + 28
    }

    fn payload(&self) -> &[u8] {
        &self.bytes
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        damage.strike(&mut self.bytes).map(|(place, _)| place)
    }
}

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

/// Sees each datagram that leaves, before the network gets it; false: it goes no further.
pub(crate) type Tap = Box<dyn FnMut(Way, &mut Datagram, Instant) -> bool>;
type Step = Box<dyn FnOnce(&mut Sim)>;

pub(crate) struct Sim {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) link: Link<Datagram>,
    pub(crate) listener: Listener,
    pub(crate) config: Arc<Config>,
    pub(crate) served: BTreeMap<Cid, Served>,
    /// Connections of the server that are over.
    pub(crate) ended: Vec<Served>,
    /// By the client's address and connection id: a repeated HELLO finds its connection.
    greeted: BTreeMap<(SocketAddr, Cid), Cid>,
    pub(crate) clients: Vec<Client>,
    pub(crate) tap: Option<Tap>,
    /// While more bytes wait for the rate, packets that understand it are marked.
    pub(crate) mark_above: Option<u64>,
    /// See [`Served::ahead`].
    pub(crate) ahead: u64,
    /// The largest datagram that the server's kernel takes, and whether it says so.
    pub(crate) first_link: Option<(u16, bool)>,
    /// What is remembered of the server's connections, as the service does, and what the link does to
    /// their packets.
    pub(crate) rings: Rings,
    pub(crate) fates: Fates,
    /// Watches each of the server's connections, too.
    pub(crate) observe: Option<Box<dyn Fn() -> Box<dyn Observer>>>,
    /// Connection id and lower half of the number of what clients got, if anybody watches.
    pub(crate) arrived: HashSet<(u64, u32)>,
    /// Packets put on the link, and their bytes with headers.
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    unix: u64,
    script: BTreeMap<(Instant, usize), Step>,
    steps: usize,
    buffer: Vec<u8>,
    seed: u64,
}

impl Sim {
    pub(crate) fn new(up: &str, down: &str, config: Config, seed: u64) -> Self {
        let now = Instant::now();
        let fates = Fates::new(read_number);
        let mut link = Link::new(options(up), options(down), seed, now);
        link.watch(Some(Arc::new(fates.clone())));
        Self {
            now,
            start: now,
            link,
            listener: Listener::new(&[7; 32], &config.protection, Shard::ONLY, seed ^ 1),
            config: Arc::new(config),
            served: BTreeMap::new(),
            ended: Vec::new(),
            greeted: BTreeMap::new(),
            clients: Vec::new(),
            tap: None,
            mark_above: None,
            ahead: 1 << 20,
            first_link: None,
            rings: Rings::new(64 << 20),
            fates,
            observe: None,
            arrived: HashSet::new(),
            packets: [0; 2],
            bytes: [0; 2],
            unix: 1_800_000_000,
            script: BTreeMap::new(),
            steps: 0,
            buffer: Vec::new(),
            seed,
        }
    }

    /// A client that will download so many bytes on each of so many streams. It grants a window
    /// that no link here needs.
    pub(crate) fn client(&mut self, congestion: Algorithm, sizes: &[u64]) -> usize {
        let config = Config {
            congestion,
            stream_window: 128 << 20,
            connection_window: 128 << 20,
            ..(*self.config).clone()
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
        let to = address(SERVER);
        let connection = Connection::connect(Arc::new(config), &introduction, to, seed, self.now);
        self.clients.push(Client::new(connection, from, wanted));
        self.clients.len() - 1
    }

    /// Has something happen so long after the start.
    pub(crate) fn at(&mut self, after: Duration, step: impl FnOnce(&mut Self) + 'static) {
        self.steps += 1;
        self.script
            .insert((self.start + after, self.steps), Box::new(step));
    }

    /// A NAT gives a client another address at this time.
    pub(crate) fn rebind_at(&mut self, after: Duration, client: usize, to: SocketAddr) {
        self.at(after, move |sim| sim.clients[client].seen_as = to);
    }

    pub(crate) fn put(&mut self, way: Way, mut datagram: Datagram) {
        if let Some(tap) = &mut self.tap
            && !tap(way, &mut datagram, self.now)
        {
            return;
        }
        self.packets[way as usize] += 1;
        self.bytes[way as usize] += datagram.size() as u64;
        let queued = self.link.direction(way).counters().queued_bytes;
        if datagram.ecn.is_some() && self.mark_above.is_some_and(|most| queued > most) {
            datagram.ecn = Some(Ecn::Ce);
        }
        self.link.handle_input(way, datagram, self.now);
    }

    /// Sends what everybody has to send now.
    pub(crate) fn flush(&mut self) {
        let mut out = Vec::new();
        let (now, buffer) = (self.now, &mut self.buffer);
        for client in self.clients.iter_mut().filter(|client| client.dirty) {
            client.run(now);
            let from = client.seen_as;
            drain(
                &mut client.connection,
                now,
                buffer,
                from,
                None,
                |datagram| {
                    out.push((Way::Up, datagram));
                },
            );
            client.due = client.connection.poll_timeout();
            client.dirty = false;
        }
        for served in self.served.values_mut().filter(|served| served.dirty) {
            served.run();
            let (from, link) = (address(SERVER), self.first_link);
            drain(
                &mut served.connection,
                now,
                buffer,
                from,
                link,
                |datagram| {
                    out.push((Way::Down, datagram));
                },
            );
            served.due = served.connection.poll_timeout();
            served.dirty = false;
        }
        for (way, datagram) in out {
            self.put(way, datagram);
        }
        while let Some(cid) = self
            .served
            .iter()
            .find(|(_, served)| served.connection.is_over())
            .map(|(cid, _)| *cid)
        {
            self.ended.extend(self.served.remove(&cid));
            self.greeted.retain(|_, known| *known != cid);
        }
    }

    /// Unix time.
    pub(crate) fn unix(&self) -> u64 {
        self.unix + self.now.duration_since(self.start).as_secs()
    }

    /// Hands the server a datagram as if the network had brought it.
    pub(crate) fn deliver_to_server(&mut self, mut datagram: Datagram) {
        let Ok(header) = Header::parse(&datagram.bytes) else {
            return;
        };
        let arrival = Arrival {
            remote: datagram.from,
            local: Some(datagram.to.ip()),
            ecn: datagram.ecn,
        };
        self.buffer.clear();
        match header.packet {
            PacketType::Hello => self.greet(&datagram, arrival, header.version.unwrap_or(0)),
            PacketType::Data | PacketType::Reset => match self.served.get_mut(&header.cid) {
                Some(served) => {
                    let bytes = &mut datagram.bytes;
                    served.connection.handle_datagram(&arrival, bytes, self.now);
                    served.dirty = true;
                }
                None if header.packet == PacketType::Data => {
                    let length = datagram.bytes.len();
                    if self.listener.reset(header.cid, length, &mut self.buffer) {
                        assert!(self.buffer.len() < length);
                        self.reply(&datagram);
                    }
                }
                None => {}
            },
            _ => {}
        }
    }

    fn greet(&mut self, datagram: &Datagram, arrival: Arrival, version: u32) {
        let (unix, now) = (self.unix(), self.now);
        let (bytes, from) = (&datagram.bytes, datagram.from);
        let welcome = self
            .listener
            .handle_hello(version, bytes, from, unix, &mut self.buffer);
        match welcome {
            Welcome::Admit(hello) => {
                let key = (from, hello.cid);
                let known = self.greeted.get(&key);
                if let Some(served) = known.and_then(|cid| self.served.get_mut(cid)) {
                    let mut bytes = bytes.clone();
                    served.connection.handle_datagram(&arrival, &mut bytes, now);
                    served.dirty = true;
                    return;
                }
                let credentials = self
                    .listener
                    .credentials(|cid| self.served.contains_key(&cid));
                let admission = Admission {
                    hello: &hello,
                    arrival,
                    cid: credentials.cid,
                    nonce: credentials.nonce,
                    reset_token: credentials.reset_token,
                };
                let config = Arc::clone(&self.config);
                let mut connection = Connection::accept(config, &admission, credentials.seed, now);
                let about = About {
                    connection: connection.cid().0,
                    destination: connection.peer_cid().0,
                    name: "Tal".to_owned(),
                    client: from,
                    congestion: connection.algorithm().name(),
                };
                let recorder = self.rings.begin(about, Some(self.fates.clone()), now);
                connection.observe(Box::new(recorder), now);
                if let Some(observe) = &self.observe {
                    connection.observe(observe(), now);
                }
                self.greeted.insert(key, credentials.cid);
                let served = Served::new(connection, self.ahead);
                self.served.insert(credentials.cid, served);
            }
            Welcome::Reply(_) => {
                // Stricter than three times.
                assert!(self.buffer.len() <= bytes.len());
                self.reply(datagram);
            }
            Welcome::Drop(_) => {}
        }
    }

    fn reply(&mut self, to: &Datagram) {
        let reply = Datagram {
            from: to.to,
            to: to.from,
            ecn: None,
            bytes: self.buffer.clone(),
        };
        self.put(Way::Down, reply);
    }

    /// Hands a client a datagram as if the network had brought it. What is for an address that a
    /// NAT has forgotten is lost.
    pub(crate) fn deliver_to_client(&mut self, mut datagram: Datagram) {
        if self.observe.is_some() {
            self.arrived.extend(read_number(&datagram.bytes));
        }
        let to = datagram.to;
        if let Some(client) = self.clients.iter_mut().find(|c| c.seen_as == to) {
            let arrival = Arrival {
                remote: datagram.from,
                local: Some(client.address.ip()),
                ecn: datagram.ecn,
            };
            let bytes = &mut datagram.bytes;
            client.connection.handle_datagram(&arrival, bytes, self.now);
            client.dirty = true;
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(Client::timeout);
        let served = self.served.values().filter_map(|served| served.due);
        let script = self.script.first_key_value().map(|((at, _), _)| *at);
        clients
            .chain(served)
            .chain(self.link.poll_timeout())
            .chain(script)
            .min()
    }

    /// One step; false: nothing will ever happen.
    pub(crate) fn step(&mut self) -> bool {
        self.flush();
        let Some(next) = self.next() else {
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.script.first_entry()
            && entry.key().0 <= now
        {
            entry.remove()(self);
        }
        while let Some((way, datagram)) = self.link.poll_output(now) {
            match way {
                Way::Up => self.deliver_to_server(datagram),
                Way::Down => self.deliver_to_client(datagram),
            }
        }
        for client in &mut self.clients {
            client.dirty |= client.timeout().is_some_and(|at| at <= now);
            if client.due.is_some_and(|at| at <= now) {
                client.connection.handle_timeout(now);
            }
        }
        for served in self
            .served
            .values_mut()
            .filter(|s| s.due.is_some_and(|at| at <= now))
        {
            served.connection.handle_timeout(now);
            served.dirty = true;
        }
        true
    }

    /// Runs until `done`, at most for `limit` of virtual time; says whether it was.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        let mut steps_at = (self.now, 0_u32);
        while self.now < end {
            if done(self) {
                return true;
            }
            if !self.step() {
                return done(self);
            }
            // A core whose deadlines do not move would spin for ever.
            if steps_at.0 == self.now {
                steps_at.1 += 1;
                assert!(steps_at.1 < 100_000, "time stands still");
            } else {
                steps_at = (self.now, 0);
            }
        }
        done(self)
    }

    /// Runs for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.at(end - self.start, |_| {});
        self.run_until(time, |sim| sim.now >= end);
    }

    /// Runs until every client has what it wants; says how long the longest took, from its request
    /// to its last byte.
    pub(crate) fn download(&mut self, limit: Duration) -> Option<Duration> {
        let done = self.run_until(limit, |sim| sim.clients.iter().all(Client::is_done));
        done.then(|| {
            self.clients
                .iter()
                .flat_map(|client| &client.wanted)
                .filter_map(|wanted| Some(wanted.done_at? - wanted.asked_at?))
                .max()
                .unwrap_or_default()
        })
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        let clients = self.clients.iter().map(|client| &client.connection);
        clients.chain(self.served.values().map(|served| &served.connection))
    }

    /// Runs until nothing is under way any more, then sees that nothing more is sent, closes, and
    /// sees that nothing is left.
    pub(crate) fn finish(&mut self, limit: Duration) {
        let settled = self.run_until(limit, |sim| {
            sim.connections().all(|connection| {
                connection.held() == 0
                    && connection.stream_count() == 0
                    && connection.stats().in_flight == 0
            })
        });
        let states = || {
            self.connections()
                .map(|c| (c.held(), c.stream_count(), c.stats()))
        };
        assert!(
            settled,
            "something is left: {:#?}",
            states().collect::<Vec<_>>()
        );
        self.run_for(Duration::from_secs(3));
        let before = self.packets;
        self.run_for(Duration::from_secs(5));
        if self.config.keep_alive.is_none() {
            assert_eq!(self.packets, before, "a quiet connection sends");
        }
        for client in &mut self.clients {
            client
                .connection
                .close(ErrorCode::NO_ERROR, "done", self.now);
            client.dirty = true;
        }
        // A CLOSE that gets lost leaves the server waiting.
        let patience = self.config.idle_timeout + Duration::from_secs(10);
        let over = self.run_until(patience, |sim| sim.connections().all(Connection::is_over));
        assert!(over, "a connection does not end");
        self.flush();
        assert!(self.served.is_empty() && self.greeted.is_empty());
        let ended = self.ended.iter_mut().map(|served| &mut served.connection);
        for connection in ended.chain(self.clients.iter_mut().map(|c| &mut c.connection)) {
            assert_eq!((connection.held(), connection.stream_count()), (0, 0));
            assert_eq!(
                (connection.poll_timeout(), connection.poll_event()),
                (None, None)
            );
            let transmit = connection.poll_transmit(self.now, &mut self.buffer, 1);
            assert_eq!(transmit, None);
        }
    }
}

fn drain(
    connection: &mut Connection,
    now: Instant,
    buffer: &mut Vec<u8>,
    from: SocketAddr,
    first_link: Option<(u16, bool)>,
    mut send: impl FnMut(Datagram),
) {
    let mut refused = 0;
    loop {
        buffer.clear();
        let Some(transmit) = connection.poll_transmit(now, buffer, 10) else {
            break;
        };
        assert_eq!(transmit.length, buffer.len());
        if let Some((most, told)) = first_link
            && transmit.segment > usize::from(most)
        {
            connection.on_too_big(&transmit, told.then_some(most));
            refused += 1;
            assert!(refused < 100, "nothing smaller comes");
            continue;
        }
        for bytes in buffer.chunks(transmit.segment) {
            send(Datagram {
                from,
                to: transmit.remote,
                ecn: transmit.ecn,
                bytes: bytes.to_vec(),
            });
        }
    }
}
