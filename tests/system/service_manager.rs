//! labnet under a service manager on a network of its own: interface sockets are kept over a restart.

use crate::support::{
    lan::{Client, bridge, config},
    service_manager::Manager,
    wait_for,
};

#[test]
#[ignore = "needs root, network namespaces and udhcpc"]
fn a_discover_that_comes_while_it_does_not_run_is_answered_by_the_next_start() {
    let server = bridge();
    let mut manager = Manager::within(&server);
    let config = config("10.20.30.50-10.20.30.100", "");
    manager.write(&config);
    manager.start(&[]);
    let names = manager.stored();
    assert!(
        names.iter().any(|name| name.contains("lab0")),
        "the interface's socket is kept: {names:?}"
    );
    for number in 1..=3 {
        let client = Client::new(&server, number);
        manager.kill();
        let script = client.file("script");
        // One DISCOVER, and a long patience for its OFFER.
        let asking = [
            "-f", "-q", "-n", "-t", "1", "-T", "60", "-i", "eth0", "-s", &script,
        ];
        let mut asking = client.namespace.start("udhcpc", &asking);
        wait_for("the DISCOVER in the kept socket", || {
            let sockets = server.output("ss", &["-Hlun", "sport", "67"]);
            let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
            let mut waiting = sockets
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            waiting.any(|bytes| bytes > 0).then_some(())
        });
        manager.start(&[]);
        assert!(asking.0.wait().expect("it ends").success());
        assert_eq!(client.told()[6], "10.20.30.40");
        assert_eq!(manager.stored(), names, "each of them once");
    }
}
