//! Network namespaces of this process's own, and who may make them.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own, with nothing in it but a loopback interface that is up. It is gone with the
/// last socket in it and the last clone of this.
#[derive(Debug, Clone)]
pub struct NetNamespace(Arc<File>);

impl NetNamespace {
    /// A new one. Needs CAP_SYS_ADMIN: see [`gain_namespaces`].
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new() -> io::Result<Self> {
        // A thread of its own enters the namespace and ends in it; this one stays where it is.
        let maker = Builder::new().name("namespace".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            super::tun::switch_on("lo")?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let made = maker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        made.map(|file| Self(Arc::new(file)))
    }

    /// Its file, as long as this is there.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs something in a thread of its own that is in the namespace, as the threads are that it
    /// starts, and the sockets that they open.
    ///
    /// # Errors
    /// There is no thread to be had. That it can't enter is told to `work`.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(io::Result<()>) -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let this = self.clone();
        Builder::new().name(name.to_owned()).spawn(move || {
            let entered = setns(&*this.0, CloneFlags::CLONE_NEWNET);
            work(entered.map_err(io::Error::from))
        })
    }
}

/// Gets this process the right to make network namespaces: root has it, anybody else gets it in a user
/// namespace of his own, in which he stays who he is (user_namespaces(7)). To be called before there
/// is a second thread.
///
/// # Errors
/// In words, what forbids it and what would help.
pub fn gain_namespaces() -> Result<(), String> {
    // SAFETY: they take nothing, and never fail (geteuid(2)).
    #[allow(unsafe_code)]
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    if user == 0 {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| refusal(error.into()))?;
    let map = |file: &str, id: u32| {
        fs::write(format!("/proc/self/{file}"), format!("{id} {id} 1\n"))
            .map_err(|error| format!("/proc/self/{file}: {error}"))
    };
    map("uid_map", user)?;
    // Without it no group can be mapped.
    fs::write("/proc/self/setgroups", "deny").map_err(|error| format!("setgroups: {error}"))?;
    map("gid_map", group)?;
    // Some distributions let it be made, and nothing be done in it.
    NetNamespace::new().map(drop).map_err(refusal)
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
