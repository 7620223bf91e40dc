//! How fast the path delivers (draft-ietf-ccwg-bbr section 4.1).

use std::time::{Duration, Instant};

use crate::rudp::congestion::Delivery;

/// The connection's state when a packet was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot {
    /// `P.delivered`
    pub(super) delivered: u64,
    /// `P.delivered_time`
    pub(super) delivered_at: Instant,
    /// `P.first_send_time`
    pub(super) first_sent_at: Instant,
    /// `P.lost`
    pub(super) lost: u64,
    /// `P.tx_in_flight`: itself included.
    pub(super) tx_in_flight: u64,
    /// `P.is_app_limited`
    pub(super) app_limited: bool,
}

/// The estimator of one path.
#[derive(Debug)]
pub(super) struct Estimator {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    /// What is delivered after so many bytes was sent with enough to send.
    app_limited_until: u64,
    newest: Option<Newest>,
}

/// The packet of the current acknowledgement that was sent last.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sent_at: Instant,
    snapshot: Snapshot,
}

impl Estimator {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            lost: 0,
            app_limited_until: 0,
            newest: None,
        }
    }

    /// Bytes delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Notes a packet that is sent with `in_flight` bytes before it.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) -> Snapshot {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            tx_in_flight: in_flight + bytes,
            app_limited: self.app_limited_until > 0,
        }
    }

    /// What a packet is sent with that doesn't count.
    pub(super) fn snapshot(&self, in_flight: u64) -> Snapshot {
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            tx_in_flight: in_flight,
            app_limited: self.app_limited_until > 0,
        }
    }

    /// Notes that there is nothing to send although the window is open.
    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// Notes a packet newly acknowledged.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        sent_at: Instant,
        bytes: u64,
        packet: &Snapshot,
    ) {
        self.delivered += bytes;
        self.delivered_at = now;
        let newer = self.newest.is_none_or(|newest| {
            (packet.delivered, sent_at) > (newest.snapshot.delivered, newest.sent_at)
        });
        if newer {
            self.newest = Some(Newest {
                sent_at,
                snapshot: *packet,
            });
            self.first_sent_at = sent_at;
        }
    }

    /// Notes bytes declared lost.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The sample of the acknowledgement whose packets were noted since the last call.
    pub(super) fn take(&mut self, min_rtt: Duration) -> Delivery {
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let Some(Newest { sent_at, snapshot }) = self.newest.take() else {
            return Delivery {
                delivered: self.delivered,
                prior_delivered: self.delivered,
                ..Delivery::default()
            };
        };
        let send_elapsed = sent_at.saturating_duration_since(snapshot.first_sent_at);
        let ack_elapsed = self
            .delivered_at
            .saturating_duration_since(snapshot.delivered_at);
        let interval = send_elapsed.max(ack_elapsed);
        let interval_delivered = self.delivered - snapshot.delivered;
        let measurable = interval >= min_rtt && !interval.is_zero();
        let rate = measurable.then(|| rate(interval_delivered, interval));
        Delivery {
            rate,
            app_limited: snapshot.app_limited,
            prior_delivered: snapshot.delivered,
            delivered: self.delivered,
            interval_delivered,
            lost: self.lost - snapshot.lost,
            tx_in_flight: snapshot.tx_in_flight,
            interval,
        }
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_steady_flow_is_measured_at_its_rate() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start);
        // A packet each ms, acknowledged 10 ms later, for 100 ms.
        let mut sent = Vec::new();
        let mut rate = None;
        for t in 0..100_u64 {
            let now = start + ms(t);
            if t >= 10 {
                let (at, snapshot) = sent[(t - 10) as usize];
                estimator.on_acked(now, at, 1000, &snapshot);
                rate = estimator.take(ms(10)).rate;
            }
            sent.push((now, estimator.on_sent(now, 1000, 1000 * t.min(10))));
        }
        assert_eq!(rate, Some(1_000_000));
    }

    #[test]
    fn acknowledgements_that_come_together_do_not_look_like_speed() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start);
        let sent: Vec<_> = (0..10)
            .map(|t| {
                (
                    start + ms(t),
                    estimator.on_sent(start + ms(t), 1000, t * 1000),
                )
            })
            .collect();
        let now = start + ms(20);
        for (at, snapshot) in &sent {
            estimator.on_acked(now, *at, 1000, snapshot);
        }
        let sample = estimator.take(ms(10));
        assert_eq!(sample.interval, ms(20));
        assert_eq!(sample.rate, Some(500_000));
        // An interval shorter than any round trip says nothing.
        estimator.on_acked(now, now, 1000, &estimator.snapshot(0));
        assert_eq!(estimator.take(ms(20)).rate, None);
    }

    #[test]
    fn what_was_sent_for_want_of_data_is_marked_until_it_is_delivered() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start);
        let first = estimator.on_sent(start, 1000, 0);
        estimator.on_app_limited(1000);
        let second = estimator.on_sent(start + ms(5), 1000, 1000);
        assert!(!first.app_limited && second.app_limited);
        estimator.on_acked(start + ms(10), start, 1000, &first);
        assert!(!estimator.take(ms(1)).app_limited);
        estimator.on_acked(start + ms(15), start + ms(5), 1000, &second);
        assert!(estimator.take(ms(1)).app_limited);
        assert!(!estimator.on_sent(start + ms(16), 1000, 0).app_limited);
    }
}
