//! Everything that is spoken over HTTP by labnet's own servers: connections, who may ask for what,
//! the API and its pages.

mod access;
mod actor;
mod guard;
mod page;
mod routes;
mod serve;
mod token;

pub use access::{Access, Refused};
pub use actor::HttpActor;
pub use guard::guarded;
pub(crate) use guard::problem;
pub use serve::serve_http;
pub use token::{Token, read_token};
