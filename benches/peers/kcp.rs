//! KCP as those set it who want it fast: no delay, a tick of 10 ms, resend after two duplicates,
//! no congestion control.

use std::{net::SocketAddr, time::Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::{Meter, Wish, parts, random_chunk, ready, runtime, udp, unbound};

fn config() -> KcpConfig {
    KcpConfig {
        mtu: 1400,
        nodelay: KcpNoDelayConfig {
            nodelay: true,
            interval: 10,
            resend: 2,
            nc: true,
        },
        wnd_size: (2048, 2048),
        stream: true,
        ..KcpConfig::default()
    }
}

/// Answers each session's eight bytes, a number, with so many bytes.
pub fn serve(address: SocketAddr) {
    // A write of more than 127 segments is refused.
    let chunk = random_chunk().slice(..64 * 1024);
    runtime().block_on(async {
        let socket = tokio::net::UdpSocket::from_std(udp(address)).expect("a socket");
        let listener = KcpListener::from_socket(config(), socket).await;
        let mut listener = listener.expect("listening");
        ready();
        while let Ok((mut stream, _)) = listener.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                let mut size = [0; 8];
                if stream.read_exact(&mut size).await.is_err() {
                    return;
                }
                for part in parts(&chunk, u64::from_be_bytes(size)) {
                    if stream.write_all(&part).await.is_err() {
                        return;
                    }
                }
                let _ = stream.flush().await;
                // Whatever comes next is the end of the session; until then it has to send again.
                let _ = stream.read(&mut size).await;
            });
        }
    });
}

/// The seconds that each session took.
pub fn fetch(address: SocketAddr, wish: Wish) -> Vec<f64> {
    runtime().block_on(async {
        let sessions: Vec<_> = (0..wish.sessions)
            .map(|_| tokio::spawn(session(address, wish)))
            .collect();
        let mut each = Vec::new();
        for session in sessions {
            each.push(session.await.expect("it came"));
        }
        each
    })
}

async fn session(address: SocketAddr, wish: Wish) -> f64 {
    let socket = tokio::net::UdpSocket::from_std(udp(unbound(address))).expect("a socket");
    // KCP has no handshake: the first bytes make the session. Without a number of its own it would
    // get one from the server, and another when the request is sent again before the answer came.
    let conversation = u32::from(socket.local_addr().expect("bound").port());
    let stream =
        KcpStream::connect_with_socket_conv(&config(), conversation, socket, address).await;
    let mut stream = stream.expect("a session");
    let mut meter = Meter::new(wish);
    let mut buffer = vec![0; super::CHUNK];
    let start = Instant::now();
    let sent = stream.write_all(&wish.size.to_be_bytes()).await;
    sent.expect("the request went out");
    let _ = stream.flush().await;
    while meter.so_far < wish.size {
        let read = stream.read(&mut buffer).await.expect("bytes");
        assert!(read > 0, "the server closed after {} bytes", meter.so_far);
        meter.add(read);
    }
    start.elapsed().as_secs_f64()
}
