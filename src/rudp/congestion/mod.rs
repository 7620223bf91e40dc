//! How much may be in flight: the congestion controllers, behind one small trait.
//!
//! | name | reacts to | paper |
//! |---|---|---|
//! | `new_reno` | loss | RFC 9002 section 7 |
//! | `cubic` | loss, with HyStart++ | RFC 9438, RFC 9406 |
//! | `vegas` | delay | Brakmo and Peterson 1995 |
//! | `bbr` | delivery rate and round trip, then loss | draft-ietf-ccwg-bbr |
//!
//! # The fifth one
//!
//! A controller keeps one number, the window, and changes it when it hears of acknowledged and lost
//! packets. This one is the textbook's AIMD. `cargo run --example aimd` runs it against NewReno, in virtual
//! time, over the link of `labnet compare`:
//!
//! ```
#![doc = include_str!("../../../examples/aimd/controller.rs")]
//!
//! # use std::{sync::Arc, time::Duration};
//! # use labnet::{link::LinkOptions, rudp::congestion::Algorithm};
//! # use labnet::simulation::{Flow, Observers, Simulation};
//! let mut link = LinkOptions::default();
//! link.set_list("rate=20mbit,delay=25ms,queue=125kB").expect("options of a link");
//! let mut simulation = Simulation::new(link, link);
//! simulation.time = Duration::from_secs(3);
//! simulation.flows = vec![Flow::new(Algorithm::NewReno)];
//! // Instead of NewReno.
//! simulation.controllers.insert(0, Arc::new(Aimds));
//! let outcome = simulation.run(Instant::now(), Observers::default()).expect("a link that takes time");
//! let sender = outcome.flows[0].sender.expect("it was connected");
//! assert_eq!(sender.phase, "avoidance");
//! // 3 s at 20 Mbit/s are 7.5 MB.
//! assert!(outcome.flows[0].received > 5_000_000);
//! ```
//!
//! To let users choose it, add it to [`Algorithm`]. In any other language it is a program that
//! `labnet compare --congestion exec:PROGRAM` runs: docs/controllers.md.

mod bbr;
mod cubic;
mod hystart;
mod idle;
#[cfg(test)]
mod inputs;
mod new_reno;
#[cfg(test)]
mod simulator;
mod vegas;

pub use crate::config::{Algorithm, UnknownAlgorithm};
#[doc(inline)]
pub use crate::congestion::{
    Ack, Congestion, Controllers, Delivery, Loss, Lost, Rate, Sent, Start,
};

pub use self::{bbr::Bbr, cubic::Cubic, new_reno::NewReno, vegas::Vegas};
use crate::{congestion::MOST_MTU, watch::event::transport::Reaction};

/// What is left of a window after a reduction, and of what.
fn multiplied(tenths: u8, of: u64, least: u64) -> Reaction {
    Reaction::Multiplied { tenths, of, least }
}

impl Controllers for Algorithm {
    fn name(&self) -> &'static str {
        Self::name(*self)
    }

    fn start(&self, start: &Start) -> Box<dyn Congestion> {
        match self {
            Self::NewReno => Box::new(NewReno::new(start)),
            Self::Cubic => Box::new(Cubic::new(start)),
            Self::Vegas => Box::new(Vegas::new(start)),
            Self::Bbr => Box::new(Bbr::new(start)),
        }
    }
}
