//! The plots as still pictures: SVG 1.1 that wants nothing else, light, text as text.

use std::fmt::{Display, Write};

use super::{
    super::outcome::{LinkChange, LossCause, Sweep},
    axis::{Quantity, decades, ticks},
    escape::Text,
    figure::{Figure, Line, Panel},
    palette,
};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;
/// Above a panel, for its title.
const TITLE: f64 = 26.0;
const INK: &str = "#1f2328";
const FAINT: &str = "#59636e";
const GRID: &str = "#e4e7ea";

/// What stands above a picture.
pub(super) struct Heading<'a> {
    pub(super) title: &'a str,
    pub(super) words: &'a str,
    pub(super) flows: &'a [String],
    /// Of the link, told where they were.
    pub(super) changes: &'a [LinkChange],
}

/// Elements, one after another.
#[derive(Default)]
struct Picture(String);

impl Picture {
    fn add(&mut self, element: impl Display) {
        // A String takes all.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: impl Display) {
        let text = text.to_string();
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>",
            Text(&text)
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
        ));
    }

    /// A whole file of it.
    fn finish(self, height: f64, label: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{}\" \
             font-family=\"system-ui, Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
             <rect class=\"paper\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            Text(label),
            self.0
        )
    }
}

/// A sample of each flow's line, with its name. Ends at the y returned.
fn legend(picture: &mut Picture, flows: &[String], shown: &[usize], mut y: f64) -> f64 {
    let mut x = LEFT;
    for flow in shown {
        let name = &flows[*flow];
        // As wide as text of this size comes to at most.
        let width = 40.0 + 7.5 * name.chars().count() as f64;
        if x + width > WIDTH && x > LEFT {
            x = LEFT;
            y += 18.0;
        }
        let style = stroke(Some(*flow), 2.0);
        picture.line((x, y - 4.0), (x + 24.0, y - 4.0), &style);
        picture.text(x + 30.0, y, &format!("fill=\"{INK}\""), name);
        x += width;
    }
    y
}

fn stroke(flow: Option<usize>, width: f64) -> String {
    match flow {
        Some(flow) => format!(
            "class=\"line f{flow}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
             stroke-dasharray=\"{}\" stroke-linejoin=\"round\"",
            palette::colour(flow),
            palette::dashes(flow)
        ),
        None => format!("class=\"line\" fill=\"none\" stroke=\"{INK}\" stroke-width=\"{width}\""),
    }
}

/// All panels of a figure, one below the other.
pub(super) fn time_plots(figure: &Figure, panels: &[&Panel], heading: &Heading) -> String {
    let mut picture = Picture::default();
    let mut y = header(&mut picture, heading, &figure.label);
    let mut shown: Vec<usize> = (panels.iter().flat_map(|panel| &panel.lines))
        .filter_map(|line| line.flow)
        .collect();
    shown.sort_unstable();
    shown.dedup();
    y = legend(&mut picture, heading.flows, &shown, y + 18.0);
    let time = |seconds: f64| LEFT + PLOT * (seconds / figure.seconds);
    let marks = ticks(figure.seconds, 8.0);
    let changes = || {
        heading
            .changes
            .iter()
            .filter(|change| change.at_seconds <= figure.seconds)
    };
    if changes().next().is_some() {
        y += 14.0;
    }
    for change in changes() {
        let x = time(change.at_seconds);
        let anchor = if x > WIDTH * 0.8 { "end" } else { "middle" };
        let style = format!("fill=\"{FAINT}\" font-size=\"11\" text-anchor=\"{anchor}\"");
        picture.text(x, y + 4.0, &style, &change.words);
    }
    let changes_from = y + 8.0;
    for (number, panel) in panels.iter().enumerate() {
        y += TITLE + 4.0;
        let height = if panel.kind == "window" { 110.0 } else { 120.0 };
        let plot = Plot {
            panel,
            top: y,
            height,
        };
        for (seconds, _) in &marks {
            let x = time(*seconds);
            picture.line((x, y), (x, y + height), &format!("stroke=\"{GRID}\""));
        }
        plot.draw(&mut picture, &time);
        if panel.kind == "window" && number == 0 {
            let style = format!("fill=\"{FAINT}\" text-anchor=\"end\"");
            let words = "line: window, dots: ssthresh, area: in flight";
            picture.text(WIDTH - RIGHT, y - 9.0, &style, words);
        }
        y += height;
    }
    for change in changes() {
        let x = time(change.at_seconds);
        let style = format!("class=\"change\" stroke=\"{FAINT}\" stroke-dasharray=\"4 3\"");
        picture.line((x, changes_from), (x, y), &style);
    }
    picture.line(
        (LEFT, y),
        (WIDTH - RIGHT, y),
        &format!("stroke=\"{FAINT}\""),
    );
    for (seconds, text) in marks {
        let x = time(seconds);
        picture.line((x, y), (x, y + 4.0), &format!("stroke=\"{FAINT}\""));
        picture.text(
            x,
            y + 17.0,
            &format!("fill=\"{FAINT}\" text-anchor=\"middle\""),
            text,
        );
    }
    let middle = LEFT + PLOT / 2.0;
    picture.text(
        middle,
        y + 34.0,
        &format!("fill=\"{FAINT}\" text-anchor=\"middle\""),
        "time (s)",
    );
    y = causes(&mut picture, panels, y + 54.0);
    picture.finish(y, &format!("{}: {}", heading.title, heading.words))
}

/// Nothing without a title: then the page around it has one.
fn header(picture: &mut Picture, heading: &Heading, label: &str) -> f64 {
    if heading.title.is_empty() {
        return 0.0;
    }
    let bold = format!("fill=\"{INK}\" font-size=\"16\" font-weight=\"600\"");
    picture.text(LEFT, 26.0, &bold, heading.title);
    let words = match label {
        "" => heading.words.to_owned(),
        label => format!("{}; {label}", heading.words),
    };
    picture.text(LEFT, 45.0, &format!("fill=\"{FAINT}\""), words);
    50.0
}

/// What the marks mean, of those that there are. Gives the picture's height.
fn causes(picture: &mut Picture, panels: &[&Panel], y: f64) -> f64 {
    let marks = || panels.iter().flat_map(|panel| &panel.losses);
    let mut x = LEFT;
    for cause in LossCause::ALL {
        let of_it = marks().filter(|mark| mark.cause == cause);
        let packets: u32 = of_it.map(|mark| mark.packets).sum();
        if packets > 0 {
            mark(picture, cause, x + 3.0, y - 4.0);
            let text = format!("{} ({packets})", cause.words());
            picture.text(x + 12.0, y, &format!("fill=\"{FAINT}\""), &text);
            x += 28.0 + 7.0 * text.chars().count() as f64;
        }
    }
    if x > LEFT { y + 14.0 } else { y - 8.0 }
}

/// The sign of a loss, seven wide.
fn mark(picture: &mut Picture, cause: LossCause, x: f64, y: f64) {
    let path = match cause {
        LossCause::Random => "m-3-3l6 6m0-6l-6 6",
        LossCause::Burst => "m-3-3l6 6m0-6l-6 6m3-4v8",
        LossCause::QueueFull => "m-3-3h6v6h-6z",
        LossCause::Policer => "m-3 3h6l-3-6z",
        LossCause::Codel => "m-3-3h6l-3 6z",
        LossCause::Red => "m-3-3h6l-6 6h6z",
        LossCause::Marked => "m-3 3l3-6l3 6",
        LossCause::Blackout => "m0-4v8m-3-8v8m6-8v8",
        LossCause::Corrupt => "m0-4l4 4l-4 4l-4-4z",
        LossCause::Late => "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
        LossCause::Unknown => "m-3 0h6m-3-3v6",
    };
    let filled = matches!(
        cause,
        LossCause::QueueFull
            | LossCause::Policer
            | LossCause::Codel
            | LossCause::Red
            | LossCause::Corrupt
    );
    let fill = if filled { INK } else { "none" };
    picture.add(format_args!(
        "<path class=\"mark\" d=\"M{x:.1} {y:.1}{path}\" fill=\"{fill}\" stroke=\"{INK}\"/>"
    ));
}

/// The points of a polyline but those that lie on it anyway, by a seventh of a pixel.
fn without_needless(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const NEAR: f64 = 0.15;
    let mut kept = Vec::new();
    let mut anchor = 0;
    kept.extend(points.first());
    for end in 2..points.len() {
        let ((x1, y1), (x2, y2)) = (points[anchor], points[end]);
        let length = (x2 - x1).hypot(y2 - y1);
        let is_off = |(x, y): &(f64, f64)| {
            let across = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1);
            // Back on itself, a line has no length to be near to.
            let beyond = *y < y1.min(y2) - NEAR || *y > y1.max(y2) + NEAR;
            beyond || across.abs() > NEAR * length
        };
        if points[anchor + 1..end].iter().any(is_off) {
            anchor = end - 1;
            kept.push(points[anchor]);
        }
    }
    kept.extend(points.last().filter(|_| points.len() > 1));
    kept
}

struct Plot<'a> {
    panel: &'a Panel,
    top: f64,
    height: f64,
}

impl Plot<'_> {
    fn y(&self, value: f64) -> f64 {
        // What lies above the axis is drawn at its end.
        let share = (value / self.panel.top).clamp(0.0, 1.0);
        self.top + self.height * (1.0 - share)
    }

    fn draw(&self, picture: &mut Picture, time: &impl Fn(f64) -> f64) {
        let panel = self.panel;
        let bottom = self.top + self.height;
        self.bands(picture, time);
        for (value, text) in &panel.ticks {
            let y = self.y(*value);
            picture.line((LEFT, y), (WIDTH - RIGHT, y), &format!("stroke=\"{GRID}\""));
            let style = format!("fill=\"{FAINT}\" text-anchor=\"end\"");
            picture.text(LEFT - 7.0, y + 4.0, &style, text);
        }
        let title = format!("fill=\"{INK}\" font-weight=\"600\"");
        let words = format!("{} ({})", panel.title, panel.unit.name);
        picture.text(LEFT, self.top - 9.0, &title, words);
        if let Some((value, words)) = panel.level {
            let y = self.y(value);
            let style = format!("class=\"level\" stroke=\"{FAINT}\" stroke-dasharray=\"1 3\"");
            picture.line((LEFT, y), (WIDTH - RIGHT, y), &style);
            let style = format!("fill=\"{FAINT}\" text-anchor=\"end\" font-size=\"11\"");
            picture.text(WIDTH - RIGHT - 3.0, y - 3.0, &style, words);
        }
        for line in &panel.lines {
            self.line(picture, line, time);
        }
        for cut in &panel.cuts {
            picture.add(format_args!(
                "<circle class=\"cut\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#ffffff\" \
                 stroke=\"{INK}\"/>",
                time(cut.at),
                self.y(cut.after as f64)
            ));
        }
        for loss in &panel.losses {
            mark(picture, loss.cause, time(loss.at), bottom - 6.0);
        }
        picture.line(
            (LEFT, bottom),
            (WIDTH - RIGHT, bottom),
            &format!("stroke=\"{FAINT}\""),
        );
    }

    fn bands(&self, picture: &mut Picture, time: &impl Fn(f64) -> f64) {
        let mut names: Vec<&str> = Vec::new();
        for band in &self.panel.bands {
            if !names.contains(&band.name.as_str()) {
                names.push(&band.name);
            }
            let shade = names
                .iter()
                .position(|name| *name == band.name)
                .unwrap_or(0)
                % 4;
            let (x, until) = (time(band.from), time(band.until));
            let opacity = 0.09 - 0.03 * shade as f64;
            let words = band.name.replace('_', " ");
            if opacity > 0.001 {
                picture.add(format_args!(
                    "<rect class=\"band\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                     fill=\"{INK}\" fill-opacity=\"{opacity:.2}\"/>",
                    self.top,
                    (until - x).max(0.0),
                    self.height
                ));
            }
            if until - x > 8.0 + 6.2 * words.chars().count() as f64 {
                let style = format!("fill=\"{FAINT}\" font-size=\"11\"");
                picture.text(x + 4.0, self.top + 12.0, &style, words);
            }
        }
    }

    fn line(&self, picture: &mut Picture, line: &Line, time: &impl Fn(f64) -> f64) {
        let places = line.at.iter().zip(&line.values);
        let mut points: Vec<(f64, f64)> = places
            .map(|(at, value)| (time(*at), self.y(*value)))
            .collect();
        if !["goodput", "ssthresh"].contains(&line.what) {
            points = without_needless(&points);
        }
        let mut path = String::new();
        // The height at which the line stands as it is drawn.
        let mut drawn: Option<f64> = None;
        for (x, y) in points {
            // A String takes all.
            let _ = match (drawn, line.what) {
                (None, "in_flight") => write!(path, "M{x:.1} {:.1}V{y:.1}", self.y(0.0)),
                (None, _) => write!(path, "M{x:.1} {y:.1}"),
                // The mean since the point before.
                (Some(_), "goodput") => write!(path, "V{y:.1}H{x:.1}"),
                // It stays until it is set anew.
                (Some(_), "ssthresh") => write!(path, "H{x:.1}V{y:.1}"),
                (Some(level), _) if (level - y).abs() < 0.05 => {
                    let _ = write!(path, "H{x:.1}");
                    continue;
                }
                _ => write!(path, "L{x:.1} {y:.1}"),
            };
            drawn = Some(y);
        }
        match line.what {
            "in_flight" => {
                let colour = line.flow.map_or(INK, palette::colour);
                let _ = write!(path, "V{:.1}Z", self.y(0.0));
                picture.add(format_args!(
                    "<path class=\"in_flight\" d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.18\"/>"
                ));
            }
            "ssthresh" => picture.add(format_args!(
                "<path class=\"ssthresh\" d=\"{path}\" fill=\"none\" stroke=\"{INK}\" \
                 stroke-dasharray=\"1.5 2.5\"/>"
            )),
            "pacing" => {}
            // Its panel says whose it is.
            "window" => {
                let colour = line.flow.map_or(INK, palette::colour);
                picture.add(format_args!(
                    "<path class=\"window\" d=\"{path}\" fill=\"none\" stroke=\"{colour}\" \
                     stroke-width=\"1.5\" stroke-linejoin=\"round\"/>"
                ));
            }
            _ => picture.add(format_args!(
                "<path d=\"{path}\" {}/>",
                stroke(line.flow, 1.5)
            )),
        }
    }
}

/// What was reached at each value, and what theory says.
pub(super) fn sweep_plot(sweep: &Sweep, link_rate: Option<u64>, heading: &Heading) -> String {
    const HEIGHT: f64 = 300.0;
    let mut picture = Picture::default();
    let mut senders: Vec<&str> = Vec::new();
    for point in &sweep.points {
        if !senders.contains(&point.sender.as_str()) {
            senders.push(&point.sender);
        }
    }
    let place = |sender: &str| heading.flows.iter().position(|name| name == sender);
    let mut y = header(&mut picture, heading, "");
    let shown: Vec<usize> = senders.iter().filter_map(|sender| place(sender)).collect();
    y = legend(&mut picture, heading.flows, &shown, y + 18.0) + TITLE + 6.0;
    let values = || sweep.points.iter().map(|point| point.value);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    // From 0, if that is near.
    let from = if low <= high / 2.0 { 0.0 } else { low };
    let span = if high > from { high - from } else { 1.0 };
    let across = |value: f64| LEFT + PLOT * 0.98 * ((value - from) / span);
    let most = sweep
        .points
        .iter()
        .map(|point| point.most_bits_per_second)
        .fold(0.0, f64::max);
    // A rate that nobody came near would press all to the ground.
    let link_rate = link_rate.filter(|rate| *rate as f64 <= 3.0 * most);
    let top = link_rate
        .map_or(most, |rate| most.max(rate as f64))
        .max(1.0)
        * 1.06;
    let unit = Quantity::BitsPerSecond.unit(top);
    let least = (sweep.points.iter())
        .map(|point| point.least_bits_per_second)
        .filter(|rate| *rate > 0.0)
        .fold(top, f64::min);
    // Where senders differ by much, as do bounds that fall with a power of the loss, equal factors
    // are equal lengths.
    let floor = (top / least > 10.0).then_some(least * 0.8);
    let up = |rate: f64| {
        let share = match floor {
            Some(floor) => (rate.max(floor) / floor).ln() / (top / floor).ln(),
            None => rate / top,
        };
        y + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    };
    let bottom = y + HEIGHT;
    let faint = format!("fill=\"{FAINT}\"");
    let right = format!("{faint} text-anchor=\"end\"");
    let middle = format!("{faint} text-anchor=\"middle\"");
    let title = format!("fill=\"{INK}\" font-weight=\"600\"");
    picture.text(
        LEFT,
        y - 9.0,
        &title,
        match floor {
            Some(_) => format!("goodput ({}, logarithmic)", unit.name),
            None => format!("goodput ({})", unit.name),
        },
    );
    let levels = match floor {
        Some(floor) => decades(floor * unit.factor, top * unit.factor),
        None => ticks(top * unit.factor, 5.0),
    };
    for (value, text) in levels {
        let at = up(value / unit.factor);
        picture.line(
            (LEFT, at),
            (WIDTH - RIGHT, at),
            &format!("stroke=\"{GRID}\""),
        );
        picture.text(LEFT - 7.0, at + 4.0, &right, text);
    }
    if let Some(rate) = link_rate {
        let at = up(rate as f64);
        let style = format!("class=\"level\" stroke=\"{FAINT}\" stroke-dasharray=\"1 3\"");
        picture.line((LEFT, at), (WIDTH - RIGHT, at), &style);
        picture.text(WIDTH - RIGHT - 3.0, at - 4.0, &right, "link");
    }
    for (number, bound) in sweep.bounds.iter().enumerate() {
        let mut path = String::new();
        let mut end = None;
        for (value, rate) in bound.values.iter().zip(&bound.bits_per_second) {
            // Above the axis it bounds nothing that could be reached.
            if *rate <= top && *value >= from {
                let (x, y) = (across(*value), up(*rate));
                let letter = if end.is_none() { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{x:.1} {y:.1}");
                end = Some((x, y));
            }
        }
        if let Some((x, y)) = end {
            let dashes = ["6 3", "2 3", "9 3 2 3"][number % 3];
            picture.add(format_args!(
                "<path class=\"bound\" d=\"{path}\" fill=\"none\" stroke=\"{FAINT}\" \
                 stroke-dasharray=\"{dashes}\"><title>{}</title></path>",
                Text(&bound.source)
            ));
            // Side by side they would cover each other.
            let lift = if number % 2 == 0 { 14.0 } else { -6.0 };
            picture.text(x, y + lift, &right, &bound.name);
        }
    }
    for sender in senders {
        let flow = place(sender);
        let mut points: Vec<_> = sweep
            .points
            .iter()
            .filter(|point| point.sender == sender)
            .collect();
        points.sort_by(|a, b| a.value.total_cmp(&b.value));
        let group = flow.map_or(String::new(), |flow| format!(" f{flow}"));
        picture.add(format_args!("<g class=\"sender{group}\">"));
        let path: Vec<String> = (points.iter())
            .map(|point| {
                format!(
                    "{:.1} {:.1}",
                    across(point.value),
                    up(point.goodput_bits_per_second)
                )
            })
            .collect();
        picture.add(format_args!(
            "<path d=\"M{}\" {}/>",
            path.join("L"),
            stroke(flow, 1.5)
        ));
        for point in points {
            let (x, y) = (across(point.value), up(point.goodput_bits_per_second));
            let (least, most) = (
                up(point.least_bits_per_second),
                up(point.most_bits_per_second),
            );
            let colour = flow.map_or(INK, palette::colour);
            if least - most > 0.5 {
                let style = format!("class=\"line\" stroke=\"{colour}\"");
                picture.line((x, least), (x, most), &style);
            }
            let words = format!(
                "{sender}, {} {} {}: {}",
                sweep.option,
                point.value,
                sweep.unit,
                Quantity::BitsPerSecond.words(point.goodput_bits_per_second)
            );
            picture.add(format_args!(
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}</title></circle>",
                Text(&words)
            ));
        }
        picture.add("</g>");
    }
    picture.line(
        (LEFT, bottom),
        (WIDTH - RIGHT, bottom),
        &format!("stroke=\"{FAINT}\""),
    );
    for (value, text) in ticks(from + span, 8.0) {
        if value >= from {
            let x = across(value);
            picture.line(
                (x, bottom),
                (x, bottom + 4.0),
                &format!("stroke=\"{FAINT}\""),
            );
            picture.text(x, bottom + 17.0, &middle, text);
        }
    }
    let unit = if sweep.unit.is_empty() {
        String::new()
    } else {
        format!(" ({})", sweep.unit)
    };
    let name = format!("{}{unit}", sweep.option.replace('_', " "));
    picture.text(LEFT + PLOT / 2.0, bottom + 34.0, &middle, name);
    picture.finish(bottom + 46.0, &format!("Goodput by {}", sweep.option))
}
