//! The dashboard keeps the rules of Grafana's dashboard linter, and asks for metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use labnet::{
    origin::TRANSFER,
    rudp::statistics::{SIGNALS, TRANSPORT},
    statistic::{Described, series},
    telemetry::{SESSION, TRANSFER as TRANSFER_SERIES},
};

use crate::support::dashboard::Dashboard;

const METRICS: &str = include_str!("../../src/telemetry/metrics.rs");
/// Of the process collector of the `prometheus` crate.
const PROCESS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// The names of all metrics, by the literals of metrics.rs and the tables of statistics.
fn metrics() -> BTreeSet<String> {
    METRICS
        .split('"')
        .filter(|literal| {
            literal.starts_with("labnet_")
                && literal
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        // These are prefixes.
        .filter(|literal| !literal.ends_with('_'))
        .map(str::to_owned)
        .chain(PROCESS.map(str::to_owned))
        .chain(named(SESSION, series(TRANSPORT)))
        .chain(named(SESSION, series(SIGNALS)))
        .chain(named(TRANSFER_SERIES, series(TRANSFER)))
        .collect()
}

/// The names of the series of one kind of session.
fn named(prefix: &str, described: Vec<Described>) -> impl Iterator<Item = String> {
    described
        .into_iter()
        .map(move |described| described.name(prefix))
}

/// The metrics that an expression names, each with what stands before and after the name.
fn selectors(expr: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for prefix in ["labnet_", "process_"] {
        for (start, _) in expr.match_indices(prefix) {
            let (before, rest) = expr.split_at(start);
            if before.ends_with(word) {
                continue;
            }
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            found.push((before, &rest[..end], &rest[end..]));
        }
    }
    found
}

#[test]
fn the_dashboard_is_classic_and_has_a_stable_identity() {
    let dashboard = Dashboard::read();
    assert_eq!(dashboard.json["uid"], "labnet");
    assert_eq!(dashboard.json["editable"], false);
    let schema = dashboard.json["schemaVersion"].as_u64();
    assert!(schema.is_some_and(|schema| (39..=41).contains(&schema)));
    let ids: BTreeSet<_> = dashboard
        .panels()
        .iter()
        .map(|panel| panel["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), dashboard.panels().len(), "an id twice");
}

#[test]
fn it_lets_one_choose_data_source_job_and_instance() {
    let dashboard = Dashboard::read();
    let variables: BTreeMap<_, _> = dashboard.json["templating"]["list"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|variable| (variable["name"].as_str().expect("a name"), variable))
        .collect();
    assert_eq!(
        variables.keys().copied().collect::<Vec<_>>(),
        ["datasource", "instance", "job"]
    );
    let source = variables["datasource"];
    assert_eq!(source["type"], "datasource");
    assert_eq!(source["query"], "prometheus");
    assert_eq!(source["label"], "Data source");
    for name in ["job", "instance"] {
        let variable = variables[name];
        assert_eq!(variable["datasource"]["uid"], "${datasource}");
        assert_eq!(variable["multi"], true);
        assert_eq!(variable["includeAll"], true);
        assert_eq!(variable["allValue"], ".+");
        assert_eq!(variable["refresh"], 2, "on a change of the time range");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for panel in Dashboard::read().panels() {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "no title: {panel}");
        if panel["type"] == "row" {
            continue;
        }
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().len();
        assert!(text(&panel["description"]) > 10, "{title}: no description");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(text(unit) > 0, "{title}: no unit");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}: nothing asked");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn panels_lie_side_by_side() {
    let dashboard = Dashboard::read();
    let mut taken = BTreeMap::new();
    for panel in dashboard.panels() {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{}: too wide", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                let other = taken.insert((x, y), &panel["title"]);
                assert!(other.is_none(), "{} lies over {other:?}", panel["title"]);
            }
        }
    }
}

#[test]
fn queries_choose_by_job_and_instance_and_take_rates_of_counters() {
    let metrics = metrics();
    let mut shown = BTreeSet::new();
    for (title, expr) in Dashboard::read().queries() {
        let selectors = selectors(&expr);
        assert!(!selectors.is_empty(), "{title}: asks for nothing: {expr}");
        for (before, name, after) in selectors {
            assert!(
                after.starts_with("{job=~\"$job\", instance=~\"$instance\""),
                "{title}: {name} of any job: {expr}"
            );
            let metric = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(metrics.contains(metric), "{title}: no metric {name}");
            shown.insert(metric.to_owned());
            let range = after
                .split_once('}')
                .and_then(|(_, rest)| rest.strip_prefix('['))
                .and_then(|rest| rest.split(']').next());
            let function = before
                .strip_suffix('(')
                .and_then(|before| before.rsplit(['(', ' ', ',']).next());
            if name.ends_with("_total") || name.ends_with("_bucket") {
                assert!(
                    matches!(
                        (function, range),
                        (
                            Some("rate" | "irate" | "increase"),
                            Some("$__rate_interval")
                        ) | (Some("increase"), Some("$__range"))
                    ),
                    "{title}: a counter needs rate(...[$__rate_interval]): {expr}"
                );
            } else {
                assert_eq!(range, None, "{title}: a gauge has no rate: {expr}");
            }
        }
    }
    for metric in metrics
        .iter()
        .filter(|metric| metric.starts_with("labnet_"))
    {
        assert!(shown.contains(metric), "no panel shows {metric}");
    }
}

#[test]
fn prometheus_and_grafana_find_what_they_need() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).expect("a file");
    let prometheus = read("conf/prometheus.yml");
    assert!(prometheus.contains("127.0.0.1:9167"));
    let source = read("grafana/provisioning/datasources/labnet.yml");
    assert!(source.contains("type: prometheus"));
    // Grafana makes $__rate_interval from the interval that its data source is told.
    let interval = |text: &str, key: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(key).map(str::to_owned))
            .expect("an interval")
    };
    assert_eq!(
        interval(&prometheus, "scrape_interval: "),
        interval(&source, "timeInterval: ")
    );
    let dashboards = read("grafana/provisioning/dashboards/labnet.yml");
    assert!(dashboards.contains("type: file"));
}
