//! Watches files for changes of what they hold: the configuration's, and those it names.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Files are quiet for so long before they are looked at: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(250);
/// They are looked at after so long even if there is no end of news.
const PATIENCE: Duration = Duration::from_secs(2);
/// And so often without any: network file systems tell nothing.
const POLL: Duration = Duration::from_secs(30);
/// A chain of symbolic links may be as long; the kernel's own bound is 40.
const MOST_LINKS: usize = 40;

/// A watch over some files. It ends when it is dropped.
pub(super) struct FileWatch {
    /// Dropping it ends the thread.
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    /// Calls `changed` once when one of the `files` holds something else than now. Folders are watched,
    /// those of the symbolic links on the way, too: editors and Kubernetes put a new file in the place
    /// of the old one.
    ///
    /// # Errors
    /// Those of the kernel's watches.
    pub(super) fn start(
        files: Vec<PathBuf>,
        changed: impl FnOnce() + Send + 'static,
    ) -> notify::Result<Self> {
        let (tell, news) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |_| {
            // The thread may have ended: it has told of a change.
            let _ = tell.send(());
        })?;
        for folder in folders(&files) {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        // Only now: a change before the watch began shows, too, if it comes after this.
        let known = Contents::of(&files);
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                if wait(&files, known, &news) {
                    changed();
                }
            })?;
        Ok(Self { _watcher: watcher })
    }
}

/// Waits until the files hold something else than `known`; false: nobody wants to know any more.
fn wait(files: &[PathBuf], mut known: Contents, news: &mpsc::Receiver<()>) -> bool {
    loop {
        match news.recv_timeout(POLL) {
            Ok(()) => {
                let start = Instant::now();
                loop {
                    match news.recv_timeout(QUIET) {
                        Ok(()) if start.elapsed() < PATIENCE => {}
                        Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => break,
                        Err(mpsc::RecvTimeoutError::Disconnected) => return false,
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
        }
        if known.differ(files) {
            return true;
        }
    }
}

/// What the files held.
struct Contents {
    /// Of their metadata: what is the same in that is not read again.
    signature: u64,
    digest: u64,
}

impl Contents {
    fn of(files: &[PathBuf]) -> Self {
        Self {
            signature: signature(files),
            digest: digest(files),
        }
    }

    fn differ(&mut self, files: &[PathBuf]) -> bool {
        let now = signature(files);
        if now == self.signature {
            return false;
        }
        self.signature = now;
        digest(files) != self.digest
    }
}

fn signature(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        let metadata = fs::metadata(file).ok();
        let state = metadata.map(|m| {
            (
                m.dev(),
                m.ino(),
                m.size(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            )
        });
        state.hash(&mut hasher);
    }
    hasher.finish()
}

fn digest(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// The folders in which a name on the way to one of the files could be given another meaning.
fn folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files {
        let mut path = file.clone();
        for _ in 0..MOST_LINKS {
            found.extend(
                path.parent()
                    .filter(|folder| folder.is_dir())
                    .map(Path::to_owned),
            );
            let Some(resolved) = follow_first_link(&path) else {
                break;
            };
            // The link itself stands in this folder.
            found.extend(resolved.holder);
            path = resolved.path;
        }
    }
    found
}

struct Followed {
    holder: Option<PathBuf>,
    path: PathBuf,
}

/// Follows the first symbolic link among the names of `path`; `None` if there is none.
fn follow_first_link(path: &Path) -> Option<Followed> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    ancestors.into_iter().find_map(|ancestor| {
        let target = fs::read_link(ancestor).ok()?;
        let rest = path.strip_prefix(ancestor).ok()?;
        let holder = ancestor.parent();
        let target = holder.unwrap_or(Path::new("/")).join(target);
        // Joining nothing would add a slash.
        let path = if rest.as_os_str().is_empty() {
            target
        } else {
            target.join(rest)
        };
        Some(Followed {
            holder: holder.map(Path::to_owned),
            path,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watch(file: &Path) -> (FileWatch, mpsc::Receiver<()>) {
        let (tell, told) = mpsc::channel();
        let watch = FileWatch::start(vec![file.to_owned()], move || {
            let _ = tell.send(());
        });
        (watch.expect("a watch"), told)
    }

    fn is_told(told: &mpsc::Receiver<()>) -> bool {
        told.recv_timeout(Duration::from_secs(20)).is_ok()
    }

    /// Long enough for a change to be noticed.
    fn is_quiet(told: &mpsc::Receiver<()>) -> bool {
        told.recv_timeout(QUIET * 4).is_err()
    }

    #[test]
    fn a_file_that_is_written_again_with_the_same_is_no_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("labnet.toml");
        fs::write(&file, "one").expect("written");
        let (_watch, told) = watch(&file);
        fs::write(&file, "one").expect("written");
        fs::write(folder.path().join("other"), "x").expect("written");
        assert!(is_quiet(&told));
        fs::write(&file, "two").expect("written");
        assert!(is_told(&told));
    }

    #[test]
    fn an_editor_that_renames_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("labnet.toml");
        fs::write(&file, "one").expect("written");
        let (_watch, told) = watch(&file);
        let new = folder.path().join(".labnet.toml.swp");
        fs::write(&new, "two").expect("written");
        fs::rename(&new, &file).expect("renamed");
        assert!(is_told(&told));
    }

    #[test]
    fn a_symbolic_link_on_the_way_that_is_swapped_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(path(version)).expect("a folder");
            fs::write(path(version).join("labnet.toml"), text).expect("written");
        }
        symlink("v1", path("..data")).expect("a link");
        symlink("..data/labnet.toml", path("labnet.toml")).expect("a link");
        let (_watch, told) = watch(&path("labnet.toml"));
        symlink("v2", path("..new")).expect("a link");
        fs::rename(path("..new"), path("..data")).expect("renamed");
        assert!(is_told(&told));
    }

    #[test]
    fn a_file_behind_a_link_elsewhere_is_noticed() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = there.path().join("real.toml");
        fs::write(&file, "one").expect("written");
        symlink(&file, here.path().join("labnet.toml")).expect("a link");
        let (_watch, told) = watch(&here.path().join("labnet.toml"));
        fs::write(&file, "two").expect("written");
        assert!(is_told(&told));
    }
}
