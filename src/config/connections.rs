//! What a role's TCP connections may take together, and each of them.

use std::time::Duration;

use super::{
    compiler::{Compiler, NUMBER},
    file::Key,
    value,
};

/// The limits of a role's TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// So many at once.
    pub total: usize,
    /// Of these, of one address (IPv4) or network of 64 bits (IPv6); at most `total`.
    pub per_address: usize,
    /// A request has to be whole within so long of the connection's start or the last answer's end.
    pub request_timeout: Duration,
    /// Bytes a second: a peer that takes less of its answer over a minute is let go. 0: none is.
    pub min_rate: u64,
}

impl Connections {
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

/// The keys of a role's table that are about its TCP connections.
pub(super) struct Keys {
    /// The table's name.
    pub(super) table: &'static str,
    /// What the table calls them: `max_NOUN`, `max_NOUN_per_address`.
    pub(super) noun: &'static str,
    pub(super) total: Key<i64>,
    pub(super) per_address: Key<i64>,
    pub(super) request_timeout: Key<String>,
    pub(super) min_rate: Key<i64>,
    pub(super) default: Connections,
}

/// Shorter, and a request could be lost in one retransmission.
const SHORTEST: Duration = Duration::from_secs(1);

impl Compiler<'_> {
    /// The limits that `keys` set. A share that the file does not give is the default's, if there are
    /// so many in all.
    pub(super) fn connections(&mut self, keys: Keys) -> Option<Connections> {
        let Keys {
            table,
            noun,
            default,
            ..
        } = keys;
        let per_address_at = format!("{table}.max_{noun}_per_address");
        let mut number = |at: &str, key| {
            self.scalar(at, key, NUMBER, |number| {
                value::number(number, 1..=65_536_usize)
            })
        };
        let total = number(&format!("{table}.max_{noun}"), keys.total);
        let per_address = number(&per_address_at, keys.per_address);
        let request_timeout = self.duration(
            &format!("{table}.request_timeout"),
            keys.request_timeout,
            SHORTEST,
        );
        let min_rate = self.scalar(
            &format!("{table}.min_rate"),
            keys.min_rate,
            NUMBER,
            |number| value::number(number, 0..=1_000_000_u64),
        );
        let total = total?.unwrap_or(default.total);
        let per_address = per_address?.unwrap_or(default.per_address.min(total));
        if per_address > total {
            self.problem(
                &per_address_at,
                format!("{per_address} of one address are more than there may be in all, {total}"),
            );
            return None;
        }
        Some(Connections {
            total,
            per_address,
            request_timeout: request_timeout?.unwrap_or(default.request_timeout),
            min_rate: min_rate?.unwrap_or(default.min_rate),
        })
    }
}
