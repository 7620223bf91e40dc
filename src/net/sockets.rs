use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    num::NonZeroU16,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    buffers::enlarge_buffers,
    service::{Bound, Place, Shelf},
    steering,
};

/// Bound sockets, held outside of the actors that use them.
///
/// The demo binds its sockets here before it starts the roles, so that a port that it chose is a
/// port that it has; everything else is bound when it is first asked for.
///
/// **An address that no interface has** is no error: the socket is bound all the same (IP_FREEBIND,
/// ip(7)), holds its port, hears nothing, and serves from the moment that an interface has the
/// address, as often as that comes and goes. [`address_absence`](super::interface::address_absence)
/// tells whether it is missing now.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Reserved>>);

#[derive(Default)]
struct Reserved {
    udp: HashMap<SocketAddr, Arc<UdpSocket>>,
    tcp: HashMap<SocketAddr, Arc<TcpListener>>,
    shelf: Shelf,
}

impl Sockets {
    /// Those that the service manager has passed to the program: of its socket units, and those that
    /// it has kept since labnet ran last, with what waits in them. Each is given to who asks for its
    /// address.
    pub fn inherited() -> Self {
        Self(Arc::new(Mutex::new(Reserved {
            shelf: Shelf::take(),
            ..Reserved::default()
        })))
    }

    /// Closes inherited sockets that nobody has asked for.
    pub fn settle(&self) {
        self.lock().shelf.settle();
    }

    /// Has the service manager keep what is in use now, so that the program's next start goes on
    /// with it, and nothing else. Does nothing without a service manager.
    pub fn store(&self) {
        self.lock().shelf.store();
    }

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
        let first = self.udp_sockets(address, NonZeroU16::MIN)?;
        // One at least.
        first
            .into_iter()
            .next()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The reserved socket, or the inherited ones if they are as many as wanted or a single one, or a
    /// new one.
    fn udp_sockets(
        &self,
        address: SocketAddr,
        count: NonZeroU16,
    ) -> io::Result<Vec<Arc<UdpSocket>>> {
        let mut reserved = self.lock();
        if let Some(socket) = reserved.udp.remove(&address) {
            return Ok(vec![socket]);
        }
        let place = Place::Udp(address);
        let inherited = reserved.shelf.claim(&place);
        if inherited.len() == 1 || inherited.len() == usize::from(count.get()) {
            return Ok(inherited.into_iter().filter_map(Bound::udp).collect());
        }
        // A group of another size is of no use: the kernel would go on giving it datagrams.
        drop(inherited);
        let bind = || bind_udp_to(address, Addressed::Ever, false);
        let socket = Arc::new(reserved.shelf.bind(bind)?);
        let place = Place::Udp(socket.local_addr()?);
        reserved
            .shelf
            .note(&place, 0, &Bound::Udp(Arc::clone(&socket)));
        Ok(vec![socket])
    }

    /// `count` nonblocking UDP sockets on one address: the reserved one, or a new one, and others
    /// that join it. Nobody else can join them: a second server gets the usual error.
    ///
    /// The kernel gives each datagram to one of them. One whose first byte is in `steered` goes to
    /// the socket that its second byte tells, modulo `count`, whoever sent it: there a packet of the
    /// transport has its connection id. All others go by the hash of both addresses, so that one
    /// client's signals always reach the same socket.
    ///
    /// The sockets' order is the kernel's as long as none is closed: keep all of them open.
    ///
    /// # Errors
    /// Those of binding, and of a kernel without the option.
    pub fn udp_group(
        &self,
        address: SocketAddr,
        count: NonZeroU16,
        steered: &[u8],
    ) -> io::Result<Vec<Arc<UdpSocket>>> {
        let mut group = self.udp_sockets(address, count)?;
        if count.get() == 1 {
            return Ok(group);
        }
        let address = group[0].local_addr()?;
        // Only now: bound without it, the first socket was refused if anybody held the address.
        SockRef::from(&*group[0]).set_reuse_port(true)?;
        for index in group.len()..usize::from(count.get()) {
            let socket = Arc::new(bind_udp_to(address, Addressed::Ever, true)?);
            let bound = Bound::Udp(Arc::clone(&socket));
            self.lock().shelf.note(&Place::Udp(address), index, &bound);
            group.push(socket);
        }
        steering::attach(&*group[0], count, steered)?;
        Ok(group)
    }

    /// A nonblocking TCP listener on `address`: the reserved one, or a new one.
    pub fn tcp(&self, address: SocketAddr) -> io::Result<Arc<TcpListener>> {
        let mut reserved = self.lock();
        if let Some(listener) = reserved.tcp.remove(&address) {
            return Ok(listener);
        }
        let inherited = reserved.shelf.claim(&Place::Tcp(address)).into_iter();
        if let Some(listener) = inherited.filter_map(Bound::tcp).next() {
            return Ok(listener);
        }
        let bind = || bind_tcp_to(address, Addressed::Ever);
        let listener = Arc::new(reserved.shelf.bind(bind)?);
        let place = Place::Tcp(listener.local_addr()?);
        reserved
            .shelf
            .note(&place, 0, &Bound::Tcp(Arc::clone(&listener)));
        Ok(listener)
    }

    /// A nonblocking UDP socket that hears and sends `port` of one network interface, broadcasts
    /// included; `None` if there is no such interface. Needs CAP_NET_RAW, and CAP_NET_BIND_SERVICE
    /// for a port below 1024: both are asked for even if the interface is missing, so that it is
    /// known before it comes.
    ///
    /// It goes with its interface, not with the interface's name: see [`is_on_interface`].
    pub fn udp_on_interface(
        &self,
        interface: &str,
        port: u16,
    ) -> io::Result<Option<Arc<UdpSocket>>> {
        let place = Place::UdpOn(interface.to_owned(), port);
        let inherited = self.lock().shelf.claim(&place).into_iter();
        if let Some(socket) = inherited.filter_map(Bound::udp).next() {
            return Ok(Some(socket));
        }
        let socket = match bind_udp_on(interface, port) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                // Closed again at once; who else holds the port of all interfaces is no matter yet.
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                return match socket.bind(&any.into()) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
                    _ => Ok(None),
                };
            }
            bound => Arc::new(bound?),
        };
        let bound = Bound::Udp(Arc::clone(&socket));
        self.lock().shelf.note(&place, 0, &bound);
        Ok(Some(socket))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reserved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `socket`, which [`Sockets::udp_on_interface`] made, is on the interface that is called
/// `interface` now: not if that was deleted, was made again (under the same name it is another one),
/// or was renamed.
pub fn is_on_interface(socket: &UdpSocket, interface: &str) -> bool {
    // The kernel looks up the name of the interface that the socket is bound to.
    let name = SockRef::from(socket).device();
    name.is_ok_and(|name| name.as_deref() == Some(interface.as_bytes()))
}

/// Whether `listener` can still accept: not if somebody has closed it from outside (`ss --kill`).
pub fn is_listening(listener: &impl AsFd) -> bool {
    SockRef::from(listener).is_listener().unwrap_or(false)
}

/// When a socket's address must be one of the host's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addressed {
    /// When it is bound.
    Now,
    /// Whenever the host gets it.
    Ever,
}

/// A nonblocking UDP socket on an address that an interface has now.
///
/// # Errors
/// Those of binding.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_udp_to(address, Addressed::Now, false)
}

/// A nonblocking TCP listener on an address that an interface has now.
///
/// # Errors
/// Those of binding.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    bind_tcp_to(address, Addressed::Now)
}

/// A nonblocking UDP socket for `port` of one interface, which needs no address for it: it hears broadcasts, and
/// sends them.
///
/// # Errors
/// ENODEV without such an interface; those of binding.
pub fn bind_udp_on(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The same port on each of several interfaces.
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    enlarge_buffers(&socket)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

fn bind_udp_to(address: SocketAddr, addressed: Addressed, joins: bool) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP, addressed)?;
    enlarge_buffers(&socket)?;
    socket.set_reuse_port(joins)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp_to(address: SocketAddr, addressed: Addressed) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP, addressed)?;
    // A restarted service must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn new_socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    addressed: Addressed,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(addressed == Addressed::Ever)?;
    } else {
        socket.set_freebind_v4(addressed == Addressed::Ever)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::IpAddr};

    use super::*;

    const STEERED: [u8; 2] = [0x80, 0xc3];

    fn group(address: &str, count: u16) -> Vec<Arc<UdpSocket>> {
        let address: IpAddr = address.parse().expect("an address");
        let count = NonZeroU16::new(count).expect("some");
        Sockets::default()
            .udp_group((address, 0).into(), count, &STEERED)
            .expect("bound")
    }

    /// The socket of the group that gets what `from` sends.
    fn taker(group: &[Arc<UdpSocket>], from: &UdpSocket, payload: &[u8]) -> usize {
        let to = group[0].local_addr().expect("bound");
        from.send_to(payload, to).expect("sent");
        let mut buffer = [0; 2000];
        // Loopback delivers within the send.
        let takers: Vec<usize> = (0..group.len())
            .filter(|n| {
                group[*n]
                    .recv(&mut buffer)
                    .is_ok_and(|n| n == payload.len())
            })
            .collect();
        assert_eq!(takers.len(), 1, "{payload:02x?}: {takers:?}");
        takers[0]
    }

    fn clients(address: &str, count: usize) -> Vec<UdpSocket> {
        (0..count)
            .map(|_| UdpSocket::bind((address, 0)).expect("loopback"))
            .collect()
    }

    #[test]
    fn a_packet_with_a_connection_id_reaches_its_socket_from_any_port() {
        for (address, count) in [("127.0.0.1", 2), ("127.0.0.1", 3), ("::1", 4)] {
            let group = group(address, count);
            for client in clients(address, 5) {
                for first in STEERED {
                    for id in [0, 1, 2, 3, 4, 7, 128, 254, 255] {
                        let packet = [&[first, id][..], &[0xee; 1200]].concat();
                        let taker = taker(&group, &client, &packet);
                        assert_eq!(taker, usize::from(id) % usize::from(count));
                    }
                    // No more than what is looked at.
                    assert_eq!(taker(&group, &client, &[first, 1]), 1);
                }
            }
        }
    }

    #[test]
    fn other_packets_of_a_client_reach_one_socket_and_those_of_many_reach_all() {
        for address in ["127.0.0.1", "::1"] {
            let group = group(address, 2);
            let mut takers = BTreeSet::new();
            for client in clients(address, 40) {
                let own: BTreeSet<usize> = [
                    &b"SIGNEW:Tal"[..],
                    b"SIGNECHO:290;0",
                    &[0xc0; 1200],
                    &[0xc4, 1, 0, 0],
                    &[0x80],
                    b"",
                ]
                .iter()
                .map(|payload| taker(&group, &client, payload))
                .collect();
                assert_eq!(own.len(), 1, "{own:?}");
                takers.extend(own);
            }
            assert_eq!(takers.len(), 2);
        }
    }

    #[test]
    fn nobody_else_joins_a_group() {
        let group = group("127.0.0.1", 2);
        let address = group[0].local_addr().expect("bound");
        let count = NonZeroU16::new(2).expect("some");
        let error = Sockets::default()
            .udp_group(address, count, &STEERED)
            .expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_reserved_socket_is_the_first_of_its_group() {
        let sockets = Sockets::default();
        let address = sockets
            .reserve_udp(([127, 0, 0, 1], 0).into())
            .expect("bound");
        // What comes before the others join is not lost.
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        client.send_to(b"early", address).expect("sent");
        let count = NonZeroU16::new(3).expect("some");
        let group = sockets.udp_group(address, count, &STEERED).expect("bound");
        assert_eq!(group.len(), 3);
        assert!(
            group
                .iter()
                .all(|socket| socket.local_addr().is_ok_and(|bound| bound == address))
        );
        let mut buffer = [0; 9];
        let early = group[0].recv(&mut buffer).expect("waits");
        assert_eq!(&buffer[..early], b"early");
        assert_eq!(taker(&group, &client, &[0x80, 5]), 2);
    }

    #[test]
    fn an_absent_address_is_bound_but_a_busy_port_is_refused() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let (udp, tcp): (SocketAddr, SocketAddr) = (
            "192.0.2.53:5353".parse().expect("an address"),
            "[2001:db8::53]:5353".parse().expect("an address"),
        );
        assert!(bind_udp(udp).is_err() && bind_tcp(tcp).is_err());
        let sockets = Sockets::default();
        let bound = sockets.udp(udp).expect("waits for its address");
        assert_eq!(bound.local_addr().expect("bound"), udp);
        let listener = sockets.tcp(tcp).expect("waits for its address");
        for busy in [sockets.udp(udp).err(), sockets.tcp(tcp).err()] {
            let error = busy.expect("busy");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        assert!(is_listening(&listener));
        SockRef::from(&*listener)
            .shutdown(std::net::Shutdown::Read)
            .expect("closed from outside");
        assert!(!is_listening(&listener));
        sockets.tcp(tcp).expect("free for a new one");
    }

    #[test]
    fn a_group_s_sockets_keep_their_places_while_their_duplicates_come_and_go() {
        let group = group("127.0.0.1", 2);
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for _ in 0..3 {
            let duplicate = group[0].try_clone().expect("a descriptor");
            drop(duplicate);
            for id in 0..4 {
                let taker = taker(&group, &client, &[0x80, id]);
                assert_eq!(taker, usize::from(id % 2));
            }
        }
    }
}
