//! One run: senders over one link.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{amount::Amount, change::Change};
use crate::{
    compare::{
        files::Files,
        place::Place,
        recorder::FlowRecord,
        sender::{Sender, Transport},
    },
    config::LinkOptions,
    rudp::connection::Config,
};

/// One run: senders over one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Who sends, at the same time.
    pub senders: Vec<Sender>,
    /// Where those of the senders are, by their number, that are not where the others are.
    pub places: BTreeMap<usize, Place>,
    /// So many packets are sent before the first acknowledgement; `None`: as each sender has it.
    pub initial_window: Option<u16>,
    /// What happens to packets to the sender: requests and acknowledgements.
    pub up: LinkOptions,
    /// What happens to packets from the sender.
    pub down: LinkOptions,
    /// How the link changes.
    pub changes: Vec<Change>,
    /// How much each sends.
    pub amount: Amount,
    /// In so many files of one size, at once.
    pub files: u64,
    /// Decides every packet's fate.
    pub seed: u64,
    /// The value of what is swept.
    pub point: Option<String>,
    /// The how-manieth time it is run, from 0.
    pub repetition: u32,
}

impl Run {
    /// Whether something of it is carried by this.
    pub fn has(&self, transport: Transport) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| sender.transport() == transport)
    }

    /// What is to be written down of its flow of this number; `start` is the run's.
    pub fn record(&self, number: usize, start: Instant, until: Option<Instant>) -> FlowRecord {
        let record = FlowRecord::new(start, until);
        if self.files > 1 {
            let away = self.place(number).away;
            let round_trip = self.up.delay + self.down.delay + 2 * away;
            let count = usize::try_from(self.files).unwrap_or(usize::MAX);
            record.begin_files(Files::new(count, round_trip));
        }
        record
    }

    /// Its time, if it has one.
    pub fn time(&self) -> Option<Duration> {
        match self.amount {
            Amount::Time(time) => Some(time),
            Amount::Size(_) => None,
        }
    }

    /// Where a sender's receiver is, and when it begins.
    pub fn place(&self, sender: usize) -> Place {
        self.places.get(&sender).copied().unwrap_or_default()
    }

    /// Each sender's name, with its place, and with a number if there are several of the kind.
    pub fn names(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let name = |(number, sender): (usize, &Sender)| {
            let name = format!("{sender}{}", self.place(number));
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            match *count {
                1 => name,
                count => format!("{name} {count}"),
            }
        };
        self.senders.iter().enumerate().map(name).collect()
    }

    /// The initial window in bytes of datagrams that fill an Ethernet's packets.
    pub fn initial_window_bytes(&self) -> Option<u64> {
        let packets = self.initial_window.map(u64::from);
        packets.map(|packets| packets * u64::from(Config::ETHERNET_IPV4))
    }
}
