use super::*;
use crate::rudp::congestion::{
    inputs::{MTU, ack, loss, sent, start},
    simulator::{self, ENDLESS, Flow, Path, alone},
};

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(50);

/// Just reduced from a window of so many packets, and out of recovery with the next
/// acknowledgement.
fn reduced(now: Instant, packets: u64) -> Cubic {
    let mut cubic = Cubic::new(&Start {
        initial_window: Some(packets * MTU),
        ..start(now)
    });
    cubic.initial_window = 10.0 * MTU as f64;
    cubic.on_congestion(&loss(now, 9, 10));
    cubic
}

fn packets(cubic: &Cubic) -> f64 {
    cubic.state.window / MTU as f64
}

/// Acknowledges a window each round trip, in ten pieces.
fn round_trips(cubic: &mut Cubic, mut now: Instant, count: u32, app_limited: bool) -> Instant {
    for _ in 0..10 * count {
        now += RTT / 10;
        let mut ack = ack(now, 10, cubic.window() / 10);
        ack.app_limited = app_limited;
        cubic.on_ack(&ack);
    }
    now
}

fn close(a: f64, b: f64, by: f64) -> bool {
    (a / b - 1.0).abs() < by
}

#[test]
fn a_loss_leaves_seven_tenths_once_a_round_trip() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    assert_eq!(cubic.window(), 70 * MTU);
    cubic.on_congestion(&loss(now, 9, 12));
    assert_eq!((cubic.window(), cubic.phase()), (70 * MTU, "recovery"));
    assert_eq!(cubic.ssthresh(), Some(70 * MTU));
}

#[test]
fn a_reduction_starts_from_the_whole_datagrams_that_can_be_in_flight() {
    let now = Instant::now();
    let mut cubic = Cubic::new(&Start {
        initial_window: Some(7 * MTU - 1),
        ..start(now)
    });
    cubic.on_congestion(&loss(now, 2, 10));
    assert_eq!(cubic.window(), 6 * MTU * 7 / 10);
    // The curve leads back to all of it.
    assert_eq!(cubic.state.highest, (7 * MTU - 1) as f64);
}

#[test]
fn the_window_is_back_at_its_maximum_after_k_and_flat_there() {
    let now = Instant::now();
    let mut cubic = reduced(now, 1000);
    // The target is a round trip ahead: the cubic is there at K = cbrt(300 / 0.4) = 9.09 s.
    let now = round_trips(&mut cubic, now, 90, false);
    // 0.4 (4.55 - 9.09)^3 + 1000
    assert!(close(packets(&cubic), 962.6, 0.002), "{}", packets(&cubic));
    assert_eq!(cubic.phase(), "concave");
    let now = round_trips(&mut cubic, now, 90, false);
    assert!(close(packets(&cubic), 1000.0, 0.001));
    let now = round_trips(&mut cubic, now, 20, false);
    assert!(close(packets(&cubic), 1000.4, 0.001));
    assert_eq!(cubic.phase(), "convex");
    round_trips(&mut cubic, now, 160, false);
    // 0.4 (18.05 - 9.09)^3 + 1000, less the window's lag behind the target.
    assert!(close(packets(&cubic), 1288.0, 0.01), "{}", packets(&cubic));
}

#[test]
fn fast_convergence_lowers_the_maximum_and_not_the_window() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    assert_eq!(cubic.state.highest, 100.0 * MTU as f64);
    cubic.on_congestion(&loss(now, 10, 12));
    assert!(close(packets(&cubic), 49.0, 1e-9));
    assert!(close(cubic.state.highest, 59.5 * MTU as f64, 1e-9));
}

#[test]
fn below_reno_it_grows_as_reno_does_and_by_a_packet_beyond_the_former_window() {
    let now = Instant::now();
    let mut cubic = reduced(now, 20);
    let now = round_trips(&mut cubic, now, 4, false);
    assert_eq!(cubic.phase(), "reno_friendly");
    assert!(close(packets(&cubic), 14.0 + 4.0 * 0.529, 0.01));
    let now = round_trips(&mut cubic, now, 7, false);
    assert!(packets(&cubic) < 20.0);
    let now = round_trips(&mut cubic, now, 2, false);
    let before = packets(&cubic);
    round_trips(&mut cubic, now, 4, false);
    assert!(close(packets(&cubic) - before, 4.0, 0.05));
}

#[test]
fn the_window_grows_by_half_a_round_trip_at_most() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    let now = round_trips(&mut cubic, now, 1, false);
    let before = cubic.window();
    cubic.on_ack(&ack(now + Duration::from_secs(1000), 10, u64::MAX));
    assert!(cubic.window() <= before * 3 / 2);
    assert!(cubic.window() > before * 5 / 4);
}

#[test]
fn growth_of_less_than_a_byte_adds_up() {
    let now = Instant::now();
    let (mut whole, mut pieces) = (reduced(now, 1000), reduced(now, 1000));
    let later = now + Duration::from_secs(1);
    for cubic in [&mut whole, &mut pieces] {
        cubic.on_ack(&ack(now, 10, 1));
    }
    whole.on_ack(&ack(later, 10, 100_000));
    for _ in 0..100_000 {
        pieces.on_ack(&ack(later, 10, 1));
    }
    let grown = |cubic: &Cubic| packets(cubic) - 700.0;
    assert!(grown(&whole) > 5.0);
    assert!(close(grown(&whole), grown(&pieces), 0.1));
}

#[test]
fn time_in_which_the_application_limits_does_not_count() {
    let begin = Instant::now();
    let mut busy = reduced(begin, 1000);
    let now = round_trips(&mut busy, begin, 40, false);
    round_trips(&mut busy, now, 40, false);

    let mut lazy = reduced(begin, 1000);
    let now = round_trips(&mut lazy, begin, 40, false);
    let before = lazy.window();
    let now = round_trips(&mut lazy, now, 1200, true);
    assert_eq!(lazy.window(), before);
    round_trips(&mut lazy, now, 40, false);
    assert!(close(packets(&lazy), packets(&busy), 1e-9));
}

#[test]
fn silence_does_not_count_and_time_between_packets_of_a_tiny_window_does() {
    let begin = Instant::now();
    let mut silent = reduced(begin, 1000);
    let now = round_trips(&mut silent, begin, 10, false);
    let elapsed = |cubic: &Cubic, now: Instant| now - cubic.state.epoch.unwrap().start;
    let before = elapsed(&silent, now);
    let later = now + 100 * MS;
    silent.on_sent(&sent(later, 0, true));
    assert_eq!(elapsed(&silent, later), before);
    // A window of two packets has nothing in flight whenever it is acknowledged: what is sent
    // at once excludes nothing, and neither does a sender that waits for its window.
    let later = later + 50 * MS;
    silent.on_ack(&ack(later, 10, MTU));
    silent.on_sent(&sent(later, 0, true));
    silent.on_sent(&sent(later + 50 * MS, 0, false));
    assert_eq!(elapsed(&silent, later), before + 50 * MS);
}

#[test]
fn silence_halves_the_window_and_slow_start_leads_back() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    let now = round_trips(&mut cubic, now, 1, false);
    let before = cubic.window();
    cubic.on_sent(&sent(now + 550 * MS, 0, true));
    assert_eq!((cubic.window(), cubic.phase()), (before / 4, "slow_start"));
    round_trips(&mut cubic, now + 550 * MS, 2, false);
    assert!(close(packets(&cubic), 71.0, 0.02), "{}", packets(&cubic));
}

#[test]
fn the_curve_begins_flat_after_slow_start_without_loss() {
    let begin = Instant::now();
    let mut cubic = Cubic::new(&start(begin));
    let mut next = 0;
    let mut now = begin;
    // Every round trip is longer than the one before.
    for round in 0..20 {
        now += RTT;
        let end = next + 10;
        for packet in next..end {
            let mut ack = ack(now, packet, MTU);
            ack.next_packet = end;
            ack.rtt = Some((50 + 10 * round) * MS);
            cubic.on_ack(&ack);
        }
        next = end;
    }
    let epoch = cubic.state.epoch.unwrap();
    assert_eq!(epoch.plateau_after, 0.0);
    assert_eq!(cubic.ssthresh(), Some(epoch.plateau as u64));
    assert!(cubic.state.hystart.is_none());
}

#[test]
fn persistent_congestion_starts_again_from_two_datagrams() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    cubic.on_congestion(&Loss {
        persistent: true,
        ..loss(now, 30, 40)
    });
    assert_eq!((cubic.window(), cubic.phase()), (2 * MTU, "slow_start"));
    let now = round_trips(&mut cubic, now, 10, false);
    assert!(close(packets(&cubic), 49.0, 0.1), "{}", packets(&cubic));
    let epoch = cubic.state.epoch.unwrap();
    assert_eq!(
        (epoch.plateau_after, epoch.plateau),
        (0.0, cubic.state.ssthresh)
    );
    assert!(now > epoch.start);
}

#[test]
fn a_spurious_loss_is_undone_while_the_window_is_below_the_former_one() {
    let now = Instant::now();
    let mut cubic = reduced(now, 100);
    cubic.on_spurious_loss(now);
    assert_eq!((cubic.window(), cubic.ssthresh()), (100 * MTU, None));
    assert_eq!(cubic.phase(), "slow_start");

    let mut cubic = reduced(now, 10);
    let now = round_trips(&mut cubic, now, 40, false);
    let window = cubic.window();
    assert!(window > 10 * MTU);
    cubic.on_spurious_loss(now);
    assert_eq!(cubic.window(), window);
}

/// A lone sender at 100 Mbit/s, 50 ms.
fn run(loss: f64, loss_ends: Duration, seconds: u64, bytes: u64, seed: u64) -> Flow<Cubic> {
    let path = Path {
        loss,
        loss_ends,
        ..Path::new(100, 50)
    };
    let cubic = Cubic::new(&Start {
        mtu: simulator::MTU,
        ..start(Instant::now())
    });
    alone(path, seed, cubic, bytes, Duration::from_secs(seconds))
}

#[test]
fn it_recovers_from_a_third_lost_in_the_first_two_seconds() {
    for seed in 0..20 {
        let flow = run(0.3, 2000 * MS, 60, 10_000_000, seed);
        let elapsed = flow.elapsed();
        assert!(
            elapsed < Some(Duration::from_secs(10)) && elapsed.is_some(),
            "{elapsed:?}"
        );
    }
}

#[test]
fn a_clean_path_is_filled() {
    let flow = run(0.0, Duration::MAX, 10, ENDLESS, 1);
    let mbit = flow.delivered as f64 * 8e-6 / 10.0;
    assert!(mbit > 85.0, "{mbit}");
}

#[test]
fn throughput_under_random_loss_is_that_of_reno_at_least() {
    for p in [0.001, 0.01] {
        let law = (1.5_f64 / p).sqrt() * simulator::MTU as f64 * 8e-6 / 0.05;
        let flow = run(p, Duration::MAX, 200, ENDLESS, 3);
        let ratio = flow.delivered as f64 * 8e-6 / 200.0 / law;
        assert!((0.85..1.5).contains(&ratio), "{p}: {ratio}");
    }
}

#[test]
fn no_numbers_overflow() {
    let now = Instant::now();
    for (mtu, window) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX), (65_535, 0)] {
        let mut cubic = Cubic::new(&Start {
            mtu,
            initial_window: Some(window),
            ..start(now)
        });
        for (packet, years) in [(0, 0), (5, 1), (6, 100), (7, 0), (u64::MAX - 1, 100)] {
            let now = now + Duration::from_secs(years * 31_000_000);
            for bytes in [0, 1, u64::MAX] {
                let mut ack = ack(now, packet, bytes);
                ack.smoothed_rtt = Duration::MAX;
                ack.rtt = Some(Duration::MAX);
                cubic.on_ack(&ack);
                ack.app_limited = true;
                cubic.on_ack(&ack);
            }
            cubic.on_congestion(&loss(now, packet, packet + 1));
            cubic.on_mtu(mtu);
            cubic.on_sent(&sent(now, 0, true));
            assert!(cubic.state.window.is_finite() && cubic.window() >= 2);
        }
    }
}
