//! What the kernel knows of network interfaces and their addresses, and word of what becomes of them.

mod watch;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
};

pub use watch::InterfaceWatch;

/// Why a server can't be reached by an interface or at an address, for now: whoever runs the host
/// can change it at any time, and [`InterfaceWatch`] tells when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// There is no interface of this name.
    Interface(String),
    /// The interface has no IPv4 address.
    Ipv4(String),
    /// The interface is there and has an address, but is down.
    Down(String),
    /// The kernel does not tell the interface's addresses, which it should.
    Untold(String, String),
    /// No interface has the address.
    Address(SocketAddr),
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "there is no interface `{name}`"),
            Self::Ipv4(name) => write!(
                f,
                "`{name}` has no IPv4 address for the server to go by; give it one, as \
                 `ip address add 10.20.30.40/24 dev {name}`"
            ),
            Self::Down(name) => write!(f, "`{name}` is down; `ip link set {name} up` starts it"),
            Self::Untold(name, error) => write!(
                f,
                "the kernel does not tell the addresses of `{name}` ({error}): is AF_NETLINK \
                 forbidden, as by RestrictAddressFamilies= of systemd?"
            ),
            Self::Address(address) => write!(f, "no interface has the address {}", address.ip()),
        }
    }
}

/// The IPv4 addresses of the interface `name`, in the kernel's order: the primary one first.
///
/// An interface that does not exist is an error, one without an address is not.
pub fn ipv4_addresses(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    if_nametoindex(name)?;
    let addresses = getifaddrs()?
        .filter(|entry| is_of(&entry.interface_name, name))
        .filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()))
        .collect();
    Ok(addresses)
}

/// The hardware address of the interface `name`, if it has one of Ethernet's.
pub fn hardware_address(name: &str) -> Option<[u8; 6]> {
    getifaddrs()
        .ok()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .filter(|address| *address != [0; 6])
}

/// Why a DHCP server is not heard on the interface `name`; `None` if it can be.
pub fn absence(name: &str) -> Option<Absence> {
    if if_nametoindex(name).is_err() {
        return Some(Absence::Interface(name.to_owned()));
    }
    let entries = match getifaddrs() {
        Ok(entries) => entries,
        Err(error) => return Some(Absence::Untold(name.to_owned(), error.to_string())),
    };
    let (mut addresses, mut up) = (0, false);
    for entry in entries.filter(|entry| is_of(&entry.interface_name, name)) {
        up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        addresses += usize::from(entry.address.is_some_and(|a| a.as_sockaddr_in().is_some()));
    }
    if addresses == 0 {
        Some(Absence::Ipv4(name.to_owned()))
    } else if !up {
        Some(Absence::Down(name.to_owned()))
    } else {
        None
    }
}

/// Why nobody reaches a server at `address`; `None` if an interface has it, or if the kernel does
/// not say.
///
/// The kernel is asked by binding a socket to a port of its choice: so it counts what can be used
/// though no interface lists it (all of 127.0.0.0/8, a local route), and does not count an IPv6
/// address that is still being checked for a duplicate.
pub fn address_absence(address: SocketAddr) -> Option<Absence> {
    let mut any_port = address;
    any_port.set_port(0);
    let error = UdpSocket::bind(any_port).err()?;
    let absent = matches!(
        error.raw_os_error(),
        // The second: a link-local address whose interface is gone.
        Some(libc::EADDRNOTAVAIL | libc::ENODEV)
    );
    absent.then_some(Absence::Address(address))
}

/// Of `addresses` those that no interface has, in words, none twice.
pub fn missing_addresses(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<String> {
    let absences = addresses.into_iter().filter_map(address_absence);
    let mut missing = Vec::new();
    for absence in absences.map(|absence| absence.to_string()) {
        if !missing.contains(&absence) {
            missing.push(absence);
        }
    }
    missing
}

/// Whether what the kernel lists as `listed` is of the interface `name`. An IPv4 address is listed
/// by its label, which is the interface's name, or begins with it and a colon (`lab0:1`); no
/// interface's name has a colon.
fn is_of(listed: &str, name: &str) -> bool {
    listed.split(':').next() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address_and_a_stranger_does_not_exist() {
        let loopback = ipv4_addresses("lo").expect("loopback");
        assert!(loopback.contains(&Ipv4Addr::LOCALHOST));
        assert!(ipv4_addresses("no-such-if").is_err());
        assert_eq!(absence("lo"), None);
        assert_eq!(hardware_address("lo"), None);
        let absent = absence("no-such-if").expect("absent").to_string();
        assert_eq!(absent, "there is no interface `no-such-if`");
    }

    #[test]
    fn a_label_is_the_interfaces() {
        assert!(is_of("lab0", "lab0") && is_of("lab0:1", "lab0"));
        assert!(!is_of("lab01", "lab0") && !is_of("lab0", "lab0:1"));
    }

    #[test]
    fn an_address_is_here_if_a_socket_can_have_it() {
        for here in ["127.0.0.1:53", "127.77.0.9:53", "0.0.0.0:53"] {
            assert_eq!(address_absence(here.parse().expect("an address")), None);
        }
        // TEST-NET-1 (RFC 5737) is nobody's.
        let absent = "192.0.2.53:53".parse().expect("an address");
        let reason = address_absence(absent).expect("absent").to_string();
        assert_eq!(reason, "no interface has the address 192.0.2.53");
    }
}
