use std::{future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::link::LinkedSocket;
use crate::link::model::Verdict;
use crate::net::first_link;

const PATIENCE: Duration = Duration::from_secs(20);

fn options(list: &str) -> LinkOptions {
    let mut options = LinkOptions::default();
    options.set_list(list).expect(list);
    options
}

fn link(up: &str, down: &str) -> SocketLink {
    SocketLink::new(Side::Server, options(up), options(down), 7)
}

fn loopback() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback")
}

/// A server's socket behind `link`, and a client that knows it.
async fn pair(link: &SocketLink) -> (LinkedSocket, tokio::net::UdpSocket) {
    pair_at(link, 0).await
}

/// The same at the link's port `port`.
async fn pair_at(link: &SocketLink, port: usize) -> (LinkedSocket, tokio::net::UdpSocket) {
    let server = UdpSocket::adopt(&loopback()).expect("adopted");
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
    let client = client.expect("loopback");
    let to = server.local_addr().expect("bound");
    client.connect(to).await.expect("loopback");
    (LinkedSocket::behind(server, link, port), client)
}

/// The payloads of the next receive, each with its sender.
async fn receive(socket: &LinkedSocket) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut batch = ReceiveBatch::new();
    let received = poll_fn(|task| socket.poll_receive(task, &mut batch));
    let received = timeout(PATIENCE, received).await;
    received.expect("in time").expect("received");
    batch
        .iter()
        .map(|datagram| (datagram.payload.to_vec(), datagram.source))
        .collect()
}

/// What comes within 50 ms.
async fn silence(socket: &LinkedSocket) -> bool {
    let mut batch = ReceiveBatch::new();
    let received = poll_fn(|task| socket.poll_receive(task, &mut batch));
    timeout(Duration::from_millis(50), received).await.is_err()
}

#[tokio::test]
async fn what_the_interface_does_not_take_is_refused_as_without_a_link() {
    for down in ["", "delay=1ms"] {
        let link = link("", down);
        let server = UdpSocket::adopt(&loopback()).expect("adopted");
        let server = server.unfragmented().expect("Linux has it");
        let server = LinkedSocket::behind(server, &link, 0);
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
        let client = client.expect("loopback");
        let to = client.local_addr().expect("bound");
        // The loopback's MTU is one of the largest.
        let most = first_link::largest_payload(to, None).expect("a way");
        for (size, fits) in [(most, true), (most + 1, false), (1200, true)] {
            let contents = vec![7; usize::from(size)];
            let sent = server.try_send_segments(&contents, contents.len(), to, None, None);
            match sent {
                Ok(()) => assert!(fits, "{size} over `{down}`"),
                Err(error) => assert!(
                    !fits && is_too_large(&error),
                    "{size} over `{down}`: {error}"
                ),
            }
        }
        let mut buffer = vec![0; usize::from(u16::MAX)];
        for size in [most, 1200] {
            let received = tokio::select! {
                received = client.recv(&mut buffer) => received.expect("received"),
                _ = receive(&server) => panic!("nothing was sent"),
            };
            assert_eq!(received, usize::from(size));
        }
        let counters = link.control().counters();
        assert_eq!(counters.undelivered, 0);
        assert_eq!(counters.down.sent, if down.is_empty() { 0 } else { 2 });
    }
}

#[tokio::test]
async fn both_directions_are_late_and_each_by_its_own_options() {
    let link = link("delay=30ms", "delay=60ms");
    let (server, client) = pair(&link).await;
    let start = Instant::now();
    client.send(b"question").await.expect("sent");
    let (question, from) = receive(&server).await.remove(0);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(
        (&question[..], from),
        (&b"question"[..], client.local_addr().expect("bound"))
    );
    server.try_send(b"answer", from, None).expect("taken");
    let mut buffer = [0; 99];
    // The answer is under way only as long as somebody waits at the server's socket.
    let answer = tokio::select! {
        answer = client.recv(&mut buffer) => answer.expect("received"),
        _ = receive(&server) => panic!("nothing was sent"),
    };
    assert!(start.elapsed() >= Duration::from_millis(90));
    assert_eq!(&buffer[..answer], b"answer");
    let counters = link.control().counters();
    assert_eq!((counters.up.delivered, counters.down.delivered), (1, 1));
}

#[tokio::test]
async fn a_client_s_packets_go_up() {
    let link = SocketLink::new(Side::Client, options("loss=100"), options(""), 1);
    let (client, server) = pair(&link).await;
    let to = server.local_addr().expect("bound");
    client.try_send(b"lost", to, None).expect("taken");
    server.send(b"heard").await.expect("sent");
    assert_eq!(receive(&client).await[0].0, b"heard");
    let counters = link.control().counters();
    assert_eq!(counters.up.lost.random, 1);
    assert_eq!(counters.down.delivered, 1);
}

#[tokio::test]
async fn a_link_that_does_nothing_is_not_there() {
    let link = link("", "");
    let (server, client) = pair(&link).await;
    client.send(b"one").await.expect("sent");
    assert_eq!(receive(&server).await[0].0, b"one");
    assert_eq!(link.control().counters(), LinkCounters::default());
    // It is as bad as it becomes, also for who waits already.
    let waiting = async {
        link.control()
            .set_options(options("delay=20ms"), options(""));
        let start = Instant::now();
        client.send(b"two").await.expect("sent");
        start
    };
    let (received, start) = tokio::join!(receive(&server), waiting);
    assert_eq!(received[0].0, b"two");
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(link.control().counters().up.delivered, 1);
    // And good again once nothing is under way.
    link.configure(options(""), options(""), 7);
    assert!(silence(&server).await);
    client.send(b"three").await.expect("sent");
    assert_eq!(receive(&server).await[0].0, b"three");
    assert_eq!(link.control().counters().up.sent, 1);
}

#[tokio::test]
async fn who_sends_first_and_waits_then_is_served() {
    let link = link("", "");
    let (server, client) = pair(&link).await;
    let to = client.local_addr().expect("bound");
    let mut buffer = [0; 9];
    // The server's socket waits for the kernel alone when the link becomes slow.
    let sending = async {
        link.control()
            .set_options(options(""), options("delay=10ms"));
        server.try_send(b"late", to, None).expect("taken");
        timeout(PATIENCE, client.recv(&mut buffer))
            .await
            .expect("in time")
    };
    tokio::select! {
        _ = receive(&server) => panic!("nothing was sent"),
        received = sending => assert_eq!(received.expect("received"), 4),
    }
}

#[tokio::test]
async fn the_same_seed_loses_the_same_packets_and_another_one_others() {
    let arrived = |seed| async move {
        let link = SocketLink::new(Side::Server, options(""), options("loss=40"), 1);
        link.configure(options(""), options("loss=40"), seed);
        let (server, client) = pair(&link).await;
        let to = client.local_addr().expect("bound");
        for n in 0..64_u8 {
            server.try_send(&[n], to, None).expect("taken");
        }
        let mut arrived = Vec::new();
        while (arrived.len() as u64) < link.control().counters().down.delivered {
            let mut buffer = [0; 9];
            let received = timeout(PATIENCE, client.recv(&mut buffer)).await;
            received.expect("in time").expect("received");
            arrived.push(buffer[0]);
        }
        arrived
    };
    let first = arrived(5).await;
    assert!((20..60).contains(&first.len()), "{first:?}");
    assert_eq!(first, arrived(5).await);
    assert_ne!(first, arrived(6).await);
}

#[tokio::test]
async fn segments_keep_their_marks_over_the_link() {
    let link = link("", "delay=1ms");
    let (server, _) = pair(&link).await;
    let held = loopback();
    let peer = UdpSocket::adopt(&held).expect("adopted");
    let to = held.local_addr().expect("bound");
    server
        .try_send_segments(&[7; 2500], 1000, to, None, Some(Ecn::Ect1))
        .expect("taken");
    let mut lengths = Vec::new();
    while lengths.len() < 3 {
        let mut batch = ReceiveBatch::new();
        tokio::select! {
            received = poll_fn(|task| peer.poll_receive(task, &mut batch)) => {
                received.expect("received");
            }
            _ = receive(&server) => panic!("nothing was sent"),
        }
        for buffer in batch.buffers_mut() {
            assert_eq!(buffer.ecn, Some(Ecn::Ect1));
            lengths.extend(buffer.bytes.chunks(buffer.stride).map(<[u8]>::len));
        }
    }
    assert_eq!(lengths, [1000, 1000, 500]);
}

#[tokio::test]
async fn what_is_under_way_reaches_the_socket_s_successor() {
    let link = link("delay=20ms", "");
    let (server, client) = pair(&link).await;
    client.send(b"late").await.expect("sent");
    let mut batch = ReceiveBatch::new();
    let taken_in = poll_fn(|task| match server.poll_receive(task, &mut batch) {
        Poll::Pending if link.control().counters().up.sent == 1 => Poll::Ready(()),
        polled => polled.map(|_| panic!("20 ms have not passed")),
    });
    timeout(PATIENCE, taken_in).await.expect("in time");
    drop(server);
    let successor = UdpSocket::adopt(&loopback()).expect("adopted");
    let successor = LinkedSocket::behind(successor, &link, 0);
    assert_eq!(receive(&successor).await[0].0, b"late");
}

#[tokio::test]
async fn several_sockets_share_its_rate_and_get_their_own() {
    // 1000 bytes with the headers take 10 ms.
    let link = link("rate=800kbit", "");
    let (one, first) = pair(&link).await;
    let (two, second) = pair_at(&link, 1).await;
    let start = Instant::now();
    for _ in 0..3 {
        first.send(&[1; 972]).await.expect("sent");
        second.send(&[2; 972]).await.expect("sent");
    }
    let count = async |socket: &LinkedSocket, byte: u8| {
        let mut seen = 0;
        while seen < 3 {
            for (payload, _) in receive(socket).await {
                assert_eq!(payload, vec![byte; 972]);
                seen += 1;
            }
        }
    };
    tokio::join!(count(&one, 1), count(&two, 2));
    assert!(start.elapsed() >= Duration::from_millis(60));
    // The one that kept the time is gone, and the other takes over.
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(one);
        second.send(&[3; 972]).await.expect("sent");
    };
    let (received, ()) = tokio::join!(receive(&two), waiting);
    assert_eq!(received[0].0, vec![3; 972]);
}

#[tokio::test]
async fn more_than_a_batch_comes_through_at_once() {
    let link = link("delay=10ms", "");
    let (server, client) = pair(&link).await;
    for n in 0..100_u8 {
        client.send(&[n]).await.expect("sent");
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(
            receive(&server)
                .await
                .into_iter()
                .map(|(payload, _)| payload[0]),
        );
    }
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

/// The way, the peer, the size, the payload and the outcome.
type Heard = (Way, Option<SocketAddr>, usize, Vec<u8>, &'static str);

#[derive(Debug, Default)]
struct Hearing(Mutex<Vec<Heard>>);

impl Observer for Hearing {
    fn on_verdict(&self, verdict: &Verdict<'_>) {
        self.0.lock().expect("no panic").push((
            verdict.way,
            verdict.peer,
            verdict.size,
            verdict.payload.to_vec(),
            verdict.outcome.name(),
        ));
    }
}

#[tokio::test]
async fn who_listens_hears_of_each_datagram_whose_it_is_and_what_became_of_it() {
    let link = link("", "loss=100");
    let hearing = Arc::new(Hearing::default());
    let other = Arc::new(Hearing::default());
    let observer: Arc<dyn Observer> = hearing.clone();
    link.control().watch(Arc::clone(&observer));
    link.control().watch(other.clone());
    let (server, client) = pair(&link).await;
    let peer = client.local_addr().expect("bound");
    client.send(b"question").await.expect("sent");
    assert_eq!(receive(&server).await[0].0, b"question");
    server.try_send(b"answer", peer, None).expect("taken");
    // The one hears no more, the other does.
    link.control().unwatch(&observer);
    server.try_send(b"more", peer, None).expect("taken");
    let heard = std::mem::take(&mut *hearing.0.lock().expect("no panic"));
    let expected = [
        (Way::Up, Some(peer), 36, b"question".to_vec(), "delivered"),
        (Way::Down, Some(peer), 34, b"answer".to_vec(), "lost_random"),
    ];
    assert_eq!(heard, expected);
    let others = std::mem::take(&mut *other.0.lock().expect("no panic"));
    assert_eq!(others[..2], expected);
    assert_eq!(others[2].3, b"more");
    assert_eq!(others.len(), 3);
    assert_eq!(link.control().counters().down.lost.random, 2);
}
