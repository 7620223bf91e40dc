//! Crashes of everything that can crash, while clients of every kind work.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{
    gauges::Gauges,
    in_full,
    load::{Load, Signals, origin},
};
use crate::support::{Lab, loopback, probe::Addresses, wait_for};

const ROLES: [&str; 6] = ["dns", "dhcp", "rudp", "scrap", "origin", "http"];
/// One crash in so many is of a session.
const SESSIONS: usize = 7;
const CRASHED: &str = "labnet_rudp_sessions_ended_total{reason=\"crash\"}";

/// An address of the proxy that has no other user now.
pub(crate) fn free_v6() -> SocketAddr {
    let socket = UdpSocket::bind("[::1]:0").expect("an IPv6 loopback");
    socket.local_addr().expect("bound")
}

/// A whole lab with two threads for each of the proxy's addresses, one of these IPv6.
pub(crate) fn config(addresses: &Addresses, v6: SocketAddr) -> String {
    let ip = addresses.0;
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin(ip));
    let listen = format!("[rudp]\nlisten = \"{ip}:49152\"\n");
    assert!(config.contains(&listen));
    let config = config.replace(
        &listen,
        &format!("[rudp]\nlisten = [\"{ip}:49152\", \"{v6}\"]\nshards = 2\n"),
    );
    format!("{config}[supervisor]\nmax_restarts = 2000\n")
}

/// A value of `/metrics`, which is there again soon when its own role has crashed.
pub(crate) fn metric(lab: &Lab, series: &str) -> f64 {
    wait_for("/metrics", || {
        let (code, text) = lab.get("/metrics");
        let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        (code == 200).then(|| text.lines().find_map(of).unwrap_or(0.0))
    })
}

fn restarts(lab: &Lab, role: &str) -> f64 {
    let series = "labnet_component_restarts_total";
    metric(
        lab,
        &format!("{series}{{component=\"{role}\",reason=\"panic\"}}"),
    )
}

pub(crate) fn crash_role(lab: &Lab, role: &str) {
    let before = restarts(lab, role);
    let (code, body) = lab.post(&format!("/api/v1/components/{role}/crash"));
    assert_eq!(code, 202, "{role}: {body}");
    wait_for("the restart", || {
        (restarts(lab, role) > before).then_some(())
    });
    let up = format!("labnet_component_up{{component=\"{role}\"}}");
    wait_for("the component", || (metric(lab, &up) == 1.0).then_some(()));
    assert_eq!(restarts(lab, role), before + 1.0, "{role}");
}

/// Crashes the session or connection of that client; false if it is there no more.
fn crash_session(lab: &Lab, client: SocketAddr) -> bool {
    let before = metric(lab, CRASHED);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("later").as_secs_f64();
    let (code, body) = lab.post(&format!("/api/v1/sessions/{client}/crash"));
    if code == 404 {
        return false;
    }
    assert_eq!(code, 202, "{client}: {body}");
    // Another one may have had the port before.
    let is_it = |ended: &Value| {
        ended["client"] == client.to_string() && ended["ended_unix"].as_f64() >= Some(now)
    };
    let ended = || {
        let ended = lab.json("/api/v1/sessions?ended");
        let mut ended = ended.as_array().expect("a list").iter();
        ended.find(|ended| is_it(ended)).cloned()
    };
    let ended = wait_for("the end", ended);
    if ended["how"] != "crash" {
        // It was about to end by itself.
        return false;
    }
    assert_eq!(ended["cause"], "fault injection", "{ended}");
    assert_eq!(metric(lab, CRASHED), before + 1.0);
    true
}

/// A session of the signals made for it; the one beside it goes on.
pub(crate) fn crash_signals(lab: &Lab, proxy: SocketAddr) -> bool {
    let [mut victim, mut witness] = [(); 2].map(|()| Signals::new(proxy).expect("a session"));
    victim.echo().expect("an answer");
    witness.echo().expect("an answer");
    let crashed = crash_session(lab, victim.address());
    assert!(crashed, "the session was not there");
    witness.echo().expect("it goes on");
    witness.end().expect("it goes on");
    crashed
}

/// The connection of a download under way, if there is one.
fn crash_connection(lab: &Lab) -> bool {
    let sessions = lab.json("/api/v1/sessions");
    let sessions = sessions.as_array().expect("a list");
    let is_connection = |session: &&Value| !session["connection_id"].is_null();
    let Some(connection) = sessions.iter().find(is_connection) else {
        return false;
    };
    let client = connection["client"].as_str().expect("an address");
    crash_session(lab, client.parse().expect("an address"))
}

#[test]
#[ignore = "needs half a minute and an IPv6 loopback"]
fn crashes() {
    let (times, pause, at_most) = if in_full() {
        (1000, Duration::from_millis(200), Duration::MAX)
    } else {
        (1000, Duration::from_millis(50), Duration::from_secs(25))
    };
    let addresses = Addresses(loopback());
    let v6 = free_v6();
    let files = [("example.com.zone", &*addresses.zone())];
    let lab = Lab::start_with(&config(&addresses, v6), &files, None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(5)));
    let proxies = [addresses.at(49152), v6];
    let mut load = Load::start(&addresses, &proxies);
    load.download_slowly(proxies[0]);
    load.wait_for_downloads();
    let mut gauges = Gauges::new();
    let (mut roles, mut signals, mut connections) = ([0; ROLES.len()], 0, 0);
    let began = Instant::now();
    for n in 0..times {
        if began.elapsed() > at_most {
            break;
        }
        if n % SESSIONS < ROLES.len() {
            let role = n % SESSIONS;
            load.expect_cut(ROLES[role]);
            crash_role(&lab, ROLES[role]);
            roles[role] += 1;
        } else if (n / SESSIONS).is_multiple_of(2) {
            // The one that is found may end before it can be crashed.
            wait_for("a crash of a connection", || {
                crash_connection(&lab).then_some(())
            });
            connections += 1;
        } else if crash_signals(&lab, proxies[n % 2]) {
            signals += 1;
        }
        load.check();
        gauges.sample(&lab);
        thread::sleep(pause);
    }
    load.wait_for_downloads();
    load.end(&lab);
    println!("{roles:?} crashes of {ROLES:?}, {signals} of sessions, {connections} of connections");
    for (role, crashes) in ROLES.iter().zip(roles) {
        assert!(crashes > 0, "{role}");
        assert_eq!(restarts(&lab, role), f64::from(crashes), "{role}");
    }
    assert_eq!(metric(&lab, CRASHED), f64::from(signals + connections));
    assert!(signals > 0 && connections > 0);
    if in_full() {
        assert!(signals + connections >= 100);
    }
    let settled = if in_full() {
        Duration::from_secs(60)
    } else {
        began.elapsed() / 3
    };
    gauges.assert_flat(settled);
    assert_eq!(lab.get("/-/ready").0, 200);
}
