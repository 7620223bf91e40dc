//! Experiments that labnet carries with itself: what `conf/experiments/` holds.

/// Each by its name, with its file's text.
pub const READY: [(&str, &str); 14] = [
    ("wifi", include_str!("../../conf/experiments/wifi.toml")),
    (
        "vegas-against-cubic",
        include_str!("../../conf/experiments/vegas-against-cubic.toml"),
    ),
    (
        "bufferbloat",
        include_str!("../../conf/experiments/bufferbloat.toml"),
    ),
    (
        "bbr-beside-cubic",
        include_str!("../../conf/experiments/bbr-beside-cubic.toml"),
    ),
    ("codel", include_str!("../../conf/experiments/codel.toml")),
    (
        "policer",
        include_str!("../../conf/experiments/policer.toml"),
    ),
    (
        "satellite",
        include_str!("../../conf/experiments/satellite.toml"),
    ),
    (
        "rtt-unfairness",
        include_str!("../../conf/experiments/rtt-unfairness.toml"),
    ),
    (
        "late-comer",
        include_str!("../../conf/experiments/late-comer.toml"),
    ),
    (
        "initial-window",
        include_str!("../../conf/experiments/initial-window.toml"),
    ),
    (
        "reordering",
        include_str!("../../conf/experiments/reordering.toml"),
    ),
    (
        "loss-sweep",
        include_str!("../../conf/experiments/loss-sweep.toml"),
    ),
    (
        "three-transports",
        include_str!("../../conf/experiments/three-transports.toml"),
    ),
    (
        "head-of-line",
        include_str!("../../conf/experiments/head-of-line.toml"),
    ),
];

/// The text of the one of this name.
pub fn ready(name: &str) -> Option<&'static str> {
    let mut ready = READY.into_iter();
    ready
        .find(|(known, _)| *known == name)
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{experiment::Experiment, plan::Plan};

    #[test]
    fn each_asks_and_answers_and_can_be_run() {
        for (name, text) in READY {
            let experiment = Experiment::read(name, text).expect(name);
            Plan::compile(&experiment).expect(name);
            let text = experiment.text;
            assert!(text.title.is_some() && text.question.is_some(), "{name}");
            assert!(text.answer.is_some() && text.look_for.len() > 1, "{name}");
        }
    }
}
