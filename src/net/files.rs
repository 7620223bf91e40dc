use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path};

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
    fn a_folder_is_and_none_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(is_writable(folder.path()));
        assert!(!is_writable(&folder.path().join("none")));
        assert!(!is_writable(Path::new("/proc/sys")), "not even for root");
    }
}
