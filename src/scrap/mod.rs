//! The scraper: reads the list of files from the links of an ordinary download page and gives it to
//! whoever asks over TCP.
//!
//! ```text
//! download page --HTTP--> fetch --> page --> catalog --TCP--> the proxy, the client
//!                           ^                   |
//!                           +---- freshness ----+
//! ```

mod actor;
pub mod catalog;
mod fetch;
mod freshness;
pub mod page;
mod request;
mod words;

pub use actor::{Kept, ScrapActor};
pub use words::reader;
