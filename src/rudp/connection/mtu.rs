//! How large packets may be: datagram packetization layer path MTU discovery (RFC 8899).
//!
//! Sizes are UDP payload bytes. Probes are packets padded to the size in question; that one is
//! lost says nothing about congestion. When packets larger than the base stop arriving while
//! smaller ones do, the path has a black hole for them, and the base size is used again.

use std::time::{Duration, Instant};

/// Sizes worth trying before others: what Ethernet's 1500 bytes leave over IPv4 and over IPv6.
const COMMON: [u16; 2] = [1472, 1452];
/// The search ends when the answer is known so closely.
const STEP: u16 = 20;
/// A size is too large after so many lost probes (MAX_PROBES, RFC 8899 section 5.1.2).
const PROBES: u8 = 3;
/// How long a found size is kept before larger ones are tried again (PMTU_RAISE_TIMER, RFC 8899
/// section 5.1.1).
const RAISE: Duration = Duration::from_secs(600);
/// How long the base size is kept after a black hole was found.
const BLACK_HOLE: Duration = Duration::from_secs(60);
/// Losses that chance alone explains with a greater probability than this are no black hole. Where
/// nothing else was lost lately, the fifth burst of losses is below it.
const CHANCE: f64 = 1.0 / 10_000_000.0;
/// Packets over which the usual loss rate is averaged.
const HISTORY: f64 = 64.0;

/// The packet size of one path.
#[derive(Debug)]
pub(super) struct MtuDiscovery {
    base: u16,
    /// The largest size that is wanted.
    ceiling: u16,
    current: u16,
    /// The smallest size known to be too large, or one above the ceiling.
    too_large: u32,
    /// The size being probed and how many of its probes were lost.
    candidate: (u16, u8),
    /// The probe under way.
    in_flight: Option<(u64, u16)>,
    search: Search,
    evidence: Evidence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Running,
    /// Begins so long after the next poll.
    Pausing(Duration),
    /// Begins then.
    PausedUntil(Instant),
    /// The size can't grow.
    Complete,
}

impl MtuDiscovery {
    /// A path on which `base` is taken to work (1200, RFC 9000 section 14) and no more than `max`
    /// is wanted, by either side.
    pub(super) fn new(base: u16, max: u16) -> Self {
        let ceiling = max.max(base);
        Self {
            base,
            ceiling,
            current: base,
            too_large: u32::from(ceiling) + 1,
            candidate: (0, 0),
            in_flight: None,
            search: Search::Running,
            evidence: Evidence::default(),
        }
    }

    /// The size that packets may have now.
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// The size of a probe to send, if one is due. It stays due until
    /// [`on_probe_sent`](Self::on_probe_sent). To be called when a packet could be sent and at
    /// [`next_timeout`](Self::next_timeout).
    pub(super) fn poll_probe(&mut self, now: Instant) -> Option<u16> {
        if let Search::Pausing(pause) = self.search {
            self.search = Search::PausedUntil(now + pause);
        }
        match self.search {
            Search::PausedUntil(end) if now >= end => self.restart(),
            Search::PausedUntil(_) | Search::Complete => return None,
            Search::Running | Search::Pausing(_) => {}
        }
        if self.in_flight.is_some() {
            return None;
        }
        let Some(size) = self.next_candidate() else {
            self.search = match self.current < self.ceiling {
                true => Search::PausedUntil(now + RAISE),
                false => Search::Complete,
            };
            return None;
        };
        if self.candidate.0 != size {
            self.candidate = (size, 0);
        }
        Some(size)
    }

    fn restart(&mut self) {
        self.too_large = u32::from(self.ceiling) + 1;
        self.candidate = (0, 0);
        self.search = Search::Running;
    }

    /// The size to try next: the ceiling, then the common ones, then the middle.
    fn next_candidate(&self) -> Option<u16> {
        let (low, high) = (self.current, self.too_large);
        let open = |&size: &u16| size > low && u32::from(size) < high;
        if open(&self.ceiling) {
            return Some(self.ceiling);
        }
        let common = COMMON.into_iter().find(open);
        common.or_else(|| {
            let width = u16::try_from(high).ok()?.checked_sub(low)?;
            (width > STEP).then(|| low + width / 2)
        })
    }

    /// The probe that was due is on its way as this packet.
    pub(super) fn on_probe_sent(&mut self, packet: u64) {
        self.in_flight = Some((packet, self.candidate.0));
    }

    /// Whether this packet is the probe under way.
    pub(super) fn is_probe(&self, packet: u64) -> bool {
        self.in_flight.is_some_and(|(probe, _)| probe == packet)
    }

    /// A packet was acknowledged, probe or not; returns the new size if it grew.
    pub(super) fn on_acked(&mut self, packet: u64, size: u16) -> Option<u16> {
        if self.is_probe(packet) {
            self.in_flight = None;
        }
        self.evidence
            .on_acked(packet, size, self.base, self.current);
        // The packet is a probe, perhaps one that was thought lost, or was sent before the fall-back and
        // after all that spoke for it.
        if size <= self.current || size > self.ceiling || packet < self.evidence.since {
            return None;
        }
        self.current = size;
        if self.too_large <= u32::from(size) {
            self.too_large = u32::from(self.ceiling) + 1;
        }
        Some(size)
    }

    /// The probe was lost. After three of its size, smaller ones are tried.
    pub(super) fn on_probe_lost(&mut self, packet: u64) {
        let Some((_, size)) = self.in_flight.take_if(|(probe, _)| *probe == packet) else {
            return;
        };
        let (candidate, lost) = &mut self.candidate;
        if *candidate != size {
            return;
        }
        *lost += 1;
        if *lost >= PROBES {
            self.found_too_large(size);
        }
    }

    /// The kernel refused to send a packet of this size: the first link carries less, no more than
    /// `fits` if that is known. If packets of this size were in use, all other links of the path
    /// carry what fits, and it is used at once; where it is not known, the base size is, until a
    /// probe tells more. Acknowledgements of what was sent before, up to the number `next`, tell
    /// nothing of the path as it is now.
    pub(super) fn on_too_big(&mut self, size: u16, fits: Option<u16>, next: u64) {
        let fits = fits.filter(|fits| *fits < size);
        let (base, ceiling) = (self.base, self.ceiling);
        let within = |fits: u16| fits.clamp(base, ceiling);
        if size <= self.current {
            self.current = fits.map_or(self.base, within);
            self.evidence.since = next;
            self.evidence.suspects = None;
            self.restart();
        }
        if size > self.base {
            self.found_too_large(fits.map_or(size, |fits| within(fits) + 1));
        }
    }

    /// Forgets the probe under way if it is this packet, which was not sent; says whether it is.
    pub(super) fn take_probe(&mut self, packet: u64) -> bool {
        let probe = self.in_flight.take_if(|(probe, _)| *probe == packet);
        probe.is_some()
    }

    fn found_too_large(&mut self, size: u16) {
        self.too_large = self.too_large.min(u32::from(size));
        self.candidate = (0, 0);
    }

    /// A packet that was no probe was lost, of any size. If that makes a black hole, the base size
    /// is used again and returned. Losses are told in the order of their numbers, and after the
    /// acknowledgements that came with them.
    pub(super) fn on_non_probe_lost(&mut self, packet: u64, size: u16) -> Option<u16> {
        let suspect = size > self.base && size <= self.current;
        if !self.evidence.on_lost(packet, size, suspect) {
            return None;
        }
        self.current = self.base;
        self.restart();
        self.search = Search::Pausing(BLACK_HOLE);
        Some(self.base)
    }

    /// When [`poll_probe`](Self::poll_probe) should be called though nothing happened.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.search {
            Search::PausedUntil(end) => Some(end),
            Search::Running | Search::Pausing(_) | Search::Complete => None,
        }
    }
}

/// What speaks for a black hole: large packets lost, burst after burst, and none acknowledged that
/// was sent after the first of them. With heavy random loss that happens too, when most packets
/// are small. So it is asked how probable it would be if size did not matter: that out of the
/// packets of a while, of which so many were lost, just all the large ones were.
#[derive(Debug, Default)]
struct Evidence {
    /// The usual loss rate, suspects left out.
    loss_rate: f64,
    /// Packets it is the average of, at most [`HISTORY`].
    weight: f64,
    /// The newest acknowledged packet larger than the base.
    large: Option<(u64, u16)>,
    /// The newest acknowledged packet of the full size at that time.
    full: Option<(u64, u16)>,
    suspects: Option<Suspects>,
    /// The last lost packet, and whether its burst counts as a suspect.
    last_lost: Option<(u64, bool)>,
    /// Packets sent before the last suspect of the last black hole tell nothing.
    since: u64,
}

#[derive(Debug, Clone, Copy)]
struct Suspects {
    bursts: u32,
    first: u64,
    last: u64,
    smallest: u16,
}

impl Evidence {
    fn on_acked(&mut self, packet: u64, size: u16, base: u16, full: u16) {
        self.average(0.0);
        if size <= base {
            return;
        }
        let newer = |known: Option<(u64, u16)>| known.is_none_or(|(known, _)| packet > known);
        if newer(self.large) {
            self.large = Some((packet, size));
        }
        if size >= full && newer(self.full) {
            self.full = Some((packet, size));
        }
        if let Some(suspects) = self.suspects
            && packet > suspects.first
            && size >= suspects.smallest
        {
            self.suspects = None;
            (0..suspects.bursts).for_each(|_| self.average(1.0));
        }
    }

    /// Whether this loss makes a black hole.
    fn on_lost(&mut self, packet: u64, size: u16, suspect: bool) -> bool {
        let burst = self
            .last_lost
            .filter(|&(last, _)| last.checked_add(1) == Some(packet))
            .map(|(_, suspect)| suspect);
        let passed = [self.large, self.full].into_iter().flatten();
        let mut later = passed.filter(|&(later, large)| later > packet && large >= size);
        let suspect = suspect && later.next().is_none() && burst != Some(false);
        self.last_lost = Some((packet, suspect));
        if !suspect {
            self.average(1.0);
            // A burst that takes small packets too is an outage.
            if burst == Some(true)
                && let Some(suspects) = &mut self.suspects
            {
                suspects.bursts = suspects.bursts.saturating_sub(1);
            }
            return false;
        }
        let suspects = self.suspects.get_or_insert(Suspects {
            bursts: 0,
            first: packet,
            last: packet,
            smallest: size,
        });
        suspects.last = packet;
        suspects.smallest = suspects.smallest.min(size);
        if burst.is_some() {
            return false;
        }
        suspects.bursts = suspects.bursts.saturating_add(1);
        let suspects = *suspects;
        if self.chance(suspects.bursts) > CHANCE {
            return false;
        }
        self.suspects = None;
        self.since = suspects.last;
        true
    }

    fn average(&mut self, lost: f64) {
        self.weight = (self.weight + 1.0).min(HISTORY);
        self.loss_rate += (lost - self.loss_rate) / self.weight;
    }

    /// How probable it is that chance picks all the suspects for losses: the product of
    /// (losses - i) / (packets - i).
    fn chance(&self, bursts: u32) -> f64 {
        let lost = self.loss_rate * self.weight + f64::from(bursts);
        let packets = self.weight + f64::from(bursts);
        (0..bursts.min(64))
            .map(f64::from)
            .map(|taken| (lost - taken) / (packets - taken))
            .product()
    }
}

#[cfg(test)]
mod tests;
