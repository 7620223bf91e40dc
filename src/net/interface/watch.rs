use std::{
    future::pending,
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};

/// What belongs together (an interface that is made gets its name, its addresses and its routes one
/// after the other) is told once.
const SETTLE: Duration = Duration::from_millis(200);
/// The kernel tells of an address before the route that makes it usable is there. Should that
/// take longer than [`SETTLE`], this one more look finds it.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How often to look where the kernel can't be heard: no netlink, as in a tight sandbox.
const POLL: Duration = Duration::from_secs(5);

/// Tells when something about the host's interfaces or addresses has changed (rtnetlink(7)): one
/// came, went, was renamed, got an address, lost one.
///
/// What exactly, it does not tell: the messages can be lost (ENOBUFS) and are old when they are
/// read, so whoever hears of a change has to look at what is there now in any case.
pub struct InterfaceWatch {
    /// `None`: the kernel can't be heard, for now.
    kernel: Option<AsyncFd<OwnedFd>>,
    second_look: Option<Instant>,
}

impl InterfaceWatch {
    /// Listens from now on. Where the kernel can't be heard (told in the log),
    /// [`changed`](Self::changed) comes every five seconds instead. Runs in a tokio runtime.
    pub fn new() -> Self {
        let kernel = listen()
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "the kernel does not tell of interfaces and addresses that come and go \
                     (AF_NETLINK is forbidden?): looking every {} seconds instead",
                    POLL.as_secs(),
                );
            })
            .ok();
        Self {
            kernel,
            second_look: None,
        }
    }

    /// Waits until it is worth looking at the interfaces and addresses. Cancel safe: a change that
    /// was not waited for to the end is told the next time.
    pub async fn changed(&mut self) {
        let Some(kernel) = &self.kernel else {
            sleep(POLL).await;
            self.kernel = listen().ok();
            return;
        };
        let second_look = async {
            match self.second_look {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        let told: io::Result<bool> = tokio::select! {
            told = hear(kernel) => told.map(|()| true),
            () = second_look => Ok(false),
        };
        match told {
            Ok(true) => self.second_look = Some(Instant::now() + SECOND_LOOK),
            Ok(false) => self.second_look = None,
            Err(error) => {
                tracing::warn!(%error, "the kernel's news of interfaces ended: asking for them anew");
                self.kernel = listen().ok();
                self.second_look = None;
            }
        }
    }
}

impl Default for InterfaceWatch {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(unsafe_code)]
fn listen() -> io::Result<AsyncFd<OwnedFd>> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
    // SAFETY: OwnedFd owns its descriptor, always the same one, and closes it when dropped, not
    // before; nobody else registers it.
    let kernel = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    Ok(kernel)
}

/// Waits for news, and for what belongs to it.
async fn hear(kernel: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        kernel.readable().await?.retain_ready();
        sleep(SETTLE).await;
        // Asked again, so that what came meanwhile counts as seen.
        let mut readiness = kernel.readable().await?;
        let heard = drain(kernel.get_ref())?;
        readiness.clear_ready();
        if heard {
            return Ok(());
        }
    }
}

/// Reads all that there is, and tells whether there was anything.
fn drain(kernel: &OwnedFd) -> io::Result<bool> {
    let mut heard = false;
    let mut message = [0; 64];
    loop {
        // What does not fit is cut off: nobody reads it.
        match recv(kernel.as_raw_fd(), &mut message, MsgFlags::empty()) {
            // The kernel had no room for some: something has changed then as well.
            Ok(_) | Err(Errno::ENOBUFS) => heard = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(heard),
            Err(error) => return Err(error.into()),
        }
    }
}
