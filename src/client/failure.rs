//! Why a walk, or one file of it, failed: in words that say what to look at.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use strsim::normalized_damerau_levenshtein;

use super::{
    dhcp::DhcpError, dns::DnsError, download::DownloadError, file_name::FileName,
    lease::LeaseError, lookup::LookupError, session::SessionError, transfer::Refusal,
    transport::TransportError, udp, units::count,
};
use crate::rudp::requester::Failure;

/// Why the walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Step 1.
    #[error("no address from {}: {error}{}", dhcp_server(.server), lease_hint(.error))]
    Lease {
        /// The DHCP server.
        server: SocketAddr,
        /// Why.
        error: LeaseError,
    },
    /// Step 1: the lab that the server belongs to says why.
    #[error("no address from {}: {why}", dhcp_server(.server))]
    NoAddress {
        /// The DHCP server.
        server: SocketAddr,
        /// Why.
        why: String,
    },
    /// Step 1: the address is of no use here.
    #[error("{} leases {address}, but this machine {error}", dhcp_server(.server))]
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

/// A port that is closed.
const REFUSED: &str = "; is `labnet serve` running, with its [rudp] there? (--port, --server ADDRESS:PORT name another)";
/// Nothing came back.
pub const SILENT: &str = "; another program may have that port (--port, --server ADDRESS:PORT name another), \
                          or a firewall on the way drops UDP";

/// Who is asked: an interface's client asks whoever is there.
fn dhcp_server(server: &SocketAddr) -> String {
    match server.ip() {
        IpAddr::V4(Ipv4Addr::BROADCAST) => "any DHCP server on the interface's network".to_owned(),
        _ => format!("the DHCP server at {server}"),
    }
}

fn lease_hint(error: &LeaseError) -> &'static str {
    match error {
        LeaseError::Dhcp(DhcpError::NotThere) => {
            "; is `labnet serve` running, with its [dhcp] there? (--dhcp ADDRESS:PORT names another, \
             --no-dhcp goes without)"
        }
        LeaseError::Dhcp(DhcpError::Silence {
            discovering: true, ..
        }) => {
            ": either no DHCP server is there, or it has no free address for this client and says nothing \
             then, as RFC 2131 has it (on its machine `labnet leases` shows who has them). \
             --server ADDRESS:PORT names the proxy and goes without DHCP and DNS, --no-dhcp without DHCP"
        }
        LeaseError::Dhcp(DhcpError::Silence {
            discovering: false, ..
        }) => ": it made an offer and is gone since",
        _ => "",
    }
}

fn lookup_hint(error: &LookupError) -> &'static str {
    match error {
        LookupError::Dns(DnsError::Silence { .. } | DnsError::NotThere) => {
            "; is `labnet serve` running, and does its [dns] listen there? (--dns ADDRESS:PORT names another)"
        }
        _ => "",
    }
}

fn session_hint(error: &SessionError) -> &'static str {
    match error {
        SessionError::Refused => REFUSED,
        SessionError::Failed(Failure::NotThere) => SILENT,
        _ => "",
    }
}

fn transport_hint(error: &TransportError) -> &'static str {
    match error {
        TransportError::Refused => REFUSED,
        TransportError::Silence { .. } => SILENT,
        _ => "",
    }
}

/// Why one file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody knows where it is.
    #[error(
        "the proxy knows no file {name}{} (`list` shows what there is; --origin URL asks a server directly)",
        did_you_mean(.near)
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Files of the list whose names are near to that, the nearest first.
        near: Vec<String>,
    },
    /// The list is not that long.
    #[error("no file {number}: the list has {} (`list` shows them)", count(*.files as u64, "file"))]
    Number {
        /// What was asked for.
        number: String,
        /// So many are on the list.
        files: usize,
    },
    /// Nothing was asked for.
    #[error("an empty name is no file's (`list` shows what there is)")]
    Empty,
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

impl FetchError {
    /// Whether the proxy was asked for the file's bytes and knows none such.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Download {
                error: DownloadError::Refused(refusal @ Refusal::Rudp { .. }),
                ..
            } if refusal.is_not_found()
        )
    }

    /// Why a file that the proxy does not know is none of the `listed` ones.
    pub fn unknown(file: &FileName, listed: &[FileName]) -> Self {
        let name = file.to_string();
        if name.is_empty() {
            return Self::Empty;
        }
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && !listed.is_empty() {
            return Self::Number {
                number: name,
                files: listed.len(),
            };
        }
        let near = near(&name, listed);
        Self::Unknown { name, near }
    }
}

/// How many near names are told.
const NEAREST: usize = 3;
/// From here on a name is near: of two names' letters half are in the same place.
const NEAR: f64 = 0.5;

/// The names of the list that somebody who typed `name` may have meant, the nearest first.
fn near(name: &str, listed: &[FileName]) -> Vec<String> {
    let name = name.to_lowercase();
    let mut near: Vec<(f64, String)> = listed
        .iter()
        .map(|file| {
            let listed = file.to_string();
            let lowercase = listed.to_lowercase();
            let likeness = normalized_damerau_levenshtein(&name, &lowercase);
            // A part of a name is near to it, however long the rest; a single letter says nothing.
            let is_part = name.chars().count() > 1 && lowercase.contains(&name);
            (
                if is_part {
                    likeness.max(NEAR)
                } else {
                    likeness
                },
                listed,
            )
        })
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.truncate(NEAREST);
    near.into_iter().map(|(_, file)| file).collect()
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!(": did you mean {}?", near.join(" or ")),
    }
}

fn kept(part: &Option<PathBuf>) -> String {
    part.as_ref().map_or_else(String::new, |part| {
        format!(
            "; what arrived is in {}, the next try goes on from there",
            part.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str) -> String {
        let listed = ["50MB.zip", "500MB.zip", "image-site.png", "task2.pdf"];
        let listed = listed.map(FileName::from_name);
        FetchError::unknown(&FileName::from_name(name), &listed).to_string()
    }

    #[test]
    fn who_is_asked_by_broadcast_has_no_address() {
        let said = |server: &str| {
            let server = server.parse().expect("an address");
            let why = "it sleeps".to_owned();
            WalkError::NoAddress { server, why }.to_string()
        };
        assert_eq!(
            said("255.255.255.255:67"),
            "no address from any DHCP server on the interface's network: it sleeps"
        );
        assert_eq!(
            said("127.0.0.1:6767"),
            "no address from the DHCP server at 127.0.0.1:6767: it sleeps"
        );
    }

    #[test]
    fn near_names_are_told_the_nearest_first() {
        assert!(said("50mb.ZIP").contains("did you mean 50MB.zip or 500MB.zip?"));
        assert!(said("task.pdf").contains("did you mean task2.pdf?"));
        assert!(!said("holiday.mkv").contains("did you mean"));
        assert!(said("image").contains("did you mean image-site.png?"));
        assert!(said("500").contains("no file 500"));
        assert!(said("50mb").contains("did you mean 50MB.zip?"));
        assert!(!said("g").contains("did you mean"));
        assert!(said("").starts_with("an empty name is no file's"));
        assert_eq!(
            said("99"),
            "no file 99: the list has 4 files (`list` shows them)"
        );
        let nothing = FetchError::unknown(&FileName::from_name("99"), &[]);
        assert!(nothing.to_string().contains("the proxy knows no file 99"));
    }
}
