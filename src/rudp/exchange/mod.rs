//! What a stream carries: one question and its answer, with heads of text so that they can be read
//! in a capture.
//!
//! The client opens a stream, sends one line and ends its half (FIN). The server answers with one
//! line, then the body, and ends its half where the body ends. The line's `\n` is what the server
//! waits for, not the FIN; but the client MUST send it: a stream counts against MAX_STREAMS until
//! both halves have ended. Anything behind the `\n` is met with STOP_SENDING (MALFORMED_QUESTION), and
//! a line that FIN cuts short is `malformed`. A line is at most [`MAX_LINE`] bytes
//! with its `\n`; its words are separated by one space each.
//!
//! | question | body of the answer |
//! |---|---|
//! | `LIST` | the names of the files, each with a `\n` |
//! | `GET <name> <range> [<validator>]` | the file's bytes, or a part of them |
//! | `ECHO <timestamp>` | the timestamp |
//! | `STAT` | the connection's statistics as the server sees them: `<key> <value>\n` each |
//!
//! | answer | when |
//! |---|---|
//! | `OK <first> <length> <whole> <validator> [<digest>]` | a body follows |
//! | `ERROR <code> [<text>]` | nothing follows |
//!
//! - `<name>`: as the list spells it, percent-encoded: 1 to 765 bytes of visible ASCII (no space)
//!   without `;`.
//! - `<range>`: `<first>`, from this byte (0: the first) to the end, or `<first>-<last>`, both
//!   included and `last` not before `first`. A range that begins where the file ends has an empty
//!   body, and a validator and digest as any other answer, so that a client that has it all can
//!   tell that it has; one that begins beyond it is `malformed`; one that ends beyond it ends with the file.
//! - `<validator>`: names the state of the file that the client has a part of: what an earlier
//!   answer gave. If the file is another by now, the server ignores the range and answers with the
//!   whole file, `<first>` 0. Without a validator the range holds for whatever the file is. 1 to
//!   512 bytes of visible ASCII, of the server's making, see [`spell`]; `-` in an answer: there is
//!   none.
//! - `<timestamp>`: 1 to 64 bytes of visible ASCII.
//! - `<first>`: the body's first byte in the file. `<length>`: the body's length in bytes, `-` if
//!   the server does not know it: then FIN tells. `<whole>`: the whole file's length, `-` if unknown.
//!   For the other questions `<first>` is 0 and both lengths are the body's.
//! - `<digest>`: the SHA-256 of the whole file, 64 digits of lower-case hexadecimal, if known.
//! - `<code>`: `not_found`, there is no such file; `unavailable`, the file's origin does not answer
//!   now, try later; `malformed`, the question is not understood; `refused`, the server does not
//!   want to answer. `<text>`: for people, UTF-8 without control characters.
//!
//! Statistics' keys are of lower-case letters, digits and `_`, 1 to 128 bytes, each there once; values
//! have no control characters and at most 128 bytes. A reader skips the keys that it does not know.
//! This server tells those of [`statistics::TRANSPORT`](super::statistics::TRANSPORT) that there are
//! then, all as the server's side of the connection sees them.
//!
//! | limit | |
//! |---|---|
//! | a line | 2048 bytes, `\n` included |
//! | a name, a validator, a timestamp | 765, 512, 64 bytes |
//! | the text of an error | 512 bytes; a longer one is cut |
//! | the list | 4 MiB: the server leaves out what is beyond, a client stops reading there |
//! | statistics | 16 KiB, the same |
//! | questions whose answer the server fetches at once, a connection | 16; others wait their turn |
//! | a question on its way, from its stream's first byte to `\n` | 10 s: then `refused`, and STOP_SENDING with TOO_SLOW |
//! | a reader who takes nothing of a body | 60 s: then RESET_STREAM with TOO_SLOW; the connection stays |
//!
//! Numbers are decimal in 64 bits, without leading zeros. A body that is longer or shorter than
//! `<length>`, or a stream reset, means that the file is not whole: ask for the rest.
//!
//! ```text
//! > GET 50MB.zip 1048576 "5e8-1c9a"
//! < OK 1048576 51380224 52428800 "5e8-1c9a"
//! < ...51380224 bytes
//! ```

mod statistics;

use std::{
    fmt::{self, Write as _},
    str,
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

pub use self::statistics::{MAX_STATISTICS, Statistics};
use super::signal::{MAX_FILE, MAX_TEXT};

/// The longest line, in bytes, `\n` included.
pub const MAX_LINE: usize = 2048;
/// The longest validator, in bytes, as it is spelled.
pub const MAX_VALIDATOR: usize = 512;
/// The longest text of an error, in bytes: a longer one is cut.
pub const MAX_ERROR_TEXT: usize = 512;
/// The longest body that answers LIST, in bytes: a client stops reading there.
pub const MAX_LIST: usize = 4 * 1024 * 1024;

/// A line or body that does not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No `\n` within [`MAX_LINE`] bytes, or a body beyond its limit.
    #[error("it is too long")]
    TooLong,
    /// The stream ended before the `\n`.
    #[error("it ends before its end of line")]
    Truncated,
    /// The first word is none of the protocol's.
    #[error("its first word is unknown")]
    Word,
    /// Too few words, too many, or not one space between two of them.
    #[error("it has not the words that belong to it")]
    Shape,
    /// A name, timestamp, validator or text that is empty, too long or not of its alphabet.
    #[error("a name or text is empty, too long or not of its alphabet")]
    Text,
    /// A number that is not decimal, has leading zeros or is beyond 64 bits.
    #[error("a number is not decimal in 64 bits")]
    Number,
    /// Numbers that contradict each other: a range that ends before it begins, a part that reaches
    /// beyond the whole.
    #[error("its numbers contradict each other")]
    Range,
    /// A digest that is not 64 digits of lower-case hexadecimal.
    #[error("the digest is not 64 hexadecimal digits")]
    Digest,
    /// A code of an error that is unknown.
    #[error("the code of the error is unknown")]
    Code,
    /// A statistic that is there twice.
    #[error("a key is there twice")]
    Twice,
}

/// Gathers a line that comes in pieces.
#[derive(Debug, Default)]
pub struct LineReader {
    line: Vec<u8>,
    whole: bool,
}

impl LineReader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream. Once the line is whole: how many bytes of the piece
    /// belonged to it; what follows is the body. `None`: more is wanted.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.whole {
            return Ok(Some(0));
        }
        let room = MAX_LINE - self.line.len();
        let end = piece.iter().take(room).position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                self.line.extend_from_slice(&piece[..end]);
                self.whole = true;
                Ok(Some(end + 1))
            }
            None if piece.len() >= room => Err(Malformed::TooLong),
            None => {
                self.line.extend_from_slice(piece);
                Ok(None)
            }
        }
    }

    /// The line without its `\n`, once it is whole.
    pub fn line(&self) -> Result<&str, Malformed> {
        if !self.whole {
            return Err(Malformed::Truncated);
        }
        str::from_utf8(&self.line).map_err(|_| Malformed::Text)
    }
}

/// Which part of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// The first byte's index.
    pub first: u64,
    /// The last byte's, itself included; `None`: to the end.
    pub last: Option<u64>,
}

impl Range {
    /// From this byte to the end.
    pub fn from(first: u64) -> Self {
        Self { first, last: None }
    }

    fn parse(word: &str) -> Result<Self, Malformed> {
        let (first, last) = match word.split_once('-') {
            Some((first, last)) => (first, Some(number(last)?)),
            None => (word, None),
        };
        let first = number(first)?;
        if last.is_some_and(|last| last < first) {
            return Err(Malformed::Range);
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.last.map_or(Ok(()), |last| write!(f, "-{last}"))
    }
}

/// What a stream asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// The names of the files.
    List,
    /// A file, or a part of it.
    Get {
        /// Its name as the list spells it.
        name: &'a str,
        /// The part.
        range: Range,
        /// The state of the file that the range belongs to.
        validator: Option<&'a str>,
    },
    /// The client's timestamp, sent back.
    Echo(&'a str),
    /// The connection's statistics.
    Stat,
}

impl<'a> Question<'a> {
    /// Reads a line without its `\n`.
    pub fn parse(line: &'a str) -> Result<Self, Malformed> {
        let mut words = line.split(' ');
        let question = match words.next() {
            Some("LIST") => Self::List,
            Some("STAT") => Self::Stat,
            Some("ECHO") => Self::Echo(visible(next(&mut words)?, MAX_TEXT)?),
            Some("GET") => Self::Get {
                name: file_name(next(&mut words)?)?,
                range: Range::parse(next(&mut words)?)?,
                validator: words.next().map(validator).transpose()?,
            },
            _ => return Err(Malformed::Word),
        };
        end(words)?;
        Ok(question)
    }

    /// The line, `\n` included. An error if a name, timestamp or validator is not as the format
    /// wants it.
    pub fn encode(&self) -> Result<String, Malformed> {
        Ok(match *self {
            Self::List => "LIST\n".to_owned(),
            Self::Stat => "STAT\n".to_owned(),
            Self::Echo(timestamp) => format!("ECHO {}\n", visible(timestamp, MAX_TEXT)?),
            Self::Get {
                name,
                range,
                validator: wanted,
            } => {
                if range.last.is_some_and(|last| last < range.first) {
                    return Err(Malformed::Range);
                }
                let name = file_name(name)?;
                match wanted {
                    Some(wanted) => format!("GET {name} {range} {}\n", validator(wanted)?),
                    None => format!("GET {name} {range}\n"),
                }
            }
        })
    }
}

/// The head of an answer that has a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The body's first byte in the file.
    pub first: u64,
    /// The body's length in bytes, if known.
    pub length: Option<u64>,
    /// The whole file's length in bytes, if known.
    pub whole: Option<u64>,
    /// The state of the file, to be given back when asking for the rest.
    pub validator: Option<String>,
    /// The SHA-256 of the whole file, if known.
    pub digest: Option<[u8; 32]>,
}

impl Head {
    /// The head of a body that is no file's.
    pub fn of_body(length: usize) -> Self {
        let length = Some(length as u64);
        Self {
            length,
            whole: length,
            ..Self::default()
        }
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, Malformed> {
        let head = Self {
            first: number(next(&mut words)?)?,
            length: unless_dash(next(&mut words)?).map(number).transpose()?,
            whole: unless_dash(next(&mut words)?).map(number).transpose()?,
            validator: unless_dash(next(&mut words)?)
                .map(|word| validator(word).map(str::to_owned))
                .transpose()?,
            digest: words.next().map(digest).transpose()?,
        };
        end(words)?;
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), Malformed> {
        let end = self
            .first
            .checked_add(self.length.unwrap_or(0))
            .ok_or(Malformed::Range)?;
        match self.whole {
            Some(whole) if end > whole => Err(Malformed::Range),
            _ => Ok(()),
        }
    }

    fn encode(&self) -> Result<String, Malformed> {
        self.check()?;
        let validator = match &self.validator {
            Some(word) => validator(word)?,
            None => "-",
        };
        let mut line = format!(
            "OK {} {} {} {validator}",
            self.first,
            OrDash(self.length),
            OrDash(self.whole)
        );
        if let Some(digest) = &self.digest {
            line.push(' ');
            for byte in digest {
                // Writing to a string never fails.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        Ok(line)
    }
}

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// There is no such file.
    NotFound,
    /// The file's origin does not answer now: try later.
    Unavailable,
    /// The question is not understood.
    Malformed,
    /// The server does not want to answer.
    Refused,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::NotFound,
        Self::Unavailable,
        Self::Malformed,
        Self::Refused,
    ];

    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A body follows.
    Ok(Head),
    /// Nothing follows.
    Error {
        /// Why.
        code: ErrorCode,
        /// Why, for people; may be empty.
        text: String,
    },
}

impl Answer {
    /// Reads a line without its `\n`.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        if let Some(error) = line.strip_prefix("ERROR ") {
            let (word, text) = error.split_once(' ').unwrap_or((error, ""));
            let code = ErrorCode::ALL
                .into_iter()
                .find(|code| code.word() == word)
                .ok_or(Malformed::Code)?;
            if text.chars().any(char::is_control) {
                return Err(Malformed::Text);
            }
            return Ok(Self::Error {
                code,
                text: text.to_owned(),
            });
        }
        let mut words = line.split(' ');
        match words.next() {
            Some("OK") => Head::parse(words).map(Self::Ok),
            Some("ERROR") => Err(Malformed::Shape),
            _ => Err(Malformed::Word),
        }
    }

    /// The line, `\n` included. In an error's text control characters become spaces and what is
    /// beyond [`MAX_ERROR_TEXT`] is cut. An error if the validator is not as the format wants it,
    /// or the numbers contradict each other.
    pub fn encode(&self) -> Result<String, Malformed> {
        match self {
            Self::Ok(head) => head.encode(),
            Self::Error { code, text } if text.is_empty() => Ok(format!("ERROR {code}\n")),
            Self::Error { code, text } => {
                let text = &text[..text.floor_char_boundary(MAX_ERROR_TEXT)];
                Ok(format!("ERROR {code} {}\n", tame(text)))
            }
        }
    }
}

/// Spells what names a file's state (an ETag, a date) as a validator: spaces, control characters
/// and all beyond ASCII percent-encoded. `None` if it is empty or too long.
pub fn spell(state: &str) -> Option<String> {
    const HARD: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b';');
    let word = match state {
        // The word for "none".
        "-" => "%2D".to_owned(),
        _ => utf8_percent_encode(state, HARD).to_string(),
    };
    validator(&word).is_ok().then_some(word)
}

/// What [`spell`] was given. `None` if it can't have made this word.
pub fn unspell(validator: &str) -> Option<String> {
    let state = percent_decode_str(validator).decode_utf8().ok()?;
    Some(state.into_owned())
}

/// The body that answers LIST. Names that the format does not allow are left out.
pub fn encode_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut body = String::new();
    for name in names {
        if file_name(name).is_ok() && body.len() + name.len() < MAX_LIST {
            body.push_str(name);
            body.push('\n');
        }
    }
    body
}

/// The names of a body that answers LIST.
pub fn decode_list(body: &[u8]) -> Result<Vec<&str>, Malformed> {
    lines(body, MAX_LIST)?.map(file_name).collect()
}

struct OrDash(Option<u64>);

impl fmt::Display for OrDash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("-"),
        }
    }
}

fn next<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<&'a str, Malformed> {
    words.next().ok_or(Malformed::Shape)
}

fn end<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<(), Malformed> {
    words.next().map_or(Ok(()), |_| Err(Malformed::Shape))
}

fn unless_dash(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

fn number(word: &str) -> Result<u64, Malformed> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (word.len() > 1 && word.starts_with('0')) {
        return Err(Malformed::Number);
    }
    word.parse().map_err(|_| Malformed::Number)
}

fn visible(word: &str, longest: usize) -> Result<&str, Malformed> {
    if word.is_empty() || word.len() > longest || !word.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Malformed::Text);
    }
    Ok(word)
}

fn file_name(word: &str) -> Result<&str, Malformed> {
    if word.contains(';') {
        return Err(Malformed::Text);
    }
    visible(word, MAX_FILE)
}

fn validator(word: &str) -> Result<&str, Malformed> {
    if word == "-" {
        return Err(Malformed::Text);
    }
    visible(word, MAX_VALIDATOR)
}

fn digest(word: &str) -> Result<[u8; 32], Malformed> {
    let (pairs, rest) = word.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return Err(Malformed::Digest);
    }
    let mut digest = [0; 32];
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = 16 * hexadecimal(*high)? + hexadecimal(*low)?;
    }
    Ok(digest)
}

fn hexadecimal(digit: u8) -> Result<u8, Malformed> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Malformed::Digest),
    }
}

fn tame(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The lines of a body; each, the last one too, ends with `\n`.
fn lines(body: &[u8], longest: usize) -> Result<impl Iterator<Item = &str>, Malformed> {
    if body.len() > longest {
        return Err(Malformed::TooLong);
    }
    let text = str::from_utf8(body).map_err(|_| Malformed::Text)?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Malformed::Truncated);
    }
    Ok(text.split_terminator('\n'))
}

#[cfg(test)]
mod tests;
