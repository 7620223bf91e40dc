//! Everything that is spoken over HTTP by labnet's own servers: connections, who may ask for what,
//! the API and its pages.

mod actor;
mod serve;

pub use actor::HttpActor;
pub(crate) use actor::{only_from_here, problem};
pub use serve::serve_http;
