//! A file on its way: `NAME.part` grows, `NAME.part.json` tells what it is a part of, and only the
//! whole file ever has the name `NAME`.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::transfer::{Origin, Sha256};

/// Where what is not kept goes.
pub const DISCARDED: &str = "/dev/null";

/// Why a file could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk has no room left.
    #[error("no space left for {0}")]
    Full(PathBuf),
    /// Another process downloads the same file to the same place.
    #[error("another client is downloading {0} just now")]
    Busy(PathBuf),
    /// Anything else.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl DiskError {
    fn new(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            _ => Self::Io { path, error },
        }
    }
}

/// A partial file, held by this process alone.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    sidecar: PathBuf,
    whole: PathBuf,
}

impl Part {
    /// Opens the part of `folder/name`, or starts one; makes the folder if it isn't there.
    pub fn open(folder: &Path, name: &str) -> Result<Self, DiskError> {
        fs::create_dir_all(folder).map_err(|error| DiskError::new(folder, error))?;
        let path = folder.join(format!("{name}.part"));
        let failed = |error| DiskError::new(&path, error);
        let file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(DiskError::Busy(folder.join(name))),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever held it before may have completed it meanwhile: then this is the whole file
            // by now, and not ours to write to.
            let held = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held) {
                break file;
            }
        };
        Ok(Self {
            file,
            path,
            sidecar: folder.join(format!("{name}.part.json")),
            whole: folder.join(name),
        })
    }

    /// The name that the file will have.
    pub fn whole(&self) -> &Path {
        &self.whole
    }

    /// How much there is, if it is known of what.
    pub fn known(&self) -> Option<(u64, Origin)> {
        let length = self.file.metadata().ok()?.len();
        let origin = serde_json::from_slice(&fs::read(&self.sidecar).ok()?).ok()?;
        (length > 0).then_some((length, origin))
    }

    /// Notes what the part is of, or that nobody knows and it can't be resumed.
    pub fn note(&self, origin: Option<&Origin>) -> Result<(), DiskError> {
        let noted = match origin.map(serde_json::to_vec) {
            Some(Ok(json)) => fs::write(&self.sidecar, json),
            Some(Err(_)) | None => match fs::remove_file(&self.sidecar) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        noted.map_err(|error| DiskError::new(&self.sidecar, error))
    }

    /// A writer that keeps the first `keep` bytes and appends what comes.
    pub fn writer(&self, keep: u64) -> Result<Writer, DiskError> {
        let file = self.file.try_clone();
        Ok(Writer {
            file: Some(file.map_err(|error| DiskError::new(&self.path, error))?),
            path: self.path.clone(),
            keep,
        })
    }

    /// The part is the whole: gives it its name, in one step.
    pub fn complete(self) -> Result<PathBuf, DiskError> {
        let failed = |error| DiskError::new(&self.path, error);
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, &self.whole).map_err(|error| DiskError::new(&self.whole, error))?;
        self.note(None)?;
        Ok(self.whole)
    }

    /// Throws away what has arrived.
    pub fn clear(&self) -> Result<(), DiskError> {
        self.file
            .set_len(0)
            .map_err(|error| DiskError::new(&self.path, error))?;
        self.note(None)
    }

    /// Leaves no trace if nothing has arrived.
    pub fn discard_if_empty(self) {
        if self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.len() == 0)
        {
            for path in [&self.path, &self.sidecar] {
                if let Err(error) = fs::remove_file(path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "not removed");
                }
            }
        }
    }
}

/// What is on the disk after a writer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The part's length in bytes.
    pub length: u64,
    /// The digest of all of it.
    pub sha256: Sha256,
}

/// Appends to a part and computes the digest on the way. Blocks: runs in a thread of its own.
#[derive(Debug)]
pub struct Writer {
    /// `None`: nothing is kept.
    file: Option<File>,
    path: PathBuf,
    keep: u64,
}

impl Writer {
    /// One that computes the digest and keeps nothing.
    pub fn discarding() -> Self {
        Self {
            file: None,
            path: DISCARDED.into(),
            keep: 0,
        }
    }

    /// Writes what comes until the sender is dropped.
    pub fn run(self, chunks: mpsc::Receiver<Bytes>) -> Result<Written, DiskError> {
        let Self { file, path, keep } = self;
        append(file, keep, chunks).map_err(|error| DiskError::new(&path, error))
    }
}

fn append(
    mut file: Option<File>,
    keep: u64,
    mut chunks: mpsc::Receiver<Bytes>,
) -> io::Result<Written> {
    let mut digest = Context::new(&SHA256);
    let mut length = 0;
    if let Some(file) = &mut file {
        file.set_len(keep)?;
        file.seek(SeekFrom::Start(0))?;
        length = hash(file, &mut digest)?;
    }
    while let Some(chunk) = chunks.blocking_recv() {
        if let Some(file) = &mut file {
            file.write_all(&chunk)?;
        }
        digest.update(&chunk);
        length += chunk.len() as u64;
    }
    Ok(Written {
        length,
        sha256: finished(digest),
    })
}

/// The length and the digest of a file. Blocks.
pub fn digest_of(path: &Path) -> io::Result<Written> {
    let mut digest = Context::new(&SHA256);
    let length = hash(&mut File::open(path)?, &mut digest)?;
    Ok(Written {
        length,
        sha256: finished(digest),
    })
}

fn finished(digest: Context) -> Sha256 {
    let mut sha256 = [0; 32];
    // Both are 32 bytes: SHA-256 has no other length.
    sha256.copy_from_slice(digest.finish().as_ref());
    sha256
}

fn hash(file: &mut File, digest: &mut Context) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut length = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..read]);
        length += read as u64;
    }
}
