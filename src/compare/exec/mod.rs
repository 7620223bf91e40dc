//! A congestion controller of somebody's own, in a process of its own: the program is told what a
//! controller of the library is told, a line of JSON each, and answers with its window. docs/controllers.md
//! is written for who writes one.
//!
//! | file | |
//! |---|---|
//! | `command` | what is to be run |
//! | `message` | the lines of both sides |
//! | `process` | the program: started, asked, ended |
//! | `waiting` | the controller in virtual time, which waits for each answer |
//! | `later` | the controller in real time, which goes on with the last window until an answer comes |
//! | `word` | words of a program that are kept as long as this process |

mod command;
mod later;
mod message;
mod process;
mod waiting;
mod word;

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use command::Exec;
use later::Later;
pub use process::Failure;
use process::Process;
use waiting::Waiting;

use crate::congestion::{Congestion, Controllers, Start};

/// How long a program may take to answer, by the clock, in virtual time, too: on a busy machine the
/// interpreter of a large language has begun by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A window that holds no packet: who has failed sends nothing more.
const NOTHING: u64 = 1;

/// In what time a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Nothing passes while the program thinks: each answer is waited for.
    Virtual,
    /// The connection goes on meanwhile.
    Real,
}

/// How often a program has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// So often in all.
    pub all: u64,
    /// So often later than a smoothed round trip after what it answers, the greeting apart.
    pub late: u64,
}

/// The program that controls one flow. It is started with the flow's connection at the latest, and has
/// ended when this is dropped. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Program(Arc<Shared>);

/// What the controller and who runs the flow have in common.
struct Shared {
    exec: Exec,
    /// By which it is spoken of.
    name: &'static str,
    time: Time,
    state: Mutex<State>,
    /// Somebody wants all to end.
    stop: Arc<AtomicBool>,
    /// The flow is over.
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Started, and not yet asked anything.
    ready: Option<Process>,
    failure: Option<Failure>,
    answers: Answers,
    /// Those that ask it.
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("exec", &self.exec)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Starts it. That it cannot be started is its [`failure`](Self::failure). `stop` ends what is waited for.
    pub fn new(exec: &Exec, time: Time, stop: Arc<AtomicBool>) -> Self {
        let shared = Shared {
            name: word::kept(exec.name()),
            exec: exec.clone(),
            time,
            state: Mutex::default(),
            stop,
            over: AtomicBool::new(false),
        };
        match Process::start(exec) {
            Ok(process) => shared.lock().ready = Some(process),
            Err(failure) => shared.fail(failure),
        }
        Self(Arc::new(shared))
    }

    /// Why it controls no more, if so.
    pub fn failure(&self) -> Option<String> {
        let state = self.0.lock();
        let failure = state.failure.as_ref()?;
        Some(format!("{}: {failure}", self.0.name))
    }

    /// How often it has answered.
    pub fn answers(&self) -> Answers {
        self.0.lock().answers
    }

    /// The flow is over: nothing more is waited for, and the program ends.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
        let mut state = self.0.lock();
        let (threads, ready) = (mem::take(&mut state.threads), state.ready.take());
        drop(state);
        drop(ready);
        for thread in threads {
            // It has nothing to say: what went wrong is written down.
            let _ = thread.join();
        }
    }
}

impl Controllers for Program {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn start(&self, start: &Start) -> Box<dyn Congestion> {
        // A second path has a program of its own, as it has a controller of its own.
        let process = match self.0.lock().ready.take() {
            Some(process) => Ok(process),
            None => Process::start(&self.0.exec),
        };
        let process = process.map_err(|failure| self.0.fail(failure)).ok();
        match self.0.time {
            Time::Virtual => Box::new(Waiting::new(Arc::clone(&self.0), process, start)),
            Time::Real => Box::new(Later::new(Arc::clone(&self.0), process, start)),
        }
    }

    fn has_failed(&self) -> bool {
        self.0.is_stopped() || self.0.lock().failure.is_some()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants an answer any more.
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.over.load(Ordering::Relaxed)
    }

    /// It controls no more. The first reason is the one that is told; an end that was wanted is none.
    fn fail(&self, failure: Failure) {
        if !self.is_stopped() {
            self.lock().failure.get_or_insert(failure);
        }
    }

    fn fail_words(&self, what: String) {
        self.fail(Failure::new(what));
    }

    fn answered(&self, late: bool) {
        let answers = &mut self.lock().answers;
        answers.all += 1;
        answers.late += u64::from(late);
    }
}
