//! TCP's congestion control, of which the kernel has several.

use std::{fs, io, os::fd::AsFd};

use socket2::{Domain, SockRef, Socket, Type};

const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// The congestion control that a connection sends by.
///
/// # Errors
/// Those of a socket that is not TCP's.
pub fn congestion(socket: &impl AsFd) -> io::Result<String> {
    let name = SockRef::from(socket).tcp_congestion()?;
    let end = name.iter().position(|byte| *byte == 0);
    let name = &name[..end.unwrap_or(name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Has a connection sent by another congestion control from now on (TCP_CONGESTION, tcp(7)).
///
/// # Errors
/// The kernel has none of that name, or lets only root use it.
pub fn set_congestion(socket: &impl AsFd, name: &str) -> io::Result<()> {
    SockRef::from(socket).set_tcp_congestion(name.as_bytes())
}

/// The congestion controls that everybody may have; none if the kernel does not say.
pub fn allowed_congestion() -> Vec<String> {
    names(ALLOWED)
}

/// Why this process can't have its connections sent by the congestion control of this name; `None`:
/// it can.
pub fn refuses_congestion(name: &str) -> Option<String> {
    let tried = Socket::new(Domain::IPV4, Type::STREAM, None)
        .and_then(|socket| set_congestion(&socket, name));
    let error = tried.err()?;
    Some(match error.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "this kernel has no congestion control `{name}`; it has {} (`modprobe tcp_{name}` may \
             add it)",
            names(AVAILABLE).join(", ")
        ),
        Some(libc::EPERM) => format!(
            "the kernel lets only root use the congestion control `{name}`, and everybody {}; \
             `sysctl -w net.ipv4.tcp_allowed_congestion_control=\"{} {name}\"` allows it",
            names(ALLOWED).join(", "),
            names(ALLOWED).join(" ")
        ),
        _ => format!("the congestion control `{name}` could not be tried: {error}"),
    })
}

fn names(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_sent_by_what_it_was_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("a connection");
        for name in allowed_congestion() {
            set_congestion(&client, &name).expect("allowed");
            assert_eq!(congestion(&client).expect("TCP"), name);
            assert_eq!(refuses_congestion(&name), None);
        }
    }

    #[test]
    fn what_the_kernel_has_not_is_told_with_what_it_has() {
        let said = refuses_congestion("nosuch").expect("there is none");
        assert!(said.contains("`nosuch`"), "{said}");
        assert!(
            names(AVAILABLE).iter().all(|name| said.contains(name)),
            "{said}"
        );
    }
}
