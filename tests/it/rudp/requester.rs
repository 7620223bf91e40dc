//! A client's side of the protocol, in virtual time.

use std::time::{Duration, Instant};

use labnet::rudp::{
    Requester,
    requester::{Event, Failure, Reply, Request, SubmitError, Ticket, Why},
    signal::{Name, Statistics},
};

fn open(window: u32, now: Instant) -> Requester {
    let name = Name::new("Tal").expect("plain");
    let mut requester = Requester::new(name, window, 1, now);
    assert_eq!(sends(&mut requester, now), ["SIGNEW:Tal"]);
    requester.handle(b"SIGNACK", now + MS);
    events(&mut requester);
    requester
}

const MS: Duration = Duration::from_millis(1);

fn sends(requester: &mut Requester, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| requester.poll_transmit(now))
        .map(|outgoing| String::from_utf8(outgoing.bytes).expect("ASCII"))
        .collect()
}

fn events(requester: &mut Requester) -> Vec<Event> {
    std::iter::from_fn(|| requester.poll_event()).collect()
}

fn echo(timestamp: &str) -> Request {
    Request::Echo {
        timestamp: timestamp.to_owned(),
    }
}

#[test]
fn a_server_that_only_keeps_the_client_waiting_is_given_up() {
    for word in ["SIGNFULL", "SIGNFULL:290", "SIGNLOST:290"] {
        let began = Instant::now();
        let mut now = began;
        let mut requester = open(4, now);
        requester.submit(echo("1"), now).expect("open");
        requester.submit(Request::End, now).expect("open");
        let failure = loop {
            for _ in sends(&mut requester, now) {
                requester.handle(word.as_bytes(), now + MS);
            }
            let failed = events(&mut requester)
                .into_iter()
                .find_map(|event| match event {
                    Event::Failed(failure) => Some(failure),
                    _ => None,
                });
            if let Some(failure) = failed {
                break failure;
            }
            assert!(
                now - began < Duration::from_secs(60),
                "{word}: held for ever"
            );
            now = now.max(requester.poll_timeout().expect("it waits"));
            requester.handle_timeout(now);
        };
        assert_eq!(failure, Failure::Held(290), "{word}");
        let took = (now - began).as_secs();
        assert!((29..=31).contains(&took), "{word}: {took} s");
        assert_eq!(requester.poll_timeout(), None);
    }
}

#[test]
fn the_recorded_session_is_spoken_byte_for_byte() {
    let mut now = Instant::now();
    let mut requester = open(64, now);
    let exchanges: [(Request, &str, &str, Reply); 5] = [
        (
            echo("1682672342.8043187"),
            "SIGNECHO:290;1682672342.8043187",
            "ECHOREPLY:290;1682672342.8043187",
            Reply::Echo {
                timestamp: "1682672342.8043187".to_owned(),
            },
        ),
        (
            Request::Stat,
            "SIGNSTAT:291",
            "STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: 18.77 seconds",
            Reply::Stat(Statistics {
                sent: 2,
                lost: 0,
                connected: Duration::from_millis(18_770),
            }),
        ),
        (
            Request::List,
            "SIGNGET:292;SIGNGET",
            "ACKGET:292;50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;",
            Reply::List(
                [
                    "50MB.zip",
                    "100MB.zip",
                    "500MB.zip",
                    "image-site.png",
                    "task2.pdf",
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
        ),
        (
            Request::Redirect("50MB.zip".to_owned()),
            "SIGNGET:293;50MB.zip",
            "ACKGET:293;",
            Reply::Redirect(None),
        ),
        (Request::End, "SIGNEND:294;SIGNEND", "ACKEND", Reply::End),
    ];
    for (request, sent, answer, reply) in exchanges {
        let ticket = requester.submit(request, now).expect("open");
        assert_eq!(sends(&mut requester, now), [sent]);
        now += MS;
        requester.handle(answer.as_bytes(), now);
        assert_eq!(
            events(&mut requester),
            [Event::Answered {
                ticket,
                id: ticket.id(),
                reply,
                rtt: Some(MS),
                took: MS,
                attempts: 1
            }]
        );
    }
    assert!(requester.is_over());
    assert_eq!(requester.submit(Request::Stat, now), Err(SubmitError::Over));
    assert_eq!(requester.poll_timeout(), None);
}

#[test]
fn signew_is_sent_again_until_it_is_answered_and_then_given_up() {
    let start = Instant::now();
    let mut requester = Requester::new(Name::new("Tal").expect("plain"), 4, 1, start);
    requester.submit(Request::Stat, start).expect("taken");
    let mut sent = sends(&mut requester, start).len();
    while let Some(at) = requester.poll_timeout() {
        requester.handle_timeout(at);
        sent += sends(&mut requester, at).len();
    }
    assert_eq!(sent, 16);
    assert_eq!(
        events(&mut requester).pop(),
        Some(Event::Failed(Failure::NotThere))
    );
    assert!(requester.is_over());
}

#[test]
fn a_refusal_ends_the_session_with_its_words() {
    let start = Instant::now();
    let mut requester = Requester::new(Name::new("Tal").expect("plain"), 4, 1, start);
    sends(&mut requester, start);
    requester.handle(b"SIGNREFUSED:not today", start);
    let refused = Failure::Refused("not today".into());
    assert_eq!(events(&mut requester).pop(), Some(Event::Failed(refused)));
    let mut requester = open(8, start);
    requester.submit(Request::List, start).expect("open");
    sends(&mut requester, start);
    // Nobody asked that.
    requester.handle(b"SIGNREFUSED:289;no", start);
    requester.handle(b"SIGNREFUSED:no", start);
    assert!(!requester.is_over());
    requester.handle(b"SIGNREFUSED:290;too long", start);
    let refused = Failure::Refused("too long".into());
    assert_eq!(events(&mut requester).pop(), Some(Event::Failed(refused)));
    assert!(requester.is_over());
}

#[test]
fn signlost_sends_again_at_once_but_not_twice_in_a_round_trip() {
    let start = Instant::now();
    let mut requester = open(8, start);
    let now = start + MS;
    requester.submit(echo("a"), now).expect("open");
    requester.submit(echo("b"), now).expect("open");
    assert_eq!(
        sends(&mut requester, now),
        ["SIGNECHO:290;a", "SIGNECHO:291;b"]
    );
    let later = now + MS * 2;
    requester.handle(b"SIGNLOST:290", later);
    requester.handle(b"SIGNLOST:290", later);
    assert_eq!(sends(&mut requester, later), ["SIGNECHO:290;a"]);
    requester.handle(b"SIGNLOST:290", later);
    assert_eq!(sends(&mut requester, later), [""; 0]);
    assert_eq!(
        events(&mut requester),
        [
            Event::Lost(290),
            Event::Resent {
                id: Some(290),
                why: Why::Lost
            }
        ]
    );
    assert_eq!(requester.stats().lost, 3);
    // A stranger's, and one that was never sent.
    requester.handle(b"SIGNLOST:292", later);
    requester.handle(b"SIGNLOST:7", later);
    assert_eq!(requester.stats().ignored, 2);
}

#[test]
fn the_first_signlost_of_a_signal_is_believed_however_soon_it_comes() {
    let start = Instant::now();
    let mut requester = open(8, start);
    // A slow answer: the smoothed round trip is far above what the path can do.
    requester.submit(echo("slow"), start).expect("open");
    sends(&mut requester, start);
    let now = start + MS * 50;
    requester.handle(b"ECHOREPLY:290;slow", now);
    requester.submit(echo("a"), now).expect("open");
    requester.submit(echo("b"), now).expect("open");
    assert_eq!(sends(&mut requester, now).len(), 2);
    let soon = now + MS;
    requester.handle(b"SIGNLOST:291", soon);
    assert_eq!(sends(&mut requester, soon), ["SIGNECHO:291;a"]);
    requester.handle(b"SIGNLOST:291", soon + MS);
    assert_eq!(sends(&mut requester, soon + MS), [""; 0]);
}

#[test]
fn signfull_waits_and_goes_on_when_an_answer_frees_the_window() {
    let now = Instant::now();
    let mut requester = open(8, now);
    for text in ["a", "b", "c"] {
        requester.submit(echo(text), now).expect("open");
    }
    assert_eq!(sends(&mut requester, now).len(), 3);
    // Both forms: the bare one means the last signal sent.
    requester.handle(b"SIGNFULL:291", now);
    requester.handle(b"SIGNFULL", now);
    assert_eq!(events(&mut requester), [Event::Full(291), Event::Full(292)]);
    requester.submit(echo("d"), now).expect("open");
    assert_eq!(sends(&mut requester, now), [""; 0]);
    requester.handle(b"ECHOREPLY:290;a", now);
    assert_eq!(
        sends(&mut requester, now),
        ["SIGNECHO:291;b", "SIGNECHO:292;c"]
    );
    requester.handle(b"ECHOREPLY:291;b", now);
    requester.handle(b"ECHOREPLY:292;c", now);
    assert_eq!(sends(&mut requester, now), ["SIGNECHO:293;d"]);
    assert!(events(&mut requester).contains(&Event::GoingOn));
}

#[test]
fn signfull_waits_longer_each_time_and_never_gives_up() {
    let mut now = Instant::now();
    let mut requester = open(8, now);
    requester.submit(echo("a"), now).expect("open");
    let mut waits = Vec::new();
    for _ in 0..30 {
        assert_eq!(sends(&mut requester, now), ["SIGNECHO:290;a"]);
        requester.handle(b"SIGNFULL", now);
        assert_eq!(sends(&mut requester, now), [""; 0]);
        let at = requester.poll_timeout().expect("waits");
        waits.push(at - now);
        now = at;
        requester.handle_timeout(now);
    }
    assert_eq!(waits[..3], [MS * 50, MS * 100, MS * 200]);
    assert_eq!(waits.last(), Some(&(MS * 1000)));
}

#[test]
fn never_more_under_way_than_the_window_nor_further_ahead() {
    let now = Instant::now();
    let mut requester = open(4, now);
    for _ in 0..10 {
        requester.submit(echo("x"), now).expect("open");
    }
    assert_eq!(sends(&mut requester, now).len(), 4);
    // The first one stays open: the window ends four ids after it.
    requester.handle(b"ECHOREPLY:292;x", now);
    requester.handle(b"ECHOREPLY:293;x", now);
    assert_eq!(sends(&mut requester, now), [""; 0]);
    requester.handle(b"ECHOREPLY:290;x", now);
    assert_eq!(sends(&mut requester, now), ["SIGNECHO:294;x"]);
}

#[test]
fn an_answer_of_another_kind_or_text_is_not_taken() {
    let now = Instant::now();
    let mut requester = open(4, now);
    requester.submit(echo("x"), now).expect("open");
    sends(&mut requester, now);
    for answer in [
        &b"ECHOREPLY:290;y"[..],
        b"ACKEND",
        b"ACKEND:290",
        b"ACKGET:290;a;",
    ] {
        requester.handle(answer, now);
    }
    assert_eq!(requester.stats().ignored, 4);
    assert_eq!(requester.unanswered(), 1);
}

#[test]
fn texts_that_would_break_the_protocol_are_refused() {
    let now = Instant::now();
    let mut requester = open(4, now);
    for text in ["", "a;b", "ä", "a\nb", &"x".repeat(65)] {
        assert!(requester.submit(echo(text), now).is_err());
    }
    assert_eq!(requester.submit(echo("x"), now).map(Ticket::id), Ok(290));
}

#[test]
fn karn_a_signal_sent_twice_measures_nothing() {
    let start = Instant::now();
    let mut requester = open(4, start);
    requester.submit(echo("x"), start).expect("open");
    sends(&mut requester, start);
    let at = requester.poll_timeout().expect("timer");
    requester.handle_timeout(at);
    assert_eq!(sends(&mut requester, at), ["SIGNECHO:290;x"]);
    requester.handle(b"ECHOREPLY:290;x", at + MS);
    let Some(Event::Answered {
        rtt,
        took,
        attempts,
        ..
    }) = events(&mut requester).pop()
    else {
        panic!("not answered");
    };
    assert_eq!((rtt, attempts), (None, 2));
    assert_eq!(took, at + MS - start);
    assert_eq!(requester.stats().rtt_avg(), Some(MS));
}

#[test]
fn a_signget_without_an_answer_names_the_scraper_and_an_echo_the_server() {
    for (request, said) in [
        (
            Request::List,
            "no answer to SIGNGET 290: its scraper does not tell",
        ),
        (
            Request::Redirect("a.zip".to_owned()),
            "no answer to SIGNGET 290: its scraper does not tell",
        ),
        (echo("1"), "no answer to signal 290: the server is gone"),
    ] {
        let mut now = Instant::now();
        let mut requester = open(4, now);
        requester.submit(request, now).expect("open");
        let failure = loop {
            sends(&mut requester, now);
            let failed = events(&mut requester)
                .into_iter()
                .find_map(|event| match event {
                    Event::Failed(failure) => Some(failure.to_string()),
                    _ => None,
                });
            if let Some(failure) = failed {
                break failure;
            }
            now = requester.poll_timeout().expect("it waits for the answer");
            requester.handle_timeout(now);
        };
        assert!(failure.starts_with(said), "{failure}");
    }
}
