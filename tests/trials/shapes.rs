//! `labnet compare` for real beside the same in virtual time, and labnet's own controllers beside the
//! kernel's of the same name: they have to come to the same.

use std::collections::BTreeMap;

use labnet::compare::outcome::{Outcome, jain_index, median};

use super::in_full;
use crate::support::{calm::Calm, labnet};

/// The link of all of it.
const LINK: [&str; 6] = ["--rate", "10mbit", "--delay", "20ms", "--queue", "1bdp"];

/// How far two may be apart, as factors of the first: the least and the most.
#[derive(Clone, Copy)]
struct Bounds {
    goodput: (f64, f64),
    rtt: (f64, f64),
    jain: f64,
}

/// What the trial holds a calm machine to.
const CALM: Bounds = Bounds {
    goodput: (0.9, 1.1),
    rtt: (0.9, 1.1),
    jain: 0.15,
};
/// What the short form holds a machine to that is not busy with other things. One that is gets no verdict.
const SHORT: Bounds = Bounds {
    goodput: (0.4, 1.15),
    rtt: (0.9, 2.5),
    jain: 0.4,
};
/// The kernel's TCP and labnet's own of the same name.
const KERNEL: Bounds = Bounds {
    goodput: (0.85, 1.15),
    rtt: (0.85, 1.15),
    jain: 0.0,
};
const SHORT_KERNEL: Bounds = Bounds {
    goodput: (0.4, 2.5),
    rtt: (0.4, 2.5),
    jain: 0.0,
};

/// The medians over the runs.
#[derive(Debug)]
struct Medians {
    /// Goodput, Mbit/s, and median round trip, ms, of each sender.
    senders: BTreeMap<String, (f64, f64)>,
    /// Of all senders of a run together.
    total: f64,
    /// Jain's index, of several senders at the same time.
    jain: f64,
}

fn compare(arguments: &[&str]) -> Medians {
    let mut all = vec!["compare", "--json"];
    all.extend(LINK);
    all.extend(arguments);
    let output = labnet(&all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let outcome: Outcome = serde_json::from_slice(&output.stdout).expect(&said);
    let mut senders: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let (mut totals, mut indices) = (Vec::new(), Vec::new());
    for run in &outcome.runs {
        let mut shares = Vec::new();
        for flow in &run.flows {
            assert_eq!(flow.failure, None, "{arguments:?}: {}", flow.name);
            let goodput = flow.totals.goodput_bits_per_second / 1e6;
            let rtt = flow.totals.rtt_seconds.expect("measured").p50 * 1e3;
            let of_sender = senders.entry(flow.name.clone()).or_default();
            of_sender.0.push(goodput);
            of_sender.1.push(rtt);
            shares.push(goodput);
        }
        totals.push(shares.iter().sum());
        indices.extend(jain_index(&shares));
    }
    let middle = |values: Vec<f64>| median(values).unwrap_or(0.0);
    Medians {
        senders: senders
            .into_iter()
            .map(|(name, (goodputs, rtts))| (name, (middle(goodputs), middle(rtts))))
            .collect(),
        total: middle(totals),
        jain: middle(indices),
    }
}

/// Everything that is too far apart, to be told at the end.
#[derive(Default)]
struct Apart(Vec<String>);

impl Apart {
    fn hold(&mut self, what: &str, one: f64, other: f64, (least, most): (f64, f64)) {
        let factor = other / one;
        let line = format!("{what}: {one:.2} and {other:.2}, factor {factor:.3}");
        println!("{line}");
        if !(least..=most).contains(&factor) {
            self.0.push(line);
        }
    }

    /// At its full length the trial wants a calm machine, and fails without one.
    #[track_caller]
    fn assert_none(&self, calm: Calm) {
        assert!(
            (!calm.was() && !in_full()) || self.0.is_empty(),
            "too far apart:\n{}",
            self.0.join("\n")
        );
    }
}

fn with<'a>(some: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [some, more].concat()
}

#[test]
#[ignore = "needs half a minute"]
fn simulated_and_real_come_to_the_same() {
    let (bounds, runs, time, long) = match in_full() {
        true => (CALM, "5", "10s", "20s"),
        false => (SHORT, "3", "1500ms", "2s"),
    };
    let losses: &[&str] = if in_full() { &["0", "1"] } else { &["0"] };
    let shared: &[&str] = match in_full() {
        true => &["2xcubic", "cubic,bbr", "vegas,cubic"],
        false => &["2xcubic"],
    };
    let (mut apart, calm) = (Apart::default(), Calm::watch());
    for loss in losses {
        let time = if *loss == "0" { time } else { long };
        let said = [
            "--congestion",
            "all",
            "--down",
            "",
            "--time",
            time,
            "--runs",
            runs,
        ];
        let down = format!("loss={loss}");
        let said = said.map(|word| if word.is_empty() { down.as_str() } else { word });
        let simulated = compare(&with(&said, &["--simulate"]));
        let real = compare(&said);
        for (name, (goodput, rtt)) in &simulated.senders {
            let (real_goodput, real_rtt) = real.senders[name];
            let what = |kind: &str| format!("{name} at {loss} %, simulated and real, {kind}");
            apart.hold(&what("Mbit/s"), *goodput, real_goodput, bounds.goodput);
            apart.hold(&what("ms"), *rtt, real_rtt, bounds.rtt);
        }
    }
    for flows in shared {
        let said = ["--flows", flows, "--time", long, "--runs", runs];
        let simulated = compare(&with(&said, &["--simulate"]));
        let real = compare(&said);
        let what = format!("{flows}, simulated and real, Mbit/s in all");
        apart.hold(&what, simulated.total, real.total, bounds.goodput);
        let line = format!(
            "{flows}, simulated and real, Jain's index: {:.3} and {:.3}",
            simulated.jain, real.jain
        );
        println!("{line}");
        if (simulated.jain - real.jain).abs() > bounds.jain {
            apart.0.push(line);
        }
    }
    apart.assert_none(calm);
}

#[test]
#[ignore = "needs half a minute and root (network namespaces)"]
fn own_controllers_come_to_the_same_as_the_kernel_s() {
    let (bounds, runs, time) = match in_full() {
        true => (KERNEL, "5", "20s"),
        false => (SHORT_KERNEL, "1", "2s"),
    };
    let (mut apart, calm) = (Apart::default(), Calm::watch());
    for loss in ["0", "1"] {
        let down = format!("loss={loss}");
        let said = [
            "--congestion",
            "cubic,tcp-cubic,new_reno,tcp-reno",
            "--down",
            &down,
            "--time",
            time,
            "--runs",
            runs,
        ];
        let real = compare(&said);
        for (own, kernel) in [("cubic", "tcp-cubic"), ("new_reno", "tcp-reno")] {
            let ((own_goodput, own_rtt), (goodput, rtt)) =
                (real.senders[own], real.senders[kernel]);
            let what = |kind: &str| format!("{kernel} and {own} at {loss} %, {kind}");
            apart.hold(&what("Mbit/s"), goodput, own_goodput, bounds.goodput);
            apart.hold(&what("ms"), rtt, own_rtt, bounds.rtt);
        }
    }
    apart.assert_none(calm);
}
