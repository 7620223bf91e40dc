//! What a gigabyte over the loopback interface costs in processor time, labnet beside quinn, both
//! ends added; for labnet the fetch from nginx, too. "% near median" is the share of the sessions that
//! took within 20 % of the median time. Needs nginx (tests/run installs it).
//!
//! ```sh
//! cargo bench --bench cpu_per_gb
//! cargo bench --bench cpu_per_gb -- --only quinn-cubic --size 200MB --runs 1
//! # What capturing costs, in the memory's ring and by the command, beside the same without:
//! cargo bench --bench cpu_per_gb -- --only labnet-cubic --rudp 'protection = "checksum"' --runs 10 \
//!     --with '' --with 'capture.ring = "16MiB"' --with capture
//! ```

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod harness;
mod peers;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use clap::Parser;
use harness::{
    Rows, Runner, cell,
    child::{self, Process},
    cleanup,
    labnet::{self, FILE, SECRET, Site, Summary},
    median, random_file, size,
    support::{Running, loopback, wait_for},
    table,
};
use peers::{Congestion, Fetched, Peer, Wish};

const PSK: &str = "protection = \"psk\"";
/// No run takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Parser)]
struct Args {
    /// Bytes of each session
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GB")]
    size: u64,
    /// Sessions at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    sessions: usize,
    /// How often each row is measured; its median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Further keys of [rudp], a row of labnet each
    #[arg(long, value_name = "TOML", default_values = ["protection = \"checksum\"", PSK])]
    rudp: Vec<String>,
    /// Further keys of the configuration, or `capture`: `labnet capture` runs meanwhile; a row of labnet each,
    /// which is compared with the first one's run of the same round
    #[arg(long, value_name = "TOML", default_value = "")]
    with: Vec<String>,
    #[command(flatten)]
    rows: Rows,
    /// cargo says this
    #[arg(long, hide = true)]
    bench: bool,
}

/// One transfer of all sessions.
#[derive(Debug, Clone)]
struct Run {
    /// Processor seconds for each GB, of all processes.
    cpu: f64,
    /// Gbit/s of all sessions together.
    rate: f64,
    /// The slowest session's time in the fastest's.
    spread: f64,
    /// The share of sessions that took within 20 % of the median time.
    fair: f64,
    /// The most memory that the sending side had, in bytes.
    memory: f64,
    /// Packets that a capture missed.
    missed: f64,
    /// CPU and rate as shares of those of the first `--with` in the same round.
    of_first: Option<(f64, f64)>,
}

fn main() {
    if peers::role() || labnet::role() {
        return;
    }
    cleanup::on_signals();
    let args = Args::parse();
    let rows = args.rows.of(vec![
        Runner::Peer(Peer::Quinn(Congestion::Cubic)),
        Runner::Peer(Peer::Quinn(Congestion::Bbr)),
        Runner::Peer(Peer::Tcp(Congestion::Cubic)),
        Runner::Labnet("cubic"),
        Runner::Labnet("bbr"),
    ]);
    let mut results: Vec<(String, Vec<Run>)> = Vec::new();
    // One after the other, again and again: a machine that others use is slower for all of them then.
    for _ in 0..args.runs {
        for runner in &rows {
            match runner {
                Runner::Peer(peer) => {
                    let run = over_peer(&args, *peer);
                    note(&mut results, runner.to_string(), run);
                }
                Runner::Labnet(name) => {
                    for rudp in &args.rudp {
                        let mut first: Option<Run> = None;
                        for with in &args.with {
                            let mut run = over_labnet(&args, name, rudp, with);
                            if let (Some(run), Some(first)) = (&mut run, &first) {
                                run.of_first = Some((run.cpu / first.cpu, run.rate / first.rate));
                            }
                            let more = if with.is_empty() { "" } else { ", " };
                            note(
                                &mut results,
                                format!("{runner}, {rudp}{more}{with}"),
                                run.clone(),
                            );
                            first = first.or(run);
                        }
                    }
                }
            }
        }
    }
    let middle = |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of));
    let yardstick = results
        .iter()
        .find(|(name, _)| name == "quinn-cubic")
        .and_then(|(_, runs)| middle(runs, |run| run.cpu));
    let lines = results.iter().map(|(name, runs)| {
        let cpu = middle(runs, |run| run.cpu);
        vec![
            name.clone(),
            cell(cpu, 2),
            cell(cpu.zip(yardstick).map(|(own, quinn)| own / quinn), 2),
            cell(middle(runs, |run| run.rate), 2),
            cell(middle(runs, |run| run.spread), 2),
            cell(middle(runs, |run| run.fair * 100.0), 1),
            cell(middle(runs, |run| run.memory / 1e6), 0),
            cell(middle(runs, |run| run.missed), 0),
            spread(
                runs.iter()
                    .filter_map(|run| run.of_first.map(|(cpu, _)| cpu)),
            ),
            spread(
                runs.iter()
                    .filter_map(|run| run.of_first.map(|(_, rate)| rate)),
            ),
        ]
    });
    let header = [
        "",
        "CPU s/GB",
        "of quinn's",
        "Gbit/s",
        "slowest/fastest",
        "% near median",
        "server, MB",
        "not captured",
        "CPU of the first's",
        "rate of the first's",
    ];
    println!(
        "{}",
        table(header.map(str::to_owned).into(), lines.collect())
    );
}

/// The median, the least and the most.
fn spread(values: impl Iterator<Item = f64> + Clone) -> String {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.clone().fold(0.0, f64::max);
    match median(values) {
        Some(middle) => format!("{middle:.2} ({least:.2} to {most:.2})"),
        None => "-".to_owned(),
    }
}

fn note(results: &mut Vec<(String, Vec<Run>)>, name: String, run: Option<Run>) {
    match results.iter_mut().find(|(known, _)| *known == name) {
        Some((_, runs)) => runs.extend(run),
        None => results.push((name, run.into_iter().collect())),
    }
}

fn over_peer(args: &Args, peer: Peer) -> Option<Run> {
    let address = SocketAddr::from((loopback(), 5201));
    let server = Process::start(&mut peers::server(peer, address).command());
    server.expect(peers::READY);
    let wish = Wish {
        size: args.size,
        sessions: args.sessions,
        progress: false,
    };
    let client = Process::start(&mut peers::client(peer, address, wish).command());
    let ended = client.end(PATIENCE, |_, _| {})?;
    let fetched: Fetched = serde_json::from_str(&ended.last).ok()?;
    let cpu = ended.cpu + server.cpu();
    Some(Run {
        cpu: cpu.as_secs_f64() / (fetched.bytes as f64 / 1e9),
        rate: fetched.bytes as f64 * 8.0 / fetched.seconds / 1e9,
        spread: fetched.seconds / fetched.fastest(),
        fair: fetched.within(0.2),
        memory: harness::support::peak_resident(server.pid()) as f64,
        missed: 0.0,
        of_first: None,
    })
}

/// What says that `labnet capture` is to run.
const CAPTURE: &str = "capture";

fn over_labnet(args: &Args, congestion: &str, rudp: &str, with: &str) -> Option<Run> {
    let web = tempfile::tempdir().expect("a temporary folder");
    random_file(&web.path().join(FILE), args.size);
    let address = loopback();
    let nginx = nginx(web.path(), SocketAddr::from((address, 8088)));
    let page = format!("http://{address}:8088/");
    let mut keys = rudp.to_owned();
    if rudp == PSK {
        keys += &format!("\nsecret = \"{SECRET}\"");
    }
    let more = if with == CAPTURE { "" } else { with };
    let site = Site::before(&address.to_string(), &page, more, &keys, None);
    let file = web.path().join(".capture.pcapng");
    let capture = (with == CAPTURE).then(|| {
        let capture = Process::start(&mut site.capture(&file));
        wait_for("the capture's head", || {
            fs::metadata(&file)
                .is_ok_and(|file| file.len() > 0)
                .then_some(())
        });
        capture
    });
    let before = site.lab.cpu() + child::cpu(nginx.0.id());
    let one = args.sessions == 1;
    let protected = if rudp == PSK { "psk" } else { "checksum" };
    let mut client = if one {
        let options = ["--discard", "--protection", protected];
        site.get(None, Some(congestion), &options)
    } else {
        site.get_often(
            congestion,
            Wish {
                size: args.size,
                sessions: args.sessions,
                progress: false,
            },
        )
    };
    if rudp == PSK {
        client.env("LABNET_SECRET", SECRET);
    }
    let ended = Process::start(&mut client).end(PATIENCE, |_, _| {})?;
    let each = if one {
        let summary: Summary = serde_json::from_str(&ended.last).ok()?;
        if !summary.complete || summary.bytes != args.size {
            return None;
        }
        vec![summary.seconds]
    } else {
        serde_json::from_str::<Fetched>(&ended.last).ok()?.each
    };
    let fetched = Fetched::new(args.size, each);
    let capturing = capture.as_ref().map_or(Duration::ZERO, Process::cpu);
    let cpu = ended.cpu + capturing + site.lab.cpu() + child::cpu(nginx.0.id()) - before;
    Some(Run {
        cpu: cpu.as_secs_f64() / (fetched.bytes as f64 / 1e9),
        rate: fetched.bytes as f64 * 8.0 / fetched.seconds / 1e9,
        spread: fetched.seconds / fetched.fastest(),
        fair: fetched.within(0.2),
        memory: harness::support::peak_resident(site.lab.pid()) as f64,
        missed: site.lab.metric("labnet_capture_dropped_total"),
        of_first: None,
    })
}

/// nginx in one process, with its directory listing.
fn nginx(folder: &Path, address: SocketAddr) -> Running {
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, open).expect("a folder of our own");
    let own = folder.join(".nginx");
    fs::create_dir(&own).expect("a folder");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: Vec<String> = temporary
        .iter()
        .map(|what| format!("{what}_temp_path {}/{what};", own.display()))
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {own}/pid; error_log stderr;\n\
         worker_rlimit_nofile 8192;\nevents {{ worker_connections 4096; }}\nhttp {{ \
         access_log off; sendfile on; {temporary}\nserver {{ listen {address}; root {root}; \
         autoindex on; }} }}\n",
        own = own.display(),
        temporary = temporary.join(" "),
        root = folder.display(),
    );
    let path = own.join("nginx.conf");
    fs::write(&path, config).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let running = Running::start("nginx", &["-c", path, "-e", "stderr"]);
    wait_for("nginx", || TcpStream::connect(address).ok());
    running
}
