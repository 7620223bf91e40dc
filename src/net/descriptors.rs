use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

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

/// For whom a descriptor is opened. The last few of the process are not for everybody: with none
/// left nobody could ask what is wrong, and no configuration could be read that mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A peer's connection, and what is opened to serve it.
    Peer,
    /// A connection of the API.
    Administration,
}

impl Purpose {
    /// So many descriptors must still be free with the new one open. What the API leaves is for a
    /// reload that it asks for (files to be read, sockets to be bound), and for the lease database.
    const fn leaves(self) -> usize {
        match self {
            Self::Peer => 8,
            Self::Administration => 4,
        }
    }

    /// Whether the process can spare `newest`, a descriptor that has just been opened.
    ///
    /// # Errors
    /// It is to be closed again: what is left is held back for others.
    pub fn can_spare(self, newest: &impl AsFd) -> io::Result<()> {
        // The limit may be changed while the process runs (prlimit).
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let limit = RawFd::try_from(limit).unwrap_or(RawFd::MAX);
        let newest = newest.as_fd().as_raw_fd();
        let needed = self.leaves();
        if free_above(newest, limit, needed, is_open) == needed {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "of {limit} descriptors the last {needed} are held back: raise the limit \
                 (LimitNOFILE, ulimit -n)"
            )))
        }
    }
}

/// How many numbers between `newest` and `limit` are free; not counted beyond `enough`. The kernel
/// gives a new descriptor the lowest free number (open(2)): no free ones lie below it.
fn free_above(
    newest: RawFd,
    limit: RawFd,
    enough: usize,
    is_open: impl Fn(RawFd) -> bool,
) -> usize {
    let above = (newest.saturating_add(1)..limit).rev();
    above
        .filter(|number| !is_open(*number))
        .take(enough)
        .count()
}

#[allow(unsafe_code)]
fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer, changes nothing, and may be asked of any number.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_then() {
        let hard = raise_descriptor_limit().expect("ours to raise");
        let limits = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
        assert_eq!(limits, (hard, hard));
    }

    #[test]
    fn what_is_free_is_counted_wherever_it_lies() {
        let open = |taken: &'static [RawFd]| move |number: RawFd| taken.contains(&number);
        // 3 is the newest of 10: 4 to 9 are free, but for those that are open.
        assert_eq!(free_above(3, 10, 8, open(&[0, 1, 2, 3])), 6);
        assert_eq!(free_above(3, 10, 8, open(&[0, 1, 2, 3, 9, 7])), 4);
        assert_eq!(free_above(3, 10, 2, open(&[0, 1, 2, 3])), 2);
        assert_eq!(free_above(9, 10, 8, open(&[])), 0);
        // The limit was lowered below what is open already.
        assert_eq!(free_above(20, 10, 8, open(&[20])), 0);
        // Only as much is looked at as is needed.
        assert_eq!(free_above(5, RawFd::MAX, 8, open(&[5])), 8);
    }

    #[test]
    fn a_process_with_many_to_spare_spares_one() {
        let file = File::open("/dev/null").expect("there");
        for purpose in [Purpose::Peer, Purpose::Administration] {
            purpose.can_spare(&file).expect("far from the limit");
        }
        assert!(is_open(file.as_raw_fd()) && !is_open(RawFd::MAX));
    }
}
