use std::time::Instant;

use labnet::rudp::congestion::{Ack, Congestion, Controllers, Loss, Start};

/// Additive increase, multiplicative decrease: a datagram more each round trip, half at a loss.
#[derive(Debug)]
pub(crate) struct Aimd {
    window: u64,
    mtu: u64,
    ssthresh: Option<u64>,
    recovery_started: Option<Instant>,
}

impl Congestion for Aimd {
    fn on_ack(&mut self, ack: &Ack) {
        // A window that was not used up says nothing about the path: don't grow it.
        if ack.app_limited {
            return;
        }
        self.window += match self.in_slow_start() {
            // Twice as much each round trip, to find out quickly what the path holds.
            true => ack.bytes,
            // A window's worth of acknowledgements is a round trip: one datagram more.
            false => self.mtu * ack.bytes / self.window,
        };
    }

    fn on_congestion(&mut self, loss: &Loss) {
        // One reduction a round trip: losses of what was sent before it are of the same event.
        if self
            .recovery_started
            .is_none_or(|start| loss.largest_sent_at > start)
        {
            self.recovery_started = Some(loss.now);
            self.window = (self.window / 2).max(2 * self.mtu);
            self.ssthresh = Some(self.window);
        }
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.window = self.window.max(2 * mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn ssthresh(&self) -> Option<u64> {
        self.ssthresh
    }

    fn in_slow_start(&self) -> bool {
        self.ssthresh.is_none()
    }

    fn phase(&self) -> &'static str {
        if self.in_slow_start() {
            "slow_start"
        } else {
            "avoidance"
        }
    }
}

/// What a connection is given to make them with: one for each path that it takes.
#[derive(Debug)]
pub(crate) struct Aimds;

impl Controllers for Aimds {
    fn name(&self) -> &'static str {
        "aimd"
    }

    fn start(&self, start: &Start) -> Box<dyn Congestion> {
        Box::new(Aimd {
            window: start.window(),
            mtu: start.mtu,
            ssthresh: None,
            recovery_started: None,
        })
    }
}
