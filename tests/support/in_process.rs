//! Roles that run in the test's own process, without a supervisor, with real sockets on loopback.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use actix::Addr;
use labnet::{
    config::{Origin, OriginFiles},
    origin::OriginActor,
    role::api::{ListTransfers, SessionEntry},
    role::{Crash, Keep, Resources, Role},
};

use super::{PATIENCE, wait_for};

/// A role that runs in a thread of its own, without a supervisor.
pub struct Running<R: Role> {
    actor: Addr<R>,
    pub keep: Keep<R::Kept>,
    system: actix_rt::System,
    thread: Option<thread::JoinHandle<()>>,
    pub address: SocketAddr,
}

impl<R: Role> Running<R> {
    pub fn start(config: &R::Config, resources: &Resources) -> Self {
        let kept = R::prepare(config, None, resources).expect("prepared");
        Self::resume(Keep::new(kept))
    }

    /// The actor made anew from what is kept, as its supervisor does it.
    fn resume(keep: Keep<R::Kept>) -> Self {
        let listens = R::listens(&keep.get());
        let address = listens[0]
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .trim_end_matches('/');
        let address = address.parse().expect("an address");
        let (told, tell) = std::sync::mpsc::channel();
        let kept = keep.clone();
        let thread = thread::spawn(move || {
            let system = actix_rt::System::new();
            let actor = system.block_on(async { R::new(kept).start() });
            told.send((actor, actix_rt::System::current()))
                .expect("the test waits");
            system.run().expect("it runs");
        });
        let (actor, system) = tell.recv().expect("it starts");
        Self {
            actor,
            keep,
            system,
            thread: Some(thread),
            address,
        }
    }

    /// The actor dies; its thread, which its supervisor would go on in, lives.
    pub fn crash(&self) {
        self.actor.do_send(Crash);
        wait_for("the crash", || (!self.actor.connected()).then_some(()));
    }

    pub fn crash_and_resume(self) -> Self {
        self.crash();
        let keep = self.keep.clone();
        drop(self);
        Self::resume(keep)
    }
}

impl<R: Role> Drop for Running<R> {
    fn drop(&mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Running<OriginActor> {
    /// What it tells of files on their way.
    pub fn transfers(&self) -> Vec<SessionEntry> {
        let (told, tell) = std::sync::mpsc::channel();
        let asked = self.actor.send(ListTransfers);
        self.system.arbiter().spawn(async move {
            let _ = told.send(asked.await.expect("it runs"));
        });
        tell.recv().expect("it answers")
    }
}

pub fn resources() -> Resources {
    Resources::new("unused".into())
}

pub fn metric(resources: &Resources, series: &str) -> f64 {
    let text = resources.metrics.render();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.expect(series).parse().expect("a number")
}

pub fn origin(files: OriginFiles, resources: &Resources) -> Running<OriginActor> {
    let config = Origin {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        files,
        congestion: None,
        connections: labnet::config::ConnectionLimits::of(64, 64),
    };
    Running::start(&config, resources)
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub fn ask(server: SocketAddr, request: &str, fields: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(server).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for field in fields {
        text += &format!("{field}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes()).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a header");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    Answer {
        status: head[9..12].parse().expect("a status"),
        head,
        body: bytes[end + 4..].to_vec(),
    }
}
