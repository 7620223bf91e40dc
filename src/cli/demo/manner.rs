//! How the story is told: how fast, and whether it is explained.

use std::{thread, time::Duration};

use console::{Key, Term};

use super::{row::Packet, table::translated};
use crate::cli::explain::{Explainer, Message, arp::Arp};

/// How the story is told.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// Explains messages, if that is wanted.
    pub(super) explainer: Option<Explainer>,
    /// What is waited for before each packet.
    pub(super) pause: Pause,
    /// Whether there is a NAT between the client and the servers.
    pub(super) behind_nat: bool,
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
            here: (packet.seen).and_then(|seen| translated(packet, &seen)),
        })
    }

    /// The lines below an ARP frame.
    pub(super) fn explain_arp(&mut self, arp: &Arp) -> Vec<String> {
        let explainer = self.explainer.as_mut();
        explainer.map_or_else(Vec::new, |explainer| explainer.explain_arp(arp))
    }
}
