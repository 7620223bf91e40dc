//! What was measured, put together: a run's flows, and an experiment's runs.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use super::{
    bounds,
    exec::Answers,
    outcome::{self, Outcome, jain_index, median},
    plan::{Amount, Plan, Run},
    recorder::{FlowRecord, LinkRecord, PAYLOAD},
    sender::{QuicControl, Sender, Transport},
    sweep::{INITIAL_WINDOW, Sweep},
};
use crate::{config::LinkOptions, rudp::congestion::Algorithm};

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of it came, the last byte then.
    Whole(Instant),
    /// It was stopped then: its time was up, or it failed.
    Stopped(Instant),
}

/// What was measured of a flow.
#[derive(Debug)]
pub struct Measured {
    /// Its record.
    pub record: FlowRecord,
    /// When its connection began.
    pub began: Instant,
    /// When and how it ended.
    pub ended: Ended,
    /// Bytes of the file that its receiver has read.
    pub received: u64,
    /// When the first of them came.
    pub first_byte: Option<Instant>,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// How often the program answered that controlled it, if one did.
    pub answers: Option<Answers>,
}

/// Puts a run together that took so long.
pub fn run(
    plan: &Run,
    start: Instant,
    took: Duration,
    flows: Vec<Measured>,
    link: &LinkRecord,
) -> outcome::Run {
    let names = plan.names();
    let round_trip = (plan.up.delay + plan.down.delay).as_secs_f64();
    let mut made = Vec::new();
    for (number, (flow, name)) in flows.into_iter().zip(names).enumerate() {
        let (Ended::Whole(ended) | Ended::Stopped(ended)) = flow.ended;
        let began = flow.began;
        if let Some(at) = flow.first_byte {
            flow.record.first_byte(at);
        }
        flow.record.delivered(ended, flow.received);
        let mut totals = flow.record.totals(began, ended);
        let on_link = link.flow(number);
        totals.link_share = plan
            .down
            .rate
            .map(|rate| totals.goodput_bits_per_second / rate.get() as f64);
        totals.packets_lost_by_link = Some(on_link.lost);
        totals.packets_marked_by_link = Some(on_link.marked);
        totals.program_answers = flow.answers.map(|answers| answers.all);
        totals.program_answers_late = flow.answers.map(|answers| answers.late);
        totals.queue_delay_seconds = on_link.queue_delay();
        let own = round_trip + 2.0 * plan.place(number).away.as_secs_f64();
        totals.first_byte_round_trips = totals
            .first_byte_seconds
            .filter(|_| own > 0.0)
            .map(|seconds| seconds / own);
        let mut trace = flow.record.trace(ended);
        let sender = plan.senders.get(number);
        if sender.is_some_and(|sender| sender.transport() != Transport::Rudp) {
            // The others do not tell which packets they take for lost: the link tells which it lost.
            trace.losses = on_link.losses;
        }
        trace.marks_at_seconds = on_link.marks_at_seconds;
        made.push(outcome::Flow {
            name,
            sender: plan
                .senders
                .get(number)
                .map_or_else(String::new, Sender::to_string),
            finished: match plan.amount {
                Amount::Size(_) => matches!(flow.ended, Ended::Whole(_)),
                Amount::Time(_) => flow.failure.is_none(),
            },
            failure: flow.failure,
            began_seconds: began.saturating_duration_since(start).as_secs_f64(),
            seconds: ended.saturating_duration_since(began).as_secs_f64(),
            totals,
            trace,
        });
    }
    let shares: Vec<f64> = made
        .iter()
        .map(|flow| flow.totals.goodput_bits_per_second)
        .collect();
    outcome::Run {
        repeat: plan.repetition + 1,
        seed: plan.seed,
        swept: BTreeMap::new(),
        seconds: took.as_secs_f64(),
        jain_index: jain_index(&shares),
        flows: made,
        queue_bytes: link.queue(),
    }
}

/// Puts an experiment's runs together, which are those of the plan, in its order.
pub fn outcome(plan: &Plan, mut runs: Vec<outcome::Run>) -> Outcome {
    if let Some(sweep) = &plan.sweep {
        for (made, planned) in runs.iter_mut().zip(&plan.runs) {
            made.swept = [(sweep.key.clone(), swept_value(&sweep.key, planned).0)].into();
        }
    }
    Outcome {
        experiment: experiment(plan),
        environment: environment(plan),
        sweep: plan.sweep.as_ref().map(|sweep| swept(plan, sweep, &runs)),
        runs,
    }
}

fn experiment(plan: &Plan) -> outcome::Experiment {
    let text = &plan.text;
    let first = plan.runs.first();
    let (up, down) = first.map_or_else(Default::default, |run| (run.up, run.down));
    let words = match up == down {
        true => down.to_string(),
        false => format!("down {down}; up {up}"),
    };
    let changes = first.into_iter().flat_map(|run| &run.changes);
    let changes = changes.map(|change| outcome::LinkChange {
        at_seconds: change.after.as_secs_f64(),
        words: change.words.clone(),
    });
    let mut command = vec!["labnet".to_owned(), "compare".to_owned()];
    command.extend(plan.command.iter().cloned());
    outcome::Experiment {
        command,
        title: text.title.clone(),
        question: text.question.clone(),
        look_for: (!text.look_for.is_empty()).then(|| text.look_for.join("\n")),
        answer: text.answer.clone(),
        seed: plan.seed,
        link: outcome::Link {
            words,
            down: (&down).into(),
            up: (&up).into(),
        },
        changes: changes.collect(),
        together: first.is_some_and(|run| run.senders.len() > 1),
        simulated: plan.simulate,
        repeats: plan.repetitions,
        transfer_bytes: match first.map(|run| run.amount) {
            Some(Amount::Size(bytes)) => Some(bytes),
            _ => None,
        },
        time_limit_seconds: first.and_then(Run::time).map(|time| time.as_secs_f64()),
    }
}

/// What of the kernel's settings has a say in what TCP and UDP reach here.
const SYSCTLS: [&str; 7] = [
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.core.default_qdisc",
    "net.core.rmem_max",
];

fn environment(plan: &Plan) -> outcome::Environment {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        text.ok()
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let sysctls = SYSCTLS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), read(name)?)));
    let mut senders: Vec<&Sender> = Vec::new();
    for sender in plan.runs.iter().flat_map(|run| &run.senders) {
        if !senders.contains(&sender) {
            senders.push(sender);
        }
    }
    let controllers = senders.into_iter().map(|sender| outcome::Controller {
        sender: sender.to_string(),
        version: version(sender),
    });
    outcome::Environment {
        labnet: env!("CARGO_PKG_VERSION").to_owned(),
        // Nothing of the machine has a say in a simulation.
        kernel: read("kernel.osrelease").filter(|_| !plan.simulate),
        sysctls: if plan.simulate {
            BTreeMap::new()
        } else {
            sysctls.collect()
        },
        controllers: controllers.collect(),
    }
}

fn version(sender: &Sender) -> String {
    match sender {
        Sender::Rudp(Algorithm::NewReno) => "labnet, RFC 9002".to_owned(),
        Sender::Rudp(Algorithm::Cubic) => "labnet, RFC 9438 with HyStart++ (RFC 9406)".to_owned(),
        Sender::Rudp(Algorithm::Vegas) => "labnet, Brakmo and Peterson 1995".to_owned(),
        Sender::Rudp(Algorithm::Bbr) => "labnet, draft-ietf-ccwg-bbr".to_owned(),
        Sender::Exec(exec) => {
            let files = exec.files().into_iter();
            let files = files.map(|(file, digits)| format!(", {file} (SHA-256 {digits}...)"));
            format!("a program of one's own{}", files.collect::<String>())
        }
        Sender::Tcp(name) if name == "bbr" => "Linux, BBR v1".to_owned(),
        Sender::Tcp(name) => format!("Linux, tcp_{name}"),
        Sender::Quic(QuicControl::Bbr) => "quinn, BBR v1".to_owned(),
        Sender::Quic(QuicControl::Cubic) => "quinn, RFC 9438".to_owned(),
        Sender::Quic(QuicControl::NewReno) => "quinn, RFC 9002".to_owned(),
    }
}

/// What is swept as a number, and its unit.
fn swept_value(key: &str, run: &Run) -> (f64, &'static str) {
    let options = &run.down;
    let millis = |time: Duration| (time.as_secs_f64() * 1e3, "ms");
    match key {
        "loss" => (options.loss, "%"),
        "burst" => (options.burst.unwrap_or(1.0), "packets"),
        "delay" => millis(options.delay),
        "jitter" => millis(options.jitter),
        "rate" => (
            options.rate.map_or(0.0, |rate| rate.get() as f64 / 1e6),
            "Mbit/s",
        ),
        "queue" => (options.queue.map_or(0.0, |bytes| bytes as f64 / 1e3), "kB"),
        "reorder" => (options.reorder, "%"),
        "reorder_by" => millis(options.held_back_by()),
        "duplicate" => (options.duplicate, "%"),
        "corrupt" => (options.corrupt, "%"),
        INITIAL_WINDOW => (run.initial_window.map_or(0.0, f64::from), "packets"),
        _ => (0.0, ""),
    }
}

fn swept(plan: &Plan, sweep: &Sweep, runs: &[outcome::Run]) -> outcome::Sweep {
    let mut points: Vec<(String, f64, Vec<f64>)> = Vec::new();
    let mut unit = "";
    let mut links: Vec<(f64, LinkOptions, LinkOptions)> = Vec::new();
    for (made, planned) in runs.iter().zip(&plan.runs) {
        let (value, of) = swept_value(&sweep.key, planned);
        unit = of;
        if links.last().is_none_or(|(last, _, _)| *last != value) {
            links.push((value, planned.up, planned.down));
        }
        for flow in &made.flows {
            let goodput = flow.totals.goodput_bits_per_second;
            let known = points
                .iter_mut()
                .find(|(sender, at, _)| *sender == flow.sender && *at == value);
            match known {
                Some((_, _, goodputs)) => goodputs.push(goodput),
                None => points.push((flow.sender.clone(), value, vec![goodput])),
            }
        }
    }
    let points = points.into_iter().map(|(sender, value, goodputs)| {
        let (median, least, most) = middle(&goodputs);
        outcome::SweepPoint {
            sender,
            value,
            goodput_bits_per_second: median,
            least_bits_per_second: least,
            most_bits_per_second: most,
        }
    });
    let bound = |name: &str, source: &str, bits: fn(f64, f64, f64) -> Option<f64>| {
        let mut bound = outcome::Bound {
            name: name.to_owned(),
            source: source.to_owned(),
            ..outcome::Bound::default()
        };
        for (value, up, down) in &links {
            let round_trip = (up.delay + down.delay).as_secs_f64();
            let reached = bits(PAYLOAD as f64, round_trip, down.loss / 100.0);
            if let Some(reached) = reached {
                let rate = down
                    .rate
                    .map_or(f64::INFINITY, |rate: NonZeroU64| rate.get() as f64);
                bound.values.push(*value);
                bound.bits_per_second.push(reached.min(rate));
            }
        }
        bound
    };
    let bounds = [
        bound(
            "Mathis",
            "Mathis, Semke, Mahdavi and Ott 1997",
            bounds::mathis,
        ),
        bound("CUBIC", "RFC 9438 section 5.1", bounds::cubic),
    ];
    outcome::Sweep {
        option: sweep.key.clone(),
        unit: unit.to_owned(),
        points: points.collect(),
        bounds: bounds
            .into_iter()
            .filter(|bound| !bound.values.is_empty())
            .collect(),
    }
}

/// The median, the least and the largest; zeros of nothing.
pub(super) fn middle(values: &[f64]) -> (f64, f64, f64) {
    let Some(median) = median(values.to_vec()) else {
        return (0.0, 0.0, 0.0);
    };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (median, least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_the_extremes() {
        assert_eq!(middle(&[]), (0.0, 0.0, 0.0));
        assert_eq!(middle(&[3.0]), (3.0, 3.0, 3.0));
        assert_eq!(middle(&[5.0, 1.0, 3.0]), (3.0, 1.0, 5.0));
        assert_eq!(middle(&[4.0, 1.0, 3.0, 2.0]), (2.5, 1.0, 4.0));
    }
}
