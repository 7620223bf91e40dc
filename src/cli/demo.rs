//! `labnet demo`: the whole story on the loopback interface, told packet by packet.

mod ending;
mod fold;
mod manner;
mod stage;
mod story;
mod table;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use console::Term;
use ending::{Arrived, Ending, Outcome};
use manner::{Manner, Pause};
use stage::{FILES, Stage};
use story::{Chapter, Happening, Packet, Telling, Transfer};
use table::Table;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::timeout,
};
use tracing::level_filters::LevelFilter;

use super::{
    WRONG_USE,
    carriage::{By, algorithms},
    explain::Explainer,
    link::{Impairment, OWN_SIGNALS},
    observe::Observe,
};
use crate::{
    client::{
        dhcp::Identity,
        download::Downloaded,
        failure::{FetchError, WalkError},
        file_name::FileName,
        part,
        walk::{self, Carriage, Dhcp, Gathered, Plan, Step, Via, Walk, Way},
    },
    config::{BadLink, link_options::duration},
    link::SignalLoss,
    origin,
    rudp::{congestion::Algorithm, packet::Protection, signal::Name},
    supervisor::Lab,
    telemetry::{complain, logging},
    watch::{
        event::hub::Wants,
        log::{Observer, Seen},
        words::Words,
    },
};

/// Arguments of `labnet demo`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("loss", |loss| loss.help(OWN_SIGNALS)))]
pub(super) struct Args {
    /// Decides which signals are lost, and every other packet's fate: the same seed, the same ones
    #[arg(long, value_name = "NUMBER", default_value_t = 7)]
    seed: u64,
    /// The name that the client gives to the proxy
    #[arg(long, value_name = "NAME", default_value = "Tal", value_parser = super::client::name)]
    name: Name,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Go on serving at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Explain each kind of message the first time: layer by layer, why it is sent, what a NAT would change
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// Wait so long before each line (500ms, 2s)
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "json")]
    pace: Option<Duration>,
    /// Wait for a key before each line; q ends the story
    #[arg(long, conflicts_with_all = ["json", "pace"])]
    step: bool,
    /// How the files come
    #[arg(long, value_name = "WAY", default_value = "http")]
    via: By,
    /// What shall control the sending: the proxy's with --via rudp, else that of the origin's TCP
    #[arg(long, value_name = "NAME", value_parser = algorithms())]
    congestion: Option<Algorithm>,
    #[command(flatten)]
    impairment: Impairment,
    #[command(flatten)]
    observe: Observe,
}

/// Signals that measure the round trip, all under way at once.
const ECHOES: usize = 6;
/// The scraper reads a page of this very process.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);

/// Tells the story; 0 only if every file is verified.
pub(super) fn run(args: Args) -> ExitCode {
    let impaired = args.impairment.of_signals(args.seed);
    let (impaired, via) = match impaired.and_then(|impaired| Ok((impaired, via(&args)?))) {
        Ok(planned) => planned,
        Err(problem) => {
            fail(&problem);
            return ExitCode::from(WRONG_USE);
        }
    };
    if args.step && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        fail("--step waits for a key and needs a terminal; --pace TIME goes on by itself");
        return ExitCode::from(WRONG_USE);
    }
    if let (Via::Http, Some(option)) = (&via, args.impairment.given()) {
        complain(format_args!(
            "labnet demo: {option} is for the signals: the files come over TCP, past the bad network (--via rudp \
             takes them through it)"
        ));
    }
    let (happenings, heard) = mpsc::channel();
    logging::init(None, LevelFilter::WARN);
    let _observing = match args.observe.start() {
        Ok(observing) => observing,
        Err(problem) => return fail(&problem),
    };
    let packets = match hear_packets(happenings.clone()) {
        Ok(packets) => packets,
        Err(error) => return fail(&format!("no thread: {error}")),
    };
    let stage = match Stage::set() {
        Ok(stage) => stage,
        Err(problem) => return fail(&problem),
    };
    let term = Term::stdout();
    let table = Table::new(
        term.size_checked().map(|(_, columns)| usize::from(columns)),
        console::colors_enabled(),
    );
    let telling = if args.json {
        Telling::Json
    } else {
        let cast = ending::cast(&table, &stage.addresses);
        let _ = happenings.send(Happening::Text(cast));
        Telling::Table(table.clone())
    };
    let mut manner = Manner {
        explainer: (args.explain)
            .then(|| Explainer::new(table.columns(), console::colors_enabled())),
        pause: match (args.pace, args.step) {
            (Some(pace), _) => Pause::For(pace),
            (None, true) => Pause::Key,
            (None, false) => Pause::None,
        },
    };
    let began = Instant::now();
    let teller = thread::Builder::new()
        .name("story".to_owned())
        .spawn(move || story::tell(&heard, &telling, &mut manner, began, io::stdout()));
    let teller = match teller {
        Ok(teller) => teller,
        Err(error) => return fail(&format!("no thread: {error}")),
    };
    let scene = Scene {
        args: &args,
        impaired,
        via,
        stage: &stage,
        happenings: &happenings,
        packets: &packets,
    };
    let played = actix::System::new().block_on(scene.play(&table));
    drop(packets);
    let _ = happenings.send(Happening::End);
    if teller.join().is_err() {
        return fail("the story was not told to its end");
    }
    match played {
        Ok(true) => ExitCode::SUCCESS,
        // What is wrong stands in the table's end.
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => fail(&problem),
    }
}

fn fail(problem: &str) -> ExitCode {
    complain(format_args!("labnet demo: {problem}"));
    ExitCode::FAILURE
}

/// How the files come. The signals before them are part of the story in any case.
fn via(args: &Args) -> Result<Via, String> {
    match (args.via, args.congestion) {
        (By::Http, _) => Ok(Via::Http),
        (By::Rudp, congestion) => Ok(Via::Rudp(Box::new(Carriage {
            congestion,
            protection: Protection::Checksum,
            max_datagram: None,
            link: args.impairment.of_packets(args.seed)?,
            qlog: None,
            signals: true,
        }))),
    }
}

struct Scene<'a> {
    args: &'a Args,
    impaired: (SignalLoss, BadLink),
    via: Via,
    stage: &'a Stage,
    happenings: &'a Sender<Happening>,
    packets: &'a Observer,
}

/// Turns every packet that a role sends into a happening.
fn hear_packets(happenings: Sender<Happening>) -> io::Result<Observer> {
    let mut words = Words::default();
    let wants = Wants {
        // A lesson at full speed: what is folded anyway is not kept whole.
        data_bytes: 256,
        queue_bytes: 64 << 20,
        ..Wants::default()
    };
    Observer::start("packets", wants, move |seen| match seen {
        Seen::Packet(packet) => {
            let at = packet.when.steady;
            if let Some(packet) = Packet::sent(packet, &mut words) {
                // Nobody listens any more: the demo is over.
                let _ = happenings.send(Happening::Packet(at, packet));
            }
        }
        Seen::Pause { lost: 0 } => {}
        Seen::Pause { lost } => tracing::warn!(lost, "packets are missing in the story"),
    })
}

/// The packets before an event of another kind are told before it; an observer is at most this late.
const CATCH_UP: Duration = Duration::from_millis(100);

impl Scene<'_> {
    fn tell(&self, happening: Happening) {
        self.packets.catch_up(CATCH_UP);
        // Nobody listens if the teller has failed, which is noticed at the end.
        let _ = self.happenings.send(happening);
    }

    /// Starts the lab, walks, and stops the lab. Tells whether every file is verified.
    async fn play(&self, table: &Table) -> Result<bool, String> {
        let (config, sockets) = (self.stage.config.clone(), self.stage.sockets.clone());
        let lab = Lab::start(config, sockets)
            .await
            .map_err(|error| format!("the lab does not start:\n{error}"))?;
        let mut played = tokio::select! {
            ending = self.walk(&lab) => ending.map(|ending| {
                let is_happy = ending.is_happy();
                self.tell(Happening::Ending(ending));
                is_happy
            }),
            () = interrupted() => Err("interrupted".to_owned()),
        };
        if self.args.keep && played.is_ok() {
            let addresses = &self.stage.addresses;
            self.tell(Happening::Text(if self.args.json {
                ending::json_invitation(addresses)
            } else {
                ending::invitation(table, addresses)
            }));
            self.tell(Happening::Chapter(Chapter::After));
            tokio::select! {
                () = interrupted() => {}
                ended = lab.ended() => played = Err(format!("the lab ended: {ended:?}")),
            }
        }
        if !self.args.keep && !self.args.json && played.is_ok() {
            self.tell(Happening::Text(ending::next(table)));
        }
        lab.shutdown().await;
        played
    }

    /// The client's walk.
    async fn walk(&self, lab: &Lab) -> Result<Ending, String> {
        wait_for_the_page(lab).await?;
        let mut walk = Walk::new(self.plan());
        let mut observer = Chapters {
            happenings: self.happenings,
            packets: self.packets,
            files: match self.via {
                Via::Http => Chapter::Files,
                Via::Rudp(_) => Chapter::Carried,
            },
        };
        let home = self.steps(&mut walk, &mut observer).await;
        let address = walk.local();
        let ended = walk.end(&mut observer).await;
        let Gathered { files, summary } = home.map_err(|error| error.to_string())?;
        ended.map_err(|error| error.to_string())?;
        let downloading = match &summary.carried {
            // All at once.
            Some(_) => summary.took,
            None => files.iter().flatten().map(|file| file.streaming).sum(),
        };
        let results = files;
        let mut files = Vec::new();
        for (name, result) in FILES.iter().zip(results) {
            files.push(Arrived {
                name: (*name).to_owned(),
                outcome: match result {
                    Ok(downloaded) => verify(name, downloaded).await,
                    Err(error) => Err(error.to_string()),
                },
            });
        }
        Ok(Ending {
            files,
            downloading,
            counts: walk.counts(),
            carried: summary.carried,
            address: address.ok_or("the client has no address")?,
        })
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
                    server: addresses.dhcp,
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

/// Waits until the scraper knows the files: else the client might ask too early, and more often
/// than the seed foresees.
async fn wait_for_the_page(lab: &Lab) -> Result<(), String> {
    let files = &lab.metrics().scrap_files;
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

/// Ctrl-C or SIGTERM.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Turns the walk's steps into the story's chapters.
struct Chapters<'a> {
    happenings: &'a Sender<Happening>,
    packets: &'a Observer,
    /// The one of the files.
    files: Chapter,
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
