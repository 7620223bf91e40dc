//! Where a file's bytes come from: an HTTP origin, or the proxy itself over RUDP.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Method, StatusCode,
    header::{ACCEPT_ENCODING, HeaderValue, IF_RANGE, RANGE},
};
use tokio::time::timeout;
use url::Url;

use super::{
    carrier::AnswerError,
    dialer::Dialer,
    file_name::FileName,
    http::{Answer, Http, HttpError},
    transfer::{Origin, Refusal, Sha256, Verdict, judge, judge_head},
    transport::{Reply, TransportError},
};
use crate::{
    net::representation::{self, CONGESTION, want_sha256},
    rudp::exchange::ErrorCode,
    text::{LONG, SHORT, printable},
};

/// Why a source gives nothing, or no more.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The way to the origin, or its HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The way to the proxy, or its answer.
    #[error(transparent)]
    Rudp(#[from] TransportError),
}

impl SourceError {
    /// Whether another try may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Http(error) => !matches!(error, HttpError::Url(_) | HttpError::Bind { .. }),
            Self::Rudp(error) => error.may_pass(),
        }
    }
}

/// Where a file is.
#[derive(Debug, Clone)]
pub enum Source {
    /// At an HTTP origin.
    Http {
        /// The way there.
        http: Http,
        /// The file's URL.
        url: Url,
        /// By which of its kernel's congestion controls the origin is asked to send.
        congestion: Option<&'static str>,
    },
    /// Behind the proxy, which gets it and carries it over RUDP.
    Rudp(Dialer),
}

/// Bytes of a file that are still to come.
pub struct Incoming {
    /// The client's end of the connection.
    pub local: SocketAddr,
    /// The server's.
    pub server: SocketAddr,
    /// By which of its kernel's congestion controls an HTTP origin sends, if it tells.
    pub congestion: Option<String>,
    body: Body,
}

enum Body {
    Http { http: Http, answer: Box<Answer> },
    Rudp(Reply),
}

impl Incoming {
    /// The next bytes; `None`: no more come.
    ///
    /// # Errors
    /// The connection broke, or nothing came for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        match &mut self.body {
            Body::Http { http, answer } => loop {
                let frame = timeout(http.patience, answer.response.body_mut().frame()).await;
                match frame.map_err(|_| HttpError::Stalled(http.patience))? {
                    // Trailers are of no interest.
                    Some(frame) => match frame.map_err(HttpError::Broken)?.into_data() {
                        Ok(bytes) => return Ok(Some(bytes)),
                        Err(_) => continue,
                    },
                    None => return Ok(None),
                }
            },
            Body::Rudp(reply) => Ok(reply.next().await?),
        }
    }
}

impl Source {
    /// What tells this source of the file from others: kept beside a part.
    pub fn key(&self, name: &FileName) -> String {
        match self {
            Self::Http { url, .. } => url.to_string(),
            Self::Rudp(_) => format!("rudp:{}", name.word()),
        }
    }

    /// Asks for the file, or for what follows the first `from` bytes of it, a part of `origin`. With
    /// [`Verdict::Take`] there is something incoming.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn ask(
        &self,
        name: &FileName,
        from: u64,
        origin: Option<&Origin>,
    ) -> Result<(Verdict, Option<Incoming>), SourceError> {
        match self {
            Self::Http {
                http,
                url,
                congestion,
            } => Ok(ask_http(*http, url, *congestion, from, origin).await?),
            Self::Rudp(dialer) => Ok(ask_proxy(dialer, name, from, origin).await?),
        }
    }

    /// Goes where the server has sent us.
    ///
    /// # Errors
    /// If that leads nowhere.
    pub fn redirect(&mut self, target: &str) -> Result<(), SourceError> {
        match self {
            Self::Http { url, .. } => {
                let joined = url.join(target);
                *url = joined.map_err(|_| HttpError::Url(printable(target, LONG)))?;
            }
            // The proxy sends nobody elsewhere: its answers have no such word.
            Self::Rudp(_) => {}
        }
        Ok(())
    }

    /// The digest of the whole file, if that has `length` bytes and the source tells.
    pub async fn digest(&self, name: &FileName, length: u64) -> Option<Sha256> {
        match self {
            Self::Http { http, url, .. } => {
                let answer = http
                    .send(Method::HEAD, url, &[want_sha256()])
                    .await
                    .ok()
                    .filter(|answer| answer.response.status() == StatusCode::OK)?;
                let headers = answer.response.headers();
                let promised = representation::content_length(headers);
                let same_length = promised.is_none_or(|promised| promised == length);
                representation::sha256(headers).filter(|_| same_length)
            }
            Self::Rudp(dialer) => {
                let transport = dialer.transport().await.ok()?;
                // There is no question for the head alone: the last byte's will do.
                let last = length.saturating_sub(1);
                let reply = transport.get(&name.word(), last, None).await.ok()?;
                let head = &reply.head;
                head.digest
                    .filter(|_| head.first == last && head.whole == Some(length))
            }
        }
    }
}

async fn ask_http(
    http: Http,
    url: &Url,
    congestion: Option<&'static str>,
    from: u64,
    origin: Option<&Origin>,
) -> Result<(Verdict, Option<Incoming>), HttpError> {
    let mut fields = vec![
        want_sha256(),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ];
    fields.extend(congestion.map(|name| (CONGESTION, HeaderValue::from_static(name))));
    if let Some(origin) = origin.filter(|_| from > 0)
        && let Ok(validator) = HeaderValue::from_str(&origin.validator)
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
    {
        fields.extend([(RANGE, range), (IF_RANGE, validator)]);
    }
    let answer = http.send(Method::GET, url, &fields).await?;
    let (status, headers) = (answer.response.status(), answer.response.headers());
    let verdict = judge(status, headers, from, origin);
    let ran = headers.get(CONGESTION).and_then(|name| name.to_str().ok());
    let incoming = Incoming {
        local: answer.local,
        server: answer.server,
        congestion: ran.map(|name| printable(name, SHORT)),
        body: Body::Http {
            http,
            answer: Box::new(answer),
        },
    };
    Ok((verdict, Some(incoming)))
}

async fn ask_proxy(
    dialer: &Dialer,
    name: &FileName,
    from: u64,
    origin: Option<&Origin>,
) -> Result<(Verdict, Option<Incoming>), TransportError> {
    let transport = dialer.transport().await?;
    let validator = origin
        .filter(|_| from > 0)
        .map(|origin| origin.validator.as_str());
    let reply = match transport.get(&name.word(), from, validator).await {
        Ok(reply) => reply,
        Err(TransportError::Answer(AnswerError::Refused { code, text })) => {
            let verdict = match code {
                // A part that is longer than the file is now.
                ErrorCode::Malformed if from > 0 => Verdict::StartOver,
                ErrorCode::Unavailable => Verdict::Later(Refusal::Rudp { code, text }),
                _ => Verdict::Refused(Refusal::Rudp { code, text }),
            };
            return Ok((verdict, None));
        }
        Err(error) => return Err(error),
    };
    let verdict = judge_head(&reply.head, from, origin);
    let incoming = Incoming {
        local: transport.local(),
        server: transport.server(),
        congestion: None,
        body: Body::Rudp(reply),
    };
    Ok((verdict, Some(incoming)))
}
