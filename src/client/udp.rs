//! Runs an [`Exchange`] over a UDP socket, its [`Line`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use tokio::{net::UdpSocket, time::timeout_at};

use super::exchange::Exchange;
use crate::{
    net::bind_udp_on,
    watch::event::{
        hub,
        packet::{Carrier, Fate, Label, Place, Protocol, Role},
    },
};

/// Why there is no socket to speak from.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The client can't send from its own address.
    #[error("can't send from {address}: {error}{}", if *.foreign { " (no interface of this machine has that address)" } else { "" })]
    Bind {
        /// The client's address.
        address: IpAddr,
        /// What the system says.
        error: io::Error,
        /// Whether the address is nobody's here.
        foreign: bool,
    },
    /// No way to the server.
    #[error("no way to {server}: {error}")]
    Connect {
        /// The server.
        server: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The client can't speak on its interface.
    #[error("no broadcast from port {port} of {interface}: {error}")]
    Interface {
        /// The interface.
        interface: String,
        /// The client's port.
        port: u16,
        /// What the system says.
        error: io::Error,
    },
    /// The socket broke.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// A socket that hears `server` alone, and sends from `local` where the family is the same.
pub async fn connect(local: Option<IpAddr>, server: SocketAddr) -> Result<UdpSocket, SocketError> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let address = local
        .filter(|local| local.is_ipv4() == server.is_ipv4())
        .unwrap_or(any);
    let socket = UdpSocket::bind((address, 0)).await;
    let socket = socket.map_err(|error| SocketError::Bind {
        address,
        foreign: error.kind() == io::ErrorKind::AddrNotAvailable,
        error,
    })?;
    socket
        .connect(server)
        .await
        .map_err(|error| SocketError::Connect { server, error })?;
    Ok(socket)
}

/// A socket that an [`Exchange`] runs over.
pub struct Line {
    socket: UdpSocket,
    /// To whom it sends, if it hears not that one alone.
    broadcast: Option<SocketAddr>,
}

impl Line {
    /// One that hears `server` alone, and sends from `local` where the family is the same.
    pub async fn connected(local: Option<IpAddr>, server: SocketAddr) -> Result<Self, SocketError> {
        Ok(Self {
            socket: connect(local, server).await?,
            broadcast: None,
        })
    }

    /// One that speaks to all on an interface, from a port there, and hears whoever answers. Neither the
    /// machine nor the interface needs an address.
    pub fn broadcasting(interface: &str, port: u16, to: SocketAddr) -> Result<Self, SocketError> {
        let socket = bind_udp_on(interface, port).map_err(|error| SocketError::Interface {
            interface: interface.to_owned(),
            port,
            error,
        })?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            broadcast: Some(to),
        })
    }

    fn place(&self, protocol: Protocol, remote: Option<SocketAddr>) -> io::Result<Place> {
        let remote = remote.or(self.broadcast);
        Ok(Place {
            label: Label::new(Role::Client, protocol),
            carrier: Carrier::Udp,
            local: self.socket.local_addr()?,
            remote: match remote {
                Some(remote) => remote,
                None => self.socket.peer_addr()?,
            },
        })
    }
}

/// Longest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// Whether an error tells of the other end or the way there, not of the socket. UDP repeats.
pub fn is_the_network(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::WouldBlock
    )
}

/// Sends one datagram, and tells who observes packets.
pub async fn send(line: &Line, protocol: Protocol, fate: Fate, payload: &[u8]) -> io::Result<()> {
    let place = line.place(protocol, None)?;
    let announced = hub::announce(&place, fate, payload, payload.len());
    match line.broadcast {
        Some(to) => line.socket.send_to(payload, to).await?,
        None => line.socket.send(payload).await?,
    };
    if let Some(announced) = announced {
        announced.passed();
    }
    Ok(())
}

/// Runs `exchange` to its end over `line`. `protocol` is what it speaks, for who observes packets; `again` hears,
/// each time a message is sent again, which time that is.
pub async fn run<E: Exchange>(
    line: &Line,
    protocol: Protocol,
    exchange: &mut E,
    again: &mut dyn FnMut(u32),
) -> Result<Result<E::Answer, E::Error>, SocketError> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        while let Some(transmit) = exchange.poll_transmit() {
            if matches!(transmit.fate, Fate::SentAgain(_)) {
                again(exchange.tries());
            }
            if let Err(error) = send(line, protocol, transmit.fate, &transmit.payload).await {
                hear(exchange, error)?;
            }
        }
        if let Some(outcome) = exchange.outcome() {
            return Ok(outcome);
        }
        // An exchange without an outcome has a deadline.
        let deadline = exchange.deadline().unwrap_or_else(Instant::now);
        match timeout_at(deadline.into(), line.socket.recv_from(&mut buffer)).await {
            Ok(Ok((length, from))) => {
                let place = line.place(protocol, Some(from))?;
                hub::raise(&place, Fate::Received, &buffer[..length]);
                exchange.handle_datagram(&buffer[..length], Instant::now());
            }
            Ok(Err(error)) => hear(exchange, error)?,
            Err(_) => exchange.handle_timeout(Instant::now()),
        }
    }
}

/// Tells the exchange what the kernel says of the other end; a socket that is broken is an error.
fn hear<E: Exchange>(exchange: &mut E, error: io::Error) -> Result<(), SocketError> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => exchange.handle_refused(),
        // As good as lost.
        _ if is_the_network(&error) => {}
        _ => return Err(error.into()),
    }
    Ok(())
}
