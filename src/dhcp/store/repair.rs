//! A file that is damaged: what is wrong with it, and what can be saved.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    StoreError, by_address,
    file::{self, DatabaseFile, Rows},
};
use crate::dhcp::lease::StoredLease;

/// What a lease database is like.
#[derive(Debug, serde::Serialize)]
pub struct Condition {
    /// The leases that can be read.
    pub leases: usize,
    /// What can't, in words.
    pub damaged: Vec<String>,
    /// What SQLite says of the file as a whole, if it is not content.
    pub problem: Option<String>,
}

impl Condition {
    /// Whether all is well.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.problem.is_none()
    }
}

/// What became of a damaged file.
#[derive(Debug, serde::Serialize)]
pub struct Repaired {
    /// What it was like.
    pub condition: Condition,
    /// Where it is now; none if it was sound and is where it was.
    pub aside: Option<PathBuf>,
}

/// Reads a lease database to its end and changes nothing.
///
/// # Errors
/// A file that is not there, is another program's, or is in use.
pub fn inspect(path: &Path) -> Result<Condition, StoreError> {
    let (_, condition) = examine(path)?;
    Ok(condition)
}

/// Saves what can be read of a damaged file into a new one of the same name; the old one is kept
/// beside it. A sound file is left alone.
///
/// # Errors
/// As [`inspect`]'s; nothing that can be read; a disk that takes no new file. Nothing has changed
/// then.
pub fn repair(path: &Path, now: u64) -> Result<Repaired, StoreError> {
    let (leases, condition) = examine(path)?;
    let aside = if condition.is_sound() {
        None
    } else if leases.is_empty() {
        let problem = condition
            .problem
            .unwrap_or_else(|| condition.damaged.join(", "));
        return Err(StoreError::Lost {
            path: path.to_owned(),
            problem,
        });
    } else {
        Some(replace(path, leases, now)?)
    };
    Ok(Repaired { condition, aside })
}

/// Puts a new database with these leases in the place of a damaged one. Gives the name that the
/// damaged one has now.
pub(super) fn replace(
    path: &Path,
    leases: Vec<StoredLease>,
    now: u64,
) -> Result<PathBuf, StoreError> {
    let fresh = beside(path, "new");
    let failed = |error| StoreError::folder(path, error);
    remove(&fresh).map_err(failed)?;
    // Whole and on the disk before the damaged one loses its name: closing it empties its log.
    let mut file = DatabaseFile::open(&fresh, super::PATIENCE)?;
    file.synchronise(&by_address(leases), now)?;
    file.close()?;
    let moved = put_aside(path)
        .and_then(|aside| fs::rename(&fresh, path).map(|()| aside))
        .and_then(|aside| sync_folder(path).map(|()| aside));
    moved.map_err(failed)
}

/// Gives a database and its log a second name, and takes the log's first: it would be taken for the
/// log of the next database.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let free = (1..100)
        .map(|number| beside(path, &format!("damaged-{number}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| {
            io::Error::other(
                "99 damaged files lie here already: move them away, and see to the disk",
            )
        })?;
    fs::hard_link(path, &free)?;
    let log = file::log_of(path);
    if log.exists() {
        fs::rename(log, file::log_of(&free))?;
    }
    Ok(free)
}

fn examine(path: &Path) -> Result<(Vec<StoredLease>, Condition), StoreError> {
    fs::metadata(path).map_err(|error| StoreError::folder(path, error))?;
    let (rows, problem) = match DatabaseFile::look_at(path) {
        Ok(looked) => looked,
        // Not even its first page makes sense.
        Err(StoreError::Damaged { problem, .. }) => {
            let rows = without_first_page(path).unwrap_or_default();
            (rows, Some(problem))
        }
        Err(error) => return Err(error),
    };
    let Rows {
        leases,
        damaged,
        broken,
        ..
    } = rows;
    let condition = Condition {
        leases: leases.len(),
        damaged,
        problem: problem.or(broken),
    };
    Ok((leases, condition))
}

/// The first page says only what tables there are and where they begin, and that is the same in
/// every lease database. So the rows can be read with the first page of a new one.
fn without_first_page(path: &Path) -> Option<Rows> {
    const PAGE: usize = 4096;
    let mut first = DatabaseFile::empty_image().ok()?;
    let mut bytes = fs::read(path).ok()?;
    let log = file::log_of(path);
    if bytes.len() <= PAGE || first.len() < PAGE {
        return None;
    }
    first.truncate(PAGE);
    let version = if log.exists() {
        file::WRITE_AHEAD_LOG
    } else {
        file::ROLLBACK_JOURNAL
    };
    first[18..20].fill(version);
    // A length that is not of this version of the file: SQLite asks the file itself.
    first[92..96].copy_from_slice(&[0; 4]);
    first[24..28].copy_from_slice(&[0, 0, 0, 1]);
    bytes[..PAGE].copy_from_slice(&first);
    let scratch = beside(path, "salvage");
    let read = || -> io::Result<Rows> {
        fs::write(&scratch, &bytes)?;
        if log.exists() {
            fs::copy(&log, file::log_of(&scratch))?;
        }
        let database = file::connect(&scratch, super::PATIENCE).map_err(io::Error::other)?;
        Ok(file::read(&database))
    };
    let rows = read();
    let _ = remove(&scratch);
    rows.ok()
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    for name in [path.to_owned(), file::log_of(path)] {
        match fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(file::folder_of(path))?.sync_all()
}
