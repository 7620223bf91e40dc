use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::telemetry::packets;

use super::{Authority, Outcome, Transport, counters::Counters, meaning};

/// What connections may take (RFC 7766 section 6.2).
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; one more is closed at once.
    connections: usize,
    /// A whole question has to come within so long of the connection's start or of the last
    /// answer, and an answer has to be taken within so long.
    patience: Duration,
    /// The same once half of the connections are taken.
    busy_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            patience: Duration::from_secs(10),
            busy_patience: Duration::from_secs(1),
        }
    }
}

/// Answers to pipelined questions are written together up to about so many bytes. With a question
/// and an answer of 65535 bytes each, a connection takes at most some 200 KB.
const WRITE_BATCH: usize = 16 * 1024;
/// Most questions fit.
const READ_AHEAD: usize = 512;

/// What all connections of one actor share.
pub(super) struct Service {
    authority: Arc<Authority>,
    counters: Counters,
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(authority: Arc<Authority>, counters: Counters, limits: Limits) -> Self {
        Self {
            authority,
            counters,
            limits,
            slots: Arc::new(Semaphore::new(limits.connections)),
        }
    }

    fn deadline(&self) -> Instant {
        let patience = if self.slots.available_permits() < self.limits.connections / 2 {
            self.limits.busy_patience
        } else {
            self.limits.patience
        };
        Instant::now() + patience
    }
}

/// Accepts connections until the future is dropped; they end with it.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a peer that was gone before it was accepted.
                    tracing::debug!(%error, "accept failed");
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a DNS connection failed");
                }
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&service.slots).try_acquire_owned() else {
            service.counters.tcp_full.inc();
            tracing::debug!(%peer, "too many DNS connections");
            continue;
        };
        let service = Arc::clone(&service);
        connections.spawn(async move {
            let _open = Open::new(&service.counters);
            if let Err(error) = converse(stream, peer, &service).await {
                if error.kind() == io::ErrorKind::TimedOut {
                    service.counters.tcp_timeout.inc();
                }
                tracing::debug!(%peer, %error, "DNS connection ended");
            }
            drop(slot);
        });
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.tcp_connections.inc();
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tcp_connections.dec();
    }
}

/// Answers the questions of one connection in their order, each message after its length (RFC 1035
/// section 4.2.2, RFC 7766), until the peer closes it, is too slow, or sends what is no question.
async fn converse(mut stream: TcpStream, peer: SocketAddr, service: &Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    let mut deadline = service.deadline();
    loop {
        output.clear();
        let mut broken = false;
        while !broken
            && output.len() < WRITE_BATCH
            && let Some(question) = first_message(&input)
        {
            let start = output.len();
            output.extend([0, 0]);
            let outcome = service
                .authority
                .answer(question, Transport::Tcp, &mut output);
            service.counters.count(Transport::Tcp, outcome);
            let taken = 2 + question.len();
            if let Outcome::Ignored(reason) = outcome {
                tracing::debug!(%peer, ?reason, "DNS message ignored");
                output.truncate(start);
                broken = true;
            } else {
                let answer = &output[start + 2..];
                if packets::watched() {
                    let fate = packets::Fate::Sent;
                    packets::sent(
                        "dns",
                        "DNS",
                        local,
                        peer,
                        answer.len(),
                        fate,
                        meaning(answer),
                    );
                }
                // An answer has at most 65535 bytes: see Authority::answer.
                let length = (answer.len() as u16).to_be_bytes();
                output[start..start + 2].copy_from_slice(&length);
            }
            input.advance(taken);
        }
        if !output.is_empty() {
            timeout_at(service.deadline(), stream.write_all(&output)).await??;
            deadline = service.deadline();
        }
        if broken {
            return Ok(());
        }
        if first_message(&input).is_some() {
            continue;
        }
        if input.len() == input.capacity() {
            input.reserve(READ_AHEAD);
        }
        if timeout_at(deadline, stream.read_buf(&mut input)).await?? == 0 {
            return Ok(());
        }
    }
}

/// The message at the start of `input`, if it is whole.
fn first_message(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
