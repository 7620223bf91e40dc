//! What the tests of the controllers share: plain inputs, and a sender over one bottleneck in
//! virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Ack, Congestion, Delivery, Loss, Sent, Start};

pub(super) const MTU: u64 = 1200;
const RTT: Duration = Duration::from_millis(50);
/// How long a receiver waits for a second packet to acknowledge.
const ACK_DELAY: Duration = Duration::from_millis(25);

pub(super) fn start(now: Instant) -> Start {
    Start {
        now,
        mtu: MTU,
        rtt: None,
        initial_window: None,
        seed: 1,
    }
}

pub(super) fn ack(now: Instant, largest: u64, bytes: u64) -> Ack {
    Ack {
        now,
        bytes,
        largest,
        largest_sent_at: now,
        next_packet: largest + 1,
        prior_in_flight: bytes,
        in_flight: 0,
        lost: 0,
        app_limited: false,
        rtt: Some(RTT),
        smoothed_rtt: RTT,
        min_rtt: RTT,
        delivery: Delivery::default(),
    }
}

pub(super) fn loss(now: Instant, largest: u64, next_packet: u64) -> Loss {
    Loss {
        now,
        bytes: MTU,
        largest,
        largest_sent_at: now,
        in_flight: 0,
        next_packet,
        persistent: false,
        ecn: false,
    }
}

pub(super) fn sent(now: Instant, in_flight: u64, app_limited: bool) -> Sent {
    Sent {
        now,
        packet: 0,
        bytes: MTU,
        in_flight,
        app_limited,
    }
}

/// A bottleneck with a queue, a delay, and chance loss both ways.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Bytes that wait at most.
    pub(super) queue: u64,
    /// The chance of a loss, by the time since the start.
    pub(super) loss: fn(Duration) -> f64,
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// Bytes acknowledged.
    pub(super) delivered: u64,
    /// When the last of them was.
    pub(super) elapsed: Duration,
    /// The mean round trip over the second half.
    pub(super) late_rtt: Duration,
    pub(super) reductions: u64,
}

impl Outcome {
    /// Megabits a second.
    pub(super) fn mbit(&self) -> f64 {
        self.delivered as f64 * 8e-6 / self.elapsed.as_secs_f64()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(u64),
    DelayedAck(usize),
    /// So many arrivals are acknowledged.
    Ack(usize),
    Send,
    Probe(u64),
}

struct Run<'a> {
    path: Path,
    controller: &'a mut dyn Congestion,
    rng: Pcg64Mcg,
    begin: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    link_free: Instant,
    arrivals: Vec<u64>,
    told: usize,
    heard: usize,
    flying: BTreeMap<u64, Instant>,
    next_packet: u64,
    largest: u64,
    paced_until: Instant,
    smoothed: Duration,
    min_rtt: Duration,
    probes: u32,
    probe_id: u64,
    rtts: (Duration, u32),
    outcome: Outcome,
}

impl Path {
    /// Sends for this long, or until this many bytes are acknowledged.
    pub(super) fn run(
        self,
        controller: &mut dyn Congestion,
        most: Duration,
        bytes: u64,
    ) -> Outcome {
        let begin = Instant::now();
        let mut run = Run {
            path: self,
            controller,
            rng: Pcg64Mcg::seed_from_u64(self.seed),
            begin,
            now: begin,
            events: BinaryHeap::from([Reverse((begin, Event::Send))]),
            link_free: begin,
            arrivals: Vec::new(),
            told: 0,
            heard: 0,
            flying: BTreeMap::new(),
            next_packet: 0,
            largest: 0,
            paced_until: begin,
            smoothed: self.rtt,
            min_rtt: self.rtt,
            probes: 0,
            probe_id: 0,
            rtts: (Duration::ZERO, 0),
            outcome: Outcome {
                delivered: 0,
                elapsed: most,
                late_rtt: Duration::ZERO,
                reductions: 0,
            },
        };
        while let Some(Reverse((now, event))) = run.events.pop() {
            if now > begin + most || run.outcome.delivered >= bytes {
                break;
            }
            run.now = now;
            run.step(event, now > begin + most / 2);
        }
        if run.outcome.delivered >= bytes {
            run.outcome.elapsed = run.now - begin;
        }
        run.outcome.late_rtt = run.rtts.0 / run.rtts.1.max(1);
        run.outcome
    }
}

impl Run<'_> {
    fn at(&mut self, time: Instant, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn lost(&mut self) -> bool {
        self.rng.random::<f64>() < (self.path.loss)(self.now - self.begin)
    }

    fn step(&mut self, event: Event, late: bool) {
        match event {
            Event::Arrival(packet) => {
                let gap = self.arrivals.last().is_some_and(|last| packet != last + 1);
                self.arrivals.push(packet);
                if gap || self.arrivals.len() >= self.told + 2 {
                    self.acknowledge();
                } else {
                    let wait = self.now + ACK_DELAY;
                    self.at(wait, Event::DelayedAck(self.arrivals.len()));
                }
            }
            Event::DelayedAck(arrived) if self.told < arrived => self.acknowledge(),
            Event::Ack(arrived) if self.heard < arrived => self.hear(arrived, late),
            Event::Send if self.now >= self.paced_until => self.send(),
            Event::Probe(id) if id == self.probe_id => {
                self.probes += 1;
                self.controller.on_idle_restart(self.now);
                self.transmit();
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self) {
        self.told = self.arrivals.len();
        if !self.lost() {
            let arrival = self.now + self.path.rtt / 2;
            self.at(arrival, Event::Ack(self.told));
        }
    }

    fn send(&mut self) {
        while (self.flying.len() as u64 + 1) * MTU <= self.controller.window() {
            let rate = self.controller.pacing_rate().unwrap_or_else(|| {
                let gain = if self.controller.in_slow_start() {
                    2.0
                } else {
                    1.25
                };
                (gain * self.controller.window() as f64 / self.smoothed.as_secs_f64()) as u64
            });
            self.transmit();
            self.paced_until = self.now + Duration::from_secs_f64(MTU as f64 / rate as f64);
            if self.paced_until > self.now {
                return self.at(self.paced_until, Event::Send);
            }
        }
    }

    fn transmit(&mut self) {
        let packet = self.next_packet;
        self.next_packet += 1;
        self.controller.on_sent(&Sent {
            packet,
            ..sent(self.now, self.flying.len() as u64 * MTU, false)
        });
        self.flying.insert(packet, self.now);
        self.arm();
        let queued = (self.link_free.saturating_duration_since(self.now)).as_secs_f64()
            * self.path.rate as f64;
        if queued > self.path.queue as f64 || self.lost() {
            return;
        }
        let took = Duration::from_secs_f64(MTU as f64 / self.path.rate as f64);
        self.link_free = self.link_free.max(self.now) + took;
        let arrival = self.link_free + self.path.rtt / 2;
        self.at(arrival, Event::Arrival(packet));
    }

    fn probe_timeout(&self) -> Duration {
        self.smoothed * 3 / 2 + ACK_DELAY
    }

    fn arm(&mut self) {
        self.probe_id += 1;
        let timeout = self.probe_timeout() * 2_u32.pow(self.probes.min(10));
        self.at(self.now + timeout, Event::Probe(self.probe_id));
    }

    fn hear(&mut self, arrived: usize, late: bool) {
        let prior = self.flying.len() as u64 * MTU;
        let new: Vec<u64> = self.arrivals[self.heard..arrived].to_vec();
        self.heard = arrived;
        let mut acked = 0;
        let mut newest = None;
        for packet in new {
            if let Some(sent_at) = self.flying.remove(&packet) {
                acked += 1;
                newest = newest.max(Some((packet, sent_at)));
            }
        }
        let Some((largest, sent_at)) = newest else {
            return;
        };
        self.probes = 0;
        self.largest = self.largest.max(largest);
        let rtt = self.now - sent_at;
        self.min_rtt = self.min_rtt.min(rtt);
        self.smoothed = (self.smoothed * 7 + rtt) / 8;
        if late {
            self.rtts = (self.rtts.0 + rtt, self.rtts.1 + 1);
        }
        self.lose();
        self.outcome.delivered += acked * MTU;
        self.controller.on_ack(&Ack {
            largest_sent_at: sent_at,
            next_packet: self.next_packet,
            prior_in_flight: prior,
            in_flight: self.flying.len() as u64 * MTU,
            rtt: Some(rtt),
            smoothed_rtt: self.smoothed,
            min_rtt: self.min_rtt,
            ..ack(self.now, largest, acked * MTU)
        });
        self.arm();
        self.at(self.now.max(self.paced_until), Event::Send);
    }

    fn lose(&mut self) {
        let gone: Vec<_> = self
            .flying
            .range(..self.largest.saturating_sub(2))
            .map(|(packet, sent_at)| (*packet, *sent_at))
            .collect();
        let (Some(first), Some(last)) = (gone.first(), gone.last()) else {
            return;
        };
        for (packet, _) in &gone {
            self.flying.remove(packet);
        }
        let before = self.controller.window();
        self.controller.on_congestion(&Loss {
            bytes: gone.len() as u64 * MTU,
            largest_sent_at: last.1,
            in_flight: self.flying.len() as u64 * MTU,
            persistent: last.1 - first.1 > 3 * self.probe_timeout(),
            ..loss(self.now, last.0, self.next_packet)
        });
        self.outcome.reductions += u64::from(self.controller.window() < before);
    }
}
