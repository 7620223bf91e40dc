//! What the configuration means for connections.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::config;
use crate::rudp::{
    connection::Config,
    connection_table::Bounds,
    packet::{Protection, Secret, ShortPassphrase},
};

/// The least and the longest idle time that a transport parameter carries.
const IDLE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// How the connections of one configuration are made.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Of clients that are in no class.
    standard: Arc<Config>,
    classes: Vec<(config::Class, Arc<Config>)>,
    /// Whether a client may ask for a controller.
    pub(super) client_choice: bool,
    pub(super) bounds: Bounds,
    /// Bytes that all connections together may hold.
    pub(super) send_memory: u64,
}

impl Settings {
    /// By the configuration's table. With a secret this takes some tens of milliseconds.
    ///
    /// # Errors
    /// If the secret is too short.
    pub(super) fn new(rudp: &config::Rudp) -> Result<Self, ShortPassphrase> {
        let transport = &rudp.transport;
        let ethernet = if rudp.listen.iter().all(SocketAddr::is_ipv4) {
            Config::ETHERNET_IPV4
        } else {
            Config::ETHERNET_IPV6
        };
        let standard = Config {
            congestion: transport.congestion,
            initial_window: transport.initial_window,
            idle_timeout: rudp.idle_timeout.clamp(*IDLE.start(), *IDLE.end()),
            // A question is a line: clients send no more.
            stream_window: 16 << 10,
            connection_window: 256 << 10,
            max_datagram: transport.max_datagram.unwrap_or(ethernet),
            protection: match &transport.protection {
                config::Protection::Checksum => Protection::Checksum,
                config::Protection::Psk(text) => Protection::Psk(Secret::new(text.reveal())?),
            },
            ..Config::default()
        };
        let classes = transport.classes.iter().map(|class| {
            let own = Config {
                congestion: class.congestion.unwrap_or(standard.congestion),
                initial_window: class.initial_window.or(standard.initial_window),
                ..standard.clone()
            };
            (class.clone(), Arc::new(own))
        });
        Ok(Self {
            classes: classes.collect(),
            standard: Arc::new(standard),
            client_choice: transport.client_choice,
            bounds: Bounds {
                sessions: rudp.max_sessions,
                per_address: rudp.shares.sessions_per_address,
                handshakes: rudp.shares.handshakes,
                handshakes_per_address: rudp.shares.handshakes_per_address,
            },
            send_memory: transport.send_memory,
        })
    }

    /// How a connection of this client is made.
    pub(super) fn of(&self, client: IpAddr) -> &Arc<Config> {
        let class = self
            .classes
            .iter()
            .find(|(class, _)| class.contains(client));
        class.map_or(&self.standard, |(_, config)| config)
    }

    /// How packets are protected.
    pub(super) fn protection(&self) -> &Protection {
        &self.standard.protection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_as_long_as_the_key_needs() {
        let shortest = config::Passphrase::SHORTEST;
        assert_eq!(shortest, crate::rudp::packet::MIN_PASSPHRASE);
    }
}
