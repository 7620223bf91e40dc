use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use crate::config::{AddressRange, MacAddress, Subnet};

/// The addresses of a subnet that can be leased, and which of them nobody was ever given.
///
/// Nothing here grows with the size of the pool, only with what was used of it: a cursor stands for
/// all addresses that were never touched.
pub(crate) struct Pool {
    ranges: Vec<AddressRange>,
    /// Inside of the ranges, but not for the taking: reserved, or the server's own. (That no router
    /// lies in a pool, the configuration sees to.)
    withheld: HashSet<Ipv4Addr>,
    by_mac: HashMap<MacAddress, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, MacAddress>,
    /// Touched once, and free again.
    returned: BTreeSet<Ipv4Addr>,
    /// The range and the address where the untouched ones begin; `None` past the last.
    cursor: Option<(usize, Ipv4Addr)>,
}

impl Pool {
    /// The pool of `subnet`; `own` are the server's addresses, which it keeps for itself.
    pub(crate) fn new(subnet: &Subnet, own: &[Ipv4Addr]) -> Self {
        let reserved = subnet.reservations.iter();
        let mut withheld: HashSet<_> = reserved.clone().map(|held| held.address).collect();
        withheld.extend(own);
        withheld.retain(|address| subnet.pools.iter().any(|range| range.contains(*address)));
        Self {
            cursor: subnet.pools.first().map(|range| (0, range.first)),
            ranges: subnet.pools.clone(),
            withheld,
            by_mac: reserved.clone().map(|r| (r.mac, r.address)).collect(),
            by_address: reserved.map(|r| (r.address, r.mac)).collect(),
            returned: BTreeSet::new(),
        }
    }

    /// How many addresses anybody may be given.
    pub(crate) fn len(&self) -> u64 {
        let all: u64 = self.ranges.iter().map(AddressRange::len).sum();
        all.saturating_sub(self.withheld.len() as u64)
    }

    /// Whether anybody may be given `address`.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= address);
        let within = after > 0 && self.ranges[after - 1].contains(address);
        within && !self.withheld.contains(&address)
    }

    /// The address that is reserved for `mac`.
    pub(crate) fn reservation(&self, mac: Option<MacAddress>) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac?).copied()
    }

    /// Whether `address` is reserved for somebody.
    pub(crate) fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Whether the client with this MAC may be given `address` at all.
    pub(crate) fn permits(&self, address: Ipv4Addr, mac: Option<MacAddress>) -> bool {
        match self.by_address.get(&address) {
            Some(owner) => Some(*owner) == mac,
            None => self.holds(address),
        }
    }

    /// `address` is in use from now on.
    pub(crate) fn take(&mut self, address: Ipv4Addr) {
        self.returned.remove(&address);
    }

    /// `address` is in use no more.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        if self.holds(address) {
            self.returned.insert(address);
        }
    }

    /// The lowest address that nobody has or had, of which `used` does not know better. Every
    /// address is stepped over once in the pool's life.
    pub(crate) fn unused(&mut self, used: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        if let Some(address) = self.returned.first() {
            return Some(*address);
        }
        while let Some((range, address)) = self.cursor {
            if !self.withheld.contains(&address) && !used(address) {
                return Some(address);
            }
            self.cursor = self.following(range, address);
        }
        None
    }

    fn following(&self, range: usize, address: Ipv4Addr) -> Option<(usize, Ipv4Addr)> {
        if address < self.ranges[range].last {
            // Below another address, so it is not the highest.
            return Some((range, Ipv4Addr::from_bits(address.to_bits() + 1)));
        }
        let next = self.ranges.get(range + 1)?;
        Some((range + 1, next.first))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Ipv4Network, Reservation};

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn pool() -> Pool {
        let range = |first, last| AddressRange {
            first: address(first),
            last: address(last),
        };
        let subnet = Subnet {
            network: Ipv4Network {
                address: address(0),
                prefix_len: 24,
            },
            pools: vec![range(1, 3), range(253, 254)],
            routers: vec![],
            name_servers: vec![],
            domain: None,
            lease_time: Duration::from_secs(60),
            reservations: vec![Reservation {
                mac: MAC,
                address: address(253),
            }],
        };
        Pool::new(&subnet, &[address(1)])
    }

    #[test]
    fn unused_addresses_come_in_order_without_those_withheld() {
        let mut pool = pool();
        let mut used = BTreeSet::new();
        while let Some(address) = pool.unused(|address| used.contains(&address)) {
            assert!(pool.holds(address));
            pool.take(address);
            assert!(used.insert(address));
        }
        assert_eq!(Vec::from_iter(used), [2, 3, 254].map(address));
        assert_eq!(pool.len(), 3);
        pool.give_back(address(3));
        pool.give_back(address(253));
        assert_eq!(pool.unused(|_| false), Some(address(3)));
    }

    #[test]
    fn a_reserved_address_is_for_its_owner_alone() {
        let pool = pool();
        assert!(pool.permits(address(253), Some(MAC)));
        assert!(!pool.permits(address(253), None));
        assert!(!pool.holds(address(253)));
        assert!(pool.permits(address(2), None));
        assert!(!pool.permits(address(100), Some(MAC)));
        assert_eq!(pool.reservation(Some(MAC)), Some(address(253)));
    }

    #[test]
    fn the_highest_address_of_all_ends_the_cursor() {
        let last = Ipv4Addr::BROADCAST;
        let subnet = Subnet {
            network: Ipv4Network {
                address: last,
                prefix_len: 32,
            },
            pools: vec![AddressRange { first: last, last }],
            routers: vec![],
            name_servers: vec![],
            domain: None,
            lease_time: Duration::from_secs(60),
            reservations: vec![],
        };
        let mut pool = Pool::new(&subnet, &[]);
        assert_eq!(pool.unused(|_| false), Some(last));
        assert_eq!(pool.unused(|_| true), None);
    }
}
