use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use super::{
    drop_reason::DropReason,
    lease::{Client, ClientKey, Hardware, Lease, Record, State, StoredLease, StoredState},
    message::Message,
    pool::Pool,
    reply::{Nak, ReplyKind},
    table::Table,
};
use crate::config::{MacAddress, Subnet};

/// How long an offer is held for a client that does not claim it. Clients that have several offers
/// to choose from wait some seconds; then they may retransmit for a minute (RFC 2131 section 4.1).
pub const OFFER_HOLD: u64 = 60;

/// A pool is reported empty at most once in so many seconds.
const WARN_INTERVAL: u64 = 60;

/// Who asks.
pub(crate) struct Requester<'a> {
    key: ClientKey,
    mac: Option<MacAddress>,
    hardware: Hardware,
    hostname: Option<&'a str>,
}

impl<'a> Requester<'a> {
    pub(crate) fn new(message: &'a Message<'_>) -> Self {
        Self {
            key: message.client_key(),
            mac: message.mac(),
            hardware: message.hardware(),
            hostname: message.hostname(),
        }
    }

    fn client(&self) -> Client {
        Client {
            key: self.key.clone(),
            hardware: self.hardware,
            hostname: self.hostname.map(Arc::from),
        }
    }
}

/// The decisions within one subnet.
pub(crate) struct Served {
    pub(crate) config: Subnet,
    pub(crate) table: Table,
    lease_time: u32,
    warned: Option<u64>,
}

impl Served {
    /// `subnet` without leases; `own` are the server's addresses.
    pub(crate) fn new(subnet: &Subnet, own: &[Ipv4Addr]) -> Self {
        Self {
            table: Table::new(Pool::new(subnet, own)),
            // The configuration keeps it below 2^32-1, which would mean forever.
            lease_time: u32::try_from(subnet.lease_time.as_secs()).unwrap_or(u32::MAX - 1),
            config: subnet.clone(),
            warned: None,
        }
    }

    /// Takes over what is not stored of a lease under the former configuration: an offer, and that a
    /// client has renewed.
    pub(crate) fn adopt(&mut self, address: Ipv4Addr, lease: &Lease) {
        let client = &lease.client;
        match lease.state {
            State::Bound { renewed: true, .. } => self.table.set_renewed(&client.key, address),
            State::Offered { until, .. }
                if self.table.pool().permits(address, client.hardware.mac())
                    && self.table.available(&client.key, address) =>
            {
                self.table.offer(address, client.clone(), until);
            }
            _ => {}
        }
    }

    /// Offers an address.
    pub(crate) fn discover(
        &mut self,
        client: &Requester<'_>,
        requested: Option<Ipv4Addr>,
        now: u64,
    ) -> Result<ReplyKind, DropReason> {
        let Some(address) = self.choose(client, requested) else {
            self.warn_exhausted(now);
            return Err(DropReason::NoAddress);
        };
        let until = now.saturating_add(OFFER_HOLD);
        self.table.offer(address, client.client(), until);
        Ok(ReplyKind::Offer {
            address,
            lease: self.lease_time,
        })
    }

    /// The order of RFC 2131 section 4.3.1, the reservation before everything: the current address,
    /// the previous one, the one asked for, one from the pool.
    fn choose(&mut self, client: &Requester<'_>, requested: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let reserved = self.table.pool().reservation(client.mac);
        let known = self
            .table
            .of_client(&client.key)
            .map(|(address, _)| address);
        let wished = reserved.into_iter().chain(known).chain(requested);
        let granted = wished
            .filter(|address| self.config.network.contains(*address))
            .find(|address| {
                self.table.pool().permits(*address, client.mac)
                    && self.table.available(&client.key, *address)
            });
        granted.or_else(|| self.table.unused())
    }

    /// Leases an address, refuses it, or leaves the client to another server. What has to be stored
    /// is added to `records`.
    pub(crate) fn request(
        &mut self,
        client: &Requester<'_>,
        message: &Message<'_>,
        for_us: bool,
        now: u64,
        records: &mut Vec<Record>,
    ) -> Result<ReplyKind, DropReason> {
        if !for_us {
            // SELECTING, and another server's offer was taken.
            self.table.withdraw_offer(&client.key);
            return Err(DropReason::NotForUs);
        }
        let (address, known) = match (message.server, message.requested, message.ciaddr()) {
            // SELECTING. The offer may have run out: what is free can still be had.
            (Some(_), requested, own) => (requested.or(own), true),
            // INIT-REBOOT
            (None, Some(requested), None) => (Some(requested), self.remembers(client)),
            // RENEWING and REBINDING go by ciaddr, not by option 50.
            (None, _, own) => (own, own.is_some_and(|own| self.renewable(client, own))),
        };
        let address = address.ok_or(DropReason::Malformed)?;
        if !self.config.network.contains(address) {
            return Ok(ReplyKind::Nak(Nak::WrongNetwork));
        }
        if !known {
            return Err(DropReason::UnknownClient);
        }
        let rebooting = message.server.is_none();
        let reserved = self.table.pool().reservation(client.mac) == Some(address);
        let refused = if !self.may_have(client, address) {
            Some(Nak::Unavailable)
        } else if rebooting && !reserved && !self.table.owns(&client.key, address) {
            Some(Nak::OtherAddress)
        } else {
            None
        };
        match refused {
            Some(reason) => {
                // The client stops using it now (RFC 2131 section 3.1-4), so it is free.
                if self.table.owns(&client.key, address) {
                    self.table.remove(address);
                    records.push(Record::Forget(address));
                }
                Ok(ReplyKind::Nak(reason))
            }
            None => Ok(self.bind(client, address, now, records)),
        }
    }

    /// Whether there is a record of this client: a lease, a former lease or a reservation. An offer
    /// that it has not taken is none.
    fn remembers(&self, client: &Requester<'_>) -> bool {
        let lease = self.table.of_client(&client.key);
        lease.is_some_and(|(_, lease)| !matches!(lease.state, State::Offered { freed: None, .. }))
            || self.table.pool().reservation(client.mac).is_some()
    }

    /// Whether the server can tell if this client may go on using `address`: because it is the
    /// client's, or because it certainly is another's.
    fn renewable(&self, client: &Requester<'_>, address: Ipv4Addr) -> bool {
        self.table.owns(&client.key, address)
            || !self.table.available(&client.key, address)
            || self.table.pool().is_reserved(address)
            || !self.config.network.contains(address)
    }

    /// Whether `address` is for leasing to this client, free for it, and not second to its
    /// reservation.
    fn may_have(&self, client: &Requester<'_>, address: Ipv4Addr) -> bool {
        let pool = self.table.pool();
        let better = pool
            .reservation(client.mac)
            .filter(|reserved| self.table.available(&client.key, *reserved));
        pool.permits(address, client.mac)
            && self.table.available(&client.key, address)
            && better.is_none_or(|better| better == address)
    }

    fn bind(
        &mut self,
        client: &Requester<'_>,
        address: Ipv4Addr,
        now: u64,
        records: &mut Vec<Record>,
    ) -> ReplyKind {
        let until = now.saturating_add(u64::from(self.lease_time));
        let holder = client.client();
        let stored = bound(address, &holder, until);
        records.extend(
            self.table
                .bind(address, holder, now, until)
                .map(Record::Forget),
        );
        records.push(Record::Keep(stored));
        ReplyKind::Ack {
            address,
            lease: self.lease_time,
        }
    }

    /// Tells parameters to a client that has an address.
    pub(crate) fn inform(
        &self,
        message: &Message<'_>,
        source: SocketAddrV4,
    ) -> Result<ReplyKind, DropReason> {
        // ciaddr is where the answer goes; some clients leave it out.
        let source = Some(*source.ip()).filter(|ip| !ip.is_unspecified());
        let address = message.ciaddr().or(source).ok_or(DropReason::Malformed)?;
        Ok(ReplyKind::Inform { address })
    }

    fn warn_exhausted(&mut self, now: u64) {
        let recent = |warned: u64| now.saturating_sub(warned) < WARN_INTERVAL && now >= warned;
        if self.warned.is_some_and(recent) {
            return;
        }
        self.warned = Some(now);
        let counts = self.table.counts();
        tracing::warn!(
            subnet = %self.config.network,
            addresses = self.table.pool().len(),
            bound = counts.bound,
            offered = counts.offered,
            declined = counts.declined,
            "no address is free: all are leased, offered or in quarantine",
        );
    }
}

pub(crate) fn bound(address: Ipv4Addr, client: &Client, until: u64) -> StoredLease {
    StoredLease {
        address,
        client: client.key.clone(),
        hardware: client.hardware,
        hostname: client.hostname.clone(),
        state: StoredState::Bound,
        until,
    }
}
