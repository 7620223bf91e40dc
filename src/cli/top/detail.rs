//! One session: its last minute, what holds it back, its last cuts in words.

use console::measure_text_width;

use super::{
    board::Board,
    column::{mbit, ms, scale},
    frame::{Line, Style, fit},
    meter::{Row, Window},
    polled::Detail,
    spark::{Piece, SPAN, Trail, round_up},
    view::View,
};
use crate::{cli::api::ago, client::units::Size, text::printable, watch::samples::Samples};

/// Adds its lines, those above the screen left out, and keeps the person from walking beyond the end.
pub(super) fn draw(view: &mut View, board: &Board, lines: &mut Vec<Line>) {
    let Some(opened) = &view.detail else { return };
    let row = board
        .rows
        .iter()
        .find(|row| row.identity == opened.identity);
    let all = of(row.unwrap_or(opened), row.is_some(), board, view.width);
    let room = view.height.saturating_sub(lines.len() + 1);
    view.scrolled = view.scrolled.min(all.len().saturating_sub(room));
    lines.extend(all.into_iter().skip(view.scrolled));
}

fn of(row: &Row, open: bool, board: &Board, width: usize) -> Vec<Line> {
    let mut lines = vec![title(row, open, width)];
    let spark = width.saturating_sub(LABEL + SCALE).clamp(1, 120);
    if let Some(trail) = board.meter.trail(&row.identity) {
        let full = round_up(trail.most());
        let drawn = trail.draw(board.heard.steady, spark, full);
        let now = row.goodput.map_or_else(|| "-".to_owned(), mbit);
        lines.push(sparkline(
            "goodput",
            &drawn,
            &format!("█ = {}bit/s", scale(full)),
            &format!("{now} Mbit/s"),
        ));
    }
    let detail = board
        .detail()
        .filter(|detail| Some(&detail.why.connection_id) == row.connection.as_ref());
    if let Some(samples) = detail.and_then(|detail| detail.samples.as_ref()) {
        lines.extend(of_samples(samples, spark));
    }
    for text in numbers(row) {
        let wrapped = wrapped(&text, width).into_iter();
        lines.extend(wrapped.map(|text| Line::new().with(text, Style::PLAIN)));
    }
    lines.push(Line::new());
    match detail {
        Some(detail) => lines.extend(why(detail, width)),
        None => {
            let told = match row.session.kind.as_str() {
                "http" => {
                    "The kernel's TCP sends it, and tells no cause of what it does to its window."
                }
                "signals" => {
                    "The window of a session of the signals counts signals, and is never cut for a loss."
                }
                _ => "asking why its window is what it is ...",
            };
            lines.push(Line::new().with(told, Style::DIM));
        }
    }
    lines
}

/// What stands left and right of a sparkline.
const LABEL: usize = 10;
const SCALE: usize = 32;

fn title(row: &Row, open: bool, width: usize) -> Line {
    let name = if row.name.is_empty() {
        "(no name)"
    } else {
        &row.name
    };
    let mut line = Line::new().with(format!(" {} ", printable(name, 32)), Style::BOLD);
    let connection = row.connection.as_deref();
    let connection = connection.map_or_else(String::new, |id| format!(", connection {id}"));
    let phase = row
        .phase
        .as_deref()
        .map_or_else(String::new, |phase| format!(" in {}", printable(phase, 32)));
    let age = if open {
        format!("for {}", ago(row.age))
    } else {
        "over".to_owned()
    };
    line.push(
        format!(
            "{}, {}{phase}, {age}{connection}",
            row.client,
            printable(&row.control, 32)
        ),
        Style::PLAIN,
    );
    line.selected(width)
}

fn sparkline(label: &str, drawn: &str, full: &str, now: &str) -> Line {
    Line::new()
        .with(fit(label, LABEL), Style::BOLD)
        .with(drawn, Style::CYAN)
        .with(format!(" {full}"), Style::DIM)
        .with(format!(", now {now}"), Style::PLAIN)
}

/// The window and the round trip over the last minute of the session.
fn of_samples(samples: &Samples, width: usize) -> Vec<Line> {
    let trail = |value: &dyn Fn(usize) -> Option<f64>| {
        let mut trail = Trail::default();
        for (n, from) in samples.time.iter().enumerate() {
            let to = samples.time.get(n + 1).copied().unwrap_or(samples.seconds);
            if let Some(value) = value(n)
                && to > *from
            {
                trail.push(Piece {
                    from: *from,
                    to,
                    value,
                });
            }
        }
        trail
    };
    let window = trail(&|n| samples.window.get(n).map(|bytes| *bytes as f64));
    let rtt = trail(&|n| samples.rtt.get(n).copied().flatten());
    let mut lines = Vec::new();
    if let Some(now) = samples.window.last() {
        let full = round_up(window.most());
        let drawn = window.draw(samples.seconds, width, full);
        lines.push(sparkline(
            "window",
            &drawn,
            &format!("█ = {}", Size(full as u64)),
            &Size(*now).to_string(),
        ));
    }
    if let Some(now) = samples.rtt.last().copied().flatten() {
        let full = round_up(rtt.most());
        let drawn = rtt.draw(samples.seconds, width, full);
        lines.push(sparkline(
            "round trip",
            &drawn,
            &format!("█ = {} ms", full * 1e3),
            &format!("{} ms", ms(now)),
        ));
    }
    if !lines.is_empty() {
        let text = format!("{:LABEL$}the last {SPAN:.0} s, the newest right", "");
        lines.push(Line::new().with(text, Style::DIM));
    }
    lines
}

/// What is counted, and what is under way.
fn numbers(row: &Row) -> Vec<String> {
    let mut pieces = Vec::new();
    match row.window {
        Some(Window::Bytes(bytes)) => pieces.push(format!("window {}", Size(bytes))),
        Some(Window::Signals(signals)) => pieces.push(format!("window {signals} signals")),
        None => {}
    }
    let of = |key: &str| {
        row.session
            .statistics
            .get(key)
            .and_then(serde_json::Value::as_u64)
    };
    if let Some(bytes) = of("ssthresh_bytes") {
        pieces.push(format!("threshold {}", Size(bytes)));
    }
    if let Some(bytes) = row.in_flight {
        pieces.push(format!("in flight {}", Size(bytes)));
    }
    if let Some(rate) = of("pacing_bytes_per_second") {
        pieces.push(format!("pace {} Mbit/s", mbit(rate as f64 * 8.0)));
    }
    if let Some(rtt) = row.rtt {
        let min = row
            .min_rtt
            .map_or_else(String::new, |min| format!(" (least {})", ms(min)));
        pieces.push(format!("round trip {}{min} ms", ms(rtt)));
    }
    let mut counted = Vec::new();
    for (key, words) in [
        ("packets_sent", "packets sent"),
        ("segments_sent", "segments sent"),
        ("packets_lost", "lost"),
        ("spurious_losses", "of these wrongly"),
        ("packets_retransmitted", "carried something again"),
        ("segments_retransmitted", "sent again"),
        ("received", "signals received"),
        ("lost", "missed"),
        ("repeated", "that came again"),
    ] {
        if let Some(number) = of(key) {
            counted.push(format!("{number} {words}"));
        }
    }
    [pieces, counted]
        .into_iter()
        .filter(|pieces| !pieces.is_empty())
        .map(|pieces| pieces.join(", "))
        .collect()
}

/// What `labnet why` says, the last cut first to be seen.
fn why(detail: &Detail, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let told = detail.why.lines();
    // What holds it back now stands first: of cuts there may be more than the screen has lines.
    let (cuts, rest): (Vec<_>, Vec<_>) = told.into_iter().partition(|line| line.starts_with("- "));
    for line in rest.into_iter().chain(cuts.into_iter().rev()) {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        for (n, piece) in wrapped(&line, width.saturating_sub(indent.len()))
            .into_iter()
            .enumerate()
        {
            let indent = if n > 0 { indent } else { "" };
            lines.push(Line::new().with(format!("{indent}{piece}"), Style::PLAIN));
        }
    }
    lines
}

/// A sentence in lines of `width` columns, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let used = measure_text_width(&lines[last]);
        if used > 0 && used + 1 + measure_text_width(word) > width {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_broken_at_blanks() {
        assert_eq!(
            wrapped("- at 0.196 s CUBIC cut", 12),
            ["- at 0.196 s", "CUBIC cut"]
        );
        assert_eq!(wrapped("averylongword x", 4), ["averylongword", "x"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
