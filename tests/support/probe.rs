//! One question to each role, asked the plain way, with a socket of its own.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use super::request;

/// A whole lab on one loopback address, at the usual ports.
pub struct Addresses(pub Ipv4Addr);

impl Addresses {
    /// The address of a role, by its usual port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (IpAddr::V4(self.0), port).into()
    }

    /// The configuration: every role, origin and files of the built-in page as `origin` says (the
    /// `[origin]` table, or empty), the page at `page`.
    pub fn config(&self, page: &str, origin: &str) -> String {
        let ip = self.0;
        format!(
            r#"
state_dir = "state"
[http]
listen = "{ip}:9167"
fault_injection = true
[dhcp]
listen = ["{ip}:6767"]
[[dhcp.subnet]]
subnet = "127.20.30.0/24"
pools = ["127.20.30.41-127.20.30.100"]
routers = ["127.20.30.101"]
name_servers = ["{ip}"]
domain = "lab.test"
lease_time = "24h"
[dns]
listen = ["{ip}:5300"]
[[dns.zone]]
name = "example.com."
file = "example.com.zone"
[rudp]
listen = "{ip}:49152"
[scrap]
listen = "{ip}:49153"
origin = "{page}"
{origin}
"#
        )
    }

    /// The zone file that the configuration names.
    pub fn zone(&self) -> String {
        let ip = self.0;
        format!(
            "$TTL 300\n@ IN SOA ns1 admin 1 3600 600 86400 60\n@ IN NS ns1\n@ IN A {ip}\nns1 IN A {ip}\nwww IN CNAME @\n"
        )
    }

    /// DISCOVER: whether an OFFER came within `patience`.
    pub fn dhcp(&self, patience: Duration) -> bool {
        let mut discover = vec![0u8; 240];
        discover[..4].copy_from_slice(&[1, 1, 6, 0]);
        discover[4..8].copy_from_slice(b"labn");
        discover[28..34].copy_from_slice(&[2, 0, 0, 0, 0x0f, 0x0f]);
        discover[236..240].copy_from_slice(&[99, 130, 83, 99]);
        discover.extend([53, 1, 1, 255]);
        let answer = exchange(self.at(6767), &discover, patience);
        answer.is_some_and(|offer| offer.len() > 243 && offer[0] == 2 && offer[4..8] == *b"labn")
    }

    /// `example.com A`: whether the answer came within `patience`.
    pub fn dns(&self, patience: Duration) -> bool {
        let mut query = b"\x4c\x4e\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        query.extend(b"\x07example\x03com\x00\x00\x01\x00\x01");
        let answer = exchange(self.at(5300), &query, patience);
        // The first record of the answer section is the address; what follows it may be more.
        answer.is_some_and(|answer| {
            answer.starts_with(b"LN")
                && answer[7] == 1
                && answer.windows(4).any(|window| window == self.0.octets())
        })
    }

    /// SIGNEW, SIGNECHO, SIGNEND of a session: whether all answers came within `patience` each.
    pub fn rudp(&self, patience: Duration) -> bool {
        let socket = connected(self.at(49152), patience);
        let say = |signal: &str, expected: &str| {
            let mut answer = [0; 2048];
            socket.send(signal.as_bytes()).is_ok()
                && socket
                    .recv(&mut answer)
                    .is_ok_and(|length| answer[..length] == *expected.as_bytes())
        };
        say("SIGNEW:Tal", "SIGNACK")
            && say("SIGNECHO:290;17.5", "ECHOREPLY:290;17.5")
            && say("SIGNEND:291;SIGNEND", "ACKEND:291")
    }

    /// SIGNGET on TCP: the list, if it came within `patience`.
    pub fn scrap(&self, patience: Duration) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.at(49153), patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        stream.write_all(b"SIGNGET").ok()?;
        let mut list = String::new();
        stream.read_to_string(&mut list).ok()?;
        let _ = stream.shutdown(Shutdown::Both);
        (!list.is_empty()).then_some(list)
    }

    /// The index page of the built-in origin.
    pub fn origin(&self) -> bool {
        request(self.at(8080), "GET", "/").0 == 200
    }

    /// The health page.
    pub fn http(&self) -> bool {
        request(self.at(9167), "GET", "/-/healthy").0 == 200
    }
}

fn connected(to: SocketAddr, patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(to).expect("loopback");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket
}

fn exchange(to: SocketAddr, question: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = connected(to, patience);
    let mut answer = [0; 2048];
    socket.send(question).ok()?;
    let length = socket.recv(&mut answer).ok()?;
    Some(answer[..length].to_vec())
}
