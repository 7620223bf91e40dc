//! Places that are few, shared fairly among the addresses that want them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

/// What counts as one address where something is shared: an IPv4 address, or the /64 of an IPv6
/// address, of which every host has all it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpAddr);

impl Prefix {
    /// The block of `address`; an IPv4 address in IPv6's clothes (RFC 4291 section 2.5.5.2) counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// A bounded table. When it is full, the oldest entry of the address that holds most makes room; if
/// all hold one, the oldest of all.
#[derive(Debug)]
pub struct Places<K, V> {
    places: HashMap<K, Place<V>>,
    /// Oldest first.
    ages: BTreeMap<u64, K>,
    /// The same, address by address.
    own_ages: BTreeSet<(Prefix, u64)>,
    held: HashMap<Prefix, usize>,
    /// The addresses by how many they hold, for those that hold more than one.
    crowded: BTreeSet<(usize, Prefix)>,
    next_age: u64,
}

#[derive(Debug)]
struct Place<V> {
    prefix: Prefix,
    age: u64,
    value: V,
}

impl<K, V> Default for Places<K, V> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            ages: BTreeMap::new(),
            own_ages: BTreeSet::new(),
            held: HashMap::new(),
            crowded: BTreeSet::new(),
            next_age: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, V> Places<K, V> {
    /// Gives `key` a place, as the youngest, instead of the one that it may have. With `most` taken
    /// already another one makes room: what it held.
    pub fn insert(&mut self, key: K, prefix: Prefix, value: V, most: usize) -> Option<(K, V)> {
        self.remove(&key);
        let displaced = if self.places.len() >= most.max(1) {
            let victim = self.victim();
            victim.and_then(|victim| Some((victim, self.remove(&victim)?)))
        } else {
            None
        };
        let age = self.next_age;
        self.next_age += 1;
        self.ages.insert(age, key);
        self.own_ages.insert((prefix, age));
        let held = self.held.entry(prefix).or_default();
        self.crowded.remove(&(*held, prefix));
        *held += 1;
        if *held > 1 {
            self.crowded.insert((*held, prefix));
        }
        let place = Place { prefix, age, value };
        self.places.insert(key, place);
        displaced
    }

    /// What `key` holds.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.places.get(key).map(|place| &place.value)
    }

    /// What `key` holds, to be changed; it becomes the youngest.
    pub fn renew(&mut self, key: &K) -> Option<&mut V> {
        let place = self.places.get_mut(key)?;
        self.ages.remove(&place.age);
        self.own_ages.remove(&(place.prefix, place.age));
        place.age = self.next_age;
        self.next_age += 1;
        self.ages.insert(place.age, *key);
        self.own_ages.insert((place.prefix, place.age));
        Some(&mut place.value)
    }

    /// Frees the place of `key`: what it held.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Place { prefix, age, value } = self.places.remove(key)?;
        self.ages.remove(&age);
        self.own_ages.remove(&(prefix, age));
        if let Some(held) = self.held.get_mut(&prefix) {
            self.crowded.remove(&(*held, prefix));
            *held -= 1;
            match *held {
                0 => drop(self.held.remove(&prefix)),
                1 => {}
                held => drop(self.crowded.insert((held, prefix))),
            }
        }
        Some(value)
    }

    /// The oldest of all.
    pub fn oldest(&self) -> Option<(K, &V)> {
        let (_, key) = self.ages.first_key_value()?;
        Some((*key, self.get(key)?))
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.places.iter().map(|(key, place)| (key, &place.value))
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many an address holds.
    pub fn held(&self, prefix: Prefix) -> usize {
        self.held.get(&prefix).copied().unwrap_or(0)
    }

    /// Who makes room for the next one.
    fn victim(&self) -> Option<K> {
        let age = match self.crowded.last() {
            Some((_, prefix)) => {
                let own = self.own_ages.range((*prefix, 0)..);
                own.map(|(_, age)| age).next()
            }
            None => self.ages.keys().next(),
        };
        self.ages.get(age?).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::of(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_is_what_one_host_has() {
        assert_eq!(prefix("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.1"));
        assert_eq!(prefix("2001:db8::1:2:3:4").to_string(), "2001:db8::/64");
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:1:2"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:1::1"));
    }

    #[test]
    fn the_oldest_of_the_address_that_holds_most_makes_room() {
        let mut places = Places::default();
        let (here, there) = (prefix("127.0.0.66"), prefix("127.0.0.99"));
        assert_eq!(places.insert(0, there, "there", 4), None);
        for n in 1..=3 {
            assert_eq!(places.insert(n, here, "here", 4), None);
        }
        // Whoever comes, it is the one that holds most that loses its oldest.
        assert_eq!(places.insert(4, here, "here", 4), Some((1, "here")));
        assert_eq!(places.insert(5, there, "there", 4), Some((2, "here")));
        assert_eq!((places.held(here), places.held(there)), (2, 2));
        assert_eq!(places.get(&0), Some(&"there"));
    }

    #[test]
    fn where_all_hold_one_the_oldest_of_all_makes_room() {
        let mut places = Places::default();
        for n in 0..4u8 {
            places.insert(n, Prefix::of(IpAddr::from([10, 0, 0, n])), (), 4);
        }
        assert!(places.renew(&0).is_some());
        let next = Prefix::of(IpAddr::from([10, 0, 0, 9]));
        assert_eq!(places.insert(9, next, (), 4), Some((1, ())));
        assert_eq!(places.oldest(), Some((2, &())));
    }

    proptest! {
        /// Whatever happens, the indices agree with the places.
        #[test]
        fn its_indices_hold(steps in prop::collection::vec((0..4u8, 0..12u16, 0..4u8), 0..200)) {
            let mut places = Places::default();
            for (what, key, host) in steps {
                let prefix = Prefix::of(IpAddr::from([10, 0, 0, host]));
                match what {
                    0 => drop(places.remove(&key)),
                    1 => drop(places.renew(&key)),
                    _ => drop(places.insert(key, prefix, (), 6)),
                }
                prop_assert!(places.len() <= 6);
                prop_assert_eq!(places.ages.len(), places.len());
                prop_assert_eq!(places.own_ages.len(), places.len());
                prop_assert_eq!(places.held.values().sum::<usize>(), places.len());
                let crowded = places.held.values().filter(|held| **held > 1).count();
                prop_assert_eq!(places.crowded.len(), crowded);
                for (held, prefix) in &places.crowded {
                    prop_assert_eq!(places.held(*prefix), *held);
                }
                for (age, key) in &places.ages {
                    prop_assert_eq!(places.places[key].age, *age);
                }
            }
        }
    }
}
