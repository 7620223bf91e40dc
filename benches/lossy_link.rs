//! How fast one file comes through a lossy link, labnet beside its peers, and with how many
//! packets. Needs root (network namespaces, TUN devices).
//!
//! ```sh
//! cargo bench --bench lossy_link
//! cargo bench --bench lossy_link -- --loss 0,1 --runs 1 --size 5MB --only labnet-bbr,tcp-bbr
//! ```

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod harness;
mod peers;

use std::{collections::BTreeMap, time::Duration};

use clap::Parser;
use harness::{
    Rows, Runner, cell,
    child::Process,
    cleanup,
    labnet::{FILE, Site, Summary},
    link::{Counters, Link, RIGHT, Shape},
    median, random_file, size, table,
};
use peers::{Fetched, Wish};

/// What a full packet of TCP carries here: the yardstick for all, so that what a transport's own
/// heads cost is seen, too.
const PAYLOAD: f64 = 1448.0;

/// No run takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Parser)]
struct Args {
    /// Percent of the packets lost, in both directions; a column each
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_values = ["0", "0.1", "1", "5"])]
    loss: Vec<f64>,
    /// How often each cell is measured; its median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u64,
    /// The first run's seed: runs of one seed lose the same packets
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Bytes of the file [default: 20MB; 4MB for those that losses slow down, from 1 % on]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    shape: Shape,
    /// cargo says this
    #[arg(long, hide = true)]
    bench: bool,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Mbit/s of the file's bytes.
    goodput: f64,
    /// Packets that the sender's side put on the link, for each that the file needs.
    packets: f64,
    /// The most bytes in the queue.
    queue: f64,
    /// Packets that found it full.
    overflowed: f64,
}

type Results = BTreeMap<(Runner, usize), Vec<Run>>;

fn main() {
    if peers::role() {
        return;
    }
    cleanup::on_signals();
    let args = Args::parse();
    let rows = args.rows.of(Runner::all());
    println!(
        "{} each way {}, queue {}; medians of {}\n",
        args.shape.rate, args.shape.delay, args.shape.queue, args.runs
    );
    let mut results = Results::new();
    for (column, loss) in args.loss.iter().enumerate() {
        // All rows of a round see the same machine, as busy as it is.
        for seed in (args.seed..).take(args.runs as usize) {
            for runner in &rows {
                let bytes = args.bytes(runner, *loss);
                let link = Link::new(&args.shape, *loss, seed);
                let seconds = match runner {
                    Runner::Labnet(name) => over_labnet(&link, name, bytes),
                    Runner::Peer(peer) => over_peer(&link, *peer, bytes),
                };
                let Some(seconds) = seconds else {
                    println!("{loss:>4} % {runner:<16} did not come");
                    continue;
                };
                let run = Run::new(bytes, seconds, &link.counters());
                println!(
                    "{loss:>4} % {runner:<16} {:>6.2} Mbit/s, {:>3} MB, {:.3} of the packets needed, queue {:>3.0} kB, {} overflowed",
                    run.goodput,
                    bytes / 1_000_000,
                    run.packets,
                    run.queue / 1e3,
                    run.overflowed,
                );
                let key = (runner.clone(), column);
                results.entry(key).or_default().push(run);
            }
        }
    }
    report(&args, &rows, &results);
}

impl Args {
    fn bytes(&self, runner: &Runner, loss: f64) -> u64 {
        match self.size {
            Some(size) => size,
            None if loss >= 1.0 && runner.fears_loss() => 4_000_000,
            None => 20_000_000,
        }
    }
}

impl Run {
    fn new(bytes: u64, seconds: f64, counters: &Counters) -> Self {
        Self {
            goodput: bytes as f64 * 8.0 / seconds / 1e6,
            packets: counters.down.sent as f64 / (bytes as f64 / PAYLOAD).ceil(),
            queue: counters.down.queued_bytes_max as f64,
            overflowed: counters.down.lost.queue as f64,
        }
    }
}

/// Seconds from the request sent to the last byte received.
fn over_peer(link: &Link, peer: peers::Peer, size: u64) -> Option<f64> {
    let address = format!("{RIGHT}:5201").parse().expect("an address");
    let server = peers::server(peer, address);
    let server = Process::start(&mut server.in_namespace(&link.right.name));
    server.expect(peers::READY);
    let wish = Wish {
        size,
        sessions: 1,
        progress: false,
    };
    let client = peers::client(peer, address, wish);
    let client = Process::start(&mut client.in_namespace(&link.left.name));
    let ended = client.end(PATIENCE, |_, _| {})?;
    let fetched: Fetched = serde_json::from_str(&ended.last).ok()?;
    (fetched.bytes == size).then_some(fetched.seconds)
}

fn over_labnet(link: &Link, congestion: &str, size: u64) -> Option<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    random_file(&folder.path().join(FILE), size);
    let site = Site::start(RIGHT, folder.path(), "", Some(&link.right));
    let out = tempfile::tempdir().expect("a temporary folder");
    let out = out.path().display().to_string();
    let mut client = site.get(Some(&link.left), Some(congestion), &["--out", &out]);
    let ended = Process::start(&mut client).end(PATIENCE, |_, _| {})?;
    let summary: Summary = serde_json::from_str(&ended.last).ok()?;
    (summary.complete && summary.bytes == size).then_some(summary.seconds)
}

fn report(args: &Args, rows: &[Runner], results: &Results) {
    let middle = |runner: &Runner, column: usize, of: fn(&Run) -> f64| {
        let runs = results.get(&(runner.clone(), column))?;
        median(runs.iter().map(of))
    };
    let columns = 0..args.loss.len();
    let header = |what: &str| {
        let losses = args.loss.iter().map(|loss| format!("{loss} %"));
        std::iter::once(what.to_owned()).chain(losses).collect()
    };
    let print = |what: &str, digits: usize, of: fn(&Run) -> f64| {
        let rows = rows.iter().map(|runner| {
            let cells = columns.clone().map(|column| {
                let mark = match args.bytes(runner, args.loss[column]) {
                    20_000_000 => " ",
                    _ if args.size.is_some() => " ",
                    _ => "*",
                };
                cell(middle(runner, column, of), digits) + mark
            });
            std::iter::once(runner.to_string()).chain(cells).collect()
        });
        println!("\n{}", table(header(what), rows.collect()));
    };
    print("Mbit/s", 2, |run| run.goodput);
    print("packets sent / needed", 3, |run| run.packets);
    print("longest queue, kB", 0, |run| run.queue / 1e3);
    if args.size.is_none() {
        println!("\n* a file of 4 MB; the others 20 MB");
    }
    let fewest = args.loss.iter().map(|loss| 1.05 / (1.0 - loss / 100.0));
    let bounds: Vec<String> = fewest.map(|bound| format!("{bound:.3}")).collect();
    println!("1.05 / (1 - loss): {}", bounds.join(", "));
    let mut ratios = Vec::new();
    for own in rows {
        for other in rows.iter().filter(|other| own.rivals(other)) {
            let cells = columns.clone().map(|column| {
                let own = middle(own, column, |run| run.goodput);
                let other = middle(other, column, |run| run.goodput);
                cell(own.zip(other).map(|(own, other)| own / other), 2)
            });
            let name = format!("{own} / {other}");
            ratios.push(std::iter::once(name).chain(cells).collect());
        }
    }
    if !ratios.is_empty() {
        println!("\n{}", table(header("Mbit/s, ratio"), ratios));
    }
}
