//! What is written down of a run while it lasts: of each flow, and of the link.

mod asked;
mod flow;
mod line;
mod link;
mod loss;
mod samples;

pub use self::{
    asked::{Counts, Sample},
    flow::{FlowRecord, Now, PAYLOAD},
    link::{FlowOf, LinkRecord, OnLink},
};
