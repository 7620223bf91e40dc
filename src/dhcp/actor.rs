mod listener;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{self, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{AsyncContext, Context, Handler};
use dhcproto::v4::MessageType;
use prometheus::{IntCounter, IntGauge};

use listener::Listener;

use super::{
    lease::{Record, StoredLease, StoredState},
    reply::Reply,
    server::{DropReason, LeaseView, Outcome, Received, Server},
    store::Store,
};
use crate::{
    config,
    net::{self, Datagram, ReceiveBatch, UdpSocket},
    role::{
        Failure, FailureKind, Keep, LeaseEvent, Leases, PrepareError, Resources, Role, role_actor,
    },
    telemetry::{
        Metrics,
        api::{self, ListLeases},
        packets,
    },
};

/// How often expired leases are looked for that no client asks about.
const TICK: Duration = Duration::from_secs(1);

/// A store that fails is reported at most once in so many seconds.
const REPORT_INTERVAL: u64 = 10;

/// The DHCP server's actor.
pub struct DhcpActor {
    keep: Keep<DhcpKept>,
    kept: DhcpKept,
    server: Server,
    counters: Counters,
    /// Of each subnet, by state.
    gauges: Vec<[IntGauge; 5]>,
    reported: Option<u64>,
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
            None => {
                let store = Store::open(&resources.state_dir).map_err(unusable)?;
                // The actor loads them when it starts; here it can still be refused.
                store.load().map_err(unusable)?;
                store
            }
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

    fn up_to_date(kept: &DhcpKept) -> bool {
        kept.listeners.iter().all(Listener::is_up_to_date)
    }

    fn new(keep: Keep<DhcpKept>) -> Self {
        let kept = keep.get();
        let links = kept.listeners.iter();
        Self {
            server: Server::new(&kept.config, links.map(|l| l.link.clone()).collect()),
            counters: Counters::new(&kept.metrics),
            gauges: Vec::new(),
            reported: None,
            keep,
            kept,
        }
    }

    fn keep(&self) -> &Keep<DhcpKept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.listen(ctx)
    }

    fn retire(metrics: &Metrics) {
        metrics.dhcp_leases.reset();
        metrics.dhcp_pool_addresses.reset();
    }
}

role_actor!(DhcpActor);

impl Handler<ListLeases> for DhcpActor {
    type Result = Vec<api::Lease>;

    fn handle(&mut self, _: ListLeases, _: &mut Self::Context) -> Self::Result {
        self.tick();
        self.server.leases().map(shown).collect()
    }
}

fn shown(lease: LeaseView<'_>) -> api::Lease {
    let hexadecimal = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect();
    api::Lease {
        address: lease.address,
        hardware_address: lease.hardware.to_string(),
        client_id: lease.client.as_identifier().map(hexadecimal),
        hostname: lease.hostname.map(str::to_owned),
        state: lease.state.to_owned(),
        subnet: lease.subnet.to_string(),
        expires_unix: lease.until,
        reserved: lease.reserved,
    }
}

impl DhcpActor {
    fn listen(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let stored = self.kept.store.load();
        let stored = stored.map_err(|error| Failure::new(FailureKind::State, error))?;
        let leases = stored.len();
        let elsewhere = self.server.restore(stored, unix_now());
        tracing::info!(leases, elsewhere, "leases loaded");
        self.tell_all();
        self.export();
        for (link, listener) in self.kept.listeners.iter().enumerate() {
            let Some(socket) = &listener.socket else {
                continue;
            };
            let socket = UdpSocket::adopt(socket)
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
                            actor.decide(link, *local.ip(), &batch, &mut outbox);
                            outbox.send(&socket, local.port());
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
            Self::run(ctx, receiving);
        }
        ctx.run_interval(TICK, |actor, _| actor.tick());
        Ok(())
    }

    /// Decides about a batch and stores what follows from it. What then is in the outbox may leave.
    fn decide(&mut self, link: usize, local: Ipv4Addr, batch: &ReceiveBatch, outbox: &mut Outbox) {
        let now = unix_now();
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
                Outcome::Dropped(reason) => self.dropped(reason, 1),
            }
        }
        let records = self.server.take_records();
        let stored = if records.is_empty() {
            Ok(())
        } else {
            self.kept.store.commit(&records)
        };
        match stored {
            Ok(()) => {
                self.server.commit();
                self.tell(records);
                for reply in &outbox.replies {
                    self.counters.sent(reply.kind.message_type());
                }
            }
            Err(error) => {
                self.server.roll_back();
                self.dropped(DropReason::Store, outbox.replies.len());
                outbox.replies.clear();
                self.report(&error, now);
            }
        }
        self.publish();
    }

    fn tick(&mut self) {
        self.server.expire(unix_now());
        self.server.commit();
        let bound: u64 = self
            .server
            .counts()
            .map(|(_, _, counts)| counts.bound)
            .sum();
        if bound != self.kept.leases.len() as u64 {
            self.tell_all();
        }
        self.publish();
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

    fn report(&mut self, error: &dyn std::error::Error, now: u64) {
        let recent = |reported: u64| now.abs_diff(reported) < REPORT_INTERVAL;
        if !self.reported.is_some_and(recent) {
            self.reported = Some(now);
            tracing::error!(%error, "leases can't be stored, so none are given");
        }
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

fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
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

    fn send(&mut self, socket: &UdpSocket, port: u16) {
        for (reply, bytes) in self.replies.drain(..).zip(&self.buffers) {
            if packets::watched() {
                packets::sent(
                    DhcpActor::NAME,
                    "DHCP",
                    (reply.server, port).into(),
                    reply.destination.into(),
                    bytes.len(),
                    packets::Fate::Sent,
                    reply.kind,
                );
            }
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
