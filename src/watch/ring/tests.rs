use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::watch::{
    event::transport::{Change, Event, Limit, Reaction, Rule, Spent, Spurious, State},
    why::{LAST, Why},
};

const MS: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;

fn about(n: u64) -> About {
    About {
        connection: n,
        destination: n,
        name: "Tal".to_owned(),
        client: SocketAddr::from(([127, 0, 0, 1], 1000 + n as u16)),
        congestion: "cubic",
    }
}

fn state(window: u64) -> Step {
    Step::State(State {
        window,
        ssthresh: None,
        in_flight: window / 2,
        in_flight_max: window,
        pacing_rate: window * 20,
        latest_rtt: 50 * MS,
        longest_rtt: 50 * MS + Duration::from_micros(window),
        smoothed_rtt: 50 * MS,
        min_rtt: 50 * MS,
        phase: "slow_start",
        limit: Limit::Window,
        spent: Spent::default(),
    })
}

fn cut(before: u64, largest: u64) -> Step {
    let rule = Rule::PacketThreshold {
        threshold: 3,
        largest_acked: largest + 3,
    };
    Step::Window(Change {
        before,
        after: before / 2,
        ssthresh: Some(before / 2),
        in_flight: 0,
        phase: "recovery",
        cause: Cause::Loss(Event {
            packets: 1,
            bytes: 1200,
            largest,
            until: largest + 10,
            rule,
        }),
        reaction: Reaction::Multiplied {
            tenths: 5,
            of: before,
            least: 2400,
        },
    })
}

fn changes(rings: &Rings) -> Vec<usize> {
    rings.each(|record| Some(record.changes.len()))
}

#[test]
fn samples_get_coarser_with_age_and_keep_their_extremes() {
    let rings = Rings::new(MIB);
    let start = Instant::now();
    let mut recorder = rings.begin(about(1), None, start);
    for n in 0..100_000_u64 {
        let window = match n {
            7_000 => 90_000,
            60_000 => 1_000,
            _ => 20_000 + n % 100,
        };
        recorder.on_step(start + MS * 5 * n as u32, &state(window));
    }
    rings.each(|record| {
        let samples = &record.samples;
        let times: Vec<_> = samples.iter().map(|sample| sample.from).collect();
        assert!(times.is_sorted() && times.first() == Some(&start));
        assert_eq!(samples.iter().map(|s| s.window_max).max(), Some(90_000));
        assert_eq!(samples.iter().map(|s| s.window_min).min(), Some(1_000));
        assert_eq!(samples.iter().map(|s| s.rtt_max_us).max(), Some(140_000));
        assert_eq!(samples.iter().map(|s| s.in_flight_max).max(), Some(90_000));
        let [first, second, .., before, last] = &times[..] else {
            panic!("{} samples", times.len());
        };
        // The newest are as they were told, the oldest stand for many.
        assert_eq!(*last - *before, MS * 5);
        assert!(*second - *first > MS * 500, "{:?}", *second - *first);
        Some(())
    });
    assert!(rings.used() as u64 <= MIB);
}

#[test]
fn a_thousand_sessions_keep_within_the_budget_and_no_cut_is_dropped() {
    let budget = 64 * MIB;
    let rings = Rings::new(budget);
    let start = Instant::now();
    let mut recorders: Vec<_> = (0..1000)
        .map(|n| rings.begin(about(n), None, start))
        .collect();
    for n in 0..400_u64 {
        for recorder in &mut recorders {
            let now = start + MS * 5 * n as u32;
            recorder.on_step(now, &state(20_000 + n));
            if n % 4 == 0 {
                recorder.on_step(now, &cut(20_000 + n, n * 10));
            }
        }
        assert!(rings.used() as u64 <= budget, "{}", rings.used());
    }
    assert_eq!(changes(&rings), vec![100; 1000]);
    assert_eq!(held(&rings), rings.used());
}

/// What all records hold, reckoned one allocation at a time.
fn held(rings: &Rings) -> usize {
    let allocated = |bytes: usize| if bytes == 0 { 0 } else { bytes + 16 };
    let of = |record: &Record| {
        let boxes = record.changes.iter().map(|noted| {
            allocated(noted.fate.as_deref().map_or(0, size_of_val))
                + allocated(noted.undone.as_deref().map_or(0, size_of_val))
        });
        allocated(size_of::<Record>())
            // The place, its two counts, and two entries in the list.
            + allocated(size_of::<Place>() + 2 * 8)
            + 2 * 8
            + allocated(record.about.name.capacity())
            + allocated(record.changes.capacity() * size_of::<Noted>())
            + allocated(record.samples.capacity() * size_of::<Sample>())
            + allocated(record.spurious.capacity() * size_of::<Late>())
            + allocated(record.before.capacity() * size_of::<SocketAddr>())
            + allocated(record.lost_by.capacity() * size_of::<(&str, u64)>())
            + boxes.sum::<usize>()
    };
    rings.each(|record| Some(of(record))).into_iter().sum()
}

/// Sessions that do all that takes memory, of which `ends` of four end; the budget holds at every moment.
fn crowd(budget: u64, sessions: u64, rounds: u64, ends: u64) -> (Rings, Vec<Recorder>) {
    let rings = Rings::new(budget);
    let start = Instant::now();
    let holds = |what: &str| {
        let used = rings.used() as u64;
        assert!(used <= budget, "{used} of {budget} bytes after {what}");
    };
    let mut recorders = Vec::new();
    for n in 0..sessions {
        let name = "n".repeat(255);
        recorders.push(rings.begin(About { name, ..about(n) }, None, start));
        holds("a beginning");
    }
    for n in 0..rounds {
        let now = start + MS * 5 * n as u32;
        let spurious = Spurious {
            number: n * 10,
            sent_at: start,
            distance: 4,
            late: MS,
            undoes: true,
        };
        let to = about(n).client;
        let address = Step::Address {
            from: to,
            to,
            new_path: false,
        };
        for recorder in &mut recorders {
            for step in [
                state(20_000 + n),
                cut(20_000, n * 10),
                Step::Spurious(spurious),
                address,
            ] {
                recorder.on_step(now, &step);
                holds("a step");
            }
        }
    }
    let mut nth = 0;
    recorders.retain(|_| {
        nth += 1;
        holds("an end");
        nth % 4 >= ends
    });
    holds("the last end");
    assert_eq!(held(&rings), rings.used());
    (rings, recorders)
}

#[test]
fn more_sessions_than_there_is_room_for_keep_within_the_budget_whether_they_are_over_or_not() {
    for ends in [0, 1, 3] {
        let (rings, live) = crowd(64 * MIB, 1000, 200, ends);
        assert_eq!(rings.unkept(), 0);
        drop(live);
        let (rings, live) = crowd(MIB, 1000, 50, ends);
        let kept = rings.each(|record| record.ended.is_none().then_some(record.about.connection));
        assert!(kept.len() > 50, "{}", kept.len());
        assert_eq!(kept.len() + rings.unkept(), live.len());
        // A new one that there is room for is known.
        drop(live);
        assert_eq!(rings.unkept(), 0);
        let _next = rings.begin(about(7), None, Instant::now());
        assert!(rings.each(|record| Some(record.ended.is_none()))[0]);
        assert!(rings.used() as u64 <= MIB);
    }
}

#[test]
fn ten_thousand_sessions_and_the_least_budget() {
    let (rings, live) = crowd(MIB, 10_000, 3, 2);
    assert!(rings.unkept() > 4_000 && rings.unkept() < live.len());
    // With more room those that come are known, and with less again fewer of those that are.
    rings.set_budget(256 * MIB);
    let start = Instant::now();
    let more: Vec<_> = (0..1000)
        .map(|n| rings.begin(about(n), None, start))
        .collect();
    let known = || rings.each(|record| record.ended.is_none().then_some(record.about.connection));
    assert_eq!(known()[..1000], (0..1000).rev().collect::<Vec<_>>()[..]);
    let before = known().len();
    rings.set_budget(MIB);
    assert!(rings.used() as u64 <= MIB);
    assert!(known().len() < before, "those that came last are left out");
    assert_eq!(known().len() + rings.unkept(), live.len() + more.len());
    assert_eq!(held(&rings), rings.used());
    drop((live, more));
    assert_eq!((known().len(), rings.unkept()), (0, 0));
}

#[test]
fn sessions_that_are_over_go_first_and_the_last_of_them_longest() {
    let rings = Rings::new(4 * MIB);
    let start = Instant::now();
    let mut lives = rings.begin(about(0), None, start);
    for n in 1..100 {
        let mut recorder = rings.begin(about(n), None, start);
        (0..400).for_each(|n| recorder.on_step(start, &cut(20_000, n)));
        lives.on_step(start, &cut(20_000, n));
    }
    let kept = rings.each(|record| Some(record.about.connection));
    assert!(kept.len() > 5 && kept.len() < 60, "{kept:?}");
    let newest: Vec<u64> = (0..kept.len() as u64 - 1).map(|n| 99 - n).collect();
    assert_eq!(kept[..kept.len() - 1], newest);
    // What is under way is whole.
    assert_eq!(kept.last(), Some(&0));
    assert_eq!(changes(&rings).last(), Some(&99));
    // A smaller budget is kept at once.
    rings.set_budget(MIB);
    assert!(rings.used() as u64 <= MIB && changes(&rings).last() == Some(&99));
}

#[test]
fn one_that_is_too_much_by_itself_starts_over_and_says_since_when() {
    let rings = Rings::new(MIB);
    let start = Instant::now();
    let mut recorder = rings.begin(about(1), None, start);
    for n in 0..20_000_u64 {
        recorder.on_step(start + MS * n as u32, &state(20_000));
        recorder.on_step(start + MS * n as u32, &cut(20_000, n));
    }
    assert!(rings.used() as u64 <= MIB);
    let now = start + MS * 20_000;
    let why = rings.each(|record| Some(Why::of(record, LAST, now)));
    assert_eq!((why[0].cuts, why[0].changes.len()), (20_000, LAST));
    let forgotten = why[0].unknown.iter().any(|text| text.contains("forgotten"));
    assert!(forgotten, "{:?}", why[0].unknown);
}

#[test]
fn the_cut_that_was_wrong_is_the_one_that_is_said_to_be_undone() {
    let rings = Rings::new(MIB);
    let start = Instant::now();
    let mut recorder = rings.begin(about(1), None, start);
    recorder.on_step(start + MS, &cut(40_000, 100));
    recorder.on_step(start + MS * 2, &cut(20_000, 200));
    let spurious = Spurious {
        number: 205,
        sent_at: start,
        distance: 4,
        late: MS,
        undoes: true,
    };
    recorder.on_step(start + MS * 3, &Step::Spurious(spurious));
    let Step::Window(change) = cut(10_000, 0) else {
        unreachable!();
    };
    let undo = Change {
        before: 10_000,
        after: 20_000,
        cause: Cause::Undone { number: 205 },
        reaction: Reaction::Restored,
        ..change
    };
    recorder.on_step(start + MS * 3, &Step::Window(undo));
    let undone = rings.each(|record| {
        Some(
            record
                .changes
                .iter()
                .map(|n| n.undone.is_some())
                .collect::<Vec<_>>(),
        )
    });
    assert_eq!(undone, [[false, true, false]]);
}

#[test]
fn a_client_is_found_by_what_it_is_and_was_called_and_its_other_connections_are_named() {
    let rings = Rings::new(MIB);
    let start = Instant::now();
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let of = |connection: u64, name: &str, client: SocketAddr| About {
        connection,
        destination: connection + 0x100,
        name: name.to_owned(),
        client,
        congestion: "cubic",
    };
    let mut first = rings.begin(of(1, "Tal", at(1000)), None, start);
    let _stranger = rings.begin(
        of(2, "Tal", SocketAddr::from(([10, 0, 0, 9], 1))),
        None,
        start,
    );
    let _ada = rings.begin(of(3, "Ada", at(1003)), None, start);
    for to in 1010..1030 {
        let (from, to) = (at(to - 1), at(to));
        let new_path = false;
        first.on_step(start, &Step::Address { from, to, new_path });
    }
    drop(first);
    // It goes on over another one.
    let _second = rings.begin(of(4, "Tal", at(1004)), None, start);
    let found = |who: &str| -> Vec<_> {
        let found = Why::all(&rings, who, LAST, start);
        let ids = found.into_iter().map(|why| (why.connection_id, why.others));
        ids.collect()
    };
    let id = |n: u64| format!("{n:016x}");
    let one = (id(1), vec![id(4)]);
    // By where it is, where it was of late, and either side's id.
    for who in [
        "127.0.0.1:1029",
        "127.0.0.1:1028",
        "127.0.0.1:1021",
        &id(1),
        &id(0x101),
    ] {
        assert_eq!(found(who), std::slice::from_ref(&one), "{who}");
    }
    assert_eq!(found(&id(0xa).to_uppercase()), []);
    // What is longer ago is forgotten: a client that moves all the time takes no more memory.
    assert_eq!(found("127.0.0.1:1020"), []);
    // By its name all are found, the newest first; another host's client of that name is another.
    let all = [(id(4), vec![id(1)]), (id(2), vec![]), one];
    assert_eq!(found("Tal"), all);
    assert_eq!(found("Ada"), [(id(3), vec![])]);
    let told = Why::all(&rings, &id(4), LAST, start)[0].lines().join("\n");
    let other = format!(
        "other connections of Tal from 127.0.0.1, the newest first: {}",
        id(1)
    );
    assert!(told.contains(&other), "{told}");
}
