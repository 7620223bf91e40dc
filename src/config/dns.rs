//! `[dns]`: where names are answered, and of which zones.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{ConnectionLimits, address::v4, kind::text, listeners::Protocol, table::Table, value};

/// The DNS server.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// The zones it is authoritative for, no name twice.
    pub zones: Vec<Zone>,
    /// Over TCP. Default 256, 64 of one address.
    pub connections: ConnectionLimits,
}

/// `[[dns.zone]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The zone's apex, absolute (with the final dot), lower case.
    pub name: String,
    /// Its RFC 1035 zone file.
    pub file: PathBuf,
}

const LISTEN: SocketAddr = v4([127, 0, 0, 1], 5300);

impl Dns {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: table.listen("listen", &[Protocol::Udp, Protocol::Tcp], LISTEN),
            connections: ConnectionLimits::read(table, "connections", ConnectionLimits::DNS),
            zones: zones(table),
        }
    }
}

fn zones(table: &mut Table<'_>) -> Vec<Zone> {
    let mut names = Vec::new();
    let found = table.tables("zone", |table| {
        let base = table.base();
        let name = text(value::zone_name);
        let name = table.required("name", name, "name = \"example.com.\"");
        let file = text(|text| zone_file(base, text));
        let file = table.required("file", file, "file = \"zones/example.com.zone\"");
        names.extend(name.clone().map(|name| (table.name("name"), name)));
        let (name, file) = name.zip(file)?;
        Some(Zone { name, file })
    });
    table.at_least_one("zone", &found, "[[dns.zone]]");
    table.no_repeats(&names, "zone");
    found.into_iter().flatten().collect()
}

fn zone_file(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = value::path(base, text)?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no file `{}`", path.display()))
    }
}
