//! `[[dhcp.subnet]]`: addresses that fit together.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    AddressRange, Ipv4Network, Reservation, Subnet,
    compiler::{Compiler, TEXT, values},
    file::{self, List},
    value,
};

const HOSTS: &str = "a list of addresses in brackets, as `[\"10.20.30.1\"]`";

/// Option 51 counts whole seconds in 32 bits; all ones means forever (RFC 2131 section 3.3).
const LONGEST_LEASE: Duration = Duration::from_secs(u32::MAX as u64 - 1);

/// Compiles the table at `at`; what is wrong is noted in `compiler`.
pub(super) fn compile(
    compiler: &mut Compiler<'_>,
    at: &str,
    table: file::Subnet,
) -> Option<Subnet> {
    compiler.unknown::<file::Subnet>(at, &table.unknown);
    let key = |name: &str| format!("{at}.{name}");
    let network = compiler.required(
        &key("subnet"),
        table.subnet,
        "subnet = \"10.20.30.0/24\"",
        |text| value::network(&text),
    );
    let pools = compiler.list(
        &key("pools"),
        table.pools,
        "a list of ranges in brackets, as `[\"10.20.30.41-10.20.30.100\"]`",
        |text: String| value::range(&text),
    );
    let routers = hosts(compiler, &key("routers"), table.routers);
    let name_servers = hosts(compiler, &key("name_servers"), table.name_servers);
    let domain = compiler.scalar(&key("domain"), table.domain, TEXT, |text: String| {
        value::domain(&text)
    });
    let lease_time = compiler.scalar(
        &key("lease_time"),
        table.lease_time,
        "a duration in quotes, as `\"24h\"`",
        |text: String| {
            let time = value::duration(&text, Duration::from_secs(1)..=LONGEST_LEASE)?;
            if time.subsec_nanos() == 0 {
                Ok(time)
            } else {
                Err(format!(
                    "`{text}` holds a part of a second; leases last whole ones"
                ))
            }
        },
    );
    let reservations = reservations(compiler, &key("reservation"), table.reservation);

    let network = network?;
    let pools = pools.flatten().unwrap_or_default();
    let routers = routers.unwrap_or_default();
    let name_servers = name_servers.unwrap_or_default();
    let reservations = reservations.unwrap_or_default();
    check_pools(compiler, network, &pools);
    for (at, address) in reservations
        .iter()
        .map(|(at, reservation)| (format!("{at}.address"), reservation.address))
        .chain(routers.iter().cloned())
    {
        check_host(compiler, network, &at, address);
    }
    check_taken(compiler, &routers, &name_servers, &pools, &reservations);
    if pools.is_empty() && reservations.is_empty() && compiler.is_clean(at) {
        compiler.problem(
            &key("pools"),
            "missing; the subnet has no address to lease: add `pools = [\"FIRST-LAST\"]` or a \
             [[dhcp.subnet.reservation]]",
        );
    }
    let mut pools = values(pools);
    pools.sort_unstable();
    Some(Subnet {
        network,
        pools,
        routers: values(routers),
        name_servers: values(name_servers),
        domain: domain?,
        lease_time: lease_time?.unwrap_or(Duration::from_secs(24 * 3600)),
        reservations: values(reservations),
    })
}

fn hosts(
    compiler: &mut Compiler<'_>,
    at: &str,
    list: List<String>,
) -> Option<Vec<(String, Ipv4Addr)>> {
    let list = compiler.list(at, list, HOSTS, |text: String| value::host(&text))?;
    let list = list.unwrap_or_default();
    compiler.no_repeats(&list, "address");
    Some(list)
}

fn reservations(
    compiler: &mut Compiler<'_>,
    at: &str,
    list: List<file::Reservation>,
) -> Option<Vec<(String, Reservation)>> {
    let mut found = Vec::new();
    let (mut macs, mut addresses) = (Vec::new(), Vec::new());
    for (at, table) in compiler.tables(at, list)? {
        compiler.unknown::<file::Reservation>(&at, &table.unknown);
        let (mac_at, address_at) = (format!("{at}.mac"), format!("{at}.address"));
        let example = "mac = \"02:00:00:00:00:07\"";
        let mac = compiler.required(&mac_at, table.mac, example, |text| value::mac(&text));
        let example = "address = \"10.20.30.50\"";
        let address = compiler.required(&address_at, table.address, example, |text| {
            value::host(&text)
        });
        macs.extend(mac.map(|mac| (mac_at, mac)));
        addresses.extend(address.map(|address| (address_at, address)));
        found.extend(
            mac.zip(address)
                .map(|(mac, address)| (at, Reservation { mac, address })),
        );
    }
    compiler.no_repeats(&macs, "hardware address");
    compiler.no_repeats(&addresses, "address");
    Some(found)
}

fn check_pools(
    compiler: &mut Compiler<'_>,
    network: Ipv4Network,
    pools: &[(String, AddressRange)],
) {
    for (index, (at, pool)) in pools.iter().enumerate() {
        if !network.contains(pool.first) || !network.contains(pool.last) {
            let message = format!("`{pool}` is not inside of the subnet `{network}`");
            compiler.problem(at, message);
            continue;
        }
        for (address, name) in [
            (network.address, "network's own"),
            (network.broadcast(), "broadcast"),
        ] {
            if pool.contains(address) {
                compiler.problem(
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
            compiler.problem(at, message);
        }
    }
}

fn check_host(compiler: &mut Compiler<'_>, network: Ipv4Network, at: &str, address: Ipv4Addr) {
    if !network.contains(address) {
        let message = format!("`{address}` is not inside of the subnet `{network}`");
        compiler.problem(at, message);
    } else if address == network.address || address == network.broadcast() {
        let message = format!("`{address}` is no host's address in the subnet `{network}`");
        compiler.problem(at, message);
    }
}

/// What is in use already must not be leased: a router, and a name server unless it gets its
/// address by a reservation.
fn check_taken(
    compiler: &mut Compiler<'_>,
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
            compiler.problem(
                at,
                format!(
                    "`{address}` lies in the pool `{pool}` and could be leased to a client; move \
                     one of the two"
                ),
            );
        }
    }
}
