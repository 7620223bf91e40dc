//! The binary transport: connections over a simulated network, in virtual time.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod scenarios;
mod sim;
