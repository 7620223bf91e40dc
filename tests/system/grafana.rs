//! Every query of the dashboard gives data, from a real Prometheus that reads a working lab.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::dashboard::Dashboard;
use crate::support::{Lab, Running, loopback, probe::Addresses, request, wait_for};

/// The kernel's TCP has a threshold once it has lost something, which it does not on loopback.
const AFTER_A_LOSS: &str = "labnet_origin_transfer_ssthresh_bytes";

#[test]
#[ignore = "needs prometheus"]
fn every_query_of_the_dashboard_gives_data() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let page = format!("http://{ip}:8080/");
    let origin = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"20MB.zip\", \"image-site.png\", \"task2.pdf\"]\n"
    );
    let config = addresses.config(&page, &origin);
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prometheus: SocketAddr = (ip, 19090).into();
    let _running = start_prometheus(folder.path(), prometheus, lab.http);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = [
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    walk(&addresses, folder.path());
                }
            }),
            scope.spawn(|| hold_a_session(addresses.at(49152), &done)),
            scope.spawn(|| hold_a_transfer(addresses.at(49152), &done)),
            scope.spawn(|| hold_a_download(addresses.at(8080), &done)),
        ];
        let mut missing = Vec::new();
        let all_there = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("all queries to give data", || {
                thread::sleep(Duration::from_secs(1));
                missing = Dashboard::read()
                    .queries()
                    .into_iter()
                    .filter(|(_, expr)| !expr.starts_with(AFTER_A_LOSS))
                    .filter_map(|(title, expr)| {
                        let problem = ask(prometheus, &expr).err()?;
                        Some(format!("{title}: {problem}: {expr}"))
                    })
                    .collect();
                missing.is_empty().then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        for thread in traffic {
            thread.join().expect("the traffic flows");
        }
        assert!(all_there.is_ok(), "{}", missing.join("\n"));
    });
    variables_have_values(prometheus, lab.http);
}

/// What the panels say against what the bad network has counted and delays by.
#[test]
#[ignore = "needs prometheus"]
fn shares_and_round_trips_are_what_the_link_made_them() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let page = format!("http://{ip}:8080/");
    // A round trip of 51.6 ms; 2 % of what the proxy sends are lost.
    let rest = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"20MB.zip\"]\n\
         [link]\ndelay = \"25.8ms\"\n[link.down]\nloss = 2.0\n"
    );
    let config = addresses
        .config(&page, &rest)
        .replace("[scrap]", "idle_timeout = \"5s\"\n[scrap]");
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prometheus: SocketAddr = (ip, 19090).into();
    let _running = start_prometheus(folder.path(), prometheus, lab.http);
    let server = addresses.at(49152).to_string();
    // Two of one name, which are two in the panels.
    let clients = [(); 2].map(|()| {
        let download = ["--via", "rudp", "--name", "Tal", "get", "--discard"];
        let arguments = [
            &["client", "--server", &server],
            &download[..],
            &["20MB.zip"],
        ]
        .concat();
        Running::start(env!("CARGO_BIN_EXE_labnet"), &arguments)
    });
    let panel = |title: &str, legend: &str| {
        let dashboard = Dashboard::read();
        let panel = dashboard
            .panels()
            .iter()
            .find(|panel| panel["title"] == title);
        let targets = panel.expect("the panel")["targets"]
            .as_array()
            .expect("targets");
        let target = targets.iter().find(|target| {
            let shown = target["legendFormat"].as_str().expect("a legend");
            shown.starts_with(legend)
        });
        target.expect("the query")["expr"]
            .as_str()
            .expect("an expression")
            .to_owned()
    };
    let number = |expr: &str| {
        values(prometheus, expr)
            .ok()
            .and_then(|values| values.first().copied())
    };
    let counted = |fate: &str| {
        format!(
            "sum(increase(labnet_link_packets_total{{direction=\"down\",fate=~\"{fate}\"}}[20s]))"
        )
    };
    let (share, true_share) = wait_for("20 s of losses", || {
        thread::sleep(Duration::from_secs(1));
        // All the time that is looked at was a transfer's.
        let busy = "count_over_time(sum(labnet_rudp_session_rtt_seconds)[20s:1s])";
        if number(busy)? < 19.0 || number(&counted("sent"))? < 1500.0 {
            return None;
        }
        let share = panel("Lost share", "packets to clients").replace("$__rate_interval", "20s");
        let lost = format!("{} / {}", counted("lost.*"), counted("sent"));
        Some((number(&share)?, number(&lost)?))
    });
    // What has just been lost is not known to the proxy yet.
    assert!(
        (share / true_share - 1.0).abs() < 0.1,
        "{share} shown, {true_share} lost"
    );
    let median = panel("Round trip", "median").replace("$__rate_interval", "20s");
    let median = number(&median).expect("a median");
    let mean = "sum(rate(labnet_rudp_rtt_seconds_sum[20s])) / sum(rate(labnet_rudp_rtt_seconds_count[20s]))";
    let mean = number(mean).expect("a mean");
    assert!(
        (median / mean - 1.0).abs() < 0.05,
        "{median} s shown, {mean} s in the mean"
    );
    let least = values(prometheus, &panel("Round trip of each connection", "least")).expect("data");
    assert_eq!(least.len(), 2, "two connections of one name");
    for least in least {
        assert!((least / 0.0516 - 1.0).abs() < 0.05, "{least} s");
    }
    // The program's own list says the same of each.
    let sessions = lab.json("/api/v1/sessions");
    let sessions = sessions.as_array().expect("a list").iter();
    let transports: Vec<_> = sessions
        .filter(|session| session["kind"] == "transport")
        .collect();
    assert_eq!(transports.len(), 2);
    for session in transports {
        assert_eq!(session["name"], "Tal");
        let id = session["connection_id"].as_str().expect("an id");
        let of_it =
            format!("labnet_rudp_session_min_rtt_seconds{{client=\"Tal\",connection=\"{id}\"}}");
        let listed = session["min_rtt_seconds"].as_f64().expect("a number");
        let shown = number(&of_it).expect("its series");
        assert!(
            (shown / listed - 1.0).abs() < 0.05,
            "{shown} shown, {listed} listed"
        );
    }
    // Clients that vanish take their series with them, once they are given up.
    drop(clients);
    wait_for("the end of the series", || {
        let (_, metrics) = lab.get("/metrics");
        let left = metrics
            .lines()
            .filter(|line| line.contains("connection=\""));
        (left.count() == 0).then_some(())
    });
}

/// Starts Prometheus with `conf/prometheus.yml`, changed in its target and, not to wait for long,
/// in its interval.
fn start_prometheus(folder: &Path, listen: SocketAddr, lab: SocketAddr) -> Running {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prometheus.yml");
    let config = fs::read_to_string(path).expect("conf/prometheus.yml");
    let adapted = config
        .replace("127.0.0.1:9167", &lab.to_string())
        .replace("interval: 5s", "interval: 1s");
    assert_ne!(config, adapted);
    let file = folder.join("prometheus.yml");
    fs::write(&file, adapted).expect("a file");
    let running = Running::start(
        "prometheus",
        &[
            &format!("--config.file={}", file.display()),
            &format!("--storage.tsdb.path={}", folder.join("data").display()),
            &format!("--web.listen-address={listen}"),
        ],
    );
    wait_for("Prometheus", || {
        (request(listen, "GET", "/-/ready").0 == 200).then_some(())
    });
    running
}

/// The client's whole walk: traffic for every role.
fn walk(addresses: &Addresses, out: &Path) {
    let walk = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--dhcp", &addresses.at(6767).to_string()])
        .args(["--out", out.to_str().expect("UTF-8")])
        .args(["get", "--all", "--force"])
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the client starts");
    assert!(
        walk.status.success(),
        "{}{}",
        String::from_utf8_lossy(&walk.stdout),
        String::from_utf8_lossy(&walk.stderr)
    );
}

/// A session that stays open, so that its window can be seen.
fn hold_a_session(proxy: SocketAddr, done: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(proxy).expect("loopback");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let say = |signal: &str| {
        socket.send(signal.as_bytes()).expect("sent");
        let mut answer = [0; 2048];
        let _ = socket.recv(&mut answer);
    };
    say("SIGNEW:Tal");
    for id in 290.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        say(&format!("SIGNECHO:{id};1.5"));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Transfers over a slow link, so that there is a window of the transport to be seen.
fn hold_a_transfer(proxy: SocketAddr, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let _transfer = Running::start(
            env!("CARGO_BIN_EXE_labnet"),
            &[
                "client",
                "--server",
                &proxy.to_string(),
                "--via",
                "rudp",
                "--rate",
                "8mbit",
                "--delay",
                "20ms",
                "get",
                "--discard",
                "20MB.zip",
            ],
        );
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) && !done.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Downloads over HTTP that take their time, so that they are on their way when Prometheus looks.
fn hold_a_download(origin: SocketAddr, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(origin).expect("the origin");
        let request = "GET /20MB.zip HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = vec![0; 100_000];
        while !done.load(Ordering::Relaxed) && stream.read(&mut bytes).expect("a part") > 0 {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Asks what Grafana would ask: whether there is data.
fn ask(prometheus: SocketAddr, expr: &str) -> Result<(), String> {
    values(prometheus, expr).map(|_| ())
}

/// The same, with the numbers that there are, one at least.
fn values(prometheus: SocketAddr, expr: &str) -> Result<Vec<f64>, String> {
    let expr = expr
        .replace("$__rate_interval", "10s")
        .replace("$__range", "30s")
        .replace("$job", ".+")
        .replace("$instance", ".+");
    assert!(!expr.contains('$'), "an unknown variable: {expr}");
    let query = utf8_percent_encode(&expr, NON_ALPHANUMERIC);
    let answer = get(prometheus, &format!("/api/v1/query?query={query}"));
    let series = answer["data"]["result"].as_array();
    let series = series.ok_or_else(|| answer["error"].to_string())?;
    let numbers = series
        .iter()
        .filter_map(|series| series["value"][1].as_str()?.parse::<f64>().ok())
        .filter(|value| value.is_finite());
    let numbers: Vec<f64> = numbers.collect();
    if numbers.is_empty() {
        return Err(format!("no data in {} series", series.len()));
    }
    Ok(numbers)
}

/// The variables of the dashboard find the lab.
fn variables_have_values(prometheus: SocketAddr, lab: SocketAddr) {
    for (label, value) in [("job", "labnet".to_owned()), ("instance", lab.to_string())] {
        let path = format!("/api/v1/label/{label}/values?match[]=labnet_build_info");
        assert_eq!(get(prometheus, &path)["data"], serde_json::json!([value]));
    }
}

fn get(prometheus: SocketAddr, path: &str) -> serde_json::Value {
    let (_, body) = request(prometheus, "GET", path);
    serde_json::from_str(&body).unwrap_or_default()
}
