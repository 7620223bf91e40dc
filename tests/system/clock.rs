//! The wall clock is set while the lab runs, by more than a year either way.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use crate::support::{labnet, loopback, probe::Addresses, request, signal, wait_for};

/// A lab whose wall clock is a file's; its monotonic clock is the machine's.
struct Lab {
    process: Child,
    dir: tempfile::TempDir,
    addresses: Addresses,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Lab {
    fn start() -> Self {
        let addresses = Addresses(loopback());
        let ip = addresses.0;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n");
        let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
        fs::write(dir.path().join("labnet.toml"), config).expect("a file");
        fs::write(dir.path().join("example.com.zone"), addresses.zone()).expect("a file");
        let clock = dir.path().join("clock");
        fs::write(&clock, "+0").expect("a file");
        let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|machine| format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("libfaketime (tests/run installs it)");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let process = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["serve", "--config"])
            .arg(dir.path().join("labnet.toml"))
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("labnet starts");
        let this = Self {
            process,
            dir,
            addresses,
        };
        wait_for("readiness", || {
            (request(this.addresses.at(9167), "GET", "/-/ready").0 == 200).then_some(())
        });
        this
    }

    /// Sets its clock to so many seconds from the machine's.
    fn set_clock(&self, offset: i64) {
        // In one step: a reader in between would find half a number.
        let new = self.dir.path().join("clock.new");
        fs::write(&new, format!("{offset:+}")).expect("a file");
        fs::rename(new, self.dir.path().join("clock")).expect("renamed");
    }

    /// What the head of a page says of the time.
    fn date(&self) -> SystemTime {
        let mut stream = TcpStream::connect(self.addresses.at(8080)).expect("the origin");
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let date = answer.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .starts_with("date: ")
                .then(|| &line[6..])
        });
        httpdate::parse_http_date(date.expect("a date")).expect("a date")
    }

    /// Every role does its work, and a reload does.
    #[track_caller]
    fn works(&self, when: &str) {
        let patience = Duration::from_secs(5);
        wait_for(&format!("dhcp, {when}"), || {
            self.addresses.dhcp(patience).then_some(())
        });
        wait_for(&format!("dns, {when}"), || {
            self.addresses.dns(patience).then_some(())
        });
        wait_for(&format!("signals, {when}"), || {
            self.addresses.rudp(patience).then_some(())
        });
        wait_for(&format!("the list, {when}"), || {
            self.addresses.scrap(patience)
        });
        let server = self.addresses.at(49152).to_string();
        let out = tempfile::tempdir().expect("a temporary folder");
        let output = labnet(&[
            "client",
            "--server",
            &server,
            "--dhcp",
            &self.addresses.at(6767).to_string(),
            "--via",
            "rudp",
            "--out",
            out.path().to_str().expect("UTF-8"),
            "get",
            "1MB.zip",
        ]);
        assert!(output.status.success(), "{when}: {output:?}");
        let (code, body) = request(self.addresses.at(9167), "POST", "/-/reload");
        assert_eq!(code, 200, "{when}: {body}");
        assert_eq!(
            request(self.addresses.at(9167), "GET", "/-/ready").0,
            200,
            "{when}"
        );
        assert_eq!(self.restarts(), 0, "{when}");
    }

    fn restarts(&self) -> u64 {
        let (_, body) = request(self.addresses.at(9167), "GET", "/api/v1/status");
        let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let components = status["components"].as_array().expect("a list");
        components
            .iter()
            .map(|component| component["restarts"].as_u64().expect("a number"))
            .sum()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- the lab's log\n{log}---");
        }
    }
}

#[test]
#[ignore = "needs libfaketime"]
fn a_clock_that_jumps_by_more_than_a_year_disturbs_nobody() {
    let mut lab = Lab::start();
    lab.works("before");
    let days = i64::try_from(400 * DAY.as_secs()).expect("small");
    for (when, offset) in [
        ("ahead", days),
        ("back", -days),
        ("ahead again", days),
        ("home", 0),
    ] {
        lab.set_clock(offset);
        lab.works(when);
        // What HTTP tells of the time is what the clock says now.
        let here = SystemTime::now();
        let there = if offset < 0 {
            here - 400 * DAY
        } else {
            here + DAY * u32::try_from(offset / 86_400).expect("small")
        };
        let date = lab.date();
        let apart = date
            .duration_since(there)
            .unwrap_or_else(|error| error.duration());
        assert!(
            apart < Duration::from_secs(60),
            "{when}: {date:?} for {there:?}"
        );
    }
    signal(lab.process.id(), "TERM");
    let status = wait_for("its end", || lab.process.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(0));
}
