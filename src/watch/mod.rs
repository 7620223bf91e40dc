//! What happens in the lab, as typed events, and who reads them.
//!
//! | room | |
//! |---|---|
//! | [`event`] | the vocabulary: a packet, a step of a connection, a link's verdict |
//! | [`ring`] | each session's last minutes, always on |
//! | [`fates`] | what a link did to each packet, by its number |
//! | [`why`] | both in words and numbers |
//! | [`samples`] | a ring as arrays, for plots |
//! | [`qlog`] | a connection's trace as files for the field's tools |
//! | [`watcher`] | who watches connections from their beginning, and may control them |
//! | [`verdicts`] | a link's verdicts as lines of JSON |
//! | `steps` | a connection's steps as JSON |
//! | [`crossings`] | what links did to the packets of a capture |
//! | [`dropped`] | what observers have missed |
//! | `folder` | where observers write files |
//! | [`words`] | what a packet's bytes say, by its protocol's reader |
//! | [`log`] | every packet in the log |
//! | [`pcapng`], [`capture`] | packets as Wireshark reads them: into files, on demand, in a ring |
//! | [`json`] | every packet as a line of JSON |
//!
//! Sockets, links and connections raise events, so [`event`] is the lowest room of the house. What
//! reads them stands above.

pub mod capture;
pub mod crossings;
pub mod dropped;
pub mod event;
pub mod fates;
mod folder;
pub mod json;
pub mod log;
pub mod pcapng;
pub mod qlog;
pub mod ring;
pub mod samples;
mod steps;
pub mod verdicts;
pub mod watcher;
pub mod why;
pub mod words;
