//! Frames of one kind as they pass an Ethernet's interfaces, both ways.

use std::{
    io,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_indextoname,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was read.
    pub at: Instant,
    /// The interface.
    pub device: String,
    /// Whether this machine has sent it.
    pub is_outgoing: bool,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// All frames of one kind (packet(7)), of every interface in the namespace of who opened it.
#[derive(Debug)]
pub struct Frames(Socket);

/// Longer than any ARP frame.
const LONGEST: usize = 256;

/// All frames of every interface, as an address (packet(7)): who asks for one kind alone is shown what comes
/// in; only who asks for all is shown what goes out, too.
#[allow(unsafe_code)]
fn every_interface() -> io::Result<SockAddr> {
    // SAFETY: the storage that is lent is zeroed, and large enough for any address; a sockaddr_ll is plain
    // numbers, and of its length the kernel reads no more than what is told.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

impl Frames {
    /// Those whose Ethernet header names `ethertype`, from now on.
    ///
    /// # Errors
    /// The kernel refuses without CAP_NET_RAW.
    pub fn open(ethertype: u16) -> io::Result<Self> {
        // Without a protocol it is shown nothing yet: no frame comes before the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&[
            // The type of the frame; if it is the one, all of it, else nothing.
            SockFilter::new(
                (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16,
                0,
                0,
                12,
            ),
            SockFilter::new(
                (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                0,
                1,
                ethertype.into(),
            ),
            SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
            SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
        ])?;
        socket.bind(&every_interface()?)?;
        Ok(Self(socket))
    }

    /// The next one; `None`: none came for so long.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn next(&self, patience: Duration) -> io::Result<Option<Frame>> {
        self.0.set_read_timeout(Some(patience))?;
        let mut buffer = [0; LONGEST];
        match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                let at = Instant::now();
                let device = from.and_then(|from| {
                    let index = u32::try_from(from.ifindex()).ok()?;
                    if_indextoname(index).ok()?.into_string().ok()
                });
                Ok(Some(Frame {
                    at,
                    device: device.unwrap_or_default(),
                    is_outgoing: from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING),
                    bytes: buffer[..length.min(LONGEST)].to_vec(),
                }))
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
