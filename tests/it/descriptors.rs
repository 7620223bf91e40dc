//! A process whose descriptors run out, because its peers hold them: it is still asked and told.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::support::{Lab, PATIENCE, labnet, loopback, probe::Addresses, run, wait_for};

/// What a lab may open beyond what it has open when nobody asks it for anything.
const SPARE: usize = 12;
const PEERS: usize = 60;

fn whole_lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n");
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(5)));
    (lab, addresses)
}

fn open(lab: &Lab) -> usize {
    fs::read_dir(format!("/proc/{}/fd", lab.pid()))
        .expect("it runs")
        .count()
}

/// Leaves the lab [`SPARE`] descriptors more than it needs when it is idle.
fn limit(lab: &Lab) -> usize {
    // What the probes of the start have opened goes first.
    let mut least = open(lab);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        least = least.min(open(lab));
    }
    let limit = least + SPARE;
    run(
        "prlimit",
        &[
            "--pid",
            &lab.pid().to_string(),
            &format!("--nofile={limit}:{limit}"),
        ],
    );
    limit
}

/// A connection from an address of its own kind that asks for nothing.
fn peer(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((from, 0)).into())
        .expect("loopback");
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .expect("the kernel takes it");
    socket.into()
}

/// The whole of an answer to a plain request.
fn page(addresses: &Addresses) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&addresses.at(8080), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// With so many peers on these ports of the lab, from one address or each from one of its own, it
/// can be asked and changed, and what needs no connection goes on.
fn holds_out(lab: &Lab, addresses: &Addresses, ports: &[u16], of_one_address: bool) {
    let context = format!("{ports:?}, of one address: {of_one_address}");
    let peers: Vec<TcpStream> = (0..PEERS)
        .map(|n| {
            let host = if of_one_address { 1 } else { n as u8 + 1 };
            let mut peer = peer(
                Ipv4Addr::new(127, 99, 0, host),
                addresses.at(ports[n % ports.len()]),
            );
            // Half a request: whoever waits for the rest holds a connection.
            let _ = peer.write_all(b"GET / HT");
            peer
        })
        .collect();
    let url = format!("http://{}/", lab.http);
    for n in 0..3 {
        let status = labnet(&["status", "--url", &url]);
        assert_eq!(status.status.code(), Some(0), "{context}: {status:?}");
        let config = fs::read_to_string(lab.config()).expect("the file");
        let changed = match config.contains("lease_time = \"24h\"") {
            true => config.replace("lease_time = \"24h\"", "lease_time = \"23h\""),
            false => config.replace("lease_time = \"23h\"", "lease_time = \"24h\""),
        };
        fs::write(lab.config(), changed).expect("written");
        let reload = labnet(&["reload", "--url", &url]);
        assert_eq!(
            reload.status.code(),
            Some(0),
            "{context}: reload {n}: {reload:?}"
        );
        assert!(
            String::from_utf8_lossy(&reload.stdout).contains("dhcp    changed"),
            "{reload:?}"
        );
        let (code, metrics) = lab.get("/metrics");
        assert_eq!(code, 200, "{context}");
        assert!(metrics.contains("process_open_fds "), "{context}");
        let patience = Duration::from_secs(5);
        wait_for("dns", || addresses.dns(patience).then_some(()));
        wait_for("dhcp", || addresses.dhcp(patience).then_some(()));
        wait_for("signals", || addresses.rudp(patience).then_some(()));
    }
    assert!(
        open(lab) < open_limit(lab),
        "{context}: the last ones are held back"
    );
    drop(peers);
    wait_for("the page, when they are gone", || page(addresses));
    assert_eq!(lab.get("/-/ready").0, 200, "{context}");
}

fn open_limit(lab: &Lab) -> usize {
    let limits = fs::read_to_string(format!("/proc/{}/limits", lab.pid())).expect("it runs");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a line");
    line.split_whitespace()
        .nth(3)
        .expect("the soft one")
        .parse()
        .expect("a number")
}

#[test]
fn peers_that_hold_all_they_can_get_leave_the_api_and_reload_working() {
    let (lab, addresses) = whole_lab();
    let limit = limit(&lab);
    assert_eq!(limit, open_limit(&lab));
    for of_one_address in [true, false] {
        holds_out(&lab, &addresses, &[8080], of_one_address);
        holds_out(&lab, &addresses, &[9167], of_one_address);
        holds_out(&lab, &addresses, &[8080, 49153, 5300, 9167], of_one_address);
    }
    // Nobody was left out in silence.
    let closed = |component: &str, reason: &str| {
        lab.metric(&format!(
            "labnet_connections_closed_total{{component=\"{component}\",reason=\"{reason}\"}}"
        ))
    };
    for component in ["origin", "http"] {
        assert!(
            closed(component, "made_room") + closed(component, "descriptors") > 0.0,
            "{component}"
        );
    }
}

#[test]
fn files_over_rudp_hold_back_too() {
    let (lab, addresses) = whole_lab();
    limit(&lab);
    let url = format!("http://{}/", lab.http);
    let out = tempfile::tempdir().expect("a temporary folder");
    std::thread::scope(|scope| {
        // Each asks the origin by a connection of its own, which takes two descriptors here.
        let clients: Vec<_> = (0..12)
            .map(|n| {
                let out = out.path().join(n.to_string());
                let (server, dhcp) = (
                    addresses.at(49152).to_string(),
                    addresses.at(6767).to_string(),
                );
                scope.spawn(move || {
                    let out = out.to_str().expect("UTF-8").to_owned();
                    labnet(&[
                        "client",
                        "--server",
                        &server,
                        "--dhcp",
                        &dhcp,
                        "--via",
                        "rudp",
                        "--out",
                        &out,
                        "--down",
                        "rate=4mbit",
                        "get",
                        "1MB.zip",
                    ])
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            let status = labnet(&["status", "--url", &url]);
            assert_eq!(status.status.code(), Some(0), "{status:?}");
            let reload = labnet(&["reload", "--url", &url]);
            assert_eq!(reload.status.code(), Some(0), "{reload:?}");
        }
        let ends: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("it ran"))
            .collect();
        let whole = ends.iter().filter(|output| output.status.success()).count();
        assert!(whole > 0, "{ends:?}");
        // Who did not get it was told.
        for output in ends.iter().filter(|output| !output.status.success()) {
            assert!(!output.stderr.is_empty());
        }
    });
    wait_for("the page", || page(&addresses));
}
