//! Whatever stands in a file or in a variable, nothing panics.

use labnet::config::{Config, Problems};
use proptest::prelude::*;

use super::{conf, parse, parse_with};

fn check_lines(text: &str, parsed: Result<Config, Problems>) {
    let lines = text.lines().count() + 1;
    if let Err(Problems(found)) = parsed {
        assert!(!found.is_empty());
        for problem in found {
            assert!(
                problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                "{problem}"
            );
            assert!(!problem.message.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        check_lines(&text, parse(&text));
    }

    #[test]
    fn no_text_of_toml_makes_it_panic(
        lines in prop::collection::vec(
            prop_oneof![
                "\\[{1,2}(http|dhcp|dns|rudp|scrap|origin|supervisor|dhcp\\.subnet|dns\\.zone|dhcp\\.subnet\\.reservation)\\]{1,2}",
                "(listen|subnet|pools|routers|lease_time|mac|address|name|file|files|samples|origin|max_window|within|x) = (\\[?\"[0-9a-z:./-]{0,20}\"\\]?|-?[0-9]{1,20}|true|\\{ *a *= *1 *\\}|inf|nan|2020-01-01)",
                "\\PC{0,12}",
            ],
            0..12,
        )
    ) {
        let text = lines.join("\n");
        check_lines(&text, parse(&text));
    }

    #[test]
    fn no_mutation_of_the_default_file_makes_it_panic(at in 0usize..4000, byte in any::<u8>()) {
        let mut bytes = std::fs::read(conf("labnet.toml")).expect("conf/labnet.toml");
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = String::from_utf8_lossy(&bytes);
        check_lines(&text, parse(&text));
    }

    #[test]
    fn no_variable_makes_it_panic(name in "LABNET_[A-Z_\\[\\]0-9.-]{0,20}", value in "\\PC{0,12}") {
        let _ = parse_with("[http]\n", &[(&name, &value)]);
    }
}
