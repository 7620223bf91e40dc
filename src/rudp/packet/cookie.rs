//! What an endpoint proves without keeping anything: address cookies and reset tokens.
//!
//! Both are HMAC-SHA256 under one static key, so that all shards of a server, and the same server
//! after a restart, know them again.

use std::net::{IpAddr, SocketAddr};

use ring::hmac::{self, HMAC_SHA256};
use subtle::ConstantTimeEq as _;

use super::{Cid, Nonce, Token};

/// The seconds after which the key of cookies changes. A cookie is good in the epoch of its making
/// and the next one: one minute at least, two at most.
pub const EPOCH_SECONDS: u64 = 60;
/// The bytes of a cookie.
pub const COOKIE_LEN: usize = 1 + MAC_LEN;

const MAC_LEN: usize = 16;

/// A cookie of this server's making.
pub type Cookie = [u8; COOKIE_LEN];

/// A cookie that does not prove its sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCookie {
    /// Of no epoch that is still good; the client should be sent a fresh one.
    #[error("the cookie is out of date")]
    Stale,
    /// Made for another address, connection id or nonce, or not by this server.
    #[error("the cookie is not of this server for this client")]
    Forged,
}

/// The static key of an endpoint and what is derived from it.
pub struct Secrets {
    cookie: hmac::Key,
    reset: hmac::Key,
    /// The keys of the two epochs used last, by epoch.
    epochs: [Option<(u64, hmac::Key)>; 2],
}

impl Secrets {
    /// From a static key: random, secret, the same for all shards of a server.
    pub fn new(static_key: &[u8; 32]) -> Self {
        let root = hmac::Key::new(HMAC_SHA256, static_key);
        Self {
            cookie: derive(&root, b"cookie"),
            reset: derive(&root, b"reset"),
            epochs: [None, None],
        }
    }

    /// A cookie for the client at `address` that sent `cid` and `nonce`, at `now` in seconds of
    /// the server's clock, which is never set: a step of it would make good cookies look forged.
    pub fn mint(&mut self, now: u64, address: SocketAddr, cid: Cid, nonce: &Nonce) -> Cookie {
        let epoch = now / EPOCH_SECONDS;
        let mut cookie = [0; COOKIE_LEN];
        cookie[0] = epoch as u8;
        cookie[1..].copy_from_slice(&self.mac(epoch, address, cid, nonce));
        cookie
    }

    /// Whether `cookie` was minted for the same client, in this epoch or the one before.
    pub fn verify(
        &mut self,
        cookie: &[u8],
        now: u64,
        address: SocketAddr,
        cid: Cid,
        nonce: &Nonce,
    ) -> Result<(), BadCookie> {
        let [low, mac @ ..]: &Cookie = cookie.try_into().map_err(|_| BadCookie::Forged)?;
        let current = now / EPOCH_SECONDS;
        let epoch = [current, current.saturating_sub(1)]
            .into_iter()
            .find(|epoch| *epoch as u8 == *low)
            .ok_or(BadCookie::Stale)?;
        if self.mac(epoch, address, cid, nonce).ct_eq(mac).into() {
            Ok(())
        } else {
            Err(BadCookie::Forged)
        }
    }

    /// What a RESET for this endpoint's connection id carries.
    pub fn reset_token(&self, cid: Cid) -> Token {
        Token::new(truncated(&hmac::sign(&self.reset, &cid.0.to_be_bytes())))
    }

    fn mac(&mut self, epoch: u64, address: SocketAddr, cid: Cid, nonce: &Nonce) -> [u8; MAC_LEN] {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut client = [0; 16 + 2 + 8 + 16];
        client[..16].copy_from_slice(&ip.octets());
        client[16..18].copy_from_slice(&address.port().to_be_bytes());
        client[18..26].copy_from_slice(&cid.0.to_be_bytes());
        client[26..].copy_from_slice(nonce);
        truncated(&hmac::sign(self.epoch_key(epoch), &client))
    }

    /// Two slots, by the epoch's parity: the current epoch and the one before never share one.
    fn epoch_key(&mut self, epoch: u64) -> &hmac::Key {
        let slot = &mut self.epochs[(epoch % 2) as usize];
        let fresh = slot.take().filter(|(of, _)| *of == epoch);
        let (_, key) = slot
            .insert(fresh.unwrap_or_else(|| (epoch, derive(&self.cookie, &epoch.to_be_bytes()))));
        key
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

fn derive(key: &hmac::Key, label: &[u8]) -> hmac::Key {
    hmac::Key::new(HMAC_SHA256, hmac::sign(key, label).as_ref())
}

fn truncated(tag: &hmac::Tag) -> [u8; MAC_LEN] {
    let mut mac = [0; MAC_LEN];
    mac.copy_from_slice(&tag.as_ref()[..MAC_LEN]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_760_000_005;
    const CID: Cid = Cid(7);
    const NONCE: Nonce = [9; 16];

    fn secrets() -> Secrets {
        Secrets::new(&[3; 32])
    }

    fn address() -> SocketAddr {
        "192.0.2.1:4000".parse().unwrap()
    }

    #[test]
    fn a_cookie_is_good_in_its_epoch_and_the_next() {
        let mut secrets = secrets();
        let cookie = secrets.mint(NOW, address(), CID, &NONCE);
        let begin = NOW - NOW % EPOCH_SECONDS;
        let mut verify = |now| secrets.verify(&cookie, now, address(), CID, &NONCE);
        for good in [NOW, begin, begin + 2 * EPOCH_SECONDS - 1] {
            assert_eq!(verify(good), Ok(()), "{good}");
        }
        for stale in [begin - 1, begin + 2 * EPOCH_SECONDS, 0] {
            assert_eq!(verify(stale), Err(BadCookie::Stale), "{stale}");
        }
        // 256 epochs later its first byte fits again, its key does not.
        let later = NOW + 256 * EPOCH_SECONDS;
        assert_eq!(verify(later), Err(BadCookie::Forged));
        assert_eq!(verify(NOW), Ok(()));
    }

    #[test]
    fn a_cookie_is_good_for_one_client_only() {
        let mut secrets = secrets();
        let cookie = secrets.mint(NOW, address(), CID, &NONCE);
        let forged = Err(BadCookie::Forged);
        for other in ["192.0.2.1:4001", "192.0.2.2:4000", "[2001:db8::1]:4000"] {
            let other = other.parse().unwrap();
            assert_eq!(secrets.verify(&cookie, NOW, other, CID, &NONCE), forged);
        }
        let mut verify = |cid, nonce| secrets.verify(&cookie, NOW, address(), cid, nonce);
        assert_eq!(verify(Cid(8), &NONCE), forged);
        assert_eq!(verify(CID, &[8; 16]), forged);
        assert_eq!(verify(CID, &NONCE), Ok(()));
    }

    #[test]
    fn an_ipv4_address_is_the_same_on_a_socket_of_both_families() {
        let mut secrets = secrets();
        let cookie = secrets.mint(NOW, address(), CID, &NONCE);
        let mapped = "[::ffff:192.0.2.1]:4000".parse().unwrap();
        assert_eq!(secrets.verify(&cookie, NOW, mapped, CID, &NONCE), Ok(()));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let mut secrets = secrets();
        let cookie = secrets.mint(NOW, address(), CID, &NONCE);
        let mut refused = |cookie: &[u8]| {
            let verified = secrets.verify(cookie, NOW, address(), CID, &NONCE);
            assert!(verified.is_err(), "{cookie:?}");
        };
        for bit in 0..8 * COOKIE_LEN {
            let mut other = cookie;
            other[bit / 8] ^= 1 << (bit % 8);
            refused(&other);
        }
        for end in 0..COOKIE_LEN {
            refused(&cookie[..end]);
        }
        refused(&[&cookie[..], &[0]].concat());
    }

    #[test]
    fn shards_and_restarted_servers_know_what_another_made() {
        let cookie = secrets().mint(NOW, address(), CID, &NONCE);
        let verified = secrets().verify(&cookie, NOW, address(), CID, &NONCE);
        assert_eq!(verified, Ok(()));
        assert_eq!(secrets().reset_token(CID), secrets().reset_token(CID));

        let mut other = Secrets::new(&[4; 32]);
        let verified = other.verify(&cookie, NOW, address(), CID, &NONCE);
        assert_eq!(verified, Err(BadCookie::Forged));
        assert_ne!(other.reset_token(CID), secrets().reset_token(CID));
    }

    #[test]
    fn each_connection_id_has_its_own_reset_token() {
        assert_ne!(secrets().reset_token(CID), secrets().reset_token(Cid(8)));
    }
}
