//! `labnet link --netns` between two namespaces, with real kernels' stacks at both ends.

use serde_json::Value;

use crate::support::{Lab, Namespace, Running, loopback, request, signal, wait_for};

const LABNET: &str = env!("CARGO_BIN_EXE_labnet");

/// Two namespaces, the link with these options between them, and how to ask for its counters.
fn joined(
    names: [&str; 2],
    options: &[&str],
) -> (Namespace, Namespace, Running, impl Fn() -> Option<Value>) {
    let [left, right] = names.map(Namespace::new);
    let http = format!("{}:9168", loopback());
    let command = ["link", "--netns", &left.name, &right.name, "--http", &http];
    let link = Running::start(LABNET, &[&command, options].concat());
    let counters = move || -> Option<Value> {
        let (code, body) = request(http.parse().expect("an address"), "GET", "/counters");
        (code == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    };
    wait_for("the link", &counters);
    (left, right, link, counters)
}

#[test]
#[ignore = "needs root: network namespaces, TUN devices"]
fn two_namespaces_are_joined_by_a_long_and_lossy_link() {
    let (left, right, link, counters) = joined(
        ["left", "right"],
        &[
            "--delay",
            "30ms",
            "--rate",
            "20mbit",
            "--down",
            "duplicate=100",
        ],
    );
    let lab = Lab::start_with(
        "[rudp]\nlisten = \"10.77.0.2:49152\"\nscraper = \"10.77.0.2:9\"\n\
         [http]\nlisten = \"10.77.0.2:9167\"\n",
        &[],
        Some(&right),
    );
    // UDP, and the time it takes.
    let walked = left.output(
        LABNET,
        &[
            "client",
            "--server",
            "10.77.0.2:49152",
            "--json",
            "echo",
            "-n",
            "3",
        ],
    );
    let said = String::from_utf8_lossy(&walked.stdout).into_owned();
    assert!(walked.status.success(), "{said}");
    let now = counters().expect("it runs");
    assert!(now["down"]["duplicated"].as_u64() >= Some(5), "{now}");
    assert_eq!(now.get("clients"), None, "{now}");
    // TCP.
    let status = left.output(
        LABNET,
        &["status", "--url", "http://10.77.0.2:9167/", "--json"],
    );
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("10.77.0.2:49152"), "{said}");
    drop(lab);
    // Its end takes the devices along.
    signal(link.0.id(), "TERM");
    wait_for("the end of the devices", || {
        let links = left.ip(&["-o", "link"]);
        (!String::from_utf8_lossy(&links.stdout).contains("link0")).then_some(())
    });
}

#[test]
#[ignore = "needs root: network namespaces, TUN devices"]
fn a_device_that_is_removed_ends_the_link() {
    let (left, right) = (Namespace::new("stays"), Namespace::new("goes"));
    let link = ["link", "--netns", &left.name, &right.name];
    let mut link = Running::start(LABNET, &link);
    wait_for("the devices", || {
        let links = right.ip(&["-o", "link"]);
        String::from_utf8_lossy(&links.stdout)
            .contains("link0")
            .then_some(())
    });
    right.ip(&["link", "del", "link0"]);
    let ended = wait_for("its end", || link.0.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(1));
}

#[test]
#[ignore = "needs root: network namespaces, TUN devices"]
fn a_kernel_s_tcp_is_marked_where_it_asked_for_it_and_dropped_from_where_not() {
    let (left, right, link, counters) = joined(
        ["asks", "sends"],
        &[
            "--delay",
            "10ms",
            "--down",
            "rate=10mbit,queue=2MB,aqm=codel,ecn=on",
        ],
    );
    let lab = Lab::start_with(
        "[origin]\nlisten = \"10.77.0.2:8080\"\nsamples = [\"5MB.zip\"]\n\
         [http]\nlisten = \"10.77.0.2:9167\"\n",
        &[],
        Some(&right),
    );
    // What CoDel has dropped and marked of a download by a client that asks for ECN, or does not.
    let download = |ecn: &str| -> [u64; 2] {
        let now = || {
            let counters = counters().expect("it runs");
            let down = &counters["down"];
            [&down["lost"]["codel"], &down["marked"]].map(|of| of.as_u64().expect("a count"))
        };
        let before = now();
        let set = format!("echo {ecn} > /proc/sys/net/ipv4/tcp_ecn");
        assert!(left.output("sh", &["-c", &set]).status.success());
        let url = "http://10.77.0.2:8080/5MB.zip";
        let fetched = left.output("curl", &["-sf", "-o", "/dev/null", url]);
        assert!(fetched.status.success(), "{fetched:?}");
        let after = now();
        [after[0] - before[0], after[1] - before[1]]
    };
    let [dropped, marked] = download("0");
    assert!(
        dropped > 0 && marked == 0,
        "{dropped} dropped, {marked} marked"
    );
    let [dropped, marked] = download("1");
    assert!(
        dropped == 0 && marked > 0,
        "{dropped} dropped, {marked} marked"
    );
    drop((lab, link));
}
