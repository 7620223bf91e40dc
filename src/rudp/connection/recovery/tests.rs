// Acknowledgements are lists of ranges, often of one.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::rudp::{
    connection::{delivery::Estimator, sent::Flags},
    packet::{Frame, Frames},
};

const MS: Duration = Duration::from_millis(1);
/// The round trip that the path is taken to have.
const RTT: Duration = Duration::from_millis(80);
const SIZE: u16 = 1200;
/// The largest datagram's probe is this packet.
const PROBE: u64 = 1000;

/// Notes each verdict.
#[derive(Debug, Default)]
struct Seen {
    acked: Vec<u64>,
    /// The frames of what was acknowledged.
    frames: Vec<SentFrame>,
    spurious: Vec<(u64, Spurious)>,
    lost: Vec<(u64, Rule)>,
    congestion: Vec<u64>,
}

impl Verdicts for Seen {
    fn acknowledged(&mut self, acked: &Acked, frames: impl Iterator<Item = SentFrame>) {
        self.acked.push(acked.number);
        self.frames.extend(frames);
        self.spurious
            .extend(acked.spurious.map(|spurious| (acked.number, spurious)));
        assert_eq!(acked.was_in_flight, acked.spurious.is_none());
    }

    fn lost(&mut self, lost: &LostPacket, _: impl Iterator<Item = SentFrame>) {
        self.lost.push((lost.number, lost.rule));
        self.congestion
            .extend(lost.congestion.then_some(lost.number));
    }
}

struct Bench {
    recovery: Recovery,
    present: Present,
    start: Instant,
    seen: Seen,
}

impl Bench {
    /// So many packets on their way, one each millisecond from the start.
    fn with(packets: u64) -> Self {
        let start = Instant::now();
        let mut rtt = Rtt::new();
        rtt.update(RTT, Duration::ZERO, true, 25 * MS, start - MS);
        let mut bench = Self {
            recovery: Recovery::new(0),
            present: Present {
                path: 0,
                rtt,
                max_ack_delay: 25 * MS,
            },
            start,
            seen: Seen::default(),
        };
        (0..packets).for_each(|n| bench.send(start + MS * n as u32));
        bench
    }

    fn send(&mut self, now: Instant) {
        let flags = Flags {
            in_flight: true,
            ack_eliciting: true,
            ecn: true,
            probe: self.recovery.sent.next() == PROBE,
        };
        let first_frame = self.recovery.sent.frame_count();
        let number = self.recovery.sent.next();
        self.recovery.sent.add_frame(SentFrame::StopSending(number));
        let snapshot = Estimator::new(now).snapshot(0);
        let path = self.present.path;
        self.recovery
            .sent
            .push(now, SIZE, flags, path, first_frame, snapshot);
        self.recovery.on_sent(true, now);
    }

    /// Acknowledges these, in ascending order, so long after the start.
    fn ack(&mut self, ranges: &[std::ops::Range<u64>], after: Duration) -> Result<News, Violation> {
        self.ack_with(ranges, None, after).map(|(news, _)| news)
    }

    fn ack_with(
        &mut self,
        ranges: &[std::ops::Range<u64>],
        ecn: Option<frame::EcnCounts>,
        after: Duration,
    ) -> Result<(News, Marks), Violation> {
        let mut bytes = Vec::new();
        let newest_first = ranges.iter().rev().map(|range| range.start..=range.end - 1);
        frame::encode_ack(newest_first, Duration::ZERO, ecn, 1000, &mut bytes);
        let Some(Ok(Frame::Ack(ack))) = Frames::new(&bytes).next() else {
            panic!("an ACK frame");
        };
        let now = self.start + after;
        let news = self
            .recovery
            .on_ack(&ack, &self.present, now, &mut self.seen)?;
        let marks = self.recovery.on_ecn(&ack, &news, false);
        Ok((news, marks))
    }

    fn detect(&mut self, after: Duration) -> Losses {
        let now = self.start + after;
        self.recovery
            .detect_losses(&self.present, now, &mut self.seen)
    }

    fn timeout(&self) -> Option<Duration> {
        let at = self.recovery.timeout(&self.present.rtt, 25 * MS)?;
        Some(at.duration_since(self.start))
    }
}

#[test]
fn an_acknowledgement_tells_what_is_new_once() {
    let mut bench = Bench::with(10);
    let news = bench.ack(&[0..2, 4..6], RTT).unwrap();
    assert_eq!(news.bytes, 4 * u64::from(SIZE));
    assert_eq!(news.largest, Some((5, bench.start + 5 * MS)));
    assert!(news.eliciting && news.newer && news.marked == 4);
    assert_eq!(bench.seen.acked, [4, 5, 0, 1]);
    let carried = [4, 5, 0, 1].map(SentFrame::StopSending);
    assert_eq!(bench.seen.frames, carried);
    // The same again, and one more in the gap.
    let news = bench.ack(&[0..3, 4..6], RTT).unwrap();
    assert_eq!((news.bytes, news.newer), (u64::from(SIZE), false));
    assert_eq!(bench.seen.acked[4..], [2]);
    let nothing = bench.ack(&[0..3], RTT).unwrap();
    assert_eq!(nothing, News::default());
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let mut bench = Bench::with(3);
    assert!(bench.ack(&[0..4], RTT).is_err());
    let snapshot = Estimator::new(bench.start).snapshot(0);
    bench.recovery.sent.skip(bench.start, snapshot);
    bench.recovery.on_skipped(3);
    bench.send(bench.start);
    assert!(bench.ack(&[0..3, 4..5], RTT).is_ok());
    assert!(bench.ack(&[0..5], RTT).is_err());
}

#[test]
fn lost_by_the_packet_threshold_says_by_which_packet() {
    let mut bench = Bench::with(10);
    bench.ack(&[4..5], RTT).unwrap();
    let losses = bench.detect(RTT);
    let rule = Rule::PacketThreshold {
        threshold: 3,
        largest_acked: 4,
    };
    assert_eq!(bench.seen.lost, [(0, rule), (1, rule)]);
    assert_eq!(losses.bytes, 2 * u64::from(SIZE));
    assert_eq!(losses.largest, Some((1, bench.start + MS)));
    let event = Event {
        packets: 2,
        bytes: losses.bytes,
        largest: 1,
        until: 10,
        rule,
    };
    assert_eq!(losses.event, Some(event));
    // The rest of what is below waits for its time.
    let loss_delay = RTT * 9 / 8;
    assert_eq!(bench.timeout(), Some(2 * MS + loss_delay));
}

#[test]
fn lost_by_the_time_threshold_says_after_how_long() {
    let mut bench = Bench::with(10);
    bench.ack(&[2..3], RTT).unwrap();
    assert_eq!(bench.detect(RTT), Losses::default());
    let at = bench.timeout().unwrap();
    assert_eq!(at, RTT * 9 / 8);
    let now = bench.start + at;
    let expired = bench
        .recovery
        .on_timeout(&bench.present, now, &mut bench.seen);
    assert!(matches!(expired, Expired::Losses(losses) if losses.bytes == u64::from(SIZE)));
    let rule = Rule::TimeThreshold {
        delay: RTT * 9 / 8,
        largest_acked: 2,
    };
    assert_eq!(bench.seen.lost, [(0, rule)]);
    // The next one's time is a millisecond later.
    assert_eq!(bench.timeout(), Some(at + MS));
}

#[test]
fn a_late_acknowledgement_shows_a_loss_that_was_none_and_how_late_it_came() {
    let mut bench = Bench::with(20);
    bench.ack(&[5..6], RTT).unwrap();
    bench.detect(RTT);
    assert_eq!(bench.seen.lost.len(), 3);
    bench.ack(&[0..2, 5..8], RTT + 12 * MS).unwrap();
    let late = |distance| Spurious {
        distance,
        late: 12 * MS,
        undoes: false,
    };
    assert_eq!(bench.seen.spurious, [(0, late(7)), (1, late(6))]);
    // With the last of the three the whole event was none.
    bench.ack(&[0..3, 5..9], RTT + 13 * MS).unwrap();
    let (number, spurious) = bench.seen.spurious[2];
    assert_eq!((number, spurious.undoes), (2, true));
    // From now on it takes more to be called lost: the distance, a quarter of it, and one.
    bench.detect(RTT + 13 * MS);
    assert_eq!(bench.seen.lost.len(), 3);
    bench.ack(&[12..13], RTT + 13 * MS).unwrap();
    bench.detect(RTT + 13 * MS);
    let rule = Rule::PacketThreshold {
        threshold: 9,
        largest_acked: 12,
    };
    assert_eq!(bench.seen.lost[3..], [(3, rule)]);
}

#[test]
fn a_lost_probe_and_what_went_another_path_are_no_sign_of_congestion() {
    let mut bench = Bench::with(PROBE + 1);
    bench.present.path = 1;
    (0..4).for_each(|_| bench.send(bench.start + RTT));
    bench
        .ack(&[0..PROBE - 1, PROBE + 4..PROBE + 5], RTT * 2)
        .unwrap();
    let losses = bench.detect(RTT * 2);
    let lost: Vec<_> = bench.seen.lost.iter().map(|(number, _)| *number).collect();
    assert_eq!(lost, [PROBE - 1, PROBE, PROBE + 1]);
    assert_eq!(bench.seen.congestion, [PROBE + 1]);
    assert_eq!(losses.bytes, u64::from(SIZE));
}

#[test]
fn losses_over_three_probe_timeouts_are_persistent_congestion_unless_one_arrived_between() {
    // 3 * (80 + 4 * 40 + 25) ms.
    let period = 795;
    for (arrived, packets, persistent) in [
        (None, period + 5, true),
        (Some(400), period + 5, false),
        (None, period - 5, false),
    ] {
        let mut bench = Bench::with(packets);
        let after = MS * packets as u32;
        if let Some(number) = arrived {
            bench.ack(&[number..number + 1], after).unwrap();
        }
        bench.ack(&[packets - 1..packets], after).unwrap();
        assert_eq!(bench.detect(after).persistent, persistent, "{arrived:?}");
    }
}

#[test]
fn a_probe_timeout_declares_nothing_lost_and_doubles() {
    let mut bench = Bench::with(3);
    let pto = bench.present.rtt.pto_base(25 * MS);
    assert_eq!(bench.timeout(), Some(2 * MS + pto));
    let now = bench.start + 2 * MS + pto;
    let expired = bench
        .recovery
        .on_timeout(&bench.present, now, &mut bench.seen);
    assert_eq!(expired, Expired::Probe);
    assert!(bench.seen.lost.is_empty() && bench.recovery.is_waiting());
    assert_eq!(bench.recovery.probes, PROBES);
    assert_eq!(bench.timeout(), Some(2 * MS + pto + pto * 2));
    let oldest = bench.recovery.oldest();
    let sent_at = |n: u32| Some(bench.start + MS * n);
    assert_eq!(
        oldest.map(|p| p.map(|p| p.sent_at)),
        [sent_at(0), sent_at(1)]
    );
    let news = bench.ack(&[0..3], RTT * 4).unwrap();
    bench.recovery.settle(&news, &bench.present, now);
    assert_eq!(
        (bench.timeout(), bench.recovery.is_waiting()),
        (None, false)
    );
}

#[test]
fn what_has_not_left_after_all_is_neither_waited_for_nor_lost() {
    let mut bench = Bench::with(4);
    assert!(bench.recovery.take_back(0).is_some());
    assert!(bench.recovery.take_back(0).is_none());
    bench.ack(&[1..4], RTT).unwrap();
    assert_eq!(bench.detect(RTT), Losses::default());
    assert!(bench.seen.lost.is_empty() && !bench.recovery.is_waiting());
}

#[test]
fn marks_count_as_congestion_only_while_they_are_told_as_they_were_sent() {
    let counts = |ect0, ce| Some(frame::EcnCounts { ect0, ect1: 0, ce });
    let mut bench = Bench::with(10);
    let (_, marks) = bench.ack_with(&[0..2], counts(2, 0), RTT).unwrap();
    assert_eq!(marks, Marks::None);
    let (_, marks) = bench.ack_with(&[0..4], counts(3, 1), RTT).unwrap();
    assert_eq!(marks, Marks::Congestion);
    // Two more were acknowledged, one more is told.
    let (_, marks) = bench.ack_with(&[0..6], counts(4, 1), RTT).unwrap();
    assert_eq!(marks, Marks::Broken);
    let (_, marks) = bench.ack_with(&[0..8], None, RTT).unwrap();
    assert_eq!(marks, Marks::Broken);
}
