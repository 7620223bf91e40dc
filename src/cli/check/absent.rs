use std::net::SocketAddr;

use crate::{
    config::{Config, DhcpListen, Problem},
    net::interface::{self, Absence},
};

/// What the configuration names and this host does not have now: a warning each, for the lab serves
/// without it and takes it up when it comes.
pub(in crate::cli) fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |key: &str, absence: Option<Absence>| {
        let component = key.split('.').next().unwrap_or(key);
        warnings.extend(absence.map(|absence| {
            Problem {
                file: config
                    .file
                    .as_ref()
                    .map_or_else(String::new, |file| file.display().to_string()),
                line: None,
                key: key.to_owned(),
                message: format!("{absence}; {component} is degraded until that changes"),
            }
        }));
    };
    if let Some(dhcp) = &config.dhcp {
        match &dhcp.listen {
            DhcpListen::Addresses(addresses) => {
                for address in addresses {
                    let absence = interface::address_absence((*address).into());
                    warn("dhcp.listen", absence);
                }
            }
            DhcpListen::Interfaces(names) => {
                for name in names {
                    warn("dhcp.interfaces", interface::absence(name));
                }
            }
        }
    }
    for (key, address) in addresses(config) {
        warn(key, interface::address_absence(address));
    }
    warnings
}

/// The addresses of all roles but DHCP, each with its key.
pub(in crate::cli) fn addresses(
    config: &Config,
) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let dns = config.dns.iter().flat_map(|dns| &dns.listen);
    let rudp = config.rudp.iter().flat_map(|rudp| &rudp.listen);
    let scrap = config.scrap.iter().flat_map(|scrap| &scrap.listen);
    let origin = config.origin.iter().flat_map(|origin| &origin.listen);
    let http = config.http.iter().flat_map(|http| &http.listen);
    let of = |key: &'static str| move |address: &SocketAddr| (key, *address);
    (dns.map(of("dns.listen")))
        .chain(rudp.map(of("rudp.listen")))
        .chain(scrap.map(of("scrap.listen")))
        .chain(origin.map(of("origin.listen")))
        .chain(http.map(of("http.listen")))
}
