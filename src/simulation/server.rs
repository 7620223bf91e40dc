use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Application, Datagram, FirstLink, Host, Peer};
use crate::{
    link::Way,
    rudp::{
        connection::{Admission, Arrival, Config, Connection},
        listener::{Listener, Shard, Welcome},
        packet::{Cid, Header, PacketType},
    },
};

/// Makes what runs on a connection that the server has taken just now, and by what; it may have somebody
/// watch the connection.
pub type Serve<A> = Box<dyn FnMut(&mut Connection, &Admission<'_>, Instant) -> A>;

/// A server: its door and its connections, as `rudp::actor` has them.
pub struct Server<A> {
    /// Where it is.
    pub address: SocketAddr,
    /// Its door.
    pub listener: Listener,
    /// What new connections are made with.
    pub config: Arc<Config>,
    /// Its connections, by its own ids.
    pub served: BTreeMap<Cid, Peer<A>>,
    /// Those that are over.
    pub ended: Vec<Peer<A>>,
    /// See [`Peer::first_link`].
    pub first_link: Option<FirstLink>,
    /// What its clock, from which cookies get their age, shows at the start.
    pub clock: Duration,
    /// By the client's address and connection id: a repeated HELLO finds its connection.
    greeted: BTreeMap<(SocketAddr, Cid), Cid>,
    serve: Serve<A>,
    start: Instant,
    buffer: Vec<u8>,
}

impl<A: fmt::Debug> fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

impl<A: Application> Server<A> {
    /// A server without connections. `seed` is for what it leaves to chance, its keys included.
    pub fn new(
        address: SocketAddr,
        config: Arc<Config>,
        seed: u64,
        start: Instant,
        serve: Serve<A>,
    ) -> Self {
        Self {
            address,
            listener: Listener::new(&[7; 32], &config.protection, Shard::ONLY, seed),
            config,
            served: BTreeMap::new(),
            ended: Vec::new(),
            first_link: None,
            clock: Duration::from_secs(1_800_000_000),
            greeted: BTreeMap::new(),
            serve,
            start,
            buffer: Vec::new(),
        }
    }

    /// Its connections, those that are over, too.
    pub fn all(&self) -> impl Iterator<Item = &Peer<A>> {
        self.served.values().chain(&self.ended)
    }

    /// Whether no connection is left.
    pub fn is_quiet(&self) -> bool {
        self.served.is_empty() && self.greeted.is_empty()
    }

    /// What its clock shows.
    pub fn clock(&self, now: Instant) -> Duration {
        self.clock + now.saturating_duration_since(self.start)
    }

    fn greet(&mut self, datagram: Datagram, version: u32, now: Instant, out: &mut Vec<Datagram>) {
        let seconds = self.clock(now).as_secs();
        self.buffer.clear();
        let Datagram { from, bytes, .. } = &datagram;
        let welcome = self
            .listener
            .handle_hello(version, bytes, *from, seconds, &mut self.buffer);
        match welcome {
            Welcome::Admit(hello) => {
                let key = (*from, hello.cid);
                let known = self.greeted.get(&key);
                if let Some(served) = known.and_then(|cid| self.served.get_mut(cid)) {
                    served.receive(datagram, now);
                    return;
                }
                let credentials = self
                    .listener
                    .credentials(|cid| self.served.contains_key(&cid));
                let admission = Admission {
                    hello: &hello,
                    arrival: Arrival {
                        remote: *from,
                        local: Some(datagram.to.ip()),
                        ecn: datagram.ecn,
                    },
                    cid: credentials.cid,
                    nonce: credentials.nonce,
                    reset_token: credentials.reset_token,
                };
                let config = Arc::clone(&self.config);
                let mut connection = Connection::accept(config, &admission, credentials.seed, now);
                let application = (self.serve)(&mut connection, &admission, now);
                self.greeted.insert(key, credentials.cid);
                let served = Peer::new(connection, application, self.address, Way::Down);
                self.served.insert(credentials.cid, served);
            }
            Welcome::Reply(_) => out.push(self.reply(&datagram)),
            Welcome::Drop(_) => {}
        }
    }

    /// What is in the buffer, to whom it answers.
    fn reply(&self, to: &Datagram) -> Datagram {
        Datagram {
            way: Way::Down,
            from: to.to,
            to: to.from,
            ecn: None,
            bytes: self.buffer.clone(),
        }
    }
}

impl<A: Application> Host for Server<A> {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        let Ok(header) = Header::parse(&datagram.bytes) else {
            return;
        };
        match header.packet {
            PacketType::Hello => self.greet(datagram, header.version.unwrap_or(0), now, out),
            PacketType::Data | PacketType::Reset => match self.served.get_mut(&header.cid) {
                Some(served) => served.receive(datagram, now),
                None if header.packet == PacketType::Data => {
                    self.buffer.clear();
                    let length = datagram.bytes.len();
                    if self.listener.reset(header.cid, length, &mut self.buffer) {
                        out.push(self.reply(&datagram));
                    }
                }
                None => {}
            },
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        for served in self.served.values_mut() {
            served.handle_timeout(now);
        }
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let mut over = false;
        for served in self.served.values_mut().filter(|served| served.is_dirty()) {
            served.first_link = self.first_link;
            served.send(now, out);
            over |= served.connection.is_over();
        }
        if over {
            let ended = self
                .served
                .extract_if(.., |_, served| served.connection.is_over());
            for (cid, served) in ended {
                self.greeted.retain(|_, known| *known != cid);
                self.ended.push(served);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.served.values().filter_map(Host::poll_timeout).min()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}
