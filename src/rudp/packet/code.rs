//! Why a connection closes, or a stream is given up.

use std::fmt;

/// The code of a CLOSE, RESET_STREAM or STOP_SENDING. Below 0x100 as in RFC 9000 section 20.1, for
/// the transport itself; from 0x100 on labnet's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u64);

/// Each code with its constant, name and meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

            /// Its name, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// All is done.
    NO_ERROR = 0x00, "no_error";
    /// The sender of the code failed.
    INTERNAL_ERROR = 0x01, "internal_error";
    /// The server takes no more connections.
    CONNECTION_REFUSED = 0x02, "connection_refused";
    /// More data than allowed by MAX_DATA or MAX_STREAM_DATA.
    FLOW_CONTROL_ERROR = 0x03, "flow_control_error";
    /// A stream beyond MAX_STREAMS.
    STREAM_LIMIT_ERROR = 0x04, "stream_limit_error";
    /// A frame for a stream that cannot have it.
    STREAM_STATE_ERROR = 0x05, "stream_state_error";
    /// A stream's end moved, or data lies beyond it.
    FINAL_SIZE_ERROR = 0x06, "final_size_error";
    /// A frame that is unknown, or whose bytes do not follow the format.
    FRAME_ENCODING_ERROR = 0x07, "frame_encoding_error";
    /// Transport parameters that are wrong.
    TRANSPORT_PARAMETER_ERROR = 0x08, "transport_parameter_error";
    /// Anything else against the rules: an ACK of a packet never sent.
    PROTOCOL_VIOLATION = 0x0a, "protocol_violation";
    /// So many packets failed their integrity check that the key is used up.
    AEAD_LIMIT_REACHED = 0x0f, "aead_limit_reached";
    /// The application wants no more of it.
    CANCELLED = 0x100, "cancelled";
    /// The endpoint shuts down.
    SHUTDOWN = 0x101, "shutdown";
    /// What the stream's data came from broke off.
    SOURCE_FAILED = 0x102, "source_failed";
    /// The stream's question is not one of `exchange`'s.
    MALFORMED_QUESTION = 0x103, "malformed_question";
    /// The peer takes too long.
    TOO_SLOW = 0x104, "too_slow";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}
