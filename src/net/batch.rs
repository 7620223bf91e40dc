use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta};

pub use crate::watch::event::Ecn;
use crate::watch::event::link::Crossing;

impl From<Ecn> for EcnCodepoint {
    fn from(ecn: Ecn) -> Self {
        match ecn {
            Ecn::Ect0 => Self::Ect0,
            Ecn::Ect1 => Self::Ect1,
            Ecn::Ce => Self::Ce,
        }
    }
}

impl From<EcnCodepoint> for Ecn {
    fn from(codepoint: EcnCodepoint) -> Self {
        match codepoint {
            EcnCodepoint::Ect0 => Self::Ect0,
            EcnCodepoint::Ect1 => Self::Ect1,
            EcnCodepoint::Ce => Self::Ce,
        }
    }
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its payload.
    pub payload: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The local address it was sent to.
    pub destination: Option<IpAddr>,
    /// The index of the interface it came in by.
    pub interface: Option<u32>,
    /// The mark that it carries.
    pub ecn: Option<Ecn>,
    /// Which one of a link's it is, if it has come over one of this process.
    pub crossing: Option<Crossing>,
}

/// One received buffer: a datagram, or several of one sender that the kernel joined (GRO).
#[derive(Debug)]
pub struct Segments<'a> {
    /// The datagrams, one behind the other, to be changed at will (decrypted in place).
    pub bytes: &'a mut [u8],
    /// The length of each datagram; the last one may be shorter. Never 0: `chunks_mut(stride)`
    /// takes them apart. Of an empty datagram there is no chunk.
    pub stride: usize,
    /// Who sent them.
    pub source: SocketAddr,
    /// The local address they were sent to.
    pub destination: Option<IpAddr>,
    /// The mark that all of them carry.
    pub ecn: Option<Ecn>,
}

/// The buffers of one receiving system call, used again and again.
pub struct ReceiveBatch {
    buffer: Box<[u8]>,
    slot: usize,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
    /// The first so many were [pushed](Self::push).
    pushed: usize,
    crossings: [Option<Crossing>; BATCH_SIZE],
}

/// The largest UDP payload; also what GRO may join into one buffer.
const MAX_PAYLOAD: usize = 65_535;

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Empty buffers, each large enough for any datagram. The memory is only touched, and so only
    /// counted, when datagrams fill it.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; MAX_PAYLOAD * BATCH_SIZE].into_boxed_slice(),
            slot: MAX_PAYLOAD,
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            pushed: 0,
            crossings: [None; BATCH_SIZE],
        }
    }

    /// The datagrams of the last receive. Buffers that the kernel joined (GRO) come apart again.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let crossings = self.crossings.iter().copied();
        self.filled()
            .zip(crossings)
            .flat_map(|((bytes, meta), crossing)| {
                // An empty datagram is one datagram too; chunks() would give none.
                let empty = bytes.is_empty().then_some(bytes);
                bytes
                    .chunks(meta.stride.max(1))
                    .chain(empty)
                    .map(move |payload| Datagram {
                        payload,
                        source: meta.addr,
                        destination: meta.dst_ip,
                        interface: meta.interface_index,
                        ecn: meta.ecn.map(Ecn::from),
                        crossing,
                    })
            })
    }

    /// The buffers of the last receive, whole.
    pub fn buffers_mut(&mut self) -> impl Iterator<Item = Segments<'_>> {
        self.buffer
            .chunks_mut(self.slot)
            .zip(&self.meta)
            .take(self.filled)
            .map(|(bytes, meta)| {
                let length = meta.len.min(bytes.len());
                Segments {
                    bytes: &mut bytes[..length],
                    stride: meta.stride.max(1),
                    source: meta.addr,
                    destination: meta.dst_ip,
                    ecn: meta.ecn.map(Ecn::from),
                }
            })
    }

    /// Whether the last receive brought nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The filled buffers and what the kernel tells of them.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (&[u8], &RecvMeta)> {
        self.buffer
            .chunks(self.slot)
            .zip(&self.meta)
            .take(self.filled)
            .map(|(bytes, meta)| (&bytes[..meta.len.min(bytes.len())], meta))
    }

    pub(crate) fn clear(&mut self) {
        let pushed = std::mem::take(&mut self.pushed);
        let crossings = self.crossings.iter_mut().take(pushed);
        crossings.for_each(|crossing| *crossing = None);
        self.filled = 0;
    }

    /// Has `receive` fill the buffers; it tells how many it has filled.
    pub(super) fn fill<E>(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.clear();
        let mut slices = self.buffer.chunks_mut(self.slot).map(IoSliceMut::new);
        // BATCH_SIZE chunks by construction: see new().
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        self.filled = receive(&mut slices, &mut self.meta)?.min(BATCH_SIZE);
        Ok(())
    }

    /// Whether [`push`](Self::push) has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == BATCH_SIZE
    }

    /// Adds one datagram, if there is room. `meta` need not know its length.
    pub(crate) fn push(&mut self, payload: &[u8], meta: RecvMeta, crossing: Crossing) {
        let slot = self.buffer.chunks_mut(self.slot).nth(self.filled);
        let places = slot.zip(self.meta.get_mut(self.filled));
        if let Some((slot, place)) = places
            && let Some(slot) = slot.get_mut(..payload.len())
        {
            slot.copy_from_slice(payload);
            *place = meta;
            (place.len, place.stride) = (payload.len(), payload.len());
            if let Some(place) = self.crossings.get_mut(self.filled) {
                *place = Some(crossing);
            }
            self.filled += 1;
            self.pushed = self.filled;
        }
    }
}
