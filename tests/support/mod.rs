//! What the tests share: a running lab, requests to it, network namespaces.

// Every program uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

pub mod browser;
pub mod calm;
pub mod dashboard;
pub mod dhcp;
pub mod dial;
pub mod disk;
pub mod in_process;
pub mod lan;
pub mod probe;
pub mod service_manager;
pub mod stopped;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of 127/8 that no other test uses now: by process and by call, of which the last 190 are
/// told apart. On it the usual ports are free.
pub fn loopback() -> Ipv4Addr {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (n % 190) as u8, high, low)
}

/// How long a test waits for what should take no time, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running `labnet serve` with its files in a temporary folder. Killed and removed when dropped.
pub struct Lab {
    process: Child,
    dir: tempfile::TempDir,
    namespace: Option<String>,
    environment: Vec<(String, String)>,
    /// Whether it writes [`Lab::EVENTS`].
    observed: bool,
    log: Arc<Mutex<String>>,
    /// Its HTTP endpoints.
    pub http: SocketAddr,
}

impl Lab {
    /// Starts `labnet serve` on a configuration. `[http]` is added if it isn't there, on a
    /// [`loopback`] address. Relative paths are in the lab's folder: make the files with `files`.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[], None)
    }

    /// The same with files (path, contents) and in a network namespace.
    #[track_caller]
    pub fn start_with(config: &str, files: &[(&str, &str)], namespace: Option<&Namespace>) -> Self {
        Self::start_in(config, files, namespace, &[])
    }

    /// The same with variables in its environment.
    #[track_caller]
    pub fn start_in(
        config: &str,
        files: &[(&str, &str)],
        namespace: Option<&Namespace>,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::begin(config, files, namespace, environment, false)
    }

    /// Where a lab that is observed writes its events, in its folder.
    pub const EVENTS: &str = "events.jsonl";

    /// The same with `--events`.
    #[track_caller]
    pub fn start_observed(config: &str, files: &[(&str, &str)]) -> Self {
        Self::begin(config, files, None, &[], true)
    }

    #[track_caller]
    fn begin(
        config: &str,
        files: &[(&str, &str)],
        namespace: Option<&Namespace>,
        environment: &[(&str, &str)],
        observed: bool,
    ) -> Self {
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (path, contents) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("inside the folder")).expect("a folder");
            fs::write(path, contents).expect("a file");
        }
        let namespace = namespace.map(|namespace| namespace.name.clone());
        let mut config = config.to_owned();
        if !config.contains("[http]") {
            config += &format!(
                "\n[http]\nlisten = \"{}:9167\"\nfault_injection = true\n",
                loopback()
            );
        }
        fs::write(dir.path().join("labnet.toml"), config).expect("a file");
        let log = Arc::new(Mutex::new(String::new()));
        let (process, http) = spawn(
            dir.path(),
            namespace.as_deref(),
            &environment,
            observed,
            &log,
        );
        let lab = Self {
            process,
            dir,
            namespace,
            environment,
            observed,
            log,
            http,
        };
        if lab.namespace.is_none() {
            wait_for("the lab to be ready", || {
                (lab.get("/-/ready").0 == 200).then_some(())
            });
        }
        lab
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("labnet.toml")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits until it has logged this: what it tells elsewhere may be there first.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    /// What it has logged; as long as this is held, nobody reads what it logs now.
    pub fn hold_log(&self) -> MutexGuard<'_, String> {
        self.log.lock().expect("not poisoned")
    }

    /// `kill -9`, then the same lab again with the same files.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        let (process, http) = spawn(
            self.dir.path(),
            self.namespace.as_deref(),
            &self.environment,
            self.observed,
            &self.log,
        );
        self.process = process;
        self.http = http;
    }

    /// Its process id. In a namespace this is the id of labnet itself, too.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("a command name")
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        // The clock tick of every Linux that labnet runs on is 10 ms.
        Duration::from_millis(ticks * 10)
    }

    /// Sends SIGTERM and tells the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        signal(self.pid(), "TERM");
        self.process.wait().expect("it ends").code()
    }

    /// Its exit code once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.try_wait().expect("a child")?.code()
    }

    /// `GET path`: status code and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        request(self.http, "GET", path)
    }

    /// `POST path`: status code and body.
    pub fn post(&self, path: &str) -> (u16, String) {
        request(self.http, "POST", path)
    }

    /// The JSON that `GET path` answers.
    #[track_caller]
    pub fn json(&self, path: &str) -> serde_json::Value {
        let (code, body) = self.get(path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The value of one series of `/metrics`, named as it stands there, labels included; 0 if it
    /// isn't there.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        text.lines()
            .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .find_map(|value| value.parse().ok())
            .unwrap_or(0.0)
    }

    /// Where a component listens, by the status page: `protocol` is `udp`, `tcp` or `http`.
    #[track_caller]
    pub fn address(&self, component: &str, protocol: &str) -> SocketAddr {
        let status = self.json("/api/v1/status");
        let listens = status["components"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|entry| entry["name"] == component)
            .flat_map(|entry| entry["listens"].as_array().expect("a list").clone())
            .find_map(|listen| {
                let listen = listen.as_str()?;
                let address = listen
                    .strip_prefix(protocol)?
                    .trim_start_matches([' ', ':', '/'])
                    .trim_end_matches('/');
                address.parse().ok()
            });
        listens.unwrap_or_else(|| panic!("{component} listens on no {protocol}: {status}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            // The end is enough, and what failed stays in sight above it.
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the end of the lab's log\n{}\n---", last.join("\n"));
        }
    }
}

fn spawn(
    dir: &Path,
    namespace: Option<&str>,
    environment: &[(String, String)],
    observed: bool,
    log: &Arc<Mutex<String>>,
) -> (Child, SocketAddr) {
    let labnet = env!("CARGO_BIN_EXE_labnet");
    let mut command = match namespace {
        // `ip netns exec` becomes the command: no process in between.
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, labnet]);
            command
        }
        None => Command::new(labnet),
    };
    let mut process = command
        .args(["serve", "--config"])
        .arg(dir.join("labnet.toml"))
        .args(observed.then_some("--events"))
        .args(observed.then(|| dir.join(Lab::EVENTS)))
        .envs(environment.iter().cloned())
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let stderr = process.stderr.take().expect("piped");
    let (told, tell) = std::sync::mpsc::channel();
    let complaints = Arc::clone(log);
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut http = None;
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("http://")
                && line.contains(" http ")
            {
                // The first, if it listens on several.
                let first = rest.split('/').next().expect("split gives one at least");
                http = first.parse::<SocketAddr>().ok();
            }
            if line.contains("serving:")
                && let Some(http) = http
            {
                let _ = told.send(http);
            }
            let mut log = log.lock().expect("not poisoned");
            log.push_str(&line);
            log.push('\n');
        }
    });
    match tell.recv_timeout(PATIENCE) {
        Ok(http) => (process, http),
        Err(_) => {
            let _ = process.kill();
            let status = process.wait();
            // The reader of its log is at the end soon, now that it has no writer.
            thread::sleep(Duration::from_millis(50));
            let log = complaints.lock().expect("not poisoned");
            panic!("labnet did not start ({status:?}):\n{log}")
        }
    }
}

/// One HTTP request over a connection of its own: status code (0 if there is no answer) and body.
pub fn request(server: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let exchange = || -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // In one piece, as every client sends it.
        let question = format!(
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(question.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = if head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            dechunk(body)
        } else {
            body.to_owned()
        };
        Ok((code.unwrap_or(0), body))
    };
    exchange().unwrap_or_default()
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Sends a signal, by name, to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    run("kill", &[&format!("-{name}"), &pid.to_string()]);
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> u64 {
    status_kilobytes(pid, "VmRSS:") * 1024
}

/// The most resident memory a process has had, in bytes.
pub fn peak_resident(pid: u32) -> u64 {
    status_kilobytes(pid, "VmHWM:") * 1024
}

fn status_kilobytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a number")
}

/// Runs a program and takes its output; fails the test if it fails.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (tests/run installs what is needed)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs labnet itself to its end.
pub fn labnet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("labnet starts")
}

/// A program that is killed when dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts it, quiet.
    #[track_caller]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program}: {error} (tests/run installs what is needed)")
            });
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace of the test's own, removed when dropped. Needs root and iproute2.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes one, loopback up. `label` tells it from the test's others.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ln{}-{n}-{label}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// `ip -n NAME ...`
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    /// Runs a program inside to its end, whatever its end is.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("ip runs")
    }

    /// Starts a program inside that is killed when dropped.
    #[track_caller]
    pub fn start(&self, program: &str, arguments: &[&str]) -> Running {
        let mut all = vec!["netns", "exec", self.name.as_str(), program];
        all.extend_from_slice(arguments);
        Running::start("ip", &all)
    }

    /// A veth pair between this namespace and another, both ends up.
    #[track_caller]
    pub fn veth(&self, name: &str, other: &Namespace, other_name: &str) {
        self.ip(&[
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            other_name,
            "netns",
            &other.name,
        ]);
        self.ip(&["link", "set", name, "up"]);
        other.ip(&["link", "set", other_name, "up"]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// The IPv4 address of a socket address.
pub fn ipv4(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}
