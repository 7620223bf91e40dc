//! The built-in HTTP download page: the files of a folder, or samples made up as they are read.
//!
//! ```text
//! request --> page_server --> answer (range, precondition) --> body
//!                  |                                            ^
//!                  +--> store: folder | sample -----------------+
//! ```

mod actor;
mod answer;
mod folder;
mod number;
mod page;
mod precondition;
mod range;
mod sample;
mod store;

pub use actor::{Kept, OriginActor, Standing, TRANSFER};
pub use sample::{Sample, sample};
pub(crate) use store::MOST_SUMMED;
