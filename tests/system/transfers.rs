//! Files over HTTP, as curl and the kernel count them.

use serde_json::Value;

use super::support::{Lab, Namespace, wait_for};

/// TCP segments that a namespace has sent again.
fn sent_again(namespace: &Namespace) -> u64 {
    let output = namespace.output("cat", &["/proc/net/snmp"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "RetransSegs");
    let value = values.split(' ').nth(at.expect("a column"));
    value.expect("a value").parse().expect("a number")
}

fn ended(namespace: &Namespace) -> Vec<Value> {
    let url = "http://10.0.0.1:9167/api/v1/sessions?ended";
    let output = namespace.output("curl", &["--silent", "--max-time", "10", url]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all.as_array().expect("a list").clone()
}

#[test]
#[ignore = "needs root: network namespaces; nftables, curl"]
fn what_curl_got_is_what_is_told_and_what_the_kernel_sent_again_too() {
    let (server, client) = (Namespace::new("server"), Namespace::new("client"));
    server.veth("lan", &client, "lan");
    server.ip(&["address", "add", "10.0.0.1/24", "dev", "lan"]);
    client.ip(&["address", "add", "10.0.0.2/24", "dev", "lan"]);
    let config = "[http]\nlisten = \"10.0.0.1:9167\"\n\
                  [origin]\nlisten = \"10.0.0.1:8080\"\nsamples = [\"1MB.zip\", \"50MB.zip\"]\n";
    let _lab = Lab::start_with(config, &[], Some(&server));
    wait_for("the lab", || {
        let ready = client.output("curl", &["--silent", "http://10.0.0.1:8080/"]);
        ready.status.success().then_some(())
    });
    // Of what the origin sends, segment by segment, one in a hundred gets lost; nothing else does.
    server.ip(&["link", "set", "dev", "lan", "gso_max_segs", "1"]);
    let rules = "add table ip loss; \
                 add chain ip loss in { type filter hook prerouting priority -310; }; \
                 add rule ip loss in tcp sport 8080 numgen random mod 100 == 0 drop";
    assert!(client.output("nft", &[rules]).status.success());
    let before = sent_again(&server);
    let got = |arguments: &[&str]| -> u64 {
        let usual = [
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download}",
        ];
        let output = client.output("curl", &[&usual, arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.parse().expect("a number")
    };
    let whole = got(&["http://10.0.0.1:8080/1MB.zip"]);
    let part = got(&["--range", "1000-299999", "http://10.0.0.1:8080/50MB.zip"]);
    // Broken off by the client, at its own pace.
    let broken = got(&[
        "--limit-rate",
        "2M",
        "--max-time",
        "1",
        "http://10.0.0.1:8080/50MB.zip",
    ]);
    let all = wait_for("three transfers", || {
        let all = ended(&client);
        let settled = all.iter().all(|told| told["how"] != "arriving");
        (all.len() == 3 && settled).then_some(all)
    });
    let told = |n: usize, key: &str| all[n][key].clone();
    assert_eq!(
        (told(2, "bytes_sent"), whole),
        (whole.into(), 1_000_000),
        "{all:?}"
    );
    assert_eq!(
        (told(1, "bytes_sent"), part),
        (part.into(), 299_000),
        "{all:?}"
    );
    assert_eq!(
        (told(2, "how"), told(1, "how")),
        ("end".into(), "end".into())
    );
    assert_eq!(told(0, "how"), "broken_off", "{all:?}");
    // curl has read no more than its kernel had.
    let sent = told(0, "bytes_sent").as_u64().expect("a number");
    assert!(broken > 100_000 && sent >= broken, "{broken} {sent}");
    assert!(sent < 50_000_000, "{sent}");
    for told in &all {
        assert!(
            told["client"]
                .as_str()
                .is_some_and(|client| client.starts_with("10.0.0.2:"))
        );
    }
    // Of the kernel's count a SYN and its like are no transfer's, and the API's answers go this way, too.
    let again: u64 = (all.iter())
        .map(|told| told["segments_retransmitted"].as_u64().expect("a number"))
        .sum();
    let counted = sent_again(&server) - before;
    assert!(
        again > 0 && again <= counted && counted <= again + 5,
        "{again} {counted}"
    );
}
