//! The end by a signal, which drops nothing.

use std::{fs, process::Command, thread};

use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT and SIGTERM end this process's children and remove its namespaces first.
pub fn on_signals() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).expect("a handler"),
            signal(SignalKind::terminate()).expect("a handler"),
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        for child in children() {
            let _ = Command::new("kill").arg("-KILL").arg(child).status();
        }
        let prefix = format!("ln{}-", std::process::id());
        let listed = Command::new("ip").args(["netns", "list"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for name in listed.unwrap_or_default().lines() {
            let name = name.split_whitespace().next().unwrap_or_default();
            if name.starts_with(&prefix) {
                let _ = Command::new("ip").args(["netns", "del", name]).status();
            }
        }
        std::process::exit(130);
    });
}

/// The ids of the processes that this one has started.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let ids = list.split_whitespace().map(str::to_owned);
            ids.collect::<Vec<_>>()
        })
        .collect()
}
