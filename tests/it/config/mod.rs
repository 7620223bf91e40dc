//! Configuration files: good ones compile, bad ones give every problem with its line and key.

mod capture;
mod fuzz;
mod link;
mod transport;

use std::{net::SocketAddr, path::Path, time::Duration};

use labnet::config::{self, Config, DhcpListen, LogFormat, OriginFiles, Problem, Problems};
use tracing::Level;

fn conf(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn none() -> [(String, String); 0] {
    []
}

/// Parses as if from conf/, so that the zone files named there exist.
fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(text, &conf("test.toml"), none())
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::parse(text, &conf("test.toml"), variables)
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok(config) => panic!("accepted: {text}\n{config:#?}"),
        Err(Problems(problems)) => problems,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_default_file_says_the_defaults() {
    let path = conf("labnet.toml");
    let text = std::fs::read_to_string(&path).expect("conf/labnet.toml");
    let config =
        config::parse(&text, &path, none()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.file.as_deref(), Some(path.as_path()));
    assert_eq!(config.state_dir, conf("state"));
    let dhcp = config.dhcp.clone().expect("dhcp");
    assert_eq!(dhcp.subnets[0].pools[0].len(), 60);
    assert_eq!(dhcp.subnets[0].lease_time, Duration::from_secs(86_400));
    let zones = config.dns.clone().expect("dns").zones;
    assert_eq!(zones[0].name, "example.com.");
    assert_eq!(zones[0].file, conf("zones/example.com.zone"));

    // What the file spells out is what its absence means.
    let terse = parse(
        r#"
        [http]
        [dhcp]
        [[dhcp.subnet]]
        subnet = "127.20.30.0/24"
        pools = ["127.20.30.41-127.20.30.100"]
        routers = ["127.20.30.101"]
        name_servers = ["127.0.0.1"]
        domain = "lab.test"
        [[dhcp.subnet.reservation]]
        mac = "02-00-00-00-00-07"
        address = "127.20.30.50"
        [dns]
        [[dns.zone]]
        name = "Example.COM"
        file = "zones/example.com.zone"
        [[dns.zone]]
        name = "30.20.127.in-addr.arpa"
        file = "zones/30.20.127.in-addr.arpa.zone"
        [rudp]
        [scrap]
        [origin]
        "#,
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let config = Config {
        file: terse.file.clone(),
        ..config
    };
    assert_eq!(config, terse);
}

#[test]
fn the_file_for_a_lan_is_valid() {
    let path = conf("lan.toml");
    let text = std::fs::read_to_string(&path).expect("conf/lan.toml");
    let config =
        config::parse(&text, &path, none()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.dhcp.expect("dhcp").listen,
        DhcpListen::Interfaces(vec!["lab0".into()])
    );
    assert_eq!(
        config.rudp.expect("rudp").scraper,
        Some(address("10.20.30.40:49153"))
    );
}

#[test]
fn a_role_whose_table_is_absent_does_not_run() {
    let config = parse("[rudp]\nlisten = \"[::1]:0\"\nscraper = \"[::1]:49153\"\n")
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.http.is_none() && config.dhcp.is_none() && config.dns.is_none());
    assert!(config.scrap.is_none() && config.origin.is_none());
    assert_eq!(config.rudp.expect("rudp").listen, [address("[::1]:0")]);
}

#[test]
fn an_open_address_is_asked_on_loopback() {
    let config = parse(
        "[rudp]\n[scrap]\nlisten = \"0.0.0.0:1000\"\n[origin]\nlisten = \"[::]:2000\"\nsamples = [\"1kB.zip\"]\n",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.rudp.expect("rudp").scraper,
        Some(address("127.0.0.1:1000"))
    );
    assert_eq!(
        config.scrap.expect("scrap").origin.as_str(),
        "http://[::1]:2000/"
    );
    assert_eq!(
        config.origin.expect("origin").files,
        OriginFiles::Samples(vec!["1kB.zip".into()])
    );
}

#[test]
fn one_address_or_a_list_is_listened_on() {
    let listens = |listen: &str| {
        let of = |table: &str, rest: &str| {
            let text = format!("[{table}]\nlisten = {listen}\n{rest}");
            parse(&text).unwrap_or_else(|problems| panic!("{problems}"))
        };
        let http = of("http", "").http.expect("http").listen;
        let scrap = of("scrap", "origin = \"http://a/\"\n");
        assert_eq!(scrap.scrap.expect("scrap").listen, http);
        assert_eq!(of("origin", "").origin.expect("origin").listen, http);
        let zone = "[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n";
        assert_eq!(of("dns", zone).dns.expect("dns").listen, http);
        http
    };
    let one = address("127.0.0.1:80");
    assert_eq!(listens("\"127.0.0.1:80\""), [one]);
    assert_eq!(listens("[\"127.0.0.1:80\"]"), [one]);
    assert_eq!(
        listens("[\"[::1]:80\", \"127.0.0.1:80\"]"),
        [address("[::1]:80"), one]
    );
    // Every address means both families,
    let all = [address("[::]:80"), address("0.0.0.0:80")];
    assert_eq!(listens("\"[::]:80\""), all);
    assert_eq!(listens("[\"[::]:80\", \"0.0.0.0:80\"]"), all);
    // but for who says which of IPv4,
    assert_eq!(listens("[\"[::]:80\", \"127.0.0.1:80\"]"), [all[0], one]);
    // and where the port would be another one.
    assert_eq!(listens("\"[::]:0\""), [address("[::]:0")]);
}

const SUBNET: &str = "[dhcp]\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\n";

/// Text, and what is expected: line, key, a part of the message.
type Case = (&'static str, usize, &'static str, &'static str);

#[test]
fn every_mistake_has_its_line_and_key() {
    #[rustfmt::skip] // One case a line.
    let cases: &[Case] = &[
        // types
        ("[http]\nlisten = 9167\n", 2, "http.listen", "the number `9167`"),
        ("[http]\nfault_injection = \"yes\"\n", 2, "http.fault_injection", "`true` or `false`"),
        ("[http]\n[rudp]\nmax_window = \"64\"\n", 3, "rudp.max_window", "without quotes"),
        ("[http]\n[rudp]\nmax_window = 6.4\n", 3, "rudp.max_window", "without quotes"),
        ("[dns]\nlisten = 53\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 2, "dns.listen", "or a list of them"),
        ("[http]\nlisten = [\"127.0.0.1:1\", \"here\"]\n", 2, "http.listen[1]", "no IP address"),
        ("[origin]\nlisten = []\n", 2, "origin.listen", "at least one address"),
        ("[http]\nlisten = \"[::]:80\"\n[origin]\nlisten = \"127.0.0.1:80\"\n", 4, "origin.listen", "taken by `http.listen` (TCP `0.0.0.0:80`)"),
        ("[dns]\nlisten = [\n  \"127.0.0.1:53\",\n  53,\n]\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 4, "dns.listen[1]", "in quotes"),
        ("http = 5\n", 1, "http", "a table `[http]`"),
        ("[http]\n[dhcp.subnet]\n", 2, "dhcp.subnet", "[[dhcp.subnet]]"),
        ("state_dir = 5\n[http]\n", 1, "state_dir", "in quotes"),
        ("state_dir = \"\"\n[http]\n", 1, "state_dir", "no path"),
        // unknown keys
        ("[http]\nlisen = \"127.0.0.1:1\"\n", 2, "http.lisen", "did you mean `listen`?"),
        ("[dhpc]\n[http]\n", 1, "dhpc", "did you mean `dhcp`?"),
        ("[http]\n[rudp]\nlease_time = \"1h\"\n", 3, "rudp.lease_time", "belongs to [[dhcp.subnet]]"),
        ("[http]\ncolour = 1\n", 2, "http.colour", "known here are `listen`, `fault_injection`"),
        ("[http]\n\"a[99999999999]\" = 1\n", 2, "a[99999999999]", "plain words"),
        // numbers
        ("[rudp]\nmax_window = 1\n", 2, "rudp.max_window", "2 to 1024"),
        ("[rudp]\nmax_window = 1025\n", 2, "rudp.max_window", "2 to 1024"),
        ("[rudp]\nmax_sessions = 0\n", 2, "rudp.max_sessions", "out of bounds"),
        ("[http]\n[scrap]\norigin=\"http://a/\"\nmax_peers = -1\n", 4, "scrap.max_peers", "out of bounds"),
        ("[rudp]\nmax_window = 99999999999999999999\n", 2, "rudp.max_window", "whole number"),
        ("[http]\nmax_connections = 8\nmax_connections_per_address = 9\n", 3, "http.max_connections_per_address", "more than there may be in all, 8"),
        ("[origin]\nmax_connections = 0\n", 2, "origin.max_connections", "out of bounds"),
        ("[dns]\nmin_rate = -1\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 2, "dns.min_rate", "out of bounds"),
        ("[http]\n[rudp]\namplification = 0\n", 3, "rudp.amplification", "out of bounds"),
        ("[scrap]\norigin = \"http://a/\"\nrequest_timeout = \"1ms\"\n", 3, "scrap.request_timeout", "1s to 365days"),
        // who may ask
        ("[http]\nhosts = [\"lab.example\", \"lab.example:80\"]\n", 2, "http.hosts[1]", "without a port"),
        ("[http]\nhosts = 5\n", 2, "http.hosts", "or a list of them"),
        ("[http]\ntoken_file = \"absent\"\n", 2, "http.token_file", "there is no file"),
        ("[http]\nprotect_reads = true\n", 2, "http.protect_reads", "no `token_file`"),
        // durations
        ("[rudp]\nidle_timeout = \"0s\"\n", 2, "rudp.idle_timeout", "100ms to 365days"),
        ("[rudp]\nidle_timeout = \"soon\"\n", 2, "rudp.idle_timeout", "`30s`"),
        ("[rudp]\nidle_timeout = \"100years\"\n", 2, "rudp.idle_timeout", "out of bounds"),
        ("[http]\n[supervisor]\nwithin = \"99999999999999999999years\"\n", 3, "supervisor.within", "no duration"),
        // addresses
        ("[http]\nlisten = \"127.0.0.1\"\n", 2, "http.listen", "lacks a port"),
        ("[http]\nlisten = \"localhost:80\"\n", 2, "http.listen", "no IP address"),
        ("[http]\nlisten = \"239.1.1.1:80\"\n", 2, "http.listen", "many hosts"),
        ("[http]\nlisten = \"[ff02::1]:80\"\n", 2, "http.listen", "many hosts"),
        ("[rudp]\nscraper = \"0.0.0.0:9\"\n", 2, "rudp.scraper", "cannot be asked"),
        // listeners
        ("[http]\nlisten = \"127.0.0.1:80\"\n[origin]\nlisten = \"127.0.0.1:80\"\n", 4, "origin.listen", "taken by `http.listen` (TCP"),
        ("[http]\nlisten = \"0.0.0.0:80\"\n[origin]\nlisten = \"127.0.0.1:80\"\n", 4, "origin.listen", "taken by"),
        ("[rudp]\nlisten = \"127.0.0.1:5300\"\n[dns]\nlisten = [\"127.0.0.1:5300\"]\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 2, "rudp.listen", "(UDP"),
        ("[dns]\nlisten = [\"127.0.0.1:5300\",\n\"127.0.0.1:5300\"]\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 3, "dns.listen[1]", "taken by `dns.listen[0]`"),
        ("[http]\n[dns]\nlisten = []\n[[dns.zone]]\nname = \"a\"\nfile = \"labnet.toml\"\n", 3, "dns.listen", "at least one address"),
        // zones
        ("[http]\n[dns]\n", 2, "dns.zone", "at least one [[dns.zone]]"),
        ("[dns]\n[[dns.zone]]\nname = \"a.\"\nfile = \"absent.zone\"\n", 4, "dns.zone[0].file", "there is no file"),
        ("[dns]\n[[dns.zone]]\nname = \"a.\"\nfile = \"zones\"\n", 4, "dns.zone[0].file", "there is no file"),
        ("[dns]\n[[dns.zone]]\nfile = \"labnet.toml\"\n", 2, "dns.zone[0].name", "missing"),
        ("[dns]\n[[dns.zone]]\nname = \"a..b\"\nfile = \"labnet.toml\"\n", 3, "dns.zone[0].name", "no domain name"),
        ("[dns]\n[[dns.zone]]\nname = \"a.b\"\nfile = \"labnet.toml\"\n[[dns.zone]]\nname = \"A.B.\"\nfile = \"labnet.toml\"\n", 6, "dns.zone[1].name", "the zone `a.b.` is at `dns.zone[0].name` already"),
        // the scraper and the origin
        ("[http]\n[scrap]\n", 2, "scrap.origin", "missing"),
        ("[scrap]\norigin = \"https://example.com/\"\n", 2, "scrap.origin", "only `http` is"),
        ("[scrap]\norigin = \"file:///etc\"\n", 2, "scrap.origin", "only `http` is"),
        ("[scrap]\norigin = \"127.0.0.1:8080\"\n", 2, "scrap.origin", "http://127.0.0.1:8080/"),
        ("[scrap]\norigin = \"http://me:secret@a/\"\n", 2, "scrap.origin", "user's name"),
        ("[rudp]\n[scrap]\nlisten = \"127.0.0.1:0\"\norigin = \"http://a/\"\n", 1, "rudp.scraper", "leaves its port open"),
        ("[origin]\nfiles = \"nowhere\"\n", 2, "origin.files", "there is no folder"),
        ("[origin]\nfiles = \"zones\"\nsamples = [\"a.png\"]\n", 3, "origin.samples", "one of the two"),
        ("[origin]\nsamples = [\"MB.zip\"]\n", 2, "origin.samples[0]", "no sample"),
        ("[origin]\nsamples = [\"0MB.zip\"]\n", 2, "origin.samples[0]", "1kB to 4GB"),
        ("[origin]\nsamples = [\"5GB.zip\"]\n", 2, "origin.samples[0]", "1kB to 4GB"),
        ("[origin]\nsamples = [\"../a.png\"]\n", 2, "origin.samples[0]", "no sample"),
        ("[origin]\nsamples = [\"a;b.png\"]\n", 2, "origin.samples[0]", "no sample"),
        ("[origin]\nsamples = [\"a.png\",\n\"a.png\"]\n", 3, "origin.samples[1]", "already"),
        ("[origin]\nsamples = []\n", 2, "origin.samples", "at least one"),
    ];
    for (text, line, key, part) in cases {
        let found = problems(text);
        let [problem] = &found[..] else {
            panic!("not one problem: {text}\n{}", Problems(found));
        };
        assert_eq!(
            (problem.line, problem.key.as_str()),
            (Some(*line), *key),
            "{text}\n{problem}"
        );
        assert!(problem.message.contains(part), "{text}\n{problem}");
        assert_eq!(
            problem.to_string(),
            format!(
                "{}:{line}: {key}: {}",
                conf("test.toml").display(),
                problem.message
            )
        );
    }
}

#[test]
fn every_mistake_in_a_subnet_has_its_line_and_key() {
    // Line 4 and on, after SUBNET.
    #[rustfmt::skip] // One case a line.
    let cases: &[Case] = &[
        ("", 2, "pools", "no address to lease"),
        ("pools = [\"10.0.0.9-10.0.0.5\"]\n", 4, "pools[0]", "goes backwards"),
        ("pools = [\"10.0.0.9-\"]\n", 4, "pools[0]", "no range"),
        ("pools = [\"10.0.0.1-10.0.1.1\"]\n", 4, "pools[0]", "not inside of the subnet"),
        ("pools = [\"10.0.0.0-10.0.0.9\"]\n", 4, "pools[0]", "network's own address"),
        ("pools = [\"10.0.0.200-10.0.0.255\"]\n", 4, "pools[0]", "broadcast address"),
        ("pools = [\"10.0.0.1-10.0.0.9\",\n\"10.0.0.9\"]\n", 5, "pools[1]", "overlaps"),
        ("pools = [\"10.0.0.9\"]\nrouters = [\"10.0.0.9\"]\n", 5, "routers[0]", "could be leased"),
        ("pools = [\"10.0.0.9\"]\nrouters = [\"10.0.1.9\"]\n", 5, "routers[0]", "not inside"),
        ("pools = [\"10.0.0.9\"]\nrouters = [\"10.0.0.255\"]\n", 5, "routers[0]", "no host's address"),
        ("pools = [\"10.0.0.9\"]\nname_servers = [\"0.0.0.0\"]\n", 5, "name_servers[0]", "one host"),
        ("pools = [\"10.0.0.9\"]\nname_servers = [\"dns\"]\n", 5, "name_servers[0]", "no IPv4 address"),
        ("pools = [\"10.0.0.9\"]\nname_servers = [\"10.0.0.9\"]\n", 5, "name_servers[0]", "could be leased"),
        ("pools = [\"10.0.0.9\"]\ndomain = \"a b\"\n", 5, "domain", "no domain name"),
        ("pools = [\"10.0.0.9\"]\nlease_time = \"0s\"\n", 5, "lease_time", "out of bounds"),
        ("pools = [\"10.0.0.9\"]\nlease_time = \"1500ms\"\n", 5, "lease_time", "part of a second"),
        ("pools = [\"10.0.0.9\"]\nlease_time = \"4294967295s\"\n", 5, "lease_time", "out of bounds"),
        ("[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00\"\naddress = \"10.0.0.1\"\n", 5, "reservation[0].mac", "six bytes"),
        ("[[dhcp.subnet.reservation]]\nmac = \"01:00:00:00:00:01\"\naddress = \"10.0.0.1\"\n", 5, "reservation[0].mac", "one network card"),
        ("[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:01\"\n", 4, "reservation[0].address", "missing"),
        ("[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.1.0.1\"\n", 6, "reservation[0].address", "not inside"),
        ("[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.1\"\n[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.2\"\n", 8, "reservation[1].mac", "already"),
        ("[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"10.0.0.1\"\n[[dhcp.subnet.reservation]]\nmac = \"02:00:00:00:00:02\"\naddress = \"10.0.0.1\"\n", 9, "reservation[1].address", "already"),
    ];
    for (rest, line, key, part) in cases {
        let text = format!("{SUBNET}{rest}");
        let found = problems(&text);
        let [problem] = &found[..] else {
            panic!("not one problem: {text}\n{}", Problems(found));
        };
        assert_eq!(
            (problem.line, problem.key.as_str()),
            (Some(*line), format!("dhcp.subnet[0].{key}").as_str()),
            "{text}\n{problem}"
        );
        assert!(problem.message.contains(part), "{text}\n{problem}");
    }
}

#[test]
fn subnets_are_subnets_and_lie_apart() {
    for (subnet, part) in [
        ("10.0.0.5/24", "its subnet is `10.0.0.0/24`"),
        ("10.0.0.0", "write it as"),
        ("10.0.0.0/33", "/8 to /30"),
        ("10.0.0.0/31", "/8 to /30"),
        ("0.0.0.0/8", "no addresses for hosts"),
        ("224.0.0.0/8", "no addresses for hosts"),
        ("::/8", "write it as"),
    ] {
        let text =
            format!("[dhcp]\n[[dhcp.subnet]]\nsubnet = \"{subnet}\"\npools = [\"10.0.0.9\"]\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{}", Problems(found));
        assert_eq!(found[0].line, Some(3));
        assert!(found[0].message.contains(part), "{}", found[0]);
    }
    let found = problems(
        "[dhcp]\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/16\"\npools = [\"10.0.0.9\"]\n\
         [[dhcp.subnet]]\nsubnet = \"10.0.1.0/24\"\npools = [\"10.0.1.9\"]\n",
    );
    assert_eq!(found.len(), 1, "{}", Problems(found));
    assert_eq!(found[0].line, Some(6));
    assert_eq!(found[0].key, "dhcp.subnet[1].subnet");
}

#[test]
fn dhcp_listens_on_addresses_or_interfaces() {
    let subnet = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\npools = [\"10.0.0.9\"]\n";
    for (keys, key, part) in [
        ("listen = [\"[::1]:67\"]", "dhcp.listen[0]", "IPv4"),
        ("listen = []", "dhcp.listen", "at least one"),
        ("interfaces = []", "dhcp.interfaces", "at least one"),
        (
            "interfaces = [\"a b\"]",
            "dhcp.interfaces[0]",
            "no interface's name",
        ),
        (
            "interfaces = [\"a\", \"a\"]",
            "dhcp.interfaces[1]",
            "already",
        ),
        (
            "listen = [\"127.0.0.1:67\"]\ninterfaces = [\"a\"]",
            "dhcp.interfaces",
            "one of the two",
        ),
    ] {
        let found = problems(&format!("[dhcp]\n{keys}\n{subnet}"));
        assert_eq!(found.len(), 1, "{}", Problems(found));
        assert_eq!(found[0].key, key);
        assert!(found[0].message.contains(part), "{}", found[0]);
    }
}

#[test]
fn five_mistakes_give_five_problems() {
    let found = problems(
        r#"
state_dir = 5
[http]
listn = "127.0.0.1:9167"
[dhcp]
[[dhcp.subnet]]
subnet = "10.0.0.0/24"
pools = ["10.0.0.10-10.0.0.20", "10.0.0.20-10.0.0.30"]
[dns]
listen = ["127.0.0.256:53"]
[[dns.zone]]
name = "example.com."
file = "zones/missing.zone"
"#,
    );
    let seen: Vec<_> = found
        .iter()
        .map(|problem| (problem.line.unwrap_or(0), problem.key.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (2, "state_dir"),
            (4, "http.listn"),
            (8, "dhcp.subnet[0].pools[1]"),
            (10, "dns.listen[0]"),
            (13, "dns.zone[0].file"),
        ]
    );
}

#[test]
fn a_broken_line_hides_no_other_mistake() {
    let found = problems("[http]\nlisten = 127.0.0.1:9167\n[rudp]\nmax_window = 1\n");
    assert!(found[0].message.starts_with("TOML syntax"), "{}", found[0]);
    assert!(
        found
            .iter()
            .all(|problem| matches!(problem.line, Some(2 | 4))),
        "{}",
        Problems(found)
    );
    assert!(found.iter().any(|problem| problem.key == "rudp.max_window"));
    let found = problems("[http]\n[http]\n");
    assert_eq!(found[0].line, Some(2), "{}", found[0]);
    assert_eq!(problems("[http\n")[0].line, Some(1));
    // An open list swallows the rest: told once, and nothing else made up.
    let found = problems(
        "state_dir = \"a\n[dns]\nlisten = [\"127.0.0.1:53\"\n[[dns.zone]]\nname = \"a\"\n[rudp]\n",
    );
    let seen: Vec<_> = found.iter().map(|problem| problem.line).collect();
    assert_eq!(seen, [Some(1), Some(4)], "{}", Problems(found));
}

#[test]
fn the_log_has_a_level_and_levels_of_its_parts() {
    let log = |keys: &str| parse(&format!("[http]\n[log]\n{keys}\n")).map(|config| config.log);
    let shows = |level: &str, target: &str, event: Level| {
        let log = log(&format!("level = {level:?}")).expect("a level");
        log.level.would_enable(target, &event)
    };
    assert!(shows("info", "labnet", Level::INFO) && !shows("info", "labnet", Level::DEBUG));
    assert!(!shows("off", "labnet", Level::ERROR));
    let parts = "WARN, labnet::packet=trace";
    assert!(shows(parts, "labnet::packet", Level::TRACE) && !shows(parts, "labnet", Level::INFO));
    // What is not said of the rest is its default.
    assert!(shows("labnet::dns=off", "labnet", Level::INFO));
    assert_eq!(
        log("").expect("valid"),
        log("level = \"info\"\nformat = \"text\"").expect("valid")
    );
    assert_eq!(
        log("format = \"json\"").expect("valid").format,
        LogFormat::Json
    );
    for wrong in [
        "level = \"inf\"",
        "level = \"\"",
        "level = \"3\"",
        "level = \"=info\"",
        "level = 3",
        "level = \"a=b=c\"",
    ] {
        let Err(Problems(found)) = log(wrong) else {
            panic!("accepted: {wrong}")
        };
        assert_eq!(
            (found.len(), found[0].key.as_str(), found[0].line),
            (1, "log.level", Some(3)),
            "{wrong}"
        );
    }
    let Err(Problems(found)) = log("format = \"xml\"") else {
        panic!("accepted")
    };
    assert!(found[0].message.contains("json"), "{}", found[0].message);
    let over = parse_with(
        "[http]\n[log]\nlevel = \"info\"\n",
        &[("LABNET_LOG__LEVEL", "off")],
    );
    assert!(
        !over
            .expect("valid")
            .log
            .level
            .would_enable("labnet", &Level::ERROR)
    );
}

#[test]
fn nothing_to_run_is_a_problem() {
    for text in ["", "# nothing\n", "state_dir = \"a\"\n", "[supervisor]\n"] {
        let found = problems(text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].message.contains("nothing would run"),
            "{}",
            found[0]
        );
    }
}

#[test]
fn every_number_and_every_list_has_a_variable() {
    let config = parse_with(
        "[http]\n[capture]\nfile = \"lab.pcapng\"\n",
        &[
            ("LABNET_CAPTURE__MAX_FILES", "3"),
            ("LABNET_CAPTURE__ROLES", "dns,dhcp"),
        ],
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let capture = config.capture.expect("capture");
    assert_eq!(capture.max_files, 3);
    assert_eq!(capture.roles, ["dns", "dhcp"]);
}

#[test]
fn the_environment_lies_over_the_file() {
    let config = parse_with(
        "[http]\nlisten = \"127.0.0.1:1\"\n[dhcp]\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\npools = [\"10.0.0.9\"]\n[rudp]\n",
        &[
            ("LABNET_STATE_DIR", "5"),
            ("LABNET_HTTP__LISTEN", "[::1]:2"),
            ("LABNET_HTTP__FAULT_INJECTION", "true"),
            ("LABNET_DHCP__LISTEN", "127.0.0.1:3,127.0.0.1:4"),
            ("LABNET_RUDP__MAX_WINDOW", "9"),
            ("LABNET_RUDP__IDLE_TIMEOUT", "5m"),
            ("LABNET_RUDP__SCRAPER", ""),
            ("LABNET_URL", "http://127.0.0.1:9/"),
            ("LABNET_SECRET", "correct horse battery staple"),
            ("HOME", "/"),
        ],
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.state_dir, conf("5"));
    let http = config.http.expect("http");
    assert_eq!(
        (http.listen, http.fault_injection),
        (vec![address("[::1]:2")], true)
    );
    let DhcpListen::Addresses(listen) = config.dhcp.expect("dhcp").listen else {
        panic!("addresses");
    };
    assert_eq!(listen.len(), 2);
    let rudp = config.rudp.expect("rudp");
    assert_eq!(
        (rudp.max_window, rudp.idle_timeout),
        (9, Duration::from_secs(300))
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let text = "[http]\nlisten = \"127.0.0.1:1\"\n";
    for (name, value, key, part) in [
        (
            "LABNET_HTTP__LISTEN",
            "here",
            "http.listen[0]",
            "no IP address",
        ),
        (
            "LABNET_HTTP__LISEN",
            "127.0.0.1:2",
            "http.lisen",
            "did you mean",
        ),
        (
            "LABNET_HTTP__FAULT_INJECTION",
            "maybe",
            "http.fault_injection",
            "`true` or `false`",
        ),
        ("LABNET_HTTP", "5", "http", "a table"),
        (
            "LABNET_DNS__LISTEN",
            "127.0.0.1:53,x",
            "dns.listen[1]",
            "no IP address",
        ),
        ("LABNET_A[99999999999]", "1", "", "names no key"),
        ("LABNET___", "1", "", "names no key"),
        (
            "LABNET_DHCP__SUBNET__SUBNET",
            "10.0.0.0/8",
            "dhcp.subnet",
            "[[dhcp.subnet]]",
        ),
    ] {
        let Err(Problems(found)) = parse_with(text, &[(name, value)]) else {
            panic!("accepted {name}={value}");
        };
        let problem = found
            .iter()
            .find(|problem| problem.message.contains(part))
            .unwrap_or_else(|| panic!("{}", Problems(found.clone())));
        assert_eq!(
            (problem.file.as_str(), problem.line, problem.key.as_str()),
            (name, None, key)
        );
        assert!(
            problem.to_string().starts_with(&format!("{name}: ")),
            "{problem}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let Err(Problems(found)) = config::load(Path::new("/nonexistent/labnet.toml")) else {
        panic!("loaded");
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].file, "/nonexistent/labnet.toml");
}
