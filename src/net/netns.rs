//! Network namespaces (network_namespaces(7)).

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

/// A network of its own inside of the kernel: interfaces, addresses, routes, ports, packet filter. One that was
/// made here has no name, and vanishes with the last who holds it or is in it, however that ends.
#[derive(Debug)]
pub struct Namespace(File);

/// The one of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

impl Namespace {
    /// A new one, with nothing but a loopback interface that is down. The calling thread stays where it is.
    ///
    /// # Errors
    /// The kernel refuses without CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        in_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(OWN).map(Self)
        })
    }

    /// The one that `ip netns` or a path names.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> io::Result<Self> {
        File::open(Path::new("/var/run/netns").join(name)).map(Self)
    }

    /// The same once more.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Takes the calling thread there, and the threads that it starts from then on: what they bind, dial and look
    /// at is that network's. Sockets that are open stay where they are.
    ///
    /// # Errors
    /// The kernel refuses without CAP_SYS_ADMIN.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does `work` in there, in a thread of its own.
    ///
    /// # Errors
    /// The kernel refuses, or `work` fails.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_a_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Its file, for `nsenter --net=` and `ip ... netns`, for as long as it is held.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("namespace".to_owned());
        worker
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    })
}

/// Whether the process is root, whom no user namespace would make mightier.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Makes the calling process, which has no second thread yet, root of a user namespace of its own
/// (user_namespaces(7)): it can make network namespaces then. Files it has no more rights to than before.
///
/// # Errors
/// The kernel or its administrator allows that to root alone; or there is a second thread.
pub fn become_root_of_own() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // The groups of others could be dropped by it, and with them what they forbid: so it is not allowed.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
