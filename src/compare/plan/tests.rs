use std::time::Duration;

use super::*;

fn experiment(said: &[(&str, &str)]) -> Experiment {
    let mut experiment = Experiment::default();
    for (key, value) in said {
        let values = match *value {
            "" => Vec::new(),
            value => vec![value.to_owned()],
        };
        experiment.say(key, format!("--{key}"), values);
    }
    experiment
}

fn plan(said: &[(&str, &str)]) -> Plan {
    Plan::compile(&experiment(said)).expect("right")
}

fn names(run: &Run) -> String {
    let names: Vec<String> = run.senders.iter().map(Sender::to_string).collect();
    names.join(" ")
}

#[test]
fn nothing_said_is_all_controllers_one_after_another() {
    let plan = plan(&[]);
    let runs: Vec<String> = plan.runs.iter().map(names).collect();
    assert_eq!(runs, ["new_reno", "cubic", "vegas", "bbr"]);
    let run = &plan.runs[0];
    assert_eq!(run.down.to_string(), "delay=25ms,rate=20mbit,queue=125kB");
    assert_eq!(run.up, run.down);
    assert_eq!(run.amount, Amount::Time(Duration::from_secs(10)));
    assert_eq!((plan.repetitions, plan.seed, plan.simulate), (1, 1, false));
}

#[test]
fn senders_go_one_after_another_or_together() {
    for (said, expected) in [
        (
            vec![("congestion", "cubic"), ("against", "tcp,quic")],
            "cubic/tcp-cubic/quic-cubic",
        ),
        (
            vec![("against", "tcp"), ("together", "")],
            "new_reno cubic vegas bbr tcp-reno tcp-cubic tcp-bbr",
        ),
        (
            vec![("congestion", "vegas"), ("against", "quic,tcp-reno")],
            "vegas/tcp-reno",
        ),
        (
            vec![("flows", "2xcubic,1xtcp-reno,bbr")],
            "cubic cubic tcp-reno bbr",
        ),
        (
            vec![("congestion", "cubic,cubic,all")],
            "cubic/new_reno/vegas/bbr",
        ),
    ] {
        let runs: Vec<String> = plan(&said).runs.iter().map(names).collect();
        assert_eq!(runs.join("/"), expected);
    }
}

#[test]
fn what_is_swept_comes_first_then_the_repetition() {
    let plan = plan(&[
        ("congestion", "cubic,bbr"),
        ("sweep", "loss=0,2"),
        ("runs", "2"),
        ("seed", "7"),
        ("size", "1MB"),
    ]);
    let told: Vec<String> = plan
        .runs
        .iter()
        .map(|run| format!("{} {} {}", run.down.loss, run.seed, names(run)))
        .collect();
    assert_eq!(
        told,
        [
            "0 7 cubic",
            "0 7 bbr",
            "0 8 cubic",
            "0 8 bbr",
            "2 7 cubic",
            "2 7 bbr",
            "2 8 cubic",
            "2 8 bbr"
        ]
    );
    assert_eq!(plan.runs[0].amount, Amount::Size(1_000_000));
    assert_eq!(plan.runs[4].point.as_deref(), Some("2"));
}

#[test]
fn a_queue_follows_the_path() {
    for (said, up, down) in [
        (vec![("queue", "2bdp")], Some(250_000), Some(250_000)),
        (
            vec![("queue", "2bdp"), ("delay", "50ms")],
            Some(500_000),
            Some(500_000),
        ),
        (vec![("down", "rate=10mbit")], Some(125_000), Some(62_500)),
        (
            vec![("down", "queue=4bdp,delay=75ms")],
            Some(250_000),
            Some(1_000_000),
        ),
        (vec![("queue", "30kB")], Some(30_000), Some(30_000)),
        (vec![("rate", "off")], None, None),
        (vec![("delay", "0ms")], Some(3_000), Some(3_000)),
    ] {
        let plan = plan(&said);
        let run = &plan.runs[0];
        assert_eq!((run.up.queue, run.down.queue), (up, down), "{said:?}");
    }
    let swept = plan(&[("sweep", "delay=25ms,50ms"), ("congestion", "cubic")]);
    let queues: Vec<_> = swept.runs.iter().map(|run| run.down.queue).collect();
    assert_eq!(queues, [Some(125_000), Some(250_000)]);
}

#[test]
fn a_link_changes_in_the_order_of_time() {
    let mut experiment = experiment(&[("time", "30s"), ("loss", "1")]);
    let at = ["20s loss=0", "10s loss=5,rate=5mbit"].map(str::to_owned);
    experiment.say("at", "--at".to_owned(), at.to_vec());
    let plan = Plan::compile(&experiment).expect("right");
    let told: Vec<String> = plan.runs[0]
        .changes
        .iter()
        .map(|change| format!("{:?} {}", change.after, change.down))
        .collect();
    assert_eq!(
        told,
        [
            "10s loss=5,delay=25ms,rate=5mbit,queue=125kB",
            "20s delay=25ms,rate=5mbit,queue=125kB"
        ]
    );
}

#[test]
fn all_that_is_wrong_is_told() {
    let problems = Plan::compile(&experiment(&[
        ("congestion", "cubic,reno"),
        ("against", "tcp,sctp"),
        ("loss", "101"),
        ("rate", "fast"),
        ("up", "los=3"),
        ("size", "1"),
        ("time", "1ms"),
        ("at", "soon loss=1"),
        ("runs", "0"),
        ("seed", "-1"),
        ("sweep", "loss=a"),
    ]))
    .expect_err("wrong");
    for key in [
        "congestion",
        "against",
        "loss",
        "rate",
        "up",
        "size",
        "time",
        "runs",
        "seed",
        "sweep",
    ] {
        let place = format!("--{key}");
        assert!(
            problems.iter().any(|problem| problem.place == place),
            "{key}: {problems:?}"
        );
    }
    for (said, part) in [
        (vec![("at", "soon loss=1")], "no time"),
        (vec![("at", "10s")], "10s loss=5"),
        (vec![("at", "11s loss=1")], "after the end"),
        (
            vec![("flows", "cubic"), ("against", "tcp")],
            "leave against out",
        ),
        (vec![("flows", "0xcubic")], "1 to 64"),
        (vec![("flows", ",")], "no sender"),
        (vec![("simulate", ""), ("against", "tcp")], "real"),
        (vec![("loss", "80"), ("burst", "2")], "bursts of 2"),
        (vec![("queue", "xbdp")], "1bdp"),
    ] {
        let problems = Plan::compile(&experiment(&said)).expect_err(part);
        let told = problems
            .iter()
            .any(|problem| problem.message.contains(part));
        assert!(told, "{part}: {problems:?}");
    }
}

#[test]
fn several_of_a_kind_are_numbered_and_places_are_told() {
    let plan = plan(&[("flows", "cubic,tcp-reno+2s,2xcubic,2xbbr@50ms+5s")]);
    let run = &plan.runs[0];
    assert_eq!(
        run.names(),
        [
            "cubic",
            "tcp-reno+2s",
            "cubic 2",
            "cubic 3",
            "bbr@50ms+5s",
            "bbr@50ms+5s 2"
        ]
    );
    assert_eq!(run.place(0), Place::default());
    assert_eq!(run.place(5).away, Duration::from_millis(50));
    for (flows, part) in [
        ("cubic@near", "`cubic@50ms`"),
        ("tcp-cubic@5ms", "only labnet's own"),
        ("cubic+10s", "after the end"),
    ] {
        let problems = Plan::compile(&experiment(&[("flows", flows)])).expect_err(flows);
        assert!(problems[0].message.contains(part), "{problems:?}");
    }
}

#[test]
fn the_initial_window_is_said_or_swept() {
    let one = plan(&[("initial_window", "2"), ("congestion", "cubic")]);
    assert_eq!(one.runs[0].initial_window, Some(2));
    assert_eq!(one.runs[0].initial_window_bytes(), Some(2944));
    assert_eq!(
        one.command.join(" "),
        "--congestion cubic --initial-window 2"
    );
    let swept = plan(&[
        ("sweep", "initial_window=2,10,50"),
        ("congestion", "cubic,bbr"),
    ]);
    let windows: Vec<_> = swept.runs.iter().map(|run| run.initial_window).collect();
    assert_eq!(windows, [2, 2, 10, 10, 50, 50].map(Some));
    let quic = [("against", "quic"), ("sweep", "initial-window=2,10")];
    let problems = Plan::compile(&experiment(&quic)).expect_err("quinn");
    assert!(problems[0].message.contains("quinn"), "{problems:?}");
    let problems = Plan::compile(&experiment(&[("initial_window", "1")])).expect_err("one");
    assert!(problems[0].message.contains("2 to 10000"), "{problems:?}");
}
