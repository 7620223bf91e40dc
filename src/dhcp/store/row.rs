//! One lease as a row.

use std::net::Ipv4Addr;

use rusqlite::{Row, Statement, params};

use crate::dhcp::lease::{ClientKey, Hardware, StoredLease, StoredState};

/// What [`parse`] reads, in its order.
pub(super) const COLUMNS: &str =
    "address, client, hardware_type, hardware_address, hostname, state, until, checksum";

pub(super) const SCHEMA: &str = "
    CREATE TABLE lease (
        address INTEGER PRIMARY KEY,      -- the IPv4 address as a number
        client BLOB NOT NULL,             -- 0, hardware type, address; or 1, client identifier
        hardware_type INTEGER NOT NULL,
        hardware_address BLOB NOT NULL,
        hostname TEXT,
        state TEXT NOT NULL,              -- bound, released, declined
        until INTEGER NOT NULL,           -- when that ends or, released, began: seconds since 1970
        checksum INTEGER                  -- CRC-32C over the others; NULL: an older labnet's row
    )";

pub(super) const UPSERT: &str = "
    INSERT OR REPLACE INTO lease
        (address, client, hardware_type, hardware_address, hostname, state, until, checksum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

pub(super) fn write(upsert: &mut Statement<'_>, lease: &StoredLease) -> rusqlite::Result<()> {
    upsert.execute(params![
        lease.address.to_bits(),
        lease.client.as_bytes(),
        lease.hardware.kind(),
        lease.hardware.address(),
        lease.hostname.as_deref(),
        name(lease.state),
        i64::try_from(lease.until).unwrap_or(i64::MAX),
        checksum(lease),
    ])?;
    Ok(())
}

/// The lease of a row; `None` if labnet can't have written it so.
pub(super) fn parse(row: &Row<'_>) -> Option<StoredLease> {
    let hardware: Vec<u8> = row.get(3).ok()?;
    if hardware.len() > 16 {
        return None;
    }
    let lease = StoredLease {
        address: Ipv4Addr::from_bits(row.get(0).ok()?),
        client: ClientKey::from_bytes(&row.get::<_, Vec<u8>>(1).ok()?)?,
        hardware: Hardware::new(row.get(2).ok()?, &hardware),
        hostname: row.get::<_, Option<String>>(4).ok()?.map(Into::into),
        state: match row.get::<_, String>(5).ok()?.as_str() {
            "bound" => StoredState::Bound,
            "released" => StoredState::Released,
            "declined" => StoredState::Declined,
            _ => return None,
        },
        until: u64::try_from(row.get::<_, i64>(6).ok()?).ok()?,
    };
    let stored: Option<u32> = row.get(7).ok()?;
    stored
        .is_none_or(|stored| stored == checksum(&lease))
        .then_some(lease)
}

fn name(state: StoredState) -> &'static str {
    match state {
        StoredState::Bound => "bound",
        StoredState::Released => "released",
        StoredState::Declined => "declined",
    }
}

/// One changed bit of a row would else be another lease that looks as good.
fn checksum(lease: &StoredLease) -> u32 {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&lease.address.octets());
    bytes.extend_from_slice(&lease.until.min(i64::MAX as u64).to_be_bytes());
    bytes.extend_from_slice(name(lease.state).as_bytes());
    for field in [lease.client.as_bytes(), lease.hardware.address()] {
        // Two bytes hold any length that a message can bring.
        bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes.push(lease.hardware.kind());
    if let Some(hostname) = &lease.hostname {
        bytes.push(1);
        bytes.extend_from_slice(hostname.as_bytes());
    }
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32
}
