//! What receivers are made with.

use super::settings::Settings;
use crate::{
    link::SocketLink,
    rudp::{endpoint::HalfOpenLimits, session::SessionLimits},
};

/// What receivers are made with.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// What cookies and resets are made with.
    pub(super) key: [u8; 32],
    pub(super) limits: SessionLimits,
    pub(super) half_open: HalfOpenLimits,
    pub(super) link: SocketLink,
}

impl Plan {
    /// The same for a socket that takes nobody new.
    pub(super) fn draining(mut self) -> Self {
        self.half_open.most = 0;
        self.settings.bounds.handshakes = 0;
        self
    }
}
