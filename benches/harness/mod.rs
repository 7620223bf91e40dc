//! What the benchmarks share: processes whose time and output count, the bad link, labnet's rows.

// Every benchmark uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

pub mod child;
pub mod cleanup;
pub mod labnet;
pub mod link;
#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::{fmt, fs::File, io::Write, path::Path, str::FromStr};

use rand::{Rng, SeedableRng};

use crate::peers::{Congestion, Peer};

/// A row of a table: one transport with one congestion controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runner {
    /// labnet's transport with a controller of this name.
    Labnet(&'static str),
    /// Somebody else's.
    Peer(Peer),
}

/// labnet's congestion controllers.
pub const CONTROLLERS: [&str; 4] = ["bbr", "cubic", "new_reno", "vegas"];

impl Runner {
    /// labnet's, then the peers.
    pub fn all() -> Vec<Self> {
        let own = CONTROLLERS.into_iter().map(Self::Labnet);
        own.chain(Peer::ALL.into_iter().map(Self::Peer)).collect()
    }

    /// Whether each loss makes it slower, so that a lossy link takes minutes for a few megabytes.
    pub fn fears_loss(&self) -> bool {
        match self {
            Self::Labnet(controller) => *controller != "bbr",
            Self::Peer(Peer::Tcp(congestion) | Peer::Quinn(congestion)) => {
                *congestion != Congestion::Bbr
            }
            Self::Peer(Peer::Kcp) => false,
        }
    }

    /// Whether `other` is a peer with the same idea of congestion.
    pub fn rivals(&self, other: &Self) -> bool {
        let (Self::Labnet(own), Self::Peer(peer)) = (self, other) else {
            return false;
        };
        match peer {
            Peer::Kcp | Peer::Tcp(Congestion::Bbr) | Peer::Quinn(Congestion::Bbr) => *own == "bbr",
            Peer::Tcp(Congestion::Cubic) | Peer::Quinn(Congestion::Cubic) => *own == "cubic",
            Peer::Tcp(Congestion::NewReno) | Peer::Quinn(Congestion::NewReno) => *own == "new_reno",
        }
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labnet(controller) => f.pad(&format!("labnet-{controller}")),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

impl FromStr for Runner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::all();
        let found = all.iter().find(|runner| runner.to_string() == text);
        found.cloned().ok_or_else(|| {
            let names: Vec<String> = all.iter().map(Self::to_string).collect();
            format!("no such row: there are {}", names.join(", "))
        })
    }
}

/// Which rows to run.
#[derive(Debug, clap::Args)]
pub struct Rows {
    /// These alone
    #[arg(long, value_name = "ROW,...", value_delimiter = ',')]
    only: Vec<Runner>,
    /// All whose names don't begin like this
    #[arg(long, value_name = "BEGINNING,...", value_delimiter = ',')]
    without: Vec<String>,
}

impl Rows {
    /// Of all of them, those asked for.
    pub fn of(&self, all: Vec<Runner>) -> Vec<Runner> {
        let wanted = |runner: &Runner| {
            let name = runner.to_string();
            (self.only.is_empty() || self.only.contains(runner))
                && !self.without.iter().any(|begin| name.starts_with(begin))
        };
        all.into_iter().filter(wanted).collect()
    }
}

/// A number of bytes like `20MB`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err("not a size like 20MB".to_owned()),
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let size = number.and_then(|number| number.checked_mul(unit));
    size.ok_or_else(|| "not a size like 20MB".to_owned())
}

/// A file of random bytes.
pub fn random_file(path: &Path, size: u64) {
    let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(size);
    let mut file = File::create(path).expect("a file");
    let mut chunk = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let n = left.min(chunk.len() as u64) as usize;
        random.fill_bytes(&mut chunk[..n]);
        file.write_all(&chunk[..n]).expect("room on the disk");
        left -= n as u64;
    }
}

/// The middle one; of an even number the mean of both in the middle. None of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Jain's index of fairness: 1 if all have the same, 1/n if one has everything.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares).max(f64::MIN_POSITIVE)
}

/// A number for a table's cell; a dash for none.
pub fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A table without lines: the first column to the left, all others to the right.
pub fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let lines = rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ")
    });
    lines.collect::<Vec<_>>().join("\n")
}
