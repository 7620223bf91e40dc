//! A file's bytes on their way from the HTTP origin to a stream.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{
        CONTENT_LENGTH, CONTENT_RANGE, ETAG, HOST, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
        USER_AGENT,
    },
};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Position, Url};

use super::shared::Shared;
use crate::rudp::{
    exchange::{self, ErrorCode, Head, Range, spell, unspell},
    fetch,
    session::Query,
};
use crate::telemetry::packets::{self, Fate};

/// What one read may bring at most.
const READ: usize = 256 << 10;
/// How long an origin that can't be reached is tried: it may be restarting.
const REACH: Duration = Duration::from_secs(3);
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long an origin may take for the head of an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a body may bring nothing although it is wanted.
const STALL: Duration = Duration::from_secs(30);
/// Redirects in a row.
const MAX_REDIRECTS: usize = 5;
/// So often a body that broke off is resumed without having brought anything.
const MAX_RESUMES: u32 = 5;
/// Connections kept for the next request.
const MAX_IDLE: usize = 64;
/// And for how long: origins close theirs after some seconds.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

type Sender = SendRequest<Empty<Bytes>>;

/// The connections to origins that wait for their next request.
#[derive(Default)]
pub(super) struct Origins(RefCell<VecDeque<Idle>>);

struct Idle {
    to: SocketAddr,
    from: IpAddr,
    sender: Sender,
    since: Instant,
}

impl Origins {
    fn take(&self, to: SocketAddr, from: IpAddr) -> Option<Sender> {
        let mut idle = self.0.borrow_mut();
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now - idle.since < MAX_IDLE_TIME);
        let newest = idle
            .iter()
            .rposition(|idle| idle.to == to && idle.from == from && idle.sender.is_ready())?;
        idle.remove(newest).map(|idle| idle.sender)
    }

    fn give(&self, to: SocketAddr, from: IpAddr, sender: Sender) {
        let mut idle = self.0.borrow_mut();
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now - idle.since < MAX_IDLE_TIME);
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle {
            to,
            from,
            sender,
            since: now,
        });
    }
}

/// What a source brings next.
pub(super) enum Progress {
    /// What the file is; once, first.
    Head(Head),
    /// The next bytes.
    Chunk(Bytes),
    /// That was all.
    End,
    /// No more comes, and why.
    Failed(ErrorCode, String),
}

/// One file, or a part of it. Nothing is read from the origin while it is not polled.
pub(super) struct Source {
    shared: Rc<Shared>,
    /// Where to send from, so that whoever watches sees the proxy ask.
    from: IpAddr,
    wanted: Wanted,
    state: State,
    /// What the first answer said: a resumed body must be of the same file.
    known: Option<Known>,
    resumes: u32,
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
    Over,
}

struct Streaming {
    answer: Option<(Incoming, Lease)>,
    /// Bytes before the wanted ones, from an origin that knows no ranges.
    skip: u64,
    stall: Pin<Box<tokio::time::Sleep>>,
    /// Whether it was polled in vain last.
    waits: bool,
}

/// A connection in use.
struct Lease {
    to: SocketAddr,
    sender: Sender,
}

/// An answer that has a body.
struct Opened {
    head: Head,
    url: Url,
    validator: Option<HeaderValue>,
    skip: u64,
    answer: Option<(Incoming, Lease)>,
}

/// Why there is no answer.
struct Trouble {
    code: ErrorCode,
    text: String,
}

impl Trouble {
    fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    fn unavailable(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, text)
    }
}

impl Source {
    /// Opens a file; `validator` is what an earlier head gave.
    pub(super) fn open(
        shared: &Rc<Shared>,
        from: IpAddr,
        file: Box<str>,
        range: Range,
        validator: Option<&str>,
    ) -> Self {
        let wanted = Wanted {
            file,
            range,
            validator: validator.map(|word| {
                let state = unspell(word).unwrap_or_default();
                // One that can't have been made here is the validator of no file.
                HeaderValue::from_str(&state).unwrap_or(HeaderValue::from_static("\"\""))
            }),
        };
        let opening = first(Rc::clone(shared), from, wanted.clone());
        Self {
            shared: Rc::clone(shared),
            from,
            wanted,
            state: State::Opening(Box::pin(opening)),
            known: None,
            resumes: 0,
        }
    }

    /// Whether bytes have been promised: it is to be polled while they are wanted only.
    pub(super) fn has_head(&self) -> bool {
        self.known.is_some()
    }

    /// Nothing is wanted for now: it is not the origin that is slow.
    pub(super) fn rest(&mut self) {
        if let State::Body(streaming) = &mut self.state {
            streaming.waits = false;
        }
    }

    /// The next step.
    pub(super) fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Progress> {
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
        let (shared, from, at) = (Rc::clone(&self.shared), self.from, known.at);
        let last = known.left.map(|left| known.at + left.saturating_sub(1));
        let (url, validator) = (known.url.clone(), known.validator.clone());
        let (resumes, why) = (self.resumes, why.to_owned());
        self.state = State::Opening(Box::pin(async move {
            if validator.is_none() || resumes > MAX_RESUMES {
                return Err(Trouble::unavailable(why));
            }
            sleep(FIRST_PAUSE * (1 << resumes.min(5))).await;
            let range = Range { first: at, last };
            open(&shared, from, url, range, validator.as_ref()).await
        }));
    }

    fn fail(&mut self, trouble: Trouble) -> Progress {
        self.state = State::Over;
        Progress::Failed(trouble.code, trouble.text)
    }

    /// All is there: the connection may serve the next one.
    fn end(&mut self) -> Progress {
        if let State::Body(streaming) = std::mem::replace(&mut self.state, State::Over)
            && let Some((body, mut lease)) = streaming.answer
        {
            let (shared, from) = (Rc::clone(&self.shared), self.from);
            // The body's end has perhaps not been read yet; if that takes long, there is more of it.
            actix_rt::spawn(async move {
                if body.is_end_stream() || drain(body).await {
                    let ready = timeout(Duration::from_millis(100), lease.sender.ready()).await;
                    if matches!(ready, Ok(Ok(()))) {
                        shared.origins.give(lease.to, from, lease.sender);
                    }
                }
            });
        }
        Progress::End
    }
}

/// Reads the end of a body of which everything has been read; false if there is more.
async fn drain(mut body: Incoming) -> bool {
    let next = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task));
    matches!(timeout(Duration::from_millis(100), next).await, Ok(None))
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
async fn first(shared: Rc<Shared>, from: IpAddr, wanted: Wanted) -> Result<Opened, Trouble> {
    let query = Query::File(wanted.file);
    let Some(text) = shared.ask_scraper(from, &query, exchange::MAX_LINE).await else {
        return Err(Trouble::unavailable("nobody tells where it is"));
    };
    if text.is_empty() {
        return Err(Trouble::new(ErrorCode::NotFound, "no such file"));
    }
    let Ok(url) = Url::parse(&text) else {
        return Err(Trouble::unavailable("its address is none"));
    };
    let validator = wanted.validator.as_ref();
    open(&shared, from, url, wanted.range, validator).await
}

/// Asks for a file, or a part of it.
async fn open(
    shared: &Shared,
    from: IpAddr,
    mut url: Url,
    range: Range,
    validator: Option<&HeaderValue>,
) -> Result<Opened, Trouble> {
    for _ in 0..=MAX_REDIRECTS {
        let (response, lease) = request(shared, from, &url, range, validator).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                return interpret(response, lease, url, range, validator.is_some());
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Trouble::new(ErrorCode::NotFound, "the origin has it not"));
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let to = response.headers().get(LOCATION);
                let to = to.and_then(|to| to.to_str().ok());
                url = to
                    .and_then(|to| url.join(to).ok())
                    .ok_or_else(|| Trouble::unavailable("the origin redirects nowhere"))?;
            }
            status => return Err(Trouble::unavailable(format!("the origin says {status}"))),
        }
    }
    Err(Trouble::unavailable("the origin redirects again and again"))
}

/// Sends one request and takes the head of its answer.
async fn request(
    shared: &Shared,
    from: IpAddr,
    url: &Url,
    range: Range,
    validator: Option<&HeaderValue>,
) -> Result<(Response<Incoming>, Lease), Trouble> {
    if url.scheme() != "http" {
        return Err(Trouble::unavailable("its address is no http:// address"));
    }
    let to = address(url).await?;
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let kept = shared.origins.take(to, from);
        let was_kept = kept.is_some();
        let sent = async {
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(to, from).await.map_err(|error| error.to_string())?,
            };
            let request = build(url, range, validator).map_err(|error| error.to_string())?;
            tell(shared, from, to, url, range);
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| error.to_string())?;
            Ok((response, Lease { to, sender }))
        };
        let sent = timeout(ANSWER, sent).await;
        match sent.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(answer) => return Ok(answer),
            // The origin has closed it meanwhile.
            Err(_) if was_kept => {}
            Err(error) if start.elapsed() + pause > REACH => {
                tracing::warn!(%url, %error, "the origin can't be asked, given up");
                return Err(Trouble::unavailable("the origin can't be reached"));
            }
            Err(error) => {
                tracing::debug!(%url, %error, "the origin can't be asked yet");
                sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

async fn connect(to: SocketAddr, from: IpAddr) -> Result<Sender, Box<dyn std::error::Error>> {
    let stream = fetch::connect(to, from).await?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with its sender and its last body.
    actix_rt::spawn(connection);
    Ok(sender)
}

async fn address(url: &Url) -> Result<SocketAddr, Trouble> {
    let port = url.port_or_known_default().unwrap_or(80);
    let unknown = |error: io::Error| Trouble::unavailable(format!("the origin's name: {error}"));
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok((ip, port).into()),
        Some(Host::Ipv6(ip)) => Ok((ip, port).into()),
        Some(Host::Domain("localhost")) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Some(Host::Domain(name)) => {
            let found = timeout(ANSWER, tokio::net::lookup_host((name, port))).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let first = found.map_err(unknown)?.next();
            first.ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
        }
        None => Err(Trouble::unavailable("its address names no host")),
    }
}

fn build(
    url: &Url,
    range: Range,
    validator: Option<&HeaderValue>,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, concat!("labnet/", env!("CARGO_PKG_VERSION")))
        .header(WANT_REPR_DIGEST, "sha-256=10");
    if range != Range::default() {
        let last = range.last.map(|last| last.to_string()).unwrap_or_default();
        request = request.header(RANGE, format!("bytes={}-{last}", range.first));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    request.body(Empty::new())
}

fn tell(shared: &Shared, from: IpAddr, to: SocketAddr, url: &Url, range: Range) {
    if packets::watched() {
        let from = SocketAddr::new(from, shared.local.port());
        let name = url.path().rsplit('/').next().unwrap_or_default();
        let meaning = match range.first {
            0 => format!("GET: send me {name}"),
            first => format!("GET: send me {name} from byte {first} on"),
        };
        let bytes = url.as_str().len() + "GET  HTTP/1.1\r\n".len();
        packets::sent("rudp", "HTTP", from, to, bytes, Fate::Sent, meaning);
    }
}

fn interpret(
    response: Response<Incoming>,
    lease: Lease,
    url: Url,
    range: Range,
    validated: bool,
) -> Result<Opened, Trouble> {
    let headers = response.headers();
    let validator = validator(headers);
    let head = Head {
        validator: validator
            .as_ref()
            .and_then(|value| spell(value.to_str().ok()?)),
        digest: digest(headers),
        ..Head::default()
    };
    let length: Option<u64> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let part = content_range(headers);
    let opened = |head, skip, has_body: bool, response: Response<Incoming>| Opened {
        head,
        url,
        validator,
        skip,
        answer: has_body.then(|| (response.into_body(), lease)),
    };
    match (response.status(), part) {
        (StatusCode::PARTIAL_CONTENT, Some((Some((first, last)), whole)))
            if first == range.first && range.last.is_none_or(|most| last <= most) =>
        {
            let head = Head {
                first,
                length: Some(last - first + 1),
                whole,
                ..head
            };
            Ok(opened(head, 0, true, response))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((None, Some(whole)))) if range.first <= whole => {
            let head = Head {
                first: whole,
                length: Some(0),
                whole: Some(whole),
                ..head
            };
            Ok(opened(head, 0, false, response))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((None, Some(_)))) => Err(Trouble::new(
            ErrorCode::Malformed,
            "the range begins beyond the file",
        )),
        // Another file than the client has a part of: all of it.
        (StatusCode::OK, _) if validated || range == Range::default() => {
            let head = Head {
                first: 0,
                length,
                whole: length,
                ..head
            };
            Ok(opened(head, 0, true, response))
        }
        // The origin knows no ranges.
        (StatusCode::OK, _) => {
            let wanted = length.map(|whole| {
                let end = range.last.map_or(whole, |last| whole.min(last.saturating_add(1)));
                end.checked_sub(range.first)
            });
            if wanted == Some(None) && length.is_some_and(|whole| range.first > whole) {
                let text = "the range begins beyond the file";
                return Err(Trouble::new(ErrorCode::Malformed, text));
            }
            let head = Head {
                first: range.first,
                length: wanted.map(Option::unwrap_or_default),
                whole: length,
                ..head
            };
            Ok(opened(head, range.first, true, response))
        }
        _ => Err(Trouble::unavailable("the origin contradicts itself")),
    }
}

/// What tells this state of the file from others, byte for byte (RFC 9110 section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers
        .get(ETAG)
        .filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// The SHA-256 of the whole file (RFC 9530).
fn digest(headers: &HeaderMap) -> Option<[u8; 32]> {
    headers
        .get_all(REPR_DIGEST)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|member| {
            let value = member.trim().strip_prefix("sha-256=:")?;
            let encoded = value.split(':').next()?;
            BASE64_STANDARD.decode(encoded).ok()?.try_into().ok()
        })
}

/// First and last byte, if the field names them, and the whole length, if it is known.
type Part = (Option<(u64, u64)>, Option<u64>);

/// `Content-Range: bytes 200-1000/67589`, `bytes 200-1000/*`, `bytes */67589`.
fn content_range(headers: &HeaderMap) -> Option<Part> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let whole = match whole {
        "*" => None,
        whole => Some(whole.parse().ok()?),
    };
    if range == "*" {
        return Some((None, whole));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let sound = first <= last && last < u64::MAX && whole.is_none_or(|whole| last < whole);
    sound.then_some((Some((first, last)), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Option<Part> {
        let value = HeaderValue::from_str(text).expect("visible");
        content_range(&HeaderMap::from_iter([(CONTENT_RANGE, value)]))
    }

    #[test]
    fn a_part_is_read_and_an_impossible_one_is_not() {
        assert_eq!(part("bytes 2-5/10"), Some((Some((2, 5)), Some(10))));
        assert_eq!(part("bytes 2-5/*"), Some((Some((2, 5)), None)));
        assert_eq!(part("bytes */10"), Some((None, Some(10))));
        let max = u64::MAX;
        for wrong in ["bytes 5-2/10", "bytes 2-10/10", "2-5/10", &format!("bytes 0-{max}/*")] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_etag_is_no_validator() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("W/\"1\""));
        assert_eq!(validator(&headers), None);
        let date = HeaderValue::from_static("Tue, 24 Nov 2026 10:00:00 GMT");
        headers.insert(LAST_MODIFIED, date.clone());
        assert_eq!(validator(&headers), Some(date));
        headers.insert(ETAG, HeaderValue::from_static("\"1\""));
        assert_eq!(validator(&headers), Some(HeaderValue::from_static("\"1\"")));
    }

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
        let mut take = |text: &'static str| known.take(Bytes::from_static(text.as_bytes()), &mut skip);
        assert_eq!(take("abc"), None);
        assert_eq!(take("defg").as_deref(), Some(&b"efg"[..]));
        assert_eq!(take("hijk").as_deref(), Some(&b"hi"[..]));
        assert_eq!(take("lm"), None);
        assert_eq!(known.at, 9);
    }
}
