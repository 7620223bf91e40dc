//! `labnet compare` with the kernel's TCP, quinn and labnet's own transport in namespaces, over one link.

use std::process::{Command, Output};

use labnet::compare::outcome::{Flow, Outcome};

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
