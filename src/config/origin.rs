//! `[origin]`: the built-in download page.

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

/// The built-in origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// At least one. Default 127.0.0.1:8080.
    pub listen: Vec<SocketAddr>,
    /// What it offers.
    pub files: OriginFiles,
    /// The kernel's congestion control that answers are sent by, unless a request names another one.
    /// Default: the kernel's own.
    pub congestion: Option<String>,
    /// Default 2048, 1024 of one address: a proxy asks for all its clients.
    pub connections: ConnectionLimits,
}

/// What the built-in origin offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginFiles {
    /// `files = "folder"`: the regular files of a folder.
    Folder(PathBuf),
    /// `samples = [...]`, or neither key: files made up as they are read, in this order. Each name
    /// is a kind and, for zip, a size: `50MB.zip`, `image-site.png`, `task2.pdf`.
    Samples(Vec<String>),
}

const LISTEN: SocketAddr = v4([127, 0, 0, 1], 8080);
/// The files of the original's download page, in its order.
const SAMPLES: [&str; 5] = [
    "50MB.zip",
    "100MB.zip",
    "500MB.zip",
    "image-site.png",
    "task2.pdf",
];

impl Origin {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: table.listen("listen", &[Protocol::Tcp], LISTEN),
            congestion: table.optional("congestion", text(value::tcp_congestion)),
            files: OriginFiles::read(table),
            connections: ConnectionLimits::read(table, "connections", ConnectionLimits::ORIGIN),
        }
    }
}

impl OriginFiles {
    fn read(table: &mut Table<'_>) -> Self {
        let base = table.base();
        let files = table.optional("files", text(|text| folder(base, text)));
        let right = "a list of names in brackets, as `[\"50MB.zip\", \"task2.pdf\"]`";
        let samples = table.list("samples", right, value::sample);
        if table.has("files") && table.has("samples") {
            table.problem(
                "samples",
                "`files` is there too; a folder or samples, one of the two",
            );
        }
        if let Some(samples) = &samples {
            table.at_least_one("samples", samples, "sample");
            table.no_repeats(samples, "file");
        }
        match (files, samples) {
            (Some(folder), _) => Self::Folder(folder),
            (None, Some(samples)) => Self::Samples(values(samples)),
            (None, None) => Self::Samples(SAMPLES.map(String::from).into()),
        }
    }
}

fn folder(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = value::path(base, text)?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(format!("there is no folder `{}`", path.display()))
    }
}
