//! Senders that share one bottleneck, in virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::{Ack, Congestion, Delivery, Loss, Lost, Rate, Sent};

pub(super) const MTU: u64 = 1472;
/// More bytes than any test sends.
pub(super) const ENDLESS: u64 = 1 << 40;
/// What a datagram takes of the link besides its payload.
const HEADERS: u64 = 28;

/// The path.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// Bytes a second.
    pub(super) rate: u64,
    /// There and back.
    pub(super) rtt: Duration,
    /// Bytes.
    pub(super) queue: u64,
    /// Random loss in either direction, behind the bottleneck.
    pub(super) loss: f64,
    /// From then on none.
    pub(super) loss_ends: Duration,
    /// A bucket of so many bytes polices to `rate` instead of a queue.
    pub(super) bucket: Option<u64>,
    /// Arrivals are reported only at multiples of this.
    pub(super) ack_every: Duration,
    /// A random delay of each acknowledgement.
    pub(super) jitter: Duration,
    /// The sender's timer is no finer than this.
    pub(super) timer: Duration,
    /// From these times on other values hold: rate and round trip.
    pub(super) changes: Vec<(Duration, u64, Duration)>,
}

impl Path {
    pub(super) fn new(mbit: u64, rtt_ms: u64) -> Self {
        let rate = mbit * 125_000;
        Self {
            rate,
            rtt: Duration::from_millis(rtt_ms),
            queue: rate * rtt_ms / 1000,
            loss: 0.0,
            loss_ends: Duration::MAX,
            bucket: None,
            ack_every: Duration::ZERO,
            jitter: Duration::ZERO,
            timer: Duration::from_millis(1),
            changes: Vec::new(),
        }
    }
}

/// A sender of `bytes`, alone for so long or until it is done.
pub(super) fn alone<C: Congestion>(
    path: Path,
    seed: u64,
    control: C,
    bytes: u64,
    time: Duration,
) -> Flow<C> {
    let mut simulator = Simulator::new(path, seed);
    simulator.add(control, bytes, Duration::ZERO);
    simulator.run(time, |simulator| simulator.flows[0].done_at.is_some());
    simulator.flows.remove(0)
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    at: Instant,
    bytes: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    tx_in_flight: u64,
    lost: u64,
    app_limited: bool,
    outstanding: bool,
}

/// A sender.
#[derive(Debug)]
pub(super) struct Flow<C> {
    pub(super) control: C,
    /// Bytes still to send.
    pub(super) backlog: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) in_flight: u64,
    pub(super) done_at: Option<Instant>,
    starts: Instant,
    packets: Vec<Packet>,
    unresolved: usize,
    arrived: Vec<usize>,
    reported: usize,
    largest: Option<usize>,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited_until: u64,
    pub(super) smoothed: Option<Duration>,
    variance: Duration,
    least: Duration,
    latest: Duration,
    tokens: f64,
    tokens_at: Instant,
    wake: Option<Instant>,
    timer: Option<Instant>,
    pto_count: u32,
    ack_due: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Event {
    Wake(usize),
    Timer(usize),
    Dequeue,
    Arrive(usize, usize),
    Report(usize),
    Ack(usize, usize),
}

pub(super) struct Simulator<C> {
    pub(super) path: Path,
    pub(super) flows: Vec<Flow<C>>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) peak_queue: u64,
    rng: Pcg64Mcg,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    order: u64,
    queue: VecDeque<(usize, usize, u64)>,
    pub(super) queued: u64,
    sending: bool,
    tokens: f64,
    tokens_at: Instant,
}

impl<C: Congestion> Simulator<C> {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        let start = Instant::now();
        Self {
            tokens: path.bucket.unwrap_or(0) as f64,
            path,
            flows: Vec::new(),
            start,
            now: start,
            peak_queue: 0,
            rng: Pcg64Mcg::new(u128::from(seed) * 2 + 1 + (1 << 70)),
            events: BinaryHeap::new(),
            order: 0,
            queue: VecDeque::new(),
            queued: 0,
            sending: false,
            tokens_at: start,
        }
    }

    /// A sender of `bytes` that begins `after` the start.
    pub(super) fn add(&mut self, control: C, bytes: u64, after: Duration) {
        let starts = self.start + after;
        self.flows.push(Flow {
            control,
            backlog: bytes,
            delivered: 0,
            lost: 0,
            in_flight: 0,
            done_at: None,
            starts,
            packets: Vec::new(),
            unresolved: 0,
            arrived: Vec::new(),
            reported: 0,
            largest: None,
            delivered_at: starts,
            first_sent_at: starts,
            app_limited_until: 0,
            smoothed: None,
            variance: Duration::ZERO,
            least: Duration::MAX,
            latest: Duration::ZERO,
            tokens: 0.0,
            tokens_at: starts,
            wake: None,
            timer: None,
            pto_count: 0,
            ack_due: None,
        });
        self.push(starts, Event::Wake(self.flows.len() - 1));
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    /// Runs until `until` after the start or until `stop` says so.
    pub(super) fn run(&mut self, until: Duration, mut stop: impl FnMut(&Self) -> bool) -> bool {
        let end = self.start + until;
        while let Some(&Reverse((at, _, event))) = self.events.peek() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            while let Some(&(when, rate, rtt)) = self.path.changes.first()
                && self.start + when <= at
            {
                self.path.changes.remove(0);
                self.path.rate = rate;
                self.path.rtt = rtt;
            }
            self.handle(event);
            if stop(self) {
                return true;
            }
        }
        self.now = end;
        false
    }

    /// How fair the sharing was: Jain's index of what arrived.
    pub(super) fn jain(&self) -> f64 {
        let shares = self.flows.iter().map(|flow| flow.delivered as f64);
        let sum: f64 = shares.clone().sum();
        let squares: f64 = shares.map(|share| share * share).sum();
        sum * sum / (self.flows.len() as f64 * squares)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(flow) => {
                if self.flows[flow].wake.is_none_or(|at| at <= self.now) {
                    self.flows[flow].wake = None;
                    self.send(flow);
                }
            }
            Event::Timer(flow) => self.on_timer(flow),
            Event::Dequeue => self.dequeue(),
            Event::Arrive(flow, number) => {
                self.flows[flow].arrived.push(number);
                if self.flows[flow].ack_due.is_none() {
                    let every = self.path.ack_every;
                    let due = match every.is_zero() {
                        true => self.now,
                        false => {
                            let elapsed = (self.now - self.start).as_nanos();
                            let next = (elapsed / every.as_nanos() + 1) * every.as_nanos();
                            self.start + Duration::from_nanos(next as u64)
                        }
                    };
                    self.flows[flow].ack_due = Some(due);
                    self.push(due, Event::Report(flow));
                }
            }
            Event::Report(flow) => {
                self.flows[flow].ack_due = None;
                let arrived = self.flows[flow].arrived.len();
                if !self.is_lost() {
                    let jitter = self.path.jitter.mul_f64(self.rng.random_range(0.0..1.0));
                    let at = self.now + self.path.rtt / 2 + jitter;
                    self.push(at, Event::Ack(flow, arrived));
                }
            }
            Event::Ack(flow, arrived) => self.on_ack(flow, arrived),
        }
    }

    fn send(&mut self, index: usize) {
        loop {
            let now = self.now;
            let flow = &mut self.flows[index];
            if flow.backlog == 0 {
                if flow.in_flight < flow.control.window() {
                    flow.app_limited_until = flow.delivered + flow.in_flight.max(1);
                }
                return;
            }
            if flow.in_flight + MTU > flow.control.window() {
                return;
            }
            let smoothed = flow.smoothed.unwrap_or(Duration::from_millis(50));
            let rate = flow.control.pacing_rate().map_or_else(
                || flow.control.window() as f64 * 1.25 / smoothed.as_secs_f64(),
                |rate| rate as f64,
            );
            let capacity = (rate * 0.001).max(2.0 * MTU as f64);
            let since = now.saturating_duration_since(flow.tokens_at).as_secs_f64();
            flow.tokens = (flow.tokens + rate * since).min(capacity);
            flow.tokens_at = now;
            let bytes = flow.backlog.min(MTU);
            if flow.tokens < bytes as f64 {
                let wait = Duration::from_secs_f64((bytes as f64 - flow.tokens) / rate);
                let at = now + wait.max(self.path.timer);
                if flow.wake.is_none() {
                    flow.wake = Some(at);
                    self.push(at, Event::Wake(index));
                }
                return;
            }
            flow.tokens -= bytes as f64;
            self.transmit(index, bytes);
        }
    }

    fn transmit(&mut self, index: usize, bytes: u64) {
        let now = self.now;
        let flow = &mut self.flows[index];
        if flow.in_flight == 0 {
            flow.first_sent_at = now;
            flow.delivered_at = now;
        }
        let number = flow.packets.len();
        let app_limited = flow.delivered < flow.app_limited_until;
        flow.control.on_sent(&Sent {
            now,
            packet: number as u64,
            bytes,
            in_flight: flow.in_flight,
            app_limited: flow.in_flight == 0 && app_limited,
        });
        flow.backlog -= bytes.min(flow.backlog);
        flow.in_flight += bytes;
        flow.packets.push(Packet {
            at: now,
            bytes,
            delivered: flow.delivered,
            delivered_at: flow.delivered_at,
            first_sent_at: flow.first_sent_at,
            tx_in_flight: flow.in_flight,
            lost: flow.lost,
            app_limited,
            outstanding: true,
        });
        self.arm(index);
        let size = bytes + HEADERS;
        if let Some(depth) = self.path.bucket {
            let since = (now - self.tokens_at).as_secs_f64();
            self.tokens = (self.tokens + since * self.path.rate as f64).min(depth as f64);
            self.tokens_at = now;
            if self.tokens >= size as f64 {
                self.tokens -= size as f64;
                self.fly(index, number);
            }
        } else if self.queued + size <= self.path.queue {
            self.queued += size;
            self.peak_queue = self.peak_queue.max(self.queued);
            self.queue.push_back((index, number, size));
            if !self.sending {
                self.sending = true;
                self.push(now + self.serial(size), Event::Dequeue);
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.random_bool(self.path.loss) && self.now - self.start < self.path.loss_ends
    }

    fn serial(&self, size: u64) -> Duration {
        Duration::from_secs_f64(size as f64 / self.path.rate as f64)
    }

    fn fly(&mut self, flow: usize, number: usize) {
        if !self.is_lost() {
            let at = self.now + self.path.rtt / 2;
            self.push(at, Event::Arrive(flow, number));
        }
    }

    fn dequeue(&mut self) {
        let Some((flow, number, size)) = self.queue.pop_front() else {
            return;
        };
        self.queued -= size;
        self.fly(flow, number);
        match self.queue.front() {
            Some(&(_, _, size)) => self.push(self.now + self.serial(size), Event::Dequeue),
            None => self.sending = false,
        }
    }

    fn arm(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let smoothed = flow.smoothed.unwrap_or(Duration::from_millis(333));
        let due = now
            + (smoothed + 4 * flow.variance + Duration::from_millis(25))
                * (1 << flow.pto_count.min(6));
        flow.timer = Some(due);
        if flow.packets.len() % 64 == 1 || flow.pto_count > 0 {
            self.push(due, Event::Timer(index));
        }
    }

    fn on_timer(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let Some(due) = flow.timer else { return };
        if due > now {
            self.push(due, Event::Timer(index));
            return;
        }
        flow.timer = None;
        if flow.in_flight == 0 {
            return;
        }
        flow.pto_count += 1;
        flow.control.on_idle_restart(now);
        self.transmit(index, MTU);
        self.transmit(index, MTU);
    }

    fn on_ack(&mut self, index: usize, arrived: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let prior_in_flight = flow.in_flight;
        let mut newest: Option<usize> = None;
        let mut bytes = 0;
        for at in flow.reported..arrived {
            let number = flow.arrived[at];
            let packet = &mut flow.packets[number];
            if !packet.outstanding {
                continue;
            }
            packet.outstanding = false;
            bytes += packet.bytes;
            flow.in_flight -= packet.bytes;
            flow.delivered += packet.bytes;
            newest = newest.max(Some(number));
        }
        flow.reported = flow.reported.max(arrived);
        let Some(newest) = newest else { return };
        flow.delivered_at = now;
        flow.largest = flow.largest.max(Some(newest));
        flow.pto_count = 0;
        let packet = flow.packets[newest];
        let rtt = now - packet.at;
        flow.latest = rtt;
        flow.least = flow.least.min(rtt);
        match flow.smoothed {
            None => {
                flow.smoothed = Some(rtt);
                flow.variance = rtt / 2;
            }
            Some(smoothed) => {
                flow.variance = flow.variance * 3 / 4 + smoothed.abs_diff(rtt) / 4;
                flow.smoothed = Some(smoothed * 7 / 8 + rtt / 8);
            }
        }
        let send_elapsed = packet.at.saturating_duration_since(packet.first_sent_at);
        let ack_elapsed = now.saturating_duration_since(packet.delivered_at);
        flow.first_sent_at = packet.at;
        let interval = send_elapsed.max(ack_elapsed);
        let delivered = flow.delivered - packet.delivered;
        let rate =
            (interval >= flow.least).then(|| (delivered as f64 / interval.as_secs_f64()) as u64);

        let largest = flow.largest.unwrap_or(newest);
        let mut lost = 0;
        let mut last_lost = None;
        while flow.unresolved < flow.packets.len() {
            let number = flow.unresolved;
            let late = flow.smoothed.unwrap_or(rtt).max(rtt) * 9 / 8;
            if flow.packets[number].outstanding
                && (number > largest
                    || (number + 3 > largest && now < flow.packets[number].at + late))
            {
                break;
            }
            flow.unresolved += 1;
            if !flow.packets[number].outstanding {
                continue;
            }
            let packet = &mut flow.packets[number];
            packet.outstanding = false;
            let packet = *packet;
            flow.in_flight -= packet.bytes;
            flow.lost += packet.bytes;
            flow.backlog += packet.bytes;
            lost += packet.bytes;
            last_lost = Some(number);
            flow.control.on_packet_lost(&Lost {
                now,
                packet: number as u64,
                bytes: packet.bytes,
                sent_at: packet.at,
                tx_in_flight: packet.tx_in_flight,
                lost_when_sent: packet.lost,
                delivered_when_sent: packet.delivered,
                lost: flow.lost,
                delivered: flow.delivered,
                app_limited: packet.app_limited,
            });
        }
        if let Some(number) = last_lost {
            flow.control.on_congestion(&Loss {
                now,
                bytes: lost,
                largest: number as u64,
                largest_sent_at: flow.packets[number].at,
                in_flight: flow.in_flight,
                next_packet: flow.packets.len() as u64,
                persistent: false,
                ecn: false,
            });
        }
        flow.control.on_ack(&Ack {
            now,
            bytes,
            largest: newest as u64,
            largest_sent_at: packet.at,
            next_packet: flow.packets.len() as u64,
            prior_in_flight,
            in_flight: flow.in_flight,
            lost,
            app_limited: packet.app_limited,
            rtt: Some(rtt),
            smoothed_rtt: flow.smoothed.unwrap_or(rtt),
            min_rtt: flow.least,
            delivery: Delivery {
                rate,
                app_limited: packet.app_limited,
                prior_delivered: packet.delivered,
                delivered: flow.delivered,
                interval_delivered: delivered,
                lost: flow.lost - packet.lost,
                tx_in_flight: packet.tx_in_flight,
                interval,
            },
        });
        if flow.backlog == 0 && flow.in_flight == 0 && flow.done_at.is_none() {
            flow.done_at = Some(now);
        }
        self.arm(index);
        self.send(index);
    }
}

impl Congestion for Box<dyn Congestion> {
    fn on_sent(&mut self, sent: &Sent) {
        self.as_mut().on_sent(sent);
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.as_mut().on_ack(ack);
    }

    fn on_packet_lost(&mut self, lost: &Lost) {
        self.as_mut().on_packet_lost(lost);
    }

    fn on_congestion(&mut self, loss: &Loss) {
        self.as_mut().on_congestion(loss);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.as_mut().on_mtu(mtu);
    }

    fn window(&self) -> u64 {
        self.as_ref().window()
    }

    fn pacing_rate(&self) -> Option<Rate> {
        self.as_ref().pacing_rate()
    }

    fn in_slow_start(&self) -> bool {
        self.as_ref().in_slow_start()
    }

    fn phase(&self) -> &'static str {
        self.as_ref().phase()
    }
}

impl<C> Flow<C> {
    /// Megabits a second from its start to its end.
    pub(super) fn goodput(&self) -> f64 {
        let Some(time) = self.elapsed() else {
            return 0.0;
        };
        self.delivered as f64 * 8e-6 / time.as_secs_f64()
    }

    /// From its start to its end, if it came there.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        Some(self.done_at? - self.starts)
    }
}
