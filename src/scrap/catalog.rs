//! The list of files, and how it is written on the wire.
//!
//! The list is `a;b;c;`: every name followed by a semicolon. So that any name fits into it, a name's
//! semicolons, percent signs, control characters and non-ASCII characters are percent-encoded; a
//! name without them stands as it is.

use std::{borrow::Cow, collections::HashSet};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// Most files that a catalog holds; the page's further ones are left out.
pub const MAX_FILES: usize = 10_000;
/// Longest name, in bytes: `NAME_MAX` of Linux, so that every name can be saved.
pub const MAX_NAME: usize = 255;

/// What is encoded besides everything that is not ASCII.
const SPECIAL: &AsciiSet = &CONTROLS.add(b';').add(b'%');

/// A name as it stands on the wire.
pub fn encode(name: &str) -> Cow<'_, str> {
    utf8_percent_encode(name, SPECIAL).into()
}

/// The name that stands on the wire as `text`; `None` if its bytes are no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let name = percent_decode_str(text).decode_utf8().ok()?;
    Some(name.into_owned())
}

/// A file that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, decoded: no `/`, no NUL, neither `.` nor `..`.
    pub name: String,
    /// Where it is.
    pub url: Url,
}

/// The files of a download page, in the page's order, no name twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    files: Vec<File>,
    list: String,
}

impl Catalog {
    /// The catalog of `files`. Of two with the same name the first one stays; names that no folder
    /// could hold and what exceeds [`MAX_FILES`] are left out.
    pub fn new(files: impl IntoIterator<Item = File>) -> Self {
        let mut names = HashSet::new();
        let files: Vec<File> = files
            .into_iter()
            .filter(|file| is_name(&file.name) && names.insert(file.name.clone()))
            .take(MAX_FILES)
            .collect();
        let mut list = String::new();
        for file in &files {
            list.push_str(&encode(&file.name));
            list.push(';');
        }
        Self { files, list }
    }

    /// The files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The list as it goes over the wire: `50MB.zip;100MB.zip;`.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// Where the file `name` is.
    pub fn url(&self, name: &str) -> Option<&Url> {
        let file = self.files.iter().find(|file| file.name == name)?;
        Some(&file.url)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str) -> File {
        File {
            name: name.into(),
            url: Url::parse("http://h/").unwrap().join(name).unwrap(),
        }
    }

    #[test]
    fn plain_names_stand_as_they_are() {
        let catalog = Catalog::new(["50MB.zip", "100MB.zip", "my notes.txt"].map(file));
        assert_eq!(catalog.list(), "50MB.zip;100MB.zip;my notes.txt;");
    }

    #[test]
    fn special_characters_are_encoded() {
        assert_eq!(encode("a;b%c\nü"), "a%3Bb%25c%0A%C3%BC");
        assert_eq!(decode("a%3Bb%25c%0A%C3%BC").as_deref(), Some("a;b%c\nü"));
        assert_eq!(decode("%FF"), None);
    }

    #[test]
    fn the_first_of_two_equal_names_stays() {
        let other = File {
            url: Url::parse("http://h/other/x").unwrap(),
            ..file("x")
        };
        let catalog = Catalog::new([file("x"), other]);
        assert_eq!(catalog.files(), [file("x")]);
        assert_eq!(catalog.url("x").unwrap().as_str(), "http://h/x");
        assert_eq!(catalog.url("y"), None);
    }

    #[test]
    fn names_that_leave_the_folder_are_left_out() {
        let long = "x".repeat(MAX_NAME + 1);
        let bad = ["", ".", "..", "../up", "a/b", "nul\0", &long];
        assert_eq!(Catalog::new(bad.map(file)).files(), []);
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let catalog = Catalog::new((0..MAX_FILES + 5).map(|n| file(&n.to_string())));
        assert_eq!(catalog.files().len(), MAX_FILES);
    }

    proptest! {
        #[test]
        fn every_name_survives_the_wire(name in any::<String>()) {
            let wire = encode(&name);
            prop_assert!(wire.bytes().all(|b| b.is_ascii() && !b.is_ascii_control() && b != b';'));
            prop_assert_eq!(decode(&wire), Some(name));
        }
    }
}
