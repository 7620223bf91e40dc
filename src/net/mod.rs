//! System calls, and links that are bad on purpose: nothing here knows a role's protocol.

mod control;
mod driver;
mod http;
mod impairment;
pub mod interface;
pub mod link;
mod relay;
mod sockets;
mod timer;
mod tun;
mod tunnel;
mod udp;

pub use control::{ClientCounters, LinkControl, LinkCounters};
pub use driver::{Driver, drive};
pub use http::{Ends, HttpLimits, serve_http};
pub use impairment::Loss;
pub use relay::{Relay, RelayPlan};
pub use sockets::Sockets;
pub use timer::Timer;
pub use tun::TunPlan;
pub use tunnel::{Tunnel, TunnelPlan};
pub use udp::{Datagram, ReceiveBatch, UdpSocket};
