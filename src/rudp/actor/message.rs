//! What sessions and connections are asked and told, whichever of the two they are.

use actix::Message;

use crate::role::api;

/// Asks a session how it stands.
#[derive(Message)]
#[rtype(result = "api::SessionEntry")]
pub(super) struct Describe;

/// Ends a session or connection.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) enum Stop {
    /// Its endpoint is gone.
    Shutdown,
    /// Its thread did nothing, and has a successor.
    Abandoned,
}

/// What is told of one whose thread did nothing.
pub(super) const ABANDONED: &str = "its thread did nothing and was replaced";

/// Ends a connection whose handshake takes long: others of its address want to begin as well, and it
/// has most of those that have begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Displaced;
