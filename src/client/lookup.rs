//! Asks a DNS server: over UDP, and over TCP when the answer is too large for it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};

use super::{
    Patience,
    dns::{DnsClient, DnsError, Lookup, Resolved},
    udp::{self, SocketError},
};
use crate::{
    net::WatchedStream,
    watch::event::packet::{Label, Protocol, Role},
};

/// Why a name was not looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The server's answer, or its silence.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The connection for the long answer.
    #[error("the answer is too large for UDP, and over TCP: {0}")]
    Tcp(io::Error),
}

/// An answer and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The answer.
    pub resolved: Resolved,
    /// From the question to the answer.
    pub took: Duration,
    /// Whether it took TCP.
    pub over_tcp: bool,
}

/// The longest wait for the answer over TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(5);

/// Asks `server` for the IPv4 address of `host`, from the address `local`.
pub async fn resolve(
    server: SocketAddr,
    host: &str,
    local: Option<IpAddr>,
    patience: Patience,
    seed: u64,
) -> Result<Found, LookupError> {
    let started = Instant::now();
    let mut client = DnsClient::new(host, patience, seed, started)?;
    let line = udp::Line::connected(local, server).await?;
    let (resolved, over_tcp) =
        match udp::run(&line, Protocol::Dns, &mut client, &mut |_| {}).await?? {
            Lookup::Resolved(resolved) => (resolved, false),
            Lookup::Truncated => {
                let answer = timeout(TCP_PATIENCE, ask_over_tcp(server, local, &client)).await;
                let answer = answer
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(LookupError::Tcp)?;
                (client.read_tcp(&answer)?, true)
            }
        };
    Ok(Found {
        resolved,
        took: started.elapsed(),
        over_tcp,
    })
}

/// RFC 1035 section 4.2.2: two bytes of length, then the message.
async fn ask_over_tcp(
    server: SocketAddr,
    local: Option<IpAddr>,
    client: &DnsClient,
) -> io::Result<Vec<u8>> {
    let socket = if server.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(local) = local.filter(|local| local.is_ipv4() == server.is_ipv4()) {
        socket.bind((local, 0).into())?;
    }
    let stream = socket.connect(server).await?;
    let mut stream = WatchedStream::new(stream, Label::new(Role::Client, Protocol::Dns))?;
    let query = client.query();
    let length = u16::try_from(query.payload.len()).map_err(io::Error::other)?;
    // One write: some servers read the length and the message as one.
    let mut request = length.to_be_bytes().to_vec();
    request.extend(query.payload);
    stream.write_all(&request).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
