use std::collections::BTreeMap;

use super::*;
use crate::compare::{
    outcome::{
        Bound, Cut, Flow, LinkChange, Loss, Phase, Run, Spread, Sweep, SweepPoint, Totals, Trace,
    },
    series::Series,
};

const EVIL: &str = "</script><img src=x onerror=alert(1)>&\"'\u{0}{{data}}";

/// One transfer with every kind of thing that is drawn, its numbers chosen to be found again.
fn flow(name: &str) -> Flow {
    let ramp = |step: f64| Series::new((0..=10).map(|n| (f64::from(n), f64::from(n) * step)));
    Flow {
        name: name.to_owned(),
        sender: name.to_owned(),
        finished: true,
        seconds: 10.0,
        totals: Totals {
            goodput_bytes: 12_500_000,
            goodput_bits_per_second: 10e6,
            link_share: Some(0.5),
            packets_sent: Some(10_004),
            packets_needed: Some(10_000),
            rtt_seconds: Some(Spread {
                p50: 0.052,
                p95: 0.081,
            }),
            first_byte_seconds: Some(0.1),
            first_byte_round_trips: Some(2.0),
            limited_seconds: BTreeMap::from([
                ("congestion_window".to_owned(), 7.5),
                ("pacing".to_owned(), 2.5),
            ]),
            ..Totals::default()
        },
        trace: Trace {
            // Bent, so that each point is seen.
            window_bytes: Series::new((0..=10).map(|n| (f64::from(n), f64::from(n * n) * 1000.0))),
            in_flight_bytes: ramp(8_000.0),
            ssthresh_bytes: Series::new([(4.0, 30_000.0), (8.0, 60_000.0)]),
            rtt_seconds: ramp(0.01),
            goodput_bits_per_second: Series::new([(5.0, 8e6), (10.0, 12e6)]),
            pacing_bits_per_second: ramp(3e6),
            losses: [
                (2.0, LossCause::Random),
                (2.001, LossCause::Random),
                (6.0, LossCause::QueueFull),
            ]
            .map(|(at_seconds, cause)| Loss {
                at_seconds,
                packet: None,
                cause,
                spurious: false,
            })
            .to_vec(),
            marks_at_seconds: vec![3.0, 3.001],
            cuts: vec![Cut {
                at_seconds: 5.0,
                before_bytes: 60_000,
                after_bytes: 50_000,
                words: "At 5.000 s it cut the window.".to_owned(),
            }],
            phases: [("slow_start", 0.0, 4.0), ("avoidance", 4.0, 10.0)]
                .map(|(name, from_seconds, until_seconds)| Phase {
                    name: name.to_owned(),
                    from_seconds,
                    until_seconds,
                })
                .to_vec(),
        },
        ..Flow::default()
    }
}

fn outcome(names: &[&str]) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.experiment.title = Some("A test".to_owned());
    outcome.experiment.command = ["labnet", "compare", "--title", "it's"]
        .map(str::to_owned)
        .to_vec();
    outcome.experiment.link.down.rate_bits_per_second = Some(20_000_000);
    outcome.experiment.changes = vec![LinkChange {
        at_seconds: 5.0,
        words: "loss=5".to_owned(),
    }];
    outcome.runs = (names.iter())
        .map(|name| Run {
            repeat: 1,
            seconds: 10.0,
            flows: vec![flow(name)],
            queue_bytes: Series::new([(0.0, 0.0), (5.0, 40_000.0), (10.0, 0.0)]),
            ..Run::default()
        })
        .collect();
    outcome
}

/// The value of an attribute of each element of this class, where it has one.
fn attributes(svg: &str, element: &str, attribute: &str) -> Vec<String> {
    let found = svg.lines().filter(|line| line.contains(element));
    let value = |line: &str| {
        let (_, rest) = line.split_once(&format!(" {attribute}=\""))?;
        rest.split('"').next().map(str::to_owned)
    };
    found.filter_map(value).collect()
}

/// Every element is closed in its order, nothing is outside the root, no text holds a bare `<` or `&`.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some((text, after)) = rest.split_once('<') {
        for after in text.split('&').skip(1) {
            let (entity, _) = after.split_once(';').expect("an entity ends");
            assert!(
                ["amp", "lt", "gt", "quot", "#39"].contains(&entity),
                "&{entity};"
            );
        }
        assert!(
            !open.is_empty() || text.trim().is_empty(),
            "{text:?} is outside"
        );
        let (tag, after) = after.split_once('>').expect("a tag ends");
        assert!(
            !tag.contains('<') && tag.matches('"').count() % 2 == 0,
            "<{tag}>"
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{xml}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
        rest = after;
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    let bad = |c: char| c.is_control() && c != '\n';
    assert!(!xml.contains(bad));
}

#[test]
fn nothing_that_others_wrote_is_markup() {
    let mut outcome = outcome(&[EVIL]);
    let texts = &mut outcome.experiment;
    texts.title = Some(EVIL.to_owned());
    for text in [&mut texts.question, &mut texts.look_for, &mut texts.answer] {
        *text = Some(EVIL.to_owned());
    }
    texts.link.words = EVIL.to_owned();
    texts.command.push(EVIL.to_owned());
    texts.changes[0].words = EVIL.to_owned();
    outcome.environment.kernel = Some(EVIL.to_owned());
    outcome
        .environment
        .sysctls
        .insert(EVIL.to_owned(), EVIL.to_owned());
    outcome.runs[0].flows[0].failure = Some(EVIL.to_owned());
    outcome.runs[0].flows[0].trace.cuts[0].words = EVIL.to_owned();
    outcome.runs[0].flows[0].trace.phases[0].name = EVIL.to_owned();
    outcome.runs[0].swept.insert(EVIL.to_owned(), 1.0);
    outcome.sweep = Some(Sweep {
        option: EVIL.to_owned(),
        unit: EVIL.to_owned(),
        ..Sweep::default()
    });
    let html = html(&outcome, false);
    assert!(!html.contains("<img"), "{html}");
    assert_eq!(html.matches("</script>").count(), 2);
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(
        html.matches("onerror=").count(),
        html.matches("src=x onerror=").count()
    );
    for (name, svg) in svg(&outcome) {
        assert!(!svg.contains("<img"), "{name}: {svg}");
        assert!(!name.contains(['/', '<', ' ']), "{name}");
        assert_well_formed(&svg);
    }
}

#[test]
fn the_page_asks_no_other_host_and_its_data_is_the_outcome_s() {
    let html = html(&outcome(&["cubic", "vegas"]), false);
    for outside in ["http://", "https://", "//cdn", "@import", "url("] {
        let found: Vec<&str> = html
            .match_indices(outside)
            .map(|(at, _)| &html[at..at + 40])
            .collect();
        // The name of SVG's elements is no address.
        let asked = found
            .iter()
            .any(|text| !text.contains("www.w3.org/2000/svg") && !text.contains("url(#inside)"));
        assert!(!asked, "{found:?}");
    }
    let (_, data) = html.split_once("id=\"data\">").expect("data");
    let (data, _) = data.split_once("</script>").expect("an end");
    let page: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(page["flows"], serde_json::json!(["cubic", "vegas"]));
    let panels = page["figures"][0]["panels"].as_array().expect("panels");
    let kinds: Vec<&str> = panels
        .iter()
        .filter_map(|panel| panel["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["window", "window", "rtt", "queue", "throughput"]);
    let window = &panels[1]["lines"][2];
    assert_eq!(
        (&window["what"], &window["flow"]),
        (&"window".into(), &1.into())
    );
    assert_eq!(window["at"][7], 7.0);
    assert_eq!(window["values"][7], 49_000.0);
    // Two losses of one cause within a thousandth of a second are one mark.
    assert_eq!(panels[0]["losses"][0]["packets"], 2);
    assert_eq!(
        panels[0]["cuts"][0]["words"],
        "At 5.000 s it cut the window."
    );
    assert!(
        html.contains("labnet compare --title &#39;it&#39;\\&#39;&#39;s&#39;"),
        "no command line"
    );
    assert!(html.contains("congestion window 75 %, pacing 25 %"));
    assert!(html.contains("10.0 Mbit/s"));
}

#[test]
fn what_is_drawn_is_true() {
    let files = svg(&outcome(&["cubic"]));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "plots.svg",
            "window.svg",
            "rtt.svg",
            "queue.svg",
            "throughput.svg"
        ]
    );
    for (_, svg) in &files {
        assert_well_formed(svg);
    }
    let window = &files[1].1;
    let number = |text: &str| text.parse::<f64>().expect("a number");
    // The band of the second phase begins at 4 of 10 s: so lies the axis.
    let (band_x, band_width) = (
        attributes(window, "class=\"band\"", "x"),
        attributes(window, "class=\"band\"", "width"),
    );
    let (left, right) = (
        number(&band_x[0]),
        number(&band_x[1]) + number(&band_width[1]),
    );
    assert!((number(&band_x[1]) - (left + 0.4 * (right - left))).abs() < 0.1);
    let top = number(&attributes(window, "class=\"band\"", "y")[0]);
    let height = number(&attributes(window, "class=\"band\"", "height")[0]);
    // The axis ends 22 % above the largest value.
    let up = |value: f64| top + height * (1.0 - value / (100_000.0 * 1.22));
    let across = |seconds: f64| left + (right - left) * seconds / 10.0;
    let path = &attributes(window, "class=\"window\"", "d")[0];
    let points: Vec<(f64, f64)> = (path[1..].split('L'))
        .map(|point| {
            let (x, y) = point.split_once(' ').expect("x and y");
            (number(x), number(y))
        })
        .collect();
    assert_eq!(points.len(), 11);
    for (n, (x, y)) in points.into_iter().enumerate() {
        let n = n as f64;
        assert!(
            (x - across(n)).abs() < 0.1 && (y - up(n * n * 1000.0)).abs() < 0.1,
            "{n}: {x} {y}"
        );
    }
    let cut = (
        attributes(window, "class=\"cut\"", "cx"),
        attributes(window, "class=\"cut\"", "cy"),
    );
    assert!((number(&cut.0[0]) - across(5.0)).abs() < 0.1);
    assert!((number(&cut.1[0]) - up(50_000.0)).abs() < 0.1);
    // The threshold stays until it is set anew.
    let threshold = &attributes(window, "class=\"ssthresh\"", "d")[0];
    let (x4, x8, y3, y6) = (across(4.0), across(8.0), up(30_000.0), up(60_000.0));
    assert_eq!(*threshold, format!("M{x4:.1} {y3:.1}H{x8:.1}V{y6:.1}"));
    // A throughput holds for the time before its point, and the link's rate is above it.
    let throughput = &files[4].1;
    let (x5, x10) = (across(5.0), across(10.0));
    let goodput = &attributes(throughput, "class=\"line f0\"", "d")
        .pop()
        .expect("a line");
    assert!(
        goodput.starts_with('M')
            && goodput.contains(&format!("{x5:.1} "))
            && goodput.ends_with(&format!("H{x10:.1}")),
        "{goodput}"
    );
    assert!(throughput.contains(">link</text>"));
    let change = attributes(window, "class=\"change\"", "x1");
    assert_eq!(change, [format!("{:.1}", across(5.0))]);
    assert!(window.contains(">loss=5</text>"));
    assert!(window.contains("lost by chance (2)") && window.contains("queue full (1)"));
}

#[test]
fn a_sweep_shows_its_points_beside_theory() {
    let mut outcome = outcome(&["cubic"]);
    let point = |value: f64, goodput: f64| SweepPoint {
        sender: "cubic".to_owned(),
        value,
        goodput_bits_per_second: goodput,
        least_bits_per_second: goodput * 0.9,
        most_bits_per_second: goodput * 1.1,
    };
    outcome.sweep = Some(Sweep {
        option: "loss".to_owned(),
        unit: "%".to_owned(),
        points: vec![point(0.0, 20e6), point(2.0, 10e6), point(4.0, 5e6)],
        bounds: vec![Bound {
            name: "Mathis".to_owned(),
            source: "1997".to_owned(),
            values: vec![1.0, 4.0],
            bits_per_second: vec![10e6, 5e6],
        }],
    });
    let files = svg(&outcome);
    let (_, sweep) = files
        .iter()
        .find(|(name, _)| name == "sweep.svg")
        .expect("drawn");
    assert_well_formed(sweep);
    let centre = |axis: &str| -> Vec<f64> {
        let texts = attributes(sweep, "class=\"dot\"", axis).into_iter();
        texts.map(|text| text.parse().expect("a number")).collect()
    };
    let (x, y) = (centre("cx"), centre("cy"));
    assert_eq!(x.len(), 3);
    assert!((x[1] - (x[0] + x[2]) / 2.0).abs() < 0.1);
    // 20, 10, 5 Mbit/s.
    assert!(((y[1] - y[0]) / (y[2] - y[1]) - 2.0).abs() < 0.01, "{y:?}");
    let bound = &attributes(sweep, "class=\"bound\"", "d")[0];
    assert_eq!(
        *bound,
        format!(
            "M{:.1} {:.1}L{:.1} {:.1}",
            x[0] + (x[2] - x[0]) / 4.0,
            y[1],
            x[2],
            y[2]
        )
    );
    assert!(html(&outcome, false).contains("cubic, loss 2 %: 10.0 Mbit/s"));
}

#[test]
fn several_runs_have_a_figure_each_and_the_first_is_a_picture() {
    let mut outcome = outcome(&["cubic"]);
    for repeat in 2..=3 {
        let mut run = outcome.runs[0].clone();
        run.repeat = repeat;
        run.flows[0].totals.goodput_bits_per_second = f64::from(repeat) * 10e6;
        outcome.runs.push(run);
    }
    outcome.experiment.repeats = 3;
    let labels: Vec<String> = figures(&outcome, MOST_POINTS)
        .into_iter()
        .map(|figure| figure.label)
        .collect();
    assert_eq!(labels, ["run 1", "run 2", "run 3"]);
    assert_eq!(svg(&outcome)[0].0, "run-1-plots.svg");
    assert!(html(&outcome, false).contains("20.0 Mbit/s<small>10.0 Mbit/s to 30.0 Mbit/s</small>"));
}

#[test]
fn an_outcome_of_nothing_is_still_a_page() {
    let empty = Outcome::default();
    assert!(html(&empty, true).contains("class=\"asking\""));
    assert!(svg(&empty).is_empty());
}
