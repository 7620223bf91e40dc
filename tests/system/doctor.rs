//! `labnet doctor` on a wire of its own: another DHCP server is found, labnet's own is none.

use std::fs;

use crate::support::{Lab, Namespace};

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
    let output = namespace.output(labnet, &["doctor", "--json", "-c", file]);
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
