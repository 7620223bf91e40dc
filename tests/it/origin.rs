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
    origin::{OriginActor, sample},
    role::Role,
};
use sha2::{Digest, Sha256};

use crate::support::{
    PATIENCE,
    in_process::{ask, metric, origin, resources},
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
            connections: labnet::config::Connections {
                total: 64,
                per_address: 64,
            },
        };
        let error = OriginActor::prepare(&config, None, &resources()).err();
        assert_eq!(error.expect("refused").key, key);
    }
}
