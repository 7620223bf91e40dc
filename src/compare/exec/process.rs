//! The program: started, asked, ended.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    mem,
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::{Exec, message::quoted};

/// The longest line that is read.
const MOST_LINE: usize = 64 << 10;
/// What it complained of last is kept so far, bytes.
const MOST_COMPLAINT: usize = 8 << 10;
/// And so many lines of it are told.
const COMPLAINTS: usize = 3;
/// How often it is looked whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end once there is nothing more to read, or it has written all.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a program controls no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    what: String,
    /// The last lines that it wrote to its standard error.
    complaints: Vec<String>,
}

impl Failure {
    pub(super) fn new(what: String) -> Self {
        Self {
            what,
            complaints: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.complaints.is_empty() {
            write!(f, "; its last words: {}", self.complaints.join(" | "))?;
        }
        Ok(())
    }
}

/// A program that runs, in a process group of its own; dropped, all of that group ends.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Closed, it has been told that there is nothing more.
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    error: Option<ChildStderr>,
    /// What it wrote and was not yet read as a line.
    heard: Vec<u8>,
    /// Up to there is no end of a line in it.
    searched: usize,
    complaint: Vec<u8>,
}

impl Process {
    /// Starts it.
    pub(super) fn start(exec: &Exec) -> Result<Self, Failure> {
        let started = Command::new(exec.program())
            .args(exec.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What it starts itself ends with it, and a Ctrl-C is for us alone: we end it.
            .process_group(0)
            .spawn();
        let mut child =
            started.map_err(|error| Failure::new(start_words(exec.program(), &error)))?;
        let mut this = Self {
            input: child.stdin.take(),
            output: child.stdout.take(),
            error: child.stderr.take(),
            child,
            heard: Vec::new(),
            searched: 0,
            complaint: Vec::new(),
        };
        match this.unblock() {
            Ok(()) => Ok(this),
            Err(error) => Err(this.failure(format!("its pipes: {error}"))),
        }
    }

    /// Nobody waits in a read or a write, but for all of them at once.
    fn unblock(&self) -> io::Result<()> {
        let pipes = [
            self.input.as_ref().map(AsFd::as_fd),
            self.output.as_ref().map(AsFd::as_fd),
            self.error.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            // They are the pipes' own ends: nobody else has these descriptions.
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(())
    }

    /// Writes `lines` and waits for the one line that it answers, which takes `patience` at the most.
    /// `None`: nobody wants it any more, as `is_stopped` says.
    pub(super) fn ask(
        &mut self,
        lines: &[u8],
        patience: Duration,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(line) = self.line()? {
            let quoted = quoted(&line);
            return Err(self.failure(format!(
                "it wrote {quoted} to its standard output without being asked: one answer a line, and what is for people to standard error"
            )));
        }
        let asked = Instant::now();
        let mut left = lines;
        loop {
            self.write(&mut left);
            if let Some(line) = self.line()? {
                return Ok(Some(line));
            }
            if self.output.is_none() {
                return Err(self.ended());
            }
            let waited = asked.elapsed();
            if is_stopped() {
                return Ok(None);
            }
            let Some(more) = patience.checked_sub(waited) else {
                let what = match left.is_empty() {
                    true => format!(
                        "it has not answered within {} s; does it flush its output after each line?",
                        patience.as_secs_f64()
                    ),
                    false => format!(
                        "it has not read what it is told for {} s",
                        patience.as_secs_f64()
                    ),
                };
                return Err(self.failure(what));
            };
            self.wait(!left.is_empty(), more.min(LOOK))
                .map_err(|error| self.failure(format!("waiting for it: {error}")))?;
            self.read();
        }
    }

    /// Writes what there is room for.
    fn write(&mut self, left: &mut &[u8]) {
        while !left.is_empty()
            && let Some(input) = &mut self.input
        {
            match input.write(left) {
                Ok(written) => *left = &left[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It reads no more, and may still answer: what it writes says how it goes on.
                Err(_) => {
                    self.input = None;
                    *left = &[];
                }
            }
        }
    }

    /// The next line that it has written, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let end = self.heard[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.heard.len();
            if self.searched > MOST_LINE {
                let quoted = quoted(&self.heard);
                return Err(self.failure(format!(
                    "it wrote a line of more than {MOST_LINE} bytes, which begins with {quoted}"
                )));
            }
            return Ok(None);
        };
        let rest = self.heard.split_off(end + 1);
        let mut line = mem::replace(&mut self.heard, rest);
        line.pop();
        self.searched = 0;
        Ok(Some(line))
    }

    /// Waits until it has written something, or has read if that is waited for.
    fn wait(&self, writing: bool, most: Duration) -> io::Result<()> {
        let mut waited: Vec<PollFd<'_>> = Vec::with_capacity(3);
        let input = self.input.as_ref().filter(|_| writing);
        let pipes = [
            (self.output.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (self.error.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (input.map(AsFd::as_fd), PollFlags::POLLOUT),
        ];
        for (pipe, for_what) in pipes {
            waited.extend(pipe.map(|pipe| PollFd::new(pipe, for_what)));
        }
        let most = PollTimeout::try_from(most.max(Duration::from_millis(1)));
        match poll(&mut waited, most.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what it has written; no more than a line too long at a time.
    fn read(&mut self) {
        read(&mut self.output, &mut self.heard, MOST_LINE);
        read(&mut self.error, &mut self.complaint, MOST_COMPLAINT);
        let surplus = self.complaint.len().saturating_sub(MOST_COMPLAINT);
        self.complaint.drain(..surplus);
    }

    /// It has closed its standard output: how it has ended, if it has.
    fn ended(&mut self) -> Failure {
        self.input = None;
        let until = Instant::now() + GOODBYE;
        loop {
            self.read();
            // It stays to be waited for: until then nobody else gets its number, which `end` kills by.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let how = match waitid(Id::Pid(self.pid()), flags) {
                Ok(WaitStatus::Exited(_, code)) => {
                    Some(format!("it ended with exit status {code}"))
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("{signal} ended it")),
                _ => None,
            };
            if let Some(how) = how {
                return self.failure(how);
            }
            if Instant::now() >= until {
                return self.failure("it closed its standard output".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What is wrong with it, and what it complained of.
    pub(super) fn failure(&mut self, what: String) -> Failure {
        // What it wrote a moment ago.
        self.read();
        let complaint = String::from_utf8_lossy(&self.complaint);
        let lines: Vec<&str> = complaint.lines().map(str::trim_end).collect();
        let lines = lines.into_iter().filter(|line| !line.trim().is_empty());
        let mut last: Vec<String> = lines
            .rev()
            .take(COMPLAINTS)
            .map(|line| line.trim().escape_debug().to_string())
            .collect();
        last.reverse();
        Failure {
            what,
            complaints: last,
        }
    }

    fn pid(&self) -> Pid {
        // The kernel's numbers fit: they are of this type there.
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nothing more to read: a program that hears it ends.
        self.input = None;
        let until = Instant::now() + GOODBYE;
        while self.output.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(false, left).is_err() {
                break;
            }
            self.heard.clear();
            self.read();
        }
        // Its children, too. It has not been waited for, so that the number is still its own.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Reads what there is, `most` at the most; at its end, or if it breaks, it is closed.
fn read(from: &mut Option<impl Read>, into: &mut Vec<u8>, most: usize) {
    let mut buffer = [0; 4096];
    let mut taken = 0;
    while let Some(pipe) = from
        && taken <= most
    {
        match pipe.read(&mut buffer) {
            Ok(0) => *from = None,
            Ok(read) => {
                into.extend_from_slice(&buffer[..read]);
                taken += read;
                if read < buffer.len() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *from = None,
        }
    }
}

/// Why a program cannot be started, and what would help.
fn start_words(program: &str, error: &io::Error) -> String {
    let is_there = Path::new(program).exists();
    let program = program.escape_debug();
    match error.kind() {
        ErrorKind::NotFound if is_there => {
            format!("{program} cannot be started: what its first line (`#!...`) names is not there")
        }
        ErrorKind::NotFound => format!("there is no program {program}"),
        ErrorKind::PermissionDenied => {
            format!("{program} may not be run: {error}; `chmod +x {program}` may help")
        }
        _ => format!("{program} cannot be started: {error}"),
    }
}
