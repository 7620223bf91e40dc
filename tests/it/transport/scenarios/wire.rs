//! The link that the benchmarks measure on the wire: 100 Mbit/s, 25 ms each way, a queue of what the
//! path holds, chance losses both ways, 20 MB. Here it is exact.

use labnet::{
    link::Way,
    rudp::congestion::Algorithm::{self, Bbr, Cubic, NewReno, Vegas},
};

use super::{MB, Outcome, each, file, link_time, reno_time};

const SIZE: u64 = 20 * MB;
const QUEUE: u64 = 625_000;
const RTT: f64 = 0.05;

/// `bbr` in Mbit/s is what BBR gets at the least, `linux` what CUBIC of Linux gets there: ours is not
/// to fall short of it by more than 15 %.
fn wire(loss: f64, bbr: f64, linux: f64) {
    let link = format!("rate=100mbit,delay=25ms,queue={QUEUE}B,loss={loss}");
    let frugal = |algorithm: Algorithm, outcome: &Outcome| {
        let down = outcome.sim.path.link.direction(Way::Down).counters();
        let needed = SIZE as f64 / 1445.0 / (1.0 - loss / 100.0);
        let share = down.sent as f64 / needed;
        println!(
            "{:24} {:9} {share:.3} of the packets needed, {} bytes queued",
            format!("wire, {loss} %"),
            algorithm.name(),
            down.queued_bytes_max
        );
        if algorithm == Bbr {
            assert!(share < 1.05, "{share}");
            assert!(down.queued_bytes_max < QUEUE * 4 / 5, "{down:?}");
        }
    };
    // A queue of what the path holds lets NewReno use it to the full, but for slow start.
    let lossless = link_time(SIZE, 100.0) * 1.1 + 6.0 * RTT;
    // A window of five packets, as with a loss of 5 %, is often too small to show a loss by three
    // later ones: the probe timeout has to.
    let probing = 1.4 + 6.0 * loss / 100.0;
    let bound = |algorithm| match algorithm {
        Bbr => SIZE as f64 * 8e-6 / bbr,
        Cubic => SIZE as f64 * 8e-6 / linux / 0.85,
        NewReno | Vegas => lossless.max(reno_time(SIZE, RTT, loss / 100.0) * probing),
    };
    each(&format!("wire, {loss} %"), file(&link, SIZE), bound, frugal);
}

#[test]
fn without_loss() {
    wire(0.0, 86.0, 82.6);
}

#[test]
fn with_one_packet_of_a_thousand_lost() {
    wire(0.1, 86.0, 24.4);
}

#[test]
fn with_one_packet_of_a_hundred_lost() {
    wire(1.0, 84.0, 2.4);
}

#[test]
fn with_one_packet_of_twenty_lost() {
    wire(5.0, 81.0, 0.9);
}
