//! What `[capture]` asks for: prepared before the configuration is taken, at work from then on.

use std::{
    collections::BTreeSet,
    fmt, io, mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

use super::{Ring, files::Files, run, wants};
use crate::{
    config,
    watch::{
        event::{
            hub::{self, Closer, Subscription},
            packet::Role,
        },
        folder,
    },
};

/// One for the process, as the hub whose packets it captures.
static RUNNING: Mutex<Running> = Mutex::new(Running {
    config: None,
    ring: None,
    closers: Vec::new(),
    threads: Vec::new(),
    files_end: None,
});

#[derive(Default)]
struct Running {
    config: Option<config::Capture>,
    ring: Option<Arc<Ring>>,
    /// Of the threads of this configuration: they end once these are closed.
    closers: Vec<Closer>,
    /// Those of configurations before it, too, while they finish.
    threads: Vec<JoinHandle<()>>,
    /// Disconnected once the last that wrote files has finished them.
    files_end: Option<mpsc::Receiver<()>>,
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a `[capture]` can't be had.
#[derive(Debug)]
pub struct Refused {
    key: &'static str,
    problem: String,
}

impl Refused {
    fn new(key: &'static str, problem: impl fmt::Display) -> Self {
        let problem = problem.to_string();
        Self { key, problem }
    }

    fn at(key: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::new(key, format_args!("{}: {error}", path.display()))
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Captures that wait for [`Prepared::commit`]. Dropped, nothing has happened.
#[must_use]
pub struct Prepared(Option<Change>);

struct Change {
    config: Option<config::Capture>,
    ring: Option<Arc<Ring>>,
    threads: Vec<Starting>,
    /// Of the thread that writes files, if there is one.
    files_end: Option<mpsc::Receiver<()>>,
}

/// A thread that waits to begin, and ends if nobody says so.
struct Starting {
    begin: mpsc::Sender<Begin>,
    thread: JoinHandle<()>,
}

/// What a thread begins with.
struct Begin {
    subscription: Subscription,
    /// Those who write files before it, who finish theirs first.
    before: Option<mpsc::Receiver<()>>,
}

impl Starting {
    fn new(name: &str, capture: impl FnOnce(Begin) + Send + 'static) -> Result<Self, Refused> {
        let (begin, begun) = mpsc::channel();
        let spawned = super::spawn(name, move || {
            if let Ok(begin) = begun.recv() {
                capture(begin);
            }
        });
        let no_thread = |error| Refused::new("capture", format_args!("no thread for it: {error}"));
        let thread = spawned.map_err(no_thread)?;
        Ok(Self { begin, thread })
    }
}

/// Does all that can fail of what `[capture]` asks for, at the start and with every reload.
///
/// # Errors
/// What it asks for can't be had: its file, its folder, a thread.
pub fn prepare(config: Option<&config::Capture>) -> Result<Prepared, Refused> {
    if running().config.as_ref() == config {
        return Ok(Prepared(None));
    }
    let mut change = Change {
        config: config.cloned(),
        ring: None,
        threads: Vec::new(),
        files_end: None,
    };
    let Some(config) = config else {
        return Ok(Prepared(Some(change)));
    };
    if let Some(file) = config.file.clone() {
        let mut files = Files::prepare(&file, config)
            .map_err(|error| Refused::at("capture.file", &file, &error))?;
        let (end, files_end) = mpsc::channel();
        change.files_end = Some(files_end);
        let capture = move |begin: Begin| {
            let _end: mpsc::Sender<()> = end;
            if let Some(before) = begin.before {
                // Nothing is sent: it waits for the other end to be gone.
                let _ = before.recv();
            }
            let captured = files
                .begin()
                .and_then(|()| run(&begin.subscription, files, || true));
            if let Err(error) = captured {
                let file = file.display();
                tracing::error!("the capture into {file} has ended: {error}");
            }
        };
        change.threads.push(Starting::new("capture-file", capture)?);
    }
    if config.ring > 0 {
        let crashes = config.crashes.clone();
        folder::make(&crashes).map_err(|error| Refused::at("capture.ring", &crashes, &error))?;
        let ring = Arc::new(Ring::new(config.ring));
        let kept = Arc::clone(&ring);
        let capture = move |begin: Begin| kept.run(&begin.subscription, &crashes);
        change.threads.push(Starting::new("capture-ring", capture)?);
        change.ring = Some(ring);
    }
    Ok(Prepared(Some(change)))
}

impl Prepared {
    /// Captures as was prepared, and no longer as before. Waits for nobody: files that are under way are
    /// finished before the next begin.
    pub fn commit(self) {
        let Some(change) = self.0 else {
            return;
        };
        let running = &mut *running();
        running.closers.drain(..).for_each(|closer| closer.close());
        running.threads.retain(|thread| !thread.is_finished());
        let mut before = change
            .files_end
            .and_then(|end| running.files_end.replace(end));
        if let Some(config) = &change.config {
            let roles = config.roles.iter().filter_map(|name| Role::named(name));
            let wants = wants(roles.collect::<BTreeSet<_>>(), config.data_bytes);
            for Starting { begin, thread } in change.threads {
                let subscription = hub::subscribe(wants.clone());
                running.closers.push(subscription.closer());
                let before = before.take();
                // It waits for nothing else.
                let _ = begin.send(Begin {
                    subscription,
                    before,
                });
                running.threads.push(thread);
            }
        }
        running.ring = change.ring;
        running.config = change.config;
    }
}

/// Ends what `[capture]` had captured, and waits until its files are whole.
pub fn end() {
    let ended = mem::take(&mut *running());
    ended.closers.iter().for_each(Closer::close);
    for thread in ended.threads {
        // It panicked: the hook has said so.
        let _ = thread.join();
    }
}

/// The ring of the last minutes, if `[capture]` has one.
pub fn ring() -> Option<Arc<Ring>> {
    running().ring.clone()
}

/// Something has crashed, is stuck or was given up: the ring writes itself to a file in a moment.
pub fn crashed() {
    // A crash while the captures change is not waited for.
    if let Ok(running) = RUNNING.try_lock()
        && let Some(ring) = &running.ring
    {
        ring.crashed();
    }
}
