//! `[http]`: metrics, health, administration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    ConnectionLimits,
    address::v4,
    kind::text,
    listeners::Protocol,
    table::{Table, values},
    value,
};

/// The HTTP endpoints: metrics, health, admin.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// At least one. Default 127.0.0.1:9167.
    pub listen: Vec<SocketAddr>,
    /// Whether `POST /api/v1/components/NAME/crash` works. Default false.
    pub fault_injection: bool,
    /// Default 256, 64 of one address.
    pub connections: ConnectionLimits,
    /// Names that a request may call the lab by, besides `localhost` and IP addresses; lower case,
    /// without a final dot.
    pub hosts: Vec<String>,
    /// The file of the token that changes need, from anywhere; none: changes are for loopback.
    pub token_file: Option<PathBuf>,
    /// Whether reading needs the token, too. Default false.
    pub protect_reads: bool,
}

const LISTEN: SocketAddr = v4([127, 0, 0, 1], 9167);
const HOSTS: &str = "a name in quotes, as `\"lab.example\"`, or a list of them in brackets";

impl Http {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let base = table.base();
        let http = Self {
            listen: table.listen("listen", &[Protocol::Tcp], LISTEN),
            fault_injection: table.flag("fault_injection", false),
            connections: ConnectionLimits::read(table, "connections", ConnectionLimits::HTTP),
            hosts: values(
                table
                    .one_or_many("hosts", HOSTS, value::host_name)
                    .unwrap_or_default(),
            ),
            token_file: table.optional("token_file", text(|text| token_file(base, text))),
            protect_reads: table.flag("protect_reads", false),
        };
        if http.protect_reads && http.token_file.is_none() && table.is_clean("token_file") {
            table.problem(
                "protect_reads",
                "reading would need a token, and there is no `token_file` to hold one; name it, \
                 or delete this",
            );
        }
        http
    }
}

fn token_file(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = value::path(base, text)?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "there is no file `{}`; `openssl rand -hex 32` writes what it should hold",
            path.display()
        ))
    }
}
