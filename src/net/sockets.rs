use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Bound sockets, held outside of the actors that use them.
///
/// The demo binds its sockets here before it starts the roles, so that a port that it chose is a
/// port that it has; everything else is bound when it is first asked for.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Bound>>);

#[derive(Default)]
struct Bound {
    udp: HashMap<SocketAddr, Arc<UdpSocket>>,
    tcp: HashMap<SocketAddr, Arc<TcpListener>>,
}

/// What the kernel should hold for a service that is busy for a moment. The kernel caps it at
/// `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Sockets {
    /// Binds a UDP socket beforehand and tells the address it got.
    pub fn reserve_udp(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = bind_udp(address)?;
        let bound = socket.local_addr()?;
        self.lock().udp.insert(bound, Arc::new(socket));
        Ok(bound)
    }

    /// Binds a TCP listener beforehand and tells the address it got.
    pub fn reserve_tcp(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = bind_tcp(address)?;
        let bound = listener.local_addr()?;
        self.lock().tcp.insert(bound, Arc::new(listener));
        Ok(bound)
    }

    /// A nonblocking UDP socket on `address`: the reserved one, or a new one.
    pub fn udp(&self, address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        match self.lock().udp.remove(&address) {
            Some(socket) => Ok(socket),
            None => bind_udp(address).map(Arc::new),
        }
    }

    /// A nonblocking TCP listener on `address`: the reserved one, or a new one.
    pub fn tcp(&self, address: SocketAddr) -> io::Result<Arc<TcpListener>> {
        match self.lock().tcp.remove(&address) {
            Some(listener) => Ok(listener),
            None => bind_tcp(address).map(Arc::new),
        }
    }

    /// A nonblocking UDP socket that hears and sends `port` of one network interface, broadcasts
    /// included. Needs CAP_NET_RAW, and CAP_NET_BIND_SERVICE for a port below 1024.
    pub fn udp_on_interface(&self, interface: &str, port: u16) -> io::Result<Arc<UdpSocket>> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // The same port on each of several interfaces.
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok(Arc::new(socket.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted service must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
