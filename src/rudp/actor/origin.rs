//! Asks HTTP origins for files, over connections that are kept for the next question.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{HOST, IF_RANGE, LOCATION, RANGE, USER_AGENT},
};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Position, Url};

use super::{
    answer::{Opened, Trouble, interpret},
    kept_connections::{BorrowedConnection, Sender},
    shared::Shared,
};
use crate::net::representation::want_sha256;
use crate::rudp::{
    exchange::{ErrorCode, Range},
    fetch,
};
use crate::watch::event::packet::Protocol;

/// How long an origin that can't be reached is tried: it may be restarting.
const REACH: Duration = Duration::from_secs(3);
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long an origin may take for the head of an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Redirects in a row.
const MAX_REDIRECTS: usize = 5;
/// Asks for a file, or a part of it, once it is the client's turn; it lasts until the body has been
/// read or dropped.
pub(super) async fn open(
    shared: &Shared,
    (from, client): (IpAddr, IpAddr),
    mut url: Url,
    range: Range,
    validator: Option<&HeaderValue>,
) -> Result<Opened, Trouble> {
    let turn = shared.gates.fetches.turn(client).await;
    for _ in 0..=MAX_REDIRECTS {
        let (response, mut borrowed) = request(shared, from, &url, range, validator).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                    let end = interpret(response, borrowed, url, range, validator.is_some())?;
                    return describe(shared, from, end, validator).await;
                }
                borrowed.turn = Some(turn);
                return interpret(response, borrowed, url, range, validator.is_some());
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
                let to = to
                    .and_then(|to| url.join(to).ok())
                    .ok_or_else(|| Trouble::unavailable("the origin redirects nowhere"))?;
                // An origin must not have the proxy look into what is near it.
                if to.host() != url.host()
                    || to.port_or_known_default() != url.port_or_known_default()
                {
                    return Err(Trouble::unavailable("the origin redirects to another host"));
                }
                url = to;
            }
            status => return Err(Trouble::unavailable(format!("the origin says {status}"))),
        }
    }
    Err(Trouble::unavailable("the origin redirects again and again"))
}

/// HTTP tells no more of a file than its length to who asks for what follows its end (416). Its
/// validator and digest come with its last byte.
async fn describe(
    shared: &Shared,
    from: IpAddr,
    mut end: Opened,
    wanted: Option<&HeaderValue>,
) -> Result<Opened, Trouble> {
    let Some(whole) = end.head.whole else {
        return Ok(end);
    };
    let range = whole.checked_sub(1).map_or(Range::default(), |last| Range {
        first: last,
        last: Some(last),
    });
    let (response, borrowed) = request(shared, from, &end.url, range, None).await?;
    if !matches!(
        response.status(),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT
    ) {
        return Ok(end);
    }
    let told = interpret(response, borrowed, end.url.clone(), range, false)?;
    let same = wanted.is_none_or(|wanted| told.validator.as_ref() == Some(wanted));
    if told.head.whole != Some(whole) || !same {
        return Err(Trouble::unavailable("the file changed meanwhile"));
    }
    end.validator = told.validator;
    end.head.validator = told.head.validator;
    end.head.digest = told.head.digest;
    Ok(end)
}

/// Sends one request and takes the head of its answer.
async fn request(
    shared: &Shared,
    from: IpAddr,
    url: &Url,
    range: Range,
    validator: Option<&HeaderValue>,
) -> Result<(Response<Incoming>, BorrowedConnection), Trouble> {
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
                None => {
                    let connected = connect(to, from, shared.portion()).await;
                    connected.map_err(|error| error.to_string())?
                }
            };
            let request = build(url, range, validator).map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| error.to_string())?;
            let turn = None;
            Ok((response, BorrowedConnection { to, sender, turn }))
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

async fn connect(
    to: SocketAddr,
    from: IpAddr,
    read: usize,
) -> Result<Sender, Box<dyn std::error::Error>> {
    let stream = fetch::connect(to, from, Protocol::Http).await?;
    let _ = stream.socket().set_nodelay(true);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(read)
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
    let (want, sha256) = want_sha256();
    let mut request = Request::builder()
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, concat!("labnet/", env!("CARGO_PKG_VERSION")))
        .header(want, sha256);
    if range != Range::default() {
        let last = range.last.map(|last| last.to_string()).unwrap_or_default();
        request = request.header(RANGE, format!("bytes={}-{last}", range.first));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    request.body(Empty::new())
}
