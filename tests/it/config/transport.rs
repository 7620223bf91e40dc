//! What `[rudp]` says of the binary transport.

use std::net::IpAddr;

use labnet::config::{Algorithm, Problems, Protection, Transport};

use super::{parse, parse_with, problems};

const SECRET: &str = "correct horse battery staple";

fn transport(lines: &str) -> Transport {
    let config = parse(&format!("[rudp]\n{lines}\n"));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let rudp = config.rudp.unwrap_or_else(|| panic!("[rudp] is there"));
    rudp.transport
}

#[test]
fn each_key_has_its_default_and_its_meaning() {
    assert_eq!(transport(""), Transport::default());
    let all = transport(&format!(
        r#"
        congestion = "vegas"
        initial_window = "64kB"
        client_choice = false
        protection = "psk"
        secret = "{SECRET}"
        max_datagram = 1200
        send_memory = "1GiB"
        shards = 4
        [[rudp.class]]
        clients = ["127.20.30.0/24", "2001:db8::/32"]
        congestion = "bbr"
        [[rudp.class]]
        clients = ["127.0.0.9"]
        initial_window = "3000B"
        "#
    ));
    assert_eq!(all.congestion, Algorithm::Vegas);
    assert_eq!(
        (all.initial_window, all.client_choice),
        (Some(64_000), false)
    );
    assert_eq!((all.max_datagram, all.send_memory), (Some(1200), 1 << 30));
    assert_eq!(all.shards.get(), 4);
    let Protection::Psk(secret) = &all.protection else {
        panic!("{:?}", all.protection);
    };
    assert_eq!(secret.reveal(), SECRET);
    let class_of = |client: &str| {
        let client: IpAddr = client.parse().expect("an address");
        all.classes.iter().position(|class| class.contains(client))
    };
    assert_eq!(class_of("127.20.30.255"), Some(0));
    assert_eq!(class_of("2001:db8::9"), Some(0));
    assert_eq!(class_of("127.0.0.9"), Some(1));
    assert_eq!(class_of("127.0.0.8"), None);
}

#[test]
fn every_mistake_is_found_where_it_is() {
    let class = |lines: &str| format!("[[rudp.class]]\n{lines}");
    for (lines, key, part) in [
        (
            "congestion = \"reno\"".to_owned(),
            "rudp.congestion",
            "`new_reno`, `cubic`, `vegas`, `bbr`",
        ),
        (
            "initial_window = \"1kB\"".to_owned(),
            "rudp.initial_window",
            "up to 16MiB",
        ),
        (
            "initial_window = 64000".to_owned(),
            "rudp.initial_window",
            "in quotes",
        ),
        (
            "client_choice = \"no\"".to_owned(),
            "rudp.client_choice",
            "`true` or `false`",
        ),
        (
            "protection = \"tls\"".to_owned(),
            "rudp.protection",
            "`checksum` and `psk`",
        ),
        ("protection = \"psk\"".to_owned(), "rudp.secret", "missing"),
        (
            format!("secret = \"{SECRET}\""),
            "rudp.secret",
            "protection = \"psk\"",
        ),
        (
            "max_datagram = 1199".to_owned(),
            "rudp.max_datagram",
            "1200 to 65487",
        ),
        (
            "send_memory = \"1kB\"".to_owned(),
            "rudp.send_memory",
            "from 1MiB",
        ),
        ("shards = 0".to_owned(), "rudp.shards", "1 to 64"),
        (
            class("congestion = \"bbr\""),
            "rudp.class[0].clients",
            "at least one network",
        ),
        (
            class("clients = [\"127.0.0.1\"]"),
            "rudp.class[0]",
            "says nothing",
        ),
        (
            class("clients = [\"lab\"]\ncongestion = \"bbr\""),
            "rudp.class[0].clients[0]",
            "no network",
        ),
        (
            class("clients = [\"10.0.0.1/8\"]\ncongestion = \"bbr\""),
            "rudp.class[0].clients[0]",
            "`10.0.0.0/8`",
        ),
        (
            class("clients = [\"10.0.0.0/8\"]\ncongestion = \"b\""),
            "rudp.class[0].congestion",
            "no congestion controller",
        ),
        (
            class("client = 1\nclients = [\"::1\"]\ncongestion = \"bbr\""),
            "rudp.class[0].client",
            "did you mean `clients`?",
        ),
    ] {
        let found = problems(&format!("[rudp]\n{lines}\n"));
        let [problem] = &found[..] else {
            panic!("not one problem: {lines}\n{}", Problems(found));
        };
        assert_eq!(problem.key, key, "{problem}");
        assert!(problem.message.contains(part), "{problem}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let told = |lines: &str| Problems(problems(&format!("[rudp]\n{lines}\n"))).to_string();
    for lines in [
        "protection = \"psk\"\nsecret = \"hunter2\"",
        "protection = \"psk\"\nsecret = 75316420",
        "protection = \"psk\"\nsecret = [\"hunter2\"]",
    ] {
        let told = told(lines);
        assert!(told.contains("rudp.secret"), "{told}");
        assert!(
            !told.contains("hunter2") && !told.contains("75316420"),
            "{told}"
        );
    }
    let config = parse_with(
        "[rudp]\nprotection = \"psk\"\n",
        &[("LABNET_RUDP__SECRET", SECRET)],
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!format!("{config:?}").contains(SECRET));
}
