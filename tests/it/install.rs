//! What a fresh machine has of labnet: `init`, `serve` without a file, `doctor`.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use crate::support::{loopback, request, signal, wait_for};

fn labnet(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    for variable in ["XDG_STATE_HOME", "STATE_DIRECTORY", "LABNET_STATE_DIR"] {
        command.env_remove(variable);
    }
    command
}

fn init(folder: &Path, arguments: &[&str]) -> Output {
    labnet(folder, &[&["init"], arguments].concat())
        .output()
        .expect("labnet runs")
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn init_writes_what_serves_and_overwrites_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    let first = init(folder, &["lab"]);
    assert!(first.status.success(), "{first:?}");
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for name in ["labnet.toml", "lan.toml", "zones/example.com.zone"] {
        let written = fs::read(folder.join("lab").join(name)).expect(name);
        assert_eq!(written, fs::read(conf.join(name)).expect(name), "{name}");
    }
    let check = labnet(folder, &["check", "lab/labnet.toml"]).output();
    assert!(check.expect("labnet runs").status.success());

    fs::write(folder.join("lab/labnet.toml"), "mine").expect("a file");
    fs::remove_file(folder.join("lab/zones/example.com.zone")).expect("a file");
    let second = init(folder, &["lab", "--json"]);
    assert!(second.status.success(), "{second:?}");
    let files: Vec<serde_json::Value> = serde_json::from_slice(&second.stdout).expect("JSON");
    for file in files {
        let path = file["path"].as_str().expect("a path");
        let expected = match path {
            "lab/zones/example.com.zone" => "written",
            _ => "kept",
        };
        assert_eq!(file["action"], expected, "{path}");
    }
    let mine = fs::read_to_string(folder.join("lab/labnet.toml"));
    assert_eq!(mine.expect("a file"), "mine");

    // Neither through a link that leads nowhere.
    fs::remove_file(folder.join("lab/lan.toml")).expect("a file");
    std::os::unix::fs::symlink("elsewhere", folder.join("lab/lan.toml")).expect("a link");
    assert!(init(folder, &["lab"]).status.success());
    assert!(!folder.join("lab/elsewhere").exists());

    // A place that can't be one is told.
    let refused = init(folder, &["lab/labnet.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("lab/labnet.toml/labnet.toml"));
}

/// The process, and its log that goes on.
struct Serving(Child, Lines<BufReader<ChildStderr>>);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `labnet serve` without a file, and what it has logged by the time it serves.
fn serve(folder: &Path, environment: &[(&str, &Path)], ip: Ipv4Addr) -> (Serving, String) {
    let mut child = labnet(folder, &["serve"])
        .envs(environment.iter().copied())
        .env("LABNET_HTTP__LISTEN", format!("{ip}:9167"))
        .env("LABNET_DHCP__LISTEN", "127.0.0.1:0")
        .env("LABNET_DNS__LISTEN", "127.0.0.1:0")
        .env("LABNET_RUDP__LISTEN", "127.0.0.1:0")
        .env("LABNET_SCRAP__LISTEN", format!("{ip}:49153"))
        .env("LABNET_ORIGIN__LISTEN", format!("{ip}:8080"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut serving = Serving(child, stderr.lines());
    let mut log = String::new();
    while let Some(line) = serving.1.next() {
        let line = line.expect("text");
        log += &line;
        log.push('\n');
        if line.contains("serving:") {
            return (serving, log);
        }
    }
    panic!("it did not start:\n{log}");
}

#[test]
fn without_a_file_the_built_in_configuration_serves_and_says_where_its_state_is() {
    assert!(
        !Path::new("/etc/labnet/labnet.toml").exists(),
        "a lab is installed here, which this test would start"
    );
    let dir = tempfile::tempdir().expect("a temporary folder");
    let home = dir.path().join("home");
    let service = dir.path().join("service");
    for (environment, state) in [
        (&[("HOME", &*home)][..], home.join(".local/state/labnet")),
        (
            &[("HOME", &*home), ("STATE_DIRECTORY", &*service)],
            service.clone(),
        ),
        (
            &[
                ("HOME", &*home),
                ("LABNET_STATE_DIR", Path::new("relative")),
            ],
            dir.path().join("relative"),
        ),
    ] {
        let ip = loopback();
        let (mut serving, log) = serve(dir.path(), environment, ip);
        let told = format!("state: {}\n", state.display());
        assert!(log.contains(&told), "no {told} in\n{log}");
        assert!(log.contains("labnet init"), "{log}");
        assert!(state.is_dir(), "{}", state.display());
        let http = (ip, 9167).into();
        wait_for("the lab to be ready", || {
            (request(http, "GET", "/-/ready").0 == 200).then_some(())
        });
        // There is nothing to reload, and a way out is told.
        let (code, answer) = request(http, "POST", "/-/reload");
        assert!(code >= 400 && answer.contains("labnet init"), "{answer}");
        signal(serving.0.id(), "TERM");
        assert!(serving.0.wait().expect("it ends").success());
    }
}

#[test]
fn a_file_in_the_usual_place_is_taken() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(dir.path().join("conf")).expect("a folder");
    fs::write(dir.path().join("conf/labnet.toml"), "[nonsense]\n").expect("a file");
    let output = labnet(dir.path(), &["serve"]).output();
    let output = output.expect("labnet runs");
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("conf/labnet.toml:1: nonsense"),
        "{complaint}"
    );
}

#[test]
fn without_any_place_for_state_it_says_what_to_set() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = labnet(dir.path(), &["serve"]).env_remove("HOME").output();
    let output = output.expect("labnet runs");
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("LABNET_STATE_DIR"), "{complaint}");
}

#[test]
fn what_is_wrong_with_the_built_in_one_names_no_file_that_is_not_there() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = labnet(dir.path(), &["serve"])
        .env("HOME", dir.path())
        .env("LABNET_SCRAP__LISTEN", "127.0.0.1:0")
        .output()
        .expect("labnet runs");
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(
        complaint.starts_with("(built-in labnet.toml):"),
        "{complaint}"
    );
}

/// `labnet doctor` on a lab of its own address: exit code and findings as `verdict check message`.
fn doctor(folder: &Path, config: &str) -> (Option<i32>, String) {
    fs::write(folder.join("labnet.toml"), config).expect("a file");
    let output = labnet(folder, &["doctor", "--json", "-c", "labnet.toml"]).output();
    let output = output.expect("labnet runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!(report["ok"], output.status.success());
    let lines = findings.iter().map(|finding| {
        let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        // What is no good always has something to do about it.
        assert_eq!(
            finding["advice"].is_string(),
            finding["verdict"] != "ok",
            "{finding}"
        );
        format!(
            "{} {} {}\n",
            word("verdict"),
            word("check"),
            word("message")
        )
    });
    (output.status.code(), lines.collect())
}

#[test]
fn the_doctor_finds_who_has_a_port_and_whether_the_lab_runs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let ip = loopback();
    let config = format!(
        "[http]\nlisten = \"{ip}:9167\"\n[rudp]\nlisten = \"{ip}:49152\"\n[scrap]\nlisten = \
         \"{ip}:49153\"\norigin = \"http://{ip}:8080/\"\n"
    );
    let (code, found) = doctor(dir.path(), &config);
    assert_eq!(code, Some(0), "{found}");
    for part in [
        "ok lab does not run now\n",
        "ok interfaces ",
        &format!("ok ports udp {ip}:49152 is free\n"),
        &format!("ok ports tcp {ip}:9167 is free\n"),
        " clock ",
        " descriptors ",
        " disk ",
    ] {
        assert!(found.contains(part), "no {part} in\n{found}");
    }

    // Somebody else has a port, then two.
    let udp = UdpSocket::bind((ip, 49152)).expect("loopback");
    let tcp = TcpListener::bind((ip, 49153)).expect("loopback");
    let (code, found) = doctor(dir.path(), &config);
    assert_eq!(code, Some(1), "{found}");
    let id = std::process::id();
    for part in [
        format!("problem ports udp {ip}:49152 is taken by process {id} ("),
        format!("problem ports tcp {ip}:49153 is taken by process {id} ("),
    ] {
        assert!(found.contains(&part), "no {part} in\n{found}");
    }
    drop((udp, tcp));

    let lab = crate::support::Lab::start(&config);
    let (code, found) = doctor(dir.path(), &config);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("ok lab runs (labnet "), "{found}");
    assert!(
        found.contains(&format!("ok ports udp {ip}:49152 is a running labnet's\n")),
        "{found}"
    );
    drop(lab);
}

#[test]
fn the_doctor_finds_what_state_and_addresses_lack() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("file"), "").expect("a file");
    let (code, found) = doctor(
        dir.path(),
        "state_dir = \"file/state\"\n[http]\nlisten = \"192.0.2.1:9167\"\n",
    );
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("problem disk state_dir: "), "{found}");
    assert!(
        found.contains("warning interfaces http.listen: "),
        "{found}"
    );
    assert!(
        !found.contains(" ports "),
        "an address that is not here has no port: {found}"
    );

    fs::write(dir.path().join("labnet.toml"), "[nonsense]\n").expect("a file");
    let output = labnet(dir.path(), &["doctor", "-c", "labnet.toml"]).output();
    let output = output.expect("labnet runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("labnet.toml:1: nonsense"));
}
