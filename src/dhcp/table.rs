use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use super::{
    lease::{
        Client, ClientKey, Counts, Freed, Lease, LeaseChange, LeaseNote, State, StoredLease,
        StoredState,
    },
    pool::Pool,
};

/// The leases of one subnet, by address, by client and by deadline.
///
/// Every change since the last [`commit`](Self::commit) can be undone: leases that could not be
/// stored must not be believed.
pub(crate) struct Table {
    pool: Pool,
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// The one address that a client is asked to use: offered, bound, or remembered.
    clients: HashMap<ClientKey, Ipv4Addr>,
    /// The bound addresses of clients that were offered another one since: theirs until they take
    /// it.
    outgoing: HashMap<ClientKey, Ipv4Addr>,
    deadlines: BTreeSet<(u64, Ipv4Addr)>,
    /// Freed addresses of the pool, the longest free first.
    freed: BTreeSet<(u64, Ipv4Addr)>,
    counts: Counts,
    journal: Vec<Undo>,
    notes: Vec<LeaseNote>,
}

/// What a change replaced.
enum Undo {
    Lease(Ipv4Addr, Option<Lease>),
    Client(ClientKey, Option<Ipv4Addr>),
    Outgoing(ClientKey, Option<Ipv4Addr>),
}

impl Table {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            leases: BTreeMap::new(),
            clients: HashMap::new(),
            outgoing: HashMap::new(),
            deadlines: BTreeSet::new(),
            freed: BTreeSet::new(),
            counts: Counts::default(),
            journal: Vec::new(),
            notes: Vec::new(),
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

    /// Leases an available address. Returns the other addresses that the client had or was offered;
    /// they are free now.
    pub(crate) fn bind(
        &mut self,
        address: Ipv4Addr,
        client: Client,
        now: u64,
        until: u64,
    ) -> impl Iterator<Item = Ipv4Addr> {
        let key = client.key.clone();
        let outgoing = self.set_outgoing(&key, None);
        let before = self.clients.get(&key).copied();
        let left = [before, outgoing].map(|left| left.filter(|left| *left != address));
        for left in left.into_iter().flatten() {
            if self.is_bound(left) {
                self.note(LeaseChange::Released, left, now);
            }
            self.remove(left);
        }
        let own = self.get(address).filter(|lease| lease.client.key == key);
        let (renewed, change) = match own.map(|lease| lease.state) {
            Some(State::Bound { renewed: true, .. }) => (true, None),
            Some(State::Bound { .. }) => (true, Some(LeaseChange::Renewed)),
            _ => (false, Some(LeaseChange::Given)),
        };
        let state = State::Bound { until, renewed };
        self.put(address, Lease { client, state });
        if let Some(change) = change {
            self.note(change, address, until);
        }
        left.into_iter().flatten()
    }

    fn is_bound(&self, address: Ipv4Addr) -> bool {
        self.get(address)
            .is_some_and(|lease| matches!(lease.state, State::Bound { .. }))
    }

    /// Notes that the client of `address` has asked for it again before.
    pub(crate) fn set_renewed(&mut self, key: &ClientKey, address: Ipv4Addr) {
        if let Some(lease) = self.get(address)
            && lease.client.key == *key
            && let State::Bound { until, .. } = lease.state
        {
            let renewed = Lease {
                client: lease.client.clone(),
                state: State::Bound {
                    until,
                    renewed: true,
                },
            };
            self.replace(address, Some(renewed));
        }
    }

    /// The client has gone; the address stays remembered for it.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: u64) {
        self.note(LeaseChange::Released, address, now);
        let released = Freed {
            since: now,
            released: true,
        };
        self.free(address, released);
    }

    /// Takes an address out of use until then.
    pub(crate) fn decline(&mut self, address: Ipv4Addr, until: u64) {
        self.note(LeaseChange::Declined, address, until);
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
                Some(State::Bound { until, .. }) => {
                    self.note(LeaseChange::Expired, address, until);
                    self.free(
                        address,
                        Freed {
                            since: until,
                            released: false,
                        },
                    );
                }
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
            StoredState::Bound if until > now => State::Bound {
                until,
                renewed: false,
            },
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

    /// Moves every date by so many seconds. Only between commits: it can't be undone.
    pub(crate) fn shift(&mut self, seconds: i64) {
        self.deadlines.clear();
        self.freed.clear();
        for (address, lease) in &mut self.leases {
            lease.state = lease.state.shifted(seconds);
            if let Some(deadline) = lease.state.deadline() {
                self.deadlines.insert((deadline, *address));
            }
            if let State::Freed(freed) = lease.state
                && self.pool.holds(*address)
            {
                self.freed.insert((freed.since, *address));
            }
        }
    }

    /// Makes every change since the last commit final, and tells what it came to.
    pub(crate) fn commit(&mut self, notes: &mut Vec<LeaseNote>) {
        self.journal.clear();
        notes.append(&mut self.notes);
    }

    /// Undoes every change since the last commit.
    pub(crate) fn roll_back(&mut self) {
        self.notes.clear();
        while let Some(undo) = self.journal.pop() {
            match undo {
                Undo::Lease(address, lease) => {
                    self.swap_lease(address, lease);
                }
                Undo::Client(key, address) => {
                    swap(&mut self.clients, key, address);
                }
                Undo::Outgoing(key, address) => {
                    swap(&mut self.outgoing, key, address);
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
            {
                if matches!(held.state, State::Bound { .. }) {
                    self.set_outgoing(&key, Some(other));
                } else {
                    // Its removal must not bring back what goes on to be outgoing.
                    let outgoing = self.set_outgoing(&key, None);
                    self.remove(other);
                    self.set_outgoing(&key, outgoing.filter(|outgoing| *outgoing != address));
                }
            }
            self.point(key, Some(address));
        }
        self.replace(address, Some(lease));
    }

    fn unpoint(&mut self, key: ClientKey, address: Ipv4Addr) {
        if self.outgoing.get(&key) == Some(&address) {
            self.set_outgoing(&key, None);
        }
        if self.clients.get(&key) == Some(&address) {
            // Who did not take the new address keeps the old one.
            let outgoing = self.set_outgoing(&key, None);
            self.point(key, outgoing);
        }
    }

    fn point(&mut self, key: ClientKey, address: Option<Ipv4Addr>) {
        let old = swap(&mut self.clients, key.clone(), address);
        self.journal.push(Undo::Client(key, old));
    }

    fn set_outgoing(&mut self, key: &ClientKey, address: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if address.is_none() && !self.outgoing.contains_key(key) {
            return None;
        }
        let old = swap(&mut self.outgoing, key.clone(), address);
        self.journal.push(Undo::Outgoing(key.clone(), old));
        old
    }

    fn note(&mut self, change: LeaseChange, address: Ipv4Addr, until: u64) {
        if let Some(lease) = self.leases.get(&address) {
            self.notes.push(LeaseNote {
                change,
                address,
                hardware: lease.client.hardware,
                hostname: lease.client.hostname.clone(),
                until,
            });
        }
    }

    fn replace(&mut self, address: Ipv4Addr, lease: Option<Lease>) {
        let old = self.swap_lease(address, lease);
        self.journal.push(Undo::Lease(address, old));
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

fn swap(
    addresses: &mut HashMap<ClientKey, Ipv4Addr>,
    key: ClientKey,
    address: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    match address {
        Some(address) => addresses.insert(key, address),
        None => addresses.remove(&key),
    }
}
