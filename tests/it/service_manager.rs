//! labnet under a service manager: readiness, sockets that are passed to it, and sockets that are
//! kept for it while it does not run. systemd does not run as a test, so a stand-in speaks its side of
//! sd_notify(3), sd_listen_fds(3) and sd_pid_notify_with_fds(3), over a real socket and with real
//! descriptors.

use std::{
    fs,
    io::{IoSliceMut, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::support::{PATIENCE, loopback, request, signal, wait_for};

/// What the service manager has heard and keeps.
#[derive(Default)]
struct Heard {
    ready: usize,
    store: Vec<(String, OwnedFd)>,
}

impl Heard {
    fn take(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let name = value("FDNAME=").unwrap_or("stored");
        if value("FDSTORE=1").is_some() {
            assert!(!name.contains(':') && name.len() <= 255, "{name}");
            self.store
                .extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        } else if value("FDSTOREREMOVE=1").is_some() {
            self.store.retain(|(known, _)| known != name);
        } else if value("READY=1").is_some() {
            self.ready += 1;
        }
        // A barrier's descriptor is closed here, with everything before it done.
    }
}

/// A stand-in for systemd with one service.
struct Manager {
    dir: tempfile::TempDir,
    heard: Arc<Mutex<Heard>>,
    ip: Ipv4Addr,
    labnet: Option<Child>,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = Arc::downgrade(&heard);
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a time");
        thread::spawn(move || {
            while let Some(heard) = hears.upgrade() {
                if let Some((text, fds)) = receive(&socket) {
                    heard.lock().expect("not poisoned").take(&text, fds);
                }
            }
        });
        Self {
            dir,
            heard,
            ip: loopback(),
            labnet: None,
        }
    }

    fn http(&self) -> SocketAddr {
        (self.ip, 9167).into()
    }

    /// Writes the configuration: its DNS, if it has one, and the number of the proxy's sockets.
    fn configure(&self, dns: bool, shards: usize) {
        let ip = self.ip;
        let zone = "$ORIGIN example.com.\n$TTL 60\n@ SOA ns h 1 1 1 1 1\n@ NS ns\n@ A 127.0.0.10\n\
                    ns A 127.0.0.1\n";
        fs::write(self.dir.path().join("example.com.zone"), zone).expect("a file");
        let mut text = format!(
            "[http]\nlisten = \"{ip}:9167\"\n[rudp]\nlisten = \"{ip}:49152\"\nshards = {shards}\n"
        );
        if dns {
            text += &format!(
                "[dns]\nlisten = [\"{ip}:5300\"]\n[[dns.zone]]\nname = \"example.com.\"\nfile = \
                 \"example.com.zone\"\n"
            );
        }
        fs::write(self.dir.path().join("labnet.toml"), text).expect("a file");
    }

    /// Starts labnet with what is kept, after the sockets of units (name, socket).
    fn start(&mut self, units: &[(&str, BorrowedFd<'_>)]) {
        let heard = self.heard.lock().expect("not poisoned");
        let before = heard.ready;
        let stored = heard.store.iter().map(|(name, fd)| (&**name, fd.as_fd()));
        let passed: Vec<(&str, BorrowedFd<'_>)> = units.iter().copied().chain(stored).collect();
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let fds: Vec<RawFd> = passed.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        let mut command = Command::new("/bin/sh");
        command
            // The id of the process that will be labnet: exec keeps it.
            .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""])
            .args([env!("CARGO_BIN_EXE_labnet"), "serve", "-c"])
            .arg(self.dir.path().join("labnet.toml"))
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("LISTEN_FDS", fds.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stderr(fs::File::create(self.dir.path().join("log")).expect("a file"))
            .stdin(Stdio::null());
        pass(&mut command, fds);
        self.labnet = Some(command.spawn().expect("sh starts"));
        drop(heard);
        self.wait("it is ready", |heard| heard.ready > before);
    }

    /// Kills it, so that it can do nothing for its sockets.
    fn kill(&mut self) {
        let mut labnet = self.labnet.take().expect("it runs");
        labnet.kill().expect("it runs");
        labnet.wait().expect("it ends");
    }

    #[track_caller]
    fn wait(&self, what: &str, check: impl Fn(&Heard) -> bool) {
        wait_for(what, || {
            check(&self.heard.lock().expect("not poisoned")).then_some(())
        });
    }

    fn stored(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("not poisoned");
        let mut names: Vec<String> = heard.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The name of one of its sockets in the store.
    fn name(&self, protocol: &str, port: u16, index: usize) -> String {
        format!("{protocol}-{}_{port}-{index}", self.ip)
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind((self.ip, 0)).expect("loopback");
        client.set_read_timeout(Some(PATIENCE)).expect("a time");
        client
    }

    fn reload(&self) {
        let (code, answer) = request(self.http(), "POST", "/-/reload");
        assert_eq!(code, 200, "{answer}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(labnet) = &mut self.labnet {
            let _ = labnet.kill();
            let _ = labnet.wait();
        }
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log"));
            eprintln!("--- the lab's log\n{}---", log.unwrap_or_default());
        }
    }
}

/// One message and what came with it, or nothing for a while.
fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut text = [0; 4096];
    let mut pieces = [IoSliceMut::new(&mut text)];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    // Not inherited by a labnet that another test starts at this moment.
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut space), flags).ok()?;
    let fds = message
        .cmsgs()
        .expect("it fits")
        .flat_map(|part| match part {
            ControlMessageOwned::ScmRights(fds) => fds,
            _ => Vec::new(),
        });
    let fds = fds.map(own).collect();
    let length = message.bytes;
    Some((String::from_utf8_lossy(&text[..length]).into_owned(), fds))
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made it for this process, with the message.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has the command begin with `fds` from descriptor 3 on.
#[allow(unsafe_code)]
fn pass(command: &mut Command, fds: Vec<RawFd>) {
    let mut copies = vec![-1; fds.len()];
    // SAFETY: between fork and exec only fcntl and dup2 are called, which may be called there.
    unsafe {
        command.pre_exec(move || {
            // Out of the way first: one may stand where another has to go.
            for (copy, fd) in copies.iter_mut().zip(&fds) {
                *copy = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 200);
            }
            for (at, copy) in (3..).zip(&copies) {
                if libc::dup2(*copy, at) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

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
