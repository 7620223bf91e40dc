use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets the process open as many files and sockets as its hard limit allows, and tells how many:
/// a shell's usual 1024 are not enough for a thousand clients and the files that they want.
///
/// # Errors
/// If the kernel says no; then all is as before.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_then() {
        let hard = raise_descriptor_limit().expect("ours to raise");
        let limits = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
        assert_eq!(limits, (hard, hard));
    }
}
