//! The text protocol: one UDP datagram a signal, ASCII, no terminator.
//!
//! | client sends | server answers |
//! |---|---|
//! | `SIGNEW:<name>` | `SIGNACK` |
//! | `SIGNECHO:<id>;<timestamp>` | `ECHOREPLY:<id>;<timestamp>` |
//! | `SIGNSTAT:<id>` | `STATREPLY:<id>;Packets sent: <n>\nPackets lost: <n>\nConnected time: <s.ss> seconds` |
//! | `SIGNGET:<id>;SIGNGET` | `ACKGET:<id>;<file>;<file>;...;` |
//! | `SIGNGET:<id>;<file>` | `ACKGET:<id>;<url>`: where to fetch it, nothing after the `;` if there is no such file |
//! | `SIGNEND:<id>;SIGNEND` | `ACKEND:<id>` |
//! | an id beyond the expected one | `SIGNLOST:<id>`, once for each missing id |
//! | a new id when the window is full | `SIGNFULL:<id>` |
//! | what is not answered, for a reason that its user should hear | `SIGNREFUSED:<id>;<words>`; for a SIGNEW `SIGNREFUSED:<words>` |
//!
//! `SIGNGET:<id>;<file>` is an addition of labnet's; an original server never sees it, an original
//! client never sends it. So is `SIGNREFUSED`: an original client waits on, as it would if nothing
//! came. The original sends `ACKEND` and `SIGNFULL` without an id: [`Answer::parse`] takes both
//! forms. It sends a SIGNSTAT again as `SIGNSTAT:<id>;...`: whatever follows the id is taken for
//! nothing. So is an end of line at the end of a signal, which who types one by hand sends.
//!
//! Ids are decimal without leading zeros, in 64 bits. A name's number is the sum of its
//! characters' codes; the first numbered signal's id is that plus one, each next one more. File
//! names travel as the scraper percent-encodes them, so `;` only ever separates.

use std::{fmt, io::Write as _, str, time::Duration};

/// The longest name and the longest timestamp, in bytes.
pub const MAX_TEXT: usize = 64;
/// The longest file name, in bytes: 255 bytes, each percent-encoded.
pub const MAX_FILE: usize = 765;
/// The longest signal, in bytes: a SIGNGET with the longest file name and id.
pub const MAX_SIGNAL: usize = "SIGNGET:;".len() + "18446744073709551615".len() + MAX_FILE;
/// The longest reason of a SIGNREFUSED, in bytes.
pub const MAX_WHY: usize = 200;
/// The longest list of files, in bytes: an ACKGET with it fits one UDP datagram.
pub const MAX_LIST: usize = 60_000;

/// A text that is no signal, no answer, or no part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one of the protocol's words.
    #[error("no signal of this protocol")]
    Word,
    /// The id is not a decimal number without leading zeros in 64 bits.
    #[error("the id is no number")]
    Id,
    /// A name, timestamp or file name that is empty, too long, or holds `;` or anything that is not
    /// printable ASCII.
    #[error("a text is empty, too long, or not printable ASCII without `;`")]
    Text,
    /// Something is missing or left over.
    #[error("not the shape of its signal")]
    Shape,
}

/// The name that a client gives with SIGNEW: printable ASCII without `;`, 1 to [`MAX_TEXT`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        plain(text.as_bytes(), MAX_TEXT).map(|text| Self(text.into()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The sum of its characters' codes: 289 for `Tal`.
    pub fn number(&self) -> u64 {
        self.0.bytes().map(u64::from).sum()
    }

    /// The id of the first numbered signal.
    pub fn first_id(&self) -> u64 {
        self.number() + 1
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal<'a> {
    /// Opens a session.
    New(Name),
    /// A numbered signal.
    Numbered {
        /// Its number.
        id: u64,
        /// What it asks.
        ask: Ask<'a>,
    },
}

/// What a numbered signal asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// SIGNECHO: the timestamp back.
    Echo(&'a str),
    /// SIGNSTAT: the session's statistics.
    Stat,
    /// SIGNGET: the list of files.
    List,
    /// SIGNGET with a file's name: where to fetch it.
    Redirect(&'a str),
    /// SIGNEND: the session's end.
    End,
}

/// The kinds of signals, as metrics count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// `SIGNEW`
    New,
    /// `SIGNECHO`
    Echo,
    /// `SIGNSTAT`
    Stat,
    /// `SIGNGET`
    Get,
    /// `SIGNEND`
    End,
}

impl SignalKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::New, Self::Echo, Self::Stat, Self::Get, Self::End];

    /// The word in lower case: a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "signew",
            Self::Echo => "signecho",
            Self::Stat => "signstat",
            Self::Get => "signget",
            Self::End => "signend",
        }
    }
}

impl<'a> Signal<'a> {
    /// Reads one datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let line = datagram.strip_suffix(b"\n").unwrap_or(datagram);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (word, rest) = split(line, b':').ok_or(Malformed::Word)?;
        match word {
            b"SIGNEW" => plain(rest, MAX_TEXT).map(|name| Self::New(Name(name.into()))),
            b"SIGNECHO" => {
                let (id, timestamp) = id_and_text(rest)?;
                let ask = Ask::Echo(plain(timestamp, MAX_TEXT)?);
                Ok(Self::Numbered { id, ask })
            }
            b"SIGNSTAT" => {
                let id = split(rest, b';').map_or(rest, |(id, _)| id);
                let (id, ask) = (number(id)?, Ask::Stat);
                Ok(Self::Numbered { id, ask })
            }
            b"SIGNGET" => {
                let (id, what) = id_and_text(rest)?;
                let ask = match what {
                    b"SIGNGET" => Ask::List,
                    file => Ask::Redirect(plain(file, MAX_FILE)?),
                };
                Ok(Self::Numbered { id, ask })
            }
            b"SIGNEND" => match id_and_text(rest)? {
                (id, b"SIGNEND") => Ok(Self::Numbered { id, ask: Ask::End }),
                _ => Err(Malformed::Shape),
            },
            _ => Err(Malformed::Word),
        }
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Writing to a Vec never fails.
        let _ = match self {
            Self::New(name) => write!(out, "SIGNEW:{name}"),
            Self::Numbered { id, ask } => match ask {
                Ask::Echo(timestamp) => write!(out, "SIGNECHO:{id};{timestamp}"),
                Ask::Stat => write!(out, "SIGNSTAT:{id}"),
                Ask::List => write!(out, "SIGNGET:{id};SIGNGET"),
                Ask::Redirect(file) => write!(out, "SIGNGET:{id};{file}"),
                Ask::End => write!(out, "SIGNEND:{id};SIGNEND"),
            },
        };
    }

    /// Its id; a SIGNEW has none.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::New(_) => None,
            Self::Numbered { id, .. } => Some(*id),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> SignalKind {
        match self {
            Self::New(_) => SignalKind::New,
            Self::Numbered { ask, .. } => match ask {
                Ask::Echo(_) => SignalKind::Echo,
                Ask::Stat => SignalKind::Stat,
                Ask::List | Ask::Redirect(_) => SignalKind::Get,
                Ask::End => SignalKind::End,
            },
        }
    }
}

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer<'a> {
    /// `SIGNACK`: the session is open.
    Ack,
    /// `ECHOREPLY`
    Echo {
        /// The signal's id.
        id: u64,
        /// The timestamp as it came.
        timestamp: &'a str,
    },
    /// `STATREPLY`
    Stat {
        /// The signal's id.
        id: u64,
        /// The session's statistics.
        statistics: Statistics,
    },
    /// `ACKGET`
    Get {
        /// The signal's id.
        id: u64,
        /// `<file>;<file>;...;`, or the URL of the one file asked for.
        body: &'a str,
    },
    /// `ACKEND`
    End {
        /// The signal's id; the original sends none.
        id: Option<u64>,
    },
    /// `SIGNLOST`: send this one (again).
    Lost {
        /// The missing id.
        id: u64,
    },
    /// `SIGNFULL`: the window is full, wait, then send this one again.
    Full {
        /// The refused id; the original sends none.
        id: Option<u64>,
    },
    /// `SIGNREFUSED`: there is no answer, and why.
    Refused {
        /// The signal's id; `None`: it was a SIGNEW.
        id: Option<u64>,
        /// Why, for people: printable ASCII without `;`, [`MAX_WHY`] bytes at most.
        why: &'a str,
    },
}

/// What SIGNSTAT tells of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Numbered signals received since SIGNEW, each once, this SIGNSTAT included.
    pub sent: u64,
    /// Ids that were missing when a later one came.
    pub lost: u64,
    /// Time since SIGNEW; hundredths of seconds on the wire.
    pub connected: Duration,
}

/// The kinds of answers, as metrics count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// `SIGNACK`
    Ack,
    /// `ECHOREPLY`
    Echo,
    /// `STATREPLY`
    Stat,
    /// `ACKGET`
    Get,
    /// `ACKEND`
    End,
    /// `SIGNLOST`
    Lost,
    /// `SIGNFULL`
    Full,
    /// `SIGNREFUSED`
    Refused,
}

impl AnswerKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::Ack,
        Self::Echo,
        Self::Stat,
        Self::Get,
        Self::End,
        Self::Lost,
        Self::Full,
        Self::Refused,
    ];

    /// The word in lower case: a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ack => "signack",
            Self::Echo => "echoreply",
            Self::Stat => "statreply",
            Self::Get => "ackget",
            Self::End => "ackend",
            Self::Lost => "signlost",
            Self::Full => "signfull",
            Self::Refused => "signrefused",
        }
    }
}

impl<'a> Answer<'a> {
    /// Reads one datagram, in labnet's form or the original's.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let Some((word, rest)) = split(datagram, b':') else {
            return match datagram {
                b"SIGNACK" => Ok(Self::Ack),
                b"ACKEND" => Ok(Self::End { id: None }),
                b"SIGNFULL" => Ok(Self::Full { id: None }),
                _ => Err(Malformed::Word),
            };
        };
        match word {
            b"ECHOREPLY" => {
                let (id, timestamp) = id_and_text(rest)?;
                let timestamp = plain(timestamp, MAX_TEXT)?;
                Ok(Self::Echo { id, timestamp })
            }
            b"STATREPLY" => {
                let (id, text) = id_and_text(rest)?;
                let statistics = Statistics::parse(text).ok_or(Malformed::Shape)?;
                Ok(Self::Stat { id, statistics })
            }
            b"ACKGET" => {
                let (id, body) = id_and_text(rest)?;
                let body = str::from_utf8(body).map_err(|_| Malformed::Text)?;
                Ok(Self::Get { id, body })
            }
            b"ACKEND" => number(rest).map(|id| Self::End { id: Some(id) }),
            b"SIGNLOST" => number(rest).map(|id| Self::Lost { id }),
            b"SIGNFULL" => number(rest).map(|id| Self::Full { id: Some(id) }),
            b"SIGNREFUSED" => {
                let (id, why) = match split(rest, b';') {
                    Some((id, why)) => (Some(number(id)?), why),
                    None => (None, rest),
                };
                let why = plain(why, MAX_WHY)?;
                Ok(Self::Refused { id, why })
            }
            _ => Err(Malformed::Word),
        }
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Writing to a Vec never fails.
        let _ = match self {
            Self::Ack => write!(out, "SIGNACK"),
            Self::Echo { id, timestamp } => write!(out, "ECHOREPLY:{id};{timestamp}"),
            Self::Stat { id, statistics } => write!(out, "STATREPLY:{id};{statistics}"),
            Self::Get { id, body } => write!(out, "ACKGET:{id};{body}"),
            Self::End { id: Some(id) } => write!(out, "ACKEND:{id}"),
            Self::End { id: None } => write!(out, "ACKEND"),
            Self::Lost { id } => write!(out, "SIGNLOST:{id}"),
            Self::Full { id: Some(id) } => write!(out, "SIGNFULL:{id}"),
            Self::Full { id: None } => write!(out, "SIGNFULL"),
            Self::Refused { id: Some(id), why } => write!(out, "SIGNREFUSED:{id};{why}"),
            Self::Refused { id: None, why } => write!(out, "SIGNREFUSED:{why}"),
        };
    }

    /// Its kind.
    pub fn kind(&self) -> AnswerKind {
        match self {
            Self::Ack => AnswerKind::Ack,
            Self::Echo { .. } => AnswerKind::Echo,
            Self::Stat { .. } => AnswerKind::Stat,
            Self::Get { .. } => AnswerKind::Get,
            Self::End { .. } => AnswerKind::End,
            Self::Lost { .. } => AnswerKind::Lost,
            Self::Full { .. } => AnswerKind::Full,
            Self::Refused { .. } => AnswerKind::Refused,
        }
    }
}

impl Statistics {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(text).ok()?.split('\n');
        let sent = lines.next()?.strip_prefix("Packets sent: ")?;
        let lost = lines.next()?.strip_prefix("Packets lost: ")?;
        let connected = lines
            .next()?
            .strip_prefix("Connected time: ")?
            .strip_suffix(" seconds")?;
        if lines.next().is_some() {
            return None;
        }
        Some(Self {
            sent: sent.parse().ok()?,
            lost: lost.parse().ok()?,
            connected: Duration::try_from_secs_f64(connected.parse().ok()?).ok()?,
        })
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Packets sent: {}\nPackets lost: {}\nConnected time: {:.2} seconds",
            self.sent,
            self.lost,
            self.connected.as_secs_f64()
        )
    }
}

/// The file names of an ACKGET's body.
pub fn files(body: &str) -> impl Iterator<Item = &str> {
    body.split(';').filter(|file| !file.is_empty())
}

/// As much of a list of files as `most` bytes hold, cut after a whole name.
pub fn fitting(list: &str, most: usize) -> &str {
    if list.len() <= most {
        return list;
    }
    let whole = list.as_bytes()[..most]
        .iter()
        .rposition(|byte| *byte == b';');
    list.get(..whole.map_or(0, |at| at + 1)).unwrap_or("")
}

/// Whether the datagram is of the binary transport: no signal's first byte has its high bit set.
pub fn is_binary(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| byte & 0x80 != 0)
}

fn split(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn id_and_text(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (id, text) = split(bytes, b';').ok_or(Malformed::Shape)?;
    Ok((number(id)?, text))
}

fn number(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() || digits[0] == b'0' {
        return Err(Malformed::Id);
    }
    digits.iter().try_fold(0u64, |number, digit| {
        if !digit.is_ascii_digit() {
            return Err(Malformed::Id);
        }
        number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit - b'0')))
            .ok_or(Malformed::Id)
    })
}

pub(super) fn plain(bytes: &[u8], longest: usize) -> Result<&str, Malformed> {
    let printable = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b';';
    if bytes.is_empty() || bytes.len() > longest || !bytes.iter().all(printable) {
        return Err(Malformed::Text);
    }
    str::from_utf8(bytes).map_err(|_| Malformed::Text)
}
