//! What takes the log's lines off the threads that log: bounded, lossy, never blocking.

use std::{
    collections::TryReserveError,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;

/// So many bytes wait for their reader; what comes then is lost.
const CAPACITY: usize = 512 * 1024;
/// The lock is held for a copy of one line. Who holds it for longer was stopped in the middle (by a
/// debugger, say), and may be so for ever.
const LOCK_PATIENCE: Duration = Duration::from_millis(50);
/// Between two tries where nothing tells when to try again.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two writes to a full pipe that was set to tell so instead of to wait.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Takes lines, and has a thread of its own write them. Clones share the queue and the thread.
#[derive(Clone)]
pub(super) struct LogWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    /// Lines that found no room, and lines that could not be written.
    lost: IntCounter,
    /// Somebody waited for the lock in vain: until it is free again nobody else waits.
    jammed: AtomicBool,
}

struct Queue {
    /// Whole lines, to be written.
    text: Vec<u8>,
    /// Whether the thread is writing what it took from here.
    writing: bool,
}

impl LogWriter {
    /// Writes on standard error, past the lock that the standard library has on it: a write that
    /// nobody reads holds up neither a panic's message nor the end of the process.
    ///
    /// # Errors
    /// No descriptor, no memory or no thread is to be had.
    pub(super) fn to_stderr(lost: IntCounter) -> io::Result<Self> {
        Self::to(File::from(io::stderr().as_fd().try_clone_to_owned()?), lost)
    }

    fn to(to: impl Write + Send + 'static, lost: IntCounter) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                text: buffer()?,
                writing: false,
            }),
            news: Condvar::new(),
            lost,
            jammed: AtomicBool::new(false),
        });
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            to,
            torn: false,
            told: shared.lost.get(),
        };
        let batch = buffer()?;
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || worker.run(batch))?;
        Ok(Self(shared))
    }

    /// Takes a line, its end included, or loses it. Never waits for the reader.
    pub(super) fn take(&self, line: &[u8]) {
        let shared = &self.0;
        let taken = shared.lock(LOCK_PATIENCE).is_some_and(|mut queue| {
            let fits = queue.text.len() + line.len() <= CAPACITY;
            if fits {
                queue.text.extend_from_slice(line);
            }
            fits
        });
        if taken {
            shared.news.notify_one();
        } else {
            shared.lost.inc_by(lines(line));
        }
    }

    /// Waits until everything taken so far is written or lost, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        let start = Instant::now();
        while start.elapsed() < limit {
            match self.0.lock(LOCK_PATIENCE) {
                Some(queue) if queue.text.is_empty() && !queue.writing => return,
                _ => thread::sleep(PAUSE),
            }
        }
    }
}

impl Write for LogWriter {
    /// One call is one line: so the formatting layer has it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// The queue, unless it can't be had within `patience`.
    fn lock(&self, patience: Duration) -> Option<MutexGuard<'_, Queue>> {
        let start = Instant::now();
        loop {
            match self.queue.try_lock() {
                Ok(queue) => {
                    self.jammed.store(false, Ordering::Relaxed);
                    return Some(queue);
                }
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            if self.jammed.load(Ordering::Relaxed) {
                return None;
            }
            if start.elapsed() >= patience {
                self.jammed.store(true, Ordering::Relaxed);
                return None;
            }
            thread::yield_now();
        }
    }
}

struct Worker<W> {
    shared: Arc<Shared>,
    to: W,
    /// The last line was cut off by an error: the next one begins with a line's end.
    torn: bool,
    /// The lost lines that the log itself has told of.
    told: u64,
}

impl<W: Write> Worker<W> {
    fn run(&mut self, mut batch: Vec<u8>) {
        loop {
            let shared = Arc::clone(&self.shared);
            let queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = shared.news.wait_while(queue, |queue| {
                queue.writing = false;
                queue.text.is_empty()
            });
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            queue.writing = true;
            std::mem::swap(&mut queue.text, &mut batch);
            drop(queue);
            if self.write(&batch).is_ok() {
                self.tell();
            }
            batch.clear();
        }
    }

    /// Writes all of `text`. What an error keeps from being written is lost; the next text is tried
    /// anew, for a disk may have room again and a pipe a reader.
    fn write(&mut self, mut text: &[u8]) -> io::Result<()> {
        if self.torn {
            match self.to.write(b"\n") {
                Ok(1) => self.torn = false,
                _ => {
                    self.shared.lost.inc_by(lines(text));
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
        }
        let whole = text;
        while !text.is_empty() {
            let error = match self.to.write(text) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    text = &text[written..];
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                _ => {
                    let written = &whole[..whole.len() - text.len()];
                    self.torn = written.last().is_some_and(|last| *last != b'\n');
                    self.shared.lost.inc_by(lines(text));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Says in the log that lines are missing, now that it is read again.
    fn tell(&mut self) {
        let lost = self.shared.lost.get();
        if lost > self.told {
            let lines = lost - self.told;
            self.told = lost;
            tracing::warn!(lines, "log lines were lost: nobody took them");
        }
    }
}

/// Room for all that may wait, so that nobody allocates while the queue is locked.
fn buffer() -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    let reserved: Result<(), TryReserveError> = buffer.try_reserve_exact(CAPACITY);
    reserved.map_err(io::Error::other)?;
    Ok(buffer)
}

fn lines(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends.max(u64::from(!text.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, PipeReader, Read},
        sync::mpsc,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn counter() -> IntCounter {
        IntCounter::new("lost", "lost").expect("a name")
    }

    fn piped() -> (LogWriter, PipeReader, IntCounter) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let lost = counter();
        let log = LogWriter::to(writer, lost.clone()).expect("a thread");
        (log, reader, lost)
    }

    fn wait_for(what: &str, check: impl Fn() -> bool) {
        let start = Instant::now();
        while !check() {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            thread::sleep(PAUSE);
        }
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (log, reader, lost) = piped();
        for n in 0..1000 {
            log.take(format!("line {n}\n").as_bytes());
        }
        let lines: Vec<String> = BufReader::new(reader)
            .lines()
            .take(1000)
            .map(|line| line.expect("text"))
            .collect();
        assert!(
            lines
                .iter()
                .enumerate()
                .all(|(n, line)| *line == format!("line {n}"))
        );
        log.flush(PATIENCE);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_reader_that_sleeps_costs_lines_and_no_time_and_what_is_missing_is_counted() {
        let (log, mut reader, lost) = piped();
        let line = [&[b'x'; 99][..], b"\n"].concat();
        let start = Instant::now();
        let count = 20_000;
        for _ in 0..count {
            log.take(&line);
        }
        log.flush(Duration::from_millis(100));
        assert!(start.elapsed() < PATIENCE);
        assert!(lost.get() > 0);
        drop(log);
        let mut seen = 0;
        let mut buffer = vec![0; 1 << 16];
        while seen + lost.get() < count {
            let read = reader.read(&mut buffer).expect("a pipe");
            seen += lines(&buffer[..read]);
        }
        assert_eq!(seen + lost.get(), count);
    }

    #[test]
    fn nobody_reads_any_more() {
        let (log, reader, lost) = piped();
        drop(reader);
        for n in 1..=3 {
            log.take(b"to nobody\n");
            wait_for("the loss to be counted", || lost.get() == n);
        }
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_find_no_room_and_later_ones_are_whole() {
        /// Takes what `room` says, then fails; every failure is told.
        struct Disk {
            room: mpsc::Receiver<usize>,
            written: mpsc::Sender<Vec<u8>>,
        }
        impl Write for Disk {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                match self.room.recv().unwrap_or(usize::MAX).min(text.len()) {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    taken => {
                        let _ = self.written.send(text[..taken].to_vec());
                        Ok(taken)
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let ((room, has), (written, disk)) = (mpsc::channel(), mpsc::channel());
        let lost = counter();
        let to = Disk { room: has, written };
        let log = LogWriter::to(to, lost.clone()).expect("a thread");
        for taken in [4, 0] {
            room.send(taken).expect("the disk is there");
        }
        log.take(b"cut off\n");
        wait_for("the loss to be counted", || lost.get() == 1);
        drop(room);
        log.take(b"whole\n");
        log.flush(PATIENCE);
        let text: Vec<u8> = disk.try_iter().flatten().collect();
        assert_eq!(String::from_utf8_lossy(&text), "cut \nwhole\n");
        assert_eq!(lost.get(), 1);
    }

    #[test]
    fn a_thread_that_was_stopped_in_the_lock_stops_no_other() {
        let (log, reader, lost) = piped();
        let held = log.0.queue.lock().expect("not poisoned");
        thread::scope(|scope| {
            let others: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).for_each(|_| log.take(b"x\n"))))
                .collect();
            for other in others {
                other.join().expect("no panic");
            }
        });
        assert_eq!(lost.get(), 4000);
        drop(held);
        log.take(b"after\n");
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().expect("one").expect("text"), "after");
    }
}
