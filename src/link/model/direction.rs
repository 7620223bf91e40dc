use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Counters, Packet,
    bottleneck::{Bottleneck, Sent},
    codel::CoDel,
    fate::{Dice, Fate},
    policer::TokenBucket,
    red::{Answer, Red},
};
use crate::{
    config::Aqm,
    link::LinkOptions,
    watch::event::link::{
        Congestion, Loss, Observer, Outcome, Overtaken, Passage, Queue, Verdict, Way,
    },
};

/// One direction of a link: a policer, a queue, a rate and a wire.
#[derive(Debug)]
pub struct Direction<P> {
    options: LinkOptions,
    dice: Dice,
    /// The latest time it was told; time does not go back.
    now: Instant,
    /// Black-outs count from here.
    working_since: Instant,
    policer: Option<TokenBucket>,
    manager: Option<Manager>,
    bottleneck: Bottleneck<Travelling<P>>,
    wire: BinaryHeap<Reverse<Flying<P>>>,
    /// When the last packet that keeps the order arrives.
    last_arrival: Instant,
    /// How many have entered the wire, copies included.
    flown: u64,
    /// How many have entered the wire, copies left out.
    originals: u64,
    /// How many of these have come out of it.
    landed: u64,
    /// One more than the highest number delivered.
    next_number: u64,
    /// The memory that packets under way take.
    held: usize,
    counters: Counters,
    /// Who hears the verdicts, and the way that they tell.
    observers: Vec<(Way, Arc<dyn Observer>)>,
}

#[derive(Debug)]
struct Travelling<P> {
    packet: P,
    number: u64,
    fate: Fate,
    offered: Instant,
    /// The queue that it found.
    queue: Queue,
    /// The queue's management marks it.
    marked: Option<Congestion>,
}

/// The queue's management.
#[derive(Debug)]
enum Manager {
    CoDel(CoDel),
    Red(Red),
}

impl Manager {
    fn new(aqm: Aqm) -> Self {
        match aqm {
            Aqm::CoDel => Self::CoDel(CoDel::default()),
            Aqm::Red => Self::Red(Red::default()),
        }
    }
}

#[derive(Debug)]
struct Flying<P> {
    arrival: Instant,
    /// Of two that arrive at once the one that left first is first.
    order: u64,
    /// `None`: a copy.
    original: Option<Original>,
    packet: P,
}

/// A packet on the wire that is no copy.
#[derive(Debug, Clone, Copy)]
struct Original {
    number: u64,
    /// How many of its like entered the wire before it.
    rank: u64,
}

impl<P> Ord for Flying<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.arrival, self.order).cmp(&(other.arrival, other.order))
    }
}

impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P> Eq for Flying<P> {}

/// What the packets under way may take: a long wire at a high rate, and no more than a process can
/// spare.
const MAX_HELD: usize = 128 << 20;
/// About what a packet takes besides its bytes.
const OVERHEAD: usize = 128;

impl<P: Packet> Direction<P> {
    /// A direction that works since `now`.
    pub fn new(options: LinkOptions, seed: u64, now: Instant) -> Self {
        Self {
            options,
            dice: Dice::new(seed),
            now,
            working_since: now,
            policer: options
                .policer
                .map(|policer| TokenBucket::new(policer, now)),
            manager: options.aqm.map(Manager::new),
            bottleneck: Bottleneck::new(),
            wire: BinaryHeap::new(),
            last_arrival: now,
            flown: 0,
            originals: 0,
            landed: 0,
            next_number: 0,
            held: 0,
            counters: Counters::default(),
            observers: Vec::new(),
        }
    }

    /// Has one more hear its verdicts.
    pub(super) fn watch(&mut self, way: Way, observer: Arc<dyn Observer>) {
        self.observers.push((way, observer));
    }

    /// Has this one hear no more.
    pub(super) fn unwatch(&mut self, observer: &Arc<dyn Observer>) {
        self.observers
            .retain(|(_, other)| !Arc::ptr_eq(other, observer));
    }

    /// Its options.
    pub fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// Replaces its options. Packets on the wire arrive when they would have, those in the queue
    /// leave at the new rate, and new packets keep the order behind them. A queue that is too long
    /// now only takes nothing more. A new black-out begins with a time that works, a new policer with
    /// a full bucket, another management of the queue knowing nothing.
    pub fn set_options(&mut self, options: LinkOptions, now: Instant) {
        self.advance(now);
        if options.blackout != self.options.blackout {
            self.working_since = self.now;
        }
        if options.policer != self.options.policer {
            let full = |policer| TokenBucket::new(policer, self.now);
            self.policer = options.policer.map(full);
        }
        if options.aqm != self.options.aqm {
            self.manager = options.aqm.map(Manager::new);
        }
        if options.rate != self.options.rate {
            self.bottleneck.change_rate(options.rate, self.now);
        }
        self.options = options;
    }

    /// Has its dice begin anew.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.dice = Dice::new(seed);
    }

    /// What [`Verdict::number`] will be of the next packet.
    pub fn next_number(&self) -> u64 {
        self.counters.sent
    }

    /// What became of its packets.
    pub fn counters(&self) -> Counters {
        Counters {
            queued_bytes: self.bottleneck.waiting_bytes() as u64,
            ..self.counters
        }
    }

    /// Takes a packet.
    pub fn handle_input(&mut self, packet: P, now: Instant) {
        self.advance(now);
        let size = packet.size();
        let number = self.counters.sent;
        // The dice fall for every packet, so that what the queue drops shifts no other's fate.
        let fate = self.dice.roll(&self.options);
        self.counters.sent += 1;
        self.counters.sent_bytes += size as u64;
        let (rate, limit) = (self.options.rate, self.options.queue_limit());
        let mut travelling = Travelling {
            packet,
            number,
            fate,
            offered: self.now,
            queue: Queue {
                bytes: self.bottleneck.waiting_bytes(),
                limit,
                rate,
            },
            marked: None,
        };
        if let Some(loss) = self.admit(&mut travelling, size) {
            self.lose(&travelling, loss);
            return;
        }
        if !self.hold(size) {
            self.lose(&travelling, Loss::Memory);
            return;
        }
        let offered = self
            .bottleneck
            .offer(travelling, size, rate, limit, self.now);
        if let Err(travelling) = offered {
            self.release(size);
            self.lose(&travelling, Loss::QueueFull);
            return;
        }
        let queued = self.bottleneck.waiting_bytes() as u64;
        self.counters.queued_bytes_max = self.counters.queued_bytes_max.max(queued);
        self.advance(now);
    }

    /// What stands before the queue: tells why a packet does not get into it.
    fn admit(&mut self, travelling: &mut Travelling<P>, size: usize) -> Option<Loss> {
        if let Some(policer) = &mut self.policer
            && let Err(tokens) = policer.take(size, self.now)
        {
            return Some(Loss::Policed { tokens });
        }
        let rate = self.options.rate?;
        match self.manager.as_mut()? {
            Manager::Red(red) => {
                let queue = (travelling.queue.bytes, travelling.queue.limit);
                let answer = red.arrives(self.now, queue, rate, travelling.fate.early);
                let average = red.average();
                let congestion = Congestion::Red { average };
                let marks = self.options.ecn && travelling.packet.is_ect();
                match answer {
                    Answer::Take => {}
                    Answer::Signal if marks => travelling.marked = Some(congestion),
                    Answer::Signal | Answer::Drop => return Some(Loss::Managed(congestion)),
                }
            }
            // It has no queue to leave.
            Manager::CoDel(codel) if self.bottleneck.is_idle() => {
                codel.signals(self.now, Duration::ZERO, 0);
            }
            Manager::CoDel(_) => {}
        }
        None
    }

    /// What leaves the queue next, once `before` has been sent: what CoDel drops does not.
    fn send_next(&mut self, before: &Sent<Travelling<P>>) {
        while let Some((size, mut travelling)) = self.bottleneck.take() {
            let now = before.done;
            if let Some(Manager::CoDel(codel)) = &mut self.manager {
                let sojourn = now - travelling.offered;
                let waiting = self.bottleneck.waiting_bytes();
                if codel.signals(now, sojourn, waiting) {
                    let congestion = Congestion::CoDel { sojourn };
                    if !(self.options.ecn && travelling.packet.is_ect()) {
                        self.release(size);
                        self.lose(&travelling, Loss::Managed(congestion));
                        continue;
                    }
                    travelling.marked = Some(congestion);
                }
            }
            let rate = self.options.rate;
            self.bottleneck.send_after(before, travelling, size, rate);
            return;
        }
        if let Some(Manager::Red(red)) = &mut self.manager {
            red.on_idle(before.done);
        }
    }

    /// Counts a loss and tells of it.
    fn lose(&mut self, travelling: &Travelling<P>, loss: Loss) {
        let lost = &mut self.counters.lost;
        let count = match loss {
            Loss::Random | Loss::Burst { .. } => &mut lost.random,
            Loss::QueueFull => &mut lost.queue,
            Loss::Policed { .. } => &mut lost.policer,
            Loss::Managed(Congestion::CoDel { .. }) => &mut lost.codel,
            Loss::Managed(Congestion::Red { .. }) => &mut lost.red,
            Loss::Blackout => &mut lost.blackout,
            Loss::Memory => &mut lost.memory,
        };
        *count += 1;
        self.tell(travelling, Outcome::Lost(loss));
    }

    /// The next packet that has arrived by `now`, in the order of arrival.
    pub fn poll_output(&mut self, now: Instant) -> Option<P> {
        self.advance(now);
        let Reverse(next) = self.wire.peek()?;
        if next.arrival > self.now {
            return None;
        }
        let Reverse(Flying {
            packet,
            original,
            arrival,
            ..
        }) = self.wire.pop()?;
        let size = packet.size();
        self.release(size);
        self.counters.delivered += 1;
        self.counters.delivered_bytes += size as u64;
        if let Some(original) = original {
            if original.number < self.next_number {
                self.counters.reordered += 1;
                self.tell_overtaken(original, arrival, &packet);
            } else {
                self.next_number = original.number + 1;
            }
            self.landed += 1;
        }
        Some(packet)
    }

    /// When to poll for output again; `None`: not before the next input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrival = self.wire.peek().map(|Reverse(next)| next.arrival);
        self.bottleneck.timeout().into_iter().chain(arrival).min()
    }

    /// Lets time pass: what has been sent by `now` goes onto the wire.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(sent) = self.bottleneck.poll(self.now) {
            self.send_next(&sent);
            self.fly(sent);
        }
    }

    /// Puts onto the wire what has been sent, or loses it.
    fn fly(&mut self, sent: Sent<Travelling<P>>) {
        let Sent {
            item: mut travelling,
            started,
            done,
            ..
        } = sent;
        let fate = travelling.fate;
        let size = travelling.packet.size();
        let blackout = self.options.blackout;
        let lost = if let Some(nth) = fate.lost {
            Some(match self.options.burst {
                Some(_) if nth > 1 => Loss::Burst { nth },
                _ => Loss::Random,
            })
        } else if blackout.is_some_and(|blackout| blackout.is_dark(self.working_since, done)) {
            Some(Loss::Blackout)
        } else {
            None
        };
        if let Some(loss) = lost {
            self.release(size);
            self.lose(&travelling, loss);
            return;
        }
        let travelled = self.options.travel_time(fate.shift);
        let in_order = (done + travelled).max(self.last_arrival);
        let held_back = if fate.held_back {
            self.options.held_back_by()
        } else {
            self.last_arrival = in_order;
            Duration::ZERO
        };
        let arrival = in_order + held_back;
        let mut copy = (fate.duplicated && self.hold(size)).then(|| travelling.packet.clone());
        // The verdict shows the payload as it was.
        let intact = (fate.damage.is_some() && !self.observers.is_empty())
            .then(|| travelling.packet.clone());
        let corrupted = fate
            .damage
            .and_then(|damage| travelling.packet.take(damage));
        self.counters.corrupted += u64::from(corrupted.is_some());
        let damaged = intact.map(|intact| std::mem::replace(&mut travelling.packet, intact));
        let passage = Passage {
            arrives: arrival,
            queued: started - travelling.offered,
            sending: done - started,
            delay: self.options.travel_time(0.0),
            travelled,
            kept_behind: in_order - (done + travelled),
            held_back,
            marked: travelling.marked,
            corrupted,
            duplicated: copy.is_some(),
        };
        self.tell(&travelling, Outcome::Delivered(passage));
        let Travelling {
            packet,
            number,
            marked,
            ..
        } = travelling;
        let mut packet = damaged.unwrap_or(packet);
        if marked.is_some() {
            // Only now: the verdict shows it as it was handed in.
            self.counters.marked += 1;
            packet.set_ce();
            copy.iter_mut().for_each(P::set_ce);
        }
        let original = Original {
            number,
            rank: self.originals,
        };
        self.originals += 1;
        self.land(packet, Some(original), arrival);
        if let Some(copy) = copy {
            self.counters.duplicated += 1;
            self.land(copy, None, arrival);
        }
    }

    /// Tells who listens what becomes of a packet.
    fn tell(&self, travelling: &Travelling<P>, outcome: Outcome) {
        for (way, observer) in &self.observers {
            observer.on_verdict(&Verdict {
                way: *way,
                number: travelling.number,
                offered: travelling.offered,
                size: travelling.packet.size(),
                payload: travelling.packet.payload(),
                peer: travelling.packet.peer(),
                queue: travelling.queue,
                outcome,
            });
        }
    }

    /// Tells who listens how many have overtaken a packet that comes out now.
    fn tell_overtaken(&self, original: Original, arrived: Instant, packet: &P) {
        if self.observers.is_empty() {
            return;
        }
        // Packets enter the wire in the order of their numbers: of all that have come out those are
        // ahead of it unduly that are not of the ones before it.
        let before = self.wire.iter().filter(|Reverse(flying)| {
            flying
                .original
                .is_some_and(|other| other.number < original.number)
        });
        let came_in_order = original.rank - before.count() as u64;
        for (way, observer) in &self.observers {
            observer.on_overtaken(&Overtaken {
                way: *way,
                number: original.number,
                arrived,
                packets: self.landed - came_in_order,
                payload: packet.payload(),
                peer: packet.peer(),
            });
        }
    }

    fn land(&mut self, packet: P, original: Option<Original>, arrival: Instant) {
        self.wire.push(Reverse(Flying {
            arrival,
            order: self.flown,
            original,
            packet,
        }));
        self.flown += 1;
    }

    /// Takes memory for a packet, if there is any.
    fn hold(&mut self, size: usize) -> bool {
        let held = self.held.saturating_add(size).saturating_add(OVERHEAD);
        let fits = held <= MAX_HELD;
        if fits {
            self.held = held;
            self.counters.under_way += 1;
        }
        fits
    }

    fn release(&mut self, size: usize) {
        self.held -= size + OVERHEAD;
        self.counters.under_way -= 1;
    }
}

#[cfg(test)]
mod tests;
