//! `[scrap]`: the scraper of a download page.

use std::{net::SocketAddr, time::Duration};

use url::Url;

use super::{
    ConnectionLimits,
    address::v4,
    kind::text,
    listeners::Protocol,
    table::Table,
    value::{self, SHORTEST},
};

/// The scraper.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrap {
    /// At least one. Default 127.0.0.5:49153.
    pub listen: Vec<SocketAddr>,
    /// The download page.
    pub origin: Url,
    /// How long a page without `Cache-Control: max-age` is held fresh. Default 30 s.
    pub refresh: Duration,
    /// Its peers. Default 256, 128 of one address: a proxy asks for all its clients.
    pub peers: ConnectionLimits,
    /// Whether redirects off the page's host and port are followed. Default false.
    pub redirects_elsewhere: bool,
}

const LISTEN: SocketAddr = v4([127, 0, 0, 5], 49153);

impl Scrap {
    /// `built_in` is the page of the built-in origin. `None`: no page is known, which has been noted.
    pub(super) fn read(table: &mut Table<'_>, built_in: Option<Url>) -> Option<Self> {
        let listen = table.listen("listen", &[Protocol::Tcp], LISTEN);
        let page = text(value::page);
        let origin = match built_in {
            Some(built_in) => table.optional("origin", page).or(Some(built_in)),
            None => table.required("origin", page, "origin = \"http://127.0.0.1:8080/\""),
        };
        let refresh = table.duration("refresh", SHORTEST.., Duration::from_secs(30));
        let peers = ConnectionLimits::read(table, "peers", ConnectionLimits::SCRAP);
        let redirects_elsewhere = table.flag("redirects_elsewhere", false);
        Some(Self {
            listen,
            origin: origin?,
            refresh,
            peers,
            redirects_elsewhere,
        })
    }
}
