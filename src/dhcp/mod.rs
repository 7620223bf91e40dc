//! The DHCP server (RFC 2131, options of RFC 2132).
//!
//! ```text
//! datagram -> Message -> DhcpServer: choose, decide -> reply bytes  -> socket
//!                          |                                        ^
//!                          +-> Records -> Store (one transaction) --+  leases on disk first
//! ```
//!
//! `DhcpServer` decides without IO: packets, wall time and stored leases come in, replies and records
//! go out. Its seconds are a `Clock`'s, which go on evenly when the machine's clock is set. `Store`
//! keeps the leases, also from what happens to its file, `DhcpActor` owns the sockets and holds every reply of a
//! batch back until the batch's leases are on disk (RFC 2131 section 3.1, step 4).

mod actor;
mod clock;
mod drop_reason;
mod lease;
mod message;
mod pool;
mod reply;
mod server;
mod store;
mod subnet;
mod table;
mod words;

pub use actor::{DhcpActor, DhcpKept};
pub use clock::{Clock, Reading};
pub use drop_reason::DropReason;
pub use lease::{
    ClientKey, Counts, Hardware, LeaseChange, LeaseNote, Record, StoredLease, StoredState,
};
pub use reply::{Nak, Reply, ReplyKind};
pub use server::{
    Attachment, Decision, DhcpServer, LeaseView, Outcome, QUARANTINE, Received, Replies,
};
pub use store::{Condition, Owner, Repaired, Store, StoreError, inspect, repair};
pub use subnet::OFFER_HOLD;
pub use words::reader;
