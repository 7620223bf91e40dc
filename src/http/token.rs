//! The bearer token of `[http] token_file` (RFC 6750).

use std::{fs, path::Path};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;
/// No token is longer than this; a file that is was not meant.
const LONGEST: usize = 4096;

/// A secret word, of which only the sum is kept. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token of these characters.
    pub fn new(text: &str) -> Self {
        Self(sum(text.as_bytes()))
    }

    /// Reads it from a file, see [`read_token`].
    ///
    /// # Errors
    /// Why there is none in it, and what is needed.
    pub fn read(file: &Path) -> Result<Self, String> {
        read_token(file).map(|text| Self::new(&text))
    }

    /// Whether these are its characters; it takes as long whatever they are.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(&sum(given)).into()
    }
}

fn sum(text: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, text).as_ref());
    sum
}

/// Reads a token's characters from a file: one line, blanks around it don't count.
///
/// # Errors
/// Why there is none in it, and what is needed.
pub fn read_token(file: &Path) -> Result<String, String> {
    let named = |problem: &str| {
        format!(
            "{}: {problem}; a token is one line of {SHORTEST} to {LONGEST} printable ASCII \
             characters without blanks, as `openssl rand -hex 32` writes it",
            file.display()
        )
    };
    let text = fs::read(file).map_err(|error| named(&format!("cannot be read: {error}")))?;
    let text = String::from_utf8(text).map_err(|_| named("is no text"))?;
    let text = text.trim();
    if !(SHORTEST..=LONGEST).contains(&text.len()) {
        return Err(named(&format!("holds {} characters", text.len())));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(named("holds other characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_one_word_is_a_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        for (text, good) in [
            ("0123456789abcdef", true),
            ("  0123456789abcdef\r\n", true),
            ("0123456789abcde", false),
            ("", false),
            ("0123456789 abcdef", false),
            ("0123456789abcdef\n0123456789abcdef\n", false),
            ("0123456789abcdeü", false),
        ] {
            fs::write(&file, text).expect("a file");
            let read = Token::read(&file);
            assert_eq!(read.is_ok(), good, "{text:?}: {read:?}");
            if let Ok(token) = read {
                assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeg"));
                assert!(!token.is(b"") && !token.is(b"0123456789abcdef\n"));
            }
        }
        let absent = Token::read(&folder.path().join("absent"));
        assert!(absent.expect_err("absent").contains("cannot be read"));
    }
}
