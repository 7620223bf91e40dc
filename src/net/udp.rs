use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    task::{Context, Poll, ready},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;

/// A UDP socket that receives in batches and tells to which local address a datagram came, so that
/// the answer leaves from there.
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl UdpSocket {
    /// Registers a duplicate of `socket` with the current thread's reactor. The original stays open
    /// elsewhere and keeps what the kernel queues while no actor listens.
    pub fn adopt(socket: &std::net::UdpSocket) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&io).into())?;
        allow_fragments(&io)?;
        Ok(Self { io, state })
    }

    /// The socket's own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits for datagrams and puts as many as one system call gives into `batch`, replacing what
    /// it held.
    ///
    /// A queued ICMP error of an earlier send (`ConnectionRefused` and its like) is no error of
    /// this socket and is skipped.
    pub fn poll_receive(
        &self,
        task: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        batch.filled = 0;
        loop {
            ready!(self.io.poll_recv_ready(task))?;
            let received = self.io.try_io(Interest::READABLE, || {
                let mut slices = batch.buffer.chunks_mut(batch.slot).map(IoSliceMut::new);
                // BATCH_SIZE chunks by construction: see ReceiveBatch::new.
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    slices.next().unwrap_or_else(|| IoSliceMut::new(&mut []))
                });
                self.state
                    .recv((&self.io).into(), &mut slices, &mut batch.meta)
            });
            match received {
                Ok(filled) => {
                    batch.filled = filled;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::NetworkUnreachable
                    ) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends one datagram at once, from `source` if given. `WouldBlock` means that the kernel's
    /// queue is full: the datagram is lost, as on any full link.
    pub fn try_send(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        // Not by the executor's readiness, which a socket lacks until the executor first looks at it:
        // what is sent before that would be lost. Nobody waits for room in the queue.
        self.state.try_send(
            (&self.io).into(),
            &Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: None,
                src_ip: source,
            },
        )
    }
}

/// Lets the kernel fragment what is larger than the path's MTU. quinn-udp forbids it, for a
/// transport that probes the path; signals and answers of DHCP and DNS do not.
fn allow_fragments(socket: &tokio::net::UdpSocket) -> io::Result<()> {
    let (level, option, value) = match socket.local_addr()? {
        SocketAddr::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        ),
        SocketAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        ),
    };
    set_option(socket, level, option, value)?;
    if level == libc::IPPROTO_IPV6 {
        set_option(socket, level, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` lives, and the kernel reads exactly
    // the four bytes of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its payload.
    pub payload: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The local address it was sent to.
    pub destination: Option<IpAddr>,
    /// The index of the interface it came in by.
    pub interface: Option<u32>,
}

/// The buffers of one receiving system call, used again and again.
pub struct ReceiveBatch {
    buffer: Box<[u8]>,
    slot: usize,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// The largest UDP payload; also what GRO may join into one buffer.
const MAX_PAYLOAD: usize = 65_535;

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Empty buffers, each large enough for any datagram. The memory is only touched, and so only
    /// counted, when datagrams fill it.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; MAX_PAYLOAD * BATCH_SIZE].into_boxed_slice(),
            slot: MAX_PAYLOAD,
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    /// The datagrams of the last receive. Buffers that the kernel joined (GRO) come apart again.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.buffer
            .chunks(self.slot)
            .zip(&self.meta)
            .take(self.filled)
            .flat_map(|(bytes, meta)| {
                let bytes = &bytes[..meta.len.min(bytes.len())];
                // An empty datagram is one datagram too; chunks() would give none.
                let empty = bytes.is_empty().then_some(bytes);
                bytes
                    .chunks(meta.stride.max(1))
                    .chain(empty)
                    .map(|payload| Datagram {
                        payload,
                        source: meta.addr,
                        destination: meta.dst_ip,
                        interface: meta.interface_index,
                    })
            })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_socket_sends_as_soon_as_it_is_adopted() {
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let held = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let to = peer.local_addr().expect("bound");
        socket.try_send(b"first", to, None).expect("sent");
        let mut buffer = [0; 9];
        assert_eq!(peer.recv(&mut buffer).expect("received"), 5);
    }

    #[tokio::test]
    async fn a_batch_gives_back_every_datagram_with_its_addresses() {
        let held = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let peer = std::net::UdpSocket::bind("127.0.0.2:0").expect("loopback");
        let to = held.local_addr().expect("bound");
        for payload in [&b"one"[..], b"", b"three"] {
            peer.send_to(payload, to).expect("send");
        }
        let mut batch = ReceiveBatch::new();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            poll_fn(|task| socket.poll_receive(task, &mut batch))
                .await
                .expect("receive");
            for datagram in batch.iter() {
                assert_eq!(datagram.source, peer.local_addr().expect("bound"));
                assert_eq!(datagram.destination, Some(to.ip()));
                seen.push(datagram.payload.to_vec());
            }
        }
        assert_eq!(seen, [&b"one"[..], b"", b"three"]);
    }
}
