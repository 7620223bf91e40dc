//! Integrity, and under a secret confidentiality: the tag at the end of a packet, and its keys.
//!
//! All cryptography is [`ring`]'s.

use std::{fmt, num::NonZeroU32, sync::Arc};

use crc_fast::{CrcAlgorithm, Digest};
use ring::{
    aead::{self, AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, UnboundKey},
    hkdf::{self, HKDF_SHA256, KeyType, Prk},
    hmac, pbkdf2,
};
use subtle::ConstantTimeEq as _;

use super::{Cid, DATA, DATA_HEADER, Malformed, Nonce, OpenError, Opened, expand};

/// A passphrase has at least so many characters.
pub const MIN_PASSPHRASE: usize = 16;
/// Packets before a direction's key changes: 2^22, half the confidentiality limit of RFC 9001
/// section 6.6.
pub const EPOCH_PACKETS: u64 = 1 << EPOCH_BITS;
/// Packets that may fail the integrity check before a connection must close: the integrity limit
/// of RFC 9001 section 6.6.
pub const INTEGRITY_LIMIT: u64 = 1 << 52;

const EPOCH_BITS: u32 = 22;
const CRC_LEN: usize = 4;
const MAC_LEN: usize = 16;
/// Rounds of PBKDF2 from the passphrase to the secret.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
const SALT: &[u8] = b"labnet rudp 1 secret";

/// The passphrase is shorter than [`MIN_PASSPHRASE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase has at least {MIN_PASSPHRASE} characters")]
pub struct ShortPassphrase;

/// The lab's secret. Clones share it; its bytes are never shown.
#[derive(Clone)]
pub struct Secret(pub(super) Arc<[u8; 32]>);

impl Secret {
    /// Stretches a passphrase into a secret. This takes tens of milliseconds, on purpose: who
    /// recorded a handshake and guesses has to pay as much for each guess.
    pub fn new(passphrase: &str) -> Result<Self, ShortPassphrase> {
        if passphrase.chars().count() < MIN_PASSPHRASE {
            return Err(ShortPassphrase);
        }
        let mut secret = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            SALT,
            passphrase.as_bytes(),
            &mut secret,
        );
        Ok(Self(Arc::new(secret)))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How packets are protected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Protection {
    /// By CRC32C: finds damage, proves nothing of the sender.
    #[default]
    Checksum,
    /// By AES-128-GCM and HMAC-SHA256 under a secret that both sides know.
    Psk(Secret),
}

impl Protection {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Psk(_) => "psk",
        }
    }

    /// The key of HELLO, COOKIE and ACCEPT.
    pub fn handshake_key(&self) -> HandshakeKey {
        match self {
            Self::Checksum => HandshakeKey::Checksum,
            Self::Psk(secret) => {
                let mut key = [0; 32];
                fill(
                    &extract(b"labnet rudp 1", secret),
                    &[b"handshake"],
                    &mut key,
                );
                HandshakeKey::Psk(hmac::Key::new(hmac::HMAC_SHA256, &key))
            }
        }
    }

    /// The keys of a connection's DATA packets, as `side` uses them.
    pub fn keys(&self, side: Side, agreement: &Agreement) -> Keys {
        match self {
            Self::Checksum => Keys::Checksum(Binding::new(agreement)),
            Self::Psk(secret) => Keys::Psk(Box::new(PskKeys::new(secret, side, agreement))),
        }
    }

    /// The bytes that a DATA packet's tag takes: 4 or 16.
    pub fn tag_len(&self) -> usize {
        match self {
            Self::Checksum => CRC_LEN,
            Self::Psk(_) => MAC_LEN,
        }
    }
}

/// The two sides of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who sent the HELLO.
    Client,
    /// Who sent the ACCEPT.
    Server,
}

impl Side {
    /// The other side.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Client => b"client",
            Self::Server => b"server",
        }
    }
}

/// What a handshake settled: it makes the keys of a connection unlike any other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The client's connection id.
    pub client: Cid,
    /// The server's connection id.
    pub server: Cid,
    /// The client's nonce.
    pub client_nonce: Nonce,
    /// The server's nonce.
    pub server_nonce: Nonce,
}

/// Protects HELLO, COOKIE and ACCEPT.
#[derive(Clone)]
pub enum HandshakeKey {
    /// By CRC32C.
    Checksum,
    /// By HMAC-SHA256, truncated to 16 bytes.
    Psk(hmac::Key),
}

impl HandshakeKey {
    /// The bytes of a tag: 4 or 16.
    pub fn tag_len(&self) -> usize {
        match self {
            Self::Checksum => CRC_LEN,
            Self::Psk(_) => MAC_LEN,
        }
    }

    /// Appends the tag of the packet that begins at `start` and reaches to the end of `out`.
    pub(super) fn seal(&self, out: &mut Vec<u8>, start: usize) {
        match self {
            Self::Checksum => seal_crc(0, out, start),
            Self::Psk(key) => {
                let tag = hmac::sign(key, &out[start..]);
                out.extend_from_slice(&tag.as_ref()[..MAC_LEN]);
            }
        }
    }

    /// Checks the tag at the end of `packet` and gives what is before it.
    pub(super) fn verify<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], OpenError> {
        match self {
            Self::Checksum => verify_crc(0, packet),
            Self::Psk(key) => {
                let (covered, tag) = packet
                    .split_last_chunk::<MAC_LEN>()
                    .ok_or(Malformed::Truncated)?;
                let right = hmac::sign(key, covered);
                if right.as_ref()[..MAC_LEN].ct_eq(tag).into() {
                    Ok(covered)
                } else {
                    Err(OpenError::Integrity)
                }
            }
        }
    }
}

impl fmt::Debug for HandshakeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "HandshakeKey::Checksum",
            Self::Psk(_) => "HandshakeKey::Psk(..)",
        })
    }
}

/// Protects the DATA packets of a connection, one key a direction.
#[derive(Debug)]
pub enum Keys {
    /// By CRC32C.
    Checksum(Binding),
    /// By AES-128-GCM.
    Psk(Box<PskKeys>),
}

impl Keys {
    /// The bytes of a tag: 4 or 16.
    pub fn tag_len(&self) -> usize {
        match self {
            Self::Checksum(_) => CRC_LEN,
            Self::Psk(_) => MAC_LEN,
        }
    }

    /// Protects the packet that begins at `start` and reaches to the end of `buffer`: encrypts its
    /// frames where they are and appends the tag. It begins with
    /// [`encode_data_header`](super::encode_data_header) for the same `number`. No two packets
    /// may have one number, and numbers must not go back by more than an epoch.
    #[inline]
    pub fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, number: u64) {
        match self {
            Self::Checksum(binding) => seal_crc(binding.0, buffer, start),
            Self::Psk(keys) => keys.seal(buffer, start, number),
        }
    }

    /// Proves and decrypts a DATA packet where it lies. `expected` is the largest number opened so
    /// far plus one, 0 at first. After an error the datagram's content is undefined.
    #[inline]
    pub fn open(&mut self, datagram: &mut [u8], expected: u64) -> Result<Opened, OpenError> {
        let header = datagram
            .first_chunk::<DATA_HEADER>()
            .ok_or(Malformed::Truncated)?;
        let [first, .., a, b, c, d] = *header;
        if first != DATA {
            return Err(Malformed::PacketType(first).into());
        }
        let number = expand(expected, u32::from_be_bytes([a, b, c, d]));
        let end = datagram
            .len()
            .checked_sub(self.tag_len())
            .filter(|end| *end >= DATA_HEADER)
            .ok_or(Malformed::Truncated)?;
        match self {
            Self::Checksum(binding) => {
                verify_crc(binding.0, datagram)?;
            }
            Self::Psk(keys) => keys.open(datagram, number)?,
        }
        if end == DATA_HEADER {
            return Err(Malformed::Empty.into());
        }
        Ok(Opened {
            number,
            payload: DATA_HEADER..end,
        })
    }

    /// How many packets failed the integrity check under the secret.
    pub fn failures(&self) -> u64 {
        match self {
            Self::Checksum(_) => 0,
            Self::Psk(keys) => keys.failures,
        }
    }
}

/// What a checksum begins with, so that DATA of another connection has a wrong one: the CRC32C of
/// both nonces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding(u32);

impl Binding {
    /// The protection of the connection, which the handshake agreed on.
    pub fn new(agreement: &Agreement) -> Self {
        let client = crc32c(0, &agreement.client_nonce);
        Self(crc32c(client, &agreement.server_nonce))
    }
}

/// A connection's keys under the secret: for each direction that of the epoch, and for the packets
/// received the one before it, too.
pub struct PskKeys {
    traffic: Prk,
    agreement: Agreement,
    side: Side,
    sealing: EpochKey,
    opening: EpochKey,
    previous: Option<EpochKey>,
    failures: u64,
}

impl PskKeys {
    fn new(secret: &Secret, side: Side, agreement: &Agreement) -> Self {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&agreement.client_nonce);
        salt[16..].copy_from_slice(&agreement.server_nonce);
        let traffic = extract(&salt, secret);
        Self {
            sealing: EpochKey::new(&traffic, side, agreement, 0),
            opening: EpochKey::new(&traffic, side.peer(), agreement, 0),
            previous: None,
            traffic,
            agreement: *agreement,
            side,
            failures: 0,
        }
    }

    fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, number: u64) {
        let epoch = number >> EPOCH_BITS;
        if self.sealing.epoch != epoch {
            self.sealing = EpochKey::new(&self.traffic, self.side, &self.agreement, epoch);
        }
        let (header, payload) = buffer[start..].split_at_mut(DATA_HEADER);
        let tag = self.sealing.key.seal_in_place_separate_tag(
            self.sealing.nonce(number),
            Aad::from(header),
            payload,
        );
        // AES-GCM refuses only what is longer than 64 GiB. A packet without a tag is never opened.
        if let Ok(tag) = tag {
            buffer.extend_from_slice(tag.as_ref());
        }
    }

    fn open(&mut self, datagram: &mut [u8], number: u64) -> Result<(), OpenError> {
        if self.failures >= INTEGRITY_LIMIT {
            return Err(OpenError::Exhausted);
        }
        let opened = self.try_open(datagram, number);
        if opened.is_none() {
            self.failures += 1;
        }
        opened.ok_or(OpenError::Integrity)
    }

    fn try_open(&mut self, datagram: &mut [u8], number: u64) -> Option<()> {
        let epoch = number >> EPOCH_BITS;
        if epoch == self.opening.epoch {
            self.opening.open(datagram, number)
        } else if epoch == self.opening.epoch + 1 {
            // The key of an epoch is taken over only once a packet has proven that it began.
            let next = EpochKey::new(&self.traffic, self.side.peer(), &self.agreement, epoch);
            next.open(datagram, number)?;
            self.previous = Some(std::mem::replace(&mut self.opening, next));
            Some(())
        } else {
            let previous = self.previous.as_ref()?;
            (epoch == previous.epoch).then(|| previous.open(datagram, number))?
        }
    }
}

impl fmt::Debug for PskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskKeys")
            .field("side", &self.side)
            .field("sealing", &self.sealing.epoch)
            .field("opening", &self.opening.epoch)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

/// The key of one direction for the packets of one epoch.
struct EpochKey {
    epoch: u64,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl EpochKey {
    fn new(traffic: &Prk, sender: Side, agreement: &Agreement, epoch: u64) -> Self {
        let (client, server) = (
            agreement.client.0.to_be_bytes(),
            agreement.server.0.to_be_bytes(),
        );
        let epoch_bytes = epoch.to_be_bytes();
        let expand = |what: &'static [u8], out: &mut [u8]| {
            fill(
                traffic,
                &[sender.label(), what, &client, &server, &epoch_bytes],
                out,
            );
        };
        let (mut key, mut iv) = ([0; 16], [0; NONCE_LEN]);
        expand(b" key", &mut key);
        expand(b" iv", &mut iv);
        Self {
            epoch,
            key: aes(&key),
            iv,
        }
    }

    fn nonce(&self, number: u64) -> aead::Nonce {
        let mut nonce = self.iv;
        for (byte, other) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= other;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }

    fn open(&self, datagram: &mut [u8], number: u64) -> Option<()> {
        let (header, sealed) = datagram.split_at_mut_checked(DATA_HEADER)?;
        self.key
            .open_in_place(self.nonce(number), Aad::from(header), sealed)
            .ok()?;
        Some(())
    }
}

fn aes(key: &[u8; 16]) -> LessSafeKey {
    // AES-128 takes any 16 bytes.
    #[allow(clippy::expect_used)]
    let key = UnboundKey::new(&AES_128_GCM, key).expect("16 bytes");
    LessSafeKey::new(key)
}

/// HKDF-Extract of the secret.
fn extract(salt: &[u8], secret: &Secret) -> Prk {
    hkdf::Salt::new(HKDF_SHA256, salt).extract(&*secret.0)
}

/// HKDF-Expand to as many bytes as `out` takes.
fn fill(prk: &Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);

    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    // HKDF-SHA256 gives up to 8,160 bytes; at most 32 are asked for.
    #[allow(clippy::expect_used)]
    prk.expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("at most 8,160 bytes");
}

/// The CRC32C of `bytes` after what has the CRC `before`; of nothing it is 0.
#[inline]
pub(super) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    // A CRC of 32 bits.
    digest.finalize() as u32
}

/// `before` is the CRC of what is taken to stand before the packet.
#[inline]
fn seal_crc(before: u32, out: &mut Vec<u8>, start: usize) {
    let crc = crc32c(before, &out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

#[inline]
fn verify_crc(before: u32, packet: &[u8]) -> Result<&[u8], OpenError> {
    let (covered, crc) = packet
        .split_last_chunk::<CRC_LEN>()
        .ok_or(Malformed::Truncated)?;
    if crc32c(before, covered) == u32::from_be_bytes(*crc) {
        Ok(covered)
    } else {
        Err(OpenError::Integrity)
    }
}
