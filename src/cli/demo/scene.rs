//! What is played: the lab starts, the client walks, the lab stops.

use std::{
    future::pending,
    io,
    net::Ipv4Addr,
    sync::{Arc, mpsc::Sender},
    thread::{self, Scope},
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Args,
    ending::{self, Arrived, Ending, Outcome},
    happening::{Happening, Transfer},
    home::{CLIENT_DEVICE, Home},
    row::{Chapter, Packet},
    seen::Seen,
    stage::{FILES, HomeStage, Stage},
    table::Table,
};
use crate::{
    cli::{carriage::By, explain::arp::Watch},
    client::{
        dhcp::Identity,
        download::Downloaded,
        failure::{FetchError, WalkError},
        file_name::FileName,
        part,
        walk::{self, Dhcp, Gathered, Plan, Step, Via, Walk, Way},
    },
    config::BadLink,
    link::SignalLoss,
    net::Sockets,
    origin,
    supervisor::Lab,
    telemetry::Metrics,
    watch::{
        event::hub::Wants,
        log::{Observer, Seen as Observed},
        words::Words,
    },
};

/// The scraper reads a page of this very process.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// An interrupted walk still says goodbye, if that doesn't take long.
const GOODBYE: Duration = Duration::from_secs(3);
/// Signals that measure the round trip, all under way at once.
const ECHOES: usize = 6;
/// The packets before an event of another kind are told before it; an observer is at most this late.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Who plays, and who is told.
pub(super) struct Scene<'a> {
    /// What was asked for.
    pub(super) args: &'a Args,
    /// How bad the network of the signals is.
    pub(super) impaired: (SignalLoss, BadLink),
    /// How the files come.
    pub(super) via: Via,
    /// Where it plays.
    pub(super) stage: &'a Stage,
    /// Who tells it.
    pub(super) happenings: &'a Sender<Happening>,
    /// Who hears the packets.
    pub(super) packets: &'a Observer,
}

/// Turns every packet that a role sends into a happening.
pub(super) fn hear_packets(happenings: Sender<Happening>) -> io::Result<Observer> {
    let mut words = Words::default();
    let wants = Wants {
        // A lesson at full speed: what is folded anyway is not kept whole.
        data_bytes: 256,
        queue_bytes: 64 << 20,
        ..Wants::default()
    };
    Observer::start("packets", None, wants, move |seen| match seen {
        Observed::Packet(packet) => {
            let at = packet.when.steady;
            // Nobody listens any more: the demo is over.
            if let Some(seen) = Seen::through_nat(packet) {
                let _ = happenings.send(Happening::Seen(at, seen));
            }
            if let Some(packet) = Packet::sent(packet, &mut words) {
                let _ = happenings.send(Happening::Packet(at, packet));
            }
        }
        Observed::Other(_) => {}
        Observed::Pause { lost } if lost.sum() == 0 => {}
        Observed::Pause { lost } => {
            tracing::warn!(lost = lost.packets, "packets are missing in the story");
        }
    })
}

impl Scene<'_> {
    fn tell(&self, happening: Happening) {
        self.packets.catch_up(CATCH_UP);
        // Nobody listens if the teller has failed, which is noticed at the end.
        let _ = self.happenings.send(happening);
    }

    /// Starts the lab, walks, and stops the lab. Tells whether every file is verified. A client with a machine of
    /// its own walks in a thread of `scope`.
    pub(super) async fn play<'scope>(
        &'scope self,
        table: &Table,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<bool, String> {
        let mut interruption = Interruption::heeded()?;
        let (config, sockets) = (self.stage.config.clone(), self.stage.sockets.clone());
        let lab = Lab::start(config, sockets)
            .await
            .map_err(|error| format!("the lab does not start:\n{error}"))?;
        let metrics = Arc::clone(lab.metrics());
        let walked = match &self.stage.home {
            None => self.walk(&metrics, interruption.come()).await,
            Some(stage) => match Router::start(stage, self.happenings).await {
                Ok(router) => {
                    let walked = self.walk_there(scope, &stage.home, metrics, interruption.come());
                    let walked = walked.await;
                    router.stop().await;
                    walked
                }
                Err(problem) => Err(problem),
            },
        };
        let mut played = walked.and_then(|ending| {
            let (is_happy, interrupted) = (ending.is_happy(), ending.interrupted);
            self.tell(Happening::Ending(ending));
            match interrupted {
                true => Err("interrupted".to_owned()),
                false => Ok(is_happy),
            }
        });
        if self.args.keep && played.is_ok() {
            let addresses = &self.stage.addresses;
            self.tell(Happening::Text(if self.args.json {
                ending::json_invitation(addresses)
            } else {
                ending::invitation(table, addresses)
            }));
            self.tell(Happening::Chapter(Chapter::After));
            tokio::select! {
                () = interruption.come() => {}
                ended = lab.ended() => played = Err(format!("the lab ended: {ended:?}")),
            }
        }
        if !self.args.keep && !self.args.json && played.is_ok() {
            self.tell(Happening::Text(ending::next(table)));
        }
        lab.shutdown().await;
        played
    }

    /// The walk in the client's own machine.
    async fn walk_there<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        home: &'scope Home,
        metrics: Arc<Metrics>,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Ending, String> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, mut walked) = oneshot::channel();
        let walk = move || {
            home.client
                .enter()
                .map_err(|error| format!("the client's namespace: {error}"))?;
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("no runtime: {error}"))?;
            runtime.block_on(self.walk(&metrics, async {
                let _ = stopped.await;
            }))
        };
        let client = thread::Builder::new().name("client".to_owned());
        client
            .spawn_scoped(scope, move || drop(tell.send(walk())))
            .map_err(|error| format!("no thread: {error}"))?;
        tokio::select! {
            // Kept until then: dropped, it would stop the walk.
            walked = &mut walked => {
                drop(stop);
                walked
            }
            () = interrupted => {
                drop(stop);
                walked.await
            }
        }
        .unwrap_or_else(|_| Err("the client has failed".to_owned()))
    }

    /// The client's walk, to its end or until it is interrupted.
    async fn walk(
        &self,
        metrics: &Metrics,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Ending, String> {
        let mut walk = Walk::new(self.plan());
        let files_begin = Notify::new();
        let mut observer = Chapters {
            happenings: self.happenings,
            packets: self.packets,
            files: match self.via {
                Via::Http => Chapter::Files,
                Via::Rudp(_) => Chapter::Carried,
            },
            files_begin: &files_begin,
        };
        let home = async {
            wait_for_the_page(metrics).await?;
            let steps = self.steps(&mut walk, &mut observer);
            let home = tokio::select! {
                home = steps => home,
                problem = self.forget(&files_begin) => return Err(problem),
            };
            home.map_err(|error| error.to_string())
        };
        let home = tokio::select! {
            biased;
            () = interrupted => None,
            home = home => Some(home),
        };
        let address = walk.local();
        let interrupted = home.is_none();
        let (home, ended) = match home {
            Some(home) => (home, walk.end(&mut observer).await),
            None => {
                let broken_off = walk.break_off().await;
                let gathered = broken_off.map(|(_, gathered)| gathered);
                // Whoever interrupts it does not wait for servers that are silent.
                let ended = timeout(GOODBYE, walk.end(&mut observer)).await;
                let none = || Gathered {
                    files: Vec::new(),
                    summary: walk.none_came(FILES.len()),
                };
                (Ok(gathered.unwrap_or_else(none)), ended.unwrap_or(Ok(())))
            }
        };
        let Gathered { files, summary } = home?;
        ended.map_err(|error| error.to_string())?;
        let downloading = match &summary.carried {
            // All at once.
            Some(_) => summary.took,
            None => files.iter().flatten().map(|file| file.streaming).sum(),
        };
        let mut results = files.into_iter();
        let mut files = Vec::new();
        for name in FILES {
            files.push(Arrived {
                name: name.to_owned(),
                outcome: match results.next() {
                    Some(Ok(downloaded)) => verify(name, downloaded).await,
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err("it was not asked for yet".to_owned()),
                },
            });
        }
        let dropped = self.stage.home.as_ref().map(|stage| stage.home.dropped());
        Ok(Ending {
            interrupted,
            files,
            downloading,
            counts: walk.counts(),
            carried: summary.carried,
            address,
            dropped: dropped
                .transpose()
                .map_err(|error| format!("the NAT's counter: {error}"))?,
        })
    }

    /// Has the NAT forget at its time, if it shall. Ends only if it can't.
    async fn forget(&self, files_begin: &Notify) -> String {
        let (Some(after), Some(stage)) = (self.args.forget_after, &self.stage.home) else {
            return pending().await;
        };
        files_begin.notified().await;
        let began = Instant::now();
        tokio::time::sleep(after).await;
        let took = began.elapsed();
        match stage.home.forget() {
            Ok(ports) => {
                self.tell(Happening::Forgot(Instant::now(), took, ports));
                pending().await
            }
            Err(error) => format!("the NAT does not forget: {error}"),
        }
    }

    async fn steps(
        &self,
        walk: &mut Walk,
        observer: &mut Chapters<'_>,
    ) -> Result<Gathered, WalkError> {
        walk.connect(observer).await?;
        walk.echo(ECHOES, observer).await?;
        walk.stat(observer).await?;
        walk.list(observer).await?;
        walk.get(&FILES.map(FileName::from_name), observer).await
    }

    fn plan(&self) -> Plan {
        let Args { seed, name, .. } = self.args;
        let (loss, link) = self.impaired;
        let addresses = &self.stage.addresses;
        Plan {
            way: Way::Network {
                dhcp: Some(Dhcp {
                    server: match self.stage.home {
                        Some(_) => (Ipv4Addr::BROADCAST, addresses.dhcp.port()).into(),
                        None => addresses.dhcp,
                    },
                    interface: (self.stage.home.as_ref()).map(|_| CLIENT_DEVICE.to_owned()),
                    identity: Identity::from_seed(*seed, name.as_str()),
                    keep_lease: false,
                }),
                dns: None,
                dns_port: addresses.dns.port(),
                host: "example.com".to_owned(),
                port: addresses.rudp.port(),
            },
            name: name.clone(),
            loss,
            link,
            seed: *seed,
            origin: None,
            out: self.stage.folder.path().join("downloads"),
            force: false,
            discard: false,
            via: self.via.clone(),
            tcp_congestion: self.args.congestion.filter(|_| self.args.via == By::Http),
        }
    }
}

/// The router's DHCP server, and what is heard of ARP there.
struct Router {
    _arp: Watch,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Router {
    /// Starts it, in a thread in its namespace: those of its roles are begun there, and so are there, too.
    async fn start(stage: &HomeStage, happenings: &Sender<Happening>) -> Result<Self, String> {
        let namespace = stage.home.router.clone();
        let tell = happenings.clone();
        let arp = namespace.within(|| {
            Watch::start(move |frame, arp| {
                let _ = tell.send(Happening::Arp(frame.at, arp));
            })
        });
        let arp = arp.map_err(|error| format!("the router's ARP: {error}"))?;
        let (started, starts) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let config = stage.config.clone();
        let run = move || {
            if let Err(error) = namespace.enter() {
                let _ = started.send(Err(format!("the router's namespace: {error}")));
                return;
            }
            actix::System::new().block_on(async {
                match Lab::start(config, Sockets::default()).await {
                    Ok(lab) => {
                        let _ = started.send(Ok(()));
                        let _ = stopped.await;
                        lab.shutdown().await;
                    }
                    Err(error) => {
                        let problem = format!("the router does not start:\n{error}");
                        let _ = started.send(Err(problem));
                    }
                }
            });
            let _ = end.send(());
        };
        let thread = thread::Builder::new().name("router".to_owned()).spawn(run);
        thread.map_err(|error| format!("no thread: {error}"))?;
        let started = starts.await;
        started.unwrap_or_else(|_| Err("the router has failed".to_owned()))?;
        Ok(Self {
            _arp: arp,
            stop,
            ended,
        })
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.ended.await;
    }
}

/// Waits until the scraper knows the files: else the client might ask too early, and more often
/// than the seed foresees.
async fn wait_for_the_page(metrics: &Metrics) -> Result<(), String> {
    let files = &metrics.scrap_files;
    timeout(PAGE_PATIENCE, async {
        while files.get() < FILES.len() as i64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .map_err(|_| "the scraper does not get the download page".to_owned())
}

/// Reads the file once more from the disk and compares it with what the origin makes up.
async fn verify(name: &'static str, file: Downloaded) -> Result<Outcome, String> {
    let rate = file.rate();
    let read = spawn_blocking(move || {
        let original = origin::sample(name).ok_or("the origin has no such sample")?;
        let written = part::digest_of(&file.path)
            .map_err(|error| format!("{}: {error}", file.path.display()))?;
        Ok(Outcome {
            bytes: written.length,
            sha256: written.sha256,
            original: original.sha256(),
            rate,
        })
    });
    read.await.map_err(|error| error.to_string())?
}

/// Ctrl-C and SIGTERM, heeded from when it is made: who comes early is heard later.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn heeded() -> Result<Self, String> {
        let heed = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        Ok(Self {
            interrupt: heed(SignalKind::interrupt())?,
            terminate: heed(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Turns the walk's steps into the story's chapters.
struct Chapters<'a> {
    happenings: &'a Sender<Happening>,
    packets: &'a Observer,
    /// The one of the files.
    files: Chapter,
    files_begin: &'a Notify,
}

impl walk::Observer for Chapters<'_> {
    fn step(&mut self, step: Step) {
        let chapter = match step {
            Step::Address => Chapter::Address,
            Step::Name => Chapter::Name,
            Step::Signals => Chapter::Signals,
            Step::List => Chapter::List,
            Step::Files => self.files,
            Step::End => Chapter::End,
        };
        self.packets.catch_up(CATCH_UP);
        let _ = self.happenings.send(Happening::Chapter(chapter));
        if step == Step::Files {
            self.files_begin.notify_one();
        }
    }

    fn fetched(&mut self, file: &FileName, result: &Result<Downloaded, FetchError>) {
        let Ok(downloaded) = result else {
            return;
        };
        self.packets.catch_up(CATCH_UP);
        let _ = self.happenings.send(Happening::Arrived(Transfer {
            name: file.to_string(),
            bytes: downloaded.received,
            took: downloaded.streaming,
        }));
    }
}
