use std::{
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
};

use super::socket_link::{Port, SocketLink};
use crate::{
    net::{Ecn, Outgoing, ReceiveBatch, Tap, UdpSocket},
    watch::event::packet::{Fate, Label},
};

/// A UDP socket that may have a [`SocketLink`] between itself and the network. Without one, or as
/// long as the link does nothing, it costs one look at a flag.
pub struct LinkedSocket {
    socket: UdpSocket,
    port: Option<Port>,
    tap: Tap,
}

impl From<UdpSocket> for LinkedSocket {
    /// A socket with nothing between itself and the network.
    fn from(socket: UdpSocket) -> Self {
        Self {
            socket,
            port: None,
            tap: Tap::default(),
        }
    }
}

impl LinkedSocket {
    /// Puts a link between `socket` and the network. `port` is the socket's number among those that
    /// share the link, from 0: what is under way to a socket whose actor restarts reaches its
    /// successor of the same number.
    pub fn behind(socket: UdpSocket, link: &SocketLink, port: usize) -> Self {
        Self {
            socket,
            port: Some(link.port(port)),
            tap: Tap::default(),
        }
    }

    /// Raises an event for each datagram that is sent or received here, for who observes packets.
    /// What the link does to it is not seen here: a datagram is sent before it goes onto the link,
    /// and received after it has come through.
    ///
    /// # Errors
    /// If the system does not know the socket's address.
    pub fn watched_as(mut self, label: Label) -> io::Result<Self> {
        self.tap = Tap::new(label, self.local_addr()?);
        Ok(self)
    }

    /// What tells who observes packets of what the socket itself does not know.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// As [`UdpSocket::poll_receive`]. Behind a link this also sends what has come through:
    /// somebody must always wait here, and only one task at a time.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_receive(
        &self,
        task: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        let received = match &self.port {
            None => self.socket.poll_receive(task, batch),
            Some(port) if port.is_active() => port.poll_receive(&self.socket, task, batch),
            Some(port) => {
                let received = self.socket.poll_receive(task, batch);
                if received.is_pending() {
                    port.wake_later(task);
                }
                received
            }
        };
        if let Poll::Ready(Ok(())) = received {
            self.tap.received(batch);
        }
        received
    }

    /// As [`UdpSocket::try_send`].
    ///
    /// # Errors
    /// Those of the socket; none of the kernel's behind a link that is bad now.
    pub fn try_send(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        self.try_send_as(Fate::Sent, contents, destination, source)
    }

    /// The same where the role knows more of the datagram's fate: that it is sent again, and why.
    ///
    /// # Errors
    /// As there.
    pub fn try_send_as(
        &self,
        fate: Fate,
        contents: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        self.send(fate, &Outgoing::datagram(contents, destination, source))
    }

    /// As [`UdpSocket::try_send_segments`].
    ///
    /// # Errors
    /// Those of the socket; behind a link that is bad now none of the kernel's but `EMSGSIZE`.
    pub fn try_send_segments(
        &self,
        contents: &[u8],
        segment_size: usize,
        destination: SocketAddr,
        source: Option<IpAddr>,
        ecn: Option<Ecn>,
    ) -> io::Result<()> {
        let outgoing = Outgoing {
            contents,
            segment_size,
            destination,
            source,
            ecn,
            whole: true,
        };
        self.send(Fate::Sent, &outgoing)
    }

    /// As [`UdpSocket::max_segments`].
    pub fn max_segments(&self) -> usize {
        self.socket.max_segments()
    }

    /// As [`UdpSocket::poll_send_ready`].
    ///
    /// # Errors
    /// Those of the executor's shutdown.
    pub fn poll_send_ready(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(task)
    }

    fn send(&self, fate: Fate, outgoing: &Outgoing<'_>) -> io::Result<()> {
        outgoing.check()?;
        self.tap.send(fate, outgoing, || match &self.port {
            Some(port) if port.is_active() => port.send(&self.socket, outgoing).map(Some),
            _ => self.socket.send(outgoing).map(|()| None),
        })
    }
}
