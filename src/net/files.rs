use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

use nix::sys::statvfs::statvfs;

/// What a disk has left for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Files, if the file system counts them.
    pub files: Option<u64>,
}

/// The space that is left where `folder` is.
///
/// # Errors
/// If it is not there.
pub fn free_space(folder: &Path) -> io::Result<Space> {
    let disk = statvfs(folder)?;
    Ok(Space {
        bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
        files: (disk.files() > 0).then(|| disk.files_available()),
    })
}

/// Whether this process could make files in a folder: neither its rights nor a file system that is
/// mounted read-only forbid it.
#[allow(unsafe_code)]
pub fn is_writable(folder: &Path) -> bool {
    let Ok(name) = CString::new(folder.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the name is a C string that lives until the call returns, which keeps no pointer.
    let answer =
        unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK, libc::AT_EACCESS) };
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_space_and_what_is_not_there_has_none() {
        let space = free_space(Path::new("/")).expect("there");
        assert!(space.bytes > 0 && space.files != Some(0), "{space:?}");
        assert!(free_space(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn a_folder_is_and_none_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(is_writable(folder.path()));
        assert!(!is_writable(&folder.path().join("none")));
        assert!(!is_writable(Path::new("/proc/sys")), "not even for root");
    }
}
