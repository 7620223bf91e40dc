//! NewReno (RFC 9002 section 7): a packet more each round trip, half at a loss.

use std::time::Instant;

use super::{Ack, Congestion, Loss, MOST_MTU, Sent, Start, idle::Activity, multiplied};
use crate::watch::event::transport::Reaction;

/// The congestion control of RFC 9002 section 7, with what its section 7 leaves open done as TCP
/// does it: the window decays in silence (RFC 5681 section 4.1), and a reduction is undone when the
/// loss turns out to be reordering.
#[derive(Debug)]
pub struct NewReno {
    pub(super) window: u64,
    /// `u64::MAX` until the first loss.
    pub(super) ssthresh: u64,
    initial_window: u64,
    pub(super) mtu: u64,
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    pub(super) acked: u64,
    /// The last reduction answered the losses of all packets below this number.
    answered: u64,
    pub(super) in_recovery: bool,
    before: Option<Before>,
    pub(super) reaction: Option<Reaction>,
    activity: Activity,
}

/// What a reduction changed.
#[derive(Debug, Clone, Copy)]
struct Before {
    window: u64,
    ssthresh: u64,
}

impl NewReno {
    /// Begins in slow start.
    pub fn new(start: &Start) -> Self {
        let window = start.window();
        Self {
            window,
            ssthresh: u64::MAX,
            initial_window: window,
            mtu: start.mtu.clamp(1, MOST_MTU),
            acked: 0,
            answered: 0,
            in_recovery: false,
            before: None,
            reaction: None,
            activity: Activity::new(start.now),
        }
    }

    /// `kMinimumWindow`: two datagrams.
    pub(super) fn least(&self) -> u64 {
        2 * self.mtu
    }

    /// Grows by what was acknowledged, unless the window was not used up.
    pub(super) fn grow(&mut self, ack: &Ack) {
        if ack.app_limited {
            return;
        }
        let mut bytes = ack.bytes;
        if self.window < self.ssthresh {
            let room = self.ssthresh - self.window;
            let doubling = bytes.min(room);
            self.window = self.window.saturating_add(doubling);
            bytes -= doubling;
        }
        // What is left over counts towards the next packet, so that small acknowledgements don't
        // round to no growth at all.
        self.acked = self.acked.saturating_add(bytes);
        // A round trip acknowledges whole datagrams: of a small window the odd bytes would make it
        // wait for a quarter more (RFC 5681 section 3.1 wants a datagram each round trip).
        let full = self.window - self.window % self.mtu;
        if self.acked >= full {
            self.acked = (self.acked - full).min(full);
            self.window = self.window.saturating_add(self.mtu);
        }
    }

    /// Takes a packet that is sent; says whether it breaks a silence.
    pub(super) fn restart(&mut self, sent: &Sent) -> bool {
        let Some(silence) = self.activity.on_sent(sent) else {
            return false;
        };
        if silence.outdates() {
            // Slow start leads back most of the way.
            self.ssthresh = self.ssthresh.max(self.window / 4 * 3);
            self.window = silence.decay(self.window, self.initial_window);
            self.reaction = Some(silence.reaction());
            self.acked = 0;
        }
        true
    }

    /// Whether packets sent before the last reduction are still acknowledged; the first one sent
    /// after it ends the recovery.
    pub(super) fn recovers(&mut self, ack: &Ack) -> bool {
        self.activity.on_ack(ack);
        self.in_recovery &= ack.largest < self.answered;
        self.in_recovery
    }

    /// Whether the last reduction answered the loss of this packet.
    pub(super) fn has_answered(&self, packet: u64) -> bool {
        packet < self.answered
    }

    /// Has the losses of all packets below this number be answered, by something else than a loss.
    pub(super) fn answer(&mut self, next_packet: u64) {
        self.answered = next_packet;
        self.before = None;
    }

    /// Undoes the last reduction; says whether there was anything to undo.
    pub(super) fn undo(&mut self) -> bool {
        let before = self.before.take();
        let Some(before) = before.filter(|before| self.window < before.window) else {
            return false;
        };
        self.window = before.window;
        self.ssthresh = before.ssthresh;
        self.in_recovery = false;
        self.reaction = Some(Reaction::Restored);
        true
    }
}

impl Congestion for NewReno {
    fn on_sent(&mut self, sent: &Sent) {
        self.restart(sent);
    }

    fn on_ack(&mut self, ack: &Ack) {
        if !self.recovers(ack) {
            self.grow(ack);
        }
    }

    fn on_congestion(&mut self, loss: &Loss) {
        if !self.has_answered(loss.largest) {
            self.before = Some(Before {
                window: self.window,
                ssthresh: self.ssthresh,
            });
            self.answered = loss.next_packet;
            self.in_recovery = true;
            self.reaction = Some(multiplied(5, self.window, self.least()));
            self.ssthresh = (self.window / 2).max(self.least());
            self.window = self.ssthresh;
            self.acked = 0;
        }
        if loss.persistent {
            self.window = self.least();
            self.reaction = Some(Reaction::Collapsed);
            self.in_recovery = false;
            self.acked = 0;
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant) {
        self.undo();
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu.clamp(1, MOST_MTU);
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn ssthresh(&self) -> Option<u64> {
        (self.ssthresh != u64::MAX).then_some(self.ssthresh)
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.ssthresh && !self.in_recovery
    }

    fn take_reaction(&mut self) -> Option<Reaction> {
        self.reaction.take()
    }

    fn phase(&self) -> &'static str {
        if self.in_recovery {
            "recovery"
        } else if self.in_slow_start() {
            "slow_start"
        } else {
            "avoidance"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rudp::congestion::{
        inputs::{MTU, ack, loss, sent, start},
        simulator::{self, ENDLESS, Path, alone},
    };

    fn reno(now: Instant) -> NewReno {
        NewReno::new(&start(now))
    }

    #[test]
    fn the_window_doubles_each_round_trip_in_slow_start() {
        let now = Instant::now();
        let mut reno = reno(now);
        assert_eq!(reno.window(), 12_000);
        reno.on_ack(&ack(now, 9, 12_000));
        assert_eq!(reno.window(), 24_000);
        assert_eq!(reno.phase(), "slow_start");
    }

    #[test]
    fn a_loss_halves_the_window_once_a_round_trip() {
        let now = Instant::now();
        let mut reno = reno(now);
        reno.on_congestion(&loss(now, 2, 10));
        reno.on_congestion(&loss(now, 9, 12));
        assert_eq!(reno.window(), 6_000);
        assert_eq!(reno.ssthresh(), Some(6_000));
        reno.on_congestion(&loss(now, 10, 12));
        assert_eq!(reno.window(), 3_000);
    }

    #[test]
    fn recovery_ends_with_a_packet_sent_in_it() {
        let now = Instant::now();
        let mut reno = reno(now);
        reno.on_congestion(&loss(now, 2, 10));
        reno.on_ack(&ack(now, 9, 6_000));
        assert_eq!((reno.phase(), reno.window()), ("recovery", 6_000));
        reno.on_ack(&ack(now, 10, 6_000));
        assert_eq!((reno.phase(), reno.window()), ("avoidance", 7_200));
        // A packet of before the reduction that is found lost only now was answered by it.
        reno.on_congestion(&loss(now, 9, 12));
        assert_eq!(reno.window(), 7_200);
    }

    #[test]
    fn avoidance_adds_a_packet_for_each_window_however_it_is_acknowledged() {
        let now = Instant::now();
        for pieces in [1, 5, 60, 6_000] {
            let mut reno = reno(now);
            reno.on_congestion(&loss(now, 2, 10));
            for _ in 0..pieces {
                reno.on_ack(&ack(now, 10, 6_000 / pieces));
            }
            assert_eq!(reno.window(), 7_200);
        }
    }

    #[test]
    fn a_window_with_odd_bytes_grows_once_all_of_its_datagrams_are_acknowledged() {
        let now = Instant::now();
        let mut reno = NewReno::new(&Start {
            initial_window: Some(5 * MTU),
            ..start(now)
        });
        reno.on_congestion(&loss(now, 2, 10));
        for (packets, window) in [(2, 7), (3, 9), (4, 11)] {
            reno.on_ack(&ack(now, 10, packets * MTU));
            assert_eq!(reno.window(), window * MTU / 2);
        }
    }

    #[test]
    fn slow_start_goes_no_further_than_the_threshold() {
        let now = Instant::now();
        let mut reno = reno(now);
        reno.on_congestion(&Loss {
            persistent: true,
            ..loss(now, 2, 10)
        });
        assert_eq!((reno.window(), reno.phase()), (2_400, "slow_start"));
        reno.on_ack(&ack(now, 10, 2_400));
        assert_eq!(reno.window(), 4_800);
        reno.on_ack(&ack(now, 11, 4_800));
        assert_eq!(reno.window(), 6_000);
    }

    #[test]
    fn the_window_is_two_datagrams_at_least() {
        let now = Instant::now();
        let mut reno = reno(now);
        for packet in 0..100 {
            reno.on_congestion(&loss(now, packet, packet + 1));
        }
        assert_eq!(reno.window(), 2 * MTU);
        reno.on_mtu(1452);
        assert_eq!(reno.window(), 2 * 1452);
    }

    #[test]
    fn a_window_that_the_application_does_not_use_does_not_grow() {
        let now = Instant::now();
        let mut reno = reno(now);
        for packet in 0..100 {
            let mut ack = ack(now, packet, 1200);
            ack.app_limited = true;
            reno.on_ack(&ack);
        }
        assert_eq!(reno.window(), 12_000);
    }

    #[test]
    fn a_spurious_loss_is_undone_once() {
        let now = Instant::now();
        let mut reno = reno(now);
        reno.on_congestion(&loss(now, 2, 10));
        reno.on_spurious_loss(now);
        assert_eq!((reno.window(), reno.ssthresh()), (12_000, None));
        assert_eq!(reno.phase(), "slow_start");
        reno.on_congestion(&loss(now, 10, 12));
        reno.on_ack(&ack(now, 40, 90_000));
        reno.on_spurious_loss(now);
        reno.on_congestion(&loss(now, 50, 60));
        let window = reno.window();
        reno.on_spurious_loss(now);
        reno.on_spurious_loss(now);
        assert_eq!(reno.window(), 2 * window);
    }

    #[test]
    fn silence_halves_the_window_and_slow_start_leads_back() {
        let now = Instant::now();
        let mut reno = reno(now);
        reno.on_ack(&ack(now, 9, 88_000));
        reno.on_congestion(&loss(now, 10, 20));
        reno.on_ack(&ack(now, 20, 1200));
        assert_eq!((reno.window(), reno.phase()), (50_000, "avoidance"));
        // A timeout is 250 ms here: the round trip and 200 ms.
        reno.on_sent(&sent(now + Duration::from_millis(550), 0, true));
        assert_eq!((reno.window(), reno.phase()), (12_500, "slow_start"));
        assert_eq!(reno.ssthresh(), Some(50_000));
        reno.on_sent(&sent(now + Duration::from_millis(560), 1200, true));
        assert_eq!(reno.window(), 12_500);
    }

    #[test]
    fn throughput_under_random_loss_is_what_the_square_root_law_allows() {
        for loss in [0.001, 0.01] {
            let path = Path {
                loss,
                queue: 1_000_000,
                ..Path::new(100, 50)
            };
            let reno = NewReno::new(&Start {
                mtu: simulator::MTU,
                ..start(Instant::now())
            });
            let flow = alone(path, 7, reno, ENDLESS, Duration::from_secs(200));
            // One window of sqrt(1.5 / loss) packets each round trip.
            let law = (1.5_f64 / loss).sqrt() * simulator::MTU as f64 * 200.0 / 0.05;
            let ratio = flow.delivered as f64 / law;
            assert!((0.8..1.25).contains(&ratio), "{loss}: {ratio}");
        }
    }

    #[test]
    fn no_numbers_overflow() {
        let now = Instant::now();
        for (mtu, window) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX), (65_535, 0)] {
            let mut reno = NewReno::new(&Start {
                mtu,
                initial_window: Some(window),
                ..start(now)
            });
            for packet in [0, 5, u64::MAX - 1] {
                reno.on_ack(&ack(now, packet, u64::MAX));
                reno.on_ack(&ack(now, packet, u64::MAX));
                reno.on_congestion(&loss(now, packet, packet + 1));
                reno.on_sent(&sent(now + Duration::from_secs(1 << 30), 0, true));
                reno.on_mtu(mtu);
                reno.on_spurious_loss(now);
                assert!(reno.window() >= 2);
            }
        }
    }
}
