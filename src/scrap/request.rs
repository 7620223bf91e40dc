//! What a peer may ask: `SIGNGET`, or `SIGNURL:<encoded name>` and a newline.
//!
//! | a peer sends | the scraper answers, up to the end of the stream |
//! |---|---|
//! | `SIGNGET` | `<file>;<file>;...;` |
//! | `SIGNURL:<file>` | the file's URL, or `SIGNNONE` if the page links to no such file |
//!
//! Nothing at all is the answer of a scraper that has not read the page yet: ask again.

use super::catalog::{self, MAX_NAME};

/// More than the longest request: a name of which every byte is encoded.
pub(super) const MAX_REQUEST: usize = "SIGNURL:\r\n".len() + 3 * MAX_NAME;

/// A peer's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// `SIGNGET`: the list of files.
    List,
    /// `SIGNURL`: where the file of this name is.
    Url(String),
}

/// What the bytes received so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The beginning of a request.
    Incomplete,
    /// A request.
    Request(Request),
    /// No request, whatever follows.
    Invalid,
}

/// The answer to a SIGNURL for a file that the page does not link to.
pub(super) const NONE: &str = "SIGNNONE";

const LIST: &[u8] = b"SIGNGET";
const URL: &[u8] = b"SIGNURL:";

/// Reads what a peer sent. `SIGNGET` counts as soon as its seven bytes are there; `ended` tells that
/// the peer will send no more, which ends a name as a newline does.
pub(super) fn parse(received: &[u8], ended: bool) -> Parsed {
    if let Some(rest) = received.strip_prefix(LIST) {
        return match rest {
            b"" | b"\n" | b"\r" | b"\r\n" => Parsed::Request(Request::List),
            _ => Parsed::Invalid,
        };
    }
    if let Some(rest) = received.strip_prefix(URL) {
        let line = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) if end + 1 == rest.len() => &rest[..end],
            Some(_) => return Parsed::Invalid,
            None if ended => rest,
            None if received.len() < MAX_REQUEST => return Parsed::Incomplete,
            None => return Parsed::Invalid,
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let name = str::from_utf8(line).ok().and_then(catalog::decode);
        return match name {
            Some(name) if !name.is_empty() => Parsed::Request(Request::Url(name)),
            _ => Parsed::Invalid,
        };
    }
    if !ended && (LIST.starts_with(received) || URL.starts_with(received)) {
        return Parsed::Incomplete;
    }
    Parsed::Invalid
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(name: &str) -> Parsed {
        Parsed::Request(Request::Url(name.into()))
    }

    #[test]
    fn the_list_needs_no_newline() {
        for text in ["SIGNGET", "SIGNGET\n", "SIGNGET\r\n"] {
            assert_eq!(
                parse(text.as_bytes(), false),
                Parsed::Request(Request::List),
                "{text:?}"
            );
        }
        for end in 0..LIST.len() {
            assert_eq!(parse(&LIST[..end], false), Parsed::Incomplete);
            assert_eq!(parse(&LIST[..end], true), Parsed::Invalid);
        }
        assert_eq!(parse(b"SIGNGETS", false), Parsed::Invalid);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n", false), Parsed::Invalid);
    }

    #[test]
    fn a_name_ends_with_the_line_or_the_stream() {
        assert_eq!(parse(b"SIGNURL:50MB.zip", false), Parsed::Incomplete);
        assert_eq!(parse(b"SIGNURL:50MB.zip\n", false), url("50MB.zip"));
        assert_eq!(parse(b"SIGNURL:50MB.zip\r\n", false), url("50MB.zip"));
        assert_eq!(parse(b"SIGNURL:50MB.zip", true), url("50MB.zip"));
        assert_eq!(parse(b"SIGNURL:a%3Bb\n", false), url("a;b"));
        assert_eq!(parse(b"SIGNURL:\n", false), Parsed::Invalid);
        assert_eq!(parse(b"SIGNURL:a\nb", false), Parsed::Invalid);
        assert_eq!(parse(b"SIGNURL:%FF\n", false), Parsed::Invalid);
    }

    #[test]
    fn an_endless_name_is_cut_off() {
        let mut text = URL.to_vec();
        text.resize(MAX_REQUEST, b'x');
        assert_eq!(parse(&text, false), Parsed::Invalid);
        let longest = format!("SIGNURL:{}\r\n", "%C3%BC".repeat(MAX_NAME / 2));
        assert_eq!(
            parse(longest.as_bytes(), false),
            url(&"ü".repeat(MAX_NAME / 2))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..64), ended: bool) {
            parse(&bytes, ended);
            let with = [URL, &bytes[..]].concat();
            prop_assert!(!ended || parse(&with, ended) != Parsed::Incomplete);
        }
    }
}
