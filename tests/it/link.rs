//! `labnet link` between a client and a lab.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::support::{Lab, PATIENCE, labnet, loopback, request, signal, wait_for};

/// A running `labnet link`, killed when dropped.
pub(crate) struct Link {
    process: Child,
    pub(crate) address: SocketAddr,
    http: SocketAddr,
}

impl Link {
    #[track_caller]
    pub(crate) fn start(to: SocketAddr, options: &[&str]) -> Self {
        let to = to.to_string();
        let any = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"];
        let mut process = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["link", "--to", &to])
            .args(any)
            .args(options)
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        let stderr = process.stderr.take().expect("piped");
        let (told, tell) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut words = line.split_whitespace();
                let address = words.find_map(|word| {
                    let word = word.trim_start_matches("http://").trim_end_matches('/');
                    word.parse::<SocketAddr>().ok()
                });
                if let Some(address) = address {
                    let _ = told.send(address);
                }
            }
        });
        let next = || tell.recv_timeout(PATIENCE).expect("an address in its log");
        let (address, http) = (next(), next());
        Self {
            process,
            address,
            http,
        }
    }

    #[track_caller]
    pub(crate) fn json(&self, path: &str) -> Value {
        let (code, body) = request(self.http, "GET", path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Sends a body to `/options`: status code and answer.
    #[track_caller]
    fn change(&self, method: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let length = body.len();
        write!(
            stream,
            "{method} /options HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.http
        )
        .expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (
            code.expect("a code"),
            serde_json::from_str(body).expect("JSON"),
        )
    }

    /// Ends it: exit code and what it printed.
    fn end(mut self, name: &str) -> (Option<i32>, Value) {
        signal(self.process.id(), name);
        let mut printed = String::new();
        let stdout = self.process.stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut printed).expect("text");
        let code = self.process.wait().expect("it ends").code();
        (code, serde_json::from_str(&printed).expect("JSON"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that sends everything back.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
    address
}

#[test]
fn a_client_gets_through_a_link_that_loses_nearly_a_third_each_way() {
    let lab = Lab::start(&format!(
        "[rudp]\nlisten = \"{}:49152\"\nscraper = \"127.0.0.1:9\"\n",
        loopback()
    ));
    let options = [
        "--loss", "30", "--burst", "2", "--delay", "2ms", "--seed", "7",
    ];
    let link = Link::start(lab.address("rudp", "udp"), &options);
    let server = link.address.to_string();
    let walked = labnet(&["client", "--server", &server, "--json", "echo", "-n", "30"]);
    let said = String::from_utf8_lossy(&walked.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&walked.stderr).into_owned();
    assert!(walked.status.success(), "{said}{complaints}");
    assert!(said.lines().count() >= 30, "{said}");
    let (code, counters) = link.end("TERM");
    assert_eq!(code, Some(0));
    assert_eq!(counters["clients"]["seen"], 1, "{counters}");
    for way in ["up", "down"] {
        let count = |key: &str| counters[way][key].as_u64().expect("a number");
        let lost = counters[way]["lost"]["random"].as_u64().expect("a number");
        assert!(lost > 3, "{counters}");
        // What SIGTERM met on the wire is under way.
        assert_eq!(
            count("sent"),
            count("delivered") + lost + count("under_way"),
            "{counters}"
        );
    }
}

#[test]
fn its_options_change_while_it_runs_and_its_counters_are_seen() {
    let link = Link::start(echo(), &["--up", "loss=100"]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    client.connect(link.address).expect("loopback");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.send(b"lost").expect("sent");
    wait_for("the loss", || {
        (link.json("/counters")["up"]["lost"]["random"] == 1).then_some(())
    });
    assert_eq!(link.json("/options")["up"]["loss"], 100);
    assert_eq!(link.json("/options")["down"]["loss"], 0);
    let (code, options) = link.change("PATCH", r#"{"delay": "1ms", "up": {"loss": null}}"#);
    assert_eq!(code, 200, "{options}");
    assert_eq!(options, link.json("/options"));
    assert_eq!(options["up"]["loss"], 0);
    assert_eq!(options["down"]["delay"], "1ms");
    client.send(b"found").expect("sent");
    let mut buffer = [0; 10];
    assert_eq!(client.recv(&mut buffer).expect("an answer"), 5);
    // All at once: what is not named is off.
    let (code, options) = link.change("PUT", r#"{"down": {"rate": "10mbit"}}"#);
    assert_eq!(code, 200, "{options}");
    assert_eq!(options["down"]["delay"], "0s");
    assert_eq!(options["down"]["rate"], "10mbit");
    for wrong in ["", "3", r#"{"lost": 3}"#, r#"{"up": {"loss": 101}}"#] {
        let (code, said) = link.change("PATCH", wrong);
        assert_eq!(code, 400, "{wrong}");
        assert!(said["error"].is_string(), "{said}");
    }
    assert_eq!(link.json("/options"), options);
    assert_eq!(request(link.http, "GET", "/").0, 404);
    let (code, counters) = link.end("INT");
    assert_eq!(code, Some(0));
    assert_eq!(counters["up"]["delivered"], 1);
}

#[test]
fn a_long_delay_is_a_long_delay() {
    let link = Link::start(echo(), &["--delay", "60ms", "--jitter", "10ms"]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    client.connect(link.address).expect("loopback");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let start = std::time::Instant::now();
    client.send(b"hello").expect("sent");
    client.recv(&mut [0; 10]).expect("an answer");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn wrong_use_is_told() {
    for (arguments, part) in [
        (&["--to", "127.0.0.1:1"][..], "--listen"),
        (&["--netns", "one"], "2 values"),
        (&["--netns", "one", "one"], "two namespaces"),
        (
            &["--netns", "one", "two", "--listen", "127.0.0.1:1"],
            "cannot be used with",
        ),
        (
            &["--netns", "one", "two", "--left", "10.0.0.1"],
            "10.77.0.1/24",
        ),
        (
            &["--listen", "127.0.0.1:1", "--to", "127.0.0.1:1"],
            "own address",
        ),
        (&["--listen", "127.0.0.1:0", "--to", "127.0.0.1:0"], "port"),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--to",
                "127.0.0.1:9",
                "--loss",
                "200",
            ],
            "no percentage from 0 to 100",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--to",
                "127.0.0.1:9",
                "--rate",
                "fast",
            ],
            "10mbit",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--to",
                "127.0.0.1:9",
                "--up",
                "lost=3",
            ],
            "those are loss, burst",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--to",
                "127.0.0.1:9",
                "--loss",
                "80",
                "--burst",
                "2",
            ],
            "longer bursts are needed",
        ),
    ] {
        let output = labnet(&[&["link"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    // An address that this machine does not have (RFC 5737) is bad luck, not wrong use.
    let output = labnet(&["link", "--listen", "192.0.2.1:4000", "--to", "127.0.0.1:9"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--listen 192.0.2.1:4000"), "{said}");
}

fn proxy() -> Lab {
    Lab::start(&format!("[rudp]\nlisten = \"{}:49152\"\n", loopback()))
}

fn echoes(server: SocketAddr, more: &[&str]) -> Vec<Value> {
    let server = server.to_string();
    let walk = [
        &["client", "--json", "--server", &server, "echo", "-n", "20"],
        more,
    ];
    let output = labnet(&walk.concat());
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    lines.collect()
}

#[test]
fn a_proxy_s_own_bad_network_comes_and_goes_by_reload() {
    let lab = proxy();
    let good = std::fs::read_to_string(lab.config()).expect("read");
    let server = lab.address("rudp", "udp");
    let fate = |direction: &str, fate: &str| {
        lab.metric(&format!(
            "labnet_link_packets_total{{direction=\"{direction}\",fate=\"{fate}\"}}"
        ))
    };
    let reload = |link: &str| {
        std::fs::write(lab.config(), format!("{good}\n{link}")).expect("written");
        lab.post("/-/reload")
    };
    echoes(server, &[]);
    // A link that does nothing is not there.
    assert_eq!(fate("up", "sent"), 0.0);
    let options = &lab.json("/api/v1/link")["options"];
    assert_eq!(options["up"]["delay"], "0s");

    // A session that is open lives through it.
    let student = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    student.connect(server).expect("loopback");
    student.set_read_timeout(Some(PATIENCE)).expect("set");
    let ask = |question: &str| {
        student.send(question.as_bytes()).expect("sent");
        let start = std::time::Instant::now();
        let mut buffer = [0; 99];
        let length = student.recv(&mut buffer).expect("an answer");
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        (answer, start.elapsed())
    };
    assert_eq!(ask("SIGNEW:Tal").0, "SIGNACK");
    let (code, body) = reload("[link]\ndelay = \"30ms\"\n[link.down]\ndelay = \"60ms\"\n");
    assert_eq!(code, 200, "{body}");
    let (answer, took) = ask("SIGNECHO:290;0");
    assert_eq!(answer, "ECHOREPLY:290;0");
    assert!(took >= Duration::from_millis(90), "{took:?}");
    assert_eq!(
        (fate("up", "delivered"), fate("down", "delivered")),
        (1.0, 1.0)
    );

    // Chance, and a client that copes with it.
    let lossy = "[link]\nloss = 20\nseed = 4\nduplicate = 10\nreorder = 10\n";
    assert_eq!(reload(lossy).0, 200);
    echoes(server, &[]);
    let told = lab.json("/api/v1/link");
    assert_eq!(told["options"]["down"]["loss"], 20);
    let lost = told["counters"]["up"]["lost"]["random"].as_f64();
    assert!(lost > Some(0.0), "{told}");
    assert_eq!(lost, Some(fate("up", "lost_random")));

    // What is wrong is refused, and all runs on as before.
    let (code, body) = reload("[link]\nloss = 200\nspeed = 1\n");
    assert_eq!(code, 400, "{body}");
    assert!(body.contains("link.loss") && body.contains("link.speed"));
    assert_eq!(lab.json("/api/v1/link")["options"]["up"]["loss"], 20);

    assert_eq!(reload("").0, 200);
    let before = fate("up", "sent");
    assert_eq!(ask("SIGNECHO:291;0").0, "ECHOREPLY:291;0");
    assert_eq!(fate("up", "sent"), before);
}

#[test]
fn every_packet_s_verdict_is_written_and_adds_up_to_the_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("verdicts.jsonl");
    let link = Link::start(
        echo(),
        &[
            "--loss",
            "20",
            "--burst",
            "2",
            "--duplicate",
            "10",
            "--corrupt",
            "10",
            "--rate",
            "800kbit",
            "--queue",
            "3kB",
            "--delay",
            "5ms",
            "--seed",
            "3",
            "--events",
            file.to_str().expect("plain"),
        ],
    );
    let student = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0_u16..60 {
        let mut packet = [b'x'; 500];
        packet[..2].copy_from_slice(&number.to_be_bytes());
        student.send_to(&packet, link.address).expect("sent");
    }
    wait_for("the last packet", || {
        let told = link.json("/counters");
        let still = |way: &str| told[way]["under_way"].as_u64() == Some(0);
        let all = told["up"]["sent"] == 60 && told["down"]["sent"] == told["up"]["delivered"];
        (all && still("up") && still("down")).then_some(())
    });
    let client = student.local_addr().expect("bound").to_string();
    let (code, totals) = link.end("TERM");
    assert_eq!(code, Some(0));
    let lines = std::fs::read_to_string(&file).expect("written");
    let verdicts: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    for way in ["up", "down"] {
        let of = |outcome: &str| {
            let told = verdicts
                .iter()
                .filter(|told| told["way"] == way && told["outcome"] == outcome);
            told.count() as u64
        };
        let counted = &totals[way];
        let lost = &counted["lost"];
        let expected = [
            "random", "queue", "policer", "codel", "red", "blackout", "memory",
        ]
        .map(|reason| lost[reason].as_u64());
        let told = [
            "lost_random",
            "lost_queue",
            "lost_policer",
            "lost_codel",
            "lost_red",
            "lost_blackout",
            "lost_memory",
        ]
        .map(of);
        assert_eq!(told.map(Some), expected, "{way}: {totals}");
        let copies = counted["duplicated"].as_u64();
        assert_eq!(
            Some(of("delivered"))
                .zip(copies)
                .map(|(told, copies)| told + copies),
            counted["delivered"].as_u64(),
            "{way}: {totals}"
        );
    }
    let up = verdicts.iter().filter(|told| told["way"] == "up");
    assert!(up.clone().any(|told| told["outcome"] == "lost_queue"));
    for told in up {
        assert_eq!(
            (&told["peer"], &told["bytes"]),
            (&client.as_str().into(), &528.into())
        );
        // The Nth that the relay received is the Nth that was sent: loopback keeps the order.
        let number = told["number"].as_u64().expect("a number");
        let starts = told["starts"].as_str().expect("text");
        assert!(starts.starts_with(&format!("{number:04x}7878")), "{told}");
        let queued = told["queued_bytes"].as_u64().expect("bytes");
        assert!(queued <= 3000, "{told}");
        if told["outcome"] == "lost_queue" {
            assert!(queued + 528 > 3000, "{told}");
        }
        if told["outcome"] == "delivered" {
            let parts = ["queued", "sending", "travelled", "kept_behind", "held_back"];
            let sum: f64 = parts.iter().filter_map(|part| told[*part].as_f64()).sum();
            let after = told["after"].as_f64().expect("seconds");
            assert!((sum - after).abs() < 1e-6, "{told}");
        }
    }
}

#[test]
fn what_waits_for_the_rate_before_a_proxy_is_counted_while_it_waits() {
    let lab = proxy();
    let good = std::fs::read_to_string(lab.config()).expect("read");
    let reload = |link: &str| {
        std::fs::write(lab.config(), format!("{good}\n{link}")).expect("written");
        lab.post("/-/reload")
    };
    let queued = || lab.metric("labnet_link_queued_bytes{direction=\"up\"}");
    let becomes = |bytes: f64| {
        let start = std::time::Instant::now();
        while queued() != bytes {
            assert!(start.elapsed() < PATIENCE, "{} wait", queued());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // A byte a second: the first is being sent for as long as this test lives.
    assert_eq!(reload("[link.up]\nrate = \"8bit\"\n").0, 200);
    assert_eq!(queued(), 0.0);
    let student = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let server = lab.address("rudp", "udp");
    for _ in 0..3 {
        student.send_to(&[b'x'; 100], server).expect("sent");
    }
    // Two wait, with their IP and UDP headers.
    becomes(2.0 * 128.0);
    let told = lab.json("/api/v1/link");
    assert_eq!(told["counters"]["up"]["queued_bytes"], 256);
    assert_eq!(reload("").0, 200);
    becomes(0.0);
    assert_eq!(
        lab.metric("labnet_link_queued_bytes{direction=\"down\"}"),
        0.0
    );
}

#[test]
fn a_client_has_a_bad_network_of_its_own() {
    let lab = proxy();
    let server = lab.address("rudp", "udp");
    let rtts = |options: &[&str]| -> Vec<f64> {
        let lines = echoes(server, options);
        lines
            .iter()
            .filter_map(|line| line["rtt_ms"].as_f64())
            .collect()
    };
    let slow = rtts(&[
        "--delay",
        "40ms",
        "--jitter",
        "10ms",
        "--down",
        "delay=80ms",
    ]);
    assert_eq!(slow.len(), 20, "{slow:?}");
    // 30 ms there and 70 ms back at least.
    assert!(slow.iter().all(|rtt| *rtt >= 100.0), "{slow:?}");
    let lines = echoes(
        server,
        &[
            "--loss",
            "20",
            "--burst",
            "2",
            "--duplicate",
            "30",
            "--down",
            "loss=20",
        ],
    );
    assert!(lines.len() >= 20, "{lines:?}");
}

#[test]
fn whoever_may_not_change_the_lab_may_not_change_a_link_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "correct-horse-battery-staple\n").expect("a file");
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let ask = |link: &Link, method: &str, fields: &str| {
        let mut stream = TcpStream::connect(link.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!(
            "{method} /options HTTP/1.1\r\n{fields}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or(0_u16)
    };
    let open = Link::start(to, &["--http-host", "link.example"]);
    assert_eq!(ask(&open, "PATCH", "Host: link.example:1\r\n"), 200);
    assert_eq!(ask(&open, "PATCH", "Host: evil.test\r\n"), 421);
    assert_eq!(ask(&open, "GET", "Host: evil.test\r\n"), 421);
    assert_eq!(
        ask(
            &open,
            "PATCH",
            "Host: localhost\r\nOrigin: http://evil.test\r\n"
        ),
        403
    );
    assert_eq!(ask(&open, "PATCH", ""), 400);
    let closed = Link::start(to, &["--token-file", token.to_str().expect("plain")]);
    assert_eq!(ask(&closed, "GET", "Host: localhost\r\n"), 200);
    assert_eq!(ask(&closed, "PATCH", "Host: localhost\r\n"), 401);
    let right = "Host: localhost\r\nAuthorization: Bearer correct-horse-battery-staple\r\n";
    assert_eq!(ask(&closed, "PATCH", right), 200);
}
