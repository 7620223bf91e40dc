//! The columns: what each shows of a session, and which of them fit into a terminal's width.

use super::{
    frame::{Line, Style, fit},
    meter::{Row, Window},
    spark::Trail,
};
use crate::{
    client::units::Size,
    text::{LONG, printable},
};

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Client,
    Control,
    Phase,
    Rate,
    Spark,
    Window,
    Flight,
    Rtt,
    Lost,
    Again,
}

use Column::{Again, Client, Control, Flight, Lost, Name, Phase, Rate, Rtt, Spark};

/// From left to right.
const ORDER: [Column; 11] = [
    Name,
    Client,
    Control,
    Phase,
    Rate,
    Spark,
    Column::Window,
    Flight,
    Rtt,
    Lost,
    Again,
];
/// Where all have no room, these go, the first one first: the bottom line has the selected one's address, its
/// detail the rest.
const FIRST_TO_GO: [Column; 10] = [
    Client,
    Spark,
    Control,
    Again,
    Flight,
    Phase,
    Lost,
    Column::Window,
    Rtt,
    Rate,
];

impl Column {
    /// How wide it is at least.
    fn width(self) -> usize {
        match self {
            Name | Control | Spark => 8,
            Client => 15,
            Phase => 10,
            Rate | Column::Window | Flight => 6,
            Rtt => 9,
            Lost | Again => 5,
        }
    }

    fn is_right(self) -> bool {
        !matches!(self, Name | Client | Control | Phase | Spark)
    }

    fn head(self) -> &'static str {
        match self {
            Name => "NAME",
            Client => "CLIENT",
            Control => "CONTROL",
            Phase => "PHASE",
            Rate => "MBIT/S",
            Spark => "",
            Column::Window => "WINDOW",
            Flight => "FLIGHT",
            Rtt => "RTT/MIN",
            Lost => "LOST",
            Again => "AGAIN",
        }
    }
}

/// Those that fit into `width`, each with its own, a blank between them.
pub(super) fn that_fit(width: usize) -> Vec<(Column, usize)> {
    let mut columns = ORDER.to_vec();
    let needed = |columns: &[Column]| {
        let widths = columns.iter().map(|column| column.width());
        widths.sum::<usize>() + columns.len().saturating_sub(1)
    };
    for gone in FIRST_TO_GO {
        if needed(&columns) > width {
            columns.retain(|column| *column != gone);
        }
    }
    let mut spare = width.saturating_sub(needed(&columns));
    let mut chosen: Vec<_> = columns
        .iter()
        .map(|column| (*column, column.width()))
        .collect();
    // What is cut most often grows first, then a sparkline that can be read; it takes what is left, too.
    let growing = [
        (Rtt, 11),
        (Client, 21),
        (Spark, 20),
        (Rate, 8),
        (Phase, 15),
        (Control, 9),
        (Name, 16),
        (Lost, 6),
        (Again, 6),
        (Spark, 60),
    ];
    for (column, most) in growing {
        for (_, width) in chosen.iter_mut().filter(|(chosen, _)| *chosen == column) {
            let more = (most - *width).min(spare);
            *width += more;
            spare -= more;
        }
    }
    chosen
}

/// The columns' names; the sparkline's says what a full bar stands for, in bits a second.
pub(super) fn heads(columns: &[(Column, usize)], full: f64) -> Line {
    let scale = scale(full);
    cells(columns, |column, width| {
        let text = match column {
            Spark => match width {
                24.. => format!("last 60 s, █ = {scale}bit/s"),
                18.. => format!("60 s, █={scale}bit/s"),
                10.. => format!("60s █={scale}"),
                _ => format!("█{}", scale.replace(' ', "")),
            },
            _ => column.head().to_owned(),
        };
        (text, Style::BOLD)
    })
}

/// A session's row; its sparkline up to `now`.
pub(super) fn row(
    columns: &[(Column, usize)],
    row: &Row,
    trail: Option<&Trail>,
    now: f64,
    full: f64,
) -> Line {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let newly = |since: u64| {
        if since > 0 {
            Style::YELLOW
        } else {
            Style::PLAIN
        }
    };
    cells(columns, |column, width| {
        let text = match column {
            Name if row.name.is_empty() => return (row.client.clone(), Style::DIM),
            Name => return (printable(&row.name, LONG), Style::BOLD),
            Client => row.client.clone(),
            Control => printable(&row.control, 32),
            Phase => or_dash(row.phase.as_deref().map(|phase| printable(phase, 32))),
            Rate => or_dash(row.goodput.map(mbit)),
            Spark => {
                let drawn = trail.map(|trail| trail.draw(now, width, full));
                return (drawn.unwrap_or_default(), Style::CYAN);
            }
            Column::Window => or_dash(row.window.map(window)),
            Flight => or_dash(row.in_flight.map(|bytes| Size(bytes).to_string())),
            Rtt => or_dash(row.rtt.map(|rtt| rtts(rtt, row.min_rtt))),
            Lost => return (or_dash(row.lost.map(number)), newly(row.lost_since)),
            Again => return (or_dash(row.again.map(number)), newly(row.again_since)),
        };
        (text, Style::PLAIN)
    })
}

fn cells(columns: &[(Column, usize)], cell: impl Fn(Column, usize) -> (String, Style)) -> Line {
    let mut line = Line::new();
    for (n, (column, width)) in columns.iter().enumerate() {
        if n > 0 {
            line.push(" ", Style::PLAIN);
        }
        let (text, style) = cell(*column, *width);
        let text = fit(&text, *width);
        let text = if column.is_right() {
            let trimmed = text.trim_end();
            format!("{:1$}{trimmed}", "", text.len() - trimmed.len())
        } else {
            text
        };
        line.push(text, style);
    }
    line
}

/// Bits a second as megabits: `0.02`, `19.31`, `950`.
pub(super) fn mbit(bits: f64) -> String {
    let mbit = bits / 1e6;
    match mbit {
        ..9.995 => format!("{mbit:.2}"),
        ..99.95 => format!("{mbit:.1}"),
        _ => format!("{mbit:.0}"),
    }
}

/// A round number of bits a second: `20 M`.
pub(super) fn scale(bits: f64) -> String {
    let (value, prefix) = match bits {
        1e9.. => (bits / 1e9, "G"),
        1e6.. => (bits / 1e6, "M"),
        1e3.. => (bits / 1e3, "k"),
        _ => (bits, ""),
    };
    format!("{value:.0} {prefix}")
}

/// Milliseconds, three digits: `0.21`, `51.2`, `1200`.
pub(super) fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ..9.995 => format!("{ms:.2}"),
        ..99.95 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn rtts(smoothed: f64, min: Option<f64>) -> String {
    match min {
        Some(min) => format!("{}/{}", ms(smoothed), ms(min)),
        None => ms(smoothed),
    }
}

fn window(window: Window) -> String {
    match window {
        Window::Signals(signals) => format!("{signals} sig"),
        Window::Bytes(bytes) => Size(bytes).to_string(),
    }
}

/// A count in five characters: `99999`, `123k`, `4M`.
fn number(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::board, *};

    #[test]
    fn columns_fill_any_width_and_never_more() {
        for width in 0..300 {
            let columns = that_fit(width);
            let used = columns.iter().map(|(_, width)| width + 1).sum::<usize>();
            assert!(
                used.saturating_sub(1) <= width.max(8),
                "{width}: {columns:?}"
            );
        }
        let names = |width: usize| {
            let columns = that_fit(width).into_iter();
            columns.map(|(column, _)| column).collect::<Vec<_>>()
        };
        assert_eq!(names(120), ORDER);
        let without_client = ORDER.iter().copied().filter(|column| *column != Client);
        assert_eq!(names(80), without_client.collect::<Vec<_>>());
        // What all of them are told apart by is whole where it stands with the rest.
        let client = that_fit(120)
            .into_iter()
            .find(|(column, _)| *column == Client);
        assert_eq!(client, Some((Client, "255.255.255.255:65535".len())));
        for (width, said) in [
            (80, "█500M"),
            (120, "60 s, █=500 Mbit/s"),
            (160, "last 60 s, █ = 500 Mbit/s"),
        ] {
            let heads = heads(&that_fit(width), 500e6).text();
            assert!(
                heads.contains(said) && !heads.contains('…'),
                "{width}: {heads}"
            );
        }
        let [.., (Spark, spark), _, _, _, _, _] = that_fit(200)[..] else {
            panic!("no sparkline");
        };
        assert!(spark >= 40, "{spark}");
    }

    #[test]
    fn a_row_stands_below_its_heads() {
        let mut board = board(&["Tal"]);
        let row_of = &mut board.rows[0];
        row_of.goodput = Some(19.31e6);
        (row_of.lost, row_of.again) = (Some(12), Some(1_234_567));
        (row_of.rtt, row_of.min_rtt) = (Some(0.0512), Some(0.0501));
        row_of.in_flight = Some(98_300);
        let columns = that_fit(80);
        let trail = board.meter.trail(&board.rows[0].identity);
        let shown = row(&columns, &board.rows[0], trail, 0.0, 20e6);
        assert_eq!(
            [heads(&columns, 20e6).text(), shown.text()],
            [
                "NAME     CONTROL  PHASE      MBIT/S █20M     WINDOW FLIGHT   RTT/MIN  LOST AGAIN",
                "Tal      cubic    slow_start   19.3           15 kB  98 kB 51.2/50.1    12 1234k",
            ]
        );
    }

    #[test]
    fn numbers_have_no_more_room_than_they_need() {
        for (bits, text) in [
            (0.0, "0.00"),
            (19.31e6, "19.3"),
            (999.4e6, "999"),
            (9.996e6, "10.0"),
        ] {
            assert_eq!(mbit(bits), text);
        }
        for (seconds, text) in [(0.000_214, "0.21"), (0.0512, "51.2"), (1.2, "1200")] {
            assert_eq!(ms(seconds), text);
        }
        for (n, text) in [(99_999, "99999"), (123_456, "123k"), (45_000_000, "45M")] {
            assert_eq!(number(n), text);
        }
        for (bits, text) in [(20e6, "20 M"), (5e9, "5 G"), (500.0, "500 "), (1e3, "1 k")] {
            assert_eq!(scale(bits), text);
        }
    }
}
