use std::{
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
};

use super::{Outgoing, ReceiveBatch, UdpSocket};
use crate::watch::event::{
    hub,
    link::Crossing,
    packet::{Carrier, Fate, Label, Place},
};

/// Raises what passes at one UDP socket, for who observes packets. With nobody observing, each call
/// costs one atomic load. The default raises nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tap(Option<(Label, SocketAddr)>);

impl Tap {
    /// Of a socket that is bound to `local`.
    pub fn new(label: Label, local: SocketAddr) -> Self {
        Self(Some((label, local)))
    }

    /// All of a batch has been received.
    #[inline]
    pub fn received(&self, batch: &ReceiveBatch) {
        if hub::watched() {
            for datagram in batch.iter() {
                let (source, own) = (datagram.source, datagram.destination);
                if let Some(place) = self.place(source, own) {
                    let crossing = datagram.crossing;
                    hub::raise_crossed(&place, Fate::Received, datagram.payload, crossing);
                }
            }
        }
    }

    /// Sends datagrams by `send`, and raises them if it has succeeded; with the place among all events
    /// that they had before. It tells which one of a link's the first is, if they go over one.
    ///
    /// # Errors
    /// Those of `send`.
    #[inline]
    pub fn send(
        &self,
        fate: Fate,
        outgoing: &Outgoing<'_>,
        send: impl FnOnce() -> io::Result<Option<Crossing>>,
    ) -> io::Result<()> {
        if !hub::watched() {
            return send().map(|_| ());
        }
        let place = self.place(outgoing.destination, outgoing.source);
        let (contents, segment) = (outgoing.contents, outgoing.segment_size);
        let announced = place.and_then(|place| hub::announce(&place, fate, contents, segment));
        let crossing = send()?;
        if let Some(announced) = announced {
            announced.passed_over(crossing);
        }
        Ok(())
    }

    /// A datagram that has come from `remote` to the address `own` is not taken.
    pub fn refused(
        &self,
        payload: &[u8],
        remote: SocketAddr,
        own: Option<IpAddr>,
        reason: &'static str,
    ) {
        if hub::watched() {
            self.raise(Fate::Refused(reason), payload, remote, own);
        }
    }

    /// An answer to `remote`, from the address `own`, is not sent.
    pub fn withheld(
        &self,
        payload: &[u8],
        remote: SocketAddr,
        own: Option<IpAddr>,
        reason: &'static str,
    ) {
        if hub::watched() {
            self.raise(Fate::Withheld(reason), payload, remote, own);
        }
    }

    /// A datagram is lost on purpose: it is not sent.
    pub fn lost_on_purpose(&self, payload: &[u8], destination: SocketAddr) {
        if hub::watched() {
            self.raise(Fate::LostOnPurpose, payload, destination, None);
        }
    }

    fn raise(&self, fate: Fate, payload: &[u8], remote: SocketAddr, own: Option<IpAddr>) {
        if let Some(place) = self.place(remote, own) {
            hub::raise(&place, fate, payload);
        }
    }

    fn place(&self, remote: SocketAddr, own: Option<IpAddr>) -> Option<Place> {
        let (label, bound) = self.0?;
        Some(Place {
            label,
            carrier: Carrier::Udp,
            local: SocketAddr::new(own.unwrap_or(bound.ip()), bound.port()),
            remote,
        })
    }
}

/// A UDP socket of a server whose packets can be observed.
pub struct WatchedSocket {
    socket: UdpSocket,
    tap: Tap,
}

impl WatchedSocket {
    /// Raises what passes at `socket`.
    ///
    /// # Errors
    /// If the system does not know the socket's address.
    pub fn new(socket: UdpSocket, label: Label) -> io::Result<Self> {
        let tap = Tap::new(label, socket.local_addr()?);
        Ok(Self { socket, tap })
    }

    /// As [`UdpSocket::poll_receive`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_receive(
        &self,
        task: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        let received = self.socket.poll_receive(task, batch);
        if let Poll::Ready(Ok(())) = received {
            self.tap.received(batch);
        }
        received
    }

    /// As [`UdpSocket::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        let outgoing = Outgoing::datagram(contents, destination, source);
        let send = || self.socket.send(&outgoing).map(|()| None);
        self.tap.send(Fate::Sent, &outgoing, send)
    }

    /// A datagram that has come from `remote` to the address `own` is not taken: as
    /// [`Tap::refused`].
    pub fn refused(
        &self,
        payload: &[u8],
        remote: SocketAddr,
        own: Option<IpAddr>,
        reason: &'static str,
    ) {
        self.tap.refused(payload, remote, own, reason);
    }
}
