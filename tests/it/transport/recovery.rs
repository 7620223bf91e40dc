//! RFC 9002, line by line, as its peer sees it.

use std::{cell::Cell, rc::Rc, time::Duration};

use labnet::{
    link::Way,
    rudp::{
        congestion::Algorithm,
        connection::Config,
        packet::{Frame, Parameters},
    },
};

use crate::transport::sim::{
    Datagram, Sim, address,
    puppet::{Puppet, Seen, stream},
};

const RTT: Duration = Duration::from_millis(100);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn puppet() -> Puppet {
    let config = Config {
        congestion: Algorithm::NewReno,
        // No probes of the size among what is counted here.
        max_datagram: 1200,
        ..Config::default()
    };
    Puppet::connected(config, RTT)
}

/// Small packets, as many as asked for, and their numbers: they do not fill the window.
fn packets(puppet: &mut Puppet, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.extend(puppet.write(100));
        puppet.wait(ms(1));
    }
    assert_eq!(numbers.len(), count);
    numbers
}

#[test]
fn only_a_newly_acknowledged_largest_packet_is_a_sample() {
    let mut puppet = puppet();
    let sent = packets(&mut puppet, 3);
    puppet.now += RTT;
    puppet.ack(&[sent[2]..=sent[2]], Duration::ZERO);
    let sample = puppet.server.stats().latest_rtt;
    assert!(sample >= RTT && sample < RTT + ms(5), "{sample:?}");
    // The others' acknowledgement comes late and says nothing, nor does the same one again.
    puppet.now += RTT / 20;
    puppet.ack(&[sent[1]..=sent[2]], Duration::ZERO);
    puppet.ack(&[sent[1]..=sent[2]], Duration::ZERO);
    assert_eq!(puppet.server.stats().latest_rtt, sample);
}

#[test]
fn a_packet_that_only_acknowledges_is_no_sample_and_not_in_flight() {
    let mut puppet = puppet();
    let before = puppet.server.stats();
    puppet.send(&[Frame::Ping]);
    puppet.send(&[Frame::Ping]);
    let last = puppet.seen[puppet.seen.len() - 1].clone();
    assert!(!last.is_ack_eliciting());
    assert_eq!(puppet.server.stats().in_flight, 0);
    puppet.now += RTT * 3;
    puppet.ack(&[last.number..=last.number], Duration::ZERO);
    assert_eq!(puppet.server.stats().latest_rtt, before.latest_rtt);
}

#[test]
fn acknowledgement_delay_is_believed_within_bounds() {
    let mut puppet = puppet();
    let min = puppet.server.stats().min_rtt;
    let sample = |puppet: &mut Puppet, rtt: Duration, delay| {
        let sent = packets(puppet, 1);
        puppet.now += rtt - ms(1);
        puppet.ack(&[sent[0]..=sent[0]], delay);
        puppet.server.stats()
    };
    // What the peer promised is 25 ms: an hour is believed as that.
    let before = puppet.server.stats().rtt;
    let stats = sample(&mut puppet, RTT + ms(80), Duration::from_secs(3600));
    let expected = before * 7 / 8 + (RTT + ms(55)) / 8;
    assert!(
        stats.rtt.abs_diff(expected) < ms(1),
        "{:?} {expected:?}",
        stats.rtt
    );
    assert_eq!(stats.min_rtt, min);
    // Less than the minimum never comes out: then nothing is subtracted.
    let before = stats.rtt;
    let stats = sample(&mut puppet, RTT + ms(10), ms(25));
    let expected = before * 7 / 8 + (RTT + ms(10)) / 8;
    assert!(
        stats.rtt.abs_diff(expected) < ms(1),
        "{:?} {expected:?}",
        stats.rtt
    );
    // The minimum knows no delay.
    let stats = sample(&mut puppet, RTT - ms(40), ms(25));
    assert!(
        stats.min_rtt.abs_diff(RTT - ms(40)) < ms(1),
        "{:?}",
        stats.min_rtt
    );
}

#[test]
fn a_packet_is_lost_when_one_three_later_is_acknowledged() {
    let mut puppet = puppet();
    let sent = packets(&mut puppet, 4);
    // One right behind another, or a left-out number is the third.
    puppet.now += RTT;
    puppet.ack(&[sent[0] + 2..=sent[0] + 2], Duration::ZERO);
    assert_eq!(puppet.server.stats().packets_lost, 0);
    puppet.ack(&[sent[3]..=sent[3]], Duration::ZERO);
    assert_eq!(puppet.server.stats().packets_lost, 1);
}

#[test]
fn a_packet_is_lost_after_nine_eighths_of_a_round_trip() {
    let mut puppet = puppet();
    let sent = packets(&mut puppet, 2);
    let sent_at = puppet.now - ms(2);
    puppet.now += RTT;
    puppet.ack(&[sent[1]..=sent[1]], Duration::ZERO);
    let stats = puppet.server.stats();
    let delay = stats.rtt.max(stats.latest_rtt) * 9 / 8;
    let wait = (sent_at + delay) - puppet.now;
    puppet.wait(wait - ms(1));
    assert_eq!(puppet.server.stats().packets_lost, 0);
    puppet.wait(ms(2));
    assert_eq!(puppet.server.stats().packets_lost, 1);
    assert_eq!(puppet.server.stats().probe_timeouts, 0);
}

#[test]
fn a_spurious_loss_is_undone_and_raises_the_threshold() {
    let mut puppet = puppet();
    let sent = packets(&mut puppet, 8);
    let window = puppet.server.stats().window;
    puppet.now += RTT;
    puppet.ack(&[sent[5]..=sent[5]], Duration::ZERO);
    let stats = puppet.server.stats();
    assert!(
        stats.packets_lost >= 3 && stats.window < window,
        "{stats:?}"
    );
    // They were only late.
    puppet.now += ms(2);
    puppet.ack(&[sent[0]..=sent[7]], Duration::ZERO);
    let stats = puppet.server.stats();
    assert_eq!(stats.spurious_losses, stats.packets_lost);
    assert_eq!(stats.spurious_congestion_events, 1);
    assert!(stats.window >= window, "{stats:?}");
    // The same once more is no loss any more.
    let again = packets(&mut puppet, 8);
    puppet.now += RTT;
    puppet.ack(&[again[5]..=again[5]], Duration::ZERO);
    assert_eq!(puppet.server.stats().packets_lost, stats.packets_lost);
}

#[test]
fn a_probe_timeout_loses_nothing_and_doubles() {
    let mut puppet = puppet();
    packets(&mut puppet, 5);
    let in_flight = puppet.server.stats().in_flight;
    let (mut last, mut gaps, mut count) = (puppet.now, Vec::new(), 0);
    while gaps.len() < 12 {
        puppet.wait(ms(1));
        let stats = puppet.server.stats();
        if stats.probe_timeouts > count {
            count = stats.probe_timeouts;
            gaps.push((puppet.now - last).as_millis());
            last = puppet.now;
        }
    }
    let stats = puppet.server.stats();
    assert_eq!((stats.packets_lost, stats.congestion_events), (0, 0));
    // Probes are in flight, too, though the window does not hold them back.
    assert!(stats.in_flight > in_flight + 12 * 100, "{stats:?}");
    // Ten times within what a student waits for, then doubling for good.
    for (n, pair) in gaps.windows(2).enumerate() {
        let doubled = pair[1].abs_diff(2 * pair[0]) < 20;
        let longest = 1000.max(gaps[0] * 4);
        assert!(
            doubled || n < 10 && pair[1].abs_diff(longest) < 20,
            "{gaps:?}"
        );
    }
    // Once all is acknowledged no timer is left but the idle one.
    puppet.ack_all();
    let stats = puppet.server.stats();
    assert_eq!(stats.in_flight, 0);
    let before = (puppet.seen.len(), stats.probe_timeouts);
    puppet.wait(Duration::from_secs(20));
    let stats = puppet.server.stats();
    assert_eq!((puppet.seen.len(), stats.probe_timeouts), before);
}

#[test]
fn persistent_congestion_leaves_two_packets() {
    let mut puppet = puppet();
    packets(&mut puppet, 5);
    // Everything of two seconds is lost, its probes too.
    puppet.wait(Duration::from_secs(2));
    let last = packets(&mut puppet, 3);
    puppet.now += RTT;
    puppet.ack(&[last[2]..=last[2]], Duration::ZERO);
    assert_eq!(puppet.server.stats().window, 2 * 1200);
}

#[test]
fn a_short_outage_is_no_persistent_congestion() {
    let mut puppet = puppet();
    packets(&mut puppet, 5);
    let last = packets(&mut puppet, 3);
    puppet.now += RTT;
    puppet.ack(&[last[2]..=last[2]], Duration::ZERO);
    let stats = puppet.server.stats();
    assert!(
        stats.packets_lost >= 5 && stats.window > 2 * 1200,
        "{stats:?}"
    );
}

#[test]
fn the_window_shrinks_once_a_round_trip() {
    let mut puppet = puppet();
    let sent = packets(&mut puppet, 9);
    puppet.now += RTT;
    puppet.ack(&[sent[3]..=sent[3]], Duration::ZERO);
    let once = puppet.server.stats().window;
    // Another loss of before the reduction.
    puppet.ack(&[sent[8]..=sent[8], sent[3]..=sent[3]], Duration::ZERO);
    let stats = puppet.server.stats();
    assert!(stats.packets_lost > 3);
    assert_eq!((stats.window, stats.congestion_events), (once, 1));
    // And one of after it.
    let later = packets(&mut puppet, 5);
    puppet.now += RTT;
    puppet.ack(&[later[4]..=later[4]], Duration::ZERO);
    let stats = puppet.server.stats();
    assert!(stats.window < once && stats.congestion_events == 2);
}

#[test]
fn the_first_window_is_ten_packets_and_no_more() {
    let mut puppet = puppet();
    let window = puppet.server.stats().window;
    assert!((10 * 1200..=14_720 + 3000).contains(&window), "{window}");
    puppet.write(100_000);
    puppet.wait(RTT / 2);
    let in_flight = puppet.server.stats().in_flight;
    assert!(
        in_flight <= window && in_flight + 1200 > window,
        "{in_flight}"
    );
}

#[test]
fn a_sender_with_little_to_send_does_not_widen_the_window() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic, Algorithm::Vegas] {
        let config = Config {
            congestion: algorithm,
            max_datagram: 1200,
            ..Config::default()
        };
        let mut puppet = Puppet::connected(config, RTT);
        let window = puppet.server.stats().window;
        for _ in 0..50 {
            packets(&mut puppet, 1);
            puppet.now += RTT;
            puppet.ack_all();
        }
        assert_eq!(puppet.server.stats().window, window, "{algorithm}");
    }
}

#[test]
fn held_back_by_flow_control_is_not_held_back_by_the_window() {
    let mut puppet = puppet();
    let window = puppet.server.stats().window;
    // One packet's worth of limit at a time is all the client ever grants: it is granted so much
    // at first that the server's own pieces stand in for it.
    for _ in 0..20 {
        packets(&mut puppet, 2);
        puppet.now += RTT;
        puppet.ack_all();
    }
    assert_eq!(puppet.server.stats().window, window);
}

#[test]
fn a_path_that_fails_leaves_what_is_in_flight_exact() {
    let mut puppet = puppet();
    let home = puppet.from;
    packets(&mut puppet, 5);
    puppet.from = "10.9.9.9:9".parse().expect("an address");
    puppet.send(&[Frame::Ping]);
    puppet.wait(ms(7000));
    assert_eq!(puppet.server.remote(), home);
    puppet.from = home;
    puppet.send(&[stream(0, 1, b"y")]);
    puppet.wait(Duration::from_secs(3));
    puppet.ack_all();
    puppet.wait(Duration::from_secs(3));
    puppet.ack_all();
    let stats = puppet.server.stats();
    assert_eq!(stats.in_flight, 0, "{stats:?}");
    assert_eq!(puppet.server.held(), 0);
    assert_eq!(puppet.closed(), None);
}

#[test]
fn congestion_marks_go_on_after_a_change_of_address() {
    let link = "rate=10mbit,delay=15ms,queue=37500B";
    let mut sim = Sim::new(link, link, Config::default(), 1);
    sim.client(Algorithm::NewReno, &[4_000_000]);
    sim.rebind_at(ms(1000), 0, address("10.0.2.1:1000"));
    // The server's datagrams since a while after it, and those that were marked.
    let seen = Rc::new(Cell::new((0, 0)));
    sim.at(ms(2000), {
        let seen = Rc::clone(&seen);
        move |sim| {
            sim.path.tap = Some(Box::new(move |way, datagram: &mut Datagram, _| {
                if way == Way::Down {
                    let (all, marked) = seen.get();
                    seen.set((all + 1, marked + u32::from(datagram.ecn.is_some())));
                }
                true
            }));
        }
    });
    sim.download(Duration::from_secs(60)).expect("not stuck");
    let moves = sim
        .server
        .served
        .values()
        .map(|served| served.application.moves().len());
    assert_eq!(moves.sum::<usize>(), 1);
    let (all, marked) = seen.get();
    assert!(all > 500 && marked > all - all / 10, "{marked} of {all}");
}

#[test]
fn a_probe_goes_although_the_window_is_full() {
    let mut puppet = puppet();
    puppet.write(100_000);
    puppet.wait(RTT);
    let stats = puppet.server.stats();
    assert!(stats.in_flight + 1200 > stats.window && stats.probe_timeouts == 0);
    while puppet.server.stats().probe_timeouts == 0 {
        puppet.wait(ms(10));
    }
    let stats = puppet.server.stats();
    assert!(stats.in_flight > stats.window, "{stats:?}");
    assert_eq!(stats.packets_lost, 0);
}

#[test]
fn an_acknowledgement_waits_neither_for_the_window_nor_for_the_pacer() {
    let mut puppet = puppet();
    puppet.write(100_000);
    // Held back by the pacer first, then by the window.
    for _ in 0..2 {
        let in_flight = puppet.server.stats().in_flight;
        let since = puppet.seen.len();
        puppet.send(&[Frame::Ping]);
        puppet.send(&[Frame::Ping]);
        assert!(puppet.seen.len() > since);
        assert!(puppet.seen[since..].iter().all(|s| !s.is_ack_eliciting()));
        assert_eq!(puppet.server.stats().in_flight, in_flight);
        puppet.wait(RTT);
    }
}

#[test]
fn what_the_pacer_holds_back_is_not_for_want_of_data() {
    let mut puppet = puppet();
    let window = puppet.server.stats().window;
    puppet.write(1_000_000);
    for _ in 0..10 {
        puppet.wait(RTT / 2);
        puppet.ack_all();
    }
    let stats = puppet.server.stats();
    assert!(stats.window > 2 * window, "{stats:?}");
}

/// A packet, then for more than what persistent congestion takes nothing arrives; but for one in
/// the middle, if it does.
fn outage(one_arrives: bool) -> Puppet {
    let mut puppet = puppet();
    let stats = puppet.server.stats();
    let persistent = (stats.rtt + (stats.rtt_variation * 4).max(ms(1)) + ms(25)) * 3;
    packets(&mut puppet, 1);
    puppet.wait(persistent * 6 / 10);
    let middle = packets(&mut puppet, 1)[0];
    puppet.wait(persistent * 6 / 10);
    packets(&mut puppet, 1);
    let last = packets(&mut puppet, 3)[2];
    puppet.now += RTT + ms(50);
    let arrived = |number| number == last || number == middle && one_arrives;
    puppet.ack_if(|seen| arrived(seen.number));
    puppet
}

#[test]
fn persistent_congestion_has_the_least_round_trip_start_over() {
    let stats = outage(false).server.stats();
    assert_eq!(stats.window, 2 * 1200);
    assert_eq!(stats.min_rtt, stats.latest_rtt);
    assert!(stats.min_rtt > RTT + ms(40), "{stats:?}");
}

#[test]
fn one_that_arrives_in_between_makes_it_two_outages() {
    let stats = outage(true).server.stats();
    assert!(
        stats.packets_lost >= 3 && stats.window > 2 * 1200,
        "{stats:?}"
    );
    assert!(stats.min_rtt < RTT + ms(10), "{stats:?}");
}

#[test]
fn what_was_lost_before_the_first_sample_is_no_persistent_congestion() {
    let config = Config {
        congestion: Algorithm::NewReno,
        max_datagram: 1200,
        ..Config::default()
    };
    let mut puppet = Puppet::unconfirmed(config, Parameters::default());
    // PINGs, again and again.
    puppet.wait(Duration::from_secs(9));
    let last = puppet.seen[puppet.seen.len() - 1].number;
    assert!(last > 5);
    puppet.ack(&[last..=last], Duration::ZERO);
    let stats = puppet.server.stats();
    assert!(
        stats.packets_lost > 0 && stats.window > 2 * 1200,
        "{stats:?}"
    );
}

/// A client that has moved to another host, and has proven it.
fn moved(config: Config, to: &str) -> Puppet {
    let mut puppet = Puppet::connected(config, RTT);
    puppet.from = address(to);
    puppet.send(&[Frame::Ping]);
    let challenge = puppet.seen.iter().rev().find_map(Seen::challenge);
    puppet.now += RTT;
    puppet.send(&[Frame::PathResponse(challenge.expect("a challenge"))]);
    puppet
}

#[test]
fn lost_probes_of_the_size_are_neither_congestion_nor_in_flight() {
    let mut puppet = moved(Config::default(), "10.9.9.9:9");
    let before = puppet.server.stats();
    for _ in 0..100 {
        packets(&mut puppet, 1);
        puppet.wait(RTT);
        puppet.ack_if(|seen| seen.size <= 1200);
    }
    let stats = puppet.server.stats();
    assert!(stats.mtu_probes_lost >= 3, "{stats:?}");
    assert_eq!((stats.mtu, stats.in_flight), (1200, 0));
    assert_eq!(
        (stats.packets_lost, stats.congestion_events),
        (before.packets_lost, before.congestion_events)
    );
    // No timer is left that would find nothing.
    puppet.wait(Duration::from_secs(20));
    assert_eq!(puppet.server.stats().probe_timeouts, stats.probe_timeouts);
}

#[test]
fn another_host_is_another_path_and_another_port_is_not() {
    let config = Config {
        congestion: Algorithm::NewReno,
        ..Config::default()
    };
    let grown = |puppet: &mut Puppet| {
        puppet.write(1_000_000);
        for _ in 0..10 {
            puppet.wait(RTT / 2);
            puppet.ack_all();
        }
        puppet.server.stats()
    };
    for (to, same) in [("10.0.1.1:9", true), ("10.9.9.9:1000", false)] {
        let mut puppet = Puppet::connected(config.clone(), RTT);
        let before = grown(&mut puppet);
        let home = std::mem::replace(&mut puppet.from, address(to));
        puppet.send(&[Frame::Ping]);
        let there = puppet.server.stats();
        assert_eq!(puppet.server.remote(), address(to));
        assert_eq!(there.window == before.window, same, "{to}");
        assert_eq!(there.rtt == before.rtt, same, "{to}");
        assert_eq!(there.mtu == before.mtu, same, "{to}");
        // It is back before anybody has answered: with what was known of it.
        puppet.from = home;
        puppet.send(&[Frame::Ping]);
        let back = puppet.server.stats();
        assert_eq!(puppet.server.remote(), home);
        assert_eq!((back.window, back.mtu), (before.window, before.mtu));
    }
}
