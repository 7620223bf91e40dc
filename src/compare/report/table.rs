//! What each sender reached, a row each; of several runs the median and the extremes.

use std::collections::BTreeMap;

use super::{
    super::{
        outcome::{Flow, Outcome, Run, Totals, median},
        table::answers,
    },
    axis::{Quantity, three_digits},
    escape::Text,
};

/// Runs of one sender at one value.
struct Row<'a> {
    swept: &'a BTreeMap<String, f64>,
    name: &'a str,
    flows: Vec<&'a Flow>,
}

fn rows(outcome: &Outcome) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for run in &outcome.runs {
        for flow in &run.flows {
            let same = |row: &&mut Row| row.name == flow.name && *row.swept == run.swept;
            match rows.iter_mut().find(same) {
                Some(row) => row.flows.push(flow),
                None => rows.push(Row {
                    swept: &run.swept,
                    name: &flow.name,
                    flows: vec![flow],
                }),
            }
        }
    }
    rows
}

impl Row<'_> {
    fn values(&self, read: impl Fn(&Totals) -> Option<f64>) -> Vec<f64> {
        self.flows
            .iter()
            .filter_map(|flow| read(&flow.totals))
            .collect()
    }

    fn median(&self, read: impl Fn(&Totals) -> Option<f64>) -> Option<f64> {
        median(self.values(read))
    }

    /// The median, and the extremes if they differ.
    fn spread(
        &self,
        read: impl Fn(&Totals) -> Option<f64>,
        words: impl Fn(f64) -> String,
    ) -> String {
        let values = self.values(read);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let Some(median) = median(values) else {
            return "<td>–</td>".to_owned();
        };
        let (middle, least, most) = (words(median), words(least), words(most));
        if least == most {
            return format!("<td>{middle}</td>");
        }
        format!("<td>{middle}<small>{least} to {most}</small></td>")
    }

    /// Two numbers that belong together.
    fn pair(
        &self,
        one: impl Fn(&Totals) -> Option<f64>,
        other: impl Fn(&Totals) -> Option<f64>,
        words: impl Fn(f64, f64) -> String,
    ) -> String {
        let (one, other) = (self.median(one), self.median(other));
        let largest = one.unwrap_or(0.0).max(other.unwrap_or(0.0));
        let text =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| words(value, largest));
        let (one, other) = (text(one), text(other));
        format!("<td>{one}<span class=\"of\"> / {other}</span></td>")
    }

    /// What held it back, the longest first.
    fn limits(&self) -> String {
        let mut limits: BTreeMap<&str, f64> = BTreeMap::new();
        for flow in &self.flows {
            for (limit, seconds) in &flow.totals.limited_seconds {
                *limits.entry(limit).or_default() += seconds;
            }
        }
        let sum: f64 = limits.values().sum();
        let mut limits: Vec<_> = limits.into_iter().collect();
        limits.sort_by(|a, b| b.1.total_cmp(&a.1));
        let shares = limits
            .iter()
            .map(|(limit, seconds)| (limit.replace('_', " "), 100.0 * seconds / sum));
        let told = shares.filter(|(_, share)| *share >= 0.5);
        let words: Vec<String> = told
            .map(|(limit, share)| format!("{limit} {share:.0} %"))
            .collect();
        if words.is_empty() {
            return "<td class=\"words\">–</td>".to_owned();
        }
        format!("<td class=\"words\">{}</td>", Text(&words.join(", ")))
    }

    fn html(&self, flow: usize, sweep: bool) -> String {
        let count = |value: f64, _: f64| format!("{value:.0}");
        // Both in the unit of the larger.
        let times = |value: f64, largest: f64| {
            let unit = Quantity::Seconds.unit(largest);
            format!("{} {}", three_digits(value * unit.factor), unit.name)
        };
        let rate = |value: f64| Quantity::BitsPerSecond.words(value);
        let bytes = |value: f64| Quantity::Bytes.words(value);
        let time = |value: f64| Quantity::Seconds.words(value);
        let whole = |value: Option<u64>| value.map(|value| value as f64);
        let mut html = String::from("<tr>");
        if sweep {
            let swept: Vec<String> = (self.swept.iter())
                .map(|(option, value)| format!("{option} {value}"))
                .collect();
            html += &format!("<td>{}</td>", Text(&swept.join(", ")));
        }
        let failures: Vec<&str> = self
            .flows
            .iter()
            .filter_map(|flow| flow.failure.as_deref())
            .collect();
        let unfinished = self.flows.iter().any(|flow| !flow.finished);
        let note = match (&failures[..], unfinished) {
            ([], false) => String::new(),
            ([], true) => "<small>not finished</small>".to_owned(),
            ([first, ..], _) => format!("<small>{}</small>", Text(first)),
        };
        html += &format!(
            "<th scope=\"row\"><span class=\"swatch f{flow}\"></span>{}{note}</th>",
            Text(self.name)
        );
        html += &self.spread(|totals| Some(totals.goodput_bits_per_second), rate);
        html += &self.spread(
            |totals| totals.link_share,
            |share| format!("{:.1} %", 100.0 * share),
        );
        html += &self.spread(|totals| totals.first_byte_seconds, time);
        html += &self.spread(|totals| totals.first_byte_round_trips, three_digits);
        html += &self.pair(
            |totals| totals.rtt_seconds.map(|rtt| rtt.p50),
            |totals| totals.rtt_seconds.map(|rtt| rtt.p95),
            times,
        );
        html += &self.pair(
            |totals| totals.queue_delay_seconds.map(|delay| delay.p50),
            |totals| totals.queue_delay_seconds.map(|delay| delay.p95),
            times,
        );
        html += &self.spread(|totals| whole(totals.sent_again_bytes), bytes);
        html += &self.pair(
            |totals| whole(totals.packets_sent),
            |totals| whole(totals.packets_needed),
            count,
        );
        html += &self.pair(
            |totals| whole(totals.packets_lost_seen),
            |totals| whole(totals.packets_lost_by_link),
            count,
        );
        html += &self.spread(
            |totals| whole(totals.packets_marked_by_link),
            |packets| format!("{packets:.0}"),
        );
        html += &self.limits();
        html + "</tr>\n"
    }
}

/// The table, in a region that can be scrolled.
pub(super) fn html(outcome: &Outcome, flows: &[String]) -> String {
    let rows = rows(outcome);
    let sweep = outcome.runs.iter().any(|run| !run.swept.is_empty());
    let mut html = String::from(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Results, a row a sender\" tabindex=\"0\"><table class=\"results\">\n<thead><tr>",
    );
    if sweep {
        html += "<th scope=\"col\">swept</th>";
    }
    for heading in [
        "sender",
        "goodput",
        "of the link",
        "first byte after",
        "in round trips",
        "RTT p50 / p95",
        "queue delay p50 / p95",
        "sent again",
        "packets sent / needed",
        "lost: seen / by the link",
        "marked (ECN)",
        "held back by",
    ] {
        html += &format!("<th scope=\"col\">{heading}</th>");
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in &rows {
        // All names are there: both were made of the same runs.
        let flow = flows.iter().position(|name| name == row.name).unwrap_or(0);
        html += &row.html(flow, sweep);
    }
    html += "</tbody></table></div>\n";
    let most = rows.iter().map(|row| row.flows.len()).max().unwrap_or(0);
    if most > 1 {
        html += &format!(
            "<p class=\"note\">Medians of {most} runs, with the least and the most.</p>\n"
        );
    }
    html += &fairness(outcome);
    for sentence in answers(outcome) {
        html += &format!("<p class=\"note\">{}.</p>\n", Text(&sentence));
    }
    html
}

/// Jain's index, where senders shared the link.
fn fairness(outcome: &Outcome) -> String {
    let mut groups: Vec<(&BTreeMap<String, f64>, Vec<f64>)> = Vec::new();
    let runs = outcome.runs.iter();
    for (run, index) in runs.filter_map(|run: &Run| Some((run, run.jain_index?))) {
        match groups.iter_mut().find(|(swept, _)| **swept == run.swept) {
            Some((_, values)) => values.push(index),
            None => groups.push((&run.swept, vec![index])),
        }
    }
    let one = |(swept, values): (&BTreeMap<String, f64>, Vec<f64>)| {
        let swept: Vec<String> = swept
            .iter()
            .map(|(option, value)| format!("{option} {value}: "))
            .collect();
        let median = median(values)?;
        Some(format!("{}{median:.3}", Text(&swept.join(", "))))
    };
    let told: Vec<String> = groups.into_iter().filter_map(one).collect();
    if told.is_empty() {
        return String::new();
    }
    format!(
        "<p class=\"note\">Jain’s fairness index of the goodputs (1: all got the same): <strong>{}</strong></p>\n",
        told.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
