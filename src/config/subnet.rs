//! `[[dhcp.subnet]]`: addresses that fit together.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    AddressRange, Ipv4Network, MacAddress,
    kind::{Kind, text},
    table::{Named, Table, values},
    value::{self, SECOND},
};

/// `[[dhcp.subnet]]`: one subnet and what its clients are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// The subnet, host bits zero.
    pub network: Ipv4Network,
    /// Ranges to lease from: inside the subnet, sorted, no two overlap.
    pub pools: Vec<AddressRange>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub name_servers: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 51. At least a second, at most 2^32-2 s.
    pub lease_time: Duration,
    /// Addresses held for one client each: inside the subnet, inside or outside of the pools, no
    /// MAC and no address twice.
    pub reservations: Vec<Reservation>,
}

/// `[[dhcp.subnet.reservation]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The client's hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
}

const HOSTS: &str = "a list of addresses in brackets, as `[\"10.20.30.1\"]`";

/// Option 51 counts whole seconds in 32 bits; all ones means forever (RFC 2131 section 3.3).
const LONGEST_LEASE: Duration = Duration::from_secs(u32::MAX as u64 - 1);

impl Subnet {
    /// `None`: what was wrong has been noted.
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let network = text(value::network);
        let network = table.required("subnet", network, "subnet = \"10.20.30.0/24\"");
        let right = "a list of ranges in brackets, as `[\"10.20.30.41-10.20.30.100\"]`";
        let pools = table.list("pools", right, value::range).unwrap_or_default();
        let routers = hosts(table, "routers");
        let name_servers = hosts(table, "name_servers");
        let domain = table.optional("domain", text(value::domain));
        let day = Duration::from_secs(24 * 3600);
        let lease_time = Kind {
            right: "a duration in quotes, as `\"24h\"`",
            ..text(lease_time)
        };
        let lease_time = table.optional("lease_time", lease_time).unwrap_or(day);
        let reservations = reservations(table);

        let network = network?;
        check_pools(table, network, &pools);
        for (at, address) in reservations
            .iter()
            .map(|(at, reservation)| (format!("{at}.address"), reservation.address))
            .chain(routers.iter().cloned())
        {
            check_host(table, network, &at, address);
        }
        check_taken(table, &routers, &name_servers, &pools, &reservations);
        if pools.is_empty() && reservations.is_empty() && table.is_clean("") {
            table.problem(
                "pools",
                "missing; the subnet has no address to lease: add `pools = [\"FIRST-LAST\"]` or a \
                 [[dhcp.subnet.reservation]]",
            );
        }
        let mut pools = values(pools);
        pools.sort_unstable();
        Some(Self {
            network,
            pools,
            routers: values(routers),
            name_servers: values(name_servers),
            domain,
            lease_time,
            reservations: values(reservations),
        })
    }
}

fn lease_time(text: &str) -> Result<Duration, String> {
    let time = value::duration(text, SECOND..=LONGEST_LEASE)?;
    if time.subsec_nanos() == 0 {
        Ok(time)
    } else {
        Err(format!(
            "`{text}` holds a part of a second; leases last whole ones"
        ))
    }
}

fn hosts(table: &mut Table<'_>, key: &str) -> Named<Ipv4Addr> {
    let hosts = table.list(key, HOSTS, value::host).unwrap_or_default();
    table.no_repeats(&hosts, "address");
    hosts
}

fn reservations(table: &mut Table<'_>) -> Named<Reservation> {
    let (mut macs, mut addresses) = (Named::<MacAddress>::new(), Named::<Ipv4Addr>::new());
    let found = table.tables("reservation", |table| {
        let mac = text(value::mac);
        let mac = table.required("mac", mac, "mac = \"02:00:00:00:00:07\"");
        let address = text(value::host);
        let address = table.required("address", address, "address = \"10.20.30.50\"");
        macs.extend(mac.map(|mac| (table.name("mac"), mac)));
        addresses.extend(address.map(|address| (table.name("address"), address)));
        let (mac, address) = mac.zip(address)?;
        Some((table.name(""), Reservation { mac, address }))
    });
    table.no_repeats(&macs, "hardware address");
    table.no_repeats(&addresses, "address");
    found.into_iter().flatten().collect()
}

fn check_pools(table: &mut Table<'_>, network: Ipv4Network, pools: &[(String, AddressRange)]) {
    for (index, (at, pool)) in pools.iter().enumerate() {
        if !network.contains(pool.first) || !network.contains(pool.last) {
            let message = format!("`{pool}` is not inside of the subnet `{network}`");
            table.problem_at(at, message);
            continue;
        }
        for (address, name) in [
            (network.address, "network's own"),
            (network.broadcast(), "broadcast"),
        ] {
            if pool.contains(address) {
                table.problem_at(
                    at,
                    format!("`{pool}` holds the {name} address `{address}`; leave it out"),
                );
            }
        }
        let overlap = pools[..index]
            .iter()
            .find(|(_, other)| other.first <= pool.last && pool.first <= other.last);
        if let Some((_, other)) = overlap {
            let message = format!("`{pool}` overlaps `{other}`; pools must lie apart");
            table.problem_at(at, message);
        }
    }
}

fn check_host(table: &mut Table<'_>, network: Ipv4Network, at: &str, address: Ipv4Addr) {
    if !network.contains(address) {
        let message = format!("`{address}` is not inside of the subnet `{network}`");
        table.problem_at(at, message);
    } else if address == network.address || address == network.broadcast() {
        let message = format!("`{address}` is no host's address in the subnet `{network}`");
        table.problem_at(at, message);
    }
}

/// What is in use already must not be leased: a router, and a name server unless it gets its
/// address by a reservation.
fn check_taken(
    table: &mut Table<'_>,
    routers: &[(String, Ipv4Addr)],
    name_servers: &[(String, Ipv4Addr)],
    pools: &[(String, AddressRange)],
    reservations: &[(String, Reservation)],
) {
    for (at, address) in routers.iter().chain(name_servers) {
        let reserved = reservations
            .iter()
            .any(|(_, reservation)| reservation.address == *address);
        if let Some((_, pool)) = pools.iter().find(|(_, pool)| pool.contains(*address))
            && !reserved
        {
            table.problem_at(
                at,
                format!(
                    "`{address}` lies in the pool `{pool}` and could be leased to a client; move \
                     one of the two"
                ),
            );
        }
    }
}
