//! One colour and one pattern of dashes a flow.
//!
//! The colours are told apart with every kind of colour blindness (after Okabe and Ito, and Tol), and stand
//! out from their background by 3 to 1 at least; in print, where they may be grey, the dashes tell.

use std::fmt::Write;

/// So many flows have a colour of their own; the others begin anew, with other dashes.
pub(super) const COLOURS: usize = 8;

/// On white.
const LIGHT: [&str; COLOURS] = [
    "#0072b2", "#d55e00", "#008f68", "#b04a8f", "#8a6d00", "#3b3b98", "#a3253b", "#5f6b73",
];
/// On black.
const DARK: [&str; COLOURS] = [
    "#56b4e9", "#ff8f4a", "#35c79a", "#e691c8", "#e3c04b", "#a3a3ff", "#ff7b8d", "#b4c0c8",
];
/// `stroke-dasharray`, of lines 1.5 wide.
const DASHES: [&str; COLOURS] = [
    "none",
    "7 2.5",
    "2 2",
    "9 2.5 2 2.5",
    "4 2",
    "9 2 2 2 2 2",
    "1 2.5",
    "12 3",
];

/// A flow's colour on white.
pub(super) fn colour(flow: usize) -> &'static str {
    LIGHT[flow % COLOURS]
}

/// A flow's dashes in print.
pub(super) fn dashes(flow: usize) -> &'static str {
    DASHES[(flow + flow / COLOURS) % COLOURS]
}

/// Rules for a page: `--c0` and following, light and dark, and in print the dashes of `.dashed.f0`.
pub(super) fn css(flows: usize) -> String {
    let mut css = String::new();
    let set = |css: &mut String, colours: &[&str; COLOURS]| {
        for flow in 0..flows {
            // A String takes all.
            let _ = write!(css, "--c{flow}:{};", colours[flow % COLOURS]);
        }
    };
    css.push_str(":root{");
    set(&mut css, &LIGHT);
    css.push_str("}\n@media screen and (prefers-color-scheme:dark){:root{");
    set(&mut css, &DARK);
    css.push_str("}}\n");
    for flow in 0..flows {
        let _ = writeln!(
            css,
            ".f{flow}{{--c:var(--c{flow})}}@media print{{.dashed.f{flow}{{stroke-dasharray:{}}}}}",
            dashes(flow)
        );
    }
    css
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let part = |from: usize| {
            let byte = u8::from_str_radix(&colour[from..from + 2], 16).expect("hexadecimal");
            let share = f64::from(byte) / 255.0;
            if share <= 0.04045 {
                share / 12.92
            } else {
                ((share + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn lines_stand_out_and_no_two_flows_look_the_same() {
        for colour in LIGHT {
            assert!(1.05 / (luminance(colour) + 0.05) >= 3.0, "{colour}");
        }
        for colour in DARK {
            // Beside the page's background, #14171a.
            let background = luminance("#14171a") + 0.05;
            assert!((luminance(colour) + 0.05) / background >= 3.0, "{colour}");
        }
        let looks: BTreeSet<_> = (0..32).map(|flow| (colour(flow), dashes(flow))).collect();
        assert_eq!(looks.len(), 32);
    }
}
