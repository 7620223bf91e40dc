//! What rows are sorted by.

use std::cmp::Ordering;

use clap::ValueEnum;

use super::meter::Row;

/// The largest first, but names and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// What arrives there
    Goodput,
    /// The client's name
    Name,
    /// The client's address
    Client,
    /// The congestion window
    Window,
    /// Bytes in flight
    Flight,
    /// The smoothed round trip
    Rtt,
    /// Packets lost
    Lost,
    /// Packets sent again
    Again,
    /// How long it is there
    Age,
}

impl Sort {
    /// What the API is asked to sort by, so that those that are left out come after those that are shown. It
    /// knows no rates: who sends much has much in flight.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Goodput | Self::Flight => "-in_flight_bytes",
            Self::Name => "name",
            Self::Client => "client",
            Self::Window => "-window_bytes",
            Self::Rtt => "-rtt_seconds",
            Self::Lost => "-packets_lost",
            Self::Again => "-packets_retransmitted",
            Self::Age => "-connected_seconds",
        }
    }

    /// In a sentence.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Goodput => "goodput",
            Self::Name => "name",
            Self::Client => "address",
            Self::Window => "window",
            Self::Flight => "bytes in flight",
            Self::Rtt => "round trip",
            Self::Lost => "packets lost",
            Self::Again => "packets sent again",
            Self::Age => "age",
        }
    }

    /// The one after it.
    pub(super) fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|sort| *sort == self).unwrap_or(0);
        all[(at + 1) % all.len()]
    }

    /// Sorts; those that lack the quantity come last, those that are equal stay as they are.
    pub(super) fn sort(self, rows: &mut [Row]) {
        match self {
            Self::Goodput => by(rows, |row| row.goodput),
            Self::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
            Self::Client => rows.sort_by_key(|row| row.session.client),
            Self::Window => by(rows, |row| row.window),
            Self::Flight => by(rows, |row| row.in_flight),
            Self::Rtt => by(rows, |row| row.rtt),
            Self::Lost => by(rows, |row| row.lost),
            Self::Again => by(rows, |row| row.again),
            Self::Age => by(rows, |row| Some(row.age)),
        }
    }
}

fn by<T: PartialOrd>(rows: &mut [Row], key: impl Fn(&Row) -> Option<T>) {
    // None is less than any value; what can't be compared is equal.
    rows.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(Ordering::Equal));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::meter::Meter;

    #[test]
    fn the_largest_is_first_and_what_is_not_known_last() {
        let session = |port: u16, rtt: Option<f64>, name: &str| {
            serde_json::from_value(serde_json::json!({
                "kind": "transport", "client": format!("127.0.0.1:{port}"), "name": name,
                "rtt_seconds": rtt, "connected_seconds": f64::from(port) + 20.0,
            }))
            .expect("a session")
        };
        let sessions = vec![
            session(1, Some(0.1), "b"),
            session(2, None, "c"),
            session(3, Some(0.3), "a"),
        ];
        let mut rows = Meter::default().rows(sessions, 0.0, 1.0);
        let mut order = |sort: Sort| {
            sort.sort(&mut rows);
            let ports = rows.iter().map(|row| row.session.client.port());
            ports.collect::<Vec<_>>()
        };
        assert_eq!(order(Sort::Rtt), [3, 1, 2]);
        assert_eq!(order(Sort::Name), [3, 1, 2]);
        assert_eq!(order(Sort::Client), [1, 2, 3]);
        assert_eq!(order(Sort::Age), [3, 2, 1]);
        // Equal: as it was.
        assert_eq!(order(Sort::Goodput), [3, 2, 1]);
        let mut sort = Sort::Goodput;
        for _ in Sort::value_variants() {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Goodput);
    }
}
