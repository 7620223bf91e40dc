//! What is drawn, before it is drawn: aligned plots on one axis of time, in base units. The page's script
//! and the SVG draw the same.

use serde::Serialize;

use super::{
    super::{
        outcome::{Flow, LossCause, Outcome, Run},
        series::Series,
    },
    axis::{Quantity, Unit, ticks},
};

/// All series of a page together have about so many points: some megabytes.
const MOST_OF_A_PAGE: usize = 250_000;
/// But each has so many.
const LEAST_POINTS: usize = 200;
/// Marks nearer than a run's length by this are one.
const MARKS: f64 = 1500.0;

/// The runs of one value and one repetition, on one axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// Which of several: `loss 2, run 1`.
    pub(super) label: String,
    /// For a file's name: `loss-2-run-1`.
    pub(super) name: String,
    /// Where the axis ends.
    pub(super) seconds: f64,
    pub(super) panels: Vec<Panel>,
}

/// One plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Panel {
    /// `window`, `rtt`, `queue`, `throughput`.
    pub(super) kind: &'static str,
    pub(super) title: String,
    /// Whose it is: a place in the page's list of flows; `None`: all have it together.
    pub(super) flow: Option<usize>,
    pub(super) unit: Unit,
    /// Where the axis ends.
    pub(super) top: f64,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) lines: Vec<Line>,
    /// A value that is told by a level line, and what it is.
    pub(super) level: Option<(f64, &'static str)>,
    pub(super) bands: Vec<Band>,
    pub(super) losses: Vec<Mark>,
    pub(super) cuts: Vec<CutMark>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    /// `None`: it is no flow's but the link's.
    pub(super) flow: Option<usize>,
    /// `window`, `ssthresh`, `in_flight`, `rtt`, `queue`, `goodput`, `pacing`.
    pub(super) what: &'static str,
    pub(super) at: Vec<f64>,
    pub(super) values: Vec<f64>,
}

/// A phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Band {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) until: f64,
}

/// Losses of one cause at about one time, or packets that were marked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) cause: LossCause,
    pub(super) packets: u32,
}

/// A cut of the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct CutMark {
    pub(super) at: f64,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) words: String,
}

/// The names of all flows, each once, in the order in which they first ran: their places give their
/// colours.
pub(super) fn flows(outcome: &Outcome) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for flow in outcome.runs.iter().flat_map(|run| &run.flows) {
        if !names.contains(&flow.name) {
            names.push(flow.name.clone());
        }
    }
    names
}

/// Words for a run's place among others: `loss 2`, `run 1`, both, or nothing.
fn label(outcome: &Outcome, run: &Run) -> String {
    let swept = run
        .swept
        .iter()
        .map(|(option, value)| format!("{option} {value}"));
    let mut parts: Vec<String> = swept.collect();
    if outcome.experiment.repeats > 1 || outcome.runs.iter().any(|other| other.repeat > 1) {
        parts.push(format!("run {}", run.repeat));
    }
    parts.join(", ")
}

/// All figures of an outcome, in order. No series has more than `most` points.
pub(super) fn figures(outcome: &Outcome, most: usize) -> Vec<Figure> {
    let flows = flows(outcome);
    let each = 7 * outcome
        .runs
        .iter()
        .map(|run| run.flows.len())
        .sum::<usize>();
    let most = most.min((MOST_OF_A_PAGE / each.max(1)).max(LEAST_POINTS));
    let mut groups: Vec<(String, Vec<&Run>)> = Vec::new();
    for run in &outcome.runs {
        let label = label(outcome, run);
        match groups.iter_mut().find(|(other, _)| *other == label) {
            Some((_, runs)) => runs.push(run),
            None => groups.push((label, vec![run])),
        }
    }
    let figure = |(label, runs): (String, Vec<&Run>)| {
        let mut drawer = Drawer {
            flows: &flows,
            most,
            together: outcome.experiment.together,
        };
        let panels = drawer.panels(outcome, &runs);
        let seconds = runs.iter().map(|run| run.seconds).fold(0.0, f64::max);
        let ends = panels.iter().flat_map(|panel| &panel.lines);
        let ends = ends.filter_map(|line| line.at.last().copied());
        Figure {
            name: label
                .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
                .replace("--", "-"),
            label,
            // Nothing that was seen lies outside.
            seconds: ends.fold(seconds, f64::max).max(1e-3),
            panels,
        }
    };
    groups.into_iter().map(figure).collect()
}

struct Drawer<'a> {
    flows: &'a [String],
    most: usize,
    together: bool,
}

impl Drawer<'_> {
    fn place(&self, flow: &Flow) -> Option<usize> {
        self.flows.iter().position(|name| *name == flow.name)
    }

    fn line(&self, flow: Option<usize>, what: &'static str, series: &Series) -> Option<Line> {
        let mut series = series.clone();
        series.decimate(self.most);
        let finest = if what == "rtt" { 1e6 } else { 1.0 };
        (!series.is_empty()).then(|| Line {
            flow,
            what,
            at: round(&series.at_seconds, 1e6),
            values: round(&series.values, finest),
        })
    }

    fn panels(&mut self, outcome: &Outcome, runs: &[&Run]) -> Vec<Panel> {
        let flows: Vec<(&Run, &Flow)> = (runs.iter())
            .flat_map(|run| run.flows.iter().map(|flow| (*run, flow)))
            .collect();
        let mut panels: Vec<Panel> = (flows.iter())
            .map(|(run, flow)| self.window(run, flow))
            .collect();
        panels.retain(|panel| !panel.lines.is_empty());
        // Windows side by side are compared: they have one axis.
        let tallest = panels.iter().map(|panel| panel.top).fold(0.0, f64::max);
        for panel in &mut panels {
            panel.stretch(Quantity::Bytes, tallest);
        }
        let link = &outcome.experiment.link.down;
        let mut lines = Vec::new();
        for (_, flow) in &flows {
            lines.extend(self.line(self.place(flow), "rtt", &flow.trace.rtt_seconds));
        }
        panels.push(Panel::new(
            "rtt",
            "round trip",
            Quantity::Seconds,
            lines,
            None,
        ));
        let mut lines = Vec::new();
        for run in runs {
            // A queue that several fill is no one's.
            let owner = match &run.flows[..] {
                [flow] if !self.together => self.place(flow),
                _ => None,
            };
            lines.extend(self.line(owner, "queue", &run.queue_bytes));
        }
        let level = link.queue_bytes.map(|bytes| (bytes as f64, "full"));
        panels.push(Panel::new(
            "queue",
            "queue of the link",
            Quantity::Bytes,
            lines,
            level,
        ));
        let mut lines = Vec::new();
        for (_, flow) in &flows {
            let trace = &flow.trace;
            lines.extend(self.line(self.place(flow), "goodput", &trace.goodput_bits_per_second));
            lines.extend(self.line(self.place(flow), "pacing", &trace.pacing_bits_per_second));
        }
        let level = link.rate_bits_per_second.map(|rate| (rate as f64, "link"));
        panels.push(Panel::new(
            "throughput",
            "throughput",
            Quantity::BitsPerSecond,
            lines,
            level,
        ));
        panels.retain(|panel| !panel.lines.is_empty());
        panels
    }

    fn window(&self, run: &Run, flow: &Flow) -> Panel {
        let place = self.place(flow);
        let trace = &flow.trace;
        let lines = [
            self.line(place, "in_flight", &trace.in_flight_bytes),
            self.line(place, "ssthresh", &trace.ssthresh_bytes),
            self.line(place, "window", &trace.window_bytes),
        ];
        let lines = lines.into_iter().flatten().collect();
        let mut panel = Panel::new("window", &flow.name, Quantity::Bytes, lines, None);
        panel.flow = place;
        panel.bands = (trace.phases.iter())
            .map(|phase| Band {
                name: phase.name.clone(),
                from: phase.from_seconds,
                until: phase.until_seconds,
            })
            .collect();
        panel.cuts = (trace.cuts.iter())
            .map(|cut| CutMark {
                at: cut.at_seconds,
                before: cut.before_bytes,
                after: cut.after_bytes,
                words: cut.words.clone(),
            })
            .collect();
        let apart = run.seconds / MARKS;
        let mut open: Vec<(LossCause, usize)> = Vec::new();
        let losses = trace.losses.iter().map(|loss| match loss.spurious {
            true => (loss.at_seconds, LossCause::Late),
            false => (loss.at_seconds, loss.cause),
        });
        let marks = trace.marks_at_seconds.iter();
        let marks = marks.map(|at| (*at, LossCause::Marked));
        for (at, cause) in losses.chain(marks) {
            let last = open.iter_mut().find(|(other, _)| *other == cause);
            match last {
                Some((_, mark)) if at - panel.losses[*mark].at <= apart => {
                    panel.losses[*mark].packets += 1;
                }
                last => {
                    let mark = panel.losses.len();
                    match last {
                        Some((_, old)) => *old = mark,
                        None => open.push((cause, mark)),
                    }
                    panel.losses.push(Mark {
                        at,
                        cause,
                        packets: 1,
                    });
                }
            }
        }
        panel
    }
}

fn round(values: &[f64], finest: f64) -> Vec<f64> {
    values
        .iter()
        .map(|value| (value * finest).round() / finest)
        .collect()
}

impl Panel {
    fn new(
        kind: &'static str,
        title: &str,
        quantity: Quantity,
        lines: Vec<Line>,
        level: Option<(f64, &'static str)>,
    ) -> Self {
        // What paces and the threshold may be far above what is reached, and are not waited for.
        let drawn = lines
            .iter()
            .filter(|line| !["pacing", "ssthresh"].contains(&line.what));
        let largest = drawn
            .flat_map(|line| &line.values)
            .copied()
            .fold(0.0, f64::max);
        // Nor is a queue that is never filled.
        let level = level.filter(|(value, _)| kind != "queue" || *value <= 3.0 * largest);
        let top = level.map_or(largest, |(value, _)| largest.max(value));
        let mut panel = Self {
            kind,
            title: title.to_owned(),
            flow: None,
            unit: quantity.unit(top),
            top: 0.0,
            ticks: Vec::new(),
            lines,
            level,
            bands: Vec::new(),
            losses: Vec::new(),
            cuts: Vec::new(),
        };
        // Over a window stand the names of its phases.
        let room = if kind == "window" { 1.22 } else { 1.08 };
        panel.stretch(quantity, top * room);
        panel
    }

    fn stretch(&mut self, quantity: Quantity, top: f64) {
        self.top = if top > 0.0 { top } else { 1.0 };
        self.unit = quantity.unit(self.top);
        let factor = self.unit.factor;
        let marks = ticks(self.top * factor, 4.0).into_iter();
        self.ticks = marks.map(|(value, text)| (value / factor, text)).collect();
    }
}
