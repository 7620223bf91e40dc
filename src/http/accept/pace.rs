//! A connection that notices when its peer takes next to nothing.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{places::Place, wire::Wire};
use crate::net::StreamTap;

/// A peer that takes less than the least rate over so long is gone or means harm.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a peer that went on after a pause: it reads what its kernel holds, which tells of its progress
/// in lumps of up to 128 kB. At 10 kbit/s such a lump takes 105 seconds.
const PATIENCE_WITH_A_READER: Duration = Duration::from_secs(120);
/// So often a peer that has something to take is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The rule, without a socket and a clock.
#[derive(Debug)]
struct Pace {
    /// The start of the present measurement, and what had been taken by then.
    since: Instant,
    taken: u64,
    /// What had been taken at the last look, and whether that was more than at the one before.
    seen: u64,
    paused: bool,
    /// The answer went on after a pause.
    goes_on: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            taken: 0,
            seen: 0,
            paused: false,
            goes_on: false,
        }
    }

    /// Whether the peer is too slow, with `taken` bytes in all by `now`. It has to take
    /// `least` bytes a second for [`PATIENCE`] within its time, again and again; what it takes at once counts
    /// for one such time. What its kernel takes at the start, without anybody reading, is no sign
    /// of a reader.
    fn is_too_slow(&mut self, now: Instant, taken: u64, least: u64) -> bool {
        let moves = taken > self.seen;
        self.goes_on |= moves && self.paused;
        (self.seen, self.paused) = (taken, !moves);
        if taken.saturating_sub(self.taken) >= least * PATIENCE.as_secs() {
            (self.since, self.taken) = (now, taken);
        }
        let patience = if self.goes_on {
            PATIENCE_WITH_A_READER
        } else {
            PATIENCE
        };
        now.saturating_duration_since(self.since) >= patience
    }

    /// Something new is on its way to the peer, which has taken all before it.
    fn restart(&mut self, now: Instant, taken: u64) {
        (self.since, self.taken) = (now, taken);
        (self.seen, self.paused) = (taken, false);
    }
}

/// An accepted connection. Reading and writing fail with [`io::ErrorKind::TimedOut`] once the peer
/// has taken less of what is sent to it than the slowest line would carry.
pub struct PacedStream {
    stream: Arc<TcpStream>,
    tap: StreamTap,
    place: Arc<Place>,
    /// Who asks what has passed.
    wire: Wire,
    pace: Pace,
    /// Runs while there may be something that the peer has not taken.
    look: Option<Pin<Box<Sleep>>>,
    written: u64,
    /// The last write found the kernel's buffer full.
    full: bool,
}

impl PacedStream {
    pub(super) fn new(
        stream: Arc<TcpStream>,
        tap: StreamTap,
        place: Arc<Place>,
        wire: Wire,
    ) -> Self {
        Self {
            stream,
            tap,
            place,
            wire,
            pace: Pace::new(Instant::now()),
            look: None,
            written: 0,
            full: false,
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.wire.wrote(bytes);
        self.full = false;
        if self.look.is_none() {
            self.pace.restart(Instant::now(), self.taken());
            self.look = Some(Box::pin(sleep(LOOK)));
        }
    }

    /// What the peer's kernel has taken of what was written.
    fn taken(&self) -> u64 {
        let waiting = crate::net::unacknowledged(&*self.stream).unwrap_or(0);
        self.written.saturating_sub(waiting)
    }

    /// Called when there is nothing else to do than to wait for the peer.
    fn poll_pace(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        while let Some(look) = &mut self.look
            && look.as_mut().poll(task).is_ready()
        {
            let (now, taken) = (Instant::now(), self.taken());
            if taken == self.written && !self.full {
                self.look = None;
                break;
            }
            let least = self.place.limits().min_rate;
            if self.pace.is_too_slow(now, taken, least) {
                self.place.slow();
                // What it does not take would stay in the kernel.
                let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("took less than {least} bytes a second"),
                ));
            }
            self.look = Some(Box::pin(sleep(LOOK)));
        }
        Ok(())
    }

    fn waiting<T>(&mut self, task: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.poll_pace(task) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes as soon as the kernel may have room.
    fn poll_try(
        &self,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(task))?;
            let written = || Poll::Ready(write(&self.stream));
            match self.tap.write(slices, written) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn after_write(
        &mut self,
        task: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => {
                self.full = true;
                self.waiting(task)
            }
            Poll::Ready(written) => {
                if let Ok(bytes) = written {
                    self.wrote(bytes);
                }
                Poll::Ready(written)
            }
        }
    }
}

impl Drop for PacedStream {
    fn drop(&mut self) {
        self.wire.ends();
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.stream.poll_read_ready(task) {
                Poll::Pending => return self.waiting(task),
                Poll::Ready(ready) => ready?,
            }
            let before = buffer.filled().len();
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    let read = read.map(|_| ());
                    self.tap
                        .received(buffer.filled().get(before..).unwrap_or_default());
                    return Poll::Ready(read);
                }
            }
        }
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_try(task, &[io::IoSlice::new(bytes)], |stream| {
            stream.try_write(bytes)
        });
        self.after_write(task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_try(task, slices, |stream| stream.try_write_vectored(slices));
        self.after_write(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 10;

    /// Looks every [`LOOK`] at a peer that has taken `taken(seconds)` bytes; when it was too slow.
    fn given_up(taken: impl Fn(u64) -> u64) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (1..4 * 3600 / LOOK.as_secs())
            .map(|n| n * LOOK.as_secs())
            .find(|&seconds| {
                let now = start + Duration::from_secs(seconds);
                pace.is_too_slow(now, taken(seconds), LEAST)
            })
    }

    #[test]
    fn who_takes_next_to_nothing_is_given_up() {
        assert_eq!(given_up(|_| 0), Some(60));
        assert_eq!(given_up(|seconds| 9 * seconds), Some(60));
        // Much at first does not pay for later.
        assert_eq!(given_up(|_| 1 << 30), Some(65));
        assert_eq!(given_up(|seconds| seconds.min(600) * 1000), Some(660));
        // Nor does a pause.
        let late = |seconds| if seconds < 50 { 100_000 } else { 200_000 };
        assert_eq!(given_up(late), Some(170));
    }

    #[test]
    fn no_rate_is_no_bound() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for seconds in (5..3600).step_by(5) {
            let now = start + Duration::from_secs(seconds);
            assert!(!pace.is_too_slow(now, 0, 0));
        }
    }

    #[test]
    fn a_slow_line_is_borne() {
        const SLOW_LINE: u64 = 10_000 / 8;
        assert_eq!(given_up(|seconds| 11 * seconds), None);
        assert_eq!(given_up(|seconds| SLOW_LINE * seconds), None);
        // A slow reader on loopback, as it was measured: what its kernel says it has taken.
        let lumps = |seconds: u64| {
            let read = SLOW_LINE * seconds;
            match read {
                0..65_000 => 130_000,
                65_000..193_822 => 195_000,
                _ => 323_822 + (read - 193_822) / 95_232 * 95_232,
            }
        };
        assert_eq!(given_up(lumps), None);
    }
}
