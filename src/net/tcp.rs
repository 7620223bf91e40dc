mod congestion;
mod info;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};
use socket2::Socket;

pub use congestion::{allowed_congestion, congestion, refuses_congestion, set_congestion};
pub use info::{TcpInfo, tcp_info};

/// How many bytes of what was written to a TCP socket the peer's kernel has not acknowledged yet,
/// sent or not (SIOCOUTQ, tcp(7)).
///
/// # Errors
/// Those of a socket that is not connected by TCP.
pub fn unacknowledged(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one int to `bytes`.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Connects a socket, unless it is `over` first, which is asked twenty times a second.
///
/// # Errors
/// Those of connecting; `TimedOut`: it was over.
pub fn connect(socket: &Socket, to: SocketAddr, over: impl Fn() -> bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
        Ok(()) => return socket.set_nonblocking(false),
    }
    loop {
        let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut asked, 50_u8) {
            Ok(0) | Err(Errno::EINTR) if over() => return Err(io::ErrorKind::TimedOut.into()),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match socket.take_error()? {
        Some(error) => Err(error),
        None => socket.set_nonblocking(false),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn connecting_ends_with_a_connection_with_an_error_or_when_it_is_over() {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let client = socket();
        connect(&client, address, || false).expect("a connection");
        drop(listener);
        let refused = connect(&socket(), address, || false).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // With no room for one more the kernel answers nobody.
        let full = socket();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        full.bind(&any.into()).expect("loopback");
        full.listen(0).expect("listening");
        let address = full.local_addr().expect("bound").as_socket();
        let address = address.expect("an address");
        let mut waiting = Vec::new();
        let over = loop {
            let one = socket();
            match connect(&one, address, || true) {
                Ok(()) => waiting.push(one),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100, "there is always room");
        };
        assert_eq!(over.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_the_peer_s_kernel_has_no_room_for_is_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        server.set_nonblocking(true).expect("a socket");
        let mut written = 0;
        while let Ok(bytes) = server.write(&[0; 65_536]) {
            written += bytes as u64;
        }
        let waiting = unacknowledged(&server).expect("a socket");
        assert!(0 < waiting && waiting < written, "{waiting} of {written}");
        server.set_nonblocking(false).expect("a socket");
        let mut buffer = vec![0; written as usize];
        client.read_exact(&mut buffer).expect("all of it");
        while unacknowledged(&server).expect("a socket") > 0 {
            std::thread::yield_now();
        }
    }
}
