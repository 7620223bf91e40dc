//! How files come to the client: the options of `client` and `demo`.

use std::{env, fs, path::PathBuf};

use clap::{ValueEnum, builder::PossibleValuesParser, builder::TypedValueParser};

use super::{link::Impairment, qlog::QlogOptions};
use crate::{
    client::walk::{Carriage, Via},
    rudp::{
        congestion::Algorithm,
        packet::{MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, Protection, Secret},
    },
};

/// Where the secret may be, instead of an option.
const ENVIRONMENT: &str = "LABNET_SECRET";

/// How files come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// The proxy says where, the origin sends them over HTTP
    Http,
    /// The proxy carries them over its own transport
    Rudp,
}

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtectedBy {
    /// CRC32C: finds damage
    Checksum,
    /// AES-128-GCM under a secret that both sides know
    Psk,
}

/// The options of a client.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How files come")]
pub(super) struct CarriageOptions {
    /// How files come; with rudp, questions go that way, too
    #[arg(long, global = true, value_name = "WAY", default_value = "http")]
    via: By,
    /// What shall control the sending: the proxy's with --via rudp, else that of the origin's TCP, if it is
    /// labnet's own
    #[arg(long, global = true, value_name = "NAME", value_parser = algorithms())]
    congestion: Option<Algorithm>,
    /// How packets are protected, with --via rudp [default: checksum, psk if a secret is given]
    #[arg(long, global = true, value_name = "HOW")]
    protection: Option<ProtectedBy>,
    /// A file with the lab's secret, for psk
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        long_help = "A file with the lab's secret, for psk; without it the environment's LABNET_SECRET"
    )]
    secret_file: Option<PathBuf>,
    /// The secret itself, which every user of this machine can read then
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        conflicts_with = "secret_file"
    )]
    secret: Option<String>,
    /// The largest datagram to try, UDP payload bytes [default: what an Ethernet carries]
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u16).range(i64::from(MIN_UDP_PAYLOAD)..=i64::from(MAX_UDP_PAYLOAD))
    )]
    max_datagram: Option<u16>,
    #[command(flatten)]
    qlog: QlogOptions,
}

/// Takes the names of congestion controllers.
pub(super) fn algorithms() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::name))
        .try_map(|name| name.parse::<Algorithm>())
}

impl CarriageOptions {
    /// What an HTTP origin is asked to send by.
    pub(super) fn tcp_congestion(&self) -> Option<Algorithm> {
        self.congestion.filter(|_| self.via == By::Http)
    }

    /// The plan, or what is wrong with the options.
    pub(super) fn via(&self, impairment: &Impairment, seed: u64) -> Result<Via, String> {
        if self.via == By::Http {
            let of_rudp = [
                ("--protection", self.protection.is_some()),
                ("--secret-file", self.secret_file.is_some()),
                ("--secret", self.secret.is_some()),
                ("--max-datagram", self.max_datagram.is_some()),
                ("--qlog", self.qlog.is_given()),
            ];
            return match of_rudp.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(format!("{option} is of use with --via rudp only")),
                None => Ok(Via::Http),
            };
        }
        Ok(Via::Rudp(Box::new(Carriage {
            congestion: self.congestion,
            protection: self.protection()?,
            max_datagram: self.max_datagram,
            link: impairment.of_packets(seed)?,
            qlog: self.qlog.open()?,
            signals: false,
        })))
    }

    fn protection(&self) -> Result<Protection, String> {
        let given = self.secret.is_some() || self.secret_file.is_some();
        match self.protection {
            Some(ProtectedBy::Checksum) if given => {
                Err("a secret is of no use with --protection checksum".to_owned())
            }
            Some(ProtectedBy::Checksum) => Ok(Protection::Checksum),
            None if !given => Ok(Protection::Checksum),
            Some(ProtectedBy::Psk) | None => {
                let passphrase = self.passphrase()?;
                let secret =
                    Secret::new(&passphrase).map_err(|error| format!("the secret: {error}"));
                secret.map(Protection::Psk)
            }
        }
    }

    fn passphrase(&self) -> Result<String, String> {
        if let Some(secret) = &self.secret {
            return Ok(secret.clone());
        }
        let Some(path) = &self.secret_file else {
            return env::var(ENVIRONMENT).map_err(|_| {
                format!(
                    "--protection psk needs --secret-file FILE, or {ENVIRONMENT} in the environment"
                )
            });
        };
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("--secret-file {}: {error}", path.display()))?;
        // Editors end a file's last line.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}
