use std::{fmt, net::Ipv4Addr, sync::Arc};

use crate::config::MacAddress;

/// Ethernet's hardware type (RFC 1700).
const ETHERNET: u8 = 1;

/// What a lease is bound to (RFC 2131 section 4.2): the client identifier where there is one, else
/// the hardware type and address. The two kinds never equal each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientKey(Arc<[u8]>);

/// The first byte of a key tells its kind.
const HARDWARE: u8 = 0;
const IDENTIFIER: u8 = 1;

impl ClientKey {
    pub(crate) fn hardware(kind: u8, address: &[u8]) -> Self {
        let head = [HARDWARE, kind];
        Self(head.iter().chain(address).copied().collect())
    }

    pub(crate) fn identifier(id: &[u8]) -> Self {
        let head = [IDENTIFIER];
        Self(head.iter().chain(id).copied().collect())
    }

    /// The key that [`Self::as_bytes`] gave, or `None` if these bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [HARDWARE, _, address @ ..] if (1..=16).contains(&address.len()) => {}
            [IDENTIFIER, id @ ..] if (1..=255).contains(&id.len()) => {}
            _ => return None,
        }
        Some(Self(bytes.into()))
    }

    /// The key as bytes, for storing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Option 61, if the key is one.
    pub fn as_identifier(&self) -> Option<&[u8]> {
        match &*self.0 {
            [IDENTIFIER, id @ ..] => Some(id),
            _ => None,
        }
    }
}

/// A hardware address as the header carries it: type and up to 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    kind: u8,
    len: u8,
    bytes: [u8; 16],
}

impl Hardware {
    /// `address` of the type `kind` (1 is Ethernet); what is beyond 16 bytes is cut off.
    pub fn new(kind: u8, address: &[u8]) -> Self {
        let address = &address[..address.len().min(16)];
        let mut bytes = [0; 16];
        bytes[..address.len()].copy_from_slice(address);
        Self {
            kind,
            len: address.len() as u8,
            bytes,
        }
    }

    /// The type (`htype`).
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The address.
    pub fn address(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The address, if it is an Ethernet's.
    pub fn mac(&self) -> Option<MacAddress> {
        let mac = <[u8; 6]>::try_from(self.address()).ok()?;
        (self.kind == ETHERNET).then_some(MacAddress(mac))
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.address().iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) key: ClientKey,
    pub(crate) hardware: Hardware,
    pub(crate) hostname: Option<Arc<str>>,
}

/// Since when an address is free, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) since: u64,
    pub(crate) released: bool,
}

/// What an address is to its client. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Offered and not yet requested. `freed`: it was this client's before.
    Offered { until: u64, freed: Option<Freed> },
    /// Leased. `renewed`: its client has asked for it again since.
    Bound { until: u64, renewed: bool },
    /// Free, and remembered for the client that had it last.
    Freed(Freed),
    /// In use by somebody whom we don't know; nobody gets it until then.
    Declined { until: u64 },
}

impl State {
    pub(crate) fn deadline(&self) -> Option<u64> {
        match *self {
            Self::Offered { until, .. } | Self::Bound { until, .. } | Self::Declined { until } => {
                Some(until)
            }
            Self::Freed(_) => None,
        }
    }

    /// The same state, its dates moved by so many seconds.
    pub(crate) fn shifted(self, seconds: i64) -> Self {
        let shift = |date: u64| date.saturating_add_signed(seconds);
        let freed = |freed: Freed| Freed {
            since: shift(freed.since),
            ..freed
        };
        match self {
            Self::Offered { until, freed: had } => Self::Offered {
                until: shift(until),
                freed: had.map(freed),
            },
            Self::Bound { until, renewed } => Self::Bound {
                until: shift(until),
                renewed,
            },
            Self::Freed(had) => Self::Freed(freed(had)),
            Self::Declined { until } => Self::Declined {
                until: shift(until),
            },
        }
    }

    /// The state's name, and when it ends or, for what has ended, when it did.
    pub(crate) fn name_and_end(&self) -> (&'static str, u64) {
        match *self {
            Self::Offered { until, .. } => ("offered", until),
            Self::Bound { until, .. } => ("bound", until),
            Self::Freed(Freed { since, released }) => {
                (if released { "released" } else { "expired" }, since)
            }
            Self::Declined { until } => ("declined", until),
        }
    }
}

/// One address and its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) client: Client,
    pub(crate) state: State,
}

/// How many addresses are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offered, unclaimed.
    pub offered: u64,
    /// Leased.
    pub bound: u64,
    /// Given back by their clients.
    pub released: u64,
    /// Not renewed in time.
    pub expired: u64,
    /// Found in use by a client and quarantined.
    pub declined: u64,
}

impl Counts {
    /// Every state's name and number.
    pub fn by_state(&self) -> [(&'static str, u64); 5] {
        [
            ("offered", self.offered),
            ("bound", self.bound),
            ("released", self.released),
            ("expired", self.expired),
            ("declined", self.declined),
        ]
    }

    pub(crate) fn of(&mut self, state: &State) -> &mut u64 {
        match state {
            State::Offered { .. } => &mut self.offered,
            State::Bound { .. } => &mut self.bound,
            State::Freed(Freed { released: true, .. }) => &mut self.released,
            State::Freed(_) => &mut self.expired,
            State::Declined { .. } => &mut self.declined,
        }
    }
}

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is.
    pub client: ClientKey,
    /// The client's hardware address.
    pub hardware: Hardware,
    /// The client's host name.
    pub hostname: Option<Arc<str>>,
    /// What is stored of the state.
    pub state: StoredState,
    /// When the state ends, or ended: seconds since 1970.
    pub until: u64,
}

/// A state that outlives the process. Offers don't, and expiry follows from the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredState {
    /// Leased until then.
    Bound,
    /// Given back then.
    Released,
    /// Quarantined until then.
    Declined,
}

/// What became of a lease, for people who ask afterwards who had which address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseNote {
    /// What.
    pub change: LeaseChange,
    /// The address.
    pub address: Ipv4Addr,
    /// The client's hardware address.
    pub hardware: Hardware,
    /// The client's host name.
    pub hostname: Option<Arc<str>>,
    /// When the new state ends, or when it began if it has no end: seconds since 1970.
    pub until: u64,
}

/// What can become of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// A client got it.
    Given,
    /// Its client asked for it again, for the first time.
    Renewed,
    /// Its client gave it back, or took another address instead.
    Released,
    /// Its time was over.
    Expired,
    /// Its client found the address in use by somebody else.
    Declined,
}

impl LeaseChange {
    /// The change as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Renewed => "renewed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Declined => "declined",
        }
    }
}

/// What has to be stored before the replies of the same batch may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// This is what is now known of the lease's address.
    Keep(StoredLease),
    /// Nothing is known of this address any more.
    Forget(Ipv4Addr),
}
