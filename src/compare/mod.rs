//! Senders compared over the same bad network: the experiment, its outcome, and the report of it.

pub mod bounds;
pub mod outcome;
pub mod report;
pub mod series;
