use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use super::{
    lease::{Client, ClientKey, Counts, Freed, Lease, State, StoredLease, StoredState},
    pool::Pool,
};

/// The leases of one subnet, by address, by client and by deadline.
///
/// Every change since the last [`commit`](Self::commit) can be undone: leases that could not be
/// stored must not be believed.
pub(crate) struct Table {
    pool: Pool,
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// The one address that a client is asked to use: offered, bound, or remembered. A bound lease
    /// may be without an entry, if its client was offered another address instead.
    clients: HashMap<ClientKey, Ipv4Addr>,
    deadlines: BTreeSet<(u64, Ipv4Addr)>,
    /// Freed addresses of the pool, the longest free first.
    freed: BTreeSet<(u64, Ipv4Addr)>,
    counts: Counts,
    journal: Vec<Undo>,
}

/// What a change replaced.
enum Undo {
    Lease(Ipv4Addr, Option<Lease>),
    Client(ClientKey, Option<Ipv4Addr>),
}

impl Table {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            leases: BTreeMap::new(),
            clients: HashMap::new(),
            deadlines: BTreeSet::new(),
            freed: BTreeSet::new(),
            counts: Counts::default(),
            journal: Vec::new(),
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Lease)> {
        self.leases.iter().map(|(address, lease)| (*address, lease))
    }

    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(&address)
    }

    /// The address that the client has, had or was offered.
    pub(crate) fn of_client(&self, key: &ClientKey) -> Option<(Ipv4Addr, &Lease)> {
        let address = *self.clients.get(key)?;
        Some((address, self.leases.get(&address)?))
    }

    /// Whether `address` is the client's: offered to it, leased or remembered for it.
    pub(crate) fn owns(&self, key: &ClientKey, address: Ipv4Addr) -> bool {
        self.get(address).is_some_and(|lease| {
            lease.client.key == *key && !matches!(lease.state, State::Declined { .. })
        })
    }

    /// Whether nobody but the client holds `address`.
    pub(crate) fn available(&self, key: &ClientKey, address: Ipv4Addr) -> bool {
        match self.get(address) {
            None => true,
            Some(lease) => matches!(lease.state, State::Freed(_)) || self.owns(key, address),
        }
    }

    /// An address of the pool for a client that has none: one that nobody ever had, else the one
    /// that has been free for the longest time.
    pub(crate) fn unused(&mut self) -> Option<Ipv4Addr> {
        let leases = &self.leases;
        self.pool
            .unused(|address| leases.contains_key(&address))
            .or_else(|| self.freed.first().map(|(_, address)| *address))
    }

    /// Holds an available address for a client that has not asked for it yet.
    pub(crate) fn offer(&mut self, address: Ipv4Addr, client: Client, until: u64) {
        let own = self
            .get(address)
            .filter(|lease| lease.client.key == client.key);
        let freed = match own.map(|lease| lease.state) {
            // The lease goes on: the client has forgotten it, the promise stands.
            Some(State::Bound { .. }) => return,
            Some(State::Freed(freed)) => Some(freed),
            Some(State::Offered { freed, .. }) => freed,
            Some(State::Declined { .. }) | None => None,
        };
        let state = State::Offered { until, freed };
        self.put(address, Lease { client, state });
    }

    /// Leases an available address. Returns the address that the client had before, if that was
    /// another one; it is free now.
    pub(crate) fn bind(
        &mut self,
        address: Ipv4Addr,
        client: Client,
        until: u64,
    ) -> Option<Ipv4Addr> {
        let before = self.clients.get(&client.key).copied();
        let left = before.filter(|before| *before != address);
        if let Some(left) = left {
            self.remove(left);
        }
        let state = State::Bound { until };
        self.put(address, Lease { client, state });
        left
    }

    /// The client has gone; the address stays remembered for it.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: u64) {
        let released = Freed {
            since: now,
            released: true,
        };
        self.free(address, released);
    }

    /// Takes an address out of use until then.
    pub(crate) fn decline(&mut self, address: Ipv4Addr, until: u64) {
        if let Some(lease) = self.get(address) {
            let client = lease.client.clone();
            let state = State::Declined { until };
            self.put(address, Lease { client, state });
        }
    }

    /// The client took another server's offer.
    pub(crate) fn withdraw_offer(&mut self, key: &ClientKey) {
        if let Some((address, lease)) = self.of_client(key)
            && let State::Offered { freed, .. } = lease.state
        {
            self.end_offer(address, freed);
        }
    }

    /// Forgets an address and its client.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) {
        if let Some(lease) = self.get(address) {
            let key = lease.client.key.clone();
            self.unpoint(key, address);
            self.replace(address, None);
        }
    }

    /// Ends what has reached its deadline. Costs nothing if nothing has.
    pub(crate) fn expire(&mut self, now: u64) {
        while let Some(&(deadline, address)) = self.deadlines.first()
            && deadline <= now
        {
            match self.get(address).map(|lease| lease.state) {
                Some(State::Offered { freed, .. }) => self.end_offer(address, freed),
                Some(State::Bound { until }) => self.free(
                    address,
                    Freed {
                        since: until,
                        released: false,
                    },
                ),
                _ => self.remove(address),
            }
        }
    }

    /// Takes up a lease from the store, as it was when it was stored.
    pub(crate) fn restore(&mut self, stored: StoredLease, now: u64) {
        let StoredLease {
            address,
            client: key,
            hardware,
            hostname,
            state,
            until,
        } = stored;
        let client = Client {
            key,
            hardware,
            hostname,
        };
        let state = match state {
            StoredState::Bound if until > now => State::Bound { until },
            StoredState::Declined => State::Declined { until },
            StoredState::Bound | StoredState::Released => State::Freed(Freed {
                since: until,
                released: state == StoredState::Released,
            }),
        };
        // What a client holds now counts more than what it had once.
        let holds = |table: &Self| {
            let held = table.of_client(&client.key);
            held.is_some_and(|(_, held)| match held.state {
                State::Freed(freed) => freed.since >= until,
                _ => true,
            })
        };
        if matches!(state, State::Freed(_)) && (!self.rememberable(address) || holds(self)) {
            return;
        }
        self.put(address, Lease { client, state });
    }

    /// Makes every change since the last commit final.
    pub(crate) fn commit(&mut self) {
        self.journal.clear();
    }

    /// Undoes every change since the last commit.
    pub(crate) fn roll_back(&mut self) {
        while let Some(undo) = self.journal.pop() {
            match undo {
                Undo::Lease(address, lease) => {
                    self.swap_lease(address, lease);
                }
                Undo::Client(key, address) => {
                    self.swap_client(key, address);
                }
            }
        }
    }

    fn rememberable(&self, address: Ipv4Addr) -> bool {
        self.pool.holds(address) || self.pool.is_reserved(address)
    }

    fn end_offer(&mut self, address: Ipv4Addr, freed: Option<Freed>) {
        match freed {
            Some(freed) => self.free(address, freed),
            None => self.remove(address),
        }
    }

    /// Frees an address, and remembers its client if that makes sense: it has no other address, and
    /// could be given this one again.
    fn free(&mut self, address: Ipv4Addr, freed: Freed) {
        let Some(lease) = self.get(address) else {
            return;
        };
        let client = lease.client.clone();
        if self.clients.get(&client.key) != Some(&address) || !self.rememberable(address) {
            return self.remove(address);
        }
        let state = State::Freed(freed);
        self.put(address, Lease { client, state });
    }

    /// Gives `address` to `lease`, whoever had it, and points the client at it.
    fn put(&mut self, address: Ipv4Addr, lease: Lease) {
        if let Some(old) = self.get(address)
            && old.client.key != lease.client.key
        {
            let key = old.client.key.clone();
            self.unpoint(key, address);
        }
        let key = lease.client.key.clone();
        if matches!(lease.state, State::Declined { .. }) {
            self.unpoint(key, address);
        } else {
            if let Some((other, held)) = self.of_client(&key)
                && other != address
                && !matches!(held.state, State::Bound { .. })
            {
                self.remove(other);
            }
            self.point(key, Some(address));
        }
        self.replace(address, Some(lease));
    }

    fn unpoint(&mut self, key: ClientKey, address: Ipv4Addr) {
        if self.clients.get(&key) == Some(&address) {
            self.point(key, None);
        }
    }

    fn point(&mut self, key: ClientKey, address: Option<Ipv4Addr>) {
        let old = self.swap_client(key.clone(), address);
        self.journal.push(Undo::Client(key, old));
    }

    fn replace(&mut self, address: Ipv4Addr, lease: Option<Lease>) {
        let old = self.swap_lease(address, lease);
        self.journal.push(Undo::Lease(address, old));
    }

    fn swap_client(&mut self, key: ClientKey, address: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        match address {
            Some(address) => self.clients.insert(key, address),
            None => self.clients.remove(&key),
        }
    }

    /// The one place where leases change: everything that follows from them changes with them.
    fn swap_lease(&mut self, address: Ipv4Addr, lease: Option<Lease>) -> Option<Lease> {
        let old = self.leases.remove(&address);
        if let Some(old) = &old {
            *self.counts.of(&old.state) -= 1;
            if let Some(deadline) = old.state.deadline() {
                self.deadlines.remove(&(deadline, address));
            }
            if let State::Freed(freed) = old.state {
                self.freed.remove(&(freed.since, address));
            }
        }
        match lease {
            Some(lease) => {
                *self.counts.of(&lease.state) += 1;
                if let Some(deadline) = lease.state.deadline() {
                    self.deadlines.insert((deadline, address));
                }
                if let State::Freed(freed) = lease.state
                    && self.pool.holds(address)
                {
                    self.freed.insert((freed.since, address));
                }
                self.pool.take(address);
                self.leases.insert(address, lease);
            }
            None if old.is_some() => self.pool.give_back(address),
            None => {}
        }
        old
    }
}
