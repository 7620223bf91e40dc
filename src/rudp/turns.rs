//! Turns at something that so many can use at once and no more: whoever comes when none is free waits
//! in the queue of its address, and the address that has fewest gets the next.

use std::collections::{BTreeMap, VecDeque};

use super::places::Prefix;

/// Who has a turn, and who waits for one. `T` is what the shell knows one by who waits.
#[derive(Debug)]
pub struct Turns<T> {
    limits: TurnLimits,
    taken: usize,
    waiting: usize,
    addresses: BTreeMap<Prefix, Own<T>>,
    /// The addresses that somebody waits of, the one that was longest without a new turn first.
    round: VecDeque<Prefix>,
}

/// How many turns there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLimits {
    /// At once.
    pub most: usize,
    /// Of these, of one address.
    pub per_address: usize,
}

/// What one address has and waits for.
#[derive(Debug)]
struct Own<T> {
    taken: usize,
    waiting: VecDeque<T>,
}

impl<T> Turns<T> {
    /// Nobody has one.
    pub fn new(limits: TurnLimits) -> Self {
        Self {
            limits,
            taken: 0,
            waiting: 0,
            addresses: BTreeMap::new(),
            round: VecDeque::new(),
        }
    }

    /// Changes how many there are. Those taken stay so. Then call [`grant`](Self::grant).
    pub fn set_limits(&mut self, limits: TurnLimits) {
        self.limits = limits;
    }

    /// One more of `address` waits. Then call [`grant`](Self::grant).
    pub fn wait(&mut self, address: Prefix, who: T) {
        let own = self.addresses.entry(address).or_insert_with(|| Own {
            taken: 0,
            waiting: VecDeque::new(),
        });
        if own.waiting.is_empty() {
            self.round.push_back(address);
        }
        own.waiting.push_back(who);
        self.waiting += 1;
    }

    /// Who of those that wait has a turn now. Call it until it gives nobody.
    pub fn grant(&mut self) -> Option<(Prefix, T)> {
        if self.taken >= self.limits.most {
            return None;
        }
        let fewest = (self.round.iter().enumerate())
            .map(|(at, address)| (self.taken_by(*address), at))
            .filter(|(taken, _)| *taken < self.limits.per_address)
            .min();
        let (_, at) = fewest?;
        let address = self.round.remove(at)?;
        let own = self.addresses.get_mut(&address)?;
        let who = own.waiting.pop_front()?;
        own.taken += 1;
        if !own.waiting.is_empty() {
            self.round.push_back(address);
        }
        self.taken += 1;
        self.waiting -= 1;
        Some((address, who))
    }

    /// One of `address` gives its turn back. Then call [`grant`](Self::grant).
    pub fn give_back(&mut self, address: Prefix) {
        if let Some(own) = self.addresses.get_mut(&address)
            && own.taken > 0
        {
            own.taken -= 1;
            self.taken -= 1;
        }
        self.forget_if_idle(address);
    }

    /// Of those of `address` who wait, only these still do.
    pub fn retain(&mut self, address: Prefix, still: impl FnMut(&T) -> bool) {
        let Some(own) = self.addresses.get_mut(&address) else {
            return;
        };
        let before = own.waiting.len();
        own.waiting.retain(still);
        self.waiting -= before - own.waiting.len();
        if before > 0 && own.waiting.is_empty() {
            self.round.retain(|other| *other != address);
        }
        self.forget_if_idle(address);
    }

    /// Whether somebody would have a turn that `address` gives back.
    pub fn is_wanted(&self, address: Prefix) -> bool {
        self.waiting > 0
            && self.round.iter().any(|other| {
                let own = usize::from(*other == address);
                self.taken_by(*other).saturating_sub(own) < self.limits.per_address
            })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many turns are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    fn taken_by(&self, address: Prefix) -> usize {
        self.addresses.get(&address).map_or(0, |own| own.taken)
    }

    fn forget_if_idle(&mut self, address: Prefix) {
        let idle = |own: &Own<T>| own.taken == 0 && own.waiting.is_empty();
        if self.addresses.get(&address).is_some_and(idle) {
            self.addresses.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn address(n: u8) -> Prefix {
        Prefix::of(IpAddr::from([10, 0, 0, n]))
    }

    fn granted<T>(turns: &mut Turns<T>) -> Vec<T> {
        std::iter::from_fn(|| turns.grant())
            .map(|(_, who)| who)
            .collect()
    }

    const LIMITS: TurnLimits = TurnLimits {
        most: 4,
        per_address: 3,
    };

    #[test]
    fn an_address_has_its_share_and_the_others_what_is_left() {
        let mut turns = Turns::new(LIMITS);
        for n in 0..10 {
            turns.wait(address(1), n);
        }
        assert_eq!(granted(&mut turns), [0, 1, 2]);
        assert!(turns.is_wanted(address(1)), "by its own");
        turns.wait(address(2), 20);
        assert_eq!(granted(&mut turns), [20]);
        turns.wait(address(3), 30);
        assert!(granted(&mut turns).is_empty());
        // The one that has fewest is next, however long the others have waited.
        turns.give_back(address(1));
        assert_eq!(granted(&mut turns), [30]);
        assert!(
            turns.is_wanted(address(2)),
            "the first has room in its share"
        );
        turns.give_back(address(2));
        assert_eq!(granted(&mut turns), [3]);
        assert_eq!((turns.taken(), turns.waiting()), (4, 6));
    }

    #[test]
    fn who_no_longer_waits_gets_none() {
        let mut turns = Turns::new(TurnLimits { most: 1, ..LIMITS });
        turns.wait(address(1), 1);
        turns.wait(address(2), 2);
        turns.wait(address(2), 3);
        assert_eq!(granted(&mut turns), [1]);
        turns.retain(address(2), |who| *who != 2);
        turns.give_back(address(1));
        assert_eq!(granted(&mut turns), [3]);
        turns.retain(address(2), |_| false);
        turns.give_back(address(2));
        assert!(turns.addresses.is_empty() && turns.round.is_empty());
        assert_eq!((turns.taken(), turns.waiting()), (0, 0));
    }

    proptest! {
        /// Whatever happens: no more than the limits, nobody forgotten, and no turn lies idle.
        #[test]
        fn its_counts_hold(steps in prop::collection::vec((0..4u8, 0..4u8), 0..200)) {
            let mut turns = Turns::new(LIMITS);
            let mut holders: Vec<Prefix> = Vec::new();
            for (what, host) in steps {
                let address = address(host);
                match what {
                    0 => if let Some(at) = holders.iter().position(|held| *held == address) {
                        holders.swap_remove(at);
                        turns.give_back(address);
                    },
                    1 => {
                        let mut even = false;
                        turns.retain(address, |()| { even = !even; even });
                    }
                    _ => turns.wait(address, ()),
                }
                holders.extend(std::iter::from_fn(|| turns.grant()).map(|(address, ())| address));
                prop_assert_eq!(turns.taken(), holders.len());
                prop_assert!(turns.taken() <= LIMITS.most);
                let mut waiting = 0;
                for (address, own) in &turns.addresses {
                    let held = holders.iter().filter(|held| *held == address).count();
                    prop_assert_eq!(own.taken, held);
                    prop_assert!(own.taken <= LIMITS.per_address);
                    prop_assert!(own.taken > 0 || !own.waiting.is_empty());
                    prop_assert_eq!(turns.round.contains(address), !own.waiting.is_empty());
                    let idle = turns.taken() < LIMITS.most && held < LIMITS.per_address;
                    prop_assert!(!idle || own.waiting.is_empty(), "it could have a turn");
                    waiting += own.waiting.len();
                }
                prop_assert_eq!(turns.waiting(), waiting);
            }
        }
    }
}
