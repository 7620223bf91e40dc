//! The origin's HTTP, with real sockets on loopback.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use labnet::{
    config::{Origin, OriginFiles},
    net::allowed_congestion,
    origin::{OriginActor, sample},
    role::Role,
};
use sha2::{Digest, Sha256};

use crate::support::{
    PATIENCE,
    in_process::{ask, metric, origin, resources},
    wait_for,
};

fn samples(names: &[&str]) -> OriginFiles {
    OriginFiles::Samples(names.iter().map(|&name| name.into()).collect())
}

fn contents(name: &str) -> Vec<u8> {
    let sample = sample(name).expect("a sample");
    let mut bytes = vec![0; sample.len() as usize];
    sample.read_at(0, &mut bytes);
    bytes
}

#[test]
fn samples_are_served_whole_and_in_parts() {
    let resources = resources();
    let origin = origin(samples(&["300kB.zip", "task2.pdf"]), &resources);
    let expected = contents("300kB.zip");
    let whole = ask(origin.address, "GET /300kB.zip", &[]);
    assert_eq!((whole.status, whole.body.len()), (200, 300_000));
    assert!(whole.body == expected);
    assert_eq!(whole.field("content-type"), Some("application/zip"));
    assert_eq!(whole.field("content-length"), Some("300000"));
    assert_eq!(whole.field("accept-ranges"), Some("bytes"));
    assert_eq!(
        whole.field("last-modified"),
        Some("Fri, 28 Apr 2023 08:59:02 GMT")
    );
    let etag = whole.field("etag").expect("a tag").to_owned();

    let head = ask(origin.address, "HEAD /300kB.zip", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some("300000"));

    for (range, expected) in [
        ("bytes=100000-200000", &expected[100_000..=200_000]),
        ("bytes=299999-", &expected[299_999..]),
        ("bytes=-70000", &expected[230_000..]),
    ] {
        let part = ask(
            origin.address,
            "GET /300kB.zip",
            &[&format!("Range: {range}"), &format!("If-Range: {etag}")],
        );
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == expected, "{range}");
    }
    let behind = ask(origin.address, "GET /300kB.zip", &["Range: bytes=300000-"]);
    assert_eq!(behind.status, 416);
    assert_eq!(behind.field("content-range"), Some("bytes */300000"));
    let fresh = ask(
        origin.address,
        "GET /300kB.zip",
        &[&format!("If-None-Match: {etag}")],
    );
    assert_eq!((fresh.status, fresh.body.len()), (304, 0));

    let sent = metric(&resources, "labnet_origin_sent_bytes_total");
    assert_eq!(sent, 300_000.0 + 100_001.0 + 1.0 + 70_000.0);
    for (code, count) in [(200, 2.0), (206, 3.0), (304, 1.0), (416, 1.0)] {
        let series = format!("labnet_origin_requests_total{{code=\"{code}\"}}");
        assert_eq!(metric(&resources, &series), count, "{code}");
    }
}

#[test]
fn what_is_not_offered_is_not_there() {
    let origin = origin(samples(&["1kB.zip"]), &resources());
    for path in [
        "/2kB.zip",
        "/1kB.zip/",
        "//1kB.zip",
        "/%2e%2e/etc/passwd",
        "/1kB.zip%00",
    ] {
        let answer = ask(origin.address, &format!("GET {path}"), &[]);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.starts_with(b"404 Not Found"));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = ask(origin.address, &format!("{method} /1kB.zip"), &[]);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.field("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn the_digest_comes_when_it_is_wanted_and_stays() {
    let origin = origin(samples(&["300kB.zip"]), &resources());
    let digest = BASE64_STANDARD.encode(Sha256::digest(contents("300kB.zip")));
    let expected = format!("sha-256=:{digest}:");
    assert_eq!(
        ask(origin.address, "HEAD /300kB.zip", &[]).field("repr-digest"),
        None
    );
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let wants = ["Want-Repr-Digest: sha-256=10", "Range: bytes=5-9"];
                let answer = ask(origin.address, "GET /300kB.zip", &wants);
                assert_eq!(answer.status, 206);
                assert_eq!(answer.field("repr-digest"), Some(&*expected));
            });
        }
    });
    let origin = origin.crash_and_resume();
    assert_eq!(
        ask(origin.address, "HEAD /300kB.zip", &[]).field("repr-digest"),
        Some(&*expected)
    );
}

#[test]
fn a_folder_is_served_as_it_is_now() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a;b ü%.txt");
    fs::write(&path, "first").expect("a file");
    let origin = origin(OriginFiles::Folder(dir.path().to_owned()), &resources());
    let wants = ["Want-Repr-Digest: sha-256=1"];
    let request = "GET /a%3Bb%20%C3%BC%25.txt";
    let first = ask(origin.address, request, &wants);
    assert_eq!((first.status, &*first.body), (200, &b"first"[..]));
    assert_eq!(
        first.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let page = ask(origin.address, "GET /", &[]);
    let page_tag = format!("If-None-Match: {}", page.field("etag").expect("a tag"));
    assert_eq!(ask(origin.address, "GET /", &[&page_tag]).status, 304);

    fs::write(&path, "second time").expect("a file");
    let second = ask(origin.address, request, &wants);
    assert_eq!((second.status, &*second.body), (200, &b"second time"[..]));
    assert_ne!(first.field("etag"), second.field("etag"));
    assert_ne!(first.field("repr-digest"), second.field("repr-digest"));
    assert_eq!(ask(origin.address, "GET /", &[&page_tag]).status, 200);

    fs::remove_file(&path).expect("removed");
    assert_eq!(ask(origin.address, request, &[]).status, 404);
    dir.close().expect("removed");
    assert_eq!(ask(origin.address, "GET /", &[]).status, 500);
}

#[test]
fn a_file_that_shrinks_breaks_its_download_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("large.bin");
    let file = fs::File::create(&path).expect("a file");
    file.set_len(64 << 20).expect("a sparse file");
    let origin = origin(OriginFiles::Folder(dir.path().to_owned()), &resources());
    let mut stream = TcpStream::connect(origin.address).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    stream.read_exact(&mut [0; 1000]).expect("a beginning");
    file.set_len(0).expect("shrunk");
    let mut received = 1000;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => received += length,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    assert!(received < 64 << 20);
}

#[test]
fn a_missing_folder_and_an_unknown_sample_are_refused() {
    for (files, key) in [
        (OriginFiles::Folder("/nowhere".into()), "origin.files"),
        (samples(&["1kB.zip", "song.mp3"]), "origin.samples"),
    ] {
        let config = Origin {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            files,
            congestion: None,
            connections: labnet::config::ConnectionLimits::of(64, 64),
        };
        let error = OriginActor::prepare(&config, None, &resources()).err();
        assert_eq!(error.expect("refused").key, key);
    }
}

/// A request over a connection that lives on; the head of the answer, whose body has been read.
fn ask_on(stream: &mut TcpStream, fields: &str) -> String {
    let request = format!("GET /1kB.zip HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        bytes.extend(byte);
    }
    stream.read_exact(&mut [0; 1000]).expect("a body");
    String::from_utf8(bytes).expect("text").to_lowercase()
}

#[test]
fn an_answer_is_sent_by_the_congestion_control_that_was_asked_for_and_says_so() {
    let files = samples(&["1kB.zip"]);
    let origin = origin(files, &resources());
    let mut stream = TcpStream::connect(origin.address).expect("a server");
    let ran = |head: &str| {
        let (_, rest) = head
            .split_once("labnet-congestion: ")
            .expect("it says what ran");
        rest.lines().next().expect("a name").to_owned()
    };
    let default = ran(&ask_on(&mut stream, ""));
    for name in allowed_congestion() {
        let head = ask_on(&mut stream, &format!("Labnet-Congestion: {name}\r\n"));
        assert_eq!(ran(&head), name);
        // The next request says nothing, and gets what it would have got before.
        assert_eq!(ran(&ask_on(&mut stream, "")), default);
    }
    for refused in [
        "nosuch",
        "../../etc/passwd",
        "",
        "a-name-that-is-longer-than-any",
    ] {
        let head = ask_on(&mut stream, &format!("Labnet-Congestion: {refused}\r\n"));
        assert_eq!(ran(&head), default, "{refused:?}");
    }
}

#[test]
fn a_file_on_its_way_is_told_with_what_the_kernel_measures() {
    let resources = resources();
    let origin = origin(samples(&["20MB.zip"]), &resources);
    let name = allowed_congestion().pop().expect("one at least");
    let mut stream = TcpStream::connect(origin.address).expect("a server");
    let request = format!("GET /20MB.zip HTTP/1.1\r\nHost: x\r\nLabnet-Congestion: {name}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    // Some of it is read, the rest waits.
    stream.read_exact(&mut [0; 100_000]).expect("a part");
    let here = stream.local_addr().expect("bound");
    let labels = format!("{{client=\"127.0.0.1\",connection=\"{here}\"}}");
    let number = |key: &str| {
        let series = format!("labnet_origin_transfer_{key}{labels} ");
        let shown = resources.metrics.render();
        let value = shown
            .lines()
            .find_map(|line| line.strip_prefix(&series))?
            .parse()
            .ok();
        value.map(|value: f64| (value, shown))
    };
    let (segments, _) = wait_for("segments", || {
        number("segments_sent_total").filter(|(segments, _)| *segments > 0.0)
    });
    let (window, shown) = number("window_bytes").expect("a window");
    assert!(window > 1000.0 && segments < 20_000.0, "{shown}");
    assert!(number("rtt_seconds").is_some_and(|(rtt, _)| rtt < 1.0));
    let by = format!("labnet_origin_transfers{{congestion=\"{name}\"}}");
    assert_eq!(metric(&resources, &by), 1.0);
    let listed = origin.transfers();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&*listed[0].kind, listed[0].client), ("http", here));
    assert_eq!(listed[0].statistics["file"], "20MB.zip");
    assert_eq!(listed[0].statistics["congestion"], *name);
    assert_eq!(listed[0].statistics["length_bytes"], 20_000_000);
    assert!(listed[0].statistics["bytes_sent"].as_u64() >= Some(100_000));
    // A client that vanishes takes its series with it.
    drop(stream);
    wait_for("the end of the series", || {
        (!resources.metrics.render().contains(&labels)).then_some(())
    });
    assert_eq!(metric(&resources, &by), 0.0);
    assert!(origin.transfers().is_empty());
}
