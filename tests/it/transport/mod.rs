//! The binary transport: connections over a simulated network, in virtual time.

mod again;
mod attacks;
mod random;
mod recovery;
mod scenarios;
mod sim;
mod why;
