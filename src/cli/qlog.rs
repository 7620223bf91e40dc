//! `--qlog`: connections' traces as files for the field's tools.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::watch::qlog::{Qlog, Version};

/// Where traces go, and in which version of the schema.
#[derive(Debug, clap::Args)]
pub(super) struct QlogOptions {
    /// Write what each connection of the binary transport goes through into this folder, as qlog
    #[arg(long = "qlog", global = true, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The version of qlog's schema: 13 (the newest draft), or 0.3, which qvis plots
    #[arg(
        long = "qlog-version",
        global = true,
        value_name = "VERSION",
        default_value = Version::Draft13.name(),
        value_parser = versions(),
        requires = "folder"
    )]
    version: Version,
}

fn versions() -> impl TypedValueParser<Value = Version> {
    PossibleValuesParser::new(Version::ALL.map(Version::name)).map(|name| {
        let mut all = Version::ALL.into_iter();
        all.find(|version| version.name() == name)
            .unwrap_or_default()
    })
}

impl QlogOptions {
    /// Whether traces are wanted.
    pub(super) fn is_given(&self) -> bool {
        self.folder.is_some()
    }

    /// The folder, made if need be; `None` if none is wanted.
    pub(super) fn open(&self) -> Result<Option<Qlog>, String> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        Qlog::new(folder, self.version)
            .map(Some)
            .map_err(|error| format!("--qlog {}: {error}", folder.display()))
    }
}
