//! The endpoint and its sessions as actors, on the loopback.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use labnet::{
    config,
    role::Role,
    role::api::CrashSession,
    rudp::{
        Requester, RudpEndpoint,
        requester::{Event, Reply, Request},
        signal::Name,
    },
};
use rand_pcg::{Pcg32, rand_core::Rng};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, UdpSocket},
    time::{sleep, timeout, timeout_at},
};

use super::proxy::{
    LIST, PATIENCE, Proxy, Raw, config, listens, run, scraper, start_scraper, wait_for,
};

#[actix::test]
async fn the_recorded_datagrams_are_answered_by_the_byte() {
    let proxy = Proxy::start(&config(Some(start_scraper().await)));
    let raw = Raw::to(proxy.address).await;
    // Twice from the same socket: a session ends with its SIGNEND.
    for _ in 0..2 {
        assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
        assert_eq!(
            raw.ask("SIGNECHO:290;1682672342.8043187").await,
            "ECHOREPLY:290;1682672342.8043187"
        );
        let stat = raw.ask("SIGNSTAT:291").await;
        let (numbers, time) = stat.split_at(stat.len() - " seconds".len() - 4);
        assert_eq!(
            numbers,
            "STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: "
        );
        assert_eq!((&time[1..2], &time[4..]), (".", " seconds"));
        assert_eq!(
            raw.ask("SIGNGET:292;SIGNGET").await,
            format!("ACKGET:292;{LIST}")
        );
        assert_eq!(
            raw.ask("SIGNGET:293;task2.pdf").await,
            "ACKGET:293;http://127.0.0.1:8080/task2.pdf"
        );
        assert_eq!(raw.ask("SIGNGET:294;nothing").await, "ACKGET:294;");
        assert_eq!(raw.ask("SIGNEND:295;SIGNEND").await, "ACKEND:295");
        assert_eq!(raw.ask("SIGNEND:295;SIGNEND").await, "ACKEND:295");
    }
    proxy
        .shows("labnet_rudp_sessions_ended_total{reason=\"end\"} 2")
        .await;
    proxy.shows("labnet_rudp_sessions 0").await;
    assert!(proxy.sessions().await.is_empty());
}

/// What a client sent and heard, by the datagrams' first words.
#[derive(Default)]
struct Tally {
    sent: BTreeMap<String, u64>,
    heard: BTreeMap<String, u64>,
    missing: BTreeSet<String>,
    lost: u64,
}

fn word(datagram: &[u8]) -> String {
    let text = String::from_utf8_lossy(datagram);
    text.split(':').next().unwrap_or("").to_lowercase()
}

/// One client with a full session, which loses so many percent of its own signals.
async fn client(server: SocketAddr, n: u64, loss: u32) -> (Tally, UdpSocket) {
    let socket = Raw::to(server).await.0;
    let name = Name::new(&format!("client-{n}")).expect("plain");
    let mut requester = Requester::new(name, 8, n, Instant::now());
    let mut requests: Vec<_> = (0..10)
        .map(|i| Request::Echo {
            timestamp: format!("{n}.{i}"),
        })
        .collect();
    requests.insert(5, Request::List);
    requests.push(Request::Redirect("task2.pdf".to_owned()));
    requests.push(Request::Stat);
    requests.push(Request::End);
    for request in &requests {
        requester
            .submit(request.clone(), Instant::now())
            .expect("open");
    }
    let mut random = Pcg32::new(n, 3);
    let mut tally = Tally::default();
    let mut answers = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    while !requester.is_over() {
        while let Some(outgoing) = requester.poll_transmit(Instant::now()) {
            if random.next_u32() % 100 < loss {
                continue;
            }
            *tally.sent.entry(word(&outgoing.bytes)).or_default() += 1;
            socket.send(&outgoing.bytes).await.expect("loopback");
        }
        let deadline = requester.poll_timeout().expect("waits").into();
        match timeout_at(deadline, socket.recv(&mut buffer)).await {
            Ok(length) => {
                let datagram = &buffer[..length.expect("loopback")];
                note(&mut tally, datagram);
                requester.handle(datagram, Instant::now());
            }
            Err(_) => requester.handle_timeout(Instant::now()),
        }
        while let Some(event) = requester.poll_event() {
            match event {
                Event::Answered { id, reply, .. } => {
                    assert_eq!(answers.insert(id, reply), None, "client {n}");
                }
                Event::Failed(failure) => panic!("client {n}: {failure}"),
                _ => {}
            }
        }
    }
    assert_eq!(answers.len(), requests.len(), "client {n}");
    for (request, reply) in requests.iter().zip(answers.into_values()) {
        match (request, reply) {
            (Request::Echo { timestamp: sent }, Reply::Echo { timestamp }) => {
                assert_eq!(*sent, timestamp);
            }
            (Request::Stat, Reply::Stat(statistics)) => {
                assert_eq!(statistics.sent, requests.len() as u64 - 1);
                tally.lost = statistics.lost;
            }
            (Request::List, Reply::List(files)) => assert_eq!(files.join(";") + ";", LIST),
            (Request::Redirect(_), Reply::Redirect(url)) => {
                assert_eq!(url.as_deref(), Some("http://127.0.0.1:8080/task2.pdf"));
            }
            (Request::End, Reply::End) => {}
            crossed => panic!("client {n}: {crossed:?}"),
        }
    }
    (tally, socket)
}

fn note(tally: &mut Tally, datagram: &[u8]) {
    let word = word(datagram);
    if word == "signlost" {
        let text = String::from_utf8_lossy(datagram).into_owned();
        tally.missing.insert(text);
    }
    *tally.heard.entry(word).or_default() += 1;
}

/// Waits until the metrics show these counts of signals, and no other datagrams.
async fn agree(proxy: &Proxy, direction: &str, counts: &BTreeMap<String, u64>) {
    for (word, count) in counts {
        let labels = format!("direction=\"{direction}\",type=\"{word}\"");
        proxy
            .shows(&format!("labnet_rudp_signals_total{{{labels}}} {count}"))
            .await;
    }
    let total: u64 = counts.values().sum();
    let label = format!("direction=\"{direction}\"");
    proxy
        .shows(&format!("labnet_rudp_packets_total{{{label}}} {total}"))
        .await;
}

#[actix::test]
async fn two_hundred_clients_at_once_and_the_metrics_agree_with_them() {
    let proxy = Proxy::start(&config(Some(start_scraper().await)));
    let clients: Vec<_> = (0..200)
        .map(|n| actix_rt::spawn(client(proxy.address, n, 10)))
        .collect();
    let mut tallies = Vec::new();
    for client in clients {
        tallies.push(client.await.expect("completes"));
    }
    let mut sent = BTreeMap::new();
    for (tally, _) in &tallies {
        for (word, count) in &tally.sent {
            *sent.entry(word.clone()).or_insert(0) += count;
        }
    }
    // Once the server has seen all, its last answers are there to be heard.
    agree(&proxy, "received", &sent).await;
    let (mut heard, mut missing, mut lost) = (BTreeMap::new(), 0, 0);
    for (mut tally, socket) in tallies {
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.try_recv(&mut buffer) {
            note(&mut tally, &buffer[..length]);
        }
        for (word, count) in tally.heard {
            *heard.entry(word).or_insert(0) += count;
        }
        missing += tally.missing.len() as u64;
        lost += tally.lost;
    }
    assert!(missing > 0, "nothing was lost on purpose");
    assert_eq!(missing, lost, "every SIGNLOST names a loss of STATREPLY");
    agree(&proxy, "sent", &heard).await;
    let answers = ["echoreply", "statreply", "ackget", "ackend"];
    let again = answers.map(|word| heard[word]).iter().sum::<u64>() - 200 * 14;
    for line in [
        "labnet_rudp_sessions 0".to_owned(),
        "labnet_rudp_sessions_ended_total{reason=\"end\"} 200".to_owned(),
        "labnet_rudp_sessions_total 200".to_owned(),
        format!("labnet_rudp_lost_total{{reason=\"gap\"}} {lost}"),
        "labnet_rudp_lost_total{reason=\"mailbox\"} 0".to_owned(),
        format!("labnet_rudp_retransmitted_total{{protocol=\"signals\"}} {again}"),
        format!("labnet_rudp_window_signals_count {}", 200 * 14),
    ] {
        proxy.shows(&line).await;
    }
    assert!(!proxy.metrics().render().contains("session_window{"));
}

#[actix::test]
async fn a_named_client_shows_its_window_until_it_ends() {
    let proxy = Proxy::start(&config(None));
    let raw = Raw::to(proxy.address).await;
    let twin = Raw::to(proxy.address).await;
    let series = |raw: &Raw, name: &str| {
        let connection = raw.address();
        format!("labnet_rudp_session_window{{client=\"{name}\",connection=\"{connection}\"}}")
    };
    raw.ask("SIGNEW:Tal").await;
    twin.ask("SIGNEW:Tal").await;
    assert_eq!(proxy.sessions().await.len(), 2, "half open, and listed");
    assert!(!proxy.metrics().render().contains("session_window{"));
    twin.ask("SIGNSTAT:291").await;
    proxy.shows(&format!("{} 2", series(&twin, "Tal"))).await;
    raw.ask("SIGNECHO:291;x").await;
    raw.ask("SIGNECHO:292;x").await;
    proxy.shows(&format!("{} 3", series(&raw, "Tal"))).await;
    // Two of one name are two.
    proxy.shows(&format!("{} 2", series(&twin, "Tal"))).await;
    let listed = proxy.sessions().await;
    let session = listed
        .iter()
        .find(|session| session.client == raw.address())
        .expect("listed");
    assert_eq!(listed.len(), 2);
    assert_eq!(session.name, "Tal");
    for (key, value) in [
        ("expected_id", 290),
        ("early", 2),
        ("window", 3),
        ("max_window", 64),
        ("received", 2),
        ("lost", 1),
    ] {
        assert_eq!(session.statistics[key], value, "{key}");
    }
    twin.ask("SIGNEND:290;SIGNEND").await;
    let shown = proxy.metrics().render();
    assert!(shown.contains(&series(&raw, "Tal")) && !shown.contains(&series(&twin, "Tal")));
    raw.ask("SIGNEW:Dan").await;
    proxy.shows(&format!("{} 1", series(&raw, "Dan"))).await;
    assert!(!proxy.metrics().render().contains(&series(&raw, "Tal")));
    // Sessions beyond the cap have no series, and are counted. Each keeps its port, which would be
    // another's session otherwise.
    let mut clients = Vec::new();
    for n in 0..80 {
        let raw = Raw::to(proxy.address).await;
        let name = Name::new(&format!("name-{n}")).expect("plain");
        raw.ask(&format!("SIGNEW:{name}")).await;
        raw.ask(&format!("SIGNSTAT:{}", name.first_id())).await;
        clients.push(raw);
    }
    let shown = proxy.metrics().render();
    assert_eq!(shown.matches("labnet_rudp_session_window{").count(), 64);
    assert!(shown.contains("labnet_sessions_without_series_total{kind=\"signals\"} 17"));
}

/// Where each turn of the runtime takes long, as with a thousand that send, one turn must do for all.
#[actix::test]
async fn a_busy_proxy_lists_its_sessions_in_a_few_turns() {
    let proxy = Proxy::start(&config(None));
    let mut clients = Vec::new();
    for n in 0..100 {
        let raw = Raw::to(proxy.address).await;
        let name = Name::new(&format!("name-{n}")).expect("plain");
        raw.ask(&format!("SIGNEW:{name}")).await;
        raw.ask(&format!("SIGNSTAT:{}", name.first_id())).await;
        clients.push(raw);
    }
    let turns = Rc::new(Cell::new(0));
    let counting = Rc::clone(&turns);
    let busy = actix_rt::spawn(poll_fn::<(), _>(move |task| {
        counting.set(counting.get() + 1);
        task.waker().wake_by_ref();
        Poll::Pending
    }));
    assert_eq!(proxy.sessions().await.len(), 100);
    busy.abort();
    assert!(turns.get() < 50, "{} turns", turns.get());
}

#[actix::test]
async fn what_is_for_no_session_is_dropped_and_counted() {
    let proxy = Proxy::start(&config::Rudp {
        max_sessions: 1,
        ..config(None)
    });
    let raw = Raw::to(proxy.address).await;
    raw.send("SIGNSTAT:290").await;
    raw.send("\u{80}binary").await;
    raw.send([0x80, 1, 2, 3]).await;
    raw.send("rubbish").await;
    raw.send("").await;
    raw.send("x".repeat(60_000)).await;
    assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
    assert_eq!(raw.ask("SIGNECHO:290;x").await, "ECHOREPLY:290;x");
    let other = Raw::to(proxy.address).await;
    assert_eq!(other.ask("SIGNEW:Dan").await, "SIGNACK");
    let refused = other.ask("SIGNECHO:276;x").await;
    assert!(
        refused.starts_with("SIGNREFUSED:276;the proxy takes no more"),
        "{refused}"
    );
    for (reason, count) in [("no_session", 1), ("malformed", 5), ("sessions_full", 1)] {
        proxy
            .shows(&format!(
                "labnet_rudp_dropped_total{{reason=\"{reason}\"}} {count}"
            ))
            .await;
    }
    // The session makes room as soon as it ends.
    raw.ask("SIGNEND:291;SIGNEND").await;
    assert_eq!(other.ask("SIGNECHO:276;x").await, "ECHOREPLY:276;x");
}

#[actix::test]
async fn a_session_that_crashes_ends_alone() {
    let proxy = Proxy::start(&config(None));
    let (victim, other) = (Raw::to(proxy.address).await, Raw::to(proxy.address).await);
    for raw in [&victim, &other] {
        raw.ask("SIGNEW:Tal").await;
        raw.ask("SIGNECHO:290;x").await;
    }
    let crash = CrashSession(victim.address());
    // Twice, so that the second one meets an actor that has panicked.
    proxy.endpoint.do_send(crash);
    assert_eq!(proxy.endpoint.send(crash).await, Ok(true));
    proxy
        .shows("labnet_rudp_sessions_ended_total{reason=\"crash\"} 1")
        .await;
    assert_eq!(proxy.endpoint.send(crash).await, Ok(false));
    victim.send("SIGNECHO:291;x").await;
    assert_eq!(other.ask("SIGNECHO:291;y").await, "ECHOREPLY:291;y");
    proxy
        .shows("labnet_rudp_dropped_total{reason=\"no_session\"} 1")
        .await;
    assert_eq!(proxy.sessions().await.len(), 1);
    // The crashed one's client may come back.
    assert_eq!(victim.ask("SIGNEW:Tal").await, "SIGNACK");
    assert_eq!(victim.ask("SIGNECHO:290;z").await, "ECHOREPLY:290;z");
    proxy.shows("labnet_rudp_sessions 2").await;
}

#[actix::test]
async fn sessions_go_on_when_the_endpoint_is_made_anew() {
    let mut proxy = Proxy::start(&config(None));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    raw.ask("SIGNECHO:290;x").await;
    // As a reload does it: other limits, the same address.
    let changed = config::Rudp {
        max_window: 2,
        scraper: Some(start_scraper().await),
        ..config(None)
    };
    let previous = proxy.keep.get();
    let kept = RudpEndpoint::prepare(&changed, Some(&previous), &proxy.resources).expect("kept");
    assert_eq!(listens(&kept), proxy.address);
    proxy.keep.set(kept);
    drop(previous);
    proxy.running.abort();
    (proxy.endpoint, proxy.running) = run(&proxy.keep);
    assert_eq!(raw.ask("SIGNECHO:291;y").await, "ECHOREPLY:291;y");
    assert_eq!(
        raw.ask("SIGNGET:292;SIGNGET").await,
        format!("ACKGET:292;{LIST}"),
        "an old session asks the new scraper"
    );
    assert_eq!(proxy.sessions().await[0].statistics["max_window"], 64);
    let new = Raw::to(proxy.address).await;
    new.ask("SIGNEW:Tal").await;
    let sessions = proxy.sessions().await;
    let of_new = sessions.iter().find(|s| s.client == new.address());
    assert_eq!(of_new.expect("listed").statistics["max_window"], 2);
}

#[actix::test]
async fn the_end_of_the_role_ends_its_sessions() {
    let proxy = Proxy::start(&config(None));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    let metrics = Arc::clone(&proxy.resources.metrics);
    proxy.running.abort();
    drop(proxy);
    wait_for("the session's end", || {
        let shown = metrics.render();
        shown.contains("labnet_rudp_sessions_ended_total{reason=\"shutdown\"} 1")
            && shown.contains("labnet_rudp_sessions 0")
            && !shown.contains("session_window{")
    })
    .await;
}

#[actix::test]
async fn an_idle_session_expires_and_its_client_hears_nothing() {
    let proxy = Proxy::start(&config::Rudp {
        idle_timeout: Duration::from_millis(200),
        ..config(None)
    });
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    proxy
        .shows("labnet_rudp_sessions_ended_total{reason=\"idle\"} 1")
        .await;
    proxy.shows("labnet_rudp_sessions 0").await;
    raw.send("SIGNECHO:290;x").await;
    proxy
        .shows("labnet_rudp_dropped_total{reason=\"no_session\"} 1")
        .await;
}

#[actix::test]
async fn after_its_end_a_session_repeats_its_answers_for_a_while() {
    let proxy = Proxy::start(&config(None));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    let start = Instant::now();
    assert_eq!(raw.ask("SIGNEND:290;SIGNEND").await, "ACKEND:290");
    let silence = "labnet_rudp_dropped_total{reason=\"no_session\"} 1";
    while !proxy.metrics().render().contains(silence) {
        assert!(start.elapsed() < PATIENCE, "lingers for ever");
        raw.send("SIGNEND:290;SIGNEND").await;
        let mut buffer = [0; 100];
        if let Ok(length) = timeout(Duration::from_millis(200), raw.0.recv(&mut buffer)).await {
            assert_eq!(&buffer[..length.expect("loopback")], b"ACKEND:290");
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[actix::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let proxy = Proxy::start(&config::Rudp {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        ..config(None)
    });
    // Connected sockets hear nobody but whom they asked.
    for host in ["127.0.0.1", "127.3.2.1"] {
        let server = SocketAddr::new(host.parse().unwrap(), proxy.address.port());
        assert_eq!(Raw::to(server).await.ask("SIGNEW:Tal").await, "SIGNACK");
    }
}

#[actix::test]
async fn the_protocol_is_spoken_over_ipv6_alike() {
    let Ok(socket) = UdpSocket::bind("[::1]:0").await else {
        eprintln!("this machine has no IPv6: nothing tested");
        return;
    };
    let proxy = Proxy::start(&config::Rudp {
        listen: vec!["[::1]:0".parse().unwrap()],
        ..config(Some(start_scraper().await))
    });
    socket.connect(proxy.address).await.expect("loopback");
    let raw = Raw(socket);
    assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
    let list = raw.ask("SIGNGET:290;SIGNGET").await;
    assert_eq!(list, format!("ACKGET:290;{LIST}"));
    let ended = raw.ask("SIGNEND:291;SIGNEND").await;
    assert_eq!(ended, "ACKEND:291");
}

#[actix::test]
async fn a_scraper_that_comes_late_is_waited_for() {
    // A port that nobody listens on, for now.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let proxy = Proxy::start(&config(Some(address)));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    raw.send("SIGNGET:290;SIGNGET").await;
    sleep(Duration::from_millis(300)).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("free still");
    actix_rt::spawn(scraper(socket.listen(16).expect("listens")));
    assert_eq!(raw.hear().await, format!("ACKGET:290;{LIST}"));
}

#[actix::test]
async fn a_scraper_that_stays_away_is_asked_anew_by_the_repeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let proxy = Proxy::start(&config(Some(address)));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    raw.send("SIGNGET:290;SIGNGET").await;
    assert_eq!(raw.ask("SIGNECHO:291;x").await, "ECHOREPLY:291;x");
    // The window is 2 until the scraper is given up.
    proxy
        .shows(&format!(
            "labnet_rudp_session_window{{client=\"Tal\",connection=\"{}\"}} 1",
            raw.address()
        ))
        .await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("free still");
    actix_rt::spawn(scraper(socket.listen(16).expect("listens")));
    assert_eq!(
        raw.ask("SIGNGET:290;SIGNGET").await,
        format!("ACKGET:290;{LIST}")
    );
}

#[actix::test]
async fn a_list_that_fits_no_datagram_is_cut_at_a_whole_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let list: String = (0..10_000).map(|n| format!("file-{n:04}.bin;")).collect();
    actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        // The proxy closes when it has read enough.
        let _ = stream.write_all(list.as_bytes()).await;
    });
    let proxy = Proxy::start(&config(Some(address)));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    let answer = raw.ask("SIGNGET:290;SIGNGET").await;
    let files: Vec<_> = answer["ACKGET:290;".len()..]
        .split_terminator(';')
        .collect();
    assert_eq!(files.len(), 60_000 / "file-0000.bin;".len());
    assert!(files.iter().all(|file| file.len() == "file-0000.bin".len()));
}

#[actix::test]
async fn rubbish_from_many_addresses_leaves_a_good_session_alone() {
    let proxy = Proxy::start(&config(None));
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    let mut random = Pcg32::new(1, 1);
    let noisy = [Raw::to(proxy.address).await, Raw::to(proxy.address).await];
    for n in 0..10_000u32 {
        let mut bytes: Vec<u8> = if n % 2 == 0 {
            (0..random.next_u32() % 100)
                .map(|_| random.next_u32() as u8)
                .collect()
        } else {
            let signals = [
                "SIGNEW:Tal",
                "SIGNSTAT:291",
                "SIGNECHO:290;x",
                "SIGNEND:293;SIGNEND",
            ];
            signals[random.next_u32() as usize % signals.len()].into()
        };
        if n % 4 == 3 {
            let at = random.next_u32() as usize % bytes.len();
            bytes[at] = random.next_u32() as u8;
        }
        noisy[n as usize % 2].send(bytes).await;
        if n % 100 == 0 {
            // The kernel's buffer shall not be what loses the good one's.
            actix_rt::task::yield_now().await;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 100];
    loop {
        raw.send("SIGNECHO:290;x").await;
        if let Ok(length) = timeout(Duration::from_millis(500), raw.0.recv(&mut buffer)).await {
            let length = length.expect("loopback");
            assert_eq!(&buffer[..length], b"ECHOREPLY:290;x");
            break;
        }
        assert!(Instant::now() < deadline, "no answer after the rubbish");
    }
}
