//! The client: it walks through all roles as a student's program would.
//!
//! | step | core (decides) | shell (moves bytes) |
//! |---|---|---|
//! | an address | `dhcp` | `lease`, `adopt` |
//! | the proxy's address | `dns` | `lookup` |
//! | signals | [`crate::rudp::Requester`] | `session` |
//! | the binary transport | `carrier` | `transport`, `dialer` |
//! | files | `transfer`, `file_name` | `source`, `http`, `part`, `download` |
//!
//! `walk` takes the steps one after the other; `exchange` is what `dhcp` and `dns` have in common, and `udp` runs it.
//! `diagnosis` asks a lab of this machine why its DHCP server is silent. `terminal`, `report` and `summary` tell what happens, `prompt` reads what a person wants (`command`).

mod adopt;
pub mod carrier;
pub mod command;
pub mod dhcp;
mod diagnosis;
pub mod dialer;
pub mod dns;
pub mod download;
mod exchange;
pub mod failure;
pub mod file_name;
pub mod http;
pub mod lease;
pub mod lookup;
pub mod pace;
pub mod part;
pub mod prompt;
pub mod report;
pub mod session;
pub mod source;
pub mod summary;
pub mod terminal;
pub mod transfer;
pub mod transport;
pub mod udp;
pub mod units;
pub mod walk;

pub use exchange::{Exchange, Patience, Transmit};
