//! A congestion controller in Rust, against labnet's own, in virtual time: `cargo run --example aimd`.
//!
//! The controller is in `controller.rs`. The same one in Python, for `labnet compare --congestion exec:PROGRAM`, is
//! `conf/controllers/aimd.py`.

mod controller;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use controller::Aimds;
use labnet::{
    link::LinkOptions,
    rudp::congestion::Algorithm,
    simulation::{Flow, Observers, Simulation},
};

fn main() -> Result<(), Box<dyn Error>> {
    // What `labnet compare` has for a link unless it is told otherwise.
    let mut link = LinkOptions::default();
    link.set_list("rate=20mbit,delay=25ms,queue=125kB")?;
    println!("{link}, 10 s, one after another");
    for given in [true, false] {
        let mut simulation = Simulation::new(link, link);
        simulation.time = Duration::from_secs(10);
        simulation.seed = 1;
        simulation.flows = vec![Flow::new(Algorithm::NewReno)];
        if given {
            simulation.controllers.insert(0, Arc::new(Aimds));
        }
        let outcome = simulation.run(Instant::now(), Observers::default())?;
        for flow in &outcome.flows {
            let sender = flow.sender.ok_or("there was no connection")?;
            println!(
                "{:>9}: {:.2} Mbit/s, {} packets lost, the window at the end {} bytes ({})",
                if given { "aimd" } else { "new_reno" },
                flow.received as f64 * 8.0 / outcome.elapsed.as_secs_f64() / 1e6,
                sender.packets_lost,
                sender.window,
                sender.phase,
            );
        }
    }
    Ok(())
}
