//! Captures of the process's own traffic: into files that rotate, to whoever asks, and in a ring of
//! the last minutes that is written out when something happens.

mod ring;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus::{IntCounter, Opts};

pub use self::ring::Ring;
use super::{
    crossings::Waiting,
    event::{
        hub::{self, Batch, Closer, Subscription, Wants},
        packet::Role,
    },
    pcapng::Writer,
};
use crate::config;

/// `labnet_capture_dropped_total`: packets that are in no capture because it was too slow.
pub static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let opts = Opts::new(
        "labnet_capture_dropped_total",
        "Packets that a capture has missed because it was too slow",
    );
    // A fixed name and help make a counter.
    #[expect(clippy::expect_used, reason = "the name is valid")]
    IntCounter::with_opts(opts).expect("a valid name")
});

/// What is kept of a packet that carries a file's data, if nobody says how much.
pub const DATA_BYTES: usize = 128;
/// And of one that says something: a message, a signal, the head of an answer.
const MESSAGE_BYTES: usize = 2048;
/// What waits to be written, at most.
const QUEUE: usize = 16 << 20;
/// Packets gather for so long before they are written.
const LINGER: Duration = Duration::from_millis(20);
/// So often a capture looks whether somebody still wants it.
const LOOK: Duration = Duration::from_secs(1);

/// What a capture wants of each packet.
pub fn wants(roles: BTreeSet<Role>, data_bytes: usize) -> Wants {
    Wants {
        // No other role has a link before it.
        verdicts: roles.is_empty()
            || [Role::Rudp, Role::Client]
                .iter()
                .any(|of| roles.contains(of)),
        data_bytes,
        message_bytes: MESSAGE_BYTES.max(data_bytes),
        queue_bytes: QUEUE,
        linger: LINGER,
        roles,
        ..Wants::default()
    }
}

/// Captures into `out` until it breaks, `wanted` says no more, or nothing more comes. To be called in
/// a thread of its own.
///
/// # Errors
/// Those of `out`.
pub fn run<W: Write>(
    subscription: &Subscription,
    out: W,
    mut wanted: impl FnMut() -> bool,
) -> io::Result<()> {
    let mut writer = Writer::new(out)?;
    writer.flush()?;
    let (mut batch, mut known) = (Batch::default(), 0);
    let mut waiting = Waiting::default();
    while wanted() {
        let closed = subscription.is_closed();
        let more = subscription.read(&mut batch, LOOK);
        if more {
            waiting.put(std::mem::take(&mut batch), Instant::now());
        }
        while let Some(ready) = waiting.next(closed && !more, Instant::now()) {
            for packet in ready.packets() {
                writer.packet(&packet, waiting.crossings().of(&packet))?;
            }
            batch = ready;
        }
        writer.flush()?;
        if closed && !more {
            break;
        }
        known = count_lost(subscription, known);
    }
    writer.statistics(known)
}

fn count_lost(subscription: &Subscription, known: u64) -> u64 {
    let lost = subscription.lost().packets;
    DROPPED.inc_by(lost.saturating_sub(known));
    lost
}

/// What `[capture]` asks for, at work.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    config: config::Capture,
    ring: Option<Arc<Ring>>,
    /// Their threads end when these are closed.
    closers: Vec<Closer>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for closer in &self.closers {
            closer.close();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn running() -> MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows `[capture]`: at the start, with every reload, and with `None` at the end.
pub fn follow(config: Option<&config::Capture>) {
    let running = &mut *running();
    if running.as_ref().map(|running| &running.config) == config {
        return;
    }
    // A file that goes on is finished first.
    *running = None;
    *running = config.map(start);
}

fn start(config: &config::Capture) -> Running {
    let mut running = Running {
        config: config.clone(),
        ring: None,
        closers: Vec::new(),
        threads: Vec::new(),
    };
    let roles: BTreeSet<Role> = config
        .roles
        .iter()
        .filter_map(|name| Role::named(name))
        .collect();
    let mut begin = |name: &str, capture: Box<dyn FnOnce(Subscription) + Send>| {
        let subscription = hub::subscribe(wants(roles.clone(), config.data_bytes));
        running.closers.push(subscription.closer());
        let thread = thread::Builder::new().name(name.to_owned());
        match thread.spawn(move || capture(subscription)) {
            Ok(thread) => running.threads.push(thread),
            Err(error) => tracing::error!("no thread for [capture]: {error}"),
        }
    };
    if let Some(file) = &config.file {
        let files = Files {
            file: file.clone(),
            size: config.max_size,
            count: config.max_files,
        };
        let capture = move |subscription: Subscription| {
            if let Err(error) = files.capture(&subscription) {
                let file = files.file.display();
                tracing::error!("the capture into {file} has ended: {error}");
            }
        };
        begin("capture-file", Box::new(capture));
    }
    if config.ring > 0 {
        let ring = Arc::new(Ring::new(config.ring));
        let (kept, crashes) = (Arc::clone(&ring), config.crashes.clone());
        let capture = move |subscription: Subscription| kept.run(&subscription, &crashes);
        begin("capture-ring", Box::new(capture));
        running.ring = Some(ring);
    }
    running
}

/// The ring of the last minutes, if `[capture]` has one.
pub fn ring() -> Option<Arc<Ring>> {
    running().as_ref().and_then(|running| running.ring.clone())
}

/// Something has crashed, is stuck or was given up: the ring writes itself to a file in a moment.
pub fn crashed() {
    // A crash while the captures change is not waited for.
    if let Ok(running) = RUNNING.try_lock()
        && let Some(ring) = running.as_ref().and_then(|running| running.ring.as_ref())
    {
        ring.crashed();
    }
}

/// Files that rotate: `capture.pcapng` is the newest, `capture.1.pcapng` the one before.
struct Files {
    file: PathBuf,
    size: u64,
    count: usize,
}

impl Files {
    fn capture(&self, subscription: &Subscription) -> io::Result<()> {
        let (mut batch, mut known, mut told) = (Batch::default(), 0, 0);
        let mut writer = self.next()?;
        let mut waiting = Waiting::default();
        loop {
            let closed = subscription.is_closed();
            let more = subscription.read(&mut batch, LOOK);
            if more {
                waiting.put(std::mem::take(&mut batch), Instant::now());
            }
            while let Some(ready) = waiting.next(closed && !more, Instant::now()) {
                for packet in ready.packets() {
                    writer.packet(&packet, waiting.crossings().of(&packet))?;
                    if writer.bytes() >= self.size {
                        writer.statistics(known - told)?;
                        told = known;
                        writer = self.next()?;
                    }
                }
                batch = ready;
            }
            writer.flush()?;
            known = count_lost(subscription, known);
            if closed && !more {
                return writer.statistics(known - told);
            }
        }
    }

    /// The next file, and the oldest is gone.
    fn next(&self) -> io::Result<Writer<BufWriter<File>>> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        for number in (1..self.count).rev() {
            let older = self.numbered(number);
            let newer = if number == 1 {
                self.file.clone()
            } else {
                self.numbered(number - 1)
            };
            if newer.exists() {
                fs::rename(newer, older)?;
            }
        }
        Writer::new(BufWriter::new(File::create(&self.file)?))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        self.file.with_file_name(format!("{stem}.{number}.pcapng"))
    }
}
