//! How much may be sent to an address of which nobody knows whether it is there: who forges a
//! signal's source has the answer sent to somebody else. No text signal can show that its sender
//! hears the answers, as its ids follow from the name.
//!
//! An address is known by a lease of ours, or by the handshake of the binary transport, whose
//! cookie it has sent back; one of the loopback, unless the configuration says otherwise. Every
//! other may get in any second so many times the bytes ([`factor`](Allowance::factor)) that came from it
//! in that second, and at least [`LEAST`].

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use super::places::Prefix;

/// To any address at least so many bytes may go in a second.
pub const LEAST: u64 = 1500;

/// A second is counted in so many parts.
const PARTS: u64 = 8;
/// What is sent is remembered for a part more than a second: the bound holds for any second,
/// whenever it begins.
const SENT_PARTS: usize = PARTS as usize + 1;
/// Addresses whose bytes are counted at once, at least. Who comes after many others within a second
/// begins anew: for each address that is forgotten more has come than can be sent to it.
const COUNTED: usize = 8192;
/// Addresses that are remembered for their handshake at once, at least.
const PROVEN: usize = 8192;
/// And for how long, at least.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// Who is known, and what the others may get.
#[derive(Debug)]
pub struct Allowance {
    /// Whether addresses of the loopback are known.
    pub trust_loopback: bool,
    /// So many times the bytes that came from an address may go to it in a second.
    pub factor: u64,
    leased: HashSet<Ipv4Addr>,
    proven: Recent<IpAddr, ()>,
    accounts: Recent<Prefix, Account>,
    start: Instant,
}

/// What came from an address and went to it, in parts of a second.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    part: u64,
    received: [u64; PARTS as usize],
    sent: [u64; SENT_PARTS],
}

impl Allowance {
    /// Nobody is known but the loopback.
    pub fn new(now: Instant) -> Self {
        Self {
            trust_loopback: true,
            factor: 10,
            leased: HashSet::new(),
            proven: Recent::new(PROVEN, PROVEN_FOR, now),
            accounts: Recent::new(COUNTED, Duration::from_secs(2), now),
            start: now,
        }
    }

    /// A lease of this address begins or goes on.
    pub fn leased(&mut self, address: Ipv4Addr) {
        self.leased.insert(address);
    }

    /// The lease of this address is over.
    pub fn lease_ended(&mut self, address: Ipv4Addr) {
        self.leased.remove(&address);
    }

    /// Somebody at this address has sent back what was sent there.
    pub fn proven(&mut self, address: IpAddr, now: Instant) {
        self.proven.entry(address.to_canonical(), now);
    }

    /// Whether somebody is known to be at this address.
    pub fn knows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            address if address.is_loopback() && self.trust_loopback => true,
            IpAddr::V4(address) if self.leased.contains(&address) => true,
            address => self.proven.contains(&address),
        }
    }

    /// Notes that so many bytes came from an address.
    pub fn receive(&mut self, from: IpAddr, bytes: usize, now: Instant) {
        if !self.knows(from) {
            let account = self.account(from, now);
            account.received[(account.part % PARTS) as usize] += bytes as u64;
        }
    }

    /// Whether so many bytes may be sent to an address now; if so, they are.
    pub fn send(&mut self, to: IpAddr, bytes: usize, now: Instant) -> bool {
        self.knows(to) || {
            let factor = self.factor;
            let account = self.account(to, now);
            let received: u64 = account.received.iter().sum();
            let sent = account.sent.iter().sum::<u64>() + bytes as u64;
            let may = sent <= LEAST.max(factor.saturating_mul(received));
            if may {
                account.sent[account.part as usize % SENT_PARTS] += bytes as u64;
            }
            may
        }
    }

    fn account(&mut self, address: IpAddr, now: Instant) -> &mut Account {
        let since = now.saturating_duration_since(self.start);
        let part = since.as_millis() as u64 * PARTS / 1000;
        let account = self.accounts.entry(Prefix::of(address), now);
        account.turn_to(part);
        account
    }
}

impl Account {
    /// Forgets what is more than a second ago.
    fn turn_to(&mut self, part: u64) {
        let passed = part.saturating_sub(self.part);
        for next in (self.part + 1..=part).take(passed.min(SENT_PARTS as u64) as usize) {
            self.received[(next % PARTS) as usize] = 0;
            self.sent[next as usize % SENT_PARTS] = 0;
        }
        if passed > SENT_PARTS as u64 {
            *self = Self::default();
        }
        self.part = self.part.max(part);
    }
}

/// A map that forgets what was not asked for in a while: what is in neither of two generations. A
/// generation ends when it is full or old.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
    lasts: Duration,
    since: Instant,
}

impl<K: Eq + Hash, V: Default> Recent<K, V> {
    fn new(most: usize, lasts: Duration, now: Instant) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            most,
            lasts,
            since: now,
        }
    }

    fn contains(&self, key: &K) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    fn entry(&mut self, key: K, now: Instant) -> &mut V {
        if self.young.len() >= self.most || now.saturating_duration_since(self.since) >= self.lasts
        {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        let old = self.old.remove(&key);
        self.young
            .entry(key)
            .or_insert_with(|| old.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn a_stranger_gets_ten_times_what_it_sends_and_the_least_in_any_case() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        allowance.receive(ELSEWHERE, 62, now);
        assert!(!allowance.send(ELSEWHERE, 1501, now));
        assert!(allowance.send(ELSEWHERE, 1000, now));
        assert!(allowance.send(ELSEWHERE, 500, now));
        assert!(!allowance.send(ELSEWHERE, 1, now));
        allowance.receive(ELSEWHERE, 138, now);
        assert!(allowance.send(ELSEWHERE, 500, now));
        assert!(!allowance.send(ELSEWHERE, 1, now));
        // Its neighbour has an allowance of its own.
        assert!(allowance.send(IpAddr::from([192, 0, 2, 8]), 1500, now));
        let later = now + Duration::from_millis(1300);
        assert!(allowance.send(ELSEWHERE, 1500, later));
        // Or as much as the configuration says.
        allowance.factor = 100;
        let later = later + Duration::from_millis(1300);
        allowance.receive(ELSEWHERE, 62, later);
        assert!(allowance.send(ELSEWHERE, 6200, later) && !allowance.send(ELSEWHERE, 1, later));
    }

    #[test]
    fn who_is_known_gets_all() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let big = 1 << 20;
        let leased = Ipv4Addr::new(10, 20, 30, 41);
        assert!(allowance.send(Ipv4Addr::LOCALHOST.into(), big, now));
        allowance.trust_loopback = false;
        assert!(!allowance.send(Ipv4Addr::LOCALHOST.into(), big, now));
        allowance.leased(leased);
        assert!(allowance.send(leased.into(), big, now));
        assert!(allowance.send(leased.to_ipv6_mapped().into(), big, now));
        allowance.lease_ended(leased);
        assert!(!allowance.send(leased.into(), big, now));
        allowance.proven(ELSEWHERE, now);
        assert!(allowance.send(ELSEWHERE, big, now));
        // For some time after, and not for ever.
        let others = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        allowance.proven(others(1), now + PROVEN_FOR);
        assert!(allowance.knows(ELSEWHERE));
        allowance.proven(others(2), now + 2 * PROVEN_FOR);
        assert!(!allowance.knows(ELSEWHERE));
    }

    #[test]
    fn it_is_bounded_whoever_sends() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for n in 0..100_000 {
            allowance.receive(IpAddr::V4(Ipv4Addr::from_bits(n << 8)), 10, now);
        }
        let accounts = allowance.accounts.young.len() + allowance.accounts.old.len();
        assert!(accounts <= 2 * COUNTED, "{accounts}");
    }

    proptest! {
        /// In no second, whenever it begins, more leaves than it may.
        #[test]
        fn the_bound_holds_in_any_second(
            steps in prop::collection::vec((0..300u64, any::<bool>(), 1..2000usize), 1..300),
        ) {
            let start = Instant::now();
            let mut allowance = Allowance::new(start);
            let (mut now, mut came, mut left) = (start, Vec::new(), Vec::new());
            for (wait, comes, bytes) in steps {
                now += Duration::from_millis(wait);
                if comes {
                    allowance.receive(ELSEWHERE, bytes, now);
                    came.push((now, bytes as u64));
                } else if allowance.send(ELSEWHERE, bytes, now) {
                    left.push((now, bytes as u64));
                }
            }
            let within = |all: &[(Instant, u64)], last: Instant| {
                let recent = all.iter().filter(|(at, _)| {
                    *at <= last && last.duration_since(*at) < Duration::from_secs(1)
                });
                recent.map(|(_, bytes)| bytes).sum::<u64>()
            };
            for (at, _) in &left {
                let (sent, received) = (within(&left, *at), within(&came, *at));
                prop_assert!(sent <= LEAST.max(10 * received), "{sent} for {received}");
            }
        }
    }
}
