//! HTTP from outside: who may ask for what, and what one address may take.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::support::{Lab, PATIENCE, labnet, loopback, wait_for};

const TOKEN: &str = "correct-horse-battery-staple";
/// What most pages of another address take at the most.
const SOON: Duration = Duration::from_secs(1);

/// A connection from an address of our own.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((from, 0)).into())
        .expect("a loopback address");
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// An answer: its status code, its head in lower case, its body as it came.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

fn ask_on(stream: &mut TcpStream, method: &str, path: &str, fields: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        code: code.unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// Asks a server with header fields of one's own.
fn ask(server: SocketAddr, method: &str, path: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    ask_on(&mut stream, method, path, &fields)
}

#[test]
fn a_page_that_points_its_name_at_the_lab_gets_nothing() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\nhosts = \"lab.example\"\n"
    ));
    let evil = ["Host: evil.test:9167", "Origin: http://evil.test:9167"];
    let refused = ask(lab.http, "POST", "/-/reload", &evil);
    assert_eq!(refused.code, 421, "{refused:?}");
    assert!(refused.body.contains("hosts"), "{refused:?}");
    for path in ["/", "/metrics", "/api/v1/status", "/nowhere"] {
        let refused = ask(lab.http, "GET", path, &evil[..1]);
        assert_eq!(refused.code, 421, "{path}: {refused:?}");
        assert!(!refused.body.contains("labnet_"));
    }
    assert_eq!(lab.metric("labnet_config_generation"), 1.0);
    // By an address or a name of its own, whatever the port: a tunnel has another one.
    for host in [
        "localhost:8000",
        "127.0.0.1",
        "0.0.0.0:9167",
        "[::1]:1",
        "LAB.example:9",
    ] {
        let host = format!("Host: {host}");
        assert_eq!(ask(lab.http, "GET", "/", &[&host]).code, 200, "{host}");
    }
    let tunnel = ["Host: localhost:8000", "Origin: http://localhost:8000"];
    assert_eq!(ask(lab.http, "POST", "/-/reload", &tunnel).code, 200);
    assert_eq!(ask(lab.http, "GET", "/", &[]).code, 400);
    assert_eq!(ask(lab.http, "GET", "/", &["Host: localhost"; 2]).code, 400);
}

#[test]
fn no_other_site_and_nobody_behind_a_proxy_changes_the_lab() {
    let lab = Lab::start("");
    for strange in [
        "Origin: http://localhost:3000",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1;host=localhost",
        "Via: 1.1 front",
    ] {
        let fields = ["Host: localhost", strange];
        let path = "/api/v1/components/http/crash";
        let refused = ask(lab.http, "POST", path, &fields);
        assert_eq!(refused.code, 403, "{strange}: {refused:?}");
        assert_eq!(ask(lab.http, "GET", "/metrics", &fields).code, 200);
    }
    assert_eq!(lab.metric("labnet_component_up{component=\"http\"}"), 1.0);
}

#[test]
fn with_a_token_changes_need_it_and_reads_if_they_are_protected() {
    let ip = loopback();
    let config = format!("[http]\nlisten = \"{ip}:9167\"\ntoken_file = \"token\"\n");
    let mut lab = Lab::start_with(&config, &[("token", &format!("{TOKEN}\n"))], None);
    let host = "Host: localhost";
    let right = format!("Authorization: Bearer {TOKEN}");
    let reload = |lab: &Lab, fields: &[&str]| ask(lab.http, "POST", "/-/reload", fields);
    let missing = reload(&lab, &[host]);
    assert_eq!(missing.code, 401, "{missing:?}");
    assert!(missing.head.contains("\r\nwww-authenticate: bearer realm"));
    assert!(missing.body.contains("token"), "{missing:?}");
    let wrong = reload(&lab, &[host, "Authorization: Bearer wrong"]);
    assert_eq!(wrong.code, 401);
    assert!(wrong.head.contains("invalid_token"), "{wrong:?}");
    assert_eq!(reload(&lab, &[host, &right]).code, 200);
    assert_eq!(ask(lab.http, "GET", "/metrics", &[host]).code, 200);
    // The program's own verbs.
    let url = format!("http://{}/", lab.http);
    let token = lab.dir().join("token");
    let token = token.to_str().expect("plain");
    let refused = labnet(&["reload", "--url", &url]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--token-file"), "{said}");
    let done = labnet(&["reload", "--url", &url, "--token-file", token]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    // A new token and protected reads: no restart is needed.
    let protected = format!("{config}protect_reads = true\n");
    fs::write(lab.config(), protected).expect("a file");
    fs::write(lab.dir().join("token"), "another-token-altogether").expect("a file");
    // The new one counts at once, and the old one no more.
    let another = "Authorization: Bearer another-token-altogether";
    assert_eq!(reload(&lab, &[host, &right]).code, 401);
    assert_eq!(reload(&lab, &[host, another]).code, 200);
    for path in ["/metrics", "/", "/api/v1/status"] {
        assert_eq!(ask(lab.http, "GET", path, &[host]).code, 401, "{path}");
        assert_eq!(ask(lab.http, "GET", path, &[host, another]).code, 200);
    }
    let status = labnet(&["status", "--url", &url, "--token-file", token]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    // A new token alone is a change that is named.
    fs::write(lab.dir().join("token"), TOKEN).expect("a file");
    let renewed = reload(&lab, &[host, &right]);
    assert!(renewed.body.contains("/token\"]"), "{renewed:?}");
    fs::write(lab.dir().join("token"), "another-token-altogether").expect("a file");
    assert_eq!(reload(&lab, &[host, another]).code, 200);
    // A file that says nothing is refused, and the old rules stay.
    fs::write(lab.dir().join("token"), "short").expect("a file");
    let refused = reload(&lab, &[host, another]);
    assert_eq!(refused.code, 400, "{refused:?}");
    assert!(refused.body.contains("token_file"), "{refused:?}");
    assert_eq!(lab.terminate(), Some(0));
}

/// A supervisor, a balancer or an orchestrator has no token, and learns nothing but the status.
#[test]
fn probes_need_no_token_and_say_no_more_than_their_status() {
    let ip = loopback();
    let config = format!(
        "[http]\nlisten = \"{ip}:9167\"\ntoken_file = \"token\"\n[origin]\nlisten = \"{ip}:8080\"\n"
    );
    let lab = Lab::start_with(&config, &[("token", TOKEN)], None);
    let host = "Host: localhost";
    let right = format!("Authorization: Bearer {TOKEN}");
    // Reads are protected, and there is something to be silent about.
    let (here, missing) = (format!("\"{ip}:8080\""), "192.0.2.1");
    let both = format!("[{here}, \"{missing}:8080\"]");
    let config = config
        .replace(&here, &both)
        .replace("\"token\"", "\"token\"\nprotect_reads = true");
    fs::write(lab.config(), config).expect("written");
    assert_eq!(
        ask(lab.http, "POST", "/-/reload", &[host, &right]).code,
        200
    );
    wait_for("what is missing", || {
        (ask(lab.http, "GET", "/-/ready", &[host]).code == 503).then_some(())
    });
    let told = ask(lab.http, "GET", "/-/ready", &[host, &right]);
    assert_eq!(told.code, 503);
    assert!(told.body.contains(missing), "{told:?}");
    for fields in [&[host][..], &[host, "Authorization: Bearer wrong"]] {
        let ready = ask(lab.http, "GET", "/-/ready", fields);
        assert_eq!((ready.code, ready.body.as_str()), (503, "not ready\n"));
        let healthy = ask(lab.http, "GET", "/-/healthy", fields);
        assert_eq!((healthy.code, healthy.body.as_str()), (200, "healthy\n"));
        for path in ["/metrics", "/api/v1/status", "/-/ready/", "/-/healthyx"] {
            assert_eq!(ask(lab.http, "GET", path, fields).code, 401, "{path}");
        }
        assert_eq!(ask(lab.http, "POST", "/-/ready", fields).code, 401);
    }
}

#[test]
fn browsers_are_told_to_load_nothing_else() {
    let lab = Lab::start("");
    for path in ["/", "/index.js", "/index.css", "/api/v1/status", "/nowhere"] {
        let answer = ask(lab.http, "GET", path, &["Host: localhost"]);
        for field in [
            "content-security-policy: default-src 'self'",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(field), "{path}: {answer:?}");
        }
        assert!(!answer.body.contains("<script>") && !answer.body.contains("<style"));
        assert!(!answer.body.contains(" style=") && !answer.body.contains(" onclick="));
    }
}

/// All on the network may read the built-in page, by whatever name it has there.
#[test]
fn the_built_in_page_has_any_name_and_no_frame() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"task2.pdf\"]\n"
    ));
    let origin: SocketAddr = (ip, 8080).into();
    for path in ["/", "/task2.pdf", "/nowhere"] {
        let answer = ask(origin, "GET", path, &["Host: files.school.example:81"]);
        assert!(matches!(answer.code, 200 | 404), "{answer:?}");
        for field in [
            "frame-ancestors 'none'",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(field), "{path}: {}", answer.head);
        }
    }
    assert_eq!(ask(origin, "GET", "/", &[]).code, 400);
    assert_eq!(ask(origin, "GET", "/", &["Host: a", "Host: b"]).code, 400);
    drop(lab);
}

/// Opens connections of one address that never finish their request, and others that read nothing.
fn besiege(from: Ipv4Addr, to: SocketAddr, path: &str, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|n| {
            let mut stream = connect_from(from, to);
            let request = if n % 2 == 0 {
                "GET / HTTP/1.1\r\nHost: local".to_owned()
            } else {
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            };
            // One that is refused may be gone by now.
            let _ = stream.write_all(request.as_bytes());
            stream
        })
        .collect()
}

#[test]
fn one_address_cannot_take_what_all_need() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\nmax_connections = 100\nmax_connections_per_address = 40\n\
         [origin]\nlisten = \"{ip}:8080\"\nsamples = [\"500MB.zip\"]\nmax_connections = 100\n\
         max_connections_per_address = 40\n"
    ));
    let (greedy, modest) = (loopback(), loopback());
    let origin: SocketAddr = (ip, 8080).into();
    for (server, path) in [(lab.http, "/metrics"), (origin, "/500MB.zip")] {
        let held = besiege(greedy, server, path, 600);
        let page = if server == origin { "/" } else { "/metrics" };
        let mut took = [0; 5].map(|_: u8| {
            let asked = Instant::now();
            let mut stream = connect_from(modest, server);
            let answer = ask_on(&mut stream, "GET", page, "Host: localhost\r\n");
            assert_eq!(answer.code, 200, "{answer:?}");
            asked.elapsed()
        });
        took.sort();
        assert!(took[2] < SOON, "{took:?}");
        drop(held);
    }
    let closed = |component: &str, reason: &str| {
        lab.metric(&format!(
            "labnet_connections_closed_total{{component=\"{component}\",reason=\"{reason}\"}}"
        ))
    };
    let counted = |component| closed(component, "made_room") + closed(component, "address_full");
    assert!(counted("http") >= 500.0, "{}", counted("http"));
    assert!(counted("origin") >= 500.0, "{}", counted("origin"));
    wait_for("the places to come free", || {
        (lab.metric("labnet_connections{component=\"origin\"}") == 0.0).then_some(())
    });
}

#[test]
fn who_has_a_share_in_use_is_told() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"{ip}:8080\"\n\
         samples = [\"500MB.zip\"]\nmax_connections_per_address = 3\n"
    ));
    let origin: SocketAddr = (ip, 8080).into();
    let greedy = loopback();
    let downloads: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect_from(greedy, origin);
            stream
                .write_all(b"GET /500MB.zip HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("sent");
            // It has begun.
            stream.read_exact(&mut [0; 1000]).expect("an answer");
            stream
        })
        .collect();
    let mut fourth = connect_from(greedy, origin);
    let refused = ask_on(&mut fourth, "GET", "/", "Host: localhost\r\n");
    assert_eq!(refused.code, 503, "{refused:?}");
    assert!(refused.body.contains("3 connections"), "{refused:?}");
    assert!(refused.head.contains("retry-after"), "{refused:?}");
    drop(downloads);
    wait_for("the share to come free", || {
        let mut stream = connect_from(greedy, origin);
        let answer = ask_on(&mut stream, "GET", "/", "Host: localhost\r\n");
        (answer.code == 200).then_some(())
    });
    let series = "labnet_connections_closed_total{component=\"origin\",reason=\"address_full\"}";
    assert!(lab.metric(series) >= 1.0);
}

#[test]
fn slow_questions_of_one_address_leave_others_theirs() {
    const ZONE: &str = "$TTL 1h\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    let ip = loopback();
    let lab = Lab::start_with(
        &format!(
            "[http]\nlisten = \"{ip}:9167\"\n[dns]\nlisten = \"{ip}:5300\"\n\
             [[dns.zone]]\nname = \"test.\"\nfile = \"zone\"\n"
        ),
        &[("zone", ZONE)],
        None,
    );
    let server: SocketAddr = (ip, 5300).into();
    let (greedy, modest) = (loopback(), loopback());
    let question = b"\x00\x19\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ns\x04test\x00\x00\x01\x00\x01";
    let held: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect_from(greedy, server);
            let _ = stream.write_all(&question[..9]);
            stream
        })
        .collect();
    let answered = (0..100).filter(|_| {
        let mut stream = connect_from(modest, server);
        let mut length = [0; 2];
        stream.write_all(question).is_ok() && stream.read_exact(&mut length).is_ok()
    });
    assert!(answered.count() >= 95);
    drop(held);
    let series = "labnet_connections_closed_total{component=\"dns\",reason=\"made_room\"}";
    assert_eq!(lab.metric(series), 136.0, "200 less the share of 64");
}

/// One role's requests may take their time, another's may not.
#[test]
fn a_request_has_the_time_that_its_table_gives() {
    const ZONE: &str = "$TTL 1h\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    let ip = loopback();
    let tables = |short: &str| {
        let time = |table| match table == short {
            true => "request_timeout = \"1s\"",
            false => "request_timeout = \"1h\"",
        };
        format!(
            "[http]\nlisten = \"{ip}:9167\"\n{}\n[origin]\nlisten = \"{ip}:8080\"\n{}\n\
             [scrap]\nlisten = \"{ip}:49153\"\n{}\n\
             [dns]\nlisten = \"{ip}:5300\"\n{}\n[[dns.zone]]\nname = \"test.\"\nfile = \"zone\"\n",
            time("http"),
            time("origin"),
            time("scrap"),
            time("dns")
        )
    };
    let lab = Lab::start_with(&tables("none"), &[("zone", ZONE)], None);
    let begun = |port: u16| {
        let mut stream = connect_from(loopback(), (ip, port).into());
        stream.write_all(b"S").expect("sent");
        stream
    };
    let timeouts = |component: &str| {
        lab.metric(&format!(
            "labnet_connections_closed_total{{component=\"{component}\",reason=\"timeout\"}}"
        ))
    };
    let components = [
        ("http", 9167),
        ("origin", 8080),
        ("scrap", 49153),
        ("dns", 5300),
    ];
    for (component, port) in components {
        // A reload gives the time to those who come then.
        fs::write(lab.config(), tables(component)).expect("a file");
        assert_eq!(lab.post("/-/reload").0, 200);
        let patient = components.map(|(_, port)| begun(port));
        let mut short = begun(port);
        assert!(
            matches!(short.read(&mut [0; 100]), Ok(0) | Err(_)),
            "{component}"
        );
        wait_for("the count", || (timeouts(component) >= 1.0).then_some(()));
        for ((other, _), stream) in components.iter().zip(patient) {
            stream.set_nonblocking(true).expect("a socket");
            let open = (&stream)
                .read(&mut [0; 100])
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(
                open || *other == component,
                "{other} while {component} has no time"
            );
        }
    }
}

#[test]
#[ignore = "needs four minutes"]
fn who_takes_nothing_is_closed_and_a_slow_line_is_not() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"500MB.zip\"]\n"
    ));
    let origin: SocketAddr = (ip, 8080).into();
    let begin = || {
        let mut stream = connect_from(loopback(), origin);
        stream
            .write_all(b"GET /500MB.zip HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        stream
    };
    let mut slow = begin();
    // As of a slow line, its acknowledgements come in small steps, not whenever 64 kB have been read.
    let small = socket2::SockRef::from(&slow).set_recv_buffer_size(8192);
    small.expect("a small buffer");
    let mut stalled = begin();
    let started = Instant::now();
    let series = "labnet_connections_closed_total{component=\"origin\",reason=\"slow\"}";
    // A line of 10 kbit/s, for longer than the other is borne.
    while started.elapsed() < Duration::from_secs(240) {
        let mut second = [0; 1250];
        slow.read_exact(&mut second).expect("the slow line goes on");
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(lab.metric(series), 1.0);
    let mut rest = Vec::new();
    assert!(stalled.read_to_end(&mut rest).is_err() || rest.len() < 500_000_000);
}

/// Asks on a connection that stays: status code and body.
fn ask_again(stream: &mut TcpStream, method: &str, path: &str) -> (u16, String) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)
        .expect("a head")
        .to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        code.expect("a code"),
        String::from_utf8_lossy(&body).into_owned(),
    )
}

#[test]
fn a_reload_leaves_connections_that_stay_and_downloads_under_way() {
    let ip = loopback();
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"40MB.zip\"]\n");
    let lab = Lab::start(&format!("{http}{origin}"));
    let page: SocketAddr = (ip, 8080).into();
    let mut stays = connect_from(loopback(), lab.http);
    let mut stays_there = connect_from(loopback(), page);
    let crash = "/api/v1/components/nobody/crash";
    assert_eq!(ask_again(&mut stays, "POST", crash).0, 403);
    assert_eq!(ask_again(&mut stays_there, "GET", "/").0, 200);
    let mut download = connect_from(loopback(), page);
    download
        .write_all(b"GET /40MB.zip HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut received = vec![0; 1 << 20];
    download.read_exact(&mut received).expect("the beginning");
    // Other rules, limits and one address more: the connection that asks for it sees them.
    let more = loopback();
    let changed = http.replace(
        &format!("\"{ip}:9167\""),
        &format!("[\"{ip}:9167\", \"{more}:9167\"]"),
    ) + "fault_injection = true\nmax_connections = 99\n";
    fs::write(
        lab.config(),
        format!("{changed}{}", origin.replace("40MB", "7MB")),
    )
    .expect("a file");
    let (code, body) = ask_again(&mut stays, "POST", "/-/reload");
    assert_eq!(code, 200, "{body}");
    assert_eq!(ask_again(&mut stays, "POST", crash).0, 404);
    assert_eq!(
        ask((more, 9167).into(), "GET", "/-/ready", &["Host: localhost"]).code,
        200
    );
    assert_eq!(ask_again(&mut stays_there, "GET", "/40MB.zip").0, 404);
    // The download page is removed: who waits is let go, what is under way arrives.
    fs::write(lab.config(), &changed).expect("a file");
    let (code, body) = ask_again(&mut stays, "POST", "/-/reload");
    assert_eq!(code, 200, "{body}");
    assert!(!body.contains("stuck"), "{body}");
    assert_eq!(stays_there.read(&mut [0; 1]).expect("the end"), 0);
    wait_for("the listener to close", || {
        TcpStream::connect(page).is_err().then_some(())
    });
    // Longer than a role has to stop.
    thread::sleep(Duration::from_secs(7));
    download.read_to_end(&mut received).expect("the rest");
    let head = received.windows(4).position(|window| window == b"\r\n\r\n");
    assert_eq!(received.len() - head.expect("a head") - 4, 40_000_000);
    assert_eq!(ask_again(&mut stays, "GET", "/-/ready").0, 200);
}

#[test]
fn every_address_of_the_host_is_of_both_families() {
    let listener = TcpListener::bind("[::]:0").expect("IPv6");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"[::]:{port}\"\n"
    ));
    for server in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let address = server.parse().expect("an address");
        let host = format!("Host: {server}");
        assert_eq!(ask(address, "GET", "/", &[&host]).code, 200, "{server}");
    }
    drop(lab);
}

/// A page of another web server, which answers everything alike.
fn web(answer: String) -> SocketAddr {
    let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn the_scraper_follows_no_redirect_off_its_page_unless_it_may() {
    let elsewhere = web(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<a href=secret.zip>s</a>"
            .to_owned(),
    );
    let page = web(format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    ));
    let ip = loopback();
    let config = format!(
        "[http]\nlisten = \"{ip}:9167\"\n[scrap]\nlisten = \"{ip}:49153\"\norigin = \"http://{page}/\"\n"
    );
    let lab = Lab::start(&config);
    wait_for("the refusal in the log", || {
        lab.log().contains("redirects_elsewhere").then_some(())
    });
    assert!(lab.metric("labnet_scrap_fetches_total{result=\"error\"}") >= 1.0);
    assert_eq!(lab.metric("labnet_scrap_files"), 0.0);
    fs::write(
        lab.config(),
        format!("{config}redirects_elsewhere = true\n"),
    )
    .expect("a file");
    assert_eq!(lab.post("/-/reload").0, 200);
    wait_for("the files from elsewhere", || {
        (lab.metric("labnet_scrap_files") == 1.0).then_some(())
    });
}
