//! labnet: a teaching network in one program.
//!
//! ```text
//!             1 DISCOVER/OFFER/REQUEST/ACK        +--------+
//!          +------------------------------------->|  dhcp  |--- leases (SQLite)
//!          |                                      +--------+
//! +--------+  2 example.com A ?                   +--------+
//! | client |------------------------------------->|  dns   |--- zone files
//! +--------+                                      +--------+
//!     |    |  3 SIGNEW, SIGNECHO, SIGNGET, ...    +--------+  4 SIGNGET  +--------+
//!     |    +------------------------------------->|  rudp  |------------>| scrap  |
//!     |                                           +--------+    (TCP)    +--------+
//!     |       5 GET /50MB.zip                     +--------+  index page     |
//!     +------------------------------------------>| origin |<----------------+
//!                     (HTTP)                      +--------+     (HTTP)
//! ```
//!
//! With `--via rudp` step 5 goes another way: the proxy gets the files from the origin and carries
//! them to the client over its own reliable transport (`rudp::connection`).
//!
//! Who may name whom, from the top; `tests/it/architecture.rs` holds it, and that no file leads back to itself:
//!
//! ```text
//! cli
//! client   supervisor   compare   simulation
//! dhcp   dns   rudp   scrap   origin        the roles: each an actor, and a core that decides
//! http   role   telemetry   watch           watch observes, and has the writers
//! link
//! net   config
//! congestion                                what a congestion controller is told
//! watch::event   text   statistic           words that everybody may use
//! ```
//!
//! Nothing points up: who stands higher registers below what it can answer. A core names no actor, socket,
//! clock or other role: `now` and the seed are passed in. `simulation` runs the same cores, joined without actors,
//! sockets and clocks.

// They panic where nobody takes what is said: `telemetry::{print, complain}` don't.
#![warn(clippy::print_stdout, clippy::print_stderr)]

// The program's verbs: one file each.
pub mod cli;
// The client's walk through all roles: one file a step.
pub mod client;
// Senders compared over the same bad network: the experiment, its outcome, the report.
pub mod compare;
// What a congestion controller is told, and who is told it.
pub mod congestion;
// The configuration: file shapes, compilation into valid values, differences.
pub mod config;
// The DHCP server (RFC 2131).
pub mod dhcp;
// The authoritative DNS server (RFC 1035).
pub mod dns;
// The accept loop, and what is spoken over HTTP: who may ask, the API and its pages.
pub mod http;
// Networks that are bad on purpose: the seeded model, the relay, the tunnel, what wraps a socket.
pub mod link;
// System calls only: sockets, batches, timers.
pub mod net;
// The built-in HTTP download page.
pub mod origin;
// What a supervisor, an actor and who asks it promise each other.
pub mod role;
// The reliable-UDP proxy and its signals.
pub mod rudp;
// The scraper of a download page.
pub mod scrap;
// Virtual time: cores joined by the bad link, with nobody waiting for a clock.
pub mod simulation;
// What is told of a session, each number once.
pub mod statistic;
// The tree of actors: restarts, reload, shutdown.
pub mod supervisor;
// Text from outsiders, made fit to be shown.
pub mod text;
// What can be seen from outside: metrics, logs.
pub mod telemetry;
// What happens, as typed events; their words are the lowest room.
pub mod watch;
