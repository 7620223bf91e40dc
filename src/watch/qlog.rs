//! A connection's trace as a qlog file, which the field's tools read and plot.
//!
//! One file a connection and side, named after the client's connection id, which both sides know:
//! `CID_client.sqlog` and `CID_server.sqlog`, a sequence of JSON texts (RFC 7464). Its times are
//! milliseconds since the connection began. The transport is not QUIC, but its packets, losses and
//! recovery are QUIC's, so it is told in QUIC's events:
//!
//! | step | draft 13 | 0.3 |
//! |---|---|---|
//! | a packet sent, received | `quic:packet_sent`, `quic:packet_received` | `transport:packet_sent`, `transport:packet_received` |
//! | acknowledged | `quic:packets_acked` | an `ack` frame of the packet received |
//! | lost, by which rule | `quic:packet_lost` | `recovery:packet_lost` |
//! | window, threshold, in flight, round trips, pacing | `quic:recovery_metrics_updated` | `recovery:metrics_updated` |
//! | the controller's phase | `quic:congestion_state_updated` | `recovery:congestion_state_updated` |
//! | datagram size, new address | `quic:mtu_updated`, `quic:tuple_assigned` | `generic:info` |
//! | late, not lost; events that are missing | `loglevel:info`, `loglevel:warning` | `generic:info`, `generic:warning` |
//!
//! A thread of its own writes. A connection never waits for it: what finds no room before it, on the disk
//! or in its file is lost, counted, and told in the file and the log.

mod words;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::words::Words;
use super::{
    dropped,
    event::transport::{Observer, Step},
    folder,
};

/// The bytes of one file at most.
pub const FILE_BYTES: u64 = 64 << 20;
/// The files of one run that are kept: the oldest makes room.
pub const FILES: usize = 64;

/// Steps that a connection hands over at once.
const BATCH: usize = 256;
/// A step waits for company no longer than this, if another follows.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Batches before the writer.
const QUEUE: usize = 256;
/// What a full file keeps for the words that say so.
const LAST_WORDS: u64 = 1024;

/// The version of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// draft-ietf-quic-qlog-main-schema-13.
    #[default]
    Draft13,
    /// 0.3 (draft 2), which qvis plots.
    V0_3,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Draft13, Self::V0_3];

    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft13 => "13",
            Self::V0_3 => "0.3",
        }
    }
}

/// Whose view a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who asked for the connection.
    Client,
    /// Who accepted it.
    Server,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What a file says of its connection.
#[derive(Debug, Clone)]
pub struct About {
    /// Whose view it is.
    pub side: Side,
    /// The client's connection id.
    pub cid: u64,
    /// The client's name.
    pub name: String,
    /// The other side.
    pub remote: SocketAddr,
    /// What controls the sending of this side.
    pub congestion: &'static str,
    /// When the connection began.
    pub began: Instant,
}

/// A folder of qlog files. Clones share it; the last one waits until all is written.
#[derive(Debug, Clone)]
pub struct Qlog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` once it ends.
    sender: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<()>>,
    next: AtomicU64,
    lost: Arc<AtomicU64>,
    unclosed: Unclosed,
}

/// Files whose [`Message::Close`] found no room.
type Unclosed = Arc<Mutex<Vec<u64>>>;

fn locked(unclosed: &Unclosed) -> MutexGuard<'_, Vec<u64>> {
    // Whole between any two calls.
    unclosed.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Message {
    Open(u64, Box<About>),
    Steps {
        file: u64,
        steps: Vec<(Instant, Step)>,
        /// Steps before these that found no room.
        lost: u64,
    },
    Close(u64),
    /// Asks to be told when all before it is written.
    Settle(SyncSender<()>),
}

impl Qlog {
    /// Makes the folder, if need be, and starts what writes into it.
    ///
    /// # Errors
    /// If there can be no such folder, nothing can be made in it, or no thread started.
    pub fn new(folder: &Path, version: Version) -> io::Result<Self> {
        folder::make(folder)?;
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let mut folder = Folder::new(folder, version);
        let (lost, unclosed) = (Arc::clone(&folder.lost), Arc::clone(&folder.unclosed));
        let writer = std::thread::Builder::new()
            .name("qlog".to_owned())
            .spawn(move || folder.run(&messages))?;
        Ok(Self(Arc::new(Inner {
            sender: Some(sender),
            writer: Some(writer),
            next: AtomicU64::new(0),
            lost,
            unclosed,
        })))
    }

    /// Begins the file of a connection; what it observes goes there.
    pub fn connection(&self, about: About) -> Recorder {
        let file = self.0.next.fetch_add(1, Ordering::Relaxed);
        let opened = self.0.send(Message::Open(file, Box::new(about)));
        Recorder {
            qlog: self.clone(),
            file,
            opened,
            steps: Vec::new(),
            lost: 0,
        }
    }

    /// Waits until what was handed over so far is written, or for `patience`.
    pub fn settle(&self, patience: Duration) {
        let (done, settled) = mpsc::sync_channel(1);
        if self.0.send(Message::Settle(done)) {
            // Whether it is done or has taken too long: nothing more can be done about it.
            let _ = settled.recv_timeout(patience);
        }
    }

    /// How many events were lost so far.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

fn count_lost(lost: &AtomicU64, events: u64) {
    lost.fetch_add(events, Ordering::Relaxed);
    dropped::QLOG.add(events);
}

impl Inner {
    fn count_lost(&self, events: u64) {
        count_lost(&self.lost, events);
    }

    fn send(&self, message: Message) -> bool {
        let sender = self.sender.as_ref();
        !sender.is_some_and(|sender| {
            matches!(
                sender.try_send(message),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // Its panic has been told by the hook.
            let _ = writer.join();
        }
    }
}

/// Observes one connection.
pub struct Recorder {
    qlog: Qlog,
    file: u64,
    /// Whether the writer knows of the file.
    opened: bool,
    steps: Vec<(Instant, Step)>,
    lost: u64,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("file", &self.file)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    fn flush(&mut self) {
        let steps = std::mem::replace(&mut self.steps, Vec::with_capacity(BATCH));
        let count = steps.len() as u64;
        let message = Message::Steps {
            file: self.file,
            steps,
            lost: self.lost,
        };
        if self.opened && self.qlog.0.send(message) {
            self.lost = 0;
        } else {
            self.lost += count;
            self.qlog.0.count_lost(count);
        }
    }
}

impl Observer for Recorder {
    fn on_step(&mut self, now: Instant, step: &Step) {
        self.steps.push((now, *step));
        let first = self.steps.first().map_or(now, |(at, _)| *at);
        if self.steps.len() == BATCH || now.saturating_duration_since(first) >= LONGEST_WAIT {
            self.flush();
        }
    }

    fn wants_packets(&self) -> bool {
        true
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.steps.is_empty() || self.lost > 0 {
            self.flush();
        }
        if !self.qlog.0.send(Message::Close(self.file)) {
            locked(&self.qlog.0.unclosed).push(self.file);
        }
    }
}

/// The writer's side.
struct Folder {
    path: PathBuf,
    version: Version,
    open: HashMap<u64, Trace>,
    /// The files of this run, the oldest first.
    made: VecDeque<PathBuf>,
    lost: Arc<AtomicU64>,
    unclosed: Unclosed,
    /// Of these files up to so many messages may still be in the queue.
    closing: Vec<(u64, usize)>,
    file_bytes: u64,
    files: usize,
}

/// One file.
struct Trace {
    file: File,
    path: PathBuf,
    /// The bytes that are whole events.
    good: u64,
    /// It is as large as it may be.
    full: bool,
    /// Events that are missing, and how many of them the file tells of.
    lost: u64,
    told: u64,
    /// Why the disk took none, told once.
    failure: Option<io::Error>,
    words: Words,
}

impl Folder {
    fn new(path: &Path, version: Version) -> Self {
        Self {
            path: path.to_owned(),
            version,
            open: HashMap::new(),
            made: VecDeque::new(),
            lost: Arc::default(),
            unclosed: Arc::default(),
            closing: Vec::new(),
            file_bytes: FILE_BYTES,
            files: FILES,
        }
    }

    fn run(&mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let unclosed = std::mem::take(&mut *locked(&self.unclosed));
            self.closing
                .extend(unclosed.into_iter().map(|file| (file, QUEUE)));
            match messages.recv_timeout(LONGEST_WAIT) {
                Ok(Message::Open(file, about)) => self.begin(file, &about),
                Ok(Message::Steps { file, steps, lost }) => self.write(file, &steps, lost),
                Ok(Message::Close(file)) => self.close(file),
                Ok(Message::Settle(done)) => {
                    // Who asked may have gone.
                    let _ = done.try_send(());
                }
                // Whatever was in the queue has been taken.
                Err(RecvTimeoutError::Timeout) => self.closing.iter_mut().for_each(|of| of.1 = 1),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.closing.iter_mut().for_each(|(_, left)| *left -= 1);
            let done: Vec<_> = self
                .closing
                .extract_if(.., |(_, left)| *left == 0)
                .collect();
            done.into_iter().for_each(|(file, _)| self.close(file));
        }
        for (_, trace) in std::mem::take(&mut self.open) {
            self.end(trace);
        }
    }

    fn close(&mut self, file: u64) {
        if let Some(trace) = self.open.remove(&file) {
            self.end(trace);
        }
    }

    fn begin(&mut self, file: u64, about: &About) {
        let name = format!("{:016x}_{}.sqlog", about.cid, about.side.name());
        let path = self.path.join(name);
        let mut words = Words::new(self.version, about.began);
        words.head(about);
        let made = File::create(&path).and_then(|mut file| {
            file.write_all(&words.out)?;
            Ok(file)
        });
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "qlog: no file for a connection");
                return;
            }
        };
        let good = words.out.len() as u64;
        words.out.clear();
        self.made.push_back(path.clone());
        while self.made.len() > self.files {
            if let Some(oldest) = self.made.pop_front() {
                // Somebody else may have removed it.
                let _ = fs::remove_file(oldest);
            }
        }
        let trace = Trace {
            file: made,
            path,
            good,
            full: false,
            lost: 0,
            told: 0,
            failure: None,
            words,
        };
        self.open.insert(file, trace);
    }

    fn write(&mut self, file: u64, steps: &[(Instant, Step)], lost: u64) {
        let Some(trace) = self.open.get_mut(&file) else {
            count_lost(&self.lost, steps.len() as u64);
            return;
        };
        trace.lost += lost;
        let missing = trace.lost - trace.told;
        if missing > 0 {
            trace.words.missing(missing);
        }
        for (now, step) in steps {
            trace.words.step(*now, step);
        }
        let taken = trace.put(self.file_bytes);
        if taken {
            trace.told = trace.lost;
        } else {
            trace.lost += steps.len() as u64;
            count_lost(&self.lost, steps.len() as u64);
        }
    }

    fn end(&mut self, mut trace: Trace) {
        trace.words.flush();
        if !trace.put(self.file_bytes) {
            trace.lost += 1;
            count_lost(&self.lost, 1);
        }
        if trace.lost > 0 {
            let failure = trace.failure.map(|error| error.to_string());
            let why = match failure {
                Some(error) => error,
                None if trace.full => format!("the file may have {} bytes", self.file_bytes),
                None => "the disk was too slow".to_owned(),
            };
            tracing::warn!(path = %trace.path.display(), events = trace.lost, %why, "qlog: events are missing");
        }
    }
}

impl Trace {
    /// Writes what the words have gathered, all of it or nothing.
    fn put(&mut self, most: u64) -> bool {
        let bytes = std::mem::take(&mut self.words.out);
        if bytes.is_empty() {
            return true;
        }
        if self.full {
            return false;
        }
        if self.good + bytes.len() as u64 + LAST_WORDS > most {
            self.full = true;
            self.words
                .warn("the file is as large as it may be: what follows is missing");
            let last = std::mem::take(&mut self.words.out);
            self.append(&last);
            return false;
        }
        self.append(&bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.good += bytes.len() as u64;
                true
            }
            Err(error) => {
                // Half an event would make the file unreadable.
                let back = self.file.set_len(self.good);
                let _ = back.and_then(|()| self.file.seek(SeekFrom::Start(self.good)));
                self.failure.get_or_insert(error);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
