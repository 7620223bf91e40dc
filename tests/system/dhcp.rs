//! Real DHCP clients against `labnet serve` on a bridge, in network namespaces.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{
    Lab, Namespace, Running,
    lan::{Client, SCRIPT, ask, bridge, config},
    run, wait_for,
};

/// A server on lab0 that hands out all that there is.
fn dhcp() -> String {
    config(
        "10.20.30.41-10.20.30.100",
        r#"routers = ["10.20.30.101"]
name_servers = ["10.20.30.40"]
domain = "lab.test"
[[dhcp.subnet.reservation]]
mac = "02:00:00:00:00:07"
address = "10.20.30.77"
"#,
    )
}

/// Address, state and hardware address of every lease.
fn leases(server: &Namespace) -> Vec<[String; 3]> {
    let list: Value = serde_json::from_str(&ask(server, "/api/v1/leases")).expect("JSON");
    let text = |lease: &Value, key: &str| lease[key].as_str().expect("text").to_owned();
    let list = list.as_array().expect("a list").iter();
    list.map(|lease| ["address", "state", "hardware_address"].map(|key| text(lease, key)))
        .collect()
}

fn state(server: &Namespace, address: &str) -> Option<String> {
    let mut leases = leases(server).into_iter();
    leases
        .find(|[found, ..]| found == address)
        .map(|[_, state, _]| state)
}

#[track_caller]
fn metric(server: &Namespace, series: &str) -> u64 {
    let text = ask(server, "/metrics");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
#[ignore = "needs root, network namespaces, isc-dhcp-client and udhcpc"]
fn real_clients_get_addresses_of_the_pool() {
    let server = bridge();
    let lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let first = Client::new(&server, 1);
    first.dhclient();
    assert_eq!(
        first.told(),
        [
            "BOUND",
            "10.20.30.41",
            "10.20.30.101",
            "10.20.30.40",
            "lab.test",
            "255.255.255.0",
            "10.20.30.40"
        ]
    );
    // With and without the broadcast flag, with and without an identifier.
    for (number, more) in [(2, &["-B"][..]), (3, &["-C"]), (4, &[])] {
        let client = Client::new(&server, number);
        let output = client.udhcpc(more);
        assert!(output.status.success(), "{output:?}");
        let told = client.told();
        assert_eq!(told[1], format!("10.20.30.{}", 40 + number));
        assert_eq!(told[2..], first.told()[2..]);
    }
    let reserved = Client::new(&server, 7);
    reserved.dhclient();
    assert_eq!(reserved.told()[1], "10.20.30.77");
    let bound = leases(&server);
    assert_eq!(bound.len(), 5);
    assert!(bound.iter().all(|[_, state, _]| state == "bound"));
    assert_eq!(bound[4][2], "02:00:00:00:00:07");

    first.dhclient_release();
    wait_for("the release", || {
        (state(&server, "10.20.30.41")? == "released").then_some(())
    });
    first.dhclient();
    assert_eq!(first.told()[1], "10.20.30.41");
    drop(lab);
}

#[test]
#[ignore = "needs root, network namespaces and isc-dhcp-client"]
fn a_lease_survives_kill_9_and_the_client_gets_it_back_by_init_reboot() {
    let server = bridge();
    let mut lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let other = Client::new(&server, 1);
    other.dhclient();
    let client = Client::new(&server, 2);
    client.dhclient();
    let address = client.told()[1].clone();
    lab.kill_and_restart();
    assert_eq!(state(&server, &address).as_deref(), Some("bound"));
    // A stranger must not get it meanwhile.
    let stranger = Client::new(&server, 3);
    stranger.dhclient();
    assert_ne!(stranger.told()[1], address);
    client.dhclient();
    let told = client.told();
    assert_eq!((told[0].as_str(), &told[1]), ("REBOOT", &address));
    let discovered = "labnet_dhcp_messages_total{direction=\"received\",type=\"discover\"}";
    assert_eq!(metric(&server, discovered), 1, "the stranger's alone");
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn a_client_renews_by_unicast_and_releases() {
    let server = bridge();
    let _lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    let script = client.file("script");
    let udhcpc = client.namespace.start(
        "udhcpc",
        &["-f", "-R", "-t", "3", "-i", "eth0", "-s", &script],
    );
    let told = |event: &str| {
        let told = client.told();
        (told.first().is_some_and(|first| first == event)).then_some(())
    };
    wait_for("the lease", || told("bound"));
    crate::support::signal(udhcpc.0.id(), "USR1");
    wait_for("the renewal", || told("renew"));
    let acks = "labnet_dhcp_messages_total{direction=\"sent\",type=\"ack\"}";
    assert_eq!(metric(&server, acks), 2);
    crate::support::signal(udhcpc.0.id(), "TERM");
    wait_for("the release", || {
        (state(&server, "10.20.30.41")? == "released").then_some(())
    });
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn an_address_in_use_is_declined_and_another_leased() {
    let server = bridge();
    let _lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let squatter = Client::new(&server, 1);
    squatter
        .namespace
        .ip(&["address", "add", "10.20.30.41/24", "dev", "eth0"]);
    let client = Client::new(&server, 2);
    let output = client.udhcpc(&["-a"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(client.told()[1], "10.20.30.42");
    assert_eq!(state(&server, "10.20.30.41").as_deref(), Some("declined"));
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn leases_survive_a_crash_of_the_component() {
    let server = bridge();
    let _lab = Lab::start_with(&dhcp(), &[], Some(&server));
    let client = Client::new(&server, 1);
    assert!(client.udhcpc(&[]).status.success());
    let crash = "exec 3<>/dev/tcp/127.0.0.1/9167; printf 'POST /api/v1/components/dhcp/crash \
                 HTTP/1.0\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n' >&3; cat <&3";
    server.output("bash", &["-c", crash]);
    let restarts = "labnet_component_restarts_total{component=\"dhcp\",reason=\"panic\"}";
    wait_for("the restart", || {
        (metric(&server, restarts) == 1).then_some(())
    });
    assert!(client.udhcpc(&[]).status.success());
    assert_eq!(client.told()[1], "10.20.30.41");
}

/// A small file system of the test's own.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        let path = at.to_str().expect("UTF-8");
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=256k", "labnet-test", path],
        );
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the lab may still have its database open.
        let path = self.0.to_str().expect("UTF-8");
        run("umount", &["-l", path]);
    }
}

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn a_full_disk_leases_nothing_until_there_is_room() {
    let server = bridge();
    let disk = tempfile::tempdir().expect("a temporary folder");
    let mounted = Disk::mount(disk.path());
    let state_dir = format!("state_dir = {:?}", disk.path());
    let config = dhcp().replace("state_dir = \"state\"", &state_dir);
    let lab = Lab::start_with(&config, &[], Some(&server));
    let filler = disk.path().join("filler");
    // Ends with "no space left".
    let _ = fs::write(&filler, vec![1; 1 << 20]);
    let client = Client::new(&server, 1);
    let refused = client.udhcpc(&[]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(client.told().iter().all(String::is_empty));
    let dropped = "labnet_dhcp_dropped_total{reason=\"store\"}";
    assert!(metric(&server, dropped) > 0);
    let acks = "labnet_dhcp_messages_total{direction=\"sent\",type=\"ack\"}";
    assert_eq!(metric(&server, acks), 0);
    lab.expect_log("can't be stored");
    fs::remove_file(&filler).expect("remove");
    assert!(client.udhcpc(&[]).status.success());
    assert_eq!(client.told()[1], "10.20.30.41");
    drop(lab);
    drop(mounted);
}

#[test]
#[ignore = "needs root, network namespaces and isc-dhcp-relay"]
fn a_relay_brings_clients_of_another_network() {
    let server = bridge();
    let config = format!(
        "{}\n[[dhcp.subnet]]\nsubnet = \"10.20.31.0/24\"\n\
         pools = [\"10.20.31.41-10.20.31.100\"]\nrouters = [\"10.20.31.1\"]\n",
        dhcp()
    );
    let lab = Lab::start_with(&config, &[], Some(&server));
    let relay = Client::new(&server, 1).namespace;
    relay.ip(&["address", "add", "10.20.30.2/24", "dev", "eth0"]);
    server.ip(&["route", "add", "10.20.31.0/24", "via", "10.20.30.2"]);
    relay.output("sysctl", &["-q", "net.ipv4.ip_forward=1"]);
    let far = Namespace::new("far");
    relay.veth("far0", &far, "eth0");
    relay.ip(&["address", "add", "10.20.31.1/24", "dev", "far0"]);
    let _running: Running = relay.start(
        "dhcrelay",
        &["-d", "-a", "-i", "far0", "-i", "eth0", "10.20.30.40"],
    );
    let client = Client {
        namespace: far,
        dir: tempfile::tempdir().expect("a temporary folder"),
    };
    let script = SCRIPT.replace("DIR", client.dir.path().to_str().expect("UTF-8"));
    fs::write(client.file("script"), script).expect("write");
    fs::set_permissions(client.file("script"), fs::Permissions::from_mode(0o755)).expect("chmod");
    wait_for("a lease through the relay", || {
        client.udhcpc(&[]).status.success().then_some(())
    });
    let told = client.told();
    assert_eq!(told[1..3], ["10.20.31.41", "10.20.31.1"]);
    drop(lab);
}

#[test]
#[ignore = "needs root, network namespaces and kea-admin"]
fn perfdhcp_loses_no_exchange() {
    let server = bridge();
    let config = dhcp().replace(
        "pools = [\"10.20.30.41-10.20.30.100\"]",
        "pools = [\"10.20.128.0-10.20.255.254\"]",
    );
    let config = config.replace("10.20.30.0/24", "10.20.0.0/16");
    let _lab = Lab::start_with(&config, &[], Some(&server));
    let client = Client::new(&server, 1).namespace;
    let own = Ipv4Addr::new(10, 20, 30, 2);
    client.ip(&["address", "add", &format!("{own}/16"), "dev", "eth0"]);
    let output = client.output(
        "perfdhcp",
        &[
            "-4",
            "-l",
            "eth0",
            "-r",
            "200",
            "-R",
            "20000",
            "-p",
            "10",
            "-W",
            "2000000",
            "-d",
            "10",
            "-u",
            "-x",
            "a",
            "10.20.30.40",
        ],
    );
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{report}");
    let bound = "labnet_dhcp_leases{state=\"bound\",subnet=\"10.20.0.0/16\"}";
    assert!(metric(&server, bound) > 1000);
}
