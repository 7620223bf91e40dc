//! `labnet compare`: senders over the same bad network, the experiment, its outcome, and the report of
//! it.
//!
//! ```text
//! command line, FILE.toml --> experiment --> plan --> runs --> outcome --> table, JSON, report
//! ```
//!
//! An [`experiment`] is what was said, word for word; a [`plan`] is what will be done. Whoever runs it
//! observes typed events (a connection's steps, the link's verdicts) and writes them down in a
//! [`recorder`].

pub mod bounds;
pub mod exec;
pub mod experiment;
pub mod files;
pub mod gather;
pub mod outcome;
pub mod place;
pub mod plan;
pub mod quic;
pub mod ready;
pub mod real;
pub mod recorder;
pub mod report;
pub mod sender;
pub mod series;
pub mod simulated;
pub mod sweep;
pub mod table;
