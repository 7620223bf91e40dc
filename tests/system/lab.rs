//! All roles together: crashes while clients work, hostile input on every port, a quiet lab's cost,
//! a real web server as the origin.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use sha2::{Digest, Sha256};

use crate::support::{Lab, Running, loopback, peak_resident, probe::Addresses, wait_for};

/// The built-in origin with one small file among the usual kinds.
fn origin(ip: Ipv4Addr) -> String {
    format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"image-site.png\", \"task2.pdf\"]\n"
    )
}

fn whole_lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin(ip));
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    (lab, addresses)
}

fn client(addresses: &Addresses, out: &Path, verb: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labnet"));
    command
        .args(["client", "--dhcp", &addresses.at(6767).to_string()])
        // One client, however often it comes: a new one each time would use up the pool.
        .args(["--mac", "02:00:00:00:00:aa"])
        .args(["--out", out.to_str().expect("UTF-8")])
        .args(verb)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

#[test]
#[ignore = "takes half a minute"]
fn every_component_may_crash_while_clients_work() {
    let (lab, addresses) = whole_lab();
    let out = tempfile::tempdir().expect("a temporary folder");
    let done = AtomicBool::new(false);
    let walks = AtomicU32::new(0);
    // "Back within 1 s": no probe waits longer than that, whatever crashes meanwhile.
    let patience = Duration::from_secs(1);
    let probes: [(&str, &(dyn Fn() -> bool + Sync)); 6] = [
        ("dhcp", &|| addresses.dhcp(patience)),
        ("dns", &|| addresses.dns(patience)),
        ("rudp", &|| addresses.rudp(patience)),
        ("scrap", &|| addresses.scrap(patience).is_some()),
        ("origin", &|| addresses.origin()),
        ("http", &|| addresses.http()),
    ];
    wait_for("the file list", || addresses.scrap(patience));
    thread::scope(|scope| {
        for (name, probe) in probes {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    assert!(probe(), "{name} left a good request unanswered");
                    assert!(asked.elapsed() < patience * 3, "{name} was away for long");
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let walk = client(
                    &addresses,
                    out.path(),
                    &["get", "--all", "--force", "--keep-lease"],
                )
                .output()
                .expect("the client starts");
                assert!(
                    walk.status.success(),
                    "{}{}",
                    String::from_utf8_lossy(&walk.stdout),
                    String::from_utf8_lossy(&walk.stderr)
                );
                walks.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_for("the first walk", || {
            (walks.load(Ordering::Relaxed) > 0).then_some(())
        });
        let leases_before = lab.json("/api/v1/leases");
        for (name, _) in probes {
            let before = walks.load(Ordering::Relaxed);
            assert_eq!(lab.post(&format!("/api/v1/components/{name}/crash")).0, 202);
            let restarts =
                format!("labnet_component_restarts_total{{component=\"{name}\",reason=\"panic\"}}");
            wait_for("the restart", || {
                (lab.metric(&restarts) == 1.0).then_some(())
            });
            let up = format!("labnet_component_up{{component=\"{name}\"}}");
            wait_for("the component", || (lab.metric(&up) == 1.0).then_some(()));
            wait_for("a walk after it", || {
                (walks.load(Ordering::Relaxed) > before + 1).then_some(())
            });
        }
        let leases_after = lab.json("/api/v1/leases");
        for lease in leases_before.as_array().expect("a list") {
            if lease["state"] != "bound" {
                continue;
            }
            let address = &lease["address"];
            assert!(
                leases_after
                    .as_array()
                    .expect("a list")
                    .iter()
                    .any(|after| after["address"] == *address && after["state"] == "bound"),
                "the lease of {address} is gone: {leases_after}"
            );
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Random datagrams and good ones with a few bytes changed, to one port.
fn bombard(to: SocketAddr, seed: u64, good: &[&[u8]]) {
    let mut random = Pcg32::new(seed, 1);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(to).expect("loopback");
    for n in 0..10_000 {
        let datagram: Vec<u8> = if n % 2 == 0 {
            let length = random.random_range(0..600);
            (0..length).map(|_| random.random()).collect()
        } else {
            let mut datagram = good[n / 2 % good.len()].to_vec();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..datagram.len());
                datagram[at] = random.random();
            }
            let length = random.random_range(1..=datagram.len());
            datagram.truncate(length.max(random.random_range(0..=datagram.len())));
            datagram
        };
        // A full buffer is the kernel's business; so is a refused port's ICMP.
        let _ = socket.send(&datagram);
        if n % 64 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
#[ignore = "takes half a minute"]
fn hostile_input_costs_neither_answers_nor_memory() {
    let (lab, addresses) = whole_lab();
    let patience = crate::support::PATIENCE;
    wait_for("the file list", || addresses.scrap(patience));
    let all_answer = || {
        assert!(addresses.dhcp(patience), "dhcp");
        assert!(addresses.dns(patience), "dns");
        assert!(addresses.rudp(patience), "rudp");
        assert!(addresses.scrap(patience).is_some(), "scrap");
        assert!(addresses.origin(), "origin");
        assert!(addresses.http(), "http");
    };
    let mut discover = vec![0u8; 240];
    discover[..3].copy_from_slice(&[1, 1, 6]);
    discover[236..240].copy_from_slice(&[99, 130, 83, 99]);
    discover.extend([
        53, 1, 1, 61, 7, 1, 2, 3, 4, 5, 6, 7, 12, 3, b'a', b'b', b'c', 255,
    ]);
    let query =
        b"LN\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    let round = |seed: u64| {
        bombard(addresses.at(6767), seed, &[&discover]);
        bombard(addresses.at(5300), seed, &[query]);
        bombard(
            addresses.at(49152),
            seed,
            &[
                b"SIGNEW:Tal",
                b"SIGNECHO:290;1.5",
                b"SIGNSTAT:291",
                b"SIGNGET:292;SIGNGET",
                b"SIGNEND:293;SIGNEND",
            ],
        );
        broken_peers(addresses.at(49153), seed, b"SIGNGET");
        all_answer();
    };
    // The first round warms the allocator and fills what is bounded; the second must add nothing.
    round(1);
    let warm = lab.resident();
    round(2);
    let after = lab.resident();
    assert!(
        after < warm + (8 << 20),
        "memory grows under hostile input: {warm} then {after} bytes"
    );
    // Half-open HTTP: more connections than one client should ever hold, none with a request.
    let held: Vec<TcpStream> = [addresses.at(9167), addresses.at(8080)]
        .into_iter()
        .flat_map(|server| {
            (0..200).map(move |n| {
                let mut stream = TcpStream::connect(server).expect("a connection");
                let part: &[u8] = if n % 2 == 0 { b"GET / HT" } else { b"" };
                stream.write_all(part).expect("open");
                stream
            })
        })
        .collect();
    all_answer();
    drop(held);
    all_answer();
    for component in lab.json("/api/v1/status")["components"]
        .as_array()
        .expect("a list")
    {
        assert_eq!(component["restarts"], 0, "{component}");
    }
}

/// A thousand TCP peers that send nonsense, part of a request, or nothing, and go.
fn broken_peers(to: SocketAddr, seed: u64, good: &[u8]) {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut lingering = Vec::new();
    for n in 0..1000 {
        let Ok(mut stream) = TcpStream::connect(to) else {
            continue;
        };
        let _ = match n % 4 {
            0 => stream.write_all(&good[..random.random_range(0..good.len())]),
            1 => {
                let noise: Vec<u8> = (0..random.random_range(1..3000))
                    .map(|_| random.random())
                    .collect();
                stream.write_all(&noise)
            }
            2 => stream.write_all(b"SIGNURL:"),
            _ => Ok(()),
        };
        if n % 10 == 0 {
            lingering.push(stream);
        }
    }
}

#[test]
#[ignore = "takes half a minute and wants a quiet machine"]
fn an_idle_lab_costs_nearly_nothing() {
    let (lab, addresses) = whole_lab();
    wait_for("the file list", || {
        addresses.scrap(crate::support::PATIENCE)
    });
    thread::sleep(Duration::from_secs(2));
    let (start, used) = (Instant::now(), lab.cpu());
    thread::sleep(Duration::from_secs(20));
    let share = (lab.cpu() - used).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = lab.resident();
    println!(
        "idle: {:.2} % of a core, {} kB resident",
        share * 100.0,
        resident / 1024
    );
    assert!(share < 0.01, "{:.2} % of a core", share * 100.0);
    assert!(resident < 40 << 20, "{resident} bytes");
}

#[test]
#[ignore = "starts two hundred processes"]
fn two_hundred_clients_at_once_are_all_answered() {
    let (lab, addresses) = whole_lab();
    wait_for("the file list", || {
        addresses.scrap(crate::support::PATIENCE)
    });
    let proxy = addresses.at(49152).to_string();
    let clients: Vec<(u32, std::process::Child)> = (0..200)
        .map(|n| {
            let name = format!("client-{n:03}");
            let child = Command::new(env!("CARGO_BIN_EXE_labnet"))
                .args([
                    "client", "--server", &proxy, "--name", &name, "--json", "echo",
                ])
                .env_remove("RUST_LOG")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the client starts");
            // The number of a name: the sum of its characters' codes.
            (name.bytes().map(u32::from).sum(), child)
        })
        .collect();
    let (mut echoes, mut attempts) = (0, 0);
    for (number, client) in clients {
        let output = client.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut ids = Vec::new();
        for line in said.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if line["type"] == "echo" {
                ids.push(line["id"].as_u64().expect("an id"));
                attempts += line["attempts"].as_u64().expect("a number");
            }
        }
        // Its own numbers, without a gap: no answer was another client's.
        let first = u64::from(number) + 1;
        let expected: Vec<u64> = (first..first + ids.len() as u64).collect();
        assert!(!ids.is_empty(), "{said}");
        assert_eq!(ids, expected);
        echoes += ids.len();
    }
    let metric = |series: &str| lab.metric(series);
    assert_eq!(
        metric("labnet_rudp_signals_total{direction=\"received\",type=\"signecho\"}"),
        attempts as f64
    );
    let answered = metric("labnet_rudp_signals_total{direction=\"sent\",type=\"echoreply\"}");
    assert!(answered >= echoes as f64, "{answered} answers to {echoes}");
    assert_eq!(metric("labnet_rudp_sessions_total"), 200.0);
    assert_eq!(
        metric("labnet_rudp_sessions_ended_total{reason=\"end\"}"),
        200.0
    );
    assert_eq!(metric("labnet_rudp_sessions"), 0.0);
    assert_eq!(metric("labnet_rudp_lost_total{reason=\"mailbox\"}"), 0.0);
    assert_eq!(metric("labnet_rudp_lost_total{reason=\"send\"}"), 0.0);
}

#[test]
#[ignore = "needs nginx"]
fn five_large_files_from_nginx_arrive_whole_in_little_memory() {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let web = tempfile::tempdir().expect("a temporary folder");
    let names: Vec<String> = (1..=5).map(|n| format!("file-{n}.bin")).collect();
    let files = web.path().join("files");
    fs::create_dir(&files).expect("a folder");
    let mut digests = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let mut random = Pcg32::new(n as u64, 5);
        let contents: Vec<u8> = (0..50_000_000 / 4)
            .flat_map(|_| random.random::<u32>().to_le_bytes())
            .collect();
        digests.push(Sha256::digest(&contents));
        fs::write(files.join(name), contents).expect("a file");
    }
    let _nginx = nginx(web.path(), &files, ip);
    let config = addresses.config(&format!("http://{ip}:8088/"), "");
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || {
        addresses.scrap(crate::support::PATIENCE)
    });
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut walk = client(&addresses, out.path(), &["--json", "get", "--all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let peak = Arc::new(AtomicU32::new(0));
    let code = loop {
        // Read while it runs: a process that has ended has no memory left to tell of.
        if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", walk.id()))
            && status.contains("VmHWM")
        {
            peak.fetch_max((peak_resident(walk.id()) / 1024) as u32, Ordering::Relaxed);
        }
        if let Some(code) = walk.try_wait().expect("a child") {
            break code;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut said = String::new();
    walk.stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(code.success(), "{said}");
    for (name, digest) in names.iter().zip(digests) {
        let contents = fs::read(out.path().join(name)).expect("the file");
        assert_eq!(Sha256::digest(contents), digest, "{name}");
    }
    let (client, server) = (
        u64::from(peak.load(Ordering::Relaxed)) * 1024,
        peak_resident(lab.pid()),
    );
    println!(
        "peak memory: client {} kB, server {} kB",
        client / 1024,
        server / 1024
    );
    assert!(client < 64 << 20, "the client's peak: {client} bytes");
    assert!(server < 64 << 20, "the server's peak: {server} bytes");
}

/// nginx with its own directory listing on port 8088.
fn nginx(dir: &Path, files: &Path, ip: Ipv4Addr) -> Running {
    let config = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;\nevents {{}}\nhttp {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\nserver {{ listen {ip}:8088; root {files}; autoindex on; }} }}\n",
        dir = dir.display(),
        files = files.display(),
    );
    // Started as root nginx serves as another user, who has to get into the folder.
    let open = |path: &Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("our folder");
    };
    open(dir);
    open(files);
    let path = dir.join("nginx.conf");
    fs::write(&path, config).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let running = Running::start("nginx", &["-c", path, "-e", "stderr"]);
    wait_for("nginx", || {
        TcpStream::connect(SocketAddr::from((ip, 8088))).ok()
    });
    running
}
