//! Transfers over `labnet client` and `labnet serve` whose path changes under way: the interface's
//! MTU, the client's address.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Lab, Namespace, wait_for};

const LABNET: &str = env!("CARGO_BIN_EXE_labnet");

/// A proxy at `ip` before its own origin, in a namespace.
fn site(namespace: &Namespace, ip: &str, more: &str) -> Lab {
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:9167\"\n\
         [rudp]\nlisten = \"{ip}:49152\"\n{more}\n\
         [scrap]\nlisten = \"127.0.0.5:49153\"\n\
         [origin]\nlisten = \"127.0.0.1:8080\"\n"
    );
    Lab::start_with(&config, &[], Some(namespace))
}

/// A client that downloads a file and keeps nothing of it. Killed when dropped.
struct Download(Child);

impl Download {
    fn start(namespace: &Namespace, server: &str, more: &[&str], file: &str) -> Self {
        let server = format!("{server}:49152");
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, LABNET, "client"])
            .args(["--server", &server, "--via", "rudp", "--json"])
            .args(more)
            .args(["get", "--discard", file])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        Self(child)
    }

    /// Waits for its end; the summary's object.
    #[track_caller]
    fn summary(mut self) -> Value {
        let mut stdout = String::new();
        let mut stderr = String::new();
        let mut pipe = self.0.stdout.take().expect("piped");
        pipe.read_to_string(&mut stdout).expect("text");
        let mut pipe = self.0.stderr.take().expect("piped");
        pipe.read_to_string(&mut stderr).expect("text");
        let status = self.0.wait().expect("it ends");
        assert!(status.success(), "{stdout}{stderr}");
        let last = stdout.lines().last().expect("a summary");
        serde_json::from_str(last).expect("JSON")
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one connection as the proxy's API tells of it.
fn connection(namespace: &Namespace) -> Option<Value> {
    let url = "http://127.0.0.1:9167/api/v1/sessions";
    let answer = namespace.output("curl", &["--silent", "--max-time", "5", url]);
    let sessions: Value = serde_json::from_slice(&answer.stdout).ok()?;
    sessions.get(0).cloned()
}

/// Waits until the proxy has sent so many packets.
#[track_caller]
fn wait_for_packets(namespace: &Namespace, packets: u64) -> Value {
    wait_for("the transfer to be under way", || {
        let session = connection(namespace)?;
        (session["packets_sent"].as_u64()? > packets).then_some(session)
    })
}

#[test]
#[ignore = "needs root: a network namespace"]
fn an_interface_that_gets_narrower_costs_one_step() {
    let (four, six) = (("127.0.0.10", 1472, 1252), ("[::1]", 1452, 1232));
    let late = "[link]\ndelay = \"5ms\"\n";
    for ((ip, before, after), link, file) in [
        (four, "", "500MB.zip"),
        (six, "", "500MB.zip"),
        (four, late, "100MB.zip"),
        (six, late, "100MB.zip"),
    ] {
        let namespace = Namespace::new("narrow");
        let _lab = site(&namespace, ip, link);
        let download = Download::start(&namespace, ip, &[], file);
        let wide = wait_for_packets(&namespace, 10_000);
        assert_eq!(wide["datagram_bytes"], before);
        namespace.ip(&["link", "set", "lo", "mtu", "1280"]);
        let summary = download.summary();
        let server = &summary["server"];
        assert_eq!(server["datagram_bytes"], after, "{link}{summary}");
        // The burst that the kernel refused went at once, in smaller pieces.
        let refused = server["packets_unsent"].as_u64();
        assert!(
            refused.is_some_and(|refused| refused > 0),
            "{link}{summary}"
        );
        assert_eq!(summary["complete"], true);
        let url = "http://127.0.0.1:9167/metrics";
        let metrics = namespace.output("curl", &["--silent", url]).stdout;
        let metrics = String::from_utf8_lossy(&metrics);
        let lost = "labnet_rudp_lost_total{reason=\"send\"} 0";
        assert!(metrics.lines().any(|line| line == lost), "{metrics}");
    }
}

/// The addresses of the proxy, of the client, and of the client later.
type Addresses = [&'static str; 3];
const FOUR: Addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const SIX: Addresses = ["fd00::1", "fd00::2", "fd00::3"];

/// `ip address VERB ADDRESS` on the link between the two.
fn readdress(namespace: &Namespace, verb: &str, address: &str) {
    if address.contains(':') {
        let prefix = format!("{address}/64");
        // Nobody else has it: that need not be found out first.
        let nodad: &[&str] = if verb == "add" { &["nodad"] } else { &[] };
        let all = [&["-6", "address", verb, &prefix, "dev", "lan"], nodad];
        namespace.ip(&all.concat());
    } else {
        namespace.ip(&["address", verb, &format!("{address}/24"), "dev", "lan"]);
    }
}

/// An address as it stands before a port.
fn host(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

/// A client behind a link of its own, and the proxy at its other end.
fn two_hosts([proxy, client, _]: Addresses, more: &str) -> (Namespace, Namespace, Lab) {
    let (near, far) = (Namespace::new("near"), Namespace::new("far"));
    near.veth("lan", &far, "lan");
    readdress(&near, "add", client);
    readdress(&far, "add", proxy);
    let lab = site(&far, &host(proxy), more);
    (near, far, lab)
}

/// Deletes the client's address in mid-transfer, and adds another `pause` later; the summary, and how
/// long nothing came.
fn move_in_mid_transfer(addresses: Addresses, more: &str, pause: Duration) -> (Value, Duration) {
    let (near, far, lab) = two_hosts(addresses, more);
    let [proxy, client, later] = addresses;
    // Slow enough to be still under way.
    let download = Download::start(&near, &host(proxy), &["--rate", "40mbit"], "50MB.zip");
    let before = wait_for_packets(&far, 5000);
    readdress(&near, "del", client);
    thread::sleep(pause);
    readdress(&near, "add", later);
    let began = Instant::now();
    let moved = wait_for("the proxy to hear of it", || {
        let session = connection(&far)?;
        let client = session["client"].as_str()?;
        let now = format!("{}:", host(later));
        client.starts_with(&now).then_some(session)
    });
    let took = began.elapsed();
    assert_eq!(moved["connection_id"], before["connection_id"]);
    lab.expect_log("the client has moved");
    (download.summary(), took)
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_client_whose_address_changes_goes_on_with_its_connection() {
    for (addresses, more, pause) in [
        (FOUR, "", 0),
        (FOUR, "shards = 2", 0),
        (FOUR, "", 1500),
        (SIX, "shards = 2", 0),
    ] {
        let pause_time = Duration::from_millis(pause);
        let (summary, took) = move_in_mid_transfer(addresses, more, pause_time);
        println!("{pause} ms without an address: heard {took:?} after the new one");
        assert!(took < Duration::from_secs(3), "{took:?}");
        let told = (&summary["complete"], &summary["connections"]);
        assert_eq!(told, (&true.into(), &1.into()), "{summary}");
        assert_eq!(summary["client"]["path_changes"], 1, "{summary}");
    }
}

/// What goes to and from the client's port vanishes, as behind a NAT that has forgotten it, and nobody
/// tells of it.
#[test]
#[ignore = "needs root: network namespaces"]
fn a_client_that_is_not_heard_any_more_tries_another_port() {
    let (near, far, _lab) = two_hosts(FOUR, "");
    let download = Download::start(&near, "10.0.0.1", &["--rate", "40mbit"], "50MB.zip");
    let before = wait_for_packets(&far, 5000);
    let client = before["client"].as_str().expect("an address");
    let port = client.rsplit(':').next().expect("a port");
    for (host, side) in [(&far, "sport"), (&near, "dport")] {
        // Before the rule that finds what is for this host.
        host.ip(&["rule", "add", "preference", "10", "lookup", "local"]);
        host.ip(&["rule", "del", "preference", "0"]);
        let packets = ["iif", "lan", "ipproto", "udp", side, port];
        let rule = [
            &["rule", "add", "preference", "1"],
            &packets[..],
            &["blackhole"],
        ];
        host.ip(&rule.concat());
    }
    let began = Instant::now();
    wait_for("another port", || {
        let session = connection(&far)?;
        (session["client"].as_str()? != client).then_some(())
    });
    let took = began.elapsed();
    // The keep-alive after two seconds, and three probe timeouts.
    println!("another port {took:?} after the drop");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let summary = download.summary();
    assert_eq!(summary["connections"], 1, "{summary}");
}

/// Runs a line of the shell in a namespace.
#[track_caller]
fn sh(namespace: &Namespace, line: &str) {
    let output = namespace.output("sh", &["-c", line]);
    assert!(output.status.success(), "{line}: {output:?}");
}

/// A real NAT stands between client and proxy and forgets its mapping under way: the proxy sees another
/// port then, and knows the connection by its id.
#[test]
#[ignore = "needs root: network namespaces, nftables"]
fn a_nat_that_forgets_its_mapping_in_mid_transfer_is_survived() {
    let names = ["inner", "nat", "outer"];
    let [client, nat, server] = names.map(Namespace::new);
    client.veth("eth0", &nat, "lan");
    nat.veth("wan", &server, "eth0");
    client.ip(&["address", "add", "192.168.7.2/24", "dev", "eth0"]);
    nat.ip(&["address", "add", "192.168.7.1/24", "dev", "lan"]);
    nat.ip(&["address", "add", "10.20.30.101/24", "dev", "wan"]);
    server.ip(&["address", "add", "10.20.30.40/24", "dev", "eth0"]);
    client.ip(&["route", "add", "default", "via", "192.168.7.1"]);
    sh(&nat, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    sh(
        &nat,
        "nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; \
         add rule ip nat post oifname \"wan\" masquerade fully-random'",
    );
    // A mapping without packets is kept for no longer than a second.
    sh(
        &nat,
        "cd /proc/sys/net/netfilter; echo 1 > nf_conntrack_udp_timeout; echo 1 > nf_conntrack_udp_timeout_stream",
    );
    let _lab = site(&server, "10.20.30.40", "");
    let download = Download::start(&client, "10.20.30.40", &["--rate", "40mbit"], "50MB.zip");
    let before = wait_for_packets(&server, 5000);
    let seen = before["client"].as_str().expect("an address");
    assert!(
        seen.starts_with("10.20.30.101:"),
        "the NAT's address: {seen}"
    );
    // Nothing passes, in either direction, and nothing keeps the mapping.
    sh(
        &nat,
        "nft 'add table ip gap; add chain ip gap pre { type filter hook prerouting priority -310; policy drop; }'",
    );
    thread::sleep(Duration::from_millis(2500));
    sh(&nat, "nft delete table ip gap");
    let after = wait_for("another mapping", || {
        let session = connection(&server)?;
        (session["client"].as_str()? != seen).then_some(session)
    });
    assert_eq!(after["connection_id"], before["connection_id"]);
    let summary = download.summary();
    let told = (&summary["complete"], &summary["connections"]);
    assert_eq!(told, (&true.into(), &1.into()), "{summary}");
}

/// One direction alone loses everything for some seconds: first nothing comes to the client, then nothing
/// that it sends arrives, though it hears the proxy.
#[test]
#[ignore = "needs root: network namespaces, nftables"]
fn a_direction_that_goes_dead_for_seconds_is_survived_in_mid_transfer() {
    for direction in ["sport", "dport"] {
        let (near, far, _lab) = two_hosts(FOUR, "");
        let download = Download::start(&near, "10.0.0.1", &["--rate", "40mbit"], "50MB.zip");
        let before = wait_for_packets(&far, 5000);
        let seen = before["client"].as_str().expect("an address");
        // Where they arrive: who sends hears nothing of it.
        let host = if direction == "sport" { &near } else { &far };
        let rule = format!(
            "nft 'add table ip gap; \
             add chain ip gap arriving {{ type filter hook input priority 0; }}; \
             add rule ip gap arriving udp {direction} 49152 counter drop'"
        );
        sh(host, &rule);
        thread::sleep(Duration::from_secs(6));
        let counted = host.output("nft", &["list", "table", "ip", "gap"]).stdout;
        let counted = String::from_utf8_lossy(&counted);
        assert!(
            counted.contains("counter packets") && !counted.contains("packets 0 "),
            "{counted}"
        );
        sh(host, "nft delete table ip gap");
        let began = Instant::now();
        let after = wait_for("another port", || {
            let session = connection(&far)?;
            (session["client"].as_str()? != seen).then_some(session)
        });
        assert_eq!(after["connection_id"], before["connection_id"]);
        let summary = download.summary();
        println!(
            "{direction}: another port {:?} after the gap",
            began.elapsed()
        );
        let told = (&summary["complete"], &summary["connections"]);
        assert_eq!(told, (&true.into(), &1.into()), "{summary}");
    }
}

#[test]
fn that_nothing_listens_is_told_at_once() {
    let nobody = format!("{}:49152", crate::support::loopback());
    let free_v6 = std::net::UdpSocket::bind("[::1]:0").and_then(|socket| socket.local_addr());
    let nobodies = [
        Some(nobody),
        free_v6.ok().map(|address| address.to_string()),
    ];
    for server in nobodies.into_iter().flatten() {
        for via in ["rudp", "http"] {
            let began = Instant::now();
            let output =
                crate::support::labnet(&["client", "--server", &server, "--via", via, "list"]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("nothing listens there"), "{said}");
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "{:?}",
                began.elapsed()
            );
        }
    }
}
