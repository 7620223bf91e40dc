//! The whole walk: an address, the proxy's address, a session, the list, the files, the end.

mod address;
mod files;
mod questions;

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use tokio::time::timeout;
use url::Url;

use super::{
    Patience,
    adopt::Adopted,
    dhcp::Identity,
    dialer::Dialer,
    download::{Downloaded, Progress},
    failure::{FetchError, WalkError},
    file_name::FileName,
    lease::Leased,
    lookup::{self, Found},
    session::{Answered, Counts, Notice, Session, SessionError, Settings},
    summary::Summary,
    transport::{self, Transport},
};
use crate::{
    config::BadLink,
    link::SignalLoss,
    rudp::{
        congestion::Algorithm,
        packet::{Cid, Protection, read_number},
        requester::{Event, Failure, Request},
        signal::Name,
    },
    watch::fates::Fates,
    watch::qlog::Qlog,
    watch::ring::Rings,
};

pub use self::{files::Gathered, questions::Told};

/// Where a client goes, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How it finds the proxy.
    pub way: Way,
    /// Its name.
    pub name: Name,
    /// What it loses on purpose of its own signals.
    pub loss: SignalLoss,
    /// How bad the network between it and the proxy is otherwise.
    pub link: BadLink,
    /// Decides transaction ids and spreads resends.
    pub seed: u64,
    /// Where files are for which the proxy knows no URL.
    pub origin: Option<Url>,
    /// Where files are put.
    pub out: PathBuf,
    /// Download what is there already, too.
    pub force: bool,
    /// Keep nothing of what is downloaded: to measure.
    pub discard: bool,
    /// How files come.
    pub via: Via,
    /// By which congestion control an HTTP origin is asked to send; only the built-in one knows how.
    pub tcp_congestion: Option<Algorithm>,
}

/// How files come from the proxy to the client.
#[derive(Debug, Clone)]
pub enum Via {
    /// The proxy says where they are, and the origin sends them over HTTP.
    Http,
    /// The proxy carries them over its binary transport.
    Rudp(Box<Carriage>),
}

/// How the binary transport is used.
#[derive(Debug, Clone)]
pub struct Carriage {
    /// What shall control the proxy's sending; `None`: what the proxy likes.
    pub congestion: Option<Algorithm>,
    /// How packets are protected.
    pub protection: Protection,
    /// The largest datagram that is tried, UDP payload bytes; `None`: what an Ethernet carries.
    pub max_datagram: Option<u16>,
    /// How bad the network is for its packets.
    pub link: BadLink,
    /// Where each connection's trace goes, if that is wanted.
    pub qlog: Option<Qlog>,
    /// Whether signals open the session and ask for the list as ever, and only the files go over the
    /// transport; if not, everything does.
    pub signals: bool,
}

/// How a client finds the proxy.
#[derive(Debug, Clone)]
pub enum Way {
    /// By DHCP and DNS.
    Network {
        /// From whom it gets an address; `None`: it uses whatever address its machine has.
        dhcp: Option<Dhcp>,
        /// The DNS server, if it isn't the one that DHCP names.
        dns: Option<SocketAddr>,
        /// Its port otherwise.
        dns_port: u16,
        /// The proxy's name.
        host: String,
        /// The proxy's port.
        port: u16,
    },
    /// It knows the proxy's address, and uses whatever address its machine has.
    Direct(SocketAddr),
}

/// How a client gets its address.
#[derive(Debug, Clone)]
pub struct Dhcp {
    /// The DHCP server, or all of them.
    pub server: SocketAddr,
    /// The interface where it is asked by broadcast, and which gets the address; `None`: the server is asked
    /// alone, and the address is one that the machine has already, as it has all of 127/8.
    pub interface: Option<String>,
    /// Who the client says it is.
    pub identity: Identity,
    /// Keep the address at the end.
    pub keep_lease: bool,
}

/// What a client waits for, in vain so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// An address: the DHCP server has not answered two messages.
    Address(SocketAddr),
    /// A session: the proxy has not answered three SIGNEW.
    Session(SocketAddr),
    /// A connection of the binary transport: the proxy has not answered for some seconds.
    Transport(SocketAddr),
}

/// The steps of the walk, as the story counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An address by DHCP.
    Address,
    /// The proxy's address by DNS.
    Name,
    /// Signals to the proxy.
    Signals,
    /// The list of files.
    List,
    /// The files.
    Files,
    /// The end of the session and of the lease.
    End,
}

/// Watches a walk. Every method has a do-nothing default.
pub trait Observer {
    /// A step begins.
    fn step(&mut self, _step: Step) {}
    /// The client asks a DHCP server for an address, with so much patience.
    fn asks(&mut self, _server: SocketAddr, _patience: Patience) {}
    /// It is silent where an answer should have come.
    fn waits(&mut self, _waits: Waits) {}
    /// The client has an address.
    fn leased(&mut self, _leased: &Leased) {}
    /// The client knows where the proxy is.
    fn found(&mut self, _found: &Found) {}
    /// The session is open, from the client's end to the proxy's; the round trip, if it is known.
    fn opened(&mut self, _local: SocketAddr, _server: SocketAddr, _rtt: Option<Duration>) {}
    /// Something happens while the client waits for answers.
    fn notice(&mut self, _notice: &Notice) {}
    /// The binary transport's connection is there.
    fn carried(&mut self, _transport: &Transport, _carriage: &Carriage) {}
    /// A download goes on.
    fn progress(&mut self, _file: &FileName, _progress: &Progress<'_>) {}
    /// A download has ended.
    fn fetched(&mut self, _file: &FileName, _result: &Result<Downloaded, FetchError>) {}
    /// All downloads have ended.
    fn gathered(&mut self, _summary: &Summary) {}
}

/// Watches nothing.
impl Observer for () {}

/// So often SIGNEW is sent again before it is told what may be wrong.
const SIGNEW_TRIES: u32 = 3;
/// So long a handshake may take before that.
const SILENCE: Duration = Duration::from_secs(3);
/// Of memory for what the client's own sending went through, bytes: it mostly acknowledges.
const RINGS: u64 = 4 << 20;

/// A walk under way.
pub struct Walk {
    plan: Plan,
    leased: Option<Leased>,
    adopted: Option<Adopted>,
    dns: Option<SocketAddr>,
    server: Option<SocketAddr>,
    session: Option<Session>,
    dialer: Option<Dialer>,
    /// The proxy's ids of the binary transport's connections that are over.
    carried_by: Vec<Cid>,
    fates: Fates,
    rings: Rings,
    /// Of sessions before this one.
    before: Counts,
    files: Vec<FileName>,
    /// While files are downloaded.
    under_way: Option<UnderWay>,
}

/// Downloads, each with what came of it so far.
struct UnderWay(Vec<(FileName, Option<Result<Downloaded, FetchError>>)>);

impl Walk {
    /// A walk at its start.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            leased: None,
            adopted: None,
            dns: None,
            server: None,
            session: None,
            dialer: None,
            carried_by: Vec::new(),
            fates: Fates::new(read_number),
            rings: Rings::new(RINGS),
            before: Counts::default(),
            files: Vec::new(),
            under_way: None,
        }
    }

    /// Steps 1 to 3: an address, the proxy's address, an open session.
    pub async fn connect(&mut self, observer: &mut dyn Observer) -> Result<(), WalkError> {
        let server = match self.plan.way.clone() {
            Way::Direct(server) => server,
            Way::Network {
                dhcp,
                dns,
                dns_port,
                host,
                port,
            } => {
                if let Some(dhcp) = dhcp {
                    observer.step(Step::Address);
                    let leased = self.lease(&dhcp, observer).await?;
                    observer.leased(&leased);
                }
                observer.step(Step::Name);
                let named = || {
                    let leased = self.leased.as_ref()?;
                    let address = *leased.lease.name_servers.first()?;
                    Some(SocketAddr::new(address.into(), dns_port))
                };
                let dns = dns.or_else(named).ok_or(WalkError::NoNameServer)?;
                self.dns = Some(dns);
                let local = self.local();
                let found = lookup::resolve(dns, &host, local, Patience::with(dns), self.plan.seed)
                    .await
                    .map_err(|error| WalkError::Lookup {
                        host,
                        server: dns,
                        error,
                    })?;
                observer.found(&found);
                (found.resolved.address(), port).into()
            }
        };
        self.server = Some(server);
        observer.step(Step::Signals);
        self.open(server, observer).await
    }

    /// Opens what the questions go over.
    async fn open(
        &mut self,
        server: SocketAddr,
        observer: &mut dyn Observer,
    ) -> Result<(), WalkError> {
        match &self.plan.via {
            Via::Rudp(carriage) if !carriage.signals => {
                self.transport(server, &carriage.clone(), observer).await?;
                Ok(())
            }
            _ => self.open_session(server, observer).await,
        }
    }

    /// The proxy and the binary transport's connection to it, after the steps that lead there.
    async fn reach(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<(SocketAddr, Transport), WalkError> {
        loop {
            if let (Some(server), Via::Rudp(carriage)) = (self.server, self.plan.via.clone()) {
                let transport = self.transport(server, &carriage, observer).await?;
                return Ok((server, transport));
            }
            self.connect(observer).await?;
        }
    }

    /// The binary transport's connection, told of if it is a new one.
    async fn transport(
        &mut self,
        server: SocketAddr,
        carriage: &Carriage,
        observer: &mut dyn Observer,
    ) -> Result<Transport, WalkError> {
        let settings = || transport::Settings {
            local: self.local(),
            server,
            name: self.plan.name.clone(),
            congestion: carriage.congestion,
            protection: carriage.protection.clone(),
            max_datagram: carriage.max_datagram,
            link: carriage.link,
            fates: Some(self.fates.clone()),
            rings: Some(self.rings.clone()),
            qlog: carriage.qlog.clone(),
        };
        let dialer = match &self.dialer {
            Some(dialer) => dialer.clone(),
            None => self.dialer.insert(Dialer::new(settings())).clone(),
        };
        let before = dialer.dialled();
        let mut dialling = pin!(dialer.transport());
        let transport = match timeout(SILENCE, dialling.as_mut()).await {
            Ok(transport) => transport,
            Err(_) => {
                observer.waits(Waits::Transport(server));
                dialling.await
            }
        };
        let transport = transport.map_err(|error| WalkError::Transport { server, error })?;
        if dialer.dialled() > before {
            observer.carried(&transport, carriage);
        }
        Ok(transport)
    }

    /// The proxy's ids of all connections of the binary transport that there were, the first one first.
    pub fn carried_by(&self) -> Vec<Cid> {
        let now = self.dialer.as_ref().map(Dialer::ids);
        let before = self.carried_by.iter().copied();
        before.chain(now.unwrap_or_default()).collect()
    }

    /// Ends the binary transport's connection, if there is one.
    async fn hang_up(&mut self) {
        if let Some(dialer) = self.dialer.take() {
            self.carried_by.extend(dialer.ids());
            dialer.close().await;
        }
    }

    /// What the bad network of this client's own did to the packets of its connections.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// What the sending of its connections went through.
    pub fn rings(&self) -> &Rings {
        &self.rings
    }

    async fn open_session(
        &mut self,
        server: SocketAddr,
        observer: &mut dyn Observer,
    ) -> Result<(), WalkError> {
        let settings = Settings {
            local: self.local(),
            server,
            name: self.plan.name.clone(),
            loss: self.plan.loss,
            link: self.plan.link,
            seed: self.plan.seed,
        };
        let mut in_vain = 0;
        let mut hear = |notice: &Notice| {
            observer.notice(notice);
            if matches!(notice, Notice::Event(Event::Resent { id: None, .. })) {
                in_vain += 1;
                if in_vain == SIGNEW_TRIES {
                    observer.waits(Waits::Session(server));
                }
            }
        };
        let (session, rtt) = Session::open(&settings, &mut hear)
            .await
            .map_err(|error| WalkError::Session { server, error })?;
        observer.opened(session.local(), server, rtt);
        self.session = Some(session);
        Ok(())
    }

    /// The leased address.
    pub fn local(&self) -> Option<IpAddr> {
        let leased = self.leased.as_ref()?;
        Some(leased.lease.address.into())
    }

    /// Asks questions, several at once. A session that the server has forgotten is opened anew,
    /// once.
    async fn ask(
        &mut self,
        requests: Vec<Request>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Answered>, WalkError> {
        let mut anew = false;
        loop {
            let Some(server) = self.server else {
                self.connect(observer).await?;
                continue;
            };
            let Some(session) = &mut self.session else {
                self.open_session(server, observer).await?;
                continue;
            };
            let asked = session
                .ask(requests.clone(), &mut |notice| observer.notice(notice))
                .await;
            match asked {
                Ok(answers) => return Ok(answers),
                Err(SessionError::Failed(Failure::NoAnswer(_) | Failure::NoList(_))) if !anew => {
                    anew = true;
                    self.forget_session();
                }
                Err(error) => return Err(WalkError::Session { server, error }),
            }
        }
    }

    /// Opens a new session in the place of the old one, which is ended first.
    pub async fn renew(&mut self, observer: &mut dyn Observer) -> Result<(), WalkError> {
        if let Some(session) = &mut self.session {
            // A server that has forgotten it has ended it, too.
            let _ = session
                .ask(vec![Request::End], &mut |notice| observer.notice(notice))
                .await;
        }
        self.forget_session();
        self.hang_up().await;
        match self.server {
            Some(server) => self.open(server, observer).await,
            None => self.connect(observer).await,
        }
    }

    fn forget_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.before = self.before.and(session.counts());
        }
    }

    /// The list as it was last heard.
    pub fn files(&self) -> &[FileName] {
        &self.files
    }

    /// The file that `text` means: by its name, or by its number in the list (the first is 1). A
    /// name that isn't in the list is taken as it is: the origin may have it all the same.
    pub fn choose(&self, text: &str) -> FileName {
        let by_name = self
            .files
            .iter()
            .find(|file| file.to_string() == text || file.wire() == text);
        let by_number = || {
            let number: usize = text.parse().ok()?;
            self.files.get(number.checked_sub(1)?)
        };
        by_name
            .or_else(by_number)
            .cloned()
            .unwrap_or_else(|| FileName::from_name(text))
    }

    /// Changes what is lost on purpose from now on.
    pub fn set_loss(&mut self, loss: SignalLoss) {
        self.plan.loss = loss;
        if let Some(session) = &mut self.session {
            session.set_loss(loss);
        }
    }

    /// Holds the session open while the user thinks. Never returns; may be dropped at any time.
    pub async fn stay(&mut self) -> Infallible {
        match &mut self.session {
            Some(session) => session.stay().await,
            None => std::future::pending().await,
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        match &self.session {
            Some(session) => self.before.and(session.counts()),
            None => self.before,
        }
    }

    /// Ends the session and gives the address back. Both are tried, whatever becomes of the other.
    pub async fn end(&mut self, observer: &mut dyn Observer) -> Result<(), WalkError> {
        observer.step(Step::End);
        let mut ended = Ok(());
        self.hang_up().await;
        if let (Some(mut session), Some(server)) = (self.session.take(), self.server) {
            let asked = session
                .ask(vec![Request::End], &mut |notice| observer.notice(notice))
                .await;
            self.before = self.before.and(session.counts());
            ended = match asked {
                // A server that has forgotten the session has ended it, too; and one that can't be
                // told, for the address is gone, will.
                Ok(_) | Err(SessionError::Failed(_) | SessionError::Socket(_)) => Ok(()),
                Err(error) => Err(WalkError::Session { server, error }),
            };
        }
        self.give_back().await;
        ended
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "an address by DHCP",
            Self::Name => "the proxy's address by DNS",
            Self::Signals => "a RUDP session with the proxy",
            Self::List => "the list of files",
            Self::Files => "the files",
            Self::End => "the end",
        })
    }
}
