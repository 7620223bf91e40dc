//! A client behind a NAT, and a client's ARP, beside what the kernel and tcpdump say of them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{Lab, Namespace, labnet, run, signal, wait_for};

/// tcpdump in a network, which listens when this returns.
fn tcpdump(enter: &[&str], arguments: &[&str]) -> Child {
    let mut child = Command::new(enter[0])
        .args(&enter[1..])
        .args(["tcpdump", "-nn", "-l", "--immediate-mode"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump starts");
    let mut ready = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert_ne!(ready.read_line(&mut line).expect("text"), 0, "{line}");
    }
    child
}

/// What it has seen until now.
fn seen(mut tcpdump: Child) -> String {
    signal(tcpdump.id(), "INT");
    let mut text = String::new();
    let mut stdout = tcpdump.stdout.take().expect("piped");
    stdout.read_to_string(&mut text).expect("text");
    tcpdump.wait().expect("ends");
    text
}

fn lan_lab(server: &Namespace) -> Lab {
    Lab::start_with(
        include_str!("../../conf/lan.toml"),
        &[
            (
                "zones/lan.example.com.zone",
                include_str!("../../conf/zones/lan.example.com.zone"),
            ),
            (
                "zones/30.20.10.in-addr.arpa.zone",
                include_str!("../../conf/zones/30.20.10.in-addr.arpa.zone"),
            ),
        ],
        Some(server),
    )
}

#[test]
#[ignore = "needs root, network namespaces and tcpdump"]
fn a_client_is_its_interface_s_dhcp_client_and_explains_arp_as_tcpdump_sees_it() {
    let server = Namespace::new("srv");
    let student = Namespace::new("stu");
    server.veth("lab0", &student, "eth0");
    server.ip(&["address", "add", "10.20.30.40/24", "dev", "lab0"]);
    student.ip(&["link", "set", "eth0", "address", "02:00:00:00:00:07"]);
    let _lab = lan_lab(&server);
    let enter = ["ip", "netns", "exec", &student.name];
    let capture = tcpdump(&enter, &["-t", "-i", "eth0", "arp"]);
    let walk = [
        "client",
        "--interface",
        "eth0",
        "--explain",
        "echo",
        "-n",
        "1",
    ];
    let output = student.output(env!("CARGO_BIN_EXE_labnet"), &walk);
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{told}");
    let captured = seen(capture);
    let of_labnet: BTreeSet<String> = told
        .lines()
        .filter_map(|line| line.split_once(" eth0 ARP  "))
        .map(|(_, words)| words.to_owned())
        .collect();
    // ARP, Request who-has 10.20.30.40 tell 10.20.30.41, length 28
    // ARP, Reply 10.20.30.40 is-at 02:..., length 28
    let of_tcpdump: BTreeSet<String> = captured
        .lines()
        // The last one, when it is interrupted.
        .filter(|line| !line.is_empty())
        .map(|line| {
            let line = line.rsplit_once(", length").expect("a length").0;
            match line.strip_prefix("ARP, Request who-has ") {
                Some(question) => {
                    // Of an address that is asked for by who knows it already, in parentheses.
                    let (target, teller) = question.split_once(" tell ").expect("a teller");
                    let target = target.split(' ').next().expect("an address");
                    format!("who has {target}? Tell {teller}")
                }
                None => {
                    let answer = line.strip_prefix("ARP, Reply ").expect(line);
                    answer.replace(" is-at ", " is at ")
                }
            }
        })
        .collect();
    assert_eq!(of_labnet, of_tcpdump, "{told}\n{captured}");
    let question = "who has 10.20.30.40? Tell 10.20.30.41";
    assert!(of_labnet.contains(question), "{of_labnet:?}");
    // Both MACs are those of the interfaces.
    let mac = server.output("cat", &["/sys/class/net/lab0/address"]);
    let mac = String::from_utf8(mac.stdout).expect("text");
    let answer = format!("10.20.30.40 is at {}", mac.trim());
    assert!(of_labnet.contains(&answer), "{of_labnet:?}");
    let link = "Ethernet on eth0: MAC 02:00:00:00:00:07 → ff:ff:ff:ff:ff:ff (all on the link)";
    assert!(told.contains(link), "{told}");
    // The machine asks with its own address, and has none afterwards.
    assert!(
        told.contains("→ 255.255.255.255:67 DHCP  discover"),
        "{told}"
    );
    let address = student.ip(&["-4", "-br", "address", "show", "dev", "eth0"]);
    let address = String::from_utf8_lossy(&address.stdout).into_owned();
    assert!(!address.contains("10.20.30"), "{address}");
}

/// A demo behind a NAT, under way.
struct Walk {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    told: Vec<Value>,
}

impl Walk {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_labnet"))
            .args(["demo", "--behind-nat", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("labnet starts");
        Self {
            lines: BufReader::new(child.stdout.take().expect("piped")),
            child,
            told: Vec::new(),
        }
    }

    /// Reads until a line of this type; `false`: it has ended.
    fn until(&mut self, wanted: &str) -> bool {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).expect("text") == 0 {
                return false;
            }
            let told: Value = serde_json::from_str(&line).expect(&line);
            let is_wanted = told["type"] == wanted;
            self.told.push(told);
            if is_wanted {
                return true;
            }
        }
    }

    fn of(&self, kind: &str) -> Vec<&Value> {
        self.told
            .iter()
            .filter(|line| line["type"] == kind)
            .collect()
    }

    fn network(&self, whose: &str) -> String {
        let network = self.of("network")[0];
        format!("--net={}", network[whose].as_str().expect("a path"))
    }

    fn end(mut self) -> (Vec<Value>, Output) {
        self.until("no such line");
        let output = self.child.wait_with_output().expect("ends");
        (self.told, output)
    }
}

fn address(value: &Value) -> SocketAddr {
    value.as_str().expect("text").parse().expect("an address")
}

/// Who has sent what tcpdump has seen, by its ports: `IP 192.168.1.41.40000 > 203.0.113.5.53: ...`
fn senders(captured: &str, to: &str) -> BTreeSet<SocketAddr> {
    let sender = |line: &str| {
        let (from, rest) = line.strip_prefix("IP ")?.split_once(" > ")?;
        let (ip, port) = from.rsplit_once('.')?;
        rest.starts_with(to).then_some(())?;
        format!("{ip}:{port}").parse().ok()
    };
    captured.lines().filter_map(sender).collect()
}

#[test]
#[ignore = "needs root, network namespaces, nftables and tcpdump"]
fn a_nat_that_forgets_in_mid_transfer_is_told_as_the_wire_has_it() {
    let mut walk = Walk::start(&["--via", "rudp", "--rate", "40mbit", "--forget-after", "3s"]);
    assert!(walk.until("network"));
    let (router, servers) = (walk.network("router"), walk.network("servers"));
    let enter = ["nsenter", router.as_str()];
    let inner = tcpdump(&enter, &["-t", "-q", "-i", "inner", "udp dst port 49152"]);
    let outer = tcpdump(
        &["nsenter", servers.as_str()],
        &["-t", "-q", "-i", "servers0", "udp dst port 49152"],
    );
    assert!(walk.until("moved"), "{:?}", walk.told.last());
    // By then tcpdump, too, has written what it saw of the move.
    assert!(walk.until("transfer"), "{:?}", walk.told.last());
    // The NAT's own counter, while there is a NAT.
    let (told, output) = {
        let (inside, outside) = (seen(inner), seen(outer));
        let (told, output) = walk.end();
        let moved: Vec<&Value> = told.iter().filter(|line| line["type"] == "moved").collect();
        assert_eq!(moved.len(), 1, "{moved:?}");
        let (from, to) = (address(&moved[0]["from"]), address(&moved[0]["to"]));
        let outside = senders(&outside, "203.0.113.5.49152");
        assert!(
            outside.contains(&from) && outside.contains(&to),
            "{outside:?}"
        );
        // Inside it is one and the same port before and after.
        let inside = senders(&inside, "203.0.113.5.49152");
        assert!(
            inside
                .iter()
                .all(|sender| sender.ip().to_string() == "192.168.1.41"),
            "{inside:?}"
        );
        assert!(
            outside
                .iter()
                .all(|sender| sender.ip().to_string() == "203.0.113.1"),
            "{outside:?}"
        );
        (told, output)
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let of =
        |kind: &str| -> Vec<&Value> { told.iter().filter(|line| line["type"] == kind).collect() };
    let totals = of("totals")[0];
    assert_eq!(totals["verified"], 5, "{totals}");
    assert_eq!(totals["nat"]["moves"], 1, "{totals}");
    assert_eq!(
        totals["transport"]["connections"], 1,
        "no second connection"
    );
    let (moved, forgot) = (of("moved")[0], of("forgot")[0]);
    let ports = forgot["ports"].as_str().expect("text");
    let (first, last) = ports.split_once('-').expect("a range");
    let range = first.parse::<u16>().expect("a port")..=last.parse().expect("a port");
    assert!(
        range.contains(&address(&moved["to"]).port()),
        "{moved} {forgot}"
    );
    assert!(
        !range.contains(&address(&moved["from"]).port()),
        "{moved} {forgot}"
    );
    // Each message through the NAT, as both ends saw it.
    let crossing: Vec<&Value> = of("packet")
        .into_iter()
        .filter(|packet| !packet["seen_source"].is_null())
        .collect();
    assert!(crossing.len() > 20, "{crossing:?}");
    for packet in crossing {
        let ip = |field: &str| address(&packet[field]).ip().to_string();
        if packet["role"] == "client" {
            assert_eq!(
                (ip("source"), ip("seen_source")),
                ("192.168.1.41".into(), "203.0.113.1".into())
            );
            assert_eq!(packet["destination"], packet["seen_destination"]);
        } else {
            assert_eq!(
                (ip("destination"), ip("seen_destination")),
                ("203.0.113.1".into(), "192.168.1.41".into())
            );
            assert_eq!(packet["source"], packet["seen_source"]);
        }
    }
    // What is dropped are the proxy's packets to the port that is forgotten.
    let dropped = totals["nat"]["dropped"].as_u64().expect("a number");
    let to_the_old = of("packet")
        .into_iter()
        .filter(|packet| {
            packet["role"] == "rudp"
                && packet["destination"] == moved["from"]
                && packet["time"].as_f64() > forgot["time"].as_f64()
        })
        .count() as u64;
    assert!(dropped >= to_the_old, "{dropped} {to_the_old}");
}

#[test]
#[ignore = "needs root, network namespaces and nftables"]
fn the_walk_behind_a_nat_leaves_nothing_behind_however_it_ends() {
    let list = || {
        let links = String::from_utf8(run("ip", &["-br", "link"]).stdout).expect("text");
        let names = fs::read_dir("/var/run/netns")
            .map(Iterator::count)
            .unwrap_or(0);
        (links, names)
    };
    let before = list();
    let whole = labnet(&["demo", "--behind-nat", "--explain"]);
    let text = String::from_utf8(whole.stdout).expect("text");
    let complaints = String::from_utf8_lossy(&whole.stderr);
    assert!(whole.status.success(), "{complaints}\n{text}");
    assert!(text.contains("✓ 5 files arrived at 192.168.1.41"), "{text}");
    assert!(text.contains("0.0.0.0:68 → 255.255.255.255:67"), "{text}");
    assert!(
        text.contains("who has 203.0.113.5? Tell 203.0.113.1\n"),
        "{text}"
    );
    assert!(text.contains("⇄ NAT: came from 203.0.113.1:2"), "{text}");
    for name in ["INT", "KILL"] {
        let mut walk = Walk::start(&["--via", "rudp", "--rate", "8mbit"]);
        assert!(walk.until("network"));
        let router = walk.network("router");
        let path = router.strip_prefix("--net=").expect("a path").to_owned();
        let held = fs::read_link(&path).expect("a namespace");
        assert!(walk.until("packet"));
        let pid = walk.child.id();
        signal(pid, name);
        let (_, output) = walk.end();
        assert!(!output.status.success());
        // What is killed can't remove its folder; the kernel removes the rest.
        if name == "KILL" {
            for entry in fs::read_dir(std::env::temp_dir())
                .expect("a folder")
                .flatten()
            {
                let own = format!("labnet-demo-{pid}-");
                if entry.file_name().to_string_lossy().starts_with(&own) {
                    fs::remove_dir_all(entry.path()).expect("removed");
                }
            }
        }
        // Nobody is in it any more.
        wait_for("the namespace to vanish", || {
            (!is_held(&held)).then_some(())
        });
    }
    // Nothing to make it of.
    let output = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["demo", "--behind-nat"])
        .env("PATH", "/nonexistent")
        .output()
        .expect("labnet starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("install iproute2"), "{said}");
    assert_eq!(list(), before);
}

/// Whether a process is in a network namespace.
fn is_held(namespace: &std::path::Path) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc");
    processes.flatten().any(|process| {
        let own = fs::read_link(process.path().join("ns/net"));
        own.is_ok_and(|own| own == namespace)
    })
}

#[test]
#[ignore = "needs root, network namespaces, nftables and a kernel that lets everybody make user namespaces"]
fn a_user_without_rights_walks_behind_a_nat_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("labnet");
    fs::copy(env!("CARGO_BIN_EXE_labnet"), &own).expect("copied");
    let open = |path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("chmod");
    };
    open(folder.path());
    open(own.as_path());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&own)
        .args(["demo", "--behind-nat"])
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("✓ 5 files arrived at 192.168.1.41"), "{text}");
}
