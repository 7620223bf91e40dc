//! The secret that the server's cookies and resets are made with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

const LEN: usize = 32;

/// Reads the key of `folder`, or makes it. A server that is restarted, even after a crash, has the
/// same one, so that the clients of before are told at once that their connections are gone. That
/// is all that is lost with a damaged one: it is replaced.
///
/// # Errors
/// What the disk refuses, with what was tried.
pub(super) fn load(folder: &Path) -> io::Result<[u8; LEN]> {
    let path = folder.join("rudp.key");
    let tried = |what: &str, error: io::Error| {
        let problem = format!(
            "{what} {}: {error}: is its folder labnet's own?",
            path.display()
        );
        io::Error::new(error.kind(), problem)
    };
    match fs::read(&path) {
        Ok(bytes) => {
            let len = bytes.len();
            let Ok(key) = bytes.try_into() else {
                tracing::warn!(
                    "{} had {len} bytes instead of {LEN}; a new key is made. Connections of before \
                     end when they time out.",
                    path.display(),
                );
                return make(folder, &path).map_err(|error| tried("replacing", error));
            };
            // Whoever can read it can forge resets.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|error| tried("closing to others", error))?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(folder, &path).map_err(|error| tried("making", error))
        }
        Err(error) => Err(tried("reading", error)),
    }
}

fn make(folder: &Path, path: &Path) -> io::Result<[u8; LEN]> {
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
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
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
    }

    #[test]
    fn a_damaged_one_is_replaced_and_a_bad_folder_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("made");
        fs::write(state.join("rudp.key"), "short").expect("written");
        let key = load(&state).expect("replaced");
        assert_eq!(load(&state).expect("read"), key);
        fs::remove_dir_all(&state).expect("removed");
        fs::write(&state, "no folder").expect("written");
        let error = load(&state).expect_err("no folder").to_string();
        assert!(error.contains("state/rudp.key"), "{error}");
    }
}
