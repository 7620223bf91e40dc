//! Intervals for files, pipes and terminals that can't be drawn on: rows as iperf3 has them, and JSON.

use serde::Serialize;
use serde_json::Value;

use super::{
    board::Board,
    column::{mbit, ms},
    frame::fit,
    meter::{Row, Window},
};
use crate::{
    client::units::Size,
    text::{LONG, printable},
};

/// Above the rows.
pub(super) const HEAD: &str = "TIME      NAME          CLIENT                 CONTROL    PHASE               MBIT/S   WINDOW   FLIGHT     RTT     MIN     LOST    AGAIN";

/// One row for each session.
pub(super) fn rows(board: &Board) -> Vec<String> {
    let time = board.heard.time();
    board.rows.iter().map(|row| text(&time, row)).collect()
}

fn text(time: &str, row: &Row) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let count = |count: Option<u64>| or_dash(count.map(|count| count.to_string()));
    let window = row.window.map(|window| match window {
        Window::Signals(signals) => format!("{signals} sig"),
        Window::Bytes(bytes) => Size(bytes).to_string(),
    });
    format!(
        "{time}  {} {:<22} {:<10} {:<16} {:>9} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8}",
        fit(&printable(&row.name, LONG), 13),
        row.client,
        printable(&row.control, 32),
        or_dash(row.phase.as_deref().map(|phase| printable(phase, 32))),
        or_dash(row.goodput.map(mbit)),
        or_dash(window),
        or_dash(row.in_flight.map(|bytes| Size(bytes).to_string())),
        or_dash(row.rtt.map(ms)),
        or_dash(row.min_rtt.map(ms)),
        count(row.lost),
        count(row.again),
    )
}

/// An interval: one object on one line.
#[derive(Serialize)]
struct Interval<'a> {
    unix: f64,
    generation: u64,
    uptime_seconds: f64,
    /// Those that are not up.
    components: Vec<Component<'a>>,
    /// How many there are, and how many fit the filter.
    sessions_open: usize,
    sessions_fit: usize,
    /// `null`: not known yet.
    rudp_out_bits_per_second: Option<f64>,
    rudp_in_bits_per_second: Option<f64>,
    http_out_bits_per_second: Option<f64>,
    link: Option<Link>,
    sessions: Vec<Session<'a>>,
}

#[derive(Serialize)]
struct Component<'a> {
    name: &'a str,
    state: &'a str,
}

#[derive(Serialize)]
struct Link {
    out_queue_bytes: u64,
    out_lost: u64,
    in_queue_bytes: u64,
    in_lost: u64,
}

#[derive(Serialize)]
struct Session<'a> {
    kind: &'a str,
    name: &'a str,
    client: &'a str,
    connection_id: Option<&'a str>,
    control: &'a str,
    phase: Option<&'a str>,
    /// Since the interval before; `null`: not known yet.
    goodput_bits_per_second: Option<f64>,
    window_bytes: Option<u64>,
    window_signals: Option<u64>,
    in_flight_bytes: Option<u64>,
    rtt_seconds: Option<f64>,
    min_rtt_seconds: Option<f64>,
    lost: Option<u64>,
    sent_again: Option<u64>,
    connected_seconds: f64,
}

/// The interval that the board shows; `null` if it shows none.
pub(super) fn json(board: &Board) -> Value {
    let Some(polled) = &board.last else {
        return Value::Null;
    };
    let components = polled.status.components.iter();
    let components = components.filter(|component| component.state != "up");
    let link = polled.link.as_ref().map(|link| Link {
        out_queue_bytes: link.down().queued_bytes,
        out_lost: link.down().lost(),
        in_queue_bytes: link.up().queued_bytes,
        in_lost: link.up().lost(),
    });
    let interval = Interval {
        unix: board.heard.unix,
        generation: polled.status.generation,
        uptime_seconds: polled.status.uptime_seconds,
        components: components
            .map(|component| Component {
                name: &component.name,
                state: &component.state,
            })
            .collect(),
        sessions_open: polled.open,
        sessions_fit: polled.fit,
        rudp_out_bits_per_second: board.rates.map(|rates| rates.rudp_out),
        rudp_in_bits_per_second: board.rates.map(|rates| rates.rudp_in),
        http_out_bits_per_second: board.rates.map(|rates| rates.http_out),
        link,
        sessions: board.rows.iter().map(session).collect(),
    };
    serde_json::json!(interval)
}

fn session(row: &Row) -> Session<'_> {
    Session {
        kind: &row.session.kind,
        name: &row.name,
        client: &row.client,
        connection_id: row.connection.as_deref(),
        control: &row.control,
        phase: row.phase.as_deref(),
        goodput_bits_per_second: row.goodput,
        window_bytes: match row.window {
            Some(Window::Bytes(bytes)) => Some(bytes),
            _ => None,
        },
        window_signals: match row.window {
            Some(Window::Signals(signals)) => Some(signals),
            _ => None,
        },
        in_flight_bytes: row.in_flight,
        rtt_seconds: row.rtt,
        min_rtt_seconds: row.min_rtt,
        lost: row.lost,
        sent_again: row.again,
        connected_seconds: row.age,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::board, *};

    #[test]
    fn a_row_stands_below_its_head() {
        let mut board = board(&["Tal"]);
        let row = &mut board.rows[0];
        row.goodput = Some(19.31e6);
        (row.lost, row.again, row.in_flight) = (Some(12), Some(123), Some(98_300));
        (row.rtt, row.min_rtt) = (Some(0.0512), Some(0.0501));
        assert_eq!(
            [HEAD.to_owned(), rows(&board)[0].clone()],
            [
                "TIME      NAME          CLIENT                 CONTROL    PHASE               MBIT/S   WINDOW   FLIGHT     RTT     MIN     LOST    AGAIN",
                "00:00:01  Tal           127.0.0.1:1            cubic      slow_start            19.3    15 kB    98 kB    51.2    50.1       12      123",
            ]
        );
        let told = json(&board);
        assert_eq!(told["sessions"][0]["goodput_bits_per_second"], 19.31e6);
        assert_eq!(told["sessions"][0]["window_signals"], Value::Null);
        assert_eq!(
            (&told["sessions_open"], &told["components"][0]["name"]),
            (&1.into(), &"dhcp".into())
        );
    }
}
