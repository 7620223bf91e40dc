mod listener;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use actix::{AsyncContext, Context, Handler, SpawnHandle};
use dhcproto::v4::MessageType;
use prometheus::{IntCounter, IntGauge};

use listener::Listener;

use super::{
    clock::{Clock, Reading},
    drop_reason::DropReason,
    lease::{LeaseNote, Record, StoredLease, StoredState},
    reply::Reply,
    server::{Attachment, DhcpServer, LeaseView, Outcome, Received},
    store::{Owner, Store, StoreError},
};
use crate::{
    config,
    net::{self, Datagram, ReceiveBatch, UdpSocket, WatchedSocket},
    role::{
        Failure, Keep, LeaseEvent, Leases, PrepareError, Resources, Role,
        api::{self, CopyLeases, ListLeases},
        role_actor,
    },
    telemetry::Metrics,
    text::{SHORT, printable},
    watch::event::{
        FailureKind,
        packet::{self, Label, Protocol},
    },
};

/// How often the actor looks for what no client asks about: expired leases, a clock that was set, a
/// lease file that was spoilt or can be mended.
const TICK: Duration = Duration::from_secs(1);

/// What the role lacks when its leases can't be stored.
const LEASES: &str = "leases";

/// The DHCP server's actor.
pub struct DhcpActor {
    keep: Keep<DhcpKept>,
    kept: DhcpKept,
    server: DhcpServer,
    /// None until it has started.
    ledger: Option<Ledger>,
    /// What drives the sockets.
    receiving: Vec<SpawnHandle>,
    counters: Counters,
    /// Of each subnet, by state.
    gauges: Vec<[IntGauge; 5]>,
    /// Why no lease can be stored, or why the next start will fail.
    trouble: Option<String>,
}

/// The right to the store, and the time that its leases live by.
struct Ledger {
    owner: Owner,
    clock: Clock,
}

impl Ledger {
    fn now(&self) -> u64 {
        self.clock.now(net::steady_time())
    }
}

/// What outlives [`DhcpActor`].
#[derive(Clone)]
pub struct DhcpKept {
    config: config::Dhcp,
    listeners: Vec<Listener>,
    store: Store,
    metrics: Arc<Metrics>,
    leases: Leases,
}

impl DhcpKept {
    fn links(&self) -> Vec<Attachment> {
        let links = self.listeners.iter();
        links.map(|listener| listener.link.clone()).collect()
    }
}

impl Role for DhcpActor {
    const NAME: &'static str = "dhcp";
    type Config = config::Dhcp;
    type Kept = DhcpKept;

    fn prepare(
        config: &config::Dhcp,
        previous: Option<&DhcpKept>,
        resources: &Resources,
    ) -> Result<DhcpKept, PrepareError> {
        let unusable = |error| PrepareError::new("state_dir", error);
        let store = match previous {
            Some(previous) => previous.store.clone(),
            None => Store::open(&resources.state_dir, reading()).map_err(unusable)?,
        };
        let kept = previous.map_or(&[][..], |previous| &previous.listeners);
        let listeners = Listener::prepare(&config.listen, kept, resources)?;
        Ok(DhcpKept {
            config: config.clone(),
            listeners,
            store,
            metrics: Arc::clone(&resources.metrics),
            leases: resources.leases.clone(),
        })
    }

    fn listens(kept: &DhcpKept) -> Vec<String> {
        kept.listeners.iter().map(Listener::name).collect()
    }

    fn missing(kept: &DhcpKept) -> Vec<String> {
        let absences = kept.listeners.iter().filter_map(Listener::absence);
        absences.map(|absence| absence.to_string()).collect()
    }

    fn fits_host(kept: &DhcpKept) -> bool {
        kept.listeners.iter().all(Listener::fits_host)
    }

    fn new(keep: Keep<DhcpKept>) -> Self {
        let kept = keep.get();
        Self {
            server: DhcpServer::new(&kept.config, kept.links()),
            counters: Counters::new(&kept.metrics),
            ledger: None,
            receiving: Vec::new(),
            gauges: Vec::new(),
            trouble: None,
            keep,
            kept,
        }
    }

    fn keep(&self) -> &Keep<DhcpKept> {
        &self.keep
    }

    fn can_take_over(kept: &DhcpKept) -> bool {
        kept.store.is_free()
    }

    fn take_over(kept: &DhcpKept, _: &str) -> DhcpKept {
        // The actor takes the store over itself when it starts; from here on nobody else writes.
        drop(kept.store.take_over());
        kept.clone()
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let owner = self.kept.store.take_over();
        let (stored, clock) = owner.load();
        let ledger = Ledger { owner, clock };
        let leases = stored.len();
        let elsewhere = self.server.restore(stored, ledger.now());
        tracing::info!(leases, elsewhere, "leases loaded");
        self.ledger = Some(ledger);
        self.tell_all();
        self.export();
        self.listen(ctx)?;
        ctx.run_interval(TICK, |actor, _| actor.tick());
        Ok(())
    }

    fn change(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let Some(ledger) = &self.ledger else {
            return Err(Failure::new(
                FailureKind::Ended,
                "the lease file is not open yet",
            ));
        };
        self.kept = self.keep.get();
        let (stored, _) = ledger.owner.load();
        let links = self.kept.links();
        self.server = self
            .server
            .reconfigured(&self.kept.config, links, stored, ledger.now());
        self.tell_all();
        self.export();
        self.listen(ctx)
    }

    fn retire(metrics: &Metrics) {
        metrics.dhcp_leases.reset();
        metrics.dhcp_pool_addresses.reset();
    }
}

role_actor!(DhcpActor);

impl Handler<ListLeases> for DhcpActor {
    type Result = Vec<api::LeaseEntry>;

    fn handle(&mut self, _: ListLeases, _: &mut Self::Context) -> Self::Result {
        let now = self.ledger.as_ref().map_or(0, Ledger::now);
        self.server.expire(now);
        self.server.commit();
        self.server
            .leases()
            .map(|lease| shown(lease, now))
            .collect()
    }
}

impl Handler<CopyLeases> for DhcpActor {
    type Result = Result<Vec<u8>, String>;

    fn handle(&mut self, _: CopyLeases, _: &mut Self::Context) -> Self::Result {
        let ledger = self.ledger.as_ref().ok_or("the DHCP server is starting")?;
        ledger.owner.image().map_err(|error| error.to_string())
    }
}

fn shown(lease: LeaseView<'_>, now: u64) -> api::LeaseEntry {
    let hexadecimal = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect();
    api::LeaseEntry {
        address: lease.address,
        hardware_address: lease.hardware.to_string(),
        client_id: lease.client.as_identifier().map(hexadecimal),
        hostname: lease.hostname.map(str::to_owned),
        state: lease.state.to_owned(),
        subnet: lease.subnet.to_string(),
        expires_unix: lease.until,
        seconds_left: lease.until.saturating_sub(now),
        reserved: lease.reserved,
    }
}

impl DhcpActor {
    /// Drives the sockets that are kept now, and no others.
    fn listen(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        for receiving in self.receiving.drain(..) {
            ctx.cancel_future(receiving);
        }
        for (link, listener) in self.kept.listeners.iter().enumerate() {
            let Some(socket) = &listener.socket else {
                continue;
            };
            let label = Label::new(packet::Role::Dhcp, Protocol::Dhcp);
            let socket = UdpSocket::adopt(socket)
                .and_then(|socket| WatchedSocket::new(socket, label))
                .map_err(|error| Failure::socket("taking over a DHCP socket", error))?;
            let local = listener
                .local()
                .ok_or_else(|| Failure::socket("asking a DHCP socket for its address", "none"))?;
            let mut batch = ReceiveBatch::new();
            let mut outbox = Outbox::default();
            let receiving = net::drive(
                move |actor: &mut Self, _: &mut Context<Self>, task: &mut task::Context<'_>| {
                    match socket.poll_receive(task, &mut batch) {
                        Poll::Ready(Ok(())) => {
                            actor.decide(link, *local.ip(), &socket, &batch, &mut outbox);
                            outbox.send(&socket);
                            // The mailbox is served between batches.
                            task.waker().wake_by_ref();
                            Poll::Pending
                        }
                        Poll::Ready(Err(error)) => {
                            let tried = format_args!("receiving at udp {local}");
                            Poll::Ready(Err(Failure::socket(tried, error)))
                        }
                        Poll::Pending => Poll::Pending,
                    }
                },
            );
            self.receiving.push(Self::run(ctx, receiving));
        }
        Ok(())
    }

    /// Decides about a batch and stores what follows from it. What then is in the outbox may leave.
    fn decide(
        &mut self,
        link: usize,
        local: Ipv4Addr,
        socket: &WatchedSocket,
        batch: &ReceiveBatch,
        outbox: &mut Outbox,
    ) {
        let Some(ledger) = &self.ledger else {
            // Sockets are driven from the start on.
            return;
        };
        let now = ledger.now();
        for datagram in batch.iter() {
            let Some(received) = received(&datagram, link, local) else {
                continue;
            };
            let buffer = outbox.next_buffer();
            let decision = self.server.handle(datagram.payload, received, now, buffer);
            if let Some(kind) = decision.message {
                self.counters.received(kind);
            }
            match decision.outcome {
                Outcome::Reply(reply) => outbox.replies.push(reply),
                Outcome::Silent => {}
                Outcome::Dropped(reason) => {
                    let Datagram {
                        payload,
                        source,
                        destination,
                        ..
                    } = datagram;
                    socket.refused(payload, source, destination, reason.label());
                    self.dropped(reason, 1);
                }
            }
        }
        let records = self.server.take_records();
        let stored = if records.is_empty() {
            Ok(())
        } else {
            ledger.owner.commit(&records, now)
        };
        match stored {
            Ok(()) => {
                self.server.commit();
                self.tell(records);
                self.log_notes();
                for reply in &outbox.replies {
                    self.counters.sent(reply.kind.message_type());
                }
            }
            Err(error) => {
                self.server.roll_back();
                self.dropped(DropReason::Store, outbox.replies.len());
                outbox.replies.clear();
                self.tell_store(Err(error));
            }
        }
        self.publish();
    }

    fn tick(&mut self) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let reading = reading();
        if let Some(seconds) = ledger.clock.step(reading) {
            ledger.clock.shift(seconds);
            let now = ledger.clock.now(reading.steady);
            // Superseded: whoever took over follows the clock.
            if ledger.owner.shift(seconds, now).is_ok() {
                self.server.shift(seconds);
                tracing::warn!(
                    seconds,
                    "the clock was set; leases end when they would have, by the new time"
                );
            }
        }
        let now = ledger.clock.now(reading.steady);
        let mended = ledger.owner.mend(now);
        self.server.expire(now);
        self.server.commit();
        self.log_notes();
        let bound: u64 = self
            .server
            .counts()
            .map(|(_, _, counts)| counts.bound)
            .sum();
        if bound != self.kept.leases.len() as u64 {
            self.tell_all();
        }
        self.publish();
        self.tell_store(mended);
    }

    /// Tells once what is wrong with the store, and once that it is well again.
    fn tell_store(&mut self, state: Result<(), StoreError>) {
        match state {
            // The successor tells.
            Err(StoreError::Superseded) => {}
            Err(error) => {
                let trouble = error.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    match error {
                        StoreError::ReadOnly(_) => tracing::error!(
                            "{trouble}. Leases are still stored in the open file, but the next \
                             start will fail."
                        ),
                        _ => tracing::error!(
                            "{trouble}. Leases can't be stored, so none are given until they can."
                        ),
                    }
                    self.keep.degraded(LEASES, &trouble);
                    self.trouble = Some(trouble);
                }
            }
            Ok(()) => {
                if self.trouble.take().is_some() {
                    self.keep.recovered(LEASES);
                    tracing::info!("leases are stored again");
                }
            }
        }
    }

    fn log_notes(&mut self) {
        for note in self.server.take_notes() {
            let LeaseNote {
                change,
                address,
                hardware,
                hostname,
                until,
            } = note;
            let hostname = hostname.unwrap_or_default();
            let hostname = printable(&hostname, SHORT);
            tracing::info!(%address, %hardware, hostname, until, "lease {}", change.as_str());
        }
    }

    /// Tells other roles what has become of leases.
    fn tell(&self, records: Vec<Record>) {
        for record in records {
            self.kept.leases.publish(match record {
                Record::Keep(lease) if lease.state == StoredState::Bound => LeaseEvent::Bound {
                    address: lease.address,
                    hostname: lease.hostname,
                },
                Record::Keep(StoredLease { address, .. }) | Record::Forget(address) => {
                    LeaseEvent::Ended { address }
                }
            });
        }
    }

    /// The same of all leases there are: of those that have expired no record tells.
    fn tell_all(&self) {
        let bound = self.server.leases().filter(|lease| lease.state == "bound");
        let bound = bound.map(|lease| (lease.address, lease.hostname.map(Arc::from)));
        self.kept.leases.replace(bound);
    }

    fn dropped(&self, reason: DropReason, count: usize) {
        let dropped = &self.kept.metrics.dhcp_dropped;
        dropped
            .with_label_values(&[reason.label()])
            .inc_by(count as u64);
    }

    /// Makes the subnets' gauges anew: a reload may have changed the subnets.
    fn export(&mut self) {
        let Metrics {
            dhcp_leases,
            dhcp_pool_addresses,
            ..
        } = &*self.kept.metrics;
        dhcp_leases.reset();
        dhcp_pool_addresses.reset();
        let gauges = self.server.counts().map(|(network, size, counts)| {
            let subnet = network.to_string();
            dhcp_pool_addresses
                .with_label_values(&[&subnet])
                .set(gauge(size));
            counts
                .by_state()
                .map(|(state, _)| dhcp_leases.with_label_values(&[subnet.as_str(), state]))
        });
        self.gauges = gauges.collect();
        self.publish();
    }

    fn publish(&self) {
        for (gauges, (_, _, counts)) in self.gauges.iter().zip(self.server.counts()) {
            for (shown, (_, count)) in gauges.iter().zip(counts.by_state()) {
                shown.set(gauge(count));
            }
        }
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn reading() -> Reading {
    let (wall, steady) = net::wall_and_steady_time();
    Reading { wall, steady }
}

/// `None` for what did not come over IPv4, which these sockets don't hear.
fn received(datagram: &Datagram<'_>, link: usize, local: Ipv4Addr) -> Option<Received> {
    let SocketAddr::V4(source) = datagram.source else {
        return None;
    };
    let destination = match datagram.destination {
        Some(IpAddr::V4(destination)) => destination,
        _ => local,
    };
    Some(Received {
        source,
        destination,
        link,
    })
}

/// The answers to a batch, held until its leases are stored. Buffers are used again and again.
#[derive(Default)]
struct Outbox {
    replies: Vec<Reply>,
    /// One for each reply, and spare ones after them.
    buffers: Vec<Vec<u8>>,
}

impl Outbox {
    fn next_buffer(&mut self) -> &mut Vec<u8> {
        let next = self.replies.len();
        if next == self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        &mut self.buffers[next]
    }

    fn send(&mut self, socket: &WatchedSocket) {
        for (reply, bytes) in self.replies.drain(..).zip(&self.buffers) {
            let source = Some(reply.server.into());
            if let Err(error) = socket.try_send(bytes, reply.destination.into(), source) {
                tracing::debug!(%error, destination = %reply.destination, "a reply was not sent");
            }
        }
    }
}

/// `labnet_dhcp_messages_total`, taken out of its vector once.
struct Counters {
    discover: IntCounter,
    request: IntCounter,
    decline: IntCounter,
    release: IntCounter,
    inform: IntCounter,
    offer: IntCounter,
    ack: IntCounter,
    nak: IntCounter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let counter = |direction, kind| metrics.dhcp_messages.with_label_values(&[direction, kind]);
        Self {
            discover: counter("received", "discover"),
            request: counter("received", "request"),
            decline: counter("received", "decline"),
            release: counter("received", "release"),
            inform: counter("received", "inform"),
            offer: counter("sent", "offer"),
            ack: counter("sent", "ack"),
            nak: counter("sent", "nak"),
        }
    }

    fn received(&self, kind: MessageType) {
        match kind {
            MessageType::Discover => self.discover.inc(),
            MessageType::Request => self.request.inc(),
            MessageType::Decline => self.decline.inc(),
            MessageType::Release => self.release.inc(),
            MessageType::Inform => self.inform.inc(),
            // Not a client's: counted as dropped.
            _ => {}
        }
    }

    fn sent(&self, kind: MessageType) {
        match kind {
            MessageType::Offer => self.offer.inc(),
            MessageType::Ack => self.ack.inc(),
            _ => self.nak.inc(),
        }
    }
}
