mod congestion;
mod info;

use std::{io, os::fd::AsRawFd};

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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

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
