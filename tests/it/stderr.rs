//! What becomes of standard error and standard output is nobody's trouble: full devices, closed and
//! stalled pipes, terminals that go away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{loopback, probe::Addresses, request, signal, wait_for};

const DROPPED: &str = "labnet_log_lines_dropped_total";

/// A `labnet serve` whose standard error is what a test makes of it.
struct Service {
    process: Child,
    dir: tempfile::TempDir,
    addresses: Addresses,
}

impl Service {
    fn start(log: &str, stderr: impl Into<Stdio>) -> Self {
        Self::start_by(log, |labnet, dir| {
            let mut command = Command::new(labnet);
            command
                .args(["serve", "--config"])
                .arg(dir.join("labnet.toml"));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr);
            command
        })
    }

    /// Starts the command that `how` makes of the program and the configuration's folder.
    fn start_by(log: &str, how: impl FnOnce(&str, &Path) -> Command) -> Self {
        let addresses = Addresses(loopback());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ip = addresses.0;
        let page = format!("http://{ip}:8080/");
        let origin =
            format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"task2.pdf\"]\n[log]\n{log}");
        fs::write(
            dir.path().join("labnet.toml"),
            addresses.config(&page, &origin),
        )
        .expect("a file");
        fs::write(dir.path().join("example.com.zone"), addresses.zone()).expect("a file");
        let mut command = how(env!("CARGO_BIN_EXE_labnet"), dir.path());
        let process = command
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .spawn()
            .expect("labnet starts");
        let mut this = Self {
            process,
            dir,
            addresses,
        };
        wait_for("readiness", || {
            assert_eq!(
                this.process.try_wait().expect("a child"),
                None,
                "it has ended"
            );
            (this.get("/-/ready").0 == 200).then_some(())
        });
        this
    }

    fn http(&self) -> SocketAddr {
        self.addresses.at(9167)
    }

    fn get(&self, path: &str) -> (u16, String) {
        request(self.http(), "GET", path)
    }

    fn metric(&self, series: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    fn crash(&self, component: &str) {
        let path = format!("/api/v1/components/{component}/crash");
        let restarts = format!(
            "labnet_component_restarts_total{{component=\"{component}\",reason=\"panic\"}}"
        );
        let before = self.metric(&restarts);
        assert_eq!(request(self.http(), "POST", &path).0, 202);
        wait_for("the restart", || {
            (self.metric(&restarts) > before && self.get("/-/ready").0 == 200).then_some(())
        });
    }

    fn reload(&self, pid: u32) {
        let before = self.metric("labnet_config_generation");
        signal(pid, "HUP");
        wait_for("the reload", || {
            (self.metric("labnet_config_generation") > before).then_some(())
        });
    }

    fn answers(&self) {
        wait_for("an answer of dns", || {
            self.addresses.dns(Duration::from_secs(5)).then_some(())
        });
        wait_for("an answer of rudp", || {
            self.addresses.rudp(Duration::from_secs(5)).then_some(())
        });
        wait_for("an answer of dhcp", || {
            self.addresses.dhcp(Duration::from_secs(5)).then_some(())
        });
    }

    /// SIGTERM ends it, with success, in less than the time given by what supervises labnet.
    fn terminate(&mut self) {
        let pid = self.process.id();
        signal(pid, "TERM");
        let start = Instant::now();
        let status = wait_for("its end", || self.process.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(0));
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:?}",
            start.elapsed()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn full() -> File {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it")
}

/// The writing end of a pipe whose reader has gone away.
fn closed() -> PipeWriter {
    io::pipe().expect("a pipe").1
}

/// Every verb with all it may be asked that ends by itself, and its exit code where its output is
/// taken.
fn verbs(dir: &Path) -> Vec<(Vec<String>, i32)> {
    let nobody = format!("http://{}:9/", loopback());
    let (good, bad) = (dir.join("good.toml"), dir.join("bad.toml"));
    fs::write(&good, "[http]\n").expect("a file");
    fs::write(&bad, "[http]\nspeed = 1\n").expect("a file");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let server = format!("{}:9", loopback());
    let verbs: Vec<(Vec<&str>, i32)> = vec![
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["no-such-verb"], 2),
        (vec!["check", &good], 0),
        (vec!["check", &bad], 2),
        (vec!["check", "--json", &bad], 2),
        (vec!["serve", "--config", &bad], 2),
        (vec!["init", &good], 1),
        (vec!["man"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["status", "--url", &nobody], 1),
        (vec!["reload", "--url", &nobody], 1),
        (vec!["leases", "--url", &nobody], 1),
        (vec!["sessions", "--json", "--url", &nobody], 1),
        (
            vec!["link", "--listen", "127.0.0.1:9", "--to", "127.0.0.1:9"],
            2,
        ),
        (vec!["client", "--host", "..", "list"], 2),
        (
            vec![
                "client",
                "--server",
                &server,
                "--dhcp",
                &server,
                "prompt-has-no-such-verb",
            ],
            2,
        ),
    ];
    verbs
        .into_iter()
        .map(|(verb, code)| (verb.into_iter().map(str::to_owned).collect(), code))
        .collect()
}

#[test]
fn no_verb_panics_where_nobody_takes_what_it_says() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    type Make = fn() -> Stdio;
    let ends: [(&str, Make); 2] = [("full", || full().into()), ("closed", || closed().into())];
    for (verb, code) in verbs(dir.path()) {
        for (out_name, out) in ends {
            for (error_name, error) in ends {
                let status = Command::new(env!("CARGO_BIN_EXE_labnet"))
                    .args(&verb)
                    .env_remove("RUST_LOG")
                    .stdin(Stdio::null())
                    .stdout(out())
                    .stderr(error())
                    .status()
                    .expect("labnet starts");
                let context = format!("{verb:?}: stdout {out_name}, stderr {error_name}: {status}");
                // A full standard output is a failure where data was lost.
                let failed = out_name == "full" && status.code() == Some(1);
                assert!(status.code() == Some(code) || failed, "{context}");
            }
        }
    }
}

#[test]
fn a_full_device_takes_no_line_and_the_lab_serves() {
    let mut service = Service::start("", full());
    service.crash("dns");
    service.answers();
    assert!(service.metric(DROPPED) > 0);
    service.reload(service.process.id());
    service.terminate();
}

#[test]
fn a_pipe_whose_reader_goes_away_takes_no_line_and_the_lab_reloads() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut service = Service::start("", writer);
    // The beginning has come out.
    let mut first = [0; 16];
    reader.read_exact(&mut first).expect("a line");
    drop(reader);
    service.reload(service.process.id());
    wait_for("the loss to be counted", || {
        (service.metric(DROPPED) > 0).then_some(())
    });
    service.crash("rudp");
    service.answers();
    service.terminate();
}

/// Makes the lab talk until nothing more finds room.
fn stalled() -> (Service, PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let service = Service::start("level = \"trace\"\n", writer);
    wait_for("a line that finds no room", || {
        for _ in 0..50 {
            service.addresses.dns(Duration::from_secs(5));
        }
        (service.metric(DROPPED) > 0).then_some(())
    });
    (service, reader)
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody_not_even_the_end() {
    let (mut service, reader) = stalled();
    for component in ["dns", "rudp", "http"] {
        service.crash(component);
    }
    service.answers();
    service.reload(service.process.id());
    service.terminate();
    drop(reader);
}

#[test]
fn a_reader_that_wakes_up_reads_on_and_is_told_what_it_missed() {
    let (mut service, reader) = stalled();
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).expect("text");
        text
    });
    // What waited comes out first, then there is room again.
    wait_for("the log to flow", || {
        let before = service.metric(DROPPED);
        service.addresses.dns(Duration::from_secs(5));
        (service.metric(DROPPED) == before).then_some(())
    });
    service.answers();
    service.terminate();
    let text = text.join().expect("the reader");
    assert!(
        text.contains("log lines were lost"),
        "{}",
        &text[text.len().saturating_sub(2000)..]
    );
    assert!(
        text.lines()
            .last()
            .is_some_and(|line| line.ends_with("stopped"))
    );
}

#[test]
fn the_log_may_not_grow_and_the_lab_serves() {
    let mut service = Service::start_by("level = \"trace\"\n", |labnet, dir| {
        let mut command = Command::new("sh");
        let script = "ulimit -f 200; exec \"$0\" serve --config \"$1/labnet.toml\" 2>\"$1/log\"";
        command.args(["-c", script, labnet]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    });
    wait_for("a line that finds no room", || {
        for _ in 0..50 {
            service.addresses.dns(Duration::from_secs(5));
        }
        (service.metric(DROPPED) > 0).then_some(())
    });
    wait_for("an answer of dns", || {
        service.addresses.dns(Duration::from_secs(5)).then_some(())
    });
    service.terminate();
}

#[test]
fn a_terminal_that_goes_away_leaves_the_lab_running() {
    // util-linux' `script` has the terminal; labnet leads the session of it.
    let mut service = Service::start_by("", |labnet, dir| {
        let path = dir.display();
        let line = format!("echo $$ >{path}/pid; exec {labnet} serve --config {path}/labnet.toml");
        let mut command = Command::new("script");
        command.args(["--quiet", "--command", &line, "/dev/null"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    });
    let pid = fs::read_to_string(service.dir.path().join("pid")).expect("written");
    let pid: u32 = pid.trim().parse().expect("a number");
    let before = service.metric("labnet_config_generation");
    service.process.kill().expect("the terminal goes away");
    service.process.wait().expect("it has ended");
    wait_for("the reload by SIGHUP", || {
        (service.metric("labnet_config_generation") > before).then_some(())
    });
    service.crash("dns");
    service.answers();
    wait_for("the loss to be counted", || {
        (service.metric(DROPPED) > 0).then_some(())
    });
    service.reload(pid);
    signal(pid, "TERM");
    let proc = format!("/proc/{pid}");
    wait_for("its end", || {
        (!Path::new(&proc).exists() || is_zombie(&proc)).then_some(())
    });
}

/// Whether the process has ended, and its new parent has not asked how yet.
fn is_zombie(proc: &str) -> bool {
    fs::read_to_string(format!("{proc}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

#[test]
fn level_and_format_change_live_and_what_stands_above_them_stays() {
    let lab = crate::support::Lab::start("");
    let config = fs::read_to_string(lab.config()).expect("the file");
    let reload = |log: &str| {
        fs::write(lab.config(), format!("{config}\n[log]\n{log}\n")).expect("written");
        let (code, body) = lab.post("/-/reload");
        assert_eq!(code, 200, "{body}");
        let before = lab.log().len();
        lab.post("/api/v1/components/http/crash");
        wait_for("the restart", || {
            (lab.get("/-/ready").0 == 200).then_some(())
        });
        wait_for("what the crash says", || {
            let log = lab.log()[before..].to_owned();
            (log.contains("fault injection") || log_is_off(&log, &lab)).then_some(log)
        })
    };
    fn log_is_off(log: &str, lab: &crate::support::Lab) -> bool {
        log.is_empty()
            && fs::read_to_string(lab.config())
                .unwrap()
                .contains("\"off\"")
    }
    let text = reload("");
    assert!(
        text.contains("ERROR") && text.contains("will be restarted"),
        "{text}"
    );
    let text = reload("level = \"error\"");
    assert!(
        text.contains("ERROR") && !text.contains("will be restarted"),
        "{text}"
    );
    let text = reload("format = \"json\"");
    let line = text
        .lines()
        .find(|line| line.contains("fault injection"))
        .expect("the panic");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["level"], "ERROR");
    assert_eq!(reload("level = \"off\""), "");
    assert!(reload("").contains("will be restarted"));
}

#[test]
fn the_command_line_and_rust_log_stand_above_the_keys() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut service = Service::start_by("level = \"off\"\nformat = \"text\"\n", |labnet, dir| {
        // The service takes RUST_LOG out of its own environment alone.
        let mut command = Command::new("env");
        command.args([
            "RUST_LOG=info,labnet::packet=trace",
            labnet,
            "serve",
            "--log-format",
            "json",
        ]);
        command.arg("--config").arg(dir.join("labnet.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer);
        command
    });
    service.answers();
    // What is without effect is said beforehand, too.
    let file = service.dir.path().join("labnet.toml");
    let config = fs::read_to_string(&file).expect("the configuration");
    let changed = config
        .replace("level = \"off\"", "level = \"error\"")
        .replace("format = \"text\"", "format = \"json\"");
    fs::write(&file, changed).expect("a file");
    let url = format!("http://{}", service.http());
    let dry = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["reload", "--dry-run", "--url", &url])
        .output()
        .expect("labnet starts");
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(said.contains("effect: RUST_LOG is"), "{said}");
    assert!(said.contains("effect: --log-format is given"), "{said}");
    service.reload(service.process.id());
    service.answers();
    service.terminate();
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let says = |words: &str| {
        lines.iter().position(|line| {
            line["fields"]["message"]
                .as_str()
                .is_some_and(|text| text.contains(words))
        })
    };
    let reloaded = says("reloaded").expect("an info line");
    assert!(
        lines[reloaded..]
            .iter()
            .any(|line| line["target"] == "labnet::packet")
    );
    assert!(says("stopped").is_some());
}
