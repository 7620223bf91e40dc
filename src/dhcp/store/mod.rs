//! The leases on disk, and what happens when the disk or its users misbehave.

mod file;
mod repair;
mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::ErrorCode;

use super::{
    clock::{Clock, Reading},
    lease::{Record, StoredLease},
};
use crate::net;
use file::{DatabaseFile, SCHEMA_VERSION};
pub use repair::{Condition, Repaired, inspect, repair};

/// The leases on disk: `leases.sqlite` in the state folder.
///
/// What was promised to clients is kept in memory beside the file, so that a file that is deleted,
/// replaced or damaged while the program runs is written anew from it, and an actor that is made
/// anew reads nothing from the disk. Clones are handles of the same store.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// The number of the latest owner.
    epoch: AtomicU64,
    contents: Mutex<Contents>,
}

struct Contents {
    leases: HashMap<Ipv4Addr, StoredLease>,
    /// What the dates of the leases are told by.
    clock: Clock,
    file: Option<DatabaseFile>,
    /// Why nothing can be stored. The file may differ from `leases` until it is mended.
    fault: Option<StoreError>,
}

/// Why leases could not be stored or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The state folder can't be made or looked into.
    #[error("{path}: {error}: make the folder, or mount its disk", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        error: Arc<io::Error>,
    },
    /// Nothing can be written in the state folder: the next start will fail.
    #[error("{path} is read-only: make it writable for labnet's user", path = .0.display())]
    ReadOnly(PathBuf),
    /// The file was deleted while it was open.
    #[error("{path} is gone: somebody deleted or moved it", path = .0.display())]
    Gone(PathBuf),
    /// Another file has its name.
    #[error("{path} is another file than before: somebody replaced it", path = .0.display())]
    Replaced(PathBuf),
    /// Somebody else wrote to it.
    #[error("{path} was changed by another program", path = .0.display())]
    Changed(PathBuf),
    /// The file is something else.
    #[error(
        "{path} is not a lease database of labnet; move it away to start with an empty one",
        path = .0.display()
    )]
    Foreign(PathBuf),
    /// A newer labnet wrote it.
    #[error(
        "{path} has the format {found}, this labnet knows {SCHEMA_VERSION}: run the labnet that \
         wrote it, or move it away",
        path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its `user_version`.
        found: i64,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process: is labnet running already?", path = .0.display())]
    Locked(PathBuf),
    /// The disk is full.
    #[error("{path}: the disk is full: make room on it", path = .0.display())]
    Full(PathBuf),
    /// The file can't be read, or not all of it.
    #[error(
        "{path} is damaged ({problem}): stop labnet and run `labnet leases repair {path}`, which \
         saves what can be read and lists the rest",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing in the file can be read.
    #[error(
        "{path} is damaged ({problem}), and no lease in it can be read; move it away to start with \
         an empty one",
        path = .path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another actor has taken the store over.
    #[error("another actor has taken the leases over")]
    Superseded,
    /// Anything else that SQLite says.
    #[error(
        "{path}: {error}: is its disk there and writable, and the file labnet's own?",
        path = .path.display()
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        error: Arc<rusqlite::Error>,
    },
}

impl StoreError {
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::DiskFull) => Self::Full(path),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                problem: error.to_string(),
            },
            _ => Self::Database {
                path,
                error: Arc::new(error),
            },
        }
    }

    fn folder(path: &Path, error: io::Error) -> Self {
        Self::Folder {
            path: path.to_owned(),
            error: Arc::new(error),
        }
    }
}

const FILE_NAME: &str = "leases.sqlite";

/// How long a start waits for a labnet that is about to end.
const PATIENCE_AT_START: Duration = Duration::from_secs(2);
/// And how long a running server does, which answers nobody meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

impl Store {
    /// Opens the database in `folder`; makes both if they don't exist. Rows that can't be read are
    /// left out, with a warning.
    ///
    /// # Errors
    /// A file that can't be opened or written, or has lost nobody knows what.
    pub fn open(folder: &Path, reading: Reading) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError::folder(folder, error))?;
        let path = folder.join(FILE_NAME);
        let clock = Clock::new(reading);
        let now = clock.now(reading.steady);
        let mut file = DatabaseFile::open(&path, PATIENCE_AT_START)?;
        let rows = file.read();
        if let Some(problem) = rows.broken.clone().filter(|_| rows.gap) {
            return Err(StoreError::Damaged { path, problem });
        }
        if !rows.damaged.is_empty() {
            tracing::warn!(
                "{file} is damaged; started without {rows}. They will be leased as if nobody had \
                 them. `labnet leases repair {file}`, with labnet stopped, makes a clean file and \
                 keeps this one beside it.",
                file = path.display(),
                rows = rows.damaged.join(", "),
            );
        }
        let mut contents = Contents {
            leases: by_address(rows.leases),
            clock,
            file: None,
            fault: None,
        };
        // Nothing is known of the time in between but that it was not negative.
        let ahead = file
            .written()
            .map_or(0, |written| written.saturating_sub(now));
        if ahead > 0 {
            tracing::warn!(
                "the clock shows {ahead} seconds less than when leases were stored last; they go \
                 on from there",
            );
            contents.move_dates(-i64::try_from(ahead).unwrap_or(i64::MAX));
        }
        if rows.broken.is_some() {
            file.abandon();
            contents.renew(&path, now)?;
        } else {
            file.synchronise(&contents.leases, now)?;
            contents.file = Some(file);
        }
        Ok(Self(Arc::new(Shared {
            path,
            epoch: AtomicU64::new(0),
            contents: Mutex::new(contents),
        })))
    }

    /// Takes the store over: whoever owned it before can't write any more.
    pub fn take_over(&self) -> Owner {
        let epoch = self.0.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        Owner {
            store: Arc::clone(&self.0),
            epoch,
        }
    }

    /// Whether a new owner could work now: false while a thread, that may be stopped, is in the
    /// middle of reading or writing.
    pub fn is_free(&self) -> bool {
        !matches!(self.0.contents.try_lock(), Err(TryLockError::WouldBlock))
    }
}

/// The right to write to a [`Store`], until another takes it over.
pub struct Owner {
    store: Arc<Shared>,
    epoch: u64,
}

impl Owner {
    /// Every lease, those that ended first before the others, and the clock that their dates are
    /// told by.
    pub fn load(&self) -> (Vec<StoredLease>, Clock) {
        let contents = self.store.lock();
        let mut leases: Vec<_> = contents.leases.values().cloned().collect();
        leases.sort_unstable_by_key(|lease| (lease.until, lease.address));
        (leases, contents.clock)
    }

    /// Stores all records, in order, or none. When it returns they have reached the disk, in a file
    /// that a restart will find.
    ///
    /// # Errors
    /// The reason. From then on nothing is stored until [`mend`](Self::mend) says so.
    pub fn commit(&self, records: &[Record], now: u64) -> Result<(), StoreError> {
        let mut contents = self.contents()?;
        if let Some(fault) = &contents.fault {
            return Err(fault.clone());
        }
        let Some(file) = &mut contents.file else {
            return Err(StoreError::Gone(self.store.path.clone()));
        };
        if let Err(error) = file.write(records, now) {
            contents.fail(error.clone());
            return Err(error);
        }
        for record in records {
            match record {
                Record::Keep(lease) => contents.leases.insert(lease.address, lease.clone()),
                Record::Forget(address) => contents.leases.remove(address),
            };
        }
        Ok(())
    }

    /// Looks after the file, about once a second: notices what was done to it, and opens, mends or
    /// writes it anew from memory as soon as that is possible.
    ///
    /// # Errors
    /// What is still wrong.
    pub fn mend(&self, now: u64) -> Result<(), StoreError> {
        let mut contents = self.contents()?;
        if contents.fault.is_none()
            && let Some(file) = &contents.file
        {
            match file.in_place() {
                Ok(()) => return self.store.writable(),
                Err(error) => contents.fail(error),
            }
        }
        let Contents {
            file,
            fault,
            leases,
            ..
        } = &mut *contents;
        if fault.is_some()
            && let Some(open) = file
        {
            // Open still: the disk was full, or dates have moved.
            let mended = open.in_place().and_then(|()| open.synchronise(leases, now));
            match mended {
                Ok(()) => {
                    *fault = None;
                    return self.store.writable();
                }
                Err(error) => {
                    contents.fail(error.clone());
                    if contents.file.is_some() {
                        return Err(error);
                    }
                }
            }
        }
        match contents.renew(&self.store.path, now) {
            Ok(()) => self.store.writable(),
            Err(error) => {
                contents.fault = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Moves every date, in the file, too: the wall clock was set by so many seconds, to `now`. If
    /// the file can't follow, nothing is stored until it has.
    ///
    /// # Errors
    /// If another owns the store now.
    pub fn shift(&self, seconds: i64, now: u64) -> Result<(), StoreError> {
        let mut contents = self.contents()?;
        contents.move_dates(seconds);
        contents.clock.shift(seconds);
        let Contents {
            file: Some(file),
            leases,
            fault: None,
            ..
        } = &mut *contents
        else {
            return Ok(());
        };
        if let Err(error) = file.in_place().and_then(|()| file.synchronise(leases, now)) {
            contents.fail(error);
        }
        Ok(())
    }

    /// A copy of the database as it is now: the bytes of a file of its own.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn image(&self) -> Result<Vec<u8>, StoreError> {
        let contents = self.contents()?;
        if let Some(fault) = &contents.fault {
            return Err(fault.clone());
        }
        let Some(file) = &contents.file else {
            return Err(StoreError::Gone(self.store.path.clone()));
        };
        file.image()
            .map_err(|error| StoreError::of(&self.store.path, error))
    }

    fn contents(&self) -> Result<MutexGuard<'_, Contents>, StoreError> {
        let contents = self.store.lock();
        // Asked with the lock in hand: a thread that slept on its way here may be late by minutes.
        if self.store.epoch.load(Ordering::SeqCst) == self.epoch {
            Ok(contents)
        } else {
            Err(StoreError::Superseded)
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A transaction that a panic interrupts is rolled back by its own drop, and memory changes
        // only after it.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<(), StoreError> {
        let folder = file::folder_of(&self.path);
        if net::is_writable(folder) {
            Ok(())
        } else {
            Err(StoreError::ReadOnly(folder.to_owned()))
        }
    }
}

impl Contents {
    /// Notes why the file can't be used, and lets go of it unless it only has no room.
    fn fail(&mut self, error: StoreError) {
        if !matches!(error, StoreError::Full(_) | StoreError::Locked(_))
            && let Some(file) = self.file.take()
        {
            file.abandon();
        }
        self.fault = Some(error);
    }

    /// Opens what is there, or makes a new file, and has it hold what is in memory. One that can't
    /// be read is put aside.
    fn renew(&mut self, path: &Path, now: u64) -> Result<(), StoreError> {
        let open = |leases: &HashMap<_, _>| {
            let mut file = DatabaseFile::open(path, PATIENCE)?;
            match file.check().and_then(|()| file.synchronise(leases, now)) {
                Ok(()) => Ok(file),
                Err(error) => {
                    file.abandon();
                    Err(error)
                }
            }
        };
        let file = match open(&self.leases) {
            Err(StoreError::Damaged { problem, .. }) => {
                let leases = self.leases.values().cloned().collect();
                let aside = repair::replace(path, leases, now)?;
                tracing::warn!(
                    "{} is damaged ({problem}); it is kept as {}, and the leases are written anew",
                    path.display(),
                    aside.display()
                );
                open(&self.leases)?
            }
            opened => opened?,
        };
        self.file = Some(file);
        if let Some(fault) = self.fault.take() {
            tracing::warn!(
                "{fault}; {} holds all {} leases again",
                path.display(),
                self.leases.len()
            );
        }
        Ok(())
    }

    fn move_dates(&mut self, seconds: i64) {
        for lease in self.leases.values_mut() {
            lease.until = lease.until.saturating_add_signed(seconds);
        }
    }
}

fn by_address(leases: Vec<StoredLease>) -> HashMap<Ipv4Addr, StoredLease> {
    leases
        .into_iter()
        .map(|lease| (lease.address, lease))
        .collect()
}
