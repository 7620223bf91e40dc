//! `[capture]`: captures of the service's own traffic.

use std::path::{Path, PathBuf};

use super::{
    kind::path,
    table::{Table, values},
};
use crate::watch::event::packet::Role;

/// What is captured as long as the service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Into this file, pcapng; `None`: into none.
    pub file: Option<PathBuf>,
    /// The file's size, at which the next begins. Default 64 MiB.
    pub max_size: u64,
    /// So many files are kept, the newest one included. Default 4.
    pub max_files: usize,
    /// Of these roles, by their names; empty: of all.
    pub roles: Vec<String>,
    /// So much is kept of a packet that carries a file's data; messages are kept to 2 KiB at least.
    /// Default 128.
    pub data_bytes: usize,
    /// Bytes of memory that hold the last packets, to be written out when something crashes or
    /// somebody asks; 0: none. Default 0.
    pub ring: usize,
    /// The folder of the files that crashes write.
    pub crashes: PathBuf,
}

const MAX_SIZE: (u64, u64) = (64 << 10, 1 << 40);
const DATA: (u64, u64) = (0, 65_535);
const RING: (u64, u64) = (0, 4 << 30);

impl Capture {
    /// `state_dir` is where the files of crashes go.
    pub(super) fn read(table: &mut Table<'_>, state_dir: &Path) -> Self {
        let capture = Self {
            file: table.optional("file", path(table.base())),
            max_size: table.bytes("max_size", MAX_SIZE, 64 << 20),
            max_files: table.number("max_files", 1..=1000, 4),
            roles: values(
                table
                    .list("roles", "a list of roles", role)
                    .unwrap_or_default(),
            ),
            data_bytes: table.bytes("data_bytes", DATA, 128) as usize,
            ring: table.bytes("ring", RING, 0) as usize,
            crashes: state_dir.join("captures"),
        };
        let is_told = !table.is_clean("file") || !table.is_clean("ring");
        if capture.file.is_none() && capture.ring == 0 && !is_told {
            table.problem(
                "",
                "captures nothing; name a `file`, or a `ring` of so much memory as \"16MiB\", or \
                 delete [capture]",
            );
        }
        capture
    }
}

/// The name of a role that the service has.
fn role(name: &str) -> Result<String, String> {
    match Role::named(name) {
        Some(Role::Client) | None => Err(format!(
            "`{}` is no role of the service; there are dhcp, dns, rudp, scrap, origin and http",
            name.escape_debug()
        )),
        Some(_) => Ok(name.to_owned()),
    }
}
