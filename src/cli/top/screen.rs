//! The screen: what is known, in lines of the terminal's width.

use super::{
    board::Board,
    column, detail,
    frame::{Frame, Line, Style, fit},
    spark::{SPAN, round_up},
    view::{HEAD, View, rows_of},
};
use crate::{
    cli::api::ago,
    client::units::{Size, count},
    text::{LONG, printable},
};

/// The screen as it is to be at `now` seconds of the board's steady clock.
pub(super) fn draw(view: &mut View, board: &Board, at: &str, now: f64) -> Frame {
    let (width, height) = (view.width, view.height);
    let mut lines = head(view, board, at, now);
    if view.help {
        lines.truncate(HEAD - 1);
        lines.extend(help());
    } else if view.detail.is_some() {
        lines.truncate(HEAD - 1);
        detail::draw(view, board, &mut lines);
    } else {
        rows(view, board, &mut lines);
    }
    // The bottom line is always there.
    lines.resize(height.saturating_sub(1), Line::new());
    lines.push(foot(view, board));
    Frame::of(width, height, &lines)
}

fn head(view: &View, board: &Board, at: &str, now: f64) -> Vec<Line> {
    vec![
        service(view, board, at, now),
        components(board),
        traffic(view, board),
        link(board),
    ]
}

/// Which service, and whether it answers.
fn service(view: &View, board: &Board, at: &str, now: f64) -> Line {
    let mut left = Line::new();
    match &board.last {
        Some(polled) => {
            let status = &polled.status;
            left.push(
                format!("labnet {}", printable(&status.version, 16)),
                Style::BOLD,
            );
            let text = format!(
                " at {at}, up {}, configuration {}",
                ago(status.uptime_seconds),
                status.generation
            );
            left.push(text, Style::PLAIN);
        }
        None => left.push(format!("labnet at {at}"), Style::BOLD),
    }
    let (text, style) = match &board.gone {
        Some((since, _)) => {
            let silent = ago(now - since.steady);
            (
                format!("gone since {} UTC ({silent})", since.time()),
                Style::RED.reversed(),
            )
        }
        None if view.paused => (
            format!("paused at {} UTC", board.heard.time()),
            Style::YELLOW.reversed(),
        ),
        None => (format!("{} UTC", board.heard.time()), Style::DIM),
    };
    // What is wrong is told, if need be instead of the rest.
    let room = view.width.saturating_sub(text.chars().count() + 1);
    if left.width() > room {
        left = Line::new().with(fit("labnet", room.min(6)), Style::BOLD);
    }
    let gap = room.saturating_sub(left.width()) + 1;
    left.with(" ".repeat(gap), Style::PLAIN).with(text, style)
}

/// Those that are not up, or that all are; why there is no answer.
fn components(board: &Board) -> Line {
    if let Some((_, why)) = &board.gone {
        let why = why.lines().next().unwrap_or_default();
        return Line::new().with(printable(why, LONG), Style::RED);
    }
    let Some(polled) = &board.last else {
        return Line::new();
    };
    let components = &polled.status.components;
    let mut line = Line::new();
    for component in components.iter().filter(|it| it.state != "up") {
        if line.width() > 0 {
            line.push("; ", Style::PLAIN);
        }
        let style = match &*component.state {
            "degraded" | "restarting" => Style::YELLOW,
            _ => Style::RED,
        };
        let name = printable(&component.name, 16);
        line.push(format!("{name} {}", printable(&component.state, 16)), style);
        let why = component
            .reasons
            .first()
            .or(component.last_failure.as_ref());
        if let Some(why) = why {
            line.push(format!(": {}", printable(why, LONG)), Style::PLAIN);
        }
    }
    if line.width() == 0 {
        line.push(
            format!("all {} up", count(components.len() as u64, "component")),
            Style::GREEN,
        );
    }
    line
}

/// How many sessions, what goes out and in, what the list is sorted by.
fn traffic(view: &View, board: &Board) -> Line {
    let Some(polled) = &board.last else {
        return Line::new();
    };
    let mut line = Line::new();
    let filter = view.typing.as_ref().unwrap_or(&view.filter);
    let sessions = count(polled.open as u64, "session");
    if filter.is_empty() {
        line.push(sessions, Style::PLAIN);
    } else {
        line.push(format!("{} of {sessions}", polled.fit), Style::CYAN);
    }
    let rate = |bits: fn(&super::meter::TotalRates) -> f64| {
        board
            .rates
            .as_ref()
            .map_or_else(|| "-".to_owned(), |rates| column::mbit(bits(rates)))
    };
    let text = format!(
        "   Mbit/s: RUDP {} out, {} in; HTTP {} out",
        rate(|it| it.rudp_out),
        rate(|it| it.rudp_in),
        rate(|it| it.http_out)
    );
    line.push(text, Style::PLAIN);
    line.push(format!("   by {}", view.sort.words()), Style::DIM);
    line
}

/// The network before the proxy.
fn link(board: &Board) -> Line {
    let Some(link) = board.last.as_ref().and_then(|polled| polled.link.as_ref()) else {
        return Line::new().with("no link before the proxy", Style::DIM);
    };
    let mut line = Line::new().with("link", Style::PLAIN);
    let since = board.rates.map_or([0, 0], |rates| rates.link_lost);
    for ((name, way), since) in [("out", link.down()), ("in", link.up())]
        .into_iter()
        .zip(since)
    {
        let (lost, sent) = (way.lost(), way.sent);
        let percent = 100.0 * lost as f64 / sent.max(1) as f64;
        line.push(
            format!(" {name}: queue {}, lost {lost}", Size(way.queued_bytes)),
            Style::PLAIN,
        );
        if since > 0 {
            line.push(format!(" +{since}"), Style::YELLOW);
        }
        line.push(format!(" ({percent:.1} %)"), Style::PLAIN);
        if name == "out" {
            line.push(";", Style::PLAIN);
        }
    }
    line
}

fn rows(view: &View, board: &Board, lines: &mut Vec<Line>) {
    let columns = column::that_fit(view.width);
    let shown = board
        .rows
        .iter()
        .skip(view.offset)
        .take(rows_of(view.height));
    let trails = shown
        .clone()
        .filter_map(|row| board.meter.trail(&row.identity));
    let full = round_up(trails.map(super::spark::Trail::most).fold(0.0, f64::max));
    lines.push(column::heads(&columns, full).selected(view.width));
    for row in shown {
        let trail = board.meter.trail(&row.identity);
        let line = column::row(&columns, row, trail, board.heard.steady, full);
        let selected = view.selected.as_ref() == Some(&row.identity);
        lines.push(if selected {
            line.selected(view.width)
        } else {
            line
        });
    }
    if board.rows.is_empty() && board.last.is_some() {
        let text = match view.question().filter.is_empty() {
            true => "no sessions: `labnet client get --via rudp` opens one".to_owned(),
            false => "no session fits the filter: Esc takes it away".to_owned(),
        };
        lines.push(Line::new().with(text, Style::DIM));
    }
}

/// What is being typed; who is selected; the keys.
fn foot(view: &View, board: &Board) -> Line {
    if let Some(typed) = &view.typing {
        return Line::new()
            .with("filter: ", Style::BOLD)
            .with(typed.as_str(), Style::PLAIN)
            .with(" ", Style::REVERSE)
            .with("  Enter keeps it, Esc takes it back", Style::DIM);
    }
    let mut line = Line::new();
    let mut key = |keys: &str, does: &str| {
        line.push(keys.to_owned(), Style::BOLD);
        line.push(format!(" {does}  "), Style::PLAIN);
    };
    if view.help {
        key("any key", "back");
        return line;
    }
    if view.detail.is_some() {
        for (keys, does) in [
            ("Esc", "back"),
            ("j k", "scroll"),
            ("p", "pause"),
            ("q", "quit"),
        ] {
            key(keys, does);
        }
        return line;
    }
    for (keys, does) in [
        ("q", "quit"),
        ("?", "help"),
        ("s", "sort"),
        ("/", "filter"),
        ("Enter", "detail"),
    ] {
        key(keys, does);
    }
    let selected = view.selected.as_ref();
    let selected =
        selected.and_then(|selected| board.rows.iter().find(|row| row.identity == *selected));
    if let Some(row) = selected {
        let connection = row.connection.as_deref().unwrap_or_default();
        let room = view.width.saturating_sub(line.width());
        let whose = format!("{} {}", printable(&row.name, 24), row.client);
        let whole = format!("{whose} {connection}");
        let whose = if whole.len() <= room { whole } else { whose };
        line.push(fit(whose.trim(), room), Style::DIM);
    }
    line
}

fn help() -> Vec<Line> {
    let keys = [
        (
            "up, down, k, j",
            "select; PageUp, PageDown, g, G: by pages, to an end",
        ),
        (
            "Enter",
            "the session's detail: windows, limits, its last cuts",
        ),
        ("s", "sort by the next quantity"),
        ("/", "filter by a text in name, address, controller or id"),
        ("Esc", "take the filter away; back"),
        ("p", "pause, and go on"),
        ("Ctrl-L, Ctrl-Z", "draw anew; stop, until `fg`"),
        ("q, Ctrl-C", "quit"),
    ];
    let keys = keys.map(|(keys, does)| {
        Line::new()
            .with(format!("  {keys:<16}"), Style::BOLD)
            .with(does, Style::PLAIN)
    });
    let sparkline = format!("A sparkline is the goodput of the last {SPAN:.0} s, the");
    let words = [
        String::new(),
        "Goodput is what the client has acknowledged, each byte once, headers not counted."
            .to_owned(),
        sparkline,
        "WINDOW and FLIGHT are bytes (sig: signals); RTT is smoothed/least, in ms; LOST".to_owned(),
        "and AGAIN are packets since the session began, yellow where there are new ones."
            .to_owned(),
        "Files over HTTP are sent by the kernel's TCP, which tells of no loss.".to_owned(),
    ];
    let words = words.map(|words| Line::new().with(words, Style::PLAIN));
    [Line::new()].into_iter().chain(keys).chain(words).collect()
}
