//! Which configuration a verb works with.

use std::path::{Path, PathBuf};

use crate::config::{self, Config, Problems, built_in};

/// Looked for in this order if none is named.
const USUAL: [&str; 2] = ["conf/labnet.toml", "/etc/labnet/labnet.toml"];

/// The configuration that the command line names, or the usual one.
#[derive(Debug, clap::Args)]
pub(super) struct Configuration {
    /// The configuration file; without it conf/labnet.toml, or else /etc/labnet/labnet.toml, or else
    /// the built-in one
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configuration {
    /// Reads it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn load(&self) -> Result<Config, Problems> {
        let usual = USUAL.into_iter().map(Path::new);
        // One that is there and can't be looked at is an error, not a reason for another one.
        let mut there = usual.filter(|file| file.try_exists().unwrap_or(true));
        match self.config.as_deref().or_else(|| there.next()) {
            Some(file) => config::load(file),
            None => built_in::built_in(),
        }
    }
}

/// What it is called, in the log and by `doctor`.
pub(super) fn origin(config: &Config) -> String {
    match &config.file {
        Some(file) => file.display().to_string(),
        None => "the built-in one (`labnet init` writes it to files)".to_owned(),
    }
}
