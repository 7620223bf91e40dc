//! What the ready experiments answer is so: each claim by the numbers of its own simulated outcome.

use labnet::compare::{
    bounds,
    experiment::Experiment,
    gather,
    outcome::{Flow, Outcome, Run, median},
    plan::Plan,
    ready::{READY, ready},
    recorder::PAYLOAD,
    simulated,
};

use crate::compare::mbit;

/// What a full packet takes of the link, and what it carries of a window.
const PACKET: f64 = 1500.0;
const DATAGRAM: u64 = 1472;

/// Those whose answer speaks of the kernel's TCP: `tests/system/compare.rs`.
const REAL: [&str; 2] = ["three-transports", "head-of-line"];

#[test]
fn every_answer_is_held_to_its_numbers() {
    let held: [(&str, fn()); 12] = [
        ("wifi", wifi),
        ("vegas-against-cubic", vegas_against_cubic),
        ("bufferbloat", bufferbloat),
        ("bbr-beside-cubic", bbr_beside_cubic),
        ("satellite", satellite),
        ("rtt-unfairness", rtt_unfairness),
        ("late-comer", late_comer),
        ("initial-window", initial_window),
        ("reordering", reordering),
        ("loss-sweep", loss_sweep),
        ("policer", policer),
        ("codel", codel),
    ];
    let mut held: Vec<&str> = held.iter().map(|(name, _)| *name).chain(REAL).collect();
    let mut all: Vec<&str> = READY.iter().map(|(name, _)| *name).collect();
    held.sort_unstable();
    all.sort_unstable();
    assert_eq!(held, all, "each has a test of its answer");
}

/// One of them, in virtual time, with some of its options said otherwise.
fn run(name: &str, said: &[(&str, &str)]) -> Outcome {
    let text = ready(name).expect(name);
    let mut experiment = Experiment::read(name, text).expect(name);
    for (key, value) in said.iter().chain(&[("simulate", "")]) {
        experiment.say(key, format!("--{key}"), vec![(*value).to_owned()]);
    }
    let plan = Plan::compile(&experiment).expect(name);
    let runs = plan.runs.iter().map(|run| simulated::run(run).expect(name));
    gather::outcome(&plan, runs.collect())
}

/// The only flow of each run, by its sender's name.
fn alone<'a>(outcome: &'a Outcome, sender: &str) -> (&'a Run, &'a Flow) {
    let mut runs = outcome.runs.iter().map(|run| (run, &run.flows[0]));
    runs.find(|(_, flow)| flow.sender == sender).expect(sender)
}

/// The goodputs of two flows at the same time.
fn both(outcome: &Outcome) -> [f64; 2] {
    let flows: Vec<f64> = outcome.runs[0].flows.iter().map(mbit).collect();
    flows.try_into().expect("two flows")
}

fn p50_rtt(flow: &Flow) -> f64 {
    flow.totals.rtt_seconds.expect("measured").p50
}

/// The mean goodput of a flow in a part of the run, Mbit/s.
fn between(flow: &Flow, from: f64, until: f64) -> f64 {
    let points = flow.trace.goodput_bits_per_second.points();
    let some: Vec<f64> = points
        .filter(|(at, _)| *at > from && *at <= until)
        .map(|(_, rate)| rate / 1e6)
        .collect();
    some.iter().sum::<f64>() / some.len().max(1) as f64
}

#[test]
fn wifi() {
    let outcome = run("wifi", &[]);
    for sender in ["new_reno", "cubic", "vegas", "bbr"] {
        let (_, flow) = alone(&outcome, sender);
        let totals = &flow.totals;
        let (lost, sent) = (totals.packets_lost_seen, totals.packets_sent);
        let loss = lost.expect("counted") as f64 / sent.expect("counted") as f64;
        assert!((0.007..0.014).contains(&loss), "{sender} sees {loss}");
        if sender == "bbr" {
            assert!(mbit(flow) > 0.9 * 20.0, "{}", mbit(flow));
            continue;
        }
        // "About 2.8 Mbit/s", by a window of twelve packets, and an empty queue.
        assert!((2.4..3.4).contains(&mbit(flow)), "{sender}: {}", mbit(flow));
        assert!(totals.queue_delay_seconds.expect("a queue").p50 < 0.000_1);
        let window = &flow.trace.window_bytes;
        let late = window.points().filter(|(at, _)| *at > 2.0);
        let late: Vec<f64> = late.map(|(_, bytes)| bytes / DATAGRAM as f64).collect();
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        assert!((9.0..16.0).contains(&mean), "{sender}: {mean} packets");
    }
    let bound = bounds::mathis(PAYLOAD as f64, 0.05, 0.01).expect("a bound") / 1e6;
    assert!((2.75..2.9).contains(&bound), "{bound}");
}

#[test]
fn vegas_against_cubic() {
    let outcome = run("vegas-against-cubic", &[]);
    let [vegas, cubic] = both(&outcome);
    assert!(vegas < 0.1 * cubic, "{vegas} {cubic}");
    let jain = outcome.runs[0].jain_index.expect("two flows");
    assert!(jain < 0.6, "{jain}");
    let flow = &outcome.runs[0].flows[0];
    // Packet by packet.
    let cuts = &flow.trace.cuts;
    let small =
        |cut: &&labnet::compare::outcome::Cut| cut.before_bytes - cut.after_bytes == DATAGRAM;
    let small = cuts.iter().filter(small).count();
    assert!(
        small > 50 && small * 10 > cuts.len() * 9,
        "{small} of {}",
        cuts.len()
    );
    assert!(p50_rtt(flow) > 0.1, "{}", p50_rtt(flow));
    // The queue is CUBIC's: alone, Vegas has a few packets there.
    let alone = run(
        "vegas-against-cubic",
        &[("flows", "vegas"), ("time", "10s")],
    );
    let delay = |outcome: &Outcome| {
        let delay = outcome.runs[0].flows[0].totals.queue_delay_seconds;
        delay.expect("a queue").p50
    };
    assert!(delay(&alone) < 0.006 && delay(&outcome) > 0.05);
}

#[test]
fn bufferbloat() {
    let deep = run("bufferbloat", &[]);
    let short = run(
        "bufferbloat",
        &[("queue", "1bdp"), ("congestion", "new_reno,cubic")],
    );
    for sender in ["new_reno", "cubic"] {
        let (made, flow) = alone(&deep, sender);
        // Half a second of 20 Mbit/s, for every packet that comes.
        let most = made.queue_bytes.max().expect("a queue");
        assert!(most * 8.0 / 20e6 > 0.49, "{sender}: {most} B");
        assert!(
            flow.totals.rtt_seconds.expect("measured").p95 > 0.5,
            "{sender}"
        );
        assert!(
            flow.totals.packets_lost_by_link > Some(0),
            "{sender} fills it"
        );
        let (_, with_less) = alone(&short, sender);
        let gain = mbit(flow) / mbit(with_less);
        assert!(
            (0.98..1.02).contains(&gain),
            "{sender}: {gain} times the goodput"
        );
    }
    for sender in ["vegas", "bbr"] {
        let (_, flow) = alone(&deep, sender);
        assert_eq!(flow.totals.packets_lost_by_link, Some(0), "{sender}");
        assert!(p50_rtt(flow) < 0.06, "{sender}: {}", p50_rtt(flow));
        assert!(mbit(flow) > 18.5, "{sender}: {}", mbit(flow));
    }
}

#[test]
fn codel() {
    let managed = run("codel", &[]);
    let unmanaged = run("bufferbloat", &[]);
    let marked = run("codel", &[("ecn", "on")]);
    let delay = |flow: &Flow| flow.totals.queue_delay_seconds.expect("a queue").p50;
    let lost = |flow: &Flow| flow.totals.packets_lost_by_link.expect("counted");
    for sender in ["new_reno", "cubic"] {
        let (_, flow) = alone(&managed, sender);
        let (_, before) = alone(&unmanaged, sender);
        assert!(delay(flow) < 0.005, "{sender}: {} s", delay(flow));
        assert!(delay(before) > 40.0 * delay(flow), "{sender}");
        assert!((5..40).contains(&lost(flow)), "{sender}: {}", lost(flow));
        assert!(mbit(flow) < mbit(before), "{sender}");
        let (_, with_ecn) = alone(&marked, sender);
        let totals = &with_ecn.totals;
        let marks = totals.packets_marked_by_link.expect("counted");
        assert!(marks.abs_diff(lost(flow)) <= 5, "{sender}: {marks} marks");
        assert_eq!((lost(with_ecn), totals.sent_again_bytes), (0, Some(0)));
        let gain = mbit(with_ecn) / mbit(flow);
        assert!((0.97..1.03).contains(&gain), "{sender}: {gain}");
    }
    let (_, reno) = alone(&managed, "new_reno");
    let (_, cubic) = alone(&managed, "cubic");
    assert!(mbit(reno) < 0.95 * mbit(cubic));
    let (_, vegas) = alone(&managed, "vegas");
    assert_eq!(lost(vegas), 0);
    let (_, bbr) = alone(&managed, "bbr");
    assert!(delay(bbr) < 0.005 && lost(bbr) > 0);
}

#[test]
fn policer() {
    let outcome = run("policer", &[]);
    for sender in ["new_reno", "cubic", "vegas"] {
        let (_, flow) = alone(&outcome, sender);
        assert!(
            (7.4..8.76).contains(&mbit(flow)),
            "{sender}: {}",
            mbit(flow)
        );
        assert!((0.05..0.052).contains(&p50_rtt(flow)), "{sender}");
        assert!(flow.totals.packets_lost_by_link > Some(50), "{sender}");
    }
    let (_, bbr) = alone(&outcome, "bbr");
    assert!(mbit(bbr) > 9.0, "{}", mbit(bbr));
    assert!((0.05..0.052).contains(&p50_rtt(bbr)));
    assert!(bbr.totals.packets_lost_by_link > Some(50));
}

#[test]
fn bbr_beside_cubic() {
    let [bbr, cubic] = both(&run("bbr-beside-cubic", &[("queue", "0.25bdp")]));
    assert!(
        (1.8..3.0).contains(&(bbr / cubic)),
        "a short queue: {bbr} {cubic}"
    );
    let [bbr, cubic] = both(&run("bbr-beside-cubic", &[("queue", "8bdp")]));
    assert!(cubic > 1.2 * bbr, "a deep queue: {bbr} {cubic}");
    let between = run("bbr-beside-cubic", &[]);
    assert!(
        between.runs[0].jain_index > Some(0.97),
        "{:?}",
        both(&between)
    );
}

#[test]
fn satellite() {
    let outcome = run("satellite", &[]);
    let path = 20e6 / 8.0 * 0.6;
    assert_eq!(path, 1.5e6);
    let (_, reno) = alone(&outcome, "new_reno");
    let first = reno.totals.first_byte_seconds.expect("a byte came");
    let full = reno
        .trace
        .window_bytes
        .points()
        .find(|(_, bytes)| *bytes >= path);
    let (full, _) = full.expect("slow start gets there");
    // The first byte was sent with the first window, half a round trip before it came.
    let rounds = (full - (first - 0.3)) / 0.6;
    assert!((7.6..8.4).contains(&rounds), "{rounds} round trips");
    // After a cut each grows on: datagrams a second, and the round trip meanwhile, in which the queue has a part.
    let growth = |flow: &Flow, least: f64| {
        let cuts = flow.trace.cuts.iter().map(|cut| cut.at_seconds + 1.5);
        let ends = cuts.clone().skip(1).map(|at| at - 1.6).chain([60.0]);
        let stretch = cuts.zip(ends).find(|(from, until)| until - from > least);
        let (from, until) = stretch.expect("a while without a cut");
        let at = |time: f64| {
            let mut points = flow.trace.window_bytes.points();
            points.find(|(at, _)| *at >= time).expect("a window").1
        };
        let until = until.min(from + least);
        let rtts = flow.trace.rtt_seconds.points();
        let rtts = rtts.filter(|(at, _)| (from..until).contains(at));
        let rtt = median(rtts.map(|(_, rtt)| rtt).collect()).expect("measured");
        let grown = (at(until - 0.1) - at(from)) / DATAGRAM as f64;
        (grown / (until - 0.1 - from), rtt)
    };
    let (slow, rtt) = growth(reno, 10.0);
    assert!(
        (0.85..1.1).contains(&(slow * rtt)),
        "new_reno: {slow} datagrams a second, a round trip is {rtt} s"
    );
    let (_, cubic) = alone(&outcome, "cubic");
    let (fast, _) = growth(cubic, 5.0);
    assert!(fast > 10.0 * slow, "cubic: {fast}, new_reno: {slow}");
    assert!(mbit(cubic) > 1.3 * mbit(reno));
}

#[test]
fn rtt_unfairness() {
    let ratios = |flows: &[(&str, &str)]| {
        let outcome = run("rtt-unfairness", flows);
        let [near, far] = both(&outcome);
        let flows = &outcome.runs[0].flows;
        let unlike = p50_rtt(&flows[1]) / p50_rtt(&flows[0]);
        (near / far, unlike, outcome)
    };
    let (goodput, unlike, reno) = ratios(&[]);
    assert!(
        unlike < goodput && goodput < unlike * unlike,
        "{goodput} {unlike}"
    );
    // 20 and 100 ms, and the same queue.
    assert!((3.0..4.5).contains(&unlike), "{unlike}");
    let far = &reno.runs[0].flows[1];
    assert_eq!(far.name, "new_reno@40ms");
    let least = far
        .trace
        .rtt_seconds
        .values
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min);
    assert!((0.1..0.103).contains(&least), "{least}");
    let (goodput, unlike, cubic) = ratios(&[("flows", "cubic,cubic@40ms")]);
    assert!(goodput > unlike, "cubic: {goodput} {unlike}");
    let friendly = cubic.runs[0].flows[0].trace.phases.iter();
    let friendly = friendly.filter(|phase| phase.name == "reno_friendly");
    let friendly: f64 = friendly
        .map(|phase| phase.until_seconds - phase.from_seconds)
        .sum();
    assert!(friendly > 54.0, "{friendly} s of 60");
    let (goodput, unlike, _) = ratios(&[("flows", "bbr,bbr@40ms")]);
    assert!(goodput < 0.75 * unlike, "bbr: {goodput} {unlike}");
    let (goodput, _, _) = ratios(&[("flows", "vegas,vegas@40ms")]);
    assert!(goodput < 1.0, "vegas: {goodput}");
}

#[test]
fn late_comer() {
    let parts = |flows: &[(&str, &str)]| {
        let outcome = run("late-comer", flows);
        move |from: f64, until: f64| {
            let [first, second] =
                [0, 1].map(|flow| between(&outcome.runs[0].flows[flow], from, until));
            // The link stays full.
            assert!(first + second > 18.0, "{first} {second}");
            second / (first + second)
        }
    };
    let share = parts(&[]);
    assert_eq!(share(15.0, 20.0), 0.0);
    assert!(share(20.0, 25.0) < 0.25, "{}", share(20.0, 25.0));
    assert!(
        (0.4..0.6).contains(&share(30.0, 35.0)),
        "{}",
        share(30.0, 35.0)
    );
    assert!(
        share(35.0, 45.0) > 0.55,
        "past each other: {}",
        share(35.0, 45.0)
    );
    assert!(
        (0.4..0.6).contains(&share(50.0, 60.0)),
        "{}",
        share(50.0, 60.0)
    );
    let share = parts(&[("flows", "vegas,vegas+20s")]);
    assert!(
        (0.45..0.6).contains(&share(30.0, 60.0)),
        "vegas: {}",
        share(30.0, 60.0)
    );
    let share = parts(&[("flows", "bbr,bbr+20s")]);
    assert!(
        (0.3..0.45).contains(&share(40.0, 60.0)),
        "bbr: {}",
        share(40.0, 60.0)
    );
}

#[test]
fn initial_window() {
    let times = |said: &[(&str, &str)]| {
        let outcome = run("initial-window", said);
        let flow = |run: &Run| {
            let flow = &run.flows[0];
            assert!(flow.finished, "{flow:?}");
            let lost = flow.totals.packets_lost_by_link.expect("counted");
            (run.swept["initial_window"], flow.seconds, lost)
        };
        outcome.runs.iter().map(flow).collect::<Vec<_>>()
    };
    let fast = times(&[]);
    let windows: Vec<f64> = fast.iter().map(|(window, ..)| *window).collect();
    assert_eq!(windows, [2.0, 4.0, 10.0, 20.0, 50.0]);
    for pair in fast.windows(2) {
        let doublings = (pair[1].0 / pair[0].0).log2();
        let saved = (pair[0].1 - pair[1].1) / 0.05 / doublings;
        assert!(
            (0.6..1.2).contains(&saved),
            "{saved} round trips a doubling: {fast:?}"
        );
    }
    let saved = |from: usize, to: usize| ((fast[from].1 - fast[to].1) / 0.05).round();
    assert_eq!([saved(0, 2), saved(2, 4)], [2.0, 2.0], "{fast:?}");
    let slow = times(&[("rate", "2mbit")]);
    let (ten, fifty) = (slow[2], slow[4]);
    assert!(fifty.2 > 50 && fifty.2 >= 3 * ten.2, "{slow:?}");
    assert!(fifty.1 > 0.97 * ten.1, "{slow:?}");
    // What path and queue hold there.
    let holds = 2.0 * 2e6 / 8.0 * 0.05 / PACKET;
    assert!((16.0..17.5).contains(&holds), "{holds}");
}

#[test]
fn reordering() {
    let outcome = run("reordering", &[]);
    let without = run("reordering", &[("reorder", "0")]);
    for sender in ["new_reno", "cubic", "vegas", "bbr"] {
        let (_, flow) = alone(&outcome, sender);
        let totals = &flow.totals;
        assert!(
            totals.packets_lost_seen > totals.packets_lost_by_link,
            "{sender}"
        );
        assert!(
            totals.packets_spurious > Some(10),
            "{sender} learns that it was wrong"
        );
        // Sooner or later it waits: of what is held back ever less is taken for lost.
        let spurious = flow.trace.losses.iter().filter(|loss| loss.spurious);
        let times: Vec<f64> = spurious.map(|loss| loss.at_seconds).collect();
        let early = times.iter().filter(|at| **at < 0.5).count();
        let a_second = (times.len() - early) as f64 / 19.5;
        assert!(early as f64 / 0.5 > 3.0 * a_second, "{sender}: {times:?}");
        let minds = mbit(flow) / mbit(alone(&without, sender).1);
        assert!((0.97..1.01).contains(&minds), "{sender}: {minds}");
    }
}

#[test]
fn loss_sweep() {
    let outcome = run("loss-sweep", &[("congestion", "new_reno,cubic")]);
    let sweep = outcome.sweep.as_ref().expect("swept");
    let mathis = &sweep.bounds[0];
    assert_eq!((mathis.name.as_str(), mathis.values.len()), ("Mathis", 5));
    let of = |sender: &str| {
        let points = sweep.points.iter().filter(|point| point.sender == sender);
        points
            .map(|point| point.goodput_bits_per_second)
            .collect::<Vec<_>>()
    };
    let (reno, cubic) = (of("new_reno"), of("cubic"));
    let ratio: Vec<f64> = reno
        .iter()
        .zip(&mathis.bits_per_second)
        .map(|(got, bound)| got / bound)
        .collect();
    assert!(
        ratio[..3].iter().all(|ratio| (0.9..1.1).contains(ratio)),
        "{ratio:?}"
    );
    assert!(ratio[3] < 0.9 && ratio[4] < 0.8, "{ratio:?}");
    let half = (reno[0] / reno[2]).sqrt();
    assert!(
        (1.3..1.55).contains(&half),
        "half the loss gives {half} times the goodput"
    );
    let above: Vec<f64> = cubic
        .iter()
        .zip(&reno)
        .map(|(cubic, reno)| cubic / reno)
        .collect();
    assert!(
        above.iter().all(|above| (1.0..1.2).contains(above)),
        "{above:?}"
    );
    assert!(above[0] > above[4], "{above:?}");
    let bbr = run(
        "loss-sweep",
        &[
            ("congestion", "bbr"),
            ("time", "8s"),
            ("sweep", "loss=0.25,4"),
        ],
    );
    for made in &bbr.runs {
        assert!(mbit(&made.flows[0]) > 85.0, "bbr: {}", mbit(&made.flows[0]));
    }
}
