//! The binary transport: connections over a simulated network, in virtual time.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod attacks;
mod random;
mod recovery;
mod scenarios;
mod sim;
