//! `[capture]`: captures of the service's own traffic.

use std::path::{Path, PathBuf};

use super::{
    compiler::{Compiler, NUMBER, TEXT},
    file, value,
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

impl Compiler<'_> {
    pub(super) fn capture(
        &mut self,
        table: file::Capture,
        resolve: impl Fn(&str) -> Result<PathBuf, String>,
        state_dir: &Path,
    ) -> Option<Capture> {
        self.unknown::<file::Capture>("capture", &table.unknown);
        let file = self.scalar("capture.file", table.file, TEXT, |text: String| {
            resolve(&text)
        });
        let max_size = self.scalar("capture.max_size", table.max_size, TEXT, |text: String| {
            value::bytes(&text, MAX_SIZE)
        });
        let max_files = self.scalar("capture.max_files", table.max_files, NUMBER, |number| {
            value::number(number, 1..=1000_usize)
        });
        let roles = self.list(
            "capture.roles",
            table.roles,
            "a list of roles",
            |name: String| match Role::named(&name) {
                Some(Role::Client) | None => Err(format!(
                    "`{}` is no role of the service; there are dhcp, dns, rudp, scrap, origin and http",
                    name.escape_debug()
                )),
                Some(_) => Ok(name),
            },
        );
        let data_bytes = self.scalar(
            "capture.data_bytes",
            table.data_bytes,
            TEXT,
            |text: String| value::bytes(&text, DATA),
        );
        let ring = self.scalar("capture.ring", table.ring, TEXT, |text: String| {
            value::bytes(&text, RING)
        });
        let roles = roles?.unwrap_or_default().into_iter();
        let capture = Capture {
            file: file?,
            max_size: max_size?.unwrap_or(64 << 20),
            max_files: max_files?.unwrap_or(4),
            roles: roles.map(|(_, name)| name).collect(),
            data_bytes: data_bytes?.unwrap_or(128) as usize,
            ring: ring?.unwrap_or(0) as usize,
            crashes: state_dir.join("captures"),
        };
        if capture.file.is_none() && capture.ring == 0 {
            self.problem(
                "capture",
                "captures nothing; name a `file`, or a `ring` of so much memory as \"16MiB\", or \
                 delete [capture]",
            );
        }
        Some(capture)
    }
}
