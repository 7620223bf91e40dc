//! What a role's TCP connections may take together, and each of them.

use std::time::Duration;

use super::{table::Table, value::SECOND};

/// The limits of a role's TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// So many at once.
    pub total: usize,
    /// Of these, of one address (IPv4) or network of 64 bits (IPv6); at most `total`.
    pub per_address: usize,
    /// A request has to be whole within so long of the connection's start or the last answer's end.
    pub request_timeout: Duration,
    /// Bytes a second: a peer that takes less of its answer over a minute is let go. 0: none is.
    pub min_rate: u64,
}

impl ConnectionLimits {
    /// `[http]`
    pub const HTTP: Self = Self::of(256, 64);
    /// `[dns]`
    pub const DNS: Self = Self::of(256, 64);
    /// `[scrap]`: a question is a line, which needs no time.
    pub const SCRAP: Self = Self {
        request_timeout: Duration::from_secs(5),
        ..Self::of(256, 128)
    };
    /// `[origin]`
    pub const ORIGIN: Self = Self::of(2048, 1024);

    /// So many, with the usual time and rate: the slowest line of a lesson (10 kbit/s) carries a
    /// hundred times as much.
    pub const fn of(total: usize, per_address: usize) -> Self {
        Self {
            total,
            per_address,
            request_timeout: Duration::from_secs(10),
            min_rate: 10,
        }
    }
}

impl ConnectionLimits {
    /// The limits that the keys of a role's table set, which calls its connections `noun`. Shorter than a second,
    /// and a request could be lost in one retransmission.
    pub(super) fn read(table: &mut Table<'_>, noun: &str, default: Self) -> Self {
        let [all, one] = [format!("max_{noun}"), format!("max_{noun}_per_address")];
        let share = |total| default.per_address.min(total);
        let (total, per_address) =
            table.total_and_share([&all, &one], 65_536, default.total, share);
        Self {
            total,
            per_address,
            request_timeout: table.duration("request_timeout", SECOND.., default.request_timeout),
            min_rate: table.number("min_rate", 0..=1_000_000, default.min_rate),
        }
    }
}
