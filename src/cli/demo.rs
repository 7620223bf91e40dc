//! `labnet demo`: the whole story on the loopback interface, told packet by packet.

mod ending;
mod fold;
mod happening;
mod home;
mod join;
mod manner;
mod row;
mod scene;
mod seen;
mod stage;
mod story;
mod table;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use console::Term;
use happening::Happening;
use manner::{Manner, Pause};
use scene::{Scene, hear_packets};
use stage::Stage;
use story::Telling;
use table::Table;
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
        walk::{Carriage, Via},
    },
    config::link_options::duration,
    rudp::{congestion::Algorithm, packet::Protection, signal::Name},
    telemetry::{complain, logging},
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
    /// Put a real NAT between the client and the servers, in network namespaces (root, or a kernel that lets
    /// everybody make them; needs `ip` and `nft`)
    #[arg(long, conflicts_with = "keep")]
    behind_nat: bool,
    /// Have the NAT forget its notes so long after the files have begun: the transfer goes on by its own id
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "behind_nat")]
    forget_after: Option<Duration>,
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

/// Tells the story; 0 only if every file is verified.
pub(super) fn run(args: Args) -> ExitCode {
    // While the process has one thread.
    let own_user = match args.behind_nat.then(home::permit).transpose() {
        Ok(own_user) => own_user.unwrap_or(false),
        Err(problem) => return fail(&problem),
    };
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
    if let (Via::Http, Some((options, several))) = (&via, args.impairment.given()) {
        let are = if several { "are" } else { "is" };
        complain(format_args!(
            "labnet demo: {options} {are} for the signals: the files come over TCP, past the bad network (--via rudp \
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
    let stage = match args.behind_nat {
        false => Stage::set(),
        true => {
            let mac = Identity::from_seed(args.seed, args.name.as_str()).mac;
            Stage::set_behind_nat(mac, own_user)
        }
    };
    let stage = match stage {
        Ok(stage) => stage,
        Err(problem) => return fail(&problem),
    };
    let term = Term::stdout();
    let table = Table::new(
        term.size_checked().map(|(_, columns)| usize::from(columns)),
        console::colors_enabled(),
    );
    let telling = if args.json {
        if let Some(stage) = &stage.home {
            let _ = happenings.send(Happening::Text(ending::json_cast(&stage.home)));
        }
        Telling::Json
    } else {
        let cast = ending::cast(&table, &stage);
        let _ = happenings.send(Happening::Text(cast));
        Telling::Table(table.clone())
    };
    let networks = stage.home.as_ref().map(|stage| stage.home.networks());
    let networks = networks.unwrap_or_default();
    let mut manner = Manner {
        behind_nat: args.behind_nat,
        explainer: (args.explain).then(|| {
            Explainer::new(table.columns(), console::colors_enabled()).in_networks(networks)
        }),
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
    let played = thread::scope(|scope| actix::System::new().block_on(scene.play(&table, scope)));
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
