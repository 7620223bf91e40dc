//! Where a run happens, and the link there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    compare::{plan::Run, recorder::FlowOf},
    link::{LinkControl, Relay, RelayPlan, Tunnel, TunnelPlan, model::Verdict},
    net::{Namespace, TunPlan, ip},
    rudp::packet::read_number,
    watch::fates::Reader,
};

/// Where it happens.
#[derive(Debug, Clone)]
pub enum Ground {
    /// The loopback interface, and a relay of UDP datagrams before one server.
    Loopback,
    /// Two network namespaces that a tunnel of IP packets joins.
    Namespaces {
        /// Where receivers are.
        left: Namespace,
        /// Where senders are.
        right: Namespace,
    },
}

/// Each flow's receiver has an address of its own on loopback.
const FIRST_RECEIVER: u32 = u32::from_be_bytes([127, 0, 99, 1]);
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The size of their network.
const PREFIX: u8 = 24;
const DEVICE: &str = "link0";
/// Each flow's sender has a port of its own in its namespace.
const FIRST_PORT: u16 = 20_000;
/// What an IPv4 header without options takes.
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

impl Ground {
    /// Two new namespaces.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn namespaces() -> io::Result<Self> {
        Ok(Self::Namespaces {
            left: Namespace::new()?,
            right: Namespace::new()?,
        })
    }

    /// Runs something where receivers are.
    pub(super) fn at_receivers<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, String> {
        self.spawn(true, name, work)
    }

    /// Runs something where senders are.
    pub(super) fn at_senders<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, String> {
        self.spawn(false, name, work)
    }

    fn spawn<T: Send + 'static>(
        &self,
        at_receivers: bool,
        name: &str,
        work: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, String> {
        let spawned = match self {
            Self::Loopback => Builder::new()
                .name(name.to_owned())
                .spawn(move || work(Ok(()))),
            Self::Namespaces { left, right } => {
                let namespace = if at_receivers { left } else { right };
                namespace.spawn(name, work)
            }
        };
        spawned.map_err(|error| format!("no thread: {error}"))
    }

    /// Has this kernel's TCP begin with so many packets where senders are, once there is a link.
    pub(super) fn set_initial_window(&self, packets: u16) -> Result<(), String> {
        let network = Ipv4Addr::from_bits(RIGHT.to_bits() & (u32::MAX << (32 - PREFIX)));
        let route = format!("{network}/{PREFIX}");
        let packets = packets.to_string();
        let set = self.at_senders("route", move |entered| {
            entered?;
            ip(&[
                "route", "change", &route, "dev", DEVICE, "initcwnd", &packets,
            ])
        })?;
        let set = set
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        set.map_err(|error| format!("TCP's initial window: {error}"))
    }

    /// Where the sender of this flow listens. On loopback any port is as good.
    pub(super) fn listen(&self, flow: usize) -> SocketAddr {
        match self {
            Self::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
            Self::Namespaces { .. } => {
                // There are no more flows than ports.
                let flow = u16::try_from(flow).unwrap_or(0);
                (RIGHT, FIRST_PORT.saturating_add(flow)).into()
            }
        }
    }

    /// The address that the receiver of this flow is to send from, if that matters.
    pub(super) fn local(&self, flow: usize) -> Option<IpAddr> {
        let address = FIRST_RECEIVER.saturating_add(u32::try_from(flow).unwrap_or(0));
        match self {
            Self::Loopback => Some(Ipv4Addr::from_bits(address).into()),
            Self::Namespaces { .. } => None,
        }
    }

    /// To which flow a packet belongs.
    pub(super) fn flow_of(&self) -> FlowOf {
        match self {
            Self::Loopback => Box::new(by_receiver),
            Self::Namespaces { .. } => Box::new(by_port),
        }
    }

    /// What reads the numbers of labnet's own packets.
    pub(super) fn reader(&self) -> Reader {
        match self {
            Self::Loopback => read_number,
            Self::Namespaces { .. } => {
                |packet: &[u8]| read_number(packet.get(IP_HEADER + UDP_HEADER..)?)
            }
        }
    }

    /// Puts up the link. On loopback it is before `server`.
    pub(super) fn link(
        &self,
        run: &Run,
        server: Option<SocketAddr>,
    ) -> Result<RunningLink, String> {
        let (up, down, seed) = (run.up, run.down, run.seed);
        let flows = run.senders.len();
        let (ground, (tell, told)) = (self.clone(), mpsc::channel());
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                match &ground {
                    Ground::Loopback => {
                        let to = server.ok_or_else(|| io::Error::other("nobody listens"))?;
                        let relay = Relay::bind(RelayPlan {
                            listen: (Ipv4Addr::LOCALHOST, 0).into(),
                            to,
                            up,
                            down,
                            seed,
                            clients: flows,
                            idle: Duration::from_secs(3600),
                        })?;
                        // Nobody hears it only if nobody waits any more.
                        let _ = tell.send((relay.control(), relay.local_addr()?));
                        tokio::select! {
                            failed = relay.run() => failed,
                            _ = stopped => Ok(()),
                        }
                    }
                    Ground::Namespaces { left, right } => {
                        let end = |namespace: &Namespace, address| TunPlan {
                            namespace: namespace.path().display().to_string(),
                            device: DEVICE.to_owned(),
                            address,
                            prefix_len: PREFIX,
                            mtu: 1500,
                        };
                        let tunnel = Tunnel::open(&TunnelPlan {
                            left: end(left, LEFT),
                            right: end(right, RIGHT),
                            up,
                            down,
                            seed,
                        })?;
                        let _ = tell.send((tunnel.control(), (RIGHT, FIRST_PORT).into()));
                        tokio::select! {
                            failed = tunnel.run() => failed,
                            _ = stopped => Ok(()),
                        }
                    }
                }
            })
        };
        let thread = Builder::new().name("link".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("no thread: {error}"))?;
        match told.recv() {
            Ok((control, address)) => Ok(RunningLink {
                control,
                address,
                stop,
                thread,
            }),
            // It has ended, and says why.
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => format!(
                    "no link: {error}; `chmod 666 /dev/net/tun` opens it to everybody. Or run it as root"
                ),
                Ok(Err(error)) => format!("no link: {error}"),
                _ => "no link".to_owned(),
            }),
        }
    }
}

/// A link that runs in a thread of its own.
pub(super) struct RunningLink {
    /// What can be seen and changed of it.
    pub(super) control: LinkControl,
    /// Where receivers send to.
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl RunningLink {
    /// Whether it has failed: nothing else ends it.
    pub(super) fn is_down(&self) -> bool {
        self.thread.is_finished()
    }

    /// Takes it down.
    ///
    /// # Errors
    /// Why it was down before.
    pub(super) fn end(self) -> Result<(), String> {
        // It may have failed, and ended by itself.
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the link failed: {error}")),
            Err(_) => Err("the link failed".to_owned()),
        }
    }
}

fn by_receiver(verdict: &Verdict<'_>) -> Option<usize> {
    match verdict.peer?.ip() {
        IpAddr::V4(address) => {
            let flow = address.to_bits().checked_sub(FIRST_RECEIVER)?;
            usize::try_from(flow).ok()
        }
        IpAddr::V6(_) => None,
    }
}

/// By the port of the sender, which is in the same place for TCP and UDP.
fn by_port(verdict: &Verdict<'_>) -> Option<usize> {
    let ports = verdict.payload.get(IP_HEADER..IP_HEADER + 4)?;
    let port = u16::from_be_bytes([ports[0], ports[1]]);
    port.checked_sub(FIRST_PORT).map(usize::from)
}
