//! The vocabulary of what happens: one stream of truth.
//!
//! What happens is raised once, where it happens, as one of these types; words, logs, captures,
//! plots and the console are made from them by observers, and nobody reads prose back. The
//! vocabulary names nothing else of the crate: sockets and links raise events, too.

mod component;
mod ecn;
pub mod hub;
pub mod link;
pub mod packet;
pub mod transport;

pub use component::{FailureKind, State};
pub use ecn::Ecn;
