//! What `[rudp]` lets all clients have together, and each address.

use super::{
    compiler::{Compiler, NUMBER},
    file::Key,
    value,
};

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

/// The keys of `[rudp]` that are about shares.
pub(super) struct Keys {
    pub(super) sessions_per_address: Key<i64>,
    pub(super) half_open: Key<i64>,
    pub(super) handshakes: Key<i64>,
    pub(super) handshakes_per_address: Key<i64>,
    pub(super) fetches: Key<i64>,
    pub(super) fetches_per_address: Key<i64>,
    pub(super) amplification: Key<i64>,
    pub(super) trust_loopback: Key<bool>,
}

impl Shares {
    /// The default where there may be so many sessions.
    pub fn of(max_sessions: usize) -> Self {
        let (handshakes, fetches) = (1024_usize, 256_usize);
        Self {
            sessions_per_address: max_sessions.div_ceil(2),
            half_open: 4096,
            handshakes,
            handshakes_per_address: handshakes.div_ceil(4),
            fetches,
            fetches_per_address: fetches.div_ceil(2),
            amplification: 10,
            trust_loopback: true,
        }
    }
}

impl Compiler<'_> {
    pub(super) fn shares(&mut self, keys: Keys, max_sessions: usize) -> Option<Shares> {
        let mut number = |name: &str, key: Key<i64>| {
            let key_name = format!("rudp.{name}");
            self.scalar(&key_name, key, NUMBER, |number| {
                value::number(number, 1..=1_000_000_usize)
            })
        };
        let sessions_per_address = number("max_sessions_per_address", keys.sessions_per_address);
        let half_open = number("max_half_open", keys.half_open);
        let handshakes = number("max_handshakes", keys.handshakes);
        let own_handshakes = number("max_handshakes_per_address", keys.handshakes_per_address);
        let fetches = number("max_fetches", keys.fetches);
        let own_fetches = number("max_fetches_per_address", keys.fetches_per_address);
        let amplification =
            self.scalar("rudp.amplification", keys.amplification, NUMBER, |number| {
                value::number(number, 1..=1000_u64)
            });
        let trust_loopback = self.scalar(
            "rudp.trust_loopback",
            keys.trust_loopback,
            "`true` or `false`",
            Ok,
        );
        let default = Shares::of(max_sessions);
        let handshakes = handshakes?.unwrap_or(default.handshakes);
        let fetches = fetches?.unwrap_or(default.fetches);
        let within = [
            ("sessions", sessions_per_address, max_sessions),
            ("handshakes", own_handshakes, handshakes),
            ("fetches", own_fetches, fetches),
        ];
        for (what, own, all) in within {
            if let Some(own) = own.flatten().filter(|own| *own > all) {
                self.problem(
                    &format!("rudp.max_{what}_per_address"),
                    format!("{own} of one address are more than there may be in all, {all}"),
                );
                return None;
            }
        }
        Some(Shares {
            sessions_per_address: sessions_per_address?.unwrap_or(default.sessions_per_address),
            half_open: half_open?.unwrap_or(default.half_open),
            handshakes,
            handshakes_per_address: own_handshakes?.unwrap_or(handshakes.div_ceil(4)),
            fetches,
            fetches_per_address: own_fetches?.unwrap_or(fetches.div_ceil(2)),
            amplification: amplification?.unwrap_or(default.amplification),
            trust_loopback: trust_loopback?.unwrap_or(default.trust_loopback),
        })
    }
}
