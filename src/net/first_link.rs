//! What the first link of a path carries.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

/// IP's header without options, and UDP's.
const HEADERS_V4: i32 = 20 + 8;
const HEADERS_V6: i32 = 40 + 8;
/// The largest UDP payload over IPv4.
const MOST: i32 = 65_507;

/// The largest UDP payload that the interface towards `remote` takes in one piece, or less if the
/// kernel knows of a narrower link behind; `None`: there is no way, or it does not say.
///
/// It is asked by a socket that sends nothing (`IP_MTU` of one that is connected).
pub fn largest_payload(remote: SocketAddr, local: Option<IpAddr>) -> Option<u16> {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let local = local.map(|local| local.to_canonical());
    let (any, headers): (IpAddr, i32) = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), HEADERS_V4),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), HEADERS_V6),
    };
    let local = local.filter(|local| local.is_ipv4() == remote.is_ipv4());
    let socket = UdpSocket::bind((local.unwrap_or(any), 0)).ok()?;
    socket.connect(remote).ok()?;
    let (level, option) = match remote {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mtu = get_option(&socket, level, option).ok()?;
    u16::try_from((mtu - headers).min(MOST)).ok()
}

#[allow(unsafe_code)]
fn get_option(socket: &impl AsRawFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` lives, and the kernel writes no more
    // than `length` bytes, the size of `value`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_takes_as_much_as_a_datagram_has() {
        let file = std::fs::read_to_string("/sys/class/net/lo/mtu").expect("Linux");
        let mtu: i32 = file.trim().parse().expect("a number");
        for (local, headers) in [("127.0.0.1:0", HEADERS_V4), ("[::1]:0", HEADERS_V6)] {
            let Ok(there) = UdpSocket::bind(local) else {
                // No IPv6 here.
                continue;
            };
            let there = there.local_addr().expect("bound");
            let expected = (mtu - headers).min(MOST);
            let found = largest_payload(there, Some(there.ip())).map(i32::from);
            assert_eq!(found, Some(expected));
        }
    }
}
