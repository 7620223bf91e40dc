//! A stand-in for a service manager, with one service: systemd does not run as a test. It speaks systemd's
//! side of sd_notify(3), sd_listen_fds(3) and sd_pid_notify_with_fds(3), over a real socket and with real
//! descriptors.

use std::{
    fs,
    io::IoSliceMut,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
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

use super::{Namespace, PATIENCE, loopback, request, wait_for};

/// What the service manager has heard and keeps.
#[derive(Default)]
pub struct Heard {
    /// How often it was ready.
    pub ready: usize,
    /// Descriptors that are kept, with their names.
    pub store: Vec<(String, OwnedFd)>,
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
pub struct Manager {
    /// The configuration, the zone and the log.
    pub dir: tempfile::TempDir,
    heard: Arc<Mutex<Heard>>,
    /// Its address where there is no namespace.
    pub ip: Ipv4Addr,
    namespace: Option<String>,
    /// While it runs.
    pub labnet: Option<Child>,
}

impl Manager {
    /// One that has heard nothing yet.
    pub fn new() -> Self {
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
            namespace: None,
            labnet: None,
        }
    }

    /// labnet runs in that namespace.
    pub fn within(namespace: &Namespace) -> Self {
        let mut manager = Self::new();
        manager.namespace = Some(namespace.name.clone());
        manager
    }

    /// Writes a configuration.
    pub fn write(&self, config: &str) {
        fs::write(self.dir.path().join("labnet.toml"), config).expect("a file");
    }

    /// Where its HTTP endpoints are, outside of a namespace.
    pub fn http(&self) -> SocketAddr {
        (self.ip, 9167).into()
    }

    /// Writes the configuration: its DNS, if it has one, and the number of the proxy's sockets.
    pub fn configure(&self, dns: bool, shards: usize) {
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
        self.write(&text);
    }

    /// Starts labnet with what is kept, after the sockets of units (name, socket).
    pub fn start(&mut self, units: &[(&str, BorrowedFd<'_>)]) {
        let heard = self.heard.lock().expect("not poisoned");
        let before = heard.ready;
        let stored = heard.store.iter().map(|(name, fd)| (&**name, fd.as_fd()));
        let passed: Vec<(&str, BorrowedFd<'_>)> = units.iter().copied().chain(stored).collect();
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let fds: Vec<RawFd> = passed.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        let mut command = match &self.namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "/bin/sh"]);
                command
            }
            None => Command::new("/bin/sh"),
        };
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
    pub fn kill(&mut self) {
        let mut labnet = self.labnet.take().expect("it runs");
        labnet.kill().expect("it runs");
        labnet.wait().expect("it ends");
    }

    /// Waits for something that it hears.
    #[track_caller]
    pub fn wait(&self, what: &str, check: impl Fn(&Heard) -> bool) {
        wait_for(what, || {
            check(&self.heard.lock().expect("not poisoned")).then_some(())
        });
    }

    /// The names of what is kept.
    pub fn stored(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("not poisoned");
        let mut names: Vec<String> = heard.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The name of one of its sockets in the store.
    pub fn name(&self, protocol: &str, port: u16, index: usize) -> String {
        format!("{protocol}-{}_{port}-{index}", self.ip)
    }

    /// A socket to ask from.
    pub fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind((self.ip, 0)).expect("loopback");
        client.set_read_timeout(Some(PATIENCE)).expect("a time");
        client
    }

    /// Reloads, with success.
    pub fn reload(&self) {
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
