//! System calls only: nothing here knows a protocol, or a link that is bad on purpose.

mod allocator;
mod batch;
mod buffers;
mod clock;
mod conntrack;
mod descriptors;
mod device;
mod driver;
mod files;
pub mod first_link;
mod frames;
pub mod interface;
mod listeners;
mod namespace;
mod priority;
pub mod process;
pub mod representation;
mod service;
mod sockets;
mod steady;
mod steering;
mod tcp;
mod terminal;
mod timer;
mod tools;
mod tun;
mod udp;
mod watched_socket;
mod watched_stream;

pub use allocator::keep_freed_memory;
pub use batch::{Datagram, Ecn, ReceiveBatch, Segments};
pub use buffers::enlarge_buffers;
pub use clock::is_synchronised;
pub use conntrack::forget_connections;
pub use descriptors::{Purpose, raise_descriptor_limit};
pub use driver::{Driver, drive};
pub use files::{Space, free_space, is_writable};
pub use frames::{Frame, Frames};
pub use listeners::{NotBound, TcpListeners};
pub use namespace::{Namespace, gain_namespaces};
pub use priority::step_back;
pub use sockets::{Sockets, bind_tcp, bind_udp, bind_udp_on, is_listening, is_on_interface};
pub use steady::{steady_time, wall_and_steady_time, wall_time};
pub use tcp::{
    TcpInfo, allowed_congestion, congestion, connect, refuses_congestion, set_congestion, tcp_info,
    unacknowledged,
};
pub use terminal::{RawTerminal, is_attended};
pub use timer::Timer;
pub(crate) use timer::keep_time;
pub use tools::{ip, nft};
pub use tun::{Tun, TunPlan};
pub use udp::{Outgoing, UdpSocket, is_too_large, too_large};
pub use watched_socket::{Tap, WatchedSocket};
pub use watched_stream::{StreamTap, WatchedStream};
