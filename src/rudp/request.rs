use super::signal::{self, Answer, Ask, MAX_FILE, MAX_TEXT, Malformed, Statistics};

/// What a client asks. SIGNEW needs no asking: it goes out by itself, first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// SIGNECHO
    Echo {
        /// Printable ASCII without `;`, 1 to 64 bytes.
        timestamp: String,
    },
    /// SIGNSTAT
    Stat,
    /// SIGNGET: the list of files.
    List,
    /// SIGNGET with the name of a file, as the list spells it: where to fetch it.
    Redirect(String),
    /// SIGNEND: the last signal of a session.
    End,
}

impl Request {
    pub(super) fn ask(&self) -> Ask<'_> {
        match self {
            Self::Echo { timestamp } => Ask::Echo(timestamp),
            Self::Stat => Ask::Stat,
            Self::List => Ask::List,
            Self::Redirect(file) => Ask::Redirect(file),
            Self::End => Ask::End,
        }
    }

    pub(super) fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Echo { timestamp } => signal::plain(timestamp.as_bytes(), MAX_TEXT).map(drop),
            Self::Redirect(file) => signal::plain(file.as_bytes(), MAX_FILE).map(drop),
            Self::Stat | Self::List | Self::End => Ok(()),
        }
    }

    /// Whether the server answers it at once, so that the answer's time is the path's.
    pub(super) fn measures_the_path(&self) -> bool {
        matches!(self, Self::Echo { .. } | Self::Stat | Self::End)
    }

    pub(super) fn answer(&self, answer: Answer<'_>) -> Option<Reply> {
        match (self, answer) {
            (Self::Echo { timestamp: sent }, Answer::Echo { timestamp, .. })
                if sent == timestamp =>
            {
                Some(Reply::Echo {
                    timestamp: timestamp.to_owned(),
                })
            }
            (Self::Stat, Answer::Stat { statistics, .. }) => Some(Reply::Stat(statistics)),
            (Self::List, Answer::Get { body, .. }) => Some(Reply::List(
                signal::files(body).map(str::to_owned).collect(),
            )),
            (Self::Redirect(_), Answer::Get { body, .. }) => {
                Some(Reply::Redirect((!body.is_empty()).then(|| body.to_owned())))
            }
            (Self::End, Answer::End { .. }) => Some(Reply::End),
            _ => None,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// ECHOREPLY
    Echo {
        /// The timestamp that was sent.
        timestamp: String,
    },
    /// STATREPLY
    Stat(Statistics),
    /// ACKGET with the names of the files, percent-encoded.
    List(Vec<String>),
    /// ACKGET with the URL of one file; `None`: there is no such file.
    Redirect(Option<String>),
    /// ACKEND
    End,
}

/// Names a submitted request in [`Event::Answered`](super::requester::Event::Answered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// The id of its signal.
    pub fn id(self) -> u64 {
        self.0
    }
}
