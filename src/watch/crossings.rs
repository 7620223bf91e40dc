//! What links did to packets that a capture holds: packets wait until it is known.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    event::{
        hub::{Batch, Event, Other},
        link::Crossing,
        packet::Packet,
    },
    fates::Fate,
};

/// So many verdicts are remembered. There has to be an end: a packet that the link loses comes to no socket, and so
/// nobody ever asks for its verdict.
const REMEMBERED: usize = 1 << 17;
/// A packet waits no longer for its link's verdict, which comes once the packet has left the link's queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// Packets that wait take no more memory than this.
const MOST_WAITING: usize = 16 << 20;

/// The verdicts of the process's links, by packet.
#[derive(Debug, Default)]
pub struct Crossings {
    known: HashMap<Crossing, Fate>,
    /// The oldest first.
    order: VecDeque<Crossing>,
}

impl Crossings {
    /// Takes the verdicts of a batch.
    pub fn learn(&mut self, batch: &Batch) {
        for event in batch.events() {
            let Event::Other(event) = event else {
                continue;
            };
            match event {
                Other::Verdict(judged) => {
                    let crossing = judged.crossing();
                    if self
                        .known
                        .insert(crossing, Fate::of(&judged.verdict))
                        .is_none()
                    {
                        self.order.push_back(crossing);
                    }
                }
                Other::Overtaken {
                    crossing, packets, ..
                } => {
                    if let Some(fate) = self.known.get_mut(&crossing) {
                        fate.overtaken_by = packets;
                    }
                }
                Other::Step { .. } | Other::Life { .. } => {}
            }
        }
        while self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// What a link did to a packet, if the packet has crossed a link and the link has told.
    pub fn of(&self, packet: &Packet<'_>) -> Option<&Fate> {
        self.known.get(&packet.crossing?)
    }

    fn has_all(&self, batch: &Batch) -> bool {
        batch
            .packets()
            .all(|packet| packet.crossing.is_none() || self.of(&packet).is_some())
    }
}

/// Batches that wait for the links' verdicts on their packets.
#[derive(Debug, Default)]
pub struct Waiting {
    crossings: Crossings,
    batches: VecDeque<(Instant, Batch)>,
    bytes: usize,
}

impl Waiting {
    /// Takes another batch.
    pub fn put(&mut self, batch: Batch, now: Instant) {
        self.crossings.learn(&batch);
        self.bytes += batch.size();
        self.batches.push_back((now, batch));
    }

    /// The next batch: once the fates of all its packets are known, the batch has waited for long enough, or the
    /// caller wants everything `at_once`.
    pub fn next(&mut self, at_once: bool, now: Instant) -> Option<Batch> {
        let (since, batch) = self.batches.front()?;
        let waits = !at_once
            && self.bytes <= MOST_WAITING
            && now.saturating_duration_since(*since) < PATIENCE
            && !self.crossings.has_all(batch);
        if waits {
            return None;
        }
        let (_, batch) = self.batches.pop_front()?;
        self.bytes -= batch.size();
        Some(batch)
    }

    /// The verdicts that have come so far.
    pub fn crossings(&self) -> &Crossings {
        &self.crossings
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::watch::event::{
        hub::{self, Wants},
        link::{LinkPlace, Loss, Outcome, Queue, Verdict, Way},
        packet::{self, Carrier, Label, Place, Protocol, Role},
    };

    const LINK: LinkPlace = LinkPlace {
        link: u64::MAX,
        is_servers: true,
    };

    fn tell(number: u64, now: Instant) {
        let verdict = Verdict {
            way: Way::Down,
            number,
            offered: now,
            size: 100,
            payload: b"whatever",
            peer: None,
            queue: Queue {
                bytes: 0,
                limit: 0,
                rate: None,
            },
            outcome: Outcome::Lost(Loss::Random),
        };
        hub::raise_verdict(LINK, &verdict);
    }

    #[test]
    fn packets_wait_for_their_link_s_verdict_and_not_for_ever() {
        let place = Place {
            label: Label::new(Role::Rudp, Protocol::Rudp),
            carrier: Carrier::Udp,
            local: ([127, 0, 0, 1], 77).into(),
            remote: ([127, 0, 0, 2], 77).into(),
        };
        let observer = hub::subscribe(Wants {
            peers: BTreeSet::from([place.remote]),
            verdicts: true,
            ..Wants::default()
        });
        let mut waiting = Waiting::default();
        let now = Instant::now();
        let take = |waiting: &mut Waiting| {
            let mut batch = Batch::default();
            observer.read(&mut batch, Duration::ZERO);
            waiting.put(batch, now);
        };
        let next = {
            let send = |crossing: Option<Crossing>| {
                let payload = b"a packet";
                hub::raise_crossed(&place, packet::Fate::Sent, payload, crossing);
            };
            move |number: Option<u64>| send(number.map(|n| LINK.crossing(Way::Down, n)))
        };
        // A packet that has crossed no link comes at once.
        next(None);
        take(&mut waiting);
        assert!(waiting.next(false, now).is_some());
        // A packet that has crossed a link waits for the verdict, and so do all packets behind it.
        next(Some(4));
        take(&mut waiting);
        next(None);
        take(&mut waiting);
        assert!(waiting.next(false, now).is_none());
        tell(4, now);
        take(&mut waiting);
        let batch = waiting.next(false, now).expect("told");
        let packet = batch.packets().next().expect("one");
        let fate = waiting.crossings().of(&packet).expect("known");
        assert_eq!(fate.outcome, Outcome::Lost(Loss::Random));
        while waiting.next(false, now).is_some() {}
        // One packet whose verdict never comes, and one whose batch is wanted at once.
        next(Some(5));
        take(&mut waiting);
        assert!(waiting.next(false, now).is_none());
        let batch = waiting.next(false, now + PATIENCE).expect("long enough");
        let packet = batch.packets().next().expect("one");
        assert!(waiting.crossings().of(&packet).is_none());
        next(Some(6));
        take(&mut waiting);
        assert!(waiting.next(true, now).is_some());
    }
}
