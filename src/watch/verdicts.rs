//! A link's verdicts as lines of JSON: `labnet link --events FILE`. Their shape is in `docs/link.md`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    event::link::{Congestion, Loss, Observer, Outcome, Overtaken, Verdict},
    fates::Fate,
    steps::extended,
};

/// Lines that may wait for the file: a disk that is slow for longer loses some, never the link.
const WAITING: usize = 1 << 14;
/// How long a line waits for others before the file has it.
const LINGER: Duration = Duration::from_millis(200);
/// So many bytes of a packet's start are shown, which is more than stands in clear of a packet of the transport.
const SHOWN: usize = 24;

/// Writes each verdict that it hears to a file. The link's thread hands over what it says; words of it are
/// made where they are written.
#[derive(Debug)]
pub struct VerdictFile {
    heard: SyncSender<Heard>,
    /// How many verdicts found no room before the writer.
    lost: Arc<AtomicU64>,
}

/// What waits to be written.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are verdicts, and a box each would be made under the link's lock"
)]
enum Heard {
    Verdict {
        verdict: Verdict<'static>,
        /// The payload's length, and its first bytes.
        length: usize,
        start: [u8; SHOWN],
    },
    Overtaken(Overtaken<'static>),
    /// So many found no room here.
    Lost(u64),
}

/// Where times count from.
#[derive(Debug)]
struct Axis {
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
        let shown = file.display().to_string();
        let file = BufWriter::new(File::create(file)?);
        let (heard, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let (axis, missing) = (Axis::now(), Arc::clone(&lost));
        let writer = thread::Builder::new().name("verdicts".to_owned());
        let writing = writer.spawn(move || {
            write(&waiting, &missing, &axis, file).inspect_err(|error| {
                tracing::error!("{shown}: verdicts are missing from here on: {error}");
            })
        })?;
        Ok((Self { heard, lost }, Writing(writing)))
    }
}

impl Axis {
    fn now() -> Self {
        Self {
            began: Instant::now(),
            began_wall: SystemTime::now(),
        }
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
            "marked": passage.marked.map(Congestion::name),
            "corrupted": passage.corrupted,
            "duplicated": passage.duplicated,
        }),
        Outcome::Lost(loss) => json!({
            "burst": loss.in_a_row(),
            "tokens": match loss {
                Loss::Policed { tokens } => Some(tokens),
                _ => None,
            },
        }),
    };
    let congestion = Fate::of(verdict).congestion();
    let why = json!({
        "sojourn": congestion.and_then(Congestion::sojourn).map(|time| time.as_secs_f64()),
        "average": congestion.and_then(Congestion::average),
    });
    extended(extended(line, more), why)
}

impl VerdictFile {
    fn put(&self, heard: Heard) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.heard.try_send(Heard::Lost(lost)).is_ok() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if self.heard.try_send(heard).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for VerdictFile {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        let mut start = [0; SHOWN];
        let shown = start.iter_mut().zip(verdict.payload);
        shown.for_each(|(kept, byte)| *kept = *byte);
        self.put(Heard::Verdict {
            verdict: Verdict {
                payload: &[],
                ..*verdict
            },
            length: verdict.payload.len(),
            start,
        });
    }

    fn on_overtaken(&self, overtaken: &Overtaken<'_>) {
        self.put(Heard::Overtaken(Overtaken {
            payload: &[],
            ..*overtaken
        }));
    }
}

impl Heard {
    fn line(&self, axis: &Axis) -> Value {
        match self {
            Self::Verdict {
                verdict,
                length,
                start,
            } => {
                let verdict = Verdict {
                    payload: &start[..SHOWN.min(*length)],
                    ..*verdict
                };
                verdict_line(&verdict, *length, axis.times(verdict.offered))
            }
            Self::Overtaken(overtaken) => {
                let [time, steady] = axis.times(overtaken.arrived);
                json!({
                    "event": "overtaken",
                    "time": time,
                    "steady": steady,
                    "way": overtaken.way,
                    "number": overtaken.number,
                    "peer": overtaken.peer,
                    "packets": overtaken.packets,
                })
            }
            Self::Lost(verdicts) => json!({ "event": "lost", "verdicts": verdicts }),
        }
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

fn write(
    heard: &Receiver<Heard>,
    lost: &AtomicU64,
    axis: &Axis,
    mut file: impl Write,
) -> io::Result<()> {
    loop {
        match heard.recv_timeout(LINGER) {
            Ok(heard) => writeln!(file, "{}", heard.line(axis))?,
            Err(RecvTimeoutError::Timeout) => file.flush()?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Those after which none found room again.
    let lost = lost.load(Ordering::Relaxed);
    if lost > 0 {
        writeln!(file, "{}", Heard::Lost(lost).line(axis))?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::event::link::{Loss, Queue, Way};

    #[test]
    fn what_found_no_room_is_told_at_the_end_too() {
        let (heard, waiting) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let file = VerdictFile {
            heard,
            lost: Arc::clone(&lost),
        };
        let axis = Axis::now();
        for number in 0..10 {
            file.on_verdict(&Verdict {
                way: Way::Up,
                number,
                offered: axis.began,
                size: 60,
                payload: &[0xab; 32],
                peer: None,
                queue: Queue {
                    bytes: 0,
                    limit: 0,
                    rate: None,
                },
                outcome: Outcome::Lost(Loss::Random),
            });
        }
        drop(file);
        let mut out = Vec::new();
        write(&waiting, &lost, &axis, &mut out).expect("memory takes all");
        let lines: Vec<Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for (number, line) in lines[..2].iter().enumerate() {
            assert_eq!(
                (&line["event"], &line["number"]),
                (&json!("verdict"), &json!(number))
            );
            assert_eq!(line["starts"], "ab".repeat(SHOWN));
            assert_eq!(line["payload_bytes"], 32);
        }
        assert_eq!(lines[2], json!({ "event": "lost", "verdicts": 8 }));
    }
}
