//! A DHCP server's machine and its clients' on one bridge, in network namespaces.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output};

use super::Namespace;

/// What both clients run: takes the address, notes what it was told.
pub const SCRIPT: &str = r#"#!/bin/sh
[ -n "$interface" ] || exit 0
what=${1:-$reason}
address=${ip:-$new_ip_address}
case "$what" in
  PREINIT|deconfig) ip link set "$interface" up ;;
  bound|renew|BOUND|RENEW|REBIND|REBOOT)
    ip address replace "$address/24" dev "$interface"
    echo "$what $address ${router:-$new_routers} ${dns:-$new_domain_name_servers} ${domain:-$new_domain_name} ${subnet:-$new_subnet_mask} ${serverid:-$new_dhcp_server_identifier}" >>"DIR/told" ;;
esac
exit 0
"#;

/// A configuration that serves DHCP on lab0; `subnet` are further lines of its subnet.
pub fn config(pool: &str, subnet: &str) -> String {
    format!(
        r#"
state_dir = "state"
[http]
listen = "127.0.0.1:9167"
fault_injection = true
[dhcp]
interfaces = ["lab0"]
[[dhcp.subnet]]
subnet = "10.20.30.0/24"
pools = ["{pool}"]
lease_time = "1h"
{subnet}"#
    )
}

/// A namespace with the server's bridge lab0 at 10.20.30.40.
pub fn bridge() -> Namespace {
    let server = Namespace::new("srv");
    make_bridge(&server, &[]);
    server
}

/// Makes that bridge, with the clients' ports on it.
pub fn make_bridge(server: &Namespace, ports: &[u8]) {
    server.ip(&["link", "add", "lab0", "type", "bridge"]);
    server.ip(&["address", "add", "10.20.30.40/24", "dev", "lab0"]);
    server.ip(&["link", "set", "lab0", "up"]);
    for port in ports {
        server.ip(&["link", "set", &format!("port{port}"), "master", "lab0"]);
    }
}

/// A client's namespace on the bridge.
pub struct Client {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its files.
    pub dir: tempfile::TempDir,
}

impl Client {
    pub fn new(server: &Namespace, number: u8) -> Self {
        let namespace = Namespace::new(&format!("c{number}"));
        let port = format!("port{number}");
        server.veth(&port, &namespace, "eth0");
        let mac = format!("02:00:00:00:00:{number:02x}");
        namespace.ip(&["link", "set", "eth0", "address", &mac]);
        server.ip(&["link", "set", &port, "master", "lab0"]);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let script = dir.path().join("script");
        let text = SCRIPT.replace("DIR", dir.path().to_str().expect("UTF-8"));
        fs::write(&script, text).expect("write");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { namespace, dir }
    }

    pub fn file(&self, name: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The last thing that the client was told: event, address, router, DNS, domain, mask, server.
    pub fn told(&self) -> Vec<String> {
        let all = fs::read_to_string(self.file("told")).unwrap_or_default();
        let last = all.lines().last().unwrap_or_default();
        last.split(' ').map(str::to_owned).collect()
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.namespace.output(program, arguments);
        assert!(output.status.success(), "{program}: {output:?}");
        output
    }

    fn dhclient_files(&self) -> Vec<String> {
        let options = [("-sf", "script"), ("-lf", "leases"), ("-pf", "pid")];
        let pairs = options.map(|(option, name)| [option.to_owned(), self.file(name)]);
        pairs.into_iter().flatten().collect()
    }

    /// Gets a lease with dhclient, which then leaves without releasing it.
    #[track_caller]
    pub fn dhclient(&self) {
        let files = self.dhclient_files();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.run("dhclient", &[&["-1", "-v"], &files[..], &["eth0"]].concat());
        self.run("dhclient", &[&["-x"], &files[..], &["eth0"]].concat());
    }

    #[track_caller]
    pub fn dhclient_release(&self) {
        let files = self.dhclient_files();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.run("dhclient", &[&["-r", "-v"], &files[..], &["eth0"]].concat());
    }

    /// Runs udhcpc until it has a lease or gives up.
    pub fn udhcpc(&self, more: &[&str]) -> Output {
        let script = self.file("script");
        let usual = ["-f", "-q", "-n", "-t", "3", "-T", "2", "-i", "eth0", "-s"];
        let arguments = [&usual[..], &[&script], more].concat();
        self.namespace.output("udhcpc", &arguments)
    }
}

/// Asks the HTTP endpoints from inside of the server's namespace.
#[track_caller]
pub fn ask(server: &Namespace, path: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/9167; \
         printf 'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let output = server.output("bash", &["-c", &script]);
    let answer = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    body.to_owned()
}
