//! Puts a leased address on an interface, as the DHCP client of a machine does.

use std::{io, net::Ipv4Addr};

use super::dhcp::ClientLease;
use crate::net::ip;

/// A machine's own default route stays the better one.
const METRIC: &str = "1024";

/// Gives the interface the leased address, and the machine a route by the first router.
///
/// # Errors
/// Who is not root may not; there is no `ip`.
pub(super) fn adopt(interface: &str, lease: &ClientLease) -> io::Result<()> {
    let address = with_prefix(lease);
    ip(&["address", "replace", &address, "dev", interface])?;
    if let Some(router) = lease.routers.first() {
        let (router, own) = (router.to_string(), lease.address.to_string());
        let by = ["via", &router, "dev", interface, "src", &own];
        ip(&[
            &["route", "replace", "default"],
            &by[..],
            &["metric", METRIC],
        ]
        .concat())?;
    }
    Ok(())
}

/// Takes the address off the interface again, and with it the route.
///
/// # Errors
/// As with [`adopt`].
pub(super) fn give_up(interface: &str, lease: &ClientLease) -> io::Result<()> {
    ip(&["address", "del", &with_prefix(lease), "dev", interface])
}

/// Without a mask nobody but the client is in its network.
fn with_prefix(lease: &ClientLease) -> String {
    let mask = lease.mask.unwrap_or(Ipv4Addr::BROADCAST);
    format!("{}/{}", lease.address, mask.to_bits().count_ones())
}
