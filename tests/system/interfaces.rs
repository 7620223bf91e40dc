//! Interfaces and addresses that come, go and change under a running lab, in network namespaces.

use std::{fmt::Write, fs, time::Duration};

use serde_json::Value;

use crate::support::{
    Lab, Namespace,
    lan::{Client, ask, bridge, config, make_bridge},
    run, signal, wait_for,
};

/// A server on lab0.
fn dhcp() -> String {
    config("10.20.30.50-10.20.30.100", "")
}

const ZONE: &str = "$TTL 1h\n@ SOA ns admin 1 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n";

const DNS: &str = r#"
state_dir = "state"
[http]
listen = "127.0.0.1:9167"
[dns]
listen = ["127.0.0.1:53", "10.20.30.53:53", "[fd20::53]:53"]
[[dns.zone]]
name = "lab.test."
file = "lab.test.zone"
"#;

/// Everything of `conf/lan.toml` that listens at an address.
const LAN: &str = r#"
state_dir = "state"
[http]
listen = ["127.0.0.1:9167", "10.20.30.40:9167"]
[dns]
listen = ["10.20.30.40:53"]
[[dns.zone]]
name = "lab.test."
file = "lab.test.zone"
[rudp]
listen = "10.20.30.40:49152"
shards = 2
[scrap]
listen = "10.20.30.40:49153"
origin = "http://10.20.30.40:8080/"
[origin]
listen = "10.20.30.40:8080"
samples = ["task2.pdf"]
"#;

/// State and reasons of a component.
#[track_caller]
fn state(server: &Namespace, component: &str) -> (String, String) {
    let status: Value = serde_json::from_str(&ask(server, "/api/v1/status")).expect("JSON");
    let components = status["components"].as_array().expect("a list");
    let found = components.iter().find(|entry| entry["name"] == component);
    let found = found.expect("it is there");
    let reasons = found["reasons"].as_array().expect("a list").iter();
    let reasons: Vec<&str> = reasons
        .map(|reason| reason.as_str().expect("text"))
        .collect();
    let state = found["state"].as_str().expect("text").to_owned();
    (state, reasons.join("; "))
}

/// Waits until a component is `degraded` for a reason that has `part`; whoever looks elsewhere is
/// told, too.
#[track_caller]
fn wait_degraded(server: &Namespace, component: &str, part: &str) {
    wait_for(&format!("{component} degraded: {part}"), || {
        let (state, reasons) = state(server, component);
        (state == "degraded" && reasons.contains(part)).then_some(())
    });
    let ready = ask(server, "/-/ready");
    assert!(
        ready.starts_with("not ready: ") && ready.contains(part),
        "{ready}"
    );
    let series = |state| {
        format!("labnet_component_state{{component=\"{component}\",state=\"{state}\"}} 1\n")
    };
    let metrics = ask(server, "/metrics");
    assert!(metrics.contains(&series("degraded")), "{metrics}");
    assert!(!metrics.contains(&series("up")));
}

#[track_caller]
fn wait_ready(server: &Namespace) {
    wait_for("the lab to be ready", || {
        ask(server, "/-/ready").starts_with("ready").then_some(())
    });
}

/// Gets a lease, and tells the server's identifier.
#[track_caller]
fn leased_by(client: &Client, lab: &Lab) -> String {
    let output = client.udhcpc(&[]);
    assert!(output.status.success(), "{output:?}\n{}", lab.log());
    client.told()[6].clone()
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_interface_that_is_deleted_and_made_again_is_served_again() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    assert_eq!(leased_by(&client, &lab), "10.20.30.40");
    for reload_between in [false, true] {
        server.ip(&["link", "del", "lab0"]);
        wait_degraded(&server, "dhcp", "there is no interface `lab0`");
        assert!(!client.udhcpc(&[]).status.success());
        if reload_between {
            signal(lab.pid(), "HUP");
            wait_for("the reload", || {
                lab.log().contains("reloaded").then_some(())
            });
            wait_degraded(&server, "dhcp", "there is no interface `lab0`");
        }
        make_bridge(&server, &[1]);
        wait_ready(&server);
        assert_eq!(leased_by(&client, &lab), "10.20.30.40");
    }
    lab.expect_log("degraded: there is no interface `lab0`");
    lab.expect_log("listening anew");
    lab.expect_log("no longer missing");
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_interface_that_is_replaced_in_a_moment_is_another_one() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    for _ in 0..3 {
        // Too fast for anybody to have looked between the two.
        server.ip(&["link", "del", "lab0"]);
        make_bridge(&server, &[1]);
        wait_for("a lease", || {
            client.udhcpc(&[]).status.success().then_some(())
        });
        wait_ready(&server);
    }
    drop(lab);
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_interface_that_is_renamed_is_missing_until_it_is_renamed_back() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    let rename = |from, to| {
        server.ip(&["link", "set", from, "down"]);
        server.ip(&["link", "set", from, "name", to]);
        server.ip(&["link", "set", to, "up"]);
    };
    rename("lab0", "other0");
    wait_degraded(&server, "dhcp", "there is no interface `lab0`");
    assert!(
        !client.udhcpc(&[]).status.success(),
        "it is not the lab's any more"
    );
    rename("other0", "lab0");
    wait_ready(&server);
    assert_eq!(leased_by(&client, &lab), "10.20.30.40");
    server.ip(&["link", "set", "lab0", "down"]);
    wait_degraded(&server, "dhcp", "`lab0` is down");
    server.ip(&["link", "set", "lab0", "up"]);
    wait_ready(&server);
    assert_eq!(leased_by(&client, &lab), "10.20.30.40");
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_interface_may_be_late_and_its_address_later() {
    let server = Namespace::new("srv");
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    wait_degraded(&server, "dhcp", "there is no interface `lab0`");
    server.ip(&["link", "add", "lab0", "type", "bridge"]);
    server.ip(&["link", "set", "lab0", "up"]);
    wait_degraded(&server, "dhcp", "`lab0` has no IPv4 address");
    let client = Client::new(&server, 1);
    server.ip(&["address", "add", "10.20.30.40/24", "dev", "lab0"]);
    wait_ready(&server);
    assert_eq!(leased_by(&client, &lab), "10.20.30.40");
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_address_that_changes_changes_the_server_identifier() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    assert_eq!(leased_by(&client, &lab), "10.20.30.40");
    server.ip(&["address", "del", "10.20.30.40/24", "dev", "lab0"]);
    wait_degraded(&server, "dhcp", "`lab0` has no IPv4 address");
    // An alias by its label, as ifconfig makes them.
    let labelled = ["label", "lab0:1"];
    server.ip(&[
        &["address", "add", "10.20.30.45/24", "dev", "lab0"],
        &labelled[..],
    ]
    .concat());
    wait_ready(&server);
    assert_eq!(leased_by(&client, &lab), "10.20.30.45");
    lab.expect_log("udp lab0:67 as 10.20.30.45");
    // Without a moment between.
    server.ip(&["address", "add", "10.20.30.46/24", "dev", "lab0"]);
    server.ip(&["address", "del", "10.20.30.45/24", "dev", "lab0"]);
    server.ip(&["address", "replace", "10.20.30.46/24", "dev", "lab0"]);
    wait_for("the new identifier", || {
        (leased_by(&client, &lab) == "10.20.30.46").then_some(())
    });
    wait_ready(&server);
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn news_that_the_kernel_had_to_drop_are_made_up_for() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    wait_ready(&server);
    signal(lab.pid(), "STOP");
    // More than the socket's buffer holds, and then what matters.
    let mut batch = String::new();
    for n in 0..4000 {
        let address = format!("10.99.{}.{}/32 dev lo", n / 250, 1 + n % 250);
        writeln!(batch, "address add {address}\naddress del {address}").expect("written");
    }
    let file = lab.dir().join("batch");
    fs::write(&file, batch).expect("written");
    server.ip(&["-batch", file.to_str().expect("UTF-8")]);
    let dropped = dropped_news(&server);
    assert!(dropped > 0, "the test made too little noise");
    server.ip(&["link", "del", "lab0"]);
    make_bridge(&server, &[1]);
    signal(lab.pid(), "CONT");
    wait_for("a lease", || {
        client.udhcpc(&[]).status.success().then_some(())
    });
    wait_ready(&server);
}

/// Messages that netlink sockets of this namespace had no room for.
fn dropped_news(namespace: &Namespace) -> u64 {
    let sockets = namespace.output("cat", &["/proc/net/netlink"]);
    let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
    let drops = sockets.lines().skip(1).map(|line| {
        let drops = line.split_whitespace().nth(8);
        drops
            .and_then(|drops| drops.parse::<u64>().ok())
            .unwrap_or(0)
    });
    drops.sum()
}

/// Whether the DNS server at `address` answers, over both transports.
fn answers(server: &Namespace, address: &str) -> bool {
    ["+notcp", "+tcp"].iter().all(|transport| {
        let server_at = format!("@{address}");
        let arguments = [
            &server_at,
            "+short",
            "+tries=1",
            "+time=2",
            transport,
            "ns.lab.test",
        ];
        let answer = server.output("dig", &arguments);
        String::from_utf8_lossy(&answer.stdout).trim() == "192.0.2.53"
    })
}

#[test]
#[ignore = "needs root, network namespaces and dig"]
fn addresses_of_dns_come_late_vanish_and_return_and_disturb_no_other() {
    let server = bridge();
    let lab = Lab::start_with(DNS, &[("lab.test.zone", ZONE)], Some(&server));
    wait_degraded(&server, "dns", "no interface has the address 10.20.30.53");
    wait_degraded(&server, "dns", "no interface has the address fd20::53");
    assert!(answers(&server, "127.0.0.1"));
    // Held by one TCP connection all along, which asks again and again.
    let asking = server.start(
        "bash",
        &["-c", &format!("{KEEP_ASKING}; keep {:?}", lab.dir())],
    );
    let addresses = ["10.20.30.53/24", "fd20::53/64"];
    for round in 0..3 {
        for address in addresses {
            server.ip(&["address", "add", address, "dev", "lab0"]);
        }
        wait_ready(&server);
        assert!(
            answers(&server, "10.20.30.53") && answers(&server, "fd20::53"),
            "{}",
            lab.log()
        );
        for address in addresses {
            server.ip(&["address", "del", address, "dev", "lab0"]);
        }
        wait_degraded(&server, "dns", "no interface has the address 10.20.30.53");
        if round == 1 {
            let reloads = lab.log().matches("reloaded").count();
            signal(lab.pid(), "HUP");
            wait_for("the reload", || {
                (lab.log().matches("reloaded").count() > reloads).then_some(())
            });
            wait_degraded(&server, "dns", "no interface has the address 10.20.30.53");
        }
    }
    drop(asking);
    let answers = fs::read_to_string(lab.dir().join("answers")).expect("written");
    assert!(
        answers.lines().count() > 3 && !answers.contains("lost"),
        "{answers}"
    );
}

/// Asks over one TCP connection for the SOA of lab.test, five times a second, and writes down
/// whether an answer of the right length begins.
const KEEP_ASKING: &str = r#"keep() {
  exec 3<>/dev/tcp/127.0.0.1/53
  while :; do
    printf '\0\x1a\0\x07\0\0\0\1\0\0\0\0\0\0\3lab\4test\0\0\6\0\1' >&3
    length=$(timeout 20 head -c 2 <&3 | od -An -tu1 | awk '{ print $1 * 256 + $2 }')
    if [ "${length:-0}" -gt 26 ]; then
      timeout 20 head -c "$length" <&3 >/dev/null; echo "$length" >>"$1/answers"
    else
      echo lost >>"$1/answers"; exit
    fi
    sleep 0.2
  done
}"#;

#[test]
#[ignore = "needs root and network namespaces"]
fn all_roles_wait_for_their_address_and_serve_when_it_comes() {
    let server = Namespace::new("srv");
    let lab = Lab::start_with(LAN, &[("lab.test.zone", ZONE)], Some(&server));
    let roles = ["dns", "rudp", "scrap", "origin", "http"];
    for role in roles {
        wait_degraded(&server, role, "no interface has the address 10.20.30.40");
    }
    let student = Namespace::new("stu");
    server.veth("lab0", &student, "eth0");
    student.ip(&["address", "add", "10.20.30.41/24", "dev", "eth0"]);
    let labnet = env!("CARGO_BIN_EXE_labnet");
    let out = lab.dir().join("downloads");
    let out = out.to_str().expect("UTF-8");
    for via in ["http", "rudp"] {
        server.ip(&["address", "add", "10.20.30.40/24", "dev", "lab0"]);
        wait_ready(&server);
        let arguments = [
            "client",
            "--server",
            "10.20.30.40:49152",
            "--out",
            out,
            "get",
            "--via",
            via,
        ];
        wait_for(&format!("the file by {via}"), || {
            let got = student.output(labnet, &[&arguments[..], &["task2.pdf"]].concat());
            got.status.success().then_some(())
        });
        fs::remove_file(lab.dir().join("downloads/task2.pdf")).expect("it was there");
        server.ip(&["address", "del", "10.20.30.40/24", "dev", "lab0"]);
        for role in roles {
            wait_degraded(&server, role, "no interface has the address 10.20.30.40");
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and dig"]
fn a_listener_that_somebody_closed_is_bound_anew() {
    let server = bridge();

    let lab = Lab::start_with(LAN, &[("lab.test.zone", ZONE)], Some(&server));
    wait_ready(&server);
    for reload in [false, true] {
        // A kernel without INET_DIAG_DESTROY leaves all as it is, and the test would show nothing.
        let killed = server.output("ss", &["-K", "-Hltn", "src", "10.20.30.40"]);
        assert_eq!(String::from_utf8_lossy(&killed.stdout).lines().count(), 4);
        if reload {
            signal(lab.pid(), "HUP");
        }
        for port in ["53", "49153", "8080", "9167"] {
            wait_for(&format!("a listener on port {port}"), || {
                let open = format!("exec 3<>/dev/tcp/10.20.30.40/{port}");
                let opened = server.output("bash", &["-c", &open]);
                opened.status.success().then_some(())
            });
        }
        wait_ready(&server);
        assert!(answers(&server, "10.20.30.40"), "{}", lab.log());
    }
    lab.expect_log("Invalid argument");
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_busy_port_and_missing_rights_are_refused_as_ever() {
    let server = bridge();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    fs::write(path("lab.test.zone"), ZONE).expect("written");
    fs::write(path("dns.toml"), DNS).expect("written");
    fs::write(path("dhcp.toml"), dhcp().replace("lab0", "late0")).expect("written");
    let labnet = env!("CARGO_BIN_EXE_labnet");
    // An address that nobody has and a port that somebody holds: both are looked at.
    let squatter = r#"
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_IP, 15, 1)
s.bind(("10.20.30.53", 53))
open("BOUND", "w").close()
time.sleep(600)
"#
    .replace("BOUND", &path("bound"));
    let held = server.start("python3", &["-c", &squatter]);
    wait_for("the squatter", || {
        fs::exists(path("bound")).ok().filter(|there| *there)
    });
    let refused = server.output(labnet, &["serve", "-c", &path("dns.toml")]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("dns.listen: 10.20.30.53:53: Address already in use"),
        "{said}"
    );
    drop(held);
    // A reload to it is refused as well, and to a late address it is not.
    let open = ["10.20.30.53:53", "[fd20::53]:53"].map(|address| format!(", {address:?}"));
    let here = open
        .iter()
        .fold(DNS.to_owned(), |text, late| text.replace(late, ""));
    let lab = Lab::start_with(&here, &[("lab.test.zone", ZONE)], Some(&server));
    wait_ready(&server);
    let held = server.start("python3", &["-c", &squatter]);
    wait_for("the squatter", || {
        let asked = server.output("ss", &["-Hlun", "src", "10.20.30.53"]);
        (!asked.stdout.is_empty()).then_some(())
    });
    fs::write(lab.config(), DNS).expect("written");
    signal(lab.pid(), "HUP");
    wait_for("the refusal", || {
        lab.log().contains("reload refused").then_some(())
    });
    assert!(answers(&server, "127.0.0.1"));
    wait_ready(&server);
    drop(held);
    wait_for("the port", || {
        let asked = server.output("ss", &["-Hlun", "src", "10.20.30.53"]);
        asked.stdout.is_empty().then_some(())
    });
    signal(lab.pid(), "HUP");
    wait_degraded(&server, "dns", "no interface has the address 10.20.30.53");
    drop(lab);

    // Who may not bind port 67 is told at the start, not when the interface comes.
    run("chmod", &["-R", "a+rwX", &path("")]);
    let unprivileged = ["--reuid", "65534", "--clear-groups", labnet, "serve", "-c"];
    let refused = server.output(
        "setpriv",
        &[&unprivileged[..], &[&path("dhcp.toml")]].concat(),
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("dhcp.interfaces: late0: port 67 needs root"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root, network namespaces and strace"]
fn no_news_is_no_work() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    wait_ready(&server);
    let looks = |wait: Duration| {
        let output = server.output(
            "timeout",
            &[
                &wait.as_secs().to_string(),
                "strace",
                "-f",
                "-qq",
                "-e",
                "trace=socket,epoll_wait",
                "-p",
                &lab.pid().to_string(),
            ],
        );
        let calls = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            calls.contains("epoll_wait("),
            "strace sees nothing: {calls}"
        );
        calls
            .lines()
            .filter(|line| line.contains("AF_NETLINK"))
            .count()
    };
    // Whoever polls does so every five seconds; the interface's own start brings some news.
    wait_for("twelve seconds without a look", || {
        (looks(Duration::from_secs(12)) == 0).then_some(())
    });
}
