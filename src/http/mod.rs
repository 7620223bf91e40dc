//! The accept loop of everything that is spoken over TCP, and what labnet's own servers speak over
//! HTTP: who may ask for what, the API and its pages.

mod accept;
mod access;
mod actor;
mod ask;
mod capture;
mod guard;
mod kept;
mod names;
mod page;
mod problem;
mod rings;
mod routes;
mod selection;
mod serve;
mod token;
mod words;

pub use accept::{
    Attend, Connection, Ends, Observer, PacedStream, Passed, Place, Places, Refusal, Wire, accept,
    connections_here,
};
pub use access::{Access, Refused};
pub use actor::HttpActor;
pub use guard::guarded;
pub(crate) use problem::problem;
pub use routes::MISSING;
pub use serve::serve_http;
pub use token::{Token, read_token};
pub use words::reader;
