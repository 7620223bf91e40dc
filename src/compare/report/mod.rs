//! The report of an experiment: one HTML file that needs no other host, and still pictures.

mod axis;
mod escape;
mod figure;
mod palette;
mod svg;
mod table;

use std::fmt::Write;

use serde::Serialize;

use self::{
    axis::Quantity,
    escape::{Text, script_json},
    figure::{Figure, Panel, figures, flows},
    svg::Heading,
};
use super::{
    outcome::{Direction, LossCause, Outcome},
    series::MOST_POINTS,
};

/// What the page's script draws.
#[derive(Serialize)]
struct Page<'a> {
    flows: &'a [String],
    figures: &'a [Figure],
    /// Words for the causes of losses.
    causes: Vec<(LossCause, &'static str)>,
    changes: Vec<(f64, &'a str)>,
    ask: bool,
}

/// The report as one HTML file. With `ask` it shows no result before its reader has drawn what to expect.
pub fn html(outcome: &Outcome, ask: bool) -> String {
    let flows = flows(outcome);
    let figures = figures(outcome, MOST_POINTS);
    let page = Page {
        flows: &flows,
        figures: &figures,
        causes: LossCause::ALL.map(|cause| (cause, cause.words())).to_vec(),
        changes: (outcome.experiment.changes.iter())
            .map(|change| (change.at_seconds, change.words.as_str()))
            .collect(),
        ask,
    };
    let title = title(outcome);
    let parts = [
        ("title", Text(&title).to_string()),
        (
            "style",
            include_str!("page.css").to_owned() + &palette::css(flows.len()),
        ),
        ("intro", intro(outcome)),
        (
            "answer",
            folded("Answer", outcome.experiment.answer.as_deref()),
        ),
        ("sweep", sweep(outcome, &flows)),
        ("table", table::html(outcome, &flows)),
        ("repeat", repeat(outcome)),
        ("class", if ask { "asking" } else { "" }.to_owned()),
        ("data", script_json(&page)),
        ("script", include_str!("page.js").to_owned()),
    ];
    // Each place once, from the left: what is put in is not looked at again.
    let mut rest = include_str!("page.html");
    let mut html = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or(("", after));
        html += before;
        html += parts
            .iter()
            .find(|(part, _)| *part == name)
            .map_or("", |(_, text)| text);
        rest = after;
    }
    html + rest
}

/// The plots as SVG files, by name: all on one axis (`plots.svg`), each alone, and of a sweep its own. Of
/// several repetitions the first is drawn.
pub fn svg(outcome: &Outcome) -> Vec<(String, String)> {
    let flows = flows(outcome);
    let title = title(outcome);
    let heading = Heading {
        title: &title,
        words: &outcome.experiment.link.words,
        flows: &flows,
        changes: &outcome.experiment.changes,
    };
    let first = outcome.runs.iter().map(|run| run.repeat).min();
    // A picture can't be zoomed into.
    let figures = figures(outcome, 1200);
    let mut files = Vec::new();
    let repeats = outcome.runs.iter().any(|run| Some(run.repeat) != first);
    let wanted = |figure: &&Figure| {
        let run = first.map_or(String::new(), |first| format!("run {first}"));
        !repeats || figure.label.ends_with(&run)
    };
    for figure in figures.iter().filter(wanted) {
        let name = |kind: &str| match figure.name.as_str() {
            "" => format!("{kind}.svg"),
            name => format!("{name}-{kind}.svg"),
        };
        let all: Vec<&Panel> = figure.panels.iter().collect();
        files.push((name("plots"), svg::time_plots(figure, &all, &heading)));
        for kind in ["window", "rtt", "queue", "throughput"] {
            let panels = figure.panels.iter().filter(|panel| panel.kind == kind);
            let panels: Vec<&Panel> = panels.collect();
            if !panels.is_empty() {
                files.push((name(kind), svg::time_plots(figure, &panels, &heading)));
            }
        }
    }
    if let Some(sweep) = &outcome.sweep {
        let rate = outcome.experiment.link.down.rate_bits_per_second;
        files.push((
            "sweep.svg".to_owned(),
            svg::sweep_plot(sweep, rate, &heading),
        ));
    }
    files
}

fn title(outcome: &Outcome) -> String {
    let names = || flows(outcome).join(", ");
    outcome.experiment.title.clone().unwrap_or_else(names)
}

fn paragraph(class: &str, text: Option<&str>) -> String {
    text.map_or(String::new(), |text| {
        format!("<p class=\"{class}\">{}</p>\n", Text(text))
    })
}

fn folded(summary: &str, text: Option<&str>) -> String {
    text.map_or(String::new(), |text| {
        format!(
            "<details class=\"result\"><summary>{summary}</summary><p>{}</p></details>\n",
            Text(text)
        )
    })
}

fn intro(outcome: &Outcome) -> String {
    let experiment = &outcome.experiment;
    let how = match (experiment.together, outcome.runs.len()) {
        (true, _) => "all at once over one link",
        (false, 0..=1) => "one sender over one link",
        (false, _) => "one after another, each over the same link",
    };
    let what = match (experiment.transfer_bytes, experiment.time_limit_seconds) {
        (Some(bytes), _) => Quantity::Bytes.words(bytes as f64),
        (None, Some(seconds)) => format!("{} of", Quantity::Seconds.words(seconds)),
        (None, None) => String::new(),
    };
    let what = what
        .strip_suffix(" of")
        .map_or(what.clone(), |time| format!("{time} each"));
    let time = if experiment.simulated {
        "virtual time"
    } else {
        "real time"
    };
    let mut html = paragraph("question", experiment.question.as_deref());
    let about = [what, how.to_owned(), time.to_owned()];
    let about: Vec<String> = about.into_iter().filter(|part| !part.is_empty()).collect();
    // A String takes all.
    let _ = writeln!(
        html,
        "<p class=\"about\"><code>{}</code> · {}</p>",
        Text(&experiment.link.words),
        Text(&about.join(" · "))
    );
    if let Some(look_for) = &experiment.look_for {
        let _ = writeln!(
            html,
            "<p class=\"look\"><strong>Look for:</strong> {}</p>",
            Text(look_for)
        );
    }
    html
}

fn sweep(outcome: &Outcome, flows: &[String]) -> String {
    let Some(sweep) = &outcome.sweep else {
        return String::new();
    };
    let heading = Heading {
        title: "",
        words: &outcome.experiment.link.words,
        flows,
        changes: &[],
    };
    let rate = outcome.experiment.link.down.rate_bits_per_second;
    let mut html = format!(
        "<section class=\"result\" aria-labelledby=\"sweep-heading\"><h2 id=\"sweep-heading\">Goodput by {}</h2>\n\
         <div class=\"sweep\" role=\"group\" tabindex=\"0\" aria-label=\"Plot of the sweep\">{}</div>\n",
        Text(&sweep.option.replace('_', " ")),
        svg::sweep_plot(sweep, rate, &heading)
    );
    for bound in &sweep.bounds {
        let _ = writeln!(
            html,
            "<p class=\"note\"><strong>{}</strong>: {}</p>",
            Text(&bound.name),
            Text(&bound.source)
        );
    }
    html + "</section>\n"
}

/// What is needed to do it again.
fn repeat(outcome: &Outcome) -> String {
    let (experiment, environment) = (&outcome.experiment, &outcome.environment);
    let mut html = format!(
        "<pre tabindex=\"0\"><code>{}</code></pre>\n",
        Text(&shell(&experiment.command))
    );
    let mut rows: Vec<(String, String)> = vec![
        ("seed".to_owned(), experiment.seed.to_string()),
        ("labnet".to_owned(), environment.labnet.clone()),
    ];
    let kernel = match (&environment.kernel, experiment.simulated) {
        (Some(kernel), _) => kernel.clone(),
        (None, true) => "none: virtual time".to_owned(),
        (None, false) => "not known".to_owned(),
    };
    rows.push(("kernel".to_owned(), kernel));
    for controller in &environment.controllers {
        rows.push((controller.sender.clone(), controller.version.clone()));
    }
    let link = &experiment.link;
    if link.up == link.down {
        rows.push(("link, both ways".to_owned(), direction(&link.down)));
    } else {
        rows.push(("link, data".to_owned(), direction(&link.down)));
        rows.push(("link, acknowledgements".to_owned(), direction(&link.up)));
    }
    for change in &experiment.changes {
        let when = format!("link from {}", Quantity::Seconds.words(change.at_seconds));
        rows.push((when, change.words.clone()));
    }
    for (name, value) in &environment.sysctls {
        rows.push((name.clone(), value.clone()));
    }
    html += "<table class=\"facts\"><tbody>\n";
    for (name, value) in rows {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            Text(&name),
            Text(&value)
        );
    }
    html + "</tbody></table>\n"
}

/// A direction of the link in numbers.
fn direction(link: &Direction) -> String {
    let mut words = Vec::new();
    words.push(match link.rate_bits_per_second {
        Some(rate) => Quantity::BitsPerSecond.words(rate as f64),
        None => "no limit of the rate".to_owned(),
    });
    if link.delay_seconds > 0.0 {
        words.push(format!(
            "{} long",
            Quantity::Seconds.words(link.delay_seconds)
        ));
    }
    if link.jitter_seconds > 0.0 {
        words.push(format!(
            "± {}",
            Quantity::Seconds.words(link.jitter_seconds)
        ));
    }
    if let Some(bytes) = link.queue_bytes {
        words.push(format!("queue of {}", Quantity::Bytes.words(bytes as f64)));
    }
    if let Some(aqm) = &link.aqm {
        let does = if link.ecn { "marks and drops" } else { "drops" };
        words.push(format!("where {aqm} {does}"));
    }
    if let (Some(rate), Some(burst)) = (link.policer_bits_per_second, link.policer_burst_bytes) {
        words.push(format!(
            "policed to {} with bursts of {}",
            Quantity::BitsPerSecond.words(rate as f64),
            Quantity::Bytes.words(burst as f64)
        ));
    }
    for (share, what) in [
        (link.loss, "lost by chance"),
        (link.reorder, "overtaken"),
        (link.duplicate, "twice"),
        (link.corrupt, "damaged"),
    ] {
        if share > 0.0 {
            words.push(format!("{} % {what}", 100.0 * share));
        }
    }
    if let Some(burst) = link.burst_packets {
        words.push(format!("in bursts of {burst}"));
    }
    words.join(", ")
}

/// A command line as a shell takes it.
fn shell(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
