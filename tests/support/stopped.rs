//! A thread of another process that does nothing: stopped by a debugger.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The ids of the process's threads of that name, the newest last.
pub fn threads(pid: u32, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut named: Vec<(u64, u32)> = tasks
        .flatten()
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            // proc_pid_stat(5): the second field is the name, the 22nd the time of the start. Ids begin
            // again at the lowest free one, and tell nothing of it.
            let (before, after) = stat.rsplit_once(") ")?;
            let (_, comm) = before.split_once('(')?;
            let started = after.split(' ').nth(19)?.parse().ok()?;
            let id = task.file_name().to_str()?.parse().ok()?;
            (comm == name).then_some((started, id))
        })
        .collect();
    named.sort_unstable();
    named.into_iter().map(|(_, id)| id).collect()
}

/// Stops a thread for so long; what it gives ends by itself then, and lets the thread go on when it is
/// told to end.
pub fn stop(thread: u32, time: Duration) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/stop_thread.py");
    let mut stopping = Command::new("python3")
        .args([script, &thread.to_string(), &time.as_secs_f64().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    let mut told = BufReader::new(stopping.stdout.take().expect("piped"));
    told.read_line(&mut line).expect("readable");
    assert_eq!(line.trim(), "stopped");
    stopping
}
