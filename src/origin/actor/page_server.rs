//! Serves the page and the files over HTTP.

use std::{
    io,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use axum::{
    Router,
    body::Body as AxumBody,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header, request::Parts};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prometheus::IntCounter;
use tokio::task::{JoinHandle, spawn_blocking};

use super::transfers::{Sending, Transfers};
use crate::origin::{
    answer::{self, Answer, Body, Target},
    store::{Content, Store, Stored},
};
use crate::{
    http::{Ends, Wire},
    net::{allowed_congestion, representation::CONGESTION},
    telemetry::Metrics,
};

/// How much of a file is read at a time.
const CHUNK: usize = 64 * 1024;

/// Nobody frames the page, and no link of it tells where it was followed. By what name the page is
/// called is nobody's business: all on the network may read it, and nothing can be changed here.
const FOR_BROWSERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// What connections are answered from: no listener, which a download under way would keep from
/// being closed.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) store: Arc<Store>,
    /// By what TCP sends unless a request says otherwise; `None`: by what the kernel likes.
    pub(super) congestion: Option<String>,
    pub(super) transfers: Arc<Transfers>,
    pub(super) metrics: Arc<Metrics>,
}

/// The site as it is now, for connections that outlive a change of it.
pub(super) type Current = Arc<Mutex<Site>>;

/// The routes: everything goes to one handler, which needs the path as it came. Each request is
/// answered from the files that are there then.
pub(super) fn router(current: Current) -> Router {
    Router::new().fallback(handle).with_state(current)
}

async fn handle(State(current): State<Current>, request: Request) -> Response {
    let site = current
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let (request, _) = request.into_parts();
    let (mut answer, content) = site.answer(&request).await;
    let runs = site.control(&request);
    if let Some(runs) = runs
        .as_deref()
        .and_then(|runs| HeaderValue::from_str(runs).ok())
    {
        answer.headers.insert(CONGESTION, runs);
    }
    let code = answer.status.as_str();
    site.metrics
        .origin_requests
        .with_label_values(&[code])
        .inc();
    let body = match (answer.body, content) {
        (Body::Part(range), Some(content)) => {
            let sending = site.begin(&request, runs, range.end - range.start);
            Outgoing::new(range, content, sending, &site.metrics)
        }
        (Body::Text(text), _) => Outgoing::Memory(text.into()),
        (Body::Part(_) | Body::Empty, _) => Outgoing::Memory(Bytes::new()),
    };
    let body = match body {
        Outgoing::Memory(bytes) => AxumBody::from(bytes),
        Outgoing::File(file) => AxumBody::new(file),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    for (name, value) in FOR_BROWSERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

impl Site {
    async fn answer(&self, request: &Parts) -> (Answer, Option<Content>) {
        if !answer::is_read(&request.method) {
            return (answer::not_allowed(&request.method), None);
        }
        // RFC 9112 section 3.2: who speaks HTTP/1.1 names the host, once.
        let hosts = request.headers.get_all(header::HOST).iter().count();
        if hosts > 1 || (hosts == 0 && request.version >= Version::HTTP_11) {
            return (answer::bad_host(hosts), None);
        }
        let target = answer::target(request.uri.path());
        let name = match &target {
            Target::Page => None,
            Target::File(name) => Some(name.clone()),
        };
        let mut found = match self.store.find(target).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let shown = answer::shown(&name.unwrap_or_default());
                return (answer::not_found(&shown), None);
            }
            Err(error) => {
                tracing::warn!(%error, "the files cannot be read");
                return (answer::failed(), None);
            }
        };
        if let Some(name) = name
            && found.meta.digest.is_none()
            && answer::wants_digest(&request.headers)
        {
            found.meta.digest = self.store.sum(&name, &found).await;
        }
        let now = SystemTime::now();
        let answer = answer::answer(&request.method, &request.headers, &found.meta, now);
        (answer, Some(found.content))
    }
}

impl Site {
    /// Has the connection sent as the request wants it, or the configuration; what runs then.
    fn control(&self, request: &Parts) -> Option<String> {
        let wire = request.extensions.get::<Wire>()?;
        let asked = request.headers.get(CONGESTION);
        let asked = asked.and_then(|name| name.to_str().ok());
        // More than root allows to all is not for who asks.
        let asked = asked.filter(|name| allowed_congestion().iter().any(|other| other == name));
        wire.control(asked.or(self.congestion.as_deref())).ok()
    }

    /// Tells of a file that goes on its way.
    fn begin(&self, request: &Parts, congestion: Option<String>, length: u64) -> Option<Sending> {
        let wire = request.extensions.get::<Wire>()?.clone();
        let client = request.extensions.get::<Ends>()?.peer;
        let file = match answer::target(request.uri.path()) {
            Target::File(name) => answer::shown(&name),
            Target::Page => return None,
        };
        let what = (file, length);
        Some(self.transfers.begin(client, wire, congestion?, what))
    }
}

/// What follows the header.
enum Outgoing {
    /// Goes out with it, in the same packet if it fits.
    Memory(Bytes),
    /// Read bit by bit, as the client takes it.
    File(FileBody),
}

impl Outgoing {
    fn new(
        range: Range<u64>,
        content: Content,
        sending: Option<Sending>,
        metrics: &Metrics,
    ) -> Self {
        match content {
            Content::Page(page) => {
                let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                let end = place(range.end).min(page.len());
                Self::Memory(page.slice(place(range.start).min(end)..end))
            }
            Content::File(stored) => Self::File(FileBody {
                stored,
                range,
                reading: None,
                sending,
                sent: metrics.origin_sent_bytes.clone(),
            }),
        }
    }
}

/// A part of a file on its way: while one chunk is being sent the next one is read, so that a
/// download holds two chunks, whatever the file's size and the client's speed.
struct FileBody {
    stored: Arc<Stored>,
    /// What has not been asked of the reader yet.
    range: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    sending: Option<Sending>,
    sent: IntCounter,
}

impl FileBody {
    fn read_ahead(&mut self) {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let length = CHUNK.min(left);
        if length == 0 {
            return;
        }
        let stored = Arc::clone(&self.stored);
        let offset = self.range.start;
        self.range.start += length as u64;
        self.reading = Some(spawn_blocking(move || {
            let mut chunk = vec![0; length];
            stored.read(offset, &mut chunk)?;
            Ok(chunk.into())
        }));
    }
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.reading.is_none() {
            self.read_ahead();
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let read = ready!(Pin::new(reading).poll(task));
        self.reading = None;
        match read.map_err(io::Error::other).flatten() {
            Ok(chunk) => {
                self.sent.inc_by(chunk.len() as u64);
                if let Some(sending) = &self.sending {
                    sending.sent(chunk.len());
                }
                self.read_ahead();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(error) => {
                tracing::debug!(%error, "a download broke off");
                self.range.start = self.range.end;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.reading.is_none() && self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first frame; the answer's Content-Length says the same.
        match self.reading {
            None => SizeHint::with_exact(self.range.end - self.range.start),
            Some(_) => SizeHint::default(),
        }
    }
}
