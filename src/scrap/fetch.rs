//! Fetches the download page over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        ACCEPT, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HOST, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED, LOCATION, USER_AGENT,
    },
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use url::{Host, Position, Url};

use super::freshness::Lifetime;
use crate::text::{LONG, printable};
use crate::{
    net::WatchedStream,
    watch::event::packet::{Label, Protocol, Role},
};

/// The largest page: some 30,000 files of nginx's listing.
const MAX_PAGE: usize = 8 << 20;
/// Redirects in a row.
const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For all of a fetch, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// What a page can be asked for with "only if it has changed" (RFC 9110 section 13).
#[derive(Debug, Clone)]
pub(super) struct Validators {
    /// The page they belong to, after redirects.
    page: Url,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Fetched {
    /// How long it stays fresh, if the answer says so.
    pub(super) lifetime: Option<Lifetime>,
    /// The page; `None` if it is as it was.
    pub(super) page: Option<Page>,
}

/// A page as a whole.
#[derive(Debug)]
pub(super) struct Page {
    /// Where it was found, after redirects.
    pub(super) url: Url,
    /// Its text, in whatever encoding.
    pub(super) html: Bytes,
    /// What it can be asked for with next time.
    pub(super) validators: Validators,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is no HTML page but {0:?}")]
    NotHtml(HeaderValue),
    #[error("the answer is compressed, which was not asked for")]
    Encoded,
    #[error("the page is larger than {MAX_PAGE} bytes")]
    TooLarge,
    #[error("the page could not be taken apart")]
    Unreadable,
    #[error("redirected more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    #[error("redirected to {0:?}, which plain HTTP cannot reach")]
    Redirect(String),
    #[error(
        "redirected to {0}, which is off the page's host and port; `redirects_elsewhere = true` in \
         [scrap] would follow"
    )]
    Elsewhere(String),
    #[error("the address cannot be asked for: {0}")]
    Request(#[from] http::Error),
}

/// Fetches `page`; with `known`, only if it has changed since. Redirects are followed on the page's
/// host and port alone, unless `elsewhere` allows others: what the page's server says must not make
/// the scraper ask what only this machine can reach.
pub(super) async fn fetch(
    page: &Url,
    known: Option<&Validators>,
    elsewhere: bool,
) -> Result<Fetched, FetchError> {
    timeout(FETCH_TIMEOUT, follow(page, known, elsewhere))
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

async fn follow(
    configured: &Url,
    known: Option<&Validators>,
    elsewhere: bool,
) -> Result<Fetched, FetchError> {
    let mut page = configured.clone();
    for _ in 0..=MAX_REDIRECTS {
        let known = known.filter(|known| known.page == page);
        // The connection lives in here until the body is read.
        let mut connection = JoinSet::new();
        let response = ask(&page, known, &mut connection).await?;
        match response.status() {
            StatusCode::OK => return read(page, response).await,
            StatusCode::NOT_MODIFIED if known.is_some() => {
                return Ok(Fetched {
                    lifetime: lifetime(response.headers()),
                    page: None,
                });
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                page = redirected(&page, &response)?;
                if !elsewhere && !is_same_server(&page, configured) {
                    return Err(FetchError::Elsewhere(printable(page.as_str(), LONG)));
                }
            }
            status => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::TooManyRedirects)
}

/// Whether two URLs of plain HTTP lead to the same host and port.
fn is_same_server(a: &Url, b: &Url) -> bool {
    a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

fn redirected(page: &Url, response: &Response<Incoming>) -> Result<Url, FetchError> {
    let Some(location) = response.headers().get(LOCATION) else {
        return Err(FetchError::Status(response.status()));
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    match page.join(&location) {
        Ok(url) if url.scheme() == "http" => Ok(url),
        _ => Err(FetchError::Redirect(printable(&location, LONG))),
    }
}

async fn ask(
    page: &Url,
    known: Option<&Validators>,
    connection: &mut JoinSet<()>,
) -> Result<Response<Incoming>, FetchError> {
    let request = request(page, known)?;
    let stream = timeout(CONNECT_TIMEOUT, connect(page))
        .await
        .map_err(|_| FetchError::Timeout)?
        .map_err(FetchError::Connect)?;
    let (mut sender, io) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    connection.spawn(async move {
        if let Err(error) = io.await {
            tracing::debug!(%error, "the connection to the page's server ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

async fn connect(page: &Url) -> std::io::Result<WatchedStream> {
    let port = page.port_or_known_default().unwrap_or(80);
    let stream = match page.host() {
        Some(Host::Ipv4(ip)) => TcpStream::connect((ip, port)).await,
        Some(Host::Ipv6(ip)) => TcpStream::connect((ip, port)).await,
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
        None => Err(std::io::ErrorKind::AddrNotAvailable.into()),
    };
    WatchedStream::new(stream?, Label::new(Role::Scrap, Protocol::Http))
}

fn request(page: &Url, known: Option<&Validators>) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(&page[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &page[Position::BeforeHost..Position::AfterPort])
        .header(
            USER_AGENT,
            concat!("labnet/", env!("CARGO_PKG_VERSION"), " (scraper)"),
        )
        .header(ACCEPT, "text/html, application/xhtml+xml");
    if let Some(known) = known {
        if let Some(etag) = &known.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(date) = &known.last_modified {
            request = request.header(IF_MODIFIED_SINCE, date);
        }
    }
    request.body(Empty::new())
}

async fn read(url: Url, response: Response<Incoming>) -> Result<Fetched, FetchError> {
    let (head, body) = response.into_parts();
    let headers = head.headers;
    if let Some(kind) = headers.get(CONTENT_TYPE)
        && !is_html(kind)
    {
        return Err(FetchError::NotHtml(kind.clone()));
    }
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(FetchError::Encoded);
    }
    let html = match Limited::new(body, MAX_PAGE).collect().await {
        Ok(html) => html.to_bytes(),
        Err(error) => {
            return Err(match error.downcast::<hyper::Error>() {
                Ok(error) => FetchError::Http(*error),
                // The only other one is the limit's.
                Err(_) => FetchError::TooLarge,
            });
        }
    };
    let validators = Validators {
        page: url.clone(),
        etag: headers.get(ETAG).cloned(),
        last_modified: headers.get(LAST_MODIFIED).cloned(),
    };
    Ok(Fetched {
        lifetime: lifetime(&headers),
        page: Some(Page {
            url,
            html,
            validators,
        }),
    })
}

fn is_html(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes().split(|&byte| byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
}

fn lifetime(headers: &HeaderMap) -> Option<Lifetime> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let age = headers.get(AGE).and_then(|age| age.to_str().ok());
    Lifetime::of(values.filter_map(|value| value.to_str().ok()), age)
}
