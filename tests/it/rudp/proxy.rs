//! A running endpoint, its scraper, and a socket to speak to it by hand.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix::{Addr, AsyncContext, Context};
use labnet::{
    config,
    role::{
        Keep, Resources, Role,
        api::{ListSessions, SessionEntry},
    },
    rudp::{Kept, RudpEndpoint},
    telemetry::Metrics,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    time::{sleep, timeout},
};

pub(crate) const LIST: &str = "50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;";
/// How long a test waits for what should take no time, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn config(scraper: Option<SocketAddr>) -> config::Rudp {
    config::Rudp {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        max_window: 64,
        idle_timeout: Duration::from_secs(60),
        max_sessions: 4096,
        shares: config::Shares::of(4096),
        scraper,
        transport: config::Transport::default(),
        link: None,
        watch: config::Watch::default(),
    }
}

/// A running endpoint.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: Addr<RudpEndpoint>,
    pub(crate) running: actix_rt::task::JoinHandle<()>,
    pub(crate) keep: Keep<Kept>,
    pub(crate) resources: Resources,
    _state: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn start(config: &config::Rudp) -> Self {
        Self::start_after(config, |_| {})
    }

    /// Starts it after something has happened.
    pub(crate) fn start_after(config: &config::Rudp, before: impl FnOnce(&Resources)) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let resources = Resources::new(state.path().to_owned());
        before(&resources);
        let kept = RudpEndpoint::prepare(config, None, &resources).expect("bind");
        let address = listens(&kept);
        let keep = Keep::new(kept);
        let (endpoint, running) = run(&keep);
        Self {
            address,
            endpoint,
            running,
            keep,
            resources,
            _state: state,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.resources.metrics
    }

    /// The sessions of the signals.
    pub(crate) async fn sessions(&self) -> Vec<SessionEntry> {
        let listed = self.endpoint.send(ListSessions).await.expect("it runs");
        let signals = listed.into_iter();
        signals
            .filter(|session| session.kind == "signals")
            .collect()
    }

    /// Waits until a metric's line stands in the exposition.
    pub(crate) async fn shows(&self, line: &str) {
        wait_for(line, || {
            self.metrics().render().lines().any(|shown| shown == line)
        })
        .await;
    }
}

/// Starts the actor as a task that can be ended, as its supervisor does.
pub(crate) fn run(keep: &Keep<Kept>) -> (Addr<RudpEndpoint>, actix_rt::task::JoinHandle<()>) {
    let context = Context::new();
    let address = context.address();
    let actor = RudpEndpoint::new(keep.clone());
    (address, actix_rt::spawn(context.into_future(actor)))
}

pub(crate) fn listens(kept: &Kept) -> SocketAddr {
    let listens = RudpEndpoint::listens(kept);
    let address = listens[0].strip_prefix("udp ").expect("udp first");
    address.parse().expect("an address")
}

pub(crate) async fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A scraper that gives its list, and the URL of any file of it.
pub(crate) async fn scraper(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("accept");
        actix_rt::spawn(async move {
            let mut question = vec![0; 1024];
            let length = stream.read(&mut question).await.expect("a question");
            let question = std::str::from_utf8(&question[..length]).expect("ASCII");
            let answer = match question.strip_prefix("SIGNURL:") {
                None => {
                    assert_eq!(question, "SIGNGET");
                    LIST.to_owned()
                }
                Some(file) => {
                    let file = file.strip_suffix('\n').expect("a line");
                    if LIST.split(';').any(|known| known == file) {
                        format!("http://127.0.0.1:8080/{file}")
                    } else {
                        "SIGNNONE".to_owned()
                    }
                }
            };
            stream.write_all(answer.as_bytes()).await.expect("taken");
        });
    }
}

pub(crate) async fn start_scraper() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    actix_rt::spawn(scraper(listener));
    address
}

/// A socket that speaks datagrams by hand.
pub(crate) struct Raw(pub(crate) UdpSocket);

impl Raw {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, server).await
    }

    pub(crate) async fn from(address: Ipv4Addr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).await.expect("loopback");
        socket.connect(server).await.expect("loopback");
        Self(socket)
    }

    pub(crate) async fn send(&self, datagram: impl AsRef<[u8]>) {
        self.0.send(datagram.as_ref()).await.expect("loopback");
    }

    pub(crate) async fn hear(&self) -> String {
        let mut buffer = vec![0; 65_536];
        let received = timeout(PATIENCE, self.0.recv(&mut buffer)).await;
        let length = received.expect("an answer in time").expect("loopback");
        String::from_utf8(buffer[..length].to_vec()).expect("ASCII")
    }

    pub(crate) async fn ask(&self, datagram: &str) -> String {
        self.send(datagram).await;
        self.hear().await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }
}
