//! The table of a bad link.

use std::time::Duration;

use labnet::config::{self, Blackout, Problem, Problems};
use proptest::prelude::*;

use super::{conf, parse, parse_with, problems};

/// `[rudp]` and a `[link]` with these lines.
fn linked(lines: &str) -> String {
    format!("[rudp]\n[link]\n{lines}\n")
}

#[test]
fn a_link_s_directions_have_what_both_have_and_their_own() {
    let config = parse(&linked(
        r#"
        loss = 5
        burst = 3.5
        delay = "25ms"
        jitter = "5ms"
        rate = "10mbit"
        queue = "62kB"
        policer = "5mbit,20kB"
        aqm = "red"
        ecn = true
        reorder = "1%"
        reorder_by = "7ms"
        duplicate = 0.5
        corrupt = 0.25
        blackout = "5s/2s"
        seed = 9
        [link.up]
        loss = "off"
        delay = "1s"
        [link.down]
        queue = 15000
        blackout = "off"
        aqm = "codel"
        ecn = "off"
        "#,
    ));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let link = config.rudp.expect("rudp").link.expect("a link");
    assert_eq!(link.seed, 9);
    let up = link.up;
    assert_eq!((up.loss, up.burst), (0.0, Some(3.5)));
    let [second, millisecond] = [Duration::from_secs(1), Duration::from_millis(1)];
    assert_eq!((up.delay, up.jitter), (second, 5 * millisecond));
    assert_eq!(up.rate.map(u64::from), Some(10_000_000));
    assert_eq!(up.queue, Some(62_000));
    let policer = up.policer.expect("one");
    assert_eq!((policer.rate.get(), policer.burst), (5_000_000, 20_000));
    assert_eq!((up.aqm, up.ecn), (Some(config::Aqm::Red), true));
    assert_eq!((up.reorder, up.reorder_by), (1.0, Some(7 * millisecond)));
    assert_eq!((up.duplicate, up.corrupt), (0.5, 0.25));
    assert_eq!(
        up.blackout,
        Some(Blackout {
            works: 5 * second,
            dark: 2 * second,
        })
    );
    let down = config::LinkOptions {
        loss: 5.0,
        delay: 25 * millisecond,
        queue: Some(15_000),
        blackout: None,
        aqm: Some(config::Aqm::CoDel),
        ecn: false,
        ..up
    };
    assert_eq!(link.down, down);
    // An empty table is a link that does nothing.
    let config = parse(&linked("")).unwrap_or_else(|problems| panic!("{problems}"));
    let link = config.rudp.expect("rudp").link.expect("a link");
    assert_eq!(link.up, config::LinkOptions::default());
    assert_eq!((link.down, link.seed), (link.up, 1));
}

#[test]
fn every_mistake_in_a_link_has_its_line_and_key() {
    let text = linked(
        "loss = 101\nburst = 0.5\ndelay = 25\njitter = \"2h\"\nrate = \"fast\"\nqueue = \"1GB\"\n\
         reorder = true\nblackout = \"5s\"\nlos = 3\nseed = -1\n\
         [link.up]\nloss = \"many\"\nseed = 3\n[link.down]\nduplicate = inf",
    );
    let found = problems(&text);
    for (line, key, part) in [
        (3, "link.loss", "no percentage"),
        (4, "link.burst", "no number of packets"),
        (5, "link.delay", "write it as `25ms`"),
        (6, "link.jitter", "up to an hour"),
        (7, "link.rate", "no rate"),
        (8, "link.queue", "no size"),
        (9, "link.reorder", "`true` is no percentage"),
        (10, "link.blackout", "no black-out"),
        (11, "link.los", "did you mean `loss`"),
        (12, "link.seed", "out of bounds"),
        (14, "link.up.loss", "no percentage"),
        (15, "link.up.seed", "`seed` belongs to [link]"),
        (17, "link.down.duplicate", "no number; a number"),
    ] {
        let fits = |problem: &&Problem| problem.line == Some(line) && problem.key == key;
        let problem = found.iter().find(fits);
        let problem = problem.unwrap_or_else(|| panic!("{key}: {}", Problems(found.clone())));
        assert!(problem.message.contains(part), "{problem}");
    }
    assert_eq!(found.len(), 13, "{}", Problems(found.clone()));

    // Options that do not go together, told where they meet.
    for (lines, key) in [
        ("loss = 80\nburst = 2", "link.burst"),
        ("loss = 80\n[link.up]\nburst = 2", "link.up.burst"),
        ("burst = 2\n[link.down]\nloss = 80", "link.down.burst"),
        ("aqm = \"red\"", "link.aqm"),
        ("rate = \"1mbit\"\n[link.up]\necn = true", "link.up.ecn"),
    ] {
        let found = problems(&linked(lines));
        let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{lines}");
        assert!(found[0].line.is_some(), "{lines}");
    }
    let found = problems("[http]\n[link]\nloss = 5\n");
    assert!(
        found[0].message.contains("there is no [rudp]"),
        "{}",
        found[0]
    );
    let found = problems("link = 5\n[rudp]\n");
    assert!(
        found[0].message.contains("a table `[link]`"),
        "{}",
        found[0]
    );
}

#[test]
fn variables_make_a_link_too() {
    let variables = [
        ("LABNET_LINK__LOSS", "5"),
        ("LABNET_LINK__SEED", "7"),
        ("LABNET_LINK__UP__DELAY", "20ms"),
    ];
    let config = parse_with("[rudp]\n", &variables);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let link = config.rudp.expect("rudp").link.expect("a link");
    assert_eq!((link.up.loss, link.seed), (5.0, 7));
    assert_eq!(link.up.delay, Duration::from_millis(20));
    assert_eq!(link.down.delay, Duration::ZERO);
}

proptest! {
    /// The file and the command line read the same words.
    #[test]
    fn a_link_s_options_mean_what_they_mean_to_labnet_link(
        key in prop::sample::select(vec![
            "loss", "burst", "delay", "jitter", "rate", "queue", "reorder", "reorder_by",
            "duplicate", "corrupt", "blackout", "policer", "aqm", "ecn",
        ]),
        value in prop_oneof![
            "[0-9]{1,4}(\\.[0-9])?%?",
            "[0-9]{1,4}(ms|s|m|h|us)",
            "[0-9]{1,4} ?(kbit|Mbit|gbit|bit|mbit/s|kbps)",
            "[0-9]{1,4} ?(kB|MB|KiB|MiB|B|GB)",
            "[0-9]{1,2}m?s/[0-9]{1,2}m?s",
            "[0-9]{1,2}[km]bit,[0-9]{1,2}kB",
            "codel|red|on|true",
            "off",
            "[ -~&&[^\"\\\\]]{0,8}",
        ],
    ) {
        let mut expected = labnet::link::LinkOptions::default();
        let set = expected.set(key, &value);
        let expected = set.and_then(|()| match expected.check() {
            Ok(()) => Ok(expected),
            Err(mismatch) => Err(format!("{}: {mismatch}", mismatch.key)),
        });
        let read = parse(&linked(&format!("{key} = \"{value}\"")));
        let read = read.map(|config| {
            let link = config.rudp.expect("rudp").link.expect("a link");
            link.up
        });
        match (read, expected) {
            (Ok(read), Ok(expected)) => prop_assert_eq!(read, expected),
            (Err(Problems(problems)), Err(message)) => {
                prop_assert_eq!(format!("{key}: {}", problems[0].message), message);
            }
            (read, expected) => prop_assert!(false, "{:?}, {:?}", read, expected),
        }
    }
}

#[test]
fn the_link_of_the_default_file_is_right_when_it_is_uncommented() {
    let text = std::fs::read_to_string(conf("labnet.toml")).expect("conf/labnet.toml");
    let (before, rest) = text.split_once("# [link]\n").expect("a link");
    let (link, after) = rest.split_once("\n\n").expect("an end");
    let link: Vec<&str> = link
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if code.contains(" = ") || code.starts_with('[') => code,
            _ => line,
        })
        .collect();
    let text = format!("{before}[link]\n{}\n\n{after}", link.join("\n"));
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let link = config.rudp.expect("rudp").link.expect("a link");
    assert_eq!(link.up.loss, 0.0);
    assert_eq!(link.down.rate.map(u64::from), Some(2_000_000));
    assert_eq!(
        link.up.blackout.map(|blackout| blackout.works.as_secs()),
        Some(20)
    );
}
