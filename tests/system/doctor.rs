//! `labnet doctor` on a wire of its own: another DHCP server is found, labnet's own is none; and on a
//! machine that lacks something.

use std::fs;

use crate::support::{Lab, Namespace, disk::Disk, run, wait_for};

const LAN: &str = r#"
state_dir = "state"
[http]
listen = "127.0.0.1:9167"
[dhcp]
interfaces = ["eth0"]
[[dhcp.subnet]]
subnet = "10.20.30.0/24"
pools = ["10.20.30.41-10.20.30.100"]
"#;

/// The exit code, and all findings as `check verdict message`.
fn doctor(namespace: &Namespace, file: &str) -> (Option<i32>, String) {
    let labnet = env!("CARGO_BIN_EXE_labnet");
    doctor_of(namespace, &[labnet, "doctor", "--json", "-c", file])
}

/// The same of a command that ends in it.
fn doctor_of(namespace: &Namespace, command: &[&str]) -> (Option<i32>, String) {
    let output = namespace.output(command[0], &command[1..]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = report["findings"].as_array().expect("a list");
    let lines = findings.iter().map(|finding| {
        let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        format!(
            "{} {} {}\n",
            word("check"),
            word("verdict"),
            word("message")
        )
    });
    (output.status.code(), lines.collect())
}

#[test]
#[ignore = "needs root and network namespaces"]
fn another_dhcp_server_is_found_and_the_own_one_is_none() {
    let (first, second) = (Namespace::new("one"), Namespace::new("two"));
    first.veth("eth0", &second, "eth0");
    first.ip(&["address", "add", "10.20.30.40/24", "dev", "eth0"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("labnet.toml");
    fs::write(&file, LAN).expect("a file");
    let file = file.to_str().expect("plain");

    // An interface without an address, and nobody on it.
    let (code, found) = doctor(&second, file);
    assert_eq!(code, Some(0), "{found}");
    assert!(
        found.contains("interfaces warning dhcp.interfaces: `eth0` has no IPv4"),
        "{found}"
    );
    assert!(
        found.contains("dhcp ok eth0: nobody else answers"),
        "{found}"
    );

    let lab = Lab::start_with(LAN, &[], Some(&first));
    second.ip(&["address", "add", "10.20.30.2/24", "dev", "eth0"]);
    let (code, found) = doctor(&second, file);
    assert_eq!(code, Some(1), "{found}\n{}", lab.log());
    let stranger = "dhcp problem eth0: another DHCP server, 10.20.30.40, offers 10.20.30.";
    assert!(found.contains(stranger), "{found}");
    assert!(
        found.contains("ports ok udp port 67 of eth0 is free"),
        "{found}"
    );

    // Where the lab itself runs, all is well.
    let own = lab.config();
    let (code, found) = doctor(&first, own.to_str().expect("plain"));
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("lab ok runs"), "{found}");
    assert!(found.contains("dhcp ok eth0: "), "{found}");
}

#[test]
#[ignore = "needs root, network namespaces and python3"]
fn what_this_machine_lacks_is_found_with_what_to_do() {
    let namespace = Namespace::new("doc");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::mount(folder.path().join("disk"), "50m");
    let file = folder.path().join("labnet.toml");
    let config = "state_dir = \"disk/state\"\n[http]\nlisten = \"127.0.0.1:9167\"\n\
                  [rudp]\nlisten = \"127.0.0.1:700\"\nscraper = \"127.0.0.1:9\"\n";
    fs::write(&file, config).expect("a file");
    let path = file.to_str().expect("plain");
    let labnet = env!("CARGO_BIN_EXE_labnet");
    let doctor = ["doctor", "--json", "-c", path];
    let with = |prefix: &[&str]| doctor_of(&namespace, &[prefix, &[labnet], &doctor].concat());

    let (code, found) = with(&[]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("disk warning "), "50 MB: {found}");
    assert!(
        found.contains("ports ok udp 127.0.0.1:700 is free"),
        "{found}"
    );

    // No right to a low port.
    run(
        "chmod",
        &["-R", "a+rwX", folder.path().to_str().expect("plain")],
    );
    let (code, found) = with(&["setpriv", "--reuid", "65534", "--clear-groups"]);
    assert_eq!(code, Some(1), "{found}");
    let denied = "ports problem udp 127.0.0.1:700 is not for this user";
    assert!(found.contains(denied), "{found}");
    assert!(
        found.contains("ports ok tcp 127.0.0.1:9167 is free"),
        "{found}"
    );

    let (code, found) = with(&["prlimit", "--nofile=256:256"]);
    assert_eq!(code, Some(0), "{found}");
    let few = "descriptors warning 256 files and sockets may be open";
    assert!(found.contains(few), "{found}");

    // Somebody else has the port.
    let holder = "import socket, time\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.bind(('127.0.0.1', 700))\ntime.sleep(600)";
    let held = namespace.start("python3", &["-c", holder]);
    wait_for("the port's holder", || {
        let (code, found) = with(&[]);
        let taken = format!(
            "ports problem udp 127.0.0.1:700 is taken by process {} (python3",
            held.0.id()
        );
        (code == Some(1) && found.contains(&taken)).then_some(())
    });
    drop(held);

    let filler = disk.path().join("filler");
    fs::write(filler, vec![1; 48 << 20]).expect("there is room");
    let (code, found) = with(&[]);
    assert_eq!(code, Some(1), "{found}");
    assert!(found.contains("disk problem "), "2 MB: {found}");
}
