//! The policer, and what manages the queue.

use super::*;

/// A packet of 1000 bytes, and its ECN field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marked {
    number: u64,
    ect: bool,
    ce: bool,
}

impl Packet for Marked {
    fn size(&self) -> usize {
        1000
    }

    fn payload(&self) -> &[u8] {
        // What is told of it is what it was: a marked one has another payload.
        if self.ce { b"marked" } else { b"as it was" }
    }

    fn is_ect(&self) -> bool {
        self.ect
    }

    fn set_ce(&mut self) {
        assert!(self.ect, "it is not to be marked");
        self.ce = true;
    }

    fn take(&mut self, _: Damage) -> Option<usize> {
        None
    }
}

/// Hands in `count` packets, one every `gap`: what came out, and what was told of each, by number.
fn run(
    options: LinkOptions,
    seed: u64,
    (count, gap): (u64, Duration),
    is_ect: impl Fn(u64) -> bool,
) -> (Vec<(Duration, Marked)>, Vec<Heard>, Counters) {
    let start = Instant::now();
    let hearing = Arc::new(Hearing::default());
    let mut link = Link::new(options, options, seed, start);
    link.watch(hearing.clone());
    let mut arrived = Vec::new();
    for number in 0..=count {
        let now = start + gap * u32::try_from(number).expect("few");
        let last = number == count;
        while let Some(due) = link.poll_timeout().filter(|due| last || *due <= now) {
            while let Some((_, packet)) = link.poll_output(due) {
                arrived.push((due - start, packet));
            }
        }
        let ect = is_ect(number);
        let ce = false;
        if !last {
            link.handle_input(Way::Up, Marked { number, ect, ce }, now);
        }
    }
    let mut heard = hearing.all();
    heard.sort_by_key(|heard| heard.number);
    assert_eq!(heard.len() as u64, count);
    assert!(heard.iter().all(|heard| heard.payload == b"as it was"));
    (arrived, heard, link.direction(Way::Up).counters())
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_policer_lets_a_burst_through_and_then_its_rate_and_delays_nothing() {
    // A packet a millisecond for a rate of one in four.
    let options = options("policer=2mbit,10kB,delay=5ms");
    let (arrived, heard, counters) = run(options, 1, (1000, MS), |_| true);
    let passed: Vec<u64> = arrived.iter().map(|(_, packet)| packet.number).collect();
    // Ten at once, and what came in meanwhile: 10 + n / 4 >= n + 1 until the thirteenth.
    assert_eq!(passed[..13], (0..13).collect::<Vec<u64>>()[..]);
    assert_eq!(passed[13..16], [16, 20, 24]);
    assert!(passed[13..].windows(2).all(|pair| pair[1] - pair[0] == 4));
    assert_eq!(passed.len(), 10 + 999 / 4);
    assert!(
        arrived
            .iter()
            .all(|(at, packet)| *at == MS * packet.number as u32 + 5 * MS && !packet.ce)
    );
    let tokens: Vec<u64> = heard[13..16]
        .iter()
        .map(|heard| match heard.outcome {
            Outcome::Lost(Loss::Policed { tokens }) => tokens,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tokens, [250, 500, 750]);
    assert_eq!(counters.lost.policer, 1000 - passed.len() as u64);
    assert_eq!(counters.lost.total(), counters.lost.policer);
}

#[test]
fn a_policer_stands_before_the_queue_and_a_changed_one_is_full() {
    let start = Instant::now();
    let mut link = Link::new(
        options("policer=1mbit,2kB,rate=8mbit"),
        LinkOptions::default(),
        1,
        start,
    );
    let hand_in = |link: &mut Link<Vec<u8>>| {
        for _ in 0..5 {
            link.handle_input(Way::Up, vec![0; 1000], start);
        }
    };
    hand_in(&mut link);
    assert_eq!(link.direction(Way::Up).counters().lost.policer, 3);
    assert_eq!(link.direction(Way::Up).counters().queued_bytes, 1000);
    link.set_options(Way::Up, options("policer=1mbit,4kB,rate=8mbit"), start);
    hand_in(&mut link);
    assert_eq!(link.direction(Way::Up).counters().lost.policer, 4);
    link.set_options(Way::Up, options("rate=8mbit"), start);
    hand_in(&mut link);
    assert_eq!(link.direction(Way::Up).counters().lost.policer, 4);
}

#[test]
fn codel_drops_what_has_waited_and_marks_it_where_it_may() {
    // 8 Mbit/s are offered to 7.8, for seconds: without management 100 ms of queue.
    let list = "rate=7800kbit,queue=97500B,aqm=codel";
    let (arrived, heard, counters) = run(options(list), 1, (5000, MS), |_| true);
    assert_eq!((counters.marked, counters.lost.queue), (0, 0));
    assert!(arrived.iter().all(|(_, packet)| !packet.ce));
    let sojourns: Vec<Duration> = heard
        .iter()
        .filter_map(|heard| match heard.outcome {
            Outcome::Lost(Loss::Managed(Congestion::CoDel { sojourn })) => Some(sojourn),
            Outcome::Lost(other) => panic!("{other:?}"),
            Outcome::Delivered(_) => None,
        })
        .collect();
    assert_eq!(sojourns.len() as u64, counters.lost.codel);
    assert!(sojourns.iter().all(|sojourn| *sojourn >= 5 * MS));
    // It has the queue under control: who does not answer is dropped often enough for that.
    let late = &heard[4500..];
    let waits = late.iter().filter_map(|heard| match heard.outcome {
        Outcome::Delivered(passage) => Some(passage.queued),
        Outcome::Lost(_) => None,
    });
    let longest = waits.max();
    assert!(longest < Some(30 * MS), "{longest:?}");

    let (arrived, heard, counters) = run(options(&format!("{list},ecn=on")), 1, (5000, MS), |n| {
        n % 2 == 0
    });
    assert!(
        counters.marked > 10 && counters.lost.codel > 10,
        "{counters:?}"
    );
    let marked: Vec<u64> = arrived
        .iter()
        .filter(|(_, packet)| packet.ce)
        .map(|(_, packet)| packet.number)
        .collect();
    assert_eq!(marked.len() as u64, counters.marked);
    for heard in &heard {
        let is_marked = marked.contains(&heard.number);
        match heard.outcome {
            Outcome::Delivered(passage) => {
                assert_eq!(passage.marked.is_some(), is_marked);
                if let Some(Congestion::CoDel { sojourn }) = passage.marked {
                    assert_eq!(sojourn, passage.queued);
                }
            }
            Outcome::Lost(Loss::Managed(_)) => assert!(heard.number % 2 == 1),
            // Marks make nothing less of who does not answer them.
            Outcome::Lost(Loss::QueueFull) => {}
            Outcome::Lost(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn red_drops_between_its_thresholds_and_marks_but_not_above() {
    // The queue's 60 kB have thresholds at 10 and 30 kB.
    let list = "rate=7mbit,queue=60kB,aqm=red";
    let offer = (20_000, MS);
    let (_, heard, counters) = run(options(list), 5, offer, |_| true);
    assert_eq!(
        (counters.marked, counters.lost.queue),
        (0, 0),
        "{counters:?}"
    );
    // One in eight is too much: so many are dropped, at the mean of that probability or above.
    let share = counters.lost.red as f64 / 20_000.0;
    assert!((0.11..0.14).contains(&share), "{share}");
    for heard in &heard {
        match heard.outcome {
            Outcome::Lost(Loss::Managed(Congestion::Red { average })) => {
                assert!((10_000..60_000).contains(&average), "{average}");
            }
            Outcome::Lost(other) => panic!("{other:?}"),
            Outcome::Delivered(_) => {}
        }
    }
    let dropped = |seed| -> Vec<u64> {
        let (_, heard, _) = run(options(list), seed, offer, |_| true);
        let dropped = heard
            .iter()
            .filter(|heard| heard.outcome.name() == "lost_red");
        dropped.map(|heard| heard.number).collect()
    };
    assert_eq!(dropped(5), dropped(5));
    assert_ne!(dropped(5), dropped(6));

    // Marks alone do not help against who does not answer them: above the upper threshold it drops.
    let (_, heard, counters) = run(options(&format!("{list},ecn=on")), 5, offer, |_| true);
    assert!(
        counters.marked > 100 && counters.lost.red > 1000,
        "{counters:?}"
    );
    for heard in &heard {
        match heard.outcome {
            Outcome::Lost(Loss::Managed(Congestion::Red { average })) => {
                assert!(average >= 29_999, "{average}");
            }
            Outcome::Delivered(Passage {
                marked: Some(Congestion::Red { average }),
                ..
            }) => assert!((10_000..=30_000).contains(&average), "{average}"),
            _ => {}
        }
    }
}

#[test]
fn what_manages_the_queue_shifts_no_other_fate() {
    let lost = |list: &str| -> Vec<u64> {
        let (_, heard, _) = run(options(list), 9, (3000, MS), |_| true);
        let lost = heard
            .iter()
            .filter(|heard| heard.outcome.name() == "lost_random");
        lost.map(|heard| heard.number).collect()
    };
    let plain = lost("loss=3,rate=7mbit,queue=60kB");
    for aqm in ["codel", "red"] {
        let managed = lost(&format!("loss=3,rate=7mbit,queue=60kB,aqm={aqm}"));
        let both = managed
            .iter()
            .filter(|number| plain.contains(number))
            .count();
        // But for the few that the queue took instead.
        assert!(both * 10 > plain.len() * 7, "{both} of {}", plain.len());
        assert!(managed.len() > both, "those that a full queue dropped");
    }
}
