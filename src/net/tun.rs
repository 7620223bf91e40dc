use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    task::{Context, Poll, ready},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{device::Request, namespace::Namespace};

/// A network device to be made: what the kernel sends through it, a program reads.
#[derive(Debug, Clone)]
pub struct TunPlan {
    /// The network namespace, by its name for `ip netns` or the path of its file.
    pub namespace: String,
    /// The device's name in there.
    pub device: String,
    /// The device's address.
    pub address: Ipv4Addr,
    /// The size of the network that the device reaches.
    pub prefix_len: u8,
    /// The largest IP packet that fits through, in bytes.
    pub mtu: u16,
}

/// A TUN device of another network namespace: IP packets without a link-layer header. It vanishes
/// when dropped.
pub struct Tun {
    io: AsyncFd<Device>,
    name: String,
}

struct Device(File);

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Tun {
    /// Makes the device, gives it its address and switches it on. Needs CAP_SYS_ADMIN and
    /// CAP_NET_ADMIN.
    #[allow(unsafe_code)]
    pub(crate) fn open(plan: &TunPlan) -> io::Result<Self> {
        let said = |what: &str| {
            let what = format!("{} in {}: {what}", plan.device, plan.namespace);
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        let namespace = Namespace::named(&plan.namespace).map_err(said("no such namespace"))?;
        let made = namespace.within(|| Ok(make(plan)));
        let device = Device(made.map_err(said("the namespace can't be entered"))??);
        let interest = Interest::READABLE | Interest::ERROR;
        // SAFETY: Device owns its descriptor, always the same one, and closes it when dropped, not
        // before; nobody else registers it.
        let io = unsafe { AsyncFd::register_with_interest(device, interest) }?;
        let name = format!("{} in {}", plan.device, plan.namespace);
        Ok(Self { io, name })
    }

    /// Waits for one packet.
    pub(crate) fn poll_receive(
        &self,
        task: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.io.poll_read_ready(task))?;
            if let Ok(read) = ready.try_io(|io| (&io.get_ref().0).read(buffer)) {
                return Poll::Ready(read);
            }
        }
    }

    /// Waits until someone removes the device: a reader is not told.
    pub(crate) async fn removed(&self) -> io::Result<()> {
        self.io.ready(Interest::ERROR).await?.retain_ready();
        let gone = format!("{}: the device was removed", self.name);
        Err(io::Error::new(io::ErrorKind::NotConnected, gone))
    }

    /// Hands one packet to the namespace's kernel.
    pub(crate) fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.io.get_ref().0).write(packet).map(drop)
    }
}

/// Makes it in the calling thread's namespace.
fn make(plan: &TunPlan) -> io::Result<File> {
    let said = |what: &str| {
        let what = format!("{} in {}: {what}", plan.device, plan.namespace);
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(said("/dev/net/tun"))?;
    let mut request = Request::new(&plan.device)?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as i16;
    request
        .with(&flags.to_ne_bytes())
        .send(&device, libc::TUNSETIFF)
        .map_err(said("the device can't be made"))?;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mask = u32::MAX
        .checked_shl(32 - u32::from(plan.prefix_len.min(32)))
        .unwrap_or(0);
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    let steps: [(&str, libc::Ioctl, &[u8]); 4] = [
        (
            "address",
            libc::SIOCSIFADDR as libc::Ioctl,
            &socket_address(plan.address),
        ),
        (
            "netmask",
            libc::SIOCSIFNETMASK as libc::Ioctl,
            &socket_address(mask.into()),
        ),
        (
            "MTU",
            libc::SIOCSIFMTU as libc::Ioctl,
            &i32::from(plan.mtu).to_ne_bytes(),
        ),
        (
            "flags",
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &up.to_ne_bytes(),
        ),
    ];
    for (what, number, value) in steps {
        request
            .with(value)
            .send(&socket, number)
            .map_err(said(what))?;
    }
    Ok(device)
}

/// `struct sockaddr_in` of an address.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}
