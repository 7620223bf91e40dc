//! Every rule of `src/rudp/session.rs`, in virtual time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use labnet::rudp::{
    endpoint::HalfOpen,
    output::{Change, Output},
    session::{Query, Session, SessionLimits},
    signal::Name,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A session with a clock and a faked scraper.
struct Lab {
    session: Session,
    now: Instant,
    out: Output,
}

impl Lab {
    /// A session that its SIGNEW has opened.
    fn open(name: &str, max_window: u32) -> Self {
        let mut lab = Self::new(name, max_window);
        assert_eq!(lab.says(format!("SIGNEW:{name}")), ["SIGNACK"]);
        lab
    }

    fn new(name: &str, max_window: u32) -> Self {
        let now = Instant::now();
        let limits = SessionLimits {
            max_window,
            idle_timeout: 60 * SECOND,
        };
        let name = Name::new(name).expect("plain");
        Self {
            session: Session::new(
                HalfOpen {
                    name,
                    opened: now,
                    heard: now,
                },
                limits,
            ),
            now,
            out: Output::default(),
        }
    }

    /// What the session answers to a datagram.
    fn says(&mut self, datagram: impl AsRef<[u8]>) -> Vec<String> {
        self.out.clear();
        self.session
            .handle(datagram.as_ref(), self.now, &mut self.out);
        self.replies()
    }

    /// What it answers once the scraper has.
    fn scraper_says(&mut self, query: &Query, answer: Option<&str>) -> Vec<String> {
        self.out.clear();
        let answer = answer.map(Arc::from);
        self.session
            .handle_scraper(query, answer.as_ref(), &mut self.out);
        self.replies()
    }

    fn replies(&self) -> Vec<String> {
        self.out
            .replies()
            .map(|reply| String::from_utf8(reply.bytes.to_vec()).expect("ASCII"))
            .collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

const SILENCE: [&str; 0] = [];

#[test]
fn the_recorded_datagrams_get_the_recorded_answers() {
    let mut lab = Lab::open("Tal", 64);
    assert_eq!(
        lab.says("SIGNECHO:290;1682672342.8043187"),
        ["ECHOREPLY:290;1682672342.8043187"]
    );
    lab.wait(Duration::from_micros(18_770_400));
    assert_eq!(
        lab.says("SIGNSTAT:291"),
        ["STATREPLY:291;Packets sent: 2\nPackets lost: 0\nConnected time: 18.77 seconds"]
    );
    assert_eq!(lab.says("SIGNGET:292;SIGNGET"), SILENCE);
    assert_eq!(lab.session.poll_query(), Some(Query::List));
    assert_eq!(
        lab.scraper_says(
            &Query::List,
            Some("50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;")
        ),
        ["ACKGET:292;50MB.zip;100MB.zip;500MB.zip;image-site.png;task2.pdf;"]
    );
    assert_eq!(lab.says("SIGNEND:293;SIGNEND"), ["ACKEND:293"]);
    assert_eq!(lab.out.changes, [Change::Ended]);
}

#[test]
fn signew_again_before_any_numbered_signal_is_a_duplicate_however_late() {
    let mut lab = Lab::open("Tal", 8);
    lab.wait(9 * SECOND);
    assert_eq!(lab.says("SIGNEW:Tal"), ["SIGNACK"]);
    assert!(lab.out.changes.is_empty());
    assert!(lab.out.replies().next().expect("one").again);
    assert_eq!(lab.session.describe(lab.now).connected, 9 * SECOND);
}

/// Its answers were lost, and the last copy is overtaken by the first signal.
#[test]
fn the_last_copy_of_a_signew_that_was_sent_for_long_resets_nothing() {
    let mut lab = Lab::open("Tal", 8);
    for _ in 0..3 {
        lab.wait(2 * SECOND);
        assert_eq!(lab.says("SIGNEW:Tal"), ["SIGNACK"]);
    }
    lab.wait(SECOND);
    lab.says("SIGNECHO:290;x");
    assert_eq!(lab.says("SIGNEW:Tal"), ["SIGNACK"]);
    assert!(lab.out.changes.is_empty());
    assert_eq!(lab.says("SIGNECHO:291;y"), ["ECHOREPLY:291;y"]);
}

#[test]
fn signew_again_within_three_seconds_resets_nothing() {
    let mut lab = Lab::open("Tal", 8);
    lab.says("SIGNECHO:290;x");
    lab.wait(3 * SECOND);
    assert_eq!(lab.says("SIGNEW:Tal"), ["SIGNACK"]);
    assert!(lab.out.changes.is_empty());
    assert_eq!(lab.says("SIGNECHO:291;y"), ["ECHOREPLY:291;y"]);
}

#[test]
fn signew_again_later_or_with_another_name_opens_a_fresh_session() {
    for (wait, name) in [(Duration::from_millis(3001), "Tal"), (SECOND, "Dan")] {
        let mut lab = Lab::open("Tal", 8);
        lab.says("SIGNECHO:290;x");
        lab.says("SIGNECHO:292;z");
        lab.wait(wait);
        assert_eq!(lab.says(format!("SIGNEW:{name}")), ["SIGNACK"]);
        assert_eq!(lab.out.changes, [Change::Replaced]);
        let first = Name::new(name).expect("plain").first_id();
        assert_eq!(
            lab.says(format!("SIGNSTAT:{first}")),
            [format!(
                "STATREPLY:{first};Packets sent: 1\nPackets lost: 0\nConnected time: 0.00 seconds"
            )]
        );
    }
}

#[test]
fn early_ids_are_kept_asked_for_once_and_answered_in_order() {
    let mut lab = Lab::open("Tal", 8);
    assert_eq!(
        lab.says("SIGNECHO:293;d"),
        ["SIGNLOST:290", "SIGNLOST:291", "SIGNLOST:292"]
    );
    // All missing ones below were asked for: the expected one alone.
    assert_eq!(lab.says("SIGNECHO:292;c"), ["SIGNLOST:290"]);
    assert_eq!(lab.says("SIGNECHO:293;d"), ["SIGNLOST:290"]);
    assert_eq!(lab.says("SIGNECHO:295;f"), ["SIGNLOST:294"]);
    assert_eq!(lab.session.describe(lab.now).early, 3);
    assert_eq!(lab.says("SIGNECHO:290;a"), ["ECHOREPLY:290;a"]);
    assert_eq!(
        lab.says("SIGNECHO:291;b"),
        ["ECHOREPLY:291;b", "ECHOREPLY:292;c", "ECHOREPLY:293;d"]
    );
    assert_eq!(
        lab.says("SIGNSTAT:294"),
        [
            "STATREPLY:294;Packets sent: 6\nPackets lost: 4\nConnected time: 0.00 seconds",
            "ECHOREPLY:295;f"
        ]
    );
    assert_eq!(lab.session.window(), 1);
}

#[test]
fn an_id_too_far_ahead_gets_one_signlost_and_is_not_kept() {
    let mut lab = Lab::open("Tal", 4);
    for datagram in ["SIGNSTAT:295", "SIGNSTAT:18446744073709551615"] {
        assert_eq!(lab.says(datagram), ["SIGNLOST:290"]);
    }
    let description = lab.session.describe(lab.now);
    assert_eq!((description.early, description.received), (0, 0));
    assert_eq!(description.lost, 1, "290 is missing, once");
    // As far as the window is not: 290 was asked for already.
    assert_eq!(
        lab.says("SIGNSTAT:294"),
        ["SIGNLOST:291", "SIGNLOST:292", "SIGNLOST:293"]
    );
}

#[test]
fn a_repeated_id_gets_the_same_bytes_and_runs_nothing_twice() {
    let mut lab = Lab::open("Tal", 4);
    let stat = lab.says("SIGNSTAT:290");
    lab.wait(7 * SECOND);
    lab.says("SIGNECHO:291;x");
    // Whatever the repeat says: the id decides.
    assert_eq!(lab.says("SIGNSTAT:290"), stat);
    assert_eq!(lab.says("SIGNECHO:290;y"), stat);
    assert_eq!(lab.out.repeated, 1);
    let description = lab.session.describe(lab.now);
    assert_eq!((description.received, description.repeated), (2, 2));
}

#[test]
fn the_last_two_windows_of_answers_are_remembered_64_at_least() {
    for (max_window, remembered) in [(4, 64), (50, 100)] {
        let mut lab = Lab::open("Tal", max_window);
        for id in 290..490 {
            lab.says(format!("SIGNECHO:{id};x"));
        }
        let oldest = 490 - remembered;
        assert_eq!(
            lab.says(format!("SIGNECHO:{oldest};x")),
            [format!("ECHOREPLY:{oldest};x")]
        );
        assert_eq!(lab.says(format!("SIGNECHO:{};x", oldest - 1)), SILENCE);
        assert_eq!(lab.says("SIGNECHO:3;x"), SILENCE);
        assert_eq!(lab.out.too_old, 1);
    }
}

#[test]
fn a_repeat_of_a_signget_under_way_is_met_with_silence() {
    let mut lab = Lab::open("Tal", 4);
    assert_eq!(lab.says("SIGNGET:290;SIGNGET"), SILENCE);
    assert_eq!(lab.session.poll_query(), Some(Query::List));
    assert_eq!(lab.says("SIGNGET:290;SIGNGET"), SILENCE);
    assert_eq!(lab.session.poll_query(), None, "asked already");
    assert_eq!(lab.says("SIGNECHO:291;x"), ["ECHOREPLY:291;x"], "goes on");
    assert_eq!(
        lab.scraper_says(&Query::List, Some("a;b;")),
        ["ACKGET:290;a;b;"]
    );
    assert_eq!(lab.says("SIGNGET:290;SIGNGET"), ["ACKGET:290;a;b;"]);
    assert_eq!(lab.session.poll_query(), None);
}

#[test]
fn one_question_answers_all_that_ask_the_same() {
    let mut lab = Lab::open("Tal", 8);
    for what in ["SIGNGET", "a.zip", "SIGNGET", "b.zip", "a.zip"] {
        let id = lab.session.describe(lab.now).expected_id;
        assert_eq!(lab.says(format!("SIGNGET:{id};{what}")), SILENCE);
    }
    assert_eq!(lab.session.poll_query(), Some(Query::List));
    assert_eq!(lab.session.poll_query(), None, "one at a time");
    assert_eq!(
        lab.scraper_says(&Query::List, Some("a.zip;")),
        ["ACKGET:290;a.zip;", "ACKGET:292;a.zip;"]
    );
    let windows: Vec<_> = lab.out.replies().map(|reply| reply.window).collect();
    assert_eq!(windows, [Some(6), Some(5)]);
    let query = lab.session.poll_query().expect("the next one");
    assert_eq!(query, Query::File("a.zip".into()));
    assert_eq!(
        lab.scraper_says(&query, Some("http://origin/a.zip")),
        [
            "ACKGET:291;http://origin/a.zip",
            "ACKGET:294;http://origin/a.zip"
        ]
    );
    let query = lab.session.poll_query().expect("the last one");
    assert_eq!(lab.scraper_says(&query, Some("")), ["ACKGET:293;"]);
    assert_eq!(lab.session.poll_query(), None);
}

#[test]
fn if_the_scraper_is_gone_the_repeat_asks_anew() {
    let mut lab = Lab::open("Tal", 8);
    lab.says("SIGNGET:290;SIGNGET");
    let query = lab.session.poll_query().expect("asks");
    assert_eq!(lab.scraper_says(&query, None), SILENCE);
    assert_eq!(lab.session.window(), 1);
    assert_eq!(lab.session.poll_query(), None);
    assert_eq!(lab.says("SIGNECHO:291;x"), ["ECHOREPLY:291;x"]);
    assert_eq!(lab.says("SIGNGET:290;SIGNGET"), SILENCE);
    assert_eq!(lab.session.poll_query(), Some(Query::List));
    assert_eq!(lab.scraper_says(&query, Some("a;")), ["ACKGET:290;a;"]);
    assert_eq!(lab.session.describe(lab.now).received, 2);
}

#[test]
fn a_full_window_refuses_new_signals_until_an_answer_frees_it() {
    let mut lab = Lab::open("Tal", 4);
    for id in 290..293 {
        assert_eq!(lab.says(format!("SIGNGET:{id};SIGNGET")), SILENCE);
    }
    assert_eq!(lab.session.window(), 4);
    assert_eq!(lab.says("SIGNSTAT:293"), ["SIGNFULL:293"]);
    assert_eq!(lab.says("SIGNSTAT:294"), ["SIGNFULL:294"]);
    let description = lab.session.describe(lab.now);
    assert_eq!((description.received, description.lost), (3, 0));
    let query = lab.session.poll_query().expect("asks");
    assert_eq!(lab.scraper_says(&query, Some("a;")).len(), 3);
    assert_eq!(lab.session.window(), 1);
    assert_eq!(
        lab.says("SIGNSTAT:293"),
        ["STATREPLY:293;Packets sent: 4\nPackets lost: 0\nConnected time: 0.00 seconds"]
    );
}

#[test]
fn the_expected_id_frees_a_window_full_of_early_ones() {
    let mut lab = Lab::open("Tal", 4);
    lab.says("SIGNECHO:291;b");
    lab.says("SIGNECHO:292;c");
    lab.says("SIGNECHO:293;d");
    assert_eq!(lab.session.window(), 4);
    assert_eq!(lab.says("SIGNECHO:294;e"), ["SIGNFULL:294"]);
    assert_eq!(
        lab.says("SIGNECHO:290;a"),
        [
            "ECHOREPLY:290;a",
            "ECHOREPLY:291;b",
            "ECHOREPLY:292;c",
            "ECHOREPLY:293;d"
        ]
    );
    assert_eq!(lab.says("SIGNECHO:294;e"), ["ECHOREPLY:294;e"]);
}

#[test]
fn after_signend_answers_are_repeated_for_five_seconds_and_nothing_new_is_taken() {
    let mut lab = Lab::open("Tal", 8);
    lab.says("SIGNECHO:290;x");
    lab.says("SIGNGET:291;SIGNGET");
    let query = lab.session.poll_query().expect("asks");
    assert_eq!(lab.says("SIGNEND:292;SIGNEND"), ["ACKEND:292"]);
    assert_eq!(lab.session.poll_timeout(), lab.now + 5 * SECOND);
    lab.wait(SECOND);
    assert_eq!(lab.scraper_says(&query, Some("a;")), ["ACKGET:291;a;"]);
    assert_eq!(lab.says("SIGNEND:292;SIGNEND"), ["ACKEND:292"]);
    assert_eq!(lab.says("SIGNECHO:290;x"), ["ECHOREPLY:290;x"]);
    assert_eq!(lab.says("SIGNECHO:293;x"), SILENCE);
    assert_eq!(lab.out.after_end, 1);
    assert_eq!(
        lab.session.poll_timeout(),
        lab.now + 4 * SECOND,
        "repeats prolong nothing"
    );
}

#[test]
fn an_early_signend_waits_for_what_comes_before_it() {
    let mut lab = Lab::open("Tal", 8);
    assert_eq!(lab.says("SIGNEND:291;SIGNEND"), ["SIGNLOST:290"]);
    assert_eq!(lab.says("SIGNSTAT:293"), ["SIGNLOST:292"]);
    assert_eq!(
        lab.says("SIGNECHO:290;x"),
        ["ECHOREPLY:290;x", "ACKEND:291"]
    );
    assert_eq!(lab.out.changes, [Change::Ended]);
    assert_eq!(lab.session.window(), 1, "293 comes after the end");
}

#[test]
fn signew_after_signend_opens_a_fresh_session_at_once() {
    let mut lab = Lab::open("Tal", 8);
    lab.says("SIGNECHO:290;x");
    assert_eq!(lab.says("SIGNEND:291;SIGNEND"), ["ACKEND:291"]);
    assert_eq!(lab.says("SIGNEW:Tal"), ["SIGNACK"]);
    assert_eq!(lab.out.changes, [Change::Reopened]);
    // If that SIGNEW was only late: its client still waits for the ACKEND.
    assert_eq!(lab.says("SIGNEND:291;SIGNEND"), ["ACKEND:291"]);
    assert_eq!(lab.session.describe(lab.now).expected_id, 290);
    // If it was meant: the new session's own numbers count.
    assert_eq!(lab.says("SIGNECHO:290;new"), ["ECHOREPLY:290;new"]);
    assert_eq!(lab.says("SIGNEND:292;SIGNEND"), ["SIGNLOST:291"]);
}

#[test]
fn a_session_ends_when_it_hears_nothing() {
    let mut lab = Lab::open("Tal", 8);
    lab.says("SIGNSTAT:290");
    assert_eq!(lab.session.poll_timeout(), lab.now + 60 * SECOND);
    lab.wait(30 * SECOND);
    lab.says("SIGNSTAT:290");
    assert_eq!(lab.session.poll_timeout(), lab.now + 60 * SECOND);
    lab.wait(30 * SECOND);
    lab.says("no signal");
    assert_eq!(lab.session.poll_timeout(), lab.now + 30 * SECOND);
}

#[test]
fn what_is_no_signal_is_counted_and_changes_nothing() {
    let mut lab = Lab::open("Tal", 8);
    let long = format!("SIGNECHO:290;{}", "x".repeat(65));
    for datagram in [
        "",
        "SIGNEW",
        "SIGNEW:",
        "SIGNEW:a;b",
        "SIGNEW:a\nb",
        "SIGNEW:a\n\n",
        "SIGNEW:ä",
        "signew:Tal",
        "SIGNECHO:290",
        "SIGNECHO:290;",
        "SIGNECHO:;x",
        "SIGNECHO:0290;x",
        "SIGNECHO:+290;x",
        "SIGNECHO:290 ;x",
        "SIGNECHO:-1;x",
        "SIGNECHO:18446744073709551616;x",
        "SIGNECHO:290;x;y",
        "SIGNECHO:290;x\r\r\n",
        &long,
        "SIGNSTAT:",
        "SIGNSTAT:;SIGNSTAT",
        "SIGNSTAT:290:",
        "SIGNGET:290",
        "SIGNGET:290;",
        "SIGNGET:290;a;b",
        "SIGNEND:290",
        "SIGNEND:290;",
        "SIGNEND:290;END",
        "SIGNACK",
        "SIGNLOST:290",
    ] {
        assert_eq!(lab.says(datagram), SILENCE, "{datagram:?}");
        assert_eq!(lab.out.malformed, 1, "{datagram:?}");
    }
    assert_eq!(lab.session.describe(lab.now).received, 0);
}

/// The original's client sends it again so, and whoever types a signal ends it with a line.
#[test]
fn what_follows_the_id_of_signstat_and_an_end_of_line_are_taken_for_nothing() {
    let mut lab = Lab::open("Tal", 8);
    let stat = |id, sent| {
        format!(
            "STATREPLY:{id};Packets sent: {sent}\nPackets lost: 0\nConnected time: 0.00 seconds"
        )
    };
    assert_eq!(lab.says("SIGNSTAT:290;SIGNSTAT"), [stat(290, 1)]);
    assert_eq!(lab.says("SIGNSTAT:290"), [stat(290, 1)]);
    assert_eq!(lab.says("SIGNSTAT:291;\n"), [stat(291, 2)]);
    assert_eq!(lab.says("SIGNECHO:292;x\r\n"), ["ECHOREPLY:292;x"]);
    assert_eq!(lab.says("SIGNEW:Tal\n"), ["SIGNACK"]);
    assert_eq!(lab.says("SIGNEND:293;SIGNEND\n"), ["ACKEND:293"]);
}

#[test]
fn the_shortest_and_longest_names_number_their_signals() {
    for (name, first) in [("!", 34), ("Tal", 290), (&"~".repeat(64)[..], 8065)] {
        let mut lab = Lab::open(name, 2);
        assert_eq!(
            lab.says(format!("SIGNECHO:{first};x")),
            [format!("ECHOREPLY:{first};x")]
        );
    }
}

/// Datagrams near and far from valid ones.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let valid = (
        prop::sample::select(vec![
            "SIGNEW:Tal",
            "SIGNEW:Dan",
            "SIGNECHO:#;x",
            "SIGNSTAT:#",
            "SIGNGET:#;SIGNGET",
            "SIGNGET:#;a.zip",
            "SIGNEND:#;SIGNEND",
        ]),
        280u64..310,
    )
        .prop_map(|(text, id)| text.replace('#', &id.to_string()).into_bytes());
    let mutated = (valid.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    let random = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![6 => valid, 2 => mutated, 1 => random]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes: no panic, bounded buffers, a window between 1 and its limit.
    #[test]
    fn any_datagrams_are_survived(
        datagrams in prop::collection::vec((datagram(), 0u64..4000, any::<u8>()), 1..200),
        max_window in 2u32..10,
    ) {
        let mut lab = Lab::new("Tal", max_window);
        for (bytes, wait, scraper) in datagrams {
            lab.wait(Duration::from_millis(wait));
            let replies = lab.says(&bytes);
            prop_assert!(replies.len() <= 2 * max_window as usize + 1);
            if scraper < 100 && let Some(query) = lab.session.poll_query() {
                let answer = (scraper < 70).then_some("a;b;");
                prop_assert!(lab.scraper_says(&query, answer).len() <= max_window as usize);
            }
            let description = lab.session.describe(lab.now);
            prop_assert!((1..=max_window).contains(&description.window));
            prop_assert!(description.early < max_window as usize);
            prop_assert!(lab.session.poll_timeout() <= lab.now + 60 * SECOND);
        }
    }

    /// An answer reads back as what was written, and so does a signal.
    #[test]
    fn the_codec_reads_what_it_writes(bytes in datagram()) {
        use labnet::rudp::signal::{Answer, Signal};
        if let Ok(signal) = Signal::parse(&bytes) {
            let mut again = Vec::new();
            signal.encode(&mut again);
            prop_assert_eq!(Signal::parse(&again), Ok(signal));
            // What is taken for nothing is not written again.
            prop_assert!(bytes.starts_with(&again));
        }
        if let Ok(answer) = Answer::parse(&bytes) {
            let mut again = Vec::new();
            answer.encode(&mut again);
            prop_assert_eq!(Answer::parse(&again), Ok(answer));
        }
    }
}
