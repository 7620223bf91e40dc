use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::watch::event::{
    hub,
    packet::{Carrier, Fate, Label, Place},
};

/// Raises what passes at one end of a TCP connection, for who observes packets: each read and write,
/// which the kernel cuts into segments as it likes. With nobody observing, each call costs one atomic
/// load.
#[derive(Debug, Clone, Copy)]
pub struct StreamTap(Place);

impl StreamTap {
    /// Of the end `local`.
    pub fn new(label: Label, local: SocketAddr, remote: SocketAddr) -> Self {
        Self(Place {
            label,
            carrier: Carrier::Tcp,
            local,
            remote,
        })
    }

    /// These have been read.
    #[inline]
    pub fn received(&self, bytes: &[u8]) {
        if hub::watched() && !bytes.is_empty() {
            hub::raise(&self.0, Fate::Received, bytes);
        }
    }

    /// Writes by `write`, and raises as much as that says it has written; with the place among all
    /// events that it had before.
    #[inline]
    pub fn write(
        &self,
        parts: &[IoSlice<'_>],
        write: impl FnOnce() -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let announced = hub::announce_write(&self.0, parts);
        let written = write();
        if let (Some(announced), Poll::Ready(Ok(bytes))) = (announced, &written) {
            announced.passed_partly(*bytes);
        }
        written
    }
}

/// A TCP connection whose bytes can be observed: see [`StreamTap`].
pub struct WatchedStream {
    stream: TcpStream,
    tap: StreamTap,
}

impl WatchedStream {
    /// Watches `stream`, which has been connected.
    ///
    /// # Errors
    /// The peer is gone already.
    pub fn new(stream: TcpStream, label: Label) -> io::Result<Self> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self::between(stream, label, local, remote))
    }

    /// The same where both ends are known.
    pub fn between(stream: TcpStream, label: Label, local: SocketAddr, remote: SocketAddr) -> Self {
        let tap = StreamTap::new(label, local, remote);
        Self { stream, tap }
    }

    /// The connection itself, for its options.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        self.tap
            .received(buffer.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tap = self.tap;
        let write = || Pin::new(&mut self.stream).poll_write(task, bytes);
        tap.write(&[IoSlice::new(bytes)], write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tap = self.tap;
        let write = || Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        tap.write(slices, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::watch::event::packet::{Protocol, Role};

    #[tokio::test]
    async fn every_byte_that_passes_is_seen_once_at_each_end_its_cause_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let observer = hub::subscribe(hub::Wants {
            peers: BTreeSet::from([address]),
            queue_bytes: 1 << 30,
            ..hub::Wants::default()
        });
        let of = |role| Label::new(role, Protocol::Http);
        let client = TcpStream::connect(address).await.expect("connected");
        let mut client = WatchedStream::new(client, of(Role::Client)).expect("connected");
        let (server, peer) = listener.accept().await.expect("accepted");
        let mut server = WatchedStream::between(server, of(Role::Origin), address, peer);
        // More than the kernel takes at once, in pieces that are kept whole.
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n as u8).collect();
        let mut received = vec![0; sent.len()];
        let write = async {
            for piece in sent.chunks(50_000) {
                client.write_all(piece).await.expect("sent");
            }
        };
        let read = async {
            for piece in received.chunks_mut(50_000) {
                server.read_exact(piece).await.expect("received");
            }
        };
        tokio::join!(write, read);
        let mut batch = hub::Batch::default();
        let (mut out, mut inn) = (Vec::new(), Vec::new());
        while observer.read(&mut batch, Duration::ZERO) {
            for packet in batch.packets() {
                match packet.fate {
                    Fate::Sent => out.extend_from_slice(packet.payload),
                    Fate::Received => {
                        inn.extend_from_slice(packet.payload);
                        assert!(inn.len() <= out.len(), "received before it was sent");
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!((packet.source(), packet.destination()), (peer, address));
            }
        }
        assert_eq!(observer.lost().sum(), 0);
        assert!(out == sent && inn == sent);
    }
}
