//! Who may hold a connection: a total, a share for each address, and who makes room for whom.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{config::ConnectionLimits, net::Purpose};

/// Why a peer got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its address has its share, and all of that is in use.
    AddressFull {
        /// The share.
        share: usize,
    },
    /// All places are in use, and nobody holds more of them than this peer's address.
    Full {
        /// The total.
        total: usize,
    },
    /// The process has no descriptors left but those that are held back, and nobody here makes room.
    Descriptors,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressFull { share } => write!(
                f,
                "your address has {share} connections in use, which is its share; close one"
            ),
            Self::Full { total } => write!(f, "all {total} connections are in use; try again"),
            Self::Descriptors => f.write_str("the server has no descriptors left; try again"),
        }
    }
}

/// Hears what becomes of connections, to count it.
pub trait Observer: Send + Sync {
    /// A connection has a place now.
    fn opened(&self);
    /// A connection that had a place is gone, for whatever reason.
    fn closed(&self);
    /// A peer got no place.
    fn refused(&self, refusal: Refusal);
    /// A connection was closed so that another could have its place.
    fn made_room(&self);
    /// A connection took less than a slow line would carry.
    fn slow(&self);
    /// A peer did not ask in time.
    fn timed_out(&self);
}

/// For whom nothing needs to be counted.
impl Observer for () {
    fn opened(&self) {}
    fn closed(&self) {}
    fn refused(&self, _: Refusal) {}
    fn made_room(&self) {}
    fn slow(&self) {}
    fn timed_out(&self) {}
}

/// The places of one service: all its listeners share them, and they outlive its actor.
pub struct Places {
    pub(super) purpose: Purpose,
    table: Mutex<Table<Arc<Notify>>>,
    pub(super) observer: Arc<dyn Observer>,
}

impl Places {
    /// All places free. `purpose` tells how many of the process's last descriptors they may take.
    pub fn new(
        limits: ConnectionLimits,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            purpose,
            table: Mutex::new(Table::new(limits)),
            observer,
        })
    }

    /// Other limits from now on. Who holds more keeps it, and gets nothing new.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.lock().limits = limits;
    }

    /// The limits of the moment.
    pub fn limits(&self) -> ConnectionLimits {
        self.lock().limits
    }

    /// How many places are taken, and how many there are.
    pub fn taken(&self) -> (usize, usize) {
        let table = self.lock();
        (table.places.len(), table.limits.total)
    }

    /// A place for a peer, if need be another's: always if descriptors are scarce.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        are_scarce: bool,
    ) -> Result<Place, Refusal> {
        let leave = Arc::new(Notify::new());
        let admitted = self
            .lock()
            .admit(Holder::of(peer), are_scarce, Arc::clone(&leave));
        match admitted {
            Ok((id, victim)) => {
                if let Some(victim) = victim {
                    self.observer.made_room();
                    victim.notify_one();
                }
                self.observer.opened();
                Ok(Place {
                    places: Arc::clone(self),
                    id,
                    leave,
                })
            }
            Err(refusal) => {
                self.observer.refused(refusal);
                Err(refusal)
            }
        }
    }

    /// Whoever has been idle longest goes: the process has no descriptor for anybody else.
    pub(super) fn make_room(&self) {
        let leaves = self.lock().remove_idle();
        if let Some(leave) = leaves {
            self.observer.made_room();
            leave.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<Arc<Notify>>> {
        // The table is whole between any two of its methods.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; free again when dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
}

impl Place {
    /// The peer has asked and is being answered. A place begins idle.
    pub fn busy(&self) {
        self.places.lock().set_idle(self.id, false);
    }

    /// The peer has its answer, and it is its turn again: who is idle makes room first.
    pub fn idle(&self) {
        self.places.lock().set_idle(self.id, true);
    }

    /// What the configuration gives a connection at this moment.
    pub fn limits(&self) -> ConnectionLimits {
        self.places.limits()
    }

    /// The peer took too long to ask: counted.
    pub fn timed_out(&self) {
        self.places.observer.timed_out();
    }

    pub(super) fn slow(&self) {
        self.places.observer.slow();
    }

    /// Ends when another needs the place.
    pub(super) async fn needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.id);
        self.places.observer.closed();
    }
}

/// Who holds places: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    V4(Ipv4Addr),
    V6(u64),
}

impl Holder {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The decisions, without locks and tasks. `T` is how a holder is told to go.
struct Table<T> {
    limits: ConnectionLimits,
    next: u64,
    /// By the order of admission.
    places: BTreeMap<u64, Entry<T>>,
    held: HashMap<Holder, usize>,
}

struct Entry<T> {
    holder: Holder,
    /// When it became idle, in the order of such events; none while it is busy.
    idle_since: Option<u64>,
    leave: T,
}

impl<T> Table<T> {
    fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            next: 0,
            places: BTreeMap::new(),
            held: HashMap::new(),
        }
    }

    /// Gives a place, and tells who has to go for it. An address that has its share makes room
    /// itself; if all places are taken, the address that holds most does.
    fn admit(
        &mut self,
        holder: Holder,
        are_scarce: bool,
        leave: T,
    ) -> Result<(u64, Option<T>), Refusal> {
        let ConnectionLimits {
            total, per_address, ..
        } = self.limits;
        let own = self.held.get(&holder).copied().unwrap_or(0);
        let victim = if own >= per_address {
            let idle = self.longest_idle(|other| other == holder);
            Some(idle.ok_or(Refusal::AddressFull { share: per_address })?)
        } else if self.places.len() >= total {
            let victim = self.victim_of_all(own);
            Some(victim.ok_or(Refusal::Full { total })?)
        } else if are_scarce {
            Some(self.victim_of_all(own).ok_or(Refusal::Descriptors)?)
        } else {
            None
        };
        let leaves = victim.and_then(|victim| self.remove(victim));
        let id = self.next;
        self.next += 1;
        let entry = Entry {
            holder,
            idle_since: Some(id),
            leave,
        };
        self.places.insert(id, entry);
        *self.held.entry(holder).or_default() += 1;
        Ok((id, leaves))
    }

    /// Who goes when all places are taken and one is needed for an address that has `own`.
    fn victim_of_all(&self, own: usize) -> Option<u64> {
        let (&most, &held) = self.held.iter().max_by_key(|(_, held)| **held)?;
        // It would still have at least as many as the one that comes.
        if held > own + 1 {
            let of_most = |other| other == most;
            let oldest = || self.places.iter().find(|(_, entry)| of_most(entry.holder));
            return self
                .longest_idle(of_most)
                .or_else(|| oldest().map(|(id, _)| *id));
        }
        self.longest_idle(|_| true)
    }

    fn remove_idle(&mut self) -> Option<T> {
        let victim = self.longest_idle(|_| true)?;
        self.remove(victim)
    }

    fn longest_idle(&self, of: impl Fn(Holder) -> bool) -> Option<u64> {
        let idle = self.places.iter().filter(|(_, entry)| of(entry.holder));
        let idle = idle.filter_map(|(id, entry)| Some((entry.idle_since?, *id)));
        idle.min().map(|(_, id)| id)
    }

    fn set_idle(&mut self, id: u64, idle: bool) {
        let now = self.next;
        if let Some(entry) = self.places.get_mut(&id) {
            self.next += 1;
            entry.idle_since = idle.then_some(now);
        }
    }

    fn remove(&mut self, id: u64) -> Option<T> {
        let entry = self.places.remove(&id)?;
        if let Some(held) = self.held.get_mut(&entry.holder) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&entry.holder);
            }
        }
        Some(entry.leave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(text: &str) -> Holder {
        Holder::of(text.parse().expect("an address"))
    }

    fn table(total: usize, per_address: usize) -> Table<&'static str> {
        Table::new(ConnectionLimits::of(total, per_address))
    }

    const GREEDY: &str = "192.0.2.1";
    const MODEST: &str = "192.0.2.2";

    #[test]
    fn an_address_at_its_share_makes_room_itself() {
        let mut table = table(100, 2);
        let (first, _) = table.admit(holder(GREEDY), false, "first").expect("free");
        let (second, _) = table.admit(holder(GREEDY), false, "second").expect("free");
        // The one that was idle longest goes: the first has just been served.
        table.set_idle(first, false);
        table.set_idle(first, true);
        let (third, gone) = table.admit(holder(GREEDY), false, "third").expect("room");
        assert_eq!(gone, Some("second"));
        assert!(!table.places.contains_key(&second));
        // Who is all busy gets no more; others do.
        table.set_idle(first, false);
        table.set_idle(third, false);
        assert_eq!(
            table.admit(holder(GREEDY), false, "fourth"),
            Err(Refusal::AddressFull { share: 2 })
        );
        assert!(table.admit(holder(MODEST), false, "other").is_ok());
    }

    #[test]
    fn with_all_places_taken_the_address_that_holds_most_makes_room() {
        let mut table = table(4, 3);
        let (modest, _) = table.admit(holder(MODEST), false, "modest").expect("free");
        let busy: Vec<u64> = ["a", "b", "c"]
            .into_iter()
            .map(|name| table.admit(holder(GREEDY), false, name).expect("free").0)
            .collect();
        busy.iter().for_each(|id| table.set_idle(*id, false));
        // Its oldest, though busy, and though another's is idle.
        let (_, gone) = table
            .admit(holder("192.0.2.3"), false, "new")
            .expect("room");
        assert_eq!(gone, Some("a"));
        // Two, one, one: the next that comes leaves them two, one, one again ...
        let (_, gone) = table
            .admit(holder("192.0.2.4"), false, "newer")
            .expect("room");
        assert_eq!(gone, Some("b"));
        // ... and now all have one: an idle one makes room, a busy one does not.
        let (_, gone) = table
            .admit(holder("192.0.2.5"), false, "newest")
            .expect("room");
        assert_eq!(gone, Some("modest"));
        assert!(!table.places.contains_key(&modest));
        let ids: Vec<u64> = table.places.keys().copied().collect();
        ids.iter().for_each(|id| table.set_idle(*id, false));
        assert_eq!(
            table.admit(holder(MODEST), false, "late"),
            Err(Refusal::Full { total: 4 })
        );
    }

    #[test]
    fn with_scarce_descriptors_nobody_gets_a_place_that_no_other_leaves() {
        let mut table = table(100, 50);
        assert_eq!(
            table.admit(holder(MODEST), true, "first"),
            Err(Refusal::Descriptors)
        );
        let (first, _) = table.admit(holder(GREEDY), false, "first").expect("free");
        let (second, _) = table.admit(holder(GREEDY), false, "second").expect("free");
        table.set_idle(first, false);
        let (_, gone) = table.admit(holder(MODEST), true, "new").expect("room");
        assert_eq!(gone, Some("second"));
        assert!(!table.places.contains_key(&second));
        // Also with no descriptor at all, for whom nothing is known of yet.
        assert_eq!(table.remove_idle(), Some("new"));
        assert_eq!(table.remove_idle(), None);
        assert_eq!(
            table.admit(holder(MODEST), true, "newer"),
            Err(Refusal::Descriptors)
        );
    }

    #[test]
    fn six_hundred_of_one_address_leave_room_for_others() {
        let mut table = table(256, 64);
        for n in 0..600 {
            let admitted = table
                .admit(holder(GREEDY), false, "slow header")
                .expect("room");
            assert_eq!(admitted.1.is_some(), n >= 64);
        }
        let (_, gone) = table.admit(holder(MODEST), false, "page").expect("room");
        assert_eq!((gone, table.places.len()), (None, 65));
    }

    #[test]
    fn an_address_is_one_of_ipv4_or_a_network_of_ipv6() {
        assert_eq!(holder("::ffff:192.0.2.1"), holder("192.0.2.1"));
        assert_ne!(holder("192.0.2.1"), holder("192.0.2.2"));
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::ffff:1"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
    }

    #[test]
    fn what_is_given_back_is_counted_back() {
        let mut table = table(2, 1);
        let (id, _) = table.admit(holder(GREEDY), false, "one").expect("free");
        assert_eq!(table.remove(id), Some("one"));
        assert_eq!(table.remove(id), None);
        assert!(table.held.is_empty() && table.places.is_empty());
        // A place that is gone is neither busy nor idle.
        table.set_idle(id, true);
        assert!(table.places.is_empty());
    }
}
