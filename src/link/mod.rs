//! Networks that are bad on purpose: the seeded model, and what puts packets through it.
//!
//! [`model`] decides and does no IO. A [`SocketLink`] lies before the UDP sockets of one server or
//! client ([`LinkedSocket`]), a [`Relay`] between a server and clients that know nothing of it, a
//! [`Tunnel`] between two network namespaces. [`SignalLoss`] is for packets that have numbers of
//! their own.

mod control;
mod first_links;
mod linked_socket;
pub mod model;
mod relay;
mod signal_loss;
mod socket_link;
mod tunnel;

pub use control::{ClientCounters, LinkControl, LinkCounters};
pub use linked_socket::LinkedSocket;
pub use model::{Counters, Damage, Direction, Link, Losses, Packet, Way};
pub use relay::{Relay, RelayPlan};
pub use signal_loss::SignalLoss;
pub use socket_link::{Side, SocketLink};
pub use tunnel::{Tunnel, TunnelPlan};

pub use crate::config::{Blackout, LinkOptions};
