use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{self, DhcpOption, MessageType, OptionCode},
};

use super::Finding;
use crate::{
    config::{Config, DhcpListen},
    net::{Sockets, interface},
};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// So long servers have for an offer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The question goes out twice: one may get lost.
const AGAIN: Duration = Duration::from_millis(1200);

/// An offer from a server.
struct Offered {
    server: Ipv4Addr,
    address: Ipv4Addr,
}

/// Whether another DHCP server answers on the interfaces that labnet serves: asked as a client asks,
/// with a DISCOVER that takes no address.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let Some(dhcp) = &config.dhcp else {
        return Vec::new();
    };
    let DhcpListen::Interfaces(names) = &dhcp.listen else {
        let message = "listens on addresses: no other server of a network is in its way";
        return vec![Finding::ok("dhcp", message)];
    };
    // All at once: each takes its time.
    thread::scope(|scope| {
        let probes: Vec<_> = names
            .iter()
            .map(|name| (name, scope.spawn(move || probe(name))))
            .collect();
        probes
            .into_iter()
            .flat_map(|(name, probe)| {
                let ended = io::Error::other("the probe failed");
                told(name, probe.join().unwrap_or(Err(ended)))
            })
            .collect()
    })
}

fn told(name: &str, outcome: io::Result<Vec<Offered>>) -> Vec<Finding> {
    let offers = match outcome {
        Ok(offers) => offers,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return vec![Finding::warning(
                "dhcp",
                format!(
                    "{name}: another server was not looked for: port {CLIENT_PORT} needs a right"
                ),
                "run `labnet doctor` as root to look for one",
            )];
        }
        // What is wrong with the interface, `interfaces` tells.
        Err(error) => {
            return vec![Finding::warning(
                "dhcp",
                format!("{name}: another server could not be looked for: {error}"),
                "once that is mended, run `labnet doctor` again",
            )];
        }
    };
    let own = interface::ipv4_addresses(name).unwrap_or_default();
    let strangers: Vec<&Offered> = offers
        .iter()
        .filter(|offer| !own.contains(&offer.server))
        .collect();
    if strangers.is_empty() {
        let message = match offers.first() {
            Some(offer) => format!("{name}: only this machine answers ({})", offer.server),
            None => format!("{name}: nobody else answers"),
        };
        return vec![Finding::ok("dhcp", message)];
    }
    strangers
        .into_iter()
        .map(|Offered { server, address }| {
            Finding::problem(
                "dhcp",
                format!("{name}: another DHCP server, {server}, offers {address}"),
                "switch it off, or keep the lab on a network of its own: clients take whoever is first",
            )
        })
        .collect()
}

/// The offers that a new client gets on an interface, one a server.
fn probe(name: &str) -> io::Result<Vec<Offered>> {
    let socket = Sockets::default()
        .udp_on_interface(name, CLIENT_PORT)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such interface"))?;
    socket.set_nonblocking(false)?;
    let xid = rand::random();
    let question = discover(xid)?;
    let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, SERVER_PORT));
    let start = Instant::now();
    let mut offers: Vec<Offered> = Vec::new();
    for until in [AGAIN, PATIENCE] {
        socket.send_to(&question, everybody)?;
        while let Some(left) = until
            .checked_sub(start.elapsed())
            .filter(|left| !left.is_zero())
        {
            socket.set_read_timeout(Some(left))?;
            if let Some(offer) = receive(&socket, xid)?
                && offers.iter().all(|known| known.server != offer.server)
            {
                offers.push(offer);
            }
        }
    }
    Ok(offers)
}

fn receive(socket: &UdpSocket, xid: u32) -> io::Result<Option<Offered>> {
    let mut buffer = [0; 2048];
    let (length, from) = match socket.recv_from(&mut buffer) {
        Ok(received) => received,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let Ok(message) = v4::Message::decode(&mut Decoder::new(&buffer[..length])) else {
        return Ok(None);
    };
    if message.xid() != xid || message.opts().msg_type() != Some(MessageType::Offer) {
        return Ok(None);
    }
    let server = match (message.opts().get(OptionCode::ServerIdentifier), from) {
        (Some(DhcpOption::ServerIdentifier(server)), _) => *server,
        (_, SocketAddr::V4(from)) => *from.ip(),
        (_, SocketAddr::V6(_)) => return Ok(None),
    };
    Ok(Some(Offered {
        server,
        address: message.yiaddr(),
    }))
}

/// A DISCOVER of a client that nobody knows.
fn discover(xid: u32) -> io::Result<Vec<u8>> {
    // Locally administered, so that it is nobody's.
    let mut mac = [0x02; 6];
    mac[1..5].copy_from_slice(&xid.to_be_bytes());
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = v4::Message::new_with_id(xid, none, none, none, none, &mac);
    // The answer has to be heard without an address.
    message.set_flags(v4::Flags::default().set_broadcast());
    message
        .opts_mut()
        .insert(DhcpOption::MessageType(MessageType::Discover));
    let mut packet = Vec::new();
    message
        .encode(&mut Encoder::new(&mut packet))
        .map_err(io::Error::other)?;
    Ok(packet)
}
