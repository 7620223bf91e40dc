//! Downloads from origins that misbehave: each test writes the answers of its server byte by byte.

mod origin;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use labnet::client::{
    download::{DownloadError, Downloaded, Downloader, Progress},
    file_name::FileName,
    http::{Http, HttpError},
    part::DiskError,
    source::{Source, SourceError},
};
use origin::{Origin, contents, digest_field, ok, partial, say, say_and_reset};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use url::Url;

const HTTP: Http = Http {
    local: Some(IpAddr::V4(Ipv4Addr::new(127, 20, 30, 77))),
    dns: None,
    patience: Duration::from_secs(20),
};

fn at(url: &Url, http: Http) -> Source {
    let url = url.clone();
    Source::Http {
        http,
        url,
        congestion: None,
    }
}

fn downloader(folder: &Path) -> Downloader {
    Downloader {
        folder: folder.to_owned(),
        force: false,
        discard: false,
        retries: 3,
        pause: Duration::from_millis(1),
    }
}

async fn fetch_with(
    downloader: &Downloader,
    origin: &Origin,
) -> (Result<Downloaded, DownloadError>, Vec<String>) {
    fetch_by(downloader, at(&origin.url, HTTP)).await
}

async fn fetch_by(
    downloader: &Downloader,
    source: Source,
) -> (Result<Downloaded, DownloadError>, Vec<String>) {
    let mut interruptions = Vec::new();
    let result = downloader
        .fetch(source, &FileName::from_wire("file.bin"), &mut |event| {
            if let Progress::Again { because, .. } = event {
                interruptions.push(because.to_string());
            }
        })
        .await;
    (result, interruptions)
}

async fn fetch(folder: &Path, origin: &Origin) -> (Result<Downloaded, DownloadError>, Vec<String>) {
    fetch_with(&downloader(folder), origin).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_file_arrives_whole_from_the_clients_own_address() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| {
        let body = contents();
        say(stream, ok(body.len(), &digest_field(&body)), body)
    })
    .await;
    let (result, interruptions) = fetch(folder.path(), &origin).await;
    let file = result.expect("it arrives");
    assert_eq!(interruptions, [""; 0]);
    assert_eq!(fs::read(&file.path).unwrap(), contents());
    assert_eq!(file.bytes, contents().len() as u64);
    assert_eq!(file.received, file.bytes);
    assert_eq!(file.sha256, Some(Sha256::digest(contents()).into()));
    assert!(file.verified);
    assert_eq!(names(folder.path()), ["file.bin"]);
    let [request] = &origin.requests()[..] else {
        panic!("{:?}", origin.requests());
    };
    assert_eq!(request.line, "GET /file.bin HTTP/1.1");
    assert_eq!(request.peer.ip(), Ipv4Addr::new(127, 20, 30, 77));
    assert_eq!(request.field("want-repr-digest"), Some("sha-256=10"));
    assert_eq!(request.field("range"), None);
    assert_eq!(request.field("host"), origin.url.authority().into());
}

#[tokio::test]
async fn a_reset_midway_is_resumed_with_if_range() {
    let folder = folder();
    let origin = Origin::start(|n, request, stream| {
        let body = contents();
        let etag = "ETag: \"v1\"\r\n";
        if n == 0 {
            return say_and_reset(stream, ok(body.len(), etag), body[..500_000].to_vec());
        }
        let from = request.field("range").expect("a range").to_owned();
        let from: usize = from
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .expect("from here to the end")
            .parse()
            .expect("a number");
        assert!(from > 0 && from <= 500_000);
        assert_eq!(request.field("if-range"), Some("\"v1\""));
        let head = partial(from, body.len(), &format!("{etag}{}", digest_field(&body)));
        say(stream, head, body[from..].to_vec())
    })
    .await;
    let (result, interruptions) = fetch(folder.path(), &origin).await;
    let file = result.expect("it arrives");
    assert_eq!(interruptions.len(), 1);
    assert!(
        interruptions[0].starts_with("interrupted after "),
        "{interruptions:?}"
    );
    assert!(interruptions[0].contains("of 1.2 MB"), "{interruptions:?}");
    assert_eq!(file.retries, 1);
    assert_eq!(fs::read(&file.path).unwrap(), contents());
    assert!(file.verified);
    assert_eq!(file.received, file.bytes, "no byte came twice");
}

#[tokio::test]
async fn a_part_of_an_earlier_run_is_hashed_and_completed() {
    let folder = folder();
    let give_up = Downloader {
        retries: 0,
        ..downloader(folder.path())
    };
    let origin = Origin::start(|n, request, stream| {
        let body = contents();
        let date = "Last-Modified: Sun, 22 Nov 2026 08:00:00 GMT\r\n";
        if n == 0 {
            return say(stream, ok(body.len(), date), body[..400_000].to_vec());
        }
        assert_eq!(request.field("range"), Some("bytes=400000-"));
        assert_eq!(
            request.field("if-range"),
            Some("Sun, 22 Nov 2026 08:00:00 GMT")
        );
        let head = partial(400_000, body.len(), date);
        say(stream, head, body[400_000..].to_vec())
    })
    .await;
    let (result, _) = fetch_with(&give_up, &origin).await;
    let error = result.expect_err("a short body").to_string();
    assert!(
        error.starts_with("interrupted after 400 kB of 1.2 MB: "),
        "{error}"
    );
    assert_eq!(
        names(folder.path()),
        ["file.bin.part", "file.bin.part.json"]
    );
    let (result, _) = fetch_with(&give_up, &origin).await;
    let file = result.expect("it arrives");
    assert_eq!(file.received, 800_000);
    assert_eq!(file.sha256, Some(Sha256::digest(contents()).into()));
    assert!(!file.verified, "this origin gives no digest");
    assert_eq!(names(folder.path()), ["file.bin"]);
}

#[tokio::test]
async fn a_changed_file_is_taken_whole_again() {
    let folder = folder();
    // Three ways to tell: the whole new file (If-Range), a range of another version (a server that
    // ignores If-Range), a range that can't be had.
    for (way, retelling) in ["200", "206", "416"].into_iter().zip([2, 3, 3]) {
        let origin = Origin::start(move |n, request, stream| {
            let new: Vec<u8> = contents().into_iter().rev().take(1_000_000).collect();
            if n == 0 {
                let old = contents();
                return say(stream, ok(old.len(), "ETag: \"v1\"\r\n"), old[..400_000].to_vec());
            }
            let etag = "ETag: \"v2\"\r\n";
            match (way, request.field("range")) {
                ("206", Some(_)) => {
                    let body = new[400_000..].to_vec();
                    say(stream, partial(400_000, new.len(), etag), body)
                }
                ("416", Some(_)) => {
                    let head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n";
                    say(stream, head.to_owned(), Vec::new())
                }
                _ => say(stream, ok(new.len(), &format!("{etag}{}", digest_field(&new))), new),
            }
        })
        .await;
        let (result, _) = fetch(folder.path(), &origin).await;
        let file = result.expect("it arrives");
        assert_eq!(file.bytes, 1_000_000, "{way}");
        assert!(file.verified);
        assert_eq!(origin.requests().len(), retelling, "{way}");
        fs::remove_file(file.path).unwrap();
    }
}

#[tokio::test]
async fn a_server_without_ranges_starts_over() {
    let folder = folder();
    let origin = Origin::start(|n, _, stream| {
        let body = contents();
        let sent = if n == 0 { 300_000 } else { body.len() };
        let head = ok(
            body.len(),
            "Last-Modified: Sun, 22 Nov 2026 08:00:00 GMT\r\n",
        );
        say(stream, head, body[..sent].to_vec())
    })
    .await;
    let (result, _) = fetch(folder.path(), &origin).await;
    let file = result.expect("it arrives");
    assert_eq!(fs::read(&file.path).unwrap(), contents());
    assert_eq!(file.received, 1_500_000);
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing_behind() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| {
        let mut body = contents();
        let promised = digest_field(&body);
        body[77_777] ^= 1;
        say(stream, ok(body.len(), &promised), body)
    })
    .await;
    let (result, _) = fetch(folder.path(), &origin).await;
    let error = result.expect_err("a wrong byte");
    assert!(
        matches!(error, DownloadError::Digest { resumed: false, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("not what the origin says"),
        "{error}"
    );
    assert_eq!(names(folder.path()), [""; 0]);
    assert_eq!(origin.requests().len(), 1, "no use in asking again");
}

#[tokio::test]
async fn a_spoilt_part_is_noticed_and_fetched_again() {
    let folder = folder();
    let origin = Origin::start(|n, request, stream| {
        let body = contents();
        let more = format!("ETag: \"v1\"\r\n{}", digest_field(&body));
        match request.field("range") {
            None if n == 0 => say(stream, ok(body.len(), &more), body[..400_000].to_vec()),
            None => say(stream, ok(body.len(), &more), body),
            Some(_) => {
                let rest = body[400_000..].to_vec();
                say(stream, partial(400_000, body.len(), &more), rest)
            }
        }
    })
    .await;
    let give_up = Downloader {
        retries: 0,
        ..downloader(folder.path())
    };
    fetch_with(&give_up, &origin).await.0.expect_err("short");
    let part = folder.path().join("file.bin.part");
    let mut spoilt = fs::read(&part).unwrap();
    spoilt[1000] ^= 1;
    fs::write(&part, spoilt).unwrap();
    let (result, interruptions) = fetch(folder.path(), &origin).await;
    assert!(result.expect("it arrives").verified);
    assert_eq!(interruptions.len(), 1);
    assert_eq!(
        fs::read(folder.path().join("file.bin")).unwrap(),
        contents()
    );
}

#[tokio::test]
async fn refusals_are_final_and_leave_no_file() {
    for (status, said) in [
        (
            "404 Not Found",
            "the origin has no such file (404 Not Found)",
        ),
        ("410 Gone", "the origin has no such file (410 Gone)"),
        ("403 Forbidden", "the origin refuses (403 Forbidden)"),
    ] {
        let folder = folder();
        let origin = Origin::start(move |_, _, stream| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\n");
            say(stream, head, b"no!\n".to_vec())
        })
        .await;
        let (result, _) = fetch(folder.path(), &origin).await;
        assert_eq!(result.expect_err("refused").to_string(), said);
        assert_eq!(origin.requests().len(), 1);
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[tokio::test]
async fn trouble_is_waited_out() {
    let folder = folder();
    let origin = Origin::start(|n, _, stream| {
        if n < 2 {
            let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            return say(stream, head.to_owned(), Vec::new());
        }
        say(stream, ok(2, ""), b"ok".to_vec())
    })
    .await;
    let (result, interruptions) = fetch(folder.path(), &origin).await;
    assert_eq!(result.expect("it arrives").retries, 2);
    let trouble = "the origin has trouble (503 Service Unavailable)";
    assert_eq!(interruptions, [trouble; 2]);
}

#[tokio::test]
async fn a_server_that_always_breaks_is_given_up() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| say(stream, ok(1000, ""), b"x".to_vec())).await;
    let (result, interruptions) = fetch(folder.path(), &origin).await;
    assert!(matches!(
        result,
        Err(DownloadError::Interrupted { received: 1, .. })
    ));
    assert_eq!((interruptions.len(), origin.requests().len()), (3, 4));
}

#[tokio::test]
async fn silence_is_given_up() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| {
        Box::pin(async move {
            let mut stream = stream;
            stream.write_all(ok(1000, "").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(600)).await;
        })
    })
    .await;
    let mut impatient = downloader(folder.path());
    impatient.retries = 1;
    let http = Http {
        patience: Duration::from_millis(100),
        ..HTTP
    };
    let (result, _) = fetch_by(&impatient, at(&origin.url, http)).await;
    let error = result.expect_err("nothing comes");
    assert!(
        matches!(
            error,
            DownloadError::Interrupted {
                cause: SourceError::Http(HttpError::Stalled(_)),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn nonsense_is_refused() {
    for head in [
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ] {
        let folder = folder();
        let origin =
            Origin::start(move |_, _, stream| say(stream, head.to_owned(), Vec::new())).await;
        fetch(folder.path(), &origin).await.0.expect_err("nonsense");
        assert_eq!(origin.requests().len(), 1, "{head}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
    let folder = folder();
    let origin = Origin::start(|_, _, stream| say(stream, "SSH-2.0\r\n\r\n".into(), vec![])).await;
    let error = fetch(folder.path(), &origin).await.0.expect_err("no HTTP");
    assert!(
        error.to_string().starts_with("the connection broke: "),
        "{error}"
    );
}

#[tokio::test]
async fn redirects_are_followed_within_reason() {
    let folder = folder();
    let origin = Origin::start(|n, request, stream| {
        if request.line.starts_with("GET /there") {
            return say(stream, ok(2, ""), b"ok".to_vec());
        }
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            if n == 0 { "/there" } else { "?again" }
        );
        say(stream, head, Vec::new())
    })
    .await;
    assert_eq!(
        fetch(folder.path(), &origin)
            .await
            .0
            .expect("it arrives")
            .bytes,
        2
    );
    fs::remove_file(folder.path().join("file.bin")).unwrap();
    let (result, _) = fetch(folder.path(), &origin).await;
    assert!(
        matches!(result, Err(DownloadError::Redirects)),
        "{result:?}"
    );

    let elsewhere = Origin::start(|_, _, stream| {
        let head =
            "HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n";
        say(stream, head.to_owned(), Vec::new())
    })
    .await;
    let error = fetch(folder.path(), &elsewhere)
        .await
        .0
        .expect_err("no HTTP");
    assert_eq!(error.to_string(), "file:///etc/passwd is no http:// URL");
}

#[tokio::test]
async fn what_is_there_and_right_is_not_fetched_again_unless_forced() {
    let folder = folder();
    let origin = Origin::start(|_, request, stream| {
        let body = contents();
        let head = ok(body.len(), &digest_field(&body));
        let body = if request.line.starts_with("HEAD") {
            Vec::new()
        } else {
            body
        };
        say(stream, head, body)
    })
    .await;
    let first = fetch(folder.path(), &origin).await.0.expect("it arrives");
    let second = fetch(folder.path(), &origin).await.0.expect("it is there");
    assert_eq!((second.received, second.verified), (0, true));
    assert_eq!(second.sha256, first.sha256);
    assert_eq!(origin.requests().len(), 2);
    let forced = Downloader {
        force: true,
        ..downloader(folder.path())
    };
    let third = fetch_with(&forced, &origin).await.0.expect("it arrives");
    assert_eq!(third.received, third.bytes);
    fs::write(&first.path, b"something else").unwrap();
    let fourth = fetch(folder.path(), &origin).await.0.expect("it arrives");
    assert_eq!(fourth.received, fourth.bytes);
    assert_eq!(fs::read(&first.path).unwrap(), contents());
}

#[tokio::test]
async fn a_body_without_a_length_is_taken_to_its_end() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        say(
            stream,
            head.to_owned(),
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        )
    })
    .await;
    let file = fetch(folder.path(), &origin).await.0.expect("it arrives");
    assert_eq!(fs::read(file.path).unwrap(), b"abcde");
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let folder = folder();
    let origin =
        Origin::start(|_, _, stream| say(stream, ok(0, "ETag: \"e\"\r\n"), Vec::new())).await;
    let file = fetch(folder.path(), &origin).await.0.expect("it arrives");
    assert_eq!(file.bytes, 0);
    assert_eq!(names(folder.path()), ["file.bin"]);
}

#[tokio::test]
async fn the_disk_has_its_own_errors() {
    let origin = Origin::start(|_, _, stream| {
        let body = contents();
        say(stream, ok(body.len(), ""), body)
    })
    .await;
    // The folder is a file.
    let folder = folder();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let error = fetch(&blocked, &origin).await.0.expect_err("no folder");
    assert!(error.to_string().contains("blocked"), "{error}");
    // Two at once.
    let slow = Origin::start(|_, _, stream| {
        Box::pin(async move {
            let mut stream = stream;
            stream.write_all(ok(4, "").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(b"slow").await.unwrap();
        })
    })
    .await;
    let name = FileName::from_wire("file.bin");
    let (downloader, mut quiet) = (downloader(folder.path()), |_: Progress<'_>| {});
    let mut also_quiet = quiet;
    let (first, second) = tokio::join!(
        downloader.fetch(at(&slow.url, HTTP), &name, &mut quiet),
        downloader.fetch(at(&slow.url, HTTP), &name, &mut also_quiet),
    );
    let one_is_busy = |result: &Result<_, DownloadError>| {
        matches!(result, Err(DownloadError::Disk(DiskError::Busy(_))))
    };
    assert!(first.is_ok() && one_is_busy(&second) || second.is_ok() && one_is_busy(&first));
    assert_eq!(fs::read(folder.path().join("file.bin")).unwrap(), b"slow");
}

#[tokio::test]
async fn an_address_that_is_not_here_is_said_clearly() {
    let folder = folder();
    let origin = Origin::start(|_, _, stream| say(stream, ok(0, ""), Vec::new())).await;
    let stranger = Http {
        local: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        ..HTTP
    };
    let error = fetch_by(&downloader(folder.path()), at(&origin.url, stranger))
        .await
        .0
        .expect_err("not here");
    let text = error.to_string();
    assert!(text.starts_with("can't send from 192.0.2.7: "), "{text}");
    assert!(
        text.ends_with("(no interface of this machine has that address)"),
        "{text}"
    );
    assert_eq!(origin.requests().len(), 0);
}

#[tokio::test]
async fn nobody_there_is_said_clearly() {
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let url = Url::parse(&format!("http://{closed}/file.bin")).unwrap();
    let name = FileName::from_wire("file.bin");
    let result = downloader(folder.path())
        .fetch(at(&url, HTTP), &name, &mut |_| {})
        .await;
    let text = result.expect_err("nobody there").to_string();
    let expected = format!("can't connect to {closed} from 127.20.30.77: Connection refused");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_silent_is_told_of_again_and_again() {
    let mute = Origin::start(|_, _, stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let name = FileName::from_wire("file.bin");
    let (heard, mut told) = tokio::sync::mpsc::unbounded_channel();
    let downloader = downloader(folder.path());
    let mut progress = |event: Progress<'_>| {
        if let Progress::Asking = event {
            let _ = heard.send(());
        }
    };
    let fetching = downloader.fetch(at(&mute.url, HTTP), &name, &mut progress);
    let three = async {
        for _ in 0..3 {
            told.recv().await.expect("it is still asking");
        }
    };
    tokio::select! {
        result = fetching => panic!("{result:?}"),
        () = three => {}
    }
}
