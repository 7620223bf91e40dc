//! What the kernel knows of a network interface.

use std::{io, net::Ipv4Addr};

use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};

/// The IPv4 addresses of the interface `name`, in the kernel's order: the primary one first.
///
/// An interface that does not exist is an error, one without an address is not.
pub fn ipv4_addresses(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    if_nametoindex(name)?;
    let addresses = getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()))
        .collect();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address_and_a_stranger_does_not_exist() {
        let loopback = ipv4_addresses("lo").expect("loopback");
        assert!(loopback.contains(&Ipv4Addr::LOCALHOST));
        assert!(ipv4_addresses("no-such-if").is_err());
    }
}
