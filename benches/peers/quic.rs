//! quinn: QUIC with TLS 1.3, one connection and one stream for each session.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use labnet::compare::{quic, sender::QuicControl};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};

use super::{Congestion, Meter, Wish, parts, random_chunk, ready, runtime, udp, unbound};

fn control(congestion: Congestion) -> QuicControl {
    match congestion {
        Congestion::Bbr => QuicControl::Bbr,
        Congestion::Cubic => QuicControl::Cubic,
        Congestion::NewReno => QuicControl::NewReno,
    }
}

/// Answers each stream's eight bytes, a number, with so many bytes.
pub fn serve(congestion: Congestion, address: SocketAddr) {
    let config = quic::server(control(congestion), None).expect("a configuration");
    let chunk = random_chunk();
    runtime().block_on(async {
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(config),
            udp(address),
            Arc::new(TokioRuntime),
        );
        let endpoint = endpoint.expect("an endpoint");
        ready();
        while let Some(incoming) = endpoint.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    answer(connection, chunk).await;
                }
            });
        }
    });
}

async fn answer(connection: Connection, chunk: Bytes) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let mut size = [0; 8];
        if receive.read_exact(&mut size).await.is_err() {
            return;
        }
        for part in parts(&chunk, u64::from_be_bytes(size)) {
            if send.write_chunk(part).await.is_err() {
                return;
            }
        }
        let _ = send.finish();
    }
}

/// The seconds that each session took.
pub fn fetch(address: SocketAddr, wish: Wish) -> Vec<f64> {
    let config = quic::client().expect("a configuration");
    runtime().block_on(async {
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            udp(unbound(address)),
            Arc::new(TokioRuntime),
        );
        let mut endpoint = endpoint.expect("an endpoint");
        endpoint.set_default_client_config(config);
        let mut connections = Vec::new();
        for _ in 0..wish.sessions {
            let connection = endpoint.connect(address, quic::NAME).expect("an address");
            connections.push(connection.await.expect("a connection"));
        }
        let sessions: Vec<_> = connections
            .into_iter()
            .map(|connection| tokio::spawn(session(connection, wish)))
            .collect();
        let mut each = Vec::new();
        for session in sessions {
            each.push(session.await.expect("it came"));
        }
        each
    })
}

async fn session(connection: Connection, wish: Wish) -> f64 {
    let mut meter = Meter::new(wish);
    let mut chunks = [const { Bytes::new() }; 32];
    let start = Instant::now();
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    let sent = send.write_all(&wish.size.to_be_bytes()).await;
    sent.expect("the request went out");
    let _ = send.finish();
    while let Some(n) = receive.read_chunks(&mut chunks).await.expect("bytes") {
        for chunk in &mut chunks[..n] {
            meter.add(std::mem::take(chunk).len());
        }
    }
    assert_eq!(meter.so_far, wish.size, "the stream ended early");
    start.elapsed().as_secs_f64()
}
