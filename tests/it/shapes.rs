//! The shapes that the literature gives the controllers, by numbers from `compare`'s own traces: what is
//! expected follows from the RFC, the paper or the draft, and from the link.

use labnet::compare::{
    outcome::{Flow, Phase, Run, median},
    series::Series,
};

use crate::compare::simulate;

/// What the connections' datagrams carry on an Ethernet, and what they take of the link.
const DATAGRAM: f64 = 1472.0;
const PACKET: f64 = 1500.0;

/// The points between two times, without the first.
fn within(series: &Series, from: f64, until: f64) -> Vec<(f64, f64)> {
    let points = series.points();
    points
        .filter(|(at, _)| *at > from && *at <= until)
        .collect()
}

fn values(series: &Series, from: f64, until: f64) -> Vec<f64> {
    let points = within(series, from, until).into_iter();
    points.map(|(_, value)| value).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Part by part of congestion avoidance: when it begins, when it ends, and the window before and after the
/// cut that led to it, in datagrams.
fn teeth(flow: &Flow, end: f64) -> Vec<(f64, f64, f64, f64)> {
    let (cuts, phases) = (&flow.trace.cuts, &flow.trace.phases);
    let ends = cuts.iter().skip(1).map(|cut| cut.at_seconds).chain([end]);
    let teeth = cuts.iter().zip(ends).filter_map(|(cut, until)| {
        let recovers = |phase: &&Phase| {
            phase.name == "recovery"
                && phase.from_seconds <= cut.at_seconds
                && phase.until_seconds > cut.at_seconds
        };
        let from = phases.iter().find(recovers)?.until_seconds;
        let [before, after] = [cut.before_bytes, cut.after_bytes].map(|bytes| bytes as f64);
        (from < until).then_some((from, until, before / DATAGRAM, after / DATAGRAM))
    });
    teeth.collect()
}

/// RFC 9438: after a cut to 0.7 of `W_max` the window follows `C (t - K)^3 + W_max`, C = 0.4 packets a
/// second cubed, concave until `K = cbrt(0.3 W_max / C)` and convex from then on. The link gets twice as
/// fast on the way, so that the curve has room above its plateau.
#[test]
fn cubic_follows_its_curve() {
    let outcome = simulate(
        "congestion = \"cubic\"\nrate = \"20mbit\"\ndelay = \"50ms\"\ntime = \"40s\"\n\
         at = \"15s rate=40mbit\"\n",
    );
    let flow = &outcome.runs[0].flows[0];
    let teeth = teeth(flow, 40.0);
    let (mut highest, mut whole, mut fast) = (0.0, 0, 0);
    for (from, until, before, after) in &teeth {
        let factor = after / before;
        // Of whole datagrams: less than one of hundreds is missing.
        assert!((0.695..=0.7).contains(&factor), "cut by {factor} at {from}");
        // Fast convergence (section 4.7).
        let gives_way = *before < highest;
        highest = if gives_way { before * 0.85 } else { *before };
        fast += usize::from(gives_way);
        let plateau_after = ((highest - after) / 0.4).cbrt();
        let curve = |at: f64| 0.4 * (at - from - plateau_after).powi(3) + highest;
        let window = within(&flow.trace.window_bytes, *from, *until - 1e-6);
        for (at, bytes) in &window {
            let off = bytes / DATAGRAM / curve(*at) - 1.0;
            assert!(
                off.abs() < 0.01,
                "{} s after the cut at {from} the window is {off} off its curve",
                at - from
            );
        }
        let convex =
            flow.trace.phases.iter().find(|phase| {
                phase.name == "convex" && (*from..*until).contains(&phase.from_seconds)
            });
        if let Some(convex) = convex {
            whole += 1;
            let inflection = convex.from_seconds - from;
            // It is told with the first acknowledgement after it.
            assert!(
                (0.0..0.1).contains(&(inflection - plateau_after)),
                "inflection {inflection} s after the cut at {from}, K = {plateau_after}"
            );
            // Slower and slower before it, faster and faster after it.
            let at = |seconds: f64| {
                let later = window.iter().find(|(at, _)| *at >= from + seconds);
                later.map(|(_, bytes)| bytes / DATAGRAM)
            };
            let growth = |a: f64, b: f64| Some(at(b)? - at(a)?);
            let half = plateau_after / 2.0;
            assert!(growth(0.1, half) > growth(half, plateau_after));
            if let Some(late) = growth(1.5 * plateau_after, 2.0 * plateau_after) {
                assert!(Some(late) > growth(plateau_after, 1.5 * plateau_after));
            }
        }
    }
    assert!(
        whole >= 2 && fast >= 2,
        "{whole} whole curves, {fast} fast convergences: {teeth:?}"
    );
}

/// RFC 9002 and every textbook: half at a loss, then a datagram more each round trip. On a link that is
/// always busy, a window of `w` lasts `w / rate`, so that between two cuts `w^2` grows by `2 rate t`: the
/// tooth is straight over round trips, and bends over time as they become longer.
#[test]
fn new_reno_draws_a_saw() {
    let outcome = simulate(
        "congestion = \"new_reno\"\nrate = \"20mbit\"\ndelay = \"25ms\"\ntime = \"40s\"\n",
    );
    let flow = &outcome.runs[0].flows[0];
    let rate = 20e6 / 8.0 / PACKET;
    // The wire holds 50 ms, the queue as much.
    let holds = 2.0 * rate * 0.05;
    let teeth = teeth(flow, 40.0);
    let mut whole = 0;
    for (index, (from, until, before, after)) in teeth.iter().enumerate() {
        let factor = after / before;
        assert!((0.499..=0.5).contains(&factor), "cut by {factor} at {from}");
        if index == 0 {
            // Slow start sent twice what there is room for, before it heard of the first loss.
            assert!(
                (1.9..2.2).contains(&(before / holds)),
                "{before} of {holds}"
            );
            continue;
        }
        if index > 1 {
            // One round trip more than what overflows, and what waits to be acknowledged together.
            assert!(
                (1.0..1.08).contains(&(before / holds)),
                "{before} of {holds}"
            );
        }
        let window = within(&flow.trace.window_bytes, *from, *until - 1e-6);
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            continue;
        };
        if last.0 - first.0 < 5.0 {
            continue;
        }
        whole += 1;
        for (at, bytes) in &window {
            let expected = ((first.1 / DATAGRAM).powi(2) + 2.0 * rate * (at - first.0)).sqrt();
            let off = bytes / DATAGRAM - expected;
            // It moves by whole datagrams.
            assert!(off.abs() < 2.5, "{off} datagrams off {expected} at {at}");
        }
        // By the round trips that the sender measured, of which a window is a little longer: packets are
        // acknowledged several at once, and the first of them has waited.
        let rtts = within(&flow.trace.rtt_seconds, *from, *until);
        let rounds: f64 = rtts
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0) / pair[0].1)
            .sum();
        let growth = (last.1 - first.1) / DATAGRAM / rounds;
        assert!(
            (0.9..1.02).contains(&growth),
            "{growth} datagrams a round trip"
        );
    }
    assert!(whole >= 4, "{teeth:?}");
}

/// Brakmo and Peterson 1995: each flow keeps alpha to beta packets in the queue, 2 to 4, and loses none,
/// once slow start is over.
#[test]
fn vegas_keeps_the_queue_flat() {
    for flows in [1, 2, 3] {
        let outcome = simulate(&format!(
            "flows = \"{flows}xvegas\"\nrate = \"{}mbit\"\ndelay = \"25ms\"\nqueue = \"2bdp\"\ntime = \"8s\"\n",
            3 * flows
        ));
        let run = &outcome.runs[0];
        let settled = 3.0;
        for flow in &run.flows {
            let late = flow
                .trace
                .losses
                .iter()
                .filter(|loss| loss.at_seconds > settled);
            assert_eq!(late.count(), 0, "{flows} flows lose packets");
        }
        // As each packet finds it.
        let queue = values(&run.queue_bytes, settled, 8.0);
        let packets = mean(&queue) / PACKET / f64::from(flows);
        assert!(
            (2.0..=4.0).contains(&packets),
            "{flows} flows: {packets} packets each"
        );
        let most = queue.iter().copied().fold(0.0, f64::max) / PACKET;
        assert!(
            most <= 4.0 * f64::from(flows) + 4.0,
            "{flows} flows: {most} packets at most"
        );
    }
}

fn phases<'a>(flow: &'a Flow, name: &str) -> Vec<&'a Phase> {
    let phases = flow.trace.phases.iter();
    phases.filter(|phase| phase.name == name).collect()
}

/// draft-ietf-ccwg-bbr section 5.3.3: a probe each two to three seconds, with 1.25 of the bandwidth, then
/// 0.9 of it until the queue is gone, then the bandwidth itself (less a hundredth, section 5.6.2); between
/// probes nothing waits.
#[test]
fn bbr_probes_at_its_gains_and_times() {
    let outcome = simulate(
        "congestion = \"bbr\"\nrate = \"20mbit\"\ndelay = \"25ms\"\nqueue = \"4bdp\"\ntime = \"40s\"\n",
    );
    let run = &outcome.runs[0];
    let flow = &run.flows[0];
    let (pacing, queue) = (&flow.trace.pacing_bits_per_second, &run.queue_bytes);
    let link = 20e6 * DATAGRAM / PACKET;
    let ups = phases(flow, "probe_bw_up");
    assert!((11..=18).contains(&ups.len()), "{} probes", ups.len());
    let all = &flow.trace.phases;
    for (index, up) in all.iter().enumerate() {
        if up.name != "probe_bw_up" || index + 3 > all.len() - 1 {
            continue;
        }
        let [down, cruise, refill] = [1, 2, 3].map(|later| &all[index + later]);
        let names = [down, cruise, refill].map(|phase| phase.name.as_str());
        assert_eq!(
            names,
            ["probe_bw_down", "probe_bw_cruise", "probe_bw_refill"]
        );
        let rates = |phase: &Phase| values(pacing, phase.from_seconds, phase.until_seconds);
        let steady = median(rates(cruise)).expect("it is told");
        assert!(
            (0.985..1.0).contains(&(steady / link)),
            "cruises at {steady}"
        );
        let most = rates(up).into_iter().fold(0.0, f64::max) / steady;
        assert!((1.235..1.265).contains(&most), "probes with {most}");
        let least = rates(down).into_iter().fold(f64::INFINITY, f64::min) / steady;
        assert!((0.885..0.915).contains(&least), "drains with {least}");
        // Two to three seconds from one Down to the next Refill, told with an acknowledgement.
        let wait = refill.from_seconds - down.from_seconds;
        assert!((2.0..3.1).contains(&wait), "waits {wait} s");
        // One round trip.
        let refilling = refill.until_seconds - refill.from_seconds;
        assert!(
            (0.05..0.07).contains(&refilling),
            "refills for {refilling} s"
        );
        let waiting = values(queue, cruise.from_seconds, cruise.until_seconds);
        assert!(
            mean(&waiting) < PACKET,
            "{} B wait in Cruise",
            mean(&waiting)
        );
        let probed = values(queue, up.from_seconds, down.until_seconds);
        assert!(
            probed.into_iter().fold(0.0, f64::max) > 10.0 * PACKET,
            "probes nothing"
        );
    }
    // Its Cruise shows the least round trip: nothing has to be done to see it.
    assert!(phases(flow, "probe_rtt").is_empty());
}

/// Section 5.3.4.3: where a neighbour keeps a queue, the least round trip is looked for after 5 s without it,
/// for 200 ms and a round trip, with half of what the path holds in flight.
#[test]
fn bbr_looks_for_the_least_round_trip() {
    let outcome =
        simulate("flows = \"bbr,cubic\"\nrate = \"20mbit\"\ndelay = \"25ms\"\ntime = \"40s\"\n");
    let run: &Run = &outcome.runs[0];
    let flow = &run.flows[0];
    let looks = phases(flow, "probe_rtt");
    assert!(looks.len() >= 6, "{} times", looks.len());
    for pair in looks.windows(2) {
        let pause = pair[1].from_seconds - pair[0].until_seconds;
        // Told with an acknowledgement, one of which comes in a tenth of a second.
        assert!((5.0..5.1).contains(&pause), "{pause} s between two");
    }
    for look in &looks {
        let lasts = look.until_seconds - look.from_seconds;
        // What is in flight has to come down first, in a round trip.
        assert!((0.2..0.35).contains(&lasts), "lasts {lasts} s");
        let trace = &flow.trace;
        let [rates, windows, rtts] = [
            &trace.pacing_bits_per_second,
            &trace.window_bytes,
            &trace.rtt_seconds,
        ]
        .map(|series| values(series, look.from_seconds, look.until_seconds));
        let bandwidth = rates.into_iter().fold(0.0, f64::max) / 0.99 / 8.0;
        let least = rtts.into_iter().fold(f64::INFINITY, f64::min);
        let window = windows.into_iter().fold(f64::INFINITY, f64::min);
        let half = bandwidth * least / 2.0;
        assert!(window <= half * 1.02, "{window} of {half} B in flight");
    }
}
