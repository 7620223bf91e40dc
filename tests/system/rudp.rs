//! The proxy in `labnet serve`, spoken to by raw sockets.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use crate::support::{Lab, PATIENCE, loopback, wait_for};

const LIST: &str = "50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;";

/// A lab with nothing but a proxy, and a scraper of the original's kind: it reads `SIGNGET`, gives
/// its list and closes.
fn proxy(more: &str) -> (Lab, SocketAddr) {
    let scraper = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let scraper_address = scraper.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in scraper.incoming() {
            let mut stream = stream.expect("a peer");
            let mut question = [0; 7];
            stream.read_exact(&mut question).expect("a question");
            if question == *b"SIGNGET" {
                stream.write_all(LIST.as_bytes()).expect("taken");
            }
        }
    });
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[rudp]\nlisten = \"{ip}:49152\"\nscraper = \"{scraper_address}\"\n{more}"
    ));
    let address = lab.address("rudp", "udp");
    assert_eq!(address, SocketAddr::from((ip, 49152)));
    (lab, address)
}

fn socket(server: SocketAddr) -> UdpSocket {
    socket_on(Ipv4Addr::LOCALHOST, server)
}

fn socket_on(address: Ipv4Addr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).expect("loopback");
    socket.connect(server).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn hear(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).expect("an answer");
    String::from_utf8(buffer[..length].to_vec()).expect("ASCII")
}

fn ask(socket: &UdpSocket, signal: &str) -> String {
    socket.send(signal.as_bytes()).expect("loopback");
    hear(socket)
}

#[test]
fn the_recorded_session_is_answered_byte_for_byte() {
    let (lab, server) = proxy("");
    let client = socket(server);
    assert_eq!(ask(&client, "SIGNEW:Tal"), "SIGNACK");
    assert_eq!(
        ask(&client, "SIGNECHO:290;1682672342.8043187"),
        "ECHOREPLY:290;1682672342.8043187"
    );
    let stat = ask(&client, "SIGNSTAT:291");
    let time = stat
        .strip_prefix("STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: ")
        .and_then(|rest| rest.strip_suffix(" seconds"))
        .unwrap_or_else(|| panic!("{stat:?}"));
    let (whole, hundredths) = time.split_once('.').expect("a point");
    assert!(
        whole.parse::<u32>().is_ok() && hundredths.len() == 2,
        "{time}"
    );
    assert_eq!(
        ask(&client, "SIGNGET:292;SIGNGET"),
        format!("ACKGET:292;{LIST}")
    );
    assert_eq!(ask(&client, "SIGNEND:293;SIGNEND"), "ACKEND:293");
    assert_eq!(lab.json("/api/v1/sessions"), serde_json::json!([]));
}

/// What the original client does: it knows the first word of an answer and no more, waits for each
/// answer, and sends again what SIGNLOST names, or what SIGNFULL refused after a pause.
struct Original {
    socket: UdpSocket,
    sent: Vec<String>,
}

impl Original {
    fn say(&mut self, signal: String, awaited: &str) -> String {
        self.socket.send(signal.as_bytes()).expect("loopback");
        self.sent.push(signal.clone());
        loop {
            let answer = hear(&self.socket);
            if let Some(missing) = answer.strip_prefix("SIGNLOST:") {
                let lost = self
                    .sent
                    .iter()
                    .find(|sent| sent.contains(&format!(":{missing}")));
                let lost = lost.expect("it has sent it");
                self.socket.send(lost.as_bytes()).expect("loopback");
            } else if answer.starts_with("SIGNFULL") {
                thread::sleep(Duration::from_millis(50));
                self.socket.send(signal.as_bytes()).expect("loopback");
            } else if answer.starts_with(awaited) {
                return answer;
            }
        }
    }
}

#[test]
fn a_client_that_speaks_only_the_original_s_dialect_completes() {
    let (lab, server) = proxy("max_window = 2\n");
    let mut client = Original {
        socket: socket(server),
        sent: Vec::new(),
    };
    client.say("SIGNEW:Tal".to_owned(), "SIGNACK");
    client.say("SIGNECHO:290;1.5".to_owned(), "ECHOREPLY");
    // On its way this one gets lost.
    client.sent.push("SIGNECHO:291;2.5".to_owned());
    client.say("SIGNECHO:292;3.5".to_owned(), "ECHOREPLY:292");
    let stat = client.say("SIGNSTAT:293".to_owned(), "STATREPLY");
    assert!(
        stat.contains("Packets sent: 4\nPackets lost: 1\n"),
        "{stat}"
    );
    let list = client.say("SIGNGET:294;SIGNGET".to_owned(), "ACKGET");
    assert!(list.ends_with(LIST), "{list}");
    // Two at once: a window of 2 refuses the second until the scraper has answered.
    client
        .socket
        .send(b"SIGNGET:295;SIGNGET")
        .expect("loopback");
    client.say("SIGNECHO:296;4.5".to_owned(), "ECHOREPLY");
    client.say("SIGNEND:297;SIGNEND".to_owned(), "ACKEND");
    assert_eq!(lab.metric("labnet_rudp_sessions"), 0.0);
    assert_eq!(lab.metric("labnet_rudp_lost_total{reason=\"gap\"}"), 1.0);
}

#[test]
fn a_crashed_session_ends_alone() {
    let (lab, server) = proxy("");
    let (victim, other) = (socket(server), socket(server));
    for client in [&victim, &other] {
        assert_eq!(ask(client, "SIGNEW:Tal"), "SIGNACK");
        assert_eq!(ask(client, "SIGNECHO:290;x"), "ECHOREPLY:290;x");
    }
    let address = victim.local_addr().expect("bound");
    let (code, answer) = lab.post(&format!("/api/v1/sessions/{address}/crash"));
    assert_eq!(code, 202, "{answer}");
    wait_for("the crash", || {
        (lab.metric("labnet_rudp_sessions_ended_total{reason=\"crash\"}") == 1.0).then_some(())
    });
    assert_eq!(ask(&other, "SIGNECHO:291;y"), "ECHOREPLY:291;y");
    assert_eq!(lab.metric("labnet_rudp_sessions"), 1.0);
    let restarts = "labnet_component_restarts_total{component=\"rudp\",reason=\"panic\"}";
    assert_eq!(lab.metric(restarts), 0.0);
    assert_eq!(ask(&victim, "SIGNEW:Tal"), "SIGNACK");
}

#[test]
fn what_sessions_ended_with_can_be_told_afterwards() {
    let (lab, server) = proxy("max_sessions_per_address = 2\n");
    let (polite, victim, third) = (socket(server), socket(server), socket(server));
    for client in [&polite, &victim] {
        assert_eq!(ask(client, "SIGNEW:Tal"), "SIGNACK");
        assert_eq!(ask(client, "SIGNECHO:290;x"), "ECHOREPLY:290;x");
    }
    assert_eq!(ask(&third, "SIGNEW:Dan"), "SIGNACK");
    let refused = ask(&third, "SIGNSTAT:276");
    assert!(
        refused.starts_with("SIGNREFUSED:276;the proxy takes no more"),
        "{refused}"
    );
    let full = "labnet_rudp_dropped_total{reason=\"address_full\"}";
    assert_eq!(lab.metric(full), 1.0);
    let address = victim.local_addr().expect("bound");
    assert_eq!(
        lab.post(&format!("/api/v1/sessions/{address}/crash")).0,
        202
    );
    // A gap first, then a goodbye, twice.
    assert_eq!(ask(&polite, "SIGNECHO:292;y"), "SIGNLOST:291");
    assert_eq!(ask(&polite, "SIGNECHO:291;z"), "ECHOREPLY:291;z");
    assert_eq!(hear(&polite), "ECHOREPLY:292;y");
    assert_eq!(ask(&polite, "SIGNEND:293;SIGNEND"), "ACKEND:293");
    let ended = wait_for("three to be told", || {
        let ended = lab.json("/api/v1/sessions?ended");
        (ended.as_array().expect("a list").len() == 3).then_some(ended)
    });
    let of = |how: &str| {
        let mut all = ended.as_array().expect("a list").iter();
        all.find(|session| session["how"] == how)
            .unwrap_or_else(|| panic!("{how}: {ended}"))
    };
    assert_eq!(of("refused")["name"], "Dan");
    assert!(
        of("refused")["cause"]
            .as_str()
            .is_some_and(|why| why.contains("your address"))
    );
    assert_eq!(of("crash")["client"], address.to_string());
    assert_eq!(of("crash")["cause"], "fault injection");
    let end = of("end");
    assert_eq!((&end["name"], &end["lost"]), (&"Tal".into(), &1.into()));
    let sent: usize = [
        "ECHOREPLY:290;x",
        "SIGNLOST:291",
        "ECHOREPLY:291;z",
        "ECHOREPLY:292;y",
    ]
    .iter()
    .map(|answer| answer.len())
    .sum();
    assert_eq!(end["bytes_sent"], sent + "ACKEND:293".len());
    assert_eq!(
        end["bytes_received"],
        3 * "SIGNECHO:290;x".len() + "SIGNEND:293;SIGNEND".len()
    );
    let told = [
        "how=\"end\"",
        "how=\"crash\" cause=\"fault injection\"",
        "how=\"refused\"",
    ];
    let log = wait_for("a line for each", || {
        let log = lab.log();
        told.iter().all(|told| log.contains(told)).then_some(log)
    });
    for told in told {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
    let url = format!("http://{}/", lab.http);
    let shown = crate::support::labnet(&["sessions", "--ended", "--url", &url]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(
        shown.contains("fault injection") && shown.contains("refused"),
        "{shown}"
    );
    let json = crate::support::labnet(&["sessions", "--ended", "--json", "--url", &url]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json, ended);
}

/// The cases of one address against all, against `labnet serve` itself.
#[test]
fn five_thousand_signews_from_one_address_leave_others_unharmed() {
    let (lab, server) = proxy("");
    let waiting = socket_on(Ipv4Addr::new(127, 0, 0, 99), server);
    assert_eq!(ask(&waiting, "SIGNEW:Tal"), "SIGNACK");
    for round in 0..2 {
        let flood: Vec<_> = (0..500)
            .map(|_| socket_on(Ipv4Addr::new(127, 0, 0, 66), server))
            .collect();
        for n in 0..5000 {
            // A name each, so that each is news.
            let signal = format!("SIGNEW:x{n}");
            let _ = flood[n % flood.len()].send(signal.as_bytes());
        }
        let fresh = socket_on(Ipv4Addr::new(127, 0, 0, 98), server);
        fresh
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        let answered = wait_for("a place", || {
            fresh.send(b"SIGNEW:Noa").expect("loopback");
            let mut buffer = [0; 100];
            fresh
                .recv(&mut buffer)
                .ok()
                .map(|length| buffer[..length].to_vec())
        });
        assert_eq!(answered, b"SIGNACK", "round {round}");
        assert_eq!(ask(&fresh, "SIGNECHO:287;x"), "ECHOREPLY:287;x");
    }
    assert_eq!(ask(&waiting, "SIGNECHO:290;x"), "ECHOREPLY:290;x");
    assert!(lab.metric("labnet_rudp_half_open{protocol=\"signals\"}") <= 4096.0);
}

#[test]
fn what_the_original_s_client_and_a_user_at_a_terminal_send_is_answered() {
    let (_lab, server) = proxy("");
    let client = socket(server);
    assert_eq!(ask(&client, "SIGNEW:Tal\n"), "SIGNACK");
    let stat = ask(&client, "SIGNSTAT:290;SIGNSTAT");
    assert!(stat.starts_with("STATREPLY:290;Packets sent: 1"), "{stat}");
    let foreign = socket(server);
    let refused = ask(&foreign, "SIGNEW:Zo\u{eb}");
    assert!(refused.starts_with("SIGNREFUSED:a name is"), "{refused}");
}

#[test]
fn sessions_go_on_when_the_component_crashes() {
    let (lab, server) = proxy("");
    let client = socket(server);
    ask(&client, "SIGNEW:Tal");
    ask(&client, "SIGNECHO:290;x");
    assert_eq!(lab.post("/api/v1/components/rudp/crash").0, 202);
    // Whenever it comes back: the socket has kept what was sent meanwhile.
    assert_eq!(ask(&client, "SIGNECHO:291;y"), "ECHOREPLY:291;y");
    let restarts = "labnet_component_restarts_total{component=\"rudp\",reason=\"panic\"}";
    wait_for("the restart", || {
        (lab.metric(restarts) == 1.0).then_some(())
    });
    let stat = ask(&client, "SIGNSTAT:292");
    assert!(
        stat.contains("Packets sent: 3\nPackets lost: 0\n"),
        "{stat}"
    );
}

#[test]
fn ten_thousand_random_datagrams_leave_the_proxy_as_it_was() {
    let (lab, server) = proxy("");
    let good = socket(server);
    assert_eq!(ask(&good, "SIGNEW:Tal"), "SIGNACK");
    let mut random = Pcg32::seed_from_u64(1);
    let mut bombard = || {
        let noisy: Vec<_> = (0..8).map(|_| socket(server)).collect();
        let signals: [&[u8]; 6] = [
            b"SIGNEW:Noa",
            b"SIGNECHO:289;1.5",
            b"SIGNSTAT:300",
            b"SIGNGET:291;SIGNGET",
            b"SIGNGET:292;x.zip",
            b"SIGNEND:293;SIGNEND",
        ];
        for n in 0..10_000 {
            let datagram: Vec<u8> = if n % 2 == 0 {
                let length = random.random_range(0..1500);
                (0..length).map(|_| random.random()).collect()
            } else {
                let mut datagram = signals[random.random_range(0..signals.len())].to_vec();
                for _ in 0..random.random_range(0..3) {
                    let at = random.random_range(0..datagram.len());
                    datagram[at] = random.random();
                }
                datagram
            };
            // A full buffer is the kernel's business.
            let _ = noisy[n % noisy.len()].send(&datagram);
            if n % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    };
    bombard();
    let warm = lab.resident();
    bombard();
    let after = lab.resident();
    assert!(after < warm + (4 << 20), "{warm} then {after} bytes");
    assert!(lab.metric("labnet_rudp_dropped_total{reason=\"malformed\"}") > 2000.0);
    let fresh = socket(server);
    assert_eq!(ask(&fresh, "SIGNEW:Tal"), "SIGNACK");
    for client in [&good, &fresh] {
        assert_eq!(ask(client, "SIGNECHO:290;x"), "ECHOREPLY:290;x");
    }
    let status = lab.json("/api/v1/status");
    for component in status["components"].as_array().expect("a list") {
        assert_eq!(component["restarts"], 0, "{status}");
    }
}

#[test]
fn ten_thousand_sessions_cost_less_than_ten_kilobytes_each() {
    let (lab, server) = proxy("max_sessions = 20000\nidle_timeout = \"10m\"\n");
    let open = |n: u32| {
        // The socket goes, the session stays: no need for ten thousand descriptors here.
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 50, 0, 1).to_bits() + n);
        let client = socket_on(address, server);
        assert_eq!(ask(&client, "SIGNEW:Tal"), "SIGNACK");
        assert!(ask(&client, "SIGNSTAT:290").starts_with("STATREPLY:290"));
    };
    (0..500).for_each(open);
    let before = lab.resident();
    (500..10_500).for_each(open);
    assert_eq!(lab.metric("labnet_rudp_sessions"), 10_500.0);
    let each = (lab.resident() - before) / 10_000;
    println!("{each} bytes each");
    assert!(each < 10_000, "{each} bytes each");
}
