//! Folders that observers will write files into.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Makes the folder, if need be, and looks whether files can be made in it.
///
/// # Errors
/// It can't be made, or nothing in it.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".labnet-{}", std::process::id()));
    File::create(&probe)?;
    fs::remove_file(&probe)
}
