//! The test cases of the draft's appendix A, and those of the departures from it.

use std::time::{Duration, Instant};

use super::{
    super::{
        Cubic, Delivery,
        simulator::{MTU, Path, Simulator},
    },
    probe_bw::AckPhase,
    *,
};

const RTT: Duration = Duration::from_millis(50);
/// 100 Mbit/s.
const RATE: Rate = 12_500_000;
/// What such a path holds.
const BDP: u64 = 625_000;

fn start(now: Instant, rtt: Duration, seed: u64) -> Start {
    Start {
        now,
        mtu: MTU,
        rtt: Some(rtt),
        initial_window: None,
        seed,
    }
}

/// A controller to which a path is acted: one acknowledgement a round trip.
#[derive(Debug)]
struct Script {
    bbr: Bbr,
    now: Instant,
    delivered: u64,
    lost: u64,
    packet: u64,
    rtt: Duration,
    app_limited: bool,
}

impl Script {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bbr: Bbr::new(&start(now, RTT, 1)),
            now,
            delivered: 0,
            lost: 0,
            packet: 100,
            rtt: RTT,
            app_limited: false,
        }
    }

    /// A round trip passes, in which data arrived at `rate`; `in_flight` remains.
    fn round(&mut self, rate: Rate, in_flight: u64) -> State {
        let prior_delivered = self.delivered;
        let bytes = (rate / 20).clamp(MTU, BDP);
        self.now += self.rtt;
        self.delivered += bytes;
        self.packet += 100;
        self.bbr.on_ack(&Ack {
            now: self.now,
            bytes,
            largest: self.packet - 1,
            largest_sent_at: self.now - self.rtt,
            next_packet: self.packet,
            prior_in_flight: in_flight + bytes,
            in_flight,
            lost: 0,
            app_limited: self.app_limited,
            rtt: Some(self.rtt),
            smoothed_rtt: self.rtt,
            min_rtt: RTT,
            delivery: Delivery {
                rate: Some(rate),
                app_limited: self.app_limited,
                prior_delivered,
                delivered: self.delivered,
                interval_delivered: bytes,
                lost: 0,
                tx_in_flight: in_flight,
                interval: self.rtt,
            },
        });
        self.bbr.state
    }

    /// Every second one of `packets`, sent with `tx_in_flight` in flight, is found lost.
    fn lose(&mut self, packets: u64, tx_in_flight: u64, persistent: bool) {
        let (before, delivered) = (self.lost, self.delivered);
        for index in 0..packets {
            self.lost += MTU;
            self.bbr.on_packet_lost(&Lost {
                now: self.now,
                packet: self.packet + 2 * index,
                bytes: MTU,
                sent_at: self.now - self.rtt,
                tx_in_flight,
                lost_when_sent: before,
                delivered_when_sent: delivered,
                lost: self.lost,
                delivered,
                app_limited: self.app_limited,
            });
        }
        self.bbr.on_congestion(&Loss {
            now: self.now,
            bytes: packets * MTU,
            largest: self.packet,
            largest_sent_at: self.now - self.rtt,
            in_flight: tx_in_flight / 2,
            next_packet: self.packet + 1000,
            persistent,
            ecn: false,
        });
    }

    fn in_drain() -> Self {
        let mut script = Self::new();
        for _ in 0..4 {
            script.round(RATE, 2 * BDP);
        }
        assert_eq!(script.bbr.state, State::Drain);
        script
    }

    fn in_down() -> Self {
        let mut script = Self::in_drain();
        while script.round(RATE, 2 * BDP) == State::Drain {}
        assert_eq!(script.bbr.state, State::Down);
        script
    }

    fn in_cruise() -> Self {
        let mut script = Self::in_down();
        assert_eq!(script.round(RATE, BDP / 2), State::Cruise);
        script
    }

    fn in_refill() -> Self {
        let mut script = Self::in_cruise();
        script.now += Duration::from_secs(3);
        assert_eq!(script.round(RATE, BDP / 2), State::Refill);
        script
    }

    fn in_up() -> Self {
        let mut script = Self::in_refill();
        assert_eq!(script.round(RATE, BDP), State::Up);
        script
    }
}

#[test]
fn a1_startup_ends_on_a_bandwidth_plateau() {
    let mut script = Script::new();
    for rate in [RATE / 4, RATE / 2, RATE] {
        assert_eq!(script.round(rate, BDP), State::Startup);
    }
    for rounds in 1..3 {
        assert_eq!(script.round(RATE, 2 * BDP), State::Startup);
        assert_eq!(script.bbr.full_pipe.rounds, rounds);
    }
    assert_eq!(script.round(RATE, 2 * BDP), State::Drain);
    assert!(script.bbr.full_pipe.reached && script.bbr.full_pipe.now);
    assert_eq!(script.bbr.max_bw.get(), RATE);
}

#[test]
fn a2_startup_ends_on_loss_when_application_limited() {
    let mut script = Script::new();
    script.app_limited = true;
    script.round(RATE / 8, BDP / 4);
    script.lose(100, BDP / 2, false);
    let sample = Sample {
        now: script.now,
        rate: None,
        app_limited: true,
        prior_delivered: u64::MAX,
        delivered: 0,
        lost: 100 * MTU,
        tx_in_flight: BDP / 2,
        newly_acked: 0,
        rtt: None,
        smoothed_rtt: RTT,
    };
    script.bbr.update_latest_delivery_signals(&sample);
    script.bbr.check_startup_done(&sample);
    assert_eq!(script.bbr.state, State::Drain);
    assert!(script.bbr.full_pipe.reached);
    assert_ne!(script.bbr.inflight_longterm, UNBOUNDED);
}

#[test]
fn a3_drain_ends_when_what_is_in_flight_fits_the_path() {
    let mut script = Script::in_drain();
    assert!((script.bbr.pacing_gain - 0.5).abs() < 1e-9);
    assert_eq!(script.round(RATE, BDP + MTU), State::Drain);
    script.round(RATE, BDP);
    assert!(script.bbr.in_probe_bw());
}

#[test]
fn a4_drain_ends_after_three_round_trips() {
    let mut script = Script::in_drain();
    for _ in 0..3 {
        assert_eq!(script.round(RATE * 9 / 10, 2 * BDP), State::Drain);
    }
    assert_eq!(script.round(RATE * 9 / 10, 2 * BDP), State::Down);
}

#[test]
fn a5_probe_up_ends_on_a_bandwidth_plateau() {
    let mut script = Script::in_up();
    assert_eq!(script.round(RATE, BDP), State::Up);
    assert_eq!(script.round(RATE, BDP), State::Up);
    assert_eq!(script.round(RATE, BDP), State::Down);
}

#[test]
fn a6_probe_up_ends_on_loss_when_application_limited() {
    let mut script = Script::in_up();
    script.app_limited = true;
    assert_eq!(script.round(RATE / 2, BDP), State::Up);
    script.lose(40, BDP, false);
    assert_eq!(script.bbr.state, State::Down);
    assert!(script.bbr.probe_too_high);
}

#[test]
fn a7_probe_up_and_startup_never_end_when_application_limited_without_loss() {
    let mut startup = Script::new();
    startup.app_limited = true;
    let mut up = Script::in_up();
    up.app_limited = true;
    for _ in 0..20 {
        assert_eq!(startup.round(RATE / 4, BDP / 4), State::Startup);
        assert_eq!(up.round(RATE / 4, BDP / 4), State::Up);
    }
}

#[test]
fn a8_down_ends_when_what_is_in_flight_leaves_headroom() {
    let mut script = Script::in_down();
    assert!((script.bbr.pacing_gain - 0.9).abs() < 1e-9);
    assert_eq!(script.round(RATE, 2 * BDP), State::Down);
    script.bbr.inflight_longterm = BDP;
    assert_eq!(script.round(RATE * 9 / 10, BDP * 9 / 10), State::Down);
    assert_eq!(script.round(RATE * 9 / 10, BDP * 4 / 5), State::Cruise);
}

#[test]
fn a9_down_ends_after_its_time_with_a_refill() {
    let mut script = Script::in_down();
    assert_eq!(script.round(RATE * 9 / 10, 2 * BDP), State::Down);
    script.now += script.bbr.probe_wait;
    assert_eq!(script.round(RATE * 9 / 10, 2 * BDP), State::Refill);
}

#[test]
fn a10_probe_rtt_is_entered_after_five_seconds_and_left_after_a_fifth_of_one() {
    let mut script = Script::in_cruise();
    script.rtt = RTT + Duration::from_millis(1);
    script.now += Duration::from_secs(5);
    assert_eq!(script.round(RATE, BDP), State::ProbeRtt);
    assert!((script.bbr.window_gain - 0.5).abs() < 1e-9);
    assert!(script.bbr.window() <= BDP / 2);
    let entered = script.now;
    while script.bbr.state == State::ProbeRtt {
        script.round(RATE / 2, BDP / 4);
    }
    assert!(script.now - entered > Duration::from_millis(200));
    assert!(script.now - entered < Duration::from_millis(400));
    assert_eq!(script.bbr.state, State::Cruise);
    assert!(script.bbr.window() > BDP);
}

#[test]
fn a11_an_idle_period_makes_up_for_probe_rtt() {
    let mut script = Script::in_cruise();
    script.rtt = RTT + Duration::from_millis(1);
    script.now += Duration::from_secs(6);
    script.bbr.on_sent(&Sent {
        now: script.now,
        packet: script.packet,
        bytes: MTU,
        in_flight: 0,
        app_limited: true,
    });
    assert!(script.bbr.idle_restart);
    assert_ne!(script.round(RATE, MTU), State::ProbeRtt);
    assert!(!script.bbr.idle_restart);
}

/// A lone sender's bits a second, its losses as a share, and the simulator after so many seconds.
fn lone(path: Path, seconds: u64) -> Simulator<Bbr> {
    let mut simulator = Simulator::new(path.clone(), 3);
    let bbr = Bbr::new(&start(simulator.start, path.rtt, 3));
    simulator.add(bbr, 1 << 50, Duration::ZERO);
    simulator.run(Duration::from_secs(seconds), |_| false);
    simulator
}

/// Megabits that arrive between two times.
fn megabits(simulator: &mut Simulator<Bbr>, from: u64, until: u64) -> f64 {
    simulator.run(Duration::from_secs(from), |_| false);
    let before = simulator.flows[0].delivered;
    simulator.run(Duration::from_secs(until), |_| false);
    (simulator.flows[0].delivered - before) as f64 * 8e-6 / (until - from) as f64
}

#[test]
fn a12_startup_finds_the_bandwidth_behind_an_aggregating_link() {
    let mut path = Path::new(20, 40);
    path.ack_every = Duration::from_millis(20);
    let simulator = lone(path, 2);
    let bbr = &simulator.flows[0].control;
    assert!(bbr.full_pipe.reached);
    assert!(bbr.max_bw.get() > 2_250_000, "{}", bbr.max_bw.get());
    assert!(bbr.extra_acked.get() > 10 * MTU);
}

#[test]
fn a13_cruising_behind_an_aggregating_link_keeps_it_busy() {
    let mut path = Path::new(20, 40);
    path.ack_every = Duration::from_millis(20);
    let mut simulator = lone(path, 2);
    let rate = megabits(&mut simulator, 2, 5);
    assert!(rate > 17.5, "{rate}");
    let bbr = &simulator.flows[0].control;
    assert!(bbr.max_inflight() > bbr.bdp(bbr.window_gain));
}

#[test]
fn a14_a_path_that_holds_less_than_a_packet_gets_a_window_of_four() {
    let mut path = Path::new(1, 5);
    path.queue = 30_000;
    let mut simulator = lone(path, 2);
    assert!(simulator.flows[0].control.window() >= 4 * MTU);
    let rate = megabits(&mut simulator, 2, 10);
    assert!((0.8..=1.0).contains(&rate), "{rate}");
}

#[test]
fn a15_ten_times_the_bandwidth_is_found() {
    let mut path = Path::new(2, 50);
    path.queue = 125_000;
    path.changes = vec![(Duration::from_secs(6), 2_500_000, path.rtt)];
    let mut simulator = lone(path, 6);
    let rate = megabits(&mut simulator, 12, 14);
    assert!(rate > 17.0, "{rate}");
}

#[test]
fn a16_a_tenth_of_the_bandwidth_is_adapted_to() {
    let mut path = Path::new(20, 50);
    path.changes = vec![(Duration::from_secs(4), 250_000, path.rtt)];
    let mut simulator = lone(path, 8);
    let bw = simulator.flows[0].control.bw;
    assert!(bw < 2_000_000, "{bw}");
    megabits(&mut simulator, 9, 26);
    let max_bw = simulator.flows[0].control.max_bw.get();
    assert!(max_bw < 300_000, "{max_bw}");
}

#[test]
fn a17_a_policer_is_obeyed() {
    let mut path = Path::new(20, 50);
    path.bucket = Some(50_000);
    let mut simulator = lone(path, 2);
    let lost = simulator.flows[0].lost;
    let rate = megabits(&mut simulator, 2, 12);
    let lost = (simulator.flows[0].lost - lost) as f64 * 8e-6 / 10.0;
    assert!(rate > 15.0, "{rate}");
    assert!(lost < rate * 0.02, "{lost} of {rate}");
}

fn probing_goes_on_after_an_undone_loss(persistent: bool) {
    let mut script = Script::in_up();
    script.round(RATE, BDP);
    let (window, longterm) = (script.bbr.window(), script.bbr.inflight_longterm);
    script.lose(40, BDP, persistent);
    assert_eq!(script.bbr.state, State::Down);
    assert_ne!(script.bbr.inflight_longterm, longterm);
    if persistent {
        assert!(script.bbr.window() < window);
    }
    script.bbr.on_spurious_loss(script.now);
    assert_eq!(script.bbr.state, State::Refill);
    assert_eq!(script.bbr.inflight_longterm, longterm);
    assert_eq!(script.bbr.bw_shortterm, UNBOUNDED);
    assert_eq!(script.bbr.inflight_shortterm, UNBOUNDED);
    assert_eq!(script.bbr.window(), window);
}

#[test]
fn a18_a_spurious_loss_is_undone() {
    probing_goes_on_after_an_undone_loss(false);
}

#[test]
fn a19_a_spurious_persistent_congestion_is_undone() {
    probing_goes_on_after_an_undone_loss(true);
}

#[test]
fn a20_probe_rtt_in_startup_leads_back_to_startup() {
    let mut script = Script::new();
    script.app_limited = true;
    script.rtt = RTT + Duration::from_millis(1);
    script.round(RATE / 8, BDP / 8);
    script.now += Duration::from_secs(6);
    assert_eq!(script.round(RATE / 8, BDP / 8), State::ProbeRtt);
    for _ in 0..8 {
        script.round(RATE / 8, 4 * MTU);
    }
    assert_eq!(script.bbr.state, State::Startup);
}

#[test]
fn a21_losses_of_a_probe_lower_the_bound_it_had() {
    let mut script = Script::in_up();
    script.bbr.inflight_longterm = 2 * BDP;
    script.round(RATE, BDP);
    script.lose(60, BDP, false);
    assert_eq!(script.bbr.state, State::Down);
    assert!(script.bbr.inflight_longterm < 2 * BDP);
    assert!(script.bbr.inflight_longterm >= BDP * 7 / 10);
}

#[test]
fn a22_a_refill_without_data_leaves_the_bandwidth_estimate_alone() {
    let mut script = Script::in_refill();
    let before = script.bbr.max_bw.get();
    script.app_limited = true;
    assert_eq!(script.round(RATE / 10, MTU), State::Up);
    assert_eq!(script.bbr.max_bw.get(), before);
    assert_eq!(script.bbr.ack_phase, AckPhase::ProbeStarting);
}

#[test]
fn random_loss_without_a_queue_costs_little_and_startup_leaves_a_third_of_the_queue_free() {
    for (loss, least) in [(0.0, 86.0), (0.001, 86.0), (0.01, 83.0), (0.05, 79.0)] {
        let mut path = Path::new(100, 50);
        path.loss = loss;
        let mut simulator = Simulator::new(path.clone(), 2);
        let bbr = Bbr::new(&start(simulator.start, path.rtt, 2));
        simulator.add(bbr, 20_000_000, Duration::ZERO);
        assert!(simulator.run(Duration::from_secs(5), |s| s.flows[0].done_at.is_some()));
        let goodput = simulator.flows[0].goodput();
        assert!(goodput > least, "{goodput} at {loss}");
        assert!(
            simulator.peak_queue < path.queue * 2 / 3,
            "{}",
            simulator.peak_queue
        );
    }
}

/// Transfers over a path that loses 5 % behind such a queue; in how many of a hundred the window
/// came to be bounded.
fn bounded_by_losses(queue: u64) -> usize {
    let mut path = Path::new(100, 50);
    path.loss = 0.05;
    path.queue = queue;
    let bounded = |seed: &u64| {
        let mut simulator = Simulator::new(path.clone(), *seed);
        let bbr = Bbr::new(&start(simulator.start, path.rtt, *seed));
        simulator.add(bbr, 10_000_000, Duration::ZERO);
        simulator.run(Duration::from_secs(5), |s| s.flows[0].backlog == 0);
        simulator.flows[0].control.inflight_longterm != UNBOUNDED
    };
    (1..=100).filter(bounded).count()
}

#[test]
fn losses_by_chance_while_a_queue_stands_are_no_overflow() {
    assert_eq!(bounded_by_losses(BDP), 0);
}

#[test]
fn an_overflow_is_seen_among_losses_by_chance() {
    assert_eq!(bounded_by_losses(BDP / 4), 100);
}

#[test]
fn jitter_on_the_loopback_does_not_slow_it_down() {
    let mut path = Path::new(2_000, 1);
    path.rtt = Duration::from_micros(50);
    path.queue = 4_000_000;
    path.jitter = Duration::from_micros(500);
    path.ack_every = Duration::from_micros(100);
    let simulator = lone(path, 1);
    let megabits = simulator.flows[0].delivered as f64 * 8e-6;
    assert!(megabits > 1_700.0, "{megabits}");
}

#[test]
fn two_share_a_bottleneck() {
    let path = Path::new(20, 50);
    let mut simulator = Simulator::new(path.clone(), 1);
    for seed in 1..3 {
        let bbr = Bbr::new(&start(simulator.start, path.rtt, seed));
        simulator.add(bbr, 1 << 50, Duration::ZERO);
    }
    simulator.run(Duration::from_secs(30), |_| false);
    let jain = simulator.jain();
    assert!(jain > 0.9, "{jain}");
}

#[test]
fn a_cubic_sender_beside_it_gets_its_share() {
    let path = Path::new(50, 50);
    let mut simulator: Simulator<Box<dyn Congestion>> = Simulator::new(path.clone(), 1);
    let start = start(simulator.start, path.rtt, 1);
    simulator.add(Box::new(Bbr::new(&start)), 1 << 50, Duration::ZERO);
    simulator.add(Box::new(Cubic::new(&start)), 1 << 50, Duration::ZERO);
    simulator.run(Duration::from_secs(30), |_| false);
    let jain = simulator.jain();
    assert!(jain > 0.8, "{jain}");
}

#[test]
fn without_a_round_trip_the_first_window_is_small_and_the_first_sample_sets_the_pace() {
    let mut script = Script::new();
    script.bbr = Bbr::new(&Start {
        rtt: None,
        ..start(script.now, RTT, 1)
    });
    assert_eq!(script.bbr.window(), 10 * MTU);
    let unknown = script.bbr.pacing_rate();
    script.round(MTU, 9 * MTU);
    assert!(script.bbr.pacing_rate() < unknown);
}

#[test]
fn a_congestion_mark_ends_startup() {
    let mut script = Script::new();
    script.round(RATE / 2, BDP / 2);
    script.bbr.on_congestion(&Loss {
        now: script.now,
        bytes: 0,
        largest: script.packet,
        largest_sent_at: script.now,
        in_flight: BDP,
        next_packet: script.packet,
        persistent: false,
        ecn: true,
    });
    script.round(RATE, BDP);
    assert_ne!(script.round(RATE, BDP), State::Startup);
}

#[test]
fn hostile_numbers_do_no_harm() {
    let mut script = Script::new();
    for rate in [0, 1, u64::MAX] {
        for rtt in [Duration::ZERO, Duration::from_secs(1 << 30)] {
            script.bbr.on_mtu(rate);
            let ack = Ack {
                now: script.now,
                bytes: rate,
                largest: rate,
                largest_sent_at: script.now,
                next_packet: rate,
                prior_in_flight: rate,
                in_flight: rate,
                lost: rate,
                app_limited: false,
                rtt: Some(rtt),
                smoothed_rtt: rtt,
                min_rtt: rtt,
                delivery: Delivery {
                    rate: Some(rate),
                    app_limited: false,
                    prior_delivered: rate,
                    delivered: rate,
                    interval_delivered: rate,
                    lost: rate,
                    tx_in_flight: rate,
                    interval: rtt,
                },
            };
            for _ in 0..8 {
                script.bbr.on_ack(&ack);
                script.lose(8, rate, true);
                script.bbr.on_spurious_loss(script.now);
            }
            assert!(script.bbr.window() >= 1);
        }
    }
}
