//! A process of the benchmark's: its lines as they come, its processor time, its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// A process that is killed when dropped. Its errors are the benchmark's.
pub struct Process {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

/// How a process has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its last line.
    pub last: String,
    /// When that came.
    pub at: Instant,
    /// All the processor time that it took, from its start.
    pub cpu: Duration,
    /// Its exit status.
    pub status: ExitStatus,
}

impl Process {
    /// Starts it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let (told, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Its process id. In a namespace this is the id of the program itself, too: `ip netns exec`
    /// becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line.
    #[track_caller]
    pub fn expect(&self, wanted: &str) {
        let line = self.lines.recv_timeout(super::support::PATIENCE);
        let (_, line) = line.unwrap_or_else(|_| panic!("no line {wanted:?}"));
        assert_eq!(line, wanted);
    }

    /// The next line and when it came, if one is there.
    pub fn try_line(&self) -> Option<(Instant, String)> {
        self.lines.try_recv().ok()
    }

    /// The processor time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        stat(self.pid()).1
    }

    /// Waits for its end; none if that doesn't come in time. `line` hears all its lines.
    pub fn end(mut self, patience: Duration, mut line: impl FnMut(Instant, &str)) -> Option<Ended> {
        let deadline = Instant::now() + patience;
        let (mut last, mut at) = (String::new(), Instant::now());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((then, text)) => {
                    line(then, &text);
                    (at, last) = (then, text);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
        // Nobody has waited for it: what it has used can still be read after its end.
        let cpu = loop {
            match stat(self.pid()) {
                ('Z', cpu) => break cpu,
                _ if Instant::now() > deadline => return None,
                _ => thread::sleep(Duration::from_millis(2)),
            }
        };
        let status = self.child.wait().expect("a child");
        Some(Ended {
            last,
            at,
            cpu,
            status,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// State and processor time of a process, its ended threads included (proc_pid_stat(5)).
fn stat(pid: u32) -> (char, Duration) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let after_name = stat.rsplit(')').next().expect("a name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u64>().expect("a number");
    // The clock tick of every Linux that labnet runs on is 10 ms.
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 10);
    (fields[0].chars().next().expect("a state"), cpu)
}

/// Processor time of a process so far.
pub fn cpu(pid: u32) -> Duration {
    stat(pid).1
}
