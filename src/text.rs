//! Text fit to be shown: outsiders', and times.

use std::time::Duration;

/// What an outsider's name or word may be long where it is shown beside others.
pub const SHORT: usize = 64;
/// What an outsider's sentence or address may be long.
pub const LONG: usize = 256;

/// A stranger's text for a terminal, a log, a page or a label: nothing that steers a terminal or
/// breaks a line, nothing invisible, nothing that turns the direction of writing (which makes one
/// name look like another); at most `longest` characters, the last of which is `…` if there were
/// more.
pub fn printable(text: &str, longest: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * longest));
    for (n, c) in text.chars().enumerate() {
        if n == longest {
            shown.pop();
            shown.push('…');
            break;
        }
        shown.push(if is_harmless(c) { c } else { '\u{fffd}' });
    }
    shown
}

/// A time as people write it: `1 day 2h 30m`. The configuration reads it, too.
pub fn duration(time: Duration) -> String {
    let text = humantime::format_duration(time).to_string();
    let words = text.split(' ').map(|word| {
        let (number, unit) = word.split_at(word.find(char::is_alphabetic).unwrap_or(word.len()));
        // Day, month, year: these are words, the others units.
        if unit.len() > 2 {
            format!("{number} {unit}")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_harmless(c: char) -> bool {
    let steers = c.is_control()
        || matches!(c,
            // soft hyphen, Arabic letter mark, Mongolian separator
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // zero widths and marks of direction
            | '\u{200b}'..='\u{200f}'
            // separators of lines and paragraphs, embeddings and overrides
            | '\u{2028}'..='\u{202e}'
            // joiners, isolates, deprecated formats
            | '\u{2060}'..='\u{206f}'
            // byte order mark, annotations, tags
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !steers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_is_replaced_and_the_rest_stays() {
        for (text, shown) in [
            ("grün.txt", "grün.txt"),
            ("日本 語", "日本 語"),
            ("a\x1b[2Jb", "a\u{fffd}[2Jb"),
            ("a\nb\tc\0", "a\u{fffd}b\u{fffd}c\u{fffd}"),
            ("x\u{202e}fdp.exe", "x\u{fffd}fdp.exe"),
            (
                "a\u{200b}b\u{2028}c\u{feff}d",
                "a\u{fffd}b\u{fffd}c\u{fffd}d",
            ),
            ("\u{9b}31m", "\u{fffd}31m"),
        ] {
            assert_eq!(printable(text, 32), shown);
        }
    }

    #[test]
    fn it_ends_where_it_is_too_long() {
        assert_eq!(printable("abcd", 4), "abcd");
        assert_eq!(printable("abcde", 4), "abc…");
        assert_eq!(printable(&"ü".repeat(1000), SHORT).chars().count(), SHORT);
    }

    #[test]
    fn a_time_is_words_and_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(shown(86_400), "1 day");
        assert_eq!(shown(2 * 86_400 + 3661), "2 days 1h 1m 1s");
        assert_eq!(shown(90), "1m 30s");
        assert_eq!(duration(Duration::from_millis(50)), "50ms");
        for seconds in [1, 90, 86_400, 40 * 86_400, 800 * 86_400] {
            let read = humantime::parse_duration(&shown(seconds));
            assert_eq!(read, Ok(Duration::from_secs(seconds)));
        }
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_printable(text in any::<String>(), longest in 1_usize..40) {
            let shown = printable(&text, longest);
            prop_assert!(shown.chars().count() <= longest);
            prop_assert!(shown.chars().all(is_harmless));
        }
    }
}
