//! How labnet shares a bottleneck with a CUBIC flow of the kernel's TCP. Needs root (network
//! namespaces, TUN devices).
//!
//! ```sh
//! cargo bench --bench fairness
//! cargo bench --bench fairness -- --only labnet-cubic,tcp-cubic --time 20
//! ```

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod harness;
mod peers;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use clap::Parser;
use harness::{
    Rows, Runner, cell,
    child::Process,
    cleanup, jain,
    labnet::{FILE, Site},
    link::{Link, RIGHT, Shape},
    median, random_file, table,
};
use peers::{Congestion, Peer, Progress, Wish};

/// More than a flow alone gets through the link in ten minutes.
const ENDLESS: u64 = 8_000_000_000;

#[derive(Debug, Parser)]
struct Args {
    /// Seconds during which both flows run
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// How often each pair is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: u64,
    /// Percent of the packets lost, in both directions
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    shape: Shape,
    /// cargo says this
    #[arg(long, hide = true)]
    bench: bool,
}

/// Bytes that had come when, by a flow's own count.
type Samples = Vec<(Instant, u64)>;

fn main() {
    if peers::role() {
        return;
    }
    cleanup::on_signals();
    let args = Args::parse();
    let rows = args.rows.of(vec![
        Runner::Labnet("cubic"),
        Runner::Labnet("bbr"),
        Runner::Labnet("new_reno"),
        Runner::Labnet("vegas"),
        Runner::Peer(Peer::Tcp(Congestion::Cubic)),
        Runner::Peer(Peer::Tcp(Congestion::Bbr)),
        Runner::Peer(Peer::Quinn(Congestion::Cubic)),
        Runner::Peer(Peer::Quinn(Congestion::Bbr)),
    ]);
    println!(
        "beside the kernel's CUBIC for {} s: {}, each way {}, queue {}, loss {} %\n",
        args.time, args.shape.rate, args.shape.delay, args.shape.queue, args.loss
    );
    let mut lines = Vec::new();
    for runner in &rows {
        let mut runs = Vec::new();
        for seed in 1..=args.runs {
            let link = Link::new(&args.shape, args.loss, seed);
            let (own, other) = beside_cubic(&args, runner, &link);
            println!(
                "{runner:<16} {own:>6.2} Mbit/s, CUBIC {other:>6.2} Mbit/s, queue up to {:.0} kB",
                link.counters().down.queued_bytes_max as f64 / 1e3
            );
            runs.push((own, other));
        }
        let middle = |of: &dyn Fn(&(f64, f64)) -> f64| median(runs.iter().map(of));
        lines.push(vec![
            runner.to_string(),
            cell(middle(&|run| run.0), 2),
            cell(middle(&|run| run.1), 2),
            cell(middle(&|run| jain(&[run.0, run.1])), 3),
        ]);
    }
    let header = ["", "own, Mbit/s", "CUBIC, Mbit/s", "Jain"];
    println!("\n{}", table(header.map(str::to_owned).into(), lines));
}

/// Mbit/s of the runner and of the kernel's flow while both ran.
fn beside_cubic(args: &Args, runner: &Runner, link: &Link) -> (f64, f64) {
    let kernel = Flow::of_peer(Peer::Tcp(Congestion::Cubic), 5201, link);
    let own = match runner {
        Runner::Labnet(name) => Flow::of_labnet(name, args.time, link),
        Runner::Peer(peer) => Flow::of_peer(*peer, 5202, link),
    };
    // Servers first: both flows start within a few milliseconds of each other.
    let (mut kernel, mut own) = (kernel.start(), own.start());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(args.time) {
        thread::sleep(Duration::from_millis(100));
        kernel.sample();
        own.sample();
    }
    let begin = kernel.began().max(own.began());
    let end = kernel.last().min(own.last());
    (own.rate(begin, end), kernel.rate(begin, end))
}

/// A flow whose server runs.
struct Flow {
    client: std::process::Command,
    /// Ends with the flow.
    _server: (Option<Process>, Option<Site>, Vec<tempfile::TempDir>),
    out: Option<std::path::PathBuf>,
}

impl Flow {
    fn of_peer(peer: Peer, port: u16, link: &Link) -> Self {
        let address = format!("{RIGHT}:{port}").parse().expect("an address");
        let server = peers::server(peer, address);
        let server = Process::start(&mut server.in_namespace(&link.right.name));
        server.expect(peers::READY);
        let wish = Wish {
            size: ENDLESS,
            sessions: 1,
            progress: true,
        };
        Self {
            client: peers::client(peer, address, wish).in_namespace(&link.left.name),
            _server: (Some(server), None, Vec::new()),
            out: None,
        }
    }

    fn of_labnet(congestion: &str, seconds: u64, link: &Link) -> Self {
        // The whole link for all the time, 12.5 MB a second, would not get it all.
        let size = (seconds + 5) * 12_500_000;
        let folder = tempfile::tempdir().expect("a temporary folder");
        random_file(&folder.path().join(FILE), size);
        let site = Site::start(RIGHT, folder.path(), "", Some(&link.right));
        let out = tempfile::tempdir().expect("a temporary folder");
        let path = out.path().to_owned();
        let into = ["--out", &path.display().to_string()];
        Self {
            client: site.get(Some(&link.left), Some(congestion), &into),
            _server: (None, Some(site), vec![folder, out]),
            out: Some(path),
        }
    }

    fn start(mut self) -> Running {
        Running {
            client: Process::start(&mut self.client),
            samples: Samples::new(),
            flow: self,
        }
    }
}

/// A flow that runs. Its client is the first to go.
struct Running {
    client: Process,
    samples: Samples,
    flow: Flow,
}

impl Running {
    fn sample(&mut self) {
        let Some(out) = &self.flow.out else {
            while let Some((at, line)) = self.client.try_line() {
                if let Ok(progress) = serde_json::from_str::<Progress>(&line) {
                    self.samples.push((at, progress.so_far));
                }
            }
            return;
        };
        // What labnet has received it has written: a file that grows.
        let sizes = fs::read_dir(out).into_iter().flatten().flatten();
        let sizes = sizes.filter_map(|entry| entry.metadata().ok());
        let so_far = sizes.map(|metadata| metadata.len()).sum();
        if so_far > 0 {
            self.samples.push((Instant::now(), so_far));
        }
    }

    fn began(&self) -> Instant {
        self.samples.first().expect("something came").0
    }

    fn last(&self) -> Instant {
        self.samples.last().expect("something came").0
    }

    /// Mbit/s between two moments.
    fn rate(&self, begin: Instant, end: Instant) -> f64 {
        let inside: Samples = self
            .samples
            .iter()
            .copied()
            .filter(|(at, _)| (begin..=end).contains(at))
            .collect();
        let (Some((first, from)), Some((last, to))) = (inside.first(), inside.last()) else {
            return 0.0;
        };
        let seconds = last.duration_since(*first).as_secs_f64().max(1e-3);
        (to - from) as f64 * 8.0 / seconds / 1e6
    }
}
