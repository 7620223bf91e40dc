//! Questions and what is answered to them.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use labnet::rudp::{
    connection::Config,
    exchange::{Answer, ErrorCode as Why, Question, Range, Statistics, decode_list},
    packet::ErrorCode,
};

use super::{SECRET, config_of, get, site, text};
use crate::support::{dial::Dialed, wait_for};

#[test]
fn the_list_a_file_a_part_an_echo_and_the_statistics_come() {
    let long = text(3_000_000);
    for more in ["", &format!("protection = \"psk\"\nsecret = \"{SECRET}\"")] {
        let (lab, server) = site(more, &[("files/long.txt", &long), ("files/b.txt", "short")]);
        let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
        let (_, list) = client.body(&Question::List);
        assert_eq!(decode_list(&list).expect("names"), ["b.txt", "long.txt"]);
        let (head, body) = client.body(&get("long.txt"));
        assert!(body == long.as_bytes(), "{} bytes", body.len());
        assert_eq!((head.first, head.length), (0, Some(3_000_000)));
        assert!(head.digest.is_some());
        let (part, body) = client.body(&Question::Get {
            name: "long.txt",
            range: Range {
                first: 1_000_000,
                last: Some(1_000_099),
            },
            validator: head.validator.as_deref(),
        });
        assert_eq!((part.first, part.length), (1_000_000, Some(100)));
        assert_eq!(body, &long.as_bytes()[1_000_000..1_000_100]);
        // Who has it all hears that, and what it is to be.
        let validator = head.validator.as_deref();
        for validator in [validator, None] {
            let (end, body) = client.body(&Question::Get {
                name: "long.txt",
                range: Range::from(3_000_000),
                validator,
            });
            let lengths = (end.first, end.length, end.whole);
            assert_eq!(lengths, (3_000_000, Some(0), Some(3_000_000)));
            assert_eq!(
                (&end.validator, &end.digest),
                (&head.validator, &head.digest)
            );
            assert!(body.is_empty());
        }
        // Of another state of the file, all of it comes.
        let (whole, _) = client.body(&Question::Get {
            name: "b.txt",
            range: Range::from(3),
            validator: Some("\"another\""),
        });
        assert_eq!((whole.first, whole.length), (0, Some(5)));
        assert_eq!(client.body(&Question::Echo("123.45")).1, b"123.45");
        let (_, told) = client.body(&Question::Stat);
        let told = Statistics::decode(&told).expect("statistics");
        assert_eq!(told.get("congestion"), Some("cubic"));
        let (answer, _) = client.answer(&get("nothing.txt"));
        assert!(
            matches!(
                &answer,
                Answer::Error {
                    code: Why::NotFound,
                    ..
                }
            ),
            "{answer:?}"
        );
        let sessions = lab.json("/api/v1/sessions");
        let session = &sessions[0];
        assert_eq!(
            (&session["kind"], &session["name"]),
            (&"transport".into(), &"Tal".into())
        );
        assert!(session["packets_sent"].as_u64() > Some(2000), "{sessions}");
        client.close();
        wait_for("the end", || {
            (lab.metric("labnet_rudp_sessions") == 0.0).then_some(())
        });
    }
}

#[test]
fn many_files_come_at_once_over_several_sockets_of_one_address() {
    let names: Vec<(String, String)> = (0..12)
        .map(|n| (format!("files/{n}.txt"), text(200_000 + n)))
        .collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (lab, server) = site("shards = 3", &files);
    let mut clients: Vec<_> = (0..6)
        .map(|_| Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab)))
        .collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                let mut asked: Vec<_> = (0..12)
                    .map(|n| client.ask(&get(&format!("{n}.txt"))))
                    .collect();
                let mut whole = 0;
                client.run("all files", |client, _| {
                    asked.retain_mut(|one| match client.read(one) {
                        None => true,
                        Some((_, body)) => {
                            assert!(names.iter().any(|(_, text)| text.as_bytes() == body));
                            whole += 1;
                            false
                        }
                    });
                    (whole == 12).then_some(())
                });
            });
        }
    });
    assert_eq!(lab.metric("labnet_rudp_sessions"), 6.0);
}

#[test]
fn a_slow_reader_makes_the_proxy_hold_its_window_and_no_more() {
    let long = text(30_000_000);
    let (lab, server) = site("send_memory = \"4MiB\"", &[("files/a.txt", &long)]);
    let slow = Config {
        stream_window: 100_000,
        connection_window: 100_000,
        ..config_of(&lab)
    };
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, slow);
    let warm = lab.resident();
    let asked = client.ask(&get("a.txt"));
    let start = Instant::now();
    client.run("two seconds", |_, _| {
        (start.elapsed() > Duration::from_secs(2)).then_some(())
    });
    let held = lab.json("/api/v1/sessions")[0]["held_bytes"].clone();
    assert!(held.as_u64() < Some(1_000_000), "{held}");
    let now = lab.resident();
    assert!(now < warm + (6 << 20), "{warm}, then {now}");
    // Nothing is lost of it.
    let mut asked = asked;
    let (_, body) = client.run("the file", |client, _| client.read(&mut asked));
    assert!(body == long.as_bytes());
}

#[test]
fn a_client_that_breaks_the_rules_is_shown_the_door() {
    let (lab, server) = site("", &[("files/a.txt", "a")]);
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    let stream = client.connection.open().expect("a stream");
    let line = "x".repeat(5000);
    client.connection.write(stream, line.into()).expect("open");
    client.connection.finish(stream).expect("open");
    // A question that is none is answered on its stream; the connection lives.
    assert_eq!(client.body(&Question::Echo("still")).1, b"still");
    client
        .connection
        .close(ErrorCode::NO_ERROR, "", Instant::now());
    client.run("goodbye", |client, _| {
        client.connection.is_over().then_some(())
    });
}
