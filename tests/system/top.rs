//! `labnet top` in a real terminal, tmux's.

use std::{process::Command, time::Duration};

use labnet::rudp::{
    connection::Config,
    exchange::{Question, Range},
};

use crate::support::{Lab, dial::Dialed, loopback, probe::Addresses, run, signal, wait_for};

fn lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let more = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n\
         [link.down]\nrate = \"20mbit\"\nqueue = \"30kB\"\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

/// A terminal in which a shell has started `labnet top`, and says how that ended. A server of its own, which
/// ends with it.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    fn new(width: u32, height: u32, url: &str, more: &str) -> Self {
        Self::with("", width, height, url, more)
    }

    /// The same with a variable in its environment.
    fn with(variable: &str, width: u32, height: u32, url: &str, more: &str) -> Self {
        let terminal = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let labnet = env!("CARGO_BIN_EXE_labnet");
        let script = format!(
            "{variable} {labnet} top --url {url} --interval 200ms {more}; echo ended $?; stty -a | tr ' ;' '\\n\\n' | \
             grep -x -e icanon -e echo -e isig; exec sleep 600"
        );
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", &width, "-y", &height];
        terminal.tmux(
            &[
                &["-f", "/dev/null", "-u", "new-session", "-d"][..],
                &size,
                &[&script],
            ]
            .concat(),
        );
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let output = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .output()
            .expect("tmux starts (tests/run installs it)");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    fn screen(&self) -> Vec<String> {
        let screen = self.tmux(&["capture-pane", "-p"]);
        screen.lines().map(str::to_owned).collect()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"][..], keys].concat());
    }

    /// Whether a program has the alternate screen, and whether the cursor is shown.
    fn state(&self) -> String {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])
    }

    /// Waits until the screen has this.
    #[track_caller]
    fn expect(&self, what: &str) -> Vec<String> {
        let has = |screen: &Vec<String>| screen.iter().any(|line| line.contains(what));
        wait_for(what, || Some(self.screen()).filter(has))
    }

    /// The terminal is as it was before, and labnet ended with this code.
    #[track_caller]
    fn expect_end(&self, code: i32) {
        let screen = wait_for("the shell", || {
            Some(self.screen()).filter(|screen| screen.iter().any(|line| line == "echo"))
        });
        let told: Vec<&str> = screen.iter().map(|line| line.trim()).collect();
        assert!(told.contains(&&*format!("ended {code}")), "{told:?}");
        assert!(
            told.contains(&"icanon") && told.contains(&"isig"),
            "{told:?}"
        );
        assert_eq!(self.state().trim(), "0 1");
    }

    /// The process id of labnet.
    fn pid(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let child = run("pgrep", &["-P", shell.trim()]).stdout;
        let child = String::from_utf8(child).expect("text");
        child.trim().parse().expect("one child")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("tmux");
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .output();
    }
}

fn download(client: &mut Dialed) {
    client.body(&Question::Get {
        name: "1MB.zip",
        range: Range::from(0),
        validator: None,
    });
    client.settle();
}

#[test]
#[ignore = "needs tmux"]
fn it_fits_terminals_follows_keys_and_gives_the_terminal_back() {
    let (lab, addresses) = lab();
    let url = format!("http://{}/", addresses.at(9167));
    let mut client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    let mut other = Dialed::to(addresses.at(49152), loopback(), Config::default());
    download(&mut client);
    let terminal = Terminal::new(80, 24, &url, "--sort age");
    let screen = terminal.expect(" Tal ");
    assert_eq!(terminal.state().trim(), "1 0");
    let head = "NAME     CONTROL  PHASE      MBIT/S █";
    assert!(
        screen[4].starts_with(head) && screen[4].ends_with("AGAIN"),
        "{screen:#?}"
    );
    assert!(
        screen[1] == "all 6 components up" && screen[2].starts_with("2 sessions "),
        "{screen:#?}"
    );
    assert!(screen[23].starts_with("q quit"), "{screen:#?}");
    // The oldest first: the one that has had a file.
    let sessions = lab.json("/api/v1/sessions?sort=-connected_seconds");
    let lost = sessions[0]["packets_lost"].to_string();
    assert!(
        screen[5].split_whitespace().rev().nth(1) == Some(&*lost),
        "{screen:#?} {sessions}"
    );

    // Its detail, and back.
    terminal.keys(&["Enter"]);
    let screen = terminal.expect("CUBIC cut the window from");
    let id = sessions[0]["connection_id"].as_str().expect("an id");
    assert!(screen[4].contains(&id[..10]), "{screen:#?}");
    assert!(
        screen.iter().any(|line| line.starts_with("held back by: ")),
        "{screen:#?}"
    );
    terminal.keys(&["Escape"]);
    terminal.expect("NAME     CONTROL");

    // A wider terminal, and a flat one.
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    let screen = terminal.expect("CLIENT ");
    let address = sessions[0]["client"].as_str().expect("an address");
    assert!(
        screen.len() == 40 && screen[5].contains(address),
        "{screen:#?}"
    );
    assert!(screen[4].contains("60 s, █="), "{screen:#?}");
    terminal.tmux(&["resize-window", "-x", "60", "-y", "7"]);
    wait_for("the flat screen", || {
        let screen = terminal.screen();
        (screen.len() == 7 && screen[6].starts_with("q quit") && screen[5].starts_with("Tal"))
            .then_some(())
    });
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);

    terminal.keys(&["?"]);
    terminal.expect("quit");
    terminal.keys(&["x", "s"]);
    terminal.expect("by goodput");
    terminal.keys(&["/", "n", "o", "b", "o", "d", "y"]);
    terminal.expect("no session fits the filter");
    terminal.expect("0 of 2 sessions");
    terminal.keys(&["Escape"]);
    terminal.expect(" cubic ");
    terminal.keys(&["p"]);
    terminal.expect("paused at ");
    terminal.keys(&["p", "q"]);
    terminal.expect_end(0);
    download(&mut other);
}

#[test]
#[ignore = "needs tmux"]
fn it_says_since_when_the_service_is_gone_and_goes_on_when_it_is_back() {
    let (mut lab, addresses) = lab();
    let url = format!("http://{}/", addresses.at(9167));
    let terminal = Terminal::new(80, 24, &url, "");
    terminal.expect("no sessions: ");
    lab.terminate();
    let screen = terminal.expect("gone since ");
    assert!(
        screen[0].contains(" UTC (") && screen[1].starts_with("no answer from http://"),
        "{screen:#?}"
    );
    lab.kill_and_restart();
    let _client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    terminal.expect("Tal ");
    // It may answer before all of it is up.
    let screen = terminal.expect("all 6 components up");
    assert!(!screen[0].contains("gone"), "{screen:#?}");
    // Ctrl-C, which comes as a key.
    terminal.keys(&["C-c"]);
    terminal.expect_end(0);
}

#[test]
#[ignore = "needs tmux"]
fn signals_end_it_with_the_terminal_given_back() {
    let (_lab, addresses) = lab();
    let url = format!("http://{}/", addresses.at(9167));
    for name in ["TERM", "INT"] {
        let terminal = Terminal::new(80, 24, &url, "");
        terminal.expect("no sessions: ");
        signal(terminal.pid(), name);
        terminal.expect_end(0);
    }
    // A terminal that can't be drawn on has rows.
    let _client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    let terminal = Terminal::with("TERM=dumb", 140, 24, &url, "");
    let screen = terminal.expect(" Tal ");
    assert!(
        screen.iter().any(|line| line.starts_with("TIME ")),
        "{screen:#?}"
    );
    assert_eq!(terminal.state().trim(), "0 1");
}
