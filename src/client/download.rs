//! Downloads one file: streams it to the disk, goes on where it was interrupted, verifies it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use hyper::{
    Method, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, IF_RANGE, RANGE},
};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use url::Url;

use super::{
    file_name::{FileName, printable},
    http::{Answer, Http, HttpError},
    part::{self, DiskError, Part, Written},
    transfer::{self, Body, Origin, Sha256, Verdict, WANT_REPR_DIGEST, hex, judge},
    units::{Latency, Rate, Size},
};
use crate::telemetry::packets::{self, Fate};

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The way to the server, or the server's HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server says no.
    #[error("{}", refusal(*.0))]
    Refused(StatusCode),
    /// The server says: not now.
    #[error("the origin has trouble ({0})")]
    Trouble(StatusCode),
    /// The connection broke on the way.
    #[error("interrupted after {}{}: {cause}", Size(*.received), of(*.length))]
    Interrupted {
        /// Bytes on the disk.
        received: u64,
        /// The whole file's, if the origin told.
        length: Option<u64>,
        /// Why.
        cause: HttpError,
    },
    /// Not as many bytes as the origin said.
    #[error("{received} bytes arrived instead of {length}")]
    Length {
        /// Bytes on the disk.
        received: u64,
        /// The whole file's.
        length: u64,
    },
    /// The answer does not fit the question.
    #[error("the origin's answer makes no sense")]
    Nonsense,
    /// Sent from one place to the next without end.
    #[error("redirected more than {MAX_REDIRECTS} times")]
    Redirects,
    /// The digest is wrong.
    #[error("what arrived is not what the origin says it sent: SHA-256 {} instead of {}", hex(.arrived), hex(.promised))]
    Digest {
        /// Of the bytes that arrived.
        arrived: Sha256,
        /// By the origin.
        promised: Sha256,
        /// Whether some of the bytes came with an earlier download.
        resumed: bool,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn of(length: Option<u64>) -> String {
    length.map_or_else(String::new, |length| format!(" of {}", Size(length)))
}

fn refusal(status: StatusCode) -> String {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            format!("the origin has no such file ({status})")
        }
        status => format!("the origin refuses ({status})"),
    }
}

impl DownloadError {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Http(HttpError::Url(_) | HttpError::Bind { .. }) => false,
            Self::Http(_) | Self::Interrupted { .. } | Self::Length { .. } | Self::Trouble(_) => {
                true
            }
            Self::Digest { resumed, .. } => *resumed,
            Self::Refused(_) | Self::Nonsense | Self::Redirects | Self::Disk(_) => false,
        }
    }
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Whether the origin gave a digest, and it was the same.
    pub verified: bool,
    /// Bytes of it that came over the network now; 0 if it was there already.
    pub received: u64,
    /// From the request to the last byte on the disk, waits between tries included.
    pub took: Duration,
    /// Of this the time in which its bytes came.
    pub streaming: Duration,
    /// How often the download was interrupted and taken up again.
    pub retries: u32,
}

impl Downloaded {
    /// Bytes a second while they came.
    pub fn rate(&self) -> Rate {
        Rate::new(self.received, self.streaming)
    }
}

/// How a download goes.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The origin has been asked; nothing has come yet.
    Asking,
    /// So much is on the disk or on its way to it.
    Going {
        /// Bytes.
        received: u64,
        /// Of so many, if the origin tells.
        length: Option<u64>,
    },
    /// Interrupted; tried again after a pause.
    Again {
        /// Why.
        because: &'a DownloadError,
        /// The pause.
        pause: Duration,
    },
}

/// How a client downloads.
#[derive(Debug, Clone)]
pub struct Downloader {
    /// The way to the servers.
    pub http: Http,
    /// Where files are put. Made if it isn't there.
    pub folder: PathBuf,
    /// Download what is there already, too.
    pub force: bool,
    /// How often a broken download is taken up again without having come further.
    pub retries: u32,
    /// The pause before the first retry; each next one is twice as long.
    pub pause: Duration,
}

const MAX_REDIRECTS: u32 = 5;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A try that brought so much counts as a new start.
const HEADWAY: u64 = 1 << 20;
/// Chunks between the network and the disk.
const QUEUE: usize = 8;

impl Downloader {
    /// Downloads `url` as `name`. What has arrived of a failed download stays as `NAME.part`, and
    /// the next one goes on from there.
    pub async fn fetch(
        &self,
        url: &Url,
        name: &FileName,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Downloaded, DownloadError> {
        let started = Instant::now();
        if !self.force
            && let Some(written) = self.already_there(url, name).await
        {
            return Ok(Downloaded {
                path: self.folder.join(name.local()),
                bytes: written.length,
                sha256: written.sha256,
                verified: true,
                received: 0,
                took: started.elapsed(),
                streaming: Duration::ZERO,
                retries: 0,
            });
        }
        let part = Part::open(&self.folder, name.local())?;
        let mut transfer = Transfer {
            downloader: self,
            url: url.clone(),
            name,
            from_zero: self.force,
            received: 0,
            streaming: Duration::ZERO,
            progress,
        };
        let (mut retries, mut in_vain) = (0, 0);
        loop {
            let before = transfer.received;
            let error = match transfer.attempt(&part).await {
                Ok((written, verified)) => {
                    return Ok(Downloaded {
                        path: part.complete()?,
                        bytes: written.length,
                        sha256: written.sha256,
                        verified,
                        received: transfer.received,
                        took: started.elapsed(),
                        streaming: transfer.streaming,
                        retries,
                    });
                }
                Err(error) => error,
            };
            if transfer.received - before >= HEADWAY {
                in_vain = 0;
            }
            if matches!(error, DownloadError::Digest { .. }) {
                part.clear()?;
            }
            if !error.may_pass() || in_vain >= self.retries {
                part.discard_if_empty();
                return Err(error);
            }
            let pause = (self.pause * 2_u32.pow(in_vain.min(8))).min(MAX_PAUSE);
            let because = &error;
            (transfer.progress)(Progress::Again { because, pause });
            tokio::time::sleep(pause).await;
            retries += 1;
            in_vain += 1;
        }
    }

    /// Whether the whole file is there, by the origin's own digest.
    async fn already_there(&self, url: &Url, name: &FileName) -> Option<Written> {
        let path = self.folder.join(name.local());
        let length = path
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)?
            .len();
        let meaning = format!("HEAD: has {name} changed? I have it");
        let answer = self
            .http
            .send(Method::HEAD, url, &[want_digest()], &meaning)
            .await
            .ok()?;
        let headers = answer.response.headers();
        let same_length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .is_none_or(|promised: u64| promised == length);
        let promised = transfer::digest(headers).filter(|_| same_length)?;
        let written = spawn_blocking(move || part::digest_of(&path))
            .await
            .ok()?
            .ok()?;
        (answer.response.status() == StatusCode::OK && written.sha256 == promised)
            .then_some(written)
    }
}

fn want_digest() -> (HeaderName, HeaderValue) {
    (WANT_REPR_DIGEST, HeaderValue::from_static("sha-256=10"))
}

/// One download under way.
struct Transfer<'a> {
    downloader: &'a Downloader,
    url: Url,
    name: &'a FileName,
    /// What is there of the part is not to be used.
    from_zero: bool,
    /// Bytes that came over the network, in all tries.
    received: u64,
    /// The time in which they came.
    streaming: Duration,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    /// One try: gives the whole file, on the disk but without its name yet, and whether the
    /// origin's digest was the same.
    async fn attempt(&mut self, part: &Part) -> Result<(Written, bool), DownloadError> {
        let (answer, body) = self.ask(part).await?;
        let started = Instant::now();
        let (local, server) = (answer.local, answer.server);
        let origin = body.validator.clone().zip(body.length);
        let origin = origin.map(|(validator, length)| Origin {
            url: self.url.to_string(),
            validator,
            length,
        });
        part.note(origin.as_ref())?;
        let before = self.received;
        let streamed = self.stream(part, answer, &body).await;
        let took = started.elapsed();
        self.streaming += took;
        let written = streamed?;
        self.from_zero = false;
        if let Some(length) = body.length
            && written.length != length
        {
            return Err(DownloadError::Length {
                received: written.length,
                length,
            });
        }
        let verified = match body.digest {
            Some(promised) if promised != written.sha256 => {
                return Err(DownloadError::Digest {
                    arrived: written.sha256,
                    promised,
                    resumed: body.starts_at > 0,
                });
            }
            Some(_) => true,
            None => false,
        };
        if packets::watched() {
            let bytes = self.received - before;
            packets::sent(
                "origin",
                "HTTP",
                server,
                local,
                usize::try_from(bytes).unwrap_or(usize::MAX),
                Fate::Sent,
                format_args!(
                    "that was {}: {} in {}, {}",
                    self.name,
                    Size(bytes),
                    Latency(took),
                    Rate::new(bytes, took)
                ),
            );
        }
        Ok((written, verified))
    }

    /// Asks for what is missing, until the answer is one to take.
    async fn ask(&mut self, part: &Part) -> Result<(Answer, Body), DownloadError> {
        let mut redirects = 0;
        (self.progress)(Progress::Asking);
        loop {
            let known = part
                .known()
                .filter(|(_, origin)| !self.from_zero && origin.url == self.url.as_str());
            let from = known
                .as_ref()
                .map_or(0, |(length, origin)| origin.resume_at(*length));
            let mut fields = vec![
                want_digest(),
                (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            ];
            let mut meaning = format!("GET: please send {}", self.name);
            if let Some((_, origin)) = known.as_ref().filter(|_| from > 0)
                && let Ok(validator) = HeaderValue::from_str(&origin.validator)
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
            {
                fields.extend([(RANGE, range), (IF_RANGE, validator)]);
                meaning = format!("GET: please go on with {} at byte {from}", self.name);
            }
            let http = &self.downloader.http;
            let answer = http.send(Method::GET, &self.url, &fields, &meaning).await?;
            let origin = known.as_ref().map(|(_, origin)| origin);
            let (status, headers) = (answer.response.status(), answer.response.headers());
            match judge(status, headers, from, origin) {
                Verdict::Take(body) => return Ok((answer, body)),
                Verdict::StartOver if from > 0 => self.from_zero = true,
                Verdict::StartOver => return Err(DownloadError::Nonsense),
                Verdict::Redirect(_) if redirects == MAX_REDIRECTS => {
                    return Err(DownloadError::Redirects);
                }
                Verdict::Redirect(target) => {
                    redirects += 1;
                    self.url = self
                        .url
                        .join(&target)
                        .map_err(|_| HttpError::Url(printable(&target)))?;
                }
                Verdict::Later(status) => return Err(DownloadError::Trouble(status)),
                Verdict::Refused(status) => return Err(DownloadError::Refused(status)),
            }
        }
    }

    /// Streams the body to the disk; the digest is computed on the way there.
    async fn stream(
        &mut self,
        part: &Part,
        mut answer: Answer,
        body: &Body,
    ) -> Result<Written, DownloadError> {
        let writer = part.writer(body.starts_at)?;
        let (chunks, queue) = mpsc::channel(QUEUE);
        let writing = spawn_blocking(move || writer.run(queue));
        let patience = self.downloader.http.patience;
        let mut on_disk = body.starts_at;
        let ended = loop {
            (self.progress)(Progress::Going {
                received: on_disk,
                length: body.length,
            });
            let frame = match timeout(patience, answer.response.body_mut().frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => break Err(HttpError::Broken(error)),
                Ok(None) => break Ok(()),
                Err(_) => break Err(HttpError::Stalled(patience)),
            };
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            on_disk += chunk.len() as u64;
            self.received += chunk.len() as u64;
            if chunks.send(chunk).await.is_err() {
                // The writer has ended: it says why below.
                break Ok(());
            }
        };
        drop(chunks);
        let written = writing.await.unwrap_or_else(|error| {
            let (path, error) = (part.whole().to_owned(), std::io::Error::other(error));
            Err(DiskError::Io { path, error })
        })?;
        ended.map_err(|cause| DownloadError::Interrupted {
            received: written.length,
            length: body.length,
            cause,
        })?;
        Ok(written)
    }
}

/// Where the part of a download that failed is kept.
pub fn part_path(folder: &Path, name: &FileName) -> Option<PathBuf> {
    let path = folder.join(format!("{}.part", name.local()));
    path.exists().then_some(path)
}
