//! The programs by which the kernel's network is set up: iproute2's `ip` and nftables' `nft`. Each works in the
//! calling thread's network namespace.

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

/// Runs `ip` with these arguments.
///
/// # Errors
/// What it complains of ([`AlreadyExists`](io::ErrorKind::AlreadyExists): what shall be added is there), and
/// that it is not there.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no_program("ip", "iproute2", &error))?;
    taken(&format!("ip {}", arguments.join(" ")), output).map(drop)
}

/// Has `nft` carry out a script; what it tells.
///
/// # Errors
/// As with [`ip`].
pub fn nft(script: &str) -> io::Result<String> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| no_program("nft", "nftables", &error))?;
    if let Some(mut stdin) = nft.stdin.take() {
        // One that has ended says why on its own.
        let _ = stdin.write_all(script.as_bytes());
    }
    taken("nft", nft.wait_with_output()?)
}

fn no_program(name: &str, package: &str, error: &io::Error) -> io::Error {
    let told = match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no `{name}` here: install {package} (Debian: apt install {package})")
        }
        _ => format!("`{name}` does not run: {error}"),
    };
    io::Error::new(error.kind(), told)
}

/// What a program has told, or what it complains of.
fn taken(what: &str, output: Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().next().unwrap_or("no word of why");
    let kind = match first.contains("File exists") {
        true => io::ErrorKind::AlreadyExists,
        false => io::ErrorKind::Other,
    };
    Err(io::Error::new(kind, format!("`{what}`: {first}")))
}
