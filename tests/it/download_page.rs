//! The scraper between a web server and its TCP peers, with real sockets on loopback.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use labnet::{
    config::{ConnectionLimits, OriginFiles, Scrap},
    role::Role,
    scrap::{ScrapActor, catalog},
};
use url::Url;

use crate::support::{
    PATIENCE,
    in_process::{Running, ask, metric, origin, resources},
    wait_for,
};

/// So many, all of them of one address.
fn peers(total: usize) -> ConnectionLimits {
    ConnectionLimits::of(total, total)
}

fn scrap_config(page: SocketAddr, refresh: Duration) -> Scrap {
    Scrap {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        origin: Url::parse(&format!("http://{page}/")).unwrap(),
        refresh,
        peers: peers(256),
        redirects_elsewhere: false,
    }
}

const SELDOM: Duration = Duration::from_secs(3600);

fn question(scraper: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(scraper).expect("the scraper");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn list(scraper: SocketAddr) -> String {
    question(scraper, "SIGNGET")
}

/// A web server that answers each request's head with what the test says, and notes the heads.
struct Web {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Web {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), answer)
    }

    fn on(address: SocketAddr, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        // As any server does: the port of one that has just ended may be taken.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&address.into()).expect("loopback");
        socket.listen(16).expect("a listener");
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (Arc::clone(&heads), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.extend(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let answer = answer(&head);
                noted.lock().unwrap().push(head);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            address,
            heads,
            stop,
            thread: Some(thread),
        }
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the web server");
        }
    }
}

fn html(fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\
         Connection: close\r\n{fields}\r\n{body}"
    )
}

#[test]
fn the_scraper_lists_what_the_origin_offers() {
    let resources = resources();
    let dir = tempfile::tempdir().expect("a folder");
    let names = [
        "100%.txt",
        "50MB.zip",
        "a;b.txt",
        "c:d.txt",
        "grün.txt",
        "q?x#y.txt",
    ];
    for name in names {
        fs::write(dir.path().join(name), name).expect("a file");
    }
    fs::create_dir(dir.path().join("sub")).expect("a folder");
    let origin = origin(OriginFiles::Folder(dir.path().to_owned()), &resources);
    let scraper = Running::<ScrapActor>::start(&scrap_config(origin.address, SELDOM), &resources);
    let answer = list(scraper.address);
    assert_eq!(
        answer,
        "100%25.txt;50MB.zip;a%3Bb.txt;c:d.txt;gr%C3%BCn.txt;q?x#y.txt;"
    );
    let decoded = answer.split_terminator(';').map(catalog::decode);
    assert!(decoded.eq(names.map(|name| Some(name.to_owned()))));
    for wire in answer.split_terminator(';') {
        let url = question(scraper.address, &format!("SIGNURL:{wire}\n"));
        let url = Url::parse(&url).expect("a URL");
        let file = ask(origin.address, &format!("GET {}", url.path()), &[]);
        let name = catalog::decode(wire).expect("a name");
        assert_eq!((file.status, &*file.body), (200, name.as_bytes()));
    }
    assert_eq!(question(scraper.address, "SIGNURL:none.zip\n"), "SIGNNONE");
    assert_eq!(metric(&resources, "labnet_scrap_files"), 6.0);
    let series = "labnet_scrap_requests_total{type=\"signurl\"}";
    assert_eq!(metric(&resources, series), 7.0);
}

#[test]
fn an_unchanged_page_is_asked_for_by_its_tag() {
    let resources = resources();
    let web = Web::start(|head| {
        if head.contains("if-none-match: \"one\"") && head.contains("if-modified-since: Fri,") {
            "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\nConnection: close\r\n\r\n".into()
        } else {
            let fields = "ETag: \"one\"\r\nLast-Modified: Fri, 28 Apr 2023 08:59:02 GMT\r\n";
            html(fields, "<a href=one.zip>")
        }
    });
    let config = scrap_config(web.address, Duration::from_secs(1));
    let scraper = Running::<ScrapActor>::start(&config, &resources);
    let series = "labnet_scrap_fetches_total{result=\"not_modified\"}";
    wait_for("two 304s", || {
        (metric(&resources, series) >= 2.0).then_some(())
    });
    assert_eq!(list(scraper.address), "one.zip;");
    assert_eq!(
        metric(&resources, "labnet_scrap_fetches_total{result=\"ok\"}"),
        1.0
    );
    let heads = web.heads.lock().unwrap();
    assert!(heads[0].starts_with("GET / HTTP/1.1\r\n"));
    assert!(heads[0].contains(&format!("host: {}\r\n", web.address)));
    assert!(!heads[0].contains("accept-encoding") && !heads[0].contains("if-none-match"));
}

#[test]
fn a_page_that_forbids_caching_is_asked_for_before_each_answer() {
    let start = Instant::now();
    let resources = resources();
    let files = Arc::new(Mutex::new("one.zip"));
    let shown = Arc::clone(&files);
    let web = Web::start(move |_| {
        let file = *shown.lock().unwrap();
        html("Cache-Control: no-cache\r\n", &format!("<a href={file}>"))
    });
    let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources);
    assert_eq!(list(scraper.address), "one.zip;");
    *files.lock().unwrap() = "two.zip";
    wait_for("the new list", || {
        (list(scraper.address) == "two.zip;").then_some(())
    });
    // Not twice within a second.
    assert!(web.requests() as u64 <= 2 + start.elapsed().as_secs());
}

#[test]
fn redirects_are_followed_a_few_times() {
    let resources = resources();
    let web = Web::start(|head| match head.split(' ').nth(1).expect("a path") {
        "/" => "HTTP/1.1 302 Found\r\nLocation: /pub\r\nContent-Length: 0\r\n\r\n".into(),
        "/pub" => "HTTP/1.1 301 Moved\r\nLocation: pub/\r\nContent-Length: 0\r\n\r\n".into(),
        "/pub/" => html("", "<a href=one.zip><a href=/><a href=./>"),
        _ => "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n".into(),
    });
    let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources);
    assert_eq!(list(scraper.address), "one.zip;");
    assert_eq!(
        question(scraper.address, "SIGNURL:one.zip\n"),
        format!("http://{}/pub/one.zip", web.address)
    );
    let mut config = scrap_config(web.address, SELDOM);
    config.origin = config.origin.join("loop").unwrap();
    let lost = Running::<ScrapActor>::start(&config, &resources);
    assert_eq!(list(lost.address), "");
}

#[test]
fn what_is_no_page_is_no_list() {
    let page = html("", "<a href=one.zip>");
    let answers = [
        (
            "an error",
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        ("no HTML", page.replace("text/html", "image/png")),
        ("compressed", html("Content-Encoding: gzip\r\n", "\x1f")),
        ("cut off", page.replace("Length: 16", "Length: 999")),
        ("too large", html("", &"<a href=one.zip>".repeat(600_000))),
        ("an unasked 304", "HTTP/1.1 304 Not Modified\r\n\r\n".into()),
        (
            "a redirect away",
            "HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n".into()),
    ];
    for (what, answer) in answers {
        let resources = resources();
        let web = Web::start(move |_| answer.clone());
        let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources);
        let series = "labnet_scrap_fetches_total{result=\"error\"}";
        wait_for(what, || (metric(&resources, series) >= 1.0).then_some(()));
        assert_eq!(metric(&resources, "labnet_scrap_files"), 0.0, "{what}");
        assert_eq!(list(scraper.address), "", "{what}");
    }
}

#[test]
fn the_list_outlives_the_origin_and_the_actor() {
    let resources = resources();
    // Down at first: a port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = scrap_config(address, Duration::from_secs(1));
    let scraper = Running::<ScrapActor>::start(&config, &resources);
    assert_eq!(list(scraper.address), "");

    let web = Web::on(address, |_| html("", "<a href=one.zip>"));
    wait_for("the list", || {
        (list(scraper.address) == "one.zip;").then_some(())
    });

    drop(web);
    let errors = || metric(&resources, "labnet_scrap_fetches_total{result=\"error\"}");
    let before = errors();
    wait_for("a failure", || (errors() > before).then_some(()));
    assert_eq!(list(scraper.address), "one.zip;");
    let scraper = scraper.crash_and_resume();
    assert_eq!(list(scraper.address), "one.zip;");
    assert_eq!(metric(&resources, "labnet_scrap_files"), 1.0);

    let _web = Web::on(address, |_| html("", "<a href=two.zip>"));
    wait_for("the new list", || {
        (list(scraper.address) == "two.zip;").then_some(())
    });
}

#[test]
fn a_question_waits_for_the_first_list() {
    let (ready, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let web = Web::start(move |_| {
        let _ = wait.lock().unwrap().recv();
        html("", "<a href=one.zip>")
    });
    let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources());
    thread::scope(|scope| {
        let asked = scope.spawn(|| list(scraper.address));
        thread::sleep(Duration::from_millis(200));
        assert!(!asked.is_finished());
        drop(ready);
        assert_eq!(asked.join().unwrap(), "one.zip;");
    });
}

#[test]
fn a_question_outlives_the_actor() {
    let page = Web::start(|_| html("", "<a href=one.zip>"));
    let scraper = Running::<ScrapActor>::start(&scrap_config(page.address, SELDOM), &resources());
    assert_eq!(list(scraper.address), "one.zip;");
    let mut stream = TcpStream::connect(scraper.address).unwrap();
    stream.write_all(b"SIGN").unwrap();
    thread::sleep(Duration::from_millis(100));
    scraper.crash();
    stream.write_all(b"GET").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "one.zip;");
}

#[test]
fn odd_peers_are_answered_and_broken_ones_counted() {
    let resources = resources();
    let web = Web::start(|_| html("", "<a href=one.zip>"));
    let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources);
    let address = scraper.address;
    // Byte by byte.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"SIGNGET" {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "one.zip;");
    // Half-closed, with and without a newline.
    for request in ["SIGNGET", "SIGNGET\n", "SIGNGET\r\n", "SIGNURL:one.zip"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("one.zip"), "{request:?}: {answer:?}");
    }
    // A newline that comes after the answer must not turn it into a reset.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"SIGNGET").unwrap();
    thread::sleep(Duration::from_millis(100));
    stream.write_all(b"\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "one.zip;");
    let count = |kind: &str| {
        metric(
            &resources,
            &format!("labnet_scrap_requests_total{{type=\"{kind}\"}}"),
        )
    };
    assert_eq!((count("signget"), count("signurl")), (5.0, 1.0));
    // No questions.
    for request in ["GET / HTTP/1.1\r\n\r\n", "SIGNGETTING", "\0", "SIGNURL:\n"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    let silent = TcpStream::connect(address).unwrap();
    drop(TcpStream::connect(address).unwrap());
    wait_for("the invalid ones", || {
        (count("invalid") == 5.0).then_some(())
    });
    wait_for("the silent one", || (count("timeout") == 1.0).then_some(()));
    drop(silent);
}

#[test]
fn who_holds_all_connections_cannot_keep_out_who_asks() {
    let resources = resources();
    let web = Web::start(|_| html("", "<a href=one.zip>"));
    let config = Scrap {
        peers: peers(8),
        ..scrap_config(web.address, SELDOM)
    };
    let scraper = Running::<ScrapActor>::start(&config, &resources);
    let held: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(scraper.address).unwrap())
        .collect();
    assert_eq!(list(scraper.address), "one.zip;");
    let series = "labnet_connections_closed_total{component=\"scrap\",reason=\"made_room\"}";
    assert!(metric(&resources, series) >= 1.0);
    drop(held);
}

#[test]
fn a_slow_reader_holds_up_nobody() {
    let names: String = (0..9_000)
        .map(|n| format!("<a href={}{n}>", "%C3%BC".repeat(100)))
        .collect();
    let web = Web::start(move |_| html("", &names));
    let scraper = Running::<ScrapActor>::start(&scrap_config(web.address, SELDOM), &resources());
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(scraper.address).unwrap();
            stream.write_all(b"SIGNGET").unwrap();
            stream
        })
        .collect();
    let whole = list(scraper.address);
    assert_eq!(whole.matches(';').count(), 9_000);
    let mut late = String::new();
    slow[0].read_to_string(&mut late).unwrap();
    assert!(late == whole);
}

#[test]
fn a_reload_keeps_listener_and_list() {
    let resources = resources();
    let web = Web::start(|_| html("", "<a href=one.zip>"));
    let config = Scrap {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..scrap_config(web.address, SELDOM)
    };
    let scraper = Running::<ScrapActor>::start(&config, &resources);
    assert_eq!(list(scraper.address), "one.zip;");
    let changed = Scrap {
        refresh: SELDOM * 2,
        peers: peers(9),
        ..config.clone()
    };
    let kept = ScrapActor::prepare(&changed, Some(&scraper.keep.get()), &resources);
    let kept = kept.expect("prepared");
    assert_eq!(
        ScrapActor::listens(&kept),
        ScrapActor::listens(&scraper.keep.get())
    );
    scraper.keep.set(kept);
    let scraper = scraper.crash_and_resume();
    assert_eq!(list(scraper.address), "one.zip;");
    assert_eq!(web.requests(), 1);
    // Another page: the old list is none of its.
    let other = Web::start(|_| html("", "<a href=other.zip>"));
    let elsewhere = Scrap {
        origin: Url::parse(&format!("http://{}/", other.address)).unwrap(),
        ..changed
    };
    let kept = ScrapActor::prepare(&elsewhere, Some(&scraper.keep.get()), &resources);
    scraper.keep.set(kept.expect("prepared"));
    let scraper = scraper.crash_and_resume();
    assert_eq!(list(scraper.address), "other.zip;");
}

#[test]
fn a_page_behind_https_is_refused() {
    let config = Scrap {
        origin: Url::parse("https://example.com/").unwrap(),
        ..scrap_config("127.0.0.1:80".parse().unwrap(), SELDOM)
    };
    let error = ScrapActor::prepare(&config, None, &resources()).err();
    assert_eq!(error.expect("refused").key, "scrap.origin");
}
