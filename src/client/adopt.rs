//! Puts a leased address on an interface, as the DHCP client of a machine does.

use std::{io, net::Ipv4Addr};

use super::dhcp::ClientLease;
use crate::net::{interface::ipv4_addresses, ip};

/// A machine's own default route stays the better one.
const METRIC: &str = "1024";

/// A leased address on an interface: what of it the client has added, and nothing else, goes again.
pub(super) struct Adopted {
    interface: String,
    address: Ipv4Addr,
    /// The address with its network's length.
    with_prefix: String,
    router: Option<Ipv4Addr>,
    added_address: bool,
    added_route: bool,
}

impl Adopted {
    /// Nothing is added yet.
    pub(super) fn new(interface: &str, lease: &ClientLease) -> Self {
        // Without a mask nobody but the client is in its network.
        let mask = lease.mask.unwrap_or(Ipv4Addr::BROADCAST);
        Self {
            interface: interface.to_owned(),
            address: lease.address,
            with_prefix: format!("{}/{}", lease.address, mask.to_bits().count_ones()),
            router: lease.routers.first().copied(),
            added_address: false,
            added_route: false,
        }
    }

    /// Whether it is this lease's, on this interface.
    pub(super) fn is(&self, interface: &str, lease: &ClientLease) -> bool {
        let other = Self::new(interface, lease);
        (&self.interface, &self.with_prefix, self.router)
            == (&other.interface, &other.with_prefix, other.router)
    }

    /// Gives the interface the address, and the machine a route by the router. What is there already stays
    /// as it is.
    ///
    /// # Errors
    /// Who is not root may not; there is no `ip`; the router is out of reach. What was added until then is
    /// known to [`give_up`](Self::give_up).
    pub(super) fn add(&mut self) -> io::Result<()> {
        if !ipv4_addresses(&self.interface)?.contains(&self.address) {
            ip(&["address", "add", &self.with_prefix, "dev", &self.interface])?;
            self.added_address = true;
        }
        if let Some(router) = self.router
            && !self.added_route
        {
            match self.route("add", router) {
                Ok(()) => self.added_route = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn route(&self, verb: &str, router: Ipv4Addr) -> io::Result<()> {
        let (router, own) = (router.to_string(), self.address.to_string());
        ip(&[
            "route",
            verb,
            "default",
            "via",
            &router,
            "dev",
            &self.interface,
            "src",
            &own,
            "metric",
            METRIC,
        ])
    }

    /// Takes off again what was added.
    ///
    /// # Errors
    /// As with [`add`](Self::add).
    pub(super) fn give_up(self) -> io::Result<()> {
        if self.added_address {
            // With it goes the route from it.
            return ip(&["address", "del", &self.with_prefix, "dev", &self.interface]);
        }
        match self.router {
            Some(router) if self.added_route => self.route("del", router),
            _ => Ok(()),
        }
    }
}
