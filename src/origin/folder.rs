//! The files of a folder on disk.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::page::Entry;
use crate::net::Purpose;

/// Most files that the page shows.
const MAX_FILES: usize = 10_000;

/// A folder whose regular files are offered: no subfolders, no hidden files, nothing outside of it.
pub(super) struct Folder {
    /// Without symbolic links.
    root: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        fs::read_dir(&root)?;
        Ok(Self { root })
    }

    /// What is in it now, by name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            // A file that is gone by now is left out.
            if let Ok(Some((_, metadata))) = self.look_up(&name) {
                entries.push(Entry {
                    name: name.as_bytes().to_vec(),
                    length: metadata.len(),
                    modified: modified(&metadata),
                });
            }
            if entries.len() == MAX_FILES {
                tracing::warn!(folder = %self.root.display(), "shows only {MAX_FILES} files");
                break;
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Opens the file `name`; `None` if there is no such file to be offered.
    ///
    /// # Errors
    /// If the process has no descriptors left, or the disk fails.
    pub(super) fn find(&self, name: &[u8]) -> io::Result<Option<(File, Metadata)>> {
        let opened = self.look_up(OsStr::from_bytes(name)).and_then(|found| {
            let Some((path, _)) = found else {
                return Ok(None);
            };
            let file = OpenOptions::new()
                .read(true)
                // What was a file a moment ago may be a link or a pipe by now.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)?;
            Purpose::Peer.can_spare(&file)?;
            let metadata = file.metadata()?;
            Ok(metadata.is_file().then_some((file, metadata)))
        });
        match opened {
            Err(error) if is_absence(&error) => Ok(None),
            opened => opened,
        }
    }

    /// The path of a regular file of the folder, symbolic links resolved.
    fn look_up(&self, name: &OsStr) -> io::Result<Option<(PathBuf, Metadata)>> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.starts_with(b".") || bytes.iter().any(|b| b"/\0".contains(b)) {
            return Ok(None);
        }
        let mut path = self.root.join(name);
        let mut metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            path = path.canonicalize()?;
            if !path.starts_with(&self.root) {
                return Ok(None);
            }
            metadata = path.symlink_metadata()?;
        }
        Ok(metadata.is_file().then_some((path, metadata)))
    }
}

/// Whether the error says that there is no file of the name that this process may read.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::ENOTDIR
                | libc::ELOOP
                | libc::ENAMETOOLONG
                | libc::EACCES
                | libc::EPERM
                | libc::ENXIO
        )
    )
}

/// When a file was last modified, if HTTP can say it: from 1970 to 9999.
pub(super) fn modified(metadata: &Metadata) -> Option<SystemTime> {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    let modified = metadata.modified().ok()?;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < YEAR_10000).then_some(modified)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Folder) -> Vec<String> {
        let entries = folder.list().expect("a folder").into_iter();
        entries
            .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
            .collect()
    }

    #[test]
    fn only_regular_files_of_the_folder_are_offered() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("secret"), "secret").expect("a file");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path();
        for name in ["b.txt", "a ;%ü.txt", ".hidden"] {
            fs::write(path.join(name), "contents").expect("a file");
        }
        fs::create_dir(path.join("sub")).expect("a folder");
        fs::write(path.join("sub/inner"), "inner").expect("a file");
        symlink("b.txt", path.join("inside")).expect("a link");
        symlink("sub/inner", path.join("below")).expect("a link");
        symlink("sub", path.join("folder")).expect("a link");
        symlink("nowhere", path.join("dangling")).expect("a link");
        symlink("loop", path.join("loop")).expect("a link");
        symlink(outside.path().join("secret"), path.join("escape")).expect("a link");
        symlink(outside.path(), path.join("out")).expect("a link");
        let pipe = std::process::Command::new("mkfifo")
            .arg(path.join("pipe"))
            .status();
        assert!(pipe.expect("mkfifo").success());
        let folder = Folder::open(path).expect("a folder");
        assert_eq!(names(&folder), ["a ;%ü.txt", "b.txt", "below", "inside"]);
        for name in ["b.txt", "a ;%ü.txt", "inside", "below"] {
            assert!(folder.find(name.as_bytes()).unwrap().is_some(), "{name}");
        }
        let long = "x".repeat(300);
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "sub",
            "sub/inner",
            "folder",
            "dangling",
            "loop",
            "escape",
            "out",
            "out/secret",
            "../secret",
            "/etc/passwd",
            "pipe",
            "none",
            "nul\0",
            &long,
        ] {
            assert!(folder.find(name.as_bytes()).unwrap().is_none(), "{name:?}");
        }
    }

    #[test]
    fn dates_that_http_cannot_say_are_not_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = File::create(dir.path().join("old")).expect("a file");
        let old = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
        file.set_modified(old).expect("a date");
        assert_eq!(modified(&file.metadata().unwrap()), None);
    }
}
