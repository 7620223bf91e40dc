//! Captures beside what the kernel and Wireshark say of the same packets.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::support::{Lab, labnet, loopback, probe::Addresses, request, signal, wait_for};

fn tshark(arguments: &[&str]) -> String {
    let output = Command::new("tshark").args(arguments).output();
    let output = output.expect("tshark runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    String::from_utf8(output.stdout).expect("text")
}

fn lab(more: &str) -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let origin =
        format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\", \"task2.pdf\"]\n{more}");
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

fn capture(lab: &Lab, file: &Path, more: &[&str]) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["capture", "--url", &format!("http://{}/", lab.http), "-w"])
        .arg(file)
        .args(more)
        .spawn()
        .expect("runs");
    wait_for("the capture's head", || {
        fs::metadata(file)
            .is_ok_and(|file| file.len() > 0)
            .then_some(())
    });
    child
}

fn end(mut child: Child) {
    // Packets gather for a moment before they are written.
    thread::sleep(Duration::from_millis(500));
    signal(child.id(), "INT");
    assert!(child.wait().expect("ends").success());
}

fn walk(addresses: &Addresses, via: &str, file: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let dhcp = addresses.at(6767).to_string();
    let output = labnet(&[
        "client",
        "--dhcp",
        &dhcp,
        "--via",
        via,
        "--out",
        folder.path().to_str().expect("UTF-8"),
        "get",
        file,
    ]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
}

/// UDP payloads that a capture has: their bytes in hexadecimal, with how often they are there.
fn payloads(file: &Path, filter: &str) -> BTreeMap<String, usize> {
    let file = file.to_str().expect("UTF-8");
    let text = tshark(&[
        "-r",
        file,
        "-Y",
        filter,
        "-T",
        "fields",
        "-e",
        "udp.payload",
    ]);
    let mut payloads = BTreeMap::new();
    for payload in text.lines() {
        *payloads.entry(payload.to_owned()).or_default() += 1;
    }
    payloads
}

/// The captured datagrams that a payload of the kernel's is joined of, or itself.
fn apart<'a>(payload: &'a str, captured: &BTreeMap<String, usize>) -> Vec<&'a str> {
    let (mut pieces, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let mut starts = captured.keys().filter(|key| !key.is_empty());
        let Some(piece) = starts.find(|key| rest.starts_with(key.as_str())) else {
            return vec![payload];
        };
        let (first, after) = rest.split_at(piece.len());
        pieces.push(first);
        rest = after;
    }
    pieces
}

#[test]
#[ignore = "needs root, tcpdump and tshark"]
fn a_capture_has_each_datagram_that_the_kernel_has_seen() {
    let (lab, addresses) = lab("");
    let folder = tempfile::tempdir().expect("a folder");
    let (own, kernel) = (
        folder.path().join("own.pcapng"),
        folder.path().join("kernel.pcap"),
    );
    let ip = addresses.0;
    let mut tcpdump = Command::new("tcpdump")
        .args(["-i", "lo", "-U", "--immediate-mode", "-s", "0", "-w"])
        .arg(&kernel)
        .arg(format!("udp and host {ip}"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump runs");
    let mut hello = [0; 40];
    let stderr = tcpdump.stderr.as_mut().expect("piped");
    stderr.read_exact(&mut hello).expect("it listens");
    let capture = capture(&lab, &own, &["--bytes", "65535"]);
    walk(&addresses, "http", "task2.pdf");
    walk(&addresses, "rudp", "task2.pdf");
    end(capture);
    signal(tcpdump.id(), "INT");
    let mut said = String::new();
    let mut stderr = tcpdump.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    tcpdump.wait().expect("ends");
    assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
    // On loopback tcpdump sees each datagram once; only one end of each is the service's.
    let (seen, captured) = (payloads(&kernel, "udp"), payloads(&own, "udp"));
    assert!(seen.len() > 20, "{said}");
    // What goes in one system call the kernel may carry through loopback as one packet (GSO), one
    // datagram behind the other.
    let mut pieces = BTreeMap::new();
    for (payload, count) in seen {
        for piece in apart(&payload, &captured) {
            *pieces.entry(piece.to_owned()).or_default() += count;
        }
    }
    let seen = pieces;
    let all = seen.keys().chain(captured.keys());
    let different: BTreeMap<&str, _> = all
        .filter(|payload| seen.get(*payload) != captured.get(*payload))
        .map(|payload| {
            let counts = (seen.get(payload), captured.get(payload));
            (&payload[..payload.len().min(60)], counts)
        })
        .collect();
    assert!(
        different.is_empty(),
        "by the kernel, by labnet: {different:#?}"
    );
}

#[test]
#[ignore = "needs tshark"]
fn a_capture_streams_into_tshark_with_words_and_none_malformed() {
    let (lab, addresses) = lab("");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.pcapng");
    let capture = capture(&lab, &file, &[]);
    walk(&addresses, "http", "task2.pdf");
    end(capture);
    let path = file.to_str().expect("UTF-8");
    // Told by their ports here: what tshark guesses of bytes it doesn't know is by chance.
    let known = [
        "-d",
        "udp.port==6767,dhcp",
        "-d",
        "udp.port==5300,dns",
        "-X",
        "lua_script:conf/wireshark/labnet.lua",
    ];
    let malformed = [&["-r", path, "-Y", "_ws.malformed"], &known[..]].concat();
    assert_eq!(tshark(&malformed), "");
    let comments = tshark(&["-r", path, "-T", "fields", "-e", "frame.comment"]);
    for part in [
        "discover: I am new",
        "answer: example.com is at",
        "SIGNACK: hello",
        "GET: please send task2.pdf",
        "200 OK: here are",
    ] {
        assert!(comments.contains(part), "{part}: {comments}");
    }
    let heads = tshark(&["-r", path, "-T", "fields", "-e", "frame.interface_name"]);
    for role in ["dhcp", "dns", "rudp", "origin"] {
        assert!(heads.lines().any(|line| line == role), "{role}: {heads}");
    }
    for protocol in ["dhcp", "dns", "http"] {
        let decoded = match protocol {
            // Not on their usual ports here.
            "dhcp" => tshark(&["-r", path, "-d", "udp.port==6767,dhcp", "-Y", protocol]),
            "dns" => tshark(&["-r", path, "-d", "udp.port==5300,dns", "-Y", protocol]),
            _ => tshark(&["-r", path, "-Y", protocol]),
        };
        assert!(decoded.lines().count() >= 2, "{protocol}: {decoded}");
    }
    // Through a pipe, as to Wireshark.
    let mut live = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args([
            "capture",
            "--url",
            &format!("http://{}/", lab.http),
            "--role",
            "dns",
            "-w",
            "-",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let reader = Command::new("tshark")
        .args(["-r", "-", "-c", "2", "-T", "fields", "-e", "frame.comment"])
        .stdin(live.stdout.take().expect("piped"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("tshark runs");
    thread::sleep(Duration::from_secs(1));
    walk(&addresses, "http", "task2.pdf");
    let output = reader.wait_with_output().expect("ends");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("query: what is example.com's IPv4 address?"),
        "{text}"
    );
    signal(live.id(), "INT");
    live.wait().expect("ends");
}

#[test]
#[ignore = "needs tshark"]
fn files_rotate_and_a_crash_writes_the_minutes_before() {
    let more = "[capture]\nfile = \"captures/lab.pcapng\"\nmax_size = \"64KiB\"\nmax_files = 3\n\
                ring = \"8MiB\"\n";
    let (lab, addresses) = lab(more);
    walk(&addresses, "rudp", "1MB.zip");
    walk(&addresses, "http", "task2.pdf");
    let folder = lab.dir().join("captures");
    let newest = folder.join("lab.pcapng");
    wait_for("three files", || {
        folder.join("lab.2.pcapng").exists().then_some(())
    });
    assert!(!folder.join("lab.3.pcapng").exists());
    for file in ["lab.1.pcapng", "lab.2.pcapng"] {
        let file = folder.join(file);
        assert!(fs::metadata(&file).expect("there").len() < 80 << 10);
        tshark(&["-r", file.to_str().expect("UTF-8")]);
    }
    assert!(newest.exists());
    // The ring, on demand.
    let ring = lab.dir().join("ring.pcapng");
    let output = labnet(&[
        "capture",
        "--url",
        &format!("http://{}/", lab.http),
        "--ring",
        "-w",
        ring.to_str().expect("UTF-8"),
    ]);
    assert!(output.status.success(), "{output:?}");
    let packets = tshark(&[
        "-r",
        ring.to_str().expect("UTF-8"),
        "-T",
        "fields",
        "-e",
        "frame.comment",
    ]);
    assert!(packets.contains("SIGNEW: hello"), "{packets}");
    // And when something crashes.
    assert_eq!(
        request(lab.http, "POST", "/api/v1/components/dns/crash").0,
        202
    );
    let crashes = lab.dir().join("state/captures");
    let crash = wait_for("the crash's file", || {
        let mut entries = fs::read_dir(&crashes).ok()?;
        entries.find_map(|entry| Some(entry.ok()?.path()))
    });
    wait_for("all of it", || {
        lab.log()
            .contains("the packets before the crash")
            .then_some(())
    });
    let packets = tshark(&[
        "-r",
        crash.to_str().expect("UTF-8"),
        "-T",
        "fields",
        "-e",
        "frame.comment",
    ]);
    assert!(packets.contains("SIGNEW: hello"), "{packets}");
}
