//! Why a walk, or one file of it, failed: in words that say what to look at.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::{
    dhcp::DhcpError, dns::DnsError, download::DownloadError, lease::LeaseError,
    lookup::LookupError, session::SessionError, transport::TransportError, udp,
};
use crate::rudp::requester::Failure;

/// Why the walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Step 1.
    #[error("no address from the DHCP server at {server}: {error}{}", lease_hint(.error))]
    Lease {
        /// The DHCP server.
        server: SocketAddr,
        /// Why.
        error: LeaseError,
    },
    /// Step 1: the address is of no use here.
    #[error("the DHCP server at {server} leases {address}, but this machine {error}")]
    Unusable {
        /// The DHCP server.
        server: SocketAddr,
        /// The leased address.
        address: IpAddr,
        /// Why.
        error: udp::SocketError,
    },
    /// Step 2.
    #[error("no address for {host} from the DNS server at {server}: {error}{}", lookup_hint(.error))]
    Lookup {
        /// The proxy's name.
        host: String,
        /// The DNS server.
        server: SocketAddr,
        /// Why.
        error: LookupError,
    },
    /// Step 2: nobody to ask.
    #[error("the DHCP server names no DNS server: name one with --dns")]
    NoNameServer,
    /// Step 3 and 4.
    #[error("the RUDP proxy at {server}: {error}{}", session_hint(.error))]
    Session {
        /// The proxy.
        server: SocketAddr,
        /// Why.
        error: SessionError,
    },
    /// The same over the binary transport.
    #[error("the RUDP transport to {server}: {error}{}", transport_hint(.error))]
    Transport {
        /// The proxy.
        server: SocketAddr,
        /// Why.
        error: TransportError,
    },
}

const SERVE: &str = "; is `labnet serve` running?";

fn lease_hint(error: &LeaseError) -> &'static str {
    match error {
        LeaseError::Dhcp(DhcpError::Silence { .. }) => SERVE,
        _ => "",
    }
}

fn lookup_hint(error: &LookupError) -> &'static str {
    match error {
        LookupError::Dns(DnsError::Silence { .. }) => {
            "; is `labnet serve` running, and does its [dns] listen there? (--dns ADDRESS:PORT names another)"
        }
        _ => "",
    }
}

fn session_hint(error: &SessionError) -> &'static str {
    match error {
        SessionError::Failed(Failure::NotThere) | SessionError::Refused => SERVE,
        _ => "",
    }
}

fn transport_hint(error: &TransportError) -> &'static str {
    match error {
        TransportError::Silence { .. } | TransportError::Refused => SERVE,
        _ => "",
    }
}

/// Why one file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody knows where it is.
    #[error(
        "the proxy knows no file {0} (`list` shows what there is; --origin URL asks a server directly)"
    )]
    Unknown(String),
    /// It is on the list, and that is all.
    #[error(
        "the proxy has {0} on its list but gives no URL for it, as proxies of the original kind do; --origin URL names the page that has it"
    )]
    NoUrl(String),
    /// The client was told to stop before it was there.
    #[error("interrupted{}", kept(.part))]
    Stopped {
        /// What has arrived of it.
        part: Option<PathBuf>,
    },
    /// Two files of the list would be the same file here.
    #[error("another file of the list has the same name here, {0}")]
    Twice(String),
    /// The download.
    #[error("{error}{}", kept(.part))]
    Download {
        /// Why.
        error: DownloadError,
        /// What has arrived of it.
        part: Option<PathBuf>,
    },
}

fn kept(part: &Option<PathBuf>) -> String {
    part.as_ref().map_or_else(String::new, |part| {
        format!(
            "; what arrived is in {}, the next try goes on from there",
            part.display()
        )
    })
}
