//! `labnet compare` with the kernel's TCP, quinn and labnet's own transport in namespaces, over one link.

use std::process::{Command, Output};

use labnet::compare::outcome::{Flow, Outcome};

use crate::support::calm::Calm;

fn compare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_labnet"))
        .arg("compare")
        .args(arguments)
        .arg("--json")
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .output()
        .expect("labnet starts")
}

fn outcome(arguments: &[&str]) -> Outcome {
    let output = compare(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).expect(&said)
}

/// What must be so of any sender that ran for real over 10 Mbit/s and 10 ms each way.
fn is_plausible(flow: &Flow) {
    let totals = &flow.totals;
    assert_eq!(flow.failure, None, "{}", flow.name);
    assert!(
        totals.goodput_bits_per_second < 10e6,
        "{}: {totals:?}",
        flow.name
    );
    assert!(totals.goodput_bytes > 50_000, "{}: {totals:?}", flow.name);
    let sent = totals.packets_sent.expect("counted");
    assert!(
        sent * 1472 >= totals.goodput_bytes,
        "{}: {totals:?}",
        flow.name
    );
    let rtt = totals.rtt_seconds.expect("measured");
    assert!(rtt.p50 >= 0.0199 && rtt.p95 < 1.0, "{}: {rtt:?}", flow.name);
    assert!(totals.queue_delay_seconds.is_some(), "{}", flow.name);
    // A handshake and a request at least.
    assert!(
        totals.first_byte_round_trips >= Some(1.99),
        "{}: {totals:?}",
        flow.name
    );
    assert!(flow.trace.window_bytes.values.len() > 20, "{}", flow.name);
}

#[test]
#[ignore = "needs root (network namespaces)"]
fn three_transports_share_one_link() {
    let outcome = outcome(&[
        "--flows",
        "cubic,tcp-cubic,quic-cubic,tcp-reno",
        "--time",
        "4s",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
        "--queue",
        "2bdp",
    ]);
    let [run] = &outcome.runs[..] else {
        panic!("all together: {outcome:?}");
    };
    let names: Vec<&str> = run.flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!(names, ["cubic", "tcp-cubic", "quic-cubic", "tcp-reno"]);
    run.flows.iter().for_each(is_plausible);
    let total: f64 = run
        .flows
        .iter()
        .map(|flow| flow.totals.goodput_bits_per_second)
        .sum();
    assert!(total < 10e6, "{total}");
    assert!(run.jain_index > Some(0.25), "{:?}", run.jain_index);
    assert!(outcome.experiment.together && outcome.environment.kernel.is_some());
}

#[test]
#[ignore = "needs root (network namespaces)"]
fn the_kernel_s_packets_are_those_of_the_link() {
    let outcome = outcome(&[
        "--congestion",
        "tcp-cubic,tcp-reno",
        "--size",
        "1MB",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
        "--down",
        "loss=2",
    ]);
    for run in &outcome.runs {
        let [flow] = &run.flows[..] else {
            panic!("one after another: {run:?}");
        };
        is_plausible(flow);
        let totals = &flow.totals;
        assert!(flow.finished, "{}", flow.name);
        assert_eq!(totals.goodput_bytes, 1_000_000);
        let lost = totals.packets_lost_by_link.expect("counted");
        assert!(lost > 3, "{}: nothing was lost", flow.name);
        // What was lost was sent again, and nothing much besides.
        let again = totals.sent_again_bytes.expect("counted");
        assert!(again >= (lost - 2) * 1000, "{}: {totals:?}", flow.name);
    }
}

#[test]
#[ignore = "needs root (network namespaces)"]
fn a_congestion_control_that_the_kernel_has_not_is_told() {
    let output = compare(&["--congestion", "tcp-nosuch"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("no congestion control `nosuch`"), "{said}");
}

/// Eight files over one connection of each: a packet that TCP lost keeps all of them waiting, one that QUIC
/// or RUDP lost only its own.
#[test]
#[ignore = "needs root (network namespaces)"]
fn a_lost_packet_keeps_all_files_of_tcp_waiting() {
    let outcome = outcome(&["head-of-line", "--size", "4MB"]);
    let flows: Vec<&Flow> = outcome.runs.iter().flat_map(|run| &run.flows).collect();
    let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!(names, ["cubic", "tcp-cubic", "quic-cubic"]);
    let stood_still = |flow: &Flow| {
        assert!(flow.finished, "{flow:?}");
        assert_eq!(flow.totals.goodput_bytes, 4_000_000);
        let files = flow.totals.files.expect("several");
        assert_eq!(files.count, 8);
        let last = files.last_whole_seconds.expect("all came");
        assert!(
            (last - flow.seconds).abs() < 0.1,
            "{files:?} {}",
            flow.seconds
        );
        // Once for each packet lost: the same packets get lost for all, as far as they count alike.
        let lost = flow.totals.packets_lost_by_link.expect("counted");
        assert!(lost > 10, "{lost}");
        files.stood_still_seconds / lost as f64
    };
    let [rudp, tcp, quic] = [0, 1, 2].map(|number| stood_still(flows[number]));
    assert!(tcp > 1.5 * rudp && tcp > 1.5 * quic, "{rudp} {tcp} {quic}");
}

/// What `three-transports` answers, with the kernel's own TCP.
#[test]
#[ignore = "needs root (network namespaces)"]
fn the_transports_differ_by_their_handshakes_and_hardly_by_their_goodput() {
    let calm = Calm::watch();
    let outcome = outcome(&["three-transports"]);
    let flows: Vec<&Flow> = outcome.runs.iter().flat_map(|run| &run.flows).collect();
    let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!(names, ["cubic", "tcp-cubic", "quic-cubic"]);
    let calm = calm.was();
    let goodputs: Vec<f64> = flows
        .iter()
        .map(|flow| flow.totals.goodput_bits_per_second / 1e6)
        .collect();
    for (flow, trips) in flows.iter().zip([3.0, 2.0, 2.0]) {
        let totals = &flow.totals;
        assert_eq!(flow.failure, None, "{}", flow.name);
        // A busy machine answers later, not sooner.
        let first = totals.first_byte_round_trips.expect("a byte came");
        assert!(
            first > trips - 0.01 && (first < trips + 0.8 || !calm),
            "{}: {first} round trips",
            flow.name
        );
        // What was lost is sent again, one in two hundred.
        let [sent, needed] = [totals.packets_sent, totals.packets_needed];
        let more = sent.expect("counted") as f64 / needed.expect("counted") as f64;
        assert!(
            more > 0.97 && (more < 1.1 || !calm),
            "{}: {more}",
            flow.name
        );
    }
    // The same controller, and the same share of packets lost, if not the same packets.
    let (least, most) = goodputs
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), goodput| {
            (least.min(*goodput), most.max(*goodput))
        });
    assert!(most < 1.8 * least || !calm, "{goodputs:?} Mbit/s");
}

/// What each begins with is what was asked for: the kernel's, too.
#[test]
#[ignore = "needs root (network namespaces) and iproute2"]
fn the_initial_window_is_the_kernel_s_too() {
    for packets in [2_u16, 20] {
        let outcome = outcome(&[
            "--congestion",
            "cubic,tcp-cubic",
            "--size",
            "100kB",
            "--rate",
            "10mbit",
            "--delay",
            "50ms",
            "--initial-window",
            &packets.to_string(),
        ]);
        for (run, segment) in outcome.runs.iter().zip([1472.0, 1448.0]) {
            let flow = &run.flows[0];
            assert!(flow.finished, "{flow:?}");
            let window = &flow.trace.window_bytes;
            let first = window.values.first().expect("it is told") / segment;
            let asked = f64::from(packets);
            assert!(
                (asked - 0.1..asked + 0.1).contains(&first),
                "{}: begins with {first} packets of {packets}",
                flow.name
            );
        }
    }
}

/// A flow that is further away is so for real, and one that begins later does.
#[test]
#[ignore = "needs root (network namespaces)"]
fn places_are_real() {
    let outcome = outcome(&[
        "--flows",
        "cubic,cubic@40ms,tcp-cubic+1s",
        "--time",
        "3s",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
    ]);
    let flows = &outcome.runs[0].flows;
    let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!(names, ["cubic", "cubic@40ms", "tcp-cubic+1s"]);
    let least = |flow: &Flow| {
        let rtts = flow.trace.rtt_seconds.values.iter().copied();
        rtts.fold(f64::INFINITY, f64::min)
    };
    assert!(
        (0.02..0.06).contains(&least(&flows[0])),
        "{}",
        least(&flows[0])
    );
    assert!(
        (0.1..0.14).contains(&least(&flows[1])),
        "{}",
        least(&flows[1])
    );
    assert_eq!(flows[2].began_seconds, 1.0);
    assert!(flows[2].trace.goodput_bits_per_second.at_seconds[0] > 1.0);
    assert!(
        flows[2].totals.goodput_bytes > 10_000,
        "{:?}",
        flows[2].totals
    );
}
