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
        // It is a probe, perhaps one that was thought lost, or was sent before the fall-back and
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

    /// The kernel refused to send a packet of this size: the interface, or the path as the kernel
    /// knows it, has a smaller MTU. If packets of this size were in use, the base size is, until
    /// a probe tells more. A probe that had a packet number stays under way until it is lost.
    pub(super) fn on_too_big(&mut self, size: u16) {
        if size <= self.base {
            self.current = self.base;
            return;
        }
        if size <= self.current {
            self.current = self.base;
            self.restart();
        }
        self.found_too_large(size);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: u16 = 1200;

    /// The same numbers for the same seed (an xorshift generator).
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) % sides
        }
    }

    /// Lets probes go over a path until none is due; how many there were.
    fn search(mtu: &mut MtuDiscovery, path: u16, first: u64, now: Instant) -> u64 {
        let mut probes = 0;
        while let Some(size) = mtu.poll_probe(now) {
            assert_eq!(mtu.poll_probe(now), Some(size));
            let packet = first + probes;
            mtu.on_probe_sent(packet);
            assert!(mtu.is_probe(packet));
            assert_eq!(mtu.poll_probe(now), None);
            if size <= path {
                assert_eq!(mtu.on_acked(packet, size), Some(size));
            } else {
                mtu.on_probe_lost(packet);
            }
            assert!(!mtu.is_probe(packet));
            probes += 1;
            assert!(probes < 100);
        }
        probes
    }

    #[test]
    fn one_probe_suffices_where_the_largest_size_works() {
        let mut mtu = MtuDiscovery::new(BASE, 1472);
        let now = Instant::now();
        assert_eq!(search(&mut mtu, 1500, 1, now), 1);
        assert_eq!((mtu.current(), mtu.next_timeout()), (1472, None));
    }

    #[test]
    fn the_sizes_of_ethernet_are_tried_before_halving() {
        for path in COMMON {
            let mut mtu = MtuDiscovery::new(BASE, 1500);
            let probes = search(&mut mtu, path, 1, Instant::now());
            assert_eq!(mtu.current(), path);
            assert!(probes <= 3 * 4 + 1, "{probes} probes");
        }
    }

    #[test]
    fn a_size_is_too_large_after_three_lost_probes() {
        let mut mtu = MtuDiscovery::new(BASE, 1472);
        let now = Instant::now();
        for packet in 0..3 {
            assert_eq!(mtu.poll_probe(now), Some(1472));
            mtu.on_probe_sent(packet);
            mtu.on_probe_lost(packet);
        }
        assert_eq!(mtu.poll_probe(now), Some(1452));
    }

    #[test]
    fn larger_sizes_are_tried_again_after_ten_minutes() {
        let mut mtu = MtuDiscovery::new(BASE, 1472);
        let now = Instant::now();
        search(&mut mtu, 1300, 1, now);
        let found = mtu.current();
        assert!((1280..=1300).contains(&found), "{found}");
        assert_eq!(mtu.next_timeout(), Some(now + RAISE));
        assert_eq!(mtu.poll_probe(now + RAISE - Duration::from_secs(1)), None);
        search(&mut mtu, 1472, 100, now + RAISE);
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn a_limit_below_the_base_is_the_base() {
        let mut mtu = MtuDiscovery::new(BASE, 1);
        assert_eq!(search(&mut mtu, 1500, 1, Instant::now()), 0);
        assert_eq!(mtu.current(), BASE);
    }

    #[test]
    fn what_the_kernel_refuses_is_not_tried_further() {
        let mut mtu = MtuDiscovery::new(BASE, 9000);
        let now = Instant::now();
        assert_eq!(mtu.poll_probe(now), Some(9000));
        mtu.on_too_big(9000);
        assert_eq!(mtu.poll_probe(now), Some(1472));
        mtu.on_probe_sent(1);
        mtu.on_acked(1, 1472);
        mtu.on_too_big(1472);
        assert_eq!((mtu.current(), mtu.poll_probe(now)), (BASE, Some(1452)));
    }

    #[test]
    fn a_probe_acknowledged_late_counts() {
        let mut mtu = MtuDiscovery::new(BASE, 1472);
        let now = Instant::now();
        mtu.poll_probe(now);
        mtu.on_probe_sent(1);
        mtu.on_probe_lost(1);
        assert_eq!(mtu.poll_probe(now), Some(1472));
        mtu.on_probe_sent(2);
        assert_eq!(mtu.on_acked(1, 1472), Some(1472));
        assert!(mtu.is_probe(2));
        mtu.on_probe_lost(2);
        assert_eq!((mtu.current(), mtu.poll_probe(now)), (1472, None));
    }

    /// Discovery that has settled at 1472 with a history of delivered packets; the next number.
    fn settled() -> (MtuDiscovery, u64) {
        let mut mtu = MtuDiscovery::new(BASE, 1472);
        search(&mut mtu, 1500, 0, Instant::now());
        (1..200).for_each(|packet| assert_eq!(mtu.on_acked(packet, 1472), None));
        (mtu, 200)
    }

    #[test]
    fn large_packets_lost_five_times_among_small_ones_are_a_black_hole() {
        let (mut mtu, next) = settled();
        let now = Instant::now();
        for burst in 0..5 {
            let packet = next + burst * 10;
            for lost in packet..packet + 5 {
                let fell = mtu.on_non_probe_lost(lost, 1472);
                assert_eq!(fell, (burst == 4 && lost == packet).then_some(BASE));
            }
            mtu.on_acked(packet + 5, 100);
        }
        assert_eq!((mtu.current(), mtu.poll_probe(now)), (BASE, None));
        assert_eq!(mtu.next_timeout(), Some(now + BLACK_HOLE));
        // What was sent before tells nothing.
        assert_eq!(mtu.on_acked(next - 1, 1472), None);
        search(&mut mtu, 1400, next + 100, now + BLACK_HOLE);
        assert!((1380..=1400).contains(&mtu.current()));
    }

    #[test]
    fn packets_of_a_size_between_do_not_hide_a_black_hole() {
        let (mut mtu, next) = settled();
        let fell = (0..20).find_map(|burst| {
            mtu.on_acked(next + burst * 2 + 1, 1300);
            mtu.on_non_probe_lost(next + burst * 2, 1472)
        });
        assert_eq!(fell, Some(BASE));
    }

    #[test]
    fn a_large_packet_that_arrives_clears_the_suspicion() {
        let (mut mtu, next) = settled();
        for burst in 0..100 {
            let packet = next + burst * 4;
            assert_eq!(mtu.on_non_probe_lost(packet, 1472), None);
            mtu.on_acked(packet + 1, 100);
            if burst % 3 == 2 {
                assert_eq!(mtu.on_acked(packet + 2, 1472), None);
            }
        }
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn an_outage_is_no_black_hole() {
        let (mut mtu, next) = settled();
        for outage in 0..20 {
            let packet = next + outage * 100;
            for lost in packet..packet + 50 {
                let size = if lost % 10 == 0 { 100 } else { 1472 };
                assert_eq!(mtu.on_non_probe_lost(lost, size), None);
            }
            mtu.on_acked(packet + 50, 100);
        }
        assert_eq!(mtu.current(), 1472);
    }

    /// Sends packets of the sizes that `size` picks over a path that loses so many in a hundred,
    /// and that drops all above `limit`; the first black hole's packet. A loss is known three
    /// packets later.
    fn lossy(seed: u64, percent: u64, limit: u16, size: impl Fn(&mut Dice) -> u16) -> Option<u64> {
        let (mut mtu, first) = settled();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut lost = Vec::new();
        for packet in first..first + 5_000 {
            let size = size(&mut dice).min(mtu.current());
            if dice.roll(100) < percent || size > limit {
                lost.push((packet, size));
                continue;
            }
            assert_eq!(mtu.on_acked(packet, size), None);
            let known = lost.iter().take_while(|(lost, _)| lost + 3 <= packet);
            for (lost, size) in lost.drain(..known.count()) {
                if mtu.on_non_probe_lost(lost, size).is_some() {
                    return Some(packet - first);
                }
            }
        }
        None
    }

    fn full(_: &mut Dice) -> u16 {
        1472
    }

    fn half_small(dice: &mut Dice) -> u16 {
        [1472, 80][dice.roll(2) as usize]
    }

    fn mostly_small(dice: &mut Dice) -> u16 {
        [1472, 80, 300, 60][dice.roll(4) as usize]
    }

    fn any_size(dice: &mut Dice) -> u16 {
        50 + dice.roll(1423) as u16
    }

    #[test]
    fn heavy_random_loss_of_all_sizes_is_no_black_hole() {
        for seed in 0..40 {
            for percent in [2, 10, 30, 50] {
                for size in [full, half_small, mostly_small, any_size] {
                    assert_eq!(
                        lossy(seed, percent, 1472, size),
                        None,
                        "{percent} %, {seed}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_black_hole_is_found_under_random_loss() {
        for seed in 0..40 {
            for (percent, within) in [(0, 110), (2, 150), (10, 400)] {
                for size in [half_small, mostly_small, any_size] {
                    let found = lossy(seed, percent, 1300, size);
                    assert!(
                        found.is_some_and(|at| at < within),
                        "{percent} %, {found:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn finds_the_path_within_the_step(path in BASE..3000, max in BASE..9001) {
            let mut mtu = MtuDiscovery::new(BASE, max);
            search(&mut mtu, path, 1, Instant::now());
            let best = path.min(max);
            prop_assert!(mtu.current() <= best && best - mtu.current() < STEP);
        }

        #[test]
        fn no_order_of_events_leaves_the_limits(
            events in prop::collection::vec((0..7_u8, 0..40_u64, any::<u16>()), 0..200),
        ) {
            let mut mtu = MtuDiscovery::new(BASE, 9000);
            let mut now = Instant::now();
            for (event, packet, size) in events {
                match event {
                    0 | 1 => if mtu.poll_probe(now).is_some_and(|size| size > BASE) {
                        mtu.on_probe_sent(packet);
                    }
                    2 => { mtu.on_acked(packet, size); }
                    3 => mtu.on_probe_lost(packet),
                    4 => mtu.on_too_big(size),
                    5 => { mtu.on_non_probe_lost(packet, size); }
                    _ => now += Duration::from_secs(u64::from(size)),
                }
                prop_assert!((BASE..=mtu.ceiling).contains(&mtu.current()));
            }
        }
    }
}
