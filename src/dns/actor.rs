mod counters;
mod tcp;

use std::{
    cell::RefCell,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context as Task, Poll, ready},
};

use actix::{AsyncContext, Context, SpawnHandle};

use crate::{
    config,
    http::{Places, accept},
    net::{
        Datagram, Purpose, ReceiveBatch, UdpSocket, WatchedSocket, drive,
        interface::missing_addresses, is_listening,
    },
    role::{Accepting, Failure, Keep, PrepareError, Resources, Role, role_actor},
    telemetry::Metrics,
    watch::event::packet::{self, Label, Protocol},
};

use super::{Authority, Name, Outcome, ReadFile, Transport, Zone};
use counters::{Counters, Dropped};
use tcp::{Questions, Service};

/// The DNS server's actor: owns the sockets' readers, asks the [`Authority`], sends the answers.
pub struct DnsActor {
    keep: Keep<Kept>,
    authority: Arc<Authority>,
    /// What the TCP connections share.
    questions: Questions,
    /// What receives from each UDP socket.
    receiving: Vec<(Arc<std::net::UdpSocket>, SpawnHandle)>,
    accepting: Accepting,
    counters: Counters,
    /// The answer being written; reused.
    answer: Vec<u8>,
}

/// What outlives the actor: bound sockets and the loaded zones.
#[derive(Clone)]
pub struct Kept {
    listeners: Vec<Listener>,
    authority: Arc<Authority>,
    files: Arc<[ZoneFile]>,
    limits: config::ConnectionLimits,
    places: Arc<Places>,
    metrics: Arc<Metrics>,
}

/// One address, both transports.
#[derive(Clone)]
struct Listener {
    configured: SocketAddr,
    bound: SocketAddr,
    udp: Arc<std::net::UdpSocket>,
    tcp: Arc<std::net::TcpListener>,
}

impl Listener {
    /// The same, with a new TCP listener if somebody has closed it from outside.
    fn checked(&self, resources: &Resources) -> io::Result<Self> {
        let mut checked = self.clone();
        if !is_listening(&checked.tcp) {
            checked.tcp = resources.sockets.tcp(checked.bound)?;
        }
        Ok(checked)
    }
}

/// A file that the zones were made from, as it was then.
#[derive(Debug, PartialEq)]
struct ZoneFile {
    path: PathBuf,
    /// Inode, size and time of the last change; `None` if it cannot be told.
    state: Option<(u64, u64, i64, i64)>,
}

impl ZoneFile {
    fn now(path: &Path) -> Self {
        let state = fs::metadata(path).ok().map(|metadata| {
            let size = metadata.size();
            (
                metadata.ino(),
                size,
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        });
        Self {
            path: path.to_owned(),
            state,
        }
    }
}

impl Role for DnsActor {
    const NAME: &'static str = "dns";
    type Config = config::Dns;
    type Kept = Kept;

    fn prepare(
        config: &config::Dns,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        let files = RefCell::new(Vec::new());
        let read_file = |path: &Path| {
            // Before it is read: what changes meanwhile counts as changed since.
            files.borrow_mut().push(ZoneFile::now(path));
            fs::read(path)
        };
        let zones = config.zones.iter().enumerate();
        let authority = zones
            .map(|(index, zone)| load(index, zone, &read_file))
            .collect::<Result<_, _>>()?;
        let listeners = config.listen.iter().map(|&address| {
            let kept = previous.and_then(|previous| {
                previous
                    .listeners
                    .iter()
                    .find(|listener| listener.configured == address)
            });
            let listener = match kept {
                Some(listener) => listener.checked(resources),
                None => bind(address, resources),
            };
            listener.map_err(|error| {
                PrepareError::new("dns.listen", format_args!("{address}: {error}"))
            })
        });
        Ok(Kept {
            listeners: listeners.collect::<Result<_, _>>()?,
            authority: Arc::new(authority),
            files: files.into_inner().into(),
            limits: config.connections,
            places: match previous {
                Some(kept) => Arc::clone(&kept.places),
                None => resources
                    .metrics
                    .places(Self::NAME, config.connections, Purpose::Peer),
            },
            metrics: Arc::clone(&resources.metrics),
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let bound = kept.listeners.iter().map(|listener| listener.bound);
        bound
            .flat_map(|address| [format!("udp {address}"), format!("tcp {address}")])
            .collect()
    }

    fn missing(kept: &Kept) -> Vec<String> {
        missing_addresses(kept.listeners.iter().map(|listener| listener.configured))
    }

    fn fits_host(kept: &Kept) -> bool {
        let mut listeners = kept.listeners.iter();
        listeners.all(|listener| is_listening(&listener.tcp))
    }

    fn files(kept: &Kept) -> Vec<PathBuf> {
        kept.files.iter().map(|file| file.path.clone()).collect()
    }

    fn changed_files(kept: &Kept) -> Vec<PathBuf> {
        let changed = kept
            .files
            .iter()
            .filter(|file| **file != ZoneFile::now(&file.path));
        changed.map(|file| file.path.clone()).collect()
    }

    fn up_to_date(kept: &Kept) -> bool {
        Self::changed_files(kept).is_empty()
    }

    fn new(keep: Keep<Kept>) -> Self {
        let kept = keep.get();
        let counters = Counters::new(Arc::clone(&kept.metrics));
        let service = Service::new(
            Arc::clone(&kept.authority),
            counters.clone(),
            Arc::clone(&kept.places),
        );
        Self {
            keep,
            authority: kept.authority,
            questions: Questions(Arc::new(service)),
            receiving: Vec::new(),
            accepting: Accepting::default(),
            counters,
            answer: Vec::new(),
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.listen(ctx)
            .map_err(|error| Failure::socket("taking over the DNS sockets", error))
    }

    fn change(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let new = self.keep.get().authority;
        self.questions.0.set_authority(Arc::clone(&new));
        let old = std::mem::replace(&mut self.authority, new);
        // A million names take their time to be forgotten: nobody shall wait for that.
        tokio::task::spawn_blocking(move || drop(old));
        self.start(ctx)
    }

    fn retire(metrics: &Metrics) {
        metrics.dns_zone_records.reset();
    }
}

fn load(
    index: usize,
    zone: &config::Zone,
    read_file: ReadFile<'_>,
) -> Result<Arc<Zone>, PrepareError> {
    let name: Name = zone
        .name
        .parse()
        .map_err(|error| PrepareError::new(format!("dns.zone[{index}].name"), error))?;
    Zone::load(&name, &zone.file, read_file)
        .map(Arc::new)
        .map_err(|error| PrepareError::new(format!("dns.zone[{index}].file"), error))
}

/// Binds both transports to one port. A port that the kernel chooses for UDP may be taken for TCP:
/// then it chooses again.
fn bind(address: SocketAddr, resources: &Resources) -> io::Result<Listener> {
    let mut tries = if address.port() == 0 { 16 } else { 1 };
    loop {
        tries -= 1;
        let udp = resources.sockets.udp(address)?;
        let bound = udp.local_addr()?;
        match resources.sockets.tcp(bound) {
            Ok(tcp) => {
                return Ok(Listener {
                    configured: address,
                    bound,
                    udp,
                    tcp,
                });
            }
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

role_actor!(DnsActor);

impl DnsActor {
    fn listen(&mut self, ctx: &mut Context<Self>) -> io::Result<()> {
        let kept = self.keep.get();
        // Zones of the configuration before this one are no longer ours.
        kept.metrics.dns_zone_records.reset();
        for zone in self.authority.zones() {
            let gauge = &kept.metrics.dns_zone_records;
            let records = i64::try_from(zone.records()).unwrap_or(i64::MAX);
            gauge
                .with_label_values(&[&zone.name().to_string()])
                .set(records);
        }
        kept.places.set_limits(kept.limits);
        let stays = |socket: &Arc<std::net::UdpSocket>| {
            let mut listeners = kept.listeners.iter();
            listeners.any(|listener| Arc::ptr_eq(&listener.udp, socket))
        };
        self.receiving.retain(|(socket, receiving)| {
            if !stays(socket) {
                ctx.cancel_future(*receiving);
            }
            stays(socket)
        });
        for listener in &kept.listeners {
            let mut receiving = self.receiving.iter();
            if receiving.any(|(socket, _)| Arc::ptr_eq(socket, &listener.udp)) {
                continue;
            }
            let label = Label::new(packet::Role::Dns, Protocol::Dns);
            let socket = WatchedSocket::new(UdpSocket::adopt(&listener.udp)?, label)?;
            let bound = listener.bound;
            let mut batch = ReceiveBatch::new();
            let receiving = drive(move |actor: &mut Self, _, task| {
                actor.poll_datagrams(&socket, bound, &mut batch, task)
            });
            let receiving = Self::run(ctx, receiving);
            self.receiving.push((Arc::clone(&listener.udp), receiving));
        }
        let listeners: Vec<_> = kept
            .listeners
            .iter()
            .map(|listener| Arc::clone(&listener.tcp))
            .collect();
        self.accepting.follow(ctx, &listeners, |listener| {
            accept(listener, Arc::clone(&kept.places), self.questions.clone())
        });
        Ok(())
    }

    fn poll_datagrams(
        &mut self,
        socket: &WatchedSocket,
        bound: SocketAddr,
        batch: &mut ReceiveBatch,
        task: &mut Task<'_>,
    ) -> Poll<Result<(), Failure>> {
        if let Err(error) = ready!(socket.poll_receive(task, batch)) {
            let failure = Failure::socket(format_args!("receiving at udp {bound}"), error);
            return Poll::Ready(Err(failure));
        }
        for datagram in batch.iter() {
            self.answer_datagram(socket, datagram);
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn answer_datagram(&mut self, socket: &WatchedSocket, datagram: Datagram<'_>) {
        let Datagram {
            payload,
            source: peer,
            destination,
            ..
        } = datagram;
        if peer.port() == 0 {
            // Nothing can be sent there.
            let reason = Dropped::PortZero;
            self.counters.dropped(reason).inc();
            socket.refused(payload, peer, destination, reason.label());
            return;
        }
        self.answer.clear();
        let outcome = self
            .authority
            .answer(payload, Transport::Udp, &mut self.answer);
        self.counters.count(Transport::Udp, outcome);
        if let Outcome::Ignored(reason) = outcome {
            socket.refused(payload, peer, destination, reason.label());
            tracing::debug!(%peer, ?reason, "DNS message ignored");
            return;
        }
        if let Err(error) = socket.try_send(&self.answer, peer, destination) {
            self.counters.dropped(Dropped::Send).inc();
            tracing::debug!(%peer, %error, "DNS answer lost");
        }
    }
}
