//! What came out of an experiment, as a table for people.

use std::collections::BTreeMap;

use super::{
    gather::middle,
    outcome::{Files, Flow, Outcome, Run, Totals},
};

/// The columns' heads.
pub const HEAD: [&str; 11] = [
    "SENDER",
    "MBIT/S",
    "SHARE",
    "kB AGAIN",
    "SENT/NEEDED",
    "LOST: SEEN/DONE",
    "RTT MS p50/p95",
    "QUEUE MS p50/p95",
    "FIRST BYTE",
    "ARRIVED",
    "HELD BACK BY",
];

/// The heads of what is told of files that shared a connection.
pub const FILES_HEAD: [&str; 6] = [
    "SENDER",
    "FILES",
    "FIRST WHOLE S",
    "HALF WHOLE S",
    "ALL WHOLE S",
    "STOOD STILL S",
];

/// A part of an experiment that is told by itself: what was run over the same link.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What was swept and its value, if something was.
    pub title: Option<String>,
    /// A row for each sender.
    pub rows: Vec<Vec<String>>,
    /// The same of files that shared a connection, if some did.
    pub files: Vec<Vec<String>>,
    /// Jain's index of those that ran together: its median and its extremes over the repetitions.
    pub jain: Option<(f64, f64, f64)>,
}

/// A sender's place in one run, by which repetitions are put together.
type Place = (usize, String);

/// The parts of an experiment, in order.
pub fn parts(outcome: &Outcome) -> Vec<Part> {
    let mut groups: Vec<(Option<String>, Vec<&Run>)> = Vec::new();
    let unit = outcome.sweep.as_ref().map_or("", |sweep| &sweep.unit);
    for run in &outcome.runs {
        let title = run.swept.iter().next();
        let title = title.map(|(option, value)| format!("{option} {value} {unit}"));
        match groups.last_mut() {
            Some((last, runs)) if *last == title => runs.push(run),
            _ => groups.push((title, vec![run])),
        }
    }
    let parts = groups.into_iter().map(|(title, runs)| {
        let indices: Vec<f64> = runs.iter().filter_map(|run| run.jain_index).collect();
        Part {
            title,
            rows: rows(&runs, row),
            files: rows(&runs, files_row),
            jain: (!indices.is_empty()).then(|| middle(&indices)),
        }
    });
    parts.collect()
}

/// How the programs answered that control senders from a process of their own, a sentence each.
pub fn answers(outcome: &Outcome) -> Vec<String> {
    let mut programs: Vec<(&str, u64, u64)> = Vec::new();
    for flow in outcome.runs.iter().flat_map(|run| &run.flows) {
        let Some(all) = flow.totals.program_answers else {
            continue;
        };
        let late = flow.totals.program_answers_late.unwrap_or(0);
        match programs.iter_mut().find(|(name, _, _)| *name == flow.name) {
            Some(known) => {
                known.1 += all;
                known.2 += late;
            }
            None => programs.push((&flow.name, all, late)),
        }
    }
    let words = |(name, all, late): (&str, u64, u64)| match outcome.experiment.simulated {
        true => format!("{name} answered {all} times; each answer was waited for"),
        false => format!("{name} answered {all} times, {late} of them later than a round trip"),
    };
    programs.into_iter().map(words).collect()
}

/// Makes a row of a sender's flows; of nothing to tell an empty one.
type MakeRow = fn(String, &[&Flow], &[&Totals]) -> Vec<String>;

fn rows(runs: &[&Run], make: MakeRow) -> Vec<Vec<String>> {
    let mut order: Vec<Place> = Vec::new();
    let mut flows: BTreeMap<Place, Vec<&Flow>> = BTreeMap::new();
    for run in runs {
        for (number, flow) in run.flows.iter().enumerate() {
            let place = (number, flow.name.clone());
            if !order.contains(&place) {
                order.push(place.clone());
            }
            flows.entry(place).or_default().push(flow);
        }
    }
    let row = |place: Place| {
        let flows = flows.get(&place).map_or(&[][..], Vec::as_slice);
        let totals: Vec<&Totals> = flows.iter().map(|flow| &flow.totals).collect();
        make(place.1, flows, &totals)
    };
    let rows = order.into_iter().map(row);
    rows.filter(|row| !row.is_empty()).collect()
}

fn files_row(name: String, _: &[&Flow], totals: &[&Totals]) -> Vec<String> {
    let files: Option<Vec<Files>> = totals.iter().map(|totals| totals.files).collect();
    let Some([first, ..]) = files.as_deref() else {
        return Vec::new();
    };
    let of = |value: fn(&Files) -> Option<f64>| {
        let values: Option<Vec<f64>> = files.iter().flatten().map(value).collect();
        cell(values.map(|values| middle(&values).0), 3)
    };
    vec![
        name,
        first.count.to_string(),
        of(|files| files.first_whole_seconds),
        of(|files| files.median_whole_seconds),
        of(|files| files.last_whole_seconds),
        of(|files| Some(files.stood_still_seconds)),
    ]
}

fn row(name: String, flows: &[&Flow], totals: &[&Totals]) -> Vec<String> {
    let of = |value: &dyn Fn(&Totals) -> Option<f64>| -> Option<f64> {
        let values: Option<Vec<f64>> = totals.iter().map(|totals| value(totals)).collect();
        values
            .filter(|values| !values.is_empty())
            .map(|values| middle(&values).0)
    };
    let mbit: Vec<f64> = totals
        .iter()
        .map(|totals| totals.goodput_bits_per_second / 1e6)
        .collect();
    let (median, least, most) = middle(&mbit);
    let goodput = match totals {
        [_] => format!("{median:.2}"),
        _ => format!("{median:.2} ({least:.2}-{most:.2})"),
    };
    let count = |value: u64| value as f64;
    let pair = |median: Option<f64>, upper: Option<f64>, digits: usize| {
        format!("{}/{}", cell(median, digits), cell(upper, digits))
    };
    let millis = |seconds: f64| seconds * 1e3;
    let sent = of(&|totals| totals.packets_sent.map(count));
    let needed = of(&|totals| totals.packets_needed.map(count));
    let share = of(&|totals| totals.link_share);
    let lost = pair(
        of(&|totals| totals.packets_lost_seen.map(count)),
        of(&|totals| totals.packets_lost_by_link.map(count)),
        0,
    );
    let marked = of(&|totals| totals.packets_marked_by_link.map(count));
    let whole = flows.iter().filter(|flow| flow.finished).count();
    let failure = flows.iter().find_map(|flow| flow.failure.as_deref());
    vec![
        name,
        goodput,
        share.map_or_else(dash, |share| format!("{:.0} %", share * 100.0)),
        cell(
            of(&|totals| totals.sent_again_bytes.map(|bytes| count(bytes) / 1e3)),
            0,
        ),
        match sent.zip(needed) {
            Some((sent, needed)) if needed > 0.0 => format!("{:.3}", sent / needed),
            _ => dash(),
        },
        lost + &match marked {
            Some(marked) if marked > 0.0 => format!(", {marked:.0} marked"),
            _ => String::new(),
        },
        pair(
            of(&|totals| totals.rtt_seconds.map(|rtt| millis(rtt.p50))),
            of(&|totals| totals.rtt_seconds.map(|rtt| millis(rtt.p95))),
            1,
        ),
        pair(
            of(&|totals| totals.queue_delay_seconds.map(|delay| millis(delay.p50))),
            of(&|totals| totals.queue_delay_seconds.map(|delay| millis(delay.p95))),
            1,
        ),
        of(&|totals| totals.first_byte_round_trips)
            .map_or_else(dash, |trips| format!("{trips:.1} RTT")),
        match (failure, whole == flows.len()) {
            (Some(failure), _) => failure.to_owned(),
            (None, true) => "yes".to_owned(),
            (None, false) => "no".to_owned(),
        },
        held_back(totals),
    ]
}

/// The limits that held it back, the longest first, in percent of all of them.
fn held_back(totals: &[&Totals]) -> String {
    let mut all: BTreeMap<&str, f64> = BTreeMap::new();
    for totals in totals {
        for (limit, seconds) in &totals.limited_seconds {
            *all.entry(limit).or_default() += seconds;
        }
    }
    let sum: f64 = all.values().sum();
    let mut sorted: Vec<(&str, f64)> = all.into_iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let told = sorted.into_iter().filter_map(|(limit, seconds)| {
        let percent = seconds / sum * 100.0;
        (percent >= 0.5).then(|| format!("{} {percent:.0} %", limit.replace('_', " ")))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        dash()
    } else {
        told.join(", ")
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(dash, |value| format!("{value:.digits$}"))
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::outcome::Spread;

    fn flow(name: &str, bits: f64) -> Flow {
        Flow {
            name: name.to_owned(),
            finished: true,
            totals: Totals {
                goodput_bits_per_second: bits,
                link_share: Some(bits / 20e6),
                packets_sent: Some(110),
                packets_needed: Some(100),
                packets_lost_seen: Some(3),
                packets_lost_by_link: Some(4),
                rtt_seconds: Some(Spread {
                    p50: 0.05,
                    p95: 0.0625,
                }),
                first_byte_round_trips: Some(2.0),
                limited_seconds: [
                    ("congestion_window".to_owned(), 3.0),
                    ("pacing".to_owned(), 1.0),
                ]
                .into(),
                ..Totals::default()
            },
            ..Flow::default()
        }
    }

    #[test]
    fn answers_that_came_late_are_told() {
        let mut mine = flow("exec:mine.py", 1e6);
        mine.totals.program_answers = Some(100);
        mine.totals.program_answers_late = Some(3);
        let run = Run {
            flows: vec![flow("cubic", 1e6), mine],
            ..Run::default()
        };
        let outcome = Outcome {
            runs: vec![run.clone(), run],
            ..Outcome::default()
        };
        assert_eq!(
            answers(&outcome),
            ["exec:mine.py answered 200 times, 6 of them later than a round trip"]
        );
    }

    #[test]
    fn repetitions_are_one_row_with_its_spread() {
        let run = |bits: f64, jain: f64| Run {
            flows: vec![flow("cubic", bits), flow("cubic 2", 1e6)],
            jain_index: Some(jain),
            ..Run::default()
        };
        let outcome = Outcome {
            runs: vec![run(18e6, 0.5), run(19e6, 0.7), run(17e6, 0.6)],
            ..Outcome::default()
        };
        let [part] = &parts(&outcome)[..] else {
            panic!("one link, one part");
        };
        assert_eq!(part.jain, Some((0.6, 0.5, 0.7)));
        assert_eq!(
            part.rows[0],
            [
                "cubic",
                "18.00 (17.00-19.00)",
                "90 %",
                "-",
                "1.100",
                "3/4",
                "50.0/62.5",
                "-/-",
                "2.0 RTT",
                "yes",
                "congestion window 75 %, pacing 25 %"
            ]
        );
        assert_eq!(part.rows[1][0], "cubic 2");
        assert_eq!(part.rows[0].len(), HEAD.len());
    }
}
