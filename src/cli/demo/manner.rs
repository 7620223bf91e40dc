//! How the story is told: how fast, and whether it is explained.

use std::{thread, time::Duration};

use console::{Key, Term};

use super::row::Packet;
use crate::cli::explain::{Explainer, Message};

/// How the story is told.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// Explains messages, if that is wanted.
    pub(super) explainer: Option<Explainer>,
    /// What is waited for before each packet.
    pub(super) pause: Pause,
}

/// What is waited for before each packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing.
    #[default]
    None,
    /// So long.
    For(Duration),
    /// A key.
    Key,
}

impl Manner {
    /// Waits; false: the reader wants no more.
    pub(super) fn pause(&self) -> bool {
        match self.pause {
            Pause::None => true,
            Pause::For(time) => {
                thread::sleep(time);
                true
            }
            Pause::Key => {
                let key = Term::stdout().read_key();
                // Ctrl-C, too, is an error: it is one of the terminal's, which waits here.
                !matches!(key, Err(_) | Ok(Key::Char('q') | Key::Escape))
            }
        }
    }

    /// The lines below a packet.
    pub(super) fn explain(&mut self, packet: &Packet) -> Vec<String> {
        let Some(explainer) = &mut self.explainer else {
            return Vec::new();
        };
        explainer.explain(&Message {
            sender: Some(packet.role),
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            reading: &packet.reading,
        })
    }
}
