//! `labnet link`: a bad network between UDP clients and a server.

mod endpoints;
mod options;
mod tally;

use std::{
    io::{self, stdout},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use options::Impairment;
use tally::Tally;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{WRONG_USE, output};
use crate::{
    net::{
        HttpLimits, Relay, RelayControl, RelayPlan, Sockets,
        link::{LinkOptions, Way, duration},
        serve_http,
    },
    telemetry::logging::{self, Format},
};

/// Arguments of `labnet link`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where clients send to
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Decides every packet's fate: with the same seed the Nth packet has the same one
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Clients at once; the packets of others are dropped
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Forget a client after so long without packets
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = some_time)]
    idle: Duration,
    /// GET /counters, GET, PUT and PATCH /options here, as JSON
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Print the totals at the end as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    impairment: Impairment,
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() {
        return Err("longer than nothing, please".to_owned());
    }
    Ok(time)
}

/// Relays until SIGINT or SIGTERM, then prints the totals.
pub(super) fn run(args: Args) -> ExitCode {
    logging::init(Format::Text, "info");
    let (up, down) = match args.impairment.directions() {
        Ok(directions) => directions,
        Err(problem) => return wrong_use(&problem),
    };
    if args.to.port() == 0 || args.to.ip().is_unspecified() {
        return wrong_use("--to: one server's address and port are needed");
    }
    if args.to == args.listen {
        return wrong_use("--to: this is the link's own address; name the server's");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ran = runtime.and_then(|runtime| runtime.block_on(relay(&args, up, down)));
    match ran {
        Ok(tally) if args.json => output(&mut stdout(), tally.json().as_bytes()),
        Ok(tally) => output(&mut stdout(), tally.table().as_bytes()),
        Err(error) => {
            eprintln!("labnet link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_use(problem: &str) -> ExitCode {
    eprintln!("labnet link: {problem}");
    ExitCode::from(WRONG_USE)
}

async fn relay(args: &Args, up: LinkOptions, down: LinkOptions) -> io::Result<Tally> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let relay = Relay::bind(RelayPlan {
        listen: args.listen,
        to: args.to,
        up,
        down,
        seed: args.seed,
        clients: usize::from(args.clients),
        idle: args.idle,
    })
    .map_err(|error| whose("--listen", args.listen, error))?;
    let control = relay.control();
    let listener = match args.http {
        Some(address) => {
            let listener = Sockets::default().tcp(address);
            Some(listener.map_err(|error| whose("--http", address, error))?)
        }
        None => None,
    };
    tracing::info!("relaying {} -> {}", relay.local_addr()?, args.to);
    tracing::info!("up: {up}; down: {down}; seed {}", args.seed);
    if let Some(listener) = &listener {
        tracing::info!("http://{}/ has counters, options", listener.local_addr()?);
    }
    let serving = async {
        match listener {
            Some(listener) => {
                let router = endpoints::router(control.clone());
                serve_http(listener, router, HttpLimits::default()).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = relay.run() => failed?,
        failed = serving => failed?,
        _ = show(&control) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(Tally(control.counters()))
}

fn whose(option: &str, address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option} {address}: {error}"))
}

/// Keeps a line of counters on standard error, if that is a terminal.
async fn show(control: &RelayControl) -> std::convert::Infallible {
    const OFTEN: Duration = Duration::from_secs(1);
    let line = ProgressBar::no_length();
    if line.is_hidden() {
        return std::future::pending().await;
    }
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        line.set_style(style);
    }
    let mut ticks = interval(OFTEN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut then) = (control.counters(), Instant::now());
    loop {
        ticks.tick().await;
        let (counters, now) = (control.counters(), Instant::now());
        line.set_message(Tally(counters).line(&before, now - then));
        (before, then) = (counters, now);
    }
}
