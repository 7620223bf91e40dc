/// Why a packet got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It is no DHCP message of a client.
    Malformed,
    /// It came from a network that is not served.
    NoSubnet,
    /// It names another server.
    NotForUs,
    /// No address is free.
    NoAddress,
    /// The lease could not be stored.
    Store,
    /// It speaks of a lease that the server knows nothing of: another server may (RFC 2131 section
    /// 4.3.2).
    UnknownClient,
}

impl DropReason {
    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoSubnet => "no_subnet",
            Self::NotForUs => "not_for_us",
            Self::NoAddress => "no_address",
            Self::Store => "store",
            Self::UnknownClient => "unknown_client",
        }
    }
}
