//! What theory says a sender reaches over a path that loses packets at random: response functions, the
//! mean window as a function of the loss.
//!
//! They hold while losses are rare and far apart, and as long as neither the link's rate nor the peer's
//! window is the bound.

/// Bits a second of AIMD with one segment a round trip and half the window at a loss, as NewReno's: the
/// mean window is sqrt(3/2 / p) segments (Mathis, Semke, Mahdavi and Ott 1997, with every packet
/// acknowledged; the same in RFC 3649 section 2, rounded to 1.2 / sqrt(p)).
///
/// `None` without loss or round trip, where it has no bound.
pub fn mathis(segment_bytes: f64, rtt_seconds: f64, loss: f64) -> Option<f64> {
    rate(segment_bytes, rtt_seconds, loss, (1.5 / loss).sqrt())
}

/// Bits a second of CUBIC: the mean window is that of its cubic growth, (C (3 + beta) / (4 (1 - beta)))^(1/4)
/// (RTT / p)^(3/4) segments, with C = 0.4 and beta = 0.7 (RFC 9438 section 5.1), or that of its
/// Reno-friendly region, which is [`mathis`]'s (section 4.3), whichever is larger.
///
/// `None` without loss or round trip, where it has no bound.
pub fn cubic(segment_bytes: f64, rtt_seconds: f64, loss: f64) -> Option<f64> {
    const C: f64 = 0.4;
    const BETA: f64 = 0.7;
    let factor = (C * (3.0 + BETA) / (4.0 * (1.0 - BETA))).powf(0.25);
    let cubic = factor * (rtt_seconds / loss).powf(0.75);
    let friendly = (1.5 / loss).sqrt();
    rate(segment_bytes, rtt_seconds, loss, cubic.max(friendly))
}

fn rate(segment_bytes: f64, rtt_seconds: f64, loss: f64, window: f64) -> Option<f64> {
    let rate = segment_bytes * 8.0 * window / rtt_seconds;
    (loss > 0.0 && rtt_seconds > 0.0 && rate.is_finite()).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9438 section 5.1, tables 1 and 2: mean windows in segments of CUBIC with C = 0.4.
    #[test]
    fn the_mean_windows_are_those_of_the_rfc() {
        let window = |bound: fn(f64, f64, f64) -> Option<f64>, rtt, loss| {
            bound(1500.0, rtt, loss).expect("a loss and a round trip") * rtt / 8.0 / 1500.0
        };
        for (rtt, loss, reno, cubic_window) in [
            (0.1, 1e-2, 12.0, 12.0),
            (0.1, 1e-3, 38.0, 38.0),
            (0.1, 1e-4, 120.0, 187.0),
            (0.1, 1e-6, 1200.0, 5927.0),
            (0.01, 1e-5, 379.0, 379.0),
            (0.01, 1e-8, 12_000.0, 33_332.0),
        ] {
            let near = |is: f64, says: f64| (is / says - 1.0).abs() < 0.03;
            let (is_reno, is_cubic) = (window(mathis, rtt, loss), window(cubic, rtt, loss));
            assert!(near(is_reno, reno), "{rtt} {loss}: {is_reno}");
            assert!(near(is_cubic, cubic_window), "{rtt} {loss}: {is_cubic}");
        }
    }

    #[test]
    fn there_is_no_bound_without_loss() {
        assert_eq!(mathis(1500.0, 0.05, 0.0), None);
        assert_eq!(cubic(1500.0, 0.05, 0.0), None);
        assert_eq!(cubic(1500.0, 0.0, 0.01), None);
    }
}
