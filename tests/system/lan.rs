//! The shipped `conf/lan.toml` on a real (virtual) wire: a student's machine with the system's own
//! DHCP client and resolver tools, and labnet's client.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Lab, Namespace, wait_for};

#[test]
#[ignore = "needs root, network namespaces, udhcpc and dig"]
fn a_students_machine_walks_through_the_lan() {
    let server = Namespace::new("srv");
    let student = Namespace::new("stu");
    server.veth("lab0", &student, "eth0");
    server.ip(&["address", "add", "10.20.30.40/24", "dev", "lab0"]);
    let lab = Lab::start_with(
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
        Some(&server),
    );
    let script = lab.dir().join("script");
    fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] && ip address replace \"$ip/$mask\" dev \"$interface\"\nexit 0\n",
    )
    .expect("write");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    let script = script.to_str().expect("UTF-8");
    let udhcpc = student.output("udhcpc", &["-f", "-q", "-n", "-i", "eth0", "-s", script]);
    assert!(udhcpc.status.success(), "{udhcpc:?}\n{}", lab.log());
    let address = student.ip(&["-4", "-br", "address", "show", "dev", "eth0"]);
    let address = String::from_utf8_lossy(&address.stdout).into_owned();
    assert!(address.contains("10.20.30.41/24"), "{address}");

    let dig = |arguments: &[&str]| {
        let answer = student.output("dig", &[&["@10.20.30.40", "+short"], arguments].concat());
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    };
    assert_eq!(dig(&["example.com"]), "10.20.30.40");
    assert_eq!(dig(&["+tcp", "-x", "10.20.30.40"]), "ns1.example.com.");

    let out = lab.dir().join("downloads");
    let out = out.to_str().expect("UTF-8");
    let labnet = env!("CARGO_BIN_EXE_labnet");
    wait_for("the file list", || {
        let list = student.output(labnet, &["client", "--server", "10.20.30.40:49152", "list"]);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        (list == "50MB.zip\n100MB.zip\n500MB.zip\nimage-site.png\ntask2.pdf\n").then_some(())
    });
    let walk = ["client", "--server", "10.20.30.40:49152", "--out", out];
    let got = student.output(
        labnet,
        &[&walk[..], &["get", "task2.pdf", "image-site.png"]].concat(),
    );
    assert!(got.status.success(), "{got:?}\n{}", lab.log());
    let pdf = fs::read(lab.dir().join("downloads/task2.pdf")).expect("the file");
    assert!(pdf.starts_with(b"%PDF-"));
}
