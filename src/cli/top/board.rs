//! What is known of the service: the last poll, the rates since the one before, and since when it is silent.

use super::{
    meter::{Meter, Row, TotalRates},
    polled::{Detail, Polled},
    sort::Sort,
};

/// A moment: seconds of a clock that nobody sets, and seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment {
    pub(super) steady: f64,
    pub(super) unix: f64,
}

impl Moment {
    /// `12:03:04`, UTC.
    pub(super) fn time(self) -> String {
        time(self.unix)
    }
}

fn time(unix: f64) -> String {
    let seconds = unix.max(0.0) as u64 % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Everything that was heard.
#[derive(Debug)]
pub(super) struct Board {
    /// A rate is told anew after so many seconds.
    least: f64,
    pub(super) meter: Meter,
    /// What was heard last, less its sessions.
    pub(super) last: Option<Polled>,
    pub(super) heard: Moment,
    pub(super) rates: Option<TotalRates>,
    pub(super) rows: Vec<Row>,
    /// Since when there is no answer, and why.
    pub(super) gone: Option<(Moment, String)>,
}

impl Board {
    /// Nothing was heard yet; a rate is told anew after `interval` seconds, or somewhat less.
    pub(super) fn new(interval: f64) -> Self {
        Self {
            // A poll that is early by a little has its rate.
            least: interval * 0.7,
            meter: Meter::default(),
            last: None,
            heard: Moment {
                steady: 0.0,
                unix: 0.0,
            },
            rates: None,
            rows: Vec::new(),
            gone: None,
        }
    }

    /// An answer, or none, has come.
    pub(super) fn hear(&mut self, polled: Result<Polled, String>, sort: Sort, now: Moment) {
        let mut polled = match polled {
            Ok(polled) => polled,
            Err(why) => {
                self.gone.get_or_insert((now, why));
                return;
            }
        };
        self.gone = None;
        self.heard = now;
        self.rates = self.meter.totals(polled.totals, now.steady, self.least);
        let sessions = std::mem::take(&mut polled.sessions);
        self.rows = self.meter.rows(sessions, now.steady, self.least);
        sort.sort(&mut self.rows);
        self.last = Some(polled);
    }

    /// What was told of the one session that was asked about.
    pub(super) fn detail(&self) -> Option<&Detail> {
        self.last.as_ref()?.detail.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_of_the_day() {
        assert_eq!(time(0.0), "00:00:00");
        assert_eq!(time(1_764_504_184.9), "12:03:04");
    }

    #[test]
    fn it_is_gone_since_the_first_silence_and_back_with_the_first_answer() {
        let mut board = Board::new(1.0);
        let at = |steady: f64| Moment {
            steady,
            unix: steady,
        };
        board.hear(Err("refused".to_owned()), Sort::Name, at(4.0));
        board.hear(Err("timeout".to_owned()), Sort::Name, at(5.0));
        let gone = board.gone.clone().expect("gone");
        assert_eq!((gone.0, gone.1.as_str()), (at(4.0), "refused"));
        board.hear(Ok(super::super::tests::polled(&[])), Sort::Name, at(6.0));
        assert!(board.gone.is_none() && board.heard == at(6.0));
    }
}
