//! labnet under a service manager: readiness, sockets that are passed to it, and sockets that are
//! kept for it while it does not run.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
};

use crate::support::{PATIENCE, service_manager::Manager, signal};

/// A question for example.com's address.
fn question() -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(b"\x07example\x03com\0\0\x01\0\x01");
    packet
}

fn answered(client: &UdpSocket) -> bool {
    let mut answer = [0; 512];
    let length = client.recv(&mut answer).expect("an answer");
    length > 12 && answer[..2] == [0x12, 0x34] && answer[7] == 1
}

#[test]
fn what_comes_while_it_does_not_run_is_answered_by_the_next_start() {
    let mut manager = Manager::new();
    manager.configure(true, 3);
    manager.start(&[]);
    let mut names: Vec<String> = (0..3).map(|n| manager.name("udp", 49152, n)).collect();
    names.push(manager.name("udp", 5300, 0));
    names.push(manager.name("tcp", 5300, 0));
    names.push(manager.name("tcp", 9167, 0));
    names.sort();
    assert_eq!(manager.stored(), names, "kept by the time that it is ready");

    for _ in 0..3 {
        manager.kill();
        let asker = manager.client();
        asker
            .send_to(&question(), (manager.ip, 5300))
            .expect("sent");
        // Many, so that each of the group's sockets has some.
        let students: Vec<UdpSocket> = (0..20)
            .map(|_| {
                let student = manager.client();
                student
                    .send_to(b"SIGNEW:Tal", (manager.ip, 49152))
                    .expect("sent");
                student
            })
            .collect();
        let mut page = TcpStream::connect(manager.http()).expect("the kernel accepts");
        page.set_read_timeout(Some(PATIENCE)).expect("a time");
        write!(
            page,
            "GET /-/healthy HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            manager.http()
        )
        .expect("sent");

        manager.start(&[]);
        assert!(answered(&asker));
        for student in students {
            let mut answer = [0; 64];
            let length = student.recv(&mut answer).expect("an answer");
            assert_eq!(&answer[..length], b"SIGNACK");
        }
        let mut answer = String::new();
        page.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(manager.stored(), names, "each of them once");
    }
}

#[test]
fn what_is_not_configured_any_more_is_not_kept_either() {
    let mut manager = Manager::new();
    manager.configure(true, 1);
    manager.start(&[]);
    let (udp, tcp) = (manager.name("udp", 5300, 0), manager.name("tcp", 5300, 0));
    for _ in 0..3 {
        manager.configure(false, 1);
        manager.reload();
        manager.wait("the sockets of DNS are given back", |heard| {
            heard
                .store
                .iter()
                .all(|(name, _)| *name != udp && *name != tcp)
        });
        // Nobody holds the port now.
        drop(UdpSocket::bind((manager.ip, 5300)).expect("a free port"));
        drop(TcpListener::bind((manager.ip, 5300)).expect("a free port"));
        manager.configure(true, 1);
        manager.reload();
        manager.wait("they are kept again", |heard| {
            heard
                .store
                .iter()
                .filter(|(name, _)| *name == udp || *name == tcp)
                .count()
                == 2
        });
    }
    // Back at once, before anybody has looked at what is used: the copy in the store gives way.
    manager.configure(false, 1);
    manager.reload();
    manager.configure(true, 1);
    manager.reload();
    let asker = manager.client();
    asker
        .send_to(&question(), (manager.ip, 5300))
        .expect("sent");
    assert!(answered(&asker));

    // Not configured at the next start, and with another number of sockets.
    manager.kill();
    manager.configure(false, 2);
    manager.start(&[]);
    let expected = [
        manager.name("tcp", 9167, 0),
        manager.name("udp", 49152, 0),
        manager.name("udp", 49152, 1),
    ];
    manager.wait("only what is used is kept", |heard| heard.store.len() == 3);
    assert_eq!(manager.stored(), expected);
    manager.kill();
    manager.configure(false, 3);
    manager.start(&[]);
    manager.wait("all three are kept", |heard| heard.store.len() == 4);
    let student = manager.client();
    student
        .send_to(b"SIGNEW:Tal", (manager.ip, 49152))
        .expect("sent");
    student.recv(&mut [0; 64]).expect("an answer");
}

#[test]
fn sockets_of_a_unit_are_served_and_left_to_the_unit() {
    let mut manager = Manager::new();
    manager.configure(true, 1);
    let udp = UdpSocket::bind((manager.ip, 5300)).expect("loopback");
    let tcp = TcpListener::bind((manager.ip, 5300)).expect("loopback");
    let stray = UdpSocket::bind((manager.ip, 0)).expect("loopback");
    let nonsense = fs::File::open("/dev/null").expect("there");
    let asker = manager.client();
    asker
        .send_to(&question(), (manager.ip, 5300))
        .expect("sent");
    manager.start(&[
        ("dns", udp.as_fd()),
        ("dns", tcp.as_fd()),
        ("stray", stray.as_fd()),
        ("nonsense", nonsense.as_fd()),
    ]);
    assert!(answered(&asker), "what came before it was started");
    let mut stream = TcpStream::connect((manager.ip, 5300)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let question = question();
    let length = u16::try_from(question.len()).expect("short");
    stream.write_all(&length.to_be_bytes()).expect("sent");
    stream.write_all(&question).expect("sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[2..], [0x12, 0x34]);
    let expected = [manager.name("tcp", 9167, 0), manager.name("udp", 49152, 0)];
    assert_eq!(manager.stored(), expected);
    let log = fs::read_to_string(manager.dir.path().join("log")).expect("a log");
    assert!(log.contains("no use for the socket"), "{log}");
    assert!(log.contains("nonsense"), "{log}");
}

#[test]
fn the_end_is_told_and_gives_nothing_away() {
    let mut manager = Manager::new();
    manager.configure(true, 1);
    manager.start(&[]);
    let stored = manager.stored();
    let mut labnet = manager.labnet.take().expect("it runs");
    signal(labnet.id(), "TERM");
    assert!(labnet.wait().expect("it ends").success());
    assert_eq!(manager.stored(), stored, "a restart goes on with them");
}
