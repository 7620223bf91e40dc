//! Interfaces, addresses and routes are set up by iproute2's `ip`.

use std::{
    io,
    process::{Command, Stdio},
};

/// Runs `ip` with these arguments, in the calling thread's network namespace.
///
/// # Errors
/// What it complains of ([`AlreadyExists`](io::ErrorKind::AlreadyExists): what shall be added is there), and
/// that it is not there.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                "there is no `ip` here: install iproute2 (Debian: apt install iproute2)",
            ),
            _ => io::Error::new(error.kind(), format!("`ip` does not run: {error}")),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().next().unwrap_or("no word of why");
    let kind = match first.contains("File exists") {
        true => io::ErrorKind::AlreadyExists,
        false => io::ErrorKind::Other,
    };
    let told = format!("`ip {}`: {first}", arguments.join(" "));
    Err(io::Error::new(kind, told))
}
