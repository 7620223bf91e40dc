//! What a link tells of its packets, held against what came out of it.

mod managed;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::watch::event::link::{Congestion, Loss, Observer, Outcome, Overtaken, Passage, Queue};

/// A verdict with its payload.
#[derive(Debug, Clone)]
struct Heard {
    way: Way,
    number: u64,
    offered: Instant,
    size: usize,
    payload: Vec<u8>,
    queue: Queue,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Hearing(Mutex<Vec<Heard>>, Mutex<Vec<[u64; 2]>>);

impl Observer for Hearing {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        self.0.lock().expect("no panic").push(Heard {
            way: verdict.way,
            number: verdict.number,
            offered: verdict.offered,
            size: verdict.size,
            payload: verdict.payload.to_vec(),
            queue: verdict.queue,
            outcome: verdict.outcome,
        });
    }

    fn on_overtaken(&self, overtaken: &Overtaken<'_>) {
        let told = [overtaken.number, overtaken.packets];
        self.1.lock().expect("no panic").push(told);
    }
}

impl Hearing {
    fn all(&self) -> Vec<Heard> {
        self.0.lock().expect("no panic").clone()
    }
}

fn options(list: &str) -> LinkOptions {
    let mut options = LinkOptions::default();
    options.set_list(list).expect(list);
    options
}

/// The Nth packet: its number, and bytes up to its size.
fn packet(number: u64, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size.max(8)];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    packet
}

/// What came out, with its time.
type Arrived = Vec<(Instant, Vec<u8>)>;

/// Hands in packets after these gaps, and takes everything that comes out.
fn run(
    options: LinkOptions,
    seed: u64,
    packets: &[(u64, usize)],
) -> (Vec<Heard>, Arrived, Counters) {
    let start = Instant::now();
    let hearing = Arc::new(Hearing::default());
    let mut link = Link::new(options, options, seed, start);
    link.watch(hearing.clone());
    let other = Arc::new(Hearing::default());
    link.watch(other.clone());
    let mut now = start;
    let mut arrived = Vec::new();
    let mut take = |link: &mut Link<Vec<u8>>, until: Option<Instant>| {
        while let Some(due) = link
            .poll_timeout()
            .filter(|due| until.is_none_or(|now| *due <= now))
        {
            while let Some((way, packet)) = link.poll_output(due) {
                assert_eq!(way, Way::Up);
                arrived.push((due, packet));
            }
        }
    };
    for (number, (gap, size)) in packets.iter().enumerate() {
        now += Duration::from_micros(*gap);
        take(&mut link, Some(now));
        link.handle_input(Way::Up, packet(number as u64, *size), now);
    }
    take(&mut link, None);
    assert_eq!(other.all().len(), hearing.all().len());
    check_overtaken(&hearing);
    (hearing.all(), arrived, link.direction(Way::Up).counters())
}

/// Who has overtaken whom, by the times of the verdicts alone.
fn check_overtaken(hearing: &Hearing) {
    let arrivals: Vec<(u64, Instant)> = (hearing.all().iter())
        .filter_map(|heard| match heard.outcome {
            Outcome::Delivered(passage) => Some((heard.number, passage.arrives)),
            Outcome::Lost(_) => None,
        })
        .collect();
    let mut expected: Vec<[u64; 2]> = (arrivals.iter())
        .map(|(number, at)| {
            let ahead = |other: &&(u64, Instant)| other.0 > *number && other.1 < *at;
            [*number, arrivals.iter().filter(ahead).count() as u64]
        })
        .filter(|[_, packets]| *packets > 0)
        .collect();
    let mut told = hearing.1.lock().expect("no panic").clone();
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
}

proptest! {
    #[test]
    fn a_verdict_is_what_happens(
        (loss, burst) in (0_u32..40, prop::option::of(1_u32..5)),
        (delay, jitter) in (0_u32..50, 0_u32..20),
        rate in prop::option::of(100_u32..20_000),
        queue in 1_u32..40,
        (reorder, duplicate, corrupt) in (0_u32..40, 0_u32..20, 0_u32..20),
        blackout in prop::option::of((1_u32..200, 1_u32..100)),
        (policed, aqm) in (any::<bool>(), prop::option::of(prop_oneof![Just("codel"), Just("red")])),
        packets in prop::collection::vec((0_u64..5_000, 8_usize..1500), 1..300),
        seed: u64,
    ) {
        let mut list = format!(
            "loss={loss},delay={delay}ms,jitter={jitter}ms,queue={queue}kB,reorder={reorder},\
             duplicate={duplicate},corrupt={corrupt}"
        );
        if let Some(burst) = burst {
            list += &format!(",burst={burst}");
        }
        if let Some(rate) = rate {
            list += &format!(",rate={rate}kbit");
        }
        if let Some((works, dark)) = blackout {
            list += &format!(",blackout={works}ms/{dark}ms");
        }
        if policed {
            list += ",policer=2mbit,3kB";
        }
        if let Some(aqm) = aqm {
            list += &format!(",aqm={aqm}");
        }
        let options = options(&list);
        let (heard, arrived, counters) = run(options, seed, &packets);
        // One on each packet, about that packet.
        prop_assert_eq!(heard.len(), packets.len());
        let mut numbers: Vec<u64> = heard.iter().map(|heard| heard.number).collect();
        numbers.sort_unstable();
        prop_assert!(numbers.iter().copied().eq(0..packets.len() as u64));
        let mut told = Losses::default();
        let (mut expected, mut corrupted, mut duplicated) = (Vec::new(), 0, 0);
        let mut lost_by_chance = vec![false; packets.len()];
        for one in &heard {
            let size = packets[one.number as usize].1;
            prop_assert_eq!(&one.payload, &packet(one.number, size));
            prop_assert_eq!((one.way, one.size), (Way::Up, size));
            prop_assert_eq!(one.queue.rate, options.rate);
            match one.outcome {
                Outcome::Delivered(passage) => {
                    prop_assert_eq!(one.offered + passage.total(), passage.arrives);
                    prop_assert_eq!(passage.delay, options.delay);
                    let jitter = passage.travelled.abs_diff(passage.delay);
                    prop_assert!(jitter <= options.jitter);
                    corrupted += u64::from(passage.corrupted.is_some());
                    expected.push((passage.arrives, one.payload.clone(), passage.corrupted));
                    if passage.duplicated {
                        duplicated += 1;
                        expected.push((passage.arrives, one.payload.clone(), None));
                    }
                }
                Outcome::Lost(loss) => {
                    match loss {
                        Loss::Random | Loss::Burst { .. } => {
                            told.random += 1;
                            lost_by_chance[one.number as usize] = true;
                        }
                        Loss::QueueFull => {
                            told.queue += 1;
                            prop_assert!(one.queue.bytes + one.size > one.queue.limit);
                        }
                        Loss::Policed { tokens } => {
                            told.policer += 1;
                            prop_assert!(policed && tokens < one.size as u64);
                        }
                        Loss::Managed(Congestion::CoDel { sojourn }) => {
                            told.codel += 1;
                            prop_assert!(sojourn >= Duration::from_millis(5));
                        }
                        Loss::Managed(Congestion::Red { average }) => {
                            told.red += 1;
                            prop_assert!(average as usize >= one.queue.limit / 6);
                        }
                        Loss::Blackout => told.blackout += 1,
                        Loss::Memory => told.memory += 1,
                    }
                }
            }
        }
        prop_assert_eq!(told, counters.lost);
        prop_assert_eq!((corrupted, duplicated), (counters.corrupted, counters.duplicated));
        // A burst is one only behind another loss by chance; what was dropped before may have been one.
        for one in &heard {
            if let Outcome::Lost(Loss::Burst { nth }) = one.outcome {
                prop_assert!(burst.is_some() && nth > 1);
                let dropped = |number: u64| {
                    let mut of_it = heard.iter().filter(|heard| heard.number == number);
                    let before = |outcome| matches!(
                        outcome,
                        Outcome::Lost(Loss::QueueFull | Loss::Policed { .. } | Loss::Managed(_))
                    );
                    of_it.any(|heard| before(heard.outcome))
                };
                let before = one.number - 1;
                prop_assert!(lost_by_chance[before as usize] || dropped(before));
            }
        }
        // What comes out is what was told, at the very time.
        prop_assert_eq!(arrived.len(), expected.len());
        for (at, bytes) in &arrived {
            let found = expected.iter().position(|(arrives, told, corrupted)| {
                let as_told = |(place, (came, told)): (usize, (&u8, &u8))| {
                    (came == told) != (*corrupted == Some(place))
                };
                arrives == at
                    && bytes.len() == told.len()
                    && bytes.iter().zip(told).enumerate().all(as_told)
            });
            prop_assert!(found.is_some(), "{:?} was not told", bytes);
            expected.swap_remove(found.expect("just asked"));
        }
    }
}

#[test]
fn the_queue_a_packet_finds_is_that_of_its_moment() {
    // 1000 bytes in 1 ms, and room for two.
    let list = "rate=8mbit,queue=2kB,delay=10ms";
    let packets: Vec<(u64, usize)> = [0, 0, 0, 0, 1500, 0].map(|gap| (gap, 1000)).into();
    let (mut heard, _, _) = run(options(list), 1, &packets);
    heard.sort_by_key(|heard| heard.number);
    let found: Vec<_> = heard
        .iter()
        .map(|heard| {
            (
                heard.queue.bytes,
                heard.queue.time().as_micros(),
                heard.outcome.name(),
            )
        })
        .collect();
    let expected = [
        (0, 0, "delivered"),
        (0, 0, "delivered"),
        (1000, 1000, "delivered"),
        (2000, 2000, "lost_queue"),
        (1000, 1000, "delivered"),
        (2000, 2000, "lost_queue"),
    ];
    assert_eq!(found, expected);
    let waited = heard.iter().filter_map(|heard| match heard.outcome {
        Outcome::Delivered(passage) => {
            Some((passage.queued.as_micros(), passage.total().as_micros()))
        }
        Outcome::Lost(_) => None,
    });
    let expected = [(0, 11_000), (1000, 12_000), (2000, 13_000), (1500, 12_500)];
    assert_eq!(waited.collect::<Vec<_>>(), expected);
}

#[test]
fn a_packet_behind_a_late_one_is_told_to_wait_and_one_held_back_by_how_much() {
    let passages = |list: &str| -> Vec<Passage> {
        let packets: Vec<(u64, usize)> = vec![(10, 100); 2000];
        let (heard, ..) = run(options(list), 3, &packets);
        let through = heard.iter().filter_map(|heard| match heard.outcome {
            Outcome::Delivered(passage) => Some(passage),
            Outcome::Lost(_) => None,
        });
        through.collect()
    };
    let waiting = passages("delay=10ms,jitter=5ms");
    assert!(
        waiting
            .iter()
            .any(|passage| passage.kept_behind > Duration::from_millis(1))
    );
    assert!(waiting.is_sorted_by_key(|passage| passage.arrives));
    let held = passages("delay=10ms,reorder=25,reorder_by=7ms");
    let late = held.iter().filter(|passage| !passage.held_back.is_zero());
    assert!(
        late.clone()
            .all(|passage| passage.held_back == Duration::from_millis(7))
    );
    assert!((400..600).contains(&late.count()));
}
