//! Networks in virtual time: the product's own cores, joined by its own bad link, with nobody waiting
//! for a clock.
//!
//! ```text
//!   clients                  path (`link::Link`)                   server
//!  +--------+   Datagram   +-------------------------+  Datagram  +---------------------+
//!  | client |------------->| up:   queue, rate, wire |----------->| listener            |
//!  +--------+\             +-------------------------+            | connections by cid  |
//!  | client |<-------------| down: queue, rate, wire |<-----------|                     |
//!  +--------+              +-------------------------+            +---------------------+
//! ```
//!
//! [`Network`] moves time from one event to the next and datagrams from one [`Host`] to the other; it
//! knows no protocol. [`Peer`] and [`Server`] are hosts made of the reliable transport's cores, with an
//! [`Application`] on top, QUIC's of quinn-proto; [`Far`] is one at some distance from the path.
//! [`Simulation`] is the ready-made use of all that: senders that share a
//! bottleneck, together or one alone, and what each got.
//!
//! **The same every time.** Who runs a network says when it starts and gives the seed: nothing here reads
//! a clock or rolls dice of its own, and what happens at the same time happens in the order of the hosts.
//! Times in a run's result are counted from its start.
//!
//! **Watching it.** A connection is watched as in the service, with [`Connection::observe`], the link with
//! [`Link::watch`]: the steps and verdicts are those of
//! [`watch::event`](crate::watch::event), with times that lie between the start and the end of the run.
//!
//! [`Connection::observe`]: crate::rudp::connection::Connection::observe
//! [`Link::watch`]: crate::link::Link::watch

mod addresses;
mod arrival;
mod datagram;
mod ends;
mod far;
mod network;
mod peer;
mod quic;
mod run;
mod server;
mod transfer;

pub use arrival::{Closed, HearPiece, Piece};
pub use datagram::Datagram;
pub use far::Far;
pub use network::{Host, Network, Path};
pub use peer::{Application, FirstLink, Peer};
pub use quic::{QuicConfig, QuicStats};
pub use run::{
    Delivered, Flow, LinkChange, Observers, Sender, Simulated, SimulatedFlow, Simulation,
    SimulationError, Watch,
};
pub use server::{Serve, Server};
