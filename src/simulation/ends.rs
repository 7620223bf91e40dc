//! The two sides of a simulation: each flow's client, and the senders.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    Datagram, Far, Host, Peer, QuicConfig, Server,
    addresses::{QUIC_SERVER, SERVER, client_of},
    arrival::Closed,
    quic::{QuicDownload, QuicHost, QuicUpload},
    transfer::{Arriving, Download, Progress, Upload},
};
use crate::{
    link::Way,
    rudp::{
        connection::{Config, Connection, Introduction},
        packet::{Cid, Text},
    },
};

/// All flows' senders, by what carries them.
pub(super) struct Senders {
    pub(super) rudp: Server<Upload>,
    pub(super) quic: QuicHost<QuicUpload>,
}

impl Host for Senders {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        if self.quic.is_at(datagram.to) {
            self.quic.handle_datagram(datagram, now, out);
        } else {
            self.rudp.handle_datagram(datagram, now, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.rudp.handle_timeout(now);
        self.quic.handle_timeout(now);
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        self.rudp.send(now, out);
        self.quic.send(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.rudp.poll_timeout(), self.quic.poll_timeout()];
        due.into_iter().flatten().min()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.rudp.is_at(address) || self.quic.is_at(address)
    }
}

/// A flow's client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) flow: usize,
    pub(super) end: Far<End>,
}

/// Its end of the connection.
#[derive(Debug)]
pub(super) enum End {
    Rudp(Box<Peer<Download>>),
    Quic(Box<QuicHost<QuicDownload>>),
    /// It did not even begin.
    Refused(Closed),
}

impl End {
    pub(super) fn rudp(
        number: usize,
        files: Arriving,
        config: Arc<Config>,
        seed: u64,
        now: Instant,
    ) -> Self {
        #[expect(clippy::expect_used, reason = "see Text")]
        let name = Text::new("flow").expect("letters, and few");
        let introduction = Introduction {
            name,
            congestion: Some(config.congestion),
            cid: Cid((seed << 32) ^ number as u64),
            nonce: (number as u128).to_be_bytes(),
        };
        let own = own_seed(number, seed);
        let connection = Connection::connect(config, &introduction, SERVER, own, now);
        let download = Download::new(files);
        let address = client_of(number);
        Self::Rudp(Box::new(Peer::new(connection, download, address, Way::Up)))
    }

    pub(super) fn quic(
        number: usize,
        files: Arriving,
        config: &QuicConfig,
        seed: u64,
        now: Instant,
    ) -> Self {
        let download = QuicDownload::new(files);
        let address = client_of(number);
        let own = own_seed(number, seed);
        match QuicHost::client(address, (config, QUIC_SERVER), download, own, now) {
            Ok(host) => Self::Quic(Box::new(host)),
            Err(error) => Self::Refused(Closed::Quic(error.to_string())),
        }
    }

    pub(super) fn received(&self) -> u64 {
        match self {
            Self::Rudp(peer) => peer.application.files.progress.received,
            Self::Quic(host) => host
                .applications()
                .map(|one| one.files.progress.received)
                .sum(),
            Self::Refused(_) => 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Rudp(peer) => peer.application.files.progress.is_over(),
            Self::Quic(host) => host.applications().all(|one| one.files.progress.is_over()),
            Self::Refused(_) => true,
        }
    }

    pub(super) fn progress(&self) -> Progress<Closed> {
        match self {
            Self::Rudp(peer) => peer
                .application
                .files
                .progress
                .map(|why| Closed::Rudp(why.clone())),
            Self::Quic(host) => {
                let one = host.applications().next();
                let told = |one: &QuicDownload| {
                    one.files.progress.map(|why| Closed::Quic(why.to_string()))
                };
                one.map(told).unwrap_or_default()
            }
            Self::Refused(why) => Progress {
                closed: Some(why.clone()),
                ..Progress::default()
            },
        }
    }
}

/// What a flow's client leaves to chance follows from it.
fn own_seed(number: usize, seed: u64) -> u64 {
    seed.wrapping_mul(31).wrapping_add(number as u64)
}

impl Client {
    pub(super) fn is_over(&self) -> bool {
        self.end.host.is_over()
    }
}

impl Host for Client {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        self.end.handle_datagram(datagram, now, out);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.end.handle_timeout(now);
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        self.end.send(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.end.poll_timeout()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.end.is_at(address)
    }
}

impl Host for End {
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant, out: &mut Vec<Datagram>) {
        match self {
            Self::Rudp(peer) => peer.handle_datagram(datagram, now, out),
            Self::Quic(host) => host.handle_datagram(datagram, now, out),
            Self::Refused(_) => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Rudp(peer) => peer.handle_timeout(now),
            Self::Quic(host) => host.handle_timeout(now),
            Self::Refused(_) => {}
        }
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        match self {
            Self::Rudp(peer) => peer.send(now, out),
            Self::Quic(host) => host.send(now, out),
            Self::Refused(_) => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Rudp(peer) => peer.poll_timeout(),
            Self::Quic(host) => host.poll_timeout(),
            Self::Refused(_) => None,
        }
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        match self {
            Self::Rudp(peer) => peer.is_at(address),
            Self::Quic(host) => host.is_at(address),
            Self::Refused(_) => false,
        }
    }
}
