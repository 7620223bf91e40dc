use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
};

use quinn_udp::{Transmit, UdpSocketState};
use tokio::io::Interest;

use super::{Ecn, ReceiveBatch};

/// A UDP socket that receives in batches, sends a batch of segments in one system call (GSO), and
/// tells to which local address a datagram came, so that the answer leaves from there.
///
/// **Fragments.** A datagram that is larger than the path's MTU can only arrive in fragments.
/// Signals and the answers of DHCP and DNS may (a list of files has up to 64 kB); a transport that
/// searches for the path's MTU must not, for its probes would always arrive. An adopted socket
/// fragments whatever is too large. One that was made [`unfragmented`](Self::unfragmented) sets
/// DF, and serves both: [`try_send_segments`](Self::try_send_segments) never fragments there, and
/// [`try_send`](Self::try_send) lifts DF for the one system call if the datagram is larger than
/// what every path carries. Linux knows DF as an option of the socket only, neither of a message
/// nor of a duplicated descriptor; most signals are small and cost nothing.
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    /// Sends single datagrams, and receives.
    state: UdpSocketState,
    /// Sends segments. After a refusal of the kernel's, quinn-udp sends without ECN for good: what
    /// a device refuses of segments must not cost the single datagrams their marks.
    segmenting: UdpSocketState,
    /// Whether the kernel and the device segment.
    segments: AtomicBool,
    /// Whether DF is set.
    unfragmented: bool,
    /// Whether "connection refused" is told to who receives.
    refusals: bool,
}

/// What a socket is asked to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Datagrams, one behind the other.
    pub contents: &'a [u8],
    /// The length of each; the last may be shorter.
    pub segment_size: usize,
    /// Where to.
    pub destination: SocketAddr,
    /// From which of the host's addresses, if not from the one that the kernel chooses.
    pub source: Option<IpAddr>,
    /// The mark that all of them carry.
    pub ecn: Option<Ecn>,
    /// Whether they must not be fragmented.
    pub whole: bool,
}

impl<'a> Outgoing<'a> {
    /// One datagram, in fragments if it is large.
    pub fn datagram(contents: &'a [u8], destination: SocketAddr, source: Option<IpAddr>) -> Self {
        Self {
            contents,
            segment_size: contents.len(),
            destination,
            source,
            ecn: None,
            whole: false,
        }
    }

    /// Whether it can be sent at all.
    ///
    /// # Errors
    /// `InvalidInput`: nobody has port 0, and no segment is empty.
    pub fn check(&self) -> io::Result<()> {
        // The kernel's own error for it would be taken for a refusal to segment, and a peer may
        // choose its port.
        if self.destination.port() == 0 || self.segment_size == 0 && self.whole {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }
}

/// The largest UDP payload over IPv4 (65,535 bytes with both headers); IPv6 takes a little more.
const MAX_BATCH: usize = 65_507;
/// What quinn-udp sends at once (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_SEGMENTS: usize = 64;
/// The payload that every IPv4 host takes: RFC 791's 576 bytes less the IP and UDP headers.
const EVERY_PATH_V4: usize = 576 - 28;
/// The payload that every IPv6 path carries: RFC 8200's 1280 bytes less the IP and UDP headers.
const EVERY_PATH_V6: usize = 1280 - 48;

impl UdpSocket {
    /// Registers a duplicate of `socket` with the current thread's reactor. The original stays open
    /// elsewhere and keeps what the kernel queues while no actor listens.
    pub fn adopt(socket: &std::net::UdpSocket) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&io).into())?;
        let segmenting = UdpSocketState::new((&io).into())?;
        let segments = AtomicBool::new(segmenting.max_gso_segments() > 1);
        // Nobody reads quinn-udp's timestamps, and its buffer for control messages (96 bytes) does
        // not hold them besides an address, the length of joined datagrams and their ECN mark: the
        // mark would be cut off.
        set_option(&io, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0)?;
        allow_fragments(&io, true)?;
        Ok(Self {
            io,
            state,
            segmenting,
            segments,
            unfragmented: false,
            refusals: false,
        })
    }

    /// Forbids fragments: sets DF and ignores what the kernel believes of the path's MTU
    /// (`IP_PMTUDISC_PROBE`).
    ///
    /// # Errors
    /// If the system has no such option.
    pub fn unfragmented(mut self) -> io::Result<Self> {
        allow_fragments(&self.io, false)?;
        self.unfragmented = true;
        Ok(self)
    }

    /// For a connected socket: has [`poll_receive`](Self::poll_receive) tell when the peer's kernel
    /// says that nobody listens there (`ConnectionRefused`, from an ICMP error).
    #[must_use]
    pub fn hearing_refusals(mut self) -> Self {
        self.refusals = true;
        self
    }

    /// The socket's own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits for datagrams and puts as many as one system call gives into `batch`, replacing what
    /// it held.
    ///
    /// A queued ICMP error of an earlier send (`ConnectionRefused` and its like) is no error of
    /// this socket and is skipped, unless it is one [`hearing_refusals`](Self::hearing_refusals).
    pub fn poll_receive(
        &self,
        task: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        batch.clear();
        loop {
            ready!(self.io.poll_recv_ready(task))?;
            let received = self.io.try_io(Interest::READABLE, || {
                batch.fill(|slices, meta| self.state.recv((&self.io).into(), slices, meta))
            });
            match received {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.refusals && error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Poll::Ready(Err(error));
                }
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

    /// Sends one datagram at once, from `source` if given, in fragments if it is large.
    ///
    /// # Errors
    /// `WouldBlock`: the kernel's queue is full; the datagram is lost, as on any full link.
    /// `InvalidInput`: nobody has port 0.
    pub fn try_send(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        self.send(&Outgoing::datagram(contents, destination, source))
    }

    /// Sends `contents` as datagrams of `segment_size` bytes, of which the last may be shorter, from
    /// `source` if given, with the mark `ecn`. [`max_segments`](Self::max_segments) of them go in
    /// one system call; more take several.
    ///
    /// Where the kernel or the device turns out not to segment, the datagrams go one by one, from
    /// then on.
    ///
    /// # Errors
    /// Nothing has been sent. `WouldBlock`: the kernel's queue is full,
    /// [`poll_send_ready`](Self::poll_send_ready) waits for room. `EMSGSIZE` (see
    /// [`is_too_large`]): a datagram is larger than the interface's MTU and must not be fragmented.
    /// `InvalidInput`: nobody has port 0. What goes wrong after the first system call is no error:
    /// those datagrams are lost, as on any full link.
    pub fn try_send_segments(
        &self,
        contents: &[u8],
        segment_size: usize,
        destination: SocketAddr,
        source: Option<IpAddr>,
        ecn: Option<Ecn>,
    ) -> io::Result<()> {
        self.send(&Outgoing {
            contents,
            segment_size,
            destination,
            source,
            ecn,
            whole: true,
        })
    }

    /// How many segments go in one system call: 1 where nobody segments. May fall to 1 after a send.
    pub fn max_segments(&self) -> usize {
        if self.segments.load(Ordering::Relaxed) {
            MAX_SEGMENTS
        } else {
            1
        }
    }

    /// Waits until the kernel's queue may have room again after a send that failed with
    /// `WouldBlock`. Of several tasks that wait for one socket only the last is woken.
    ///
    /// # Errors
    /// Those of the executor's shutdown.
    pub fn poll_send_ready(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(task)
    }

    /// Whether it was made [`unfragmented`](Self::unfragmented).
    pub fn is_unfragmented(&self) -> bool {
        self.unfragmented
    }

    /// Sends what [`try_send`](Self::try_send) and [`try_send_segments`](Self::try_send_segments)
    /// make of their arguments.
    ///
    /// # Errors
    /// Theirs.
    pub fn send(&self, outgoing: &Outgoing<'_>) -> io::Result<()> {
        outgoing.check()?;
        let whole = Transmit {
            destination: outgoing.destination,
            ecn: outgoing.ecn.map(Into::into),
            contents: outgoing.contents,
            segment_size: None,
            src_ip: outgoing.source,
        };
        if outgoing.contents.len() <= outgoing.segment_size {
            return if outgoing.whole {
                self.transmit(&self.state, &whole)
            } else {
                self.send_fragmented(&whole)
            };
        }
        let most = self
            .max_segments()
            .min(MAX_BATCH / outgoing.segment_size)
            .max(1);
        let batches = outgoing.contents.chunks(most * outgoing.segment_size);
        let batches = batches.map(|contents| Transmit {
            contents,
            segment_size: Some(outgoing.segment_size),
            ..whole.clone()
        });
        first_or_ok(batches.map(|batch| self.send_batch(&batch)))
    }

    fn send_batch(&self, batch: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = batch.segment_size else {
            return self.transmit(&self.state, batch);
        };
        let singly = || {
            let segments = batch.contents.chunks(size).map(|contents| Transmit {
                contents,
                segment_size: None,
                ..batch.clone()
            });
            first_or_ok(segments.map(|segment| self.transmit(&self.state, &segment)))
        };
        if batch.contents.len() <= size || !self.segments.load(Ordering::Relaxed) {
            return singly();
        }
        match self.transmit(&self.segmenting, batch) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
                singly()?;
                // They are right by themselves: it is segmenting that is refused.
                tracing::debug!(%error, "no segmentation offload");
                self.segments.store(false, Ordering::Relaxed);
                Ok(())
            }
            sent => sent,
        }
    }

    fn transmit(&self, state: &UdpSocketState, transmit: &Transmit<'_>) -> io::Result<()> {
        // Not by the executor's readiness, which a socket lacks until the executor first looks at it:
        // what is sent before that would be lost.
        match state.try_send((&self.io).into(), transmit) {
            // Once more in the executor's sight, so that poll_send_ready() waits from here on.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.io.try_io(Interest::WRITABLE, || {
                    state.try_send((&self.io).into(), transmit)
                })
            }
            sent => sent,
        }
    }

    /// Sends one datagram that may be fragmented.
    fn send_fragmented(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let fits = if transmit.destination.is_ipv4() {
            EVERY_PATH_V4
        } else {
            EVERY_PATH_V6
        };
        if !self.unfragmented || transmit.contents.len() <= fits {
            return self.transmit(&self.state, transmit);
        }
        allow_fragments(&self.io, true)?;
        let sent = self.transmit(&self.state, transmit);
        allow_fragments(&self.io, false)?;
        sent
    }
}

/// Whether a send failed because the datagram is larger than the interface's MTU.
pub fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// The kernel's error for it.
pub fn too_large() -> io::Error {
    io::Error::from_raw_os_error(libc::EMSGSIZE)
}

/// The error of the first of several sends. After the first, errors only end the sending.
fn first_or_ok(mut sends: impl Iterator<Item = io::Result<()>>) -> io::Result<()> {
    sends.next().unwrap_or(Ok(()))?;
    if let Some(Err(error)) = sends.find(Result::is_err) {
        tracing::debug!(%error, "part of a batch is not sent");
    }
    Ok(())
}

/// Lets the kernel fragment what is larger than the path's MTU, or has it set DF instead and send
/// whatever the interface takes, as quinn-udp has it.
fn allow_fragments(socket: &tokio::net::UdpSocket, allowed: bool) -> io::Result<()> {
    let (v4, v6) = if allowed {
        (libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT)
    } else {
        (libc::IP_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_PROBE)
    };
    match socket.local_addr()? {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4),
        SocketAddr::V6(_) => {
            let level = libc::IPPROTO_IPV6;
            set_option(socket, level, libc::IPV6_MTU_DISCOVER, v6)?;
            set_option(socket, level, libc::IPV6_DONTFRAG, i32::from(!allowed))
        }
    }
}

#[allow(unsafe_code)]
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn loopback() -> std::net::UdpSocket {
        std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback")
    }

    /// The datagrams of everything received until there are `count`.
    async fn receive(socket: &UdpSocket, count: usize) -> Vec<(Vec<u8>, Option<Ecn>)> {
        let mut batch = ReceiveBatch::new();
        let mut seen = Vec::new();
        while seen.len() < count {
            poll_fn(|task| socket.poll_receive(task, &mut batch))
                .await
                .expect("received");
            for buffer in batch.buffers_mut() {
                let datagrams = buffer.bytes.chunks_mut(buffer.stride);
                seen.extend(datagrams.map(|bytes| (bytes.to_vec(), buffer.ecn)));
            }
        }
        seen
    }

    #[tokio::test]
    async fn a_socket_sends_as_soon_as_it_is_adopted() {
        let (peer, held) = (loopback(), loopback());
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let to = peer.local_addr().expect("bound");
        socket.try_send(b"first", to, None).expect("sent");
        let mut buffer = [0; 9];
        assert_eq!(peer.recv(&mut buffer).expect("received"), 5);
    }

    #[tokio::test]
    async fn a_batch_gives_back_every_datagram_with_its_addresses() {
        let held = loopback();
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

    #[tokio::test]
    async fn segments_arrive_one_by_one_with_their_mark() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            segments_arrive_at(address).await;
        }
    }

    async fn segments_arrive_at(address: &str) {
        let bound = || std::net::UdpSocket::bind(address).expect("loopback");
        let (from, to) = (bound(), bound());
        let sender = UdpSocket::adopt(&from).expect("adopt");
        let receiver = UdpSocket::adopt(&to).expect("adopt");
        let to = to.local_addr().expect("bound");
        // Several system calls' worth.
        let contents: Vec<u8> = (0..100 * 1200 + 7).map(|n| (n / 1200) as u8).collect();
        sender
            .try_send_segments(&contents, 1200, to, None, Some(Ecn::Ect0))
            .expect("sent");
        let seen = receive(&receiver, 101).await;
        for (n, (bytes, ecn)) in seen.iter().enumerate() {
            let expected = if n == 100 { 7 } else { 1200 };
            assert_eq!(*bytes, vec![n as u8; expected]);
            assert_eq!(*ecn, Some(Ecn::Ect0));
        }
        sender
            .try_send_segments(b"plain", 1200, to, None, None)
            .expect("sent");
        assert_eq!(receive(&receiver, 1).await, [(b"plain".to_vec(), None)]);
    }

    #[tokio::test]
    async fn where_nobody_segments_datagrams_go_one_by_one_and_keep_their_mark() {
        let (from, to) = (loopback(), loopback());
        let sender = UdpSocket::adopt(&from).expect("adopt");
        let receiver = UdpSocket::adopt(&to).expect("adopt");
        let to = to.local_addr().expect("bound");
        // The kernel refuses to segment what gets no checksum (udp_send_skb).
        set_option(&from, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("set");
        assert_eq!(sender.max_segments(), 64);
        for _ in 0..2 {
            sender
                .try_send_segments(&[7; 3000], 1200, to, None, Some(Ecn::Ect0))
                .expect("sent");
            let lengths: Vec<_> = receive(&receiver, 3)
                .await
                .into_iter()
                .map(|(bytes, ecn)| (bytes.len(), ecn))
                .collect();
            let marked = Some(Ecn::Ect0);
            assert_eq!(lengths, [(1200, marked), (1200, marked), (600, marked)]);
            assert_eq!(sender.max_segments(), 1);
        }
    }

    #[tokio::test]
    async fn a_wrong_address_costs_no_offload() {
        let held = loopback();
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let sent = socket.try_send_segments(&[0; 3000], 1200, nowhere, None, None);
        assert_eq!(
            sent.expect_err("port 0").kind(),
            io::ErrorKind::InvalidInput
        );
        // A source that is not ours: EINVAL, as for a refused offload.
        let foreign = Some(IpAddr::from([192, 0, 2, 1]));
        let to = held.local_addr().expect("bound");
        socket
            .try_send_segments(&[0; 3000], 1200, to, foreign, None)
            .expect_err("foreign");
        assert_eq!(socket.max_segments(), 64);
    }

    #[allow(unsafe_code)]
    fn mtu_discovery(socket: &std::net::UdpSocket) -> i32 {
        let (mut value, mut length) = (0, size_of::<i32>() as libc::socklen_t);
        // SAFETY: the descriptor is open, and the kernel writes at most the four bytes of `value`
        // and the length, which outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        value
    }

    #[tokio::test]
    async fn a_transport_s_socket_sets_df_and_still_fragments_large_signals() {
        let (held, peer) = (loopback(), loopback());
        let socket = UdpSocket::adopt(&held).expect("adopt");
        assert_eq!(mtu_discovery(&held), libc::IP_PMTUDISC_DONT);
        let socket = socket.unfragmented().expect("Linux has it");
        assert_eq!(mtu_discovery(&held), libc::IP_PMTUDISC_PROBE);
        // 65,507 bytes with both headers are as much as lo's MTU, or more.
        let to = peer.local_addr().expect("bound");
        socket
            .try_send(&[7; 65_507], to, None)
            .expect("in fragments if need be");
        assert_eq!(mtu_discovery(&held), libc::IP_PMTUDISC_PROBE);
        let mut buffer = vec![0; 70_000];
        assert_eq!(peer.recv(&mut buffer).expect("received"), 65_507);
    }

    #[tokio::test]
    async fn what_is_too_large_for_the_interface_is_told() {
        let held = loopback();
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let socket = socket.unfragmented().expect("Linux has it");
        let to = held.local_addr().expect("bound");
        let sent = socket.try_send_segments(&[0; 65_508], 65_508, to, None, None);
        assert!(is_too_large(&sent.expect_err("more than IP takes")));
    }

    #[tokio::test]
    async fn room_in_the_kernel_s_queue_is_waited_for() {
        let held = loopback();
        let socket = UdpSocket::adopt(&held).expect("adopt");
        let ready = poll_fn(|task| socket.poll_send_ready(task));
        let ready = tokio::time::timeout(std::time::Duration::from_secs(20), ready);
        ready.await.expect("in time").expect("ready");
    }
}
