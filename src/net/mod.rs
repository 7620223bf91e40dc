//! System calls, and links that are bad on purpose: nothing here knows a role's protocol.

mod accept;
mod allocator;
mod batch;
mod clock;
mod control;
mod descriptors;
mod driver;
mod files;
pub mod first_link;
mod impairment;
pub mod interface;
pub mod link;
mod listeners;
pub mod process;
mod relay;
pub mod representation;
mod service;
mod socket_link;
mod sockets;
mod steady;
mod steering;
mod tcp;
mod timer;
mod tun;
mod tunnel;
mod udp;

pub use accept::{
    Attend, Connection, Ends, Observer, PacedStream, Place, Places, Refusal, Shares, accept,
    connections_here,
};
pub use allocator::keep_freed_memory;
pub use batch::{Datagram, Ecn, ReceiveBatch, Segments};
pub use clock::is_synchronised;
pub use control::{ClientCounters, LinkControl, LinkCounters};
pub use descriptors::{Purpose, raise_descriptor_limit};
pub use driver::{Driver, drive};
pub use files::{Space, free_space, is_writable};
pub use impairment::Loss;
pub use listeners::{NotBound, TcpListeners};
pub use relay::{Relay, RelayPlan};
pub use socket_link::{Side, SocketLink};
pub use sockets::{Sockets, bind_tcp, bind_udp, enlarge_buffers, is_listening, is_on_interface};
pub use steady::{steady_time, wall_and_steady_time, wall_time};
pub use timer::Timer;
pub use tun::TunPlan;
pub use tunnel::{Tunnel, TunnelPlan};
pub use udp::{UdpSocket, is_too_large};
