//! The tree of actors: started in order, restarted when they fail, reloaded all or nothing,
//! stopped in reverse order.
//!
//! The semantics are OTP's: one_for_one, every role permanent, its sessions temporary, at most
//! [`max_restarts`](crate::config::Supervisor) in a sliding window, then the supervisor fails and
//! with it the process, which its own supervisor (systemd) starts again. Unlike OTP a restart waits
//! a moment, longer each time (`policy`), and a role whose thread does nothing is replaced
//! (`watchdog`).

mod child;
mod files;
mod lab;
mod policy;
mod reload;
mod root;
pub mod service;
mod slot;
mod tree;
mod watchdog;

pub use lab::{Lab, StartError};
pub use policy::{Policy, RestartLimits, Verdict};
pub use root::Ended;
