//! What `[rudp]` lets all clients have together, and each address.

use super::table::Table;

/// How much of the proxy its clients may take. An address is one of IPv4, or a /64 of IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// Sessions and connections of one address; all have `max_sessions`. Default half of these.
    pub sessions_per_address: usize,
    /// Sessions that no numbered signal has come for since SIGNEW. One more takes the place of the
    /// oldest of the address that has most. Default 4096.
    pub half_open: usize,
    /// Handshakes of the binary transport under way. One more takes the place of the oldest of the
    /// address that has most. Default 1024.
    pub handshakes: usize,
    /// Of these, of one address. Default a quarter.
    pub handshakes_per_address: usize,
    /// Files being fetched from the origin at once; others wait, and the addresses take turns.
    /// Default 256.
    pub fetches: usize,
    /// Of these, of one address. Default half.
    pub fetches_per_address: usize,
    /// Whoever is not known to be at its address gets at most so many times the bytes that it sent in a
    /// second. Default 10.
    pub amplification: u64,
    /// Whether whoever sends from 127.0.0.0/8 or ::1 is known to be there: a source address that
    /// nobody forges from outside. Default true.
    pub trust_loopback: bool,
}

impl Shares {
    /// The default where there may be so many sessions.
    pub fn of(max_sessions: usize) -> Self {
        let (handshakes, fetches) = (1024_usize, 256_usize);
        Self {
            sessions_per_address: half(max_sessions),
            half_open: 4096,
            handshakes,
            handshakes_per_address: quarter(handshakes),
            fetches,
            fetches_per_address: half(fetches),
            amplification: 10,
            trust_loopback: true,
        }
    }
}

/// None of the numbers may be larger.
const MOST: usize = 1_000_000;
const DEFAULT_MAX_SESSIONS: usize = 4096;

impl Shares {
    /// How many sessions there may be, `max_sessions`, and the shares.
    pub(super) fn read(table: &mut Table<'_>) -> (usize, Self) {
        let keys = ["max_sessions", "max_sessions_per_address"];
        let (max_sessions, sessions_per_address) =
            table.total_and_share(keys, MOST, DEFAULT_MAX_SESSIONS, half);
        let default = Self::of(max_sessions);
        let half_open = table.number("max_half_open", 1..=MOST, default.half_open);
        let keys = ["max_handshakes", "max_handshakes_per_address"];
        let (handshakes, handshakes_per_address) =
            table.total_and_share(keys, MOST, default.handshakes, quarter);
        let keys = ["max_fetches", "max_fetches_per_address"];
        let (fetches, fetches_per_address) =
            table.total_and_share(keys, MOST, default.fetches, half);
        let shares = Self {
            sessions_per_address,
            half_open,
            handshakes,
            handshakes_per_address,
            fetches,
            fetches_per_address,
            amplification: table.number("amplification", 1..=1000, default.amplification),
            trust_loopback: table.flag("trust_loopback", default.trust_loopback),
        };
        (max_sessions, shares)
    }
}

fn half(total: usize) -> usize {
    total.div_ceil(2)
}

fn quarter(total: usize) -> usize {
    total.div_ceil(4)
}
