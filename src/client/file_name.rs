//! Names of files as a stranger lists them, made fit to be shown and saved.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::text::{LONG, printable};

/// Longest name on this side, in bytes: with the suffixes of a partial download it still fits into
/// `NAME_MAX`, 255.
const MAX_LOCAL: usize = 240;

/// What the list encodes besides everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b';').add(b'%');

/// What a word can't hold. It is all that the list leaves as it is and a word does not.
const SPACE: &AsciiSet = &CONTROLS.add(b' ');

/// A file of the list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName {
    wire: String,
    name: String,
    shown: String,
    local: String,
}

impl FileName {
    /// A name as it stands in the list, percent-encoded.
    pub fn from_wire(wire: &str) -> Self {
        let name = percent_decode_str(wire)
            .decode_utf8()
            .map_or_else(|_| wire.to_owned(), |name| name.into_owned());
        Self::new(wire.to_owned(), name)
    }

    /// A name as a person types it.
    pub fn from_name(name: &str) -> Self {
        let wire = utf8_percent_encode(name, ENCODED).to_string();
        Self::new(wire, name.to_owned())
    }

    fn new(wire: String, name: String) -> Self {
        let shown = printable(&name, LONG);
        let mut local: String = shown
            .chars()
            .map(|c| if matches!(c, '/' | '\\') { '_' } else { c })
            .collect();
        // Neither `.` nor `..` nor a hidden file: a download must never become a `.bashrc`.
        if local.starts_with('.') {
            local.replace_range(..1, "_");
        }
        if local.is_empty() {
            local.push('_');
        }
        local.truncate(local.floor_char_boundary(MAX_LOCAL));
        Self {
            wire,
            name,
            shown,
            local,
        }
    }

    /// As the proxy spells it.
    pub fn wire(&self) -> &str {
        &self.wire
    }

    /// As one word of a question over RUDP: no spaces.
    pub fn word(&self) -> String {
        utf8_percent_encode(&self.wire, SPACE).to_string()
    }

    /// As the origin spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file on this side: one component of a path.
    pub fn local(&self) -> &str {
        &self.local
    }
}

/// The decoded name, without anything that could steer a terminal.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_decoded_to_be_shown_and_tamed_to_be_saved() {
        for (wire, shown, local) in [
            ("50MB.zip", "50MB.zip", "50MB.zip"),
            ("a%3Bb%25.txt", "a;b%.txt", "a;b%.txt"),
            ("%C3%BCbung.pdf", "übung.pdf", "übung.pdf"),
            ("100%.txt", "100%.txt", "100%.txt"),
            (
                "..%2F..%2Fetc%2Fpasswd",
                "../../etc/passwd",
                "_._.._etc_passwd",
            ),
            ("..", "..", "_."),
            (".bashrc", ".bashrc", "_bashrc"),
            ("", "", "_"),
            ("a%1B[2Jb", "a\u{fffd}[2Jb", "a\u{fffd}[2Jb"),
            ("%FF", "%FF", "%FF"),
            ("x%E2%80%AEfdp.exe", "x\u{fffd}fdp.exe", "x\u{fffd}fdp.exe"),
        ] {
            let name = FileName::from_wire(wire);
            assert_eq!((name.to_string().as_str(), name.local()), (shown, local));
            assert_eq!(name.wire(), wire);
        }
    }

    #[test]
    fn a_typed_name_is_encoded_for_the_wire() {
        let name = FileName::from_name("a;b%.zip");
        assert_eq!((name.wire(), name.name()), ("a%3Bb%25.zip", "a;b%.zip"));
        assert_eq!(name, FileName::from_wire("a%3Bb%25.zip"));
        assert_eq!(FileName::from_name("my notes.txt").word(), "my%20notes.txt");
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_folder(wire in ".*") {
            let name = FileName::from_wire(&wire);
            let path = std::path::Path::new(name.local());
            prop_assert_eq!(path.components().count(), 1);
            prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.local()));
            prop_assert!(name.local().len() <= MAX_LOCAL);
            prop_assert!(!name.to_string().chars().any(char::is_control));
        }
    }
}
