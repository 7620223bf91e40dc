//! The bearer token of `[http] token_file` (RFC 6750).

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;
/// No token is longer than this; a file that is was not meant.
const LONGEST: usize = 4096;

/// A file that changed less than this ago is read each time: the clock of its times may be coarse.
const UNSETTLED: Duration = Duration::from_secs(1);

/// A secret word, of which only the sum is kept. Never shown.
///
/// A token that was read from a file is what the file holds: another word counts from the next question on,
/// without a reload. While the file holds none, the last one does.
#[derive(Clone)]
pub struct Token {
    file: Option<PathBuf>,
    held: Arc<Mutex<Held>>,
}

#[derive(Clone, Copy)]
struct Held {
    sum: [u8; 32],
    stamp: Option<Stamp>,
}

/// How a file was when it was read: another one is another file, or another state of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Nothing of a file that has changed just now: it may change again with the same time.
    fn of(file: &Path) -> Option<Self> {
        let meta = fs::metadata(file).ok()?;
        let settled = meta.modified().ok()?.elapsed().ok()? > UNSETTLED;
        settled.then_some(Self {
            inode: meta.ino(),
            length: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.held().sum == other.held().sum
    }
}

impl Eq for Token {}

impl Token {
    /// The token of these characters.
    pub fn new(text: &str) -> Self {
        Self {
            file: None,
            held: Arc::new(Mutex::new(Held {
                sum: sum(text.as_bytes()),
                stamp: None,
            })),
        }
    }

    /// Reads it from a file, see [`read_token`].
    ///
    /// # Errors
    /// Why there is none in it, and what is needed.
    pub fn read(file: &Path) -> Result<Self, String> {
        let stamp = Stamp::of(file);
        let token = Self::new(&read_token(file)?);
        token.held().stamp = stamp;
        Ok(Self {
            file: Some(file.to_owned()),
            ..token
        })
    }

    /// What it is now, whatever its file will hold.
    pub fn as_it_is(&self) -> Self {
        Self {
            file: None,
            held: Arc::new(Mutex::new(*self.held())),
        }
    }

    /// Whether these are its characters; it takes as long whatever they are.
    pub fn is(&self, given: &[u8]) -> bool {
        self.renew();
        let held = self.held().sum;
        held.ct_eq(&sum(given)).into()
    }

    /// Reads the file again if it has changed.
    fn renew(&self) {
        let Some(file) = &self.file else { return };
        let stamp = Stamp::of(file);
        if stamp.is_some() && stamp == self.held().stamp {
            return;
        }
        match read_token(file) {
            Ok(text) => {
                let renewed = sum(text.as_bytes());
                let mut held = self.held();
                if held.sum != renewed {
                    tracing::info!(file = %file.display(), "the file holds another token: it counts now");
                }
                *held = Held {
                    sum: renewed,
                    stamp,
                };
            }
            Err(problem) => {
                let mut held = self.held();
                // Once a state of the file.
                if stamp.is_some() && held.stamp != stamp {
                    tracing::warn!("{problem}; the last token still counts");
                }
                held.stamp = stamp;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Plain values are whole even if a thread died while it held the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn another_word_in_the_file_counts_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        fs::write(&file, "0123456789abcdef").expect("a file");
        let token = Token::read(&file).expect("a token");
        let before = token.as_it_is();
        for (text, counts) in [
            ("fedcba9876543210", "fedcba9876543210"),
            ("a longer one is none", "fedcba9876543210"),
            ("0123456789abcdeg", "0123456789abcdeg"),
        ] {
            fs::write(&file, text).expect("a file");
            assert!(token.is(counts.as_bytes()), "{text}");
            assert!(!token.is(b"0123456789abcdef"), "{text}");
        }
        // A file that is gone for a moment, and one that has been as it is for long.
        fs::remove_file(&file).expect("removed");
        assert!(token.is(b"0123456789abcdeg"));
        fs::write(&file, "the-one-after-that").expect("a file");
        let long_ago = std::time::SystemTime::now() - 2 * UNSETTLED;
        let times = fs::FileTimes::new().set_modified(long_ago);
        let opened = fs::File::options().write(true).open(&file).expect("there");
        opened.set_times(times).expect("set");
        assert!(token.is(b"the-one-after-that") && token.is(b"the-one-after-that"));
        assert!(before.is(b"0123456789abcdef"));
    }

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
