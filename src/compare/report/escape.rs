//! Text of others in HTML, in SVG and in a script element.

use std::fmt::{self, Write};

use serde::Serialize;

/// A text inside an element or an attribute, of HTML or XML; what XML may not hold is replaced.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                    f.write_char('\u{fffd}')?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// JSON inside a script element: nothing in it ends the element, begins a comment or a line.
pub(super) fn script_json(value: &impl Serialize) -> String {
    // Maps have texts for keys, and numbers are finite or become null: nothing is left to fail.
    let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        // They stand in texts alone, where an escape is the same.
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // A String takes all.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_what_it_stands_in() {
        let evil = "</script><script>alert('1')</script><!-- ]]> & \"\u{0}\u{2028}\u{ffff}";
        let text = Text(evil).to_string();
        assert_eq!(
            text,
            "&lt;/script&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&lt;!-- ]]&gt; &amp; &quot;\u{fffd}\u{2028}\u{fffd}"
        );
        let json = script_json(&vec![evil]);
        assert!(!json.contains(['<', '>', '&', '\u{2028}']), "{json}");
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&json).expect("JSON"),
            [evil]
        );
    }
}
