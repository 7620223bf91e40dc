//! Reloads of good and broken files, while clients of every kind work.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    crashes::{config, free_v6, metric},
    in_full,
    load::{Load, Signals, look_up, origin, page},
};
use crate::support::{Lab, loopback, probe::Addresses, wait_for};

/// Where the lab listens at times, beside the addresses that stay.
#[derive(Default)]
struct Extra {
    dns: Option<SocketAddr>,
    http: Option<SocketAddr>,
    rudp: Option<SocketAddr>,
}

impl Extra {
    /// Each role comes, moves and goes at a pace of its own.
    fn of(n: usize, addresses: &Addresses) -> Self {
        let at = |port, bit: usize, ports: usize| {
            ((n >> bit) & 1 == 1).then(|| addresses.at(port + (n % ports) as u16))
        };
        Self {
            dns: at(5300, 0, 3),
            http: at(9167, 1, 5),
            rudp: at(49152, 2, 7),
        }
    }

    fn config(&self, whole: &str, stays: &Addresses, v6: SocketAddr) -> String {
        let list = |stays: &[String], extra: Option<SocketAddr>| {
            let extra = extra.map(|extra| format!("\"{extra}\""));
            let all: Vec<String> = stays.iter().cloned().chain(extra).collect();
            format!("listen = [{}]", all.join(", "))
        };
        let at = |port| format!("\"{}\"", stays.at(port));
        let rudp = [at(49152), format!("\"{v6}\"")];
        let mut config = whole.to_owned();
        for (before, after) in [
            (
                format!("listen = [{}]", at(5300)),
                list(&[at(5300)], self.dns),
            ),
            (
                format!("listen = {}", at(9167)),
                list(&[at(9167)], self.http),
            ),
            (list(&rudp, None), list(&rudp, self.rudp)),
        ] {
            assert_eq!(config.matches(&before).count(), 1, "{before} in {config}");
            config = config.replace(&before, &after);
        }
        config
    }
}

/// The zone with a record of its own for the `n`th reload.
fn zone(addresses: &Addresses, n: usize) -> String {
    let stays = addresses
        .zone()
        .replace("admin 1 ", &format!("admin {} ", n + 1));
    format!("{stays}v{n} IN A 192.0.2.{}\n", n % 250 + 1)
}

/// The right file with a mistake, or its zone.
fn spoil(n: usize, config: &str, zone: &str, taken: SocketAddr) -> (String, String) {
    let (config, zone) = (config.to_owned(), zone.to_owned());
    match n % 6 {
        0 => (config + "[supervisor\n", zone),
        1 => (config, zone + "www IN CNAME\n"),
        2 => (config.replace("[origin]", "[origin]\nspeed = 7"), zone),
        3 => (
            config.replace("[scrap]\nlisten = \"", "[scrap]\nlisten = \"nowhere"),
            zone,
        ),
        4 => (
            config.replace(
                "[dns]\nlisten = [",
                &format!("[dns]\nlisten = [\"{taken}\", "),
            ),
            zone,
        ),
        _ => (config.replace("example.com.zone", "no.such.zone"), zone),
    }
}

struct Reloads<'a> {
    lab: &'a Lab,
    stays: &'a Addresses,
    generation: u64,
    /// The last one that was carried out.
    runs: usize,
}

impl Reloads<'_> {
    fn reload(&self, config: &str, zone: &str) -> (u16, Value) {
        fs::write(self.lab.dir().join("example.com.zone"), zone).expect("written");
        fs::write(self.lab.config(), config).expect("written");
        let (code, body) = self.lab.post("/-/reload");
        let told = serde_json::from_str(&body);
        (code, told.unwrap_or_else(|_| panic!("{code}: {body}")))
    }

    fn good(&mut self, n: usize, config: &str, extra: &Extra) {
        let (code, told) = self.reload(config, &zone(self.stays, n));
        assert_eq!(
            (code, &told["generation"]),
            (200, &(self.generation + 1).into()),
            "{told}"
        );
        self.generation += 1;
        self.runs = n;
        if let Some(dns) = extra.dns {
            look_up(dns, &format!("v{n}.example.com")).expect("an answer at the new address");
        }
        if let Some(http) = extra.http {
            page(http, "/-/healthy").expect("a page at the new address");
        }
    }

    fn broken(&mut self, n: usize, config: &str, taken: SocketAddr) {
        let zone = zone(self.stays, n);
        let (config, zone) = spoil(n / 3, config, &zone, taken);
        let (code, told) = self.reload(&config, &zone);
        assert_eq!(
            (code, &told["generation"]),
            (400, &self.generation.into()),
            "{told}"
        );
        let problems = told["problems"].as_array().expect("a list");
        assert!(!problems.is_empty(), "{told}");
    }

    /// It runs by the last good file.
    fn check(&self) {
        let name = format!("v{}.example.com", self.runs);
        look_up(self.stays.at(5300), &name).expect("the zone's record");
        let generation = metric(self.lab, "labnet_config_generation");
        assert_eq!(generation, self.generation as f64);
    }
}

#[test]
#[ignore = "needs half a minute and an IPv6 loopback"]
fn reloads() {
    let at_most = if in_full() {
        Duration::MAX
    } else {
        Duration::from_secs(25)
    };
    let (stays, moves) = (Addresses(loopback()), Addresses(loopback()));
    let v6 = free_v6();
    let whole = config(&stays, v6);
    assert!(whole.contains(&origin(stays.0)));
    let taken = UdpSocket::bind(moves.at(5399)).expect("free");
    let lab = Lab::start_with(&whole, &[("example.com.zone", &zone(&stays, 0))], None);
    wait_for("the file list", || stays.scrap(Duration::from_secs(5)));
    let load = Load::start(&stays, &[stays.at(49152), v6]);
    load.wait_for_downloads();
    let mut reloads = Reloads {
        lab: &lab,
        stays: &stays,
        generation: 1,
        runs: 0,
    };
    let taken = taken.local_addr().expect("bound");
    // At an address that has moved since: it finishes there.
    let mut leaving: Option<Signals> = None;
    let (mut good, mut broken) = (0, 0);
    let began = Instant::now();
    for n in 1..=500 {
        if began.elapsed() > at_most {
            break;
        }
        let extra = Extra::of(n, &moves);
        let config = extra.config(&whole, &stays, v6);
        if n % 3 == 2 {
            reloads.broken(n, &config, taken);
            broken += 1;
        } else {
            reloads.good(n, &config, &extra);
            good += 1;
            if let Some(mut session) = leaving.take() {
                session.echo().expect("it goes on where it was");
                session.end().expect("it ends where it was");
            }
            leaving = extra
                .rudp
                .map(|rudp| Signals::new(rudp).expect("the new address"));
        }
        reloads.check();
        // Whatever lasts is used after each.
        load.wait_for_answers();
    }
    load.wait_for_downloads();
    assert_eq!(load.redialled(), 0, "connections were lost");
    load.end(&lab);
    println!("{good} good reloads, {broken} broken ones");
    assert!(good >= 8 && broken >= 4, "{good} good, {broken} broken");
    assert_eq!(
        metric(&lab, "labnet_config_reload_failures_total"),
        f64::from(broken)
    );
    let status = lab.json("/api/v1/status");
    for component in status["components"].as_array().expect("a list") {
        assert_eq!(component["restarts"], 0, "{component}");
    }
    assert_eq!(lab.get("/-/ready").0, 200);
}
