//! A file's bytes on their way from the HTTP origin to a stream.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderValue;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, sleep};
use url::Url;

use super::{
    answer::{Opened, Trouble},
    kept_connections::BorrowedConnection,
    origin,
    shared::Shared,
};
use crate::rudp::{
    exchange::{self, ErrorCode, Head, Range, unspell},
    session::Query,
};

/// The pause before a body that broke off is asked for again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long a body may bring nothing although it is wanted.
const STALL: Duration = Duration::from_secs(30);
/// A body of which nothing is wanted for so long gives its turn at the origin back if others wait
/// for one, and is asked for again when more of it is wanted.
const SHORT_REST: Duration = Duration::from_secs(1);
/// And for so long if nobody waits.
const LONG_REST: Duration = Duration::from_secs(30);
/// A body that others wait behind gives its turn back after so long, however fast it is read.
const SLICE: Duration = Duration::from_secs(5);
/// So often a body that broke off is resumed without having brought anything.
const MAX_RESUMES: u32 = 5;

/// What a source brings next.
pub(super) enum Progress {
    /// What the file is; once, first.
    Head(Head),
    /// The next bytes.
    Chunk(Bytes),
    /// The file's end: nothing follows.
    End,
    /// No more comes, and why.
    Failed(ErrorCode, String),
}

/// One file, or a part of it. Nothing is read from the origin while it is not polled.
pub(super) struct Source {
    shared: Rc<Shared>,
    /// Where to send from, so that whoever watches sees the proxy ask.
    from: IpAddr,
    /// Who wants it.
    client: IpAddr,
    wanted: Wanted,
    state: State,
    /// What the first answer said: a resumed body must be of the same file.
    known: Option<Known>,
    resumes: u32,
    /// Since when nothing is wanted of it.
    resting: Option<std::time::Instant>,
}

#[derive(Clone)]
struct Wanted {
    file: Box<str>,
    range: Range,
    /// As the client gave it, spelled for the header field.
    validator: Option<HeaderValue>,
}

struct Known {
    url: Url,
    validator: Option<HeaderValue>,
    whole: Option<u64>,
    /// The next byte's index in the file.
    at: u64,
    /// The bytes to come, if that is known.
    left: Option<u64>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Opened, Trouble>>>>;

enum State {
    Opening(Opening),
    Body(Box<Streaming>),
    /// Its turn was given back; to be asked for again.
    Parked,
    Over,
}

struct Streaming {
    answer: Option<(Incoming, BorrowedConnection)>,
    /// Bytes before the wanted ones, from an origin that knows no ranges.
    skip: u64,
    stall: Pin<Box<tokio::time::Sleep>>,
    since: Instant,
    /// Whether it was polled in vain last.
    waits: bool,
}

impl Source {
    /// Opens a file; `validator` is what an earlier head gave.
    pub(super) fn open(
        shared: &Rc<Shared>,
        (from, client): (IpAddr, IpAddr),
        file: Box<str>,
        range: Range,
        validator: Option<&str>,
    ) -> Self {
        let wanted = Wanted {
            file,
            range,
            validator: validator.map(|word| {
                let state = unspell(word).unwrap_or_default();
                // A validator that can't have been made here is no file's.
                HeaderValue::from_str(&state).unwrap_or(HeaderValue::from_static("\"\""))
            }),
        };
        let opening = first(Rc::clone(shared), (from, client), wanted.clone());
        Self {
            shared: Rc::clone(shared),
            from,
            client,
            wanted,
            state: State::Opening(Box::pin(opening)),
            known: None,
            resumes: 0,
            resting: None,
        }
    }

    /// Whether bytes have been promised: it is to be polled while they are wanted only.
    pub(super) fn has_head(&self) -> bool {
        self.known.is_some()
    }

    /// Nothing is wanted for now: it is not the origin that is slow. Gives when to say so again, if it
    /// is still so.
    pub(super) fn rest(&mut self, now: std::time::Instant) -> Option<std::time::Instant> {
        if let State::Body(streaming) = &mut self.state {
            streaming.waits = false;
        }
        if !self.can_park() {
            return None;
        }
        let since = *self.resting.get_or_insert(now);
        let wanted = self.shared.gates.fetches.is_wanted(self.client);
        let patience = if wanted { SHORT_REST } else { LONG_REST };
        if now.saturating_duration_since(since) >= patience {
            self.park("nobody reads it");
            return None;
        }
        Some((now + SHORT_REST).min(since + LONG_REST))
    }

    /// Whether it could be asked for again: whoever resumes must be able to tell that the file is the
    /// same.
    fn can_park(&self) -> bool {
        let resumable = |known: &Known| known.validator.is_some();
        matches!(self.state, State::Body(_) | State::Opening(_))
            && self.known.as_ref().is_some_and(resumable)
    }

    /// Whether others have waited long enough for the turn that it has.
    fn is_over_time(&self) -> bool {
        let fetches = &self.shared.gates.fetches;
        matches!(&self.state, State::Body(streaming) if fetches.is_wanted(self.client)
            && streaming.since.elapsed() >= SLICE)
            && self.can_park()
    }

    /// Gives the turn at the origin back, and the connection with it.
    fn park(&mut self, why: &str) {
        let file = &self.wanted.file;
        let at = self.known.as_ref().map(|known| known.at);
        tracing::debug!(%file, at, why, "gives its turn at the origin back");
        self.state = State::Parked;
    }

    /// The next step.
    pub(super) fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Progress> {
        self.resting = None;
        if self.is_over_time() {
            self.park("others wait");
        }
        loop {
            match &mut self.state {
                State::Opening(opening) => {
                    let opened = task::ready!(opening.as_mut().poll(task));
                    if let Some(progress) = self.opened(opened) {
                        return Poll::Ready(progress);
                    }
                }
                State::Body(streaming) => {
                    let Some(known) = &mut self.known else {
                        return Poll::Ready(self.fail(Trouble::unavailable("")));
                    };
                    if known.left == Some(0) {
                        return Poll::Ready(self.end());
                    }
                    match task::ready!(streaming.poll(task)) {
                        Some(Ok(chunk)) => {
                            if let Some(chunk) = known.take(chunk, &mut streaming.skip) {
                                self.resumes = 0;
                                return Poll::Ready(Progress::Chunk(chunk));
                            }
                        }
                        None if known.left.is_none() => return Poll::Ready(self.end()),
                        None => self.resume("it ended too early"),
                        Some(Err(error)) => self.resume(&error),
                    }
                }
                State::Parked => match &self.known {
                    Some(known) if known.left != Some(0) => {
                        let at = known.at;
                        self.ask_from(at, Duration::ZERO);
                    }
                    _ => return Poll::Ready(self.end()),
                },
                State::Over => return Poll::Ready(Progress::End),
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, Trouble>) -> Option<Progress> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(trouble) => return Some(self.fail(trouble)),
        };
        if let Some(known) = &self.known
            && (opened.head.first != known.at || opened.head.whole != known.whole)
        {
            let text = "the file changed meanwhile";
            return Some(self.fail(Trouble::unavailable(text)));
        }
        self.state = State::Body(Box::new(Streaming {
            answer: opened.answer,
            skip: opened.skip,
            stall: Box::pin(sleep(STALL)),
            since: Instant::now(),
            waits: false,
        }));
        if self.known.is_some() {
            return None;
        }
        self.known = Some(Known {
            url: opened.url,
            validator: opened.validator,
            whole: opened.head.whole,
            at: opened.head.first,
            left: opened.head.length,
        });
        Some(Progress::Head(opened.head))
    }

    /// Goes on where the body broke off, if the origin can tell that the file is still the same.
    fn resume(&mut self, why: &str) {
        let Some(known) = &self.known else {
            return;
        };
        self.resumes += 1;
        let file = &self.wanted.file;
        tracing::debug!(%file, at = known.at, why, "the origin's answer broke off");
        if known.validator.is_none() || self.resumes > MAX_RESUMES {
            let trouble = Trouble::unavailable(why);
            self.state = State::Opening(Box::pin(async { Err(trouble) }));
            return;
        }
        self.ask_from(known.at, FIRST_PAUSE * (1 << self.resumes.min(5)));
    }

    /// Asks for what is left of the file, after a pause.
    fn ask_from(&mut self, at: u64, pause: Duration) {
        let Some(known) = &self.known else {
            return;
        };
        let shared = Rc::clone(&self.shared);
        let whom = (self.from, self.client);
        let last = known.left.map(|left| at + left.saturating_sub(1));
        let (url, validator) = (known.url.clone(), known.validator.clone());
        self.state = State::Opening(Box::pin(async move {
            sleep(pause).await;
            let range = Range { first: at, last };
            origin::open(&shared, whom, url, range, validator.as_ref()).await
        }));
    }

    fn fail(&mut self, trouble: Trouble) -> Progress {
        self.state = State::Over;
        Progress::Failed(trouble.code, trouble.text)
    }

    /// All is there: the connection may serve the next one.
    fn end(&mut self) -> Progress {
        if let State::Body(streaming) = std::mem::replace(&mut self.state, State::Over)
            && let Some((body, connection)) = streaming.answer
        {
            connection.finish(body, &self.shared.origins, self.from);
        }
        Progress::End
    }
}

impl Known {
    /// Of a chunk, what is wanted.
    fn take(&mut self, mut chunk: Bytes, skip: &mut u64) -> Option<Bytes> {
        let skipped = (*skip).min(chunk.len() as u64);
        *skip -= skipped;
        chunk.advance(skipped as usize);
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            chunk.truncate(most);
            *left -= chunk.len() as u64;
        }
        self.at += chunk.len() as u64;
        (!chunk.is_empty()).then_some(chunk)
    }
}

impl Streaming {
    fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let Some((body, _)) = &mut self.answer else {
            return Poll::Ready(None);
        };
        loop {
            match Pin::new(&mut *body).poll_frame(task) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(chunk) = frame.into_data()
                        && !chunk.is_empty()
                    {
                        self.waits = false;
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(error.to_string())));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.stall.as_mut().reset(Instant::now() + STALL);
        }
        task::ready!(self.stall.as_mut().poll(task));
        Poll::Ready(Some(Err("it brings nothing".to_owned())))
    }
}

/// Finds a file and opens it.
async fn first(
    shared: Rc<Shared>,
    (from, client): (IpAddr, IpAddr),
    wanted: Wanted,
) -> Result<Opened, Trouble> {
    let query = Query::File(wanted.file);
    let Some(text) = shared
        .ask_scraper(from, client, &query, exchange::MAX_LINE)
        .await
    else {
        return Err(Trouble::unavailable("nobody tells where it is"));
    };
    if text.is_empty() {
        return Err(Trouble::new(ErrorCode::NotFound, "no such file"));
    }
    let Ok(url) = Url::parse(&text) else {
        return Err(Trouble::unavailable("its address is none"));
    };
    let validator = wanted.validator.as_ref();
    origin::open(&shared, (from, client), url, wanted.range, validator).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_chunk_the_wanted_part_is_taken() {
        let mut known = Known {
            url: Url::parse("http://a/").expect("a URL"),
            validator: None,
            whole: None,
            at: 4,
            left: Some(5),
        };
        let mut skip = 4;
        let mut take =
            |text: &'static str| known.take(Bytes::from_static(text.as_bytes()), &mut skip);
        assert_eq!(take("abc"), None);
        assert_eq!(take("defg").as_deref(), Some(&b"efg"[..]));
        assert_eq!(take("hijk").as_deref(), Some(&b"hi"[..]));
        assert_eq!(take("lm"), None);
        assert_eq!(known.at, 9);
    }
}
