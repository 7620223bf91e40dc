//! `labnet compare` in virtual time: the same every time, and what theory and the counters say. For real,
//! over loopback: labnet's own senders and quinn.

use std::process::{Command, Output};

use labnet::compare::{
    bounds,
    experiment::Experiment,
    gather,
    outcome::{Flow, Loss, LossCause, Outcome},
    plan::Plan,
    recorder::PAYLOAD,
    simulated,
};

fn labnet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_labnet"))
        .arg("compare")
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .output()
        .expect("labnet starts")
}

/// The outcome that a run with `--json` has written.
fn written(output: &Output) -> Outcome {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).expect(&said)
}

/// Runs the same twice, each in a process of its own.
fn twice(arguments: &[&str]) -> Output {
    let (first, second) = (labnet(arguments), labnet(arguments));
    assert!(first.status.success(), "{first:?}");
    assert!(first.stdout == second.stdout, "two runs differ");
    first
}

pub(crate) fn simulate(file: &str) -> Outcome {
    let text = format!("simulate = true\n{file}");
    let experiment = Experiment::read("test", &text).expect("an experiment");
    let plan = Plan::compile(&experiment).expect("a plan");
    let runs = plan
        .runs
        .iter()
        .map(|run| simulated::run(run).expect("a run"));
    gather::outcome(&plan, runs.collect())
}

pub(crate) fn mbit(flow: &Flow) -> f64 {
    flow.totals.goodput_bits_per_second / 1e6
}

pub(crate) fn only(outcome: &Outcome) -> Vec<&Flow> {
    outcome.runs.iter().flat_map(|run| &run.flows).collect()
}

fn names(outcome: &Outcome) -> Vec<&str> {
    let flows = only(outcome).into_iter();
    flows.map(|flow| flow.name.as_str()).collect()
}

#[test]
fn all_controllers_fill_a_clean_link_and_no_more() {
    let outcome = simulate("congestion = \"all\"\n");
    let flows = only(&outcome);
    assert_eq!(names(&outcome), ["new_reno", "cubic", "vegas", "bbr"]);
    for flow in flows {
        let totals = &flow.totals;
        assert!(
            (14.0..20.0).contains(&mbit(flow)),
            "{}: {} Mbit/s",
            flow.name,
            mbit(flow)
        );
        assert!(flow.finished && flow.failure.is_none(), "{flow:?}");
        assert_eq!(flow.seconds, 10.0);
        let rtt = totals.rtt_seconds.expect("measured");
        // Two delays, and a queue of as much again.
        assert!(
            rtt.p50 >= 0.05 && rtt.p95 <= 0.115,
            "{}: {rtt:?}",
            flow.name
        );
        // Not what RFC 9002 assumes before the first one is measured.
        let rtts = &flow.trace.rtt_seconds.values;
        assert!(rtts.iter().all(|rtt| *rtt < 0.115), "{}", flow.name);
        let delay = totals.queue_delay_seconds.expect("a queue");
        assert!(
            delay.p50 <= delay.p95 && delay.p95 <= 0.0505,
            "{}: {delay:?}",
            flow.name
        );
        // For a cookie, the connection, and the request.
        let trips = totals.first_byte_round_trips.expect("a byte came");
        assert!(
            (3.0..3.3).contains(&trips),
            "{}: {trips} round trips",
            flow.name
        );
        let limited: f64 = totals.limited_seconds.values().sum();
        assert!(
            (9.5..10.01).contains(&limited),
            "{}: {:?}",
            flow.name,
            totals.limited_seconds
        );
        assert!(!flow.trace.window_bytes.is_empty() && !flow.trace.phases.is_empty());
    }
}

/// Nanoseconds that this thread has had a processor for, however long it waited for one.
fn on_processor() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("of this thread");
    let first = stat.split_whitespace().next().expect("a number");
    first.parse().expect("a number")
}

/// Four controllers, 10 s of 20 Mbit/s each: under a second of one processor as people run it, with room for
/// a slow one.
#[test]
fn forty_seconds_of_network_are_a_second_s_work() {
    let before = on_processor();
    let outcome = simulate("congestion = \"all\"\n");
    let work = std::time::Duration::from_nanos(on_processor() - before);
    let packets = |flow: &Flow| flow.totals.packets_sent.expect("counted");
    let packets: u64 = only(&outcome).into_iter().map(packets).sum();
    // As many as the link carries, nearly.
    assert!((55_000..70_000).contains(&packets), "{packets}");
    let most = if cfg!(debug_assertions) { 8 } else { 1 };
    assert!(work.as_secs() < most, "{work:?} for {packets} packets");
    println!("{work:?} for {packets} packets");
}

#[test]
fn the_same_experiment_has_the_same_outcome() {
    let arguments = [
        "--simulate",
        "--json",
        "--congestion",
        "cubic,bbr",
        "--together",
        "--time",
        "3s",
        "--loss",
        "1",
        "--jitter",
        "2ms",
        "--seed",
        "7",
    ];
    let first = twice(&arguments);
    let outcome = written(&first);
    assert_eq!(outcome.runs.len(), 1);
    assert_eq!(outcome.experiment.command[..2], ["labnet", "compare"]);
    let mut other = arguments;
    other[12] = "8";
    assert!(
        labnet(&other).stdout != first.stdout,
        "the seed decides nothing"
    );
}

#[test]
fn quic_is_the_same_in_every_process() {
    let arguments = [
        "--simulate",
        "--json",
        "--congestion",
        "cubic,new_reno",
        "--against",
        "quic",
        "--together",
        "--time",
        "4s",
        "--loss",
        "1",
        "--jitter",
        "2ms",
        "--reorder",
        "1",
        "--duplicate",
        "1",
        "--corrupt",
        "1",
        "--seed",
        "7",
    ];
    let outcome = written(&twice(&arguments));
    assert_eq!(
        names(&outcome),
        ["cubic", "new_reno", "quic-cubic", "quic-new_reno"]
    );
}

#[test]
fn quic_alone_fills_a_clean_link_and_answers_its_losses() {
    let outcome = simulate("congestion = \"quic-cubic,quic-new_reno\"\n");
    for flow in only(&outcome) {
        let (totals, name) = (&flow.totals, &flow.name);
        assert!(
            (16.0..20.0).contains(&mbit(flow)),
            "{name}: {} Mbit/s",
            mbit(flow)
        );
        let rtt = totals.rtt_seconds.expect("measured");
        // Two delays, a queue of as much again, and an acknowledgement may wait 25 ms.
        assert!(rtt.p50 >= 0.05 && rtt.p95 <= 0.126, "{name}: {rtt:?}");
        // For the connection and for the request.
        let trips = totals.first_byte_round_trips.expect("a byte came");
        assert!((2.0..2.3).contains(&trips), "{name}: {trips} round trips");
        let limited: f64 = totals.limited_seconds.values().sum();
        assert!(
            (9.5..10.01).contains(&limited),
            "{name}: {:?}",
            totals.limited_seconds
        );
        // What overflows the queue is what it takes for lost, but for what is under way, and it cuts.
        let seen = totals.packets_lost_seen.expect("counted");
        let done = totals.packets_lost_by_link.expect("counted");
        assert!(
            done > 0 && seen <= done && done - seen < 10,
            "{name}: {totals:?}"
        );
        assert_eq!(flow.trace.losses.len() as u64, done);
        let of_queue = |loss: &Loss| loss.cause == LossCause::QueueFull && loss.packet.is_none();
        assert!(flow.trace.losses.iter().all(of_queue), "{name}");
        assert!(!flow.trace.cuts.is_empty(), "{name}");
        let phases: Vec<&str> = flow
            .trace
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        assert_eq!(phases[..2], ["slow_start", "avoidance"], "{name}");
    }
}

#[test]
fn files_at_once_share_a_connection() {
    let outcome = simulate(
        "congestion = \"cubic\"\nagainst = \"quic\"\ndown = \"loss=0.2\"\nsize = \"4MB\"\nfiles = 8\n",
    );
    for flow in only(&outcome) {
        let name = &flow.name;
        assert!(flow.finished, "{name}: {flow:?}");
        assert_eq!(flow.totals.goodput_bytes, 4_000_000);
        let files = flow.totals.files.expect("several");
        assert_eq!(files.count, 8);
        let [first, half, last] = [
            files.first_whole_seconds,
            files.median_whole_seconds,
            files.last_whole_seconds,
        ]
        .map(|seconds| seconds.expect("all came"));
        assert_eq!(last, flow.seconds, "{name}");
        // They share the connection: none is done when the others have hardly begun.
        assert!(
            last / 2.0 < first && first <= half && half <= last,
            "{name}: {files:?}"
        );
        // A lost packet keeps one file waiting: would it keep all, it were a round trip of each at least.
        let most = flow.totals.packets_lost_seen.expect("counted") as f64 * 0.05;
        assert!(files.stood_still_seconds > 0.0, "{name}: {files:?}");
        assert!(files.stood_still_seconds < most, "{name}: {files:?}");
    }
    let text = labnet(&[
        "--simulate",
        "--congestion",
        "cubic",
        "--size",
        "1MB",
        "--files",
        "2",
    ]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("STOOD STILL"), "{text}");
    let wrong = labnet(&["--simulate", "--files", "2"]);
    let said = String::from_utf8(wrong.stderr).expect("text");
    assert!(said.contains("--files: files are of a size"), "{said}");
}

#[test]
fn a_sender_that_no_seed_reaches_is_not_simulated() {
    let wrong = labnet(&["--simulate", "--congestion", "quic-bbr"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).expect("text");
    assert!(said.contains("no seed reaches"), "{said}");
    // Where QUIC's are asked for as a whole, it is left out.
    let outcome = simulate("congestion = \"all\"\nagainst = \"quic\"\ntime = \"1s\"\n");
    assert_eq!(
        names(&outcome),
        [
            "new_reno",
            "cubic",
            "vegas",
            "bbr",
            "quic-new_reno",
            "quic-cubic"
        ]
    );
}

#[test]
fn new_reno_is_where_mathis_has_it() {
    for loss in [0.5, 1.0, 2.0] {
        let outcome = simulate(&format!(
            "congestion = \"new_reno\"\nrate = \"100mbit\"\ndelay = \"25ms\"\ntime = \"120s\"\n\
             down = \"loss={loss}\"\n"
        ));
        let flow = only(&outcome)[0];
        let rtt = flow.totals.rtt_seconds.expect("measured").p50;
        let bound = bounds::mathis(PAYLOAD as f64, rtt, loss / 100.0).expect("a bound") / 1e6;
        let ratio = mbit(flow) / bound;
        assert!(
            (0.8..1.2).contains(&ratio),
            "{loss} %: {} of {bound} Mbit/s",
            mbit(flow)
        );
    }
}

#[test]
fn vegas_yields_to_cubic() {
    let outcome = simulate("flows = \"vegas,cubic\"\ntime = \"60s\"\nqueue = \"2bdp\"\n");
    let flows = only(&outcome);
    assert!(
        mbit(flows[1]) > 3.0 * mbit(flows[0]),
        "{} {}",
        mbit(flows[0]),
        mbit(flows[1])
    );
    let jain = outcome.runs[0].jain_index.expect("two flows");
    assert!(jain < 0.8, "{jain}");
    let alike = simulate("flows = \"2xcubic\"\ntime = \"60s\"\n");
    assert!(
        alike.runs[0].jain_index > Some(0.9),
        "{:?}",
        alike.runs[0].jain_index
    );
}

#[test]
fn numbers_are_those_of_the_connection_and_of_the_link() {
    use labnet::{
        link::LinkOptions,
        rudp::congestion::Algorithm,
        simulation::{Flow, Observers, Simulation},
    };
    use std::time::{Duration, Instant};

    let outcome = simulate(
        "congestion = \"cubic\"\nloss = 1\nsize = \"5MB\"\nrate = \"10mbit\"\nqueue = \"60kB\"\nseed = 5\n",
    );
    let flow = only(&outcome)[0];
    let mut link = LinkOptions::default();
    link.set_list("loss=1,rate=10mbit,delay=25ms,queue=60kB")
        .expect("right");
    let mut alone = Simulation::new(link, link);
    alone.seed = 5;
    alone.time = Duration::from_secs(3600);
    alone.sample_every = Duration::from_millis(50);
    alone.flows = vec![Flow {
        size: Some(5_000_000),
        ..Flow::new(Algorithm::Cubic)
    }];
    let counted = alone
        .run(Instant::now(), Observers::default())
        .expect("a run");
    let sender = counted.flows[0].sender.expect("a sender");
    let totals = &flow.totals;
    assert_eq!(totals.goodput_bytes, 5_000_000);
    assert_eq!(totals.packets_sent, Some(sender.data_packets_sent));
    assert_eq!(
        totals.packets_lost_seen,
        Some(sender.packets_lost + sender.mtu_probes_lost)
    );
    assert_eq!(totals.packets_spurious, Some(sender.spurious_losses));
    assert_eq!(
        totals.packets_lost_by_link,
        Some(counted.down.lost.random + counted.down.lost.queue)
    );
    let completed = counted.flows[0].completed_at.expect("all came");
    assert_eq!(flow.seconds, completed.as_secs_f64());
    let first = counted.flows[0].first_byte_at.expect("some came");
    assert_eq!(totals.first_byte_seconds, Some(first.as_secs_f64()));
    assert!(
        totals.packets_lost_seen > Some(30),
        "nothing was lost: {totals:?}"
    );
    let losses = &flow.trace.losses;
    assert_eq!(Some(losses.len() as u64), totals.packets_lost_seen);
    let unknown = losses
        .iter()
        .filter(|loss| loss.cause == LossCause::Unknown)
        .count();
    assert_eq!(unknown, 0, "the link told of every packet");
    assert!(losses.iter().any(|loss| loss.cause == LossCause::Random));
    assert!(losses.iter().any(|loss| loss.cause == LossCause::QueueFull));
    assert!(
        flow.trace
            .cuts
            .iter()
            .all(|cut| cut.after_bytes < cut.before_bytes)
    );
    assert!(!flow.trace.cuts.is_empty());
}

#[test]
fn what_a_managed_queue_and_a_policer_do_is_told_by_its_name() {
    let run = |more: &str| {
        let outcome = simulate(&format!(
            "congestion = \"cubic\"\nqueue = \"10bdp\"\n{more}"
        ));
        only(&outcome)[0].clone()
    };
    let causes = |flow: &Flow, cause: LossCause, cut: &str| {
        let losses = &flow.trace.losses;
        assert!(losses.iter().all(|loss| loss.cause == cause), "{losses:?}");
        assert_eq!(Some(losses.len() as u64), flow.totals.packets_lost_seen);
        let cuts = flow.trace.cuts.iter();
        let told = cuts.filter(|of| of.words.contains(cut)).count();
        assert!(told > 0, "{:?}", flow.trace.cuts);
    };
    let dropped = run("aqm = \"codel\"\n");
    assert!(dropped.totals.packets_lost_by_link > Some(0));
    assert_eq!(dropped.totals.packets_marked_by_link, Some(0));
    causes(
        &dropped,
        LossCause::Codel,
        "; the link's CoDel dropped it after ",
    );

    let marked = run("aqm = \"codel\"\necn = true\n");
    let marks = marked.trace.marks_at_seconds.len() as u64;
    assert!(marks > 0);
    assert_eq!(marked.totals.packets_marked_by_link, Some(marks));
    assert_eq!(marked.totals.packets_lost_by_link, Some(0));
    causes(
        &marked,
        LossCause::Codel,
        "; the link's CoDel marked packet ",
    );

    let policed = run("down = \"policer=10mbit,30kB\"\n");
    assert!(policed.totals.packets_lost_by_link > Some(0));
    let words = "; the link's policer dropped it: it has 1,500 bytes, the bucket had tokens for ";
    causes(&policed, LossCause::Policer, words);

    let table = labnet(&[
        "--simulate",
        "--congestion",
        "cubic",
        "--queue",
        "10bdp",
        "--aqm",
        "codel",
        "--ecn",
        "on",
    ]);
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains(&format!("0/0, {marks} marked")), "{table}");
}

#[test]
fn what_is_swept_has_its_points_and_bounds() {
    let outcome = simulate(
        "congestion = [\"cubic\", \"new_reno\"]\nsweep = \"loss=0..2\"\nruns = 2\ntime = \"2s\"\n",
    );
    let sweep = outcome.sweep.expect("swept");
    assert_eq!((sweep.option.as_str(), sweep.unit.as_str()), ("loss", "%"));
    let values: Vec<f64> = sweep.points.iter().map(|point| point.value).collect();
    assert_eq!(values, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    for point in &sweep.points {
        assert!(point.least_bits_per_second <= point.goodput_bits_per_second);
        assert!(point.goodput_bits_per_second <= point.most_bits_per_second);
    }
    let cubic = |value: usize| sweep.points[2 * value].goodput_bits_per_second;
    assert!(
        cubic(0) > cubic(1) && cubic(1) > cubic(2),
        "{:?}",
        sweep.points
    );
    assert_eq!(sweep.bounds[0].values, [1.0, 2.0]);
}

#[test]
fn a_link_that_gets_worse_shows() {
    let outcome = simulate(
        "congestion = \"bbr\"\ntime = \"10s\"\nat = [\"5s rate=2mbit\"]\nrate = \"20mbit\"\n",
    );
    let trace = &only(&outcome)[0].trace;
    let mean = |from: f64, to: f64| {
        let points = trace.goodput_bits_per_second.points();
        let some: Vec<f64> = points
            .filter(|(at, _)| (from..to).contains(at))
            .map(|(_, value)| value)
            .collect();
        some.iter().sum::<f64>() / some.len() as f64
    };
    assert!(mean(2.0, 5.0) > 18e6 && mean(5.0, 10.0) < 3e6, "{trace:?}");
    assert_eq!(outcome.experiment.changes[0].words, "rate=2mbit");
}

#[test]
fn people_get_a_table_and_all_that_is_wrong() {
    let output = labnet(&[
        "--simulate",
        "--time",
        "1s",
        "--congestion",
        "cubic,vegas",
        "--runs",
        "2",
    ]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("delay=25ms,rate=20mbit,queue=125kB; seed 1; simulated\n"),
        "{text}"
    );
    for part in ["SENDER", "cubic", "vegas", "congestion window"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let wrong = labnet(&[
        "--simulate",
        "--loss",
        "101",
        "--against",
        "tcp",
        "--at",
        "1s",
        "los=1",
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).expect("text");
    assert!(said.contains("--loss: "), "{said}");
}

#[test]
fn own_senders_and_quinn_are_compared_for_real() {
    let output = labnet(&[
        "--congestion",
        "cubic,bbr",
        "--against",
        "quic-cubic",
        "--time",
        "2s",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
        "--json",
    ]);
    let outcome = written(&output);
    let flows = only(&outcome);
    assert_eq!(names(&outcome), ["cubic", "bbr", "quic-cubic"]);
    for flow in flows {
        let totals = &flow.totals;
        assert_eq!(flow.failure, None, "{}", flow.name);
        // As much as the link carries at the most; how much less is the machine's.
        assert!(totals.goodput_bytes > 50_000, "{}: {totals:?}", flow.name);
        assert!(mbit(flow) < 10.0, "{}: {} Mbit/s", flow.name, mbit(flow));
        assert!(
            totals.packets_sent >= Some(totals.goodput_bytes / 1472),
            "{totals:?}"
        );
        assert!(totals.packets_lost_by_link.is_some());
        assert!(
            totals.rtt_seconds.expect("measured").p50 >= 0.02,
            "{totals:?}"
        );
        assert!(!flow.trace.window_bytes.is_empty(), "{}", flow.name);
        let limited: f64 = totals.limited_seconds.values().sum();
        assert!((1.5..2.01).contains(&limited), "{totals:?}");
    }
    assert!(!outcome.experiment.simulated);
}

#[test]
fn where_nothing_comes_nothing_has_arrived() {
    for arguments in [
        &["--congestion", "quic-cubic"][..],
        &["--congestion", "cubic"],
        &["--congestion", "cubic,quic-cubic", "--simulate"],
    ] {
        let dark = ["--loss", "100", "--time", "1s", "--json"];
        let output = labnet(&[arguments, &dark].concat());
        assert!(!output.status.success(), "{arguments:?}");
        let outcome = written(&output);
        for flow in only(&outcome) {
            assert!(!flow.finished && flow.failure.is_some(), "{flow:?}");
        }
    }
}

#[test]
fn quic_senders_over_loopback_have_a_controller_each() {
    let output = labnet(&[
        "--flows",
        "quic-cubic,quic-bbr",
        "--time",
        "1s",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
        "--json",
    ]);
    let outcome = written(&output);
    let flows = only(&outcome);
    assert!(flows.iter().all(|flow| flow.failure.is_none()), "{flows:?}");
    // Only CUBIC tells its phase, and both were heard.
    assert!(!flows[0].trace.phases.is_empty() && !flows[0].trace.window_bytes.is_empty());
    assert!(flows[1].trace.phases.is_empty() && !flows[1].trace.window_bytes.is_empty());
}

#[test]
fn a_link_without_a_rate_has_a_file_to_carry() {
    let output = labnet(&[
        "--congestion",
        "cubic",
        "--rate",
        "off",
        "--time",
        "2s",
        "--json",
    ]);
    let outcome = written(&output);
    let flow = only(&outcome)[0];
    assert_eq!(flow.failure, None);
    assert!(flow.totals.goodput_bytes > 0, "{flow:?}");
}
