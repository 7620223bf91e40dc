//! Network namespaces (network_namespaces(7)), and who may make them.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, Builder, JoinHandle},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

/// A network of its own inside of the kernel: interfaces, addresses, routes, ports, packet filter. One that was
/// made here has no name, and vanishes with the last clone of this and the last who is in it, however that ends.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<File>);

/// The one of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

impl Namespace {
    /// A new one, with nothing but a loopback interface that is up. The calling thread stays where it is. Needs
    /// CAP_SYS_ADMIN: see [`gain_namespaces`].
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new() -> io::Result<Self> {
        in_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            super::device::switch_on("lo")?;
            Ok(Self(Arc::new(File::open(OWN)?)))
        })
    }

    /// The one that `ip netns` or a path names.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> io::Result<Self> {
        let file = File::open(Path::new("/var/run/netns").join(name))?;
        Ok(Self(Arc::new(file)))
    }

    /// Takes the calling thread there, and the threads that it starts from then on: what they bind, dial and look
    /// at is that network's. Sockets that are open stay where they are.
    ///
    /// # Errors
    /// The kernel refuses without CAP_SYS_ADMIN.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&*self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does `work` in there, in a thread of its own, and waits for it.
    ///
    /// # Errors
    /// The kernel refuses, or `work` fails.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_a_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Begins `work` in there, in a thread of this name.
    ///
    /// # Errors
    /// There is no thread to be had. That it can't enter is told to `work`.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let this = self.clone();
        Builder::new()
            .name(name.to_owned())
            .spawn(move || work(this.enter()))
    }

    /// Its file, for `nsenter --net=` and `ip ... netns`, for as long as it is held.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = Builder::new().name("namespace".to_owned());
        worker
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    })
}

/// Gets the process the right to make network namespaces: root has it, anybody else gets it as root of a user
/// namespace of his own (user_namespaces(7)), with no more rights to files than before; says whether that was
/// made. To be called before there is a second thread.
///
/// # Errors
/// In words, what forbids it and what would help.
pub fn gain_namespaces() -> Result<bool, String> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(false);
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| refusal(error.into()))?;
    let write = |file: &str, text: String| {
        let file = format!("/proc/self/{file}");
        fs::write(&file, text).map_err(|error| format!("{file}: {error}"))
    };
    // The groups of others could be dropped by it, and with them what they forbid: so it is not allowed.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))?;
    // Some distributions let it be made, and nothing be done in it.
    Namespace::new().map_err(refusal)?;
    Ok(true)
}

/// Files of distributions that forbid user namespaces, what stands in them then, and what helps.
const FORBIDDEN_BY: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor does: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows it",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "`sysctl -w kernel.unprivileged_userns_clone=1` allows it",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "`sysctl -w user.max_user_namespaces=1000` allows it",
    ),
];

fn refusal(error: io::Error) -> String {
    let found = FORBIDDEN_BY.iter().find(|(file, value, _)| {
        let is = fs::read_to_string(file);
        is.is_ok_and(|is| is.trim() == *value)
    });
    let why = found.map_or(
        "a container's seccomp filter may be the reason",
        |(_, _, why)| why,
    );
    format!(
        "this system lets only root make network namespaces ({error}); {why}. Or run it as root"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_helps() {
        let said = refusal(io::ErrorKind::PermissionDenied.into());
        assert!(
            said.contains("only root") && said.ends_with("as root"),
            "{said}"
        );
    }
}
