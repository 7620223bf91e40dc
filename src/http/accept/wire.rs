use std::{
    io,
    sync::{Arc, OnceLock, Weak},
};

use tokio::net::TcpStream;

use crate::net::{self, TcpInfo};

/// An accepted connection's socket, for who asks the kernel about it or has it send otherwise. It
/// keeps nothing open.
#[derive(Debug, Clone)]
pub struct Wire {
    stream: Weak<TcpStream>,
    /// The congestion control that the connection began with, once anybody has asked.
    began: Arc<OnceLock<String>>,
}

impl Wire {
    pub(super) fn new(stream: &Arc<TcpStream>) -> Self {
        Self {
            stream: Arc::downgrade(stream),
            began: Arc::default(),
        }
    }

    /// Has the connection sent on by the congestion control of this name, or (`None`) by the one that
    /// it began with. What really runs then: the kernel may refuse.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn control(&self, name: Option<&str>) -> io::Result<String> {
        let stream = self.stream()?;
        let runs = net::congestion(&*stream)?;
        let wanted = name.unwrap_or(self.began.get_or_init(|| runs.clone()));
        if wanted == runs {
            return Ok(runs);
        }
        if let Err(error) = net::set_congestion(&*stream, wanted) {
            tracing::debug!(%error, wanted, runs, "the congestion control stays as it is");
        }
        net::congestion(&*stream)
    }

    /// What the kernel has measured.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn info(&self) -> io::Result<TcpInfo> {
        net::tcp_info(&*self.stream()?)
    }

    fn stream(&self) -> io::Result<Arc<TcpStream>> {
        let gone = io::ErrorKind::NotConnected;
        self.stream.upgrade().ok_or_else(|| gone.into())
    }
}
