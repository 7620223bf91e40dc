//! Files over HTTP, after they went: who had which, and how much of it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::{Lab, PATIENCE, labnet, loopback, probe::Addresses, wait_for};

const MB: u64 = 1_000_000;

fn lab() -> (Lab, Addresses) {
    let addresses = Addresses(loopback());
    let ip = addresses.0;
    let samples = "[\"1MB.zip\", \"50MB.zip\"]";
    // A client that is slow is no reason to close its connection.
    let origin = format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = {samples}\nrequest_timeout = \"10m\"\n"
    );
    let config = addresses.config(&format!("http://{ip}:8080/"), &origin);
    let zone = addresses.zone();
    let lab = Lab::start_with(&config, &[("example.com.zone", &zone)], None);
    wait_for("the file list", || addresses.scrap(Duration::from_secs(1)));
    (lab, addresses)
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((from, 0));
    socket.bind(&from.into()).expect("a loopback address");
    socket.connect(&to.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Asks for a file and reads the answer's head; what of the body came with it.
fn ask(stream: &mut TcpStream, file: &str, more: &str) -> u64 {
    let request = format!("GET /{file} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 20"), "an answer");
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).expect("a length");
    let length = length.split("\r\n").next().expect("its line");
    length.parse().expect("a number")
}

fn read(stream: &mut TcpStream, bytes: u64) {
    let mut body = stream.take(bytes);
    let read = std::io::copy(&mut body, &mut std::io::sink()).expect("read");
    assert_eq!(read, bytes);
}

/// Those that are over, the last first, once there are so many.
#[track_caller]
fn ended(lab: &Lab, count: usize) -> Vec<Value> {
    wait_for("the transfers to be told", || {
        let all = lab.json("/api/v1/sessions?ended");
        let all = all.as_array().expect("a list").iter();
        let http: Vec<_> = all.filter(|one| one["kind"] == "http").cloned().collect();
        let settled = http.iter().all(|one| one["how"] != "arriving");
        (http.len() == count && settled).then_some(http)
    })
}

#[test]
fn each_file_is_told_with_what_its_client_has_of_it() {
    let (lab, addresses) = lab();
    let origin = addresses.at(8080);
    let [one, other, third] = [loopback(), loopback(), loopback()];
    // Over one connection: a whole file, a part of one, and a whole one again.
    let mut stream = connect_from(one, origin);
    let client = stream.local_addr().expect("bound").to_string();
    for (more, length) in [("", MB), ("Range: bytes=10-19\r\n", 10), ("", MB)] {
        let told = ask(&mut stream, "1MB.zip", more);
        assert_eq!(told, length);
        read(&mut stream, told);
    }
    let all = ended(&lab, 3);
    for (told, length) in all.iter().zip([MB, 10, MB]) {
        assert_eq!(told["client"], client, "{told}");
        assert_eq!(
            (&told["file"], &told["how"]),
            (&"1MB.zip".into(), &"end".into())
        );
        assert_eq!(told["length_bytes"], length, "{told}");
        assert_eq!(told["bytes_sent"], length, "{told}");
        // Each counts its own: the answer to ten bytes takes few segments. A client that is slow to acknowledge
        // is probed, with a segment sent again.
        let count = |key: &str| told[key].as_u64().expect("a number");
        let (segments, again) = (count("segments_sent"), count("segments_retransmitted"));
        assert!(again < segments, "{told}");
        assert_eq!(segments - again > 10, length == MB, "{told}");
        assert!(
            told["congestion"]
                .as_str()
                .is_some_and(|name| !name.is_empty())
        );
    }
    drop(stream);
    // One that goes away in the middle, with a reset: some of what its kernel had taken was never read.
    let mut stream = connect_from(other, origin);
    let length = ask(&mut stream, "50MB.zip", "");
    read(&mut stream, 3 * MB);
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    drop(stream);
    let told = &ended(&lab, 4)[0];
    assert_eq!(
        (&told["how"], &told["length_bytes"]),
        (&"broken_off".into(), &length.into())
    );
    let sent = told["bytes_sent"].as_u64().expect("a number");
    assert!((3 * MB..length).contains(&sent), "{told}");
    // One that stops reading: what the kernel holds has not arrived, and that is seen, too.
    let mut stream = connect_from(third, origin);
    socket2::SockRef::from(&stream)
        .set_recv_buffer_size(32 << 10)
        .expect("a socket");
    ask(&mut stream, "1MB.zip", "");
    let arriving = wait_for("the kernel to have it all", || {
        let all = lab.json("/api/v1/sessions?ended");
        let told = all.as_array()?.first()?.clone();
        (told["how"] == "arriving").then_some(told)
    });
    let sent = arriving["bytes_sent"].as_u64().expect("a number");
    assert!(sent < MB, "{arriving}");
    read(&mut stream, MB);
    let told = &ended(&lab, 5)[0];
    assert_eq!(
        (&told["how"], &told["bytes_sent"]),
        (&"end".into(), &MB.into()),
        "{told}"
    );
    // As people read it.
    let shown = labnet(&[
        "sessions",
        "--ended",
        "--url",
        &format!("http://{}/", lab.http),
    ]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    for part in ["FILE", "RESENT", "50MB.zip", "broken off", &*client] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_file_is_of_the_client_that_its_host_is_known_as() {
    let (lab, addresses) = lab();
    let host = loopback();
    let socket = UdpSocket::bind((host, 0)).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect(addresses.at(49152)).expect("loopback");
    let mut answer = [0; 100];
    for signal in ["SIGNEW:Tal", "SIGNECHO:290;1"] {
        socket.send(signal.as_bytes()).expect("sent");
        socket.recv(&mut answer).expect("an answer");
    }
    for from in [host, loopback()] {
        let mut stream = connect_from(from, addresses.at(8080));
        let length = ask(&mut stream, "1MB.zip", "");
        read(&mut stream, length);
    }
    socket.send(b"SIGNEND:291;SIGNEND").expect("sent");
    socket.recv(&mut answer).expect("an answer");
    let all = ended(&lab, 2);
    let names: Vec<_> = all.iter().map(|told| told["name"].clone()).collect();
    assert_eq!(names, ["", "Tal"], "{all:?}");
}
