//! Downloads one file: streams it to the disk, goes on where it was interrupted, verifies it.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use super::{
    file_name::FileName,
    part::{self, DISCARDED, DiskError, Part, Writer, Written},
    source::{Incoming, Source, SourceError},
    transfer::{Body, Origin, Refusal, Sha256, Verdict, hex},
    units::{Rate, Size},
};

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The way to the server, or what it speaks.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The server says no.
    #[error("{}", refused(.0))]
    Refused(Refusal),
    /// The server says: not now.
    #[error("{whose} has trouble ({0})", whose = .0.whose())]
    Trouble(Refusal),
    /// The connection broke on the way.
    #[error("interrupted after {}{}: {cause}", Size(*.received), of(*.length))]
    Interrupted {
        /// Bytes on the disk.
        received: u64,
        /// The whole file's, if the origin told.
        length: Option<u64>,
        /// Why.
        cause: SourceError,
    },
    /// Not as many bytes as the server said.
    #[error("{received} bytes arrived instead of {length}")]
    Length {
        /// Bytes on the disk.
        received: u64,
        /// The whole file's.
        length: u64,
    },
    /// The answer does not fit the question.
    #[error("the server's answer makes no sense")]
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

fn refused(refusal: &Refusal) -> String {
    let says = match refusal.is_not_found() {
        true => "has no such file",
        false => "refuses",
    };
    format!("{} {says} ({refusal})", refusal.whose())
}

impl DownloadError {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Source(cause) | Self::Interrupted { cause, .. } => cause.may_pass(),
            Self::Length { .. } | Self::Trouble(_) => true,
            Self::Digest { resumed, .. } => *resumed,
            Self::Refused(_) | Self::Nonsense | Self::Redirects | Self::Disk(_) => false,
        }
    }
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it lies; [`DISCARDED`] if it was not kept.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its digest; none of one that was not kept and had none to be compared with.
    pub sha256: Option<Sha256>,
    /// Whether the origin gave a digest, and it was the same.
    pub verified: bool,
    /// Bytes of it that came over the network now; 0 if it was there already.
    pub received: u64,
    /// From the request to the last byte on the disk, waits between tries included.
    pub took: Duration,
    /// Of this the time in which its bytes came.
    pub streaming: Duration,
    /// When it was first asked for, and when its last byte came.
    pub between: (Instant, Instant),
    /// How often the download was interrupted and taken up again.
    pub retries: u32,
    /// By which of its kernel's congestion controls an HTTP origin sent it, if it told.
    pub congestion: Option<String>,
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
    /// The origin has been asked; nothing has come yet. Again and again while it is silent.
    Asking,
    /// So much is on the disk or on its way to it: first what was there before, then with each piece that
    /// comes, and again and again while none does.
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
    /// Where files are put. Made if it isn't there.
    pub folder: PathBuf,
    /// Download what is there already, too.
    pub force: bool,
    /// Keep nothing: count and digest only, to measure.
    pub discard: bool,
    /// How often a broken download is taken up again without having come further.
    pub retries: u32,
    /// The pause before the first retry; each next one is twice as long.
    pub pause: Duration,
}

const MAX_REDIRECTS: u32 = 5;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A try that brought so much counts as a new start.
const HEADWAY: u64 = 1 << 20;
/// While nothing comes, that is told so often.
const STILL: Duration = Duration::from_millis(500);
/// Chunks between the network and the disk.
const QUEUE: usize = 8;

impl Downloader {
    /// Downloads `name` from `source`. What has arrived of a failed download stays as `NAME.part`,
    /// and the next one goes on from there.
    pub async fn fetch(
        &self,
        source: Source,
        name: &FileName,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Downloaded, DownloadError> {
        let started = Instant::now();
        if !self.force
            && !self.discard
            && let Some(written) = self.already_there(&source, name).await
        {
            return Ok(Downloaded {
                path: self.folder.join(name.local()),
                bytes: written.length,
                sha256: Some(written.sha256),
                verified: true,
                received: 0,
                took: started.elapsed(),
                streaming: Duration::ZERO,
                between: (started, started),
                retries: 0,
                congestion: None,
            });
        }
        let target = match self.discard {
            true => Target::Nothing,
            false => Target::Part(Part::open(&self.folder, name.local())?),
        };
        let asked_at = Instant::now();
        let mut transfer = Transfer {
            source,
            name,
            from_zero: self.force,
            received: 0,
            streaming: Duration::ZERO,
            last_byte_at: asked_at,
            congestion: None,
            progress,
        };
        let (mut retries, mut in_vain) = (0, 0);
        loop {
            let before = transfer.received;
            let error = match transfer.attempt(&target).await {
                Ok(arrived) => {
                    return Ok(Downloaded {
                        path: target.complete().await?,
                        bytes: arrived.length,
                        sha256: arrived.sha256,
                        verified: arrived.verified,
                        received: transfer.received,
                        took: started.elapsed(),
                        streaming: transfer.streaming,
                        between: (asked_at, transfer.last_byte_at),
                        retries,
                        congestion: transfer.congestion,
                    });
                }
                Err(error) => error,
            };
            if transfer.received - before >= HEADWAY {
                in_vain = 0;
            }
            if matches!(error, DownloadError::Digest { .. }) {
                target.clear()?;
            }
            if !error.may_pass() || in_vain >= self.retries {
                target.discard_if_empty();
                return Err(error);
            }
            let pause = (self.pause * 2_u32.pow(in_vain.min(8))).min(MAX_PAUSE);
            let because = &error;
            (transfer.progress)(Progress::Again { because, pause });
            sleep(pause).await;
            retries += 1;
            in_vain += 1;
        }
    }

    /// Whether the whole file is there, by the source's own digest.
    async fn already_there(&self, source: &Source, name: &FileName) -> Option<Written> {
        let path = self.folder.join(name.local());
        let length = path
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)?
            .len();
        let promised = source.digest(name, length).await?;
        let written = spawn_blocking(move || part::digest_of(&path))
            .await
            .ok()?
            .ok()?;
        (written.sha256 == promised).then_some(written)
    }
}

/// Where the bytes go.
enum Target {
    Part(Part),
    Nothing,
}

impl Target {
    fn known(&self) -> Option<(u64, Origin)> {
        match self {
            Self::Part(part) => part.known(),
            Self::Nothing => None,
        }
    }

    fn note(&self, origin: Option<&Origin>) -> Result<(), DiskError> {
        match self {
            Self::Part(part) => part.note(origin),
            Self::Nothing => Ok(()),
        }
    }

    fn writer(&self, keep: u64) -> Result<Writer, DiskError> {
        match self {
            Self::Part(part) => part.writer(keep),
            Self::Nothing => Ok(Writer::discarding()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Part(part) => part.whole(),
            Self::Nothing => Path::new(DISCARDED),
        }
    }

    /// The disk takes its time, in which other files go on.
    async fn complete(self) -> Result<PathBuf, DiskError> {
        let Self::Part(part) = self else {
            return Ok(DISCARDED.into());
        };
        let path = part.whole().to_owned();
        let completed = spawn_blocking(move || part.complete()).await;
        completed.unwrap_or_else(|error| {
            let error = std::io::Error::other(error);
            Err(DiskError::Io { path, error })
        })
    }

    fn clear(&self) -> Result<(), DiskError> {
        match self {
            Self::Part(part) => part.clear(),
            Self::Nothing => Ok(()),
        }
    }

    fn discard_if_empty(self) {
        if let Self::Part(part) = self {
            part.discard_if_empty();
        }
    }
}

/// What one try has brought, with what was there before.
struct Arrived {
    length: u64,
    sha256: Option<Sha256>,
    /// Whether the source gave a digest, and it was the same.
    verified: bool,
}

/// One download under way.
struct Transfer<'a> {
    source: Source,
    name: &'a FileName,
    /// What is there of the part is not to be used.
    from_zero: bool,
    /// Bytes that came over the network, in all tries.
    received: u64,
    /// The time in which they came.
    streaming: Duration,
    last_byte_at: Instant,
    congestion: Option<String>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    /// One try: gives the whole file, on the disk but without its name yet.
    async fn attempt(&mut self, target: &Target) -> Result<Arrived, DownloadError> {
        let (incoming, body) = self.ask(target).await?;
        self.congestion.clone_from(&incoming.congestion);
        let started = Instant::now();
        let origin = body.validator.clone().zip(body.length);
        let origin = origin.map(|(validator, length)| Origin {
            url: self.source.key(self.name),
            validator,
            length,
        });
        target.note(origin.as_ref())?;
        let streamed = self.stream(target, incoming, &body).await;
        let took = started.elapsed();
        self.streaming += took;
        let (received, sha256) = streamed?;
        self.from_zero = false;
        if let Some(length) = body.length
            && received != length
        {
            return Err(DownloadError::Length { received, length });
        }
        let digests = body.digest.zip(sha256);
        if let Some((promised, arrived)) = digests
            && promised != arrived
        {
            return Err(DownloadError::Digest {
                arrived,
                promised,
                resumed: body.starts_at > 0,
            });
        }
        Ok(Arrived {
            length: received,
            sha256,
            verified: digests.is_some(),
        })
    }

    /// Asks for what is missing, until the answer is one to take.
    async fn ask(&mut self, target: &Target) -> Result<(Incoming, Body), DownloadError> {
        let mut redirects = 0;
        (self.progress)(Progress::Asking);
        loop {
            let key = self.source.key(self.name);
            let known = target
                .known()
                .filter(|(_, origin)| !self.from_zero && origin.url == key);
            let from = known
                .as_ref()
                .map_or(0, |(length, origin)| origin.resume_at(*length));
            let origin = known.as_ref().map(|(_, origin)| origin);
            let answer = {
                let mut asked = pin!(self.source.ask(self.name, from, origin));
                loop {
                    tokio::select! {
                        biased;
                        answer = asked.as_mut() => break answer,
                        () = sleep(STILL) => (self.progress)(Progress::Asking),
                    }
                }
            };
            match answer? {
                (Verdict::Take(body), Some(incoming)) => return Ok((incoming, body)),
                (Verdict::StartOver, _) if from > 0 => self.from_zero = true,
                (Verdict::StartOver | Verdict::Take(_), _) => return Err(DownloadError::Nonsense),
                (Verdict::Redirect(_), _) if redirects == MAX_REDIRECTS => {
                    return Err(DownloadError::Redirects);
                }
                (Verdict::Redirect(target), _) => {
                    redirects += 1;
                    self.source.redirect(&target)?;
                }
                (Verdict::Later(refusal), _) => return Err(DownloadError::Trouble(refusal)),
                (Verdict::Refused(refusal), _) => return Err(DownloadError::Refused(refusal)),
            }
        }
    }

    /// Streams the body to the disk; the digest is computed on the way there. Gives the length of all
    /// that is there then.
    async fn stream(
        &mut self,
        target: &Target,
        mut incoming: Incoming,
        body: &Body,
    ) -> Result<(u64, Option<Sha256>), DownloadError> {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let writing = match target {
            // To be measured: what nobody keeps and nothing can be compared with is only counted.
            Target::Nothing if body.digest.is_none() => None,
            _ => {
                let writer = target.writer(body.starts_at)?;
                Some(spawn_blocking(move || writer.run(queue)))
            }
        };
        let mut on_disk = body.starts_at;
        let ended = loop {
            (self.progress)(Progress::Going {
                received: on_disk,
                length: body.length,
            });
            let mut next = pin!(incoming.next());
            let next = loop {
                tokio::select! {
                    biased;
                    next = next.as_mut() => break next,
                    () = sleep(STILL) => (self.progress)(Progress::Going {
                        received: on_disk,
                        length: body.length,
                    }),
                }
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(cause) => break Err(cause),
            };
            on_disk += chunk.len() as u64;
            self.received += chunk.len() as u64;
            self.last_byte_at = Instant::now();
            if writing.is_some() && chunks.send(chunk).await.is_err() {
                // The writer has ended: it says why below.
                break Ok(());
            }
        };
        drop(chunks);
        let (received, sha256) = match writing {
            None => (on_disk, None),
            Some(writing) => {
                let written = writing.await.unwrap_or_else(|error| {
                    let (path, error) = (target.path().to_owned(), std::io::Error::other(error));
                    Err(DiskError::Io { path, error })
                })?;
                (written.length, Some(written.sha256))
            }
        };
        ended.map_err(|cause| DownloadError::Interrupted {
            received,
            length: body.length,
            cause,
        })?;
        Ok((received, sha256))
    }
}

/// Where the part of a download that failed is kept.
pub fn part_path(folder: &Path, name: &FileName) -> Option<PathBuf> {
    let path = folder.join(format!("{}.part", name.local()));
    path.exists().then_some(path)
}
