//! Gets an address from a DHCP server, and gives it back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Patience,
    dhcp::{ClientLease, DhcpClient, DhcpError, Identity},
    udp::{self, Line, SocketError},
};
use crate::watch::event::packet::Protocol;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The server's answer, or its silence.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// An address, leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The lease.
    pub lease: ClientLease,
    /// From DISCOVER to ACK.
    pub took: Duration,
}

/// A client's port, where it asks by broadcast (RFC 2131 section 4.1).
const CLIENT_PORT: u16 = 68;

/// Gets an address for `identity`: from the server at `server`, which answers to the sender; or, on an
/// `interface`, by broadcast to `server` from an interface without an address. `again` hears, each time a message
/// is sent again, which time that is.
pub async fn obtain(
    server: SocketAddr,
    interface: Option<&str>,
    identity: Identity,
    patience: Patience,
    seed: u64,
    again: &mut dyn FnMut(u32),
) -> Result<Leased, LeaseError> {
    let started = Instant::now();
    let mut client = DhcpClient::new(identity, patience, seed, started);
    let line = match interface {
        Some(interface) => {
            client.hear_broadcasts();
            Line::broadcasting(interface, CLIENT_PORT, server)?
        }
        None => Line::connected(None, server).await?,
    };
    let lease = udp::run(&line, Protocol::Dhcp, &mut client, again).await??;
    Ok(Leased {
        lease,
        took: started.elapsed(),
    })
}

/// Gives the address back: one RELEASE, which nobody answers; from the address, if this machine has it.
pub async fn release(
    server: SocketAddr,
    identity: &Identity,
    lease: &ClientLease,
    seed: u64,
) -> Result<(), SocketError> {
    let line = match Line::connected(Some(lease.address.into()), server).await {
        Err(SocketError::Bind { .. }) => Line::connected(None, server).await?,
        line => line?,
    };
    let release = DhcpClient::release(identity, lease, seed);
    udp::send(&line, Protocol::Dhcp, release.fate, &release.payload).await?;
    Ok(())
}
