//! A small file system of a test's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::run;

/// In memory, unmounted when dropped. Needs root.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size at a folder, which is made.
    #[track_caller]
    pub fn mount(at: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&at).expect("a folder");
        let option = format!("size={size}");
        let place = at.to_str().expect("UTF-8");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &option, "labnet-test", place],
        );
        Self(at)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that is left; the file that has it.
    pub fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        // Ends with "no space left".
        let _ = fs::write(&filler, vec![1; 1 << 20]);
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a program may still have its files open.
        run("umount", &["-l", self.0.to_str().expect("UTF-8")]);
    }
}
