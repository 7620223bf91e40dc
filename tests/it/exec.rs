//! Controllers of somebody's own, in a process of their own: what they reach, and what is told when they go
//! wrong.

#[path = "../../examples/aimd/controller.rs"]
mod controller;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use controller::Aimds;
use labnet::{
    compare::outcome::{Flow, Outcome},
    link::LinkOptions,
    rudp::congestion::Algorithm,
    simulation::{self, Observers, Simulated, Simulation},
};

const AIMD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/controllers/aimd.py");
/// Reads and writes its answers forever: a window of so many bytes.
const STEADY: &str = "while read -r line; do echo '{\"window\": 30000}'; done";

fn labnet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    command
}

fn compare(arguments: &[&str]) -> Output {
    let mut command = labnet(&["compare"]);
    command.args(arguments).output().expect("labnet starts")
}

fn outcome(output: &Output) -> Outcome {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).expect(&said)
}

fn flows(outcome: &Outcome) -> Vec<&Flow> {
    outcome.runs.iter().flat_map(|run| &run.flows).collect()
}

/// Programs in a folder that goes with it. They are run by `sh`: what is written and run at once may be busy.
struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The sender that runs it.
    fn sender(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("written");
        format!("exec:sh {}", self.path(name).display())
    }
}

/// Whether a process of this number, which a script has written down, is there still.
fn is_there(file: &Path) -> bool {
    let number = fs::read_to_string(file).expect("a number");
    let number = number.trim();
    assert!(!number.is_empty(), "no number");
    // What has ended and was not yet waited for is no process any more.
    let status = fs::read_to_string(format!("/proc/{number}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Somebody else's process has ended some time after its group was killed.
fn is_gone(file: &Path) {
    let until = Instant::now() + Duration::from_secs(20);
    while is_there(file) {
        assert!(Instant::now() < until, "{} is there still", file.display());
        thread::sleep(Duration::from_millis(10));
    }
}

/// The controller of the example, over the link of `compare`.
fn in_rust(link: &str, seed: u64) -> Simulated {
    let mut options = LinkOptions::default();
    options
        .set_list(&format!("rate=20mbit,delay=25ms,queue=125kB,{link}"))
        .expect("a link");
    let mut simulation = Simulation::new(options, options);
    simulation.time = Duration::from_secs(10);
    simulation.seed = seed;
    simulation.flows = vec![simulation::Flow::new(Algorithm::default())];
    simulation.controllers.insert(0, Arc::new(Aimds));
    simulation
        .run(Instant::now(), Observers::default())
        .expect("it can be run")
}

#[test]
#[ignore = "needs python3"]
fn the_controller_in_python_reaches_what_it_reaches_in_rust() {
    let sender = format!("exec:{AIMD}");
    for (option, value, seed) in [("loss", "0", 1), ("loss", "1", 2), ("jitter", "5ms", 3)] {
        let rust = in_rust(&format!("{option}={value}"), seed);
        let option = format!("--{option}");
        let number = seed.to_string();
        let output = compare(&[
            "--simulate",
            "--json",
            "--congestion",
            &sender,
            &option,
            value,
            "--seed",
            &number,
        ]);
        let python = outcome(&output);
        let flow = flows(&python)[0];
        assert_eq!(flow.failure, None);
        assert_eq!(flow.name, "exec:aimd.py");
        let (rust, sent) = (&rust.flows[0], rust.flows[0].sender.expect("connected"));
        let totals = &flow.totals;
        let window = flow.trace.window_bytes.values.last().copied();
        for (what, python, rust) in [
            ("bytes", totals.goodput_bytes as f64, rust.received as f64),
            ("window", window.expect("a window"), sent.window as f64),
            (
                "lost",
                totals.packets_lost_seen.expect("counted") as f64,
                sent.packets_lost as f64,
            ),
        ] {
            // The same whole numbers all the way: not two in a hundred, but none.
            assert_eq!(python, rust, "{what} with {option} {value}");
        }
        assert!(rust.received > 1_000_000, "{}", rust.received);
        assert_eq!(totals.program_answers_late, Some(0));
        assert!(totals.program_answers > Some(500), "{totals:?}");
    }
}

#[test]
#[ignore = "needs python3"]
fn a_program_s_run_is_the_same_every_time_and_told_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.html").display().to_string();
    let sender = format!("cubic,exec:{AIMD}");
    let arguments = [
        "--simulate",
        "--json",
        "--congestion",
        &sender,
        "--together",
        "--loss",
        "1",
        "--time",
        "5s",
        "--seed",
        "7",
        "--out",
        &report,
        "--svg",
        &folder.path().display().to_string(),
    ];
    let (first, second) = (compare(&arguments), compare(&arguments));
    assert!(first.status.success(), "{first:?}");
    assert!(first.stdout == second.stdout, "two runs differ");
    let outcome = outcome(&first);
    let flow = flows(&outcome)[1];
    let phases: Vec<&str> = flow
        .trace
        .phases
        .iter()
        .map(|phase| phase.name.as_str())
        .collect();
    assert!(phases.ends_with(&["slow_start", "avoidance"]), "{phases:?}");
    assert!(!flow.trace.ssthresh_bytes.is_empty());
    // A loss is answered with half the window, and that is what is said.
    let cuts = &flow.trace.cuts;
    assert!(cuts.len() > 3, "{cuts:?}");
    for cut in cuts {
        assert!(
            cut.after_bytes.abs_diff(cut.before_bytes / 2) < 2944,
            "{cut:?}"
        );
        for part in ["aimd.py set the window from ", "was declared lost by"] {
            assert!(cut.words.contains(part), "{cut:?}");
        }
    }
    let controllers = &outcome.environment.controllers;
    assert_eq!(controllers[1].sender, "exec:aimd.py");
    assert!(
        controllers[1].version.contains("aimd.py (SHA-256 "),
        "{controllers:?}"
    );
    assert!(outcome.experiment.command.contains(&sender));
    let html = fs::read_to_string(&report).expect("a report");
    for part in [
        "exec:aimd.py answered ",
        "SHA-256",
        "aimd.py set the window from",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let plots = fs::read_to_string(folder.path().join("plots.svg")).expect("plots");
    assert!(plots.contains("exec:aimd.py"));
}

#[test]
fn what_goes_wrong_with_a_program_is_its_sender_s_failure() {
    let scripts = Scripts::new();
    let (leader, child) = (scripts.path("leader"), scripts.path("child"));
    let hangs = format!(
        "sleep 1000 & echo $! > '{}'; echo $$ > '{}'; while :; do wait; done",
        child.display(),
        leader.display()
    );
    let bad = [
        (
            "exits.sh",
            "echo 'no module named maths' >&2; exit 3",
            "it ended with exit status 3; its last words: no module named maths",
        ),
        (
            "dies.sh",
            "read -r line; echo '{\"window\": 30000}'; kill -9 $$",
            "SIGKILL ended it",
        ),
        (
            "hangs.sh",
            &hangs,
            "it has not answered within 10 s; does it flush",
        ),
        (
            "rubbish.sh",
            "while read -r line; do echo hello; done",
            "it answered `hello` to `hello`: expected value",
        ),
        (
            "long.sh",
            "tr '\\0' x < /dev/zero",
            "it wrote a line of more than 65536 bytes, which begins with `xxxx",
        ),
        (
            "zero.sh",
            "while read -r line; do echo '{\"window\": 0}'; done",
            "a window of 0 bytes holds no datagram",
        ),
        (
            "below.sh",
            "while read -r line; do echo '{\"window\": -30000}'; done",
            "a window of -30000 bytes holds no datagram",
        ),
        (
            "absurd.sh",
            "while read -r line; do echo '{\"window\": 1e30}'; done",
            "beyond all paths",
        ),
        (
            "twice.sh",
            "while read -r line; do printf '{\"window\": 30000}\\nhere\\n'; done",
            "without being asked",
        ),
        (
            "closes.sh",
            "exec >&-; sleep 1000",
            "it closed its standard output",
        ),
    ];
    let mut senders: Vec<String> = vec!["cubic".to_owned(), "exec:/no/such/mine.py".to_owned()];
    senders.push(format!("exec:{}", scripts.path("exits.sh").display()));
    senders.extend(bad.iter().map(|(name, text, _)| scripts.sender(name, text)));
    let output = compare(&[
        "--simulate",
        "--json",
        "--time",
        "2s",
        "--congestion",
        &senders.join(","),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let outcome = outcome(&output);
    let flows = flows(&outcome);
    assert_eq!(flows.len(), senders.len());
    assert_eq!((flows[0].failure.as_ref(), flows[0].finished), (None, true));
    let parts = ["there is no program /no/such/mine.py", "may not be run"];
    let parts = parts
        .into_iter()
        .chain(bad.iter().map(|(_, _, part)| *part));
    for (flow, part) in flows[1..].iter().zip(parts) {
        let failure = flow.failure.as_deref().expect(part);
        assert!(failure.contains(part), "{}: {failure}", flow.name);
        assert!(!flow.finished);
        assert!(
            failure.lines().count() == 1 && failure.len() < 400,
            "{failure}"
        );
    }
    is_gone(&leader);
    is_gone(&child);
}

/// Starts a comparison and waits until the program of it has written its number down.
fn begun(arguments: &[&str], file: &Path) -> Child {
    let child = labnet(&["compare", "--json"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(file).map_or(true, |text| !text.ends_with('\n')) {
        assert!(Instant::now() < until, "no program began");
        thread::sleep(Duration::from_millis(10));
    }
    child
}

fn interrupt(child: &Child) {
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
}

#[test]
fn whoever_interrupts_a_comparison_leaves_no_program_behind() {
    let scripts = Scripts::new();
    for (how, name) in [("--simulate", "virtual"), ("--together", "real")] {
        let file = scripts.path(name);
        // It answers once, and never again.
        let text = format!(
            "trap '' TERM INT HUP\nread -r line; echo '{{\"window\": 30000}}'; echo $$ > '{}'; while :; do sleep 1; done",
            file.display()
        );
        let sender = scripts.sender(&format!("{name}.sh"), &text);
        let begun = begun(&[how, "--size", "100MB", "--congestion", &sender], &file);
        interrupt(&begun);
        let output = begun.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some(), "{how}: {output:?}");
        let outcome: Outcome = serde_json::from_slice(&output.stdout).expect(&said);
        assert_eq!(flows(&outcome).len(), 1);
        is_gone(&file);
    }
}

#[test]
fn only_the_command_line_runs_a_program() {
    let scripts = Scripts::new();
    let marker = scripts.path("was-run");
    let sender = scripts.sender("mark.sh", &format!("touch '{}'", marker.display()));
    let file = scripts.path("experiment.toml");
    let name = file.display().to_string();
    for (key, extra) in [
        ("congestion", ""),
        ("flows", ""),
        ("against", "congestion = \"cubic\"\n"),
    ] {
        fs::write(
            &file,
            format!("simulate = true\n{extra}{key} = \"{sender}\"\n"),
        )
        .expect("written");
        let output = compare(&[&name]);
        assert_eq!(output.status.code(), Some(2), "{key}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("{key}: ")), "{said}");
        assert!(
            said.contains("runs a program, and a file may not ask for that"),
            "{said}"
        );
    }
    // It may be said beside a file.
    fs::write(&file, "simulate = true\ntime = \"1s\"\n").expect("written");
    let output = compare(&["--congestion", &sender, &name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(marker.exists());
    fs::remove_file(&marker).expect("it is there");
    let config = scripts.path("labnet.toml");
    let text = format!("[rudp]\nlisten = \"127.0.0.1:0\"\ncongestion = \"{sender}\"\n");
    fs::write(&config, text).expect("written");
    let config = config.display().to_string();
    for arguments in [
        &["check", &config][..],
        &["serve", "-c", &config],
        &["client", "get", "--congestion", &sender],
        &["demo", "--congestion", &sender],
    ] {
        let output = labnet(arguments).output().expect("labnet starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        // `check` tells on standard output what is wrong.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("exec:") && said.contains("cubic"), "{said}");
    }
    assert!(!marker.exists());
}

#[test]
fn two_programs_of_one_name_are_told_apart_or_refused() {
    let wrong = compare(&[
        "--simulate",
        "--congestion",
        "exec:a/mine.py,exec:b/mine.py",
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        said.contains("two programs are called exec:mine.py"),
        "{said}"
    );
    let scripts = Scripts::new();
    let sender = format!("2x{}", scripts.sender("steady.sh", STEADY));
    let output = compare(&["--simulate", "--json", "--time", "1s", "--flows", &sender]);
    assert!(output.status.success(), "{output:?}");
    let outcome = outcome(&output);
    let names: Vec<&str> = flows(&outcome)
        .iter()
        .map(|flow| flow.name.as_str())
        .collect();
    assert_eq!(names, ["exec:sh steady.sh", "exec:sh steady.sh 2"]);
}

#[test]
fn in_real_time_the_last_window_holds_until_an_answer_comes() {
    let scripts = Scripts::new();
    let senders = [
        scripts.sender("steady.sh", STEADY),
        // Ten round trips late, each time.
        scripts.sender(
            "slow.sh",
            "while read -r line; do sleep 0.2; echo '{\"window\": 3000, \"phase\": \"slow\"}'; done",
        ),
    ];
    let senders = senders.join(",");
    let arguments = [
        "--congestion",
        &senders,
        "--time",
        "2s",
        "--rate",
        "10mbit",
        "--delay",
        "10ms",
    ];
    let output = compare(&[&arguments[..], &["--json"]].concat());
    let outcome = outcome(&output);
    let flows = flows(&outcome);
    for flow in &flows {
        assert_eq!(flow.failure, None, "{}", flow.name);
        assert!(flow.totals.goodput_bytes > 20_000, "{:?}", flow.totals);
    }
    let (steady, slow) = (flows[0], flows[1]);
    let window = &steady.trace.window_bytes.values;
    assert_eq!(window.last(), Some(&30_000.0), "{window:?}");
    assert!(
        steady.totals.program_answers > Some(20),
        "{:?}",
        steady.totals
    );
    // The first window is what RFC 9002 begins with, and holds for 0.2 s.
    let window = &slow.trace.window_bytes;
    assert_eq!(window.values.first(), Some(&12_000.0), "{window:?}");
    assert_eq!(window.values.last(), Some(&3000.0), "{window:?}");
    let totals = &slow.totals;
    let (all, late) = (
        totals.program_answers.unwrap(),
        totals.program_answers_late.unwrap(),
    );
    // All but the answer to the greeting, and to what comes before the first round trip is measured.
    assert!(all >= 3 && late >= 1 && late < all, "{totals:?}");
    let cut = slow.trace.cuts.first().expect("a cut");
    assert!(
        cut.words.contains("slow.sh set the window from "),
        "{cut:?}"
    );
    assert!(
        cut.words
            .contains(" ms after it was told of the connection"),
        "{cut:?}"
    );
    assert!(!cut.words.contains("declared lost"), "{cut:?}");
}

#[test]
fn in_real_time_a_program_that_dies_ends_its_transfer() {
    let scripts = Scripts::new();
    let dies = "for n in 1 2 3 4 5 6; do read -r line; echo '{\"window\": 30000}'; done; echo tired >&2; exit 1";
    let sender = scripts.sender("dies.sh", dies);
    // An hour's worth of it, if nothing ended it.
    let output = compare(&[
        "--congestion",
        &sender,
        "--size",
        "1GB",
        "--rate",
        "2mbit",
        "--delay",
        "10ms",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    for part in [
        "it ended with exit status 1; its last words: tired",
        "exec:sh dies.sh answered 6 times, ",
        "later than a round trip",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
