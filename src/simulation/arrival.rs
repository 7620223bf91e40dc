//! What a flow's client tells.

use std::{sync::Arc, time::Instant};

use crate::rudp::connection::CloseReason;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// One of the reliable transport.
    #[error("{0}")]
    Rudp(CloseReason),
    /// One of QUIC, in quinn's words.
    #[error("{0}")]
    Quic(String),
}

/// A client has read a piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub flow: usize,
    /// Which of its files.
    pub file: usize,
    /// When.
    pub at: Instant,
    /// It was the last one.
    pub whole: bool,
}

/// Hears of each piece of a file that a client reads.
pub type HearPiece = Arc<dyn Fn(&Piece) + Send + Sync>;
