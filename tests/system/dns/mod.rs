//! The DNS server as others see it: dig's questions to a running lab, and the same zone in NSD.

mod nsd;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
};

use hickory_proto::{op::Message, rr::RecordType as T};
use labnet::dns::Name;

use crate::support::{Lab, PATIENCE, loopback, wait_for};

const ZONE: &str = include_str!("../../zones/lab.test.zone");

/// A lab with the test zone alone, and where its DNS server is.
fn lab() -> (Lab, SocketAddr) {
    let ip = loopback();
    let config = format!(
        "[dns]\nlisten = [\"{ip}:5300\"]\n[[dns.zone]]\nname = \"lab.test.\"\nfile = \"lab.test.zone\"\n"
    );
    let lab = Lab::start_with(&config, &[("lab.test.zone", ZONE)], None);
    let server = lab.address("dns", "udp");
    assert_eq!(server, SocketAddr::from((ip, 5300)));
    (lab, server)
}

/// What dig prints. The server is asked once: no answer fails the test.
#[track_caller]
fn dig(server: SocketAddr, arguments: &str) -> String {
    let output = Command::new("dig")
        .args([
            &format!("@{}", server.ip()),
            "-p",
            &server.port().to_string(),
        ])
        .args(["+tries=1", "+time=30", "+nocookie", "+noidnin", "+noidnout"])
        .args(arguments.split(' '))
        .output()
        .expect("dig runs (tests/run installs it)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "dig {arguments}: {text}");
    text
}

#[test]
#[ignore = "needs dig (bind9-dnsutils)"]
fn dig_reads_every_type_over_udp_and_tcp() {
    let (lab, server) = lab();
    for (question, answers) in [
        ("web.lab.test A", &["192.0.2.80", "192.0.2.81"][..]),
        ("web.lab.test AAAA", &["2001:db8::80"]),
        ("www.lab.test CNAME", &["web.lab.test."]),
        (
            "www.lab.test A",
            &["web.lab.test.", "192.0.2.80", "192.0.2.81"],
        ),
        (
            "lab.test MX",
            &[
                "10 mail.lab.test.",
                "20 mail2.lab.test.",
                "30 mx.elsewhere.test.",
            ],
        ),
        ("lab.test TXT", &["\"v=spf1 -all\" \"second; string\""]),
        ("lab.test NS", &["ns1.lab.test.", "ns2.elsewhere.test."]),
        (
            "lab.test SOA",
            &["ns1.lab.test. host\\.master.lab.test. 2026112201 3600 600 604800 300"],
        ),
        ("1.lab.test PTR", &["web.lab.test."]),
        (
            "_sip._udp.lab.test SRV",
            &["1 2 5060 web.lab.test.", "1 3 5061 web.lab.test."],
        ),
        ("lab.test CAA", &["0 issue \"ca.example\""]),
        ("rare.lab.test HINFO", &["\"PC\" \"Linux\""]),
        ("rare.lab.test RP", &["admin.lab.test. text.lab.test."]),
        ("rare.lab.test AFSDB", &["1 web.lab.test."]),
        (
            "rare.lab.test NAPTR",
            &["10 20 \"u\" \"E2U+sip\" \"!^.*$!sip:a@lab.test!\" ."],
        ),
        ("rare.lab.test KX", &["10 web.lab.test."]),
        (
            "rare.lab.test SSHFP",
            &["1 1 0123456789ABCDEF0123456789ABCDEF01234567"],
        ),
        (
            "rare.lab.test TLSA",
            &["3 1 1 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567 89ABCDEF"],
        ),
        ("rare.lab.test URI", &["10 1 \"http://lab.test/\""]),
        ("rare.lab.test TYPE65280", &["\\# 4 DEADBEEF"]),
        (
            "sub.lab.test DS",
            &["12345 8 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567 89ABCDEF"],
        ),
        ("x.wild.lab.test A", &["192.0.2.42"]),
        ("text.lab.test A", &[]),
        ("nothing.lab.test A", &[]),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let text = dig(server, &format!("+short {transport} {question}"));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines, answers, "{question} {transport}");
        }
    }
    // TC makes dig ask again over TCP.
    let text = dig(server, "+noedns huge.lab.test TXT");
    assert!(text.contains("Truncated, retrying in TCP mode"), "{text}");
    assert!(text.contains("ANSWER: 6"), "{text}");
    assert_eq!(lab.metric("labnet_dns_truncated_total"), 1.0);
    // Delegation as `dig +trace` would see it.
    let text = dig(server, "+norec host.sub.lab.test A");
    assert!(
        text.contains("flags: qr; QUERY: 1, ANSWER: 0, AUTHORITY: 4, ADDITIONAL: 6"),
        "{text}"
    );
    let queries = |rtype, transport| {
        lab.metric(&format!(
            "labnet_dns_queries_total{{transport=\"{transport}\",type=\"{rtype}\"}}"
        ))
    };
    assert_eq!((queries("mx", "udp"), queries("mx", "tcp")), (1.0, 1.0));
    assert_eq!(
        lab.metric("labnet_dns_responses_total{rcode=\"nxdomain\"}"),
        2.0
    );
}

/// RFC 8906 section 8, as its authors run it.
#[test]
#[ignore = "needs dig (bind9-dnsutils)"]
fn the_server_passes_the_tests_of_rfc_8906() {
    let (_lab, server) = lab();
    let soa = "lab.test.\t\t3600\tIN\tSOA";
    let opt = "EDNS: version: 0";
    for (section, question, present, absent) in [
        (
            "8.1.1",
            "+noedns +noad +norec soa",
            &["NOERROR", "flags: qr aa;", soa][..],
            &[opt][..],
        ),
        (
            "8.1.2",
            "+noedns +noad +norec type1000",
            &["NOERROR", "flags: qr aa;", "ANSWER: 0"],
            &[opt],
        ),
        (
            "8.1.3.1",
            "+noedns +noad +norec +cd soa",
            &["NOERROR", "flags: qr aa", soa],
            &[opt],
        ),
        (
            "8.1.3.2",
            "+noedns +ad +norec soa",
            &["NOERROR", "flags: qr aa;", soa],
            &[opt],
        ),
        (
            "8.1.3.3",
            "+noedns +noad +norec +zflag soa",
            &["NOERROR", "flags: qr aa;", soa],
            &["MBZ", opt],
        ),
        (
            "8.1.3.4",
            "+noedns +noad +rec soa",
            &["NOERROR", "flags: qr aa rd;", soa],
            &[" ra", opt],
        ),
        (
            "8.1.4",
            "+noedns +noad +opcode=15 +norec +header-only",
            &["NOTIMP", "flags: qr;"],
            &[soa, opt],
        ),
        (
            "8.1.5",
            "+noedns +noad +norec +tcp soa",
            &["NOERROR", "flags: qr aa;", soa],
            &[opt],
        ),
        (
            "8.2.1",
            "+edns=0 +noad +norec soa",
            &["NOERROR", "flags: qr aa;", soa, opt],
            &[],
        ),
        (
            "8.2.2",
            "+edns=1 +noednsneg +noad +norec soa",
            &["BADVERS", "flags: qr;", opt],
            &[soa],
        ),
        (
            "8.2.3",
            "+edns=0 +noad +norec +ednsopt=100 soa",
            &["NOERROR", "flags: qr aa;", soa, opt],
            &["OPT=100"],
        ),
        (
            "8.2.4",
            "+edns=0 +noad +norec +ednsflags=0x40 soa",
            &["NOERROR", "flags: qr aa;", soa, opt],
            &["MBZ"],
        ),
        (
            "8.2.5",
            "+edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa",
            &["BADVERS", "flags: qr;", opt],
            &[soa, "MBZ"],
        ),
        (
            "8.2.6",
            "+edns=1 +noednsneg +noad +norec +ednsopt=100 soa",
            &["BADVERS", "flags: qr;", opt],
            &[soa, "OPT=100"],
        ),
        (
            "8.2.7",
            "+edns=0 +noad +norec +dnssec soa",
            &["NOERROR", "flags: qr aa;", "flags: do;", soa, opt],
            &[],
        ),
        (
            "8.2.8",
            "+edns=0 +noad +norec +dnssec +bufsize=512 +ignore txt",
            &["NOERROR", opt],
            &[],
        ),
        (
            "8.2.9",
            "+edns=0 +noad +norec +dnssec +tcp soa",
            &["NOERROR", "flags: qr aa;", soa, opt],
            &[],
        ),
        (
            "8.2.10",
            "+edns=0 +noad +norec +ednsopt=3 +ednsopt=8:00010000 +ednsopt=9 +ednsopt=10:0102030405060708 soa",
            &["NOERROR", "flags: qr aa;", soa, opt],
            &[],
        ),
    ] {
        let text = dig(server, &format!("{question} lab.test"));
        for part in present {
            assert!(text.contains(part), "{section}: {part} in\n{text}");
        }
        for part in absent {
            assert!(!text.contains(part), "{section}: no {part} in\n{text}");
        }
    }
}

#[test]
#[ignore = "needs dig (bind9-dnsutils)"]
fn connections_and_zones_follow_the_actor() {
    let (lab, server) = lab();
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let question = question("web.lab.test", T::A);
    let asked = exchange_on(&mut stream, &question);
    assert_eq!(asked.answers.len(), 2);
    assert_eq!(lab.metric("labnet_dns_tcp_connections"), 1.0);
    assert_eq!(lab.post("/api/v1/components/dns/crash").0, 202);
    // The crash ends its connections, not its sockets.
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(udp(server, &question).answers.len(), 2);
    wait_for("the count", || {
        (lab.metric("labnet_dns_tcp_connections") == 0.0).then_some(())
    });
    // A zone file that changed is read again, a broken one refused with its line.
    let file = lab.dir().join("lab.test.zone");
    fs::write(&file, format!("{ZONE}\n$ORIGIN lab.test.\nnew A 192.0.2\n")).expect("a file");
    let (code, body) = lab.post("/-/reload");
    let line = ZONE.lines().count() + 3;
    assert_eq!(code, 400, "{body}");
    assert!(body.contains(&format!("lab.test.zone:{line}: ")), "{body}");
    assert_eq!(dig(server, "+short web.lab.test AAAA"), "2001:db8::80\n");
    fs::write(
        &file,
        format!("{ZONE}\n$ORIGIN lab.test.\nnew A 192.0.2.77\n"),
    )
    .expect("a file");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 200, "{body}");
    wait_for("the new zone", || {
        (dig(server, "+short new.lab.test A") == "192.0.2.77\n").then_some(())
    });
}

fn question(name: &str, rtype: T) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(name.parse::<Name>().expect("a name").as_wire());
    message.extend(u16::from(rtype).to_be_bytes());
    message.extend([0, 1]);
    message
}

fn with_edns(mut message: Vec<u8>, payload: u16) -> Vec<u8> {
    message[11] = 1;
    message.extend([0, 0, 41]);
    message.extend(payload.to_be_bytes());
    message.extend([0; 6]);
    message
}

fn udp(server: SocketAddr, message: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(server).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send(message).expect("sent");
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).expect("an answer");
    Message::from_vec(&answer[..length]).expect("a message")
}

fn exchange_on(stream: &mut TcpStream, message: &[u8]) -> Message {
    let length = u16::try_from(message.len()).expect("short");
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("an answer");
    Message::from_vec(&answer).expect("a message")
}
