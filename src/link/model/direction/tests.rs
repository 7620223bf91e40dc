use std::{num::NonZeroU64, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{config::Policer, link::Blackout};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn options(list: &str) -> LinkOptions {
    let mut options = LinkOptions::default();
    options.set_list(list).expect(list);
    options.check().expect(list);
    options
}

/// Numbered packets of 1000 bytes.
fn packet(number: u16) -> Vec<u8> {
    let mut packet = vec![0; 1000];
    packet[..2].copy_from_slice(&number.to_be_bytes());
    packet
}

fn number(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[0], packet[1]])
}

/// Everything that comes out until nothing is under way, with its time after `start`.
fn drain(link: &mut Direction<Vec<u8>>, start: Instant) -> Vec<(Duration, Vec<u8>)> {
    let mut arrived = Vec::new();
    while let Some(now) = link.poll_timeout() {
        while let Some(packet) = link.poll_output(now) {
            arrived.push((now - start, packet));
        }
    }
    arrived
}

/// Hands in `count` packets, one every `gap`, and takes everything that comes out.
fn run(
    link: &mut Direction<Vec<u8>>,
    start: Instant,
    gap: Duration,
    count: u16,
) -> Vec<(Duration, Vec<u8>)> {
    let mut arrived = Vec::new();
    for n in 0..count {
        let now = start + gap * u32::from(n);
        while let Some(due) = link.poll_timeout().filter(|due| *due <= now) {
            arrived.extend(link.poll_output(due).map(|packet| (due - start, packet)));
        }
        link.handle_input(packet(n), now);
    }
    arrived.extend(drain(link, start));
    arrived
}

fn conserved(counters: &Counters) -> bool {
    counters.sent + counters.duplicated
        == counters.delivered + counters.lost.total() + counters.under_way
}

#[test]
fn without_options_a_packet_is_through_at_once() {
    let now = Instant::now();
    let mut link = Direction::new(LinkOptions::default(), 1, now);
    for n in 0..100 {
        link.handle_input(packet(n), now);
        assert_eq!(link.poll_output(now), Some(packet(n)));
    }
    assert_eq!(link.poll_output(now), None);
    assert_eq!(link.poll_timeout(), None);
    let expected = Counters {
        sent: 100,
        sent_bytes: 100_000,
        delivered: 100,
        delivered_bytes: 100_000,
        ..Counters::default()
    };
    assert_eq!(link.counters(), expected);
}

#[test]
fn rate_and_delay_are_exact() {
    let start = Instant::now();
    // 1000 bytes in 1 ms, and room for three of them.
    let mut link = Direction::new(options("rate=8mbit,queue=3kB,delay=25ms"), 1, start);
    for n in 0..6 {
        link.handle_input(packet(n), start);
    }
    assert_eq!(link.counters().queued_bytes, 3000);
    assert_eq!(link.counters().lost.queue, 2);
    // When the first is sent, the queue has room for one.
    link.handle_input(packet(6), start + ms(1));
    link.handle_input(packet(7), start + ms(1));
    let arrived: Vec<_> = drain(&mut link, start)
        .iter()
        .map(|(at, packet)| (at.as_micros(), number(packet)))
        .collect();
    let expected = [
        (26_000, 0),
        (27_000, 1),
        (28_000, 2),
        (29_000, 3),
        (30_000, 6),
    ];
    assert_eq!(arrived, expected);
    let counters = link.counters();
    assert_eq!((counters.lost.queue, counters.queued_bytes_max), (3, 3000));
    assert_eq!((counters.queued_bytes, counters.under_way), (0, 0));
}

#[test]
fn the_nth_packet_has_its_fate_whatever_the_time() {
    let everything = options("loss=20,burst=3,duplicate=10,corrupt=10");
    let fates = |seed, gap: fn(u64) -> Duration| {
        let mut now = Instant::now();
        let mut link = Direction::new(everything, seed, now);
        let mut arrived = Vec::new();
        for n in 0..2000 {
            now += gap(u64::from(n));
            link.handle_input(packet(n), now);
            arrived.extend(std::iter::from_fn(|| link.poll_output(now)));
        }
        arrived
    };
    let steady = fates(7, |_| ms(1));
    assert_eq!(steady, fates(7, |n| ms(n * 7919 % 100)));
    assert_eq!(steady, fates(7, |_| Duration::ZERO));
    assert_ne!(steady, fates(8, |_| ms(1)));
}

#[test]
fn what_the_queue_drops_shifts_no_fate() {
    let lost = |list: &str| {
        let start = Instant::now();
        let mut link = Direction::new(options(list), 5, start);
        let arrived = run(&mut link, start, ms(1), 1000);
        let arrived: Vec<_> = arrived.iter().map(|(_, packet)| number(packet)).collect();
        (arrived, link.counters().lost)
    };
    let (all, _) = lost("loss=30");
    // A rate that half of them exceed.
    let (half, losses) = lost("loss=30,rate=4mbit,queue=5kB");
    assert!(losses.queue > 400, "{losses:?}");
    assert!(half.iter().all(|number| all.binary_search(number).is_ok()));
}

#[test]
fn jitter_keeps_the_order_and_its_bounds() {
    let start = Instant::now();
    let mut link = Direction::new(options("delay=25ms,jitter=5ms"), 1, start);
    let arrived = run(&mut link, start, ms(20), 1000);
    let delays: Vec<_> = arrived
        .iter()
        .enumerate()
        .map(|(n, (at, packet))| {
            assert_eq!(usize::from(number(packet)), n);
            *at - ms(20 * n as u64)
        })
        .collect();
    assert!(delays.iter().all(|delay| (ms(20)..=ms(30)).contains(delay)));
    assert!(delays.iter().any(|delay| *delay < ms(21)));
    assert!(delays.iter().any(|delay| *delay > ms(29)));
    // Closer together than the jitter, they queue up behind a late one.
    let start = start + ms(30_000);
    let arrived = run(&mut link, start, Duration::from_micros(1), 1000);
    assert!(arrived.is_sorted_by_key(|(_, packet)| number(packet)));
    assert_eq!(link.counters().reordered, 0);
}

#[test]
fn a_share_of_the_packets_is_overtaken() {
    let start = Instant::now();
    let mut link = Direction::new(options("reorder=25,reorder_by=5ms,delay=10ms"), 3, start);
    let arrived = run(&mut link, start, ms(1), 4000);
    assert_eq!(arrived.len(), 4000);
    let late = arrived
        .iter()
        .filter(|(at, packet)| *at == ms(15 + u64::from(number(packet))))
        .count();
    assert!((900..1100).contains(&late), "{late}");
    // Nearly every late one: of five in a row hardly ever all are late.
    let reordered = link.counters().reordered;
    assert!(
        reordered <= late as u64 && reordered + 10 > late as u64,
        "{reordered}"
    );
}

#[test]
fn a_copy_comes_behind_its_packet_and_is_never_damaged() {
    let start = Instant::now();
    let mut link = Direction::new(options("duplicate=50,corrupt=100"), 3, start);
    for n in 0..1000 {
        link.handle_input(packet(n), start);
    }
    let arrived = drain(&mut link, start);
    let counters = link.counters();
    assert!((450..550).contains(&counters.duplicated), "{counters:?}");
    assert_eq!(counters.corrupted, 1000);
    assert_eq!(counters.delivered, 1000 + counters.duplicated);
    assert_eq!(counters.reordered, 0);
    let whole = (0..1000)
        .map(packet)
        .collect::<std::collections::HashSet<_>>();
    let intact = arrived.iter().filter(|(_, packet)| whole.contains(packet));
    assert!(intact.count() as u64 >= counters.duplicated);
}

#[test]
fn a_blackout_takes_what_is_sent_in_it() {
    let start = Instant::now();
    let mut link = Direction::new(options("blackout=50ms/20ms,delay=10ms"), 1, start);
    let arrived = run(&mut link, start, ms(1), 140);
    let arrived: Vec<_> = arrived.iter().map(|(_, packet)| number(packet)).collect();
    assert_eq!(arrived, (0..50).chain(70..120).collect::<Vec<_>>());
    assert_eq!(link.counters().lost.blackout, 40);
    // Another black-out begins with a time that works; the same one goes on.
    let now = start + ms(195);
    link.set_options(options("blackout=50ms/20ms,delay=1ms"), now);
    link.handle_input(packet(0), now);
    assert_eq!(link.counters().lost.blackout, 41);
    link.set_options(options("blackout=10ms/20ms"), now);
    link.handle_input(packet(0), now);
    link.handle_input(packet(0), now + ms(10));
    assert_eq!(link.counters().lost.blackout, 42);
}

#[test]
fn options_change_while_packets_are_under_way() {
    let start = Instant::now();
    let mut link = Direction::new(options("rate=8kbit,queue=100kB,delay=1s"), 1, start);
    for n in 0..10 {
        link.handle_input(packet(n), start);
    }
    // The first has been sent for 500 of its 1000 ms, then everything goes a thousand times
    // faster.
    link.set_options(options("rate=8mbit,queue=1kB"), start + ms(500));
    link.handle_input(packet(10), start + ms(500));
    assert_eq!(link.counters().lost.queue, 1);
    let arrived: Vec<_> = drain(&mut link, start)
        .iter()
        .map(|(at, packet)| (at.as_millis(), number(packet)))
        .collect();
    assert_eq!(
        arrived,
        (0..10)
            .map(|n| (501 + u128::from(n), n))
            .collect::<Vec<_>>()
    );
    // A shorter wire does not let new packets overtake those on it.
    link.set_options(options("delay=1s"), start + ms(600));
    link.handle_input(packet(1), start + ms(600));
    link.set_options(LinkOptions::default(), start + ms(700));
    link.handle_input(packet(2), start + ms(700));
    let arrived: Vec<_> = drain(&mut link, start)
        .iter()
        .map(|(at, packet)| (at.as_millis(), number(packet)))
        .collect();
    assert_eq!(arrived, [(1600, 1), (1600, 2)]);
}

#[test]
fn the_memory_has_a_bound() {
    let start = Instant::now();
    let mut link = Direction::new(options("delay=1h,duplicate=50"), 1, start);
    let big = vec![0; 1 << 20];
    for _ in 0..1000 {
        link.handle_input(big.clone(), start);
    }
    let counters = link.counters();
    assert!(counters.under_way < 128, "{counters:?}");
    assert!(counters.lost.memory > 870, "{counters:?}");
    assert!(conserved(&counters));
    // Packets of nothing are counted, too.
    let mut link = Direction::new(options("delay=1h"), 1, start);
    for _ in 0..(MAX_HELD / OVERHEAD + 5) {
        link.handle_input(Vec::new(), start);
    }
    assert_eq!(link.counters().lost.memory, 5);
}

#[test]
fn time_does_not_go_back() {
    let start = Instant::now();
    let mut link = Direction::new(options("delay=10ms"), 1, start + ms(100));
    link.handle_input(packet(0), start);
    assert_eq!(link.poll_timeout(), Some(start + ms(110)));
    assert_eq!(link.poll_output(start), None);
    assert_eq!(link.poll_output(start + ms(110)), Some(packet(0)));
}

fn any_options() -> impl Strategy<Value = LinkOptions> {
    let percent = || prop_oneof![Just(0.0), 0.0..100.0, any::<f64>()];
    let time = || prop_oneof![Just(0), 0..100_u64, any::<u64>()].prop_map(Duration::from_millis);
    let impairments = (percent(), percent(), percent(), percent());
    let burst = prop::option::of(prop_oneof![1.0..10.0, any::<f64>()]);
    let rate = prop::option::of(prop_oneof![1..1_000_000_000_u64, any::<u64>()]);
    let queue = prop::option::of(prop_oneof![0..10_000_usize, any::<usize>()]);
    let blackout = prop::option::of((time(), time()));
    let times = (time(), time(), prop::option::of(time()));
    let policer = prop::option::of((
        1..1_000_000_000_u64,
        prop_oneof![0..10_000_usize, any::<usize>()],
    ));
    let aqm = prop::option::of(prop_oneof![Just(Aqm::CoDel), Just(Aqm::Red)]);
    let before = (policer, aqm, any::<bool>());
    (impairments, burst, rate, (queue, before), blackout, times).prop_map(
        |((loss, reorder, duplicate, corrupt), burst, rate, (queue, before), blackout, times)| {
            LinkOptions {
                loss,
                burst,
                delay: times.0,
                jitter: times.1,
                rate: rate.and_then(NonZeroU64::new),
                queue,
                policer: before.0.and_then(|(rate, burst)| {
                    Some(Policer {
                        rate: NonZeroU64::new(rate)?,
                        burst,
                    })
                }),
                aqm: before.1,
                ecn: before.2,
                reorder,
                reorder_by: times.2,
                duplicate,
                corrupt,
                blackout: blackout.map(|(works, dark)| Blackout { works, dark }),
            }
        },
    )
}

proptest! {
    #[test]
    fn no_packet_is_forgotten(
        first in any_options(),
        steps in prop::collection::vec(
            (0..3000_usize, 0..50_000_u64, prop::option::weighted(0.1, any_options())), 0..200,
        ),
        seed: u64,
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut link = Direction::new(first, seed, now);
        for (size, micros, options) in steps {
            now += Duration::from_micros(micros);
            if let Some(options) = options {
                link.set_options(options, now);
            }
            link.handle_input(vec![7; size], now);
            prop_assert!(conserved(&link.counters()));
            while link.poll_output(now).is_some() {}
            prop_assert!(conserved(&link.counters()));
            prop_assert!(link.poll_timeout().is_none_or(|at| at > now));
        }
        // Each timeout gives a packet or takes one from the queue: it ends.
        drain(&mut link, start);
        let counters = link.counters();
        prop_assert!(conserved(&counters));
        prop_assert_eq!((counters.under_way, counters.queued_bytes), (0, 0));
        prop_assert_eq!(link.held, 0);
    }
}
