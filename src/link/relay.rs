use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle};

use super::{
    ClientCounters, Damage, Link, LinkControl, LinkCounters, LinkOptions, Packet, Way,
    control::Controlled,
};
use crate::{
    net::{Ecn, Outgoing, ReceiveBatch, UdpSocket, bind_udp, keep_time},
    watch::event::link::Observer,
};

/// What a relay joins, and how much of the machine it may use.
#[derive(Debug, Clone, Copy)]
pub struct RelayPlan {
    /// Where clients send to.
    pub listen: SocketAddr,
    /// Where their datagrams go.
    pub to: SocketAddr,
    /// What happens to datagrams on their way to the server.
    pub up: LinkOptions,
    /// What happens to datagrams on their way back.
    pub down: LinkOptions,
    /// Decides about every datagram's fate.
    pub seed: u64,
    /// So many clients at once; the datagrams of others are dropped.
    pub clients: usize,
    /// A client from and to which nothing has come for so long is forgotten.
    pub idle: Duration,
}

/// A bad link between UDP clients and one server: every client address gets a socket of its own
/// towards the server, and all share the link's queue and rate as the machines of a classroom share
/// its uplink.
///
/// Rate and queue count a datagram's IP and UDP headers, too. Corruption changes one byte of the
/// payload under a correct checksum: a receiver that relies on UDP's own will not see it. ECN marks
/// are carried.
pub struct Relay {
    shared: Arc<Shared>,
    listener: Arc<UdpSocket>,
}

struct Shared {
    plan: RelayPlan,
    state: Mutex<State>,
    /// Something is due earlier than the link's timer knows.
    earlier: Notify,
}

struct State {
    link: Link<Datagram>,
    clients: HashMap<SocketAddr, Client>,
    /// Used by every receiving task in turn.
    batch: ReceiveBatch,
    /// When the link's timer is due.
    timer: Option<Instant>,
    counters: ClientCounters,
    undelivered: u64,
}

struct Client {
    socket: Arc<UdpSocket>,
    /// The local address that it sends to, and gets its answers from.
    local: Option<IpAddr>,
    last_seen: Instant,
    receiving: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

#[derive(Debug, Clone)]
struct Datagram {
    client: SocketAddr,
    ecn: Option<Ecn>,
    payload: Box<[u8]>,
}

impl Packet for Datagram {
    fn size(&self) -> usize {
        // IP's header without options, and UDP's.
        let headers = if self.client.is_ipv4() { 20 } else { 40 } + 8;
        headers + self.payload.len()
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn peer(&self) -> Option<SocketAddr> {
        Some(self.client)
    }

    fn is_ect(&self) -> bool {
        self.ecn.is_some()
    }

    fn set_ce(&mut self) {
        self.ecn = Some(Ecn::Ce);
    }

    fn take(&mut self, damage: Damage) -> Option<usize> {
        damage.strike(&mut self.payload).map(|(place, _)| place)
    }
}

impl Relay {
    /// Binds the relay's own address.
    ///
    /// # Errors
    /// Those of binding it.
    pub fn bind(plan: RelayPlan) -> io::Result<Self> {
        let listener = UdpSocket::adopt(&bind_udp(plan.listen)?)?;
        let state = State {
            link: Link::new(plan.up, plan.down, plan.seed, Instant::now()),
            clients: HashMap::new(),
            batch: ReceiveBatch::new(),
            timer: None,
            counters: ClientCounters::default(),
            undelivered: 0,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                plan,
                state: Mutex::new(state),
                earlier: Notify::new(),
            }),
            listener: Arc::new(listener),
        })
    }

    /// The address that clients send to.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle on it that outlives [`run`](Self::run).
    pub fn control(&self) -> LinkControl {
        LinkControl::new(self.shared.clone())
    }

    /// Relays until dropped.
    ///
    /// # Errors
    /// Those of the listening socket and of the timer. What goes wrong with one client is counted.
    pub async fn run(self) -> io::Result<()> {
        tokio::select! {
            failed = self.receive_from_clients() => failed,
            failed = self.deliver() => failed,
            never = self.shared.forget_idle_clients() => match never {},
        }
    }

    async fn receive_from_clients(&self) -> io::Result<()> {
        loop {
            poll_fn(|task| self.poll_clients(task)).await?;
        }
    }

    fn poll_clients(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &self.shared;
        let state = &mut *shared.lock();
        ready!(self.listener.poll_receive(task, &mut state.batch))?;
        let now = Instant::now();
        for datagram in state.batch.iter() {
            let full = state.clients.len() >= shared.plan.clients;
            let client = match state.clients.get_mut(&datagram.source) {
                Some(client) => client,
                None if full => {
                    state.counters.refused += 1;
                    continue;
                }
                None => match shared.admit(datagram.source, now) {
                    Ok(client) => {
                        state.counters.seen += 1;
                        state.clients.entry(datagram.source).or_insert(client)
                    }
                    Err(error) => {
                        tracing::debug!(client = %datagram.source, %error, "no socket");
                        state.counters.refused += 1;
                        continue;
                    }
                },
            };
            client.last_seen = now;
            client.local = datagram.destination;
            let datagram = Datagram {
                client: datagram.source,
                ecn: datagram.ecn,
                payload: datagram.payload.into(),
            };
            state.link.handle_input(Way::Up, datagram, now);
        }
        state.deliver(&self.listener, shared.plan.to, now);
        shared.wake_if_earlier(state);
        Poll::Ready(Ok(()))
    }

    async fn deliver(&self) -> io::Result<()> {
        let shared = &self.shared;
        keep_time(&shared.earlier, || {
            let state = &mut *shared.lock();
            state.deliver(&self.listener, shared.plan.to, Instant::now());
            state.timer = state.link.poll_timeout();
            state.timer
        })
        .await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Each client's task holds what holds the client.
        self.shared.lock().clients.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a new client's socket towards the server.
    fn admit(self: &Arc<Self>, client: SocketAddr, now: Instant) -> io::Result<Client> {
        let any: IpAddr = if self.plan.to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = Arc::new(UdpSocket::adopt(&bind_udp((any, 0).into())?)?);
        let (shared, upstream) = (Arc::clone(self), Arc::clone(&socket));
        let receiving = tokio::spawn(async move {
            loop {
                let received = poll_fn(|task| shared.poll_server(client, &upstream, task)).await;
                if let Err(error) = received {
                    tracing::debug!(%client, %error, "its socket failed");
                    return;
                }
            }
        });
        Ok(Client {
            socket,
            local: None,
            last_seen: now,
            receiving: receiving.abort_handle(),
        })
    }

    /// Takes what the server sends to one client.
    fn poll_server(
        &self,
        to: SocketAddr,
        upstream: &UdpSocket,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        ready!(upstream.poll_receive(task, &mut state.batch))?;
        let now = Instant::now();
        for datagram in state.batch.iter() {
            // Not connected, the socket would take anyone's.
            if datagram.source != self.plan.to {
                state.counters.strangers += 1;
                continue;
            }
            if let Some(client) = state.clients.get_mut(&to) {
                client.last_seen = now;
            }
            let datagram = Datagram {
                client: to,
                ecn: datagram.ecn,
                payload: datagram.payload.into(),
            };
            state.link.handle_input(Way::Down, datagram, now);
        }
        self.wake_if_earlier(state);
        Poll::Ready(Ok(()))
    }

    fn wake_if_earlier(&self, state: &State) {
        if let Some(due) = state.link.poll_timeout()
            && state.timer.is_none_or(|timer| due < timer)
        {
            self.earlier.notify_one();
        }
    }

    async fn forget_idle_clients(&self) -> std::convert::Infallible {
        let idle = self.plan.idle;
        let often = (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(30));
        loop {
            tokio::time::sleep(often).await;
            let state = &mut *self.lock();
            let before = state.clients.len();
            state
                .clients
                .retain(|_, client| client.last_seen.elapsed() < idle);
            state.counters.expired += (before - state.clients.len()) as u64;
        }
    }
}

impl State {
    /// Sends what has come through the link.
    fn deliver(&mut self, listener: &UdpSocket, server: SocketAddr, now: Instant) {
        while let Some((way, datagram)) = self.link.poll_output(now) {
            let sent = self.clients.get(&datagram.client).map(|client| {
                let (socket, destination, source) = match way {
                    Way::Up => (&*client.socket, server, None),
                    Way::Down => (listener, datagram.client, client.local),
                };
                socket.send(&Outgoing {
                    ecn: datagram.ecn,
                    ..Outgoing::datagram(&datagram.payload, destination, source)
                })
            });
            if !matches!(sent, Some(Ok(()))) {
                self.undelivered += 1;
            }
        }
    }
}

impl Controlled for Shared {
    fn watch(&self, observer: Arc<dyn Observer>) {
        self.lock().link.watch(observer);
    }

    fn unwatch(&self, observer: &Arc<dyn Observer>) {
        self.lock().link.unwatch(observer);
    }

    fn counters(&self) -> LinkCounters {
        let state = self.lock();
        LinkCounters {
            clients: Some(ClientCounters {
                now: state.clients.len(),
                ..state.counters
            }),
            undelivered: state.undelivered,
            up: state.link.direction(Way::Up).counters(),
            down: state.link.direction(Way::Down).counters(),
        }
    }

    fn options(&self, way: Way) -> LinkOptions {
        *self.lock().link.direction(way).options()
    }

    fn set_options(&self, up: LinkOptions, down: LinkOptions) {
        let now = Instant::now();
        let state = &mut *self.lock();
        state.link.set_options(Way::Up, up, now);
        state.link.set_options(Way::Down, down, now);
        self.wake_if_earlier(state);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Plain;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn options(list: &str) -> LinkOptions {
        let mut options = LinkOptions::default();
        options.set_list(list).expect(list);
        options
    }

    /// A relay in this thread's runtime, and the server behind it.
    struct Stage {
        relay: SocketAddr,
        control: LinkControl,
        server: tokio::net::UdpSocket,
        running: AbortHandle,
    }

    async fn stage(change: impl FnOnce(&mut RelayPlan)) -> Stage {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
        let server = server.expect("loopback");
        let mut plan = RelayPlan {
            listen: ([127, 0, 0, 1], 0).into(),
            to: server.local_addr().expect("bound"),
            up: LinkOptions::default(),
            down: LinkOptions::default(),
            seed: 7,
            clients: 10,
            idle: PATIENCE,
        };
        change(&mut plan);
        let relay = Relay::bind(plan).expect("bound");
        Stage {
            relay: relay.local_addr().expect("bound"),
            control: relay.control(),
            server,
            running: tokio::spawn(relay.run()).abort_handle(),
        }
    }

    impl Stage {
        async fn client(&self) -> tokio::net::UdpSocket {
            let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
            let client = client.expect("loopback");
            client.connect(self.relay).await.expect("loopback");
            client
        }

        async fn wait_for(&self, what: &str, check: impl Fn(LinkCounters) -> bool) {
            let start = Instant::now();
            while !check(self.control.counters()) {
                assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn of_clients(counters: LinkCounters) -> ClientCounters {
        counters.clients.expect("a relay has clients")
    }

    async fn receive(socket: &tokio::net::UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 70_000];
        let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
        let (length, from) = received.expect("in time").expect("received");
        buffer.truncate(length);
        (buffer, from)
    }

    #[tokio::test]
    async fn each_client_gets_its_own_answers() {
        let stage = stage(|plan| {
            plan.up = options("delay=3ms");
            plan.down = options("delay=3ms,jitter=1ms,rate=100mbit");
        })
        .await;
        let (one, two) = (stage.client().await, stage.client().await);
        one.send(b"from one").await.expect("sent");
        let (payload, upstream_one) = receive(&stage.server).await;
        assert_eq!(payload, b"from one");
        two.send(b"").await.expect("sent");
        let (payload, upstream_two) = receive(&stage.server).await;
        assert_eq!(payload, b"");
        assert_ne!(upstream_one, upstream_two);
        let large = vec![3; 60_000];
        stage
            .server
            .send_to(&large, upstream_two)
            .await
            .expect("sent");
        stage
            .server
            .send_to(b"to one", upstream_one)
            .await
            .expect("sent");
        assert_eq!(receive(&two).await, (large, stage.relay));
        assert_eq!(receive(&one).await, (b"to one".to_vec(), stage.relay));
        let counters = stage.control.counters();
        assert_eq!(
            (of_clients(counters).now, of_clients(counters).seen),
            (2, 2)
        );
        assert_eq!((counters.up.delivered, counters.down.delivered), (2, 2));
        // With the headers of IPv4 and UDP.
        assert_eq!(counters.up.sent_bytes, 28 + 8 + 28);
        assert_eq!(counters.down.sent_bytes, 28 + 60_000 + 28 + 6);
    }

    #[tokio::test]
    async fn marks_are_carried_and_made() {
        // A datagram leaves the queue every 25 ms: from the second one on they have waited for too long,
        // the sixth is the first 100 ms later, and the tenth is due another 100 ms later.
        let stage = stage(|plan| {
            plan.up = options("rate=320kbit,queue=60kB,aqm=codel,ecn=on");
        })
        .await;
        let client = UdpSocket::adopt(&bind_udp(([127, 0, 0, 1], 0).into()).expect("bound"));
        let client = client.expect("adopted");
        let server = UdpSocket::adopt(&stage.server.into_std().expect("a socket"));
        let server = server.expect("adopted");
        let mut marks = [Some(Ecn::Ect0); 14];
        (marks[1], marks[2], marks[3]) = (Some(Ecn::Ect1), None, Some(Ecn::Ce));
        (marks[5], marks[9]) = (Some(Ecn::Ect1), None);
        // The relay is of this thread: it finds all of them.
        for (number, ecn) in (0..).zip(marks) {
            let payload = [number; 972];
            let outgoing = Outgoing {
                ecn,
                ..Outgoing::datagram(&payload, stage.relay, None)
            };
            client.send(&outgoing).expect("sent");
        }
        let (mut seen, mut batch) = (Vec::new(), ReceiveBatch::new());
        while seen.len() < 13 {
            let received = poll_fn(|task| server.poll_receive(task, &mut batch));
            let received = tokio::time::timeout(PATIENCE, received).await;
            received.expect("in time").expect("received");
            seen.extend(batch.iter().map(|of| (of.payload[0], of.ecn)));
        }
        marks[5] = Some(Ecn::Ce);
        let expected = (0..).zip(marks).filter(|(number, _)| *number != 9);
        assert_eq!(seen, expected.collect::<Vec<_>>());
        let counters = stage.control.counters().up;
        assert_eq!((counters.marked, counters.lost.codel), (1, 1));
        assert_eq!(counters.lost.total(), 1);
    }

    #[tokio::test]
    async fn options_change_while_it_runs() {
        let stage = stage(|plan| plan.up = options("delay=1h")).await;
        let client = stage.client().await;
        client.send(b"late").await.expect("sent");
        stage
            .wait_for("the datagram", |counters| counters.up.sent == 1)
            .await;
        stage
            .control
            .set_options(options("loss=100"), LinkOptions::default());
        client.send(b"lost").await.expect("sent");
        stage
            .wait_for("the loss", |counters| counters.up.lost.random == 1)
            .await;
        assert_eq!(stage.control.options(Way::Up), options("loss=100"));
        assert_eq!(stage.control.options(Way::Down), LinkOptions::default());
        assert_eq!(stage.control.counters().up.under_way, 1);
    }

    #[tokio::test]
    async fn there_is_an_end_to_clients_and_strangers_are_not_heard() {
        let stage = stage(|plan| plan.clients = 2).await;
        let clients = [
            stage.client().await,
            stage.client().await,
            stage.client().await,
        ];
        for client in &clients {
            client.send(b"hello").await.expect("sent");
        }
        stage
            .wait_for("the refusal", |counters| of_clients(counters).refused == 1)
            .await;
        let (_, upstream) = receive(&stage.server).await;
        let stranger = Plain::bind("127.0.0.1:0").expect("loopback");
        let port = upstream.port();
        stranger.send_to(b"boo", ("127.0.0.1", port)).expect("sent");
        stage
            .wait_for("the stranger", |counters| {
                of_clients(counters).strangers == 1
            })
            .await;
        assert_eq!(stage.control.counters().down.sent, 0);
    }

    #[tokio::test]
    async fn the_idle_are_forgotten_and_may_come_back() {
        let stage = stage(|plan| plan.idle = Duration::from_millis(40)).await;
        let client = stage.client().await;
        client.send(b"first").await.expect("sent");
        let (_, before) = receive(&stage.server).await;
        stage
            .wait_for("the end", |counters| of_clients(counters).expired == 1)
            .await;
        // Its socket is closed: the port can be bound again.
        let port = before.port();
        let start = Instant::now();
        while Plain::bind(("0.0.0.0", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "the socket stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.send(b"again").await.expect("sent");
        assert_eq!(receive(&stage.server).await.0, b"again");
        assert_eq!(of_clients(stage.control.counters()).seen, 2);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_yet_gets_the_next_datagram() {
        let held = Plain::bind("127.0.0.1:0").expect("loopback");
        let to = held.local_addr().expect("bound");
        drop(held);
        let stage = stage(|plan| plan.to = to).await;
        let client = stage.client().await;
        for _ in 0..3 {
            client.send(b"anyone?").await.expect("sent");
        }
        stage
            .wait_for("the datagrams", |counters| counters.up.delivered == 3)
            .await;
        let server = tokio::net::UdpSocket::bind(to).await.expect("free");
        client.send(b"now?").await.expect("sent");
        let (payload, from) = receive(&server).await;
        assert_eq!(payload, b"now?");
        server.send_to(b"yes", from).await.expect("sent");
        assert_eq!(receive(&client).await.0, b"yes");
    }

    #[tokio::test]
    async fn its_end_closes_its_sockets() {
        let stage = stage(|_| {}).await;
        let client = stage.client().await;
        client.send(b"hello").await.expect("sent");
        let (_, upstream) = receive(&stage.server).await;
        stage.running.abort();
        let start = Instant::now();
        let free = |address: SocketAddr| Plain::bind(("0.0.0.0", address.port())).is_ok();
        while !(free(stage.relay) && free(upstream)) {
            assert!(start.elapsed() < PATIENCE, "the sockets stay");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(stage.control.counters().up.delivered, 1);
    }
}
