//! What distinguishes congestion from a path that merely loses packets: a queue, which shows in the
//! round trip, and losses that come and go with the sending rate.

use std::time::{Duration, Instant};

use super::{Ack, Bbr, Rate, probe_bw::AckPhase};

/// So many samples in a row must show a queue.
const SAMPLES: u32 = 8;

/// A queue of Startup shows only above this, so that jitter alone does not end it.
const STARTUP_FLOOR: Duration = Duration::from_millis(4);

/// A queue shows only above this.
const FLOOR: Duration = Duration::from_millis(1);

/// Whether the round trip shows a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queue {
    in_a_row: u32,
    in_a_row_startup: u32,
    this_round: bool,
    last_round: bool,
    least_this_round: Option<Duration>,
    least_last_round: Option<Duration>,
}

impl Queue {
    /// Takes a round-trip sample; `least` is the path's without a queue.
    pub(super) fn on_rtt(&mut self, rtt: Duration, least: Option<Duration>) {
        let Some(least) = least else {
            return;
        };
        let above = rtt.saturating_sub(least);
        let count = |before: u32, floor: Duration| match above > (least / 4).max(floor) {
            true => before.saturating_add(1),
            false => 0,
        };
        self.in_a_row = count(self.in_a_row, FLOOR);
        self.in_a_row_startup = count(self.in_a_row_startup, STARTUP_FLOOR);
        self.this_round |= self.in_a_row >= SAMPLES;
        let least = self
            .least_this_round
            .map_or(above, |least| least.min(above));
        self.least_this_round = Some(least);
    }

    pub(super) fn on_round(&mut self) {
        self.last_round = self.this_round;
        self.this_round = false;
        self.least_last_round = self.least_this_round.take();
    }

    /// The queue that stood throughout the last round trip, in time.
    pub(super) fn standing(&self) -> Duration {
        self.least_last_round.unwrap_or_default()
    }

    /// Whether there was one in this round trip or the last.
    pub(super) fn is_seen(&self) -> bool {
        self.this_round || self.last_round
    }

    /// Whether there is one that Startup must have made.
    pub(super) fn is_built(&self) -> bool {
        self.in_a_row_startup >= SAMPLES
    }
}

/// What the spacing of acknowledgements says of the bottleneck: packets that leave at a higher rate
/// than they are acknowledged were spread by it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Train {
    first: Option<Car>,
    in_a_row: u32,
    /// The last train's.
    last: Option<Rate>,
    rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy)]
struct Car {
    sent_at: Instant,
    acked_at: Instant,
    delivered: u64,
}

impl Train {
    /// A train has at least so many packets, and lasts at least this or a sixteenth of a round trip:
    /// a single one would measure timers.
    const PACKETS: u64 = 16;
    const LENGTH: Duration = Duration::from_millis(2);
    /// Acknowledgements at less than this share of the sending rate show a bottleneck.
    const SPREAD: f64 = 0.85;
    /// So many trains in a row must show it.
    const TRAINS: u32 = 2;

    fn on_ack(&mut self, car: Car, least_rtt: Duration, mtu: u64) {
        let Some(first) = self.first else {
            self.first = Some(car);
            return;
        };
        let delivered = car.delivered.saturating_sub(first.delivered);
        let acked = car.acked_at.saturating_duration_since(first.acked_at);
        if delivered < Self::PACKETS.saturating_mul(mtu) || acked < Self::LENGTH.max(least_rtt / 16)
        {
            return;
        }
        let sent = car.sent_at.saturating_duration_since(first.sent_at);
        self.first = Some(car);
        let rate = (delivered as f64 / acked.as_secs_f64()) as Rate;
        if sent.as_secs_f64() < Self::SPREAD * acked.as_secs_f64() {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.in_a_row = 0;
        }
        // What was held up for some milliseconds comes all at once: a slow train, and a fast one.
        let both = self.last.replace(rate).map_or(rate, |last| last.min(rate));
        if self.rate.is_some() || self.in_a_row >= Self::TRAINS {
            self.rate = self.rate.max(Some(both));
        }
    }

    /// The bottleneck's rate, once it showed.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }
}

/// The share of packets that the path loses whatever the sender does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ambient {
    lost: u64,
    sent: u64,
    lost_before: u64,
    delivered_before: u64,
}

impl Ambient {
    /// The ambient loss is believed from so many packets on.
    const ENOUGH: u64 = 60;
    /// Of so many packets, half are forgotten.
    const MEMORY: u64 = 4000;
    /// A round trip that loses more is an outage or an overload, and tells nothing of the path.
    const HIGHEST: f64 = 0.15;
    /// An ambient loss above this is not believed.
    const CAP: f64 = 0.06;

    /// A round trip ends. `counts`: it neither probed for bandwidth nor showed a queue.
    fn on_round(&mut self, delivered: u64, lost: u64, mtu: u64, counts: bool, most: f64) {
        let newly_lost = lost.saturating_sub(self.lost_before);
        let newly_sent = delivered
            .saturating_sub(self.delivered_before)
            .saturating_add(newly_lost);
        self.lost_before = lost;
        self.delivered_before = delivered;
        if !counts || newly_lost as f64 > Self::HIGHEST * newly_sent as f64 + mtu as f64 {
            return;
        }
        let most = (most * newly_sent as f64) as u64;
        self.lost = self.lost.saturating_add(newly_lost.min(most.max(mtu)));
        self.sent = self.sent.saturating_add(newly_sent);
        if self.sent > Self::MEMORY.saturating_mul(mtu) {
            self.lost /= 2;
            self.sent /= 2;
        }
    }

    /// As a fraction.
    pub(super) fn rate(&self, mtu: u64) -> f64 {
        if self.sent < Self::ENOUGH.saturating_mul(mtu) {
            return 0.0;
        }
        (self.lost as f64 / self.sent as f64).min(Self::CAP)
    }
}

impl Bbr {
    pub(super) fn update_train(&mut self, ack: &Ack) {
        let Some(least) = self.min_rtt else {
            return;
        };
        let car = Car {
            sent_at: ack.largest_sent_at,
            acked_at: ack.now,
            delivered: self.delivered,
        };
        self.train.on_ack(car, least, self.mtu);
    }

    pub(super) fn update_ambient(&mut self) {
        let counts = self.ack_phase == AckPhase::Init && !self.queue.is_seen();
        let most = self.tolerated_loss();
        self.ambient
            .on_round(self.delivered, self.lost, self.mtu, counts, most);
    }

    /// The share of packets that the path loses whatever is sent.
    pub(super) fn ambient_loss(&self) -> f64 {
        self.ambient.rate(self.mtu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_that_were_held_up_make_no_faster_bottleneck() {
        const MTU: u64 = 1250;
        let begin = Instant::now();
        let at = |micros: u64| begin + Duration::from_micros(micros);
        let mut train = Train::default();
        for packet in 0..2000 {
            // Sent at 400 Mbit/s, acknowledged at 100; each 20 ms nothing comes for 5 ms.
            let due = packet * 100;
            let acked_at = if due % 20_000 < 5_000 {
                due - due % 20_000 + 5_000
            } else {
                due
            };
            let car = Car {
                sent_at: at(packet * 25),
                acked_at: at(acked_at),
                delivered: (packet + 1) * MTU,
            };
            train.on_ack(car, Duration::from_millis(50), MTU);
        }
        let mbit = train.rate().map(|rate| rate * 8 / 1_000_000);
        assert!(
            mbit.is_some_and(|mbit| (90..=110).contains(&mbit)),
            "{mbit:?}"
        );
    }
}
