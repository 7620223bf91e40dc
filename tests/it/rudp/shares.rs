//! What one address takes of the proxy, the others still have.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use labnet::{config, role::LeaseEvent};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

use super::proxy::{PATIENCE, Proxy, Raw, config, wait_for};

const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

#[actix::test]
async fn a_flood_of_signews_from_one_address_leaves_others_unharmed() {
    let proxy = Proxy::start(&config::Rudp {
        shares: config::Shares {
            half_open: 256,
            ..config::Shares::of(4096)
        },
        ..config(None)
    });
    let waiting = Raw::from(OTHER, proxy.address).await;
    assert_eq!(waiting.ask("SIGNEW:Tal").await, "SIGNACK");
    for round in 0..3 {
        let mut flood = Vec::new();
        for n in 0..400 {
            let raw = Raw::from(FLOODER, proxy.address).await;
            raw.send(format!("SIGNEW:x{n}")).await;
            flood.push(raw);
        }
        let fresh = Raw::from(OTHER, proxy.address).await;
        let start = Instant::now();
        // The kernel's buffer may be full of the flood for a moment.
        loop {
            fresh.send("SIGNEW:Noa").await;
            let mut buffer = [0; 100];
            if let Ok(heard) = timeout(Duration::from_millis(500), fresh.0.recv(&mut buffer)).await
            {
                assert_eq!(&buffer[..heard.expect("loopback")], b"SIGNACK");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "nobody gets in, round {round}");
        }
        assert_eq!(fresh.ask("SIGNECHO:287;x").await, "ECHOREPLY:287;x");
        // What was flooded with is bounded, and the latest of it is served as well.
        assert_eq!(flood[399].hear().await, "SIGNACK");
    }
    assert_eq!(waiting.ask("SIGNECHO:290;x").await, "ECHOREPLY:290;x");
    let shown = proxy.metrics().render();
    let half_open = "labnet_rudp_half_open{protocol=\"signals\"} ";
    let half_open = shown.lines().find_map(|line| line.strip_prefix(half_open));
    let half_open: u32 = half_open.expect("shown").parse().expect("a number");
    assert!((200..=256).contains(&half_open), "{half_open}");
    assert!(shown.contains("labnet_rudp_sessions_ended_total{reason=\"displaced\"}"));
    assert!(
        !shown.contains("labnet_rudp_session_window{client=\"x"),
        "no series"
    );
}

#[actix::test]
async fn a_client_that_thinks_is_answered_and_one_that_never_comes_back_forgotten() {
    let proxy = Proxy::start(&config::Rudp {
        idle_timeout: Duration::from_secs(2),
        ..config(None)
    });
    let raw = Raw::to(proxy.address).await;
    raw.ask("SIGNEW:Tal").await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
    proxy
        .shows("labnet_rudp_half_open{protocol=\"signals\"} 1")
        .await;
    assert_eq!(proxy.sessions().await[0].statistics["received"], 0);
    proxy
        .shows("labnet_rudp_half_open{protocol=\"signals\"} 0")
        .await;
    proxy
        .shows("labnet_rudp_sessions_ended_total{reason=\"idle\"} 1")
        .await;
    assert!(proxy.sessions().await.is_empty());
}

/// A scraper with 400 names of 100 characters.
async fn long_scraper() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    actix_rt::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut question = [0; 7];
            stream.read_exact(&mut question).await.expect("a question");
            let list: String = (0..400).map(|n| format!("{n:0100};")).collect();
            stream.write_all(list.as_bytes()).await.expect("taken");
        }
    });
    address
}

/// Waits for what comes within half a second: its bytes.
async fn bytes_heard(raw: &Raw) -> usize {
    let mut buffer = vec![0; 65_536];
    let mut heard = 0;
    while let Ok(length) = timeout(Duration::from_millis(500), raw.0.recv(&mut buffer)).await {
        heard += length.expect("loopback");
    }
    heard
}

#[actix::test]
async fn an_address_that_is_not_known_is_sent_little() {
    let proxy = Proxy::start(&config::Rudp {
        shares: config::Shares {
            trust_loopback: false,
            ..config::Shares::of(4096)
        },
        ..config(Some(long_scraper().await))
    });
    let raw = Raw::from(OTHER, proxy.address).await;
    assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
    let refused = raw.ask("SIGNGET:290;SIGNGET").await;
    assert!(
        refused.starts_with("SIGNREFUSED:290;the answer is too long"),
        "{refused}"
    );
    // A gap as wide as the window, over and over, gets no more.
    let mut sent = 0;
    let start = Instant::now();
    for _ in 0..20 {
        for id in [354, 290, 354] {
            let signal = format!("SIGNGET:{id};SIGNGET");
            sent += signal.len();
            raw.send(signal).await;
        }
    }
    let heard = bytes_heard(&raw).await;
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!(heard <= 10 * sent + 1500 * seconds, "{heard} for {sent}");
    let dropped = "labnet_rudp_dropped_total{reason=\"amplification\"} ";
    let shown = proxy.metrics().render();
    let dropped = shown.lines().find_map(|line| line.strip_prefix(dropped));
    assert!(dropped.expect("shown").parse::<u32>().expect("a number") > 0);
    // With a lease of ours it has all, and no longer than the lease lasts.
    let leased = |hostname: Option<&str>| LeaseEvent::Bound {
        address: OTHER,
        hostname: hostname.map(Into::into),
    };
    proxy.resources.leases.publish(leased(None));
    proxy.resources.leases.publish(leased(Some("tal")));
    let start = Instant::now();
    loop {
        raw.send("SIGNGET:290;SIGNGET").await;
        if bytes_heard(&raw).await > 40_000 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the lease is not heard of");
    }
    proxy
        .resources
        .leases
        .publish(LeaseEvent::Ended { address: OTHER });
    wait_for("the end of the lease", || proxy.resources.leases.is_empty()).await;
    sleep(Duration::from_millis(1300)).await;
    raw.send("SIGNGET:290;SIGNGET").await;
    assert!(bytes_heard(&raw).await <= 1500);
}

#[actix::test]
async fn leases_of_before_are_known_to_a_proxy_that_starts() {
    let shares = config::Shares {
        trust_loopback: false,
        ..config::Shares::of(4096)
    };
    let config = config::Rudp {
        shares,
        ..config(Some(long_scraper().await))
    };
    let proxy = Proxy::start_after(&config, |resources| {
        let event = LeaseEvent::Bound {
            address: OTHER,
            hostname: None,
        };
        resources.leases.publish(event);
    });
    let raw = Raw::from(OTHER, proxy.address).await;
    assert_eq!(raw.ask("SIGNEW:Tal").await, "SIGNACK");
    assert!(raw.ask("SIGNGET:290;SIGNGET").await.len() > 40_000);
}
