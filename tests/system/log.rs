//! The log in a file of a disk that is full.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{disk::Disk, loopback, request, signal, wait_for};

#[test]
#[ignore = "needs root to mount a small file system"]
fn a_log_on_a_full_disk_stops_nothing_and_its_lines_are_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::mount(folder.path().join("disk"), "256k");
    let ip = loopback();
    let config = folder.path().join("labnet.toml");
    let text = format!("[http]\nlisten = \"{ip}:9167\"\n");
    fs::write(&config, &text).expect("written");
    let log = disk.path().join("log");
    let mut labnet = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["serve", "--config"])
        .arg(&config)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).expect("a file"))
        .spawn()
        .expect("labnet starts");
    let http = (ip, 9167).into();
    wait_for("readiness", || {
        (request(http, "GET", "/-/ready").0 == 200).then_some(())
    });
    let filler = disk.fill();
    let dropped = || {
        let (_, text) = request(http, "GET", "/metrics");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("labnet_log_lines_dropped_total "));
        value.expect("shown").parse::<f64>().expect("a number")
    };
    // Each is a line at least; the file's last page has some room.
    wait_for("lines that found no room", || {
        assert_eq!(request(http, "POST", "/-/reload").0, 200);
        (dropped() > 10.0).then_some(())
    });
    assert_eq!(request(http, "GET", "/-/ready").0, 200);
    fs::remove_file(filler).expect("removed");
    let before = fs::metadata(&log).expect("there").len();
    wait_for("lines again", || {
        assert_eq!(request(http, "POST", "/-/reload").0, 200);
        (fs::metadata(&log).expect("there").len() > before).then_some(())
    });
    let _filler = disk.fill();
    signal(labnet.id(), "TERM");
    let asked = Instant::now();
    assert_eq!(labnet.wait().expect("it ends").code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
}
