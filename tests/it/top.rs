//! `labnet top` where it prints: what it tells of a transfer is what the service has counted.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use labnet::rudp::{
    connection::Config,
    exchange::{Question, Range},
};
use serde_json::Value;

use crate::support::{Lab, PATIENCE, dial::Dialed, labnet, loopback, probe::Addresses, wait_for};

const RATE: f64 = 20e6;

/// A lab whose files go through 20 Mbit/s.
fn lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let more = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"3MB.zip\"]\n\
         [link.down]\nrate = \"20mbit\"\ndelay = \"5ms\"\nqueue = \"30kB\"\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &more);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

/// `labnet top` whose standard output is a pipe.
struct Top {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Top {
    fn start(url: &str, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["top", "--url", url, "--interval", "200ms"])
            .args(more)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        let out = BufReader::new(process.stdout.take().expect("piped"));
        let (read, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines() {
                let _ = read.send(line.expect("text"));
            }
        });
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it goes on")
    }

    /// The one connection of the next interval, if an interval has come that has one.
    fn session(&mut self) -> Option<Value> {
        let interval: Value = serde_json::from_str(&self.lines.try_recv().ok()?).expect("JSON");
        let sessions = interval["sessions"].as_array().expect("a list");
        let session = sessions.iter().find(|it| it["kind"] == "transport");
        session.cloned()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `top` calls it, and the API.
const SAME: [(&str, &str); 10] = [
    ("lost", "packets_lost"),
    ("sent_again", "packets_retransmitted"),
    ("window_bytes", "window_bytes"),
    ("rtt_seconds", "rtt_seconds"),
    ("min_rtt_seconds", "min_rtt_seconds"),
    ("phase", "phase"),
    ("control", "congestion"),
    ("connection_id", "connection_id"),
    ("name", "name"),
    ("client", "client"),
];

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn what_is_told_of_a_transfer_is_what_the_service_counted() {
    let (lab, addresses) = lab();
    let url = format!("http://{}/", addresses.at(9167));
    let mut client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    let mut top = Top::start(&url, &["--json"]);
    // Each interval's goodput and its time, by the service's clock.
    let mut told: Vec<(f64, f64)> = Vec::new();
    let mut age = 0.0;
    let mut take = |session: &Value| {
        let goodput = session["goodput_bits_per_second"].as_f64();
        let now = number(session, "connected_seconds");
        if let Some(goodput) = goodput {
            told.push((goodput, now - age));
        }
        age = now;
        goodput
    };
    client.run("a first rate", |_, _| {
        let session = top.session()?;
        take(&session)
    });

    let question = Question::Get {
        name: "3MB.zip",
        range: Range::from(0),
        validator: None,
    };
    let (_, body) = client.body(&question);
    // Nothing happens any more: an interval is told that lies between two equal answers of the service.
    let mut before = counted(&lab);
    let (last, counted) = client.run("the end", |_, _| {
        let mut newest = None;
        while let Some(session) = top.session() {
            newest = Some((take(&session), session));
        }
        let (goodput, session) = newest?;
        let after = counted(&lab);
        let at = |told: &Value| number(told, "connected_seconds");
        let is_between = at(&before) <= at(&session) && at(&session) <= at(&after);
        let is_same = SAME.iter().all(|(_, key)| before[key] == after[key]);
        let is_over = goodput == Some(0.0)
            && number(&after, "stream_bytes_acknowledged") >= body.len() as f64;
        before.clone_from(&after);
        (is_between && is_same && is_over).then_some((session, after))
    });

    let acknowledged = number(&counted, "stream_bytes_acknowledged");
    let sum: f64 = (told.iter())
        .map(|(goodput, time)| goodput * time / 8.0)
        .sum();
    assert!(
        (sum - acknowledged).abs() < 1.0,
        "{sum} told of {acknowledged} counted: {told:?}"
    );
    // The bytes of the file, and of the answer's head.
    let head = acknowledged - body.len() as f64;
    assert!((1.0..500.0).contains(&head), "{head}");
    // No faster than the link.
    let busy = told.iter().filter(|(goodput, _)| *goodput > 0.0);
    let time: f64 = busy.map(|(_, time)| time).sum();
    assert!(acknowledged * 8.0 / time < RATE, "in {time} s: {told:?}");
    for (told, key) in SAME {
        assert_eq!(last[told], counted[key], "{told}: {last}, {counted}");
    }
    assert!(number(&last, "lost") > 0.0, "a queue of 30 kB overflows");
    let total = |direction: &str| {
        let series = format!("labnet_rudp_stream_bytes_total{{direction=\"{direction}\"}}");
        lab.metric(&series)
    };
    assert_eq!(total("acknowledged"), acknowledged);
    assert_eq!(total("received"), number(&counted, "stream_bytes_received"));

    // The same for people, once.
    let once = labnet(&["top", "--once", "--url", &url, "--interval", "200ms"]);
    let text = String::from_utf8(once.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let [head, row] = lines[..] else {
        panic!("{text}")
    };
    assert!(once.status.success() && head.starts_with("TIME "), "{text}");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        &cells[1..4],
        ["Tal", &number_free(&counted["client"]), "cubic"],
        "{text}"
    );
    assert_eq!(cells[5], "0.00", "{text}");
    let lost = number(&counted, "packets_lost").to_string();
    assert_eq!(cells[cells.len() - 2], lost, "{text}");
    let none = labnet(&[
        "top",
        "--once",
        "--url",
        &url,
        "--interval",
        "200ms",
        "--filter",
        "Eve",
    ]);
    assert_eq!(String::from_utf8_lossy(&none.stdout).lines().count(), 1);
}

fn number_free(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The API's answer to a question about sessions: its head and its body.
fn get(http: SocketAddr, query: &str) -> Answer {
    let mut stream = TcpStream::connect(http).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!(
        "GET /api/v1/sessions?{query} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    Answer {
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

struct Answer {
    head: String,
    body: String,
}

/// What the service tells of its one connection.
fn counted(lab: &Lab) -> Value {
    let sessions = lab.json("/api/v1/sessions?filter=transport");
    sessions[0].clone()
}

#[test]
fn rows_in_a_pipe_go_on_over_a_restart() {
    let (mut lab, addresses) = lab();
    let url = format!("http://{}/", addresses.at(9167));
    let client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    let mut top = Top::start(&url, &[]);
    let mut errors = BufReader::new(top.process.stderr.take().expect("piped")).lines();
    assert!(top.line().starts_with("TIME "));
    for _ in 0..2 {
        let row = top.line();
        assert!(
            row.contains(" Tal ") && row.contains(" cubic ") && !row.contains('\x1b'),
            "{row}"
        );
    }
    lab.terminate();
    let gone = errors.next().expect("said").expect("text");
    assert!(
        gone.contains("gone since ") && gone.contains("no answer from"),
        "{gone}"
    );
    drop(client);
    lab.kill_and_restart();
    let back = errors
        .map(|line| line.expect("text"))
        .find(|line| line.contains("back at "));
    assert!(back.is_some());
    let _client = Dialed::to(addresses.at(49152), loopback(), Config::default());
    assert!(top.line().contains(" Tal "));
}

#[test]
fn without_a_service_it_says_so_and_fails() {
    let ip = loopback();
    let url = format!("http://{ip}:9167/");
    for more in [&[][..], &["--once"], &["--json"]] {
        let output = labnet(&[&["top", "--url", &url][..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("no answer from") && said.contains("Is `labnet serve` running"),
            "{said}"
        );
    }
    let wrong = labnet(&["top", "--interval", "1ms"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_api_filters_sorts_and_bounds() {
    let (_lab, addresses) = lab();
    let http = addresses.at(9167);
    let sockets: Vec<_> = ["Tal", "Ada", "Tally", "Bob"]
        .map(|name| {
            let socket = std::net::UdpSocket::bind((loopback(), 0)).expect("loopback");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let greeting = format!("SIGNEW:{name}");
            socket
                .send_to(greeting.as_bytes(), addresses.at(49152))
                .expect("sent");
            socket.recv(&mut [0; 100]).expect("SIGNACK");
            socket
        })
        .into();
    let told = |query: &str| {
        let answer = get(http, query);
        assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.body);
        let fit = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("x-total-count: "));
        let fit = fit.expect("how many").to_owned();
        let sessions: Value = serde_json::from_str(&answer.body).expect("JSON");
        let names = sessions.as_array().expect("a list").iter();
        let names: Vec<String> = names.map(|it| number_free(&it["name"])).collect();
        (fit, names.join(" "))
    };
    let said = |fit: &str, names: &str| (fit.to_owned(), names.to_owned());
    assert_eq!(told("sort=name"), said("4", "Ada Bob Tal Tally"));
    assert_eq!(told("sort=-name&limit=2"), said("4", "Tally Tal"));
    assert_eq!(told("filter=tal&sort=-name&limit=1"), said("2", "Tally"));
    let port = sockets[1].local_addr().expect("bound").to_string();
    assert_eq!(told(&format!("filter={port}")), said("1", "Ada"));
    assert_eq!(told("sort=-connected_seconds&limit=1"), said("4", "Tal"));
    for (query, why) in [
        ("limit=0", "limit: a number from 1 to 10000"),
        (
            "sort=speed",
            "no session has a field speed: there are client, connected_seconds",
        ),
        ("page=1", "only ?filter=TEXT"),
    ] {
        let answer = get(http, query);
        let Answer { head, body } = answer;
        assert!(
            head.starts_with("http/1.1 400") && body.contains(why),
            "{query}: {body}"
        );
    }
}
