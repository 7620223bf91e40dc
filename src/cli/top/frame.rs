//! A screen as cells, and what has to be sent so that a terminal shows the next one.

use std::fmt::Write;

use console::measure_text_width;

/// How a cell looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// An SGR number of a foreground, 31 to 36.
    colour: Option<u8>,
    bold: bool,
    dim: bool,
    reverse: bool,
}

impl Style {
    pub(super) const PLAIN: Self = Self {
        colour: None,
        bold: false,
        dim: false,
        reverse: false,
    };
    pub(super) const BOLD: Self = Self {
        bold: true,
        ..Self::PLAIN
    };
    pub(super) const DIM: Self = Self {
        dim: true,
        ..Self::PLAIN
    };
    pub(super) const REVERSE: Self = Self {
        reverse: true,
        ..Self::PLAIN
    };
    pub(super) const RED: Self = Self::coloured(31);
    pub(super) const GREEN: Self = Self::coloured(32);
    pub(super) const YELLOW: Self = Self::coloured(33);
    pub(super) const CYAN: Self = Self::coloured(36);

    const fn coloured(colour: u8) -> Self {
        Self {
            colour: Some(colour),
            ..Self::PLAIN
        }
    }

    /// The same, light on dark where it was dark on light.
    pub(super) const fn reversed(self) -> Self {
        Self {
            reverse: true,
            ..self
        }
    }

    /// SGR (ECMA-48 section 8.3.117), from any other.
    fn select(self, colours: bool, out: &mut String) {
        out.push_str("\x1b[0");
        for (is, code) in [(self.bold, 1), (self.dim, 2), (self.reverse, 7)] {
            if is {
                let _ = write!(out, ";{code}");
            }
        }
        if let Some(colour) = self.colour.filter(|_| colours) {
            let _ = write!(out, ";{colour}");
        }
        out.push('m');
    }
}

/// A line of pieces, each in its style.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(String, Style)>);

impl Line {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// With one more piece at its end.
    pub(super) fn with(mut self, text: impl Into<String>, style: Style) -> Self {
        self.push(text, style);
        self
    }

    pub(super) fn push(&mut self, text: impl Into<String>, style: Style) {
        self.0.push((text.into(), style));
    }

    /// In reverse, and as wide as the screen.
    pub(super) fn selected(mut self, width: usize) -> Self {
        let used = self.width();
        self.push(" ".repeat(width.saturating_sub(used)), Style::PLAIN);
        for (_, style) in &mut self.0 {
            *style = style.reversed();
        }
        self
    }

    pub(super) fn width(&self) -> usize {
        let texts = self.0.iter();
        texts.map(|(text, _)| measure_text_width(text)).sum()
    }

    /// Its text alone.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }
}

/// `text` in exactly `width` columns: cut with `…`, or filled up with blanks on the right.
pub(super) fn fit(text: &str, width: usize) -> String {
    let wide = measure_text_width(text);
    if wide <= width {
        return format!("{text}{:1$}", "", width - wide);
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = used + columns(c);
        if next + 1 > width {
            break;
        }
        cut.push(c);
        used = next;
    }
    if width > 0 {
        cut.push('…');
        used += 1;
    }
    format!("{cut}{:1$}", "", width - used.min(width))
}

fn columns(c: char) -> usize {
    if c.is_ascii() {
        usize::from(!c.is_ascii_control())
    } else {
        measure_text_width(c.encode_utf8(&mut [0; 4]))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    /// `None`: the wide character before it reaches over this one.
    c: Option<char>,
    style: Style,
}

const BLANK: Cell = Cell {
    c: Some(' '),
    style: Style::PLAIN,
};

/// A screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    width: usize,
    cells: Vec<Cell>,
}

impl Frame {
    /// The lines from the top; what is beyond the screen is cut off.
    pub(super) fn of(width: usize, height: usize, lines: &[Line]) -> Self {
        let mut cells = vec![BLANK; width * height];
        for (row, line) in cells.chunks_mut(width.max(1)).zip(lines) {
            let mut column = 0;
            for (text, style) in &line.0 {
                for c in text.chars() {
                    let wide = columns(c);
                    // What has no width of its own can't be told apart from its neighbour.
                    if wide == 0 || column + wide > width {
                        continue;
                    }
                    for (n, cell) in row[column..column + wide].iter_mut().enumerate() {
                        let c = (n == 0).then_some(c);
                        *cell = Cell { c, style: *style };
                    }
                    column += wide;
                }
            }
        }
        Self { width, cells }
    }

    /// What a terminal that shows `before` has to be sent (`None`: nobody knows what it shows).
    pub(super) fn after(&self, before: Option<&Self>, colours: bool) -> String {
        let known = before
            .filter(|before| before.width == self.width && before.cells.len() == self.cells.len());
        let mut out = String::new();
        if known.is_none() {
            out.push_str("\x1b[0m\x1b[2J");
        }
        let width = self.width.max(1);
        let mut style = Style::PLAIN;
        for (number, row) in self.cells.chunks(width).enumerate() {
            let old = known.and_then(|known| known.cells.get(number * width..(number + 1) * width));
            let differs = |column: usize| match old {
                Some(old) => old[column] != row[column],
                None => row[column] != BLANK,
            };
            // What stands between two changes is sent again where a jump would be longer.
            const JUMP: usize = 6;
            let mut column = 0;
            while column < width {
                if !differs(column) {
                    column += 1;
                    continue;
                }
                // A wide character is sent as a whole.
                let mut from = column;
                while from > 0 && row[from].c.is_none() {
                    from -= 1;
                }
                let mut to = column + 1;
                let mut end = to;
                while end < width && end < to + JUMP {
                    if differs(end) {
                        to = end + 1;
                    }
                    end += 1;
                }
                while to < width && row[to].c.is_none() {
                    to += 1;
                }
                let _ = write!(out, "\x1b[{};{}H", number + 1, from + 1);
                for cell in &row[from..to] {
                    let Some(c) = cell.c else { continue };
                    if cell.style != style {
                        cell.style.select(colours, &mut out);
                        style = cell.style;
                    }
                    out.push(c);
                }
                column = to;
            }
        }
        if style != Style::PLAIN {
            out.push_str("\x1b[0m");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::new().with(text, Style::PLAIN)
    }

    #[test]
    fn only_what_changed_is_sent() {
        let before = Frame::of(40, 2, &[line("rate 19.20 Mbit/s"), line("lost 7")]);
        assert_eq!(before.after(Some(&before), true), "");
        let after = Frame::of(40, 2, &[line("rate 19.31 Mbit/s"), line("lost 7")]);
        assert_eq!(after.after(Some(&before), true), "\x1b[1;9H31");
        let shorter = Frame::of(40, 2, &[line("rate"), line("lost 7")]);
        assert_eq!(
            shorter.after(Some(&before), true),
            format!("\x1b[1;6H{:12}", "")
        );
    }

    #[test]
    fn of_an_unknown_screen_everything_is_sent_and_blanks_are_not() {
        let frame = Frame::of(10, 2, &[line("a"), Line::new().with("b", Style::RED)]);
        assert_eq!(
            frame.after(None, true),
            "\x1b[0m\x1b[2J\x1b[1;1Ha\x1b[2;1H\x1b[0;31mb\x1b[0m"
        );
        let other_size = Frame::of(9, 2, &[]);
        assert_eq!(
            frame.after(Some(&other_size), false),
            "\x1b[0m\x1b[2J\x1b[1;1Ha\x1b[2;1H\x1b[0mb\x1b[0m"
        );
    }

    #[test]
    fn wide_characters_keep_their_places() {
        let before = Frame::of(8, 1, &[line("学生 x")]);
        let after = Frame::of(8, 1, &[line("学习 x")]);
        assert_eq!(after.after(Some(&before), true), "\x1b[1;3H习");
        // One that would reach over the edge is left out.
        assert_eq!(
            Frame::of(3, 1, &[line("学生")]).after(None, true),
            "\x1b[0m\x1b[2J\x1b[1;1H学"
        );
        assert_eq!(fit("学生证", 5), "学生…");
        assert_eq!(fit("学生证", 4), "学… ");
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn lines_beyond_the_screen_are_cut() {
        let lines = vec![line("0123456789"); 5];
        let frame = Frame::of(4, 2, &lines);
        assert_eq!(
            frame.after(None, true),
            "\x1b[0m\x1b[2J\x1b[1;1H0123\x1b[2;1H0123"
        );
        assert_eq!(Frame::of(0, 0, &lines).after(None, true), "\x1b[0m\x1b[2J");
        let selected = line("ab").selected(4);
        assert_eq!((selected.text().as_str(), selected.width()), ("ab  ", 4));
    }
}
