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
    mtu.on_too_big(9000, None, 1);
    assert_eq!(mtu.poll_probe(now), Some(1472));
    mtu.on_probe_sent(1);
    mtu.on_acked(1, 1472);
    mtu.on_too_big(1472, None, 2);
    assert_eq!((mtu.current(), mtu.poll_probe(now)), (BASE, Some(1452)));
}

#[test]
fn what_the_first_link_is_known_to_carry_is_used_at_once() {
    let (mut mtu, next) = settled();
    let now = Instant::now();
    mtu.on_too_big(1472, Some(1252), next);
    assert_eq!((mtu.current(), mtu.poll_probe(now)), (1252, None));
    // What was under way then came through before the link got narrower.
    assert_eq!(mtu.on_acked(next - 1, 1472), None);
    assert_eq!(mtu.current(), 1252);
    // A kernel that contradicts itself is not believed.
    mtu.on_too_big(1252, Some(1300), next);
    assert_eq!(mtu.current(), BASE);
}

#[test]
fn a_probe_that_never_left_is_not_waited_for() {
    let mut mtu = MtuDiscovery::new(BASE, 9000);
    let now = Instant::now();
    assert_eq!(mtu.poll_probe(now), Some(9000));
    mtu.on_probe_sent(1);
    mtu.on_too_big(9000, Some(1472), 2);
    assert!(mtu.take_probe(1) && !mtu.take_probe(1));
    assert_eq!(mtu.poll_probe(now), Some(1472));
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
        events in prop::collection::vec((0..8_u8, 0..40_u64, any::<u16>()), 0..200),
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
                4 => mtu.on_too_big(size, None, packet),
                6 => mtu.on_too_big(size, Some(size / 2), packet),
                5 => { mtu.on_non_probe_lost(packet, size); }
                _ => now += Duration::from_secs(u64::from(size)),
            }
            prop_assert!((BASE..=mtu.ceiling).contains(&mtu.current()));
        }
    }
}
