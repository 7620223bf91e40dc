//! The door of the binary transport: what a server answers before there is a connection, and
//! without keeping anything. Only a client that has proven its address with a cookie gets in.

use std::net::SocketAddr;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::packet::{
    Cid, HandshakeKey, Hello, MIN_HELLO, Nonce, OpenError, Protection, RESET_LEN, Reset, Token,
    VERSION, Versions,
    cookie::{BadCookie, Secrets},
};

/// The door of one shard of a server.
#[derive(Debug)]
pub struct Listener {
    secrets: Secrets,
    key: HandshakeKey,
    shard: Shard,
    rng: Pcg64Mcg,
}

/// Which of how many sockets on the same address: the connection ids of a shard tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u8,
    /// At least 1.
    pub count: u8,
}

impl Shard {
    /// The only one.
    pub const ONLY: Self = Self { index: 0, count: 1 };

    /// Whether a connection id is of this shard: its first byte's remainder by the count is its
    /// index.
    pub fn owns(self, cid: Cid) -> bool {
        let [first, ..] = cid.0.to_be_bytes();
        first % self.count.max(1) == self.index
    }
}

/// What to do with a HELLO.
#[derive(Debug, PartialEq, Eq)]
pub enum Welcome<'a> {
    /// Send what was appended to the buffer.
    Reply(Reply),
    /// Its sender is where it says: make a connection, unless this HELLO has made one before.
    Admit(Box<Hello<'a>>),
    /// Nothing.
    Drop(Unwelcome),
}

/// What was replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A COOKIE.
    Cookie,
    /// A VERSIONS.
    Versions,
}

/// Why a HELLO is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwelcome {
    /// Too short, or makes no sense.
    Malformed,
    /// Its tag is wrong: damaged, or the client has not our secret.
    Integrity,
    /// A cookie that was not made here for this client.
    ForgedCookie,
}

/// What a new connection of the server is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The server's connection id.
    pub cid: Cid,
    /// Random.
    pub nonce: Nonce,
    /// What a RESET of this connection will carry.
    pub reset_token: Token,
    /// For the connection's own random numbers.
    pub seed: u64,
}

impl Listener {
    /// `static_key` is secret, and the same for all shards and after a restart; `seed` is not
    /// predictable either.
    pub fn new(static_key: &[u8; 32], protection: &Protection, shard: Shard, seed: u64) -> Self {
        Self {
            secrets: Secrets::new(static_key),
            key: protection.handshake_key(),
            shard,
            rng: Pcg64Mcg::seed_from_u64(seed),
        }
    }

    /// Decides on a HELLO from `source`, at `seconds` of a clock that is never set and that all
    /// shards share. A reply is appended to `out`; it is shorter than the HELLO.
    pub fn handle_hello<'a>(
        &mut self,
        version: u32,
        datagram: &'a [u8],
        source: SocketAddr,
        seconds: u64,
        out: &mut Vec<u8>,
    ) -> Welcome<'a> {
        if datagram.len() < MIN_HELLO {
            return Welcome::Drop(Unwelcome::Malformed);
        }
        if version != VERSION {
            // All versions begin alike: first byte, version, the client's connection id.
            let Some(cid) = datagram.get(5..13).and_then(|cid| cid.try_into().ok()) else {
                return Welcome::Drop(Unwelcome::Malformed);
            };
            Versions::encode(Cid(u64::from_be_bytes(cid)), &[VERSION], out);
            return Welcome::Reply(Reply::Versions);
        }
        let hello = match Hello::open(datagram, &self.key) {
            Ok(hello) => hello,
            Err(OpenError::Malformed(_)) => return Welcome::Drop(Unwelcome::Malformed),
            Err(OpenError::Integrity | OpenError::Exhausted) => {
                return Welcome::Drop(Unwelcome::Integrity);
            }
        };
        let proven = if hello.cookie.is_empty() {
            Err(BadCookie::Stale)
        } else {
            self.secrets
                .verify(hello.cookie, seconds, source, hello.cid, &hello.nonce)
        };
        match proven {
            Ok(()) => Welcome::Admit(Box::new(hello)),
            Err(BadCookie::Forged) => Welcome::Drop(Unwelcome::ForgedCookie),
            Err(BadCookie::Stale) => {
                let cookie = self.secrets.mint(seconds, source, hello.cid, &hello.nonce);
                super::packet::CookieReply {
                    destination: hello.cid,
                    nonce: hello.nonce,
                    cookie: &cookie,
                }
                .encode(&self.key, out);
                Welcome::Reply(Reply::Cookie)
            }
        }
    }

    /// What to make a connection with that was admitted. `taken` tells whether an id is in use.
    pub fn credentials(&mut self, taken: impl Fn(Cid) -> bool) -> Credentials {
        loop {
            let cid = Cid(self.rng.random());
            // Of the ids that come, one in `count` leads to this socket.
            if self.shard.owns(cid) && !taken(cid) {
                return Credentials {
                    cid,
                    nonce: self.rng.random(),
                    reset_token: self.secrets.reset_token(cid),
                    seed: self.rng.random(),
                };
            }
        }
    }

    /// Appends a RESET in answer to a DATA packet of `length` bytes for a connection id that is not
    /// known; says whether there is one: it must be shorter than the packet, so that two endpoints
    /// that have both forgotten fall silent.
    pub fn reset(&self, unknown: Cid, length: usize, out: &mut Vec<u8>) -> bool {
        // Another shard's connection may be alive: its token is nobody's business.
        let worth = length > RESET_LEN && self.shard.owns(unknown);
        if worth {
            let token = self.secrets.reset_token(unknown);
            Reset { unknown, token }.encode(out);
        }
        worth
    }
}
