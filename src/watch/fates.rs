//! What a link did to the packets of the connections that go over it, to be found by their numbers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::event::link::{self, Congestion, Loss, Outcome, Overtaken, Queue, Verdict};

/// With [`PLACES`] on each, 16,384 packets are remembered: at 100 Mbit/s two seconds', and a loss is
/// found within a few round trips. A packet's shelf follows from its number and its connection id: the
/// numbers of one connection go round the shelves.
const SHELVES: usize = 1 << 12;
/// The oldest packet of a full shelf makes room. With a single place on each, the acknowledgements of a
/// connection would push out its data wherever the two numberings meet.
const PLACES: usize = 4;

/// Reads from a datagram the connection id that it goes to and the lower half of its packet number; `None`: the
/// datagram is not the transport's.
pub type Reader = fn(&[u8]) -> Option<(u64, u32)>;

/// What is remembered of a link. Clones share it.
#[derive(Debug, Clone)]
pub struct Fates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    read: Reader,
    /// By [`shelf`]; empty until there is a verdict.
    known: Mutex<Vec<Shelf>>,
}

/// A connection id and the lower half of a number.
type Key = (u64, u32);

type Shelf = [Option<(Key, Fate)>; PLACES];

fn shelf((destination, number): Key) -> usize {
    // Connection ids are random.
    (destination as usize).wrapping_add(number as usize) % SHELVES
}

/// What a link did to one packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fate {
    /// When the packet was handed to the link.
    pub offered: Instant,
    /// The bytes that it takes on the link, headers included.
    pub size: usize,
    /// The queue that it found.
    pub queue: Queue,
    /// What became of it.
    pub outcome: Outcome,
    /// How many packets that were handed to the link later have come out earlier; 0 as long as this one has not
    /// come out.
    pub overtaken_by: u64,
}

impl Fate {
    /// The fate that a verdict tells.
    pub fn of(verdict: &Verdict<'_>) -> Self {
        Self {
            offered: verdict.offered,
            size: verdict.size,
            queue: verdict.queue,
            outcome: verdict.outcome,
            overtaken_by: 0,
        }
    }

    /// Whether the link has told all of the packet: that it is lost, that it was overtaken, or that it was not
    /// held back, so that no other packet overtakes it.
    pub fn is_certain(&self) -> bool {
        match self.outcome {
            Outcome::Delivered(passage) => passage.held_back.is_zero() || self.overtaken_by > 0,
            Outcome::Lost(_) => true,
        }
    }

    /// `delivered`, `corrupted`, `marked` (and delivered), or the loss's word: `lost_queue`,
    /// `lost_random`, `lost_policer`, `lost_codel`, `lost_red`, `lost_blackout`, `lost_memory`.
    pub fn name(&self) -> &'static str {
        match self.outcome {
            Outcome::Delivered(passage) if passage.corrupted.is_some() => "corrupted",
            Outcome::Delivered(passage) if passage.marked.is_some() => "marked",
            _ => self.outcome.name(),
        }
    }

    /// Why the queue's management marked it, if it did.
    pub fn mark(&self) -> Option<Congestion> {
        match self.outcome {
            Outcome::Delivered(passage) => passage.marked,
            Outcome::Lost(_) => None,
        }
    }

    /// Why the queue's management marked or dropped it, if it did.
    pub fn congestion(&self) -> Option<Congestion> {
        match self.outcome {
            Outcome::Lost(Loss::Managed(congestion)) => Some(congestion),
            _ => self.mark(),
        }
    }
}

impl Fates {
    /// Of a link that has given no verdict yet; `read` tells packets apart by their bytes.
    pub fn new(read: Reader) -> Self {
        Self(Arc::new(Inner {
            read,
            known: Mutex::default(),
        }))
    }

    /// What the link did to the packet with this number that went to this connection id; `None`: no verdict on it
    /// came, or a later packet has taken its place.
    pub fn of(&self, destination: u64, number: u64) -> Option<Fate> {
        // The lower half of the number is enough: of two packets that share it, 2^32 others lie between them.
        let key = (destination, number as u32);
        let known = self.known();
        let mut found = known.get(shelf(key))?.iter().flatten();
        found
            .find(|(found, _)| *found == key)
            .map(|(_, fate)| *fate)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Shelf>> {
        // Every change is one assignment, so that a holder that panicked has left no half of one.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl link::Observer for Fates {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        let Some(key) = (self.0.read)(verdict.payload) else {
            return;
        };
        let fate = Fate::of(verdict);
        let mut known = self.known();
        if known.is_empty() {
            known.resize(SHELVES, [None; PLACES]);
        }
        let places = known[shelf(key)].iter_mut();
        // First to go is an earlier verdict on the same packet, then an empty place, then the oldest verdict.
        let oldest = places.min_by_key(|place| match place {
            Some((old, _)) if *old == key => (false, None),
            Some((_, fate)) => (true, Some(fate.offered)),
            None => (true, None),
        });
        if let Some(place) = oldest {
            *place = Some((key, fate));
        }
    }

    fn on_overtaken(&self, overtaken: &Overtaken<'_>) {
        let Some(key) = (self.0.read)(overtaken.payload) else {
            return;
        };
        let mut known = self.known();
        let shelf = known.get_mut(shelf(key)).into_iter().flatten();
        for (_, fate) in shelf.flatten().filter(|(other, _)| *other == key) {
            // A damaged payload may carry another packet's number: only the packet that arrived at this time is
            // meant.
            if let Outcome::Delivered(passage) = fate.outcome
                && passage.arrives == overtaken.arrived
            {
                fate.overtaken_by = overtaken.packets;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use link::{Observer as _, Way};

    use super::*;

    fn read(datagram: &[u8]) -> Option<(u64, u32)> {
        Some((7, u32::from_be_bytes(*datagram.first_chunk()?)))
    }

    #[test]
    fn a_packet_is_known_until_one_takes_its_place() {
        let fates = Fates::new(read);
        assert_eq!(fates.of(7, 1), None);
        let tell = |number: u32| {
            fates.on_verdict(&Verdict {
                way: Way::Down,
                number: 0,
                offered: Instant::now(),
                size: number as usize,
                payload: &number.to_be_bytes(),
                peer: None,
                queue: Queue {
                    bytes: 0,
                    limit: 0,
                    rate: None,
                },
                outcome: Outcome::Lost(Loss::Random),
            });
        };
        let size = |number: u64| fates.of(7, number).map(|fate| fate.size);
        tell(1);
        tell(2);
        assert_eq!((size(1), size(2), size(3)), (Some(1), Some(2), None));
        assert_eq!(fates.of(8, 1), None);
        let same_shelf = |n: usize| (1 + n * SHELVES) as u32;
        for n in 1..PLACES {
            tell(same_shelf(n));
        }
        assert_eq!((size(1), size(2)), (Some(1), Some(2)));
        tell(same_shelf(PLACES));
        assert_eq!((size(1), size(2)), (None, Some(2)));
        assert!((1..=PLACES).all(|n| size(same_shelf(n).into()).is_some()));
        // The upper half of a number is not in the packet.
        assert_eq!(size((1 << 32) + 2), Some(2));
    }
}
