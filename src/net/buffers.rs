use std::{io, os::fd::AsFd};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBufForce, SndBufForce},
};
use socket2::SockRef;

/// What the kernel should hold for a service that is busy for a moment, and of a transport's burst.
/// The kernel caps both at `net.core.rmem_max` and `net.core.wmem_max`, but for who may administer
/// the network.
const BUFFER: usize = 4 << 20;

/// Lets the kernel hold of a socket what a transport's burst brings.
///
/// # Errors
/// Those of a closed socket.
pub fn enlarge_buffers(socket: &impl AsFd) -> io::Result<()> {
    let limited = SockRef::from(socket);
    // Beyond the caps, or up to them without the right to.
    if setsockopt(socket, RcvBufForce, &BUFFER).is_err() {
        limited.set_recv_buffer_size(BUFFER)?;
    }
    if setsockopt(socket, SndBufForce, &BUFFER).is_err() {
        limited.set_send_buffer_size(BUFFER)?;
    }
    Ok(())
}
