//! The secret that the server's cookies and resets are made with.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

const LEN: usize = 32;

/// Reads the key of `folder`, or makes it. A server that is restarted, even after a crash, has the
/// same one, so that the clients of before are told at once that their connections are gone.
///
/// # Errors
/// Those of the disk, and of a file that is no key.
pub(super) fn load(folder: &Path) -> io::Result<[u8; LEN]> {
    let path = folder.join("rudp.key");
    match fs::read(&path) {
        Ok(bytes) => {
            let key = bytes.try_into().map_err(|bytes: Vec<u8>| {
                let problem = format!("{} bytes instead of {LEN}; delete it", bytes.len());
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })?;
            // Whoever can read it can forge resets.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; LEN] = rand::random();
            fs::create_dir_all(folder)?;
            // Whole or not at all, whenever the machine fails.
            let fresh = folder.join("rudp.key.new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let key = load(&state).expect("made");
        assert_eq!(load(&state).expect("read"), key);
        let mode = fs::metadata(state.join("rudp.key"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(state.join("rudp.key"), "short").expect("written");
        let error = load(&state).expect_err("no key");
        assert!(error.to_string().contains("5 bytes"), "{error}");
    }
}
