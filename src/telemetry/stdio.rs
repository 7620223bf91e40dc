//! Standard output and standard error of a verb. Nothing here panics, whatever has become of them:
//! `println!` and `eprintln!` do, on a closed pipe and on a full device.

use std::{
    fmt,
    io::{self, Write},
};

/// Writes data on standard output, and out of the buffer. A reader that has seen enough
/// (`labnet man | head`) is no failure.
///
/// # Errors
/// It can't be written, as on a full disk.
pub fn print(data: &[u8]) -> io::Result<()> {
    print_to(&mut io::stdout().lock(), data)
}

fn print_to(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    match to.write_all(data).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Writes a line on standard error. If nobody can read that, there is nobody to be told.
pub fn complain(problem: impl fmt::Display) {
    // In one write, so that the lines of several threads or programs don't mix.
    let _ = io::stderr().write_all(format!("{problem}\n").as_bytes());
}
