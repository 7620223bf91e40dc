use proptest::prelude::*;

use super::*;

fn read_in_pieces(text: &[u8], piece: usize) -> Result<(String, usize), Malformed> {
    let mut reader = LineReader::new();
    for (index, bytes) in text.chunks(piece).enumerate() {
        if let Some(used) = reader.feed(bytes)? {
            return Ok((reader.line()?.to_owned(), index * piece + used));
        }
    }
    reader.line().map(|line| (line.to_owned(), 0))
}

fn question(line: &str) -> Result<Question<'_>, Malformed> {
    Question::parse(line)
}

fn names() -> impl Strategy<Value = String> {
    "[!-:<-~]{1,765}"
}

fn validators() -> impl Strategy<Value = String> {
    "[!-~]{1,512}".prop_filter("the word for none", |word| word != "-")
}

fn parts() -> impl Strategy<Value = Range> {
    (any::<u64>(), proptest::option::of(any::<u64>())).prop_map(|(first, more)| Range {
        first,
        last: more.map(|more| first.saturating_add(more)),
    })
}

fn heads() -> impl Strategy<Value = Head> {
    let numbers = (0..1u64 << 62, 0..1u64 << 62, 0..1u64 << 62);
    let known: (_, _) = (any::<bool>(), any::<bool>());
    let digest = proptest::option::of(any::<[u8; 32]>());
    let validator = proptest::option::of(validators());
    (numbers, known, digest, validator).prop_map(
        |((first, length, more), (length_known, whole_known), digest, validator)| Head {
            first,
            length: length_known.then_some(length),
            whole: whole_known.then_some(first + length + more),
            validator,
            digest,
        },
    )
}

proptest! {
    #[test]
    fn questions_come_back_as_they_went(
        name in names(),
        range in parts(),
        validator in proptest::option::of(validators()),
        timestamp in "[!-~]{1,64}",
    ) {
        let validator = validator.as_deref();
        let questions = [
            Question::List,
            Question::Stat,
            Question::Echo(&timestamp),
            Question::Get { name: &name, range, validator },
        ];
        for asked in questions {
            let line = asked.encode().unwrap();
            prop_assert!(line.len() <= MAX_LINE);
            prop_assert_eq!(question(line.strip_suffix('\n').unwrap()), Ok(asked));
        }
    }

    #[test]
    fn heads_come_back_as_they_went(head in heads()) {
        let answer = Answer::Ok(head);
        let line = answer.encode().unwrap();
        prop_assert!(line.len() <= MAX_LINE);
        prop_assert_eq!(Answer::parse(line.strip_suffix('\n').unwrap()), Ok(answer));
    }

    #[test]
    fn any_error_is_one_line_that_can_be_read(text: String, which in 0..4usize) {
        let code = ErrorCode::ALL[which];
        let line = Answer::Error { code, text }.encode().unwrap();
        prop_assert!(line.len() <= MAX_LINE);
        let read = Answer::parse(line.strip_suffix('\n').unwrap());
        prop_assert!(matches!(read, Ok(Answer::Error { code: c, .. }) if c == code), "{:?}", read);
    }

    #[test]
    fn any_line_is_read_or_malformed(
        line in "(GET|ECHO|LIST|STAT|OK|ERROR|)( [0-9a-z%\"-]{0,12}| .{0,6}){0,6}",
    ) {
        if let Ok(asked) = question(&line) {
            prop_assert_eq!(asked.encode().unwrap(), format!("{line}\n"));
        }
        if let Ok(answer @ Answer::Ok(_)) = Answer::parse(&line) {
            prop_assert_eq!(answer.encode().unwrap(), format!("{line}\n"));
        }
    }

    #[test]
    fn a_line_is_the_same_in_whatever_pieces_it_comes(
        line in "[ -~]{0,100}",
        body in proptest::collection::vec(any::<u8>(), 0..20),
        piece in 1..150usize,
    ) {
        let text = [line.as_bytes(), b"\n", &body[..]].concat();
        let used = line.len() + 1;
        prop_assert_eq!(read_in_pieces(&text, piece), Ok((line, used)));
    }

    #[test]
    fn any_state_is_spelled_as_a_validator_and_back(state in "\\PC{0,60}|[ -~\u{0}-\u{1f}]{0,40}|-") {
        match spell(&state) {
            Some(word) => {
                prop_assert_eq!(validator(&word), Ok(&word[..]));
                prop_assert_eq!(unspell(&word), Some(state));
            }
            None => prop_assert!(state.is_empty() || state.len() > MAX_VALIDATOR / 3),
        }
    }

    #[test]
    fn statistics_come_back_in_their_order(
        pairs in proptest::collection::btree_map("[a-z0-9_]{1,30}", "[^\\p{Cc}]{0,30}", 0..20),
    ) {
        let mut statistics = Statistics::new();
        for (key, value) in pairs.iter().rev() {
            statistics.set(key, value);
        }
        let read = Statistics::decode(statistics.encode().as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&statistics));
        let keys: Vec<_> = statistics.iter().map(|(key, _)| key).collect();
        prop_assert!(keys.into_iter().eq(pairs.keys().rev()));
    }

    #[test]
    fn any_body_is_read_or_malformed(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = (Statistics::decode(&body), decode_list(&body));
    }
}

#[test]
fn lines_are_as_the_documentation_shows() {
    assert_eq!(
        question("GET 50MB.zip 1048576 \"5e8-1c9a\""),
        Ok(Question::Get {
            name: "50MB.zip",
            range: Range::from(1_048_576),
            validator: Some("\"5e8-1c9a\""),
        })
    );
    let head = Head {
        first: 1_048_576,
        length: Some(51_380_224),
        whole: Some(52_428_800),
        validator: Some("\"5e8-1c9a\"".to_owned()),
        digest: None,
    };
    assert_eq!(
        Answer::parse("OK 1048576 51380224 52428800 \"5e8-1c9a\""),
        Ok(Answer::Ok(head))
    );
    assert_eq!(
        Answer::parse("ERROR not_found no such file"),
        Ok(Answer::Error {
            code: ErrorCode::NotFound,
            text: "no such file".to_owned(),
        })
    );
}

#[test]
fn a_range_may_have_an_end() {
    let range = |word: &str| Range::parse(word);
    assert_eq!(range("0"), Ok(Range::default()));
    assert_eq!(
        range("5-5"),
        Ok(Range {
            first: 5,
            last: Some(5)
        })
    );
    assert_eq!(range("6-5"), Err(Malformed::Range));
    for wrong in [
        "",
        "-",
        "5-",
        "-5",
        "05",
        "1-02",
        "+1",
        "1-2-3",
        "18446744073709551616",
    ] {
        assert_eq!(range(wrong), Err(Malformed::Number), "{wrong}");
    }
    assert!(range("18446744073709551615").is_ok());
}

#[test]
fn questions_that_are_not_quite_right_are_malformed() {
    let wrong = [
        ("", Malformed::Word),
        ("list", Malformed::Word),
        (" LIST", Malformed::Word),
        ("LIST\r", Malformed::Word),
        ("LIST ", Malformed::Shape),
        ("STAT now", Malformed::Shape),
        ("ECHO", Malformed::Shape),
        ("ECHO ", Malformed::Text),
        ("ECHO 1 2", Malformed::Shape),
        ("GET", Malformed::Shape),
        ("GET a", Malformed::Shape),
        ("GET  0", Malformed::Text),
        ("GET a  0", Malformed::Number),
        ("GET a;b 0", Malformed::Text),
        ("GET ä 0", Malformed::Text),
        ("GET a\tb 0", Malformed::Text),
        ("GET a 0 ", Malformed::Text),
        ("GET a 0 -", Malformed::Text),
        ("GET a 0 v w", Malformed::Shape),
    ];
    for (line, why) in wrong {
        assert_eq!(question(line), Err(why), "{line:?}");
    }
    let long = format!("GET {} 0", "a".repeat(MAX_FILE + 1));
    assert_eq!(question(&long), Err(Malformed::Text));
}

#[test]
fn answers_that_are_not_quite_right_are_malformed() {
    let digest = "a".repeat(64);
    let wrong = [
        ("".to_owned(), Malformed::Word),
        ("ok 0 1 1 -".to_owned(), Malformed::Word),
        ("OK 0 1 1".to_owned(), Malformed::Shape),
        ("OK - 1 1 -".to_owned(), Malformed::Number),
        ("OK 1 1 1 -".to_owned(), Malformed::Range),
        ("OK 2 - 1 -".to_owned(), Malformed::Range),
        ("OK 18446744073709551615 1 - -".to_owned(), Malformed::Range),
        (format!("OK 0 1 1 - {}", &digest[1..]), Malformed::Digest),
        (
            format!("OK 0 1 1 - {}", digest.to_uppercase()),
            Malformed::Digest,
        ),
        (format!("OK 0 1 1 - {digest} more"), Malformed::Shape),
        ("ERROR".to_owned(), Malformed::Shape),
        ("ERROR gone".to_owned(), Malformed::Code),
        ("ERROR  refused".to_owned(), Malformed::Code),
        ("ERROR refused \u{7f}".to_owned(), Malformed::Text),
    ];
    for (line, why) in wrong {
        assert_eq!(Answer::parse(&line), Err(why), "{line:?}");
    }
    assert!(Answer::parse(&format!("OK 0 - - - {digest}")).is_ok());
    assert!(Answer::parse("OK 1 0 1 -").is_ok());
}

#[test]
fn what_the_format_does_not_allow_is_not_written() {
    let get = |name, range, validator| {
        Question::Get {
            name,
            range,
            validator,
        }
        .encode()
    };
    assert_eq!(get("a b", Range::default(), None), Err(Malformed::Text));
    assert_eq!(get("a\n", Range::default(), None), Err(Malformed::Text));
    assert_eq!(
        get("a", Range::default(), Some("v w")),
        Err(Malformed::Text)
    );
    let backwards = Range {
        first: 2,
        last: Some(1),
    };
    assert_eq!(get("a", backwards, None), Err(Malformed::Range));
    assert_eq!(Question::Echo("1\n2").encode(), Err(Malformed::Text));
    let head = Head {
        validator: Some("-".to_owned()),
        ..Head::default()
    };
    assert_eq!(Answer::Ok(head).encode(), Err(Malformed::Text));
}

#[test]
fn a_line_has_its_limit() {
    let longest = [&[b'a'; MAX_LINE - 1][..], b"\n"].concat();
    let endless = [b'a'; 2 * MAX_LINE];
    for piece in [1, 7, MAX_LINE, 4 * MAX_LINE] {
        let (line, used) = read_in_pieces(&longest, piece).unwrap();
        assert_eq!((line.len(), used), (MAX_LINE - 1, MAX_LINE));
        assert_eq!(read_in_pieces(&endless, piece), Err(Malformed::TooLong));
    }
    assert_eq!(read_in_pieces(b"LIST", 2), Err(Malformed::Truncated));
    assert_eq!(read_in_pieces(b"\xff\n", 2), Err(Malformed::Text));
}

#[test]
fn a_line_takes_nothing_of_the_body() {
    let mut reader = LineReader::new();
    assert_eq!(reader.feed(b"OK 0 2"), Ok(None));
    assert_eq!(reader.line(), Err(Malformed::Truncated));
    assert_eq!(reader.feed(b" 2 -\nab"), Ok(Some(5)));
    assert_eq!(reader.feed(b"more"), Ok(Some(0)));
    assert_eq!(reader.line(), Ok("OK 0 2 2 -"));
}

#[test]
fn a_date_is_spelled_without_spaces() {
    let word = spell("Sun, 22 Nov 2026 08:00:00 GMT").unwrap();
    assert_eq!(word, "Sun,%2022%20Nov%202026%2008:00:00%20GMT");
    assert_eq!(spell("\"5e8-1c9a\"").unwrap(), "\"5e8-1c9a\"");
    assert_eq!(spell("-").unwrap(), "%2D");
    assert_eq!(spell(""), None);
    assert_eq!(unspell("%ff"), None);
}

#[test]
fn a_list_keeps_the_names_that_can_be_asked_for() {
    let body = encode_list(["50MB.zip", "a b", "", "x;y", "caf%C3%A9.txt"]);
    assert_eq!(body, "50MB.zip\ncaf%C3%A9.txt\n");
    assert_eq!(
        decode_list(body.as_bytes()),
        Ok(vec!["50MB.zip", "caf%C3%A9.txt"])
    );
    assert_eq!(decode_list(b""), Ok(Vec::new()));
    assert_eq!(decode_list(b"50MB"), Err(Malformed::Truncated));
    assert_eq!(decode_list(b"a\n\nb\n"), Err(Malformed::Text));
    assert_eq!(decode_list(&[b'a'; MAX_LIST + 1]), Err(Malformed::TooLong));
}

#[test]
fn statistics_that_are_not_quite_right_are_malformed() {
    let wrong: [(&[u8], Malformed); 6] = [
        (b"rtt_us 5", Malformed::Truncated),
        (b"rtt_us\n", Malformed::Shape),
        (b"RTT 5\n", Malformed::Text),
        (b" 5\n", Malformed::Text),
        (b"a 5\r\n", Malformed::Text),
        (b"a 5\na 6\n", Malformed::Twice),
    ];
    for (body, why) in wrong {
        assert_eq!(Statistics::decode(body), Err(why), "{body:?}");
    }
    let endless = vec![b'a'; MAX_STATISTICS + 1];
    assert_eq!(Statistics::decode(&endless), Err(Malformed::TooLong));
}

#[test]
fn statistics_are_set_and_found_by_key() {
    let mut statistics = Statistics::new();
    statistics.set("rtt_us", 5);
    statistics.set("phase", "slow\nstart");
    statistics.set("rtt_us", 6);
    statistics.set("no key", 7);
    assert_eq!(statistics.encode(), "rtt_us 6\nphase slow start\n");
    assert_eq!(statistics.get("rtt_us"), Some("6"));
    assert_eq!(statistics.get("window"), None);
    for index in 0..1000 {
        statistics.set(&format!("key_{index}"), "x".repeat(500));
    }
    assert!(Statistics::decode(statistics.encode().as_bytes()).is_ok());
}
