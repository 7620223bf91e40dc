//! The index page.

use std::{fmt::Write, time::SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::text::{LONG, printable};

use super::number::{grouped, size};

/// A file as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name; any bytes but `/` and NUL.
    pub(super) name: Vec<u8>,
    /// Its size in bytes.
    pub(super) length: u64,
    /// When it was last modified; from 1970 to 9999.
    pub(super) modified: Option<SystemTime>,
}

/// Everything but the unreserved characters of RFC 3986 section 2.3: a colon, too, which would make
/// what stands before it a scheme.
const LINK: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The page that links to `entries`, in their order.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut page = String::with_capacity(2048 + entries.len() * 200);
    page.push_str(HEAD);
    for entry in entries {
        let shown = escape(&printable(&String::from_utf8_lossy(&entry.name), LONG));
        let link = percent_encode(&entry.name, LINK);
        let bytes = grouped(entry.length);
        let size = size(entry.length);
        let modified = entry.modified.map_or_else(String::new, |modified| {
            let text = humantime::format_rfc3339_seconds(modified).to_string();
            // 2023-04-28T08:59:02Z
            format!("{} {} UTC", &text[..10], &text[11..16])
        });
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"{link}\">{shown}</a></td><td title=\"{bytes} bytes\">{size}</td>\
             <td>{modified}</td></tr>"
        );
    }
    let total = entries.iter().map(|entry| entry.length);
    let total = size(total.fold(0, u64::saturating_add));
    let files = match entries.len() {
        0 => "No files".to_owned(),
        1 => "1 file".to_owned(),
        files => format!("{} files", grouped(files as u64)),
    };
    let _ = writeln!(page, "</tbody>\n</table>\n<p>{files}, {total}</p>");
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>labnet downloads</title>
<style>
:root { --ink: #1d2733; --dim: #66727f; --line: #dfe5ea; --paper: #f6f8fa; --card: #fff; --link: #0b6e99 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --dim: #93a0ad; --line: #2c3844; --paper: #12181f; --card: #1a222b; --link: #5cc0e8 }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 }
p { color: var(--dim); margin: .25rem 0 1rem }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: .5rem }
th, td { padding: .55rem 1rem; text-align: left; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
th { color: var(--dim); font-weight: 500; font-size: .85rem }
tr:last-child td { border-bottom: 0 }
th:nth-child(n+2), td:nth-child(n+2) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td:nth-child(3) { color: var(--dim) }
table + p { margin-top: .75rem }
@media (max-width: 34rem) { th:nth-child(3), td:nth-child(3) { display: none } }
a { color: var(--link); text-decoration: none }
a:hover { text-decoration: underline }
</style>
</head>
<body>
<main>
<h1>labnet downloads</h1>
<p>The files of this lab's web server</p>
<table>
<thead><tr><th>File</th><th>Size</th><th>Modified</th></tr></thead>
<tbody>
"#;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(name: &str, length: u64) -> Entry {
        Entry {
            name: name.into(),
            length,
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_682_672_342)),
        }
    }

    #[test]
    fn a_row_has_link_name_size_and_date() {
        let page = render(&[entry("50MB.zip", 50_000_000)]);
        assert!(page.contains(
            "<tr><td><a href=\"50MB.zip\">50MB.zip</a></td>\
             <td title=\"50,000,000 bytes\">50 MB</td><td>2023-04-28 08:59 UTC</td></tr>"
        ));
        assert!(page.contains("<p>1 file, 50 MB</p>"));
    }

    #[test]
    fn awkward_names_neither_break_the_page_nor_the_link() {
        let page = render(&[entry("a:\"<b>&;ü\n.txt", 1)]);
        assert!(page.contains(
            "<a href=\"a%3A%22%3Cb%3E%26%3B%C3%BC%0A.txt\">a:&quot;&lt;b&gt;&amp;;ü\u{fffd}.txt</a>"
        ));
    }

    #[test]
    fn an_empty_folder_says_so() {
        assert!(render(&[]).contains("<p>No files, 0 B</p>"));
    }
}
