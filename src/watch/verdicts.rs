//! A link's verdicts as lines of JSON: `labnet link --events FILE`. Their shape is in `docs/link.md`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    event::link::{Observer, Outcome, Overtaken, Verdict},
    steps::extended,
};

/// Lines that may wait for the file: a disk that is slow for longer loses some, never the link.
const WAITING: usize = 1 << 14;
/// How long a line waits for others before the file has it.
const LINGER: Duration = Duration::from_millis(200);
/// So many bytes of a packet's start are shown, which is more than stands in clear of a packet of the transport.
const SHOWN: usize = 24;

/// Writes each verdict that it hears to a file.
#[derive(Debug)]
pub struct VerdictFile {
    lines: SyncSender<Value>,
    /// How many verdicts found no room before the writer.
    lost: AtomicU64,
    began: Instant,
    began_wall: SystemTime,
}

/// The writing of a [`VerdictFile`]; it ends when the file's last owner has dropped it.
#[derive(Debug)]
pub struct Writing(JoinHandle<io::Result<()>>);

impl VerdictFile {
    /// Makes `file` anew. Times in it count from now.
    ///
    /// # Errors
    /// The file can't be made, or the thread that writes it.
    pub fn create(file: &Path) -> io::Result<(Self, Writing)> {
        let file = BufWriter::new(File::create(file)?);
        let (lines, waiting) = sync_channel(WAITING);
        let writer = thread::Builder::new().name("verdicts".to_owned());
        let writing = writer.spawn(move || write(&waiting, file))?;
        let this = Self {
            lines,
            lost: AtomicU64::new(0),
            began: Instant::now(),
            began_wall: SystemTime::now(),
        };
        Ok((this, Writing(writing)))
    }

    /// The times of a line: by the wall clock since 1970, and since the file began.
    fn times(&self, at: Instant) -> [f64; 2] {
        let steady = at.saturating_duration_since(self.began);
        let wall = (self.began_wall + steady).duration_since(UNIX_EPOCH);
        [wall.unwrap_or_default().as_secs_f64(), steady.as_secs_f64()]
    }
}

/// A verdict's line; `length` is its payload's, which may be cut.
pub(super) fn verdict_line(
    verdict: &Verdict<'_>,
    length: usize,
    [time, steady]: [f64; 2],
) -> Value {
    let shown = verdict.payload.iter().take(SHOWN);
    let line = json!({
        "event": "verdict",
        "time": time,
        "steady": steady,
        "way": verdict.way,
        "number": verdict.number,
        "peer": verdict.peer,
        "bytes": verdict.size,
        "payload_bytes": length,
        "starts": shown.map(|byte| format!("{byte:02x}")).collect::<String>(),
        "queued_bytes": verdict.queue.bytes,
        "queue_limit": verdict.queue.rate.map(|_| verdict.queue.limit),
        "rate": verdict.queue.rate,
        "outcome": verdict.outcome.name(),
    });
    let more = match verdict.outcome {
        Outcome::Delivered(passage) => json!({
            "after": passage.total().as_secs_f64(),
            "queued": passage.queued.as_secs_f64(),
            "sending": passage.sending.as_secs_f64(),
            "travelled": passage.travelled.as_secs_f64(),
            "kept_behind": passage.kept_behind.as_secs_f64(),
            "held_back": passage.held_back.as_secs_f64(),
            "corrupted": passage.corrupted,
            "duplicated": passage.duplicated,
        }),
        Outcome::Lost(loss) => json!({ "burst": loss.in_a_row() }),
    };
    extended(line, more)
}

impl VerdictFile {
    fn put(&self, line: Value) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            let told = json!({ "event": "lost", "verdicts": lost });
            if self.lines.try_send(told).is_ok() {
                self.lost.fetch_sub(lost, Ordering::Relaxed);
            }
        }
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for VerdictFile {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        let times = self.times(verdict.offered);
        self.put(verdict_line(verdict, verdict.payload.len(), times));
    }

    fn on_overtaken(&self, overtaken: &Overtaken<'_>) {
        let [time, steady] = self.times(overtaken.arrived);
        self.put(json!({
            "event": "overtaken",
            "time": time,
            "steady": steady,
            "way": overtaken.way,
            "number": overtaken.number,
            "peer": overtaken.peer,
            "packets": overtaken.packets,
        }));
    }
}

impl Writing {
    /// Waits until everything is in the file.
    ///
    /// # Errors
    /// What kept lines out of it.
    pub fn end(self) -> io::Result<()> {
        let died = |_| Err(io::Error::other("the thread that writes it panicked"));
        self.0.join().unwrap_or_else(died)
    }
}

fn write(lines: &Receiver<Value>, mut file: impl Write) -> io::Result<()> {
    loop {
        match lines.recv_timeout(LINGER) {
            Ok(line) => writeln!(file, "{line}")?,
            Err(RecvTimeoutError::Timeout) => file.flush()?,
            Err(RecvTimeoutError::Disconnected) => return file.flush(),
        }
    }
}
