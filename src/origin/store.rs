//! The files that are offered, wherever they are: looked up, read, summed.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    answer::{Meta, Target, media_type, shown},
    folder::{self, Folder},
    page::{self, Entry},
    sample::{Sample, finished, sample},
};

/// Files whose sums are held. A folder may change under our eyes without end.
const MAX_SUMS: usize = 10_000;
/// Files that are summed at the same time: the disk and the cores are for downloads, too.
const MAX_SUMMING: usize = 2;
/// How long an answer waits for the file's sum. After that it goes without; the sum is there for
/// the next one.
const SUM_PATIENCE: Duration = Duration::from_secs(30);
/// Larger files have no sum: it would take minutes, in which the disk and a core serve nobody else.
pub(crate) const MOST_SUMMED: u64 = 64 << 30;

/// What the origin offers.
pub(super) struct Store {
    files: Files,
    sums: Mutex<HashMap<Vec<u8>, Sum>>,
    summing: Arc<Semaphore>,
}

enum Files {
    Folder(Folder),
    Samples(Vec<Arc<Sample>>),
}

/// The SHA-256 of a file in the state that `etag` stands for.
struct Sum {
    etag: String,
    sha256: Arc<OnceCell<Option<[u8; 32]>>>,
}

/// Something to be sent.
pub(super) struct Found {
    /// What the answer's header says of it.
    pub(super) meta: Meta,
    /// Its bytes.
    pub(super) content: Content,
}

/// The bytes of what is to be sent.
pub(super) enum Content {
    /// The page.
    Page(Bytes),
    /// A file.
    File(Arc<Stored>),
}

/// A file that can be read anywhere.
pub(super) enum Stored {
    /// On disk, open.
    Disk(File),
    /// Made up.
    Sample(Arc<Sample>),
}

impl Store {
    /// Offers the files of the folder at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn folder(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Files::Folder(Folder::open(path)?)))
    }

    /// Offers samples, in this order.
    ///
    /// # Errors
    /// The first name that no sample has.
    pub(super) fn samples(names: &[String]) -> Result<Self, String> {
        let samples = names
            .iter()
            .map(|name| sample(name).map(Arc::new).ok_or_else(|| name.clone()));
        Ok(Self::new(Files::Samples(
            samples.collect::<Result<_, _>>()?,
        )))
    }

    fn new(files: Files) -> Self {
        Self {
            files,
            sums: Mutex::default(),
            summing: Arc::new(Semaphore::new(MAX_SUMMING)),
        }
    }

    /// Looks up what a request is about; `None` if there is no such thing.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) async fn find(self: &Arc<Self>, target: Target) -> io::Result<Option<Found>> {
        let store = Arc::clone(self);
        spawn_blocking(move || match target {
            Target::Page => store.page().map(Some),
            Target::File(name) => store.file(&name),
        })
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn page(&self) -> io::Result<Found> {
        let entries = match &self.files {
            Files::Folder(folder) => folder.list()?,
            Files::Samples(samples) => samples
                .iter()
                .map(|sample| Entry {
                    name: sample.name().into(),
                    length: sample.len(),
                    modified: Some(sample.modified()),
                })
                .collect(),
        };
        let page = page::render(&entries);
        let shown = match entries.len() {
            1 => "the page with 1 link".into(),
            links => format!("the page with {links} links"),
        };
        let mut hash = Context::new(&SHA256);
        hash.update(page.as_ref());
        let digest = finished(hash);
        let tag = digest[..12].iter().map(|byte| format!("{byte:02x}"));
        Ok(Found {
            meta: Meta {
                shown,
                kind: "text/html; charset=utf-8",
                length: page.len() as u64,
                etag: format!("\"{}\"", tag.collect::<String>()),
                modified: None,
                digest: Some(digest),
            },
            content: Content::Page(page.into()),
        })
    }

    fn file(&self, name: &[u8]) -> io::Result<Option<Found>> {
        let (length, etag, modified, stored) = match &self.files {
            Files::Folder(folder) => {
                let Some((file, metadata)) = folder.find(name)? else {
                    return Ok(None);
                };
                (
                    metadata.len(),
                    // Not whole seconds: a file may change twice in one.
                    format!(
                        "\"{:x}-{:x}-{:x}\"",
                        metadata.mtime(),
                        metadata.mtime_nsec(),
                        metadata.len()
                    ),
                    folder::modified(&metadata),
                    Stored::Disk(file),
                )
            }
            Files::Samples(samples) => {
                let mut samples = samples.iter();
                let Some(sample) = samples.find(|sample| sample.name().as_bytes() == name) else {
                    return Ok(None);
                };
                (
                    sample.len(),
                    sample.etag(),
                    Some(sample.modified()),
                    Stored::Sample(Arc::clone(sample)),
                )
            }
        };
        let digest = self.known_sum(name, &etag);
        Ok(Some(Found {
            meta: Meta {
                shown: shown(name),
                kind: media_type(name),
                length,
                etag,
                modified,
                digest,
            },
            content: Content::File(Arc::new(stored)),
        }))
    }

    fn known_sum(&self, name: &[u8], etag: &str) -> Option<[u8; 32]> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = sums.get(name).filter(|sum| sum.etag == etag)?;
        sum.sha256.get().copied().flatten()
    }

    /// The SHA-256 of a file that [`Store::find`] gave: computed once for each of its states, by
    /// however many requests it is asked for, and even if all of them go away meanwhile.
    pub(super) async fn sum(&self, name: &[u8], found: &Found) -> Option<[u8; 32]> {
        let Content::File(stored) = &found.content else {
            return found.meta.digest;
        };
        if found.meta.length > MOST_SUMMED {
            return None;
        }
        let cell = {
            let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            if sums.len() >= MAX_SUMS && !sums.contains_key(name) {
                sums.clear();
            }
            let sum = sums.entry(name.to_vec()).or_insert_with(|| Sum {
                etag: found.meta.etag.clone(),
                sha256: Arc::default(),
            });
            if sum.etag != found.meta.etag {
                *sum = Sum {
                    etag: found.meta.etag.clone(),
                    sha256: Arc::default(),
                };
            }
            Arc::clone(&sum.sha256)
        };
        let summing = Arc::clone(&self.summing);
        let (stored, length) = (Arc::clone(stored), found.meta.length);
        let computing = tokio::spawn(async move {
            let sum = cell.get_or_init(|| async {
                // The semaphore is never closed.
                let _turn = summing.acquire().await.ok()?;
                let sum = spawn_blocking(move || stored.sha256(length)).await;
                sum.map_err(io::Error::other)
                    .flatten()
                    .inspect_err(|error| tracing::debug!(%error, "a file could not be summed"))
                    .ok()
            });
            *sum.await
        });
        timeout(SUM_PATIENCE, computing).await.ok()?.ok()?
    }
}

impl Stored {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If there are not that many: the file has become shorter since it was found.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.read_exact_at(buffer, offset),
            Self::Sample(sample) if sample.read_at(offset, buffer) == buffer.len() => Ok(()),
            Self::Sample(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn sha256(&self, length: u64) -> io::Result<[u8; 32]> {
        if let Self::Sample(sample) = self {
            return Ok(sample.sha256());
        }
        let mut hash = Context::new(&SHA256);
        let mut buffer = vec![0; 64 * 1024];
        let mut offset = 0;
        while offset < length {
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let piece = buffer.len().min(left);
            self.read(offset, &mut buffer[..piece])?;
            hash.update(&buffer[..piece]);
            offset += piece as u64;
        }
        Ok(finished(hash))
    }
}
