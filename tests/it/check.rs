//! The verbs that need no running lab: `check`, `completions`, `man`.

use std::{fs, process::Output};

use crate::support::labnet;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_good_file_gives_a_summary() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/labnet.toml");
    let output = labnet(&["check", path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    for part in [
        "is valid",
        "udp 127.0.0.1:6767",
        "127.20.30.41-127.20.30.100",
        "example.com.",
        "udp 127.0.0.10:49152",
        "http://127.0.0.1:8080/",
        "500MB.zip",
        "http://127.0.0.1:9167/metrics",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let output = labnet(&["check", path, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], true);
    assert_eq!(report["components"][0]["name"], "dhcp");
}

#[test]
fn a_bad_file_gives_every_problem_and_2() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("labnet.toml");
    fs::write(
        &path,
        "[http]\nlisten = \"localhost\"\ncolour = 1\n[rudp]\nmax_window = 0\n[dns]\n[[dns.zone]]\nname = \"a.\"\nfile = \"a.zone\"\n[scrap]\norigin = \"ftp://a/\"\n",
    )
    .expect("a file");
    let path = path.to_str().expect("plain");
    let output = labnet(&["check", path]);
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    let starts = [
        ":2: http.listen: ",
        ":3: http.colour: ",
        ":5: rudp.max_window: ",
        ":9: dns.zone[0].file: ",
        ":11: scrap.origin: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{text}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(&format!("{path}{start}")), "{line}");
    }
    let output = labnet(&["check", path, "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], false);
    assert_eq!(report["problems"][2]["line"], 5);
    assert_eq!(report["problems"][2]["key"], "rudp.max_window");

    let output = labnet(&["serve", "--config", path]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), text);
}

#[test]
fn what_this_host_does_not_have_is_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("labnet.toml");
    // TEST-NET-1 (RFC 5737) is nobody's.
    fs::write(
        &path,
        "[http]\nlisten = \"192.0.2.1:9167\"\n[dhcp]\ninterfaces = [\"no-such-if\"]\n\
         [[dhcp.subnet]]\nsubnet = \"192.0.2.0/24\"\npools = [\"192.0.2.8-192.0.2.9\"]\n[rudp]\nlisten = \"127.7.7.7:49152\"\n",
    )
    .expect("a file");
    let path = path.to_str().expect("plain");
    let output = labnet(&["check", path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    let warnings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "))
        .collect();
    assert_eq!(
        warnings,
        [
            format!(
                "{path}: dhcp.interfaces: there is no interface `no-such-if`; dhcp is degraded \
                 until that changes"
            ),
            format!(
                "{path}: http.listen: no interface has the address 192.0.2.1; http is degraded \
                 until that changes"
            ),
        ]
    );
    let output = labnet(&["check", path, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], true);
    assert_eq!(report["warnings"][1]["key"], "http.listen");
}

#[test]
fn a_bad_zone_file_is_a_problem_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("labnet.toml");
    fs::write(
        &path,
        "[dns]\n[[dns.zone]]\nname = \"a.\"\nfile = \"a.zone\"\n",
    )
    .expect("a file");
    let zone = folder.path().join("a.zone");
    fs::write(
        &zone,
        "$TTL 60\n@ SOA ns1 admin 1 1 1 1 1\n@ NS ns1\nns1 A 1.2.3\n",
    )
    .expect("a file");
    let output = labnet(&["check", path.to_str().expect("plain")]);
    assert_eq!(output.status.code(), Some(2));
    let start = format!("{}:4: dns.zone[0].file: ", zone.display());
    assert!(stdout(&output).starts_with(&start), "{}", stdout(&output));
}

#[test]
fn shells_and_man_know_every_verb() {
    let help = stdout(&labnet(&["--help"]));
    assert!(help.contains("completions"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let output = labnet(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("serve"), "{shell}");
    }
    assert!(stdout(&labnet(&["man"])).contains(".TH labnet 1"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("man1");
    let output = labnet(&["man", "--out", out.to_str().expect("plain")]);
    assert!(output.status.success(), "{output:?}");
    assert!(out.join("labnet.1").exists() && out.join("labnet-serve.1").exists());
}
