/// What a component does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Up,
    /// It runs, but something that it needs is missing.
    Degraded,
    /// It failed and waits for its restart.
    Restarting,
    /// Its thread does nothing.
    Stuck,
    /// It failed too often.
    Failed,
    /// It ended and was meant to.
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Up,
        Self::Degraded,
        Self::Restarting,
        Self::Stuck,
        Self::Failed,
        Self::Stopped,
    ];

    /// The word for it, everywhere the same.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Restarting => "restarting",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// The kinds of failures of what is under supervision: `labnet_component_restarts_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It panicked.
    Panic,
    /// A socket of its own can't be used any more.
    Socket,
    /// Its thread did nothing for too long.
    Stuck,
    /// It came to an end that it should not have.
    Ended,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Panic, Self::Socket, Self::Stuck, Self::Ended];

    /// The label of `labnet_component_restarts_total{reason}`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Socket => "socket",
            Self::Stuck => "stuck",
            Self::Ended => "ended",
        }
    }
}
