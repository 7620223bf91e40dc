use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use super::{Sockets, interface::missing_addresses, is_listening};

/// The TCP listeners of a role, in the order of its configuration. Cloning it is cheap.
#[derive(Clone, Default)]
pub struct TcpListeners(Arc<[Bound]>);

/// One of them.
#[derive(Clone)]
struct Bound {
    configured: SocketAddr,
    listener: Arc<TcpListener>,
}

/// An address that could not be listened on.
#[derive(Debug)]
pub struct NotBound {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for NotBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

impl TcpListeners {
    /// Listens on each of `addresses`: on the listener that `previous` has for it, if it still
    /// listens, or else on the one of `sockets`.
    ///
    /// # Errors
    /// The first address that nobody can listen on. What was bound for the others is closed again.
    pub fn bind(
        addresses: &[SocketAddr],
        previous: Option<&Self>,
        sockets: &Sockets,
    ) -> Result<Self, NotBound> {
        let bound = addresses.iter().map(|&address| {
            let kept = previous.and_then(|previous| {
                let mut bound = previous.0.iter();
                bound.find(|bound| bound.configured == address && is_listening(&bound.listener))
            });
            match kept {
                Some(kept) => Ok(kept.clone()),
                None => match sockets.tcp(address) {
                    Ok(listener) => Ok(Bound {
                        configured: address,
                        listener,
                    }),
                    Err(error) => Err(NotBound { address, error }),
                },
            }
        });
        Ok(Self(bound.collect::<Result<_, _>>()?))
    }

    /// Where they listen: a port that the configuration left open is known here.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|bound| {
            let local = bound.listener.local_addr();
            local.unwrap_or(bound.configured)
        })
    }

    /// Whether all of them still listen: somebody can close them from outside (`ss --kill`).
    pub fn are_open(&self) -> bool {
        self.iter().all(is_listening)
    }

    /// Of their addresses those that no interface has now, in words. The listeners are good, and
    /// serve again when the address comes.
    pub fn missing(&self) -> Vec<String> {
        missing_addresses(self.0.iter().map(|bound| bound.configured))
    }

    /// All listeners, to be held by others.
    pub fn all(&self) -> Vec<Arc<TcpListener>> {
        self.iter().cloned().collect()
    }

    /// The listeners themselves.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TcpListener>> {
        self.0.iter().map(|bound| &bound.listener)
    }
}
