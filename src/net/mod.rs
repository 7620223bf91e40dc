//! System calls only: nothing here knows a protocol.

mod driver;
mod http;
mod impairment;
pub mod interface;
pub mod link;
mod relay;
mod sockets;
mod timer;
mod udp;

pub use driver::{Driver, drive};
pub use http::{Ends, HttpLimits, serve_http};
pub use impairment::Loss;
pub use relay::{Relay, RelayControl, RelayCounters, RelayPlan};
pub use sockets::Sockets;
pub use timer::Timer;
pub use udp::{Datagram, ReceiveBatch, UdpSocket};
