//! Servers that misbehave: the real cores with a tongue of their own.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use labnet::rudp::{
    connection::{
        Admission, Arrival, Config, Connection, Event, Read, StreamEvent, StreamId, Streams,
    },
    listener::{Listener, Shard, Welcome},
    packet::{ErrorCode, Header, PacketType, Protection},
};

use super::{bad, client, folder, good, stderr};
use crate::support::loopback;

/// What a hostile server says to a question.
enum Say {
    /// This, and then the end.
    All(Vec<u8>),
    /// This, over and over.
    ForEver(&'static [u8], &'static [u8]),
    /// This, and then the stream is given up.
    GivenUp(Vec<u8>),
}

/// A server of the transport in the test's own process: the real cores, and a tongue of its own.
struct Hostile {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Hostile {
    fn start(say: impl Fn(&str) -> Say + Send + 'static) -> Self {
        let socket = UdpSocket::bind((loopback(), 0)).expect("a socket");
        let address = socket.local_addr().expect("one");
        let patience = Duration::from_millis(2);
        socket.set_read_timeout(Some(patience)).expect("set");
        let done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let mut server = Server::new(socket);
                while !done.load(Ordering::Relaxed) {
                    server.turn(&say);
                }
            }
        });
        Self {
            address,
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

struct Server {
    socket: UdpSocket,
    listener: Listener,
    connection: Option<Connection>,
    endless: BTreeMap<StreamId, &'static [u8]>,
}

impl Server {
    fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            listener: Listener::new(&[1; 32], &Protection::Checksum, Shard::ONLY, 1),
            connection: None,
            endless: BTreeMap::new(),
        }
    }

    fn turn(&mut self, say: &impl Fn(&str) -> Say) {
        let mut buffer = [0; 2000];
        if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.receive(&mut buffer[..length], from);
        }
        let now = Instant::now();
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_event() {
            let Event::Stream(StreamEvent::Opened(id) | StreamEvent::Readable(id)) = event else {
                continue;
            };
            while let Ok(Read::Data(line)) = connection.read(id, 4000) {
                let line = String::from_utf8(line.to_vec()).expect("text");
                match say(line.trim_end()) {
                    Say::All(text) => {
                        connection.write(id, text.into()).expect("open");
                        connection.finish(id).expect("open");
                    }
                    Say::ForEver(head, again) => {
                        let head = Bytes::from_static(head);
                        connection.write(id, head).expect("open");
                        self.endless.insert(id, again);
                    }
                    Say::GivenUp(text) => {
                        connection.write(id, text.into()).expect("open");
                        connection
                            .reset(id, ErrorCode::SOURCE_FAILED)
                            .expect("open");
                    }
                }
            }
        }
        self.endless.retain(|id, again| {
            while connection.unsent(*id) < Streams::LOW {
                let more = Bytes::from(again.repeat(1000));
                if connection.write(*id, more).is_err() {
                    return false;
                }
            }
            true
        });
        let mut out = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, &mut out, 1) {
            let _ = self.socket.send_to(&out, transmit.remote);
            out.clear();
        }
        if connection.is_over() {
            self.connection = None;
        }
    }

    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) {
        let Ok(header) = Header::parse(datagram) else {
            return;
        };
        let arrival = Arrival {
            remote: from,
            local: None,
            ecn: None,
        };
        let now = Instant::now();
        if header.packet != PacketType::Hello {
            if let Some(connection) = &mut self.connection {
                connection.handle_datagram(&arrival, datagram, now);
            }
            return;
        }
        let mut reply = Vec::new();
        let version = header.version.expect("a HELLO has one");
        match self
            .listener
            .handle_hello(version, datagram, from, 1, &mut reply)
        {
            Welcome::Reply(_) => {
                self.socket.send_to(&reply, from).expect("sent");
            }
            Welcome::Admit(hello) => {
                let credentials = self.listener.credentials(|_| false);
                let admission = Admission {
                    hello: &hello,
                    arrival,
                    cid: credentials.cid,
                    nonce: credentials.nonce,
                    reset_token: credentials.reset_token,
                };
                let config = Arc::new(Config::default());
                let connection = Connection::accept(config, &admission, 1, now);
                self.connection = Some(connection);
            }
            Welcome::Drop(reason) => panic!("{reason:?}"),
        }
    }
}

/// LIST is answered well; whatever else, so.
fn hostile(say: impl Fn(&str) -> Say + Send + 'static) -> Hostile {
    Hostile::start(move |question| match question {
        "LIST" => Say::All(b"OK 0 5 5 -\nfile\n".to_vec()),
        "STAT" => Say::All(b"OK 0 2 2 -\nx\n".to_vec()),
        other => say(other),
    })
}

#[test]
fn answers_that_make_no_sense_end_the_question_and_not_the_client() {
    for (answer, said) in [
        (
            "SSH-2.0\n",
            "the proxy's answer makes no sense: its first word is unknown",
        ),
        ("OK 0 9 3 -\n", "its numbers contradict each other"),
        ("OK 0 3 3 -\nabcd", "longer than it may be"),
        ("OK 4 3 7 -\nabc", "the server's answer makes no sense"),
        (
            "ERROR not_found \u{202e}gone\n",
            "the proxy has no such file (not_found: \u{fffd}gone)",
        ),
        ("ERROR refused\n", "the proxy refuses (refused)"),
    ] {
        let server = hostile(move |_| Say::All(answer.as_bytes().to_vec()));
        let out = folder();
        let began = Instant::now();
        let output = client(server.address, out.path(), &["get", "file"]);
        let told = bad(&output);
        assert!(told.contains(said), "{said}: {told}");
        assert!(!out.path().join("file").exists());
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let forever = hostile(|_| Say::ForEver(b"OK", b"x"));
    let out = folder();
    let told = bad(&client(forever.address, out.path(), &["get", "file"]));
    assert!(told.contains("makes no sense: it is too long"), "{told}");
    let told = bad(&client(forever.address, out.path(), &["echo", "-n", "1"]));
    assert!(told.contains("makes no sense: it is too long"), "{told}");
}

#[test]
fn a_list_without_end_is_not_read_to_its_end() {
    let server = Hostile::start(|_| Say::ForEver(b"OK 0 - - -\n", b"file\n"));
    let out = folder();
    let told = bad(&client(server.address, out.path(), &["list"]));
    assert!(told.contains("longer than it may be"), "{told}");
}

#[test]
fn a_body_that_breaks_off_is_asked_for_again_and_given_up_in_the_end() {
    let server = hostile(|question| {
        let asked = question.strip_prefix("GET file ").expect("a file");
        let first = asked.split(' ').next().expect("a range");
        match first.parse().expect("a number") {
            0 => Say::GivenUp(b"OK 0 10 10 v\nabcd".to_vec()),
            first => {
                assert_eq!(asked, format!("{first} v"));
                let rest = &b"abcdefghij"[first..];
                let head = format!("OK {first} {} 10 v\n", rest.len());
                // A reset may overtake what was sent before it.
                Say::All([head.as_bytes(), rest].concat())
            }
        }
    });
    let out = folder();
    let output = client(server.address, out.path(), &["get", "file"]);
    if output.status.success() {
        assert_eq!(
            fs::read(out.path().join("file")).expect("there"),
            b"abcdefghij"
        );
    } else {
        assert!(bad(&output).contains("source_failed"));
    }
    let short = hostile(|_| Say::All(b"OK 0 10 10 -\nabcd".to_vec()));
    let out = folder();
    let told = bad(&client(short.address, out.path(), &["get", "file"]));
    assert!(
        told.contains("interrupted after 4 B of 10 B: the proxy's answer ends 6 bytes too early"),
        "{told}"
    );
    assert_eq!(told.matches("again in").count(), 5, "{told}");
}

#[test]
fn a_wrong_digest_leaves_nothing_behind_and_a_missing_one_is_said() {
    let zeros = "0".repeat(64);
    let head = format!("OK 0 3 3 - {zeros}\nabc");
    let wrong = hostile(move |_| Say::All(head.as_bytes().to_vec()));
    let out = folder();
    let told = bad(&client(wrong.address, out.path(), &["get", "file"]));
    assert!(told.contains("SHA-256 ba7816bf"), "{told}");
    assert_eq!(fs::read_dir(out.path()).expect("there").count(), 0);
    let none = hostile(|_| Say::All(b"OK 0 3 3 -\nabc".to_vec()));
    let output = client(none.address, out.path(), &["get", "file"]);
    assert!(good(&output).starts_with("ba7816bf"));
    assert!(
        stderr(&output).contains("no digest to compare with), SHA-256 ba7816bf"),
        "{}",
        stderr(&output)
    );
}
