//! The authoritative DNS server (RFC 1034, RFC 1035).
//!
//! ```text
//!             prepare: zone files -> zone_file -> Zone (a tree of labels) -+
//!                                                                          v
//! datagram -> actor --+-> Authority::answer: message (read) -> zone (find) -> message (write)
//! stream   -> tcp  ---+                                                     |
//!                     +<--------- the answer's bytes, in a reused buffer ---+
//! ```
//!
//! The hot path is one call without a heap allocation: the question stays in the receive buffer,
//! names are compared on the stack, the answer is written in place. hickory-proto decodes what we
//! show to people (`meaning`) and checks our bytes in the tests.

mod actor;
mod answer;
mod message;
mod name;
mod rdata;
mod words;
mod zone;
mod zone_file;

pub use actor::{DnsActor, Kept};
pub use answer::{Authority, Outcome};
pub use message::{Ignored, Rcode, Transport};
pub use name::{Name, NameError};
pub use rdata::RecordType;
pub use words::{meaning, reader};
pub use zone::Zone;
pub use zone_file::{ReadFile, ZoneError};
