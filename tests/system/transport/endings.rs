//! What a connection outlives, and what ends it.

use std::net::Ipv4Addr;

use labnet::rudp::{
    connection::CloseReason,
    exchange::{Question, Statistics},
};

use super::{config_of, everywhere, get, here, site, site_over, text};
use crate::support::{dial::Dialed, request, wait_for};

#[test]
fn a_connection_that_crashes_ends_alone_and_its_client_hears_of_it() {
    let (lab, server) = site("", &[("files/a.txt", "a")]);
    let mut broken = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    let mut other = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    other.body(&get("a.txt"));
    broken.body(&get("a.txt"));
    let at = broken.socket.local_addr().expect("bound");
    let (code, body) = request(lab.http, "POST", &format!("/api/v1/sessions/{at}/crash"));
    assert_eq!(code, 202, "{body}");
    wait_for("the crash", || {
        (lab.metric("labnet_rudp_sessions_ended_total{reason=\"crash\"}") == 1.0).then_some(())
    });
    broken.ask(&get("a.txt"));
    broken
        .run("the reset", |client, _| client.closed.take())
        .eq(&CloseReason::Reset)
        .then_some(())
        .expect("a reset");
    assert_eq!(other.body(&get("a.txt")).1, b"a");
}

#[test]
fn a_proxy_that_was_killed_tells_its_clients_so() {
    let (mut lab, server) = site("", &[("files/a.txt", "a")]);
    let mut client = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    client.body(&get("a.txt"));
    lab.kill_and_restart();
    client.ask(&get("a.txt"));
    let closed = client.run("the reset", |client, _| client.closed.take());
    assert_eq!(closed, CloseReason::Reset);
    let mut again = Dialed::to(server, Ipv4Addr::LOCALHOST, config_of(&lab));
    assert_eq!(again.body(&get("a.txt")).1, b"a");
}

#[test]
fn connections_outlive_the_component_and_a_reload() {
    let long = text(20_000_000);
    for (proxy, shards) in everywhere() {
        let more = format!("shards = {shards}");
        let (lab, server) = site_over(proxy, &more, &[("files/a.txt", &long)]);
        let mut client = Dialed::to(server, here(server), config_of(&lab));
        let mut asked = client.ask(&get("a.txt"));
        let mut crashed = false;
        let mut reloaded = false;
        let (_, body) = client.run("the file", |client, _| {
            let whole = client.read(&mut asked);
            if asked.received() > 2_000_000 && !crashed {
                crashed = true;
                assert_eq!(
                    request(lab.http, "POST", "/api/v1/components/rudp/crash").0,
                    202
                );
            }
            if asked.received() > 8_000_000 && !reloaded {
                reloaded = true;
                let text = std::fs::read_to_string(lab.config()).expect("there");
                let text = text.replace("shards", "congestion = \"bbr\"\nshards");
                std::fs::write(lab.config(), text).expect("written");
                assert_eq!(request(lab.http, "POST", "/-/reload").0, 200);
            }
            whole
        });
        assert!(crashed && reloaded && body == long.as_bytes());
        let mut new = Dialed::to(server, here(server), config_of(&lab));
        let (_, told) = new.body(&Question::Stat);
        let told = Statistics::decode(&told).expect("statistics");
        assert_eq!(told.get("congestion"), Some("bbr"));
    }
}
