use std::{
    io,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
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
    passed: Arc<Passing>,
}

#[derive(Debug, Default)]
struct Passing {
    written: AtomicU64,
    /// As it was at the connection's end.
    last: OnceLock<Passed>,
}

/// What has passed over a connection since it was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    /// Bytes written to its socket.
    pub written: u64,
    /// Of these the peer's kernel has not acknowledged so many.
    pub unacknowledged: u64,
    /// What the kernel has measured.
    pub info: TcpInfo,
}

impl Wire {
    pub(super) fn new(stream: &Arc<TcpStream>) -> Self {
        Self {
            stream: Arc::downgrade(stream),
            began: Arc::default(),
            passed: Arc::default(),
        }
    }

    /// So many bytes more were written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.passed
            .written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The connection ends now.
    pub(super) fn ends(&self) {
        if let Ok(passed) = self.measure() {
            // It ends once.
            let _ = self.passed.last.set(passed);
        }
    }

    /// What has passed by now, and whether that is all that ever will: the connection is over. `None`: that is
    /// not known of one that is.
    pub fn passed(&self) -> Option<(Passed, bool)> {
        // The end is looked for again after a measurement that failed: the connection may have ended meanwhile.
        let ended = || self.passed.last.get().map(|last| (*last, true));
        ended()
            .or_else(|| self.measure().ok().map(|passed| (passed, false)))
            .or_else(ended)
    }

    fn measure(&self) -> io::Result<Passed> {
        let stream = self.stream()?;
        Ok(Passed {
            written: self.passed.written.load(Ordering::Relaxed),
            unacknowledged: net::unacknowledged(&*stream)?,
            info: net::tcp_info(&*stream)?,
        })
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
