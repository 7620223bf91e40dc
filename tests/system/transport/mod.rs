//! The binary transport of `labnet serve`, spoken to by labnet's own core behind plain sockets.

mod addresses;
mod admission;
mod crowds;
mod endings;
mod exchange;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use labnet::rudp::{
    connection::Config,
    exchange::{Question, Range},
    packet::{Protection, Secret},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use crate::support::{Lab, dial::Dialed, loopback, wait_for};

/// A lab with a proxy before its own origin; `more` are further keys of `[rudp]`.
fn site(more: &str, files: &[(&str, &str)]) -> (Lab, SocketAddr) {
    site_over(IpAddr::V4(loopback()), more, files)
}

/// The same with the proxy at an address of either family.
fn site_over(proxy: IpAddr, more: &str, files: &[(&str, &str)]) -> (Lab, SocketAddr) {
    let ip = loopback();
    // There is one address of IPv6's loopback, and others may be there.
    let port = if proxy.is_ipv4() { 49152 } else { 0 };
    let listen = SocketAddr::new(proxy, port);
    let config = format!(
        "[rudp]\nlisten = \"{listen}\"\n{more}\n\
         [scrap]\nlisten = \"{ip}:49153\"\n\
         [origin]\nlisten = \"{ip}:8080\"\nfiles = \"files\"\n"
    );
    let lab = Lab::start_with(&config, files, None);
    let server = lab.address("rudp", "udp");
    wait_for("the list", || {
        let mut client = Dialed::to(server, here(server), config_of(&lab));
        let (_, list) = client.body(&Question::List);
        client.close();
        (!list.is_empty()).then_some(())
    });
    (lab, server)
}

/// A client's address, of the server's family.
fn here(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Both families, with one socket and with several.
fn everywhere() -> [(IpAddr, u8); 4] {
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    [
        (loopback().into(), 1),
        (loopback().into(), 2),
        (six, 1),
        (six, 2),
    ]
}

/// The client's configuration for a lab: with its secret, if it has one.
fn config_of(lab: &Lab) -> Config {
    let text = std::fs::read_to_string(lab.config()).expect("there");
    let protection = if text.contains("\"psk\"") {
        Protection::Psk(Secret::new(SECRET).expect("long enough"))
    } else {
        Protection::Checksum
    };
    Config {
        protection,
        ..Config::default()
    }
}

const SECRET: &str = "correct horse battery staple";

/// Bytes that are nowhere the same.
fn text(length: usize) -> String {
    let mut random = Pcg32::seed_from_u64(length as u64);
    let letters = (0..length).map(|_| char::from(random.random_range(b'a'..=b'z')));
    letters.collect()
}

fn get(name: &str) -> Question<'_> {
    Question::Get {
        name,
        range: Range::default(),
        validator: None,
    }
}
