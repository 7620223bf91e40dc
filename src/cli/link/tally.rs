//! A link's counters, for people and as JSON.

use std::time::Duration;

use crate::{
    cli::api::table,
    client::units::{Size, count},
    link::{Counters, LinkCounters},
};

/// What a link has done.
pub(super) struct Tally(pub(super) LinkCounters);

impl Tally {
    /// One object on one line.
    pub(super) fn json(&self) -> String {
        format!("{}\n", serde_json::json!(self.0))
    }

    /// The totals.
    pub(super) fn table(&self) -> String {
        let row = |name: &str, way: &Counters| {
            [
                name.to_owned(),
                way.sent.to_string(),
                way.delivered.to_string(),
                way.lost.random.to_string(),
                (way.lost.queue + way.lost.memory).to_string(),
                way.lost.policer.to_string(),
                (way.lost.codel + way.lost.red).to_string(),
                way.lost.blackout.to_string(),
                way.marked.to_string(),
                way.duplicated.to_string(),
                way.reordered.to_string(),
                way.corrupted.to_string(),
                Size(way.queued_bytes_max).to_string(),
            ]
        };
        let headers = [
            "",
            "SENT",
            "DELIVERED",
            "LOST",
            "QUEUE FULL",
            "POLICED",
            "AQM",
            "BLACK-OUT",
            "MARKED",
            "TWICE",
            "REORDERED",
            "DAMAGED",
            "LONGEST QUEUE",
        ];
        let rows = [row("up", &self.0.up), row("down", &self.0.down)];
        let mut text = format!("{}\n", table(headers, rows));
        let mut notes = Vec::new();
        let mut note = |number: u64, what: &str| {
            if number > 0 {
                notes.push(format!("{} {what}", count(number, "packet")));
            }
        };
        note(self.0.undelivered, "undelivered at the end of the link");
        if let Some(clients) = self.0.clients {
            note(clients.refused, "refused");
            note(clients.strangers, "not from the server");
            notes.insert(0, count(clients.seen, "client"));
        }
        if !notes.is_empty() {
            text += &format!("{}\n", notes.join(", "));
        }
        text
    }

    /// The present: what has happened since `before`, `time` ago.
    pub(super) fn line(&self, before: &LinkCounters, time: Duration) -> String {
        let way = |name: &str, now: &Counters, before: &Counters| {
            let bits = 8.0 * (now.delivered_bytes - before.delivered_bytes) as f64;
            // The first line is at once.
            let rate = bits / time.as_secs_f64().max(1e-3) / 1e6;
            let lost = 100.0 * now.lost.total() as f64 / (now.sent.max(1)) as f64;
            format!(
                "{name} {} sent, {lost:.1} % lost, {rate:.2} Mbit/s, {} queued",
                now.sent,
                Size(now.queued_bytes)
            )
        };
        let clients = self
            .0
            .clients
            .map(|clients| count(clients.now as u64, "client"));
        let ways = [
            way("up", &self.0.up, &before.up),
            way("down", &self.0.down, &before.down),
        ];
        clients
            .into_iter()
            .chain(ways)
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::ClientCounters;

    #[test]
    fn totals_and_the_present_are_said() {
        let mut counters = LinkCounters {
            clients: Some(ClientCounters {
                now: 1,
                seen: 2,
                refused: 1,
                ..ClientCounters::default()
            }),
            ..LinkCounters::default()
        };
        let before = counters;
        counters.up.sent = 40;
        counters.up.delivered = 30;
        counters.up.delivered_bytes = 250_000;
        counters.up.lost.random = 10;
        counters.up.queued_bytes = 1500;
        let tally = Tally(counters);
        assert_eq!(
            tally.line(&before, Duration::from_secs(2)),
            "1 client | up 40 sent, 25.0 % lost, 1.00 Mbit/s, 1.5 kB queued | \
             down 0 sent, 0.0 % lost, 0.00 Mbit/s, 0 B queued"
        );
        let text = tally.table();
        assert!(text.ends_with("2 clients, 1 packet refused\n"), "{text}");
        let up = text.lines().nth(1).expect("a row");
        let words: Vec<&str> = up.split_whitespace().collect();
        assert_eq!(words[..4], ["up", "40", "30", "10"]);
    }
}
