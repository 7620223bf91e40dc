//! Sockets that the service manager passes to the program and keeps for it: systemd's socket
//! activation (sd_listen_fds(3)) and its file descriptor store (sd_pid_notify_with_fds(3)).

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use socket2::{SockRef, Type};

use super::buffers::enlarge_buffers;

/// What a socket hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Udp(SocketAddr),
    /// A port of one interface.
    UdpOn(String, u16),
    Tcp(SocketAddr),
}

impl Place {
    /// What the store calls the socket; `index` tells those apart that share an address. A name in
    /// the store has no colon.
    fn name(&self, index: usize) -> String {
        format!("{self}-{index}").replace(':', "_")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp-{address}"),
            Self::UdpOn(interface, port) => write!(f, "udp-{interface}:{port}"),
            Self::Tcp(address) => write!(f, "tcp-{address}"),
        }
    }
}

/// A bound socket.
#[derive(Clone)]
pub(super) enum Bound {
    Udp(Arc<UdpSocket>),
    Tcp(Arc<TcpListener>),
}

impl Bound {
    pub(super) fn udp(self) -> Option<Arc<UdpSocket>> {
        match self {
            Self::Udp(socket) => Some(socket),
            Self::Tcp(_) => None,
        }
    }

    pub(super) fn tcp(self) -> Option<Arc<TcpListener>> {
        match self {
            Self::Tcp(listener) => Some(listener),
            Self::Udp(_) => None,
        }
    }

    fn downgrade(&self) -> Used {
        match self {
            Self::Udp(socket) => Used::Udp(Arc::downgrade(socket)),
            Self::Tcp(listener) => Used::Tcp(Arc::downgrade(listener)),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }

    /// Makes of a descriptor from outside what labnet's own sockets are.
    fn adopt(fd: OwnedFd) -> io::Result<(Place, Self)> {
        let socket = SockRef::from(&fd);
        let kind = socket.r#type()?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("has no IP address"))?;
        socket.set_nonblocking(true)?;
        if kind == Type::DGRAM {
            enlarge_buffers(&fd)?;
            let device = socket.device().ok().flatten();
            let device = device.and_then(|name| String::from_utf8(name).ok());
            let place = match device {
                Some(interface) => {
                    socket.set_broadcast(true)?;
                    Place::UdpOn(interface, address.port())
                }
                None => Place::Udp(address),
            };
            Ok((place, Self::Udp(Arc::new(fd.into()))))
        } else if kind == Type::STREAM && socket.is_listener()? {
            Ok((Place::Tcp(address), Self::Tcp(Arc::new(fd.into()))))
        } else {
            Err(io::Error::other("neither receives UDP nor listens on TCP"))
        }
    }
}

/// A socket that a role has, or had.
enum Used {
    Udp(Weak<UdpSocket>),
    Tcp(Weak<TcpListener>),
}

impl Used {
    fn socket(&self) -> Option<Bound> {
        match self {
            Self::Udp(socket) => socket.upgrade().map(Bound::Udp),
            Self::Tcp(listener) => listener.upgrade().map(Bound::Tcp),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Closed when this process ends.
    Nowhere,
    /// In the store.
    Stored,
    /// By a socket unit, whatever becomes of it here.
    ByUnit,
}

struct Passed {
    place: Place,
    index: usize,
    name: String,
    socket: Bound,
    kept: Kept,
}

struct Entry {
    name: String,
    socket: Used,
    kept: Kept,
}

/// The sockets that the service manager has passed, and those that it shall keep.
#[derive(Default)]
pub(super) struct Shelf {
    /// Nobody has asked for these yet.
    passed: Vec<Passed>,
    entries: Vec<Entry>,
}

impl Shelf {
    /// Takes what the service manager has passed; nothing the second time.
    pub(super) fn take() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let mut shelf = Self::default();
        if TAKEN.swap(true, Ordering::Relaxed) {
            return shelf;
        }
        let descriptors = match sd_notify::listen_fds_with_names() {
            Ok(descriptors) => descriptors,
            Err(error) => {
                tracing::warn!(%error, "sockets of the service manager are not taken");
                return shelf;
            }
        };
        for (fd, name) in descriptors {
            // SAFETY: systemd passes these descriptors open to this process alone (LISTEN_PID is its
            // id) to be owned by it, nothing else here knows them, and they are taken once.
            #[allow(unsafe_code)]
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            match Bound::adopt(fd) {
                Ok((place, socket)) => shelf.put(place, name, socket),
                Err(error) => {
                    tracing::warn!(name, %error, "a descriptor of the service manager is closed");
                }
            }
        }
        shelf
    }

    fn put(&mut self, place: Place, name: String, socket: Bound) {
        // What labnet stored itself is called as it would call it now.
        let index = name
            .strip_prefix(place.name(0).trim_end_matches('0'))
            .and_then(|index| index.parse().ok());
        let (index, kept) = match index {
            Some(index) => (index, Kept::Stored),
            None => (0, Kept::ByUnit),
        };
        let twice = |other: &Passed| other.place == place && other.index == index;
        if self.passed.iter().any(twice) {
            return;
        }
        self.passed.push(Passed {
            place,
            index,
            name,
            socket,
            kept,
        });
        self.passed.sort_by_key(|passed| passed.index);
    }

    /// The sockets that were passed for `place`, in the order in which they joined.
    pub(super) fn claim(&mut self, place: &Place) -> Vec<Bound> {
        let (claimed, others) = self
            .passed
            .drain(..)
            .partition(|passed| passed.place == *place);
        self.passed = others;
        let claimed: Vec<Passed> = claimed;
        claimed
            .into_iter()
            .map(|passed| {
                self.entries.push(Entry {
                    name: passed.name,
                    socket: passed.socket.downgrade(),
                    kept: passed.kept,
                });
                passed.socket
            })
            .collect()
    }

    /// Does `bind`, and once more if the address was only taken by what is in the store in vain.
    pub(super) fn bind<T>(&mut self, bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.release() => bind(),
            bound => bound,
        }
    }

    /// Notes that `socket` was bound for `place`.
    pub(super) fn note(&mut self, place: &Place, index: usize, socket: &Bound) {
        // What is neither used nor kept needs no more thought.
        self.entries
            .retain(|entry| entry.kept == Kept::Stored || entry.socket.socket().is_some());
        self.entries.push(Entry {
            name: place.name(index),
            socket: socket.downgrade(),
            kept: Kept::Nowhere,
        });
    }

    /// Closes what was passed and nobody wanted.
    pub(super) fn settle(&mut self) {
        for passed in std::mem::take(&mut self.passed) {
            tracing::warn!(
                name = passed.name,
                "the configuration has no use for the socket {} of the service manager: closed",
                passed.place
            );
            self.entries.push(Entry {
                name: passed.name,
                socket: passed.socket.downgrade(),
                kept: passed.kept,
            });
        }
    }

    /// Has the service manager keep what is used, and nothing else.
    pub(super) fn store(&mut self) {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        if let Err(error) = self.remove_unused() {
            tracing::debug!(%error, "systemd keeps sockets that are not used any more");
        }
        for entry in &mut self.entries {
            let Some(socket) = entry
                .socket
                .socket()
                .filter(|_| entry.kept == Kept::Nowhere)
            else {
                continue;
            };
            let state = [NotifyState::FdStore, NotifyState::FdName(&entry.name)];
            match sd_notify::notify_with_fds(&state, &[socket.fd()]) {
                Ok(()) => entry.kept = Kept::Stored,
                Err(error) => tracing::debug!(%error, "systemd does not keep {}", entry.name),
            }
        }
    }

    /// Takes out of the store what is not used any more, and waits until that has happened: its port
    /// is free then. Tells whether there was anything.
    pub(super) fn release(&mut self) -> bool {
        let released = self.remove_unused().and_then(|removed| {
            if removed {
                barrier()?;
            }
            Ok(removed)
        });
        released.unwrap_or_else(|error| {
            tracing::debug!(%error, "systemd keeps sockets that are not used any more");
            false
        })
    }

    fn remove_unused(&mut self) -> io::Result<bool> {
        let mut removed = false;
        let (used, unused): (Vec<Entry>, Vec<Entry>) = self
            .entries
            .drain(..)
            .partition(|entry| entry.socket.socket().is_some());
        self.entries = used;
        for entry in unused {
            if entry.kept != Kept::Stored {
                continue;
            }
            let name = NotifyState::FdName(&entry.name);
            sd_notify::notify(&[NotifyState::FdStoreRemove, name])?;
            removed = true;
            // With it went the socket that has been bound for the same place since.
            for namesake in &mut self.entries {
                if namesake.name == entry.name && namesake.kept == Kept::Stored {
                    namesake.kept = Kept::Nowhere;
                }
            }
        }
        Ok(removed)
    }
}

/// Waits until systemd has worked through all that it was told: sd_notify_barrier(3).
fn barrier() -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (read, write) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[write.as_fd()])?;
    drop(write);
    // The other copy is closed when it is read: then this end hangs up.
    let mut ends = [PollFd::new(read.as_fd(), PollFlags::empty())];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut ends, patience)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_store_takes_them() {
        for (place, name) in [
            (
                Place::Udp(([127, 0, 0, 1], 53).into()),
                "udp-127.0.0.1_53-2",
            ),
            (Place::UdpOn("lab0".into(), 67), "udp-lab0_67-2"),
            (
                Place::Tcp("[::1]:53".parse().expect("an address")),
                "tcp-[__1]_53-2",
            ),
        ] {
            assert_eq!(place.name(2), name);
        }
    }
}
