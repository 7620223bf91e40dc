//! Captures of a lab's own packets: of whom, for whom, and what a failure leaves.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
};

use crate::support::{Lab, Running, loopback, probe::Addresses, request, signal, wait_for};

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

/// A packet of a capture: between whom, and in which words.
#[derive(Debug)]
struct Seen {
    hosts: [Ipv4Addr; 2],
    words: String,
}

impl Seen {
    fn of(packet: &EnhancedPacketBlock<'_>) -> Self {
        // Raw IPv4: its addresses stand from the twelfth byte on.
        let address = |at: usize| {
            let bytes: [u8; 4] = packet.data[at..at + 4].try_into().expect("four");
            Ipv4Addr::from(bytes)
        };
        let words = packet.options.iter().filter_map(|option| match option {
            EnhancedPacketOption::Comment(text) => Some(Cow::clone(text)),
            _ => None,
        });
        Self {
            hosts: [address(12), address(16)],
            words: words.collect(),
        }
    }
}

/// All packets of a whole file.
fn read(file: &Path) -> Vec<Seen> {
    let bytes = fs::read(file).expect("a capture");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("pcapng");
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a whole block") {
            packets.push(Seen::of(&packet));
        }
    }
    packets
}

/// Says it, and takes the answer.
fn say(socket: &UdpSocket, signal: &str) -> String {
    let mut answer = [0; 2048];
    socket.send(signal.as_bytes()).expect("sent");
    let length = socket.recv(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// A client's socket at an address of its own.
fn client(from: Ipv4Addr, addresses: &Addresses) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).expect("loopback");
    let patience = Some(crate::support::PATIENCE);
    socket.set_read_timeout(patience).expect("a timeout");
    socket.connect(addresses.at(49152)).expect("loopback");
    socket
}

fn start(lab: &Lab, file: &Path, client: &str) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["capture", "--url", &format!("http://{}/", lab.http)])
        .args(["--client", client, "-w"])
        .arg(file)
        .stderr(Stdio::inherit())
        .spawn()
        .expect("labnet starts");
    wait_for("the capture's head", || {
        let there = fs::metadata(file).is_ok_and(|file| file.len() > 0);
        there.then_some(())
    });
    child
}

/// Ends it once it has a packet with these words.
fn end(mut child: Child, file: &Path, last: &str) -> Vec<Seen> {
    wait_for("the last packet", || {
        let bytes = fs::read(file).expect("a capture");
        let mut windows = bytes.windows(last.len());
        windows
            .any(|window| window == last.as_bytes())
            .then_some(())
    });
    signal(child.id(), "INT");
    assert!(child.wait().expect("ends").success());
    read(file)
}

#[test]
fn of_one_client_there_is_all_and_of_the_others_nothing() {
    let (lab, addresses) = lab("");
    let folder = tempfile::tempdir().expect("a folder");
    let [tal, ada, proxy] = [loopback(), loopback(), addresses.0];
    let (of_tal, of_ada) = (client(tal, &addresses), client(ada, &addresses));
    assert_eq!(say(&of_tal, "SIGNEW:Tal"), "SIGNACK");
    assert_eq!(say(&of_ada, "SIGNEW:Ada"), "SIGNACK");
    // The name counts once the session has its first numbered signal.
    say(&of_tal, "SIGNECHO:290;first");
    say(&of_ada, "SIGNECHO:263;first");
    let address = of_ada.local_addr().expect("bound").to_string();
    for (who, host, other) in [("Tal", tal, ada), (&*address, ada, tal)] {
        let file = folder.path().join("capture.pcapng");
        let _ = fs::remove_file(&file);
        let capture = start(&lab, &file, who);
        // More than signals of it: by its address a page of the origin's is asked for, too.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let from = SocketAddr::from((tal, 0));
        socket.bind(&from.into()).expect("loopback");
        socket
            .connect(&addresses.at(8080).into())
            .expect("it listens");
        let mut page = TcpStream::from(socket);
        std::io::Write::write_all(&mut page, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut page, &mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.0 200"), "an HTTP answer");
        let mut expected = BTreeMap::new();
        for n in 1..20 {
            // Repeated, so that the ids need not be counted: each is answered all the same.
            assert!(say(&of_ada, "SIGNECHO:263;first").starts_with("ECHOREPLY"));
            assert!(say(&of_tal, "SIGNECHO:290;first").starts_with("ECHOREPLY"));
            expected.insert("SIGNECHO", n);
            expected.insert("ECHOREPLY", n);
        }
        let last = format!("last-{host}");
        let (socket, id) = match who {
            "Tal" => (&of_tal, 291),
            _ => (&of_ada, 264),
        };
        say(socket, &format!("SIGNECHO:{id};{last}"));
        let packets = end(capture, &file, &format!("ECHOREPLY:{id};{last}"));
        for packet in &packets {
            assert!(packet.hosts.contains(&host), "{packet:?}");
            assert!(!packet.hosts.contains(&other), "{packet:?}");
        }
        for (word, count) in expected {
            let of_word = packets.iter().filter(|packet| packet.words.contains(word));
            // And the last one.
            assert_eq!(of_word.count(), count + 1, "{who} {word}: {packets:?}");
        }
        // A name stands for the host: HTTP of it is there. ADDRESS:PORT is that end alone.
        let http = packets.iter().filter(|packet| packet.words.contains("GET"));
        assert_eq!(http.count(), usize::from(who == "Tal"), "{packets:?}");
        assert!(packets.iter().all(|packet| packet.hosts.contains(&proxy)));
    }
    // Nobody of that name.
    let output = crate::support::labnet(&[
        "capture",
        "--url",
        &format!("http://{}/", lab.http),
        "--client",
        "Eve",
        "-w",
        "-",
    ]);
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no session has that name now"), "{said}");
}

/// `POST /api/v1/capture` with these header fields: its status.
fn ask(lab: &Lab, fields: &[&str]) -> u16 {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let mut stream = TcpStream::connect(lab.http).expect("a connection");
    let patience = Some(crate::support::PATIENCE);
    stream.set_read_timeout(patience).expect("a timeout");
    let request = format!("POST /api/v1/capture HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("sent");
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).expect("an answer");
    let head = String::from_utf8_lossy(&head).into_owned();
    let code = head.split(' ').nth(1).expect("a status");
    code.parse().expect("a number")
}

#[test]
fn packets_are_for_who_may_change_the_lab() {
    let (lab, _) = lab("");
    let host = "Host: localhost";
    assert_eq!(ask(&lab, &[host]), 200);
    assert_eq!(ask(&lab, &["Host: evil.test"]), 421);
    assert_eq!(ask(&lab, &[]), 400);
    for strange in [
        "Origin: http://evil.test",
        "Sec-Fetch-Site: cross-site",
        "X-Forwarded-For: 127.0.0.1",
        "Via: 1.1 front",
    ] {
        assert_eq!(ask(&lab, &[host, strange]), 403, "{strange}");
    }
    // It changes nothing, but is no page that a browser's prefetch or a crawler reads.
    assert_eq!(request(lab.http, "GET", "/api/v1/capture").0, 405);
    let bad = request(lab.http, "POST", "/api/v1/capture?role=nobody");
    assert_eq!(bad.0, 400, "{bad:?}");
    let none = request(lab.http, "POST", "/api/v1/capture?ring");
    assert!(none.0 == 404 && none.1.contains("ring = "), "{none:?}");

    let ip = loopback();
    let config = format!("[http]\nlisten = \"{ip}:9167\"\ntoken_file = \"token\"\n");
    let token = "correct-horse-battery-staple";
    let lab = Lab::start_with(&config, &[("token", token)], None);
    let right = format!("Authorization: Bearer {token}");
    assert_eq!(ask(&lab, &[host]), 401);
    assert_eq!(ask(&lab, &[host, "Authorization: Bearer wrong"]), 401);
    assert_eq!(ask(&lab, &[host, &right]), 200);
    assert_eq!(ask(&lab, &["Host: evil.test", &right]), 421);
}

#[test]
fn from_another_machine_packets_need_the_token() {
    // A machine without any other address than loopback's has no other machines.
    let Some(here) = own_address() else {
        return;
    };
    let config = format!("[http]\nlisten = \"{here}:0\"\n");
    let lab = Lab::start(&config);
    let host = format!("Host: {here}");
    assert_eq!(ask(&lab, &[&host]), 403);
    assert_eq!(
        request(lab.http, "GET", "/metrics").0,
        200,
        "reading is for all"
    );
}

/// An address of this machine that others could write to.
fn own_address() -> Option<Ipv4Addr> {
    // Nothing is sent: the kernel chooses the address that it would be sent from.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(here) if !here.is_loopback() => Some(here),
        _ => None,
    }
}

fn crash_files(lab: &Lab) -> BTreeSet<PathBuf> {
    let folder = fs::read_dir(lab.dir().join("state/captures"));
    let entries = folder.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_role_that_is_given_up_leaves_the_packets_before() {
    let more = "[capture]\nring = \"1MiB\"\n[supervisor]\nmax_restarts = 1\n";
    let (mut lab, addresses) = lab(more);
    let crash = |lab: &Lab| request(lab.http, "POST", "/api/v1/components/dns/crash").0;
    assert_eq!(
        say(&client(loopback(), &addresses), "SIGNEW:First"),
        "SIGNACK"
    );
    assert_eq!(crash(&lab), 202);
    wait_for("the first crash's file", || {
        let told = lab.log().contains("the packets before the crash");
        told.then_some(())
    });
    let first = crash_files(&lab);
    assert_eq!(first.len(), 1);
    wait_for("the role to be back", || {
        addresses.dns(Duration::from_secs(1)).then_some(())
    });
    assert_eq!(
        say(&client(loopback(), &addresses), "SIGNEW:Last"),
        "SIGNACK"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let ring = folder.path().join("ring.pcapng");
    wait_for("the packet in the ring", || {
        let url = format!("http://{}/", lab.http);
        let file = ring.to_str().expect("plain");
        let output = crate::support::labnet(&["capture", "--url", &url, "--ring", "-w", file]);
        assert!(output.status.success(), "{output:?}");
        let is_last = |packet: Seen| packet.words.contains("I am Last");
        read(&ring).into_iter().any(is_last).then_some(())
    });
    assert_eq!(crash(&lab), 202);
    let code = wait_for("the lab's end", || lab.exit_code());
    assert_ne!(code, 0, "{}", lab.log());
    let second = crash_files(&lab);
    let [last] = second.difference(&first).collect::<Vec<_>>()[..] else {
        panic!("{second:?}: {}", lab.log());
    };
    let words: Vec<_> = read(last).into_iter().map(|packet| packet.words).collect();
    for name in ["First", "Last"] {
        let greeting = format!("I am {name}");
        assert!(
            words.iter().any(|words| words.contains(&greeting)),
            "{words:?}"
        );
    }
}

/// What is in the folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn captures_that_cannot_be_are_refused_and_those_before_go_on() {
    let ip = loopback();
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let config = |capture: &str| format!("{http}[capture]\n{capture}\n");
    let file = "file = \"captures/lab.pcapng\"";
    let mut lab = Lab::start_with(&config(file), &[("plain", "")], None);
    let folder = lab.dir().join("captures");
    let begun = || (names(&folder) == ["lab.pcapng"]).then_some(());
    wait_for("the first file", begun);
    let generation = |lab: &Lab| lab.json("/api/v1/status")["generation"].clone();
    wait_for("the lab to begin", || (generation(&lab) == 1).then_some(()));
    for (mistake, why) in [
        ("file = \"plain/lab.pcapng\"", "plain/lab.pcapng: "),
        ("file = \"captures\"", "no ordinary file"),
    ] {
        fs::write(lab.config(), config(mistake)).expect("written");
        for path in ["/-/reload?dry_run", "/-/reload"] {
            let (code, said) = lab.post(path);
            assert_eq!(code, 400, "{said}");
            assert!(
                said.contains("capture.file: ") && said.contains(why),
                "{said}"
            );
        }
    }
    assert_eq!(generation(&lab), 1);
    let more = format!("{file}\nmax_size = \"1MiB\"");
    fs::write(lab.config(), config(&more)).expect("written");
    assert_eq!(lab.post("/-/reload?dry_run").0, 200);
    // The thread that was to write goes with what it was given, a moment after the answer.
    wait_for("nothing to be left behind, and nothing moved", begun);
    let (code, said) = lab.post("/-/reload");
    assert_eq!(code, 200, "{said}");
    wait_for("the second file", || {
        (names(&folder) == ["lab.1.pcapng", "lab.pcapng"]).then_some(())
    });
    assert_eq!(lab.terminate(), Some(0));
    // The first went on until it was taken off, through all that was refused.
    let asked = |file: &str| {
        let packets = read(&folder.join(file)).into_iter();
        let asked = packets.filter(|packet| packet.words.contains("/-/reload"));
        asked.count()
    };
    assert_eq!(asked("lab.1.pcapng"), 6);
    assert_eq!(asked("lab.pcapng"), 0);
}

#[test]
fn a_lab_whose_capture_cannot_be_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("labnet.toml");
    let text = format!(
        "[http]\nlisten = \"{}:9167\"\n[capture]\nfile = \"labnet.toml/lab.pcapng\"\n",
        loopback()
    );
    fs::write(&config, text).expect("written");
    let config = config.to_str().expect("plain");
    let mut serving = Running::start(env!("CARGO_BIN_EXE_labnet"), &["serve", "-c", config]);
    let status = wait_for("its end", || serving.0.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(1));
}
