//! Settings of network devices, by ioctl (netdevice(7)).

use std::{io, net::Ipv4Addr, os::fd::AsRawFd};

/// Switches a device of this thread's namespace on.
pub(super) fn switch_on(device: &str) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    Request::new(device)?
        .with(&up.to_ne_bytes())
        .send(&socket, libc::SIOCSIFFLAGS as libc::Ioctl)
}

/// `struct ifreq`: a device's name and one value of many types.
#[repr(C, align(8))]
pub(super) struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    pub(super) fn new(device: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        // A zero byte ends it.
        if device.is_empty() || device.len() >= name.len() {
            return Err(io::Error::other(format!("{device}: no name of a device")));
        }
        name[..device.len()].copy_from_slice(device.as_bytes());
        Ok(Self {
            name,
            value: [0; 24],
        })
    }

    pub(super) fn with(&mut self, value: &[u8]) -> &mut Self {
        self.value = [0; 24];
        self.value[..value.len()].copy_from_slice(value);
        self
    }

    #[allow(unsafe_code)]
    pub(super) fn send(&mut self, to: &impl AsRawFd, number: libc::Ioctl) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `to` lives; all numbers used here take a
        // struct ifreq, whose size and alignment this has, and which outlives the call.
        let result = unsafe { libc::ioctl(to.as_raw_fd(), number, &raw mut *self) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
