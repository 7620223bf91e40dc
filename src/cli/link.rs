//! `labnet link`: a bad network between UDP clients and a server, or between two network
//! namespaces.

mod endpoints;
mod options;
mod tally;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
pub(super) use options::{Impairment, OWN_SIGNALS};
use tally::Tally;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::level_filters::LevelFilter;

use super::{WRONG_USE, output};
use crate::{
    config::{self, ConnectionLimits, link_options::duration},
    http::{Access, Places, Token, serve_http},
    link::{LinkControl, Relay, RelayPlan, Tunnel, TunnelPlan, Way},
    net::{Purpose, TunPlan, bind_tcp},
    telemetry::{complain, logging},
    watch::{
        event::{link::Observer, packet},
        verdicts::VerdictFile,
    },
};

/// HTTP connections of `--http`.
const HTTP_LIMITS: ConnectionLimits = ConnectionLimits::HTTP;

/// Arguments of `labnet link`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where UDP clients send to
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "netns")]
    listen: Option<SocketAddr>,
    /// The clients' server
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "netns")]
    to: Option<SocketAddr>,
    /// Join two network namespaces for everything that goes over IP, by a device in each (needs
    /// root)
    #[arg(long, num_args = 2, value_names = ["LEFT", "RIGHT"], conflicts_with_all = ["listen", "to", "clients", "idle"])]
    netns: Vec<String>,
    /// The name of both devices
    #[arg(long, value_name = "NAME", default_value = "link0", requires = "netns", value_parser = device)]
    device: String,
    /// The left device's address
    #[arg(long, value_name = "ADDRESS/BITS", default_value = "10.77.0.1/24", requires = "netns", value_parser = network)]
    left: Network,
    /// The right device's address
    #[arg(long, value_name = "ADDRESS/BITS", default_value = "10.77.0.2/24", requires = "netns", value_parser = network)]
    right: Network,
    /// The largest IP packet that fits through the devices
    #[arg(long, value_name = "BYTES", default_value_t = 1500, requires = "netns", value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
    /// Decides every packet's fate: with the same seed the Nth packet has the same one
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// UDP clients at once; the packets of others are dropped
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Forget a client after so long without packets
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = some_time)]
    idle: Duration,
    /// GET /counters, GET, PUT and PATCH /options here, as JSON
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Names that requests to --http may call this host by, besides localhost and IP addresses
    #[arg(long, value_name = "NAME", requires = "http", value_parser = config::host_name)]
    http_host: Vec<String>,
    /// Changes over --http need the bearer token that is in this file; without it, they are for
    /// loopback
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
    /// Write what becomes of every packet, and why, to this file: a JSON object a line (docs/link.md)
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
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

/// A device's address, and the size of the network it reaches.
#[derive(Debug, Clone, Copy)]
struct Network {
    address: Ipv4Addr,
    prefix_len: u8,
}

fn network(text: &str) -> Result<Network, String> {
    let parts = || {
        let (address, prefix_len) = text.split_once('/')?;
        Some(Network {
            address: address.parse().ok()?,
            prefix_len: prefix_len
                .parse()
                .ok()
                .filter(|bits| (1..=31).contains(bits))?,
        })
    };
    parts()
        .ok_or_else(|| "not an IPv4 address with its network's size like 10.77.0.1/24".to_owned())
}

/// A name that Linux takes (IFNAMSIZ).
fn device(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !text.starts_with('.');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("not 1 to 15 letters and digits like link0".to_owned())
    }
}

/// The two ends of a link.
enum Plan {
    Relay(RelayPlan),
    Tunnel(TunnelPlan),
}

/// Carries packets until SIGINT or SIGTERM, then prints the totals.
pub(super) fn run(args: Args) -> ExitCode {
    logging::init(None, LevelFilter::INFO);
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(problem) => return wrong_use(&problem),
    };
    let access = match access(&args) {
        Ok(access) => access,
        Err(problem) => return wrong_use(&problem),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ran = runtime.and_then(|runtime| runtime.block_on(carry(&args, plan, access)));
    match ran {
        Ok(tally) if args.json => output(tally.json().as_bytes()),
        Ok(tally) => output(tally.table().as_bytes()),
        Err(error) => {
            complain(format_args!("labnet link: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Who may ask the HTTP endpoints for what.
fn access(args: &Args) -> Result<Access, String> {
    let token = args.token_file.as_deref().map(Token::read).transpose();
    Ok(Access {
        hosts: args.http_host.clone(),
        token: token.map_err(|problem| format!("--token-file: {problem}"))?,
        protect_reads: false,
    })
}

fn plan(args: &Args) -> Result<Plan, String> {
    let (up, down) = args.impairment.directions()?;
    if let [left, right] = &args.netns[..] {
        if left == right {
            return Err("--netns: a link has two ends, in two namespaces".to_owned());
        }
        let end = |namespace: &str, network: Network| TunPlan {
            namespace: namespace.to_owned(),
            device: args.device.clone(),
            address: network.address,
            prefix_len: network.prefix_len,
            mtu: args.mtu,
        };
        return Ok(Plan::Tunnel(TunnelPlan {
            left: end(left, args.left),
            right: end(right, args.right),
            up,
            down,
            seed: args.seed,
        }));
    }
    let (Some(listen), Some(to)) = (args.listen, args.to) else {
        return Err("--listen and --to are needed, or --netns".to_owned());
    };
    if to.port() == 0 || to.ip().is_unspecified() {
        return Err("--to: one server's address and port are needed".to_owned());
    }
    if to == listen {
        return Err("--to: this is the link's own address; name the server's".to_owned());
    }
    Ok(Plan::Relay(RelayPlan {
        listen,
        to,
        up,
        down,
        seed: args.seed,
        clients: usize::from(args.clients),
        idle: args.idle,
    }))
}

fn wrong_use(problem: &str) -> ExitCode {
    complain(format_args!("labnet link: {problem}"));
    ExitCode::from(WRONG_USE)
}

async fn carry(args: &Args, plan: Plan, access: Access) -> io::Result<Tally> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let running: Pin<Box<dyn Future<Output = io::Result<()>>>>;
    let (control, ends) = match &plan {
        Plan::Relay(plan) => {
            let relay = Relay::bind(*plan);
            let relay = relay.map_err(|error| whose("--listen", plan.listen, error))?;
            let (control, listen) = (relay.control(), relay.local_addr()?);
            running = Box::pin(relay.run());
            (control, format!("relaying {listen} -> {}", plan.to))
        }
        Plan::Tunnel(plan) => {
            let tunnel = Tunnel::open(plan)?;
            let control = tunnel.control();
            running = Box::pin(tunnel.run());
            let end = |end: &TunPlan| format!("{} ({})", end.namespace, end.address);
            let ends = format!("joining {} and {}", end(&plan.left), end(&plan.right));
            (control, ends)
        }
    };
    let listener = match args.http {
        Some(address) => {
            let listener = bind_tcp(address).map(Arc::new);
            Some(listener.map_err(|error| whose("--http", address, error))?)
        }
        None => None,
    };
    let writing = match &args.events {
        Some(file) => {
            let created = VerdictFile::create(file);
            let (verdicts, writing) = created.map_err(|error| about(file, error))?;
            let verdicts: Arc<dyn Observer> = Arc::new(verdicts);
            control.watch(Arc::clone(&verdicts));
            Some((file, writing, verdicts))
        }
        None => None,
    };
    tracing::info!("{ends}");
    let (up, down) = (control.options(Way::Up), control.options(Way::Down));
    tracing::info!("up: {up}; down: {down}; seed {}", args.seed);
    if let Some(listener) = &listener {
        tracing::info!("http://{}/ has counters, options", listener.local_addr()?);
    }
    let serving = async {
        match listener {
            Some(listener) => {
                let router = endpoints::router(control.clone(), access);
                let places = Places::new(HTTP_LIMITS, Purpose::Administration, Arc::new(()));
                serve_http(listener, router, places, packet::Role::Http).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = running => failed?,
        failed = serving => failed?,
        _ = show(&control) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if let Some((file, writing, verdicts)) = writing {
        control.unwatch(&verdicts);
        drop(verdicts);
        writing.end().map_err(|error| about(file, error))?;
    }
    Ok(Tally(control.counters()))
}

fn about(file: &Path, error: io::Error) -> io::Error {
    let file = file.display();
    io::Error::new(error.kind(), format!("--events {file}: {error}"))
}

fn whose(option: &str, address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option} {address}: {error}"))
}

/// Keeps a line of counters on standard error, if that is a terminal.
async fn show(control: &LinkControl) -> std::convert::Infallible {
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
