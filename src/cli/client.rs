//! `labnet client`: walks through the lab as a student's program would.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use url::Url;

use super::{
    WRONG_USE,
    carriage::CarriageOptions,
    explain,
    link::{Impairment, OWN_SIGNALS},
    observe::Observe,
    why,
};
use crate::{
    client::{
        dhcp::Identity,
        dns,
        failure::WalkError,
        file_name::FileName,
        prompt,
        report::{Output, Report},
        terminal::Teller,
        walk::{Dhcp, Plan, Via, Walk, Way},
    },
    config::MacAddress,
    net::interface::hardware_address,
    rudp::signal::Name,
    telemetry::logging,
};

/// Arguments of `labnet client`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("loss", |loss| loss.help(OWN_SIGNALS)))]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The DHCP server
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:6767"
    )]
    dhcp: SocketAddr,
    /// Be this interface's own DHCP client: ask by broadcast on it, and put the address on it (root)
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["dhcp", "no_dhcp", "server"])]
    interface: Option<String>,
    /// The DNS server; without it the one that DHCP names
    #[arg(long, global = true, value_name = "ADDRESS[:PORT]", value_parser = dns_server)]
    dns: Option<DnsServer>,
    /// The DNS server's port, where no other is given [default: 5300 on the loopback, else 53]
    #[arg(long, global = true, value_name = "PORT")]
    dns_port: Option<u16>,
    /// The proxy's name
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "example.com"
    )]
    host: String,
    /// The proxy's port
    #[arg(long, global = true, value_name = "PORT", default_value_t = 49152)]
    port: u16,
    /// The proxy itself: no DHCP, no DNS
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// The name that SIGNEW gives; the sum of its letters' codes is the first signal's number less 1
    #[arg(long, global = true, value_name = "NAME", default_value = "Tal", value_parser = name)]
    name: Name,
    /// The hardware address that DHCP sees; without it one made up for this run
    #[arg(long, global = true, value_name = "MAC", value_parser = mac)]
    mac: Option<MacAddress>,
    /// Ask no DHCP server for an address: use the machine's own
    #[arg(long, global = true, conflicts_with_all = ["dhcp", "mac", "keep_lease", "server"])]
    no_dhcp: bool,
    /// Keep the leased address at the end instead of giving it back
    #[arg(long, global = true)]
    keep_lease: bool,
    /// Decides which signals are lost, and every other packet's fate: the same seed, the same ones
    #[arg(long, global = true, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The page to download from where the proxy knows no URL
    #[arg(long, global = true, value_name = "URL", value_parser = page)]
    origin: Option<Url>,
    /// Where files are put
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        default_value = "downloads"
    )]
    out: PathBuf,
    /// Download what is there already, too
    #[arg(long, global = true)]
    force: bool,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// Explain each kind of message the first time: layer by layer, why it is sent, what a NAT would change
    #[arg(long, global = true)]
    explain: bool,
    #[command(flatten)]
    carriage: CarriageOptions,
    #[command(flatten)]
    impairment: Impairment,
    #[command(flatten)]
    observe: Observe,
}

/// What to do; without a verb the interactive prompt starts.
#[derive(Debug, Clone, clap::Subcommand)]
enum Verb {
    /// Print the list of files
    List,
    /// Download files and verify them
    Get {
        /// Names, or numbers of the list
        #[arg(value_name = "FILE", required_unless_present = "all")]
        files: Vec<String>,
        /// Download everything on the list
        #[arg(long, conflicts_with = "files")]
        all: bool,
        /// Keep no file, to measure; a digest is made only where there is one to compare with
        #[arg(long)]
        discard: bool,
        /// Then tell why the window of the transfer was what it was, as `labnet why` does: the lab's API is
        /// asked, at LABNET_URL or else at http://127.0.0.1:9167/
        #[arg(long)]
        why: bool,
    },
    /// Measure the round trip
    Echo {
        /// How often, all at once
        #[arg(short = 'n', long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
    /// Print the session's statistics
    Stat,
}

/// A DHCP server's port on a LAN.
const DHCP_PORT: u16 = 67;

/// Walks; 1 if a step or a file failed.
pub(super) fn run(args: Args) -> ExitCode {
    logging::init(None, LevelFilter::WARN);
    let output = match (args.json, &args.verb) {
        (true, _) => Output::Json,
        (false, Some(_)) => Output::Plain,
        (false, None) => Output::People,
    };
    let _observing = match args.observe.start() {
        Ok(observing) => observing,
        Err(problem) => {
            output.complain(problem);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = dns::check_name(&args.host) {
        output.complain(format_args!("--host: {error}"));
        return ExitCode::from(WRONG_USE);
    }
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(problem) => {
            output.complain(problem);
            return ExitCode::from(WRONG_USE);
        }
    };
    let explaining = args.explain.then(explain::start).transpose();
    let _explaining = match explaining {
        Ok(explaining) => explaining,
        Err(error) => {
            output.complain(format_args!("no thread: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output.complain(format_args!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut walked = Walk::new(plan);
    let mut succeeded = runtime.block_on(walk(&args, &mut walked, output));
    // The prompt's reader may still wait for a line that nobody will type.
    runtime.shutdown_background();
    if let Some(Verb::Get { why: true, .. }) = args.verb {
        succeeded &= why::after(&walked.carried_by(), walked.fates(), walked.rings(), output);
    }
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn walk(args: &Args, walk: &mut Walk, output: Output) -> bool {
    /// An interrupted walk still says goodbye, if that doesn't take long.
    const GOODBYE: Duration = Duration::from_secs(3);
    let outcome = tokio::select! {
        // From before anything is sent.
        biased;
        () = interrupted(args.verb.is_some()) => None,
        outcome = steps(args, walk, output) => Some(outcome),
    };
    let mut succeeded = match outcome {
        Some(Ok(succeeded)) => succeeded,
        Some(Err(error)) => {
            output.complain(&error);
            if args.verb.is_some() {
                output.report(&Report::Failed(&error.to_string()));
            }
            if let Some(Verb::Get { files, .. }) = &args.verb {
                output.report(&Report::Gathered(&walk.none_came(files.len())));
            }
            false
        }
        None => {
            output.complain("interrupted");
            report_what_came(args, walk, output).await;
            let _ = timeout(GOODBYE, walk.end(&mut ())).await;
            return false;
        }
    };
    if let Err(error) = walk.end(&mut Teller::default()).await {
        output.complain(error);
        succeeded = false;
    }
    succeeded
}

/// What was asked for has its objects, if a script reads them, however little came.
async fn report_what_came(args: &Args, walk: &mut Walk, output: Output) {
    if let Some((files, gathered)) = walk.break_off().await {
        for (file, result) in files.iter().zip(&gathered.files) {
            output.report(&Report::Fetched(file, result));
        }
        output.report(&Report::Gathered(&gathered.summary));
    } else if let Some(Verb::Get { files, .. }) = &args.verb {
        // It has not come to them yet.
        output.report(&Report::Gathered(&walk.none_came(files.len())));
    } else {
        output.report(&Report::Failed("interrupted"));
    }
}

/// Ctrl-C or SIGTERM. The prompt deals with Ctrl-C by itself.
async fn interrupted(by_ctrl_c: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    if by_ctrl_c {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    } else {
        terminate.recv().await;
    }
}

async fn steps(args: &Args, walk: &mut Walk, output: Output) -> Result<bool, WalkError> {
    let mut teller = Teller::default();
    let Some(verb) = &args.verb else {
        return prompt::run(walk, &output, args.seed).await;
    };
    walk.connect(&mut teller).await?;
    match verb {
        Verb::List => {
            let files = walk.list(&mut teller).await?;
            output.report(&Report::Files(files));
        }
        Verb::Echo { count } => {
            let answers = walk.echo(usize::from(*count), &mut teller).await?;
            output.report(&Report::Echoes(&answers));
        }
        Verb::Stat => {
            let told = walk.stat(&mut teller).await?;
            output.report(&Report::Statistics(&told));
        }
        Verb::Get { files, .. } => {
            let listed = walk.list(&mut teller).await?.to_vec();
            let chosen: Vec<FileName> = if files.is_empty() {
                listed
            } else {
                files.iter().map(|text| walk.choose(text)).collect()
            };
            if chosen.is_empty() {
                output.complain("the proxy's list is empty: does its scraper reach the page?");
                return Ok(false);
            }
            return prompt::fetch(&chosen, walk, &output, &mut teller).await;
        }
    }
    Ok(true)
}

fn plan(args: &Args) -> Result<Plan, String> {
    let (loss, link) = args.impairment.of_signals(args.seed)?;
    let via = args.carriage.via(&args.impairment, args.seed)?;
    if let (Via::Http, Some(Verb::Get { .. }), Some((options, several))) =
        (&via, &args.verb, args.impairment.given())
    {
        let does = if several { "do" } else { "does" };
        return Err(format!(
            "{options} {does} nothing to a download over HTTP: the kernel's TCP carries it past the client's bad \
             network. --via rudp takes the files through it; `labnet link --netns` stands before TCP itself. \
             (The signals of `list`, `echo` and `stat` do go through it.)"
        ));
    }
    // Transaction ids and the hardware address are this run's own: two clients with the seed of a
    // lesson must not be taken for one.
    let seed = rand::random();
    let way = match args.server {
        Some(server) => Way::Direct(server),
        None => {
            let dhcp = match args.interface {
                Some(_) => (Ipv4Addr::BROADCAST, DHCP_PORT).into(),
                None => args.dhcp,
            };
            let usual = if dhcp.ip().is_loopback() { 5300 } else { 53 };
            let dns_port = args.dns_port.unwrap_or(usual);
            let own = args.interface.as_deref().and_then(hardware_address);
            let own = own.map(MacAddress);
            let made_up = Identity::from_seed(seed, args.name.as_str());
            let identity = Identity {
                mac: args.mac.or(own).unwrap_or(made_up.mac),
                ..made_up
            };
            // With nobody to name a DNS server, the lab's usual one.
            let usual = || args.no_dhcp.then(|| (Ipv4Addr::LOCALHOST, dns_port).into());
            let named = args.dns.map(|server| match server {
                DnsServer::Port(address) => address,
                DnsServer::Address(address) => (address, dns_port).into(),
            });
            Way::Network {
                dhcp: (!args.no_dhcp).then_some(Dhcp {
                    server: dhcp,
                    interface: args.interface.clone(),
                    identity,
                    keep_lease: args.keep_lease,
                }),
                dns: named.or_else(usual),
                dns_port,
                host: args.host.clone(),
                port: args.port,
            }
        }
    };
    Ok(Plan {
        way,
        name: args.name.clone(),
        loss,
        link,
        seed,
        origin: args.origin.clone(),
        out: args.out.clone(),
        force: args.force,
        discard: matches!(args.verb, Some(Verb::Get { discard: true, .. })),
        via,
        tcp_congestion: args.carriage.tcp_congestion(),
    })
}

#[derive(Debug, Clone, Copy)]
enum DnsServer {
    Port(SocketAddr),
    Address(IpAddr),
}

fn dns_server(text: &str) -> Result<DnsServer, String> {
    let with_port = SocketAddr::from_str(text).map(DnsServer::Port);
    with_port
        .or_else(|_| IpAddr::from_str(text).map(DnsServer::Address))
        .map_err(|_| "not an address, nor an address and a port".to_owned())
}

/// A name that SIGNEW can carry.
pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(said)
}

fn mac(text: &str) -> Result<MacAddress, String> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|byte| {
            u8::from_str_radix(byte, 16)
                .ok()
                .filter(|_| byte.len() == 2)
        })
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map(MacAddress)
        .ok_or_else(|| "not six bytes like 02:00:00:00:00:07".to_owned())
}

/// The URL of a folder: it ends with a slash, so that names can be joined to it.
fn page(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(said)?;
    if url.scheme() != "http" || url.host().is_none() {
        return Err("not an http:// URL".to_owned());
    }
    let last = url.path().rsplit('/').next().unwrap_or_default();
    if !last.is_empty() && !last.contains('.') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn said(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_url_ends_with_a_slash() {
        for (text, url) in [
            ("http://h", "http://h/"),
            ("http://h/files", "http://h/files/"),
            ("http://h/files/", "http://h/files/"),
            ("http://h/files/index.html", "http://h/files/index.html"),
        ] {
            assert_eq!(page(text).expect(text).as_str(), url);
        }
        assert!(page("https://h/").is_err());
        assert!(page("h").is_err());
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(mac("02:00:00:00:00:07"), Ok(MacAddress([2, 0, 0, 0, 0, 7])));
        for bad in ["", "02:00:00:00:00", "2:0:0:0:0:7", "02:00:00:00:00:zz"] {
            assert!(mac(bad).is_err(), "{bad:?}");
        }
        assert!(name("Tal;x").is_err());
        assert!(dns_server("127.0.0.1").is_ok());
        assert!(dns_server("[::1]:53").is_ok());
        assert!(dns_server("dns.test").is_err());
    }
}
