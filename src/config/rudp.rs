//! `[rudp]`: the reliable-UDP proxy.

use std::{net::SocketAddr, time::Duration};

use super::{
    BadLink, Shares, Transport, Watch,
    address::v4,
    kind::text,
    listeners::Protocol,
    table::Table,
    value::{self, SHORTEST},
};

/// The reliable-UDP proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rudp {
    /// No two alike. Default 127.0.0.10:49152.
    pub listen: Vec<SocketAddr>,
    /// Signals the server holds unanswered for one client before it says SIGNFULL; also how far
    /// ahead of the expected id a signal may be. 2 to 1024, default 64.
    pub max_window: u32,
    /// A session that hears nothing for so long ends. Default 60 s.
    pub idle_timeout: Duration,
    /// Sessions and connections at once; one more is told that there is no room, and counted.
    /// Default 4096.
    pub max_sessions: usize,
    /// What one address may have of that, and how much else there is.
    pub shares: Shares,
    /// Whom SIGNGET asks: `[scrap].listen` unless `scraper` names another.
    pub scraper: Option<SocketAddr>,
    /// The binary transport.
    pub transport: Transport,
    /// `[link]`: the network before it, if that is a bad one.
    pub link: Option<BadLink>,
    /// `[watch]`: what is remembered of each session.
    pub watch: Watch,
}

const LISTEN: SocketAddr = v4([127, 0, 0, 10], 49152);

impl Rudp {
    /// `own_scraper` is where the lab's own scraper is reached.
    pub(super) fn read(
        table: &mut Table<'_>,
        own_scraper: Option<SocketAddr>,
        link: Option<BadLink>,
        watch: Watch,
    ) -> Self {
        let listen = table.listen("listen", &[Protocol::Udp], LISTEN);
        let max_window = table.number("max_window", 2..=1024, 64);
        let idle_timeout = table.duration("idle_timeout", SHORTEST.., Duration::from_secs(60));
        let (max_sessions, shares) = Shares::read(table);
        let scraper = table
            .optional("scraper", text(host_and_port))
            .or(own_scraper);
        let transport = Transport::read(table);
        let is_open = scraper.is_some_and(|scraper| scraper.port() == 0);
        if is_open && table.is_clean("scraper") {
            table.problem(
                "scraper",
                "missing, and `scrap.listen` leaves its port open; name a port in one of the two",
            );
        }
        Self {
            listen,
            max_window,
            idle_timeout,
            max_sessions,
            shares,
            scraper,
            transport,
            link,
            watch,
        }
    }
}

/// An address that can be asked.
fn host_and_port(text: &str) -> Result<SocketAddr, String> {
    let address = value::socket_address(text)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!(
            "`{text}` cannot be asked; one host and its port are needed"
        ));
    }
    Ok(address)
}
