//! How the story's table looks: pure text, so that it can be looked at in tests.

use std::{net::SocketAddr, time::Duration};

use console::{Style, measure_text_width, truncate_str};

use super::{
    home::Ports,
    row::{Chapter, Packet, Row},
    seen::Seen,
};
use crate::{
    cli::explain::arp::Arp,
    client::units::Size,
    watch::{
        event::packet::{Fate, Role},
        words::What,
    },
};

/// A terminal narrower than this gets two lines a packet; a line of its own for the meaning says
/// more than the few columns beside the addresses.
const ONE_LINE: usize = 110;
/// Where nobody says how wide it is.
const READABLE: usize = 100;

/// Widths of the columns.
const NUMBER: usize = 3;
const TIME: usize = 7;
const ROLE: usize = 6;
const PROTOCOL: usize = 5;
const BYTES: usize = 7;
/// `127.20.30.41:40000 → 127.0.0.10:49152` and a column to spare.
const ADDRESSES: usize = 38;

/// Below the sender: `NUMBER + TIME + 3` columns.
const INDENT: &str = "             ";

/// How the table is drawn.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Columns of the terminal; `None`: no terminal, nothing is shortened.
    width: Option<usize>,
    color: bool,
}

impl Table {
    /// A table for a terminal of `width` columns, or for a pipe.
    pub(super) fn new(width: Option<usize>, color: bool) -> Self {
        Self { width, color }
    }

    /// A style that is plain where colours are not wanted.
    pub(super) fn style(&self) -> Style {
        Style::new().force_styling(self.color)
    }

    /// A role's colour.
    pub(super) fn role(&self, role: Role) -> Style {
        let style = self.style();
        match role {
            Role::Client => style.cyan().bold(),
            Role::Dhcp => style.green(),
            Role::Dns => style.yellow(),
            Role::Rudp => style.magenta(),
            Role::Scrap => style.blue().bright(),
            Role::Origin => style.red().bright(),
            Role::Http => style,
        }
    }

    /// Columns that may be used.
    pub(super) fn columns(&self) -> usize {
        self.width.unwrap_or(READABLE)
    }

    fn one_line(&self) -> bool {
        self.width.is_none_or(|width| width >= ONE_LINE)
    }

    /// A line that fits.
    pub(super) fn fit(&self, line: &str) -> String {
        match self.width {
            Some(width) => truncate_str(line.trim_end(), width, "…").into_owned(),
            None => line.trim_end().to_owned(),
        }
    }

    /// What stands above the first row: as many lines as a packet has.
    pub(super) fn titles(&self) -> String {
        let head = format!(
            "{:>NUMBER$} {:>TIME$}  {:<ROLE$} {:<PROTOCOL$} {:<ADDRESSES$} {:>BYTES$}",
            "#", "SECONDS", "ROLE", "PROTO", "SOURCE → DESTINATION", "BYTES"
        );
        let meaning = "WHAT IT MEANS";
        let titles = if self.one_line() {
            self.fit(&format!("{head}  {meaning}"))
        } else {
            format!("{}\n{INDENT}{meaning}", self.fit(&head))
        };
        let dim = self.style().dim();
        let lines = titles.lines().map(|line| dim.apply_to(line).to_string());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The line above a chapter.
    pub(super) fn heading(&self, chapter: Chapter) -> String {
        let title = format!("── {} ── {} ", chapter.number(), chapter.title());
        let rest = self.columns().saturating_sub(measure_text_width(&title));
        let line = self.fit(&format!("{title}{}", "─".repeat(rest)));
        format!("\n{}", self.style().bold().apply_to(line))
    }

    /// A packet, in one line or two.
    pub(super) fn row(&self, row: &Row) -> String {
        let packet = &row.packet;
        let role = self.role(packet.role);
        let dim = self.style().dim();
        let addresses = format!("{} → {}", packet.source, packet.destination);
        // The columns are filled before they are coloured: colours have no width.
        let head = format!(
            "{} {}  {} {} {} {}",
            dim.apply_to(format!("{:>NUMBER$}", row.number)),
            dim.apply_to(format!("{:>TIME$.3}", row.time.as_secs_f64())),
            role.apply_to(format!("{:<ROLE$}", packet.role.name())),
            format_args!("{:<PROTOCOL$}", packet.protocol.name()),
            dim.apply_to(format!("{addresses:<ADDRESSES$}")),
            format_args!("{:>BYTES$}", bytes(packet.bytes)),
        );
        let is_signlost = packet.reading.what == What::Message("SIGNLOST");
        let (marker, style) = match packet.fate {
            Fate::LostOnPurpose => ("✗ lost on purpose: ".to_owned(), self.style().red()),
            Fate::SentAgain(why) => (format!("↻ again, {why}: "), self.style().yellow()),
            _ if is_signlost => (String::new(), self.style().yellow()),
            _ => (String::new(), self.style()),
        };
        let meaning = style.apply_to(format!("{marker}{}", packet.reading.meaning));
        if self.one_line() {
            return self.fit(&format!("{head}  {meaning}"));
        }
        let indent = " ".repeat(NUMBER + TIME + 3);
        format!(
            "{}\n{}",
            self.fit(&head),
            self.fit(&format!("{indent}{meaning}"))
        )
    }
}

impl Table {
    /// What the other end of a NAT saw of a packet, in a line below it; none if it saw the same.
    pub(super) fn seen(&self, packet: &Packet) -> Vec<String> {
        let line = packet.seen.and_then(|seen| translated(packet, &seen));
        let style = self.style().cyan();
        line.map(|line| {
            self.fit(&format!(
                "{INDENT}{}",
                style.apply_to(format!("⇄ NAT: {line}"))
            ))
        })
        .into_iter()
        .collect()
    }

    /// A question or an answer of ARP.
    pub(super) fn arp(&self, time: Duration, arp: &Arp) -> String {
        let dim = self.style().dim();
        self.fit(&format!(
            "{:NUMBER$} {}  {:<ROLE$} {:<PROTOCOL$} {arp}",
            "",
            dim.apply_to(format!("{:>TIME$.3}", time.as_secs_f64())),
            arp.device,
            "ARP",
        ))
    }

    /// The NAT has forgotten.
    pub(super) fn forgot(&self, after: Duration, ports: Ports) -> String {
        let yellow = self.style().yellow();
        let lines = [
            format!(
                "✂ {:.2} s after the files began the NAT forgets all its notes, as if it had been",
                after.as_secs_f64()
            ),
            format!("  switched off and on. Its ports are {ports} from now on. The session of the"),
            "  signals is lost with its port: the proxy knows it by nothing else.".to_owned(),
        ];
        let lines = lines.map(|line| self.fit(&format!("    {}", yellow.apply_to(line))));
        lines.join("\n")
    }

    /// The proxy sees the connection at another address.
    pub(super) fn moved(&self, time: Duration, from: SocketAddr, to: SocketAddr) -> String {
        let yellow = self.style().yellow();
        let lines = [
            format!(
                "⇄ at {:.3} the proxy hears the client from {to}, before from {from}:",
                time.as_secs_f64()
            ),
            "  the connection's id is the same, so the transfer goes on there.".to_owned(),
        ];
        let lines = lines.map(|line| self.fit(&format!("    {}", yellow.apply_to(line))));
        lines.join("\n")
    }
}

/// What a NAT has changed in a packet's header, in words: of one from inside the source, of one from outside the
/// destination.
pub(super) fn translated(packet: &Packet, seen: &Seen) -> Option<String> {
    if packet.source != seen.source {
        return Some(format!("came from {}, not {}", seen.source, packet.source));
    }
    let changed = packet.destination != seen.destination;
    changed.then(|| format!("came to {}, not {}", seen.destination, packet.destination))
}

/// Exact as long as it is short.
fn bytes(bytes: u64) -> String {
    if bytes < 100_000 {
        bytes.to_string()
    } else {
        Size(bytes).to_string()
    }
}

#[cfg(test)]
mod tests {
    use console::strip_ansi_codes;

    use super::{super::seen::Print, *};
    use crate::watch::{
        event::packet::{Again, Protocol},
        words::Reading,
    };

    fn row(meaning: &str, fate: Fate) -> Row {
        Row {
            number: 12,
            time: Duration::from_micros(1_234_567),
            chapter: Chapter::Signals,
            packet: Packet {
                role: Role::Client,
                protocol: Protocol::Rudp,
                source: ([127, 20, 30, 100], 65535).into(),
                destination: ([127, 0, 0, 10], 49152).into(),
                bytes: 20_000_000,
                fate,
                reading: Reading::message("SIGNECHO", meaning),
                print: Print::default(),
                seen: None,
            },
        }
    }

    fn lines(table: &Table) -> String {
        let long = "a meaning that goes on and on, ".repeat(6);
        let wide = "日本語のファイル名".repeat(8);
        [
            table.titles(),
            table.heading(Chapter::Files),
            table.row(&row("SIGNECHO 290: send my timestamp back", Fate::Sent)),
            table.row(&row(&long, Fate::LostOnPurpose)),
            table.row(&row(&wide, Fate::SentAgain(Again::Unanswered))),
        ]
        .join("\n")
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [80, 100, 109, 110, 120, 200] {
            for color in [false, true] {
                for line in lines(&Table::new(Some(width), color)).lines() {
                    assert!(measure_text_width(line) <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn eighty_columns_show_every_column_and_the_meaning_below() {
        let text = Table::new(Some(80), false)
            .row(&row("SIGNECHO 290: back, please", Fate::LostOnPurpose));
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}");
        };
        for part in [
            "12",
            "1.235",
            "client",
            "RUDP",
            "127.20.30.100:65535 → 127.0.0.10:49152",
            "20 MB",
        ] {
            assert!(first.contains(part), "{part}: {first}");
        }
        assert_eq!(
            second.trim(),
            "✗ lost on purpose: SIGNECHO 290: back, please"
        );
    }

    #[test]
    fn a_wide_terminal_has_one_line_a_packet_and_shortens_with_an_ellipsis() {
        let long = "x".repeat(300);
        let text = Table::new(Some(120), false).row(&row(&long, Fate::Sent));
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with('…'));
        assert_eq!(measure_text_width(&text), 120);
    }

    #[test]
    fn a_pipe_gets_everything_and_no_colours() {
        let long = "x".repeat(300);
        let text = Table::new(None, false).row(&row(&long, Fate::Sent));
        assert!(text.ends_with(&long));
        assert_eq!(strip_ansi_codes(&text), text);
        let colored = Table::new(Some(120), true).row(&row("hello", Fate::Sent));
        assert_ne!(strip_ansi_codes(&colored), colored);
    }

    #[test]
    fn columns_stand_below_their_titles() {
        let table = Table::new(Some(120), false);
        let (titles, row) = (table.titles(), table.row(&row("MEANS", Fate::Sent)));
        for (title, value) in [
            ("ROLE", "client"),
            ("PROTO", "RUDP"),
            ("SOURCE", "127.20"),
            ("WHAT", "MEANS"),
        ] {
            let column = |line: &str, what: &str| {
                let at = line.find(what).expect(what);
                measure_text_width(&line[..at])
            };
            assert_eq!(column(&titles, title), column(&row, value), "{title}");
        }
    }
}
